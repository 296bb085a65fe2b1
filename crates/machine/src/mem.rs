//! memcpy(3) and its kin, which the compiler calls. The ones that come with the target begin with string instructions, and
//! each of those takes longer than all of a short copy: nearly all copies here are of names and small structures.

core::arch::global_asm!(
    r"
    .text
    // rdi = to, rsi = from, rdx = length; returns to. Short ones read all before they write.
    .global memcpy
memcpy:
    mov rax, rdi
    cmp rdx, 16
    ja 2f
    cmp edx, 8
    jae 3f
    cmp edx, 4
    jae 4f
    test edx, edx
    jz 1f
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + rdx - 1]
    mov r9d, edx
    shr r9d, 1
    movzx r10d, byte ptr [rsi + r9]
    mov [rdi], cl
    mov [rdi + r9], r10b
    mov [rdi + rdx - 1], r8b
1:
    ret
3:
    mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
4:
    mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
2:
    cmp rdx, 256
    ja 6f
    mov r8, [rsi + rdx - 16]
    mov r9, [rsi + rdx - 8]
    lea r10, [rdi + rdx - 16]
5:
    mov rcx, [rsi]
    mov r11, [rsi + 8]
    mov [rdi], rcx
    mov [rdi + 8], r11
    add rsi, 16
    add rdi, 16
    cmp rdi, r10
    jb 5b
    mov [r10], r8
    mov [r10 + 8], r9
    ret
6:
    mov rcx, rdx
    rep movsb
    ret

    // The same; the two may overlap.
    .global memmove
memmove:
    mov rax, rdi
    sub rax, rsi
    cmp rax, rdx
    jae memcpy
    mov rax, rdi
1:
    cmp rdx, 8
    jb 2f
    mov rcx, [rsi + rdx - 8]
    mov [rdi + rdx - 8], rcx
    sub rdx, 8
    jmp 1b
2:
    test rdx, rdx
    jz 3f
    movzx ecx, byte ptr [rsi + rdx - 1]
    mov [rdi + rdx - 1], cl
    dec rdx
    jmp 2b
3:
    ret

    // rdi = to, esi = byte, rdx = length; returns to.
    .global memset
memset:
    mov rax, rdi
    movzx esi, sil
    mov rcx, 0x0101010101010101
    imul rsi, rcx
    cmp rdx, 16
    ja 2f
    cmp edx, 8
    jae 3f
    cmp edx, 4
    jae 4f
    test edx, edx
    jz 1f
    mov [rdi], sil
    mov [rdi + rdx - 1], sil
    shr edx, 1
    mov [rdi + rdx], sil
1:
    ret
3:
    mov [rdi], rsi
    mov [rdi + rdx - 8], rsi
    ret
4:
    mov [rdi], esi
    mov [rdi + rdx - 4], esi
    ret
2:
    cmp rdx, 512
    ja 6f
    lea r10, [rdi + rdx - 16]
5:
    mov [rdi], rsi
    mov [rdi + 8], rsi
    add rdi, 16
    cmp rdi, r10
    jb 5b
    mov [r10], rsi
    mov [r10 + 8], rsi
    ret
6:
    mov r8, rax
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret

    // rdi, rsi = memory, rdx = length; returns less than, equal to or more than 0.
    .global memcmp
    .global bcmp
memcmp:
bcmp:
    cmp rdx, 8
    jb 2f
1:
    mov rax, [rdi]
    mov rcx, [rsi]
    cmp rax, rcx
    jne 5f
    add rdi, 8
    add rsi, 8
    sub rdx, 8
    cmp rdx, 8
    jae 1b
2:
    cmp edx, 4
    jb 3f
    mov eax, [rdi]
    mov ecx, [rsi]
    cmp eax, ecx
    jne 6f
    add rdi, 4
    add rsi, 4
    sub edx, 4
3:
    test edx, edx
    jz 4f
    movzx eax, byte ptr [rdi]
    movzx ecx, byte ptr [rsi]
    inc rdi
    inc rsi
    dec edx
    sub eax, ecx
    jz 3b
    ret
4:
    xor eax, eax
    ret
5:
    bswap rax
    bswap rcx
    cmp rax, rcx
    sbb eax, eax
    or eax, 1
    ret
6:
    bswap eax
    bswap ecx
    cmp eax, ecx
    sbb eax, eax
    or eax, 1
    ret
"
);
