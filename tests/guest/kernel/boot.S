/*
 * guest/kernel/boot.S - where processors begin, and where they enter the kernel from: exceptions and system calls.
 * What was interrupted in a process is stored in its thread's struct frame, to the end of which RSP0 and GS:16 lead; the
 * kernel's own exceptions are stored on its stack.
 */
#define STACK_SHIFT 14
#define VECTOR_CALL 0x80 /* GUEST_VECTOR_CALL */

    .section .boot, "ax"
    .globl boot
boot:
    lea     1(%rdi), %rax
    shl     $STACK_SHIFT, %rax
    lea     kernel_stacks(%rip), %rsp
    add     %rax, %rsp
    call    kernel_main
    ud2

    .macro  PUSH_ALL
    .irp    register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    push    %\register
    .endr
    .endm
    .macro  POP_ALL
    .irp    register, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    pop     %\register
    .endr
    .endm

    /* Offsets in struct frame. */
    .set    FRAME_VECTOR, 15 * 8
    .set    FRAME_CS, 18 * 8

    .text
    .balign 16
    .globl  trap_stubs
trap_stubs: /* 16 bytes for each vector */
    .set    vector, 0
    .rept   32
    .balign 16
    .if     (0x60227d00 >> vector) & 1 == 0
    push    $0 /* where the processor pushes no error code */
    .endif
    push    $vector
    jmp     trap
    .set    vector, vector + 1
    .endr

    .globl  call_stub
call_stub:
    push    $0
    push    $VECTOR_CALL
    /* fall through */
trap:
    testb   $3, FRAME_CS - 15 * 8(%rsp)
    jz      1f
    swapgs
1:  PUSH_ALL
    cld
    mov     %rsp, %rdi
    testb   $3, FRAME_CS(%rsp)
    jz      2f
    mov     %gs:24, %rsp
    call    trap_from_user
    jmp     resume
2:  call    trap_from_kernel
    POP_ALL
    add     $16, %rsp
    iretq

    .globl  resume_frame
resume_frame: /* (struct frame *), on the way out of kernel_main() */
    mov     %rdi, %rax
resume:
    mov     %rax, %rsp
    cmpq    $256, FRAME_VECTOR(%rsp)
    je      1f
    POP_ALL
    add     $16, %rsp
    swapgs
    iretq
1:  POP_ALL
    mov     16(%rsp), %rcx
    mov     32(%rsp), %r11
    mov     40(%rsp), %rsp
    swapgs
    sysretq

    .globl  syscall_entry
syscall_entry:
    swapgs
    mov     %rsp, %gs:8
    mov     %gs:16, %rsp
    push    $0x23
    push    %gs:8
    push    %r11
    push    $0x2b
    push    %rcx
    push    $0
    push    $256
    PUSH_ALL
    mov     %rsp, %rdi
    mov     %gs:24, %rsp
    call    syscall_from_user
    jmp     resume

    .bss
    .balign 4096
    .globl  kernel_stacks
kernel_stacks:
    .skip   2 << STACK_SHIFT
    .section .note.GNU-stack, "", @progbits
