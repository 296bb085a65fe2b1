//! Pages of a file in memory, by number: most files have the first few, without a hole.

use alloc::vec::Vec;
use core::ops::Range;

/// Bytes of a page, which has room for all of them; those behind the last are zeros. So what is written is cleared before, and nothing
/// else.
pub(super) type Page = Vec<u8>;

/// The pages that there are, in order.
#[derive(Default)]
pub(super) struct Pages(Vec<(u64, Page)>);

impl Pages {
    /// Where a page is, or would be.
    #[inline]
    fn find(&self, number: u64) -> Result<usize, usize> {
        match usize::try_from(number) {
            Ok(at) if self.0.get(at).is_some_and(|(there, _)| *there == number) => Ok(at),
            _ => self.0.binary_search_by_key(&number, |(number, _)| *number),
        }
    }

    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&Page> {
        self.0.get(self.find(number).ok()?).map(|(_, page)| page)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Page> {
        let at = self.find(number).ok()?;
        self.0.get_mut(at).map(|(_, page)| page)
    }

    /// Adds one that is not there.
    pub(super) fn insert(&mut self, number: u64, page: Page) {
        if let Err(at) = self.find(number) {
            self.0.insert(at, (number, page));
        }
    }

    /// Takes out those in a range.
    pub(super) fn remove(&mut self, numbers: Range<u64>) -> Vec<(u64, Page)> {
        let [Ok(start) | Err(start), Ok(end) | Err(end)] = [numbers.start, numbers.end].map(|number| self.find(number));
        self.0.drain(start..end.max(start)).collect()
    }

    /// Takes out those from a number on.
    pub(super) fn split_off(&mut self, number: u64) -> Vec<(u64, Page)> {
        let (Ok(at) | Err(at)) = self.find(number);
        self.0.split_off(at)
    }

    /// The first from a number on.
    pub(super) fn next_from(&self, number: u64) -> Option<u64> {
        let (Ok(at) | Err(at)) = self.find(number);
        self.0.get(at).map(|(number, _)| *number)
    }

    /// The first number from this one on without a page.
    pub(super) fn hole_from(&self, number: u64) -> u64 {
        let Ok(at) = self.find(number) else { return number };
        let behind = self.0.get(at..).unwrap_or(&[]);
        (number..).zip(behind).find(|(hole, (there, _))| hole != there).map_or(number + behind.len() as u64, |at| at.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Page)> {
        self.0.iter().map(|(number, page)| (*number, page))
    }
}

#[cfg(test)]
mod tests {
    use super::Pages;

    #[test]
    fn pages_come_in_any_order() {
        let mut pages = Pages::default();
        for number in [7, 0, 2, 1, 9, 8] {
            assert!(pages.get(number).is_none());
            pages.insert(number, vec![u8::try_from(number).unwrap_or(0)]);
        }
        assert!(pages.iter().map(|(number, _)| number).eq([0, 1, 2, 7, 8, 9]));
        assert!(pages.iter().all(|(number, page)| u64::from(page[0]) == number && pages.get(number) == Some(page)));
        assert_eq!([0, 2, 3, 7, 9].map(|number| pages.hole_from(number)), [3, 3, 3, 10, 10]);
        assert_eq!([0, 3, 9, 10].map(|number| pages.next_from(number)), [Some(0), Some(7), Some(9), None]);
        assert_eq!((pages.remove(1..2), pages.remove(1..1), pages.remove(3..7)), (vec![(1, vec![1])], vec![], vec![]));
        pages.get_mut(2).into_iter().for_each(|page| page.push(3));
        assert_eq!(pages.split_off(3).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!((pages.get(2), pages.get(0), pages.get(7)), (Some(&vec![2, 3]), Some(&vec![0]), None));
    }
}
