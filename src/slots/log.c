/* slots/log.c - from the hypervisor's dirty logs into the blocks' records. */
#include "base/log.h"
#include "ram/dirty.h"
#include "slots/slots.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define WORD_PAGES 64u
#define ALL_CLIENTS ((1u << GM_DIRTY_CLIENTS) - 1)

static uint64_t slot_page_count(const struct gm_slots *slots, const struct slot *slot)
{
    return slot->shown.size_bytes / slots->limits.page_bytes;
}

static uint64_t words_for(uint64_t page_count)
{
    return (page_count + WORD_PAGES - 1) / WORD_PAGES;
}

/* No guest can have written to memory that is not there, so no hypervisor has a log of it. */
static bool is_unbacked(const struct slot *slot)
{
    return slot->shown.hva == NULL;
}

/* Hypervisors keep no log of slots with a guest memfd. */
static bool has_log(const struct gm_slots *slots, const struct slot *slot)
{
    return slots->ops.log_fetch != NULL && (slot->shown.flags & GM_SLOT_GUEST_MEMFD) == 0;
}

int slots_reserve_log(struct gm_slots *slots, const struct slot *slot)
{
    uint64_t words = words_for(slot_page_count(slots, slot));
    uint64_t *bitmap;

    if (!has_log(slots, slot) || is_unbacked(slot) || words <= slots->bitmap_words) {
        return 0;
    }
    bitmap = mem_alloc(&slots->allocator, words * sizeof(*bitmap));
    if (bitmap == NULL) {
        return -ENOMEM;
    }
    mem_free(&slots->allocator, slots->bitmap);
    slots->bitmap = bitmap;
    slots->bitmap_words = words;
    return 0;
}

void slots_mark_all(const struct slot *slot, struct span span)
{
    struct span meet = span_meet(span, slot_span(slot));
    uint64_t skipped_bytes = (uint64_t)meet.start - slot->shown.gpa;

    gm_ram_dirty_mark(slot->ram, slot->ram_offset + skipped_bytes, (uint64_t)span_size(meet),
                      ALL_CLIENTS);
}

/* The record's pages are 4 KiB; those of the log may be larger. */
static void merge(const struct gm_slots *slots, const struct slot *slot)
{
    uint64_t page_bytes = slots->limits.page_bytes;
    uint64_t page_count = slot_page_count(slots, slot);

    if (page_bytes == GM_DIRTY_PAGE_BYTES) {
        ram_dirty_merge(slot->ram, slot->ram_offset, slots->bitmap, page_count, ALL_CLIENTS);
        return;
    }
    for (uint64_t page = 0; page < page_count; page++) {
        if ((slots->bitmap[page / WORD_PAGES] >> (page % WORD_PAGES) & 1) != 0) {
            gm_ram_dirty_mark(slot->ram, slot->ram_offset + page * page_bytes, page_bytes,
                              ALL_CLIENTS);
        }
    }
}

/*
 * All that was fetched is merged, also pages outside of @span: the hypervisor may have cleared
 * them.
 */
int slots_fetch_log(struct gm_slots *slots, const struct slot *slot, struct span span)
{
    struct span meet = span_meet(span, slot_span(slot));
    uint64_t page_bytes = slots->limits.page_bytes;
    uint64_t first_page = ((uint64_t)meet.start - slot->shown.gpa) / page_bytes;
    uint64_t page_count = (uint64_t)span_size(meet) / page_bytes;
    uint64_t words = words_for(slot_page_count(slots, slot));
    int rc;

    if (is_unbacked(slot)) {
        return 0;
    }
    if (!has_log(slots, slot)) {
        slots_mark_all(slot, meet); /* nobody knows: all of it may have been written */
        return 0;
    }
    memset(slots->bitmap, 0, words * sizeof(*slots->bitmap));
    rc = slots->ops.log_fetch(slots->opaque, &slot->shown, first_page, page_count, slots->bitmap);
    merge(slots, slot); /* also after a failure: what it has cleared by then is in the bitmap */
    return rc;
}

int slots_log_sync(void *opaque, const struct gm_section *section)
{
    struct gm_slots *slots = opaque;
    struct span span = {section->gpa, (pos_t)section->last + 1};
    struct slot *slot = slot_set_first_ending_after(&slots->set, span.start);
    int rc = 0;

    for (; slot != NULL && slot_span(slot).start < span.end; slot = slot->next) {
        struct span pages;
        int fetched;

        if ((slot->shown.flags & GM_SLOT_LOG) == 0) {
            continue;
        }
        pages = span_cover_pages(span_meet(span, slot_span(slot)), slots->limits.page_bytes);
        fetched = slots_fetch_log(slots, slot, pages);
        if (fetched != 0) {
            log_say(&slots->log, GM_LOG_WARNING,
                    "the dirty log of slot %" PRIu32 " at 0x%" PRIx64
                    " could not be read: %s; the sync fails, and can be called again",
                    slot->shown.number, slot->shown.gpa, strerror(-fetched));
            rc = -EIO;
        }
    }
    return rc;
}
