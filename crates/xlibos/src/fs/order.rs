//! Things in the order in which they came, for listings that go on from where they stopped.

use alloc::collections::VecDeque;

/// Things with numbers that grow. One that is replaced keeps its number, and none is given twice.
#[derive(Debug)]
pub(super) struct Order<T> {
    /// What was taken out leaves its place until there are too many of those.
    places: VecDeque<(u64, Option<T>)>,
    gone: usize,
    next: u64,
}

/// So many places may be empty, and more where still more are not.
const MOST_GONE: usize = 16;

impl<T> Order<T> {
    /// Empty; the first thing has this number.
    pub(super) const fn starting_at(next: u64) -> Order<T> {
        Order { places: VecDeque::new(), gone: 0, next }
    }

    /// There will be so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.places.reserve(more);
    }

    /// Puts one behind all others. Returns its number.
    pub(super) fn push(&mut self, thing: T) -> u64 {
        let number = self.next;
        self.places.push_back((number, Some(thing)));
        self.next += 1;
        number
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.places.binary_search_by_key(&number, |(number, _)| *number).ok()
    }

    /// The one with a number.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.position(number)?;
        self.places.get_mut(at)?.1.as_mut()
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.position(number)?;
        let taken = self.places.get_mut(at)?.1.take()?;
        self.gone += 1;
        let is_gone = |place: &mut (u64, Option<T>)| place.1.is_none();
        while self.places.pop_back_if(is_gone).or_else(|| self.places.pop_front_if(is_gone)).is_some() {
            self.gone -= 1;
        }
        if self.gone > MOST_GONE && self.gone > self.places.len() / 2 {
            self.places.retain(|(_, thing)| thing.is_some());
            self.gone = 0;
            self.places.shrink_to(self.places.len() * 2);
        }
        Some(taken)
    }

    /// Those from a number on.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let start = self.places.partition_point(|(at, _)| *at < number);
        self.places.range(start..).filter_map(|(number, thing)| Some((*number, thing.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::Order;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_a_map_of_numbers_that_grow() {
        let (mut order, mut map) = (Order::starting_at(5), BTreeMap::new());
        let mut random = 1_u64;
        for step in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let grows = random >> 33 & 3 < if step / 2000 % 2 == 0 { 3 } else { 1 };
            let chosen = 5 + (random >> 40) % (step / 2 + 2);
            if grows {
                let number = order.push(step);
                assert!(map.last_key_value().is_none_or(|(last, _)| *last < number));
                map.insert(number, step);
            } else {
                assert_eq!(order.remove(chosen), map.remove(&chosen));
            }
            assert_eq!(order.get_mut(chosen), map.get_mut(&chosen));
            if step % 100 == 0 {
                let from = |from| map.range(from..).map(|(number, thing)| (*number, *thing));
                assert!(order.from(chosen).map(|(number, thing)| (number, *thing)).eq(from(chosen)));
                assert!(order.places.len() <= map.len() * 2 + super::MOST_GONE + 1);
            }
        }
    }
}
