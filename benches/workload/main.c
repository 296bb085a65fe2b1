// One static program, one small function a service. It prints nanoseconds per operation, on whatever it runs.
//
//   workload --list                  names
//   workload [OPTION…] NAME…         measures those: "NAME NANOSECONDS OPERATIONS" a line
//     --ms N       about so long, the default, 20
//     --ops N      exactly so many operations instead
//     --marks      a line "begin" and a line "end" around the operations, each waiting for a byte of standard input
//     --dir DIR    where the services on files find their tree; --make makes it first; --files N of it are used
//     --warm       the operations run once before, uncounted
//     --forks N    so many forks first
//     --heap MIB   so much memory first, touched
//     --tasks N    in so many processes at once: nanoseconds from the first beginning to the last end, by all operations
//   workload [--ops N] [--marks] [--warm] --command WORD…   the same of a command, from start to end
//   workload --account WORD…         runs a command; "account CPU-NANOSECONDS PAGE-FAULTS" of all that it started
//   workload --make-tree DIR         the tree for services on files
//   workload --child                 ends at once: what "spawn static" starts
#include "workload.h"
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;
char buffer[8192];
int64_t began, ended;
const char *directory = "/tmp/workload.tree";
long files = 1;

static int64_t wanted = 20;
static long operations = -1, forks, heap, tasks;
static int has_marks, is_warm, makes_tree;

void die(const char *what) {
    perror(what);
    exit(1);
}

int need(int result, const char *what) {
    if (result < 0) die(what);
    return result;
}

int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// Whoever measures from outside reads its clocks between the line and the byte.
static void mark(const char *line) {
    char byte;
    if (!has_marks) return;
    need(write(1, line, strlen(line)), "standard output");
    if (read(0, &byte, 1) != 1) die("standard input");
}

void begin(void) {
    mark("begin\n");
    began = now();
}

void end(void) {
    ended = now();
    mark("end\n");
}

static void run(const struct service *service, long n) {
    ended = 0;
    begin();
    service->run(n);
    if (ended == 0) end();
}

// The number of operations doubles until they take long enough.
static long calibrate(const struct service *service) {
    for (long n = operations < 0 ? 1 : operations;; n *= 2) {
        run(service, n);
        if (operations >= 0 || ended - began >= wanted * 1000000 || n >= 1L << 30) return n;
    }
}

// So many processes run so many operations at once; from the first beginning to the last end.
static int64_t together(const struct service *service, long n) {
    int go[2], told[2];
    int64_t times[2], first = INT64_MAX, last = 0;
    need(pipe(go), "pipe"), need(pipe(told), "pipe");
    for (int i = 0; i < tasks; i++) {
        if (need(fork(), "fork")) continue;
        char byte;
        close(go[1]), need(read(go[0], &byte, 1), "read");
        run(service, n);
        times[0] = began, times[1] = ended;
        _exit(write(told[1], times, sizeof times) != sizeof times);
    }
    close(go[0]), close(go[1]);
    for (int i = 0; i < tasks; i++) {
        if (read(told[0], times, sizeof times) != sizeof times) die("read");
        first = times[0] < first ? times[0] : first, last = times[1] > last ? times[1] : last;
    }
    close(told[0]), close(told[1]);
    while (wait(NULL) > 0) {}
    return last - first;
}

static void measure(const struct service *service) {
    int marks = has_marks;
    has_marks = 0;
    if (is_warm) run(service, files > 1 ? files : 16);
    has_marks = marks && tasks == 0;
    long n = calibrate(service);
    int64_t took = tasks > 0 ? together(service, n) : ended - began;
    if (tasks > 0) n *= tasks;
    printf("%s %.1f %ld\n", service->name, (double)took / (n > 0 ? n : 1), n);
    fflush(stdout);
}

static void age(void) {
    for (long i = 0; i < forks; i++) {
        pid_t pid = need(fork(), "fork");
        if (pid == 0) _exit(0);
        reap(pid);
    }
}

static pid_t start(char **words) {
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (posix_spawnp(&pid, words[0], has_marks ? &actions : NULL, NULL, words, environ)) die(words[0]);
    return pid;
}

static int code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

static int command(char **words) {
    long n = operations < 0 ? 1 : operations;
    int status = 0;
    if (is_warm) need(waitpid(start(words), &status, 0), "waitpid");
    begin();
    for (long i = 0; i < n && status == 0; i++) need(waitpid(start(words), &status, 0), "waitpid");
    end();
    printf("command %.1f %ld\n", (double)(ended - began) / (n > 0 ? n : 1), n);
    return code(status);
}

// Whatever loses its parent comes to us, so that everything is waited for.
static int account(char **words) {
    struct rusage used;
    int status, result = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t first = start(words), pid;
    while ((pid = waitpid(-1, &status, __WALL)) > 0) if (pid == first) result = code(status);
    getrusage(RUSAGE_CHILDREN, &used);
    long long cpu = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    printf("account %lld %ld\n", cpu * 1000, used.ru_minflt + used.ru_majflt);
    return result;
}

static const struct service *find(const char *name) {
    const struct service *all[] = {call_services, file_services, memory_services, process_services, trip_services};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (const struct service *s = all[i]; s->name; s++) {
            if (!name) puts(s->name);
            else if (strcmp(s->name, name) == 0) return s;
        }
    return NULL;
}

// Whether the words begin with this option and its value, which is taken.
static int takes(char ***words, const char *option, const char **value) {
    if (!(*words)[0] || strcmp((*words)[0], option) || !(*words)[1]) return 0;
    *value = (*words)[1], *words += 2;
    return 1;
}

static int takes_number(char ***words, const char *option, long *number) {
    const char *text;
    if (!takes(words, option, &text)) return 0;
    *number = atol(text);
    return 1;
}

static int takes_flag(char ***words, const char *option, int *flag) {
    if (!(*words)[0] || strcmp((*words)[0], option)) return 0;
    *flag = 1, ++*words;
    return 1;
}

static char **options(char **words) {
    while (takes_number(&words, "--ms", &wanted) || takes_number(&words, "--ops", &operations) ||
           takes_number(&words, "--files", &files) || takes_number(&words, "--forks", &forks) ||
           takes_number(&words, "--heap", &heap) || takes(&words, "--dir", &directory) ||
           takes_flag(&words, "--marks", &has_marks) || takes_flag(&words, "--warm", &is_warm) ||
           takes_flag(&words, "--make", &makes_tree) || takes_number(&words, "--tasks", &tasks)) {}
    return words;
}

int main(int count, char **words) {
    const char *value;
    int is_list = 0, is_child = 0;
    signal(SIGPIPE, SIG_IGN);
    // What files hold is seldom all zeros.
    memset(buffer, 'w', sizeof buffer);
    if (count < 2) return fprintf(stderr, "workload: no service is named; --list names them\n"), 2;
    words = options(words + 1);
    if (takes_flag(&words, "--child", &is_child)) return 0;
    if (takes_flag(&words, "--list", &is_list)) return find(NULL), 0;
    if (takes(&words, "--make-tree", &value)) return make_tree(value), 0;
    if (words[0] && words[1] && strcmp(words[0], "--command") == 0) return command(words + 1);
    if (words[0] && words[1] && strcmp(words[0], "--account") == 0) return account(words + 1);
    if (makes_tree) make_tree(directory);
    touch_heap(heap);
    age();
    for (; *words; words++) {
        const struct service *service = find(*words);
        if (!service) return fprintf(stderr, "workload: no service %s; --list names them\n", *words), 2;
        measure(service);
    }
    return 0;
}
