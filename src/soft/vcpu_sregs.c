/*
 * soft/vcpu_sregs.c - KVM_GET_SREGS, KVM_SET_SREGS, and their second version with PDPTEs.
 *
 * Source: Linux api.rst; which states are refused was asked of Linux 6.1 and 6.18.
 */
#include "mmu/guest.h"
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define CR0_PE UINT64_C(1)
#define CR0_ET UINT64_C(0x10)
#define CR0_PG UINT64_C(0x80000000)
#define CR4_PAE UINT64_C(0x20)
#define CR4_PKE (UINT64_C(1) << 22)
#define CR8_MAX 15u
#define EFER_LME UINT64_C(0x100)
#define EFER_LMA UINT64_C(0x400)
#define MSR_APIC_BASE 0x1bu
#define VECTORS 256u

_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) == offsetof(struct kvm_sregs2, flags),
               "the second version begins as the first");

bool vcpu_sync_paging(struct gm_soft_vcpu *vcpu)
{
    guest_enter_at_boundary(&vcpu->mmu);
    return x86_sync_paging(vcpu->x86);
}

static struct kvm_segment get_segment(const struct x86_segment *segment)
{
    return (struct kvm_segment){
        .base = segment->base,
        .limit = segment->limit,
        .selector = segment->selector,
        .type = segment->type,
        .present = segment->present,
        .dpl = segment->dpl,
        .db = segment->db,
        .s = segment->s,
        .l = segment->l,
        .g = segment->g,
        .avl = segment->avl,
        .unusable = segment->unusable,
    };
}

/* One that is not present cannot be used. */
static struct x86_segment set_segment(const struct kvm_segment *segment)
{
    bool is_usable = (segment->present & 1) != 0 && segment->unusable == 0;

    return (struct x86_segment){
        .base = segment->base,
        .limit = segment->limit,
        .selector = segment->selector,
        .type = segment->type & 15,
        .present = is_usable,
        .dpl = segment->dpl & 3,
        .db = segment->db & 1,
        .s = segment->s & 1,
        .l = segment->l & 1,
        .g = segment->g & 1,
        .avl = segment->avl & 1,
        .unusable = !is_usable,
    };
}

static struct kvm_dtable get_table(const struct x86_table *table)
{
    return (struct kvm_dtable){.base = table->base, .limit = table->limit};
}

static struct x86_table set_table(const struct kvm_dtable *table)
{
    return (struct x86_table){.base = table->base, .limit = table->limit};
}

/* What both versions have: all up to the bitmap. */
static void get_common(struct gm_soft_vcpu *vcpu, struct kvm_sregs *sregs)
{
    struct x86_vcpu *cpu = vcpu->x86;
    uint64_t apic_base = 0;

    *sregs = (struct kvm_sregs){
        .cs = get_segment(&cpu->segment[X86_CS]),
        .ds = get_segment(&cpu->segment[X86_DS]),
        .es = get_segment(&cpu->segment[X86_ES]),
        .fs = get_segment(&cpu->segment[X86_FS]),
        .gs = get_segment(&cpu->segment[X86_GS]),
        .ss = get_segment(&cpu->segment[X86_SS]),
        .tr = get_segment(&cpu->tr),
        .ldt = get_segment(&cpu->ldt),
        .gdt = get_table(&cpu->gdt),
        .idt = get_table(&cpu->idt),
        .cr0 = cpu->cr0,
        .cr2 = cpu->cr2,
        .cr3 = cpu->cr3,
        .cr4 = cpu->cr4,
        .cr8 = chips_cr8(vcpu),
        .efer = cpu->msr.efer,
    };
    (void)x86_get_msr(cpu, MSR_APIC_BASE, &apic_base);
    sregs->apic_base = apic_base;
}

/* Long mode is as EFER and CR0 say, or not at all. Protection keys, which the supported CPUID does not offer, take a list of the
 * user's that does. */
static bool is_valid(const struct x86_vcpu *cpu, const struct kvm_sregs *sregs)
{
    bool is_long = (sregs->efer & EFER_LME) != 0 && (sregs->cr0 & CR0_PG) != 0;

    if (is_long) {
        if ((sregs->cr4 & CR4_PAE) == 0 || (sregs->efer & EFER_LMA) == 0 ||
            sregs->cr3 >> x86_maxphyaddr(cpu) != 0) {
            return false;
        }
    } else if ((sregs->efer & EFER_LMA) != 0 || sregs->cs.l != 0) {
        return false;
    }
    return (sregs->efer & ~X86_EFER_KNOWN) == 0 && x86_is_cr0_valid(sregs->cr0) &&
           x86_is_cr4_valid(cpu, sregs->cr4) &&
           ((sregs->cr4 & CR4_PKE) == 0 || cpu->cpuid_count != 0);
}

