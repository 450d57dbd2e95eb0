/* slots/rings.c - harvesting dirty rings. The numbers of comments are those of rings.h. */
#include "slots/rings.h"

#include "base/addr.h"
#include "base/check.h"
#include "base/log.h"

#include <guestmem/ram.h>
#include <guestmem/region.h>

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#define ALL_CLIENTS ((1u << GM_DIRTY_CLIENTS) - 1)
#define WORD_PAGES 64u
#define FIRST_SLOTS 16u
/* Of a lost VM's ring that is full, this part is given back: no hypervisor says "full" with less. */
#define GIVE_BACK_PART 16u

/* An entry that was taken: address space and slot above, the page below. No slot has 2^32 pages. */
#define SLOT_SHIFT 32u
#define PAGE_NONE UINT32_MAX

int rings_init(struct dirty_rings *rings, uint32_t entry_count,
               const struct gm_allocator *allocator, int (*reset)(void *opaque), void *opaque)
{
    int rc;

    GM_ASSERT(is_power_of_two(entry_count) && entry_count >= RINGS_ENTRIES_MIN);
    memset(rings, 0, sizeof(*rings));
    rings->taken = mem_alloc(allocator, entry_count * sizeof(*rings->taken));
    if (rings->taken == NULL) {
        return -ENOMEM;
    }
    rc = lock_init(&rings->lock, LOCK_RANK_RINGS);
    if (rc != 0) {
        mem_free(allocator, rings->taken);
        return rc;
    }
    rings->allocator = *allocator;
    rings->entry_count = entry_count;
    rings->reset = reset;
    rings->opaque = opaque;
    return 0;
}

void rings_fini(struct dirty_rings *rings)
{
    if (rings->entry_count == 0) {
        return;
    }
    GM_ASSERT(rings->all == NULL);
    for (unsigned space = 0; space < RINGS_SPACES; space++) {
        mem_free(&rings->allocator, rings->slots[space]);
    }
    mem_free(&rings->allocator, rings->taken);
    lock_fini(&rings->lock);
    rings->entry_count = 0;
}

static struct kvm_dirty_gfn *entry_at(const struct dirty_rings *rings,
                                      const struct dirty_ring *ring, uint32_t position)
{
    return &ring->entries[position & (rings->entry_count - 1)];
}

/* Acquire; pairs with the hypervisor's release: who sees the flag sees slot and page. */
static bool is_dirty(const struct kvm_dirty_gfn *entry)
{
    return (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY) != 0;
}

/* Find the front of a ring that somebody has used before: dirty entries follow each other from there on. */
static void place(const struct dirty_rings *rings, struct dirty_ring *ring)
{
    for (uint32_t i = 0; i < rings->entry_count && !ring->is_placed; i++) {
        if (is_dirty(entry_at(rings, ring, i)) && !is_dirty(entry_at(rings, ring, i - 1))) {
            ring->next = i;
            ring->is_placed = true;
        }
    }
}

/*
 * Take the entries from the front, as far as they are dirty. Of KVM_CAP_DIRTY_LOG_RING and its
 * acquire-release kind only the latter is on processors whose order is weak, so this is right for both:
 * on x86 an acquire and a release are plain moves.
 * Return: how many.
 */
static uint32_t take(struct dirty_rings *rings, struct dirty_ring *ring)
{
    uint32_t count = 0;

    place(rings, ring);
    while (count < rings->entry_count) {
        struct kvm_dirty_gfn *entry = entry_at(rings, ring, ring->next + count);
        uint64_t page;

        if (!is_dirty(entry)) {
            break;
        }
        page = entry->offset;
        rings->taken[count] =
            (uint64_t)entry->slot << SLOT_SHIFT | (page < PAGE_NONE ? page : PAGE_NONE);
        /* Release; pairs with the hypervisor's acquire in the reset: the entry has been read. */
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        count++;
    }
    return count;
}

