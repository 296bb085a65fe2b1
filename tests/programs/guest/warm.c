// Programs that run one after the other in one host process: each finds memory as a fresh one is. Built with -lm, and with -DPLAIN
// without it.
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static volatile int data = 7;
static volatile char bss[3 * 4096];
#ifdef ROOM
// Its addresses end elsewhere.
volatile char room[1 << 20] = {1};
#endif

#define CHECK(is) do { if (!(is)) { printf("%s does not hold\n", #is); fflush(stdout); _exit(1); } } while (0)

__attribute__((aligned(4096), noinline)) static int text(int x) { return x * 3 + 1; }

static void check_own_memory(void) {
    CHECK(data == 7);
    for (size_t i = 0; i < sizeof bss; i++) CHECK(bss[i] == 0);
    data = 99;
    memset((void *)bss, 0xaa, sizeof bss);
    // It writes its text, too: the next program finds that as the file has it.
    volatile int (*call)(int) = (volatile int (*)(int))text;
    CHECK(call(2) == 7);
    char *page = (char *)((uintptr_t)text & ~4095ul);
    CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
    memset(page, 0xcc, 4);
    CHECK(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
}

// Bytes of a file's addresses, from its headers.
static size_t span_of(int fd) {
    Elf64_Ehdr head;
    CHECK(pread(fd, &head, sizeof head, 0) == sizeof head);
    size_t end = 0;
    for (int i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr row;
        CHECK(pread(fd, &row, sizeof row, head.e_phoff + i * sizeof row) == sizeof row);
        if (row.p_type == PT_LOAD && row.p_vaddr + row.p_memsz > end) end = row.p_vaddr + row.p_memsz;
    }
    return (end + 4095) & ~4095ul;
}

// Who maps all of a library to read it finds what the file has.
static void check_library(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat stat;
    CHECK(fd >= 0 && fstat(fd, &stat) == 0);
    size_t span = span_of(fd), len = span < (size_t)stat.st_size ? span : (size_t)stat.st_size;
    char *bytes = malloc(len);
    CHECK(bytes && pread(fd, bytes, len, 0) == (ssize_t)len);
    char *mapped = mmap(NULL, span, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(mapped != MAP_FAILED && memcmp(mapped, bytes, len) == 0);
    CHECK(munmap(mapped, span) == 0);
    free(bytes);
    close(fd);
}

// Where another program's library lay is room like any other.
static void check_room(char *at) {
    for (int i = -2; i < 3; i++) {
        char *page = at + i * 8192l;
        char *mapped = mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        CHECK(mapped == page);
        for (int j = 0; j < 4096; j++) CHECK(mapped[j] == 0);
        memset(mapped, 0x55, 4096);
    }
}

static char *run(const char *program, const char *mode, const char *argument);

// Maps a library as a loader does, and then parts of it where no loader would.
static void map_oddly(const char *path) {
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    size_t span = span_of(fd);
    const int denywrite = 0x800, text = 5 * 4096;
    char *at = mmap(NULL, span, PROT_READ, MAP_PRIVATE | denywrite, fd, 0);
    CHECK(at != MAP_FAILED);
    CHECK(mmap(at + 4096, 4 * 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0x20000) != MAP_FAILED);
    CHECK(mmap(at + text, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0x21000) != MAP_FAILED);
}

static volatile int fault_code;
static sigjmp_buf back;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    fault_code = info->si_code;
    siglongjmp(back, 1);
}

// Nothing is mapped there, whatever another program had.
static void check_nothing(char *at) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, before;
    CHECK(sigaction(SIGSEGV, &action, &before) == 0);
    if (sigsetjmp(back, 1) == 0) *(volatile char *)at = 1;
    CHECK(fault_code == SEGV_MAPERR);
    CHECK(sigaction(SIGSEGV, &before, NULL) == 0);
    // What grows down to there finds zeros.
    char *top = at + 64 * 4096;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE;
    CHECK(mmap(top, 4096, PROT_READ | PROT_WRITE, flags, -1, 0) == top);
    CHECK(*(volatile int *)at == 0);
    CHECK(munmap(at, 65 * 4096) == 0);
}

// Forked children that use a little of what their timers of CPU time allow, and execute a program that ran before.
static int run_timers(char *self) {
    int killed = 0;
    for (int i = 0; i < 120; i++) {
        if (i % 60 == 0) run(self, "busy", "");
        pid_t child = fork();
        if (child == 0) {
            struct itimerval limit = {{0, 0}, {0, 20000}};
            setitimer(ITIMER_PROF, &limit, NULL);
            struct timespec start, now;
            clock_gettime(CLOCK_MONOTONIC, &start);
            long until = 20100 - i % 40 * 10, passed = 0;
            while (passed < until) {
                if (passed < until - 1500) usleep(500);
                clock_gettime(CLOCK_MONOTONIC, &now);
                passed = (now.tv_sec - start.tv_sec) * 1000000 + (now.tv_nsec - start.tv_nsec) / 1000;
            }
            execl(self, self, "idle", NULL);
            _exit(9);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        killed += WIFSIGNALED(status);
    }
    printf("%d killed by a timer of CPU time that was not used\n", killed);
    return 0;
}

static char *run(const char *program, const char *mode, const char *argument) {
    static char answer[64];
    int fds[2], status;
    CHECK(pipe2(fds, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    char *argv[] = {(char *)program, (char *)mode, (char *)argument, NULL};
    pid_t pid;
    CHECK(posix_spawn(&pid, program, &actions, NULL, argv, environ) == 0);
    close(fds[1]);
    ssize_t len = read(fds[0], answer, sizeof answer - 1);
    answer[len > 0 ? len : 0] = 0;
    close(fds[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (status != 0) printf("%s %s ends with %x: %s\n", program, argument, status, answer);
    return answer;
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "child") == 0) {
        check_own_memory();
#ifdef PLAIN
        if (argv[2][0]) {
            check_nothing((char *)strtoull(argv[2], NULL, 16));
            check_room((char *)strtoull(argv[2], NULL, 16));
        }
#else
        check_library("/lib/x86_64-linux-gnu/libm.so.6");
        check_library("/lib/x86_64-linux-gnu/libc.so.6");
        volatile double one = 1;
        CHECK(fabs(cos(one) - 0.5403) < 0.001);
        printf("%lx\n", (unsigned long)cos & ~4095ul);
#endif
        fflush(stdout);
        // The end of a program that has told all: nothing of it is to be left.
        _exit(0);
    }
    if (argc > 2 && strcmp(argv[1], "odd") == 0) {
        map_oddly("/lib/x86_64-linux-gnu/libm.so.6");
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "idle") == 0) return 0;
    if (argc > 2 && strcmp(argv[1], "busy") == 0) {
        while (clock() < CLOCKS_PER_SEC / 5) {}
        return 0;
    }
    if (argc > 3 && strcmp(argv[1], "turns") == 0) {
        for (int i = 0; i < 40; i++) run(argv[2 + i % 2], "idle", "");
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "timers") == 0) return run_timers(argv[0]);
    for (int i = 0; i < 20; i++) {
        if (i % 4 == 1) run(argv[1], "odd", "");
        char *at = strdup(run(argv[1], "child", ""));
        char *answer = run(argv[2], "child", i % 3 == 2 ? at : "");
        if (answer[0]) printf("%s", answer);
        free(at);
    }
    puts("all are fresh");
    return 0;
}
