/*
 * x86/exec_alu.c - ADD and its like, TEST, INC, DEC, NEG, NOT: for each form and size a handler of its own.
 */
#include "x86/exec.h"

#include "x86/mem.h"

X86_INLINE uint64_t alu_result(const struct x86_vcpu *vcpu, enum alu_op op, uint64_t a, uint64_t b)
{
    switch (op) {
    case ALU_ADD:
        return a + b;
    case ALU_OR:
        return a | b;
    case ALU_ADC:
        return a + b + flag_cf(vcpu);
    case ALU_SBB:
        return a - b - flag_cf(vcpu);
    case ALU_AND:
    case ALU_TEST:
        return a & b;
    case ALU_XOR:
        return a ^ b;
    default:
        return a - b;
    }
}

X86_INLINE void alu_flags(struct x86_vcpu *vcpu, enum alu_op op, uint64_t a, uint64_t b,
                          uint64_t result, unsigned size)
{
    switch (op) {
    case ALU_ADD:
    case ALU_ADC:
        flags_of_add(vcpu, a, b, result, size);
        break;
    case ALU_SUB:
    case ALU_SBB:
    case ALU_CMP:
        flags_of_sub(vcpu, a, b, result, size);
        break;
    default:
        flags_of_logic(vcpu, result, size);
        break;
    }
}

X86_INLINE bool alu_writes(enum alu_op op)
{
    return op != ALU_CMP && op != ALU_TEST;
}

X86_INLINE enum step alu_to_reg(struct x86_vcpu *vcpu, const struct insn *insn, enum alu_op op,
                                uint64_t b, unsigned size)
{
    uint64_t a = reg_read(vcpu, insn->reg[0], size);
    uint64_t result = alu_result(vcpu, op, a, b);

    alu_flags(vcpu, op, a, b, result, size);
    if (alu_writes(op)) {
        reg_write(vcpu, insn->reg[0], size, result);
    }
    return STEP_NEXT;
}

X86_INLINE enum step alu_to_mem(struct x86_vcpu *vcpu, const struct insn *insn, enum alu_op op,
                                uint64_t b, unsigned size)
{
    struct mem_rmw rmw;
    uint64_t a, result;
    bool is_done;

    if (!alu_writes(op)) {
        TRY(mem_load(vcpu, insn, size, &a));
        alu_flags(vcpu, op, a, b, alu_result(vcpu, op, a, b), size);
        return STEP_NEXT;
    }
    TRY(rmw_begin(vcpu, insn, size, &rmw));
    do {
        a = rmw.old;
        result = alu_result(vcpu, op, a, b);
        TRY(rmw_end(vcpu, insn, size, &rmw, result, &is_done));
    } while (__builtin_expect(!is_done, 0));
    alu_flags(vcpu, op, a, b, result, size);
    return STEP_NEXT;
}

X86_INLINE enum step alu_rr(struct x86_vcpu *vcpu, const struct insn *insn, enum alu_op op,
                            unsigned size)
{
    return alu_to_reg(vcpu, insn, op, reg_read(vcpu, insn->reg[1], size), size);
}

X86_INLINE enum step alu_ri(struct x86_vcpu *vcpu, const struct insn *insn, enum alu_op op,
                            unsigned size)
{
    return alu_to_reg(vcpu, insn, op, insn->imm, size);
}

X86_INLINE enum step alu_rm(struct x86_vcpu *vcpu, const struct insn *insn, enum alu_op op,
                            unsigned size)
{
    uint64_t b;

    TRY(mem_load(vcpu, insn, size, &b));
    return alu_to_reg(vcpu, insn, op, b, size);
}

X86_INLINE enum step alu_mr(struct x86_vcpu *vcpu, const struct insn *insn, enum alu_op op,
                            unsigned size)
{
    return alu_to_mem(vcpu, insn, op, reg_read(vcpu, insn->reg[1], size), size);
}

X86_INLINE enum step alu_mi(struct x86_vcpu *vcpu, const struct insn *insn, enum alu_op op,
                            unsigned size)
{
    return alu_to_mem(vcpu, insn, op, insn->imm, size);
}

