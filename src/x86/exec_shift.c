/*
 * x86/exec_shift.c - shifts and rotations, double ones too.
 */
#include "x86/exec.h"

#include "x86/mem.h"

/* What an operation makes of a value, and of CF and OF. */
struct shifted {
    uint64_t value;
    bool carry, overflow;
};

X86_INLINE bool bit_of(uint64_t value, unsigned bit)
{
    return (value >> bit & 1) != 0;
}

/* ROL, ROR: @count is not 0; it may be more than there are bits. */
X86_INLINE struct shifted rotate(enum shift_op op, uint64_t value, unsigned count, unsigned bits)
{
    unsigned left = op == SHIFT_ROL ? count % bits : (bits - count % bits) % bits;
    struct shifted result = {value, false, false};

    if (left != 0) {
        result.value = zero_extend(value << left | value >> (bits - left), bits / 8);
    }
    if (op == SHIFT_ROL) {
        result.carry = bit_of(result.value, 0);
        result.overflow = result.carry != bit_of(result.value, bits - 1);
    } else {
        result.carry = bit_of(result.value, bits - 1);
        result.overflow = result.carry != bit_of(result.value, bits - 2);
    }
    return result;
}

/* RCL, RCR: bits and CF turn as one; bit by bit, as nobody is in a hurry. */
static struct shifted rotate_through_carry(enum shift_op op, uint64_t value, unsigned count,
                                           unsigned bits, bool carry)
{
    struct shifted result = {value, carry, false};

    for (count %= bits + 1; count > 0; count--) {
        bool out = bit_of(result.value, op == SHIFT_RCL ? bits - 1 : 0);

        if (op == SHIFT_RCL) {
            result.value = zero_extend(result.value << 1 | result.carry, bits / 8);
        } else {
            result.value = result.value >> 1 | (uint64_t)result.carry << (bits - 1);
        }
        result.carry = out;
    }
    result.overflow = op == SHIFT_RCL
                          ? bit_of(result.value, bits - 1) != result.carry
                          : bit_of(result.value, bits - 1) != bit_of(result.value, bits - 2);
    return result;
}

/* SHL, SHR, SAR: @count is 1 to 63. */
X86_INLINE struct shifted shift(enum shift_op op, uint64_t value, unsigned count, unsigned bits)
{
    struct shifted result;
    int64_t extended = (int64_t)sign_extend(value, bits / 8);

    switch (op) {
    case SHIFT_SHL:
        result.value = zero_extend(value << count, bits / 8);
        result.carry = count <= bits && bit_of(value, bits - count);
        result.overflow = result.carry != bit_of(result.value, bits - 1);
        break;
    case SHIFT_SHR:
        result.value = value >> count;
        result.carry = bit_of(value, count - 1);
        result.overflow = bit_of(value, bits - 1);
        break;
    default:
        result.value = zero_extend((uint64_t)(extended >> count), bits / 8);
        result.carry = bit_of((uint64_t)extended, count - 1);
        result.overflow = false;
        break;
    }
    return result;
}

X86_INLINE enum step do_shift(struct x86_vcpu *vcpu, const struct insn *insn, enum shift_op op,
                              uint64_t amount, unsigned size)
{
    unsigned count = (unsigned)amount & (size == 8 ? 63 : 31);
    struct shifted result = {0};
    struct mem_rmw rmw;
    bool is_done;

    TRY(operand_begin(vcpu, insn, size, &rmw));
    if (count == 0) {
        return operand_end(vcpu, insn, size, &rmw, rmw.old, &is_done);
    }
    if (op == SHIFT_RCL || op == SHIFT_RCR) {
        result = rotate_through_carry(op, rmw.old, count, size * 8, flag_cf(vcpu));
    } else if (op == SHIFT_ROL || op == SHIFT_ROR) {
        result = rotate(op, rmw.old, count, size * 8);
    } else {
        result = shift(op, rmw.old, count, size * 8);
    }
    TRY(operand_end(vcpu, insn, size, &rmw, result.value, &is_done));
    if (op == SHIFT_SHL || op == SHIFT_SHR || op == SHIFT_SAR) {
        flags_set_result(vcpu, result.value, size);
    }
    flags_set_carry_overflow(vcpu, result.carry, result.overflow);
    return STEP_NEXT;
}

