/*
 * x86/exec_system.c - control and debug registers, HLT, CPUID, MSRs, TLB.
 */
#include "x86/exec.h"

#include "x86/breakpoint.h"
#include "x86/cpuid.h"
#include "x86/decode_table.h"
#include "x86/mem.h"
#include "x86/msr.h"
#include "x86/paging.h"
#include "x86/seg.h"

#define CR0_PE UINT64_C(1)
#define CR0_ET UINT64_C(0x10)
#define CR0_PG UINT64_C(0x80000000)
#define CR4_PAE UINT64_C(0x20)
#define CR4_LA57 UINT64_C(0x1000)
#define CR4_PCIDE UINT64_C(0x20000)
#define EFER_LME UINT64_C(0x100)
#define EFER_LMA UINT64_C(0x400)
#define DR6_BD UINT64_C(0x2000)
#define DR7_GD UINT64_C(0x2000)

static enum step require_ring0(struct x86_vcpu *vcpu)
{
    return vcpu->cpl == 0 ? STEP_NEXT : step_raise_code(vcpu, X86_GP, 0);
}

static enum step hlt(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    TRY(require_ring0(vcpu));
    vcpu->mp_state = X86_HALTED;
    vcpu->exit = X86_EXIT_HLT;
    return STEP_LATE;
}

static enum step cpuid(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint32_t function = (uint32_t)vcpu->gpr[X86_RAX];
    uint32_t index = (uint32_t)vcpu->gpr[X86_RCX];
    struct x86_cpuid_entry entry;

    (void)insn;
    cpuid_answer(vcpu, function, index, &entry);
    gpr_write(vcpu, X86_RAX, 4, entry.eax);
    gpr_write(vcpu, X86_RBX, 4, entry.ebx);
    gpr_write(vcpu, X86_RCX, 4, entry.ecx);
    gpr_write(vcpu, X86_RDX, 4, entry.edx);
    return STEP_NEXT;
}

static void write_pair(struct x86_vcpu *vcpu, uint64_t value)
{
    gpr_write(vcpu, X86_RAX, 4, value);
    gpr_write(vcpu, X86_RDX, 4, value >> 32);
}

static uint64_t read_pair(const struct x86_vcpu *vcpu)
{
    return gpr_read(vcpu, X86_RDX, 4) << 32 | gpr_read(vcpu, X86_RAX, 4);
}

static enum step rdmsr(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value;

    (void)insn;
    TRY(require_ring0(vcpu));
    TRY(msr_read(vcpu, (uint32_t)vcpu->gpr[X86_RCX], &value));
    write_pair(vcpu, value);
    return STEP_NEXT;
}

static enum step wrmsr(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    TRY(require_ring0(vcpu));
    return msr_write(vcpu, (uint32_t)vcpu->gpr[X86_RCX], read_pair(vcpu));
}

/* RDTSC, RDTSCP: CR4.TSD keeps programs from it. */
static enum step rdtsc(struct x86_vcpu *vcpu, const struct insn *insn)
{
    if ((vcpu->cr4 & 4) != 0 && vcpu->cpl != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    write_pair(vcpu, msr_tsc(vcpu));
    if (insn->sub == SYSTEM_RDTSCP) {
        gpr_write(vcpu, X86_RCX, 4, vcpu->msr.tsc_aux);
    }
    return STEP_NEXT;
}

/* No performance counter is there. */
static enum step rdpmc(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    return step_raise_code(vcpu, X86_GP, 0);
}

/* Paging goes on or off with LME: so does long mode (Intel SDM 3A, 9.8.5). */
static enum step write_cr0(struct x86_vcpu *vcpu, uint64_t value)
{
    bool turns_on = (value & CR0_PG) != 0 && (vcpu->cr0 & CR0_PG) == 0;
    bool turns_off = (value & CR0_PG) == 0 && (vcpu->cr0 & CR0_PG) != 0;
    bool wants_long = (vcpu->msr.efer & EFER_LME) != 0;
    uint64_t efer = vcpu->msr.efer;

    if (!x86_is_cr0_valid(value) ||
        (turns_on && wants_long && ((vcpu->cr4 & CR4_PAE) == 0 || vcpu->segment[X86_CS].l)) ||
        (turns_off && (vcpu->mode == X86_MODE_64 || (vcpu->cr4 & CR4_PCIDE) != 0))) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    value = (value & X86_CR0_KNOWN) | CR0_ET;
    efer |= turns_on && wants_long ? EFER_LMA : 0;
    efer &= turns_off ? ~EFER_LMA : UINT64_MAX;
    TRY(paging_set(vcpu, value, vcpu->cr3, vcpu->cr4, efer, vcpu->pkru));
    vcpu->cr0 = value;
    vcpu->msr.efer = efer;
    return STEP_NEXT;
}

static enum step write_cr3(struct x86_vcpu *vcpu, uint64_t value)
{
    uint64_t kept = (vcpu->cr4 & CR4_PCIDE) != 0 ? ~(UINT64_C(1) << 63) : UINT64_MAX;

