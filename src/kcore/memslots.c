/* kcore/memslots.c - looking things up in one version of an address space's slots. */
#include "kcore/memslots.h"

#include "kcore/index.h"

#include <stddef.h>

/* What the version says of a slot of its trees: in the invalid step, maybe its invalid copy. */
static const struct memslot *resolve(const struct memslots *slots, const struct memslot *slot)
{
    uint32_t low = 0;
    uint32_t high = slots->invalid_count;

    if (slot == NULL) {
        return NULL;
    }
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (slots->invalid[middle].id < slot->id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < slots->invalid_count && slots->invalid[low].id == slot->id ? &slots->invalid[low]
                                                                            : slot;
}

const struct memslot *memslots_find(const struct memslots *slots, struct gfn gfn)
{
    const struct memslot *slot = index_find(slots->by_gfn, gfn.value);

    return slots->invalid_count == 0 ? slot : resolve(slots, slot);
}

const struct memslot *memslots_next(const struct memslots *slots, struct gfn gfn)
{
    struct index_entry entry;

    return index_ceiling(slots->by_gfn, gfn.value, &entry) ? resolve(slots, entry.value) : NULL;
}

struct hva_visit {
    const struct memslots *slots;
    uint64_t first;
    uint64_t last;
    memslots_visit_fn *visit;
    void *opaque;
};

static void visit_entry(void *opaque, const struct index_entry *entry)
{
    const struct hva_visit *walk = opaque;
    const struct memslot *slot = resolve(walk->slots, entry->value);
    uint64_t first = walk->first > entry->first ? walk->first : entry->first;
    uint64_t last = walk->last < entry->last ? walk->last : entry->last;
    uint64_t first_page = (first - entry->first) >> PAGE_SHIFT_4K;
    uint64_t last_page = (last - entry->first) >> PAGE_SHIFT_4K;

    walk->visit(walk->opaque, slot, (struct gfn){slot->base.value + first_page},
                last_page - first_page + 1);
}

void memslots_visit_hva(const struct memslots *slots, struct hva hva, uint64_t size_bytes,
                        memslots_visit_fn *visit, void *opaque)
{
    struct hva_visit walk = {slots, hva.value, 0, visit, opaque};

    if (size_bytes != 0) {
        walk.last = hva_last(hva, size_bytes);
        index_visit(slots->by_hva, walk.first, walk.last, visit_entry, &walk);
    }
}
