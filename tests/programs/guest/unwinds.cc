// Unwinding out of handlers that interrupted a site, by single steps, in storms of signals and asleep: walks, exceptions,
// cancelled and ended threads. "unwinds TIER WALKS": a line a check, the same on Linux; what the steps saw as offsets.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <execinfo.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

// NAME(count, number, first, second, third): calls so often, with a frame that only unwind information tells. Returns
// the last result.
#define FUNCTION(name, site)                                                                                           \
    ".global " name "\n.type " name ",@function\n" name ":\n.cfi_startproc\n"                                          \
    "push %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset %rbp, 0\npush %rbx\n.cfi_adjust_cfa_offset 8\n"              \
    ".cfi_rel_offset %rbx, 0\nsub $40, %rsp\n.cfi_adjust_cfa_offset 40\n"                                              \
    "mov %rdi, %rbx\nmov %esi, %ebp\nmov %rdx, %rdi\nmov %rcx, %rsi\nmov %r8, %rdx\n"                                  \
    "1:\n" site "dec %rbx\njnz 1b\n"                                                                                   \
    "add $40, %rsp\n.cfi_adjust_cfa_offset -40\npop %rbx\n.cfi_adjust_cfa_offset -8\n.cfi_restore %rbx\n"              \
    "pop %rbp\n.cfi_adjust_cfa_offset -8\n.cfi_restore %rbp\nret\n.cfi_endproc\n.size " name ", . - " name "\n"
// A function without padding.
#define FAR(name)                                                                                                      \
    ".type " name ",@function\n" name ":\n.cfi_startproc\n.rept 80\ninc %eax\n.endr\nret\n.cfi_endproc\n.size " name   \
    ", . - " name "\n"

// Tier 1 has its number in the code. The hole of tier 2 lies before the function, where nothing says how to unwind;
// tier 3 has none in reach.
asm(".text\n.balign 16\n" FUNCTION("getppid_by_1", "mov $110, %eax\nsyscall\n")
    FUNCTION("read_by_1", "mov $0, %eax\nsyscall\n")
    FAR("before_2") ".nops 16\n" FUNCTION("call_by_2", "mov %ebp, %eax\nsyscall\n")
    FAR("before_3") FUNCTION("call_by_3", "mov %ebp, %eax\nsyscall\n") FAR("behind_3"));

typedef long Call(long count, int number, long first, long second, long third);
extern "C" {
Call getppid_by_1, read_by_1, call_by_2, call_by_3;
}
static Call *getppid_at, *read_at;

static void check(const char *what, bool holds) {
    printf("%s %s\n", holds ? "ok" : "FAIL", what);
    fflush(stdout);
}

// The callers that each walk has to find, one after the other.
static __attribute__((noipa)) long inner(Call *call, long count, int number, long first, long second, long third) {
    long result = call(count, number, first, second, third);
    asm volatile("" ::: "memory");
    return result;
}
static __attribute__((noipa)) long outer(Call *call, long count, int number, long first, long second, long third) {
    long result = inner(call, count, number, first, second, third);
    asm volatile("" ::: "memory");
    return result;
}

struct Walk {
    _Unwind_Ptr functions[40];
    int depth;
};
static _Unwind_Reason_Code note_frame(_Unwind_Context *context, void *data) {
    Walk *walk = static_cast<Walk *>(data);
    if (walk->depth < 40) walk->functions[walk->depth++] = _Unwind_GetRegionStart(context);
    return _URC_NO_REASON;
}

// Whether the walk leads through what was interrupted, its callers and theirs.
static bool finds_callers(Call *call) {
    Walk walk = {};
    _Unwind_Backtrace(note_frame, &walk);
    int at = 0;
    while (at < walk.depth && walk.functions[at] != (_Unwind_Ptr)call) at++;
    bool unwinds = at + 2 < walk.depth && walk.functions[at + 1] == (_Unwind_Ptr)inner && walk.functions[at + 2] == (_Unwind_Ptr)outer;
    void *returns[40];
    int depth = backtrace(returns, 40);
    return unwinds && depth > at + 2 && true;
}

static const long longest = 128;
static volatile bool legal[longest];
static volatile long steps[longest], stepped, walks, wanted, lost, strange;
static Call *volatile interrupted;

