//! New processes by the calls themselves, without libc: what they refuse, and what comes back twice.

use crate::kit::{as_nobody, assert_errno, cases, int, wait};
use crate::sys::{Errno, Result, memory, process, sys};
use libc as c;

cases! { spawn;
    fn forked_by_the_call_itself() {
        both(|| sys!(fork))?;
        both(|| sys!(clone, c::SIGCHLD, 0, 0, 0, 0))?;
        both(|| sys!(clone3, &[0u64, 0, 0, 0, 17, 0, 0, 0], 64))?;
    }
    fn ids_are_stored_on_both_sides() {
        let (mut here, mut there) = (0i32, 0i32);
        let flags = c::CLONE_PARENT_SETTID | c::CLONE_CHILD_SETTID | c::SIGCHLD;
        match int(sys!(clone, flags, 0, &mut here, &mut there, 0)?) {
            0 => process::exit(i32::from(sys!(gettid) != Ok(there.into()))),
            pid => assert_eq!((wait(pid, 0)?, here, there), (0, pid, 0)),
        }
    }
    fn flags_that_do_not_go_together() {
        let wrong = [
            c::CLONE_SIGHAND,
            c::CLONE_THREAD,
            c::CLONE_THREAD | c::CLONE_VM,
            c::CLONE_FS | c::CLONE_NEWNS,
            c::CLONE_FS | c::CLONE_NEWUSER,
            c::CLONE_NEWPID | c::CLONE_THREAD | c::CLONE_SIGHAND | c::CLONE_VM,
            c::CLONE_NEWUSER | c::CLONE_THREAD | c::CLONE_SIGHAND | c::CLONE_VM,
            c::CLONE_PIDFD | c::CLONE_DETACHED,
            c::CLONE_PIDFD | c::CLONE_PARENT_SETTID,
        ];
        for flags in wrong {
            let refused = sys!(clone, flags | c::SIGCHLD, 0, memory::pages(1)?, 0, 0);
            assert_eq!(refused, Err(Errno(c::EINVAL)), "{flags:#x}");
        }
        for (flags, signal) in [(c::CLONE_DETACHED, 17), (0, 65), (c::CLONE_SIGHAND, 17)] {
            assert_errno(sys!(clone3, &[u64::from(flags.cast_unsigned()), 0, 0, 0, signal, 0, 0, 0], 64), c::EINVAL);
        }
        // A stack without its size, and a size without its stack.
        assert_errno(sys!(clone3, &[0u64, 0, 0, 0, 17, 0x1000, 0, 0], 64), c::EINVAL);
        assert_errno(sys!(clone3, &[0u64, 0, 0, 0, 17, 0, 0x1000, 0], 64), c::EINVAL);
    }
    fn namespaces_need_a_right() {
        as_nobody(|| {
            for flags in [c::CLONE_NEWNS, c::CLONE_NEWUTS, c::CLONE_NEWIPC, c::CLONE_NEWPID, c::CLONE_NEWNET, c::CLONE_NEWCGROUP] {
                assert_errno(sys!(clone, flags | c::SIGCHLD, 0, 0, 0, 0), c::EPERM);
                assert_errno(sys!(clone3, &[u64::from(flags.cast_unsigned()), 0, 0, 0, 17, 0, 0, 0], 64), c::EPERM);
            }
            Ok(())
        })?;
    }
}

/// A call that returns in both; the child ends at once.
fn both(call: impl FnOnce() -> Result<i64>) -> Result<()> {
    match int(call()?) {
        0 => process::exit(7),
        pid => assert_eq!(wait(pid, 0)?, 7 << 8),
    }
    Ok(())
}
