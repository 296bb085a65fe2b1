// Round trips between tasks.
#include "workload.h"
#include <arpa/inet.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

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

// Two threads hand a word to and fro: its parity says whose turn it is.
static atomic_int turn;
static long left;

static void take_turns(int parity) {
    for (long i = 0; i < left; i++) {
        for (int seen; ((seen = turn) & 1) != parity;) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, seen, NULL);
        turn++;
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1);
    }
}

static void *other(void *unused) {
    take_turns(1);
    return unused;
}

static void futex_trip(long n) {
    pthread_t id;
    turn = 0;
    left = n;
    begin();
    if (pthread_create(&id, NULL, other, NULL)) die("pthread_create");
    take_turns(0);
    pthread_join(id, NULL);
    end();
}

// What an uncontended lock that was told to wait does: a wake for nobody, a wait that need not.
static void futex_one_task(long n) {
    int word = 1;
    while (n--) {
        syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1);
        if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL) == 0) die("futex");
    }
}

const struct service trip_services[] = {
    {"pipe-round-trip", pipe_trip}, {"unix-round-trip", unix_trip},    {"tcp-round-trip", tcp_trip},
    {"futex-round-trip", futex_trip}, {"futex-one-task", futex_one_task}, {"tcp-connect-close", tcp_connect},
    {NULL, NULL},
};
