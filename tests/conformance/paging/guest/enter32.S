/*
 * conformance/paging/guest/enter32.S - the 32-bit guest program: its beginning, the accesses, and the way
 * back. Paging is on only from take_access() to the trap.
 */
#define CR0_PG 0x80000000

/* Offsets in struct frame, and the trap's in struct trap: guest.h. */
#define FRAME_RIP 0
#define FRAME_CS 4
#define FRAME_FLAGS 8
#define FRAME_RSP 12
#define FRAME_SS 16
#define FRAME_LINEAR 20
#define FRAME_VALUE 24
#define FRAME_CR0 28

#define LDT_FIRST 4 /* the selector of the first descriptor in the LDT */

    .section .entry, "ax"
    .globl entry
entry:
    movl $stack_of_guest, %esp
    call guest_main

    .section .stub, "ax"
    .globl stub_read, stub_write, stub_fetch, stub_implicit
stub_read:
    movl 1(%edi), %eax
    int $0x30
stub_write:
    movl %eax, 1(%edi)
    int $0x30
stub_fetch:
    jmp *%edi
stub_implicit:
    movl $LDT_FIRST, %ecx
    lar %ecx, %eax
    int $0x30

    .text
/* void take_access(const struct frame *frame) */
    .globl take_access
take_access:
    movl 4(%esp), %edx
    pushl %ebx
    pushl %ebp
    pushl %esi
    pushl %edi
    pushfl
    movl %esp, saved_esp
    pushl FRAME_SS(%edx)
    pushl FRAME_RSP(%edx)
    pushl FRAME_FLAGS(%edx)
    pushl FRAME_CS(%edx)
    pushl FRAME_RIP(%edx)
    movl FRAME_CS(%edx), %ecx
    testl $3, %ecx
    jnz 1f
    /* Within ring 0 IRET takes no stack: it goes where the frame says by hand. */
    popl %eax
    popl %ecx
    popl %ebx
    movl FRAME_RSP(%edx), %esp
    pushl %ebx
    pushl %ecx
    pushl %eax
1:  movl FRAME_LINEAR(%edx), %edi
    movl FRAME_CR0(%edx), %ecx
    movl FRAME_VALUE(%edx), %eax
    movl %ecx, %cr0
    jmp 2f
2:  iretl

/* The stack: vector, error code, EIP and so on. */
trapped:
    movl %eax, trap + 8
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    jmp 1f
1:  popl %eax
    movl %eax, trap
    popl %eax
    movl %eax, trap + 4
    movl %cr2, %eax
    movl %eax, trap + 12
    movl saved_esp, %esp
    popfl
    popl %edi
    popl %esi
    popl %ebp
    popl %ebx
    ret

    .altmacro
    .macro vector number
vector_\number:
    .if !((\number == 8) || ((\number >= 10) && (\number <= 14)) || (\number == 17))
    pushl $0
    .endif
    pushl $\number
    jmp trapped
    .endm
    .macro vector_word number
    .long vector_\number
    .endm

    .set i, 0
    .rept 49
    vector %i
    .set i, i + 1
    .endr

    .data
    .balign 4
    .globl vector_entries, trap
vector_entries:
    .set i, 0
    .rept 49
    vector_word %i
    .set i, i + 1
    .endr
trap:
    .skip 16
saved_esp:
    .long 0

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
