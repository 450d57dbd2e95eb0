/*
 * x86/exec_sse4.c - of SSSE3, SSE4.1 and SSE4.2 what has an immediate or changes flags: the host's own instructions, and
 * CRC32, PTEST.
 */
#include "x86/exec.h"

#include "x86/sse.h"
#include "x86/sse_ops.h"

#include <assert.h>
#include <stddef.h>

#define STUB_BYTES 8u

/* sse4.S knows these offsets. */
struct sse4_state {
    union x86_xmm a, b;   /* 0, 16: @a becomes the result */
    uint64_t rax, rdx;    /* 32, 40 */
    uint64_t rcx, flags;  /* 48, 56: results */
    uint32_t mxcsr;       /* 64 */
    uint32_t mxcsr_after; /* 68 */
};

static_assert(offsetof(struct sse4_state, rax) == 32, "as sse4.S has it");
static_assert(offsetof(struct sse4_state, rcx) == 48, "as sse4.S has it");
static_assert(offsetof(struct sse4_state, mxcsr) == 64, "as sse4.S has it");

__attribute__((visibility("hidden"))) void sse4_run(struct sse4_state *state, const void *stub);
__attribute__((visibility("hidden"))) extern const uint8_t sse4_stubs[];

static unsigned memory_bytes(enum sse4_op op)
{
#define SSE4_BYTES(upper, opcode, bytes) [SSE4_##upper] = (bytes),
    static const uint8_t bytes[SSE4_IMMEDIATE_COUNT] = {SSE_IMMEDIATE_OPS(SSE4_BYTES)};
#undef SSE4_BYTES

    return bytes[op];
}

static enum step load_source(struct x86_vcpu *vcpu, const struct insn *insn, union x86_xmm *source)
{
    unsigned bytes = memory_bytes((enum sse4_op)insn->sub);

    if (bytes == 0 && operand_kind(insn, 1) == KIND_MEM) {
        return sse_load(vcpu, insn, false, source);
    }
    if (operand_kind(insn, 1) == KIND_REG) {
        *source = vcpu->xmm[insn->reg[1]];
        return STEP_NEXT;
    }
    return sse_source(vcpu, insn, bytes, source);
}

/* INSERTPS of memory has one element. */
static uint8_t immediate_of(const struct insn *insn)
{
    bool is_one = insn->sub == SSE4_INSERTPS && operand_kind(insn, 1) == KIND_MEM;

    return (uint8_t)(is_one ? insn->imm & 0x3f : insn->imm);
}

static enum step begin(struct x86_vcpu *vcpu, const struct insn *insn, struct sse4_state *state)
{
    unsigned number = insn->sub * 256u + immediate_of(insn);

    *state = (struct sse4_state){.mxcsr = sse_control(vcpu)};
    TRY(sse_check(vcpu));
    TRY(load_source(vcpu, insn, &state->b));
    state->a = vcpu->xmm[insn->reg[0]];
    state->rax = sign_extend(vcpu->gpr[X86_RAX], insn->size == 8 ? 8 : 4);
    state->rdx = sign_extend(vcpu->gpr[X86_RDX], insn->size == 8 ? 8 : 4);
    sse4_run(state, sse4_stubs + (size_t)number * STUB_BYTES);
    return STEP_NEXT;
}

static enum step run_immediate(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct sse4_state state;

    TRY(begin(vcpu, insn, &state));
    TRY(sse_finish(vcpu, state.mxcsr_after));
    vcpu->xmm[insn->reg[0]] = state.a;
    return STEP_NEXT;
}

/* PCMPESTRM and its like: to xmm0 or ECX, and all flags. */
static enum step run_strings(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_mask = insn->sub == SSE4_PCMPESTRM || insn->sub == SSE4_PCMPISTRM;
    struct sse4_state state;

    TRY(begin(vcpu, insn, &state));
    if (is_mask) {
        vcpu->xmm[0] = state.a;
    } else {
        gpr_write(vcpu, X86_RCX, 4, state.rcx);
    }
    flags_set_arithmetic(vcpu, state.flags & X86_FLAGS_ARITHMETIC);
    return STEP_NEXT;
}

static enum step ptest(struct x86_vcpu *vcpu, const struct insn *insn)
{
    const union x86_xmm *a = &vcpu->xmm[insn->reg[0]];
    union x86_xmm b;

    TRY(sse_check(vcpu));
    TRY(sse_source(vcpu, insn, 16, &b));
    flags_set_arithmetic(
        vcpu, (((a->u64[0] & b.u64[0]) | (a->u64[1] & b.u64[1])) == 0 ? X86_FLAG_ZF : 0) |
                  (((~a->u64[0] & b.u64[0]) | (~a->u64[1] & b.u64[1])) == 0 ? X86_FLAG_CF : 0));
    return STEP_NEXT;
}

/* By Castagnoli's polynomial, bits reflected. */
static enum step crc32(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint32_t crc = (uint32_t)reg_read(vcpu, insn->reg[0], 4);
    uint64_t value;

    TRY(operand_read(vcpu, insn, 1, insn->size1, &value));
    for (unsigned i = 0; i < insn->size1; i++) {
        crc ^= (uint8_t)(value >> (8 * i));
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0x82f63b78) : 0);
        }
    }
    reg_write(vcpu, insn->reg[0], 8, crc);
    return STEP_NEXT;
}

insn_fn *exec_sse4(struct insn *insn)
{
    switch (insn->sub) {
    case SSE4_PTEST:
        return ptest;
    case SSE4_CRC32:
        return crc32;
    case SSE4_PCMPESTRM:
    case SSE4_PCMPESTRI:
    case SSE4_PCMPISTRM:
    case SSE4_PCMPISTRI:
        return x86_has_sse4() ? run_strings : NULL;
    default:
        return x86_has_sse4() ? run_immediate : NULL;
    }
}
