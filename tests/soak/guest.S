/*
 * soak/guest.S - the program of both vCPUs: see layout.h. It runs in 64-bit mode without interrupts, at SOAK_CODE; R15: the vCPU's own memory,
 * R13: where its word is in a page.
 */
#include "layout.h"

    .section .rodata
    .globl soak_program, soak_program_end
    .code64
soak_program:
    movq $SOAK_PARKED, %r14
    movq $SOAK_LINEAR, %r12
again:
    addq $SOAK_STEP, %rbx
    movq %rbx, %rcx
    shrq $16, %rcx
    imull $SOAK_STRIDE, %ecx, %ecx
    andl $(SOAK_PAGES - 1), %ecx
    cmpb $0, (%r14, %rcx)
    jne next
    movq %rcx, %rsi
    shlq $12, %rsi
    addq %r12, %rsi
    addq %r13, %rsi

    /* Is it mapped where it is? Accessed and dirty flags are the processor's. */
    movq SOAK_PLACES - SOAK_PARKED(%r14, %rcx, 8), %rdx
    movq SOAK_OWN_PT(%r15, %rcx, 8), %rax
    xorq %rdx, %rax
    andq $~0x60, %rax
    jnz map
    movq %rbx, %rax
    shrq $24, %rax
    xorq %rcx, %rax
    testb $0x3f, %al
    jnz mapped
map:
    movq %rdx, SOAK_OWN_PT(%r15, %rcx, 8)
    invlpg (%rsi)
mapped:
    movq SOAK_OWN_EXPECT(%r15, %rcx, 8), %rdi
    cmpl $SOAK_READ, %ecx
    jae read
    btl $27, %ebx
    jc exchange
    movq (%rsi), %rax
    cmpq %rdi, %rax
    jne bad
    movq %rbx, (%rsi)
    jmp stored
exchange:
    movq %rbx, %rax
    xchgq %rax, (%rsi)
    cmpq %rdi, %rax
    jne bad
stored:
    movq %rbx, SOAK_OWN_EXPECT(%r15, %rcx, 8)
next:
    movq %rbx, SOAK_OWN_DONE(%r15)
    jmp again
read:
    movq (%rsi), %rax
    cmpq %rdi, %rax
    je next
bad:
    movq %rax, SOAK_OWN_FOUND(%r15)
    movq %rdi, SOAK_OWN_WANTED(%r15)
    leal SOAK_PORT(%r13), %edx
    movl %ecx, %eax
    outl %eax, %dx
    jmp next
soak_program_end:
    .section .note.GNU-stack, "", @progbits
