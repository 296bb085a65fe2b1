//! Where host calls are counted: a slot for each of those that are allowed.

/// How many distinct host calls are counted.
pub(crate) const COUNTED: usize = 64;

/// Host calls with numbers below are counted in the slots of their numbers.
const LOW: usize = 48;
/// The others that are allowed, each with a slot by itself behind those; the last slot has what is not.
const HIGH: [u16; COUNTED - LOW - 1] = high_calls();

const fn high_calls() -> [u16; COUNTED - LOW - 1] {
    let mut high = [u16::MAX; COUNTED - LOW - 1];
    let (mut at, mut count) = (0, 0);
    while at < abi::hostcall::HOST_CALLS.len() {
        let number = abi::hostcall::HOST_CALLS[at].number;
        if number >= LOW as u32 {
            high[count] = number as u16;
            count += 1;
        }
        at += 1;
    }
    high
}

/// Slot of a host call's counter.
pub(crate) fn counter_slot(nr: u64) -> usize {
    if nr < LOW as u64 {
        return nr as usize;
    }
    HIGH.iter().position(|&high| u64::from(high) == nr).map_or(COUNTED - 1, |at| LOW + at)
}

/// The number whose counter a slot is.
pub(crate) fn slot_number(slot: usize) -> u16 {
    match slot {
        0..LOW => u16::try_from(slot).unwrap_or(0),
        _ => HIGH.get(slot - LOW).copied().unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::{counter_slot, slot_number};

    #[test]
    fn every_host_call_is_counted_under_its_own_number() {
        for call in abi::hostcall::HOST_CALLS {
            assert_eq!(u32::from(slot_number(counter_slot(u64::from(call.number)))), call.number, "{}", call.name);
        }
    }
}
