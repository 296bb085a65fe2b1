// Sleeps in every way at once, one process a way, in a directory of its own. Prints `ready`; after a line on standard input it wakes each and
// prints what its call returned: a stop of the whole container from outside must change none of that.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int data[2], full[2], pair[2], crowded[2], more[2], listener, busy, locked, epoll_fd;
static int messages, many_messages, semaphores, counter, timer, names, terminal, its_line;
static mqd_t queue, full_queue;
static struct sockaddr_in address;
static struct sockaddr_un busy_address = {AF_UNIX, "sleeps-socket"};
static struct message { long type; char text[8]; } message = {1, "message"};
static struct shared {
    unsigned word, stop;
    unsigned long turns;
} *shared;
static char fifo[] = "sleeps-fifo", made[] = "sleeps-made", lock_file[] = "sleeps-locked";
static char byte;
static sigset_t user;

static struct pollfd readable(void) { return (struct pollfd){data[0], POLLIN, 0}; }

static long way_read(void) { return read(data[0], &byte, 1); }
static long way_write(void) { return write(full[1], &byte, 1); }
static long way_poll(void) {
    struct pollfd one = readable();
    return poll(&one, 1, -1);
}
static long way_ppoll(void) {
    struct pollfd one = readable();
    struct timespec hour = {3600, 0};
    return ppoll(&one, 1, &hour, NULL);
}
static long way_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(data[0], &set);
    return select(data[0] + 1, &set, NULL, NULL, NULL);
}
static long way_epoll(void) {
    struct epoll_event event;
    return epoll_wait(epoll_fd, &event, 1, -1);
}
static long way_futex(void) { return syscall(SYS_futex, &shared->word, FUTEX_WAIT, 0, NULL, NULL, 0); }
static long way_futex_until(void) {
    struct timespec hour = {3600, 0};
    return syscall(SYS_futex, &shared->word, FUTEX_WAIT, 0, &hour, NULL, 0);
}
static long way_accept(void) { return accept(listener, NULL, NULL) >= 0; }
static long way_recv(void) { return recv(pair[0], &byte, 1, 0); }
static long way_lock(void) {
    struct flock all = {.l_type = F_WRLCK};
    return fcntl(locked, F_SETLKW, &all);
}
static long way_open(void) { return open(fifo, O_RDONLY) >= 0; }
static long way_wait(void) {
    int status;
    pid_t child = fork();
    if (child == 0) _exit(read(data[0], &byte, 1) + 6);
    return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1;
}
static long way_vfork(void) {
    pid_t child = vfork();
    if (child == 0) _exit(read(data[0], &byte, 1));
    return child > 0 && waitpid(child, NULL, 0) == child;
}
static void *reader(void *ret) { return (void *)(read(data[0], &byte, 1) + (long)ret); }
static long way_join(void) {
    pthread_t thread;
    void *ret;
    return pthread_create(&thread, NULL, reader, (void *)4) || pthread_join(thread, &ret) ? -1 : (long)ret;
}
static void handler(int signal) { (void)signal; }
static long way_pause(void) { return pause(); }
static long way_sigwait(void) { return sigtimedwait(&user, NULL, NULL); }
static long way_nanosleep(void) {
    struct timespec before, after, second = {1, 0};
    clock_gettime(CLOCK_MONOTONIC, &before);
    long ret = nanosleep(&second, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long passed = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
    return ret ? ret : passed >= 1000000000L;
}
static long way_compute(void) {
    do shared->turns++;
    while (!__atomic_load_n(&shared->stop, __ATOMIC_SEQ_CST));
    return shared->turns > 0;
}
static long way_calls(void) {
    while (!__atomic_load_n(&shared->stop, __ATOMIC_SEQ_CST))
        if (syscall(SYS_getppid) <= 0 || write(full[1], "", 0)) return -1;
    return 1;
}

static long way_msgrcv(void) { return msgrcv(messages, &message, sizeof message.text, 0, 0); }
static long way_msgsnd(void) { return msgsnd(many_messages, &message, sizeof message.text, 0); }
static struct sembuf take = {0, -1, 0};
static long way_semop(void) { return semop(semaphores, &take, 1); }
static long way_semtimedop(void) {
    struct timespec hour = {3600, 0};
    return semtimedop(semaphores, &take, 1, &hour);
}
static long way_mq_receive(void) {
    char text[8];
    return mq_receive(queue, text, sizeof text, NULL);
}
static long way_mq_send(void) {
    struct timespec until = {4000000000, 0};
    return mq_timedsend(full_queue, "late", 4, 0, &until);
}
static long way_connect(void) {
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&busy_address, sizeof busy_address);
}
static long way_send(void) { return send(crowded[1], &byte, 1, 0); }
static long way_flock(void) { return flock(open(lock_file, O_RDWR), LOCK_EX); }
static long way_eventfd(void) {
    eventfd_t value;
    return eventfd_read(counter, &value) ? -1 : (long)value;
}
static long way_timerfd(void) {
    eventfd_t times;
    return read(timer, &times, 8);
}
static long way_signalfd(void) {
    struct signalfd_siginfo info;
    return read(signalfd(-1, &user, 0), &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2;
}
static long way_inotify(void) {
    char events[4096];
    return read(names, events, sizeof events) > 0;
}
static long way_tty(void) {
    char text[9];
    return read(its_line, text, sizeof text);
}
static long way_futex_waitv(void) {
    struct futex_waitv one = {0, (unsigned long)&shared->word, FUTEX_32, 0};
    return syscall(SYS_futex_waitv, &one, 1, 0, NULL, 0);
}
static long way_splice(void) {
    int to[2];
    return pipe(to) ? -1 : splice(more[0], NULL, to[1], NULL, 1, 0);
}
static long way_tee(void) {
    int to[2];
    return pipe(to) ? -1 : tee(more[0], to[1], 1, 0);
}
static long way_epoll_pwait2(void) {
    struct epoll_event event;
    struct timespec hour = {3600, 0};
    return epoll_pwait2(epoll_fd, &event, 1, &hour, NULL);
}
static long way_waitid(void) {
    siginfo_t info;
    pid_t child = fork();
    if (child == 0) _exit(read(data[0], &byte, 1) + 6);
    return waitid(P_PID, child, &info, WEXITED) ? -1 : info.si_status;
}

static const struct {
    const char *name;
    long (*run)(void);
} ways[] = {{"read", way_read},           {"write", way_write},     {"poll", way_poll},
            {"ppoll", way_ppoll},         {"select", way_select},   {"epoll", way_epoll},
            {"futex", way_futex},         {"until", way_futex_until}, {"accept", way_accept},
            {"recv", way_recv},           {"lock", way_lock},       {"open", way_open},
            {"wait", way_wait},           {"vfork", way_vfork},     {"join", way_join},
            {"pause", way_pause},         {"sigwait", way_sigwait}, {"nanosleep", way_nanosleep},
            {"compute", way_compute},     {"calls", way_calls},   {"msgrcv", way_msgrcv},
            {"msgsnd", way_msgsnd},       {"semop", way_semop},   {"semtimedop", way_semtimedop},
            {"mq_receive", way_mq_receive}, {"mq_send", way_mq_send}, {"connect", way_connect},
            {"send", way_send},           {"flock", way_flock},   {"eventfd", way_eventfd},
            {"timerfd", way_timerfd},     {"signalfd", way_signalfd}, {"inotify", way_inotify},
            {"tty", way_tty},             {"waitv", way_futex_waitv}, {"splice", way_splice},
            {"tee", way_tee},             {"pwait2", way_epoll_pwait2}, {"waitid", way_waitid}};
enum { COUNT = sizeof ways / sizeof *ways };

static void check(int fine, const char *what) {
    if (fine) return;
    perror(what);
    exit(2);
}

// Objects of IPC, with names of this process's where they need some.
static void prepare_ipc(void) {
    char name[32];
    struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 8};
    messages = msgget(IPC_PRIVATE, 0600);
    many_messages = msgget(IPC_PRIVATE, 0600);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    check(messages >= 0 && many_messages >= 0 && semaphores >= 0, "System V objects");
    while (msgsnd(many_messages, &message, sizeof message.text, IPC_NOWAIT) == 0) {}
    snprintf(name, sizeof name, "/sleeps-%d", getpid());
    queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    check(queue >= 0 && !mq_unlink(name), "queue");
    full_queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    check(full_queue >= 0 && !mq_unlink(name) && !mq_send(full_queue, "first", 5, 0), "full queue");
}

