// For the sanitizers: threads and memory; with an argument, the fault that it names.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int counted, raced;

static void *count(void *is_racing) {
    for (int i = 0; i < 1000; i++) {
        if (is_racing) {
            raced++;
            continue;
        }
        pthread_mutex_lock(&lock);
        counted++;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

int main(int argc, char **argv) {
    const char *fault = argc > 1 ? argv[1] : "";
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, count, strcmp(fault, "race") ? NULL : &raced);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    pid_t child = fork();
    if (child == 0) _exit(counted == 4000 ? 3 : 4);
    int status = 0;
    waitpid(child, &status, 0);
    printf("%d %d\n", strcmp(fault, "race") ? counted : 0, WEXITSTATUS(status) == (strcmp(fault, "race") ? 3 : 4));
    fflush(stdout);
    char *block = malloc(10);
    memset(block, 'x', 10);
    if (!strcmp(fault, "leak")) block = malloc(11);
    if (!strcmp(fault, "overflow")) ((volatile char *)block)[10] = 1;
    if (strcmp(fault, "leak")) free(block);
    else block = NULL;
    volatile int most = 0x7fffffff;
    if (!strcmp(fault, "overflows")) return most + argc != 0;
    if (!strcmp(fault, "nowhere")) *(volatile int *)(argc * 8ul) = 1;
    if (!strcmp(fault, "free")) return ((volatile char *)block)[3];
    return 0;
}
