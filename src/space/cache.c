/*
 * space/cache.c - a cached translation, for rings.
 *
 * A cache holds a reference on the view that it was made from, so what it points to stays alive
 * whatever is committed meanwhile. Each use asks whether the space still shows that view, which is
 * two loads; since the cache's own view cannot be freed, an equal pointer is the same view.
 */
#include "space/order.h"
#include "space/route.h"
#include "space/space.h"
#include "space/translate.h"

#include <guestmem/access.h>

#include <errno.h>
#include <string.h>

/* What a gm_cache keeps. */
enum {
    CACHE_VIEW,  /* referenced */
    CACHE_HVA,   /* of the first byte, if all of it is RAM in one piece; else NULL */
    CACHE_RANGE, /* of the first byte, borrowed from the view */
};

/* Inside a section: take @view in place of the view it had, which is returned. */
static struct gm_view *adopt(struct gm_cache *cache, const struct gm_view *view)
{
    struct gm_view *old = cache->internal[CACHE_VIEW];
    struct place place = {
        .view = view,
        .gpa = cache->gpa,
        .size_bytes = cache->size_bytes,
        .need = cache->is_write ? NEED_WRITE : NEED_READ,
        .attrs = cache->attrs,
    };
    uint32_t wanted = cache->is_write ? RANGE_DIRECT_READ | RANGE_DIRECT_WRITE : RANGE_DIRECT_READ;

    view_get((struct gm_view *)view);
    cache->internal[CACHE_VIEW] = (void *)view;
    cache->internal[CACHE_HVA] = NULL;
    cache->internal[CACHE_RANGE] = NULL;
    place_look(&place);
    if (place.range != NULL && (place.range->flags & wanted) == wanted) {
        place_extend(&place);
        if (place.run_bytes == cache->size_bytes) {
            cache->internal[CACHE_HVA] = range_pointer(place.range, place.gpa);
            cache->internal[CACHE_RANGE] = (void *)place.range;
        }
    }
    return old;
}

/* Outside of a section. The view that the cache gives up is dropped here: that can call out. */
static __attribute__((noinline)) void refresh(struct gm_cache *cache)
{
    struct gm_view *old;

    rcu_enter();
    old = adopt(cache, space_view(cache->space));
    rcu_leave();
    if (old != NULL) {
        view_put(old);
    }
}

/*
 * The host address of @offset in what the space shows now, kept by the cache; NULL: no RAM in one
 * piece.
 */
static inline uint8_t *memory_at(struct gm_cache *cache, uint64_t offset)
{
    uint8_t *hva;
    bool present;

    rcu_enter();
    present = cache->internal[CACHE_VIEW] == space_view(cache->space);
    rcu_leave();
    if (__builtin_expect(!present, 0)) {
        refresh(cache);
    }
    hva = cache->internal[CACHE_HVA];
    return hva != NULL ? hva + offset : NULL;
}

static inline void mark(const struct gm_cache *cache, uint64_t offset, uint64_t size_bytes)
{
    const struct range *range = cache->internal[CACHE_RANGE];

    range_mark(range, cache->gpa + offset, size_bytes);
}

int gm_cache_init(struct gm_cache *cache, struct gm_space *space, gm_gpa_t gpa, uint64_t size_bytes,
                  bool is_write, struct gm_attrs attrs)
{
    if (size_bytes == 0 || bytes_until(gpa, UINT64_MAX, size_bytes) != size_bytes) {
        return -EINVAL;
    }
    *cache = (struct gm_cache){
        .space = space, .gpa = gpa, .size_bytes = size_bytes, .is_write = is_write, .attrs = attrs};
    refresh(cache);
    return 0;
}

void gm_cache_fini(struct gm_cache *cache)
{
    struct gm_view *view = cache->internal[CACHE_VIEW];

    if (view != NULL) {
        view_put(view);
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
    memory = memory_at(cache, offset);
    if (memory == NULL) {
        return gm_read(cache->space, cache->gpa + offset, data, size_bytes, cache->attrs);
    }
    memcpy(data, memory, size_bytes);
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
    memory = cache->is_write ? memory_at(cache, offset) : NULL;
    if (memory == NULL) {
        return gm_write(cache->space, cache->gpa + offset, data, size_bytes, cache->attrs);
    }
    memcpy(memory, data, size_bytes);
    mark(cache, offset, size_bytes);
    return GM_ACCESS_OK;
}

enum gm_access gm_cache_load(struct gm_cache *cache, uint64_t offset, unsigned size_bytes,
                             enum gm_order order, uint64_t *value)
{
    const uint8_t *memory;
    uint64_t raw;

    if (!number_size_is_valid(size_bytes) ||
        !range_holds(0, cache->size_bytes, offset, size_bytes)) {
        *value = 0;
        return GM_ACCESS_DECODE;
    }
    memory = memory_at(cache, offset);
    if (memory == NULL) {
        return gm_load(cache->space, cache->gpa + offset, size_bytes, order, value, cache->attrs);
    }
    raw = host_load(memory, size_bytes);
    *value =
        order_is_big(order, cache->space->map) == HOST_IS_BIG ? raw : number_swap(raw, size_bytes);
    return GM_ACCESS_OK;
}

enum gm_access gm_cache_store(struct gm_cache *cache, uint64_t offset, unsigned size_bytes,
                              enum gm_order order, uint64_t value)
{
    uint8_t *memory;

    if (!number_size_is_valid(size_bytes) ||
        !range_holds(0, cache->size_bytes, offset, size_bytes)) {
        return GM_ACCESS_DECODE;
    }
    memory = cache->is_write ? memory_at(cache, offset) : NULL;
    if (memory == NULL) {
        return gm_store(cache->space, cache->gpa + offset, size_bytes, order, value, cache->attrs);
    }
    if (order_is_big(order, cache->space->map) != HOST_IS_BIG) {
        value = number_swap(value, size_bytes);
    }
    host_store(memory, value, size_bytes);
    mark(cache, offset, size_bytes);
    return GM_ACCESS_OK;
}
