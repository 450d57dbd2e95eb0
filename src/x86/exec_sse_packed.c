/*
 * x86/exec_sse_packed.c - SSE and SSE2 that the host's own instruction of the same name executes, with the guest's
 * MXCSR: the operands are copied in and out. Hosts are x86-64.
 */
#include "x86/exec.h"

#include "x86/sse.h"
#include "x86/sse_ops.h"

bool x86_has_sse4(void)
{
    return __builtin_cpu_supports("sse3") && __builtin_cpu_supports("ssse3") &&
           __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2");
}

enum step sse_load(struct x86_vcpu *vcpu, const struct insn *insn, bool is_aligned,
                   union x86_xmm *value)
{
    uint64_t linear;
    const void *host;

    TRY(mem_linear(vcpu, insn, 16, MEM_READ, &linear));
    if (is_aligned && linear % 16 != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    host = mem_hit(vcpu, linear, 16, GM_MMU_READ);
    if (host == NULL) {
        return mem_load16_slow(vcpu, linear, insn->seg, value->u64);
    }
    gm_host_read(value, host, 16);
    return STEP_NEXT;
}

enum step sse_store(struct x86_vcpu *vcpu, const struct insn *insn, bool is_aligned,
                    const union x86_xmm *value)
{
    uint64_t linear;
    void *host;

    TRY(mem_linear(vcpu, insn, 16, MEM_WRITE, &linear));
    if (is_aligned && linear % 16 != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    host = mem_hit(vcpu, linear, 16, GM_MMU_WRITE);
    if (host == NULL) {
        return mem_store16_slow(vcpu, linear, insn->seg, value->u64);
    }
    gm_host_write(host, value, 16);
    mem_note_store(vcpu, host);
    return STEP_NEXT;
}

enum step sse_source(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                     union x86_xmm *value)
{
    switch (operand_kind(insn, 1)) {
    case KIND_REG:
        *value = vcpu->xmm[insn->reg[1]];
        return STEP_NEXT;
    case KIND_IMM:
        *value = (union x86_xmm){.u64 = {(uint8_t)insn->imm, 0}};
        return STEP_NEXT;
    default:
        if (size == 16) {
            return sse_load(vcpu, insn, true, value);
        }
        value->u64[1] = 0;
        return mem_load(vcpu, insn, size, &value->u64[0]);
    }
}

/* Integer and bitwise: MXCSR has no part in it. */
#define SSE_INTEGER(lower, size)                                                                   \
    static enum step run_##lower(struct x86_vcpu *vcpu, const struct insn *insn)                   \
    {                                                                                              \
        union x86_xmm source;                                                                      \
        vector a, b;                                                                               \
                                                                                                   \
        TRY(sse_check(vcpu));                                                                      \
        TRY(sse_source(vcpu, insn, size, &source));                                                \
        memcpy(&a, &vcpu->xmm[insn->reg[0]], 16);                                                  \
        memcpy(&b, &source, 16);                                                                   \
        __asm__(#lower " %1, %0" : "+x"(a) : "x"(b));                                              \
        memcpy(&vcpu->xmm[insn->reg[0]], &a, 16);                                                  \
        return STEP_NEXT;                                                                          \
    }

#define SSE_INT(upper, lower) SSE_INTEGER(lower, 16)
#define SSE_I8(upper, lower) SSE_INTEGER(lower, 8)
#define SSE_I4(upper, lower) SSE_INTEGER(lower, 4)
#define SSE_I2(upper, lower) SSE_INTEGER(lower, 2)

/* xmm0 says what is taken from which. */
#define SSE_BLEND(upper, lower)                                                                    \
    static enum step run_##lower(struct x86_vcpu *vcpu, const struct insn *insn)                   \
    {                                                                                              \
        union x86_xmm source;                                                                      \
        vector a, b, mask;                                                                         \
                                                                                                   \
        TRY(sse_check(vcpu));                                                                      \
        TRY(sse_source(vcpu, insn, 16, &source));                                                  \
        memcpy(&a, &vcpu->xmm[insn->reg[0]], 16);                                                  \
        memcpy(&b, &source, 16);                                                                   \
        memcpy(&mask, &vcpu->xmm[0], 16);                                                          \
        __asm__(#lower " %2, %1, %0" : "+x"(a) : "x"(b), "Yz"(mask));                              \
        memcpy(&vcpu->xmm[insn->reg[0]], &a, 16);                                                  \
        return STEP_NEXT;                                                                          \
    }

/* The host's own, under an MXCSR. */
#define SSE_HOST(lower)                                                                            \
    static vector host_##lower(vector a, vector b, uint32_t control, uint32_t *status)             \
    {                                                                                              \
        uint32_t host, seen;                                                                       \
                                                                                                   \
        __asm__ volatile("stmxcsr %1\n\tldmxcsr %3\n\t" #lower                                     \
                         " %4, %0\n\tstmxcsr %2\n\tldmxcsr %1"                                     \
                         : "+x"(a), "=m"(host), "=m"(seen)                                         \
                         : "m"(control), "x"(b));                                                  \
        *status = seen;                                                                            \
        return a;                                                                                  \
    }

/*
 * Floating point: with the guest's rounding; an exception that is not masked changes no register. @range: the status
 * while results out of range are not masked.
 */
#define SSE_COMPUTED(lower, size, range)                                                           \
    SSE_HOST(lower)                                                                                \
    static enum step run_##lower(struct x86_vcpu *vcpu, const struct insn *insn)                   \
    {                                                                                              \
        union x86_xmm source;                                                                      \
        uint32_t status;                                                                           \
        vector a, b, result;                                                                       \
                                                                                                   \
        TRY(sse_check(vcpu));                                                                      \
        TRY(sse_source(vcpu, insn, size, &source));                                                \
        memcpy(&a, &vcpu->xmm[insn->reg[0]], 16);                                                  \
        memcpy(&b, &source, 16);                                                                   \
        result = host_##lower(a, b, sse_control(vcpu), &status);                                   \
        if (__builtin_expect(sse_range_traps(vcpu) != 0, 0)) {                                     \
            status = (range);                                                                      \
        }                                                                                          \
        TRY(sse_finish(vcpu, status));                                                             \
        memcpy(&vcpu->xmm[insn->reg[0]], &result, 16);                                             \
        return STEP_NEXT;                                                                          \
    }
#define SSE_FLOAT(upper, lower, size)                                                              \
    SSE_COMPUTED(lower, size, sse_range_status(vcpu, SSE_##upper, host_##lower, a, b))
#define SSE_F16(upper, lower) SSE_FLOAT(upper, lower, 16)
#define SSE_F8(upper, lower) SSE_FLOAT(upper, lower, 8)
#define SSE_F4(upper, lower) SSE_FLOAT(upper, lower, 4)

/* What is added or subtracted, so that a plain addition or subtraction finds the same flags. */
static uint32_t paired_status(const struct x86_vcpu *vcpu, enum sse_op op, sse_host_fn *plain,
                              const vector operands[2])
{
    bool is_double = op == SSE_ADDSUBPD || op == SSE_HADDPD || op == SSE_HSUBPD;
    union x86_xmm a, b, first, second;
    vector pair[2];

    memcpy(&a, &operands[0], 16);
    memcpy(&b, &operands[1], 16);
    first = a;
    second = b;
    if (op == SSE_ADDSUBPS) {
        second.u32[0] ^= UINT32_C(1) << 31;
        second.u32[2] ^= UINT32_C(1) << 31;
    } else if (op == SSE_ADDSUBPD) {
        second.u64[0] ^= UINT64_C(1) << 63;
    } else if (is_double) {
        first = (union x86_xmm){.u64 = {a.u64[0], b.u64[0]}};
        second = (union x86_xmm){.u64 = {a.u64[1], b.u64[1]}};
    } else {
        first = (union x86_xmm){.u32 = {a.u32[0], a.u32[2], b.u32[0], b.u32[2]}};
        second = (union x86_xmm){.u32 = {a.u32[1], a.u32[3], b.u32[1], b.u32[3]}};
    }
    memcpy(&pair[0], &first, 16);
    memcpy(&pair[1], &second, 16);
    return sse_range_status(vcpu,
                            op == SSE_HSUBPS   ? SSE_SUBPS
                            : op == SSE_HSUBPD ? SSE_SUBPD
                            : is_double        ? SSE_ADDPD
                                               : SSE_ADDPS,
                            plain, pair[0], pair[1]);
}

#define SSE_PAIRED(upper, lower, plain)                                                            \
    SSE_COMPUTED(lower, 16, paired_status(vcpu, SSE_##upper, host_##plain, (vector[]){a, b}))
#define SSE_ADDPS(upper, lower) SSE_PAIRED(upper, lower, addps)
#define SSE_ADDPD(upper, lower) SSE_PAIRED(upper, lower, addpd)
#define SSE_SUBPS(upper, lower) SSE_PAIRED(upper, lower, subps)
#define SSE_SUBPD(upper, lower) SSE_PAIRED(upper, lower, subpd)

#define SSE_HANDLER(upper, lower, kind) SSE_##kind(upper, lower)
SSE_OPS(SSE_HANDLER)

#define SSE_ENTRY(upper, lower, kind) [SSE_##upper] = run_##lower,

insn_fn *exec_sse_packed(struct insn *insn)
{
    static insn_fn *const table[SSE_OP_COUNT] = {SSE_OPS(SSE_ENTRY)};

    if (insn->sub >= SSE_LATER && !x86_has_sse4()) {
        return NULL;
    }
    return table[insn->sub];
}
