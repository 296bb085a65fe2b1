// Texts without a file that have neighbours: objects of one segment, which the program puts into memory of its own, beside each other, in
// a hole of another, kept from children, mapped over in part. Each case in a child of its own; the same on Linux. "texts FILE".
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096l

// The object's executable segment, as it is to lie in memory: headers, calls, what makes them.
static char *text;
static long len, entry;
// Memory without access around the place where it goes.
static char *place;

static void check(const char *what, int holds) {
    printf("%s %s\n", holds ? "ok" : "FAIL", what);
    fflush(stdout);
}

static int prepare(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat)) return 0;
    text = mmap(NULL, stat.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    Elf64_Ehdr *header = (Elf64_Ehdr *)text;
    Elf64_Phdr *segments = (Elf64_Phdr *)(text + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type != PT_LOAD) continue;
        if (segments[i].p_flags & PF_X) len = (segments[i].p_filesz + PAGE - 1) & -PAGE;
        else segments[i].p_type = PT_NULL;
    }
    entry = header->e_entry;
    return len == 3 * PAGE && stat.st_size >= len;
}

static int all(char *at, long bytes, int prot) { return mprotect(at, bytes, prot) == 0; }

static char *put(char *at) {
    all(at, len, PROT_READ | PROT_WRITE);
    memcpy(at, text, len);
    all(at, len, PROT_READ | PROT_EXEC);
    return at;
}

// Calls until it has an image, and on.
static int calls(char *at, long count) { return ((long (*)(long, long, long))(at + entry))('c', count, getpid()) == 0; }

static char *fresh(char *at, long bytes) {
    return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);
}

static void beside(void) {
    char *one = put(place), *other = put(place + len), *mine = fresh(NULL, 2 * len);
    memset(mine, 'm', 2 * len);
    check("calls in both", calls(one, 2000) && calls(other, 4000));
    check("writable together", all(one, 2 * len, PROT_READ | PROT_WRITE));
    check("as they were", !memcmp(one, text, len) && !memcmp(other, text, len));
    check("nothing else moved", mine[0] == 'm' && !memcmp(mine, mine + 1, 2 * len - 1));
}

static void in_a_hole(void) {
    char *one = put(place), *other = place + 2 * PAGE, *mine = fresh(NULL, 2 * len);
    memset(mine, 'm', 2 * len);
    check("calls", calls(one, 2000) && munmap(other, PAGE) == 0);
    fresh(other, len);
    check("calls of what lies in the hole", calls(put(other), 4000));
    check("writable together", all(one, 2 * PAGE + len, PROT_READ | PROT_WRITE));
    check("as they were", !memcmp(one, text, 2 * PAGE) && !memcmp(other, text, len));
    check("nothing else moved", mine[0] == 'm' && !memcmp(mine, mine + 1, 2 * len - 1));
}

static int child_exits(int (*sees)(void)) {
    pid_t child = fork();
    if (child == 0) _exit(sees() ? 7 : 1);
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {}
    return WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

static int is_free(void) { return mmap(place, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == place; }
static int is_empty(void) { return place[0] == 0 && place[PAGE] == 0; }

static void not_for_children(void) {
    put(place);
    check("not for children, calls", madvise(place, len, MADV_DONTFORK) == 0 && calls(place, 200));
    check("a child has it not", child_exits(is_free));
}

static void empty_for_children(void) {
    put(place);
    check("empty for children, calls", madvise(place, len, MADV_WIPEONFORK) == 0 && calls(place, 200));
    check("a child finds it empty", child_exits(is_empty));
}

// It grows elsewhere, for memory lies behind it.
static char *grown(char *from, long bytes) { return mremap(from, bytes, 2 * bytes, MREMAP_MAYMOVE); }

static void part_of(int unmaps) {
    put(place);
    check("calls before", calls(place, 2000));
    char *part = place + PAGE;
    if (unmaps) munmap(part, PAGE);
    check("another part", fresh(part, PAGE) == part && part[0] == 0);
    memcpy(part, text + PAGE, PAGE);
    all(place, len, PROT_READ | PROT_EXEC);
    char *now = grown(place, len);
    check("moved and grown", now != MAP_FAILED && !memcmp(now, text, len) && calls(now, 2000));
}

static void mapped_over(void) { part_of(0); }
static void unmapped(void) { part_of(1); }

static void with_more(void) {
    all(place + len, PAGE, PROT_READ | PROT_WRITE);
    strcpy(place + len, "more");
    put(place);
    all(place + len, PAGE, PROT_READ | PROT_EXEC);
    check("calls in a part", calls(place, 2000));
    char *now = grown(place, len + PAGE);
    check("all of it moved and grown", now != MAP_FAILED && !memcmp(now, text, len) && !strcmp(now + len, "more"));
}

int main(int argc, char **argv) {
    void (*const cases[])(void) = {beside, in_a_hole, not_for_children, empty_for_children, mapped_over, unmapped, with_more};
    check("prepared", argc > 1 && prepare(argv[1]));
    place = mmap(NULL, 4 * len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        pid_t child = fork();
        if (child == 0) {
            cases[i]();
            return 0;
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0) {}
        check("its end", status == 0);
    }
}
