/*
 * space/cache.c - a cached translation, for rings.
 *
 * A cache holds a reference on the view that it was made from, so what it points to stays alive
 * whatever is committed meanwhile. Each use asks whether the space still shows that view, which is
 * two loads; since the cache's own view cannot be freed, an equal pointer is the same view. The inlined
 * halves (guestmem/inline.h) ask less: whether the map has published anything since that was asked last; and their sections are
 * those of base/readers.h.
 *
 * Behind an IOMMU it holds the view of the space that it was led to as well, and asks whether anything was unmapped since:
 * in the section in which the memory is used, so that an unmap waits for that (region/iommu.h). Only then
 * may the other space be touched, which could have ended after the unmap.
 */
#include "space/order.h"
#include "space/route.h"
#include "space/cell.h"
#include "space/translate.h"

#include <guestmem/access.h>

#include <errno.h>
#include <string.h>

/* What a gm_cache keeps. */
enum {
    CACHE_VIEW,        /* referenced */
    CACHE_HVA,         /* of the first byte, if all of it is RAM in one piece; else NULL */
    CACHE_RANGE,       /* of the first byte, borrowed from its view */
    CACHE_TARGET,      /* the space that an IOMMU led to, for comparing its view; else NULL */
    CACHE_TARGET_VIEW, /* referenced; the range is in it */
    CACHE_COUNT, /* of unmaps, with an IOMMU; of all changes, if that gave no RAM in one piece */
};

/* A cache while it is made anew: then it replaces the old one, whose views are dropped outside of sections. */
struct fresh {
    const struct gm_cache *cache;
    struct gm_view *view;
    struct gm_space *target;
    struct gm_view *target_view;
    const struct range *range;
    uint8_t *hva;
    uint64_t count;
    uint64_t gpa; /* of the range's first byte that is used */
};

/* In a section, at a place that was looked up: is all of the cache RAM in one piece? */
static bool find_memory(struct fresh *fresh, struct place *place)
{
    uint32_t wanted =
        fresh->cache->is_write ? RANGE_DIRECT_READ | RANGE_DIRECT_WRITE : RANGE_DIRECT_READ;

    if (place->range == NULL || (place->range->flags & wanted) != wanted) {
        return false;
    }
    place_extend(place);
    if (place->run_bytes != fresh->cache->size_bytes) {
        return false;
    }
    fresh->hva = range_pointer(place->range, place->gpa);
    fresh->range = place->range;
    fresh->gpa = place->gpa;
    return true;
}

static struct place place_of(const struct gm_cache *cache, const struct gm_view *view, uint64_t gpa)
{
    return (struct place){
        .view = view,
        .gpa = gpa,
        .size_bytes = cache->size_bytes,
        .need = cache->is_write ? NEED_WRITE : NEED_READ,
        .attrs = cache->attrs,
    };
}

/* Ask an IOMMU for all pages of the cache: one space, and there one after the other? */
static bool ask_all(const struct gm_cache *cache, struct gm_region *region, uint64_t offset,
                    struct iommu_access *first)
{
    uint64_t done = 0;

    while (done < cache->size_bytes) {
        struct iommu_access access = {
            .region = region,
            .offset = offset + done,
            .need = cache->is_write ? NEED_READ | NEED_WRITE : NEED_READ,
            .attrs = cache->attrs,
            .size_bytes = cache->size_bytes - done,
        };

        if (iommu_ask(&access) != GM_ACCESS_OK) {
            return false;
        }
        if (done == 0) {
            *first = access;
        } else if (access.space != first->space || access.gpa != first->gpa + done) {
            return false;
        }
        done += access.size_bytes;
    }
    return true;
}

/* Behind an IOMMU region that holds all of the cache. Outside of a section. */
static void translate(struct fresh *fresh, struct gm_region *region, uint64_t offset)
{
    const struct gm_cache *cache = fresh->cache;
    struct ticket ticket = ticket_now(region->map);
    struct iommu_access first = {0};
    const struct gm_view *view;
    struct place place;

    if (!ask_all(cache, region, offset, &first) || !iommu_enter(&ticket, &first, &view)) {
        return;
    }
    place = place_of(cache, view, first.gpa);
    place_look(&place);
    if (find_memory(fresh, &place)) {
        view_get((struct gm_view *)view);
        fresh->target = first.space;
        fresh->target_view = (struct gm_view *)view;
        fresh->count = ticket.unmaps;
    }
    rcu_leave();
}

_Static_assert(sizeof(atomic_uint) == sizeof(uint32_t),
               "what inlined halves load of ram_dirty.active");

