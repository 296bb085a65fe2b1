//! Pipes and FIFOs, and the calls that move data through them.

use crate::kit::{Gate, assert_errno, assert_interrupted, cases, child, close, file, fstat, int, open, pestered, pipe, read, read_all, restarted, size, text, vector, vector_mut, write};
use crate::sys::{Errno, Result, memory, signal, sys};
use libc as c;

const ATOMIC: usize = 4096;

/// A call that waits.
type Attempt<'a> = &'a dyn Fn() -> Result<i64>;
/// What lets it go on.
type Finish<'a> = &'a (dyn Fn() -> Result<()> + Sync);

cases! { pipe;
    fn a_pipe_has_no_offsets_at_either_end() {
        let ends = pipe(0)?;
        for end in ends {
            for result in [
                sys!(pread64, end, memory::pages(1)?, 1, 0),
                sys!(pwrite64, end, b"x", 1, 0),
                sys!(preadv, end, &[vector(b"x")], 1, 0, 0),
                sys!(pwritev, end, &[vector(b"x")], 1, 0, 0),
                sys!(pwritev2, end, &[vector(b"x")], 1, 0, 0, 0),
            ] {
                assert_errno(result, c::ESPIPE);
            }
        }
    }
    fn what_is_moved_is_of_files_that_can_be_read_and_written() {
        let (ends, dir) = (pipe(c::O_NONBLOCK)?, open(c".", c::O_RDONLY, 0)?);
        assert_errno(sys!(splice, dir, 0, ends[1], 0, 1, 0), c::EINVAL);
        close(file(c"f", b"text")?)?;
        let (source, sink) = (open(c"f", c::O_RDONLY, 0)?, open(c"g", c::O_WRONLY | c::O_CREAT, 0o600)?);
        assert_errno(sys!(sendfile, source, source, 0, 4), c::EBADF);
        assert_errno(sys!(sendfile, sink, sink, 0, 4), c::EBADF);
        assert_errno(sys!(sendfile, ends[0], source, 0, 0), c::EBADF);
        assert_eq!(sys!(sendfile, sink, source, 0, 4)?, 4);
    }
    fn bytes_come_out_in_order() {
        let ends = pipe(0)?;
        write(ends[1], b"hello ")?;
        write(ends[1], b"world")?;
        assert_eq!(read(ends[0], 8)?, b"hello wo");
        assert_eq!(read(ends[0], 8)?, b"rld");
    }
    fn stat_says_fifo() {
        let ends = pipe(0)?;
        let (r, w) = (fstat(ends[0])?, fstat(ends[1])?);
        assert_eq!((r.st_mode & c::S_IFMT, r.st_ino), (c::S_IFIFO, w.st_ino));
        assert_eq!(int(sys!(fcntl, ends[0], c::F_GETFL)?) & c::O_ACCMODE, c::O_RDONLY);
        assert_eq!(int(sys!(fcntl, ends[1], c::F_GETFL)?) & c::O_ACCMODE, c::O_WRONLY);
    }
    fn pipe2_flags_and_errors() {
        let ends = pipe(c::O_CLOEXEC | c::O_NONBLOCK)?;
        assert_eq!(sys!(fcntl, ends[1], c::F_GETFD)?, 1);
        assert_errno(read(ends[0], 1), c::EAGAIN);
        assert_errno(pipe(c::O_APPEND), c::EINVAL);
        assert_errno(sys!(pipe, memory::hole()?), c::EFAULT);
        let mut plain = [0i32; 2];
        sys!(pipe, &mut plain)?;
        assert_eq!(plain, [ends[1] + 1, ends[1] + 2]);
    }
    fn wrong_end_is_ebadf() {
        let ends = pipe(0)?;
        assert_errno(read(ends[1], 1), c::EBADF);
        assert_errno(write(ends[0], b"x"), c::EBADF);
    }
    fn end_of_file_when_all_writers_are_gone() {
        let ends = pipe(0)?;
        let other = int(sys!(dup, ends[1])?);
        write(ends[1], b"x")?;
        close(ends[1])?;
        assert_eq!(read(ends[0], 9)?, b"x");
        close(other)?;
        assert_eq!(read(ends[0], 9)?, b"");
    }
    fn reader_wakes_at_end_of_file() {
        let ends = pipe(0)?;
        let reader = child(|| {
            close(ends[1])?;
            assert_eq!(read(ends[0], 9)?, b"");
            Ok(())
        })?;
        close(ends[1])?;
        reader.succeeds()?;
    }
    fn write_without_reader_is_sigpipe_and_epipe() {
        let ends = pipe(0)?;
        close(ends[0])?;
        child(|| Ok(write(ends[1], b"x")?))?.dies_of(c::SIGPIPE)?;
        signal::record(c::SIGPIPE, 0)?;
        assert_errno(write(ends[1], b"x"), c::EPIPE);
        assert_eq!(signal::count(c::SIGPIPE), 1);
        signal::ignore(c::SIGPIPE)?;
        assert_errno(write(ends[1], b"x"), c::EPIPE);
    }
    fn sleeping_writer_gets_epipe_when_the_reader_goes() {
        let ends = pipe(0)?;
        fill(ends[1])?;
        let writer = child(|| {
            signal::ignore(c::SIGPIPE)?;
            close(ends[0])?;
            assert_errno(write(ends[1], b"x"), c::EPIPE);
            Ok(())
        })?;
        close(ends[0])?;
        writer.succeeds()?;
    }
    fn full_pipe_is_eagain_and_room_comes_back() {
        let ends = pipe(c::O_NONBLOCK)?;
        let capacity = fill(ends[1])?;
        assert_eq!(capacity, 65536);
        assert_errno(sys!(write, ends[1], b"x", 1), c::EAGAIN);
        read(ends[0], ATOMIC)?;
        assert_eq!(sys!(write, ends[1], &[0u8; ATOMIC], ATOMIC)?, 4096);
    }
    fn writes_up_to_pipe_buf_are_whole() {
        let ends = pipe(c::O_NONBLOCK)?;
        fill(ends[1])?;
        read(ends[0], ATOMIC)?;
        sys!(write, ends[1], &[0u8; 100], 100)?;
        assert_errno(sys!(write, ends[1], &[0u8; ATOMIC], ATOMIC), c::EAGAIN);
    }
    fn long_writes_are_partial_when_nonblocking() {
        let ends = pipe(c::O_NONBLOCK)?;
        let data = vec![7u8; 100_000];
        assert_eq!(sys!(write, ends[1], &data[..], data.len())?, 65536);
    }
    fn blocking_writer_and_reader_move_all_bytes() {
        let ends = pipe(0)?;
        let data: Vec<u8> = (0..1_000_000u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let writer = child(|| {
            close(ends[0])?;
            write(ends[1], &data)?;
            Ok(())
        })?;
        close(ends[1])?;
        assert!(read_all(ends[0])? == data, "other data came out");
        writer.succeeds()?;
    }
    fn concurrent_writers_do_not_mix_within_pipe_buf() {
        let ends = pipe(0)?;
        let writers = (b'a'..b'e').map(|letter| child(move || {
            for _ in 0..50 {
                write(ends[1], &[letter; 1000])?;
            }
            Ok(())
        })).collect::<Result<Vec<_>>>()?;
        close(ends[1])?;
        let all = read_all(ends[0])?;
        assert_eq!(all.len(), 4 * 50 * 1000);
        assert!(all.chunks(1000).all(|part| part.iter().all(|b| *b == part[0])), "writes were mixed");
        for writer in writers {
            writer.succeeds()?;
        }
    }
    fn read_is_interrupted() {
        let ends = pipe(0)?;
        assert_interrupted(|| read(ends[0], 1))?;
    }
    fn read_is_restarted() {
        let ends = pipe(0)?;
        let got = restarted(|| read(ends[0], 9), || { let _ = write(ends[1], b"late"); })??;
        assert_eq!(got, b"late");
        assert_eq!(signal::count(c::SIGUSR1), 10);
    }
    fn write_is_interrupted() {
        let ends = pipe(0)?;
        fill(ends[1])?;
        assert_interrupted(|| write(ends[1], b"x"))?;
    }
    fn write_is_restarted() {
        let ends = pipe(0)?;
        fill(ends[1])?;
        restarted(|| write(ends[1], b"x"), || { let _ = read(ends[0], 65536); })??;
        assert_eq!(read(ends[0], 9)?, b"x");
    }
    fn interrupted_write_reports_what_it_wrote() {
        let ends = pipe(0)?;
        let data = vec![0u8; 200_000];
        let done = pestered(0, || sys!(write, ends[1], &data[..], data.len()))??;
        assert_eq!(done, 65536);
    }
    fn ignored_signal_does_not_interrupt() {
        let ends = pipe(0)?;
        signal::ignore(c::SIGUSR1)?;
        let reader = crate::kit::pid()?;
        let sender = child(|| {
            for _ in 0..100 {
                sys!(kill, reader, c::SIGUSR1)?;
            }
            write(ends[1], b"x").map_err(Into::into)
        })?;
        assert_eq!(read(ends[0], 1)?, b"x");
        sender.succeeds()?;
    }
    fn zero_length_io() {
        let ends = pipe(0)?;
        assert_eq!(sys!(write, ends[1], 0, 0)?, 0);
        assert_eq!(sys!(read, ends[0], 0, 0)?, 0);
    }
    fn bad_pointers_are_efault() {
        let ends = pipe(0)?;
        assert_errno(sys!(write, ends[1], memory::hole()?, 1), c::EFAULT);
        write(ends[1], b"x")?;
        assert_errno(sys!(read, ends[0], memory::hole()?, 1), c::EFAULT);
    }
    fn capacity_can_be_changed() {
        let ends = pipe(c::O_NONBLOCK)?;
        assert_eq!(sys!(fcntl, ends[0], c::F_GETPIPE_SZ)?, 65536);
        assert_eq!(sys!(fcntl, ends[0], c::F_SETPIPE_SZ, 0)?, 4096);
        assert_eq!(sys!(fcntl, ends[0], c::F_SETPIPE_SZ, 5000)?, 8192);
        assert_eq!(fill(ends[1])?, 8192);
        assert_errno(sys!(fcntl, ends[0], c::F_SETPIPE_SZ, 4096), c::EBUSY);
        assert_errno(sys!(fcntl, file(c"f", b"")?, c::F_GETPIPE_SZ), c::EBADF);
    }
    fn packets_keep_their_borders() {
        let ends = pipe(c::O_DIRECT)?;
        write(ends[1], b"one")?;
        write(ends[1], b"two")?;
        assert_eq!(read(ends[0], 99)?, b"one");
        assert_eq!(read(ends[0], 1)?, b"t");
        close(ends[1])?;
        assert_eq!(read(ends[0], 99)?, b"");
    }
    fn splice_from_and_to_files() {
        let (from, to) = (file(c"f", b"hello")?, file(c"g", b"")?);
        let ends = pipe(0)?;
        assert_eq!(sys!(splice, from, 0, ends[1], 0, 99, 0)?, 5);
        assert_eq!(sys!(splice, ends[0], 0, to, &mut 2u64, 99, 0)?, 5);
        assert_eq!(text(c"g")?, "\0\0hello");
    }
    fn splice_errors() {
        let fd = file(c"f", b"hello")?;
        let ends = pipe(0)?;
        assert_errno(sys!(splice, fd, 0, fd, 0, 1, 0), c::EINVAL);
        assert_errno(sys!(splice, fd, 0, ends[1], &mut 0u64, 1, 0), c::ESPIPE);
        assert_errno(sys!(splice, 899, 0, ends[1], 0, 1, 0), c::EBADF);
        assert_errno(sys!(splice, ends[0], 0, fd, 0, 1, c::SPLICE_F_NONBLOCK), c::EAGAIN);
        assert_errno(sys!(splice, ends[0], 0, ends[1], 0, 1, 0), c::EINVAL);
    }
    fn tee_duplicates() {
        let (a, b) = (pipe(0)?, pipe(0)?);
        write(a[1], b"hello")?;
        assert_eq!(sys!(tee, a[0], b[1], 3, 0)?, 3);
        assert_eq!(read(a[0], 9)?, b"hello");
        assert_eq!(read(b[0], 9)?, b"hel");
        assert_errno(sys!(tee, a[0], b[1], 3, c::SPLICE_F_NONBLOCK), c::EAGAIN);
        assert_errno(sys!(tee, a[0], file(c"f", b"")?, 3, 0), c::EINVAL);
    }
    fn vmsplice_into_a_pipe() {
        let ends = pipe(0)?;
        assert_eq!(sys!(vmsplice, ends[1], &[vector(b"hello"), vector(b"!")], 2, 0)?, 6);
        assert_eq!(read(ends[0], 9)?, b"hello!");
        assert_errno(sys!(vmsplice, file(c"f", b"")?, &[vector(b"x")], 1, 0), c::EBADF);
    }
    fn fifo_open_waits_for_the_other_end() {
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        let writer = child(|| {
            let fd = open(c"p", c::O_WRONLY, 0)?;
            Ok(write(fd, b"hello")?)
        })?;
        assert_eq!(text(c"p")?, "hello");
        writer.succeeds()?;
    }
    fn fifo_open_without_waiting() {
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        assert_errno(open(c"p", c::O_WRONLY | c::O_NONBLOCK, 0), c::ENXIO);
        let r = open(c"p", c::O_RDONLY | c::O_NONBLOCK, 0)?;
        assert_eq!(read(r, 1)?, b"");
        let w = open(c"p", c::O_WRONLY | c::O_NONBLOCK, 0)?;
        assert_errno(read(r, 1), c::EAGAIN);
        write(w, b"x")?;
        assert_eq!(read(r, 1)?, b"x");
    }
    fn fifo_open_for_both_never_waits() {
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        let fd = open(c"p", c::O_RDWR, 0)?;
        write(fd, b"x")?;
        assert_eq!(read(fd, 1)?, b"x");
    }
    fn fifo_open_is_interrupted_and_restarted() {
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        assert_interrupted(|| open(c"p", c::O_RDONLY, 0))?;
        let peer = child(|| { open(c"p", c::O_WRONLY, 0)?; Ok(()) })?;
        restarted(|| open(c"p", c::O_RDONLY, 0), || {})??;
        peer.succeeds()?;
    }
    fn many_pipes_and_processes_pass_a_token() {
        let pipes = (0..9).map(|_| pipe(0)).collect::<Result<Vec<_>>>()?;
        let hops = pipes.windows(2).map(|pair| child(|| {
            for _ in 0..100 {
                let token = read(pair[0][0], 1)?;
                write(pair[1][1], &[token[0] + 1])?;
            }
            Ok(())
        })).collect::<Result<Vec<_>>>()?;
        for _ in 0..100 {
            write(pipes[0][1], &[1])?;
            assert_eq!(read(pipes[8][0], 1)?, [9]);
        }
        for hop in hops {
            hop.succeeds()?;
        }
    }
    fn processes_meet_at_a_gate() {
        let (go, done) = (Gate::new()?, Gate::new()?);
        let waiter = child(|| {
            go.pass()?;
            Ok(done.open()?)
        })?;
        go.open()?;
        done.pass()?;
        waiter.succeeds()?;
    }
    fn moves_that_wait_are_interrupted_and_restarted() {
        let (empty, full) = (pipe(0)?, pipe(0)?);
        fill(full[1])?;
        let from = file(c"f", b"hello")?;
        let byte = |fd| sys!(write, fd, b"x", 1).map(drop);
        let drain = |fd| read(fd, 1 << 20).map(drop);
        let moves: [(&str, Attempt<'_>, Finish<'_>); 10] = [
            ("splice, empty", &|| sys!(splice, empty[0], 0, file(c"g", b"")?, 0, 9, 0), &|| byte(empty[1])),
            ("splice, full", &|| sys!(splice, from, &mut 0u64, full[1], 0, 1, 0), &|| drain(full[0])),
            ("tee, empty", &|| sys!(tee, empty[0], pipe(0)?[1], 9, 0), &|| byte(empty[1])),
            ("vmsplice, full", &|| sys!(vmsplice, full[1], &[vector(b"x")], 1, 0), &|| drain(full[0])),
            ("sendfile, full", &|| sys!(sendfile, full[1], from, &mut 0u64, 1), &|| drain(full[0])),
            ("writev, full", &|| sys!(writev, full[1], &[vector(b"x")], 1), &|| drain(full[0])),
            ("pwritev2, full", &|| sys!(pwritev2, full[1], &[vector(b"x")], 1, -1, -1, 0), &|| drain(full[0])),
            ("readv, empty", &|| sys!(readv, empty[0], &[vector_mut(&mut [0; 9])], 1), &|| byte(empty[1])),
            ("preadv2, empty", &|| sys!(preadv2, empty[0], &[vector_mut(&mut [0; 9])], 1, -1, -1, 0), &|| byte(empty[1])),
            ("vmsplice, empty", &|| sys!(vmsplice, empty[0], &[vector_mut(&mut [0; 9])], 1, 0), &|| byte(empty[1])),
        ];
        for (name, attempt, finish) in moves {
            drain_now(full[0])?;
            fill(full[1])?;
            drain_now(empty[0])?;
            assert_eq!(pestered(0, attempt)?.err(), Some(Errno(c::EINTR)), "{name}");
            let moved = restarted(attempt, || finish().unwrap_or(()))?;
            assert_eq!(moved, Ok(1), "{name}");
        }
    }
    fn moves_that_would_wait() {
        let ends = pipe(0)?;
        fill(ends[1])?;
        assert_errno(sys!(vmsplice, ends[1], &[vector(b"x")], 1, c::SPLICE_F_NONBLOCK), c::EAGAIN);
        assert_errno(sys!(splice, file(c"f", b"hello")?, 0, ends[1], 0, 1, c::SPLICE_F_NONBLOCK), c::EAGAIN);
    }
}

/// Writes until the pipe is full; its mode is as before afterwards.
fn fill(fd: i32) -> Result<usize> {
    let flags = int(sys!(fcntl, fd, c::F_GETFL)?);
    sys!(fcntl, fd, c::F_SETFL, flags | c::O_NONBLOCK)?;
    let mut total = 0;
    while let Ok(count) = sys!(write, fd, &[0u8; ATOMIC], ATOMIC) {
        total += size(count);
    }
    sys!(fcntl, fd, c::F_SETFL, flags)?;
    Ok(total)
}

/// Takes out what is there.
fn drain_now(fd: i32) -> Result<()> {
    let flags = int(sys!(fcntl, fd, c::F_GETFL)?);
    sys!(fcntl, fd, c::F_SETFL, flags | c::O_NONBLOCK)?;
    while read(fd, 65536).is_ok_and(|bytes| !bytes.is_empty()) {}
    sys!(fcntl, fd, c::F_SETFL, flags).map(drop)
}
