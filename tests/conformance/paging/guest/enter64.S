/*
 * conformance/paging/guest/enter64.S - the 64-bit guest program: its beginning, the accesses, and the way
 * back. Long mode is on all the time, and the guest program is at the same linear addresses on all roots.
 */
/* struct paging_image. */
#define IMAGE 0x4000000
#define IMAGE_CR3 (IMAGE + 8)
#define IMAGE_LA57 (IMAGE + 20)

#define CR4_PAE 0x20
#define CR4_LA57 0x1000
#define EFER 0xc0000080
#define EFER_LME_NXE 0x900
#define CR0_PG_WP_NE_MP_PE 0x80010023

/* Offsets in struct frame, and the trap's in struct trap: guest.h. */
#define FRAME_RIP 0
#define FRAME_CS 8
#define FRAME_FLAGS 16
#define FRAME_RSP 24
#define FRAME_SS 32
#define FRAME_LINEAR 40
#define FRAME_VALUE 48

#define LDT_FIRST 4 /* the selector of the first descriptor in the LDT */

    .section .entry, "ax"
    .code32
    .globl entry
entry:
    movl $CR4_PAE, %eax
    cmpl $0, IMAGE_LA57
    je 1f
    orl $CR4_LA57, %eax
1:  movl %eax, %cr4
    movl IMAGE_CR3, %eax
    movl %eax, %cr3
    movl $EFER, %ecx
    rdmsr
    orl $EFER_LME_NXE, %eax
    wrmsr
    movl $CR0_PG_WP_NE_MP_PE, %eax
    movl %eax, %cr0
    lgdtl boot_gdt_pointer
    ljmpl $8, $entry64
    .code64
entry64:
    movl $stack_of_guest, %esp
    call guest_main

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 64-bit code */
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt

    .section .stub, "ax"
    .globl stub_read, stub_write, stub_fetch, stub_implicit
stub_read:
    movl 1(%rdi), %eax
    int $0x30
stub_write:
    movl %eax, 1(%rdi)
    int $0x30
stub_fetch:
    jmp *%rdi
stub_implicit:
    movl $LDT_FIRST, %ecx
    lar %ecx, %eax
    int $0x30

    .text
/* void take_access(const struct frame *frame) */
    .globl take_access
take_access:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    pushfq
    movq %rsp, saved_rsp
    pushq FRAME_SS(%rdi)
    pushq FRAME_RSP(%rdi)
    pushq FRAME_FLAGS(%rdi)
    pushq FRAME_CS(%rdi)
    pushq FRAME_RIP(%rdi)
    movq FRAME_VALUE(%rdi), %rax
    movq FRAME_LINEAR(%rdi), %rdi
    iretq

/* The stack: vector, error code, RIP and so on. */
trapped:
    movq %rax, trap + 16
    popq trap
    popq trap + 8
    movq %cr2, %rax
    movq %rax, trap + 24
    movq saved_rsp, %rsp
    popfq
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .altmacro
    .macro vector number
vector_\number:
    .if !((\number == 8) || ((\number >= 10) && (\number <= 14)) || (\number == 17))
    pushq $0
    .endif
    pushq $\number
    jmp trapped
    .endm
    .macro vector_word number
    .quad vector_\number
    .endm

    .set i, 0
    .rept 49
    vector %i
    .set i, i + 1
    .endr

    .data
    .balign 8
    .globl vector_entries, trap
vector_entries:
    .set i, 0
    .rept 49
    vector_word %i
    .set i, i + 1
    .endr
trap:
    .skip 32
saved_rsp:
    .quad 0

    .bss
    .balign 16
    .globl stack_of_traps, stack_of_access
    .skip 4096
stack_of_traps:
    .skip 4096
stack_of_access:
    .skip 4096
stack_of_guest:

    .section .note.GNU-stack, "", @progbits
