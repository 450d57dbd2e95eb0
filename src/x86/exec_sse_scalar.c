/*
 * x86/exec_sse_scalar.c - SSE and SSE2: conversions between floating point and integers in general registers, and
 * comparisons, by the host's own instructions with the guest's MXCSR.
 */
#include "x86/exec.h"

#include "x86/sse.h"
#include "x86/sse_ops.h"

/* An instruction from @b to @a, under the guest's MXCSR. */
#define WITH_MXCSR(text, a_constraint, a, b_constraint, b)                                         \
    __asm__ volatile("stmxcsr %1\n\tldmxcsr %3\n\t" text "\n\tstmxcsr %2\n\tldmxcsr %1"            \
                     : a_constraint(a), "=m"(host), "=m"(status)                                   \
                     : "m"(control), b_constraint(b))

/* CVTSI2SD, CVTSI2SS. */
static enum step from_int(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size1;
    uint32_t control = sse_control(vcpu);
    uint32_t host, status;
    uint64_t value;
    vector a;

    TRY(sse_check(vcpu));
    TRY(operand_read(vcpu, insn, 1, size, &value));
    value = sign_extend(value, size);
    memcpy(&a, &vcpu->xmm[insn->reg[0]], 16);
    if (insn->sub == SSE_FROM_INT_SD) {
        WITH_MXCSR("cvtsi2sdq %4, %0", "+x", a, "r", value);
    } else {
        WITH_MXCSR("cvtsi2ssq %4, %0", "+x", a, "r", value);
    }
    TRY(sse_finish(vcpu, status));
    memcpy(&vcpu->xmm[insn->reg[0]], &a, 16);
    return STEP_NEXT;
}

#define TO_INT(text32, text64)                                                                     \
    if (insn->size == 8) {                                                                         \
        WITH_MXCSR(text64 " %4, %q0", "=&r", result, "x", b);                                      \
    } else {                                                                                       \
        WITH_MXCSR(text32 " %4, %k0", "=&r", result, "x", b);                                      \
    }

/* CVTSD2SI and its like, rounding or truncating. */
static enum step to_int(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_double = insn->sub == SSE_TO_INT_SD || insn->sub == SSE_TRUNCATE_SD;
    uint32_t control = sse_control(vcpu);
    uint32_t host, status;
    union x86_xmm source;
    uint64_t result;
    vector b;

    TRY(sse_check(vcpu));
    TRY(sse_source(vcpu, insn, is_double ? 8 : 4, &source));
    memcpy(&b, &source, 16);
    switch (insn->sub) {
    case SSE_TO_INT_SD:
        TO_INT("cvtsd2si", "cvtsd2si")
        break;
    case SSE_TO_INT_SS:
        TO_INT("cvtss2si", "cvtss2si")
        break;
    case SSE_TRUNCATE_SD:
        TO_INT("cvttsd2si", "cvttsd2si")
        break;
    default:
        TO_INT("cvttss2si", "cvttss2si")
        break;
    }
    TRY(sse_finish(vcpu, status));
    reg_write(vcpu, insn->reg[0], insn->size, result);
    return STEP_NEXT;
}

/* MXCSR's instructions leave the flags alone. */
#define ORDER(text)                                                                                \
    __asm__ volatile("stmxcsr %3\n\tldmxcsr %5\n\t" text " %7, %6\n\tstmxcsr %4\n\tldmxcsr %3"     \
                     : "=@ccz"(zero), "=@ccp"(parity), "=@ccc"(carry), "=m"(host), "=m"(status)    \
                     : "m"(control), "x"(a), "x"(b))

/* COMISD and its like: the order as ZF, PF, CF. */
static enum step order(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_double = insn->sub == SSE_ORDER_SD || insn->sub == SSE_UNORDER_SD;
    uint32_t control = sse_control(vcpu);
    uint32_t host, status;
    union x86_xmm source;
    bool zero, parity, carry;
    vector a, b;

    TRY(sse_check(vcpu));
    TRY(sse_source(vcpu, insn, is_double ? 8 : 4, &source));
    memcpy(&a, &vcpu->xmm[insn->reg[0]], 16);
    memcpy(&b, &source, 16);
    switch (insn->sub) {
    case SSE_ORDER_SD:
        ORDER("comisd");
        break;
    case SSE_ORDER_SS:
        ORDER("comiss");
        break;
    case SSE_UNORDER_SD:
        ORDER("ucomisd");
        break;
    default:
        ORDER("ucomiss");
        break;
    }
    TRY(sse_finish(vcpu, status));
    flags_set_arithmetic(vcpu, (zero ? X86_FLAG_ZF : 0) | (parity ? X86_FLAG_PF : 0) |
                                   (carry ? X86_FLAG_CF : 0));
    return STEP_NEXT;
}

/* One comparison with its predicate, which is a part of the host's instruction. */
#define COMPARE_CASE(text, predicate)                                                              \
    case predicate:                                                                                \
        WITH_MXCSR(text " $" #predicate ", %4, %0", "+x", a, "x", b);                              \
        break;
#define COMPARE(name, text, size)                                                                  \
    static enum step name(struct x86_vcpu *vcpu, const struct insn *insn)                          \
    {                                                                                              \
        uint32_t control = sse_control(vcpu);                                                      \
        uint32_t host = 0, status = 0;                                                             \
        union x86_xmm source;                                                                      \
        vector a, b;                                                                               \
                                                                                                   \
        TRY(sse_check(vcpu));                                                                      \
        TRY(sse_source(vcpu, insn, size, &source));                                                \
        memcpy(&a, &vcpu->xmm[insn->reg[0]], 16);                                                  \
        memcpy(&b, &source, 16);                                                                   \
        switch (insn->imm & 7) {                                                                   \
            COMPARE_CASE(text, 0)                                                                  \
            COMPARE_CASE(text, 1)                                                                  \
            COMPARE_CASE(text, 2)                                                                  \
            COMPARE_CASE(text, 3)                                                                  \
            COMPARE_CASE(text, 4)                                                                  \
            COMPARE_CASE(text, 5)                                                                  \
            COMPARE_CASE(text, 6)                                                                  \
            COMPARE_CASE(text, 7)                                                                  \
        }                                                                                          \
        TRY(sse_finish(vcpu, status));                                                             \
        memcpy(&vcpu->xmm[insn->reg[0]], &a, 16);                                                  \
        return STEP_NEXT;                                                                          \
    }

COMPARE(compare_ps, "cmpps", 16)
COMPARE(compare_pd, "cmppd", 16)
COMPARE(compare_ss, "cmpss", 4)
COMPARE(compare_sd, "cmpsd", 8)

insn_fn *exec_sse_scalar(const struct insn *insn)
{
    switch (insn->sub) {
    case SSE_FROM_INT_SD:
    case SSE_FROM_INT_SS:
        return from_int;
    case SSE_TO_INT_SD:
    case SSE_TO_INT_SS:
    case SSE_TRUNCATE_SD:
    case SSE_TRUNCATE_SS:
        return to_int;
    case SSE_ORDER_SD:
    case SSE_ORDER_SS:
    case SSE_UNORDER_SD:
    case SSE_UNORDER_SS:
        return order;
    case SSE_COMPARE_PS:
        return compare_ps;
    case SSE_COMPARE_PD:
        return compare_pd;
    case SSE_COMPARE_SS:
        return compare_ss;
    case SSE_COMPARE_SD:
        return compare_sd;
    default:
        return NULL;
    }
}
