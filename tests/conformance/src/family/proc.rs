//! Files of /proc and /dev.

use crate::kit::{as_nobody, assert_errno, cases, child, close, file, fstat, int, open, pid, pipe, read, read_all, text, until, wait,
    write,
};
use crate::sys::{self, Result, memory, sys};
use libc as c;

cases! { proc;
    fn the_filter_of_cores_is_kept_and_inherited() {
        let path = c"/proc/self/coredump_filter";
        let put = |bytes: &[u8]| -> Result<()> { write(open(path, c::O_WRONLY, 0)?, bytes) };
        let put_fails = |bytes: &'static [u8], errno: i32| -> Result<()> {
            let fd = open(path, c::O_WRONLY, 0)?;
            assert_errno(sys!(write, fd, bytes, bytes.len()), errno);
            Ok(())
        };
        assert_eq!(text(path)?, "00000033\n");
        put(b"0x11\n")?;
        put_fails(b"x", c::EINVAL)?;
        put_fails(b"-1", c::EINVAL)?;
        put_fails(b"99999999999999", c::ERANGE)?;
        assert_eq!(text(path)?, "00000011\n");
        put(b"0xfff1ff")?;
        child(|| {
            assert_eq!(text(path)?, "000001ff\n");
            Ok(())
        })?.succeeds()?;
    }
    fn timer_slack_is_that_of_prctl() {
        let path = c"/proc/self/timerslack_ns";
        let put = |bytes: &[u8]| -> Result<()> { write(open(path, c::O_WRONLY, 0)?, bytes) };
        assert_eq!(text(path)?, format!("{}\n", sys!(prctl, c::PR_GET_TIMERSLACK)?));
        put(b"70000")?;
        assert_eq!((sys!(prctl, c::PR_GET_TIMERSLACK)?, text(path)?.as_str()), (70_000, "70000\n"));
        sys!(prctl, c::PR_SET_TIMERSLACK, 123)?;
        assert_eq!(text(path)?, "123\n");
        let parent = pid()?;
        as_nobody(|| {
            // What it began with is its maker's then.
            put(b"0")?;
            assert_eq!(text(path)?, "123\n");
            let others = open(&crate::kit::name(&format!("/proc/{parent}/timerslack_ns")), c::O_RDWR, 0)?;
            assert_errno(read(others, 9), c::EPERM);
            assert_errno(sys!(write, others, b"1", 1), c::EPERM);
            Ok(())
        })?;
        assert_errno(sys!(write, open(path, c::O_WRONLY, 0)?, b"x", 1), c::EINVAL);
        put(b"0")?;
        assert_eq!(sys!(prctl, c::PR_GET_TIMERSLACK)?, 50_000);
    }
    fn self_is_the_reader() {
        assert_eq!(link("/proc/self")?, pid()?.to_string());
        assert_eq!(link("/proc/thread-self")?, format!("{0}/task/{0}", pid()?));
        child(|| {
            assert_eq!(link("/proc/self")?, pid()?.to_string());
            Ok(())
        })?.succeeds()?;
    }
    fn status_has_its_lines() {
        let status = text(c"/proc/self/status")?;
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("none").trim();
        assert_eq!(field("Pid:"), pid()?.to_string());
        assert_eq!(field("PPid:"), sys!(getppid)?.to_string());
        assert_eq!(field("Tgid:"), pid()?.to_string());
        assert_eq!(field("Threads:"), "1");
        assert_eq!(field("Umask:"), "0022");
        assert!(field("State:").starts_with('R'), "{}", field("State:"));
        assert_eq!(field("SigBlk:"), "0000000000000000");
        let uid = sys!(getuid)?;
        assert_eq!(field("Uid:"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
        for name in ["Name:", "VmRSS:", "VmSize:", "FDSize:", "Groups:", "SigIgn:", "SigCgt:", "CapEff:", "Seccomp:"] {
            assert_ne!(field(name), "none", "{name}");
        }
    }
    fn stat_has_its_fields() {
        let all = text(c"/proc/self/stat")?;
        let (head, tail) = all.rsplit_once(") ").unwrap_or_default();
        assert!(head.starts_with(&format!("{} (", pid()?)), "{all}");
        let fields: Vec<&str> = tail.split_whitespace().collect();
        assert_eq!(fields.len(), 50);
        assert_eq!((fields[0], fields[1]), ("R", sys!(getppid)?.to_string().as_str()));
        assert_eq!((fields[2], fields[3]), (sys!(getpgrp)?.to_string().as_str(), sys!(getsid, 0)?.to_string().as_str()));
        assert_eq!(fields[17], "1");
    }
    fn stat_of_computing_and_sleeping_children() {
        let [started, tell] = pipe(0)?;
        let busy = child(|| { write(tell, b"x")?; loop { core::hint::spin_loop(); } })?;
        read(started, 1)?;
        until(|| state(busy.pid) == Ok('R'));
        busy.end()?;
        let idle = child(|| loop { sys!(pause).ok(); })?;
        until(|| state(idle.pid) == Ok('S'));
        idle.end()?;
    }
    fn stat_of_stopped_and_dead_children() {
        let victim = child(|| loop { sys!(pause).ok(); })?;
        victim.kill(c::SIGSTOP)?;
        wait(victim.pid, c::WUNTRACED)?;
        assert_eq!(state(victim.pid)?, 'T');
        victim.kill(c::SIGKILL)?;
        let mut info: c::siginfo_t = sys::zeroed();
        sys!(waitid, c::P_PID, victim.pid, &mut info, c::WEXITED | c::WNOWAIT, 0)?;
        assert_eq!(state(victim.pid)?, 'Z');
        victim.dies_of(c::SIGKILL)?;
        assert_errno(state(victim.pid), c::ENOENT);
    }
    fn cmdline_environ_and_comm() {
        let cmdline = text(c"/proc/self/cmdline")?;
        let args: Vec<String> = std::env::args().collect();
        assert_eq!(cmdline, args.join("\0") + "\0");
        let environ = text(c"/proc/self/environ")?;
        assert_eq!(environ.split_terminator('\0').count(), std::env::vars().count());
        write(open(c"/proc/self/comm", c::O_WRONLY, 0)?, b"new name")?;
        assert_eq!(text(c"/proc/self/comm")?, "new name\n");
    }
    fn sys_tells_processors_and_refuses_writes() {
        let online = text(c"/sys/devices/system/cpu/online")?;
        let ends = online.trim().split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
        let number = |text: &str| text.parse::<usize>().unwrap_or(usize::MAX);
        let count: usize = ends.map(|(first, last)| number(last) + 1 - number(first)).sum();
        let all = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        assert_eq!(count, all.lines().filter(|line| line.starts_with("processor")).count());
        assert_eq!(text(c"/sys/devices/system/cpu/cpu0/topology/physical_package_id")?, "0\n");
        let own = text(c"/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")?;
        assert!(own.starts_with('0'), "{own}");
        let mut names: Vec<_> = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten().collect();
        names.retain(|entry| entry.file_name().to_str().and_then(|name| name.strip_prefix("cpu")?.parse::<u32>().ok()).is_some());
        assert!(names.len() >= count, "{names:?}");
        assert_errno(open(c"/sys/devices/system/cpu/nowhere", c::O_RDONLY, 0), c::ENOENT);
        let fd = open(c"/sys/devices/system/cpu/online", c::O_RDONLY, 0)?;
        assert_eq!(read(fd, 1)?, online.as_bytes()[..1]);
        // Root may open it on Linux, and then not write.
        let written = open(c"/sys/devices/system/cpu/online", c::O_WRONLY, 0).and_then(|fd| write(fd, b"0"));
        assert!(written.is_err());
    }
    fn links_exe_cwd_root() {
        let here = std::env::current_dir().map_or(String::new(), |p| p.display().to_string());
        assert_eq!(link("/proc/self/cwd")?, here);
        assert_eq!(link("/proc/self/root")?, "/");
        assert!(link("/proc/self/exe")?.starts_with('/'));
        let mut magic = [0u8; 4];
        sys!(read, open(c"/proc/self/exe", c::O_RDONLY, 0)?, &mut magic, 4)?;
        assert_eq!(&magic, b"\x7fELF");
        close(file(c"f", b"here")?)?;
        assert_eq!(text(c"/proc/self/cwd/f")?, "here");
    }
    fn fd_lists_and_reopens() {
        let fd = file(c"f", b"hello")?;
        let here = link("/proc/self/cwd")?;
        assert_eq!(link(&format!("/proc/self/fd/{fd}"))?, format!("{here}/f"));
        let names = list("/proc/self/fd")?;
        assert!(names.contains(&fd.to_string()) && !names.contains(&"899".to_owned()), "{names:?}");
        let again = open(&crate::kit::name(&format!("/proc/self/fd/{fd}")), c::O_RDONLY, 0)?;
        read(again, 3)?;
        assert_eq!(sys!(lseek, fd, 0, c::SEEK_CUR)?, 0);
        sys!(unlink, c"f")?;
        assert_eq!(link(&format!("/proc/self/fd/{fd}"))?, format!("{here}/f (deleted)"));
        assert_eq!(read_all(open(&crate::kit::name(&format!("/proc/self/fd/{fd}")), c::O_RDONLY, 0)?)?, b"hello");
    }
    fn fd_of_pipes_and_others() {
        let ends = pipe(0)?;
        let ino = fstat(ends[0])?.st_ino;
        assert_eq!(link(&format!("/proc/self/fd/{}", ends[0]))?, format!("pipe:[{ino}]"));
        let event = sys!(eventfd2, 0, 0)?;
        assert_eq!(link(&format!("/proc/self/fd/{event}"))?, "anon_inode:[eventfd]");
        let ep = sys!(epoll_create1, 0)?;
        assert_eq!(link(&format!("/proc/self/fd/{ep}"))?, "anon_inode:[eventpoll]");
        let writer = open(&crate::kit::name(&format!("/proc/self/fd/{}", ends[0])), c::O_WRONLY, 0)?;
        write(writer, b"x")?;
        assert_eq!(read(ends[0], 1)?, b"x");
    }
    fn fdinfo_tells_offset_and_flags() {
        let fd = file(c"f", b"hello")?;
        read(fd, 3)?;
        let info = text(&crate::kit::name(&format!("/proc/self/fdinfo/{fd}")))?;
        assert!(info.lines().any(|l| l.strip_prefix("pos:").is_some_and(|v| v.trim() == "3")), "{info}");
        assert!(info.contains("flags:"));
    }
    fn maps_list_what_is_mapped() {
        let fd = file(c"mapped", b"x")?;
        let addr = memory::map(memory::PAGE, c::PROT_READ, c::MAP_SHARED, fd)?;
        let maps = text(c"/proc/self/maps")?;
        let line = maps.lines().find(|l| l.ends_with("/mapped")).unwrap_or("none");
        let wanted = format!("{addr:x}-{:x} r--s 00000000", addr + memory::PAGE);
        assert!(line.starts_with(&wanted), "{line}");
        assert!(maps.contains("[stack]") && maps.contains("[vdso]"));
        let parts: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(parts[4], fstat(fd)?.st_ino.to_string());
    }
    fn maps_show_holes_and_protection() {
        let addr = memory::pages(3)?;
        sys!(mprotect, addr + memory::PAGE, memory::PAGE, c::PROT_NONE)?;
        let maps = text(c"/proc/self/maps")?;
        let middle = format!("{:x}-{:x} ---p", addr + memory::PAGE, addr + 2 * memory::PAGE);
        assert!(maps.lines().any(|l| l.starts_with(&middle)), "{maps}");
        sys!(munmap, addr, 3 * memory::PAGE)?;
        assert!(!text(c"/proc/self/maps")?.contains(&middle));
    }
    fn mem_reads_and_writes_memory() {
        let addr = memory::pages(1)?;
        memory::poke(addr, *b"hello");
        let fd = open(c"/proc/self/mem", c::O_RDWR, 0)?;
        let mut got = [0u8; 5];
        assert_eq!(sys!(pread64, fd, &mut got, 5, addr)?, 5);
        sys!(pwrite64, fd, b"J", 1, addr)?;
        assert_eq!((&got, memory::peek::<u8>(addr)), (b"hello", b'J'));
        assert_errno(sys!(pread64, fd, &mut got, 5, memory::hole()?), c::EIO);
    }
    fn locks_are_listed() {
        let (a, b) = (file(c"a", b"")?, file(c"b", b"")?);
        sys!(flock, a, c::LOCK_SH)?;
        let mut lock: c::flock = sys::zeroed();
        (lock.l_type, lock.l_start, lock.l_len) = (1, 10, 5);
        sys!(fcntl, b, c::F_SETLK, &mut lock)?;
        (lock.l_type, lock.l_start, lock.l_len) = (0, 20, 0);
        sys!(fcntl, b, c::F_SETLK, &mut lock)?;
        (lock.l_type, lock.l_start, lock.l_len) = (1, 0, 1);
        sys!(fcntl, a, c::F_OFD_SETLK, &mut lock)?;
        let all = text(c"/proc/locks")?;
        let has = |fd: i32, class: &str, rest: &str| -> Result<bool> {
            let ino = format!(":{} {rest}", fstat(fd)?.st_ino);
            Ok(all.lines().any(|line| line.contains(class) && line.ends_with(&ino)))
        };
        let me = pid()?;
        assert!(has(a, &format!(": FLOCK  ADVISORY  READ {me} "), "0 EOF")?, "{all}");
        assert!(has(a, ": OFDLCK ADVISORY  WRITE -1 ", "0 0")?, "{all}");
        assert!(has(b, &format!(": POSIX  ADVISORY  WRITE {me} "), "10 14")?, "{all}");
        assert!(has(b, &format!(": POSIX  ADVISORY  READ {me} "), "20 EOF")?, "{all}");
    }
    fn tasks_are_listed() {
        let gate = crate::kit::Gate::new()?;
        std::thread::scope(|scope| {
            let (ready, wait) = (pipe(0)?, &gate);
            scope.spawn(move || {
                let own = sys!(gettid)?;
                write(ready[1], &own.to_ne_bytes())?;
                wait.pass()
            });
            let other: i64 = sys::read_plain(&read(ready[0], 8)?);
            let tasks = list("/proc/self/task")?;
            gate.open()?;
            assert!(tasks.contains(&other.to_string()) && tasks.contains(&pid()?.to_string()), "{tasks:?}");
            Ok::<(), crate::kit::Fail>(())
        })?;
    }
    fn processes_are_listed() {
        let one = child(|| loop { sys!(pause).ok(); })?;
        let names = list("/proc")?;
        one.end()?;
        for name in [one.pid.to_string(), pid()?.to_string(), "meminfo".into(), "self".into(), "sys".into()] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(!list("/proc")?.contains(&one.pid.to_string()));
    }
    fn figures_of_the_system() {
        let meminfo = text(c"/proc/meminfo")?;
        for name in ["MemTotal:", "MemFree:", "MemAvailable:", "Cached:", "SwapTotal:"] {
            assert!(meminfo.lines().any(|l| l.starts_with(name) && l.ends_with(" kB")), "{name}");
        }
        let cpus = text(c"/proc/cpuinfo")?.lines().filter(|l| l.starts_with("processor")).count();
        assert!(cpus >= 1);
        let stat = text(c"/proc/stat")?;
        assert!(stat.starts_with("cpu  ") && stat.contains("\ncpu0 ") && stat.contains("\nbtime "), "{stat}");
        let uptime = text(c"/proc/uptime")?;
        assert_eq!(uptime.split_whitespace().filter(|w| w.parse::<f64>().is_ok()).count(), 2);
        assert_eq!(text(c"/proc/loadavg")?.split_whitespace().count(), 5);
        assert!(text(c"/proc/version")?.starts_with("Linux version "));
        assert!(text(c"/proc/filesystems")?.contains("nodev\tproc"));
    }
    fn mounts_have_root_and_proc() {
        let mounts = text(c"/proc/self/mounts")?;
        assert!(mounts.lines().any(|l| l.split(' ').nth(1) == Some("/")), "{mounts}");
        assert!(mounts.lines().any(|l| l.split(' ').nth(1) == Some("/proc")), "{mounts}");
        assert_eq!(text(c"/proc/mounts")?, mounts);
        let info = text(c"/proc/self/mountinfo")?;
        assert!(info.lines().all(|l| l.contains(" - ")), "{info}");
    }
    fn kernel_settings() {
        let pid_max = text(c"/proc/sys/kernel/pid_max")?;
        assert!(pid_max.trim().parse::<u32>().is_ok_and(|v| v > 300));
        assert_eq!(text(c"/proc/sys/kernel/ostype")?, "Linux\n");
        let mut uts: c::utsname = sys::zeroed();
        sys!(uname, &mut uts)?;
        let hostname: String = uts.nodename.iter().take_while(|b| **b != 0).map(|b| char::from(b.cast_unsigned())).collect();
        assert_eq!(text(c"/proc/sys/kernel/hostname")?.trim(), hostname);
        assert!(text(c"/proc/sys/kernel/random/boot_id")?.len() == 37);
        assert_ne!(text(c"/proc/sys/kernel/random/uuid")?, text(c"/proc/sys/kernel/random/uuid")?);
        assert!(text(c"/proc/sys/fs/pipe-max-size")?.trim().parse::<u32>().is_ok());
    }
    fn limits_and_small_files() {
        let limits = text(c"/proc/self/limits")?;
        assert!(limits.lines().any(|l| l.starts_with("Max open files")), "{limits}");
        assert_eq!(text(c"/proc/self/statm")?.split_whitespace().count(), 7);
        assert!(text(c"/proc/self/oom_score_adj")?.trim().parse::<i32>().is_ok());
        assert!(text(c"/proc/self/cgroup")?.contains(':'));
        assert!(text(c"/proc/self/auxv").is_ok_and(|a| !a.is_empty()));
    }
    fn reading_in_small_pieces_gives_the_same() {
        let fd = open(c"/proc/self/limits", c::O_RDONLY, 0)?;
        let mut all = Vec::new();
        loop {
            let part = read(fd, 7)?;
            if part.is_empty() {
                break;
            }
            all.extend(part);
        }
        assert_eq!(String::from_utf8_lossy(&all), text(c"/proc/self/limits")?);
    }
    fn reading_again_from_the_start_is_new() {
        let fd = open(c"/proc/self/comm", c::O_RDONLY, 0)?;
        sys!(prctl, c::PR_SET_NAME, c"first")?;
        assert_eq!(read(fd, 99)?, b"first\n");
        assert_eq!(read(fd, 99)?, b"");
        sys!(prctl, c::PR_SET_NAME, c"second")?;
        sys!(lseek, fd, 0, c::SEEK_SET)?;
        assert_eq!(read(fd, 99)?, b"second\n");
    }
    fn file_of_a_process_that_ended_is_esrch() {
        let one = child(|| loop { sys!(pause).ok(); })?;
        let fd = open(&crate::kit::name(&format!("/proc/{}/status", one.pid)), c::O_RDONLY, 0)?;
        one.end()?;
        assert_errno(read(fd, 9), c::ESRCH);
    }
    fn comm_of_a_thread_is_its_own() {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let tid = sys!(gettid)?;
                sys!(prctl, c::PR_SET_NAME, c"one thread")?;
                let comm = text(&crate::kit::name(&format!("/proc/self/task/{tid}/comm")))?;
                let status = text(c"/proc/thread-self/status")?;
                assert!(status.contains(&format!("\nTgid:\t{}\n", pid()?)) && status.contains(&format!("\nPid:\t{tid}\n")));
                Ok::<String, crate::kit::Fail>(comm)
            });
            assert_eq!(thread.join().unwrap_or_else(|_| Ok("panic".into()))?, "one thread\n");
            Ok::<(), crate::kit::Fail>(())
        })?;
        assert_ne!(text(c"/proc/self/comm")?, "one thread\n");
        assert_errno(open(&crate::kit::name("/proc/self/task/999999999"), c::O_RDONLY, 0), c::ENOENT);
    }
    fn oom_score_adj_is_kept_and_inherited() {
        let path = c"/proc/self/oom_score_adj";
        write(open(path, c::O_WRONLY | c::O_TRUNC, 0)?, b"500\n")?;
        assert_eq!(text(path)?, "500\n");
        child(|| {
            assert_eq!(text(c"/proc/self/oom_score_adj")?, "500\n");
            Ok(())
        })?.succeeds()?;
        for wrong in ["2000", "x", "-1001"] {
            assert_errno(write(open(path, c::O_WRONLY, 0)?, wrong.as_bytes()), c::EINVAL);
        }
    }
    fn others_may_not_look_into_a_process() {
        let one = child(|| loop { sys!(pause).ok(); })?;
        let of = |name: &str| crate::kit::name(&format!("/proc/{}/{name}", one.pid));
        let seen = as_nobody(|| {
            for name in ["fd", "environ", "mem", "auxv"] {
                assert_errno(open(&of(name), c::O_RDONLY, 0), c::EACCES);
            }
            assert_errno(sys!(readlink, of("exe").as_c_str(), &mut [0u8; 99], 99), c::EACCES);
            assert!(text(&of("status"))?.starts_with("Name:") && text(&of("stat"))?.contains('('));
            Ok(())
        });
        one.end()?;
        seen?;
    }
    fn settings_are_not_for_everyone_to_change() {
        as_nobody(|| {
            for path in [c"/proc/sys/kernel/pid_max", c"/proc/sys/vm/swappiness", c"/proc/sys/net/core/somaxconn"] {
                assert_errno(open(path, c::O_WRONLY, 0), c::EACCES);
                assert_errno(open(path, c::O_WRONLY | c::O_TRUNC, 0), c::EACCES);
            }
            Ok(())
        })?;
        assert!(list("/proc/sys")?.contains(&"kernel".to_owned()));
        assert_errno(open(c"/proc/sys/kernel/none", c::O_RDONLY, 0), c::ENOENT);
        assert_errno(read(open(c"/proc/sys/kernel", c::O_RDONLY, 0)?, 1), c::EISDIR);
    }
    fn memory_is_the_same_by_call_and_by_file() {
        let mut info: c::sysinfo = sys::zeroed();
        sys!(sysinfo, &mut info)?;
        let meminfo = text(c"/proc/meminfo")?;
        let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        assert_eq!(total.and_then(|kib| kib.parse().ok()), Some(info.totalram * u64::from(info.mem_unit) / 1024));
    }
    fn processors_say_what_they_can() {
        let cpuinfo = text(c"/proc/cpuinfo")?;
        let values = |key: &str| cpuinfo.lines().filter(|l| l.split(':').next().map(str::trim) == Some(key)).count();
        assert!(values("processor") >= 1);
        assert_eq!([values("model name"), values("flags"), values("cpu MHz")], [values("processor"); 3]);
        assert!(cpuinfo.contains(" sse2 "));
    }
    fn heap_is_in_maps_once_there_is_one() {
        child(|| {
            let now = sys!(brk, 0)?;
            sys!(brk, now + 2 * 4096)?;
            let maps = text(c"/proc/self/maps")?;
            let heap = maps.lines().find(|l| l.ends_with("[heap]")).unwrap_or("none");
            assert!(heap.contains(" rw-p 00000000 00:00 0 "), "{heap}");
            Ok(())
        })?.succeeds()?;
    }
    fn a_link_out_of_proc_is_followed() {
        close(file(c"f", b"here")?)?;
        let fd = open(c".", c::O_RDONLY, 0)?;
        assert_eq!(text(&crate::kit::name(&format!("/proc/self/fd/{fd}/f")))?, "here");
        assert_eq!(link("/proc/mounts")?, "self/mounts");
    }
    fn proc_cannot_be_changed() {
        let no_names = || {
            for result in [
                sys!(mkdir, c"/proc/x", 0o755),
                sys!(symlink, c"x", c"/proc/self/x"),
                sys!(mknod, c"/proc/self/fd/x", c::S_IFIFO | 0o600, 0),
                sys!(link, c"/proc/uptime", c"/proc/x"),
                sys!(rename, c"/proc/uptime", c"/proc/x"),
                open(c"/proc/x", c::O_CREAT | c::O_WRONLY, 0o600).map(i64::from),
                open(c"/proc/self/x", c::O_CREAT | c::O_EXCL, 0o600).map(i64::from),
            ] {
                assert_errno(result, c::ENOENT);
            }
            Ok(())
        };
        no_names()?;
        as_nobody(no_names)?;
        // The directory's mode comes first for all but root.
        let refusal = if sys!(geteuid)? == 0 { c::EPERM } else { c::EACCES };
        assert_errno(sys!(unlink, c"/proc/meminfo"), refusal);
        assert_errno(open(c"/proc/999999999", c::O_RDONLY, 0), c::ENOENT);
        assert_errno(open(c"/proc/self/none", c::O_RDONLY, 0), c::ENOENT);
    }
    fn null_swallows() {
        let fd = open(c"/dev/null", c::O_RDWR, 0)?;
        assert_eq!(sys!(write, fd, &[0u8; 1000], 1000)?, 1000);
        assert_eq!(read(fd, 9)?, b"");
        assert_eq!(fstat(fd)?.st_rdev, 0x103);
        assert_eq!(sys!(lseek, fd, 100, c::SEEK_SET)?, 0);
        // Linux does not look at what is thrown away.
        assert_eq!(sys!(write, fd, memory::hole()?, 10)?, 10);
    }
    fn zero_and_full() {
        let fd = open(c"/dev/zero", c::O_RDWR, 0)?;
        assert_eq!(read(fd, 1000)?, [0; 1000]);
        write(fd, b"x")?;
        assert_errno(sys!(read, fd, memory::hole()?, 10), c::EFAULT);
        let fd = open(c"/dev/full", c::O_RDWR, 0)?;
        assert_errno(write(fd, b"x"), c::ENOSPC);
        assert_eq!(read(fd, 10)?, [0; 10]);
    }
    fn random_devices() {
        for path in [c"/dev/urandom", c"/dev/random"] {
            let fd = open(path, c::O_RDONLY, 0)?;
            let (a, b) = (read(fd, 32)?, read(fd, 32)?);
            assert_eq!((a.len(), b.len()), (32, 32));
            assert_ne!(a, b);
        }
        let fd = open(c"/dev/urandom", c::O_RDONLY, 0)?;
        assert_eq!(read(fd, 100_000)?.len(), 100_000);
    }
    fn devices_for_descriptors() {
        let fd = file(c"f", b"hello")?;
        sys!(dup2, fd, 0)?;
        let again = open(c"/dev/stdin", c::O_RDONLY, 0)?;
        assert_eq!(read(again, 9)?, b"hello");
        let by_number = open(&crate::kit::name(&format!("/dev/fd/{fd}")), c::O_RDONLY, 0)?;
        assert_eq!(read(by_number, 9)?, b"hello");
    }
    fn no_controlling_terminal_is_enxio() {
        child(|| {
            sys!(setsid)?;
            assert_errno(open(c"/dev/tty", c::O_RDWR, 0), c::ENXIO);
            Ok(())
        })?.succeeds()?;
    }
    fn shared_memory_directory() {
        let name = crate::kit::name(&format!("/dev/shm/conformance-{}", pid()?));
        let fd = open(&name, c::O_CREAT | c::O_EXCL | c::O_RDWR, 0o600)?;
        sys!(unlink, name.as_c_str())?;
        sys!(ftruncate, fd, 4096)?;
        let addr = memory::map(4096, memory::RW, c::MAP_SHARED, fd)?;
        child(|| {
            memory::poke(addr, 5u8);
            Ok(())
        })?.succeeds()?;
        assert_eq!((memory::peek::<u8>(addr), int(sys!(pread64, fd, &mut [0u8; 1], 1, 0)?)), (5, 1));
    }
}

fn link(path: &str) -> Result<String> {
    let mut buffer = [0u8; 4096];
    let len = sys!(readlink, crate::kit::name(path).as_c_str(), &mut buffer, 4096)?;
    Ok(String::from_utf8_lossy(&buffer[..crate::kit::size(len)]).into_owned())
}

fn list(path: &str) -> core::result::Result<Vec<String>, crate::kit::Fail> {
    let entries = std::fs::read_dir(path).map_err(|e| crate::kit::Fail::Broken(format!("{path}: {e}")))?;
    Ok(entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
}

fn state(pid: i32) -> Result<char> {
    let all = text(&crate::kit::name(&format!("/proc/{pid}/stat")))?;
    Ok(all.rsplit_once(") ").and_then(|(_, tail)| tail.chars().next()).unwrap_or('?'))
}
