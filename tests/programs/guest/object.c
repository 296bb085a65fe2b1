// An object without a library, which live.c loads into memory of its own: sites of several tiers. Its entry does what its first argument
// names: 'c' calls, 'r' reads one byte at a site that is slept at, 'a' tells the address of the first site's number.

// Tier 1, and tier 3: the instruction after the call moves.
asm(".text\n.balign 4096\n.global tier1\n.type tier1,@function\ntier1:\n.cfi_startproc\nmov $39, %eax\nsyscall\nret\n"
    ".cfi_endproc\n.size tier1, . - tier1\n"
    ".global tier3\n.type tier3,@function\ntier3:\n.cfi_startproc\nmov %edi, %eax\nsyscall\ncmp $-4095, %rax\n"
    "jae 1f\nret\n1: mov $-1, %rax\nret\n.cfi_endproc\n.size tier3, . - tier3\n"
    ".global one\n.type one,@function\none:\n.cfi_startproc\nxor %eax, %eax\ntest %rax, %rax\nsyscall\n"
    "cmp $1, %rax\nsete %al\nmovzbl %al, %eax\nret\n.cfi_endproc\n.size one, . - one\n.balign 4096\n");
long tier1(void);
long tier3(long number);
long one(long fd, char *to, long len);

// How often a result was wrong.
static long calls(long count, long own) {
    long wrong = 0;
    for (long i = 0; i < count; i++) wrong += tier1() != own || tier3(39) != own || tier3(-1) != -1;
    return wrong;
}

long run(long what, long first, long second) {
    char byte = 0;
    if (what == 'c') return calls(first, second);
    if (what == 'r') return one(first, &byte, 1) == 1 && byte == 'x';
    return (long)tier1 + 1;
}
