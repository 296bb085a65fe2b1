// Threads one after the other: what one leaves, the next one does not find; it begins with what its maker has.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xmmintrin.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *in_thread(void *(*run)(void *), void *argument) {
    pthread_t id;
    void *result;
    if (pthread_create(&id, NULL, run, argument) || pthread_join(id, &result)) die("thread");
    return result;
}

static void *rounding(void *unused) { return (void *)(intptr_t)(_MM_GET_ROUNDING_MODE() + (unused != NULL)); }

static void rounds_as_its_maker(void) {
    const int modes[] = {_MM_ROUND_UP, _MM_ROUND_NEAREST, _MM_ROUND_TOWARD_ZERO, _MM_ROUND_DOWN, _MM_ROUND_NEAREST};
    for (int n = 0; n < 20; n++) {
        _MM_SET_ROUNDING_MODE(modes[n % 5]);
        if ((intptr_t)in_thread(rounding, NULL) != modes[n % 5]) printf("round %d differs\n", n);
    }
    _MM_SET_ROUNDING_MODE(_MM_ROUND_NEAREST);
    puts("rounding");
}

// A raw thread, whose first instruction stores a vector register.
static uint64_t seen[4];
static int ended;
static char stack[65536] __attribute__((aligned(64)));

static void raw_thread(uint64_t value) {
    uint64_t wide[2] = {value, ~value};
    long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    register long stack_top __asm__("rsi") = (long)(stack + sizeof stack);
    register int *parent __asm__("rdx") = &ended;
    register int *child __asm__("r10") = &ended;
    register long tls __asm__("r8") = 0;
    long result = SYS_clone;
    __asm__ volatile(
        "movdqu (%[wide]), %%xmm15\n syscall\n"
        "test %%rax, %%rax\n jnz 1f\n"
        "movdqu %%xmm15, (%[seen])\n"
        "xor %%edi, %%edi\n mov $60, %%eax\n syscall\n hlt\n"
        "1:"
        : "+a"(result)
        : "D"(flags), "r"(stack_top), "r"(parent), "r"(child), "r"(tls), [wide] "b"(wide), [seen] "r"(seen)
        : "rcx", "r11", "memory", "xmm15");
    if (result < 0) die("clone");
    int tid;
    while ((tid = __atomic_load_n(&ended, __ATOMIC_SEQ_CST))) syscall(SYS_futex, &ended, FUTEX_WAIT, tid, NULL, NULL, 0);
}

static void has_the_registers_of_its_maker(void) {
    for (uint64_t n = 1; n < 20; n++) {
        raw_thread(n * 0x0101010101010101);
        if (seen[0] != n * 0x0101010101010101 || seen[1] != ~seen[0]) printf("registers of thread %d differ\n", (int)n);
        in_thread(rounding, NULL);
    }
    puts("registers");
}

static void *count_processors(void *confine) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) die("sched_getaffinity");
    int count = CPU_COUNT(&set), there = sched_getcpu();
    if (!CPU_ISSET(there, &set)) puts("runs where it may not");
    if (confine) {
        CPU_ZERO(&set);
        CPU_SET(0, &set);
        if (sched_setaffinity(0, sizeof set, &set)) die("sched_setaffinity");
    }
    return (void *)(intptr_t)count;
}

static void runs_where_its_maker_may(void) {
    cpu_set_t all, first;
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    for (int n = 0; n < 20; n++) {
        if ((intptr_t)in_thread(count_processors, n % 2 ? "confine" : NULL) != CPU_COUNT(&all)) puts("too few processors");
        sched_setaffinity(0, sizeof first, &first);
        if ((intptr_t)in_thread(count_processors, NULL) != 1) puts("too many processors");
        sched_setaffinity(0, sizeof all, &all);
    }
    puts("processors");
}

static int64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *used(void *burn) {
    int64_t before = cpu_ns();
    if (burn) while (cpu_ns() < 60000000) continue;
    return (void *)(intptr_t)before;
}

static void used_no_time_yet(void) {
    for (int n = 0; n < 4; n++) {
        in_thread(used, "burn");
        if ((intptr_t)in_thread(used, NULL) > 30000000) puts("older than it is");
    }
    puts("time");
}

static void *leaves(void *unused) {
    static char alternate[65536];
    stack_t on = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigset_t all;
    sigfillset(&all);
    if (sigaltstack(&on, NULL) || pthread_sigmask(SIG_SETMASK, &all, NULL)) die("signals");
    pthread_setname_np(pthread_self(), "left");
    syscall(SYS_arch_prctl, 0x1001, alternate);
    return unused;
}

static void *finds(void *unused) {
    stack_t has;
    sigset_t mask;
    char name[16];
    unsigned long gs = 1;
    sigaltstack(NULL, &has);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    pthread_getname_np(pthread_self(), name, sizeof name);
    syscall(SYS_arch_prctl, 0x1004, &gs);
    if (has.ss_flags != SS_DISABLE) puts("an alternate stack");
    if (sigismember(&mask, SIGUSR1)) puts("a mask");
    if (!strcmp(name, "left")) puts("a name");
    if (gs) puts("a GS");
    return unused;
}

static void finds_nothing_of_the_one_before(void) {
    for (int n = 0; n < 20; n++) {
        in_thread(leaves, NULL);
        in_thread(finds, NULL);
    }
    puts("nothing");
}

static void *ends_the_process(void *unused) {
    _exit(unused != NULL);
}

static void child_has_threads_of_its_own(void) {
    for (int n = 0; n < 50; n++) {
        in_thread(rounding, NULL);
        pid_t pid = fork();
        if (pid == 0) {
            in_thread(finds, NULL);
            in_thread(rounding, NULL);
            if (n % 3 == 0) in_thread(ends_the_process, NULL);
            if (n % 3 == 1) execl("/bin/true", "true", NULL);
            _exit(0);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status) printf("child %d: %#x\n", n, status);
    }
    puts("children");
}

static void *makes_others(void *unused) {
    for (int n = 0; n < 200; n++) in_thread(rounding, NULL);
    return unused;
}

static void many_make_threads(void) {
    pthread_t ids[8];
    for (int n = 0; n < 8; n++) if (pthread_create(&ids[n], NULL, makes_others, NULL)) die("pthread_create");
    for (int n = 0; n < 8; n++) pthread_join(ids[n], NULL);
    puts("many");
}

int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "rest")) {
        child_has_threads_of_its_own();
        many_make_threads();
        fflush(stdout);
        return getchar() != '\n';
    }
    if (count > 1) {
        for (int n = 0; n < 3; n++) in_thread(finds, NULL);
        puts("after exec");
        return 0;
    }
    rounds_as_its_maker();
    has_the_registers_of_its_maker();
    runs_where_its_maker_may();
    used_no_time_yet();
    finds_nothing_of_the_one_before();
    child_has_threads_of_its_own();
    many_make_threads();
    fflush(stdout);
    execl(words[0], words[0], "again", NULL);
    die("exec");
}
