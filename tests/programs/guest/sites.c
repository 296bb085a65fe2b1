// A site of each tier, and what a program can find out about it. Prints one line a check; the same on Linux.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

struct seen {
    uint64_t result, rcx, r11, flags, red_zone, cmp;
};

// Each: rdi = struct seen *, rsi = number. Marks the red zone, calls, notes what is left.
#define BEFORE(name)                                                                                                   \
    ".global " name "\n.type " name ",@function\n" name ":\n.cfi_startproc\n"                                          \
    "mov %rdi, %r8\nmov %rsi, %rax\nmovq $0x5a5a5a5a, -8(%rsp)\n"
#define AFTER(name)                                                                                                    \
    "mov %rax, 0(%r8)\nmov %rcx, 8(%r8)\nmov %r11, 16(%r8)\nmov -8(%rsp), %rdx\nmov %rdx, 32(%r8)\nret\n"              \
    ".cfi_endproc\n.size " name ", . - " name "\n"

asm(".text\n" BEFORE("tier1") "mov $39, %eax\n.global tier1_site\ntier1_site: syscall\n" AFTER("tier1"));
// The `jmp` over the padding makes it a hole.
asm(".text\n" BEFORE("tier2") "jmp 1f\n.balign 16\n.nops 16\n1: .global tier2_site\ntier2_site: syscall\n" AFTER("tier2"));
asm(".text\n" BEFORE("tier3") "test %rax, %rax\n.global tier3_site\ntier3_site: syscall\n"
    "cmp $-4095, %rax\nsetae 40(%r8)\n" AFTER("tier3"));

void tier1(struct seen *, long);
void tier2(struct seen *, long);
void tier3(struct seen *, long);
extern char tier1_site[], tier2_site[], tier3_site[];

// read(fd, buffer, 1) and what follows it, at a site of tier 3.
asm(".text\n.global read_one\n.type read_one,@function\nread_one:\n.cfi_startproc\nmov %rdx, %r8\nmov $1, %edx\n"
    "xor %eax, %eax\ntest %rax, %rax\n.global read_site\nread_site: syscall\ncmp $1, %rax\nsete (%r8)\nret\n.cfi_endproc\n"
    ".size read_one, . - read_one\n");
long read_one(int fd, char *to, char *is_one);
extern char read_site[];

static void check(const char *what, int holds) {
    printf("%s %s\n", holds ? "ok" : "FAIL", what);
    fflush(stdout);
}

static void registers(const char *name, void (*f)(struct seen *, long), char *site) {
    struct seen seen = {0};
    f(&seen, SYS_getpid);
    char text[80];
    snprintf(text, sizeof text, "%s result, rcx, red zone, compare", name);
    check(text, seen.result == (uint64_t)getpid() && seen.rcx == (uint64_t)site + 2 && seen.red_zone == 0x5a5a5a5a &&
                    (seen.cmp & 0xff) == 0);
    snprintf(text, sizeof text, "%s r11 holds flags", name);
    check(text, (seen.r11 & 0x202) == 0x202);
}

// Shared with children, who wait for the handler.
static volatile struct {
    uint64_t rip, rcx;
} *handler;
static void note(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    ucontext_t *uc = context;
    handler->rcx = uc->uc_mcontext.gregs[REG_RCX];
    handler->rip = uc->uc_mcontext.gregs[REG_RIP];
}

