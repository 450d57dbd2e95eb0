/*
 * soft/chips.h - the interrupt chips (soft/irqchip) of a software VM: their ioctls, and how they reach its vCPUs.
 *
 * The chips know vCPUs by number and run nothing by themselves. When they have something for one, it is asked to come out of
 * guest mode (KCORE_REQUEST_EVENT), or woken, and looks for itself in KVM_RUN (soft/events.h).
 */
#ifndef SOFT_CHIPS_H
#define SOFT_CHIPS_H

#include "base/lock.h"
#include "soft/irqchip/irqchip.h"
#include "x86/x86.h"

#include <stdatomic.h>

struct gm_soft;
struct gm_soft_vcpu;

struct chips {
    /* NULL: none. Stored once, with the VM's lock, before there are vCPUs; release, pairs with the acquire in chips_of(). */
    _Atomic(struct irqchip *) irqchip;
    unsigned x2apic_api; /* KVM_X2APIC_API_* that the user has asked for; of the VM's lock */
    struct lock lock;    /* rank LEAF: the line below */
    struct gm_soft_vcpu *vcpus[IRQCHIP_VCPUS];
};

/* Return: 0; -errno of a mutex. */
int chips_init(struct chips *chips);
void chips_fini(struct chips *chips);

/* The VM's chips, or NULL. Any thread. */
struct irqchip *chips_of(struct gm_soft *soft);

/* KVM_CREATE_IRQCHIP. Return: 0; -EEXIST; -EINVAL there has been a vCPU; -ENOMEM. */
int chips_create(struct gm_soft *soft);

/* KVM_CAP_X2APIC_API, for good, before or after the chips are made. Return: 0; -EINVAL unknown flags. */
#define CHIPS_X2APIC_API (KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
int chips_use_x2apic_api(struct gm_soft *soft, uint64_t flags);

/*
 * A vCPU comes or goes, where there are no chips as well. The caller has the VM's lock as it comes.
 * Return: 0; -EINVAL an id that no APIC has; -ENOMEM, -EMFILE, -ENFILE.
 */
int chips_add_vcpu(struct gm_soft_vcpu *vcpu);
void chips_remove_vcpu(struct gm_soft_vcpu *vcpu);

/* The MSRs that are a local APIC's. X86_MSR_UNKNOWN: none of these. */
enum x86_msr_result chips_read_msr(struct gm_soft_vcpu *vcpu, uint32_t number, uint64_t *value);
enum x86_msr_result chips_write_msr(struct gm_soft_vcpu *vcpu, uint32_t number, uint64_t value,
                                    enum x86_msr_writer writer);
bool chips_is_x2apic_msr(uint32_t number);

/* CR8, which is its local APIC's where there are chips. At most 15. */
uint64_t chips_cr8(const struct gm_soft_vcpu *vcpu);
void chips_set_cr8(struct gm_soft_vcpu *vcpu, uint64_t value);

#endif
