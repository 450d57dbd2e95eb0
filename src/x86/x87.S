/*
 * x86/x87.S - x87's instructions, each as a function of the host: x87_run() gives it the guest's state, and takes it back.
 */

        .text
        .hidden x87_run, x87_stubs
        .globl  x87_run, x87_stubs

/*
 * uint64_t x87_run(struct x87_image *image, void *operand, uint64_t flags, const void *stub)
 *
 * The host's own state is what the ABI has between calls, no register in use: its control word is put back. FNSAVE does
 * not wait, so an exception that the guest has not masked stays in the image.
 */
        .type   x87_run, @function
        .p2align 4
x87_run:
        subq    $24, %rsp
        fnstcw  (%rsp)
        frstor  (%rdi)
        pushq   %rdx
        popfq
        call    *%rcx
        fnsave  (%rdi)
        pushfq
        popq    %rax
        fldcw   (%rsp)
        addq    $24, %rsp
        ret
        .size   x87_run, . - x87_run

/*
 * Four bytes each, by opcode and ModRM: 8 times 8 whose operand is memory at RSI, and 8 times 64 of registers.
 */
        .type   x87_stubs, @object
        .p2align 4
x87_stubs:
        .irp    opcode, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf
        .irp    reg, 0, 1, 2, 3, 4, 5, 6, 7
        .byte   \opcode, \reg << 3 | 6, 0xc3, 0xcc
        .endr
        .endr
        .irp    opcode, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf
        .set    modrm, 0xc0
        .rept   64
        .byte   \opcode, modrm, 0xc3, 0xcc
        .set    modrm, modrm + 1
        .endr
        .endr
        .size   x87_stubs, . - x87_stubs

        .section .note.GNU-stack, "", @progbits
