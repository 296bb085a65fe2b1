// Takes many blocks from a heap that only grows, uses a byte of each, says so, and waits for its input's end.
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    for (int i = 0; i < 2000; i++) {
        volatile char *block = malloc(100000);
        if (block == NULL) return 1;
        *block = 1;
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}
