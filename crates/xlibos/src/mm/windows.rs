//! Which host file each window of a process shows: docs/design/0013.
//!
//! A file has one place, and is mapped once it has been read there [`WORTH`] times. No locks: a place is one word. Who reads
//! copies first and looks then whether the place is still the same, so that a window may be taken from under a reader.

use core::sync::atomic::{AtomicU64, Ordering, fence};
use machine::host::HostFd;
use machine::window::{self, COUNT};

/// Reads of a file before it is mapped: to map it and look at it first costs as much as four, and to give it up one.
const WORTH: u8 = 8;
/// The same for a file whose window did not do.
const HARDLY_WORTH: u8 = u8::MAX;
/// Reads for which a window does not do, or of another file with the same place, before it is given up.
const PATIENCE: u8 = 8;

/// The windows of an address space.
#[derive(Debug)]
pub struct Windows([AtomicU64; COUNT]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Reads are counted down.
    Counted,
    /// Somebody maps the file.
    Coming,
    /// The file is mapped.
    There,
}

/// What a place's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Identity of the handle, or 0.
    file: u64,
    /// Changes with each mapping; 0 before the first.
    round: u64,
    state: State,
    count: u8,
}

const FILE_MASK: u64 = (1 << 40) - 1;
const ROUND_MASK: u64 = (1 << 14) - 1;

impl Place {
    fn from_word(word: u64) -> Place {
        let state = match word >> 8 & 3 {
            0 => State::Counted,
            1 => State::Coming,
            _ => State::There,
        };
        Place { file: word >> 24, round: word >> 10 & ROUND_MASK, state, count: (word & 0xff) as u8 }
    }

    fn word(self) -> u64 {
        self.file << 24 | (self.round & ROUND_MASK) << 10 | (self.state as u64) << 8 | u64::from(self.count)
    }

    /// After a read of `file` that the window did not serve. None where nothing changes.
    fn after_miss(self, file: u64) -> Option<Place> {
        let is_last = self.count <= 1;
        let counted = |count| Place { file, state: State::Counted, count, ..self };
        match self.state {
            State::Coming => None,
            State::There if is_last => Some(counted(if self.file == file { HARDLY_WORTH } else { WORTH })),
            State::Counted if self.file != file => Some(counted(WORTH)),
            State::Counted if is_last => Some(Place { state: State::Coming, round: self.round + 1, ..self }),
            State::There | State::Counted => Some(Place { count: self.count - 1, ..self }),
        }
    }

    /// After the host was asked for the mapping that was coming.
    fn after_mapping(self, is_mapped: bool) -> Place {
        let (state, count) = if is_mapped { (State::There, PATIENCE) } else { (State::Counted, HARDLY_WORTH) };
        Place { state, count, ..self }
    }

    fn shows(self, file: u64) -> bool {
        self.state == State::There && self.file == file
    }

    fn is_same_mapping(self, other: Place) -> bool {
        self.shows(other.file) && self.round == other.round
    }
}

impl Windows {
    pub(super) fn new() -> Windows {
        Windows([const { AtomicU64::new(0) }; COUNT])
    }

    /// Reads a file of the host to guest memory of the calling process, whose address space this is. False where the host has to
    /// be asked; then the guest's buffer may have been written to.
    pub(crate) fn read(&self, handle: &HostFd, offset: u64, to: u64, len: u64) -> bool {
        let Some(place) = self.place(handle) else { return false };
        let is_read = self.read_seen(place, handle, offset, to, len);
        if !is_read {
            self.note_miss(place, handle);
        }
        is_read
    }

    /// The same, for who asks the host for nothing: a file that is not mapped yet stays so.
    pub(crate) fn read_mapped(&self, handle: &HostFd, offset: u64, to: u64, len: u64) -> bool {
        self.place(handle).is_some_and(|place| self.read_seen(place, handle, offset, to, len))
    }

