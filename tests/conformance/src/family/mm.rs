//! Memory: mmap and its like, brk, memfd.

use crate::kit::{Child, assert_errno, cases, child, close, file, int, open, or_skip, pipe, read, shared, text, write};
use crate::sys::{self, Result, fault, memory, process, signal, sys};
use core::sync::atomic::Ordering::SeqCst;
use libc as c;
use memory::{ANON, PAGE, RW, SHARED, map, peek, poke};

cases! { mm;
    fn a_seal_against_writes_waits_for_mappings_that_can_write() {
        let sealable = || -> Result<i32> {
            let fd = int(sys!(memfd_create, c"x", c::MFD_ALLOW_SEALING)?);
            sys!(ftruncate, fd, 2 * PAGE)?;
            Ok(fd)
        };
        let seal = |fd: i32| sys!(fcntl, fd, c::F_ADD_SEALS, c::F_SEAL_WRITE | c::F_SEAL_SHRINK);
        let fd = sealable()?;
        // Private ones never reach the file, nor do those by a descriptor that cannot write.
        map(PAGE, RW, c::MAP_PRIVATE, fd)?;
        let reader = open(&crate::kit::name(&format!("/proc/self/fd/{fd}")), c::O_RDONLY, 0)?;
        map(PAGE, c::PROT_READ, c::MAP_SHARED, reader)?;
        let addr = map(2 * PAGE, c::PROT_READ, c::MAP_SHARED, fd)?;
        assert_errno(seal(fd), c::EBUSY);
        assert_eq!(sys!(fcntl, fd, c::F_GET_SEALS)?, 0);
        sys!(munmap, addr, PAGE)?;
        assert_errno(seal(fd), c::EBUSY);
        let gate = crate::kit::Gate::new()?;
        let heir = child(|| Ok(gate.pass()?))?;
        sys!(munmap, addr + PAGE, PAGE)?;
        assert_errno(seal(fd), c::EBUSY);
        gate.open()?;
        heir.succeeds()?;
        seal(fd)?;
        let fd = sealable()?;
        let addr = map(PAGE, RW, c::MAP_SHARED, fd)?;
        // One that is there already may go on, and keeps the other seal away.
        sys!(fcntl, fd, c::F_ADD_SEALS, c::F_SEAL_FUTURE_WRITE)?;
        assert_errno(seal(fd), c::EBUSY);
        poke(addr, 1u8);
        sys!(munmap, addr, PAGE)?;
        seal(fd)?;
    }
    fn what_is_sealed_against_writes_is_mapped_to_read() {
        for seal in [c::F_SEAL_WRITE, c::F_SEAL_FUTURE_WRITE] {
            let fd = int(sys!(memfd_create, c"x", c::MFD_ALLOW_SEALING)?);
            write(fd, b"a")?;
            sys!(fcntl, fd, c::F_ADD_SEALS, seal)?;
            assert_errno(map(PAGE, RW, c::MAP_SHARED, fd), c::EPERM);
            let addr = map(PAGE, c::PROT_READ, c::MAP_SHARED, fd)?;
            assert_eq!(peek::<u8>(addr), b'a');
            assert_errno(sys!(mprotect, addr, PAGE, RW), c::EACCES);
            sys!(fcntl, fd, c::F_ADD_SEALS, c::F_SEAL_WRITE)?;
        }
    }
    fn the_seal_of_execution_keeps_the_bits() {
        const SEAL_EXEC: i32 = 0x20;
        let make = |mode: u32| -> Result<i32> {
            let fd = int(sys!(memfd_create, c"x", c::MFD_ALLOW_SEALING)?);
            sys!(fchmod, fd, mode)?;
            Ok(fd)
        };
        let fd = make(0o600)?;
        or_skip(sys!(fcntl, fd, c::F_ADD_SEALS, SEAL_EXEC), &[c::EINVAL], "F_SEAL_EXEC")?;
        assert_eq!(sys!(fcntl, fd, c::F_GET_SEALS)?, i64::from(SEAL_EXEC));
        assert_errno(sys!(fchmod, fd, 0o700), c::EPERM);
        sys!(fchmod, fd, 0o640)?;
        // A program is sealed against changes as well.
        let fd = make(0o700)?;
        sys!(fcntl, fd, c::F_ADD_SEALS, SEAL_EXEC)?;
        assert_eq!(sys!(fcntl, fd, c::F_GET_SEALS)?, 0x3e);
        assert_errno(sys!(fchmod, fd, 0o600), c::EPERM);
        assert_errno(sys!(write, fd, b"a", 1), c::EPERM);
    }
    fn a_mapping_grows_down_where_it_is_touched() {
        let (base, top) = growing()?;
        poke(top - 1, 1u8);
        poke(top - 300 * PAGE, 2u8);
        assert_eq!((peek::<u8>(top - 1), peek::<u8>(top - 300 * PAGE), peek::<u8>(top - 200 * PAGE)), (1, 2, 0));
        let maps = text(c"/proc/self/maps")?;
        assert!(maps.contains(&format!("{:x}-{:x} rw-p", top - 300 * PAGE, top + PAGE)), "{maps}");
        // Not near what others use; but what nobody can use is no neighbour.
        sys!(mmap, base, PAGE, RW, ANON | c::MAP_FIXED, -1, 0)?;
        toucher(base + GAP)?.dies_of(c::SIGSEGV)?;
        poke(base + GAP + PAGE, 1u8);
        sys!(mprotect, base, PAGE, c::PROT_NONE)?;
        poke(base + PAGE, 1u8);
        toucher(base - 1)?.dies_of(c::SIGSEGV)?;
    }
    fn a_mapping_grows_no_more_than_a_stack_may() {
        let (_, top) = growing()?;
        child(|| {
            let mut limit = [0u64; 2];
            sys!(getrlimit, c::RLIMIT_STACK, &mut limit)?;
            sys!(setrlimit, c::RLIMIT_STACK, &[16 * PAGE as u64, limit[1]])?;
            poke(top - 15 * PAGE, 1u8);
            toucher(top - 15 * PAGE - 1)?.dies_of(c::SIGSEGV)
        })?.succeeds()?;
    }
    fn a_gap_stays_below_a_mapping_that_grows() {
        let (_, top) = growing()?;
        let near = |addr: usize, flags: i32| sys!(mmap, addr, PAGE, RW, ANON | flags, -1, 0);
        assert_ne!(near(top - 16 * PAGE, 0)?, top as i64 - 16 * 4096);
        assert_eq!(near(top - GAP - PAGE, 0)?, top as i64 - 257 * 4096);
        assert_eq!(near(top - 16 * PAGE, c::MAP_FIXED_NOREPLACE)?, top as i64 - 16 * 4096);
    }
    fn anonymous_memory_is_zero_and_aligned() {
        let addr = memory::pages(4)?;
        assert_eq!(addr % PAGE, 0);
        assert!((addr..addr + 4 * PAGE).step_by(512).all(|a| peek::<u8>(a) == 0));
        poke(addr, 5u64);
        assert_eq!(peek::<u64>(addr), 5);
    }
    fn mmap_errors() {
        assert_errno(map(0, RW, ANON, -1), c::EINVAL);
        assert_errno(map(PAGE, RW, c::MAP_ANONYMOUS, -1), c::EINVAL);
        assert_errno(map(PAGE, RW, c::MAP_PRIVATE, -1), c::EBADF);
        assert_errno(map(PAGE, RW, c::MAP_PRIVATE, pipe(0)?[0]), c::ENODEV);
        assert_errno(map(PAGE, RW, c::MAP_PRIVATE, open(c".", c::O_RDONLY, 0)?), c::ENODEV);
        assert_errno(map(1 << 50, RW, ANON, -1), c::ENOMEM);
        let fd = file(c"f", b"x")?;
        assert_errno(sys!(mmap, 0, PAGE, RW, c::MAP_PRIVATE, fd, 1), c::EINVAL);
        assert_errno(sys!(mmap, PAGE + 1, PAGE, RW, ANON | c::MAP_FIXED, -1, 0), c::EINVAL);
        assert_errno(map(usize::MAX, RW, c::MAP_PRIVATE, fd), c::ENOMEM);
    }
    fn mmap_needs_the_mode() {
        close(file(c"f", b"x")?)?;
        let (r, w) = (open(c"f", c::O_RDONLY, 0)?, open(c"f", c::O_WRONLY, 0)?);
        map(PAGE, RW, c::MAP_PRIVATE, r)?;
        assert_errno(map(PAGE, RW, c::MAP_SHARED, r), c::EACCES);
        assert_errno(map(PAGE, c::PROT_READ, c::MAP_PRIVATE, w), c::EACCES);
        let addr = map(PAGE, c::PROT_READ, c::MAP_SHARED, r)?;
        assert_errno(sys!(mprotect, addr, PAGE, RW), c::EACCES);
    }
    fn private_file_mapping() {
        let fd = file(c"f", b"hello")?;
        let addr = map(PAGE, RW, c::MAP_PRIVATE, fd)?;
        assert_eq!(peek::<[u8; 6]>(addr), *b"hello\0");
        poke(addr, b'J');
        assert_eq!((peek::<u8>(addr), text(c"f")?.as_str()), (b'J', "hello"));
        close(fd)?;
        assert_eq!(peek::<u8>(addr + 1), b'e');
    }
    fn shared_file_mapping_is_the_file() {
        let fd = file(c"f", b"hello")?;
        let addr = map(PAGE, RW, c::MAP_SHARED, fd)?;
        poke(addr, b'J');
        assert_eq!(text(c"f")?, "Jello");
        sys!(pwrite64, fd, b"Y", 1, 4)?;
        assert_eq!(peek::<u8>(addr + 4), b'Y');
        sys!(msync, addr, PAGE, c::MS_SYNC)?;
        let other = map(PAGE, c::PROT_READ, c::MAP_SHARED, fd)?;
        poke(addr + 1, b'!');
        assert_eq!(peek::<u8>(other + 1), b'!');
    }
    fn shared_file_mapping_between_processes() {
        let fd = file(c"f", &[0; 4096])?;
        child(|| {
            let addr = map(PAGE, RW, c::MAP_SHARED, fd)?;
            poke(addr + 100, b'x');
            Ok(())
        })?.succeeds()?;
        assert_eq!(text(c"f")?.as_bytes()[100], b'x');
    }
    fn file_mapping_at_an_offset() {
        let fd = file(c"f", &[vec![1u8; PAGE], vec![2; PAGE]].concat())?;
        let addr = usize::try_from(sys!(mmap, 0, PAGE, c::PROT_READ, c::MAP_PRIVATE, fd, PAGE)?).unwrap_or(0);
        assert_eq!(peek::<u8>(addr), 2);
    }
    fn shared_anonymous_memory_survives_fork() {
        let words = shared()?;
        child(|| {
            words[5].store(42, SeqCst);
            Ok(())
        })?.succeeds()?;
        assert_eq!(words[5].load(SeqCst), 42);
    }
    fn private_memory_is_copied_by_fork() {
        let addr = memory::pages(100)?;
        memory::fill(addr, 100 * PAGE, 7);
        child(|| {
            assert_eq!(peek::<u8>(addr + 50 * PAGE), 7);
            memory::fill(addr, 100 * PAGE, 9);
            Ok(())
        })?.succeeds()?;
        assert!((0..100).all(|i| peek::<u8>(addr + i * PAGE) == 7));
    }
    fn fixed_mapping_replaces() {
        let addr = memory::pages(3)?;
        memory::fill(addr, 3 * PAGE, 1);
        sys!(mmap, addr + PAGE, PAGE, RW, ANON | c::MAP_FIXED, -1, 0)?;
        assert_eq!([0, 1, 2].map(|i| peek::<u8>(addr + i * PAGE)), [1, 0, 1]);
        assert_errno(memory::map_at(addr, PAGE), c::EEXIST);
    }
    fn hint_is_taken_when_free() {
        let hole = memory::hole()?;
        assert_eq!(crate::kit::size(sys!(mmap, hole, PAGE, RW, ANON, -1, 0)?), hole);
        assert_ne!(crate::kit::size(sys!(mmap, hole, PAGE, RW, ANON, -1, 0)?), hole);
    }
    fn low_addresses_are_refused() {
        crate::kit::as_nobody(|| {
            assert_errno(sys!(mmap, 0, PAGE, RW, ANON | c::MAP_FIXED, -1, 0), c::EPERM);
            Ok(())
        })?;
    }
    fn top_of_the_address_space_is_refused() {
        let top = 0x7fff_ffff_f000usize;
        assert_errno(sys!(mmap, top, PAGE, RW, ANON | c::MAP_FIXED, -1, 0), c::ENOMEM);
        assert_errno(sys!(munmap, top, 2 * PAGE), c::EINVAL);
    }
    fn munmap_in_the_middle() {
        let addr = memory::pages(3)?;
        sys!(munmap, addr + PAGE, 1)?;
        poke(addr, 1u8);
        poke(addr + 2 * PAGE, 1u8);
        assert_errno(sys!(write, pipe(0)?[1], addr + PAGE, 1), c::EFAULT);
        sys!(munmap, addr, 3 * PAGE)?;
        assert_errno(sys!(write, pipe(0)?[1], addr, 1), c::EFAULT);
    }
    fn munmap_errors() {
        let addr = memory::pages(1)?;
        assert_errno(sys!(munmap, addr + 1, PAGE), c::EINVAL);
        assert_errno(sys!(munmap, addr, 0), c::EINVAL);
        sys!(munmap, memory::hole()?, PAGE)?;
    }
    fn mprotect_takes_and_gives_access() {
        let addr = memory::pages(3)?;
        poke(addr + PAGE, 3u8);
        sys!(mprotect, addr + PAGE, PAGE, c::PROT_READ)?;
        assert_eq!(peek::<u8>(addr + PAGE), 3);
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(3);
        fault::store_3(addr + PAGE);
        assert_eq!(signal::count(c::SIGSEGV), 1);
        sys!(mprotect, addr, 3 * PAGE, RW)?;
        fault::store_3(addr + PAGE);
        assert_eq!((signal::count(c::SIGSEGV), peek::<u8>(addr + PAGE)), (1, 1));
    }
    fn mprotect_errors() {
        let addr = memory::pages(3)?;
        assert_errno(sys!(mprotect, addr + 1, PAGE, RW), c::EINVAL);
        assert_errno(sys!(mprotect, addr, PAGE, 0x100), c::EINVAL);
        sys!(munmap, addr + PAGE, PAGE)?;
        assert_errno(sys!(mprotect, addr, 3 * PAGE, RW), c::ENOMEM);
        assert_eq!(sys!(mprotect, addr, 0, RW)?, 0);
    }
    fn code_that_was_just_written_runs() {
        let addr = memory::pages(1)?;
        for value in [7u8, 9] {
            sys!(mprotect, addr, PAGE, RW)?;
            poke(addr, [0xb8, value, 0, 0, 0, 0xc3u8]);
            sys!(mprotect, addr, PAGE, c::PROT_READ | c::PROT_EXEC)?;
            assert_eq!(memory::run_code(addr), i32::from(value));
        }
    }
    fn system_call_in_code_that_was_just_written() {
        let addr = map(PAGE, RW | c::PROT_EXEC, ANON, -1)?;
        // mov eax, 39 (getpid); syscall; ret
        poke(addr, [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3u8]);
        for _ in 0..3 {
            assert_eq!(memory::run_code(addr), crate::kit::pid()?);
        }
        // The same place, now gettid by way of a number in another register: mov edx, 186; mov eax, edx
        poke(addr, [0xba, 186, 0, 0, 0, 0x89, 0xd0, 0x0f, 0x05, 0xc3u8]);
        assert_eq!(memory::run_code(addr), crate::kit::tid()?);
    }
    fn mremap_grows_shrinks_and_moves() {
        let addr = memory::pages(4)?;
        poke(addr, 0x11u8);
        assert_eq!(crate::kit::size(sys!(mremap, addr, 4 * PAGE, PAGE, 0)?), addr);
        assert_errno(sys!(write, pipe(0)?[1], addr + PAGE, 1), c::EFAULT);
        sys!(mmap, addr + PAGE, PAGE, RW, ANON | c::MAP_FIXED, -1, 0)?;
        assert_errno(sys!(mremap, addr, PAGE, 2 * PAGE, 0).and_then(|_| sys!(mremap, addr, PAGE, 64 * PAGE, 0)), c::ENOMEM);
    }
    fn mremap_moves_the_content() {
        let (addr, fence) = (memory::hole()?, PAGE);
        memory::map_at(addr, PAGE)?;
        memory::map_at(addr + fence, PAGE)?;
        poke(addr + 8, 0x22u8);
        let new = crate::kit::size(sys!(mremap, addr, PAGE, 20 * PAGE, c::MREMAP_MAYMOVE)?);
        assert_ne!(new, addr);
        assert_eq!((peek::<u8>(new + 8), peek::<u8>(new + 19 * PAGE)), (0x22, 0));
        assert_errno(sys!(write, pipe(0)?[1], addr, 1), c::EFAULT);
        let target = memory::pages(1)?;
        let flags = c::MREMAP_MAYMOVE | c::MREMAP_FIXED;
        assert_eq!(crate::kit::size(sys!(mremap, new, PAGE, PAGE, flags, target)?), target);
        assert_eq!(peek::<u8>(target + 8), 0x22);
    }
    fn mremap_errors() {
        let addr = memory::pages(2)?;
        assert_errno(sys!(mremap, addr + 1, PAGE, PAGE, 0), c::EINVAL);
        assert_errno(sys!(mremap, addr, PAGE, 0, 0), c::EINVAL);
        assert_errno(sys!(mremap, addr, PAGE, PAGE, 99), c::EINVAL);
        assert_errno(sys!(mremap, addr, PAGE, PAGE, c::MREMAP_FIXED, addr), c::EINVAL);
        assert_errno(sys!(mremap, memory::hole()?, PAGE, 2 * PAGE, c::MREMAP_MAYMOVE), c::EFAULT);
        assert_errno(sys!(mremap, addr, 2 * PAGE, PAGE, c::MREMAP_FIXED | c::MREMAP_MAYMOVE, addr), c::EINVAL);
    }
    fn a_private_mapping_of_a_file_takes_what_is_touched_of_it() {
        const LEN: usize = 8 << 30;
        let fd = int(sys!(open, c"large", c::O_RDWR | c::O_CREAT, 0o600)?);
        sys!(ftruncate, fd, LEN)?;
        let addr = crate::kit::size(sys!(mmap, 0, LEN, c::PROT_READ, c::MAP_PRIVATE, fd, 0)?);
        assert_eq!(peek::<u8>(addr + LEN - 1), 0);
        // What nobody has written in the mapping is the file's, whoever writes it.
        sys!(pwrite64, fd, b"x", 1, LEN - PAGE)?;
        assert_eq!(peek::<u8>(addr + LEN - PAGE), b'x');
        sys!(mprotect, addr + LEN - PAGE, PAGE, c::PROT_READ | c::PROT_WRITE)?;
        poke(addr + LEN - PAGE, b'y');
        let mut byte = [0_u8];
        sys!(pread64, fd, &mut byte, 1, LEN - PAGE)?;
        assert_eq!((byte[0], peek::<u8>(addr + LEN - PAGE)), (b'x', b'y'));
    }
    fn madvise_dontneed_zeroes() {
        let addr = memory::pages(2)?;
        memory::fill(addr, 2 * PAGE, 5);
        sys!(madvise, addr, PAGE, c::MADV_DONTNEED)?;
        assert_eq!((peek::<u8>(addr), peek::<u8>(addr + PAGE)), (0, 5));
    }
    fn madvise_of_others() {
        let addr = memory::pages(2)?;
        for advice in [c::MADV_NORMAL, c::MADV_RANDOM, c::MADV_SEQUENTIAL, c::MADV_WILLNEED, c::MADV_FREE, c::MADV_DONTFORK] {
            sys!(madvise, addr, PAGE, advice)?;
        }
        assert_errno(sys!(madvise, addr + 1, PAGE, c::MADV_NORMAL), c::EINVAL);
        assert_errno(sys!(madvise, addr, PAGE, 9999), c::EINVAL);
        assert_errno(sys!(madvise, memory::hole()?, PAGE, c::MADV_NORMAL), c::ENOMEM);
    }
    fn madvise_dontfork_and_wipeonfork() {
        let (gone, wiped) = (memory::pages(1)?, memory::pages(1)?);
        poke(wiped, 5u8);
        sys!(madvise, gone, PAGE, c::MADV_DONTFORK)?;
        sys!(madvise, wiped, PAGE, c::MADV_WIPEONFORK)?;
        child(|| {
            assert_eq!(peek::<u8>(wiped), 0);
            assert_errno(sys!(write, pipe(0)?[1], gone, 1), c::EFAULT);
            Ok(())
        })?.succeeds()?;
        assert_eq!(peek::<u8>(wiped), 5);
    }
    fn brk_moves_the_end() {
        let end = crate::kit::size(sys!(brk, 0)?);
        let new = end + 3 * PAGE + 17;
        assert_eq!(crate::kit::size(sys!(brk, new)?), new);
        poke(new - 1, 1u8);
        assert_eq!(peek::<u8>(end.next_multiple_of(PAGE)), 0);
        assert_eq!(crate::kit::size(sys!(brk, end)?), end);
        assert_eq!(crate::kit::size(sys!(brk, 1)?), end);
        sys!(brk, new)?;
        assert_eq!(peek::<u8>(new - 1), 0);
    }
    fn brk_is_inherited() {
        let end = sys!(brk, 0)?;
        child(|| {
            assert_eq!(sys!(brk, 0)?, end);
            sys!(brk, end + 4096)?;
            Ok(())
        })?.succeeds()?;
        assert_eq!(sys!(brk, 0)?, end);
    }
    fn msync_errors() {
        let addr = memory::pages(1)?;
        sys!(msync, addr, PAGE, c::MS_ASYNC)?;
        assert_errno(sys!(msync, addr + 1, PAGE, c::MS_SYNC), c::EINVAL);
        assert_errno(sys!(msync, addr, PAGE, c::MS_SYNC | c::MS_ASYNC), c::EINVAL);
        assert_errno(sys!(msync, memory::hole()?, PAGE, c::MS_SYNC), c::ENOMEM);
    }
    fn mincore_tells_what_is_there() {
        let addr = memory::pages(2)?;
        let mut found = [0u8; 2];
        poke(addr, 1u8);
        sys!(mincore, addr, 2 * PAGE, &mut found)?;
        assert_eq!(found[0] & 1, 1);
        assert_errno(sys!(mincore, addr + 1, PAGE, &mut found), c::EINVAL);
        assert_errno(sys!(mincore, memory::hole()?, PAGE, &mut found), c::ENOMEM);
        assert_errno(sys!(mincore, addr, PAGE, memory::hole()?), c::EFAULT);
    }
    fn mlock_and_munlock() {
        let addr = memory::pages(2)?;
        or_skip(sys!(mlock, addr, PAGE), &[c::EPERM, c::ENOMEM], "mlock")?;
        sys!(munlock, addr, PAGE)?;
        assert_errno(sys!(mlock, memory::hole()?, PAGE), c::ENOMEM);
        assert_errno(sys!(munlock, memory::hole()?, PAGE), c::ENOMEM);
        sys!(munlockall)?;
        assert_errno(sys!(mlockall, 99), c::EINVAL);
    }
    fn memfd_is_a_file_in_memory() {
        let fd = int(sys!(memfd_create, c"name", c::MFD_CLOEXEC)?);
        write(fd, b"hello")?;
        sys!(lseek, fd, 0, c::SEEK_SET)?;
        assert_eq!(read(fd, 9)?, b"hello");
        sys!(ftruncate, fd, 3 * PAGE)?;
        let addr = map(3 * PAGE, RW, c::MAP_SHARED, fd)?;
        poke(addr + 2 * PAGE, b'x');
        let mut byte = [0u8; 1];
        sys!(pread64, fd, &mut byte, 1, 2 * PAGE)?;
        assert_eq!((peek::<u8>(addr), &byte), (b'h', b"x"));
        let name = format!("/proc/self/fd/{fd}");
        let target = std::fs::read_link(name).map_or(String::new(), |p| p.display().to_string());
        assert_eq!(target, "/memfd:name (deleted)");
    }
    fn memfd_errors() {
        assert_errno(sys!(memfd_create, c"x", 0x4000_0000), c::EINVAL);
        assert_errno(sys!(memfd_create, memory::hole()?, 0), c::EFAULT);
        let long = [b'x'; 250];
        let name = [&long[..], b"\0"].concat();
        assert_errno(sys!(memfd_create, &name[..], 0), c::EINVAL);
    }
    fn memfd_seals() {
        let fd = int(sys!(memfd_create, c"x", c::MFD_ALLOW_SEALING)?);
        write(fd, b"hello")?;
        sys!(fcntl, fd, c::F_ADD_SEALS, c::F_SEAL_SHRINK | c::F_SEAL_GROW)?;
        assert_errno(sys!(ftruncate, fd, 1), c::EPERM);
        assert_errno(sys!(ftruncate, fd, 100), c::EPERM);
        sys!(fcntl, fd, c::F_ADD_SEALS, c::F_SEAL_WRITE | c::F_SEAL_SEAL)?;
        assert_errno(sys!(pwrite64, fd, b"x", 1, 0), c::EPERM);
        assert_errno(map(PAGE, RW, c::MAP_SHARED, fd), c::EPERM);
        assert_errno(sys!(fcntl, fd, c::F_ADD_SEALS, 0), c::EPERM);
        let unsealable = int(sys!(memfd_create, c"y", 0)?);
        assert_eq!(sys!(fcntl, unsealable, c::F_GET_SEALS)?, i64::from(c::F_SEAL_SEAL));
    }
    fn dev_zero_maps() {
        let fd = open(c"/dev/zero", c::O_RDWR, 0)?;
        let addr = map(PAGE, RW, c::MAP_PRIVATE, fd)?;
        assert_eq!(peek::<u8>(addr), 0);
        poke(addr, 1u8);
    }
    fn mapping_survives_unlink_and_rename() {
        let fd = file(c"f", b"hello")?;
        let addr = map(PAGE, c::PROT_READ, c::MAP_SHARED, fd)?;
        sys!(rename, c"f", c"g")?;
        sys!(unlink, c"g")?;
        close(fd)?;
        assert_eq!(peek::<u8>(addr), b'h');
    }
    fn shrunk_file_takes_its_pages_along() {
        let fd = file(c"f", &[1; 2 * PAGE])?;
        let addr = map(2 * PAGE, c::PROT_READ, c::MAP_SHARED, fd)?;
        assert_eq!(peek::<u8>(addr + PAGE), 1);
        sys!(ftruncate, fd, 100)?;
        signal::record(c::SIGBUS, 0)?;
        signal::step_over(2);
        fault::load_2(addr + PAGE);
        assert_eq!((signal::count(c::SIGBUS), peek::<u8>(addr + 100)), (1, 0));
    }
    fn address_space_limit_holds() {
        child(|| {
            sys!(setrlimit, c::RLIMIT_AS, &[1u64 << 30, 1 << 30])?;
            assert_errno(map(2 << 30, RW, ANON, -1), c::ENOMEM);
            map(1 << 20, RW, ANON, -1)?;
            process::exit(0)
        })?.succeeds()?;
    }
    fn huge_reservation_costs_nothing() {
        let addr = map(64 << 30, c::PROT_NONE, ANON | c::MAP_NORESERVE, -1)?;
        sys!(mprotect, addr + (1 << 34), PAGE, RW)?;
        poke(addr + (1 << 34), 1u8);
        sys!(munmap, addr, 64usize << 30)?;
    }
    fn many_mappings() {
        let flags = [c::PROT_READ, RW];
        let addrs: Vec<usize> = (0..500).map_while(|i| map(PAGE, flags[i % 2], SHARED, -1).ok()).collect();
        assert_eq!(addrs.len(), 500);
        for addr in addrs {
            sys!(munmap, addr, PAGE)?;
        }
        let mut usage: c::rusage = sys::zeroed();
        sys!(getrusage, c::RUSAGE_SELF, &mut usage)?;
        assert!(usage.ru_maxrss > 0);
    }
    fn locked_memory_has_a_limit() {
        crate::kit::as_nobody(|| {
            let addr = memory::pages(4)?;
            sys!(setrlimit, c::RLIMIT_MEMLOCK, &[PAGE as u64, PAGE as u64])?;
            for result in [sys!(mlock, addr, 2 * PAGE), sys!(mlock2, addr, 2 * PAGE, 0), sys!(mlockall, c::MCL_CURRENT)] {
                assert_errno(result, c::ENOMEM);
            }
            assert_errno(map(2 * PAGE, RW, ANON | c::MAP_LOCKED, -1), c::EAGAIN);
            sys!(mlock, addr, PAGE)?;
            assert_errno(sys!(mremap, addr, PAGE, 8 * PAGE, c::MREMAP_MAYMOVE), c::EAGAIN);
            assert_errno(sys!(msync, addr, PAGE, c::MS_INVALIDATE), c::EBUSY);
            assert_errno(sys!(madvise, addr, PAGE, c::MADV_DONTNEED), c::EINVAL);
            sys!(munlock, addr, PAGE)?;
            sys!(setrlimit, c::RLIMIT_MEMLOCK, &[0u64, 0])?;
            for result in [sys!(mlock, addr, PAGE), sys!(mlock2, addr, PAGE, 0), sys!(mlockall, c::MCL_CURRENT)] {
                assert_errno(result, c::EPERM);
            }
            assert_errno(map(PAGE, RW, ANON | c::MAP_LOCKED, -1), c::EPERM);
            Ok(())
        })?;
    }
    fn ranges_that_wrap_or_are_not_there() {
        let (addr, hole) = (memory::pages(1)?, memory::hole()?);
        for result in [
            sys!(mlock, addr, usize::MAX - PAGE),
            sys!(munlock, addr, usize::MAX - PAGE),
            sys!(mlock2, addr, PAGE, 99),
            sys!(madvise, addr, usize::MAX - PAGE, c::MADV_NORMAL),
            sys!(munmap, addr, usize::MAX - PAGE),
        ] {
            assert_errno(result, c::EINVAL);
        }
        for result in [
            sys!(mlock2, hole, PAGE, 0),
            sys!(munlock, hole, PAGE),
            sys!(mprotect, hole, PAGE, RW),
            sys!(mprotect, addr, usize::MAX - PAGE, RW),
            sys!(msync, hole, PAGE, c::MS_ASYNC),
            sys!(mincore, hole, PAGE, addr),
            sys!(madvise, hole, PAGE, c::MADV_DONTNEED),
        ] {
            assert_errno(result, c::ENOMEM);
        }
        assert_errno(sys!(mlockall, 0), c::EINVAL);
        assert_errno(sys!(msync, addr, PAGE, 1 << 10), c::EINVAL);
        let fd = file(c"f", &[1; PAGE])?;
        let mapped = map(PAGE, RW, c::MAP_SHARED, fd)?;
        assert_errno(sys!(madvise, mapped, PAGE, c::MADV_FREE), c::EINVAL);
        assert_errno(sys!(madvise, mapped, PAGE, c::MADV_WIPEONFORK), c::EINVAL);
        assert_errno(sys!(get_mempolicy, 0, 0, 0, 0, 1 << 10), c::EINVAL);
    }
    fn seals_hold_against_every_change() {
        let fd = int(sys!(memfd_create, c"x", c::MFD_ALLOW_SEALING)?);
        write(fd, &[1; PAGE])?;
        sys!(fcntl, fd, c::F_ADD_SEALS, c::F_SEAL_WRITE | c::F_SEAL_SHRINK | c::F_SEAL_GROW)?;
        assert_errno(write(fd, b"x"), c::EPERM);
        assert_errno(sys!(pwrite64, fd, b"x", 1, 0), c::EPERM);
        assert_errno(sys!(fallocate, fd, 0, 0, 2 * PAGE), c::EPERM);
        assert_errno(sys!(fallocate, fd, c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_KEEP_SIZE, 0, PAGE), c::EPERM);
        assert_errno(sys!(ftruncate, fd, 0), c::EPERM);
        let name = crate::kit::name(&format!("/proc/self/fd/{fd}"));
        assert_errno(sys!(truncate, name.as_c_str(), 0), c::EPERM);
        // Older kernels refuse the mapping, later ones that it be written.
        match map(PAGE, c::PROT_READ, c::MAP_SHARED, fd) {
            Ok(addr) => assert_errno(sys!(mprotect, addr, PAGE, RW), c::EACCES),
            refused => assert_errno(refused, c::EPERM),
        }
        assert_errno(sys!(fcntl, fd, c::F_ADD_SEALS, 1 << 20), c::EINVAL);
        assert_errno(sys!(fcntl, open(c".", c::O_RDONLY, 0)?, c::F_GET_SEALS), c::EINVAL);
    }
}

/// What stays free below a mapping that grows.
const GAP: usize = 256 * PAGE;

/// A free range, and a page with MAP_GROWSDOWN at its end.
fn growing() -> Result<(usize, usize)> {
    let len = 1024 * PAGE;
    let base = map(len + 2 * PAGE, c::PROT_NONE, ANON, -1)?;
    sys!(munmap, base, len + 2 * PAGE)?;
    let (base, top) = (base + PAGE, base + len);
    sys!(mmap, top, PAGE, RW, ANON | c::MAP_FIXED | c::MAP_GROWSDOWN, -1, 0)?;
    Ok((base, top))
}

fn toucher(addr: usize) -> Result<Child> {
    child(|| {
        poke(addr, 1u8);
        Ok(())
    })
}