// A signal finds a read asleep at the site; it begins again, and its moved instruction runs.
static void sleeping_read(int flags, const char *name) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | flags};
    sigaction(SIGUSR1, &action, NULL);
    int data[2];
    if (pipe(data)) exit(1);
    handler->rip = 0;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        // Until the parent sleeps in its read, or has been told in vain.
        char path[64], state[256];
        snprintf(path, sizeof path, "/proc/%d/stat", parent);
        for (;;) {
            FILE *stat = fopen(path, "r");
            size_t len = fread(state, 1, sizeof state - 1, stat);
            fclose(stat);
            state[len] = 0;
            char *name_end = strrchr(state, ')');
            if (name_end && name_end[2] == 'S') break;
            sched_yield();
        }
        kill(parent, SIGUSR1);
        while (!handler->rip) sched_yield();
        if (write(data[1], "x", 1) != 1) _exit(1);
        _exit(0);
    }
    char byte = 0, is_one = 7;
    long got = read_one(data[0], &byte, &is_one);
    if (flags & SA_RESTART)
        check(name, got == 1 && byte == 'x' && is_one == 1 && handler->rip == (uint64_t)read_site);
    else
        check(name, got == -4 && is_one == 0 && handler->rip == (uint64_t)read_site + 2 && handler->rcx == (uint64_t)read_site + 2);
    waitpid(child, NULL, 0);
    close(data[0]);
    close(data[1]);
}

// Single steps lead through a call, jump or not, and on.
static volatile int steps_before, steps_behind, steps_elsewhere;
static char *volatile stepped_site;
static void step(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    char *rip = (char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    Dl_info found;
    if (!dladdr(rip, &found)) steps_elsewhere++;
    if (rip > stepped_site + 2 && rip < stepped_site + 24) steps_behind++;
    if (rip <= stepped_site && rip > stepped_site - 64) steps_before++;
}
#define FLAGS(operation) asm volatile("sub $128, %%rsp\npushfq\n" operation ", (%%rsp)\npopfq\nadd $128, %%rsp" ::: "memory", "cc")
static long call_site(char *site, long number);
static void single_steps(const char *name, void (*f)(struct seen *, long), char *site) {
    struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    struct seen seen = {0};
    long straight = 0;
    stepped_site = site;
    steps_before = steps_behind = steps_elsewhere = 0;
    FLAGS("orq $0x100");
    if (f) f(&seen, SYS_getpid);
    else straight = call_site(site, SYS_getppid);
    FLAGS("andq $~0x100");
    check(name, (f ? seen.result == (uint64_t)getpid() && steps_before > 1 : straight == getppid()) && steps_behind > 2 && !steps_elsewhere);
}

static int in_maps(uint64_t address) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int found = 0;
    while (!found && fgets(line, sizeof line, maps)) {
        uint64_t start, end;
        found = sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= address && address < end;
    }
    fclose(maps);
    return found;
}

// A thread calls without pause while others interrupt it: its counter is never in a stub.
static volatile int stop, interrupts, strange;
static void flood(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    uint64_t rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    interrupts++;
    Dl_info found;
    if (!dladdr((void *)rip, &found)) strange++;
}
static void *caller(void *unused) {
    (void)unused;
    struct seen seen;
    long calls = 0;
    while (!stop) {
        seen.cmp = 0;
        tier3(&seen, SYS_getpid);
        if (seen.result != (uint64_t)getpid() || (seen.cmp & 0xff)) strange++;
        tier1(&seen, 0), tier2(&seen, SYS_getpid);
        calls++;
    }
    return (void *)calls;
}
static void interrupted_threads(void) {
    struct sigaction action = {.sa_sigaction = flood, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR2, &action, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, caller, NULL);
    for (int i = 0; i < 2000; i++) {
        pthread_kill(thread, SIGUSR2);
        sched_yield();
    }
    while (!interrupts) sched_yield();
    stop = 1;
    pthread_join(thread, NULL);
    check("signals find the counter in the program's own text", strange == 0);
}

