/* Counts primes with threads, and reads the answer back through a pipe from a child. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT = 400000, THREADS = 4 };

struct part {
    pthread_t thread;
    int first;
    int found;
};

static int is_prime(int n)
{
    if (n < 2)
        return 0;
    for (int d = 2; d * d <= n; d++)
        if (n % d == 0)
            return 0;
    return 1;
}

static void *count(void *argument)
{
    struct part *part = argument;

    for (int n = part->first; n < LIMIT; n += THREADS)
        part->found += is_prime(n);
    return NULL;
}

static int count_all(void)
{
    struct part parts[THREADS] = {0};
    int sum = 0;

    for (int i = 0; i < THREADS; i++) {
        parts[i].first = i;
        if (pthread_create(&parts[i].thread, NULL, count, &parts[i]) != 0)
            exit(2);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(parts[i].thread, NULL);
        sum += parts[i].found;
    }
    return sum;
}

int main(void)
{
    int ends[2], sum = 0, status = 0;
    pid_t child;

    if (pipe(ends) != 0 || (child = fork()) < 0)
        return 2;
    if (child == 0) {
        sum = count_all();
        _exit(write(ends[1], &sum, sizeof sum) == sizeof sum ? 0 : 2);
    }
    close(ends[1]);
    if (read(ends[0], &sum, sizeof sum) != sizeof sum)
        return 2;
    waitpid(child, &status, 0);
    printf("- process %d counted %d primes below %d with %d threads\n", (int)child, sum, LIMIT, THREADS);
    return status != 0;
}
