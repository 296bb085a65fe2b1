//! The system as a whole: its names, clock and ports; keys and misfeatures of its processors; and what is refused before the
//! right to do it is looked for.

use crate::kit::{as_nobody, assert_errno, cases, close, file, need_root, or_skip, pid};
use crate::sys::{self, Errno, Result, memory, process, sys};
use libc as c;

const SIGNATURE: u32 = 0x5305_3053;

cases! { system;
    fn names_of_host_and_domain() {
        need_root()?;
        // A container is one of its own.
        or_skip(sys!(unshare, c::CLONE_NEWUTS).or_else(absent), &[c::EPERM, c::EINVAL], "a UTS namespace")?;
        let mut old: c::utsname = sys::zeroed();
        sys!(uname, &mut old)?;
        sys!(sethostname, b"conformance", 11)?;
        sys!(setdomainname, b"example", 7)?;
        let mut new: c::utsname = sys::zeroed();
        sys!(uname, &mut new)?;
        assert_eq!((text(&new.nodename), text(&new.domainname)), ("conformance".to_owned(), "example".to_owned()));
        for (len, errno) in [(-1, c::EINVAL), (65, c::EINVAL), (1, c::EFAULT)] {
            assert_errno(sys!(sethostname, memory::closed()?, len), errno);
            assert_errno(sys!(setdomainname, memory::closed()?, len), errno);
        }
        sys!(sethostname, &old.nodename, text(&old.nodename).len())?;
        sys!(setdomainname, &old.domainname, text(&old.domainname).len())?;
        as_nobody(|| {
            assert_errno(sys!(sethostname, memory::closed()?, -1), c::EPERM);
            assert_errno(sys!(setdomainname, memory::closed()?, -1), c::EPERM);
            Ok(())
        })?;
    }
    fn rights_are_looked_for_first() {
        as_nobody(|| {
            let bad = memory::closed()?;
            assert_errno(sys!(reboot, 1, 2, 3, bad), c::EPERM);
            assert_errno(sys!(acct, bad), c::EPERM);
            assert_errno(sys!(swapoff, bad), c::EPERM);
            assert_errno(sys!(syslog, 99, bad, -1), c::EPERM);
            assert_errno(sys!(syslog, 2, 0, -1), c::EPERM);
            Ok(())
        })?;
    }
    fn another_kernel_is_not_loaded() {
        as_nobody(|| {
            // A kernel may be built without.
            let load = or_skip(outcome(sys!(kexec_load, 0, 0, memory::closed()?, -1)), &[c::ENOSYS], "kexec_load")?;
            assert_eq!(load, c::EPERM);
            let file = or_skip(outcome(sys!(kexec_file_load, -1, -1, 0, memory::closed()?, -1)), &[c::ENOSYS], "kexec_file_load")?;
            assert_eq!(file, c::EPERM);
            Ok(())
        })?;
    }
    fn levels_of_ports() {
        as_nobody(|| {
            or_skip(sys!(iopl, 0), &[c::ENOSYS], "iopl")?;
            assert_errno(sys!(iopl, 4), c::EINVAL);
            assert_errno(sys!(iopl, 3), c::EPERM);
            Ok(())
        })?;
    }
    fn single_ports() {
        as_nobody(|| {
            or_skip(sys!(ioperm, 0, 1, 0), &[c::ENOSYS], "ioperm")?;
            for (from, count) in [(0, 0), (0, 65_537), (65_536, 1), (usize::MAX, 2)] {
                assert_errno(sys!(ioperm, from, count, 0), c::EINVAL);
                assert_errno(sys!(ioperm, from, count, 1), c::EINVAL);
            }
            assert_errno(sys!(ioperm, 65_535, 1, 1), c::EPERM);
            Ok(())
        })?;
    }
    fn the_clock_is_read() {
        let mut state: c::timex = sys::zeroed();
        assert!((0..=5).contains(&sys!(adjtimex, &mut state)?));
        assert!(state.tick > 0 && state.time.tv_sec > 0);
        assert!((0..=5).contains(&sys!(clock_adjtime, c::CLOCK_REALTIME, &mut state)?));
    }
    fn memory_of_one_node() {
        let (mut mode, mut mask) = (9u32, [0u64; 16]);
        or_skip(sys!(get_mempolicy, &mut mode, &mut mask, 1024, 0, 0), &[c::ENOSYS], "get_mempolicy")?;
        assert_eq!(mode, 0);
        assert_errno(sys!(get_mempolicy, memory::closed()?, 0, 0, 0, 0), c::EFAULT);
        assert_errno(sys!(get_mempolicy, 0, 0, 0, 0, 99), c::EINVAL);
    }
    fn faults_of_cpuid() {
        match sys!(arch_prctl, 0x1012, 1) {
            Err(Errno(c::ENODEV)) => assert_eq!(sys!(arch_prctl, 0x1011, 0)?, 1),
            other => { other?; }
        }
    }
    fn misfeatures_of_processors() {
        const SET: i32 = 53;
        const GET: i32 = 52;
        let control = |kind: usize, value: usize| sys!(prctl, SET, kind, value, 0, 0);
        assert_errno(sys!(prctl, GET, 99, 0, 0, 0), c::ENODEV);
        assert_errno(sys!(prctl, GET, 0, 1, 0, 0), c::EINVAL);
        assert_errno(control(99, 4), c::ENODEV);
        assert_errno(sys!(prctl, SET, 0, 4, 1, 0), c::EINVAL);
        assert!((0..=0x1f).contains(&sys!(prctl, GET, 0, 0, 0, 0)?));
        let indirect = sys!(prctl, GET, 1, 0, 0, 0)?;
        assert!((0..=0x1f).contains(&indirect));
        assert_errno(control(1, 99), c::ERANGE);
        // Store bypass cannot be controlled on every machine; where it can, a bad value is told.
        let store = outcome(control(0, 99))?;
        assert!(store == c::ENXIO || store == c::ERANGE, "{store}");
    }
    fn processors_without_keys() {
        match sys!(pkey_alloc, 0, 0) {
            Ok(key) => { sys!(pkey_free, key)?; return crate::kit::skip("a processor with keys"); }
            // Linux lets key 0 be had, which has no rights to set.
            Err(Errno(c::EINVAL)) => {}
            refused => assert_errno(refused, c::ENOSPC),
        }
        assert_errno(sys!(pkey_alloc, 1, 0), c::EINVAL);
        assert_errno(sys!(pkey_alloc, 0, 4), c::EINVAL);
        assert_errno(sys!(pkey_free, 1), c::EINVAL);
        assert_errno(sys!(pkey_free, -1), c::EINVAL);
        let page = memory::pages(1)?;
        assert_errno(sys!(pkey_mprotect, page, 4096, c::PROT_READ, 1), c::EINVAL);
        assert_errno(sys!(pkey_mprotect, page + 1, 4096, c::PROT_READ, -1), c::EINVAL);
        assert_errno(sys!(pkey_mprotect, memory::hole()?, 4096, c::PROT_READ, -1), c::ENOMEM);
        close(file(c"f", &[0; 4096])?)?;
        let shared = memory::map(4096, c::PROT_READ, c::MAP_SHARED, crate::kit::open(c"f", c::O_RDONLY, 0)?)?;
        assert_errno(sys!(pkey_mprotect, shared, 4096, memory::RW, -1), c::EACCES);
        sys!(pkey_mprotect, page, 4096, c::PROT_READ, -1)?;
        assert_errno(sys!(getrandom, page, 1, 0), c::EFAULT);
    }
    fn all_memory_is_locked() {
        sys!(mlockall, c::MCL_FUTURE)?;
        let page = memory::pages(1)?;
        sys!(mlock2, page, 4096, 0)?;
        sys!(mlock2, page, 4096, 1)?;
        sys!(munlockall)?;
        as_nobody(|| {
            sys!(prlimit64, 0, c::RLIMIT_MEMLOCK, &[0u64; 2], 0)?;
            assert_errno(sys!(mlockall, c::MCL_FUTURE), c::EPERM);
            Ok(())
        })?;
    }
    fn sequences_of_a_thread_without_libc() {
        extern "C" fn register(area: *mut c::c_void) -> i32 {
            let area = area.addr();
            let asked: [(usize, u32, Result<i64>); 5] = [
                (1 << 63, SIGNATURE, Err(Errno(c::EFAULT))),
                (area, SIGNATURE, Ok(0)),
                (area, SIGNATURE, Err(Errno(c::EBUSY))),
                (area, SIGNATURE + 1, Err(Errno(c::EPERM))),
                (area + 32, SIGNATURE, Err(Errno(c::EINVAL))),
            ];
            let wrong = asked.iter().position(|(area, signature, wanted)| sys!(rseq, *area, 32, 0, *signature) != *wanted);
            let gone = sys!(rseq, area, 32, 1, SIGNATURE) == Ok(0) && sys!(rseq, area, 32, 1, SIGNATURE) == Err(Errno(c::EINVAL));
            wrong.map_or(i32::from(!gone), |at| 2 + i32::try_from(at).unwrap_or(0))
        }
        let place = memory::pages(1)?;
        let pid = process::clone(c::CLONE_VM | c::SIGCHLD, register, place, process::Places::default())?;
        assert_eq!(crate::kit::wait(pid, 0)?, 0);
    }
    fn files_of_two_processes_are_compared() {
        let me = pid()?;
        or_skip(sys!(kcmp, me, me, 0, 1, 1), &[c::ENOSYS], "kcmp")?;
        // KCMP_EPOLL_TFD.
        let (epoll, ends) = (sys!(epoll_create1, 0)?, crate::kit::pipe(0)?);
        let slot = |fd: i32| [u64::try_from(epoll).unwrap_or(0) | u64::from(fd.cast_unsigned()) << 32, 0];
        assert_errno(sys!(kcmp, me, me, 7, ends[0], memory::closed()?), c::EFAULT);
        assert_errno(sys!(kcmp, me, me, 7, ends[0], &slot(ends[0])), c::ENOENT);
        sys!(epoll_ctl, epoll, c::EPOLL_CTL_ADD, ends[0], &[1u64, 0])?;
        assert_eq!(sys!(kcmp, me, me, 7, ends[0], &slot(ends[0]))?, 0);
        assert_ne!(sys!(kcmp, me, me, 7, ends[1], &slot(ends[0]))?, 0);
        assert_errno(sys!(kcmp, me, me, 7, ends[0], &[slot(ends[0])[0], 1]), c::ENOENT);
        assert_errno(sys!(kcmp, me, me, 7, 899, &slot(ends[0])), c::EBADF);
        assert_errno(sys!(kcmp, me, me, 7, ends[0], &[899u64, 0]), c::EBADF);
        assert_errno(sys!(kcmp, me, me, 7, ends[0], &[u64::from(ends[0].cast_unsigned()), 0]), c::EINVAL);
    }
}

/// A call that a container does not have, and need not.
fn absent(errno: Errno) -> Result<i64> {
    if errno.0 == c::ENOSYS { Ok(0) } else { Err(errno) }
}

/// The errno of a call that must not succeed; ENOSYS is passed on.
fn outcome(result: Result<i64>) -> Result<i32> {
    match result {
        Err(Errno(c::ENOSYS)) => Err(Errno(c::ENOSYS)),
        Err(errno) => Ok(errno.0),
        Ok(_) => Ok(0),
    }
}

fn text(bytes: &[i8]) -> String {
    bytes.iter().take_while(|b| **b != 0).map(|b| char::from(b.cast_unsigned())).collect()
}
