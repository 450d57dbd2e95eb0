/*
 * kcore/ring.c - a vCPU's dirty ring, and taking back what users have harvested.
 *
 * The user maps the entries, and may write anything into any of them at any time. Nothing here depends on what
 * they say: the positions are our own, an entry is read once, and what it names is checked. An entry
 * goes through these states, by its flags:
 *
 *   0 --push--> DIRTY --the user--> RESET (the DIRTY bit may stay) --reset--> 0
 */
#include "kcore/ring.h"

#include "kcore/change.h"
#include "kcore/vcpu.h"

#include <errno.h>
#include <limits.h>
#include <linux/kvm.h>
#include <sys/mman.h>

#define MASK_PAGES 64u

int ring_init(struct ring *ring, uint32_t entry_count)
{
    size_t size_bytes = (size_t)entry_count * sizeof(*ring->entries);
    void *entries;

    ring->entries = NULL;
    ring->entry_count = entry_count;
    atomic_init(&ring->dirty, 0);
    atomic_init(&ring->reset, 0);
    if (entry_count == 0) {
        return 0;
    }
    entries = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (entries == MAP_FAILED) {
        return -ENOMEM;
    }
    ring->entries = entries;
    return 0;
}

void ring_fini(struct ring *ring)
{
    if (ring->entries != NULL) {
        munmap(ring->entries, (size_t)ring->entry_count * sizeof(*ring->entries));
        ring->entries = NULL;
    }
}

/* Acquire; pairs with the release in take_entry(): an entry that was taken back is read no more. */
static uint32_t used_count(const struct ring *ring)
{
    return atomic_load_explicit(&ring->dirty, memory_order_relaxed) -
           atomic_load_explicit(&ring->reset, memory_order_acquire);
}

bool ring_is_soft_full(const struct ring *ring)
{
    return ring->entries != NULL && used_count(ring) >= ring->entry_count - RING_RESERVED_ENTRIES;
}

bool ring_has_room(const struct ring *ring, uint32_t count)
{
    return ring->entries == NULL || ring->entry_count - used_count(ring) >= count;
}

bool ring_push(struct ring *ring, uint32_t slot, uint64_t page)
{
    uint32_t dirty = atomic_load_explicit(&ring->dirty, memory_order_relaxed);
    struct kvm_dirty_gfn *entry = &ring->entries[dirty & (ring->entry_count - 1)];

    if (used_count(ring) >= ring->entry_count) {
        return false;
    }
    __atomic_store_n(&entry->slot, slot, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->offset, page, __ATOMIC_RELAXED);
    /* The position first, so that a reset after the user has seen the flag counts the entry; pairs with the
     * acquire in reset_ring(). */
    atomic_store_explicit(&ring->dirty, dirty + 1, memory_order_release);
    /* Pairs with the user's acquire: who sees the flag sees slot and page. */
    __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
    return true;
}

int kcore_enable_rings(struct kcore *core, uint64_t size_bytes)
{
    const uint64_t entry_bytes = sizeof(struct kvm_dirty_gfn);
    int rc = 0;

    if (!is_power_of_two(size_bytes) || size_bytes < RING_RESERVED_ENTRIES * entry_bytes ||
        size_bytes < PAGE_BYTES_4K) {
        return -EINVAL;
    }
    if (size_bytes > RING_ENTRIES_MAX * entry_bytes) {
        return -E2BIG;
    }
    lock_take(&core->slots_lock);
    if (core->ring_entries != 0 || core->vcpu_count != 0) {
        rc = -EINVAL;
    } else {
        core->ring_entries = (uint32_t)(size_bytes / entry_bytes);
    }
    lock_drop(&core->slots_lock);
    return rc;
}

int kcore_enable_ring_bitmap(struct kcore *core)
{
    uint32_t count = 0;
    int rc = 0;

    lock_take(&core->slots_lock);
    for (unsigned i = 0; i < core->spaces; i++) {
        count += kcore_slots(core, i)->count;
    }
    if (core->ring_entries == 0 || count != 0) {
        rc = -EINVAL;
    } else {
        core->ring_with_bitmap = true;
    }
    lock_drop(&core->slots_lock);
    return rc;
}

