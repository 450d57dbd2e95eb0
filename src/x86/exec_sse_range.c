/*
 * x86/exec_sse_range.c - the flags of results out of range while overflow or underflow is not masked. What the host finds
 * with all masked differs then in two things (Intel SDM 1, 4.9.1.4 and 4.9.1.5): underflow is of every tiny result, exact
 * ones included; and PE says whether the result would be inexact if the exponent had no bounds. The latter is asked of
 * x87, whose exponent is wide enough and whose precision can be that of a float or a double.
 */
#include "x86/exec.h"

#include "x86/sse.h"
#include "x86/sse_ops.h"

#define MXCSR_DAZ 0x40u
#define MXCSR_ROUNDING_SHIFT 13
#define FCW_MASKED 0x7fu
#define FCW_DOUBLE 0x200u /* 53 bits of precision; 0: 24 */
#define FCW_ROUNDING_SHIFT 10

enum arithmetic {
    ARITHMETIC_NONE,
    ARITHMETIC_ADD,
    ARITHMETIC_SUB,
    ARITHMETIC_MUL,
    ARITHMETIC_DIV,
    ARITHMETIC_NARROW, /* a double to a float */
};

/* What can leave the range of its format. */
struct range_op {
    enum arithmetic arithmetic;
    unsigned element_bytes; /* of the sources */
    unsigned count;         /* of elements */
};

static struct range_op range_op_of(enum sse_op op)
{
    static const struct range_op ops[SSE_OP_COUNT] = {
        [SSE_ADDPS] = {ARITHMETIC_ADD, 4, 4},       [SSE_ADDSS] = {ARITHMETIC_ADD, 4, 1},
        [SSE_ADDPD] = {ARITHMETIC_ADD, 8, 2},       [SSE_ADDSD] = {ARITHMETIC_ADD, 8, 1},
        [SSE_SUBPS] = {ARITHMETIC_SUB, 4, 4},       [SSE_SUBSS] = {ARITHMETIC_SUB, 4, 1},
        [SSE_SUBPD] = {ARITHMETIC_SUB, 8, 2},       [SSE_SUBSD] = {ARITHMETIC_SUB, 8, 1},
        [SSE_MULPS] = {ARITHMETIC_MUL, 4, 4},       [SSE_MULSS] = {ARITHMETIC_MUL, 4, 1},
        [SSE_MULPD] = {ARITHMETIC_MUL, 8, 2},       [SSE_MULSD] = {ARITHMETIC_MUL, 8, 1},
        [SSE_DIVPS] = {ARITHMETIC_DIV, 4, 4},       [SSE_DIVSS] = {ARITHMETIC_DIV, 4, 1},
        [SSE_DIVPD] = {ARITHMETIC_DIV, 8, 2},       [SSE_DIVSD] = {ARITHMETIC_DIV, 8, 1},
        [SSE_CVTPD2PS] = {ARITHMETIC_NARROW, 8, 2}, [SSE_CVTSD2SS] = {ARITHMETIC_NARROW, 8, 1},
    };

    return ops[op];
}

/* x87 has every float and double as it is. */
static long double element(const union x86_xmm *value, unsigned number, unsigned bytes, bool is_daz)
{
    bool is_denormal = bytes == 4 ? (value->u32[number] & 0x7f800000) == 0
                                  : (value->u64[number] & UINT64_C(0x7ff0000000000000)) == 0;

    if (is_daz && is_denormal) {
        return 0;
    }
    return bytes == 4 ? (long double)value->f32[number] : (long double)value->f64[number];
}

#define INEXACT(text)                                                                              \
    __asm__ volatile("fnstcw %1\n\tfnclex\n\tfldcw %2\n\t" text "\n\tfnstsw %0\n\tfldcw %1"        \
                     : "=&a"(fsw), "=m"(host), "+m"(fcw), "+t"(a)                                  \
                     : "f"(b))

/* Is the result inexact, in the precision of floats or doubles, with an exponent without bounds? */
static bool is_inexact(enum arithmetic arithmetic, uint16_t fcw, long double a, long double b)
{
    uint16_t fsw = 0, host;

    switch (arithmetic) {
    case ARITHMETIC_ADD:
        INEXACT("fadd %4, %3");
        break;
    case ARITHMETIC_SUB:
        INEXACT("fsub %4, %3");
        break;
    case ARITHMETIC_DIV:
        INEXACT("fdiv %4, %3");
        break;
    default:
        INEXACT("fmul %4, %3");
        break;
    }
    return (fsw & MXCSR_PRECISION) != 0;
}

/* One of the elements in each place. */
static vector spread(const union x86_xmm *value, unsigned number, unsigned bytes)
{
    union x86_xmm all;
    vector result;

    for (unsigned i = 0; i < 16 / bytes; i++) {
        memcpy(all.u8 + i * bytes, value->u8 + number * bytes, bytes);
    }
    memcpy(&result, &all, 16);
    return result;
}

/* Flags of the host, and underflow of tiny results that are exact as well. */
static uint32_t run_all(const struct x86_vcpu *vcpu, sse_host_fn *run, vector a, vector b)
{
    uint32_t control = sse_control(vcpu);
    uint32_t status, flushed;

    run(a, b, control, &status);
    if (sse_traps_underflow(vcpu)) {
        run(a, b, control | MXCSR_FTZ, &flushed); /* this tells tiny results */
        status |= flushed & MXCSR_UNDERFLOW;
    }
    return status & MXCSR_FLAGS;
}

static uint32_t run_element(const struct x86_vcpu *vcpu, enum sse_op op, sse_host_fn *run,
                            const union x86_xmm values[2], unsigned number)
{
    struct range_op range = range_op_of(op);
    bool is_narrow = range.arithmetic == ARITHMETIC_NARROW;
    bool is_daz = (vcpu->mxcsr & MXCSR_DAZ) != 0;
    uint32_t status = run_all(vcpu, run, spread(&values[0], number, range.element_bytes),
                              spread(&values[1], number, range.element_bytes));
    unsigned fcw = FCW_MASKED | (range.element_bytes == 8 && !is_narrow ? FCW_DOUBLE : 0) |
                   (vcpu->mxcsr >> MXCSR_ROUNDING_SHIFT & 3) << FCW_ROUNDING_SHIFT;
    long double a, b;

    if ((status & sse_range_traps(vcpu)) == 0) {
        return status;
    }
    b = element(&values[1], number, range.element_bytes, is_daz);
    a = is_narrow ? 1 : element(&values[0], number, range.element_bytes, is_daz);
    status &= ~MXCSR_PRECISION;
    return status | (is_inexact(range.arithmetic, (uint16_t)fcw, a, b) ? MXCSR_PRECISION : 0);
}

uint32_t sse_range_status(const struct x86_vcpu *vcpu, enum sse_op op, sse_host_fn *run, vector a,
                          vector b)
{
    uint32_t status = run_all(vcpu, run, a, b);
    union x86_xmm values[2];

    if ((status & sse_range_traps(vcpu)) == 0 || range_op_of(op).count == 0) {
        return status;
    }
    memcpy(&values[0], &a, 16);
    memcpy(&values[1], &b, 16);
    status = 0;
    for (unsigned i = 0; i < range_op_of(op).count; i++) {
        status |= run_element(vcpu, op, run, values, i);
    }
    return status;
}
