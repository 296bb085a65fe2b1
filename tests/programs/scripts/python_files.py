"""mmap, pty, select, signal, ctypes, locks, attributes of files, descriptors over sockets."""
import ctypes
import errno
import fcntl
import mmap
import os
import pty
import select
import shutil
import signal
import socket
import tempfile


def mappings():
    with open("m", "w+b") as file:
        file.truncate(20000)
        shared = mmap.mmap(file.fileno(), 0)
        shared[0:5] = b"hello"
        shared.flush()
        print(os.pread(file.fileno(), 5, 0))
        os.pwrite(file.fileno(), b"J", 0)
        shared.resize(40000)
        print(shared[:5], len(shared), os.path.getsize("m"), shared.find(b"llo"))
        own = mmap.mmap(file.fileno(), 4096, access=mmap.ACCESS_COPY)
        own[0] = 65
        print(os.pread(file.fileno(), 1, 0))
    anonymous = mmap.mmap(-1, 8192)
    if os.fork() == 0:
        anonymous[0] = 7
        os._exit(0)
    os.wait()
    print(anonymous[0])


def terminal():
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", "stty -echo; tty | cut -c1-9; read x; echo got $x; exit 3"])
    output = b""
    while b"/dev/pts/" not in output:
        output += os.read(fd, 1000)
    os.write(fd, b"in\n")
    try:
        while data := os.read(fd, 1000):
            output += data
    except OSError as error:
        print(error.errno == errno.EIO)
    print(output, os.waitpid(pid, 0)[1] >> 8)


def waiting():
    signal.signal(signal.SIGALRM, lambda number, frame: print("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getpid(), signal.SIGTERM)
    print(signal.sigpending(), signal.sigwaitinfo([signal.SIGTERM]).si_signo)
    a, b = socket.socketpair()
    print(select.select([a], [b], [], 0.01)[1] == [b])
    b.send(b"x")
    poll = select.epoll()
    poll.register(a, select.EPOLLIN | select.EPOLLET)
    print(len(poll.poll(9)), len(poll.poll(0.01)))
    with open("m") as file:
        socket.send_fds(a, [b"f"], [file.fileno()])
        data, (fd,), *_ = socket.recv_fds(b, 10, 1)
        print(data, os.fstat(fd).st_size)


def files():
    os.mkdir("d")
    os.symlink("d", "l")
    os.mkfifo("p")
    print(sorted((entry.name, entry.is_dir(), entry.is_symlink()) for entry in os.scandir(".")))
    shutil.copytree("d", "d2")
    shutil.rmtree("d")
    os.utime("m", ns=(5, 6))
    os.chmod("m", 0o640)
    os.link("m", "m2")
    found = os.stat("m")
    print(found.st_mtime_ns, oct(found.st_mode), found.st_nlink)
    with open("m", "r+b") as file, open("m") as other:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            print(error)
        fcntl.lockf(file, fcntl.LOCK_EX)
    fd = os.memfd_create("x")
    os.write(fd, b"in memory")
    print(os.pread(fd, 99, 0), os.readlink(f"/proc/self/fd/{fd}"))
    r, w = os.pipe2(os.O_NONBLOCK)
    try:
        os.read(r, 1)
    except BlockingIOError as error:
        print(error)
    print(fcntl.fcntl(w, fcntl.F_GETPIPE_SZ), os.eventfd_read(os.eventfd(3)))


def foreign_functions():
    libc = ctypes.CDLL(None, use_errno=True)
    print(libc.open(b"/nosuch", 0), ctypes.get_errno())
    pointer = ctypes.POINTER(ctypes.c_int)
    numbers = (ctypes.c_int * 5)(3, 1, 2, 5, 4)
    libc.qsort(numbers, 5, 4, ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)(lambda x, y: x[0] - y[0]))
    print(list(numbers))


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    for part in mappings, terminal, waiting, files, foreign_functions:
        part()
    os.chdir("/")
