//! What /proc and process_vm_readv show of other processes: memory, environment, namespaces, sockets.

use crate::kit::{Child, Gate, as_nobody, assert_errno, cases, child, fstat, int, ms, need_root, open, or_skip, pid, pipe, read, stat, text, until, write};
use crate::net::{unix, unix_address, unix_bind};
use crate::sys::{Result, memory, sys};
use core::sync::atomic::Ordering::SeqCst;
use libc as c;

cases! { inspect;
    fn environment_and_command_line_of_another() {
        let one = sleeper()?;
        let environ = text(&of(&one, "environ"))?;
        assert_eq!(environ, text(c"/proc/self/environ")?);
        assert_eq!(text(&of(&one, "cmdline"))?, text(c"/proc/self/cmdline")?);
        one.end()?;
    }
    fn memory_of_a_process_that_sleeps() {
        let addr = memory::pages(1)?;
        memory::poke(addr, *b"parent");
        let (ready, go) = (pipe(0)?, Gate::new()?);
        let one = child(|| {
            memory::poke(addr, *b"child.");
            write(ready[1], b"r")?;
            go.pass()?;
            assert_eq!(memory::peek::<[u8; 6]>(addr), *b"CHild.");
            Ok(())
        })?;
        read(ready[0], 1)?;
        let fd = open(&of(&one, "mem"), c::O_RDWR, 0)?;
        let mut got = [0u8; 6];
        assert_eq!(sys!(pread64, fd, &mut got, 6, addr)?, 6);
        assert_eq!(&got, b"child.");
        assert_eq!(sys!(pwrite64, fd, b"CH", 2, addr)?, 2);
        assert_errno(sys!(pread64, fd, &mut got, 6, memory::hole()?), c::EIO);
        go.open()?;
        one.succeeds()?;
        assert_eq!(memory::peek::<[u8; 6]>(addr), *b"parent");
        assert_eq!(sys!(pread64, fd, &mut got, 6, addr)?, 0);
    }
    fn memory_of_a_process_that_computes_or_is_stopped() {
        let page = memory::pages(2)?;
        let words = crate::kit::shared()?;
        let one = child(|| {
            memory::poke(page + 4090, *b"0123456789");
            words[0].store(1, SeqCst);
            loop { core::hint::spin_loop(); }
        })?;
        until(|| words[0].load(SeqCst) == 1);
        let fd = open(&of(&one, "mem"), c::O_RDONLY, 0)?;
        let look = || -> Result<()> {
            let mut got = [0u8; 10];
            assert_eq!(sys!(pread64, fd, &mut got, 10, page + 4090)?, 10);
            assert_eq!(&got, b"0123456789");
            Ok(())
        };
        look()?;
        one.kill(c::SIGSTOP)?;
        crate::kit::wait(one.pid, c::WUNTRACED)?;
        look()?;
        assert_eq!(text(&of(&one, "environ"))?, text(c"/proc/self/environ")?);
        one.end()?;
    }
    fn memory_of_a_process_that_sleeps_again_and_again() {
        let addr = memory::pages(1)?;
        memory::poke(addr, 5u8);
        let one = child(|| loop {
            // With another mask for its length.
            sys!(ppoll, 0, 0, &ms(0), &0u64, 8)?;
            sys!(epoll_pwait, 0, addr, 1, 0, &0u64, 8).ok();
        })?;
        let fd = open(&of(&one, "mem"), c::O_RDONLY, 0)?;
        for _ in 0..300 {
            assert_eq!(sys!(pread64, fd, &mut [0u8; 1], 1, addr)?, 1);
        }
        one.end()?;
    }
    fn two_processes_read_each_other() {
        let words = crate::kit::shared()?;
        let addr = memory::pages(1)?;
        memory::poke(addr, 7u64);
        let peer = |pid: i32, rounds: u32| -> Result<()> {
            let fd = open(&crate::kit::name(&format!("/proc/{pid}/mem")), c::O_RDONLY, 0)?;
            for _ in 0..rounds {
                let mut got = [0u8; 8];
                assert_eq!(sys!(pread64, fd, &mut got, 8, addr)?, 8);
                assert_eq!(u64::from_ne_bytes(got), 7);
            }
            Ok(())
        };
        let me = pid()?;
        let one = child(|| {
            peer(me, 200)?;
            words[0].store(1, SeqCst);
            loop { sys!(pause).ok(); }
        })?;
        peer(one.pid, 200)?;
        until(|| words[0].load(SeqCst) == 1);
        one.end()?;
    }
    fn process_vm_moves_memory() {
        let addr = memory::pages(3)?;
        memory::poke(addr, *b"hello");
        let one = sleeper()?;
        let (mut got, remote) = ([0u8; 5], vector_at(addr, 5));
        let local = crate::kit::vector_mut(&mut got);
        let done = sys!(process_vm_readv, one.pid, &local, 1, &remote, 1, 0);
        assert_eq!((or_skip(done, &[c::ENOSYS, c::EPERM], "process_vm_readv")?, &got), (5, b"hello"));
        assert_eq!(sys!(process_vm_writev, one.pid, &crate::kit::vector(b"J"), 1, &remote, 1, 0)?, 1);
        sys!(process_vm_readv, one.pid, &local, 1, &remote, 1, 0)?;
        assert_eq!((&got, memory::peek::<u8>(addr)), (b"Jello", b'h'));
        // Over pages, in pieces of other lengths on both sides.
        let mut many = vec![0u8; 9000];
        let (head, tail) = many.split_at_mut(17);
        let into = [crate::kit::vector_mut(head), crate::kit::vector_mut(tail)];
        let from = [vector_at(addr, 4000), vector_at(addr + 4000, 5000)];
        assert_eq!(sys!(process_vm_readv, one.pid, &into, 2, &from, 2, 0)?, 9000);
        assert!(many.starts_with(b"Jello\0"));
        one.end()?;
    }
    fn process_vm_errors() {
        let one = sleeper()?;
        let (mut got, addr) = ([0u8; 5], memory::pages(1)?);
        let (local, remote) = (crate::kit::vector_mut(&mut got), vector_at(addr, 5));
        assert_errno(sys!(process_vm_readv, 4_194_303, &local, 1, &remote, 1, 0), c::ESRCH);
        assert_errno(sys!(process_vm_readv, one.pid, &local, 1, &remote, 1, 1), c::EINVAL);
        assert_errno(sys!(process_vm_readv, one.pid, &local, 1025, &remote, 1, 0), c::EINVAL);
        assert_errno(sys!(process_vm_readv, one.pid, &local, 1, memory::hole()?, 1, 0), c::EFAULT);
        assert_errno(sys!(process_vm_readv, one.pid, &local, 1, &vector_at(memory::hole()?, 5), 1, 0), c::EFAULT);
        assert_errno(sys!(process_vm_writev, one.pid, &local, 1, &vector_at(memory::hole()?, 5), 1, 0), c::EFAULT);
        one.end()?;
        need_root()?;
        let me = pid()?;
        as_nobody(|| {
            assert_errno(sys!(process_vm_readv, me, &local, 1, &remote, 1, 0), c::EPERM);
            Ok(())
        })?;
    }
    fn smaps_tells_of_each_mapping() {
        let page = memory::pages(2)?;
        let one = sleeper()?;
        let smaps = text(&of(&one, "smaps"))?;
        for line in text(&of(&one, "maps"))?.lines().filter(|line| !line.contains("[v")) {
            assert!(smaps.contains(&format!("{line}\nSize: ")), "{line}");
        }
        let start = format!("{page:x}-{:x} rw-p", page + 2 * memory::PAGE);
        let Some((_, own)) = smaps.split_once(&start) else { panic!("{start} is missing: {smaps}") };
        let field = |name: &str| own.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(field("Size:"), Some("8 kB"));
        for name in ["Rss:", "Pss:", "Private_Dirty:", "Anonymous:", "Swap:", "Locked:", "THPeligible:"] {
            assert!(field(name).is_some(), "{name}");
        }
        assert!(field("VmFlags:").is_some_and(|flags| flags.starts_with("rd wr mr mw me ac")), "{own:.900}");
        let rollup = text(&of(&one, "smaps_rollup"))?;
        assert!(rollup.lines().next().is_some_and(|line| line.ends_with(" [rollup]")) && rollup.contains("\nPss_Anon: "), "{rollup}");
        as_nobody(|| {
            assert_errno(text(&of(&one, "smaps")), c::EACCES);
            assert_errno(text(&of(&one, "smaps_rollup")), c::EACCES);
            Ok(())
        }).or_else(|fail| match fail {
            crate::kit::Fail::Skip(_) => Ok(()),
            broken => Err(broken),
        })?;
        one.end()?;
    }
    fn namespaces_have_numbers() {
        let one = sleeper()?;
        for name in ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "user", "uts"] {
            let shown = link(&of(&one, &format!("ns/{name}")))?;
            let kind = name.split('_').next().unwrap_or(name);
            let number = shown.strip_prefix(&format!("{kind}:[")).and_then(|rest| rest.strip_suffix(']'));
            let number: u64 = number.and_then(|number| number.parse().ok()).unwrap_or(0);
            assert_eq!(stat(&of(&one, &format!("ns/{name}")))?.st_ino, number, "{shown}");
            assert_eq!(shown, link(&crate::kit::name(&format!("/proc/self/ns/{name}")))?);
        }
        let fd = open(c"/proc/self/ns/net", c::O_RDONLY | c::O_CLOEXEC, 0)?;
        assert_eq!(fstat(fd)?.st_ino, stat(c"/proc/self/ns/net")?.st_ino);
        assert_errno(read(fd, 1), c::EINVAL);
        assert_errno(open(c"/proc/self/ns/none", c::O_RDONLY, 0), c::ENOENT);
        let names = std::fs::read_dir("/proc/self/ns").map_or(0, Iterator::count);
        assert!(names >= 8, "{names}");
        one.end()?;
        need_root()?;
        let me = pid()?;
        as_nobody(|| {
            assert_errno(link(&crate::kit::name(&format!("/proc/{me}/ns/net"))), c::EACCES);
            Ok(())
        })?;
    }
    fn namespaces_tell_of_their_owner() {
        const USERNS: u64 = 0xb701;
        const PARENT: u64 = 0xb702;
        const NSTYPE: u64 = 0xb703;
        const OWNER_UID: u64 = 0xb704;
        let net = open(c"/proc/self/ns/net", c::O_RDONLY, 0)?;
        let user = open(c"/proc/self/ns/user", c::O_RDONLY, 0)?;
        assert_eq!(int(sys!(ioctl, net, NSTYPE, 0)?), c::CLONE_NEWNET);
        assert_eq!(int(sys!(ioctl, user, NSTYPE, 0)?), c::CLONE_NEWUSER);
        let owner = int(sys!(ioctl, net, USERNS, 0)?);
        assert_eq!(fstat(owner)?.st_ino, fstat(user)?.st_ino);
        assert_errno(sys!(ioctl, user, PARENT, 0), c::EPERM);
        assert_errno(sys!(ioctl, net, PARENT, 0), c::EINVAL);
        assert_errno(sys!(ioctl, net, OWNER_UID, 0), c::EINVAL);
        assert_errno(sys!(ioctl, user, OWNER_UID, memory::hole()?), c::EFAULT);
        let mut uid = 7u32;
        sys!(ioctl, user, OWNER_UID, &mut uid)?;
        assert_eq!(uid, 0);
        assert_errno(sys!(ioctl, net, 0xb7ff, 0), c::ENOTTY);
    }
    fn inet_sockets_are_listed() {
        assert_eq!(link(c"/proc/net")?, "self/net");
        for (kind, table) in [(c::SOCK_STREAM, "tcp"), (c::SOCK_DGRAM, "udp")] {
            let fd = int(sys!(socket, c::AF_INET, kind, 0)?);
            let mut address = [0u8; 16];
            (address[0], address[4], address[7]) = (2, 127, 1);
            sys!(bind, fd, &address, 16)?;
            if kind == c::SOCK_STREAM {
                sys!(listen, fd, 5)?;
            }
            sys!(getsockname, fd, &mut address, &mut 16u32)?;
            let port = u16::from_be_bytes([address[2], address[3]]);
            let all = text(&crate::kit::name(&format!("/proc/net/{table}")))?;
            let local = format!(": 0100007F:{port:04X} 00000000:0000 ");
            let Some(line) = all.lines().find(|line| line.contains(&local)) else { panic!("no {local} in {all}") };
            let fields: Vec<&str> = line.split_whitespace().collect();
            let state = if kind == c::SOCK_STREAM { "0A" } else { "07" };
            assert_eq!((fields[3], fields[7], fields[9]), (state, &*sys!(geteuid)?.to_string(), &*fstat(fd)?.st_ino.to_string()));
        }
    }
    fn connected_sockets_are_listed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0");
        let Ok(address) = listener.as_ref().map_err(|_| ()).and_then(|l| l.local_addr().map_err(|_| ())) else { panic!("no listener") };
        let Ok(_client) = std::net::TcpStream::connect(address) else { panic!("no connection") };
        let all = text(c"/proc/net/tcp")?;
        let remote = format!(" 0100007F:{:04X} 01 ", address.port());
        assert!(all.lines().any(|line| line.contains(&remote)), "{all}");
    }
    fn unix_sockets_are_listed() {
        let named = unix(c::SOCK_STREAM)?;
        unix_bind(named, b"\0a name")?;
        sys!(listen, named, 5)?;
        let bound = unix(c::SOCK_DGRAM)?;
        unix_bind(bound, b"place")?;
        let (to, len) = unix_address(b"\0a name");
        let client = unix(c::SOCK_STREAM)?;
        sys!(connect, client, &to, len)?;
        let all = text(c"/proc/net/unix")?;
        let line = |fd: i32| -> Result<Vec<String>> {
            let ino = fstat(fd)?.st_ino.to_string();
            let own = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|f| f.get(6) == Some(&&*ino));
            Ok(own.unwrap_or_default()[3..].iter().map(|field| (*field).to_owned()).collect())
        };
        let ino = |fd: i32| fstat(fd).map(|st| st.st_ino.to_string());
        assert_eq!(line(named)?, ["00010000", "0001", "01", &ino(named)?, "@a", "name"]);
        assert_eq!(line(bound)?, ["00000000", "0002", "01", &ino(bound)?, "place"]);
        assert_eq!(line(client)?, ["00000000", "0001", "03", &ino(client)?]);
    }
    fn interfaces_and_routes_are_listed() {
        assert!(text(c"/proc/net/dev")?.lines().any(|line| line.trim_start().starts_with("lo:")));
        for (name, first) in [("route", "Iface\tDestination"), ("sockstat", "sockets: used "), ("arp", "IP address"), ("udp", "   sl  local"), ("tcp", "  sl  local"), ("raw", "  sl  local")] {
            let all = text(&crate::kit::name(&format!("/proc/self/net/{name}")))?;
            assert!(all.starts_with(first), "{name}: {all}");
        }
        assert_errno(open(c"/proc/net/none", c::O_RDONLY, 0), c::ENOENT);
    }
}

fn sleeper() -> Result<Child> {
    child(|| loop { sys!(pause).ok(); })
}

/// A name in a child's directory.
fn of(one: &Child, name: &str) -> std::ffi::CString {
    crate::kit::name(&format!("/proc/{}/{name}", one.pid))
}

fn link(path: &core::ffi::CStr) -> Result<String> {
    let mut buffer = [0u8; 4096];
    let len = sys!(readlink, path, &mut buffer, 4096)?;
    Ok(String::from_utf8_lossy(&buffer[..crate::kit::size(len)]).into_owned())
}

fn vector_at(addr: usize, len: usize) -> c::iovec {
    c::iovec { iov_base: core::ptr::with_exposed_provenance_mut(addr), iov_len: len }
}
