/* mmu/ahead.c - making host pages present ahead of faults. */
#include "mmu/ahead.h"

#include "kcore/attributes.h"
#include "mmu/fault.h"
#include "mmu/host.h"
#include "mmu/large.h"

/* Steps this long are worth a look at the host's mappings, once for a slot. */
#define ASK_PAGES 8u

/* Is what was found as of the same state of things? */
static bool is_current(const struct ahead *ahead, const struct resolved *resolved)
{
    return ahead->token == resolved->token && ahead->generation == resolved->generation;
}

bool ahead_has(const struct mmu_vcpu *vcpu, const struct fault *fault,
               const struct resolved *resolved)
{
    const struct ahead *ahead = &vcpu->ahead;

    return resolved->hva.value - ahead->first < ahead->end - ahead->first &&
           is_current(ahead, resolved) && (ahead->for_writing || fault->access != GM_MMU_WRITE);
}

/* May pages that the host has be made present for this access, though nobody has touched them? */
static bool may_take(struct resolved *resolved, bool for_writing, unsigned pages)
{
    if (!for_writing) {
        return true;
    }
    if (resolved->host_kind == HOST_KIND_UNKNOWN && pages >= ASK_PAGES) {
        resolved->host_kind = host_is_shared_memory(resolved->slot_hva, resolved->slot_bytes)
                                  ? HOST_KIND_SHARED
                                  : HOST_KIND_OTHER;
    }
    return resolved->host_kind == HOST_KIND_SHARED;
}

void ahead_go(struct mmu_vcpu *vcpu, const struct fault *fault, struct resolved *resolved)
{
    struct ahead *ahead = &vcpu->ahead;
    bool for_writing = fault->access == GM_MMU_WRITE;
    bool in_order = resolved->hva.value == ahead->end && is_current(ahead, resolved) &&
                    for_writing == ahead->for_writing;
    struct hva next = {resolved->hva.value + PAGE_BYTES_4K};
    uint64_t left; /* pages of the slot behind this one */
    uint64_t count;
    uint32_t pages = in_order ? 2 * ahead->pages : 1;

    pages = pages < AHEAD_PAGES_MAX ? pages : AHEAD_PAGES_MAX;
    *ahead = (struct ahead){.first = resolved->hva.value,
                            .end = next.value,
                            .token = resolved->token,
                            .generation = resolved->generation,
                            .for_writing = for_writing,
                            .pages = pages};
    /* Private pages lie elsewhere; a large leaf is present as a whole. */
    if (pages == 1 || resolved->level > 1 || (resolved->attributes & ATTRIBUTE_PRIVATE) != 0) {
        return;
    }
    left = (resolved->slot_hva.value + resolved->slot_bytes - next.value) >> PAGE_SHIFT_4K;
    count = pages - 1 < left ? pages - 1 : left;
    if (count == 0 || !may_take(resolved, for_writing, pages)) {
        return;
    }
    count = host_present_pages(next, (unsigned)count);
    if (count != 0 && host_populate(next, count << PAGE_SHIFT_4K, for_writing) == 0) {
        ahead->end += count << PAGE_SHIFT_4K;
    }
}
