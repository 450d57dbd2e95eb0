/*
 * x86/exec_muldiv.c - MUL, IMUL, DIV, IDIV.
 */
#include "x86/exec.h"

#include "x86/mem.h"

__extension__ typedef unsigned __int128 wide;
__extension__ typedef __int128 signed_wide;

/* The accumulator's double: AX; or DX:AX and its like. */
static wide read_double(const struct x86_vcpu *vcpu, unsigned size)
{
    if (size == 1) {
        return (uint16_t)vcpu->gpr[X86_RAX];
    }
    return (wide)gpr_read(vcpu, X86_RDX, size) << (size * 8) | gpr_read(vcpu, X86_RAX, size);
}

static void write_double(struct x86_vcpu *vcpu, unsigned size, uint64_t low, uint64_t high)
{
    if (size == 1) {
        gpr_write(vcpu, X86_RAX, 2, (uint8_t)low | (uint64_t)(uint8_t)high << 8);
        return;
    }
    gpr_write(vcpu, X86_RAX, size, low);
    gpr_write(vcpu, X86_RDX, size, high);
}

/* CF and OF: the upper half counts. The others are undefined; SF, ZF and PF are left as of the lower half. */
static void product_flags(struct x86_vcpu *vcpu, uint64_t low, unsigned size, bool is_wide)
{
    flags_set_result(vcpu, low, size);
    vcpu->flag_carries = 0;
    flags_set_carry_overflow(vcpu, is_wide, is_wide);
}

static signed_wide signed_product(uint64_t a, uint64_t b, unsigned size)
{
    return (signed_wide)(int64_t)sign_extend(a, size) * (int64_t)sign_extend(b, size);
}

static bool is_wide_product(signed_wide product, unsigned size)
{
    return product != (int64_t)sign_extend((uint64_t)product, size);
}

static enum step mul(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t factor;
    wide product;
    uint64_t high;

    TRY(operand_read(vcpu, insn, 0, size, &factor));
    product = (wide)gpr_read(vcpu, X86_RAX, size) * factor;
    high = (uint64_t)(product >> (size * 8));
    write_double(vcpu, size, (uint64_t)product, high);
    product_flags(vcpu, (uint64_t)product, size, zero_extend(high, size) != 0);
    return STEP_NEXT;
}

static enum step imul_double(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t factor;
    signed_wide product;

    TRY(operand_read(vcpu, insn, 0, size, &factor));
    product = signed_product(vcpu->gpr[X86_RAX], factor, size);
    write_double(vcpu, size, (uint64_t)product, (uint64_t)(product >> (size * 8)));
    product_flags(vcpu, (uint64_t)product, size, is_wide_product(product, size));
    return STEP_NEXT;
}

/* Two or three operands: the last factor is @number. */
X86_INLINE enum step imul(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t a, b;
    signed_wide product;

    TRY(operand_read(vcpu, insn, 1, size, &a));
    if (operand_kind(insn, 2) == KIND_IMM) {
        b = insn->imm;
    } else {
        b = reg_read(vcpu, insn->reg[0], size);
    }
    product = signed_product(a, b, size);
    reg_write(vcpu, insn->reg[0], size, (uint64_t)product);
    product_flags(vcpu, (uint64_t)product, size, is_wide_product(product, size));
    return STEP_NEXT;
}

INSN_WIDE_SIZES(imul)

static enum step divide(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    wide dividend = read_double(vcpu, size);
    wide quotient;
    uint64_t divisor;

    TRY(operand_read(vcpu, insn, 0, size, &divisor));
    if (divisor == 0) {
        return step_raise(vcpu, X86_DE);
    }
    if (dividend >> 64 == 0) { /* the host's short division */
        quotient = (uint64_t)dividend / divisor;
    } else {
        quotient = dividend / divisor;
    }
    if (quotient >> (size * 8) != 0) {
        return step_raise(vcpu, X86_DE);
    }
    write_double(vcpu, size, (uint64_t)quotient, (uint64_t)(dividend - quotient * divisor));
    return STEP_NEXT;
}

static enum step divide_signed(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    unsigned unused = 128 - size * 16;
    signed_wide dividend = (signed_wide)(read_double(vcpu, size) << unused) >> unused;
    signed_wide divisor, quotient;
    uint64_t value;

    TRY(operand_read(vcpu, insn, 0, size, &value));
    divisor = (int64_t)sign_extend(value, size);
    /* The least number by -1 would be past even what 128 bits hold. */
    if (divisor == 0 || (divisor == -1 && (wide)dividend == (wide)1 << 127)) {
        return step_raise(vcpu, X86_DE);
    }
    quotient = dividend == (int64_t)dividend && divisor != -1 ? (int64_t)dividend / (int64_t)divisor
                                                              : dividend / divisor;
    if (quotient != (int64_t)sign_extend((uint64_t)quotient, size)) {
        return step_raise(vcpu, X86_DE);
    }
    write_double(vcpu, size, (uint64_t)quotient, (uint64_t)(dividend - quotient * divisor));
    return STEP_NEXT;
}

insn_fn *exec_muldiv(struct insn *insn)
{
    static insn_fn *const imuls[] = INSN_WIDE_TABLE(imul);

    switch (insn->sub) {
    case MULDIV_MUL:
        return mul;
    case MULDIV_IMUL:
        return operand_kind(insn, 1) == KIND_NONE ? imul_double : imuls[size_index(insn->size)];
    case MULDIV_DIV:
        return divide;
    default:
        return divide_signed;
    }
}
