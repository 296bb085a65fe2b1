// For debuggers: a call, a thread, a child, and a bad access with an argument.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int total;

__attribute__((noinline)) int add(int left, int right) {
    total = left + right;
    return total;
}

static void *work(void *argument) {
    add(3, *(int *)argument);
    return NULL;
}

int main(int argc, char **argv) {
    int four = 4;
    pthread_t thread;
    pthread_create(&thread, NULL, work, &four);
    pthread_join(thread, NULL);
    if (fork() == 0) _exit(add(1, 2));
    int status;
    wait(&status);
    printf("%d %d\n", total, WEXITSTATUS(status));
    if (argc > 1) *(volatile int *)8 = 1;
    return add(10, 20);
}
