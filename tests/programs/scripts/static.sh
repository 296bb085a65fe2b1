# One C program with threads, cancellation and children: musl and glibc, static and not.
set -e
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
cat > t.c <<'C'
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int count;
static __thread long own;

static void *add(void *unused) {
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&lock);
        count++;
        own++;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
    }
    return (void *)own;
}

static void *sleeps(void *unused) {
    for (;;) pause();
}

int main(void) {
    pthread_t threads[16], sleeper;
    void *result;
    long sum = 0;
    for (int i = 0; i < 16; i++) pthread_create(threads + i, 0, add, 0);
    pthread_mutex_lock(&lock);
    while (count < 16000) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 16; i++) {
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    pthread_create(&sleeper, 0, sleeps, 0);
    pthread_cancel(sleeper);
    pthread_join(sleeper, &result);
    printf("%d %ld %d\n", count, sum, result == PTHREAD_CANCELED);
    sem_t semaphore;
    sem_init(&semaphore, 0, 1);
    sem_wait(&semaphore);
    int tried = sem_trywait(&semaphore);
    printf("%d %d\n", tried, errno);
    char line[50];
    FILE *pipe = popen("echo popen; exit 2", "r");
    printf("%s", fgets(line, sizeof line, pipe));
    printf("%d %d\n", pclose(pipe) >> 8, system("exit 7") >> 8);
    return 3;
}
C
musl-gcc -static -O2 t.c -o musl-static
musl-gcc -O2 t.c -o musl
gcc -static -O2 t.c -o static
for program in musl-static musl static; do
    ./$program || echo "$program $?"
done