static void set_segments(struct x86_vcpu *cpu, const struct kvm_sregs *sregs)
{
    cpu->segment[X86_CS] = set_segment(&sregs->cs);
    cpu->segment[X86_DS] = set_segment(&sregs->ds);
    cpu->segment[X86_ES] = set_segment(&sregs->es);
    cpu->segment[X86_FS] = set_segment(&sregs->fs);
    cpu->segment[X86_GS] = set_segment(&sregs->gs);
    cpu->segment[X86_SS] = set_segment(&sregs->ss);
    cpu->tr = set_segment(&sregs->tr);
    cpu->ldt = set_segment(&sregs->ldt);
    cpu->gdt = set_table(&sregs->gdt);
    cpu->idt = set_table(&sregs->idt);
}

/* A VMM that resets the bootstrap processor by its registers means it to run, though it does not say so. */
static bool is_at_reset(const struct gm_soft_vcpu *vcpu)
{
    const struct x86_segment *cs = &vcpu->x86->segment[X86_CS];

    return vcpu->id == vcpu->soft->boot_vcpu && vcpu->x86->rip == 0xfff0 &&
           cs->selector == 0xf000 && cs->base == 0xffff0000 && (vcpu->x86->cr0 & CR0_PE) == 0;
}

/* On error nothing has changed. */
static int set_common(struct gm_soft_vcpu *vcpu, const struct kvm_sregs *sregs)
{
    struct x86_vcpu *cpu = vcpu->x86;

    if (!is_valid(cpu, sregs) ||
        x86_set_msr(cpu, MSR_APIC_BASE, sregs->apic_base) != X86_MSR_DONE) {
        return -EINVAL;
    }
    cpu->cr0 = (sregs->cr0 & X86_CR0_KNOWN) | CR0_ET;
    cpu->cr2 = sregs->cr2;
    cpu->cr3 = sregs->cr3;
    cpu->cr4 = sregs->cr4;
    if (sregs->cr8 <= CR8_MAX) {
        chips_set_cr8(vcpu, sregs->cr8);
    }
    cpu->msr.efer = sregs->efer;
    cpu->has_pdptes = false;
    set_segments(cpu, sregs);
    x86_state_changed(cpu);
    if (is_at_reset(vcpu)) {
        cpu->mp_state = X86_RUNNABLE;
    }
    return 0;
}

long ioctl_get_sregs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    int vector = x86_waiting_interrupt(vcpu->x86);
    struct kvm_sregs sregs;

    get_common(vcpu, &sregs);
    if (vector >= 0) {
        sregs.interrupt_bitmap[vector / 64] = UINT64_C(1) << (vector % 64);
    }
    return usercopy_to(argument, &sregs, sizeof(sregs));
}

/* The lowest vector of the bitmap waits to be delivered. */
long ioctl_set_sregs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_sregs sregs;
    int rc = usercopy_from(&sregs, argument, sizeof(sregs));

    if (rc == 0) {
        rc = set_common(vcpu, &sregs);
    }
    if (rc != 0) {
        return rc;
    }
    for (unsigned vector = 0; vector < VECTORS; vector++) {
        if ((sregs.interrupt_bitmap[vector / 64] >> (vector % 64) & 1) != 0) {
            x86_interrupt(vcpu->x86, (uint8_t)vector);
            break;
        }
    }
    return 0;
}

static bool is_pae(const struct kvm_sregs2 *sregs)
{
    return (sregs->cr0 & CR0_PG) != 0 && (sregs->cr4 & CR4_PAE) != 0 &&
           (sregs->efer & EFER_LMA) == 0;
}

/* PDPTEs are those that the processor has, which may not be those in memory. */
long ioctl_get_sregs2(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_sregs2 sregs2 = {0};
    struct kvm_sregs sregs;
    uint64_t pdptes[4];

    get_common(vcpu, &sregs);
    memcpy(&sregs2, &sregs, offsetof(struct kvm_sregs2, flags));
    if (is_pae(&sregs2) && vcpu_sync_paging(vcpu) && gm_mmu_get_pdptes(&vcpu->mmu.face, pdptes)) {
        sregs2.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        memcpy(sregs2.pdptrs, pdptes, sizeof(pdptes));
    }
    return usercopy_to(argument, &sregs2, sizeof(sregs2));
}

long ioctl_set_sregs2(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_sregs sregs = {0};
    struct kvm_sregs2 sregs2;
    int rc = usercopy_from(&sregs2, argument, sizeof(sregs2));

    if (rc != 0) {
        return rc;
    }
    if ((sregs2.flags & ~(uint64_t)KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0 ||
        (sregs2.flags != 0 && !is_pae(&sregs2))) {
        return -EINVAL;
    }
    memcpy(&sregs, &sregs2, offsetof(struct kvm_sregs2, flags));
    rc = set_common(vcpu, &sregs);
    if (rc == 0 && sregs2.flags != 0) {
        memcpy(vcpu->x86->pdptes, sregs2.pdptrs, sizeof(vcpu->x86->pdptes));
        vcpu->x86->has_pdptes = true;
    }
    return rc;
}
