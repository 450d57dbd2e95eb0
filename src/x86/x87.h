/*
 * x86/x87.h - the state of x87: pending exceptions, and the images that FNSAVE and its like have of it.
 */
#ifndef X86_X87_H
#define X86_X87_H

#include "x86/insn.h"

#define X87_EXCEPTIONS 0x3fu
#define X87_ERROR 0x80u /* ES: one of them is not masked */
#define X87_BUSY 0x8000u
#define X87_TOP_SHIFT 11

/* As FNSAVE stores it, in protected mode with 32-bit operands (Intel SDM 1, figure 8-9): also what the host loads. */
struct x87_image {
    uint16_t fcw, reserved0, fsw, reserved1, ftw,
        reserved2; /* all bits of what is reserved are set */
    uint32_t ip;
    uint16_t cs, opcode;
    uint32_t dp;
    uint16_t ds, reserved3;
    uint8_t st[8][10];
};

/* CR0.EM and CR0.TS. */
X86_INLINE enum step x87_check(struct x86_vcpu *vcpu)
{
    return (vcpu->cr0 & 0xc) != 0 ? step_raise(vcpu, X86_NM) : STEP_NEXT;
}

/* An exception that is pending. Without CR0.NE it would come by way of the interrupt controller: that is not there. */
X86_INLINE enum step x87_check_pending(struct x86_vcpu *vcpu)
{
    if (__builtin_expect((vcpu->fpu.fsw & X87_ERROR) == 0, 1)) {
        return STEP_NEXT;
    }
    return (vcpu->cr0 & 0x20) != 0 ? step_raise(vcpu, X86_MF) : step_exit(vcpu, X86_EXIT_EMULATION);
}

/* ES and B follow from the exceptions and their masks. */
void x87_derive(struct x86_fpu *fpu);
/* Another register is the stack's top; all keep their values. */
void x87_set_top(struct x86_fpu *fpu, unsigned top);
void x87_reset(struct x86_fpu *fpu); /* FNINIT */

void x87_to_image(const struct x86_fpu *fpu, struct x87_image *image);
void x87_from_image(struct x86_fpu *fpu, const struct x87_image *image);

#endif
