/*
 * x86/exec_bit.c - bits: BT and its like, scans, POPCNT, BMI1 and BMI2.
 */
#include "x86/exec.h"

#include "x86/mem.h"

static uint64_t bit_result(enum bit_op op, uint64_t value, uint64_t bit)
{
    switch (op) {
    case BIT_BTS:
        return value | bit;
    case BIT_BTR:
        return value & ~bit;
    default:
        return value ^ bit;
    }
}

/*
 * BT, BTS, BTR, BTC. By a register the bit may be anywhere around a memory operand: the operand is then
 * moved to the word that has it.
 */
static enum step bit_test(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    struct insn moved = *insn;
    bool is_by_reg = operand_kind(insn, 1) == KIND_REG;
    uint64_t index = is_by_reg ? reg_read(vcpu, insn->reg[1], size) : insn->imm;
    uint64_t bit = UINT64_C(1) << (index & (size * 8 - 1));
    struct mem_rmw rmw;
    bool is_done;

    if (is_by_reg && operand_kind(insn, 0) == KIND_MEM) {
        int64_t word = (int64_t)sign_extend(index, size) >> (3 + size_index(size));

        moved.disp += (uint64_t)word * size;
    }
    if (insn->sub == BIT_BT) {
        TRY(operand_read(vcpu, &moved, 0, size, &rmw.old));
        flags_set_carry(vcpu, (rmw.old & bit) != 0);
        return STEP_NEXT;
    }
    TRY(operand_begin(vcpu, &moved, size, &rmw));
    do {
        uint64_t old = rmw.old;

        TRY(operand_end(vcpu, &moved, size, &rmw, bit_result(insn->sub, old, bit), &is_done));
        if (is_done) {
            flags_set_carry(vcpu, (old & bit) != 0);
        }
    } while (!is_done);
    return STEP_NEXT;
}

/* BSF, BSR. Of 0 the register stays as it is, on processors of both makers; ZF alone is defined. */
static enum step bit_scan(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t value;

    TRY(operand_read(vcpu, insn, 1, size, &value));
    flags_set_result(vcpu, value, size);
    vcpu->flag_carries = 0;
    if (value != 0) {
        unsigned bit = insn->sub == BIT_BSF ? (unsigned)__builtin_ctzll(value)
                                            : 63 - (unsigned)__builtin_clzll(value);

        reg_write(vcpu, insn->reg[0], size, bit);
    }
    return STEP_NEXT;
}

static enum step bit_count(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    unsigned bits = size * 8;
    unsigned count;
    uint64_t value;

    TRY(operand_read(vcpu, insn, 1, size, &value));
    switch (insn->sub) {
    case BIT_TZCNT:
        count = value == 0 ? bits : (unsigned)__builtin_ctzll(value);
        break;
    case BIT_LZCNT:
        count = value == 0 ? bits : (unsigned)__builtin_clzll(value) - (64 - bits);
        break;
    default:
        count = (unsigned)__builtin_popcountll(value);
        break;
    }
    reg_write(vcpu, insn->reg[0], size, count);
    if (insn->sub == BIT_POPCNT) {
        flags_set_arithmetic(vcpu, value == 0 ? X86_FLAG_ZF : 0);
    } else {
        flags_set_arithmetic(vcpu, (count == 0 ? X86_FLAG_ZF : 0) | (value == 0 ? X86_FLAG_CF : 0));
    }
    return STEP_NEXT;
}

static enum step andn(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t value, result;

    TRY(operand_read(vcpu, insn, 2, size, &value));
    result = ~reg_read(vcpu, insn->reg[1], size) & value;
    reg_write(vcpu, insn->reg[0], size, result);
    flags_of_logic(vcpu, result, size);
    return STEP_NEXT;
}

/* BLSI, BLSR, BLSMSK. */
static enum step lowest_bit(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t value, result;
    bool carry;

    TRY(operand_read(vcpu, insn, 1, size, &value));
    carry = value == 0;
    switch (insn->sub) {
    case BIT_BLSI:
        result = value & (0 - value);
        carry = !carry;
        break;
    case BIT_BLSR:
        result = value & (value - 1);
        break;
    default:
        result = value ^ (value - 1);
        break;
    }
    reg_write(vcpu, insn->reg[0], size, result);
    flags_of_logic(vcpu, result, size);
    flags_set_carry_overflow(vcpu, carry, false);
    return STEP_NEXT;
}

