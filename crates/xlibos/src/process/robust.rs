//! Robust futexes: get_robust_list(2). What a dying thread holds is marked, and one waiter woken.

use super::task::Task;
use crate::ipc::futex_set::{self, Scope};
use core::sync::atomic::Ordering;
use machine::guest;

const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
const FUTEX_WAKE: u32 = 1;
/// Linux's ROBUST_LIST_LIMIT: the list is the guest's and may be a circle.
const LIMIT: usize = 2048;

/// Walks the thread's list.
pub fn release(task: &Task) {
    let head = task.robust_list.swap(0, Ordering::SeqCst);
    if head == 0 {
        return;
    }
    let Ok([first, offset, pending]) = guest::read_value::<[u64; 3]>(head) else { return };
    let mut entry = first;
    for _ in 0..LIMIT {
        if entry & !1 == head {
            break;
        }
        let next = guest::read_value::<u64>(entry & !1);
        if entry & !1 != pending & !1 {
            release_word(task, (entry & !1).wrapping_add(offset));
        }
        let Ok(next) = next else { break };
        entry = next;
    }
    if pending & !1 != 0 {
        release_word(task, (pending & !1).wrapping_add(offset));
    }
}

fn release_word(task: &Task, word: u64) {
    for _ in 0..1000 {
        let Ok(seen) = guest::read_value::<u32>(word) else { return };
        if seen & FUTEX_TID_MASK != task.tid().cast_unsigned() {
            return;
        }
        match guest::compare_exchange(word, seen, seen & FUTEX_WAITERS | FUTEX_OWNER_DIED) {
            Ok(found) if found == seen => {
                if seen & FUTEX_WAITERS != 0 {
                    let _ = machine::host::futex_guest(word, FUTEX_WAKE, 1, machine::host::FutexArg::None, 0, 0);
                    futex_set::wake(task, word, Scope::Shared, 1);
                }
                return;
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