/* What was found may be used inline, once the number is known as of which it is true. */
static void allow_inline(struct gm_cache *cache, const struct fresh *fresh)
{
    bool may_load = fresh->hva != NULL && fresh->target == NULL && cache->inside != NULL &&
                    cache->size_bytes >= sizeof(uint64_t);
    struct ram_dirty *dirty = may_load ? &fresh->range->region->ram->dirty : NULL;
    bool may_store = may_load && cache->is_write && !dirty->barrier.light_fences;

    cache->changes_seen = 0;
    cache->memory = fresh->hva;
    cache->load_offsets = may_load ? cache->size_bytes - sizeof(uint64_t) + 1 : 0;
    cache->store_offsets = may_store ? cache->load_offsets : 0;
    cache->dirty_clients = may_store ? (const uint32_t *)&dirty->active : NULL;
}

/* Outside of a section: views that the cache gives up are dropped here, which can call out. */
static __attribute__((noinline)) void refresh(struct gm_cache *cache)
{
    /* Counted before anything is asked: a change that comes meanwhile makes the cache be made anew. */
    struct fresh fresh = {.cache = cache, .count = iommu_changes(cache->space->map)};
    struct gm_view *old_view = cache->internal[CACHE_VIEW];
    struct gm_view *old_target_view = cache->internal[CACHE_TARGET_VIEW];
    struct gm_region *iommu = NULL;
    uint64_t offset = 0;
    struct place place;

    rcu_enter();
    fresh.view = (struct gm_view *)space_view(cache->space);
    view_get(fresh.view);
    place = place_of(cache, fresh.view, cache->gpa);
    place_look(&place);
    if (place_is_iommu(&place) && place.run_bytes == cache->size_bytes) {
        iommu = place.range->region; /* alive: the view that we hold has it */
        offset = range_offset(place.range, place.gpa);
    } else {
        (void)find_memory(&fresh, &place);
    }
    rcu_leave();
    if (iommu != NULL) {
        translate(&fresh, iommu, offset);
    }
    cache->internal[CACHE_VIEW] = fresh.view;
    cache->internal[CACHE_HVA] = fresh.hva;
    cache->internal[CACHE_RANGE] = (void *)fresh.range;
    cache->internal[CACHE_TARGET] = fresh.target;
    cache->internal[CACHE_TARGET_VIEW] = fresh.target_view;
    cache->internal[CACHE_COUNT] = (void *)(uintptr_t)fresh.count;
    cache->range_gpa = fresh.gpa;
    allow_inline(cache, &fresh);
    if (old_view != NULL) {
        view_put(old_view);
    }
    if (old_target_view != NULL) {
        view_put(old_target_view);
    }
}

/* In a section. Is what the cache says true in it? */
static inline bool is_present(const struct gm_cache *cache)
{
    const struct gm_space *target = cache->internal[CACHE_TARGET];
    uintptr_t count = (uintptr_t)cache->internal[CACHE_COUNT];

    if (cache->internal[CACHE_VIEW] != space_view(cache->space)) {
        return false;
    }
    if (target != NULL) {
        return (uintptr_t)iommu_unmaps(cache->space->map) == count &&
               cache->internal[CACHE_TARGET_VIEW] == space_view(target);
    }
    return cache->internal[CACHE_HVA] != NULL ||
           (uintptr_t)iommu_changes(cache->space->map) == count;
}

/*
 * Enter a section, and find the host address of @offset in what the space shows now, kept by the cache. NULL, and no
 * section: no RAM in one piece, or it has changed again.
 */
static inline uint8_t *enter_memory(struct gm_cache *cache, uint64_t offset)
{
    const struct readers *readers = &cache->space->map->readers;
    uint64_t number = readers_number(readers);
    uint8_t *hva;

    rcu_enter();
    if (__builtin_expect(!is_present(cache), 0)) {
        rcu_leave();
        refresh(cache);
        number = readers_number(readers);
        rcu_enter();
        if (!is_present(cache)) {
            rcu_leave();
            return NULL;
        }
    }
    cache->changes_seen = number; /* it was read before it was asked what the space shows */
    hva = cache->internal[CACHE_HVA];
    if (hva == NULL) {
        rcu_leave();
        return NULL;
    }
    return hva + offset;
}

/* In a section of liburcu's. */
static inline void mark(const struct gm_cache *cache, uint64_t offset, uint64_t size_bytes)
{
    const struct range *range = cache->internal[CACHE_RANGE];

    range_mark(range, cache->range_gpa + offset, size_bytes);
}