/* The logged slot that an entry names, or NULL. Slot numbers have their address space in the upper half. */
static const struct rings_slot *slot_of(const struct dirty_rings *rings, uint32_t slot)
{
    unsigned space = slot >> 16;
    size_t number = slot & 0xffffu;

    if (space >= RINGS_SPACES || number >= rings->slot_counts[space]) {
        return NULL;
    }
    return &rings->slots[space][number];
}

/* Mark what was taken; pages that follow each other together. */
static void mark(struct dirty_rings *rings, uint32_t count)
{
    uint32_t i = 0;

    while (i < count) {
        uint64_t first = rings->taken[i];
        const struct rings_slot *slot = slot_of(rings, (uint32_t)(first >> SLOT_SHIFT));
        uint64_t page = (uint32_t)first;
        uint32_t run = 1;

        /* Past PAGE_NONE the sum is of the next slot. */
        while (i + run < count && page + run < PAGE_NONE && rings->taken[i + run] == first + run) {
            run++;
        }
        if (slot != NULL && range_holds(0, slot->page_count, page, run)) {
            gm_ram_dirty_mark(slot->ram, slot->ram_offset + (page << PAGE_SHIFT_4K),
                              (uint64_t)run << PAGE_SHIFT_4K, ALL_CLIENTS);
        } else if (slot != NULL && page < slot->page_count) {
            run = 1; /* it leads beyond the slot: page by page */
            gm_ram_dirty_mark(slot->ram, slot->ram_offset + (page << PAGE_SHIFT_4K),
                              GM_DIRTY_PAGE_BYTES, ALL_CLIENTS);
        } else {
            rings->strays += run;
        }
        i += run;
    }
}

/*
 * Take, reset, mark. The pages are marked last: what another vCPU writes through the page's open
 * translation until the reset is no new entry, so a mark before it could be harvested too early.
 * Return: how many entries.
 */
static uint32_t harvest(struct dirty_rings *rings, struct dirty_ring *ring)
{
    uint32_t count = take(rings, ring);
    int reset;

    if (count == 0) {
        return 0;
    }
    reset = rings->reset(rings->opaque);
    ring->next += reset > 0 ? (uint32_t)reset : 0;
    /* Full to the last entry: some may have been overwritten. Not all reset: their pages stay open, and
     * further writes to them are not noticed. */
    rings->is_lost = rings->is_lost || count == rings->entry_count || reset != (int)count;
    mark(rings, count);
    rings->harvested += count;
    return count;
}

void rings_add(struct dirty_rings *rings, struct dirty_ring *ring, void *entries,
               const uint32_t *reset_count)
{
    lock_take(&rings->lock);
    if (!ring->is_listed) {
        *ring = (struct dirty_ring){
            .entries = entries,
            .next = reset_count != NULL ? *reset_count : 0,
            .is_placed = reset_count != NULL,
            .is_listed = true,
            .after = rings->all,
        };
        rings->all = ring;
    }
    lock_drop(&rings->lock);
}

void rings_remove(struct dirty_rings *rings, struct dirty_ring *ring)
{
    struct dirty_ring **link = &rings->all;

    if (rings->entry_count == 0) {
        return;
    }
    lock_take(&rings->lock);
    if (ring->is_listed) {
        if (!rings->is_lost) {
            harvest(rings, ring);
        }
        while (*link != ring) {
            link = &(*link)->after;
        }
        *link = ring->after;
        ring->is_listed = false;
    }
    lock_drop(&rings->lock);
}

/* Room for @number in a table. Under the lock. */
static int reserve_slot(struct dirty_rings *rings, unsigned space, uint32_t number)
{
    size_t before = rings->slot_counts[space];
    size_t count = before != 0 ? before : FIRST_SLOTS;
    struct rings_slot *slots;

    if (number < before) {
        return 0;
    }
    while (count <= number) {
        count *= 2;
    }
    slots = mem_zalloc(&rings->allocator, count * sizeof(*slots));
    if (slots == NULL) {
        return -ENOMEM;
    }
    if (before != 0) {
        memcpy(slots, rings->slots[space], before * sizeof(*slots));
    }
    mem_free(&rings->allocator, rings->slots[space]);
    rings->slots[space] = slots;
    rings->slot_counts[space] = count;
    return 0;
}

