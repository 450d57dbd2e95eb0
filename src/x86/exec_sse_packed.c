/*
 * x86/exec_sse_packed.c - SSE and SSE2 that the host's own instruction of the same name executes, with the guest's
 * MXCSR: the operands are copied in and out. Hosts are x86-64.
 */
#include "x86/exec.h"

#include "x86/sse.h"
#include "x86/sse_ops.h"

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
    memcpy(value, host, 16);
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
    memcpy(host, value, 16);
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

typedef float vector __attribute__((vector_size(16)));

/* Integer and bitwise: MXCSR has no part in it. */
#define SSE_INT(upper, lower)                                                                      \
    static enum step run_##lower(struct x86_vcpu *vcpu, const struct insn *insn)                   \
    {                                                                                              \
        union x86_xmm source;                                                                      \
        vector a, b;                                                                               \
                                                                                                   \
        TRY(sse_check(vcpu));                                                                      \
        TRY(sse_source(vcpu, insn, 16, &source));                                                  \
        memcpy(&a, &vcpu->xmm[insn->reg[0]], 16);                                                  \
        memcpy(&b, &source, 16);                                                                   \
        __asm__(#lower " %1, %0" : "+x"(a) : "x"(b));                                              \
        memcpy(&vcpu->xmm[insn->reg[0]], &a, 16);                                                  \
        return STEP_NEXT;                                                                          \
    }

/* Floating point: with the guest's rounding; an exception that is not masked changes no register. */
#define SSE_FLOAT(lower, size)                                                                     \
    static enum step run_##lower(struct x86_vcpu *vcpu, const struct insn *insn)                   \
    {                                                                                              \
        uint32_t control = sse_control(vcpu);                                                      \
        union x86_xmm source;                                                                      \
        uint32_t host, status;                                                                     \
        vector a, b, tiny;                                                                         \
                                                                                                   \
        TRY(sse_check(vcpu));                                                                      \
        TRY(sse_source(vcpu, insn, size, &source));                                                \
        memcpy(&a, &vcpu->xmm[insn->reg[0]], 16);                                                  \
        memcpy(&b, &source, 16);                                                                   \
        __asm__ volatile("stmxcsr %1\n\tldmxcsr %3\n\t" #lower                                     \
                         " %4, %0\n\tstmxcsr %2\n\tldmxcsr %1"                                     \
                         : "+x"(a), "=m"(host), "=m"(status)                                       \
                         : "m"(control), "x"(b));                                                  \
        if (__builtin_expect(sse_traps_underflow(vcpu), 0)) {                                      \
            uint32_t flush = control | MXCSR_FTZ; /* this tells tiny results */                    \
            uint32_t flushed;                                                                      \
                                                                                                   \
            memcpy(&tiny, &vcpu->xmm[insn->reg[0]], 16);                                           \
            __asm__ volatile("stmxcsr %1\n\tldmxcsr %3\n\t" #lower                                 \
                             " %4, %0\n\tstmxcsr %2\n\tldmxcsr %1"                                 \
                             : "+x"(tiny), "=m"(host), "=m"(flushed)                               \
                             : "m"(flush), "x"(b));                                                \
            status |= flushed & MXCSR_UNDERFLOW;                                                   \
        }                                                                                          \
        TRY(sse_finish(vcpu, status));                                                             \
        memcpy(&vcpu->xmm[insn->reg[0]], &a, 16);                                                  \
        return STEP_NEXT;                                                                          \
    }
#define SSE_F16(upper, lower) SSE_FLOAT(lower, 16)
#define SSE_F8(upper, lower) SSE_FLOAT(lower, 8)
#define SSE_F4(upper, lower) SSE_FLOAT(lower, 4)

#define SSE_HANDLER(upper, lower, kind) SSE_##kind(upper, lower)
SSE_OPS(SSE_HANDLER)

#define SSE_ENTRY(upper, lower, kind) [SSE_##upper] = run_##lower,

insn_fn *exec_sse_packed(struct insn *insn)
{
    static insn_fn *const table[SSE_OP_COUNT] = {SSE_OPS(SSE_ENTRY)};

    return table[insn->sub];
}
