/*
 * guestmem/inline.h - what of access.h is inlined into its callers: the use of a cached translation. Include access.h, which
 * includes this.
 *
 * What these functions read is in documented fields of the caller's own structure, which stay where they are as long as the
 * library's soversion does: programs have been compiled with them.
 */
#ifndef GUESTMEM_INLINE_H
#define GUESTMEM_INLINE_H

#include <guestmem/access.h>
#include <guestmem/host.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Is it a size that numbers have: 1, 2, 4 or 8? */
static inline bool gm_number_size_is_valid(unsigned size_bytes)
{
    return size_bytes <= 8 && (0x116u >> size_bytes & 1) != 0;
}

/* The low @size_bytes (1 to 8) of a number in the other order; what is above them goes. */
static inline uint64_t gm_number_swap(uint64_t value, unsigned size_bytes)
{
    return __builtin_bswap64(value) >> (64 - 8 * size_bytes);
}

/* Is @order another one than the host's? @is_guest_big: what GM_ORDER_GUEST means. */
static inline bool gm_order_is_other(enum gm_order order, bool is_guest_big)
{
    return (order == GM_ORDER_GUEST ? is_guest_big : order == GM_ORDER_BIG) !=
           (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

/*
 * May @size_bytes (1, 2, 4 or 8) at @offset of cache->memory be used inline now? @offsets: its load_offsets, or store_offsets. True:
 * until gm_cache_leave(), which has to come soon, that memory is what the space shows, or showed when a commit that is under
 * way began. Meanwhile call nothing of the library but gm_cache_mark(): who takes memory away waits for the thread.
 */
static inline bool gm_cache_enter(struct gm_cache *cache, uint64_t offset, uint64_t size_bytes,
                                  uint64_t offsets)
{
    /* All are loaded before anything is stored: the compiler cannot know that they do not change. */
    const uint64_t *changes = cache->changes;
    uint64_t *inside = cache->inside;
    uint64_t seen = cache->changes_seen;

    /* What is shorter than 8 bytes may begin among the last 7 of the memory as well. */
    if (__builtin_expect(offset >= offsets, 0) &&
        __builtin_expect(offset - offsets >= 8 - size_bytes || offsets == 0, 0)) {
        return false;
    }
    /* In this order; where the processor would not keep it, the barrier of who changes the map does. */
    __atomic_store_n(inside, seen, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(changes, __ATOMIC_ACQUIRE) != seen, 0)) {
        __atomic_store_n(inside, 0, __ATOMIC_RELEASE);
        return false;
    }
    return true;
}

/* @inside: the cache's. Release: what was done inside comes before what waits for the end of it. */
static inline void gm_cache_leave(uint64_t *inside)
{
    __atomic_store_n(inside, 0, __ATOMIC_RELEASE);
}

/* gm_cache_load() out of line, whatever the cache is of; for languages that cannot inline C, too. */
enum gm_access gm_cache_load_slow(struct gm_cache *cache, uint64_t offset, unsigned size_bytes,
                                  enum gm_order order, uint64_t *value);

/* gm_cache_store(), likewise. */
enum gm_access gm_cache_store_slow(struct gm_cache *cache, uint64_t offset, unsigned size_bytes,
                                   enum gm_order order, uint64_t value);

/* Load a number of 1, 2, 4 or 8 bytes at @offset of the cached translation, as gm_load(). Other sizes: GM_ACCESS_DECODE. */
static inline enum gm_access gm_cache_load(struct gm_cache *cache, uint64_t offset,
                                           unsigned size_bytes, enum gm_order order,
                                           uint64_t *value)
{
    uint64_t *inside = cache->inside;
    const uint8_t *memory = cache->memory;
    bool is_other = gm_order_is_other(order, cache->is_guest_big);
    uint64_t raw;

    if (__builtin_expect(!gm_number_size_is_valid(size_bytes), 0) ||
        __builtin_expect(!gm_cache_enter(cache, offset, size_bytes, cache->load_offsets), 0)) {
        uint64_t loaded; /* so that the caller's variable may be a register */
        enum gm_access result = gm_cache_load_slow(cache, offset, size_bytes, order, &loaded);

        *value = loaded;
        return result;
    }
    raw = gm_host_load(memory + offset, size_bytes);
    gm_cache_leave(inside);
    *value = is_other ? gm_number_swap(raw, size_bytes) : raw;
    return GM_ACCESS_OK;
}

/* Store one, as gm_store(). */
static inline enum gm_access gm_cache_store(struct gm_cache *cache, uint64_t offset,
                                            unsigned size_bytes, enum gm_order order,
                                            uint64_t value)
{
    uint64_t *inside = cache->inside;
    uint8_t *memory = cache->memory;
    const uint32_t *dirty_clients = cache->dirty_clients;
    bool is_other = gm_order_is_other(order, cache->is_guest_big);

    if (__builtin_expect(!gm_number_size_is_valid(size_bytes), 0) ||
        __builtin_expect(!gm_cache_enter(cache, offset, size_bytes, cache->store_offsets), 0)) {
        return gm_cache_store_slow(cache, offset, size_bytes, order, value);
    }
    gm_host_store(memory + offset, is_other ? gm_number_swap(value, size_bytes) : value,
                  size_bytes);
    /* As for every writer: the data, a barrier to the compiler (who reads the record runs the other half), the record. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(dirty_clients, __ATOMIC_ACQUIRE) != 0, 0)) {
        gm_cache_mark(cache, offset, size_bytes);
    }
    gm_cache_leave(inside);
    return GM_ACCESS_OK;
}

#ifdef __cplusplus
}
#endif

#endif
