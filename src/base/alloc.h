/*
 * base/alloc.h - the library's own memory, through the allocator that the caller chose. All of it can
 * fail, which is how tests fail each allocation once.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <guestmem/types.h>

#include <stddef.h>
#include <string.h>

/* malloc and free. */
extern const struct gm_allocator mem_default_allocator;

static inline const struct gm_allocator *mem_allocator_or_default(const struct gm_allocator *a)
{
    return a != NULL ? a : &mem_default_allocator;
}

static inline void *mem_alloc(const struct gm_allocator *a, size_t size_bytes)
{
    return a->alloc(a->opaque, size_bytes);
}

static inline void *mem_zalloc(const struct gm_allocator *a, size_t size_bytes)
{
    void *memory = mem_alloc(a, size_bytes);

    return memory != NULL ? memset(memory, 0, size_bytes) : NULL;
}

static inline void mem_free(const struct gm_allocator *a, void *memory)
{
    if (memory != NULL) {
        a->free(a->opaque, memory);
    }
}

/* mem_reserve(), where there is not enough room. */
void *mem_grow(const struct gm_allocator *a, void *array, size_t *capacity, size_t count,
               size_t item_bytes);

/*
 * Room for @count items of @item_bytes in an array of @capacity: a larger copy, or the array as it is.
 * Returns NULL if there is no memory; the old array is then untouched.
 */
static inline void *mem_reserve(const struct gm_allocator *a, void *array, size_t *capacity,
                                size_t count, size_t item_bytes)
{
    return array != NULL && count <= *capacity ? array
                                               : mem_grow(a, array, capacity, count, item_bytes);
}

/* A copy of a string, or NULL. */
char *mem_strdup(const struct gm_allocator *a, const char *text);

#endif
