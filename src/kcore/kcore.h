/*
 * kcore/kcore.h - the software KVM's virtual machine, without its processors' tables: slots, their
 * changes, generations, and who is told.
 *
 * A change of slots, or a list of them, goes through kcore_apply() in these steps, all under the slots
 * lock. What can fail comes before what cannot:
 *
 *   check     each change against the slots as the ones before it leave them (a draft)
 *   prepare   memory: new memslots, tree nodes, logs, what mmu needs (arch.slot_prepare)
 *   hold      no vCPU is in guest mode from here on: each is at an instruction's boundary
 *   invalid   if slots go or move: a version is published in which these are MEMSLOT_INVALID, followers
 *             are told (an IOMMU unmaps), and mmu unmaps them (arch.slot_flush)
 *   publish   the final version; its generation makes remembered MMIO stale
 *   commit    mmu learns of new flags (arch.slot_commit: logging begins or ends), followers of new slots
 *   release   vCPUs go on, on the new map
 *   retire    what was replaced is freed after a grace period
 *
 * Source: Linux api.rst, KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG.
 */
#ifndef KCORE_KCORE_H
#define KCORE_KCORE_H

#include "base/gate.h"
#include "base/lock.h"
#include "kcore/index.h"
#include "kcore/memslots.h"
#include "kcore/notifier.h"

#include <guestmem/types.h>

#include <stdatomic.h>

struct kcore;
struct kcore_vcpu;
struct attributes;

/* What a change comes to for one slot id, first and last state compared. */
enum memslot_effect {
    MEMSLOT_CREATE,
    MEMSLOT_DELETE,
    MEMSLOT_MOVE,
    MEMSLOT_FLAGS,   /* logging on or off */
    MEMSLOT_REPLACE, /* a list deleted it and made it anew: as DELETE, then CREATE */
    MEMSLOT_SAME,    /* nothing: it was made and deleted, or changed and changed back */
};

/*
 * What kcore needs of mmu. All but slot_prepare cannot fail. Unless said otherwise they run under the
 * slots lock, and may take mmu's.
 */
struct kcore_arch_ops {
    /* Memory for what @slot needs (slot->arch), before it is published. -ENOMEM; -EINVAL it lies
     * beyond what the tables can map. Not called where a slot only gets other flags. */
    int (*slot_prepare)(void *arch, struct memslot *slot);
    /* Free slot->arch: of a slot that was never published, or after a grace period. */
    void (*slot_free)(void *arch, struct memslot *slot);
    /* Unmap every page of a slot that is MEMSLOT_INVALID by now. Afterwards no vCPU's table has an
     * entry for it and no TLB, once its vCPU is in guest mode again. */
    void (*slot_flush)(void *arch, const struct memslot *slot);
    /* @after has been published: LOG went on (write-protect, or clear the dirty flags, so that the
     * first write is seen) or off (large leaves may come back). Either is NULL in a create, delete. */
    void (*slot_commit)(void *arch, const struct memslot *before, const struct memslot *after);
    /* The generation's bits that MMIO entries hold have wrapped: drop all such entries. */
    void (*generation_wrapped)(void *arch);
    /* Bring the pages that vCPUs have logged but not reported (per-vCPU buffers) to kcore_mark_dirty().
     * vCPUs are held. Before a log is read, and before a logged slot changes. May be NULL. */
    void (*log_drain)(void *arch);
    /* Between these nobody marks a page, if vCPUs are held as well: no fault installs. */
    void (*log_begin)(void *arch);
    void (*log_end)(void *arch);
    /* Make the next write of pages first_page + each set bit of @mask be seen. Between log_begin and log_end;
     * flushed once, by tlb_flush below. */
    void (*log_protect)(void *arch, const struct memslot *slot, uint64_t first_page, uint64_t mask);
    /* The same for the bits of @words, of which page 0 is @first_page; other pages of these words are clean, and
     * may be protected, too. */
    void (*log_protect_words)(void *arch, const struct memslot *slot, uint64_t first_page,
                              const uint64_t *words, uint64_t word_count);
    /* After log_protect()s or unmap()s that changed something: wait until no vCPU goes through an old
     * translation. Costs nothing where nothing was changed since the last one. */
    void (*tlb_flush)(void *arch);
    /* Host memory of these frames goes away (notifier.h): unmap them. Return: was anything mapped?
     * Then the caller flushes (tlb_flush). */
    bool (*unmap)(void *arch, const struct memslot *slot, struct gfn first, uint64_t page_count);
    /* Attributes of these frames change: unmap them, recount which large leaves may be. */
    void (*attributes_changed)(void *arch, unsigned space, struct gfn first, uint64_t page_count);
    /* The memory that kept a slot's private pages is used no more; after a grace period. May be NULL. */
    void (*private_gone)(void *private_opaque, void *private_owner);
};

struct kcore_options {
    const struct gm_allocator *allocator; /* copied; NULL for malloc */
    unsigned spaces;                      /* 1 or 2 */
    unsigned gpa_bits;                    /* slots end at or below 2^gpa_bits: 36 to 52 */
    unsigned generation_bits;             /* of a generation, in MMIO entries; tests shrink it */
    const struct kcore_arch_ops *arch_ops;
    void *arch;
    void *private_opaque;
    /* vCPUs report each page as they write it: there is nothing for log_drain, and no hold for it. */
    bool log_is_immediate;
};