static void prepare_descriptors(void) {
    unlink(busy_address.sun_path);
    unlink(made);
    busy = socket(AF_UNIX, SOCK_STREAM, 0);
    check(!bind(busy, (void *)&busy_address, sizeof busy_address) && !listen(busy, 0), "busy listener");
    check(!connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&busy_address, sizeof busy_address), "first client");
    check(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, crowded) && !pipe(more), "crowded");
    while (send(crowded[1], &byte, 1, MSG_DONTWAIT) == 1) {}
    check(!flock(locked, LOCK_EX), "flock");
    counter = eventfd(0, 0);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    names = inotify_init();
    check(counter >= 0 && timer >= 0 && inotify_add_watch(names, ".", IN_CREATE) > 0, "events");
    terminal = posix_openpt(O_RDWR | O_NOCTTY);
    check(!grantpt(terminal) && !unlockpt(terminal), "terminal");
    its_line = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    check(its_line >= 0, "its line");
}

static void prepare(void) {
    struct flock all = {.l_type = F_WRLCK};
    struct epoll_event in = {.events = EPOLLIN};
    socklen_t len = sizeof address;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(shared != MAP_FAILED && !pipe(data) && !pipe(full) && !socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "pairs");
    fcntl(full[1], F_SETFL, O_NONBLOCK);
    while (write(full[1], &byte, 1) == 1) {}
    fcntl(full[1], F_SETFL, 0);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(!bind(listener, (void *)&address, len) && !listen(listener, 9), "listener");
    check(!getsockname(listener, (void *)&address, &len), "getsockname");
    unlink(fifo);
    check(!mkfifo(fifo, 0600), "mkfifo");
    locked = open(lock_file, O_RDWR | O_CREAT | O_TRUNC, 0600);
    check(!fcntl(locked, F_SETLK, &all), "lock");
    epoll_fd = epoll_create1(0);
    check(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, data[0], &in), "epoll");
    signal(SIGUSR1, handler);
    sigemptyset(&user);
    sigaddset(&user, SIGUSR2);
    sigprocmask(SIG_BLOCK, &user, NULL);
    prepare_ipc();
    prepare_descriptors();
}