    if (is_long_mode(vcpu) && (value & kept) >> 52 != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(paging_set(vcpu, vcpu->cr0, value, vcpu->cr4, vcpu->msr.efer, vcpu->pkru));
    vcpu->cr3 = value & kept;
    return STEP_NEXT;
}

static enum step write_cr4(struct x86_vcpu *vcpu, uint64_t value)
{
    uint64_t changed = vcpu->cr4 ^ value;
    bool gets_pcids = (changed & value & CR4_PCIDE) != 0;

    if (!x86_is_cr4_valid(vcpu, value) ||
        (is_long_mode(vcpu) && ((value & CR4_PAE) == 0 || (changed & CR4_LA57) != 0)) ||
        (gets_pcids && (!is_long_mode(vcpu) || (vcpu->cr3 & 0xfff) != 0))) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(paging_set(vcpu, vcpu->cr0, vcpu->cr3, value, vcpu->msr.efer, vcpu->pkru));
    vcpu->cr4 = value;
    return STEP_NEXT;
}

static enum step write_control(struct x86_vcpu *vcpu, unsigned number, uint64_t value)
{
    enum step step = STEP_NEXT;

    switch (number) {
    case 0:
        step = write_cr0(vcpu, value);
        break;
    case 2:
        vcpu->cr2 = value;
        break;
    case 3:
        step = write_cr3(vcpu, value);
        break;
    case 4:
        step = write_cr4(vcpu, value);
        break;
    case 8:
        if (value > 15) {
            return step_raise_code(vcpu, X86_GP, 0);
        }
        vcpu->cr8 = value;
        if (vcpu->hooks.write_cr8 != NULL) {
            vcpu->hooks.write_cr8(vcpu->hooks.opaque, value);
        }
        break;
    default:
        return step_raise(vcpu, X86_UD);
    }
    if (step == STEP_NEXT) {
        for (unsigned i = 0; i < X86_SEGMENTS; i++) {
            seg_derive(vcpu, &vcpu->segment[i]); /* PE says how they are checked */
        }
        seg_derive_mode(vcpu);
    }
    return step;
}

static enum step read_control(struct x86_vcpu *vcpu, unsigned number, uint64_t *value)
{
    switch (number) {
    case 0:
        *value = vcpu->cr0;
        return STEP_NEXT;
    case 2:
        *value = vcpu->cr2;
        return STEP_NEXT;
    case 3:
        *value = vcpu->cr3;
        return STEP_NEXT;
    case 4:
        *value = vcpu->cr4;
        return STEP_NEXT;
    case 8:
        *value =
            vcpu->hooks.read_cr8 != NULL ? vcpu->hooks.read_cr8(vcpu->hooks.opaque) : vcpu->cr8;
        return STEP_NEXT;
    default:
        return step_raise(vcpu, X86_UD);
    }
}

static enum step mov_control(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = vcpu->mode == X86_MODE_64 ? 8 : 4;
    uint64_t value;

    TRY(require_ring0(vcpu));
    if ((insn->selector & SPECIAL_FIRST) != 0) {
        return write_control(vcpu, insn->reg[0], reg_read(vcpu, insn->reg[1], size));
    }
    TRY(read_control(vcpu, insn->reg[1], &value));
    reg_write(vcpu, insn->reg[0], size, value);
    return STEP_NEXT;
}

/* DR4 and DR5 are DR6 and DR7, without CR4.DE. */
static enum step mov_debug(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_write = (insn->selector & SPECIAL_FIRST) != 0;
    unsigned number = insn->reg[is_write ? 0 : 1];
    unsigned size = vcpu->mode == X86_MODE_64 ? 8 : 4;
    uint64_t value;

    if (number > 7 || ((number == 4 || number == 5) && (vcpu->cr4 & 8) != 0)) {
        return step_raise(vcpu, X86_UD);
    }
    TRY(require_ring0(vcpu));
    number += number == 4 || number == 5 ? 2 : 0;
    if ((breakpoint_registers(vcpu)[7] & DR7_GD) != 0) {
        if (vcpu->uses_host_dr) {
            return step_debug(vcpu, X86_DB, DR6_BD);
        }
        vcpu->dr[6] |= DR6_BD;
        return step_raise(vcpu, X86_DB);
    }
    if (!is_write) {
        reg_write(vcpu, insn->reg[0], size, vcpu->dr[number]);
        return STEP_NEXT;
    }
    value = reg_read(vcpu, insn->reg[1], size);
    if (number >= 6 && value >> 32 != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    if (number == 6) {
        value = (value & 0xe00f) | 0xffff0ff0;
    } else if (number == 7) {
        value = (value & 0xffff2bff) | 0x400;
    }
    vcpu->dr[number] = value;
    seg_derive_mode(vcpu); /* breakpoints keep accesses from the TLB */
    return STEP_NEXT;
}

static enum step clts(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    TRY(require_ring0(vcpu));
    return write_control(vcpu, 0, vcpu->cr0 & ~UINT64_C(8));
}

static enum step smsw(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_memory = operand_kind(insn, 0) == KIND_MEM;

    if ((vcpu->cr4 & 0x800) != 0 && vcpu->cpl > 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    return operand_write(vcpu, insn, 0, is_memory ? 2 : insn->size, vcpu->cr0);
}

/* PE can be set so, not cleared. */
static enum step lmsw(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value;

    TRY(require_ring0(vcpu));
    TRY(operand_read(vcpu, insn, 0, 2, &value));
    value = (value & 15) | (vcpu->cr0 & CR0_PE);
    return write_control(vcpu, 0, (vcpu->cr0 & ~UINT64_C(15)) | value);
}

static enum step invlpg(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t linear = mem_offset(vcpu, insn);

    TRY(require_ring0(vcpu));
    if (vcpu->mode != X86_MODE_64) {
        linear = (uint32_t)(vcpu->segment[insn->seg].base + linear);
    } else if (insn->seg < SEG_FLAT) {
        linear += vcpu->segment[insn->seg].base;
    }
    gm_mmu_invlpg(vcpu->mmu, linear);
    return STEP_NEXT;
}

static enum step invd(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    return require_ring0(vcpu);
}

static enum step xgetbv(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    if ((vcpu->cr4 >> 18 & 1) == 0) {
        return step_raise(vcpu, X86_UD);
    }
    if ((uint32_t)vcpu->gpr[X86_RCX] != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    write_pair(vcpu, vcpu->xcr0);
    return STEP_NEXT;
}

static enum step xsetbv(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value = read_pair(vcpu);

    (void)insn;
    if ((vcpu->cr4 >> 18 & 1) == 0) {
        return step_raise(vcpu, X86_UD);
    }
    TRY(require_ring0(vcpu));
    if ((uint32_t)vcpu->gpr[X86_RCX] != 0 || !x86_is_xcr0_valid(value)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    vcpu->xcr0 = value;
    return STEP_NEXT;
}

/* RDPKRU, WRPKRU. */
static enum step access_pkru(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_read = insn->sub == SYSTEM_RDPKRU;
    uint32_t value = (uint32_t)vcpu->gpr[X86_RAX];

    if ((vcpu->cr4 >> 22 & 1) == 0) {
        return step_raise(vcpu, X86_UD);
    }
    if ((uint32_t)vcpu->gpr[X86_RCX] != 0 || (!is_read && (uint32_t)vcpu->gpr[X86_RDX] != 0)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    if (is_read) {
        write_pair(vcpu, vcpu->pkru);
        return STEP_NEXT;
    }
    TRY(paging_set(vcpu, vcpu->cr0, vcpu->cr3, vcpu->cr4, vcpu->msr.efer, value));
    vcpu->pkru = value;
    return STEP_NEXT;
}

insn_fn *exec_system(struct insn *insn)
{
    static insn_fn *const table[] = {
        [SYSTEM_HLT] = hlt,
        [SYSTEM_CPUID] = cpuid,
        [SYSTEM_RDMSR] = rdmsr,
        [SYSTEM_WRMSR] = wrmsr,
        [SYSTEM_RDTSC] = rdtsc,
        [SYSTEM_RDTSCP] = rdtsc,
        [SYSTEM_RDPMC] = rdpmc,
        [SYSTEM_CLTS] = clts,
        [SYSTEM_SMSW] = smsw,
        [SYSTEM_LMSW] = lmsw,
        [SYSTEM_INVLPG] = invlpg,
        [SYSTEM_INVD] = invd,
        [SYSTEM_XGETBV] = xgetbv,
        [SYSTEM_XSETBV] = xsetbv,
        [SYSTEM_RDPKRU] = access_pkru,
        [SYSTEM_WRPKRU] = access_pkru,
    };

    if (insn->sub == SYSTEM_MOV) {
        return (insn->selector & SPECIAL_DEBUG) != 0 ? mov_debug : mov_control;
    }
    return table[insn->sub];
}
