/*
 * x86/exec_bcd.c - decimal arithmetic, which 64-bit mode has not (Intel SDM 2, DAA and its like).
 */
#include "x86/exec.h"

#include "x86/mem.h"

static void set_bcd_flags(struct x86_vcpu *vcpu, uint8_t al, bool carry, bool adjust)
{
    flags_set_result(vcpu, al, 1);
    vcpu->flag_carries = adjust ? 8 : 0;
    flags_set_carry_overflow(vcpu, carry, false);
}

/* DAA, DAS. */
static enum step adjust_packed(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint8_t before = (uint8_t)vcpu->gpr[X86_RAX];
    uint8_t al = before;
    bool carry = flag_cf(vcpu);
    bool is_adding = insn->sub == BCD_DAA;
    bool adjusts = (before & 15) > 9 || flag_af(vcpu);
    bool adjusts_high = before > 0x99 || carry;

    if (adjusts) {
        al = is_adding ? al + 6 : al - 6;
    }
    if (adjusts_high) {
        al = is_adding ? al + 0x60 : al - 0x60;
    }
    carry = adjusts_high || (!is_adding && adjusts && before < 6);
    gpr_write(vcpu, X86_RAX, 1, al);
    set_bcd_flags(vcpu, al, carry, adjusts);
    return STEP_NEXT;
}

/* AAA, AAS. */
static enum step adjust_unpacked(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint16_t ax = (uint16_t)vcpu->gpr[X86_RAX];
    bool adjusts = (ax & 15) > 9 || flag_af(vcpu);

    if (adjusts) {
        ax = insn->sub == BCD_AAA ? ax + 0x106 : ax - 0x106;
    }
    ax &= 0xff0f;
    gpr_write(vcpu, X86_RAX, 2, ax);
    set_bcd_flags(vcpu, (uint8_t)ax, adjusts, adjusts);
    return STEP_NEXT;
}

static enum step aam(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint8_t al = (uint8_t)vcpu->gpr[X86_RAX];
    uint8_t base = (uint8_t)insn->imm;

    if (base == 0) {
        return step_raise(vcpu, X86_DE);
    }
    gpr_write(vcpu, X86_RAX, 2, (uint64_t)(al / base) << 8 | al % base);
    set_bcd_flags(vcpu, al % base, false, false);
    return STEP_NEXT;
}

static enum step aad(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint16_t ax = (uint16_t)vcpu->gpr[X86_RAX];
    uint8_t al = (uint8_t)(ax + (ax >> 8) * (uint8_t)insn->imm);

    gpr_write(vcpu, X86_RAX, 2, al);
    set_bcd_flags(vcpu, al, false, false);
    return STEP_NEXT;
}

/* SALC: undocumented, and everywhere. */
static enum step salc(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    gpr_write(vcpu, X86_RAX, 1, flag_cf(vcpu) ? 0xff : 0);
    return STEP_NEXT;
}

insn_fn *exec_bcd(struct insn *insn)
{
    switch (insn->sub) {
    case BCD_DAA:
    case BCD_DAS:
        return adjust_packed;
    case BCD_AAA:
    case BCD_AAS:
        return adjust_unpacked;
    case BCD_AAM:
        return aam;
    case BCD_AAD:
        return aad;
    default:
        return salc;
    }
}
