/*
 * x86/sse4.S - instructions of SSSE3 to SSE4.2 whose immediate is a part of what they do, each as a function of the host.
 */

        .text
        .hidden sse4_run, sse4_stubs
        .globl  sse4_run, sse4_stubs

/* void sse4_run(struct sse4_state *state, const void *stub) */
        .type   sse4_run, @function
        .p2align 4
sse4_run:
        subq    $8, %rsp
        stmxcsr (%rsp)
        movups  (%rdi), %xmm0
        movups  16(%rdi), %xmm1
        movq    32(%rdi), %rax
        movq    40(%rdi), %rdx
        xorl    %ecx, %ecx
        ldmxcsr 64(%rdi)
        call    *%rsi
        pushfq
        popq    56(%rdi)
        stmxcsr 68(%rdi)
        ldmxcsr (%rsp)
        movups  %xmm0, (%rdi)
        movq    %rcx, 48(%rdi)
        addq    $8, %rsp
        ret
        .size   sse4_run, . - sse4_run

/* Eight bytes each: 256 of each opcode, in the order of SSE_IMMEDIATE_OPS. With REX.W, which counts for PCMPESTRI alone. */
        .type   sse4_stubs, @object
        .p2align 4
sse4_stubs:
        .irp    opcode, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x21, 0x40, 0x41, 0x42, 0x60, 0x61, 0x62, 0x63
        .set    immediate, 0
        .rept   256
        .byte   0x66, 0x48, 0x0f, 0x3a, \opcode, 0xc1, immediate, 0xc3
        .set    immediate, immediate + 1
        .endr
        .endr
        .size   sse4_stubs, . - sse4_stubs

        .section .note.GNU-stack, "", @progbits
