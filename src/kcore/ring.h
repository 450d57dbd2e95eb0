/*
 * kcore/ring.h - a vCPU's dirty ring: struct kvm_dirty_gfn entries in memory that the user maps.
 *
 * The vCPU pushes at `dirty`, the user takes in order and sets RESET, a reset takes those back from
 * `reset` on and protects their pages again. The ring is soft-full when only what one instruction and
 * a full log buffer may need is left: the vCPU then exits before it runs on.
 *
 * Source: Linux api.rst, KVM_CAP_DIRTY_LOG_RING; <linux/kvm.h>.
 */
#ifndef KCORE_RING_H
#define KCORE_RING_H

#include "kcore/kcore.h"

struct kvm_dirty_gfn;

/* Entries that are kept free at soft-full: one log buffer of 512, and a page for each of the accesses
 * that one instruction can make. */
#define RING_RESERVED_ENTRIES 576u
#define RING_ENTRIES_MAX 65536u

struct ring {
    struct kvm_dirty_gfn *entries; /* NULL: the VM has no rings */
    uint32_t entry_count;          /* a power of two */
    atomic_uint dirty;             /* pushed so far, modulo 2^32; the vCPU's, or under hold */
    atomic_uint reset;             /* reset so far; under the slots lock */
};

/* Page-aligned zeroed entries by a shared mmap, which fork shares and mremap can map twice. None where
 * @entry_count is 0. Return: 0; -ENOMEM. */
int ring_init(struct ring *ring, uint32_t entry_count);
void ring_fini(struct ring *ring);

bool ring_is_soft_full(const struct ring *ring);

/* Is there room for so many more? True without a ring. Context: the vCPU's thread. */
bool ring_has_room(const struct ring *ring, uint32_t count);

/* Context: the vCPU's thread, or with vCPUs held. There is room where who runs on checks soft-full.
 * Return: false: there is none, and nothing was pushed. */
bool ring_push(struct ring *ring, uint32_t slot, uint64_t page);

/*
 * KVM_CAP_DIRTY_LOG_RING(_ACQ_REL): @size_bytes of each vCPU's ring.
 * Return: 0; -EINVAL 0, no power of two, less than the reserve, set before, or a vCPU exists; -E2BIG.
 */
int kcore_enable_rings(struct kcore *core, uint64_t size_bytes);

/* KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP. Return: 0; -EINVAL no rings, or there is a slot already. */
int kcore_enable_ring_bitmap(struct kcore *core);

/*
 * KVM_RESET_DIRTY_RINGS: take back what users have marked RESET, protect those pages again, flush.
 * What users wrote into entries is checked: a slot or page that is not there is passed over.
 * Return: how many entries; -EINVAL the VM has no rings.
 */
int kcore_reset_rings(struct kcore *core);

#endif
