/*
 * base/unmap.h - taking down a mapping, which the host may refuse.
 *
 * Mappings that touch and are alike are one to the kernel, and one that stands in the midst of others leaves two: at the limit of
 * mappings (vm.max_map_count) munmap() is then ENOMEM. Nobody who ends something can do better than to go on: the addresses stay
 * taken, and what lay there goes if it was nobody else's.
 */
#ifndef BASE_UNMAP_H
#define BASE_UNMAP_H

#include <stddef.h>
#include <sys/mman.h>

static inline void host_unmap(void *start, size_t size_bytes)
{
    if (size_bytes > 0 && munmap(start, size_bytes) != 0) {
        (void)madvise(start, size_bytes, MADV_DONTNEED);
    }
}

#endif
