/*
 * x86/exec_xsave.c - XSAVE, XSAVEOPT, XRSTOR of the states that XCR0 can have: x87 and SSE (Intel SDM 1, chapter 13). The
 * standard format; XSAVEC and XSAVES are not there, and their format is refused.
 */
#include "x86/exec.h"

#include "x86/fx.h"
#include "x86/mem.h"
#include "x86/sse.h"
#include "x86/sse_ops.h"
#include "x86/x87.h"

#define STATE_X87 1u
#define STATE_SSE 2u
#define HEADER_BYTES 64u
#define AREA_BYTES (FX_BYTES + HEADER_BYTES)
#define CR4_OSXSAVE (UINT64_C(1) << 18)

static enum step check(struct x86_vcpu *vcpu, const struct insn *insn, enum mem_intent intent,
                       uint64_t *linear)
{
    if ((vcpu->cr4 & CR4_OSXSAVE) == 0) {
        return step_raise(vcpu, X86_UD);
    }
    if ((vcpu->cr0 & 8) != 0) { /* EM does not count */
        return step_raise(vcpu, X86_NM);
    }
    TRY(mem_linear(vcpu, insn, AREA_BYTES, intent, linear));
    return *linear % 64 != 0 ? step_raise_code(vcpu, X86_GP, 0) : STEP_NEXT;
}

/* What is asked for and switched on. */
static uint64_t wanted(const struct x86_vcpu *vcpu)
{
    return vcpu->xcr0 & (gpr_read(vcpu, X86_RDX, 4) << 32 | gpr_read(vcpu, X86_RAX, 4));
}

static bool is_zero(const void *bytes, size_t count)
{
    const uint8_t *at = bytes;

    while (count > 0 && *at == 0) {
        at++;
        count--;
    }
    return count == 0;
}

/* States that are not as after initialization (SDM 1, 13.6). MXCSR is of none. */
static uint64_t states_in_use(const struct x86_vcpu *vcpu)
{
    const struct x86_fpu *fpu = &vcpu->fpu;
    bool is_x87_initial = fpu->fcw == 0x37f && fpu->fsw == 0 && fpu->ftw == 0 &&
                          fpu->last_opcode == 0 && fpu->last_ip == 0 && fpu->last_dp == 0 &&
                          is_zero(fpu->st, sizeof(fpu->st));

    return (is_x87_initial ? 0 : STATE_X87) |
           (is_zero(vcpu->xmm, fx_end(vcpu) - FX_XMM) ? 0 : STATE_SSE);
}

static enum step store_parts(struct x86_vcpu *vcpu, const struct insn *insn, uint64_t linear,
                             uint64_t states, bool has_mxcsr)
{
    uint8_t area[FX_BYTES];

    if ((states & STATE_X87) != 0) {
        fx_put_x87(vcpu, insn->size == 8, area);
        TRY(fx_store(vcpu, linear, insn->seg, FX_MXCSR, area));
        TRY(fx_store(vcpu, linear + FX_ST, insn->seg, FX_XMM - FX_ST, area + FX_ST));
    }
    if (has_mxcsr) {
        fx_put_mxcsr(vcpu, area);
        TRY(fx_store(vcpu, linear + FX_MXCSR, insn->seg, 8, area + FX_MXCSR));
    }
    if ((states & STATE_SSE) != 0) {
        fx_put_xmm(vcpu, area);
        TRY(fx_store(vcpu, linear + FX_XMM, insn->seg, fx_end(vcpu) - FX_XMM, area + FX_XMM));
    }
    return STEP_NEXT;
}

/* XSAVEOPT leaves out what is as after initialization; the header says so in both. */
static enum step xsave(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t states = wanted(vcpu), used = states_in_use(vcpu);
    uint64_t linear, header;

    TRY(check(vcpu, insn, MEM_WRITE, &linear));
    TRY(load_linear(vcpu, linear + FX_BYTES, 8, insn->seg, &header));
    TRY(mem_probe_write(vcpu, linear, AREA_BYTES, insn->seg));
    TRY(store_parts(vcpu, insn, linear, insn->sub == FPU_XSAVEOPT ? states & used : states,
                    (states & STATE_SSE) != 0));
    return store_linear(vcpu, linear + FX_BYTES, 8, insn->seg,
                        (header & ~states) | (used & states));
}

/* A state whose bit is not set in the header is initialized; MXCSR is loaded with SSE's in any case. */
static enum step xrstor(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t states = wanted(vcpu), present;
    uint8_t area[AREA_BYTES];
    uint64_t linear;

    TRY(check(vcpu, insn, MEM_READ, &linear));
    TRY(fx_load(vcpu, linear, insn->seg, AREA_BYTES, area));
    memcpy(&present, area + FX_BYTES, sizeof(present));
    if ((present & ~vcpu->xcr0) != 0 || !is_zero(area + FX_BYTES + 8, 16) ||
        ((states & STATE_SSE) != 0 && (fx_mxcsr(area) & ~MXCSR_KNOWN) != 0)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    if ((states & STATE_X87) != 0 && (present & STATE_X87) != 0) {
        fx_get_x87(vcpu, insn->size == 8, area);
    } else if ((states & STATE_X87) != 0) {
        x87_reset(&vcpu->fpu);
        memset(vcpu->fpu.st, 0, sizeof(vcpu->fpu.st));
    }
    if ((states & STATE_SSE) != 0) {
        vcpu->mxcsr = fx_mxcsr(area);
        if ((present & STATE_SSE) == 0) {
            memset(area, 0, sizeof(area));
        }
        fx_get_xmm(vcpu, area);
    }
    return STEP_NEXT;
}

insn_fn *exec_xsave(struct insn *insn)
{
    return insn->sub == FPU_XRSTOR ? xrstor : xsave;
}
