/*
 * soft/soft.h - a software VM, as this room sees it: kcore's slots and logs, mmu's tables, and what
 * only the faces need: private slots, guest memfds.
 */
#ifndef SOFT_SOFT_H
#define SOFT_SOFT_H

#include "base/fork.h"
#include "base/lock.h"
#include "kcore/kcore.h"
#include "mmu/mmu.h"
#include "slots/io.h"
#include "slots/rings.h"
#include "soft/chips.h"
#include "soft/clock.h"
#include "soft/guest_memfd.h"
#include "soft/iobus.h"
#include "soft/irqfd.h"
#include "soft/mce.h"
#include "soft/msr_filter.h"
#include "soft/private.h"
#include "soft/signals.h"
#include "soft/sleep.h"
#include "x86/x86.h"

#include <guestmem/kvm_abi.h>
#include <guestmem/soft.h>

#include <linux/kvm.h>

/* A flag that no slot has: kcore refuses the change, in its turn. */
#define SOFT_FLAG_UNKNOWN (1u << 31)

/* One address space as a map's backend: the opaque pointer of its operations. */
struct soft_face {
    struct gm_soft *soft;
    unsigned space;
};

struct gm_soft {
    struct gm_allocator allocator;
    struct kcore core;
    struct mmu mmu;
    struct kcore_arch_ops arch_ops; /* mmu's, with our private_gone */
    struct guest_memfds memfds;
    struct chips chips;
    struct vm_clock clock;
    struct msr_filter msr_filter;
    struct iobuses iobuses;
    struct irqfds irqfds;
    struct coalesced_hooks coalesced; /* of the map over it; empty: nobody drains the ring for it */

    struct fork_mark mark; /* whose process it is */

    /* Rank SOFT: what may only be set before there are vCPUs is not set while one is made, and none comes
     * or goes; the line below. */
    struct lock lock;
    struct private_slots private_slots;
    unsigned boot_vcpu;      /* KVM_SET_BOOT_CPU_ID: which is the bootstrap processor */
    unsigned vcpu_ids_limit; /* KVM_CAP_MAX_VCPU_ID: ids are below it; 0: it was not set */

    atomic_bool hides_platform_info; /* KVM_CAP_MSR_PLATFORM_INFO: from guests */

    struct soft_face faces[KCORE_SPACES];
    /* From the first attach of a map on, if the VM has rings by then: entry_count is not 0. */
    struct dirty_rings rings;
};

/* kvm_run, the page of port data, and the page of coalesced MMIO: as Linux on x86. */
#define VCPU_RUN_BYTES (3 * PAGE_BYTES_4K)
#define VCPU_RING_OFFSET (KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_BYTES_4K)

/* What the last exit of KVM_RUN wants to be told. */
enum vcpu_asked {
    ASKED_NOTHING,
    ASKED_IN,   /* port data */
    ASKED_LOAD, /* MMIO data */
    ASKED_MSR,  /* an MSR's value, or that there is none */
};

struct gm_soft_vcpu {
    struct mmu_vcpu mmu;
    struct gm_soft *soft;
    unsigned id;
    struct kvm_run
        *run; /* VCPU_RUN_BYTES, shared with the user, who may write anything at any time */

    struct lock lock;              /* rank VCPU: one ioctl at a time; all below */
    struct x86_vcpu *x86;          /* its registers */
    struct x86_cpuid_entry *cpuid; /* what x86's is; owned */
    struct signals signals;
    struct vcpu_clock clock;
    struct mce mce;
    uint64_t platform_info; /* MSR_PLATFORM_INFO: the user's */
    bool is_shut_down;      /* by a machine check: the next KVM_RUN says so */
    enum vcpu_asked asked;
    uint64_t asked_rip; /* linear, of the instruction that the last exit left unfinished */
    uint64_t looked_ns; /* when KVM_RUN last looked for signals */
    bool was_signalled; /* the last -EINTR of KVM_RUN was a signal's */

    struct irqchip *irqchip; /* the VM's; NULL: it has none; the line below with them */
    struct sleep sleep;
    struct dirty_ring ring; /* as a map's backend harvests it */
    uint64_t deadline_ns;   /* when it has to look at them again */
};

struct gm_soft_follower {
    struct kcore_follower base;
    struct gm_soft *soft;
    struct gm_soft_follower_ops ops;
    void *opaque;
};

/* The VM is a copy in a child of fork(), which may only close it. */
static inline bool soft_is_copy(const struct gm_soft *soft)
{
    return fork_mark_is_copy(&soft->mark);
}

/* gm_soft_attach(), of any address space and with a log hook. backend.c. */
struct gm_slots;
struct soft_attachment {
    unsigned address_space; /* 0, or 1 for SMM's */
    uint32_t max_slots;
    struct gm_log_hook log;
};
int soft_attach(struct gm_soft *soft, struct gm_space *space, const struct soft_attachment *how,
                struct gm_slots **slots, struct gm_diag *diag);

/* KVM_SET_USER_MEMORY_REGION2, of a structure that is ours. Return: 0; as the ioctl. */
int soft_set_region(struct gm_soft *soft, const struct kvm_userspace_memory_region2 *region);

/* How many vCPUs there are now; has there ever been one? Context: any thread. */
unsigned soft_count_vcpus(struct gm_soft *soft);
bool soft_had_vcpus(struct gm_soft *soft);

/* A vCPU has been made, is about to go: its ring is a map's to harvest, if there is one. Under the lock. */
void soft_ring_add(struct gm_soft_vcpu *vcpu);
void soft_ring_remove(struct gm_soft_vcpu *vcpu);

/* KVM_CAP_MAX_VCPU_ID, once. Return: 0; -EINVAL more than there are, or another limit than before. */
int soft_limit_vcpu_ids(struct gm_soft *soft, uint64_t limit);

/* KVM_SET_BOOT_CPU_ID. Return: 0; -EBUSY there has been a vCPU. */
int soft_set_boot_vcpu(struct gm_soft *soft, uint64_t id);

/* hooks.c: what the interpreter asks of the vCPU's VM. */
struct x86_hooks soft_hooks(struct gm_soft_vcpu *vcpu);

/* A slot as users see it. */
struct gm_soft_slot soft_slot_of(const struct memslot *slot);

#endif
