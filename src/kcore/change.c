/* kcore/change.c - checking one change of a slot. */
#include "kcore/change.h"

#include <errno.h>

static bool is_page_aligned(uint64_t value)
{
    return (value & (PAGE_BYTES_4K - 1)) == 0;
}

/* Private memory is neither logged nor read-only: Linux takes neither flag beside it. */
static bool flags_are_valid(uint32_t flags)
{
    if ((flags & MEMSLOT_GUEST_MEMFD) != 0) {
        return flags == MEMSLOT_GUEST_MEMFD;
    }
    return (flags & ~(MEMSLOT_LOG | MEMSLOT_READONLY)) == 0;
}

static bool private_range_is_valid(const struct memslot_change *change)
{
    return (change->flags & MEMSLOT_GUEST_MEMFD) == 0 ||
           (is_page_aligned(change->private_hva) &&
            range_holds(0, CHANGE_HVA_END, change->private_hva, change->size_bytes));
}

static bool id_is_valid(const struct kcore *core, uint32_t slot, enum change_origin origin)
{
    uint32_t id = change_id(slot);

    if (change_space(slot) >= core->spaces) {
        return false;
    }
    return origin == CHANGE_BY_USER ? id < MEMSLOT_USER_IDS
                                    : id >= MEMSLOT_USER_IDS && id < MEMSLOT_IDS;
}

int change_check(const struct kcore *core, const struct memslot_change *change,
                 enum change_origin origin)
{
    if (!flags_are_valid(change->flags)) {
        return -EINVAL;
    }
    if (!is_page_aligned(change->size_bytes) || !is_page_aligned(change->gpa)) {
        return -EINVAL;
    }
    if (!is_page_aligned(change->hva) ||
        !range_holds(0, CHANGE_HVA_END, change->hva, change->size_bytes)) {
        return -EINVAL;
    }
    if (!private_range_is_valid(change) || !id_is_valid(core, change->slot, origin)) {
        return -EINVAL;
    }
    /* Linux compares the sum, so a slot that would end at 2^64 exactly wraps as well. */
    if (!range_holds(0, UINT64_MAX, change->gpa, change->size_bytes)) {
        return -EINVAL;
    }
    if (change->size_bytes >> PAGE_SHIFT_4K > MEMSLOT_PAGES_MAX) {
        return -EINVAL;
    }
    return 0;
}

int change_effect(const struct memslot *current, const struct memslot_change *change,
                  enum memslot_effect *effect)
{
    if (change->size_bytes == 0) {
        *effect = MEMSLOT_DELETE;
        return current != NULL ? 0 : -EINVAL;
    }
    if (current == NULL) {
        *effect = MEMSLOT_CREATE;
        return 0;
    }
    /* Slots with private memory can only be deleted; not even the same change is taken. */
    if (((current->flags | change->flags) & MEMSLOT_GUEST_MEMFD) != 0) {
        return -EINVAL;
    }
    if (current->hva.value != change->hva ||
        current->page_count != change->size_bytes >> PAGE_SHIFT_4K ||
        ((current->flags ^ change->flags) & MEMSLOT_READONLY) != 0) {
        return -EINVAL;
    }
    if (current->base.value != change->gpa >> PAGE_SHIFT_4K) {
        *effect = MEMSLOT_MOVE;
    } else {
        *effect = current->flags != change->flags ? MEMSLOT_FLAGS : MEMSLOT_SAME;
    }
    return 0;
}
