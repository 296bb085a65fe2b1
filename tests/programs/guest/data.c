// Programs with much data, one after the other in one host process: each finds it as its file has it, whatever the one before did to it,
// and another one at the same addresses finds nothing of it.
//   data               all of that
//   data change COPY   COPY is changed between two runs of it
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define CHECK(is) do { if (!(is)) { printf("%s does not hold\n", #is); fflush(stdout); _exit(1); } } while (0)
#ifdef SMALL
#define PAGES 1
#else
#define PAGES 300
#endif
#define ROW 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88
#define ROWS8 ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW
#define ROWS64 ROWS8, ROWS8, ROWS8, ROWS8, ROWS8, ROWS8, ROWS8, ROWS8

static unsigned char start_of_data[1] = {1};
static struct {
    unsigned char mark[8];
    unsigned char first[PAGES * 4096];
    unsigned char last[512];
} data __attribute__((aligned(4096))) = {{'m', 'a', 'r', 'k', 'm', 'a', 'r', 'k'}, {ROWS64}, {ROWS64}};
static unsigned char bss[3 * 4096 + 100];

static const char *const odd[] = {"write", "protect", "none", "text", "hole", "over", "moved", "empty", "kill", "thread", "fork", "vfork", "shared",
                                  "twice", "traced", "exec"};
#define ODD (sizeof odd / sizeof *odd)

static void check_fresh(void) {
    static const unsigned char row[8] = {ROW};
    CHECK(start_of_data[0] == 1);
    CHECK(memcmp(data.mark, "markmark", 8) == 0);
    for (size_t i = 0; i < 512; i++) CHECK(data.first[i] == row[i % 8] && data.last[i] == row[i % 8]);
    for (size_t i = 512; i < sizeof data.first; i++) CHECK(data.first[i] == 0);
    for (size_t i = 0; i < sizeof bss; i++) CHECK(bss[i] == 0);
}

static void scribble(void) {
    start_of_data[0] = 0xee;
    memset(&data, 0xee, sizeof data);
    memset(bss, 0xee, sizeof bss);
}

static unsigned char *page(int number) {
    unsigned char *at = (unsigned char *)&data;
    // Compilers are not to look: the small one has fewer.
    __asm__("" : "+r"(at));
    return at + number * 4096l;
}

static void *in_a_thread(void *argument) {
    scribble();
    return argument;
}

static void do_oddly(const char *what, char *self) {
    const int any = MAP_PRIVATE | MAP_ANONYMOUS;
    scribble();
    if (strcmp(what, "protect") == 0) CHECK(mprotect(page(0), 100 * 4096, PROT_READ) == 0);
    if (strcmp(what, "none") == 0) CHECK(mprotect(page(3), 4096, PROT_NONE) == 0);
    if (strcmp(what, "text") == 0) CHECK(mprotect(page(3), 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    if (strcmp(what, "hole") == 0) CHECK(munmap(page(5), 2 * 4096) == 0);
    if (strcmp(what, "over") == 0) {
        CHECK(mmap(page(7), 4096, PROT_READ | PROT_WRITE, any | MAP_FIXED, -1, 0) == page(7));
        memset(page(7), 0xdd, 4096);
    }
    if (strcmp(what, "moved") == 0) {
        // A page of its data in another one's place.
        CHECK(mremap(page(9), 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page(11)) == page(11));
        memset(page(11), 0xdd, 4096);
    }
    if (strcmp(what, "empty") == 0) {
        CHECK(madvise(page(20), 100 * 4096, MADV_DONTNEED) == 0);
        CHECK(*page(21) == 0);
        memset(page(21), 0xdd, 4096);
    }
    if (strcmp(what, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(what, "thread") == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, in_a_thread, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    if (strcmp(what, "fork") == 0) {
        // A child that still has these pages when its parent has ended.
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (int i = 0; i < 50; i++) {
                usleep(1000);
                for (size_t at = 0; at < sizeof data; at++) {
                    if (((unsigned char *)&data)[at] != 0xee) abort();
                }
            }
            _exit(0);
        }
    }
    if (strcmp(what, "vfork") == 0) {
        char *argv[] = {self, "child", "write", NULL};
        pid_t pid;
        int status;
        CHECK(posix_spawn(&pid, self, NULL, NULL, argv, environ) == 0);
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
        CHECK(*page(1) == 0xee);
    }
    if (strcmp(what, "shared") == 0) {
        CHECK(mmap(page(13), 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page(13));
        memset(page(13), 0xdd, 4096);
    }
    if (strcmp(what, "twice") == 0) {
        // The same of the file again, by another descriptor.
        int fd = open("/proc/self/exe", O_RDONLY);
        CHECK(fd >= 0);
        CHECK(mmap(page(2), 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0x2000) == page(2));
        memset(page(2), 0xdd, 4096);
    }
    if (strcmp(what, "exec") == 0) execl(self, self, "child", "write", NULL);
}

static int run(char *self, char *mode, const char *what) {
    char *argv[] = {self, mode, (char *)what, NULL};
    pid_t pid;
    int status;
    CHECK(posix_spawn(&pid, self, NULL, NULL, argv, environ) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

// A forked child that executes the program, as a shell's; what a tracer writes is its own.
static int run_traced(char *self) {
    pid_t pid = fork();
    int status;
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execl(self, self, "child", "write", NULL);
        _exit(9);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    long word = ptrace(PTRACE_PEEKDATA, pid, page(30), 0);
    CHECK(word == 0);
    CHECK(ptrace(PTRACE_POKEDATA, pid, page(30), 0x0102030405060708) == 0);
    CHECK(ptrace(PTRACE_POKEDATA, pid, page(30), 0) == 0);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static int run_forked(char *self) {
    pid_t pid = fork();
    int status;
    if (pid == 0) {
        execl(self, self, "child", "write", NULL);
        _exit(9);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static sigjmp_buf back;

static void on_fault(int signal) {
    (void)signal;
    siglongjmp(back, 1);
}

// Another program, at the same addresses or elsewhere: it finds nothing there.
static void look_around(const char *from, const char *to) {
    signal(SIGSEGV, on_fault);
    static uintptr_t at, end;
    at = strtoull(from, NULL, 16);
    end = strtoull(to, NULL, 16);
    for (; at < end; at += 4096) {
        if (sigsetjmp(back, 1) == 0) {
            int is_left = *(volatile unsigned char *)at == 0xee;
            CHECK(!is_left);
        }
    }
    exit(0);
}

static void all(char *self, char *other) {
    char from[32], to[32];
    snprintf(from, sizeof from, "%lx", (unsigned long)&data);
    snprintf(to, sizeof to, "%lx", (unsigned long)(&data + 1));
    for (int i = 0; i < 4 * (int)ODD; i++) {
        const char *what = odd[i % ODD];
        // A tracer has to know where the data lies.
#ifdef __PIE__
        int is_traced = 0;
#else
        int is_traced = strcmp(what, "traced") == 0;
#endif
        int status = is_traced ? run_traced(self) : run(self, "child", what);
        CHECK(status == (strcmp(what, "kill") == 0 ? SIGKILL : 0));
        // At once, as a forked child, or after another program.
        if (i / ODD % 2 == 0) CHECK(run(self, "child", "write") == 0);
        if (i / ODD % 2 == 1) CHECK(run_forked(self) == 0);
        if (other && i % 3 == 0) {
            char *argv[] = {other, "look", from, to, NULL};
            pid_t pid;
            CHECK(posix_spawn(&pid, other, NULL, NULL, argv, environ) == 0);
            CHECK(waitpid(pid, &status, 0) == pid && status == 0);
        }
    }
    puts("all are fresh");
}

// A copy whose data is changed, in place, between two runs.
static void change(char *copy) {
    int fd = open(copy, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    static char file[4 << 20];
    ssize_t len = read(fd, file, sizeof file);
    char sign[9] = "mar";
    strcat(sign, "kmark");
    char *at = NULL;
    for (char *next = file; (next = memmem(next, file + len - next, sign, 8)); next++) at = next[8] == 0x11 ? next : at;
    CHECK(at);
    close(fd);
    for (int i = 0; i < 6; i++) {
        CHECK(run(copy, "child", "write") == 0);
        CHECK(run(copy, "child", "write") == 0);
        fd = open(copy, O_WRONLY | O_CLOEXEC);
        CHECK(fd >= 0 && pwrite(fd, "M", 1, at - file) == 1);
        close(fd);
        int changed = run(copy, "child", "write"), again = run(copy, "child", "write");
        CHECK(WEXITSTATUS(changed) == 1 && WEXITSTATUS(again) == 1);
        fd = open(copy, O_WRONLY | O_CLOEXEC);
        CHECK(fd >= 0 && pwrite(fd, "m", 1, at - file) == 1);
        close(fd);
    }
    puts("each has what its file had");
}

int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "look") == 0) look_around(argv[2], argv[3]);
    if (argc > 2 && strcmp(argv[1], "child") == 0) {
        if (memcmp(data.mark, "Markmark", 8) == 0) _exit(1);
        check_fresh();
        do_oddly(argv[2], argv[0]);
        _exit(0);
    }
    if (argc > 2 && strcmp(argv[1], "change") == 0) {
        change(argv[2]);
        return 0;
    }
    all(argv[0], argc > 1 ? argv[1] : NULL);
    return 0;
}
