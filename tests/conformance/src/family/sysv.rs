//! System V shared memory, semaphores and message queues; POSIX message queues.

use crate::ipc::{Queue, Segment, Semaphores, available};
use crate::kit::{Fail, as_nobody, assert_errno, assert_interrupted, assert_never_restarted, cases, child, int, ms, now, or_skip, pid, restarted};
use crate::sys::{self, Result, memory, sys};
use libc as c;

const IPC_INFO: i32 = 3;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;
const GETVAL: i32 = 12;
const GETPID: i32 = 11;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const WAIT_FOR_ZERO: i16 = 0;

cases! { sysv;
    fn limits_are_told_as_in_proc() {
        let in_proc = |name: &str| -> Result<Vec<u64>> {
            let all = crate::kit::text(&crate::kit::name(&format!("/proc/sys/kernel/{name}")))?;
            Ok(all.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect())
        };
        let mut shm = [0u64; 9];
        available(sys!(shmctl, 0, IPC_INFO, &mut shm))?;
        let one = |name: &str| in_proc(name).map(|all| all[0]);
        assert_eq!(shm[..5], [one("shmmax")?, 1, one("shmmni")?, one("shmmni")?, one("shmall")?]);
        let mut msg = [0u32; 8];
        sys!(msgctl, 0, IPC_INFO, &mut msg)?;
        let told = [msg[2], msg[3], msg[4]].map(u64::from);
        assert_eq!(told, [one("msgmax")?, one("msgmnb")?, one("msgmni")?]);
        let mut sem = [0u32; 10];
        sys!(semctl, 0, 0, IPC_INFO, &mut sem)?;
        let told = [sem[4], sem[2], sem[5], sem[1]].map(u64::from);
        assert_eq!((told.to_vec(), sem[8]), (in_proc("sem")?, 32767));
        assert_errno(sys!(shmctl, 0, IPC_INFO, 8), c::EFAULT);
        assert_errno(sys!(msgctl, 0, IPC_INFO, 8), c::EFAULT);
        assert_errno(sys!(semctl, 0, 0, IPC_INFO, 8), c::EFAULT);
        assert_errno(sys!(msgctl, -1, IPC_INFO, &mut msg), c::EINVAL);
    }
    fn what_is_used_is_told_and_listed_by_place() {
        let (segment, queue, set) = (Segment::new(10_000)?, Queue::new()?, Semaphores::new(7)?);
        queue.send(1, "ten bytes.", 0)?;
        queue.send(1, "five.", 0)?;
        let mut shm = [0u64; 6];
        let highest = int(sys!(shmctl, 0, SHM_INFO, &mut shm)?);
        assert!((shm[0] & 0xffff_ffff) >= 1 && shm[1] >= 3, "{shm:?}");
        let mut info = sys::zeroed::<c::shmid_ds>();
        assert!((0..=highest).any(|place| sys!(shmctl, place, SHM_STAT, &mut info) == Ok(segment.0.into()) && info.shm_segsz == 10_000));
        assert!((0..=highest).any(|place| sys!(shmctl, place, SHM_STAT_ANY, &mut info) == Ok(segment.0.into())));
        assert_errno(sys!(shmctl, highest + 1, SHM_STAT, &mut info), c::EINVAL);
        let mut msg = [0u32; 8];
        let highest = int(sys!(msgctl, 0, MSG_INFO, &mut msg)?);
        assert!(msg[0] >= 1 && msg[1] >= 2 && msg[6] >= 15, "{msg:?}");
        let mut info = sys::zeroed::<c::msqid_ds>();
        assert!((0..=highest).any(|place| sys!(msgctl, place, MSG_STAT, &mut info) == Ok(queue.0.into()) && info.msg_qnum == 2));
        assert!((0..=highest).any(|place| sys!(msgctl, place, MSG_STAT_ANY, &mut info) == Ok(queue.0.into())));
        let mut sem = [0u32; 10];
        let highest = int(sys!(semctl, 0, 0, SEM_INFO, &mut sem)?);
        assert!(sem[7] >= 1 && sem[9] >= 7, "{sem:?}");
        let mut info = sys::zeroed::<c::semid_ds>();
        assert!((0..=highest).any(|place| sys!(semctl, place, 0, SEM_STAT, &mut info) == Ok(set.0.into()) && info.sem_nsems == 7));
        assert!((0..=highest).any(|place| sys!(semctl, place, 0, SEM_STAT_ANY, &mut info) == Ok(set.0.into())));
        as_nobody(|| {
            let place = |id: i32| id & 0x7fff;
            let mut info = sys::zeroed::<c::shmid_ds>();
            assert_errno(sys!(shmctl, place(segment.0), SHM_STAT, &mut info), c::EACCES);
            sys!(shmctl, place(segment.0), SHM_STAT_ANY, &mut info)?;
            Ok(())
        })?;
    }
    fn an_id_is_not_soon_anothers() {
        let first = Queue::new()?.0;
        for _ in 0..100 {
            assert_ne!(Queue::new()?.0, first);
        }
    }
    fn adjustments_are_done_where_nobody_else_has_them() {
        let set = Semaphores::new(1)?;
        set.control(0, c::SETVAL, 5)?;
        child(|| {
            set.operate(&[(0, -2, c::SEM_UNDO)])?;
            assert_eq!(set.control(0, c::GETVAL, 0)?, 3);
            sys!(unshare, c::CLONE_SYSVSEM)?;
            assert_eq!(set.control(0, c::GETVAL, 0)?, 5);
            Ok(())
        })?.succeeds()?;
        assert_eq!(set.control(0, c::GETVAL, 0)?, 5);
    }
    fn shared_memory_between_processes() {
        let segment = Segment::new(10_000)?;
        let addr = segment.attach(0)?;
        child(|| {
            memory::poke(segment.attach(0)?, 42u8);
            Ok(())
        })?.succeeds()?;
        assert_eq!(memory::peek::<u8>(addr), 42);
        let mut info: c::shmid_ds = sys::zeroed();
        sys!(shmctl, segment.0, c::IPC_STAT, &mut info)?;
        assert_eq!((info.shm_segsz, info.shm_nattch, info.shm_cpid), (10_000, 1, pid()?));
        sys!(shmdt, addr)?;
        sys!(shmctl, segment.0, c::IPC_STAT, &mut info)?;
        assert_eq!(info.shm_nattch, 0);
    }
    fn objects_are_listed_in_proc() {
        let segment = Segment::new(10_000)?;
        let queue = Queue::new()?;
        sys!(msgsnd, queue.0, &[1u64, 2], 8, 0)?;
        let row = |name: &str, id: i32| -> Result<Vec<u64>> {
            let all = crate::kit::text(&crate::kit::name(&format!("/proc/sysvipc/{name}")))?;
            let rows = all.lines().skip(1).map(|line| line.split_whitespace().map(|f| f.parse().unwrap_or(u64::MAX)).collect::<Vec<_>>());
            Ok(rows.into_iter().find(|fields| fields.get(1) == Some(&u64::from(id.cast_unsigned()))).unwrap_or_default())
        };
        let (uid, me) = (sys!(geteuid)?.cast_unsigned(), u64::from(pid()?.cast_unsigned()));
        assert_eq!(row("shm", segment.0)?[2..10], [600, 10_000, me, 0, 0, uid, sys!(getegid)?.cast_unsigned(), uid]);
        assert_eq!(row("msg", queue.0)?[2..8], [600, 8, 1, me, 0, uid]);
        for (name, first) in [("shm", "shmid"), ("msg", "msqid"), ("sem", "semid")] {
            let all = crate::kit::text(&crate::kit::name(&format!("/proc/sysvipc/{name}")))?;
            assert!(all.starts_with(&format!("       key      {first} perms ")), "{all}");
        }
        for name in ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni"] {
            let all = crate::kit::text(&crate::kit::name(&format!("/proc/sys/kernel/{name}")))?;
            assert!(all.split_whitespace().all(|number| number.parse::<u64>().is_ok_and(|n| n > 0)), "{name}: {all}");
        }
    }
    fn attachments_are_inherited_and_counted() {
        let segment = Segment::new(3 * memory::PAGE)?;
        let attached = || -> Result<u64> {
            let mut info: c::shmid_ds = sys::zeroed();
            sys!(shmctl, segment.0, c::IPC_STAT, &mut info)?;
            Ok(info.shm_nattch)
        };
        let (one, two) = (segment.attach(0)?, segment.attach(c::SHM_RDONLY)?);
        memory::poke(one + 2 * memory::PAGE, 7u8);
        assert_eq!((attached()?, memory::peek::<u8>(two + 2 * memory::PAGE)), (2, 7));
        child(|| {
            assert_eq!(attached()?, 4);
            sys!(shmdt, one)?;
            assert_eq!(attached()?, 3);
            Ok(())
        })?.succeeds()?;
        assert_eq!(attached()?, 2);
        assert_errno(sys!(shmdt, one + memory::PAGE), c::EINVAL);
        sys!(shmdt, one)?;
        sys!(shmdt, two)?;
        assert_eq!(attached()?, 0);
    }
    fn removed_segment_lives_while_attached() {
        let segment = Segment::new(4096)?;
        let addr = segment.attach(0)?;
        sys!(shmctl, segment.0, c::IPC_RMID, 0)?;
        memory::poke(addr, 1u8);
        child(|| {
            assert_eq!(memory::peek::<u8>(addr), 1);
            Ok(())
        })?.succeeds()?;
        sys!(shmdt, addr)?;
        assert_errno(segment.attach(0), c::EINVAL);
    }
    fn read_only_attachment() {
        let segment = Segment::new(4096)?;
        let addr = segment.attach(c::SHM_RDONLY)?;
        assert_errno(sys!(read, crate::kit::file(c"f", b"x")?, addr, 1), c::EFAULT);
    }
    fn attachment_at_an_address() {
        let segment = Segment::new(4096)?;
        let hole = memory::hole()?;
        assert_eq!(crate::kit::size(sys!(shmat, segment.0, hole, 0)?), hole);
        assert_errno(sys!(shmat, segment.0, hole, 0), c::EINVAL);
        assert_errno(sys!(shmat, segment.0, hole + 1, 0), c::EINVAL);
        sys!(shmat, segment.0, hole + 1, c::SHM_RND | c::SHM_REMAP)?;
    }
    fn shared_memory_errors() {
        let segment = Segment::new(4096)?;
        assert_errno(sys!(shmget, c::IPC_PRIVATE, 0, 0o600), c::EINVAL);
        assert_errno(sys!(shmget, 0x7e57_0001, 4096, 0), c::ENOENT);
        assert_errno(sys!(shmat, 0x7fff_fff0, 0, 0), c::EINVAL);
        assert_errno(sys!(shmdt, memory::hole()?), c::EINVAL);
        assert_errno(sys!(shmctl, segment.0, 99, 0), c::EINVAL);
        assert_errno(sys!(shmctl, segment.0, c::IPC_STAT, memory::hole()?), c::EFAULT);
        as_nobody(|| {
            assert_errno(segment.attach(0), c::EACCES);
            assert_errno(sys!(shmctl, segment.0, c::IPC_RMID, 0), c::EPERM);
            Ok(())
        })?;
    }
    fn segments_by_key() {
        let key = 0x4300_0000 | pid()?;
        let first = Segment(int(available(sys!(shmget, key, 4096, c::IPC_CREAT | c::IPC_EXCL | 0o600))?));
        assert_eq!(int(sys!(shmget, key, 100, 0)?), first.0);
        assert_errno(sys!(shmget, key, 4096, c::IPC_CREAT | c::IPC_EXCL | 0o600), c::EEXIST);
        assert_errno(sys!(shmget, key, 8192, 0), c::EINVAL);
    }
    fn semaphores_count() {
        let set = Semaphores::new(3)?;
        set.control(0, SETVAL, 5)?;
        set.operate(&[(0, -2, 0), (1, 7, 0)])?;
        assert_eq!((set.control(0, GETVAL, 0)?, set.control(1, GETVAL, 0)?), (3, 7));
        assert_eq!(set.control(0, GETPID, 0)?, pid()?.into());
        let mut all = [0u16; 3];
        sys!(semctl, set.0, 0, GETALL, &mut all)?;
        assert_eq!(all, [3, 7, 0]);
        sys!(semctl, set.0, 0, SETALL, &[1u16, 2, 3])?;
        assert_eq!(set.control(2, GETVAL, 0)?, 3);
    }
    fn semaphore_operations_are_all_or_nothing() {
        let set = Semaphores::new(2)?;
        assert_errno(set.operate(&[(0, 1, 0), (1, -1, c::IPC_NOWAIT)]), c::EAGAIN);
        assert_eq!(set.control(0, GETVAL, 0)?, 0);
        set.operate(&[(0, WAIT_FOR_ZERO, 0)])?;
        set.operate(&[(0, 1, 0)])?;
        assert_errno(set.operate(&[(0, WAIT_FOR_ZERO, c::IPC_NOWAIT)]), c::EAGAIN);
    }
    fn semaphore_wait_between_processes() {
        let set = Semaphores::new(1)?;
        let other = child(|| Ok(set.operate(&[(0, 1, 0)])?))?;
        set.operate(&[(0, -1, 0)])?;
        other.succeeds()?;
    }
    fn semaphore_undo_at_exit() {
        let set = Semaphores::new(1)?;
        set.control(0, SETVAL, 3)?;
        child(|| {
            set.operate(&[(0, -2, c::SEM_UNDO)])?;
            assert_eq!(set.control(0, GETVAL, 0)?, 1);
            Ok(())
        })?.succeeds()?;
        assert_eq!(set.control(0, GETVAL, 0)?, 3);
    }
    fn semaphore_removed_while_waiting() {
        let set = Semaphores::new(1)?;
        let other = child(|| {
            match set.operate(&[(0, -1, 0)]) {
                Err(sys::Errno(c::EIDRM | c::EINVAL)) => Ok(()),
                result => panic!("{result:?}"),
            }
        })?;
        crate::kit::until(|| set.control(0, GETNCNT, 0).is_ok_and(|n| n == 1));
        sys!(semctl, set.0, 0, c::IPC_RMID, 0)?;
        other.succeeds()?;
        assert_errno(set.operate(&[(0, 1, 0)]), c::EINVAL);
    }
    fn who_waits_for_two_semaphores_is_counted_where_it_waits() {
        let set = Semaphores::new(2)?;
        let takes_both = child(|| Ok(set.operate(&[(0, -1, 0), (1, -1, 0)])?))?;
        let waiting = || Result::Ok([set.control(0, GETNCNT, 0)?, set.control(1, GETNCNT, 0)?]);
        crate::kit::until(|| waiting() == Ok([1, 0]));
        set.operate(&[(0, 1, 0)])?;
        assert_eq!(waiting()?, [0, 1]);
        set.control(0, SETVAL, 0)?;
        assert_eq!(waiting()?, [1, 0]);
        set.operate(&[(0, 1, 0), (1, 1, 0)])?;
        takes_both.succeeds()?;
        assert_eq!(waiting()?, [0, 0]);
    }
    fn timed_operations_go_on_end_and_are_removed() {
        let set = Semaphores::new(1)?;
        let id = set.0;
        let timed = move |change: u16| sys!(semtimedop, id, &[0u16, change, 0], 1, &ms(3_600_000));
        timed(1)?;
        timed(u16::MAX)?;
        std::thread::scope(|scope| {
            let waiter = scope.spawn(move || timed(u16::MAX));
            crate::kit::until(|| set.control(0, GETNCNT, 0) == Ok(1));
            set.control(0, c::IPC_RMID, 0)?;
            let Ok(result) = waiter.join() else { panic!("the thread failed") };
            assert_errno(result, c::EIDRM);
            Ok::<(), Fail>(())
        })?;
        assert_errno(timed(1), c::EINVAL);
    }
    fn semaphore_waits_end() {
        let set = Semaphores::new(1)?;
        assert_never_restarted(|| set.operate(&[(0, -1, 0)]))?;
        let begin = now(c::CLOCK_MONOTONIC)?;
        let take = [0u16, u16::MAX, 0];
        assert_errno(sys!(semtimedop, set.0, &take, 1, &ms(20)), c::EAGAIN);
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 20_000_000);
    }
    fn semaphore_errors() {
        let set = Semaphores::new(2)?;
        assert_errno(set.operate(&[(5, 1, 0)]), c::EFBIG);
        assert_errno(set.operate(&[(0, 32_767, 0), (0, 1, 0)]), c::ERANGE);
        assert_errno(set.operate(&[]), c::EINVAL);
        assert_errno(set.control(9, GETVAL, 0), c::EINVAL);
        assert_errno(set.control(0, SETVAL, 40_000), c::ERANGE);
        assert_errno(sys!(semget, c::IPC_PRIVATE, 0, 0o600), c::EINVAL);
        assert_errno(sys!(semget, 0x7e57_0002, 1, 0), c::ENOENT);
        assert_errno(sys!(semop, set.0, memory::hole()?, 1), c::EFAULT);
        as_nobody(|| {
            assert_errno(set.operate(&[(0, 1, 0)]), c::EACCES);
            Ok(())
        })?;
    }
    fn messages_by_type() {
        let queue = Queue::new()?;
        for (kind, content) in [(1, "one"), (3, "three"), (2, "two"), (1, "uno")] {
            queue.send(kind, content, 0)?;
        }
        assert_eq!(queue.receive(3, 99, 0)?, (3, "three".into()));
        assert_eq!(queue.receive(-2, 99, 0)?, (1, "one".into()));
        assert_eq!(queue.receive(0, 99, 0)?, (2, "two".into()));
        assert_eq!(queue.receive(5, 99, c::MSG_EXCEPT)?, (1, "uno".into()));
        assert_errno(queue.receive(0, 99, c::IPC_NOWAIT), c::ENOMSG);
    }
    fn message_waits_and_is_interrupted() {
        let queue = Queue::new()?;
        let other = child(|| Ok(queue.send(7, "hello", 0)?))?;
        assert_eq!(queue.receive(0, 99, 0)?, (7, "hello".into()));
        other.succeeds()?;
        assert_never_restarted(|| queue.receive(0, 99, 0))?;
    }
    fn message_errors() {
        let queue = Queue::new()?;
        assert_errno(queue.send(0, "x", 0), c::EINVAL);
        queue.send(1, "long", 0)?;
        assert_errno(queue.receive(0, 2, 0), c::E2BIG);
        assert_eq!(queue.receive(0, 2, c::MSG_NOERROR)?, (1, "lo".into()));
        assert_errno(sys!(msgget, 0x7e57_0003, 0), c::ENOENT);
        assert_errno(sys!(msgsnd, queue.0, memory::hole()?, 1, 0), c::EFAULT);
        assert_errno(sys!(msgctl, queue.0, 99, 0), c::EINVAL);
        let mut info: c::msqid_ds = sys::zeroed();
        sys!(msgctl, queue.0, c::IPC_STAT, &mut info)?;
        assert_eq!((info.msg_qnum, info.msg_lspid), (0, pid()?));
        while queue.send(1, &"x".repeat(4000), c::IPC_NOWAIT).is_ok() {}
        assert_errno(queue.send(1, &"x".repeat(4000), c::IPC_NOWAIT), c::EAGAIN);
    }
    fn posix_queue_by_priority() {
        let queue = PosixQueue::new(c::O_RDWR)?;
        queue.send("low", 1)?;
        queue.send("high", 9)?;
        queue.send("lower", 0)?;
        assert_eq!(queue.receive()?, ("high".into(), 9));
        assert_eq!((queue.receive()?.0, queue.receive()?.0), ("low".to_owned(), "lower".to_owned()));
        let mut attributes = [0i64; 8];
        sys!(mq_getsetattr, queue.0, 0, &mut attributes)?;
        assert_eq!(attributes[1..4], [4, 64, 0]);
    }
    fn posix_queue_limits_and_waits() {
        let queue = PosixQueue::new(c::O_RDWR)?;
        for _ in 0..4 {
            queue.send("x", 0)?;
        }
        assert_errno(sys!(mq_timedsend, queue.0, b"x", 1, 0, &ms(1)), c::ETIMEDOUT);
        assert_errno(sys!(mq_timedsend, queue.0, &[0u8; 65], 65, 0, 0), c::EMSGSIZE);
        assert_errno(sys!(mq_timedsend, queue.0, b"x", 1, 40_000, 0), c::EINVAL);
        assert_errno(sys!(mq_timedreceive, queue.0, &mut [0u8; 8], 8, 0, 0), c::EMSGSIZE);
        for _ in 0..4 {
            queue.receive()?;
        }
        assert_interrupted(|| queue.receive())?;
        let got = restarted(|| queue.receive(), || { let _ = queue.send("late", 0); })??;
        assert_eq!(got.0, "late");
        assert_errno(sys!(mq_open, c"none-such", c::O_RDWR, 0, 0), c::ENOENT);
        assert_errno(sys!(mq_unlink, c"none-such"), c::ENOENT);
    }
    fn objects_of_others_are_eacces_and_eperm() {
        let key = 0x4400_0000 | pid()?;
        let flags = c::IPC_CREAT | c::IPC_EXCL | 0o600;
        let segment = Segment(int(available(sys!(shmget, key, 4096, flags))?));
        let set = Semaphores(int(available(sys!(semget, key, 2, flags))?));
        let queue = Queue(int(available(sys!(msgget, key, flags))?));
        assert_errno(sys!(semget, key, 2, flags), c::EEXIST);
        assert_errno(sys!(msgget, key, flags), c::EEXIST);
        assert_errno(sys!(semget, key, 3, 0), c::EINVAL);
        let room = memory::pages(1)?;
        as_nobody(|| {
            for result in [
                sys!(shmget, key, 4096, 0o600),
                sys!(semget, key, 2, 0o600),
                sys!(msgget, key, 0o600),
                sys!(shmat, segment.0, 0, c::SHM_RDONLY),
                sys!(shmctl, segment.0, c::IPC_STAT, room),
                sys!(semctl, set.0, 0, c::IPC_STAT, room),
                sys!(msgctl, queue.0, c::IPC_STAT, room),
                sys!(semctl, set.0, 0, GETVAL, 0),
                sys!(semctl, set.0, 0, GETALL, room),
                sys!(semctl, set.0, 0, SETVAL, 1),
                sys!(semctl, set.0, 0, SETALL, room),
                sys!(semop, set.0, &[0u16, 1, 0], 1),
                sys!(semtimedop, set.0, &[0u16, 1, 0], 1, 0),
                sys!(msgsnd, queue.0, &[1u64, 1], 8, 0),
                sys!(msgrcv, queue.0, room, 8, 0, 0),
            ] {
                assert_errno(result, c::EACCES);
            }
            for result in [
                sys!(shmctl, segment.0, c::IPC_RMID, 0),
                sys!(semctl, set.0, 0, c::IPC_RMID, 0),
                sys!(msgctl, queue.0, c::IPC_RMID, 0),
                sys!(shmctl, segment.0, c::IPC_SET, room),
                sys!(semctl, set.0, 0, c::IPC_SET, room),
                sys!(msgctl, queue.0, c::IPC_SET, room),
            ] {
                assert_errno(result, c::EPERM);
            }
            Ok(())
        })?;
    }
    fn operations_out_of_bounds() {
        let set = Semaphores::new(2)?;
        let many = vec![[0u16, 0, 0]; 501];
        let timed = |list: &[[u16; 3]], limit: usize| sys!(semtimedop, set.0, list, list.len(), limit);
        assert_errno(sys!(semop, set.0, &many[..], many.len()), c::E2BIG);
        assert_errno(timed(&many, 0), c::E2BIG);
        assert_errno(timed(&[], 0), c::EINVAL);
        assert_errno(timed(&[[5, 1, 0]], 0), c::EFBIG);
        assert_errno(timed(&[[0, 32_767, 0], [0, 1, 0]], 0), c::ERANGE);
        let bad = c::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        assert_errno(sys!(semtimedop, set.0, &[0u16, 0, 0], 1, &bad), c::EINVAL);
        assert_errno(sys!(semtimedop, -1, &[0u16, 0, 0], 1, 0), c::EINVAL);
        assert_errno(sys!(semop, -1, &[0u16, 0, 0], 1), c::EINVAL);
        assert_errno(sys!(semctl, -1, 0, GETVAL, 0), c::EINVAL);
        assert_errno(sys!(semctl, set.0, 0, 99, 0), c::EINVAL);
        assert_errno(sys!(semctl, set.0, 0, SETALL, &[40_000u16, 0]), c::ERANGE);
        assert_errno(sys!(semget, c::IPC_PRIVATE, 1 << 30, 0o600), c::EINVAL);
        assert_errno(sys!(semget, c::IPC_PRIVATE, -1, 0o600), c::EINVAL);
    }
    fn messages_out_of_bounds() {
        let queue = Queue::new()?;
        let room = memory::pages(4)?;
        memory::poke(room, 1u64);
        assert_errno(sys!(msgsnd, -1, room, 1, 0), c::EINVAL);
        assert_errno(sys!(msgsnd, queue.0, room, 1 << 20, 0), c::EINVAL);
        assert_errno(sys!(msgsnd, queue.0, room, -1, 0), c::EINVAL);
        assert_errno(sys!(msgrcv, -1, room, 1, 0, 0), c::EINVAL);
        assert_errno(sys!(msgrcv, queue.0, room, -1, 0, 0), c::EINVAL);
        assert_errno(sys!(msgctl, -1, c::IPC_STAT, room), c::EINVAL);
        assert_errno(sys!(shmctl, -1, c::IPC_STAT, room), c::EINVAL);
        assert_errno(queue.receive(7, 9, c::IPC_NOWAIT), c::ENOMSG);
    }
    fn queues_removed_while_waiting_are_eidrm() {
        for sends in [false, true] {
            let queue = Queue::new()?;
            if sends {
                while queue.send(1, &"x".repeat(1000), c::IPC_NOWAIT).is_ok() {}
            }
            let waiter = child(|| {
                let result = if sends { queue.send(1, &"x".repeat(1000), 0) } else { queue.receive(0, 99, 0).map(drop) };
                assert_errno(result, c::EIDRM);
                Ok(())
            })?;
            let asleep = crate::kit::name(&format!("/proc/{}/stat", waiter.pid));
            crate::kit::until(|| crate::kit::text(&asleep).is_ok_and(|stat| stat.contains(") S ")));
            sys!(msgctl, queue.0, c::IPC_RMID, 0)?;
            waiter.succeeds()?;
        }
    }
    fn a_send_to_a_full_queue_waits_and_is_interrupted() {
        let queue = Queue::new()?;
        while queue.send(1, &"x".repeat(1000), c::IPC_NOWAIT).is_ok() {}
        assert_never_restarted(|| queue.send(1, &"x".repeat(1000), 0))?;
        let set = Semaphores::new(1)?;
        assert_never_restarted(|| sys!(semtimedop, set.0, &[0u16, u16::MAX, 0], 1, &ms(60_000)))?;
    }
}

struct PosixQueue(i32);

impl PosixQueue {
    fn new(flags: i32) -> core::result::Result<Self, Fail> {
        let name = crate::kit::name(&format!("conformance-{}", pid()?));
        let attributes = [0i64, 4, 64, 0, 0, 0, 0, 0];
        let open = sys!(mq_open, name.as_c_str(), flags | c::O_CREAT | c::O_EXCL, 0o600, &attributes);
        let fd = or_skip(open, &[c::ENOSYS], "POSIX message queues")?;
        sys!(mq_unlink, name.as_c_str())?;
        Ok(Self(int(fd)))
    }

    fn send(&self, content: &str, priority: u32) -> Result<()> {
        sys!(mq_timedsend, self.0, content.as_bytes(), content.len(), priority, 0).map(drop)
    }

    fn receive(&self) -> Result<(String, u32)> {
        let (mut buffer, mut priority) = ([0u8; 64], 0u32);
        let len = crate::kit::size(sys!(mq_timedreceive, self.0, &mut buffer, 64, &mut priority, 0)?);
        Ok((String::from_utf8_lossy(&buffer[..len]).into_owned(), priority))
    }
}
