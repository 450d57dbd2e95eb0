/*
 * slots/rings.h - dirty rings in KVM's format: from each vCPU's ring into the blocks' records.
 *
 * A hypervisor with rings keeps no log of a slot. It pushes (slot, page) to the ring of the vCPU that
 * writes, and exits when the ring is nearly full. To harvest is to take the entries from the front, to
 * say so in their flags, to have the hypervisor reset them (from then on it notices the next write to
 * their pages), and to mark the pages in the records: in this order (docs/locking-dirty.md).
 *
 *   G-1  a ring is harvested only while its vCPU is out of guest mode: by the vCPU's own thread, or while
 *        all are held. So nothing that a processor buffers is missing, and what is full shows as full
 *   G-2  under `lock` every entry that is taken is reset and marked before the lock is dropped
 *   G-3  the slots that log are in the table before the hypervisor logs, and until it has stopped
 *
 * A ring that is full to the last entry may have lost some: the hypervisor exits long before, unless it
 * is one that runs on. From then on the VM is "lost": its rings are read no more, and every logged slot
 * counts as written as a whole whenever its log is fetched.
 *
 * Source: Linux api.rst, KVM_CAP_DIRTY_LOG_RING and KVM_CAP_DIRTY_LOG_RING_ACQ_REL.
 */
#ifndef SLOTS_RINGS_H
#define SLOTS_RINGS_H

#include "base/alloc.h"
#include "base/lock.h"

#include <guestmem/backend.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RINGS_SPACES 2u /* KVM's address spaces on x86: outside of SMM, and in it */

struct kvm_dirty_gfn;

/* One vCPU's ring; the vCPU's owner keeps it. */
struct dirty_ring {
    struct kvm_dirty_gfn *entries; /* shared with the hypervisor */
    uint32_t next; /* how many were reset so far, modulo 2^32: the next is the front */
    bool is_listed;
    bool is_placed;     /* or `next` is not known: the front is the first entry that is dirty */
    bool was_harvested; /* by others, since the vCPU's last exit for a full ring */
    struct dirty_ring *after;
};

/* What a slot number of one address space stands for, while it logs. */
struct rings_slot {
    struct gm_ram *ram; /* borrowed: the slot's region holds it */
    uint64_t ram_offset;
    uint64_t page_count; /* 0: no slot of this number logs */
};

struct dirty_rings {
    struct gm_allocator allocator;
    uint32_t entry_count; /* of each ring; a power of two; 0: there are no rings */
    /* Have the hypervisor take back the entries that are marked so: how many, or -errno. */
    int (*reset)(void *opaque);
    void *opaque;
    /* Told once that the VM is lost: in a commit or a sync, or on a vCPU's thread, under none of our locks. The owner sets it,
     * after rings_init(); all zero: nobody is told. */
    struct gm_log_hook log;

    struct lock lock; /* rank RINGS; protects the rest */
    struct rings_slot *slots[RINGS_SPACES];
    size_t slot_counts[RINGS_SPACES]; /* room in the tables */
    uint64_t *taken;                  /* room for one ring's entries */
    struct dirty_ring *all;
    bool is_lost;
    bool is_told;       /* ... and the hook knows */
    uint64_t harvested; /* entries */
    uint64_t strays;    /* ... that named no logged slot, or no page of it */
};

/*
 * @entry_count: a power of two, RINGS_ENTRIES_MIN or more.
 * Return: 0; -ENOMEM, or -errno of a mutex.
 */
#define RINGS_ENTRIES_MIN 64u
int rings_init(struct dirty_rings *rings, uint32_t entry_count,
               const struct gm_allocator *allocator, int (*reset)(void *opaque), void *opaque);
/* No ring is listed. Without rings_init() the structure is all zeros, and this does nothing. */
void rings_fini(struct dirty_rings *rings);

/*
 * A vCPU comes, of whose ring *@reset_count entries have been reset so far (NULL: not known; then none is
 * waiting for a reset); a vCPU goes: what is in its ring is harvested. Twice is once.
 * Context: the vCPU is out of guest mode.
 */
void rings_add(struct dirty_rings *rings, struct dirty_ring *ring, void *entries,
               const uint32_t *reset_count);
void rings_remove(struct dirty_rings *rings, struct dirty_ring *ring);

/*
 * Around the hypervisor's call that creates or destroys @slot, or changes its flags. G-3: a slot that logs is known before it is
 * created or begins to, and forgotten after it was destroyed or has ended. A number that was known once can be again
 * without memory. Nothing for a VM without rings.
 * @new_flags: GM_SLOT_*; 0: destroyed.
 * @rc:        what the call returned.
 * Return: 0; -ENOMEM, and then nothing is to be changed.
 */
int rings_before_change(struct dirty_rings *rings, unsigned space, const struct gm_slot *slot,
                        uint32_t new_flags);
void rings_after_change(struct dirty_rings *rings, unsigned space, const struct gm_slot *slot,
                        uint32_t new_flags, int rc);

/*
 * The backend's log_fetch: all rings into the records; if the VM is lost, into @bitmap all of the slot.
 * Context: all vCPUs are held out of guest mode, and what they had buffered is in the rings.
 */
void rings_fetch(struct dirty_rings *rings, const struct gm_slot *slot, uint64_t *bitmap);

/*
 * A vCPU has come out because its ring is full.
 * Context: the vCPU's thread.
 * Return: false: there is nothing in it that the hypervisor takes back, so the vCPU cannot go on.
 */
GM_MUST_CHECK bool rings_full(struct dirty_rings *rings, struct dirty_ring *ring);

/* Are its logs only "all of it", from now on? */
bool rings_are_lost(struct dirty_rings *rings);

#endif
