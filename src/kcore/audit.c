/* kcore/audit.c - the slots, their trees and numbers, checked as a whole. */
#include "kcore/kcore.h"

#include "base/check.h"
#include "kcore/attributes.h"
#include "kcore/change.h"
#include "kcore/dirtylog.h"
#include "kcore/index.h"

#ifdef GM_AUDIT_ON

/* A version with so many slots is audited every so many changes, so that tests with many end. */
#define SLOTS_PER_AUDIT 64

struct audit {
    struct kcore *core;
    unsigned space;
    uint64_t previous_last;
    bool has_previous;
    uint32_t count;
    uint64_t hva_count;
};

static void audit_log(const struct kcore *core, const struct memslot *slot)
{
    bool is_logged = (slot->flags & MEMSLOT_LOG) != 0;
    uint64_t tail_bits = slot->page_count % 64;

    if (slot->log == NULL) {
        GM_ASSERT(!is_logged || !kcore_has_bitmaps(core));
        return;
    }
    GM_ASSERT(is_logged && (slot->owns & MEMSLOT_OWNS_LOG) != 0);
    GM_ASSERT(slot->log->page_count == slot->page_count);
    GM_ASSERT(tail_bits == 0 ||
              dirtylog_word(slot->log, slot->log->word_count - 1) >> tail_bits == 0);
}

static void audit_by_gfn(void *opaque, const struct index_entry *entry)
{
    struct audit *audit = opaque;
    const struct memslot *slot = entry->value;

    GM_ASSERT(slot == audit->core->by_id[audit->space][slot->id]);
    GM_ASSERT(slot->space == audit->space && slot->id == entry->id);
    GM_ASSERT((slot->flags & MEMSLOT_INVALID) == 0 && slot->page_count > 0);
    GM_ASSERT((slot->owns & MEMSLOT_OWNS_ARCH) != 0);
    GM_ASSERT(entry->first == slot->base.value &&
              entry->last == slot->base.value + (slot->page_count - 1));
    GM_ASSERT(!audit->has_previous || audit->previous_last < entry->first);
    GM_ASSERT(memslots_find(kcore_slots(audit->core, audit->space), (struct gfn){entry->last}) ==
              slot);
    audit_log(audit->core, slot);
    audit->previous_last = entry->last;
    audit->has_previous = true;
    audit->count++;
    audit->hva_count += (slot->flags & MEMSLOT_GUEST_MEMFD) != 0 ? 2 : 1;
}

static void audit_by_hva(void *opaque, const struct index_entry *entry)
{
    const struct audit *audit = opaque;
    const struct memslot *slot = entry->value;
    struct hva hva = slot->hva;

    if ((entry->id & MEMSLOTS_PRIVATE_ID) != 0) {
        hva = slot->private_hva;
        GM_ASSERT((slot->flags & MEMSLOT_GUEST_MEMFD) != 0);
    }
    GM_ASSERT(slot == audit->core->by_id[audit->space][slot->id]);
    GM_ASSERT((entry->id & ~MEMSLOTS_PRIVATE_ID) == slot->id && entry->first == hva.value);
    GM_ASSERT(entry->last == hva_last(hva, slot->page_count << PAGE_SHIFT_4K));
}

static void audit_space(struct kcore *core, unsigned space)
{
    const struct memslots *slots = kcore_slots(core, space);
    struct audit audit = {.core = core, .space = space};

    GM_ASSERT(slots->invalid_count == 0 && slots->generation <= core->generation);
    GM_ASSERT(slots->count == index_audit(slots->by_gfn));
    index_visit(slots->by_gfn, 0, UINT64_MAX, audit_by_gfn, &audit);
    GM_ASSERT(audit.count == slots->count);
    GM_ASSERT(audit.hva_count == index_audit(slots->by_hva));
    index_visit(slots->by_hva, 0, UINT64_MAX, audit_by_hva, &audit);
}

static void audit_ids(struct kcore *core, unsigned space)
{
    uint32_t ids = 0;

    for (uint32_t id = 0; id < MEMSLOT_IDS; id++) {
        ids += core->by_id[space][id] != NULL ? 1 : 0;
    }
    GM_ASSERT(ids == kcore_slots(core, space)->count);
}

void kcore_audit(struct kcore *core)
{
    bool is_mine = lock_is_mine(&core->slots_lock);

    if (!is_mine) {
        lock_take(&core->slots_lock);
    }
    for (unsigned i = 0; i < core->spaces; i++) {
        audit_space(core, i);
        audit_ids(core, i);
    }
    attributes_audit(core);
    if (!is_mine) {
        lock_drop(&core->slots_lock);
    }
}

void kcore_audit_sometimes(struct kcore *core)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < core->spaces; i++) {
        count += kcore_slots(core, i)->count;
    }
    if (core->generation % (1 + count / SLOTS_PER_AUDIT) == 0) {
        for (unsigned i = 0; i < core->spaces; i++) {
            audit_space(core, i);
        }
    }
}

#else
/* A file may not be empty. */
extern const int kcore_audit_is_off;
const int kcore_audit_is_off = 1;
#endif
