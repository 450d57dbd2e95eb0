/*
 * space/mapping.c - guest memory for direct use by the host, and bounce buffers for what is none.
 *
 * A direct mapping holds a reference on its region, and so on the block. A bounce buffer keeps the
 * address that the caller gave: it is written back there, through IOMMUs as they are then.
 */
#include "space/route.h"
#include "space/cell.h"
#include "space/translate.h"

#include <guestmem/access.h>

#include <errno.h>

/*
 * What a gm_mapping keeps: a direct one its region and where in its block it begins, else a buffer.
 */
enum {
    MAPPING_REGION,
    MAPPING_RAM_OFFSET,
    MAPPING_IS_WRITE,
    MAPPING_BOUNCE,
};

struct bounce {
    struct gm_space *space; /* referenced */
    uint64_t gpa;
    uint64_t size_bytes;
    bool is_write;
    struct gm_attrs attrs;
    _Alignas(16) uint8_t data[];
};

/* ---- bounce buffers ---- */

/*
 * Take at most @wanted of the space's bytes; 0: there are none. Relaxed: the count orders nothing.
 */
static uint64_t bounce_reserve(struct gm_space *space, uint64_t wanted)
{
    unsigned used = atomic_load_explicit(&space->bounce_bytes, memory_order_relaxed);
    unsigned taken;

    do {
        unsigned left = GM_BOUNCE_BYTES - used;

        taken = wanted < left ? (unsigned)wanted : left;
    } while (!atomic_compare_exchange_weak_explicit(&space->bounce_bytes, &used, used + taken,
                                                    memory_order_relaxed, memory_order_relaxed));
    return taken;
}

static void bounce_release(struct gm_space *space, uint64_t size_bytes)
{
    atomic_fetch_sub_explicit(&space->bounce_bytes, (unsigned)size_bytes, memory_order_relaxed);
}

static void bounce_free(struct bounce *bounce)
{
    struct gm_space *space = bounce->space;

    bounce_release(space, bounce->size_bytes);
    mem_free(&space->map->allocator, bounce);
    space_put(space);
}

/* A map that was given up shows nothing any more: with its cells, the space's view is gone. */
static enum gm_access write_back(const struct bounce *bounce, uint64_t size_bytes)
{
    if (bounce->space->map->closed) {
        return GM_ACCESS_DECODE;
    }
    return gm_write(bounce->space, bounce->gpa, bounce->data, size_bytes, bounce->attrs);
}

/* 0; -EAGAIN; -ENOMEM. Takes a reference on the space. */
static int bounce_new(struct gm_space *space, uint64_t size_bytes, struct bounce **bounce)
{
    size_bytes = bounce_reserve(space, size_bytes);
    if (size_bytes == 0) {
        return -EAGAIN;
    }
    /* Zeroes: what the caller claims to have written but has not must not be our memory's past. */
    *bounce = mem_zalloc(&space->map->allocator, sizeof(**bounce) + size_bytes);
    if (*bounce == NULL) {
        bounce_release(space, size_bytes);
        return -ENOMEM;
    }
    ref_get(&space->refs);
    (*bounce)->space = space;
    (*bounce)->size_bytes = size_bytes;
    return 0;
}

/* At most @size_bytes from the place that was wanted, outside of a section. */
static int map_bounced(struct gm_space *space, const struct place *wanted, uint64_t size_bytes,
                       struct gm_mapping *mapping)
{
    struct bounce *bounce;
    int result = bounce_new(space, size_bytes, &bounce);

    if (result != 0) {
        return result;
    }
    bounce->gpa = wanted->gpa;
    bounce->attrs = wanted->attrs;
    bounce->is_write = wanted->need == NEED_WRITE;
    if (!bounce->is_write && gm_read(space, bounce->gpa, bounce->data, bounce->size_bytes,
                                     bounce->attrs) != GM_ACCESS_OK) {
        bounce_free(bounce); /* zeroes that nobody stored are not what is there */
        return -EFAULT;
    }
    mapping->data = bounce->data;
    mapping->size_bytes = bounce->size_bytes;
    mapping->internal[MAPPING_BOUNCE] = bounce;
    return 0;
}

/* ---- direct mappings ---- */

static enum route place_route(const struct place *place)
{
    return place->range != NULL ? route_of(place->range, place->need == NEED_WRITE, place->attrs)
                                : ROUTE_DECODE;
}

/* In a section, at host memory. Leaves it. */
static void map_direct(struct place *place, struct gm_mapping *mapping)
{
    const struct range *range = place->range;

    place_extend(place);
    gm_region_get(range->region);
    mapping->data = range_pointer(range, place->gpa);
    mapping->size_bytes = place->run_bytes;
    mapping->internal[MAPPING_REGION] = range->region;
    mapping->internal[MAPPING_RAM_OFFSET] =
        (void *)(uintptr_t)range_ram_offset(range, place->gpa); /* backed: fits a pointer */
    mapping->internal[MAPPING_IS_WRITE] = place->need == NEED_WRITE ? range->region : NULL;
    rcu_leave();
}

/*
 * Add the pages behind the first, as far as the IOMMU puts them one after the other. None after something was unmapped:
 * there has been a moment when all of the mapping was translated like this.
 */
static void extend_translated(const struct place *first, const struct place *wanted,
                              struct gm_mapping *mapping)
{
    const struct gm_region *region = mapping->internal[MAPPING_REGION];
    const uint8_t *end = (uint8_t *)mapping->data + mapping->size_bytes;

