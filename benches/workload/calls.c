// Services of one task that leave files alone.
#include "workload.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

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

const struct service call_services[] = {
    {"getppid", getppid_},         {"write-null", write_null},   {"read-zero-4k", read_zero},
    {"pipe-one-task", pipe_one_task}, {"eventfd", eventfd_},     {"epoll-ready", epoll_ready},
    {"signal-self", signal_self},  {"sigprocmask", sigprocmask_}, {"clock-gettime-call", clock_call},
    {NULL, NULL},
};
