// Does one thing many times, so that what one costs shows in the report: budget THING COUNT.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char buffer[512];
static int ends[2];

static int getpid_(void) { return syscall(SYS_getpid) == getpid(); }
static int kill_0(void) { return kill(getpid(), 0) == 0; }
static int stat_(void) {
    struct stat s;
    return stat("/usr/bin/env", &s) == 0;
}
static int pipe_(void) { return write(ends[1], buffer, 512) == 512 && read(ends[0], buffer, 512) == 512; }
static int pread_(void) {
    static int fd = -1;
    if (fd < 0) fd = open("/usr/bin/env", O_RDONLY);
    return pread(fd, buffer, 512, 4096) == 512;
}
static int open_read_close(void) {
    int fd = open("/usr/bin/env", O_RDONLY);
    return pread(fd, buffer, 512, 4096) == 512 && close(fd) == 0;
}
static int open_stat_close(void) {
    struct stat s;
    int fd = open("/usr/bin/env", O_RDONLY);
    return fd >= 0 && fstat(fd, &s) == 0 && stat_() && close(fd) == 0;
}
// What an uncontended lock does that was told to wait.
static int wake_nobody(void) {
    static int word = 1;
    return syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1) == 0 &&
           syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL) == -1 && errno == EAGAIN;
}
// One semaphore of a set, while another process waits for the other one.
static int semop_(void) {
    static int set = -1;
    struct sembuf wait = {0, -1, 0}, up = {1, 1, 0}, down = {1, -1, 0};
    if (set < 0) {
        set = semget(IPC_PRIVATE, 2, 0600);
        if (fork() == 0) _exit(semop(set, &wait, 1));
        while (semctl(set, 0, GETNCNT) == 0) usleep(1000);
    }
    return semop(set, &up, 1) == 0 && semop(set, &down, 1) == 0;
}
static int fork_wait(void) {
    int status = 1;
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}
static void *sleep_on(void *unused) {
    for (;;) pause();
    return unused;
}
// A child that ends beside a thread of its own, where 200 other processes were at once before.
static int fork_threaded(void) {
    static int others[200];
    const int last = sizeof others / sizeof *others - 1;
    for (int i = 0; i <= last && !others[last]; i++) if ((others[i] = fork()) == 0) sleep_on(NULL);
    for (int i = 0; i <= last && others[last] > 0; i++) kill(others[i], SIGKILL), waitpid(others[i], NULL, 0);
    others[last] = -1;
    int status = 1;
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        _exit(pthread_create(&thread, NULL, sleep_on, NULL) != 0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int main(int count, char **words) {
    static const struct {
        const char *name;
        int (*run)(void);
    } things[] = {{"getpid", getpid_}, {"kill", kill_0},           {"stat", stat_},     {"pipe", pipe_},
                  {"pread", pread_},   {"open", open_stat_close}, {"fork", fork_wait}, {"open-read", open_read_close},
                  {"futex", wake_nobody}, {"semop", semop_},
                  {"fork-threaded", fork_threaded}};
    if (count != 3 || pipe(ends)) return 2;
    for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
        if (strcmp(words[1], things[i].name)) continue;
        for (int n = atoi(words[2]); n--;) if (!things[i].run()) return 1;
        return 0;
    }
    return 2;
}
