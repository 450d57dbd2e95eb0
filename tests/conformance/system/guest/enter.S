/*
 * conformance/system/guest/enter.S - the guest program's ways in: from the firmware, and by SMI; and how it takes an
 * interrupt that a case has left waiting.
 */
#define SMI_ENTRY 0x8000 /* of CS, whose base is SMBASE */
#define APIC_EOI 0xfee000b0

    .section .entry, "ax"
    .globl entry
entry:
    movl $stack_end, %esp
    call guest_main

/* Copied to SMBASE + SMI_ENTRY. Segments reach 4 GiB. */
    .section .text
    .code16
    .globl smi_entry, smi_entry_end
smi_entry:
    lgdtl %cs:(SMI_ENTRY + gdt_pointer - smi_entry)
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl $8, $in_smm
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
smi_entry_end:

    .code32
in_smm:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $smm_stack_end, %esp
    cld
    call guest_trap
    rsm

/* void wait_interrupt(void): take the one that waits, by a gate to take_interrupt. No IRET: NMIs would be taken then. */
    .globl wait_interrupt, take_interrupt
wait_interrupt:
    sti
1:  jmp 1b
take_interrupt:
    movl $0, APIC_EOI
    addl $12, %esp
    ret

/* void allow_nmi(void): after IRET the processor takes NMIs again. */
    .globl allow_nmi
allow_nmi:
    pushfl
    pushl $8
    pushl $1f
    iretl
1:  ret

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
gdt_end:

    .bss
    .balign 16
    .skip 4096
stack_end:
    .skip 8192
smm_stack_end:

    .section .note.GNU-stack, "", @progbits
