/*
 * x86/exec_fpu.c - the state of x87 and SSE: FXSAVE, FXRSTOR, MXCSR, and of x87's instructions those that control it.
 * Its arithmetic is not there.
 */
#include "x86/exec.h"

#include "x86/sse.h"
#include "x86/sse_ops.h"

#define FXSAVE_BYTES 512u

/* x87 may not be used with CR0.EM or CR0.TS. */
static enum step fpu_check(struct x86_vcpu *vcpu)
{
    return (vcpu->cr0 & 0xc) != 0 ? step_raise(vcpu, X86_NM) : STEP_NEXT;
}

static void put(uint8_t *at, unsigned size, uint64_t value)
{
    memcpy(at, &value, size);
}

static uint64_t get(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, at, size);
    return value;
}

/* Registers that 64-bit mode has, and others have not. */
static unsigned xmm_count(const struct x86_vcpu *vcpu)
{
    return vcpu->mode == X86_MODE_64 ? 16 : 8;
}

/* FXSAVE's layout (Intel SDM 1, 10.5.1). The last 96 bytes are not written; the reserved ones are kept. */
static enum step fxsave(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = 160 + xmm_count(vcpu) * 16;
    bool is_64 = insn->size == 8;
    uint8_t area[FXSAVE_BYTES] = {0};
    uint64_t linear;

    TRY((vcpu->cr0 & 0xc) != 0 ? step_raise(vcpu, X86_NM) : STEP_NEXT);
    TRY(mem_linear(vcpu, insn, FXSAVE_BYTES, MEM_WRITE, &linear));
    if (linear % 16 != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    put(area, 2, vcpu->fpu.fcw);
    put(area + 2, 2, vcpu->fpu.fsw);
    put(area + 4, 1, vcpu->fpu.ftw);
    put(area + 6, 2, vcpu->fpu.last_opcode);
    put(area + 8, is_64 ? 8 : 4, vcpu->fpu.last_ip);
    put(area + 16, is_64 ? 8 : 4, vcpu->fpu.last_dp);
    put(area + 24, 4, vcpu->mxcsr);
    put(area + 28, 4, MXCSR_KNOWN);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(area + 32 + i * 16, vcpu->fpu.st[i], 10);
    }
    memcpy(area + 160, vcpu->xmm, size - 160);
    TRY(mem_probe_write(vcpu, linear, size, insn->seg));
    for (unsigned i = 0; i < size; i += 8) {
        TRY(store_linear(vcpu, linear + i, 8, insn->seg, get(area + i, 8)));
    }
    return STEP_NEXT;
}

static enum step fxrstor(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = 160 + xmm_count(vcpu) * 16;
    bool is_64 = insn->size == 8;
    uint8_t area[FXSAVE_BYTES];
    uint64_t linear, value;

    TRY((vcpu->cr0 & 0xc) != 0 ? step_raise(vcpu, X86_NM) : STEP_NEXT);
    TRY(mem_linear(vcpu, insn, FXSAVE_BYTES, MEM_READ, &linear));
    if (linear % 16 != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    for (unsigned i = 0; i < size; i += 8) {
        TRY(load_linear(vcpu, linear + i, 8, insn->seg, &value));
        put(area + i, 8, value);
    }
    if ((get(area + 24, 4) & ~(uint64_t)MXCSR_KNOWN) != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    vcpu->fpu.fcw = (uint16_t)((get(area, 2) & 0x1f3f) | 0x40);
    vcpu->fpu.fsw = (uint16_t)get(area + 2, 2);
    vcpu->fpu.ftw = area[4];
    vcpu->fpu.last_opcode = (uint16_t)get(area + 6, 2);
    vcpu->fpu.last_ip = get(area + 8, is_64 ? 8 : 4);
    vcpu->fpu.last_dp = get(area + 16, is_64 ? 8 : 4);
    vcpu->mxcsr = (uint32_t)get(area + 24, 4);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(vcpu->fpu.st[i], area + 32 + i * 16, 10);
    }
    memcpy(vcpu->xmm, area + 160, size - 160);
    return STEP_NEXT;
}

static enum step ldmxcsr(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value;

    TRY(sse_check(vcpu));
    TRY(mem_load(vcpu, insn, 4, &value));
    if ((value & ~(uint64_t)MXCSR_KNOWN) != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    vcpu->mxcsr = (uint32_t)value;
    return STEP_NEXT;
}

static enum step stmxcsr(struct x86_vcpu *vcpu, const struct insn *insn)
{
    TRY(sse_check(vcpu));
    return mem_store(vcpu, insn, 4, vcpu->mxcsr);
}

static enum step fninit(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    TRY(fpu_check(vcpu));
    vcpu->fpu.fcw = 0x37f;
    vcpu->fpu.fsw = 0;
    vcpu->fpu.ftw = 0;
    vcpu->fpu.last_opcode = 0;
    vcpu->fpu.last_ip = vcpu->fpu.last_dp = 0;
    return STEP_NEXT;
}

/* FNCLEX: exceptions and busy. */
static enum step fnclex(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    TRY(fpu_check(vcpu));
    vcpu->fpu.fsw &= 0x7f00;
    return STEP_NEXT;
}

/* FNSTCW, FNSTSW. */
static enum step store_word(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint16_t word = insn->sub == FPU_FNSTCW ? vcpu->fpu.fcw : vcpu->fpu.fsw;

    TRY(fpu_check(vcpu));
    return operand_write(vcpu, insn, 0, 2, word);
}

/* A control word that lets an exception through that is pending already would be #MF at the next instruction. */
static enum step fldcw(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value;

    TRY(fpu_check(vcpu));
    TRY(mem_load(vcpu, insn, 2, &value));
    if ((vcpu->fpu.fsw & 0x3f & ~value) != 0) {
        return step_exit(vcpu, X86_EXIT_EMULATION);
    }
    vcpu->fpu.fcw = (uint16_t)((value & 0x1f3f) | 0x40);
    return STEP_NEXT;
}

/* FWAIT: CR0.MP and TS together. */
static enum step fwait(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    if ((vcpu->cr0 & 0xa) == 0xa) {
        return step_raise(vcpu, X86_NM);
    }
    return (vcpu->fpu.fsw & 0x80) != 0 ? step_exit(vcpu, X86_EXIT_EMULATION) : STEP_NEXT;
}

static enum step emms(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    if ((vcpu->cr0 & 4) != 0) {
        return step_raise(vcpu, X86_UD);
    }
    TRY(fpu_check(vcpu));
    vcpu->fpu.ftw = 0;
    return STEP_NEXT;
}

insn_fn *exec_fpu(struct insn *insn)
{
    switch (insn->sub) {
    case FPU_FXSAVE:
        return fxsave;
    case FPU_FXRSTOR:
        return fxrstor;
    case FPU_LDMXCSR:
        return ldmxcsr;
    case FPU_STMXCSR:
        return stmxcsr;
    case FPU_FNINIT:
        return fninit;
    case FPU_FNCLEX:
        return fnclex;
    case FPU_FNSTCW:
    case FPU_FNSTSW:
        return store_word;
    case FPU_FLDCW:
        return fldcw;
    case FPU_FWAIT:
        return fwait;
    default:
        return emms;
    }
}
