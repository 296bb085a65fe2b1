// Services on memory. Each checks, outside of what is counted, that memory which was used before comes back as zeros.
#include "workload.h"
#include <sys/mman.h>

void *map(size_t len) {
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    return at;
}

void touch_heap(long mib) { if (mib > 0) memset(map((size_t)mib << 20), 1, (size_t)mib << 20); }

static void need_zeros(const char *at, size_t len) {
    if (at[0] != 0 || memcmp(at, at + 1, len - 1) != 0) {
        fprintf(stderr, "workload: fresh memory is not zero\n");
        exit(1);
    }
}

static void check_reused(size_t len) {
    for (int round = 0; round < 3; round++) {
        char *at = map(len);
        need_zeros(at, len);
        memset(at, 0x5a, len);
        munmap(at, len);
    }
}

static void map_unmap(long n) {
    begin();
    while (n--) munmap(map(65536), 65536);
    end();
    check_reused(65536);
}

static void map_touch(long n) {
    begin();
    while (n--) {
        char *at = map(1 << 20);
        for (int i = 0; i < 1 << 20; i += 4096) {
            if (at[i] != 0) need_zeros(at + i, 4096);
            at[i] = 1;
        }
        munmap(at, 1 << 20);
    }
    end();
    check_reused(1 << 20);
}

static void shrink_heap(long n) {
    begin();
    while (n--) {
        char *at = sbrk(65536);
        if (at == (void *)-1) die("sbrk");
        if (at[0] != 0 || at[65535] != 0) need_zeros(at, 65536);
        at[0] = at[65535] = 1;
        sbrk(-65536);
    }
    end();
}

const struct service memory_services[] = {
    {"mmap-munmap-64k", map_unmap},
    {"mmap-touch-1m", map_touch},
    {"brk-64k", shrink_heap},
    {NULL, NULL},
};
