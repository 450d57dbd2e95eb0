/*
 * x86/sse.h - what SSE's instructions share: when they may run, 16-byte operands, exceptions.
 */
#ifndef X86_SSE_H
#define X86_SSE_H

#include "x86/mem.h"
#include "x86/sse_ops.h"

#define MXCSR_FLAGS 0x3fu
#define MXCSR_BEFORE 0x7u /* IE, DE, ZE: found before computing */
#define MXCSR_OVERFLOW 0x8u
#define MXCSR_UNDERFLOW 0x10u
#define MXCSR_PRECISION 0x20u
#define MXCSR_MASKS 0x1f80u
#define MXCSR_FTZ 0x8000u
#define MXCSR_KNOWN 0xffffu

/* May SSE run: #UD without CR4.OSFXSR or with CR0.EM, #NM with CR0.TS. */
X86_INLINE enum step sse_check(struct x86_vcpu *vcpu)
{
    if (!vcpu->has_sse) {
        return step_raise(vcpu, X86_UD);
    }
    return (vcpu->cr0 & 8) != 0 ? step_raise(vcpu, X86_NM) : STEP_NEXT;
}

/* What an operation left in MXCSR: flags that are not masked are #XM (or #UD, without CR4.OSXMMEXCPT). */
X86_INLINE enum step sse_finish(struct x86_vcpu *vcpu, uint32_t mxcsr)
{
    if ((mxcsr & MXCSR_BEFORE & ~(vcpu->mxcsr >> 7)) != 0) {
        mxcsr &= MXCSR_BEFORE; /* nothing is computed then */
    }
    vcpu->mxcsr |= mxcsr & MXCSR_FLAGS;
    if (__builtin_expect((mxcsr & MXCSR_FLAGS & ~(vcpu->mxcsr >> 7)) != 0, 0)) {
        return step_raise(vcpu, (vcpu->cr4 & 0x400) != 0 ? X86_XM : X86_UD);
    }
    return STEP_NEXT;
}

/* Unmasked underflow is of every tiny result, masked underflow of inexact ones only. */
X86_INLINE bool sse_traps_underflow(const struct x86_vcpu *vcpu)
{
    return (vcpu->mxcsr & MXCSR_UNDERFLOW << 7) == 0;
}

/* Flags of results out of range that are not masked. */
X86_INLINE uint32_t sse_range_traps(const struct x86_vcpu *vcpu)
{
    return ~(vcpu->mxcsr >> 7) & (MXCSR_OVERFLOW | MXCSR_UNDERFLOW);
}

/* What the host's MXCSR has to be for an operation of the guest: all masked, no flags yet. */
X86_INLINE uint32_t sse_control(const struct x86_vcpu *vcpu)
{
    uint32_t ignored = sse_traps_underflow(vcpu) ? MXCSR_FTZ : 0;

    return (vcpu->mxcsr | MXCSR_MASKS) & ~MXCSR_FLAGS & ~ignored;
}

typedef float vector __attribute__((vector_size(16)));

/* An instruction of the host, under an MXCSR. @status: MXCSR behind it. */
typedef vector sse_host_fn(vector a, vector b, uint32_t control, uint32_t *status);

/* The flags of an operation while overflow or underflow is not masked. */
uint32_t sse_range_status(const struct x86_vcpu *vcpu, enum sse_op op, sse_host_fn *run, vector a,
                          vector b);

/* 16 bytes of memory, aligned or not. */
enum step sse_load(struct x86_vcpu *vcpu, const struct insn *insn, bool is_aligned,
                   union x86_xmm *value);
enum step sse_store(struct x86_vcpu *vcpu, const struct insn *insn, bool is_aligned,
                    const union x86_xmm *value);
/* The second operand: a register, @size bytes of memory, or, of a shift, the count. */
enum step sse_source(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                     union x86_xmm *value);

#endif