/*
 * Who is told of changes of slots: an IOMMU maps on created, unmaps before removing returns. Under the
 * slots lock, with vCPUs held; must not change slots. @slot is borrowed for the call. Within one apply
 * all removing come before all created; followers are told in the order in which they came. A move is
 * removing of the old slot, then created of the new. Each may be NULL.
 */
struct kcore_follower {
    void (*created)(void *opaque, const struct memslot *slot);
    void (*removing)(void *opaque, const struct memslot *slot);
    void (*flags_changed)(void *opaque, const struct memslot *slot);
    void *opaque;
    struct kcore_follower *next; /* kcore's, under the slots lock */
};

struct kcore {
    struct gm_allocator allocator;
    unsigned spaces;
    unsigned gpa_bits;
    unsigned generation_bits;
    const struct kcore_arch_ops *arch_ops;
    void *arch;
    void *private_opaque;
    bool log_is_immediate;
    struct rcu_domain *deferred; /* what this VM frees after a grace period, mmu's tables too */
    /* Versions and slots that wait for one; relaxed, about. */
    atomic_uint dead_count;

    struct lock slots_lock; /* rank KCORE: all below, but for what readers see */
    /* Released by kcore_apply(); pairs with the acquire in kcore_slots(). */
    _Atomic(struct memslots *) slots[KCORE_SPACES];
    struct index_pool index_pool;         /* of the nodes of all trees */
    struct memslot **by_id[KCORE_SPACES]; /* MEMSLOT_IDS of them, NULL without a slot */
    uint64_t generation;                  /* of the newest version in either space */
    struct kcore_follower *followers;     /* in the order in which they came */

    bool manual_protect;    /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
    bool initially_all_set; /* ... with KVM_DIRTY_LOG_INITIALLY_SET */
    uint32_t ring_entries;  /* of each vCPU's dirty ring; 0: slots have bitmaps */
    bool ring_with_bitmap;  /* KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP: bitmaps for what no vCPU wrote */
    /* NULL until one is set. Released by kcore_set_attributes(); pairs with the acquire in
     * kcore_attributes(). */
    _Atomic(struct attributes *) attributes;

    struct notifier notifier;

    struct gate gate;      /* vCPUs stand here while they are in guest mode */
    struct lock hold_lock; /* rank HOLD: the next line */
    unsigned hold_count;
    atomic_ullong holds; /* times that vCPUs were kept out; relaxed, a statistic */
    /* The list changes under both the slots lock and vcpus_lock (rank LEAF), so either keeps it. */
    struct lock vcpus_lock;
    struct kcore_vcpu *vcpus;
    unsigned vcpu_count; /* that were ever made: some settings are closed then; the slots lock's */
};

/* Return: 0; -EINVAL options; -ENOMEM, or -EAGAIN of a mutex. */
int kcore_init(struct kcore *core, const struct kcore_options *options);

/* All slots go (arch.slot_flush is not called: the tables have gone before). No vCPU is left. Waits for
 * what was retired to be freed: arch.slot_free is called from here, and not any more afterwards. */
void kcore_fini(struct kcore *core);

/*
 * Apply a list of changes, all or none: vCPUs see the slots before or the slots after.
 * @failed: out, may be NULL: the index of the change that could not be.
 * Context: takes the slots lock; waits for vCPUs to leave guest mode, so not from one that is in it. Where
 * changes come faster than liburcu's thread frees what they replace, also for a grace period: so not
 * from a read section.
 * Return: 0; on error nothing has changed. -EINVAL, -EEXIST, -ENOMEM as KVM_SET_USER_MEMORY_REGION
 * (ARCHITECTURE.md has the order in which they are looked for).
 */
int kcore_apply(struct kcore *core, const struct memslot_change *changes, size_t count,
                size_t *failed);

/*
 * Private slots: ids from MEMSLOT_USER_IDS on, which user changes cannot name, but which no user slot
 * may overlap. Their memory is the caller's. A list, all or none, since one is put into each address
 * space. size_bytes 0 deletes. Errors as kcore_apply().
 */
int kcore_apply_private(struct kcore *core, const struct memslot_change *changes, size_t count);

/* The present version. Context: a read section, or the slots lock. Never NULL. */
static inline const struct memslots *kcore_slots(const struct kcore *core, unsigned space)
{
    return rcu_load(&core->slots[space]);
}

/* Do logged slots have bitmaps? Context: the slots lock. */
static inline bool kcore_has_bitmaps(const struct kcore *core)
{
    return core->ring_entries == 0 || core->ring_with_bitmap;
}

/* The slot with an id and address space as in struct memslot_change; NULL: none. Borrowed until the lock
 * is dropped. Context: the slots lock. */
const struct memslot *kcore_slot_by_id(const struct kcore *core, uint32_t slot);

/* Followers are told of the slots that are there as created, and when they leave as removing.
 * Context: takes the slots lock. */
void kcore_follow(struct kcore *core, struct kcore_follower *follower);
void kcore_unfollow(struct kcore *core, struct kcore_follower *follower);

/*
 * Keep all vCPUs out of guest mode; holds nest and add up. Waits for those inside to reach an
 * instruction's boundary. Not from a vCPU that is in guest mode.
 */
void kcore_hold(struct kcore *core);
void kcore_release(struct kcore *core);

#ifdef GM_AUDIT_ON
/* Both trees and by_id agree, no overlap, counts right (I-13 to I-17). Takes the slots lock, unless the
 * caller has it. */
void kcore_audit(struct kcore *core);
/* Always where there are few slots, now and then where there are many. */
void kcore_audit_sometimes(struct kcore *core);
#endif

#endif