#define SHIFT_FORMS(name, op)                                                                      \
    X86_INLINE enum step name##_imm(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size) \
    {                                                                                              \
        return do_shift(vcpu, insn, op, insn->imm, size);                                          \
    }                                                                                              \
    X86_INLINE enum step name##_cl(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)  \
    {                                                                                              \
        return do_shift(vcpu, insn, op, vcpu->gpr[X86_RCX], size);                                 \
    }                                                                                              \
    INSN_SIZES(name##_imm)                                                                         \
    INSN_SIZES(name##_cl)
#define SHIFT_ROW(name)                                                                            \
    {                                                                                              \
        INSN_TABLE(name##_imm), INSN_TABLE(name##_cl)                                              \
    }

SHIFT_FORMS(rol, SHIFT_ROL)
SHIFT_FORMS(ror, SHIFT_ROR)
SHIFT_FORMS(rcl, SHIFT_RCL)
SHIFT_FORMS(rcr, SHIFT_RCR)
SHIFT_FORMS(shl, SHIFT_SHL)
SHIFT_FORMS(shr, SHIFT_SHR)
SHIFT_FORMS(sar, SHIFT_SAR)

insn_fn *exec_shift(struct insn *insn)
{
    static insn_fn *const table[SHIFT_COUNT][2][4] = {
        [SHIFT_ROL] = SHIFT_ROW(rol), [SHIFT_ROR] = SHIFT_ROW(ror), [SHIFT_RCL] = SHIFT_ROW(rcl),
        [SHIFT_RCR] = SHIFT_ROW(rcr), [SHIFT_SHL] = SHIFT_ROW(shl), [SHIFT_SHR] = SHIFT_ROW(shr),
        [SHIFT_SAR] = SHIFT_ROW(sar),
    };
    bool is_by_cl = ((insn->form >> 2) & 3) == KIND_REG;

    return table[insn->sub][is_by_cl][size_index(insn->size)];
}

/*
 * SHLD, SHRD. Of 16 bits by more than 16 the result is undefined: after the second operand's bits come the
 * first one's again, as on Intel's processors.
 */
static struct shifted shift_double(unsigned sub, uint64_t value, uint64_t fill, unsigned count,
                                   unsigned bits)
{
    struct shifted result = {0};
    uint64_t again = value;

    if (count > bits) {
        value = fill;
        fill = again;
        count -= bits;
    }
    if (sub == 0) {
        result.value = zero_extend(value << count | fill >> (bits - count), bits / 8);
        result.carry = bit_of(value, bits - count);
    } else {
        result.value = zero_extend(value >> count | fill << (bits - count), bits / 8);
        result.carry = bit_of(value, count - 1);
    }
    result.overflow = bit_of(result.value ^ again, bits - 1);
    return result;
}

static enum step double_shift(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    bool is_by_cl = ((insn->form >> 4) & 3) == KIND_REG;
    unsigned count = (unsigned)(is_by_cl ? vcpu->gpr[X86_RCX] : insn->imm) & (size == 8 ? 63 : 31);
    uint64_t fill = reg_read(vcpu, insn->reg[1], size);
    struct shifted result;
    struct mem_rmw rmw;
    bool is_done;

    TRY(operand_begin(vcpu, insn, size, &rmw));
    if (count == 0) {
        return operand_end(vcpu, insn, size, &rmw, rmw.old, &is_done);
    }
    result = shift_double(insn->sub, rmw.old, fill, count, size * 8);
    TRY(operand_end(vcpu, insn, size, &rmw, result.value, &is_done));
    flags_set_result(vcpu, result.value, size);
    flags_set_carry_overflow(vcpu, result.carry, result.overflow);
    return STEP_NEXT;
}

insn_fn *exec_double_shift(struct insn *insn)
{
    (void)insn;
    return double_shift;
}
