//! Limits of System V IPC, and what is used of them: IPC_INFO, MSG_INFO, SEM_INFO, SHM_INFO.

use super::{msg, sem, shm};

/// What is told, and the highest place that is taken.
pub type Told<const N: usize, T> = ([T; N], i32);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Limits: IPC_INFO.
    Limits,
    /// What is there.
    Use,
}

fn int(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

/// `struct msginfo`: pool, map, max, mnb, mni, ssz, tql, seg.
#[must_use]
pub fn messages(question: Question) -> Told<8, i32> {
    const SEGMENT: i32 = 16;
    const SEGMENTS: i32 = 0xffff;
    let (room, most) = (int(msg::ROOM), int(msg::MOST));
    let [pool, map, total] = match question {
        // The pool in KiB.
        Question::Limits => [int(msg::MOST * msg::ROOM / 1024), room, room],
        Question::Use => {
            let all = msg::list();
            let sum = |word: usize| int(all.iter().filter_map(|(_, words)| words.get(word)).sum::<u64>());
            [int(all.len()), sum(msg::COUNT_WORD), sum(msg::BYTES_WORD)]
        }
    };
    ([pool, map, int(msg::LONGEST), room, most, SEGMENT, total, SEGMENTS], msg::highest())
}

/// `struct seminfo`: map, mni, mns, mnu, msl, opm, ume, usz, vmx, aem.
#[must_use]
pub fn semaphores(question: Question) -> Told<10, i32> {
    const UNDO_SIZE: i32 = 20;
    let (all, most, operations) = (int(sem::MOST), int(sem::MOST_SETS), int(sem::MOST_OPERATIONS));
    let highest = i32::from(sem::HIGHEST);
    let [size, adjustment] = match question {
        Question::Limits => [UNDO_SIZE, highest],
        Question::Use => [int(sem::list().len()), int(sem::count())],
    };
    ([all, most, all, all, all, operations, operations, size, highest, adjustment], sem::highest_place())
}

/// `struct shminfo64`: max, min, mni, seg, all.
#[must_use]
pub fn segment_limits() -> Told<9, u64> {
    let most = shm::MOST as u64;
    ([shm::LARGEST, 1, most, most, shm::ALL_PAGES, 0, 0, 0, 0], shm::highest())
}

/// `struct shm_info`: segments, pages, those in memory; the host swaps, and does not tell.
#[must_use]
pub fn segment_use() -> Told<6, u64> {
    let used = shm::used();
    ([used.segments, used.pages, used.resident_pages, 0, 0, 0], shm::highest())
}
