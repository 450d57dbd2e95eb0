/* conformance/x86/enter.S - into a state, and out of it: struct control of native.c at a fixed address. */
#define CONTROL 0x70000000
#define RFLAGS (CONTROL + 128)
#define RIP (CONTROL + 136)
#define HOST_RSP (CONTROL + 152)
#define MXCSR (CONTROL + 160)
#define XMM(number) (CONTROL + 176 + 16 * (number))
#define HOST_MXCSR (CONTROL + 432)
#define HOST_FCW (CONTROL + 436)
#define X87 (CONTROL + 440)

        .text
        .globl  native_enter, native_leave, native_resume
        .hidden native_enter, native_leave, native_resume
        .type   native_enter, @function
native_enter:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, HOST_RSP
        stmxcsr HOST_MXCSR
        fnstcw  HOST_FCW
        frstor  X87
        .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  XMM(\number), %xmm\number
        .endr
        ldmxcsr MXCSR
        pushq   RFLAGS
        popfq
        movq    CONTROL, %rax
        movq    CONTROL + 8, %rcx
        movq    CONTROL + 16, %rdx
        movq    CONTROL + 24, %rbx
        movq    CONTROL + 32, %rsp
        movq    CONTROL + 40, %rbp
        movq    CONTROL + 48, %rsi
        movq    CONTROL + 56, %rdi
        .irp number, 8, 9, 10, 11, 12, 13, 14, 15
        movq    CONTROL + 8 * \number, %r\number
        .endr
        jmpq    *RIP

native_leave:
        movq    %rax, CONTROL
        movq    %rcx, CONTROL + 8
        movq    %rdx, CONTROL + 16
        movq    %rbx, CONTROL + 24
        movq    %rsp, CONTROL + 32
        movq    %rbp, CONTROL + 40
        movq    %rsi, CONTROL + 48
        movq    %rdi, CONTROL + 56
        .irp number, 8, 9, 10, 11, 12, 13, 14, 15
        movq    %r\number, CONTROL + 8 * \number
        .endr
        movq    HOST_RSP, %rsp
        pushfq
        popq    RFLAGS
        stmxcsr MXCSR
        fnsave  X87
        .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  %xmm\number, XMM(\number)
        .endr
/* From the handler of signals, which has stored the registers. */
native_resume:
        pushq   $2
        popfq
        fninit
        fldcw   HOST_FCW
        ldmxcsr HOST_MXCSR
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   native_enter, . - native_enter
        .section .note.GNU-stack, "", @progbits