static void forks(void) {
    struct seen seen = {0};
    tier3(&seen, SYS_fork);
    if (seen.result == 0) _exit((seen.cmp & 0xff) == 0 && seen.rcx == (uint64_t)tier3_site + 2 ? 42 : 1);
    int status = 0;
    waitpid((pid_t)seen.result, &status, 0);
    check("fork in the middle of a site", WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

// Somebody jumps straight at the instruction.
static long call_site(char *site, long number) {
    struct seen seen = {0};
    long result;
    register struct seen *r8 asm("r8") = &seen;
    asm volatile("call *%[site]" : "=a"(result), "+r"(r8) : "a"(number), [site] "r"(site)
                 : "rcx", "rdx", "r11", "rdi", "rsi", "memory", "cc");
    return result;
}

// cpuid at a site, and in code that the program wrote itself.
asm(".text\n.global ask\n.type ask,@function\nask:\n.cfi_startproc\npush %rbx\n.cfi_def_cfa_offset 16\n.cfi_offset 3,-16\n"
    "mov %rdx, %r8\nmov %edi, %eax\nmov %esi, %ecx\n"
    "mov $0x7fffffff, %r9d\nadd $1, %r9d\nstc\ncpuid\npushfq\n.cfi_adjust_cfa_offset 8\npop %r9\n.cfi_adjust_cfa_offset -8\n"
    "mov %eax, 0(%r8)\nmov %ebx, 4(%r8)\nmov %ecx, 8(%r8)\nmov %edx, 12(%r8)\nmov %r9, %rax\n"
    "pop %rbx\n.cfi_def_cfa_offset 8\nret\n.cfi_endproc\n.size ask, . - ask\n");
uint64_t ask(uint32_t leaf, uint32_t subleaf, uint32_t answer[4]);

static void (*truth)(uint32_t, uint32_t, uint32_t[4]);

// The core that runs this: as Linux's vDSO reads it.
static unsigned core(void) {
    unsigned limit;
    asm volatile("lsl %1, %0" : "=r"(limit) : "r"(0x7b) : "cc");
    return limit;
}

// Leaves that differ by core are answered for the one that asks, wherever the host moves the thread.
static void *by_core(void *same) {
    static const uint32_t leaves[] = {1, 0xb, 0x1a, 0x1f, 0x8000001e};
    for (int round = 0; round < 200; round++)
        for (unsigned i = 0; i < sizeof leaves / sizeof *leaves; i++)
            for (uint32_t subleaf = 0; subleaf < 3; subleaf++) {
                uint32_t got[4], want[4];
                unsigned before, after;
                do {
                    before = core();
                    ask(leaves[i], subleaf, got);
                    truth(leaves[i], subleaf, want);
                    after = core();
                } while (before != after);
                if (memcmp(got, want, sizeof got)) *(volatile int *)same = 0;
            }
    return NULL;
}

static void processor(void) {
    // push %rbx; mov %rdx,%r8; mov %edi,%eax; mov %esi,%ecx; cpuid; stores; pop %rbx; ret
    static const unsigned char code[] = {0x53, 0x49, 0x89, 0xd0, 0x89, 0xf8, 0x89, 0xf1, 0x0f, 0xa2, 0x41, 0x89, 0x00, 0x41, 0x89,
                                         0x58, 0x04, 0x41, 0x89, 0x48, 0x08, 0x41, 0x89, 0x50, 0x0c, 0x5b, 0xc3};
    void *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(own, code, sizeof code);
    truth = (void (*)(uint32_t, uint32_t, uint32_t[4]))own;
    static const uint32_t leaves[] = {0, 2, 4, 7, 0xd, 0x14, 0x15, 0x16, 0x19, 0x80000000, 0x80000001, 0x80000006, 0x80000008, 0x40000000};
    int same = 1, flags = 1;
    for (int round = 0; round < 3; round++)
        for (unsigned i = 0; i < sizeof leaves / sizeof *leaves; i++)
            for (uint32_t subleaf = 0; subleaf < 3; subleaf++) {
                uint32_t got[4], want[4];
                uint64_t f = ask(leaves[i], subleaf, got);
                truth(leaves[i], subleaf, want);
                if (memcmp(got, want, sizeof got)) same = 0;
                if ((f & 0x801) != 0x801) flags = 0;
            }
    check("cpuid answers as the processor does", same);
    check("cpuid keeps the flags", flags);
    int same_by_core = 1;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, by_core, &same_by_core);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    check("cpuid answers as the core does", same_by_core);
    munmap(own, 4096);
}

static void libraries(void) {
    int good = 1;
    for (int i = 0; i < 50; i++) {
        void *library = dlopen("libresolv.so.2", RTLD_NOW | RTLD_LOCAL);
        if (!library || dlclose(library)) good = 0;
    }
    check("libraries come and go", good);
}

// The C library as the loader sees it: name, and bytes from its lowest address to its end.
static struct {
    const char *name;
    size_t span;
} c_library;
static int find_library(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size, (void)data;
    if (!strstr(info->dlpi_name, "libc.so")) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        size_t end = (segment->p_vaddr + segment->p_memsz + 4095) & ~4095ul;
        if (segment->p_type == PT_LOAD && end > c_library.span) c_library.span = end;
    }
    c_library.name = info->dlpi_name;
    return 1;
}

