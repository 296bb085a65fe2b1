// Text of the container's own: a program that was written there, code that the program makes. Prints one line a check;
// the same on Linux. "jumps": calls until its text has a patched image, and on. "modified": as it changed its own text. "threads": busy ones and one asleep at a site.
// "crowd": as that, never one thread alone, under signals and with forks. "loaded FILE": an object that the program loads itself.
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

// Tier 1, and tier 3: the instruction after the call moves. Pages of their own, that one mprotect changes.
asm(".text\n.balign 4096\n.global tier1\n.type tier1,@function\ntier1:\n.cfi_startproc\nmov $39, %eax\nsyscall\nret\n"
    ".cfi_endproc\n.size tier1, . - tier1\n"
    ".global tier3\n.type tier3,@function\ntier3:\n.cfi_startproc\nmov %edi, %eax\nsyscall\ncmp $-4095, %rax\n"
    "jae 1f\nret\n1: mov $-1, %rax\nret\n.cfi_endproc\n.size tier3, . - tier3\n.balign 4096\n");
long tier1(void);
long tier3(long number);
extern char __executable_start[], etext[];

static void check(const char *what, int holds) {
    printf("%s %s\n", holds ? "ok" : "FAIL", what);
    fflush(stdout);
}

static volatile int handled, outside;
static void tick(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    uintptr_t rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    handled++;
    // The vDSO's time functions are not used here, so all code is the program's.
    outside += rip < (uintptr_t)__executable_start || rip >= (uintptr_t)etext;
}

// Calls at both sites; returns how often the result was wrong.
static int calls(int count) {
    int wrong = 0;
    long own = getpid();
    for (int i = 0; i < count; i++) wrong += tier1() != own || tier3(SYS_getpid) != own || tier3(-1) != -1;
    return wrong;
}

static int in_child(int count) {
    pid_t child = fork();
    if (child == 0) _exit(calls(count) ? 1 : 7);
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {}
    return WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

static void jumps(void) {
    struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 200}, {0, 200}};
    check("before", calls(10) == 0 && in_child(10));
    setitimer(ITIMER_REAL, &often, NULL);
    check("a child gets the image, its parent not", in_child(1000));
    check("under signals", calls(1000) == 0);
    int wrong = 0;
    while (handled < 50) wrong += calls(100);
    check("until many came", wrong == 0);
    memset(&often, 0, sizeof often);
    setitimer(ITIMER_REAL, &often, NULL);
    check("no handler sees a stub", outside == 0);
    check("a child afterwards", in_child(1000));
}

