/*
 * x86/exec_mmx_convert.c - conversions between floating point in xmm registers and pairs of integers in mm ones, by the
 * host's own instructions with the guest's MXCSR.
 */
#include "x86/exec.h"

#include "x86/mmx.h"

/* An instruction between an xmm register and mm0, under the guest's MXCSR. Return: MXCSR behind it. */
#define MMX_CONVERT(name, text)                                                                    \
    static uint32_t host_##name(vector *xmm, uint64_t *mm, uint32_t control)                       \
    {                                                                                              \
        vector a = *xmm;                                                                           \
        uint32_t host, status;                                                                     \
        uint64_t b = *mm;                                                                          \
                                                                                                   \
        __asm__ volatile("stmxcsr %2\n\tldmxcsr %4\n\tmovq %1, %%mm0\n\t" text                     \
                         "\n\tmovq %%mm0, %1\n\temms\n\tstmxcsr %3\n\tldmxcsr %2"                  \
                         : "+x"(a), "+m"(b), "=m"(host), "=m"(status)                              \
                         : "m"(control)                                                            \
                         : "mm0");                                                                 \
        *xmm = a;                                                                                  \
        *mm = b;                                                                                   \
        return status;                                                                             \
    }
MMX_CONVERT(cvtpi2ps, "cvtpi2ps %%mm0, %0")
MMX_CONVERT(cvtpi2pd, "cvtpi2pd %%mm0, %0")
MMX_CONVERT(cvtps2pi, "cvtps2pi %0, %%mm0")
MMX_CONVERT(cvtpd2pi, "cvtpd2pi %0, %%mm0")
MMX_CONVERT(cvttps2pi, "cvttps2pi %0, %%mm0")
MMX_CONVERT(cvttpd2pi, "cvttpd2pi %0, %%mm0")

/* CVTPI2PS, CVTPI2PD. The latter, of memory, has nothing to do with x87 (Intel SDM 2A, CVTPI2PD). */
static enum step from_integers(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_double = insn->sub == MMX_CVTPI2PD;
    bool is_apart = is_double && operand_kind(insn, 1) == KIND_MEM;
    uint32_t status;
    uint64_t source;
    vector result;

    TRY(sse_check(vcpu));
    if (!is_apart) {
        TRY(x87_check_pending(vcpu));
    }
    TRY(mmx_source(vcpu, insn, 8, &source));
    memcpy(&result, &vcpu->xmm[insn->reg[0]], 16);
    status = is_double ? host_cvtpi2pd(&result, &source, sse_control(vcpu))
                       : host_cvtpi2ps(&result, &source, sse_control(vcpu));
    if (!is_apart) {
        mmx_enter(vcpu); /* #XM comes after it */
    }
    TRY(sse_finish(vcpu, status));
    memcpy(&vcpu->xmm[insn->reg[0]], &result, 16);
    return STEP_NEXT;
}

/* CVTPS2PI, CVTPD2PI and those that truncate. */
static enum step to_integers(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_double = insn->sub == MMX_CVTPD2PI || insn->sub == MMX_CVTTPD2PI;
    union x86_xmm source;
    uint64_t result = 0;
    uint32_t status;
    vector a;

    TRY(sse_check(vcpu));
    TRY(x87_check_pending(vcpu));
    TRY(sse_source(vcpu, insn, is_double ? 16 : 8, &source));
    memcpy(&a, &source, 16);
    switch (insn->sub) {
    case MMX_CVTPS2PI:
        status = host_cvtps2pi(&a, &result, sse_control(vcpu));
        break;
    case MMX_CVTPD2PI:
        status = host_cvtpd2pi(&a, &result, sse_control(vcpu));
        break;
    case MMX_CVTTPS2PI:
        status = host_cvttps2pi(&a, &result, sse_control(vcpu));
        break;
    default:
        status = host_cvttpd2pi(&a, &result, sse_control(vcpu));
        break;
    }
    mmx_enter(vcpu); /* #XM comes after it */
    TRY(sse_finish(vcpu, status));
    mmx_write(vcpu, insn->reg[0], result);
    return STEP_NEXT;
}

insn_fn *exec_mmx_convert(const struct insn *insn)
{
    return insn->sub == MMX_CVTPI2PS || insn->sub == MMX_CVTPI2PD ? from_integers : to_integers;
}
