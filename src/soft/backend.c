/*
 * soft/backend.c - the table of slot operations over a software VM: a map's edits become its slots.
 *
 * Logs are cleared by hand (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), so that a harvest of a few pages
 * protects a few pages again, and not the whole slot's.
 */
#include "base/check.h"
#include "base/diag.h"
#include "kcore/dirtylog.h"
#include "soft/soft.h"

#include <errno.h>

#define WORD_PAGES 64u
/* KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE */
#define MANUAL_PROTECT 1u
/* The largest power of two of bytes that a slot may have. */
#define SLOT_SPAN_BYTES (UINT64_C(1) << 42)

_Static_assert(SLOT_SPAN_BYTES >> PAGE_SHIFT_4K <= MEMSLOT_PAGES_MAX, "kcore takes such a slot");
_Static_assert(GM_SLOT_LOG == MEMSLOT_LOG && GM_SLOT_READONLY == MEMSLOT_READONLY,
               "flags are handed to kcore as they are");

static int set_slot(struct gm_soft *soft, const struct gm_slot *slot, uint32_t flags,
                    uint64_t size_bytes)
{
    const struct memslot_change change = {
        .slot = slot->number,
        .flags = flags,
        .gpa = slot->gpa,
        .size_bytes = size_bytes,
        .hva = hva_of(slot->hva).value,
    };

    return kcore_apply(&soft->core, &change, 1, NULL);
}

static int slot_create(void *opaque, const struct gm_slot *slot)
{
    return set_slot(opaque, slot, slot->flags, slot->size_bytes);
}

static int slot_destroy(void *opaque, const struct gm_slot *slot)
{
    return set_slot(opaque, slot, 0, 0);
}

static int slot_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    return set_slot(opaque, slot, new_flags, slot->size_bytes);
}

static int hold(void *opaque)
{
    struct gm_soft *soft = opaque;

    kcore_hold(&soft->core);
    return 0;
}

static void release(void *opaque)
{
    struct gm_soft *soft = opaque;

    kcore_release(&soft->core);
}

/* With rings, what vCPUs write is not in the slots' logs, or not all of it. */
static bool has_rings(struct gm_soft *soft)
{
    bool has;

    lock_take(&soft->core.slots_lock);
    has = soft->core.ring_entries != 0;
    lock_drop(&soft->core.slots_lock);
    return has;
}

/*
 * All bits are given out; those in the words that hold the range are cleared. If clearing fails,
 * they are given out again.
 */
static int log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                     uint64_t page_count, uint64_t *bitmap)
{
    struct gm_soft *soft = opaque;
    uint64_t slot_pages = slot->size_bytes >> PAGE_SHIFT_4K;
    uint64_t first = align_down(first_page, WORD_PAGES);
    uint64_t words = (slot_pages + WORD_PAGES - 1) / WORD_PAGES;
    uint64_t clear_pages;
    int rc;

    GM_ASSERT(range_holds(0, slot_pages, first_page, page_count));
    if (has_rings(soft)) {
        return -ENXIO;
    }
    rc = kcore_log_get(&soft->core, slot->number, bitmap, words);
    if (rc != 0 || page_count == 0) {
        return rc;
    }
    clear_pages = align_down(first_page + page_count - first + WORD_PAGES - 1, WORD_PAGES);
    if (clear_pages > slot_pages - first) {
        clear_pages = slot_pages - first;
    }
    return kcore_log_clear(&soft->core, slot->number, first, clear_pages,
                           &bitmap[first / WORD_PAGES]);
}

int gm_soft_attach(struct gm_soft *soft, struct gm_space *space, uint32_t max_slots,
                   struct gm_slots **slots, struct gm_diag *diag)
{
    static const struct gm_backend_ops OPS = {
        .size = sizeof(OPS),
        .create = slot_create,
        .destroy = slot_destroy,
        .set_flags = slot_set_flags,
        .hold = hold,
        .release = release,
        .log_fetch = log_fetch,
    };
    const struct gm_backend_options options = {
        .size = sizeof(options),
        .allocator = &soft->allocator,
        .max_slots = max_slots != 0 && max_slots < MEMSLOT_USER_IDS ? max_slots : MEMSLOT_USER_IDS,
        .slot_span_bytes = SLOT_SPAN_BYTES,
        .page_bytes = PAGE_BYTES_4K,
        .needs_hva = true,
    };
    int rc;

    if (has_rings(soft)) {
        return diag_set(diag, -EINVAL, "a VM with dirty rings keeps no logs for a map to read");
    }
    rc = gm_slots_attach(space, &options, &OPS, soft, slots, diag);
    if (rc == 0) {
        rc = kcore_set_manual_protect(&soft->core, MANUAL_PROTECT);
        GM_ASSERT(rc == 0);
    }
    return rc;
}