/* The inlined half's section is not one in which records may be looked at. */
void gm_cache_mark(const struct gm_cache *cache, uint64_t offset, uint64_t size_bytes)
{
    rcu_enter();
    mark(cache, offset, size_bytes);
    rcu_leave();
}

int gm_cache_init(struct gm_cache *cache, struct gm_space *space, gm_gpa_t gpa, uint64_t size_bytes,
                  bool is_write, struct gm_attrs attrs)
{
    struct reader_slot *slot;

    if (size_bytes == 0 || bytes_until(gpa, UINT64_MAX, size_bytes) != size_bytes) {
        return -EINVAL;
    }
    *cache = (struct gm_cache){
        .changes = space->map->readers.changes,
        .is_guest_big = space->map->guest_big_endian,
        .space = space,
        .gpa = gpa,
        .size_bytes = size_bytes,
        .is_write = is_write,
        .attrs = attrs,
    };
    slot = readers_take(&space->map->readers);
    cache->inside = slot != NULL ? &slot->inside : NULL;
    refresh(cache);
    return 0;
}

void gm_cache_fini(struct gm_cache *cache)
{
    struct gm_view *view = cache->internal[CACHE_VIEW];

    if (cache->inside != NULL) { /* before the views, which keep the map */
        readers_give_back((struct reader_slot *)(void *)cache->inside);
    }
    if (view != NULL) {
        view_put(view);
    }
    if (cache->internal[CACHE_TARGET_VIEW] != NULL) {
        view_put(cache->internal[CACHE_TARGET_VIEW]);
    }
    *cache = (struct gm_cache){0};
}

enum gm_access gm_cache_read(struct gm_cache *cache, uint64_t offset, void *data, size_t size_bytes)
{
    const uint8_t *memory;

    if (!range_holds(0, cache->size_bytes, offset, size_bytes)) {
        memset(data, 0, size_bytes);
        return GM_ACCESS_DECODE;
    }
    memory = enter_memory(cache, offset);
    if (memory == NULL) {
        return gm_read(cache->space, cache->gpa + offset, data, size_bytes, cache->attrs);
    }
    memcpy(data, memory, size_bytes);
    rcu_leave();
    return GM_ACCESS_OK;
}

enum gm_access gm_cache_write(struct gm_cache *cache, uint64_t offset, const void *data,
                              size_t size_bytes)
{
    uint8_t *memory;

    if (!range_holds(0, cache->size_bytes, offset, size_bytes)) {
        return GM_ACCESS_DECODE;
    }
    if (size_bytes == 0) {
        return GM_ACCESS_OK;
    }
    memory = cache->is_write ? enter_memory(cache, offset) : NULL;
    if (memory == NULL) {
        return gm_write(cache->space, cache->gpa + offset, data, size_bytes, cache->attrs);
    }
    memcpy(memory, data, size_bytes);
    mark(cache, offset, size_bytes);
    rcu_leave();
    return GM_ACCESS_OK;
}

enum gm_access gm_cache_load_slow(struct gm_cache *cache, uint64_t offset, unsigned size_bytes,
                                  enum gm_order order, uint64_t *value)
{
    const uint8_t *memory;
    uint64_t raw;

    if (!number_size_is_valid(size_bytes) ||
        !range_holds(0, cache->size_bytes, offset, size_bytes)) {
        *value = 0;
        return GM_ACCESS_DECODE;
    }
    memory = enter_memory(cache, offset);
    if (memory == NULL) {
        return gm_load(cache->space, cache->gpa + offset, size_bytes, order, value, cache->attrs);
    }
    raw = gm_host_load(memory, size_bytes);
    rcu_leave();
    *value =
        order_is_big(order, cache->space->map) == HOST_IS_BIG ? raw : number_swap(raw, size_bytes);
    return GM_ACCESS_OK;
}

enum gm_access gm_cache_store_slow(struct gm_cache *cache, uint64_t offset, unsigned size_bytes,
                                   enum gm_order order, uint64_t value)
{
    uint8_t *memory;

    if (!number_size_is_valid(size_bytes) ||
        !range_holds(0, cache->size_bytes, offset, size_bytes)) {
        return GM_ACCESS_DECODE;
    }
    memory = cache->is_write ? enter_memory(cache, offset) : NULL;
    if (memory == NULL) {
        return gm_store(cache->space, cache->gpa + offset, size_bytes, order, value, cache->attrs);
    }
    if (order_is_big(order, cache->space->map) != HOST_IS_BIG) {
        value = number_swap(value, size_bytes);
    }
    gm_host_store(memory, value, size_bytes);
    mark(cache, offset, size_bytes);
    rcu_leave();
    return GM_ACCESS_OK;
}