    while (mapping->size_bytes < wanted->size_bytes) {
        struct place next = *wanted;
        bool follows;

        next.gpa += mapping->size_bytes;
        next.size_bytes -= mapping->size_bytes;
        rcu_enter();
        if (place_follow(&next) != GM_ACCESS_OK) {
            return;
        }
        follows = place_route(&next) == ROUTE_MEMORY && next.is_translated &&
                  next.ticket.unmaps == first->ticket.unmaps &&
                  next.range->region->ram == region->ram &&
                  range_pointer(next.range, next.gpa) == end;
        if (follows) {
            place_extend(&next);
        }
        rcu_leave();
        if (!follows) {
            return;
        }
        mapping->size_bytes += next.run_bytes;
        end += next.run_bytes;
    }
}

/* Behind an IOMMU. In a section, which is left; space and view are referenced by the caller. */
static int map_translated(struct gm_space *space, struct place *place, const struct place *wanted,
                          struct gm_mapping *mapping)
{
    enum route route;

    if (place_follow(place) != GM_ACCESS_OK) {
        return -EFAULT;
    }
    route = place_route(place);
    if (route == ROUTE_MEMORY) {
        map_direct(place, mapping);
        extend_translated(place, wanted, mapping);
        return 0;
    }
    rcu_leave();
    return route == ROUTE_DENIED || route == ROUTE_DECODE
               ? -EFAULT
               : map_bounced(space, wanted, place->run_bytes, mapping);
}

/* What is not simply RAM of this space. In a section, which is left. */
static int map_slow(struct gm_space *space, struct place *place, enum route route,
                    struct gm_mapping *mapping)
{
    struct place wanted = *place;
    struct gm_view *view = (struct gm_view *)place->view;
    int result;

    if (route == ROUTE_DENIED || route == ROUTE_DECODE) {
        rcu_leave();
        return -EFAULT;
    }
    ref_get(&space->refs); /* alive: we are in the section in which it was used first */
    if (route == ROUTE_TRANSLATE) {
        view_get(view);
        result = map_translated(space, place, &wanted, mapping);
        view_put(view);
    } else {
        rcu_leave();
        result = map_bounced(space, &wanted, place->run_bytes, mapping);
    }
    space_put(space);
    return result;
}

/* All of it in one range of RAM. In a section. */
static void map_entry(const struct gpa_entry *entry, uint64_t gpa, uint64_t size_bytes,
                      bool is_write, struct gm_mapping *mapping)
{
    struct gm_region *region = entry->range->region;
    uint64_t offset = gpa - entry->gpa;

    region_get(region);
    mapping->data = gpa_entry_pointer(entry, gpa);
    mapping->size_bytes = size_bytes;
    mapping->internal[MAPPING_REGION] = region;
    mapping->internal[MAPPING_RAM_OFFSET] = (void *)(uintptr_t)(entry->ram_offset + offset);
    mapping->internal[MAPPING_IS_WRITE] = is_write ? region : NULL;
    mapping->internal[MAPPING_BOUNCE] = NULL;
}

/* ---- the public face ---- */

/* In a section, in which the space still is, and which is left. */
static __attribute__((noinline)) int map_any(struct gm_space *space, gm_gpa_t gpa,
                                             uint64_t *size_bytes, bool is_write,
                                             struct gm_attrs attrs, struct gm_mapping *mapping)
{
    const struct gm_view *view = space_view(space);
    struct place place = place_found(view, gpa, *size_bytes, view_find(view, gpa),
                                     is_write ? NEED_WRITE : NEED_READ, attrs);
    struct gm_view *cold = place_look_again(&place);
    enum route route;
    int result = 0;

    *mapping = (struct gm_mapping){0};
    route = place_route(&place);
    if (route == ROUTE_MEMORY) {
        map_direct(&place, mapping);
    } else {
        result = map_slow(space, &place, route, mapping);
    }
    if (result == 0) {
        *size_bytes = mapping->size_bytes;
    }
    view_warm(cold);
    return result;
}

int gm_map_range(struct gm_space *space, gm_gpa_t gpa, uint64_t *size_bytes, bool is_write,
                 struct gm_attrs attrs, struct gm_mapping *mapping)
{
    const struct gpa_entry *entry;
    struct rcu_section section;

    if (*size_bytes == 0) {
        return -EINVAL;
    }
    if (!rcu_try(&section)) {
        rcu_enter();
        return map_any(space, gpa, size_bytes, is_write, attrs, mapping);
    }
    entry = view_guess(space_view(space), gpa);
    if (!offsets_allow(is_write ? entry->store_offsets : entry->load_offsets, gpa - entry->gpa,
                       *size_bytes)) {
        return map_any(space, gpa, size_bytes, is_write, attrs, mapping);
    }
    map_entry(entry, gpa, *size_bytes, is_write, mapping);
    rcu_end(section);
    return 0;
}

enum gm_access gm_unmap(struct gm_mapping *mapping, uint64_t accessed_bytes)
{
    struct gm_region *region = mapping->internal[MAPPING_REGION];
    struct bounce *bounce = mapping->internal[MAPPING_BOUNCE];
    enum gm_access result = GM_ACCESS_OK;

    if (accessed_bytes > mapping->size_bytes) {
        accessed_bytes = mapping->size_bytes;
    }
    if (region != NULL) {
        if (mapping->internal[MAPPING_IS_WRITE] != NULL && accessed_bytes > 0) {
            gm_ram_dirty_mark(region->ram, (uintptr_t)mapping->internal[MAPPING_RAM_OFFSET],
                              accessed_bytes, UINT32_MAX);
        }
        region_put(region);
    }
    if (bounce != NULL) {
        if (bounce->is_write && accessed_bytes > 0) {
            result = write_back(bounce, accessed_bytes);
        }
        bounce_free(bounce);
    }
    *mapping = (struct gm_mapping){0};
    return result;
}
