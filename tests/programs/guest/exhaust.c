// Asks for more of one thing until it is refused, says why, and is killed with all of it: exhaust THING.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static char bytes[65536];
static char name[512];
static long count;

// A long name: 200 bytes more than its number.
static const char *fresh(void) {
    static char tail[201];
    if (!tail[0]) memset(tail, 'n', 200);
    snprintf(name, sizeof name, "/tmp/many/%ld%s", count, tail);
    return name;
}
static int fill(int fd) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (;;) {
        if (write(fd, bytes, sizeof bytes) < 0) return errno == EAGAIN ? 0 : -1;
    }
}
static int files(void) {
    int fd = open(fresh(), O_CREAT | O_WRONLY, 0600);
    return fd < 0 ? -1 : close(fd);
}
static int links(void) { return link("/tmp/one", fresh()); }
static int symlinks(void) { return symlink(bytes + 62000, fresh()); }
static int directories(void) { return mkdir(fresh(), 0700); }
static int fifos(void) { return mknod(fresh(), S_IFIFO | 0600, 0); }
static int xattrs(void) {
    if (files()) return -1;
    return setxattr(name, "user.x", bytes, 32768, 0);
}
static int data(void) {
    int fd = open(fresh(), O_CREAT | O_WRONLY, 0600);
    if (fd < 0) return -1;
    int failed = write(fd, bytes, sizeof bytes) != sizeof bytes;
    return close(fd) || failed ? -1 : 0;
}
static int memfds(void) {
    int fd = memfd_create("m", 0);
    return fd < 0 || write(fd, bytes, sizeof bytes) < 0 ? -1 : 0;
}
static int pipes(void) {
    int ends[2];
    return pipe(ends) ? -1 : fill(ends[1]);
}
static int packets(void) {
    int ends[2];
    if (pipe2(ends, O_DIRECT | O_NONBLOCK)) return -1;
    while (write(ends[1], "x", 1) == 1) {}
    return errno == EAGAIN ? 0 : -1;
}
static int streams(void) {
    int ends[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, ends) ? -1 : fill(ends[0]);
}
static int datagrams(void) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends)) return -1;
    while (send(ends[0], bytes, 2000, 0) > 0) {}
    return errno == EAGAIN ? 0 : -1;
}
static int eventfds(void) { return eventfd(0, 0) < 0 ? -1 : 0; }
static int timerfds(void) { return timerfd_create(CLOCK_MONOTONIC, 0) < 0 ? -1 : 0; }
static int epolls(void) {
    static int set = -1;
    if (count % 1000 == 0) set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    int fd = eventfd(0, 0);
    return fd < 0 ? -1 : epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}
static int watches(void) {
    static int instance = -1;
    if (instance < 0) instance = inotify_init1(0);
    return mkdir(fresh(), 0700) || inotify_add_watch(instance, name, IN_ALL_EVENTS) < 0 ? -1 : 0;
}
static int splits(void) {
    // As many as it takes, in processes of their own.
    const long most = 20000;
    static char *base;
    if (count % most == 0) {
        if (count && fork() == 0) pause();
        base = mmap(0, most * 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) return -1;
    }
    return mprotect(base + count % most * 8192, 4096, PROT_READ);
}
static int signals(void) {
    // A queue each: what one process may have is limited.
    if (count % 2000 == 0 && count) {
        pid_t pid = fork();
        if (pid < 0) return -1;
        if (pid > 0) pause();
    }
    union sigval value = {.sival_int = 1};
    return sigqueue(getpid(), SIGRTMIN + 1, value);
}
static int timers(void) {
    static timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    return timer_create(CLOCK_MONOTONIC, &event, &timer);
}
static int semaphores(void) { return semget(IPC_PRIVATE, 250, 0600) < 0 ? -1 : 0; }
static int segments(void) { return shmget(IPC_PRIVATE, 4096, 0600) < 0 ? -1 : 0; }
static int messages(void) {
    static struct {
        long kind;
        char text[4096];
    } message = {.kind = 1};
    int queue = msgget(IPC_PRIVATE, 0600);
    if (queue < 0) return -1;
    while (msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0) {}
    return errno == EAGAIN ? 0 : -1;
}
static int locks(void) {
    static int fd = -1;
    if (count % 500 == 0) fd = open(fresh(), O_CREAT | O_RDWR, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_start = count * 2, .l_len = 1};
    return fd < 0 ? -1 : fcntl(fd, F_SETLK, &lock);
}
static int memory(void) {
    char *at = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return -1;
    memset(at, 1, 1 << 20);
    return 0;
}
static int shared(void) {
    char *at = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return -1;
    memset(at, 1, 1 << 20);
    return 0;
}

static int children(void) {
    pid_t pid = fork();
    if (pid == 0) pause();
    return pid < 0 ? -1 : 0;
}

#define THING(name) {#name, name}
static const struct {
    const char *name;
    int (*more)(void);
} things[] = {
    THING(files),     THING(links),     THING(symlinks),  THING(directories), THING(fifos),    
    THING(xattrs),    THING(data),      THING(memfds),    THING(pipes),       THING(packets),   THING(streams),
    THING(datagrams), THING(eventfds),  THING(timerfds),  THING(epolls),      THING(watches),  
    THING(splits),    THING(signals),   THING(timers),      THING(semaphores), THING(segments),
    THING(messages),  THING(locks),     THING(memory),    THING(shared),    THING(children),
};

// Returns in a child with a group of its own; the caller waits until all of the group have gone, and what they had with them.
static void begin_group(void) {
    pid_t group = fork();
    if (group == 0) {
        setpgid(0, 0);
        return;
    }
    setpgid(group, group);
    if (group < 0 || waitpid(group, 0, 0) != group) _exit(4);
    // Orphans are the first process's, which waits for all.
    while (kill(-group, 0) == 0) sched_yield();
    _exit(0);
}

int main(int words, char **word) {
    if (words != 2) return 2;
    begin_group();
    struct rlimit limit = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_NOFILE, &limit)) {
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    memset(bytes, 'b', sizeof bytes - 1);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &blocked, 0);
    mkdir("/tmp/many", 0700);
    close(open("/tmp/one", O_CREAT | O_WRONLY, 0600));
    for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
        if (strcmp(things[i].name, word[1])) continue;
        while (things[i].more() == 0) count++;
        const char *why = strerrorname_np(errno);
        char line[100];
        int len = snprintf(line, sizeof line, "%s %ld\n", why, count);
        if (write(1, line, len) != len) return 3;
        kill(0, SIGKILL);
    }
    return 2;
}