static void modified(void) {
    char *page = (char *)tier1;
    check("writable", mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    page[1] = SYS_getppid;
    check("text again", mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
    int wrong = 0;
    for (int i = 0; i < 1000; i++) wrong += tier1() != getppid();
    check("the changed call", wrong == 0);
}

// mov $NUMBER,%eax; syscall; ret
static void write_code(unsigned char *at, int number) {
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3};
    memcpy(code + 1, &number, 4);
    memcpy(at, code, sizeof code);
}

static int runs(void *code, long result) {
    int wrong = 0;
    for (int i = 0; i < 400; i++) wrong += ((long (*)(void))code)() != result;
    return wrong == 0;
}

static void made(void) {
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    write_code(code, SYS_getpid);
    mprotect(code, 4096, PROT_READ | PROT_EXEC);
    check("made code", runs(code, getpid()));
    mprotect(code, 4096, PROT_READ | PROT_WRITE);
    check("it reads as it was written", code[0] == 0xb8 && code[5] == 0x0f && code[6] == 0x05);
    write_code(code, SYS_getppid);
    mprotect(code, 4096, PROT_READ | PROT_EXEC);
    check("rewritten code", runs(code, getppid()));
    unsigned char *moved = mremap(code, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, code + (1 << 20));
    check("moved code", moved == code + (1 << 20) && runs(moved, getppid()));
    code = mmap(moved, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    write_code(code, SYS_getuid);
    check("other code at its place", runs(code, getuid()));
}

static int data[2];
static void *sleeper(void *unused) {
    (void)unused;
    char byte;
    // Number, descriptor, buffer, length: asleep at a site whose next instruction moves.
    register long number asm("rdi") = SYS_read;
    long result;
    asm volatile("mov %1, %%eax\nmov %2, %%edi\nsyscall\ncmp $-4095, %%rax\n"
                 : "=&a"(result) : "r"((int)number), "r"(data[0]), "S"(&byte), "d"(1L) : "rcx", "r11", "memory");
    return (void *)(long)(result == 1 && byte == 'x');
}

static void *caller(void *unused) {
    (void)unused;
    return (void *)(long)calls(1000);
}

static void threads(void) {
    pthread_t asleep, busy[3];
    check("pipe", pipe(data) == 0 && pthread_create(&asleep, NULL, sleeper, NULL) == 0);
    for (int i = 0; i < 3; i++) pthread_create(&busy[i], NULL, caller, NULL);
    long wrong = calls(1000);
    for (int i = 0; i < 3; i++) {
        void *result;
        pthread_join(busy[i], &result);
        wrong += (long)result;
    }
    check("calls of threads", wrong == 0);
    void *woken;
    check("write", write(data[1], "x", 1) == 1 && pthread_join(asleep, &woken) == 0);
    check("the thread that slept", woken != NULL);
    check("alone again", calls(10000) == 0);
}

static void *in_crowd(void *count) {
    return (void *)(long)calls((int)(long)count);
}

static void *forking(void *unused) {
    (void)unused;
    int good = 1;
    for (int i = 0; i < 5; i++) good = good && in_child(500);
    return (void *)(long)good;
}

// Sites are executed and slept at by several threads all the time, whose text comes to jump meanwhile.
static void crowd(void) {
    struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 200}, {0, 200}};
    pthread_t asleep, forker, busy[4];
    check("pipe", pipe(data) == 0 && pthread_create(&asleep, NULL, sleeper, NULL) == 0);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 4; i++) pthread_create(&busy[i], NULL, in_crowd, (void *)15000L);
    pthread_create(&forker, NULL, forking, NULL);
    long wrong = 0;
    void *result;
    for (int i = 0; i < 4; i++) {
        pthread_join(busy[i], &result);
        wrong += (long)result;
    }
    check("calls of the crowd", wrong == 0);
    pthread_join(forker, &result);
    check("its children", result != NULL);
    check("the thread that slept through", write(data[1], "x", 1) == 1 && pthread_join(asleep, &result) == 0 && result != NULL);
    memset(&often, 0, sizeof often);
    setitimer(ITIMER_REAL, &often, NULL);
    check("no handler sees a stub", outside == 0);
}

// Reads an object into memory that no file is behind, as packed programs do; text is not writable then.
static char *base;
static size_t span;
static long (*entry)(long what, long first, long second);
static int load(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat)) return 0;
    char *file = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    Elf64_Ehdr *header = (Elf64_Ehdr *)file;
    Elf64_Phdr *segments = (Elf64_Phdr *)(file + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD) span = (segments[i].p_vaddr + segments[i].p_memsz + 4095) & ~4095ul;
    base = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr *it = &segments[i];
        if (it->p_type != PT_LOAD) continue;
        char *start = base + (it->p_vaddr & ~4095ul), *end = base + ((it->p_vaddr + it->p_memsz + 4095) & ~4095ul);
        mprotect(start, end - start, PROT_READ | PROT_WRITE);
        memcpy(base + it->p_vaddr, file + it->p_offset, it->p_filesz);
        int prot = (it->p_flags & PF_R ? PROT_READ : 0) | (it->p_flags & PF_W ? PROT_WRITE : 0) | (it->p_flags & PF_X ? PROT_EXEC : 0);
        mprotect(start, end - start, prot);
    }
    entry = (long (*)(long, long, long))(base + header->e_entry);
    munmap(file, stat.st_size);
    close(fd);
    return 1;
}

