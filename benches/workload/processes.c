// Threads, forks and programs.
#include "workload.h"
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

extern char **environ;

static void *thread(void *unused) { return unused; }

static void thread_join(long n) {
    pthread_t id;
    while (n--) {
        if (pthread_create(&id, NULL, thread, NULL)) die("pthread_create");
        pthread_join(id, NULL);
    }
}

void reap(pid_t pid) {
    int status;
    need(waitpid(pid, &status, 0), "waitpid");
    if (status) {
        fprintf(stderr, "workload: a child ended with status %#x\n", status);
        exit(1);
    }
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

static void spawn_dynamic(long n) {
    char *words[] = {"/bin/true", NULL};
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

const struct service process_services[] = {
    {"thread-create-join", thread_join}, {"fork-exit-wait", fork_wait},   {"fork-64m-touched", fork_touched},
    {"spawn-static", spawn_static},      {"spawn-dynamic", spawn_dynamic}, {"fork-exec-true", fork_exec},
    {NULL, NULL},
};
