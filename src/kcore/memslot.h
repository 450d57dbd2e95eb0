/*
 * kcore/memslot.h - one memory slot of the software KVM, and what asks for a change of slots.
 *
 * A memslot is immutable once it is published: a change makes a new one, which takes over what lives
 * as long as the slot does (its log, what mmu keeps about it). So a reader in a read section may use
 * what it found, and an old version of the slots goes on saying what it said.
 */
#ifndef KCORE_MEMSLOT_H
#define KCORE_MEMSLOT_H

#include "base/addr.h"

#include <stdbool.h>
#include <stdint.h>

/* Address spaces: 0 is what a vCPU sees outside of SMM, 1 what it sees inside. */
#define KCORE_SPACES 2u
/* Ids of one address space: the user's, as in Linux on x86, then our own (Linux api.rst,
 * KVM_CAP_NR_MEMSLOTS; SHRT_MAX less three). */
#define MEMSLOT_USER_IDS 32764u
#define MEMSLOT_IDS 32767u
/* Linux takes no slot of 2^31 pages or more. */
#define MEMSLOT_PAGES_MAX ((UINT64_C(1) << 31) - 1)

/* flags: KVM_MEM_* below, and ours above what the uAPI can say. */
#define MEMSLOT_LOG (1u << 0)
#define MEMSLOT_READONLY (1u << 1)
#define MEMSLOT_GUEST_MEMFD (1u << 2)
#define MEMSLOT_INVALID (1u << 16) /* in the step before a delete or move: nothing may map it */

struct dirtylog;

/* What goes when this version of a slot does. */
enum memslot_owns {
    MEMSLOT_OWNS_LOG = 1u << 0,
    MEMSLOT_OWNS_ARCH = 1u << 1,
    MEMSLOT_OWNS_PRIVATE = 1u << 2,
};

struct memslot {
    uint16_t id;
    uint8_t space; /* address space, below KCORE_SPACES */
    uint8_t owns;  /* enum memslot_owns; kcore's, under the slots lock */
    uint32_t flags;
    struct gfn base;
    uint64_t page_count;
    struct hva hva;
    /* Memory for pages that the guest keeps private (KVM_MEM_GUEST_MEMFD): where it is mapped here,
     * and who is told when the slot has gone; NULL without. */
    struct hva private_hva;
    void *private_owner;

    /* Handed on from one version of the slot to the next. */
    struct dirtylog *log; /* NULL unless MEMSLOT_LOG and the VM logs to bitmaps */
    void *arch;           /* mmu's, from kcore_arch_ops.slot_prepare() */

    struct memslot *dead_next; /* kcore's: what goes together */
};

static inline bool memslot_holds(const struct memslot *slot, struct gfn gfn)
{
    return gfn.value - slot->base.value < slot->page_count;
}

static inline uint64_t memslot_page_of(const struct memslot *slot, struct gfn gfn)
{
    return gfn.value - slot->base.value;
}

/* The host memory of a page that the slot holds. */
static inline struct hva memslot_hva(const struct memslot *slot, struct gfn gfn)
{
    return (struct hva){slot->hva.value + (memslot_page_of(slot, gfn) << PAGE_SHIFT_4K)};
}

/* The last byte of a host range that is not empty; a range that wraps ends with the address space. */
static inline uint64_t hva_last(struct hva hva, uint64_t size_bytes)
{
    return hva.value + (bytes_until(hva.value, UINT64_MAX, size_bytes) - 1);
}

/* A change, as KVM_SET_USER_MEMORY_REGION2 says it. All 64-bit values are taken, and checked. */
struct memslot_change {
    uint32_t slot; /* id, and the address space in bits 16 to 31 */
    uint32_t flags;
    uint64_t gpa;
    uint64_t size_bytes; /* 0 deletes */
    uint64_t hva;
    uint64_t private_hva; /* with MEMSLOT_GUEST_MEMFD, page-aligned */
    void *private_owner;  /* given to kcore_arch_ops.private_gone() when the slot has gone */
};

#endif