#define ALU_FORM(name, op, form)                                                                   \
    X86_INLINE enum step name##_##form(struct x86_vcpu *vcpu, const struct insn *insn,             \
                                       unsigned size)                                              \
    {                                                                                              \
        return alu_##form(vcpu, insn, op, size);                                                   \
    }                                                                                              \
    INSN_SIZES(name##_##form)
#define ALU_FORMS(name, op)                                                                        \
    ALU_FORM(name, op, rr)                                                                         \
    ALU_FORM(name, op, ri)                                                                         \
    ALU_FORM(name, op, rm)                                                                         \
    ALU_FORM(name, op, mr)                                                                         \
    ALU_FORM(name, op, mi)
#define ALU_ROW(name)                                                                              \
    {                                                                                              \
        INSN_TABLE(name##_rr), INSN_TABLE(name##_ri), INSN_TABLE(name##_rm),                       \
            INSN_TABLE(name##_mr), INSN_TABLE(name##_mi)                                           \
    }

ALU_FORMS(add, ALU_ADD)
ALU_FORMS(or, ALU_OR)
ALU_FORMS(adc, ALU_ADC)
ALU_FORMS(sbb, ALU_SBB)
ALU_FORMS(and, ALU_AND)
ALU_FORMS(sub, ALU_SUB)
ALU_FORMS(xor, ALU_XOR)
ALU_FORMS(cmp, ALU_CMP)
ALU_FORMS(test, ALU_TEST)

static int alu_form_index(unsigned form)
{
    switch (form) {
    case FORM_RR:
        return 0;
    case FORM_RI:
        return 1;
    case FORM_RM:
        return 2;
    case FORM_MR:
        return 3;
    case FORM_MI:
        return 4;
    default:
        return -1;
    }
}

insn_fn *exec_alu(struct insn *insn)
{
    static insn_fn *const table[ALU_COUNT][5][4] = {
        [ALU_ADD] = ALU_ROW(add), [ALU_OR] = ALU_ROW(or),   [ALU_ADC] = ALU_ROW(adc),
        [ALU_SBB] = ALU_ROW(sbb), [ALU_AND] = ALU_ROW(and), [ALU_SUB] = ALU_ROW(sub),
        [ALU_XOR] = ALU_ROW(xor), [ALU_CMP] = ALU_ROW(cmp), [ALU_TEST] = ALU_ROW(test),
    };
    int form = alu_form_index(insn->form);

    return form < 0 ? NULL : table[insn->sub][form][size_index(insn->size)];
}

X86_INLINE uint64_t unary_result(enum unary_op op, uint64_t a)
{
    switch (op) {
    case UNARY_INC:
        return a + 1;
    case UNARY_DEC:
        return a - 1;
    case UNARY_NEG:
        return 0 - a;
    default:
        return ~a;
    }
}

X86_INLINE void unary_flags(struct x86_vcpu *vcpu, enum unary_op op, uint64_t a, uint64_t result,
                            unsigned size)
{
    bool carry = flag_cf(vcpu);

    switch (op) {
    case UNARY_INC:
        flags_of_add(vcpu, a, 1, result, size);
        flags_set_carry(vcpu, carry);
        break;
    case UNARY_DEC:
        flags_of_sub(vcpu, a, 1, result, size);
        flags_set_carry(vcpu, carry);
        break;
    case UNARY_NEG:
        flags_of_sub(vcpu, 0, a, result, size);
        break;
    default:
        break;
    }
}

X86_INLINE enum step unary(struct x86_vcpu *vcpu, const struct insn *insn, enum unary_op op,
                           bool is_memory, unsigned size)
{
    struct mem_rmw rmw;
    uint64_t a, result;
    bool is_done;

    if (!is_memory) {
        a = reg_read(vcpu, insn->reg[0], size);
        result = unary_result(op, a);
        reg_write(vcpu, insn->reg[0], size, result);
    } else {
        TRY(rmw_begin(vcpu, insn, size, &rmw));
        do {
            a = rmw.old;
            result = unary_result(op, a);
            TRY(rmw_end(vcpu, insn, size, &rmw, result, &is_done));
        } while (__builtin_expect(!is_done, 0));
    }
    unary_flags(vcpu, op, a, result, size);
    return STEP_NEXT;
}

#define UNARY_FORMS(name, op)                                                                      \
    X86_INLINE enum step name##_r(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)   \
    {                                                                                              \
        return unary(vcpu, insn, op, false, size);                                                 \
    }                                                                                              \
    X86_INLINE enum step name##_m(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)   \
    {                                                                                              \
        return unary(vcpu, insn, op, true, size);                                                  \
    }                                                                                              \
    INSN_SIZES(name##_r)                                                                           \
    INSN_SIZES(name##_m)
#define UNARY_ROW(name)                                                                            \
    {                                                                                              \
        INSN_TABLE(name##_r), INSN_TABLE(name##_m)                                                 \
    }

UNARY_FORMS(inc, UNARY_INC)
UNARY_FORMS(dec, UNARY_DEC)
UNARY_FORMS(neg, UNARY_NEG)
UNARY_FORMS(not, UNARY_NOT)

insn_fn *exec_unary(struct insn *insn)
{
    static insn_fn *const table[UNARY_COUNT][2][4] = {
        [UNARY_INC] = UNARY_ROW(inc),
        [UNARY_DEC] = UNARY_ROW(dec),
        [UNARY_NEG] = UNARY_ROW(neg),
        [UNARY_NOT] = UNARY_ROW(not ),
    };

    return table[insn->sub][insn->form == FORM_M][size_index(insn->size)];
}