// All that lasts; what must find its sleeper asleep (futex, signals) is repeated until it has.
static void wake(void) {
    __atomic_store_n(&shared->stop, 1, __ATOMIC_SEQ_CST);
    struct flock none = {.l_type = F_UNLCK};
    check(!fcntl(locked, F_SETLK, &none), "unlock");
    check(write(data[1], "123456789", 9) == 9 && send(pair[1], "x", 1, 0) == 1, "data");
    check(write(more[1], "ab", 2) == 2 && !flock(locked, LOCK_UN), "more");
    while (recv(crowded[0], &byte, 1, MSG_DONTWAIT) == 1) {}
    int client = socket(AF_INET, SOCK_STREAM, 0);
    check(!connect(client, (void *)&address, sizeof address), "connect");
    check(open(fifo, O_WRONLY) >= 0, "fifo");
    char page[8192];
    check(read(full[0], page, sizeof page) > 0, "drain");
    struct sembuf two = {0, 2, 0};
    check(!msgsnd(messages, &message, sizeof message.text, 0) && !semop(semaphores, &two, 1), "System V");
    check(msgrcv(many_messages, &message, sizeof message.text, 0, 0) >= 0, "room");
    check(!mq_send(queue, "message", 7, 0) && mq_receive(full_queue, page, sizeof page, NULL) == 5, "queues");
    check(accept(busy, NULL, NULL) >= 0 && !eventfd_write(counter, 5) && write(terminal, "x\n", 2) == 2, "events");
    struct itimerspec soon = {.it_value = {0, 1}};
    check(!timerfd_settime(timer, 0, &soon, NULL) && open(made, O_WRONLY | O_CREAT, 0600) >= 0, "timer and file");
}

int main(void) {
    char line[COUNT][64];
    int results[COUNT][2];
    pid_t pids[COUNT];
    prepare();
    for (int i = 0; i < COUNT; i++) {
        check(!pipe(results[i]), "pipe");
        if ((pids[i] = fork()) == 0) {
            // None goes on without whoever wakes it.
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            errno = 0;
            long ret = ways[i].run();
            dprintf(results[i][1], "%s: %ld %s\n", ways[i].name, ret, errno ? strerrorname_np(errno) : "-");
            _exit(0);
        }
        check(pids[i] > 0 && !close(results[i][1]), "fork");
    }
    check(write(1, "ready\n", 6) == 6 && read(0, &byte, 1) == 1, "the word to wake");
    wake();
    for (int i = 0; i < COUNT; i++) {
        struct pollfd result = {results[i][0], POLLIN, 0};
        do {
            if (ways[i].run == way_pause) kill(pids[i], SIGUSR1);
            if (ways[i].run == way_sigwait || ways[i].run == way_signalfd) kill(pids[i], SIGUSR2);
            syscall(SYS_futex, &shared->word, FUTEX_WAKE, 9, NULL, NULL, 0);
        } while (poll(&result, 1, 20) == 0);
        ssize_t len = read(results[i][0], line[i], sizeof line[i]);
        check(len > 0 && write(1, line[i], len) == len && waitpid(pids[i], NULL, 0) == pids[i], ways[i].name);
    }
    check(!msgctl(messages, IPC_RMID, NULL) && !msgctl(many_messages, IPC_RMID, NULL), "messages");
    return semctl(semaphores, 0, IPC_RMID) || unlink(fifo) || unlink(lock_file) || unlink(made) || unlink(busy_address.sun_path);
}
