// Processes whose threads, the first among them, all end at the same time.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *ends(void *unused) { return unused; }

int main(void) {
    int status, bad = 0;
    for (int i = 0; i < 400; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            for (int n = 0; n < 3; n++) pthread_create(&thread, NULL, ends, NULL);
            syscall(SYS_exit, 0);
        }
        bad += waitpid(child, &status, 0) != child || status != 0;
    }
    printf("%d bad\n", bad);
    return 0;
}
