/*
 * x86/vcpu.c - a vCPU's life, and its registers as seen from outside.
 */
#include "x86/x86.h"

#include "x86/blocks.h"
#include "x86/paging.h"
#include "x86/seg.h"

#include "base/alloc.h"

#include <errno.h>

#define CR0_PG UINT64_C(0x80000000)

int x86_vcpu_new(struct gm_mmu *mmu, const struct gm_allocator *allocator, struct x86_vcpu **vcpu)
{
    const struct gm_allocator *chosen = mem_allocator_or_default(allocator);
    struct x86_vcpu *made = mem_zalloc(chosen, sizeof(*made));
    struct gm_mmu_paging paging;

    if (made == NULL) {
        return -ENOMEM;
    }
    made->mmu = mmu;
    made->allocator = *chosen;
    x86_vcpu_reset(made);
    gm_mmu_get_paging(mmu, &paging);
    made->is_paging_stale = (paging.cr0 & CR0_PG) != 0; /* neither begins with paging */
    *vcpu = made;
    return 0;
}

void x86_vcpu_free(struct x86_vcpu *vcpu)
{
    struct gm_allocator allocator;

    if (vcpu != NULL) {
        allocator = vcpu->allocator;
        if (vcpu->blocks != NULL) {
            blocks_free(vcpu->blocks, &allocator);
        }
        mem_free(&allocator, vcpu);
    }
}

/* Intel SDM 3A, table 10-1. */
static void reset_segments(struct x86_vcpu *vcpu)
{
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        vcpu->segment[i] = (struct x86_segment){.limit = 0xffff, .type = 3, .present = 1, .s = 1};
    }
    vcpu->segment[X86_CS].selector = 0xf000;
    vcpu->segment[X86_CS].base = 0xffff0000;
    vcpu->segment[X86_CS].type = 11;
    vcpu->ldt = (struct x86_segment){.limit = 0xffff, .type = SYS_LDT, .present = 1};
    vcpu->tr = (struct x86_segment){.limit = 0xffff, .type = SYS_TSS_BUSY, .present = 1};
    vcpu->gdt = (struct x86_table){.limit = 0xffff};
    vcpu->idt = (struct x86_table){.limit = 0xffff};
}

void x86_vcpu_reset(struct x86_vcpu *vcpu)
{
    memset(vcpu->gpr, 0, sizeof(vcpu->gpr));
    memset(vcpu->xmm, 0, sizeof(vcpu->xmm));
    vcpu->gpr[X86_RDX] = 0x600;
    vcpu->rip = 0xfff0;
    vcpu->cr0 = 0x60000010;
    vcpu->cr2 = vcpu->cr3 = vcpu->cr4 = vcpu->cr8 = 0;
    vcpu->has_pdptes = false;
    vcpu->xcr0 = 1;
    vcpu->pkru = 0;
    memset(vcpu->dr, 0, sizeof(vcpu->dr));
    vcpu->dr[6] = 0xffff0ff0;
    vcpu->dr[7] = 0x400;
    vcpu->msr = (struct x86_msrs){.apic_base = 0xfee00900,
                                  .pat = UINT64_C(0x0007040600070406),
                                  .misc_enable = 1,
                                  .microcode = UINT64_C(1) << 32};
    vcpu->mxcsr = 0x1f80;
    vcpu->fpu = (struct x86_fpu){.fcw = 0x40};
    vcpu->event = (struct x86_event){0};
    vcpu->is_interrupt_queued = false;
    vcpu->is_nmi_pending = vcpu->is_nmi_blocked = false;
    vcpu->is_shadowed = vcpu->is_ss_shadow = false;
    vcpu->mp_state = X86_RUNNABLE;
    vcpu->answer_count = vcpu->answer_next = vcpu->ahead_next = 0;
    vcpu->is_access_pending = vcpu->is_delivering = false;
    reset_segments(vcpu);
    x86_set_rflags(vcpu, X86_FLAG_ONE);
    x86_state_changed(vcpu);
}

void x86_state_changed(struct x86_vcpu *vcpu)
{
    vcpu->gpr[X86_GPR_ZERO] = 0;
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        seg_derive(vcpu, &vcpu->segment[i]);
    }
    seg_derive_mode(vcpu);
    vcpu->is_paging_stale = true;
    vcpu->is_comparing = false;
}

uint64_t x86_get_rflags(const struct x86_vcpu *vcpu)
{
    return vcpu->rflags | flags_arithmetic(vcpu) | X86_FLAG_ONE;
}

void x86_set_rflags(struct x86_vcpu *vcpu, uint64_t rflags)
{
    uint64_t changed = (vcpu->rflags ^ rflags) & (X86_FLAG_AC | X86_FLAG_VM);

    vcpu->is_comparing = false;
    flags_set_arithmetic(vcpu, rflags);
    vcpu->rflags = (rflags & 0x3f7fd7 & ~X86_FLAGS_ARITHMETIC) | X86_FLAG_ONE;
    if (changed != 0) {
        seg_derive_mode(vcpu);
    }
}

bool x86_sync_paging(struct x86_vcpu *vcpu)
{
    if (vcpu->is_paging_stale && !vcpu->is_access_pending && paging_tell(vcpu) != STEP_NEXT) {
        vcpu->is_out = false;
    } else {
        gm_mmu_leave(vcpu->mmu);
    }
    return !vcpu->is_paging_stale;
}

bool x86_is_cr0_valid(uint64_t cr0)
{
    bool has_pe = (cr0 & 1) != 0, has_pg = (cr0 >> 31 & 1) != 0;
    bool has_cd = (cr0 >> 30 & 1) != 0, has_nw = (cr0 >> 29 & 1) != 0;

    return cr0 >> 32 == 0 && (has_pe || !has_pg) && (has_cd || !has_nw);
}

bool x86_is_xcr0_valid(uint64_t xcr0)
{
    return xcr0 == 1 || xcr0 == 3;
}

bool x86_can_interrupt(const struct x86_vcpu *vcpu)
{
    return (vcpu->rflags & X86_FLAG_IF) != 0 && !vcpu->is_shadowed &&
           vcpu->event.kind == X86_EVENT_NONE && !vcpu->is_interrupt_queued &&
           vcpu->answer_count == 0 && !vcpu->is_access_pending && !is_ahead(vcpu);
}

void x86_interrupt(struct x86_vcpu *vcpu, uint8_t vector)
{
    vcpu->is_interrupt_queued = true;
    vcpu->queued_vector = vector;
    if (vcpu->event.kind == X86_EVENT_INTERRUPT && !vcpu->is_delivering) { /* it takes its place */
        vcpu->event = (struct x86_event){0};
    }
}

int x86_waiting_interrupt(const struct x86_vcpu *vcpu)
{
    if (vcpu->event.kind == X86_EVENT_INTERRUPT) {
        return vcpu->event.vector;
    }
    return vcpu->is_interrupt_queued ? vcpu->queued_vector : -1;
}

void x86_nmi(struct x86_vcpu *vcpu)
{
    vcpu->is_nmi_pending = true;
}