    /// Where the file's window is, and what its word says.
    fn place(&self, handle: &HostFd) -> Option<(usize, u64)> {
        let at = (handle.identity() & FILE_MASK) as usize % COUNT;
        Some((at, self.0.get(at)?.load(Ordering::Acquire)))
    }

    #[inline]
    fn read_seen(&self, (at, seen): (usize, u64), handle: &HostFd, offset: u64, to: u64, len: u64) -> bool {
        let place = Place::from_word(seen);
        if !place.shows(handle.identity() & FILE_MASK) || !window::read(at, offset, to, len) {
            return false;
        }
        fence(Ordering::Acquire);
        self.0.get(at).is_some_and(|word| Place::from_word(word.load(Ordering::Relaxed)).is_same_mapping(place))
    }

    #[cold]
    fn note_miss(&self, (at, seen): (usize, u64), handle: &HostFd) {
        let Some(word) = self.0.get(at) else { return };
        let Some(next) = Place::from_word(seen).after_miss(handle.identity() & FILE_MASK) else { return };
        let is_ours = word.compare_exchange(seen, next.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if is_ours && next.state == State::Coming {
            // Nobody else changes the place meanwhile.
            word.store(next.after_mapping(window::map(at, handle).is_ok()).word(), Ordering::Release);
        }
    }

    /// Whether any file was mapped.
    pub(super) fn were_used(&self) -> bool {
        self.0.iter().any(|word| Place::from_word(word.load(Ordering::Relaxed)).round != 0)
    }

    /// Takes all away. The caller is the only thread of the process, whose address space this is.
    pub(super) fn clear(&self) {
        if self.were_used() {
            self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            window::unmap_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HARDLY_WORTH, PATIENCE, Place, State, WORTH};

    /// The place after so many misses of a file.
    fn missed(place: Place, file: u64, times: u8) -> Place {
        (0..times).fold(place, |place, _| Place::from_word(place.after_miss(file).unwrap_or(place).word()))
    }

    fn coming(file: u64) -> Place {
        missed(Place::from_word(0), file, WORTH + 1)
    }

    #[test]
    fn a_file_is_mapped_once_it_was_read_often_enough_without_another_in_between() {
        let counted = missed(Place::from_word(0), 5, WORTH);
        assert_eq!((counted.state, counted.count, counted.round), (State::Counted, 1, 0));
        assert_eq!(missed(counted, 69, 1), Place { file: 69, count: WORTH, ..counted });
        let coming = missed(counted, 5, 1);
        assert_eq!((coming.file, coming.state, coming.round), (5, State::Coming, 1));
        assert_eq!((coming.after_miss(5), coming.after_miss(69)), (None, None));
        assert!(coming.after_mapping(true).shows(5) && !coming.after_mapping(true).shows(69));
        assert_eq!(coming.after_mapping(false).count, HARDLY_WORTH);
    }

    #[test]
    fn a_window_that_does_not_do_is_given_up_for_long() {
        let there = coming(5).after_mapping(true);
        assert!(missed(there, 5, PATIENCE - 1).is_same_mapping(there));
        let given_up = missed(there, 5, PATIENCE);
        assert_eq!((given_up.state, given_up.count), (State::Counted, HARDLY_WORTH));
    }

    #[test]
    fn a_place_goes_to_another_file_that_insists_and_its_next_mapping_is_another_one() {
        let there = coming(5).after_mapping(true);
        assert_eq!(missed(there, 69, PATIENCE), Place { file: 69, state: State::Counted, count: WORTH, ..there });
        let back = missed(missed(there, 69, PATIENCE), 5, WORTH + 1).after_mapping(true);
        assert!(back.shows(5) && !back.is_same_mapping(there));
    }

    #[test]
    fn a_word_holds_the_whole_place() {
        let place = Place { file: (1 << 40) - 1, round: (1 << 14) - 1, state: State::There, count: 255 };
        assert_eq!(Place::from_word(place.word()), place);
        assert_eq!(Place::from_word(Place { round: 1 << 14, ..place }.word()).round, 0);
    }
}
