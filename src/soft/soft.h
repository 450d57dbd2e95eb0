/*
 * soft/soft.h - a software VM, as this room sees it: kcore's slots and logs, mmu's tables, and what
 * only the faces need: private slots, guest memfds.
 */
#ifndef SOFT_SOFT_H
#define SOFT_SOFT_H

#include "base/lock.h"
#include "kcore/kcore.h"
#include "mmu/mmu.h"
#include "soft/guest_memfd.h"
#include "soft/private.h"

#include <guestmem/soft.h>

/* A flag that no slot has: kcore refuses the change, in its turn. */
#define SOFT_FLAG_UNKNOWN (1u << 31)

struct gm_soft {
    struct gm_allocator allocator;
    struct kcore core;
    struct mmu mmu;
    struct kcore_arch_ops arch_ops; /* mmu's, with our private_gone */
    struct guest_memfds memfds;

    /* Rank SOFT: what may only be set before there are vCPUs is not set while one is made; the line
     * below. */
    struct lock lock;
    struct private_slots private_slots;
};

struct gm_soft_vcpu {
    struct mmu_vcpu mmu;
    struct gm_soft *soft;
};

struct gm_soft_follower {
    struct kcore_follower base;
    struct gm_soft *soft;
    struct gm_soft_follower_ops ops;
    void *opaque;
};

/* Is there a vCPU now, has there ever been one? Context: any thread. */
bool soft_has_vcpus(struct gm_soft *soft);
bool soft_had_vcpus(struct gm_soft *soft);

/* A slot as users see it. */
struct gm_soft_slot soft_slot_of(const struct memslot *slot);

#endif
