// One static program, one small function a service. It prints nanoseconds per operation, on whatever it runs.
//
//   workload --list            names
//   workload [--ms N] NAME…    measures those (all without names), each for about N ms: "NAME NANOSECONDS" a line
//   workload --command WORD…   nanoseconds that a command takes from start to end, and its exit status
//   workload --child           ends at once: what "spawn static" starts
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static char buffer[8192];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int need(int result, const char *what) {
    if (result < 0) die(what);
    return result;
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// When the operations began and ended, without what a service sets up and clears away.
static int64_t began, ended;

static void begin(void) { began = now(); }
static void end(void) { ended = now(); }

// Files of the upper layer.
static int scratch(void) {
    static int fd = -1;
    if (fd < 0) {
        fd = need(open("/tmp/workload.file", O_RDWR | O_CREAT | O_TRUNC, 0600), "/tmp/workload.file");
        for (int i = 0; i < 64; i++) need(write(fd, buffer, 1024), "write");
        unlink("/tmp/workload.file");
    }
    return fd;
}

static void getppid_(long n) { while (n--) syscall(SYS_getppid); }
static void write_null(long n) {
    int fd = need(open("/dev/null", O_WRONLY), "/dev/null");
    while (n--) need(write(fd, buffer, 1), "write");
    close(fd);
}
static void read_zero(long n) {
    int fd = need(open("/dev/zero", O_RDONLY), "/dev/zero");
    while (n--) need(read(fd, buffer, 4096), "read");
    close(fd);
}
static void stat_present(long n) {
    struct stat s;
    while (n--) need(stat("/usr/bin/env", &s), "/usr/bin/env");
}
static void stat_absent(long n) {
    struct stat s;
    while (n--) if (stat("/usr/bin/no-such-file", &s) == 0) die("stat");
}
static void open_close(long n) { while (n--) close(need(open("/usr/bin/env", O_RDONLY), "/usr/bin/env")); }
static void pread_upper(long n) { for (int fd = scratch(); n--;) need(pread(fd, buffer, 1024, 4096), "pread"); }
static void pwrite_upper(long n) { for (int fd = scratch(); n--;) need(pwrite(fd, buffer, 1024, 4096), "pwrite"); }
static void pread_below(long n) {
    int fd = need(open("/usr/bin/env", O_RDONLY), "/usr/bin/env");
    while (n--) need(pread(fd, buffer, 1024, 4096), "pread");
    close(fd);
}
static void create_unlink(long n) {
    while (n--) {
        int fd = need(open("/tmp/workload.new", O_RDWR | O_CREAT | O_EXCL, 0600), "/tmp/workload.new");
        need(write(fd, buffer, 1024), "write");
        close(fd);
        need(unlink("/tmp/workload.new"), "unlink");
    }
}
static void read_directory(long n) {
    char name[64];
    mkdir("/tmp/workload.dir", 0700);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "/tmp/workload.dir/%d", i);
        close(need(open(name, O_CREAT | O_RDWR, 0600), name));
    }
    begin();
    while (n--) {
        DIR *dir = opendir("/tmp/workload.dir");
        int seen = 0;
        while (readdir(dir)) seen++;
        closedir(dir);
        if (seen != 102) die("readdir");
    }
    end();
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "/tmp/workload.dir/%d", i);
        unlink(name);
    }
    rmdir("/tmp/workload.dir");
}
static void pipe_one_task(long n) {
    int p[2];
    need(pipe(p), "pipe");
    while (n--) {
        need(write(p[1], buffer, 512), "write");
        need(read(p[0], buffer, 512), "read");
    }
    close(p[0]), close(p[1]);
}
static void eventfd_(long n) {
    int fd = need(eventfd(0, 0), "eventfd");
    uint64_t value = 1;
    while (n--) {
        need(write(fd, &value, 8), "write");
        need(read(fd, &value, 8), "read");
    }
    close(fd);
}
static void epoll_ready(long n) {
    int fd = need(eventfd(1, 0), "eventfd"), set = need(epoll_create1(0), "epoll_create1");
    struct epoll_event event = {.events = EPOLLIN};
    need(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    while (n--) if (epoll_wait(set, &event, 1, -1) != 1) die("epoll_wait");
    close(set), close(fd);
}
static volatile int handled;
static void handler(int signal) { handled += signal != 0; }
static void signal_self(long n) {
    signal(SIGUSR1, handler);
    int pid = getpid(), tid = gettid();
    while (n--) syscall(SYS_tgkill, pid, tid, SIGUSR1);
}
static void sigprocmask_(long n) {
    sigset_t set;
    sigemptyset(&set);
    while (n--) sigprocmask(SIG_BLOCK, &set, NULL);
}
static void clock_call(long n) {
    struct timespec time;
    while (n--) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
}
static void *map(size_t len) {
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    return at;
}
static void map_unmap(long n) { while (n--) munmap(map(65536), 65536); }
static void map_touch(long n) {
    while (n--) {
        char *at = map(1 << 20);
        for (int i = 0; i < 1 << 20; i += 4096) {
            if (at[i] != 0) die("fresh memory is not zero");
            at[i] = 1;
        }
        munmap(at, 1 << 20);
    }
}
static void *thread(void *unused) { return unused; }
static void thread_join(long n) {
    pthread_t id;
    while (n--) {
        if (pthread_create(&id, NULL, thread, NULL)) die("pthread_create");
        pthread_join(id, NULL);
    }
}
static void reap(pid_t pid) {
    int status;
    need(waitpid(pid, &status, 0), "waitpid");
    if (status) die("child");
}
static void fork_wait(long n) {
    while (n--) {
        pid_t pid = need(fork(), "fork");
        if (pid == 0) _exit(0);
        reap(pid);
    }
}
static void fork_touched(long n) {
    char *at = map(64 << 20);
    memset(at, 1, 64 << 20);
    begin();
    fork_wait(n);
    end();
    munmap(at, 64 << 20);
}
static void spawn(char *const words[]) {
    pid_t pid;
    if (posix_spawn(&pid, words[0], NULL, NULL, words, environ)) die(words[0]);
    reap(pid);
}
static void spawn_static(long n) {
    char *words[] = {"/proc/self/exe", "--child", NULL};
    while (n--) spawn(words);
}
static void fork_exec(long n) {
    char *words[] = {"/bin/true", NULL};
    while (n--) {
        pid_t pid = need(fork(), "fork");
        if (pid == 0) {
            execv(words[0], words);
            _exit(1);
        }
        reap(pid);
    }
}
static void echo(int from, int to) {
    char byte;
    while (read(from, &byte, 1) == 1) if (write(to, &byte, 1) != 1) break;
    _exit(0);
}
static void bounce(long n, int to, int from) {
    char byte = 0;
    begin();
    while (n--) {
        need(write(to, &byte, 1), "write");
        if (read(from, &byte, 1) != 1) die("read");
    }
    end();
}
static void pipe_trip(long n) {
    int there[2], back[2];
    need(pipe(there), "pipe"), need(pipe(back), "pipe");
    pid_t pid = need(fork(), "fork");
    if (pid == 0) close(there[1]), close(back[0]), echo(there[0], back[1]);
    close(there[0]), close(back[1]);
    bounce(n, there[1], back[0]);
    close(there[1]), close(back[0]);
    reap(pid);
}
static void socket_trip(long n, int ours, int theirs) {
    pid_t pid = need(fork(), "fork");
    if (pid == 0) close(ours), echo(theirs, theirs);
    close(theirs);
    bounce(n, ours, ours);
    close(ours);
    reap(pid);
}
static void unix_trip(long n) {
    int pair[2];
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    socket_trip(n, pair[0], pair[1]);
}
static int listener(struct sockaddr_in *address) {
    int fd = need(socket(AF_INET, SOCK_STREAM, 0), "socket");
    socklen_t len = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    need(bind(fd, (struct sockaddr *)address, len), "bind");
    need(listen(fd, 16), "listen");
    getsockname(fd, (struct sockaddr *)address, &len);
    return fd;
}
static int connected(const struct sockaddr_in *address) {
    int fd = need(socket(AF_INET, SOCK_STREAM, 0), "socket");
    need(connect(fd, (const struct sockaddr *)address, sizeof *address), "connect");
    return fd;
}
static void tcp_trip(long n) {
    struct sockaddr_in address;
    int from = listener(&address), ours = connected(&address), theirs = need(accept(from, NULL, NULL), "accept"), on = 1;
    setsockopt(ours, 6, 1, &on, sizeof on), setsockopt(theirs, 6, 1, &on, sizeof on);
    socket_trip(n, ours, theirs);
    close(from);
}
static void tcp_connect(long n) {
    struct sockaddr_in address;
    int from = listener(&address);
    while (n--) {
        int ours = connected(&address);
        close(need(accept(from, NULL, NULL), "accept"));
        close(ours);
    }
    close(from);
}

static const struct service {
    const char *name;
    void (*run)(long);
} services[] = {
    {"getppid", getppid_}, {"write-null", write_null}, {"read-zero-4k", read_zero}, {"stat-present", stat_present},
    {"stat-absent", stat_absent}, {"open-close", open_close}, {"pread-1k-upper", pread_upper},
    {"pwrite-1k-upper", pwrite_upper}, {"pread-1k-below", pread_below}, {"create-write-unlink", create_unlink},
    {"readdir-100", read_directory}, {"pipe-one-task", pipe_one_task}, {"eventfd", eventfd_},
    {"epoll-ready", epoll_ready}, {"signal-self", signal_self}, {"sigprocmask", sigprocmask_},
    {"clock-gettime-call", clock_call}, {"mmap-munmap-64k", map_unmap}, {"mmap-touch-1m", map_touch},
    {"thread-create-join", thread_join}, {"fork-exit-wait", fork_wait}, {"fork-64m-touched", fork_touched},
    {"spawn-static", spawn_static}, {"fork-exec-true", fork_exec}, {"pipe-round-trip", pipe_trip},
    {"unix-round-trip", unix_trip}, {"tcp-round-trip", tcp_trip}, {"tcp-connect-close", tcp_connect},
};
#define COUNT (sizeof services / sizeof *services)

// The number of operations doubles until they take long enough.
static double measure(const struct service *service, int64_t wanted) {
    for (long n = 1;; n *= 2) {
        begin(), ended = 0;
        service->run(n);
        if (ended == 0) end();
        int64_t took = ended - began;
        if (took >= wanted || n >= 1L << 30) return (double)took / n;
    }
}

static int command(char **words) {
    int64_t start = now();
    pid_t pid;
    int status = 0;
    if (posix_spawnp(&pid, words[0], NULL, NULL, words, environ)) die(words[0]);
    need(waitpid(pid, &status, 0), "waitpid");
    int64_t took = now() - start;
    printf("command %lld\n", (long long)took);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int count, char **words) {
    int64_t wanted = 20;
    int at = 1, found = 0;
    signal(SIGPIPE, SIG_IGN);
    if (count > 1 && strcmp(words[1], "--child") == 0) return 0;
    if (count > 2 && strcmp(words[1], "--command") == 0) return command(words + 2);
    if (count > 1 && strcmp(words[1], "--list") == 0) {
        for (size_t i = 0; i < COUNT; i++) puts(services[i].name);
        return 0;
    }
    if (count > 2 && strcmp(words[1], "--ms") == 0) wanted = atoi(words[2]), at = 3;
    for (size_t i = 0; i < COUNT; i++) {
        int is_wanted = at == count;
        for (int j = at; j < count; j++) is_wanted |= strcmp(words[j], services[i].name) == 0;
        if (!is_wanted) continue;
        found++;
        printf("%s %.1f\n", services[i].name, measure(&services[i], wanted * 1000000));
        fflush(stdout);
    }
    if (found == 0) fprintf(stderr, "workload: no such service; --list names them\n");
    return found == 0;
}
