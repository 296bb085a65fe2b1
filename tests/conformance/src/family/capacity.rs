//! What there is room for, and what happens when there is no more: objects of IPC, mappings, locked memory, processes.

use crate::ipc::{Segment, available};
use crate::kit::{Case, Fail, Gate, SELF, as_nobody, assert_errno, cases, child, close, file, helper_args, int, need_root, open, skip, text};
use crate::sys::{Errno, Result, memory, sys};
use core::ffi::CStr;
use libc as c;

const SHM_HUGETLB: i32 = 0o4000;
const SHM_LOCK: i32 = 11;

cases! { capacity;
    fn segments_of_shared_memory() {
        own_objects()?;
        let most = limit(c"/proc/sys/kernel/shmmni", 0)?;
        fill(most, || sys!(shmget, c::IPC_PRIVATE, 1, 0o600), |id| sys!(shmctl, id, c::IPC_RMID, 0))?;
    }
    fn sets_of_semaphores() {
        own_objects()?;
        let most = limit(c"/proc/sys/kernel/sem", 3)?;
        fill(most, || sys!(semget, c::IPC_PRIVATE, 1, 0o600), |id| sys!(semctl, id, 0, c::IPC_RMID, 0))?;
    }
    fn queues_of_messages() {
        own_objects()?;
        let most = limit(c"/proc/sys/kernel/msgmni", 0)?;
        fill(most, || sys!(msgget, c::IPC_PRIVATE, 0o600), |id| sys!(msgctl, id, c::IPC_RMID, 0))?;
    }
    fn queues_with_names() {
        own_objects()?;
        let most = limit(c"/proc/sys/fs/mqueue/queues_max", 0)?;
        as_nobody(|| {
            let attributes = [0i64, 1, 1, 0, 0, 0, 0, 0];
            let path = |n: usize| crate::kit::name(&format!("capacity-{n}"));
            let make = |n: usize| -> Result<()> {
                let fd = int(sys!(mq_open, path(n).as_c_str(), c::O_CREAT | c::O_EXCL, 0o600, &attributes)?);
                close(fd)
            };
            let made = (0..=most).take_while(|n| make(*n).is_ok()).count();
            let refused = make(most + 1);
            for n in 0..made {
                sys!(mq_unlink, path(n).as_c_str())?;
            }
            // One may have been there.
            assert!(made == most || made + 1 == most, "{made}");
            assert_errno(refused, c::ENOSPC);
            make(0)?;
            sys!(mq_unlink, path(0).as_c_str())?;
            Ok(())
        })?;
    }
    fn queue_of_another() {
        own_objects()?;
        close(int(sys!(mq_open, c"capacity", c::O_CREAT, 0o666, 0)?))?;
        let outcome = as_nobody(|| {
            assert_errno(sys!(mq_unlink, c"capacity"), c::EPERM);
            Ok(())
        });
        sys!(mq_unlink, c"capacity")?;
        outcome?;
    }
    fn huge_segments_need_a_right() {
        as_nobody(|| {
            assert_errno(sys!(shmget, c::IPC_PRIVATE, 2 << 20, SHM_HUGETLB | 0o600), c::EPERM);
            Ok(())
        })?;
    }
    fn segments_beyond_the_address_space() {
        let segment = Segment::new(64 << 20)?;
        child(|| {
            sys!(prlimit64, 0, c::RLIMIT_AS, &[32u64 << 20, 32 << 20], 0)?;
            assert_errno(segment.attach(0), c::ENOMEM);
            Ok(())
        })?.succeeds()?;
    }
    fn locked_segments_have_a_limit() {
        own_objects()?;
        as_nobody(|| {
            let segment = Segment::new(1 << 20)?;
            sys!(prlimit64, 0, c::RLIMIT_MEMLOCK, &[4096u64; 2], 0)?;
            assert_errno(sys!(shmctl, segment.0, SHM_LOCK, 0), c::ENOMEM);
            sys!(prlimit64, 0, c::RLIMIT_MEMLOCK, &[0u64; 2], 0)?;
            assert_errno(sys!(shmctl, segment.0, SHM_LOCK, 0), c::EPERM);
            Ok(())
        })?;
    }
    fn holes_beyond_the_number_of_mappings() {
        let most = limit(c"/proc/sys/vm/max_map_count", 0)?;
        let pages = 2 * most + 2;
        let start = memory::map(pages * memory::PAGE, c::PROT_NONE, memory::ANON | c::MAP_NORESERVE, -1)?;
        let hole = |n: usize| sys!(munmap, start + (2 * n + 1) * memory::PAGE, memory::PAGE);
        let made = (0..most).take_while(|n| hole(*n).is_ok()).count();
        assert!(made < most && made > most / 2, "{made} of {most}");
        assert_errno(hole(made), c::ENOMEM);
        // A whole mapping can go.
        sys!(munmap, start, memory::PAGE)?;
        sys!(munmap, start, pages * memory::PAGE)?;
    }
    fn programs_of_a_user_with_too_many_processes() {
        need_root()?;
        let become_user = || -> Result<()> {
            sys!(setresgid, 6543, 6543, 6543)?;
            // It succeeds, whatever the limit is.
            sys!(setresuid, 6543, 6543, 6543).map(drop)
        };
        let program = helper_args(&["status", "9"]);
        let execute = || sys!(execve, SELF, &program.pointers[..], 0);
        let (begun, gate) = (Gate::new()?, Gate::new()?);
        let first = child(|| {
            become_user()?;
            begun.open()?;
            Ok(gate.pass()?)
        })?;
        begun.pass()?;
        let limited = |limit: u64| child(|| {
            sys!(prlimit64, 0, c::RLIMIT_NPROC, &[limit; 2], 0)?;
            become_user()?;
            assert_errno(execute(), c::EAGAIN);
            Ok(())
        });
        limited(0)?.succeeds()?;
        // Those who were there before count.
        limited(1)?.exits(9)?;
        gate.open()?;
        first.succeeds()?;
    }
    fn advice_on_what_cannot_be_removed_or_filled() {
        const REMOVE: i32 = 9;
        const POPULATE_READ: i32 = 22;
        const POPULATE_WRITE: i32 = 23;
        close(file(c"f", &[0; 4096])?)?;
        let (readable, empty) = (open(c"f", c::O_RDONLY, 0)?, file(c"g", b"")?);
        let private = memory::map(4096, c::PROT_READ, c::MAP_PRIVATE, readable)?;
        let shared = memory::map(4096, c::PROT_READ, c::MAP_SHARED, readable)?;
        for (addr, errno) in [(private, c::EACCES), (shared, c::EACCES), (memory::pages(1)?, c::EINVAL)] {
            assert_errno(sys!(madvise, addr, 4096, REMOVE), errno);
        }
        for (flags, advice) in [(c::MAP_SHARED, POPULATE_READ), (c::MAP_SHARED, POPULATE_WRITE), (c::MAP_PRIVATE, POPULATE_READ)] {
            let beyond = memory::map(4096, memory::RW, flags, empty)?;
            assert_errno(sys!(madvise, beyond, 4096, advice), c::EFAULT);
        }
    }
    fn poisoned_memory_needs_a_right() {
        as_nobody(|| {
            match sys!(madvise, memory::pages(1)?, 4096, c::MADV_HWPOISON) {
                Err(Errno(c::EINVAL)) => skip("a kernel without it"),
                refused => { assert_errno(refused, c::EPERM); Ok(()) }
            }
        })?;
    }
}