/* BEXTR, BZHI. */
static enum step extract(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    unsigned bits = size * 8;
    uint64_t control = reg_read(vcpu, insn->reg[2], size);
    unsigned start = insn->sub == BIT_BEXTR ? (uint8_t)control : 0;
    unsigned length = insn->sub == BIT_BEXTR ? (uint8_t)(control >> 8) : (uint8_t)control;
    uint64_t result;

    TRY(operand_read(vcpu, insn, 1, size, &result));
    result = start < bits ? result >> start : 0;
    result &= length < 64 ? (UINT64_C(1) << length) - 1 : UINT64_MAX;
    reg_write(vcpu, insn->reg[0], size, result);
    flags_of_logic(vcpu, result, size);
    if (insn->sub == BIT_BZHI) {
        flags_set_carry_overflow(vcpu, length >= bits, false);
    }
    return STEP_NEXT;
}

/* SHLX, SHRX, SARX, RORX: no flags. */
static enum step shift_plain(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    unsigned bits = size * 8;
    uint64_t amount = insn->sub == BIT_RORX ? insn->imm : reg_read(vcpu, insn->reg[2], size);
    unsigned count = (unsigned)amount & (bits - 1);
    uint64_t value;

    TRY(operand_read(vcpu, insn, 1, size, &value));
    switch (insn->sub) {
    case BIT_SHLX:
        value <<= count;
        break;
    case BIT_SHRX:
        value >>= count;
        break;
    case BIT_SARX:
        value = (uint64_t)((int64_t)sign_extend(value, size) >> count);
        break;
    default:
        value = count == 0 ? value : value >> count | value << (bits - count);
        break;
    }
    reg_write(vcpu, insn->reg[0], size, value);
    return STEP_NEXT;
}

static enum step mulx(struct x86_vcpu *vcpu, const struct insn *insn)
{
    __extension__ unsigned __int128 product;
    unsigned size = insn->size;
    uint64_t value;

    TRY(operand_read(vcpu, insn, 2, size, &value));
    product = value;
    product *= gpr_read(vcpu, X86_RDX, size);
    reg_write(vcpu, insn->reg[1], size, (uint64_t)product);
    reg_write(vcpu, insn->reg[0], size, (uint64_t)(product >> (size * 8)));
    return STEP_NEXT;
}

/* PDEP, PEXT: no flags. */
static enum step scatter(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t source = reg_read(vcpu, insn->reg[1], size);
    uint64_t result = 0;
    uint64_t mask;
    unsigned count = 0;

    TRY(operand_read(vcpu, insn, 2, size, &mask));
    for (; mask != 0; mask &= mask - 1, count++) {
        unsigned bit = (unsigned)__builtin_ctzll(mask);

        result |=
            insn->sub == BIT_PDEP ? (source >> count & 1) << bit : (source >> bit & 1) << count;
    }
    reg_write(vcpu, insn->reg[0], size, result);
    return STEP_NEXT;
}

/* ADCX, ADOX: a carry of their own, CF or OF; nothing else changes. */
static enum step add_by_flag(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    bool is_by_carry = insn->sub == BIT_ADCX;
    bool carry = is_by_carry ? flag_cf(vcpu) : flag_of(vcpu);
    uint64_t a = reg_read(vcpu, insn->reg[0], size);
    uint64_t b, result;

    TRY(operand_read(vcpu, insn, 1, size, &b));
    result = zero_extend(a + b + carry, size);
    reg_write(vcpu, insn->reg[0], size, result);
    carry = result < a || (carry && result == a);
    flags_set_carry_overflow(vcpu, is_by_carry ? carry : flag_cf(vcpu),
                             is_by_carry ? flag_of(vcpu) : carry);
    return STEP_NEXT;
}

insn_fn *exec_bit(struct insn *insn)
{
    switch (insn->sub) {
    case BIT_BT:
    case BIT_BTS:
    case BIT_BTR:
    case BIT_BTC:
        return bit_test;
    case BIT_BSF:
    case BIT_BSR:
        return bit_scan;
    case BIT_TZCNT:
    case BIT_LZCNT:
    case BIT_POPCNT:
        return bit_count;
    case BIT_ANDN:
        return andn;
    case BIT_BLSI:
    case BIT_BLSR:
    case BIT_BLSMSK:
        return lowest_bit;
    case BIT_BEXTR:
    case BIT_BZHI:
        return extract;
    case BIT_MULX:
        return mulx;
    case BIT_PDEP:
    case BIT_PEXT:
        return scatter;
    case BIT_ADCX:
    case BIT_ADOX:
        return add_by_flag;
    default:
        return shift_plain;
    }
}
