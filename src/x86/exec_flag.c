/*
 * x86/exec_flag.c - instructions on single flags, LAHF and SAHF.
 */
#include "x86/cpuid.h"
#include "x86/exec.h"

#include "x86/paging.h"
#include "x86/seg.h"

static enum step carry(struct x86_vcpu *vcpu, const struct insn *insn)
{
    flags_set_carry(vcpu, insn->sub == FLAG_STC || (insn->sub == FLAG_CMC && !flag_cf(vcpu)));
    return STEP_NEXT;
}

static enum step direction(struct x86_vcpu *vcpu, const struct insn *insn)
{
    vcpu->rflags &= ~X86_FLAG_DF;
    vcpu->rflags |= insn->sub == FLAG_STD ? X86_FLAG_DF : 0;
    return STEP_NEXT;
}

#define LAHF_FLAGS (X86_FLAG_CF | X86_FLAG_PF | X86_FLAG_AF | X86_FLAG_ZF | X86_FLAG_SF)

static enum step lahf(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t flags = (flags_arithmetic(vcpu) & LAHF_FLAGS) | X86_FLAG_ONE;

    (void)insn;
    reg_write(vcpu, X86_RAX * 8 + 1, 1, flags);
    return STEP_NEXT;
}

static enum step sahf(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t flags = reg_read(vcpu, X86_RAX * 8 + 1, 1) & LAHF_FLAGS;

    (void)insn;
    flags_set_arithmetic(vcpu, flags | (flag_of(vcpu) ? X86_FLAG_OF : 0));
    return STEP_NEXT;
}

/* CLI, STI. After STI no interrupt comes before the next instruction is done. */
static enum step interrupt_flag(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned iopl = (unsigned)(vcpu->rflags & X86_FLAG_IOPL) >> 12;

    if (is_protected(vcpu) && vcpu->cpl > iopl) {
        bool is_virtual = (vcpu->rflags & X86_FLAG_VM) != 0;
        bool has_virtual_flag = (vcpu->cr4 & (is_virtual ? 1 : 2)) != 0; /* VME, PVI */

        return has_virtual_flag && vcpu->cpl == 3 ? step_exit(vcpu, X86_EXIT_EMULATION)
                                                  : step_raise_code(vcpu, X86_GP, 0);
    }
    if (insn->sub == FLAG_CLI) {
        vcpu->rflags &= ~X86_FLAG_IF;
    } else {
        vcpu->is_shadowed = (vcpu->rflags & X86_FLAG_IF) == 0;
        vcpu->rflags |= X86_FLAG_IF;
    }
    return STEP_NEXT;
}

/* CLAC, STAC: where CPUID has SMAP, whether CR4 has it or not; also in real mode. */
static enum step access_flag(struct x86_vcpu *vcpu, const struct insn *insn)
{
    if (vcpu->cpl != 0 || !cpuid_allows(vcpu, 7, CPUID_EBX, 20)) {
        return step_raise(vcpu, X86_UD);
    }
    vcpu->rflags &= ~X86_FLAG_AC;
    vcpu->rflags |= insn->sub == FLAG_STAC ? X86_FLAG_AC : 0;
    seg_derive_mode(vcpu);
    return STEP_NEXT;
}

insn_fn *exec_flag(struct insn *insn)
{
    switch (insn->sub) {
    case FLAG_CLC:
    case FLAG_STC:
    case FLAG_CMC:
        return carry;
    case FLAG_CLD:
    case FLAG_STD:
        return direction;
    case FLAG_LAHF:
        return lahf;
    case FLAG_SAHF:
        return sahf;
    case FLAG_CLI:
    case FLAG_STI:
        return interrupt_flag;
    default:
        return access_flag;
    }
}