/// Objects of IPC that nobody else has; a container's are its own.
fn own_objects() -> Case {
    need_root()?;
    match sys!(unshare, c::CLONE_NEWIPC) {
        Ok(_) | Err(Errno(c::ENOSYS)) => Ok(()),
        Err(errno) => skip(&format!("no IPC of its own: {errno:?}")),
    }
}

/// The number at a place in a file of /proc/sys.
fn limit(path: &CStr, at: usize) -> core::result::Result<usize, Fail> {
    let all = text(path)?;
    let number = all.split_whitespace().nth(at).and_then(|number| number.parse().ok());
    number.ok_or(Fail::Broken(format!("{path:?}: {all}")))
}

/// Makes objects until there is no room, then lets all go.
fn fill(most: usize, make: impl Fn() -> Result<i64>, remove: impl Fn(i32) -> Result<i64>) -> Case {
    available(make()).and_then(|id| Ok(remove(int(id))?))?;
    let made: Vec<i32> = core::iter::from_fn(|| make().ok().map(int)).take(most + 1).collect();
    let refused = make();
    for id in &made {
        remove(*id)?;
    }
    // Others may have some.
    assert!(made.len() <= most && made.len() + 100 > most, "{} of {most}", made.len());
    assert_errno(refused, c::ENOSPC);
    remove(int(make()?))?;
    Ok(())
}
