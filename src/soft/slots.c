/* soft/slots.c - changing slots by lists, and looking them up by guest and by host address. */
#include "base/alloc.h"
#include "soft/soft.h"

#include <errno.h>

/* Lists up to this long take no memory. */
#define CHANGES_ON_STACK 8u

struct gm_soft_slot soft_slot_of(const struct memslot *slot)
{
    return (struct gm_soft_slot){
        .slot = slot->id | (uint32_t)slot->space << 16,
        .flags = slot->flags & (MEMSLOT_LOG | MEMSLOT_READONLY | MEMSLOT_GUEST_MEMFD),
        .gpa = gpa_of_gfn(slot->base),
        .size_bytes = slot->page_count << PAGE_SHIFT_4K,
        .hva = slot->hva.value,
    };
}

static struct memslot_change change_of(const struct gm_soft_slot *slot)
{
    /* A slot with private memory takes a guest memfd, which only the ioctl can name. */
    bool is_unknown = (slot->flags & MEMSLOT_GUEST_MEMFD) != 0;

    return (struct memslot_change){
        .slot = slot->slot,
        .flags = is_unknown ? SOFT_FLAG_UNKNOWN : slot->flags,
        .gpa = slot->gpa,
        .size_bytes = slot->size_bytes,
        .hva = slot->hva,
    };
}

int gm_soft_set_slots(struct gm_soft *soft, const struct gm_soft_slot *slots, size_t count,
                      size_t *failed)
{
    struct memslot_change few[CHANGES_ON_STACK];
    struct memslot_change *changes = few;
    int rc;

    if (soft_is_copy(soft)) {
        return -EIO;
    }
    if (count == 0) {
        return 0;
    }
    if (count > CHANGES_ON_STACK) {
        changes = count <= SIZE_MAX / sizeof(*changes)
                      ? mem_alloc(&soft->allocator, count * sizeof(*changes))
                      : NULL;
        if (changes == NULL) {
            if (failed != NULL) {
                *failed = 0;
            }
            return -ENOMEM;
        }
    }
    for (size_t i = 0; i < count; i++) {
        changes[i] = change_of(&slots[i]);
    }
    rc = kcore_apply(&soft->core, changes, count, failed);
    if (changes != few) {
        mem_free(&soft->allocator, changes);
    }
    return rc;
}

/* ---- lookup ---- */

static bool is_valid(const struct memslot *slot)
{
    return (slot->flags & MEMSLOT_INVALID) == 0;
}

bool gm_soft_find(struct gm_soft *soft, unsigned space, gm_gpa_t gpa, struct gm_soft_slot *found)
{
    const struct memslot *slot;
    bool is_found;

    if (space >= KCORE_SPACES) {
        return false;
    }
    rcu_enter();
    slot = memslots_find(kcore_slots(&soft->core, space), gfn_of(gpa));
    is_found = slot != NULL && is_valid(slot);
    if (is_found) {
        *found = soft_slot_of(slot);
    }
    rcu_leave();
    return is_found;
}

struct by_hva {
    bool is_found;
    uint64_t
        frame; /* the lowest: slots come in no order, and an answer should not depend on that */
};

static void visit_hva(void *opaque, const struct memslot *slot, struct gfn first,
                      uint64_t page_count)
{
    struct by_hva *by_hva = opaque;

    (void)page_count;
    if (is_valid(slot) && (!by_hva->is_found || first.value < by_hva->frame)) {
        by_hva->is_found = true;
        by_hva->frame = first.value;
    }
}

bool gm_soft_find_hva(struct gm_soft *soft, unsigned space, gm_hva_t hva, gm_gpa_t *gpa)
{
    struct by_hva by_hva = {0};

    if (space >= KCORE_SPACES) {
        return false;
    }
    rcu_enter();
    memslots_visit_hva(kcore_slots(&soft->core, space), (struct hva){hva}, 1, visit_hva, &by_hva);
    rcu_leave();
    if (by_hva.is_found) {
        *gpa = gpa_of_gfn((struct gfn){by_hva.frame}) | (hva & (PAGE_BYTES_4K - 1));
    }
    return by_hva.is_found;
}