/* Pages of one slot, near each other, that are to be protected together. */
struct batch {
    uint32_t slot;
    uint64_t first_page;
    uint64_t mask; /* bit 0 is first_page; 0: nothing yet */
};

/* Protect what a batch names, as far as it exists. */
static void protect(struct kcore *core, const struct batch *batch)
{
    const struct memslot *slot;
    uint64_t mask = batch->mask;
    uint64_t rest;

    if (mask == 0 || change_id(batch->slot) >= MEMSLOT_USER_IDS) {
        return;
    }
    slot = kcore_slot_by_id(core, batch->slot);
    if (slot == NULL || (slot->flags & MEMSLOT_LOG) == 0 || batch->first_page >= slot->page_count) {
        return;
    }
    rest = slot->page_count - batch->first_page;
    if (rest < MASK_PAGES) {
        mask &= (UINT64_C(1) << rest) - 1;
    }
    if (mask != 0) {
        core->arch_ops->log_begin(core->arch);
        core->arch_ops->log_protect(core->arch, slot, batch->first_page, mask);
        core->arch_ops->log_end(core->arch);
    }
}

/* Does a page fit into the batch, going forwards or backwards from its first? Then it is in. Pages are any
 * number at all: differences are of unsigned numbers, and small ones only count. */
static bool batch_add(struct batch *batch, uint32_t slot, uint64_t page)
{
    uint64_t ahead = page - batch->first_page;
    uint64_t behind = batch->first_page - page;

    if (batch->mask == 0 || slot != batch->slot) {
        return false;
    }
    if (ahead < MASK_PAGES && page >= batch->first_page) {
        batch->mask |= UINT64_C(1) << ahead;
        return true;
    }
    if (behind < MASK_PAGES && page < batch->first_page &&
        batch->mask << behind >> behind == batch->mask) {
        batch->first_page = page;
        batch->mask = batch->mask << behind | 1;
        return true;
    }
    return false;
}

/* Take back the entry at @position, if the user has marked it. */
static bool take_entry(struct ring *ring, uint32_t position, uint32_t *slot, uint64_t *page)
{
    struct kvm_dirty_gfn *entry = &ring->entries[position & (ring->entry_count - 1)];

    /* Acquire; pairs with the user's release: it has read the entry. */
    if ((__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_RESET) == 0) {
        return false;
    }
    *slot = __atomic_load_n(&entry->slot, __ATOMIC_RELAXED);
    *page = __atomic_load_n(&entry->offset, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->flags, 0, __ATOMIC_RELEASE);
    /* Release; pairs with the acquire in used_count(). */
    atomic_store_explicit(&ring->reset, position + 1, memory_order_release);
    return true;
}

/* Ends with the entries that were pushed when it began, however fast a user marks more. */
static uint32_t reset_ring(struct kcore *core, struct ring *ring)
{
    uint32_t begin = atomic_load_explicit(&ring->reset, memory_order_relaxed);
    /* Acquire; pairs with the release in ring_push(). */
    uint32_t end = atomic_load_explicit(&ring->dirty, memory_order_acquire);
    uint32_t position = begin;
    struct batch batch = {0, 0, 0};
    uint32_t slot = 0;
    uint64_t page = 0;

    for (; position != end && take_entry(ring, position, &slot, &page); position++) {
        if (!batch_add(&batch, slot, page)) {
            protect(core, &batch);
            batch = (struct batch){slot, page, 1};
        }
    }
    protect(core, &batch);
    return position - begin;
}

int kcore_reset_rings(struct kcore *core)
{
    uint64_t count = 0;

    lock_take(&core->slots_lock);
    if (core->ring_entries == 0) {
        lock_drop(&core->slots_lock);
        return -EINVAL;
    }
    for (struct kcore_vcpu *vcpu = core->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        count += reset_ring(core, &vcpu->ring);
    }
    if (count != 0) {
        core->arch_ops->tlb_flush(core->arch);
    }
    lock_drop(&core->slots_lock);
    return count <= INT_MAX ? (int)count : INT_MAX;
}