// Mapped as a loader begins, and let go: what was brought along goes too, or the place would not be free again.
static void mapped_and_unmapped(void) {
    dl_iterate_phdr(find_library, NULL);
    int fd = open(c_library.name, O_RDONLY), same = fd >= 0;
    void *first = mmap(NULL, c_library.span, PROT_READ, MAP_PRIVATE, fd, 0);
    munmap(first, c_library.span);
    for (int i = 0; i < 100; i++) {
        void *again = mmap(NULL, c_library.span, PROT_READ, MAP_PRIVATE, fd, 0);
        same = same && again == first;
        // In two pieces, the other way round.
        munmap((char *)again + 4096, c_library.span - 4096);
        munmap(again, 4096);
    }
    close(fd);
    check("a library that is mapped and unmapped leaves nothing", same);
}

// Text that grows where it is shows what the file has behind it.
static int find_text(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    if (!strstr(info->dlpi_name, "libc.so")) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) *(ElfW(Phdr) *)data = info->dlpi_phdr[i];
    return 1;
}
static void grown_text(void) {
    ElfW(Phdr) text;
    dl_iterate_phdr(find_text, &text);
    int fd = open(c_library.name, O_RDONLY);
    char *whole = mmap(NULL, c_library.span, PROT_READ, MAP_PRIVATE, fd, 0), *at = whole + text.p_vaddr, page[4096];
    size_t len = (text.p_memsz + 4095) & ~4095ul;
    int good = mmap(at, len, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, text.p_offset) == at;
    good = good && munmap(at + len, 4096) == 0 && mremap(at, len, len + 4096, 0) == at;
    good = good && pread(fd, page, sizeof page, text.p_offset + len) == sizeof page && !memcmp(page, at + len, sizeof page);
    munmap(whole, c_library.span);
    close(fd);
    check("text that grows is the file's", good);
}

static void second_library(void) {
    void *library = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
    pid_t (*other)(void) = library ? (pid_t (*)(void))dlsym(library, "getppid") : NULL;
    check("a second copy of the C library calls", other && other() == getppid() && dlclose(library) == 0);
}

int main(void) {
    handler = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    registers("tier 1", tier1, tier1_site);
    registers("tier 2", tier2, tier2_site);
    registers("tier 3", tier3, tier3_site);
    check("a jump straight at each site", call_site(tier1_site, SYS_getppid) == getppid() &&
          call_site(tier2_site, SYS_getppid) == getppid() && call_site(tier3_site, SYS_getppid) == getppid());
    single_steps("single steps through tier 1", tier1, tier1_site);
    single_steps("single steps through tier 2", tier2, tier2_site);
    single_steps("single steps through tier 3", tier3, tier3_site);
    single_steps("single steps through the instruction itself", NULL, tier1_site);
    forks();
    sleeping_read(SA_RESTART, "a read asleep at its site begins again");
    sleeping_read(0, "a read asleep at its site is interrupted");
    interrupted_threads();
    processor();
    libraries();
    mapped_and_unmapped();
    grown_text();
    second_library();
    check("text is where maps say", in_maps((uint64_t)tier1_site) && in_maps((uint64_t)&dlopen));
    return 0;
}