static void *in_object(void *count) {
    return (void *)entry('c', (long)count, getpid());
}

static void *asleep_in_object(void *unused) {
    (void)unused;
    return (void *)entry('r', data[0], 0);
}

static volatile int foreign;
static void tick_in_object(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    uintptr_t rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    handled++;
    foreign += (rip < (uintptr_t)__executable_start || rip >= (uintptr_t)etext) && rip - (uintptr_t)base >= span;
}

// Its text, page by page, is as the file had it while it can be written.
static int reads_as_written(char *page, unsigned char number) {
    static const unsigned char rest[] = {0, 0, 0, 0x0f, 0x05, 0xc3, 0x89, 0xf8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff};
    return (unsigned char)page[0] == 0xb8 && (unsigned char)page[1] == number && !memcmp(page + 2, rest, sizeof rest);
}

static void loaded(const char *path) {
    struct sigaction action = {.sa_sigaction = tick_in_object, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 200}, {0, 200}};
    pthread_t asleep, busy[3];
    void *result;
    check("loaded", load(path) && pipe(data) == 0);
    // Several threads execute it and sleep in it meanwhile.
    pthread_create(&asleep, NULL, asleep_in_object, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 3; i++) pthread_create(&busy[i], NULL, in_object, (void *)10000L);
    long wrong = entry('c', 2000, getpid());
    pid_t child = fork();
    if (child == 0) _exit(entry('c', 2000, getpid()) ? 1 : 7);
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {}
    check("a child in the middle", WIFEXITED(status) && WEXITSTATUS(status) == 7);
    for (int i = 0; i < 3; i++) {
        pthread_join(busy[i], &result);
        wrong += (long)result;
    }
    check("calls of threads", wrong == 0);
    check("the thread that slept", write(data[1], "x", 1) == 1 && pthread_join(asleep, &result) == 0 && result != NULL);
    memset(&often, 0, sizeof often);
    setitimer(ITIMER_REAL, &often, NULL);
    check("no handler sees a stub", foreign == 0);
    // Rewritten, as programs do that never have memory writable and executable at once.
    char *number = (char *)entry('a', 0, 0), *page = number - 1;
    for (int i = 0; i < 20; i++) {
        check("writable", mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0 && reads_as_written(page, SYS_getpid));
        *number = SYS_getppid;
        check("text again", mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
        for (int j = 0; j < 300; j++) wrong += ((long (*)(void))page)() != getppid();
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
        check("as it was written", reads_as_written(page, SYS_getppid));
        *number = SYS_getpid;
        mprotect(page, 4096, PROT_READ | PROT_EXEC);
        wrong += entry('c', 300, getpid());
    }
    check("rewritten calls", wrong == 0);
    // Moved, all of it.
    char *moved = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long text = page - base;
    check("moved", mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, moved + text) == moved + text && reads_as_written(moved + text, SYS_getpid));
    for (int j = 0; j < 600; j++) wrong += ((long (*)(void))(moved + text))() != getpid();
    check("calls where it moved to", wrong == 0);
    // Back, emptied, and other code in its place.
    mremap(moved + text, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page);
    wrong += entry('c', 2000, getpid());
    check("emptied", madvise(page, 4096, MADV_DONTNEED) == 0 && page[0] == 0 && page[5] == 0);
    unsigned char *code = mmap(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    write_code(code, SYS_getuid);
    check("other code in its place", runs(code, getuid()) && wrong == 0);
    munmap(base, span);
    check("its place is free", mmap(base, span, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == base);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "modified")) modified();
    else if (argc > 1 && !strcmp(argv[1], "made")) made();
    else if (argc > 1 && !strcmp(argv[1], "threads")) threads();
    else if (argc > 1 && !strcmp(argv[1], "crowd")) crowd();
    else if (argc > 2 && !strcmp(argv[1], "loaded")) loaded(argv[2]);
    else jumps();
}
