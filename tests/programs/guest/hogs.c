// Programs that take memory past the container's limit, one after the other, beside two processes that exchange messages by
// pipes: hogs COUNT. Says how each kind of hog ended, and that the messages never ceased.
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    fflush(stdout);
    _exit(3);
}

// What private memory there is, until there is no more.
static void take_memory(void) {
    for (;;) {
        char *at = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) _exit(errno == ENOMEM ? 42 : 1);
        memset(at, 1, 1 << 20);
    }
}

// A stack is not reserved: the host alone notices.
static int take_stack(int depth) {
    volatile char frame[65536];
    for (size_t i = 0; i < sizeof frame; i += 4096) frame[i] = depth;
    if (depth < 0) return 0;
    return take_stack(depth + 1) + frame[depth % sizeof frame];
}

// Messages of two processes to each other, each the number of the last one plus one.
static void exchange(int from, int to, volatile long *done) {
    for (;;) {
        long number;
        if (read(from, &number, sizeof number) != sizeof number) _exit(0);
        if (number != *done) fail("a message is lost");
        *done = ++number;
        if (write(to, &number, sizeof number) != sizeof number) _exit(0);
    }
}

// Waits until the messages are so many more.
static void await(volatile long *done, long more) {
    for (long start = *done; *done < start + more;) sched_yield();
}

int main(int words, char **word) {
    if (words == 2 && !strcmp(word[1], "stack")) return take_stack(0);
    volatile long *done = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int there[2], back[2];
    if (done == MAP_FAILED || pipe(there) || pipe(back)) fail("start");
    pid_t players[2];
    for (int i = 0; i < 2; i++) {
        players[i] = fork();
        if (players[i] < 0) fail("fork");
        if (players[i] == 0) exchange(i ? there[0] : back[0], i ? back[1] : there[1], done);
    }
    if (write(there[1], (long[]){0}, sizeof(long)) < 0) fail("write");
    int refused = 0, killed = 0, ended = 0;
    for (int i = 0; i < atoi(word[1]); i++) {
        await(done, 100);
        fflush(stdout);
        pid_t hog = fork();
        if (hog < 0) fail("fork");
        if (hog == 0 && i % 2) take_memory();
        if (hog == 0) {
            struct rlimit limit = {256 << 20, 256 << 20};
            if (setrlimit(RLIMIT_STACK, &limit)) fail("setrlimit");
            execl(word[0], word[0], "stack", NULL);
            fail("exec");
        }
        int status;
        if (waitpid(hog, &status, 0) != hog) fail("wait");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 42) refused++;
        else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) killed++;
        else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) ended++;
        else printf("hog %d: %x\n", i, status);
    }
    await(done, 100);
    printf("refused %d, killed %d, out of stack %d\n", refused, killed, ended);
    return 0;
}
