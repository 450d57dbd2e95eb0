/* space/translate.c - asking IOMMU regions, and finding what is at the end of them. */
#include "space/translate.h"

#include "space/route.h"

/* A refusal holds for this much at least, if the IOMMU does not say how large its pages are. */
#define DENIED_PAGE_MASK 0xfffu

enum gm_access iommu_ask(struct iommu_access *access)
{
    const struct gm_region *region = access->region;
    bool is_write = (access->need & NEED_WRITE) != 0;
    struct gm_iommu_entry entry = {0};
    bool is_denied = true;
    uint64_t in_page;

    if (region->iommu.translate != NULL) {
        region->iommu.translate(region->opaque, access->offset, is_write, access->attrs, &entry);
        is_denied = entry.space == NULL || (is_write && !entry.can_write) ||
                    ((access->need & NEED_READ) != 0 && !entry.can_read);
    }
    if (is_denied) {
        entry.page_mask |= DENIED_PAGE_MASK;
    }
    in_page = access->offset & entry.page_mask;
    access->size_bytes = bytes_until(in_page, entry.page_mask, access->size_bytes);
    access->space = entry.space;
    access->gpa = (entry.translated & ~entry.page_mask) + in_page;
    return is_denied ? GM_ACCESS_DENIED : GM_ACCESS_OK;
}

/* Leave the section, ask the IOMMU at the place, and enter the section of where that leads. */
static enum gm_access follow_one(struct place *place, unsigned depth)
{
    struct iommu_access access = {
        .region = place->range->region,
        .offset = range_offset(place->range, place->gpa),
        .need = place->need,
        .attrs = place->attrs,
        .size_bytes = place->run_bytes,
    };
    enum gm_access result = GM_ACCESS_DENIED;

    gm_region_get(access.region);
    rcu_leave();
    if (depth < IOMMU_DEPTH_MAX) {
        result = iommu_ask(&access);
    }
    gm_region_put(access.region);
    place->is_translated = true;
    place->size_bytes = access.size_bytes;
    place->run_bytes = access.size_bytes;
    if (result == GM_ACCESS_OK) {
        rcu_enter();
        place->view = space_view(access.space);
        place->gpa = access.gpa;
    }
    return result;
}

enum gm_access place_follow(struct place *place)
{
    unsigned depth;

    place->is_translated = false;
    place_look(place);
    for (depth = 0; place_is_iommu(place); depth++) {
        enum gm_access result = follow_one(place, depth);

        if (result != GM_ACCESS_OK) {
            return result;
        }
        place_look(place);
    }
    return GM_ACCESS_OK;
}

void place_extend(struct place *place)
{
    const struct range *first = place->range;
    bool is_write = (place->need & NEED_WRITE) != 0;

    while (place->run_bytes < place->size_bytes) {
        uint64_t gpa = place->gpa + place->run_bytes;
        uint64_t hole_last;
        const struct range *next = view_lookup(place->view, gpa, &hole_last);

        if (next == NULL || next->region->ram != first->region->ram ||
            route_of(next, is_write, place->attrs) != ROUTE_MEMORY ||
            range_pointer(next, gpa) != range_pointer(first, place->gpa) + place->run_bytes) {
            return;
        }
        place->run_bytes += bytes_until(gpa, next->last, place->size_bytes - place->run_bytes);
    }
}