static int know_slot(struct dirty_rings *rings, unsigned space, const struct gm_slot *slot)
{
    int rc;

    lock_take(&rings->lock);
    rc = reserve_slot(rings, space, slot->number);
    if (rc == 0) {
        rings->slots[space][slot->number] = (struct rings_slot){
            .ram = gm_region_ram(slot->region),
            .ram_offset = gm_region_ram_offset(slot->region) + slot->offset,
            .page_count = slot->size_bytes >> PAGE_SHIFT_4K,
        };
    }
    lock_drop(&rings->lock);
    return rc;
}

static void forget_slot(struct dirty_rings *rings, unsigned space, uint32_t number)
{
    lock_take(&rings->lock);
    if (number < rings->slot_counts[space]) {
        rings->slots[space][number].page_count = 0;
    }
    lock_drop(&rings->lock);
}

int rings_before_change(struct dirty_rings *rings, unsigned space, const struct gm_slot *slot,
                        uint32_t new_flags)
{
    bool has_log = (new_flags & GM_SLOT_LOG) != 0;

    return has_log && rings->entry_count != 0 ? know_slot(rings, space, slot) : 0;
}

void rings_after_change(struct dirty_rings *rings, unsigned space, const struct gm_slot *slot,
                        uint32_t new_flags, int rc)
{
    uint32_t present_flags = rc == 0 ? new_flags : slot->flags;

    if (rings->entry_count != 0 && (present_flags & GM_SLOT_LOG) == 0) {
        forget_slot(rings, space, slot->number);
    }
}

/* Drop the lock; that the VM is lost is said then. */
static void drop_and_tell(struct dirty_rings *rings)
{
    bool is_news = rings->is_lost && !rings->is_told;

    rings->is_told = rings->is_lost;
    lock_drop(&rings->lock);
    if (is_news) {
        log_say(
            &rings->log, GM_LOG_WARNING,
            "a dirty ring of %u entries overflowed, or was not taken back as it was given: from "
            "now on each sync finds all logged memory written",
            rings->entry_count);
    }
}

void rings_fetch(struct dirty_rings *rings, const struct gm_slot *slot, uint64_t *bitmap)
{
    uint64_t pages = slot->size_bytes >> PAGE_SHIFT_4K;

    lock_take(&rings->lock);
    for (struct dirty_ring *ring = rings->all; ring != NULL && !rings->is_lost;
         ring = ring->after) {
        ring->was_harvested = harvest(rings, ring) != 0 || ring->was_harvested;
    }
    if (rings->is_lost) {
        memset(bitmap, 0xff, (pages + WORD_PAGES - 1) / WORD_PAGES * sizeof(*bitmap));
    }
    drop_and_tell(rings);
}

/*
 * Make room in a lost VM's ring, whatever is in it. The hypervisor counts at least so many entries as
 * used, or it would not say "full": its count of what was reset never overtakes what was pushed.
 */
static bool give_back(struct dirty_rings *rings, struct dirty_ring *ring)
{
    int reset;

    for (uint32_t i = 0; i < rings->entry_count / GIVE_BACK_PART; i++) {
        __atomic_store_n(&entry_at(rings, ring, ring->next + i)->flags, KVM_DIRTY_GFN_F_RESET,
                         __ATOMIC_RELEASE); /* as in take() */
    }
    reset = rings->reset(rings->opaque);
    ring->next += reset > 0 ? (uint32_t)reset : 0;
    return reset > 0;
}

bool rings_full(struct dirty_rings *rings, struct dirty_ring *ring)
{
    bool can_go_on;

    lock_take(&rings->lock);
    if (rings->is_lost) {
        can_go_on = give_back(rings, ring);
    } else {
        can_go_on = harvest(rings, ring) != 0 || ring->was_harvested;
        ring->was_harvested = false;
    }
    drop_and_tell(rings);
    return can_go_on;
}

bool rings_are_lost(struct dirty_rings *rings)
{
    bool is_lost;

    lock_take(&rings->lock);
    is_lost = rings->is_lost;
    lock_drop(&rings->lock);
    return is_lost;
}
