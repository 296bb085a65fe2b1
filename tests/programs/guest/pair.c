// Two processes that wake each other in turn, through a pipe each way and then through a word of shared memory; between the
// two, and at the end, they wait for a line.
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 20000 };

static int there[2], back[2];
static int *turn;

static void wait_for(int mine) {
    int seen;
    while ((seen = __atomic_load_n(turn, __ATOMIC_SEQ_CST)) != mine)
        syscall(SYS_futex, turn, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void pass_to(int other) {
    __atomic_store_n(turn, other, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void hear(int fd) {
    char byte;
    if (read(fd, &byte, 1) != 1)
        _exit(1);
}

static void tell(int fd) {
    if (write(fd, "x", 1) != 1)
        _exit(1);
}

int main(void) {
    turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (turn == MAP_FAILED || pipe(there) || pipe(back))
        return 1;
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0) {
        for (int i = 0; i < ROUNDS; i++) {
            hear(there[0]);
            tell(back[1]);
        }
        for (int i = 0; i < ROUNDS; i++) {
            wait_for(1);
            pass_to(0);
        }
        hear(there[0]);
        _exit(0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        tell(there[1]);
        hear(back[0]);
    }
    puts("pipes");
    fflush(stdout);
    hear(0);
    for (int i = 0; i < ROUNDS; i++) {
        pass_to(1);
        wait_for(0);
    }
    puts("words");
    fflush(stdout);
    hear(0);
    tell(there[1]);
    int status;
    return waitpid(child, &status, 0) != child || status != 0;
}
