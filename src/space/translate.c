/* space/translate.c - asking IOMMU regions, and finding what is at the end of them. */
#include "space/translate.h"

#include "base/point.h"
#include "space/route.h"

/* What the region says about the access; zeroes: refused. */
static struct gm_iommu_entry ask(const struct iommu_access *access)
{
    const struct gm_region *region = access->region;
    const struct gm_iommu_ops *ops = &region->iommu->ops;
    struct gm_iommu_request request = {
        .offset = access->offset,
        .index = gm_iommu_index(region, access->attrs),
        .rights = access->need,
        .attrs = access->attrs,
    };
    struct gm_iommu_entry entry = {0};

    if (ops->translate != NULL && request.index < ops->index_count) {
        ops->translate(region->opaque, &request, &entry);
    }
    return entry;
}

enum gm_access iommu_ask(struct iommu_access *access)
{
    struct gm_iommu_entry entry = ask(access);
    bool is_denied = entry.space == NULL ||
                     ((access->need & NEED_WRITE) != 0 && !entry.can_write) ||
                     ((access->need & NEED_READ) != 0 && !entry.can_read);
    uint64_t in_page;

    if (is_denied) {
        entry.page_mask |= IOMMU_DENIED_MASK;
    }
    in_page = access->offset & entry.page_mask;
    access->size_bytes = bytes_until(in_page, entry.page_mask, access->size_bytes);
    access->space = entry.space;
    access->gpa = (entry.translated & ~entry.page_mask) + in_page;
    GM_POINT("iommu-translated");
    return is_denied ? GM_ACCESS_DENIED : GM_ACCESS_OK;
}

bool iommu_enter(const struct ticket *ticket, const struct iommu_access *access,
                 const struct gm_view **view)
{
    rcu_enter();
    GM_POINT("iommu-entering");
    if (!ticket_holds(ticket)) {
        rcu_leave();
        return false;
    }
    GM_POINT("iommu-entered");
    *view = space_view(access->space);
    return true;
}

/* ---- a place ---- */

struct gm_view *place_look_again(struct place *place)
{
    struct gm_view *view = (struct gm_view *)place->view;
    uint64_t last = 0;

    if (place->range == NULL) {
        place->range = view_search(view, place->gpa, &last);
    }
    if (place->range != NULL) {
        last = place->range->last;
    }
    place->run_bytes = bytes_until(place->gpa, last, place->size_bytes);
    if (!view_is_cold(view) || !view_count_cold(view)) {
        return NULL;
    }
    view_get(view);
    return view;
}

enum follow {
    FOLLOWED,
    FOLLOW_DENIED, /* outside of a section */
    FOLLOW_AGAIN,  /* likewise: something was unmapped */
};

/* Leave the section, ask the IOMMU at the place, and enter the section of where that leads. */
static enum follow follow_one(struct place *place, unsigned depth)
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
    if (result != GM_ACCESS_OK) {
        return FOLLOW_DENIED;
    }
    place->gpa = access.gpa;
    return iommu_enter(&place->ticket, &access, &place->view) ? FOLLOWED : FOLLOW_AGAIN;
}

/* From a section of the place's view to its end. */
static enum follow follow(struct place *place)
{
    unsigned depth;

    place->is_translated = false;
    place_look(place);
    if (place_is_iommu(place)) {
        place->ticket = ticket_now(place->range->region->map);
    }
    for (depth = 0; place_is_iommu(place); depth++) {
        enum follow result = follow_one(place, depth);

        if (result != FOLLOWED) {
            return result;
        }
        place_look(place);
    }
    return FOLLOWED;
}

enum gm_access place_follow(struct place *place)
{
    struct place start = *place;
    enum follow result = follow(place);
    unsigned tries;

    for (tries = 1; result == FOLLOW_AGAIN && tries < IOMMU_TRIES_MAX; tries++) {
        *place = start;
        rcu_enter();
        result = follow(place);
    }
    return result == FOLLOWED ? GM_ACCESS_OK : GM_ACCESS_DENIED;
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