static long offset_in(Call *call, void *context) {
    return static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP] - (long)call;
}

// Whether an interrupted thread is at an instruction of the function: one that a step came to, or the one behind the
// call, to which no step comes and where rcx is what the call leaves in it.
static bool is_legal(long at, void *context) {
    const greg_t *registers = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
    return legal[at] || registers[REG_RCX] == registers[REG_RIP];
}

// One step a signal: where it is, and that its callers are found.
static void on_step(int, siginfo_t *, void *context) {
    long at = offset_in(interrupted, context);
    if (at < 0 || at >= longest) return;
    legal[at] = true;
    if (stepped < longest) steps[stepped++] = at;
    lost = lost + !finds_callers(interrupted);
}
#define FLAGS(operation) asm volatile("sub $128, %%rsp\npushfq\n" operation ", (%%rsp)\npopfq\nadd $128, %%rsp" ::: "memory", "cc")
static void single_steps() {
    struct sigaction action = {};
    action.sa_sigaction = on_step;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, nullptr);
    interrupted = getppid_at;
    FLAGS("orq $0x100");
    long result = outer(getppid_at, 3, SYS_getppid, 0, 0, 0);
    FLAGS("andq $~0x100");
    check("result in single steps", result == getppid());
    check("callers are found at each step", lost == 0 && stepped > 20);
    printf("steps:");
    for (int i = 0; i < stepped; i++) printf(" %ld", steps[i]);
    printf("\n");
}

// Signals of another thread, as many as it can send, until enough were handled in the function.
struct Storm {
    pthread_t target;
    int signal;
    volatile bool is_over;
    pthread_t thread;
    static void *run(void *data) {
        Storm *storm = static_cast<Storm *>(data);
        while (!storm->is_over) {
            pthread_kill(storm->target, storm->signal);
            sched_yield();
        }
        return nullptr;
    }
    explicit Storm(int signal) : target(pthread_self()), signal(signal), is_over(false) {
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        pthread_create(&thread, nullptr, run, this);
        pthread_sigmask(SIG_SETMASK, &old, nullptr);
    }
    ~Storm() {
        is_over = true;
        pthread_join(thread, nullptr);
    }
};

static void all_checks();
static void on_walk(int, siginfo_t *, void *context) {
    long at = offset_in(interrupted, context);
    // Outside, it is in a caller.
    if (at < 0 || at >= longest) {
        Walk walk = {};
        _Unwind_Backtrace(note_frame, &walk);
        bool finds = false;
        for (int i = 0; i < walk.depth; i++) finds = finds || walk.functions[i] == (_Unwind_Ptr)all_checks;
        lost = lost + !finds;
        return;
    }
    walks = walks + 1;
    strange = strange + !is_legal(at, context);
    lost = lost + !finds_callers(interrupted);
}
static void walks_in_a_storm() {
    struct sigaction action = {};
    action.sa_sigaction = on_walk;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGUSR1, &action, nullptr);
    long own = getppid(), wrong = 0;
    {
        Storm storm(SIGUSR1);
        while (walks < wanted) wrong += outer(getppid_at, 20000, SYS_getppid, 0, 0, 0) != own;
    }
    check("results in a storm", wrong == 0);
    check("callers are found wherever it is interrupted", lost == 0);
    check("it is interrupted at its own instructions", strange == 0);
}

static void on_throw(int signal, siginfo_t *, void *context) {
    long at = offset_in(interrupted, context);
    if (at >= 0 && at < longest && is_legal(at, context)) throw signal;
}
static void exceptions_in_a_storm() {
    struct sigaction action = {};
    action.sa_sigaction = on_throw;
    // Blocked until the loop lets it through again: a storm would fill the stack with handlers.
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGUSR1, &action, nullptr);
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, SIGUSR1);
    int caught = 0;
    {
        sigprocmask(SIG_BLOCK, &own, nullptr);
        Storm storm(SIGUSR1);
        while (caught < 100) {
            try {
                sigprocmask(SIG_UNBLOCK, &own, nullptr);
                outer(getppid_at, 20000, SYS_getppid, 0, 0, 0);
                sigprocmask(SIG_BLOCK, &own, nullptr);
            } catch (int signal) {
                sigprocmask(SIG_BLOCK, &own, nullptr);
                caught += signal == SIGUSR1;
            }
        }
        signal(SIGUSR1, SIG_IGN);
    }
    sigprocmask(SIG_UNBLOCK, &own, nullptr);
    check("exceptions of handlers are caught by callers", caught == 100);
}

