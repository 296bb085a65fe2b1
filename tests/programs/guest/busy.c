// Threads and processes that compute, talk, sleep and begin programs, all at once, each checking what its calls return. Prints a line a
// check, sorted by the caller: a container that is stopped and goes on meanwhile prints the same.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PART = 1 << 20, ROUNDS = 40, TIMEOUT_MS = 700 };
extern char **environ;

static long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *reader(void *from) {
    static __thread char buffer[3000];
    for (long left = (long)ROUNDS * PART; left > 0;) {
        ssize_t got = read(*(int *)from, buffer, sizeof buffer);
        if (got <= 0) return printf("reader: %zd %s\n", got, strerror(errno)), NULL;
        left -= got;
    }
    return NULL;
}

// Whole writes: what a stop cuts off is written all the same.
static void whole(const char *name, int from, int to, ssize_t (*put)(int, const void *, size_t)) {
    char *data = malloc(PART);
    memset(data, 'x', PART);
    pthread_t thread;
    pthread_create(&thread, NULL, reader, &from);
    int cut = 0;
    for (int i = 0; i < ROUNDS; i++) cut += put(to, data, PART) != PART;
    pthread_join(thread, NULL);
    printf("%s: %d of %d cut\n", name, cut, ROUNDS);
    free(data);
}

static ssize_t put_message(int fd, const void *data, size_t len) { return send(fd, data, len, 0); }

static void *pipe_writes(void *unused) {
    int ends[2];
    pipe(ends);
    whole("pipe", ends[0], ends[1], write);
    return unused;
}

static void *unix_sends(void *unused) {
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    whole("unix", ends[0], ends[1], put_message);
    return unused;
}

static void *tcp_receives(void *unused) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    bind(listener, (struct sockaddr *)&at, len);
    listen(listener, 5);
    getsockname(listener, (struct sockaddr *)&at, &len);
    if (connect(client, (struct sockaddr *)&at, len)) printf("connect: %s\n", strerror(errno));
    int server = accept(listener, NULL, NULL), cut = 0;
    if (fork() == 0) {
        char piece[1000] = {0};
        for (int i = 0; i < ROUNDS * 500; i++)
            if (send(client, piece, sizeof piece, 0) != sizeof piece) _exit(1);
        _exit(0);
    }
    char *data = malloc(500 * 1000);
    for (int i = 0; i < ROUNDS; i++) cut += recv(server, data, 500 * 1000, MSG_WAITALL) != 500 * 1000;
    printf("tcp: %d of %d cut\n", cut, ROUNDS);
    free(data);
    return unused;
}

static void told(const char *name, long begun, long result) {
    int error = result < 0 ? errno : 0;
    printf("%s: %ld %s, %s\n", name, result, strerror(error), now_ms() - begun < TIMEOUT_MS ? "early" : "in time");
}

static void *timeouts(void *unused) {
    struct timespec span = {0, TIMEOUT_MS * 1000000L};
    int pair[2], epoll = epoll_create1(0);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    struct timeval limit = {0, TIMEOUT_MS * 1000};
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    struct pollfd one = {pair[0], POLLIN, 0};
    struct epoll_event event;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    unsigned word = 0;
    char byte;
    long begun = now_ms();
    told("nanosleep", begun, nanosleep(&span, NULL)), begun = now_ms();
    told("poll", begun, poll(&one, 1, TIMEOUT_MS)), begun = now_ms();
    told("ppoll", begun, ppoll(&one, 1, &span, &set)), begun = now_ms();
    told("select", begun, select(0, NULL, NULL, NULL, &limit)), begun = now_ms();
    told("epoll", begun, epoll_wait(epoll, &event, 1, TIMEOUT_MS)), begun = now_ms();
    told("futex", begun, syscall(SYS_futex, &word, FUTEX_WAIT, 0, &span, NULL, 0)), begun = now_ms();
    told("sigtimedwait", begun, sigtimedwait(&set, NULL, &span)), begun = now_ms();
    told("receive", begun, recv(pair[0], &byte, 1, 0)), begun = now_ms();
    told("read", begun, read(pair[0], &byte, 1));
    return unused;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn, turns;

static void *takes_turns(void *number) {
    for (int i = 0; i < 3000; i++) {
        pthread_mutex_lock(&mutex);
        while (turn != (int)(long)number) pthread_cond_wait(&changed, &mutex);
        turn = (turn + 1) % 3;
        turns++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *computes(void *unused) {
    double sum = 0;
    for (long i = 1; i < 200000000; i++) sum += 1.0 / (double)i;
    printf("sum: %.9f\n", sum);
    return unused;
}

static void *storms(void *unused) {
    char *words[] = {"true", NULL};
    int bad = 0, status;
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (i % 2) execv("/bin/true", words);
            _exit(i % 2);
        }
        bad += waitpid(child, &status, 0) != child || status != 0;
        bad += posix_spawn(&child, "/bin/true", NULL, NULL, words, environ) != 0;
        bad += waitpid(child, &status, 0) != child || status != 0;
    }
    printf("storm: %d bad\n", bad);
    return unused;
}

int main(void) {
    void *(*parts[])(void *) = {pipe_writes, unix_sends, tcp_receives, timeouts, computes, storms};
    enum { PARTS = sizeof parts / sizeof *parts };
    // Left pending by all: posix_spawn blocks signals, and what arrives meanwhile is handed to another thread, whose write it cuts off.
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, NULL);
    pthread_t threads[PARTS + 3];
    for (int i = 0; i < PARTS; i++) pthread_create(threads + i, NULL, parts[i], NULL);
    for (long i = 0; i < 3; i++) pthread_create(threads + PARTS + i, NULL, takes_turns, (void *)i);
    for (int i = 0; i < PARTS + 3; i++) pthread_join(threads[i], NULL);
    printf("turns: %d\n", turns);
    return 0;
}
