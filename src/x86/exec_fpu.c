/* x86/exec_fpu.c - the state of x87 and SSE together: FXSAVE, FXRSTOR; MXCSR; EMMS. */
#include "x86/exec.h"

#include "x86/fx.h"
#include "x86/sse.h"
#include "x86/x87.h"

/* Where the area is: at a multiple of 16 bytes. */
static enum step area_of(struct x86_vcpu *vcpu, const struct insn *insn, enum mem_intent intent,
                         uint64_t *linear)
{
    TRY(x87_check(vcpu));
    TRY(mem_linear(vcpu, insn, FX_BYTES, intent, linear));
    return *linear % 16 != 0 ? step_raise_code(vcpu, X86_GP, 0) : STEP_NEXT;
}

/* The last 96 bytes are not written. */
static enum step fxsave(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = fx_end(vcpu);
    uint8_t area[FX_BYTES];
    uint64_t linear;

    TRY(area_of(vcpu, insn, MEM_WRITE, &linear));
    fx_put_x87(vcpu, insn->size == 8, area);
    fx_put_mxcsr(vcpu, area);
    fx_put_xmm(vcpu, area);
    TRY(mem_probe_write(vcpu, linear, size, insn->seg));
    return fx_store(vcpu, linear, insn->seg, size, area);
}

static enum step fxrstor(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint8_t area[FX_BYTES];
    uint64_t linear;

    TRY(area_of(vcpu, insn, MEM_READ, &linear));
    TRY(fx_load(vcpu, linear, insn->seg, fx_end(vcpu), area));
    if ((fx_mxcsr(area) & ~MXCSR_KNOWN) != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    fx_get_x87(vcpu, insn->size == 8, area);
    fx_get_xmm(vcpu, area);
    vcpu->mxcsr = fx_mxcsr(area);
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

static enum step emms(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    if ((vcpu->cr0 & 4) != 0) {
        return step_raise(vcpu, X86_UD);
    }
    TRY(x87_check(vcpu));
    TRY(x87_check_pending(vcpu));
    vcpu->fpu.ftw = 0;
    x87_set_top(&vcpu->fpu, 0); /* SDM 3A, table 12-1 */
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
    default:
        return emms;
    }
}
