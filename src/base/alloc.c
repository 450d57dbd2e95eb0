/* base/alloc.c - the default allocator, and growing arrays. */
#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>

static void *default_alloc(void *opaque, size_t size_bytes)
{
    (void)opaque;
    return malloc(size_bytes != 0 ? size_bytes : 1);
}

static void default_free(void *opaque, void *memory)
{
    (void)opaque;
    free(memory);
}

const struct gm_allocator mem_default_allocator = {
    .alloc = default_alloc,
    .free = default_free,
};

void *mem_grow(const struct gm_allocator *a, void *array, size_t *capacity, size_t count,
               size_t item_bytes)
{
    size_t wanted = *capacity < 8 ? 8 : *capacity;
    size_t size_bytes;
    void *larger;

    while (wanted < count) {
        if (wanted > SIZE_MAX / 2) {
            return NULL;
        }
        wanted *= 2;
    }
    if (__builtin_mul_overflow(wanted, item_bytes, &size_bytes)) {
        return NULL;
    }
    larger = mem_alloc(a, size_bytes);
    if (larger == NULL) {
        return NULL;
    }
    if (array != NULL) {
        memcpy(larger, array, *capacity * item_bytes);
        mem_free(a, array);
    }
    *capacity = wanted;
    return larger;
}

char *mem_strdup(const struct gm_allocator *a, const char *text)
{
    size_t size_bytes = strlen(text) + 1;
    char *copy = mem_alloc(a, size_bytes);

    return copy != NULL ? memcpy(copy, text, size_bytes) : NULL;
}