// What ends a thread inside of a call, and what is left of it.
enum class End { Cancel, Exit, Throw };
static volatile int unwound;
struct Local {
    ~Local() { unwound = unwound + 1; }
};
struct Ending {
    End end;
    bool sleeps;
    int data[2];
    volatile pid_t tid;
};
static __attribute__((noipa)) void *call_for_good(Ending *ending) {
    Local local;
    char byte;
    try {
        for (;;) {
            if (ending->sleeps) outer(read_at, 1, SYS_read, ending->data[0], (long)&byte, 1);
            else outer(getppid_at, 1000000000, SYS_getppid, 0, 0, 0);
        }
    } catch (int signal) {
        return (void *)(long)signal;
    }
}
static void *end_in_call(void *data) {
    Ending *ending = static_cast<Ending *>(data);
    if (ending->end == End::Cancel) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, nullptr);
    ending->tid = (pid_t)syscall(SYS_gettid);
    return call_for_good(ending);
}
static void on_exit_of_thread(int, siginfo_t *, void *) { pthread_exit((void *)7); }
static void on_throw_anywhere(int signal, siginfo_t *, void *) { throw signal; }

// Until the thread sleeps, or computes in the function for a while.
static void wait_until_in_call(Ending *ending) {
    while (!ending->tid) sched_yield();
    char path[64], state[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", ending->tid);
    for (int i = 0; ending->sleeps || i < 20; i++) {
        FILE *stat = fopen(path, "r");
        size_t len = fread(state, 1, sizeof state - 1, stat);
        fclose(stat);
        state[len] = 0;
        const char *behind_name = strrchr(state, ')');
        if (ending->sleeps && behind_name && behind_name[2] == 'S') return;
        sched_yield();
    }
}
static bool ends(End end, bool sleeps) {
    Ending ending = {end, sleeps, {}, 0};
    if (pipe(ending.data)) return false;
    struct sigaction action = {};
    action.sa_sigaction = end == End::Exit ? on_exit_of_thread : on_throw_anywhere;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR2, &action, nullptr);
    pthread_t thread;
    pthread_create(&thread, nullptr, end_in_call, &ending);
    wait_until_in_call(&ending);
    unwound = 0;
    if (end == End::Cancel) pthread_cancel(thread);
    else pthread_kill(thread, SIGUSR2);
    void *result = nullptr;
    pthread_join(thread, &result);
    close(ending.data[0]);
    close(ending.data[1]);
    void *expected = end == End::Cancel ? PTHREAD_CANCELED : end == End::Exit ? (void *)7 : (void *)(long)SIGUSR2;
    return unwound == 1 && result == expected;
}
static void all_ends() {
    static const char *const names[] = {"cancelled", "ended by its handler", "left by an exception"};
    for (int end = 0; end < 3; end++)
        for (int sleeps = 0; sleeps < 2; sleeps++) {
            bool good = true;
            for (int i = 0; i < 30; i++) good = good && ends((End)end, sleeps);
            printf("%s a thread that %s in its call is %s\n", good ? "ok" : "FAIL", sleeps ? "sleeps" : "computes", names[end]);
            fflush(stdout);
        }
}

static __attribute__((noipa)) void all_checks() {
    void *first[2];
    // Loads what it needs for the first time outside of handlers.
    backtrace(first, 2);
    single_steps();
    walks_in_a_storm();
    exceptions_in_a_storm();
    all_ends();
    check("many calls", outer(getppid_at, 200000, SYS_getppid, 0, 0, 0) == getppid());
}

int main(int argc, char **argv) {
    int tier = argc > 1 ? atoi(argv[1]) : 1;
    getppid_at = tier == 1 ? getppid_by_1 : tier == 2 ? call_by_2 : call_by_3;
    read_at = tier == 1 ? read_by_1 : getppid_at;
    wanted = argc > 2 ? atoi(argv[2]) : 100;
    all_checks();
    return 0;
}
