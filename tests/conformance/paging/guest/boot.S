/*
 * conformance/paging/guest/boot.S - from the reset vector to the guest program in RAM, as the machine's
 * whole firmware: protected mode, flat segments, no paging.
 */
#define MONITOR 0x100000 /* PAGING_MONITOR in image.h */
#define BOOT_OFFSET 0xf000 /* of .boot in the last 64 KiB; rom.ld has it too */

    .section .reset, "ax"
    .code16
    jmp boot16
    .balign 16

    .section .boot, "ax"
    .globl boot16
boot16:
    cli
    cld
    lgdtl %cs:(gdt_pointer - boot16 + BOOT_OFFSET)
    movl $0x21, %eax
    movl %eax, %cr0
    ljmpl $8, $boot32

    .code32
boot32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movb $2, %al /* A20 */
    outb %al, $0x92
    movl $MONITOR, %eax
    jmp *%eax

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* 0x08: 32-bit code */
    .quad 0x00cf93000000ffff /* 0x10: data */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

    .section .note.GNU-stack, "", @progbits
