//! Users, groups, capabilities, prctl, and what belongs to the whole system.

use crate::kit::{as_nobody, assert_errno, cases, child, close, file, need_root, or_skip, stat, text};
use crate::sys::{self, Result, memory, sys};
use libc as c;

cases! { cred;
    fn ids_of_root() {
        need_root()?;
        assert_eq!([sys!(getuid)?, sys!(geteuid)?, sys!(getgid)?, sys!(getegid)?], [0; 4]);
        assert_eq!((uids()?, gids()?), ([0; 3], [0; 3]));
    }
    fn each_call_tells_its_own_id() {
        need_root()?;
        let ids = || Result::Ok([sys!(getuid)?, sys!(geteuid)?, sys!(getgid)?, sys!(getegid)?]);
        sys!(setresgid, 3, 4, 0)?;
        sys!(setresuid, 1, 2, 0)?;
        assert_eq!(ids()?, [1, 2, 3, 4]);
        let in_child = child(move || {
            assert_eq!(ids()?, [1, 2, 3, 4]);
            sys!(setresuid, -1, 0, -1)?;
            assert_eq!(ids()?, [1, 0, 3, 4]);
            Ok(())
        })?;
        in_child.exits(0)?;
        // Ids are a thread's own below the C library.
        let in_thread = std::thread::spawn(move || {
            assert_eq!(ids()?, [1, 2, 3, 4]);
            sys!(setresuid, 0, 0, 0)?;
            sys!(setresgid, -1, 0x7fff_fff0, -1)?;
            assert_eq!(ids()?, [0, 0, 3, 0x7fff_fff0]);
            Result::Ok(())
        });
        in_thread.join().map_err(|_| sys::Errno(c::EINVAL))??;
        assert_eq!(ids()?, [1, 2, 3, 4]);
    }
    fn root_gives_up_for_good() {
        need_root()?;
        sys!(setgid, 77)?;
        sys!(setuid, 88)?;
        assert_eq!((uids()?, gids()?), ([88; 3], [77; 3]));
        assert_errno(sys!(setuid, 0), c::EPERM);
        assert_errno(sys!(setgid, 0), c::EPERM);
        assert_errno(sys!(setgroups, 0, 0), c::EPERM);
        sys!(setuid, 88)?;
    }
    fn effective_id_comes_back() {
        need_root()?;
        sys!(setresuid, -1, 88, -1)?;
        assert_eq!(uids()?, [0, 88, 0]);
        sys!(setuid, 0)?;
        assert_eq!(uids()?, [0, 0, 0]);
        sys!(setreuid, 5, 6)?;
        assert_eq!(uids()?, [5, 6, 6]);
        assert_errno(sys!(setresuid, 0, -1, -1), c::EPERM);
        sys!(setresuid, 6, 5, 6)?;
    }
    fn group_ids() {
        need_root()?;
        sys!(setresgid, 1, 2, 3)?;
        assert_eq!(gids()?, [1, 2, 3]);
        sys!(setregid, -1, 4)?;
        assert_eq!(gids()?, [1, 4, 4]);
        sys!(setresuid, 9, 9, 9)?;
        sys!(setresgid, 4, 1, -1)?;
        assert_errno(sys!(setresgid, 7, -1, -1), c::EPERM);
        assert_errno(sys!(setregid, 7, -1), c::EPERM);
    }
    fn file_system_ids() {
        need_root()?;
        assert_eq!(sys!(setfsuid, 1234)?, 0);
        assert_eq!(sys!(setfsgid, 4321)?, 0);
        close(file(c"f", b"")?)?;
        assert_eq!((stat(c"f")?.st_uid, stat(c"f")?.st_gid), (1234, 4321));
        assert_eq!(sys!(setfsuid, -1)?, 1234);
    }
    fn supplementary_groups() {
        need_root()?;
        sys!(setgroups, 3, &[10u32, 20, 30])?;
        let mut groups = [0u32; 8];
        assert_eq!(sys!(getgroups, 0, 0)?, 3);
        assert_eq!(sys!(getgroups, 8, &mut groups)?, 3);
        assert_eq!(groups[..3], [10, 20, 30]);
        assert_errno(sys!(getgroups, 2, &mut groups), c::EINVAL);
        assert_errno(sys!(getgroups, -1, &mut groups), c::EINVAL);
        assert_errno(sys!(setgroups, 65537, &groups), c::EINVAL);
        assert_errno(sys!(setgroups, 1, memory::hole()?), c::EFAULT);
    }
    fn supplementary_group_opens_files() {
        need_root()?;
        close(file(c"f", b"")?)?;
        sys!(chown, c"f", 0, 4444)?;
        sys!(chmod, c"f", 0o640)?;
        child(|| {
            sys!(setgroups, 1, &4444u32)?;
            sys!(setresgid, 9, 9, 9)?;
            sys!(setresuid, 9, 9, 9)?;
            assert_eq!(text(c"f")?, "");
            assert_errno(crate::kit::open(c"f", c::O_WRONLY, 0), c::EACCES);
            Ok(())
        })?.succeeds()?;
    }
    fn id_errors() {
        assert_errno(sys!(getresuid, memory::hole()?, memory::hole()?, memory::hole()?), c::EFAULT);
        assert_errno(sys!(getresgid, memory::hole()?, memory::hole()?, memory::hole()?), c::EFAULT);
        assert_errno(sys!(setuid, -1), c::EINVAL);
        assert_errno(sys!(setgid, -1), c::EINVAL);
    }
    fn capabilities_are_read() {
        let (header, mut data) = ([0x2008_0522u32, 0], [0u32; 6]);
        sys!(capget, &header, &mut data)?;
        let mut probe = [0u32, 0];
        assert_errno(sys!(capget, &mut probe, &mut data), c::EINVAL);
        assert_eq!(probe[0], 0x2008_0522);
        sys!(capget, &mut [0u32, 0], 0)?;
        assert_errno(sys!(capget, &[0x2008_0522u32, 999_999_999], &mut data), c::ESRCH);
        assert_errno(sys!(capget, memory::hole()?, 0), c::EFAULT);
    }
    fn capabilities_are_given_up() {
        need_root()?;
        let (header, mut data) = ([0x2008_0522u32, 0], [0u32; 6]);
        sys!(capset, &header, &[0u32; 6])?;
        sys!(capget, &header, &mut data)?;
        assert_eq!(data, [0; 6]);
        assert_errno(sys!(setuid, 55), c::EPERM);
        assert_errno(sys!(capset, &header, &[1u32, 1, 0, 0, 0, 0]), c::EPERM);
    }
    fn capabilities_go_with_the_user() {
        as_nobody(|| {
            let (header, mut data) = ([0x2008_0522u32, 0], [9u32; 6]);
            sys!(capget, &header, &mut data)?;
            assert_eq!(data, [0; 6]);
            Ok(())
        })?;
    }
    fn prctl_name() {
        let mut name = [0u8; 16];
        sys!(prctl, c::PR_SET_NAME, c"a name that is too long")?;
        sys!(prctl, c::PR_GET_NAME, &mut name)?;
        assert_eq!(&name, b"a name that is \0");
        assert_eq!(text(c"/proc/self/comm")?, "a name that is \n");
        assert_errno(sys!(prctl, c::PR_SET_NAME, memory::hole()?), c::EFAULT);
    }
    fn prctl_switches() {
        let mut value = 9i32;
        sys!(prctl, c::PR_SET_PDEATHSIG, c::SIGTERM, 0, 0, 0)?;
        sys!(prctl, c::PR_GET_PDEATHSIG, &mut value)?;
        assert_eq!(value, c::SIGTERM);
        sys!(prctl, c::PR_GET_CHILD_SUBREAPER, &mut value)?;
        assert_eq!(value, 0);
        assert_eq!(sys!(prctl, c::PR_GET_DUMPABLE)?, 1);
        sys!(prctl, c::PR_SET_DUMPABLE, 0)?;
        assert_eq!(sys!(prctl, c::PR_GET_DUMPABLE)?, 0);
        assert_errno(sys!(prctl, c::PR_SET_DUMPABLE, 99), c::EINVAL);
        sys!(prctl, c::PR_SET_KEEPCAPS, 1)?;
        assert_eq!(sys!(prctl, c::PR_GET_KEEPCAPS)?, 1);
        assert_errno(sys!(prctl, 123_456, 0), c::EINVAL);
    }
    fn prctl_no_new_privileges() {
        let before = sys!(prctl, c::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)?;
        sys!(prctl, c::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
        assert_eq!(sys!(prctl, c::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)?, 1);
        assert_errno(sys!(prctl, c::PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), c::EINVAL);
        child(|| {
            assert_eq!(sys!(prctl, c::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)?, 1);
            Ok(())
        })?.succeeds()?;
        assert!(before <= 1);
    }
    fn prctl_bounding_set() {
        assert_eq!(sys!(prctl, c::PR_CAPBSET_READ, 0)?.max(0) | 1, 1);
        assert_errno(sys!(prctl, c::PR_CAPBSET_READ, 999), c::EINVAL);
        need_root()?;
        if sys!(prctl, c::PR_CAPBSET_READ, 5)? == 1 {
            sys!(prctl, c::PR_CAPBSET_DROP, 5)?;
            assert_eq!(sys!(prctl, c::PR_CAPBSET_READ, 5)?, 0);
        }
    }
    fn arch_prctl_segments() {
        let mut fs = 0usize;
        sys!(arch_prctl, 0x1003, &mut fs)?;
        assert_ne!(fs, 0);
        let page = memory::pages(1)?;
        let other = std::thread::spawn(move || {
            let mut gs = 1usize;
            sys!(arch_prctl, 0x1001, page)?;
            sys!(arch_prctl, 0x1004, &mut gs)?;
            Ok::<usize, sys::Errno>(gs)
        });
        let Ok(Ok(gs)) = other.join() else { panic!("the thread failed") };
        assert_eq!(gs, page);
        assert_errno(sys!(arch_prctl, 0x9999, 0), c::EINVAL);
        assert_errno(sys!(arch_prctl, 0x1002, 1usize << 63), c::EPERM);
        assert_errno(sys!(arch_prctl, 0x1003, memory::hole()?), c::EFAULT);
    }
    fn uname_says_linux() {
        let mut name: c::utsname = sys::zeroed();
        sys!(uname, &mut name)?;
        assert_eq!(field(&name.sysname), "Linux");
        assert_eq!(field(&name.machine), "x86_64");
        assert!(field(&name.release).starts_with(|d: char| d.is_ascii_digit()));
        assert_errno(sys!(uname, memory::hole()?), c::EFAULT);
    }
    fn host_name_in_a_namespace_of_its_own() {
        need_root()?;
        or_skip(sys!(unshare, c::CLONE_NEWUTS), &[c::EPERM, c::EINVAL, c::ENOSYS], "a UTS namespace")?;
        sys!(sethostname, b"conformance", 11)?;
        let mut name: c::utsname = sys::zeroed();
        sys!(uname, &mut name)?;
        assert_eq!(field(&name.nodename), "conformance");
        assert_errno(sys!(sethostname, b"x", 65), c::EINVAL);
        assert_errno(sys!(sethostname, memory::hole()?, 5), c::EFAULT);
        as_nobody(|| {
            assert_errno(sys!(sethostname, b"x", 1), c::EPERM);
            Ok(())
        })?;
    }
    fn sysinfo_is_plausible() {
        let mut info: c::sysinfo = sys::zeroed();
        sys!(sysinfo, &mut info)?;
        assert!(info.totalram > 0 && info.freeram <= info.totalram && info.procs > 0 && info.mem_unit > 0);
        assert_errno(sys!(sysinfo, memory::hole()?), c::EFAULT);
    }
    fn random_bytes() {
        let (mut a, mut b) = ([0u8; 32], [0u8; 32]);
        assert_eq!(sys!(getrandom, &mut a, 32, 0)?, 32);
        assert_eq!(sys!(getrandom, &mut b, 32, c::GRND_NONBLOCK)?, 32);
        assert_ne!(a, b);
        let mut many = vec![0u8; 256];
        assert_eq!(sys!(getrandom, &mut many[..], 256, c::GRND_RANDOM)?, 256);
        assert_errno(sys!(getrandom, &mut a, 32, 0x40), c::EINVAL);
        assert_errno(sys!(getrandom, memory::hole()?, 32, 0), c::EFAULT);
        let mut at_fork = [0u8; 16];
        let ends = crate::kit::pipe(0)?;
        child(|| {
            let mut mine = [0u8; 16];
            sys!(getrandom, &mut mine, 16, 0)?;
            Ok(crate::kit::write(ends[1], &mine)?)
        })?.succeeds()?;
        sys!(getrandom, &mut at_fork, 16, 0)?;
        assert_ne!(crate::kit::read(ends[0], 16)?, at_fork);
    }
    fn set_group_id_directory_keeps_strangers_out() {
        need_root()?;
        sys!(mkdir, c"d", 0o770)?;
        sys!(chmod, c"d", 0o770)?;
        sys!(chown, c"d", 0, 3333)?;
        as_nobody(|| {
            assert_errno(sys!(chdir, c"d"), c::EACCES);
            assert_errno(stat(c"d/x").map(drop), c::EACCES);
            Ok(())
        })?;
    }
}

fn uids() -> Result<[u32; 3]> {
    let mut ids = [9u32; 3];
    let [a, b, c] = &mut ids;
    sys!(getresuid, a, b, c)?;
    Ok(ids)
}

fn gids() -> Result<[u32; 3]> {
    let mut ids = [9u32; 3];
    let [a, b, c] = &mut ids;
    sys!(getresgid, a, b, c)?;
    Ok(ids)
}

fn field(bytes: &[i8]) -> String {
    bytes.iter().take_while(|b| **b != 0).map(|b| char::from(b.cast_unsigned())).collect()
}
