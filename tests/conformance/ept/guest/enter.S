/*
 * conformance/ept/guest/enter.S - into the virtual machine and back, and the code that runs in it.
 *
 * Of the virtual machine's registers only RAX and RDI matter: struct registers in guest.h.
 */
#define VMCS_HOST_RSP 0x6c14

    .macro push_saved
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    .endm

    .macro pop_saved
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    .endm

    .text

/* bool vmx_enter(struct registers *registers, bool launched): false if the processor refused. */
    .globl vmx_enter, vmx_exited
vmx_enter:
    push_saved
    push %rdi
    movl $VMCS_HOST_RSP, %eax
    vmwrite %rsp, %rax
    movl %esi, %ecx
    movq (%rdi), %rax
    movq 8(%rdi), %rdi
    testl %ecx, %ecx
    jnz 1f
    vmlaunch
    jmp 2f
1:  vmresume
2:  pop %rdi
    pop_saved
    xorl %eax, %eax
    ret
vmx_exited: /* VMCS_HOST_RIP */
    pop %rdi
    movq %rax, (%rdi)
    pop_saved
    movl $1, %eax
    ret

/* void svm_enter(struct registers *registers, uint64_t vmcb): RAX is in the VMCB. */
    .globl svm_enter
svm_enter:
    push_saved
    movq %rsi, %rax
    movq 8(%rdi), %rdi
    vmrun %rax
    pop_saved
    ret

/* What the virtual machine runs: one access, and then the call that ends it. */
    .globl code_begin, code_vmx_read, code_vmx_write, code_svm_read, code_svm_write, code_end
code_begin:
code_vmx_read:
    movq (%rdi), %rax
    vmcall
code_vmx_write:
    movq %rax, (%rdi)
    vmcall
code_svm_read:
    movq (%rdi), %rax
    vmmcall
code_svm_write:
    movq %rax, (%rdi)
    vmmcall
code_end:

    .section .note.GNU-stack, "", @progbits
