/*
 * space/route.h - what an access does at a range, and the host memory behind it.
 *
 *   range                          read            write           debug write
 *   RAM                            memory          memory          memory
 *   ROM, and RAM that is read-only memory          denied          memory
 *   ROM device in romd mode        memory          callback        memory
 *   ROM device out of romd mode    callback        callback        memory
 *   RAM device                     registers       registers       registers
 *   RAM device that is read-only   registers       denied          registers
 *   MMIO                           callback        callback        callback
 *   IOMMU                          translation     translation     translation
 *   reservation                    decode error    decode error    decode error
 *
 * Where memory or registers have no host memory (unbacked blocks), reads give zero and writes are
 * dropped, but recorded as dirty. Read-only is about memory: a callback decides for itself,
 * wherever its region shows.
 */
#ifndef SPACE_ROUTE_H
#define SPACE_ROUTE_H

#include "ram/ram.h"
#include "view/view.h"

#include <guestmem/types.h>

enum route {
    ROUTE_MEMORY,    /* host memory at range_pointer() */
    ROUTE_ABSENT,    /* memory without host memory */
    ROUTE_REGISTERS, /* host memory, by naturally aligned loads and stores of the host only */
    ROUTE_CALL,      /* the region's callbacks, outside of the read section */
    ROUTE_TRANSLATE, /* an IOMMU, outside of the read section */
    ROUTE_DENIED,
    ROUTE_DECODE,
};

enum route route_of(const struct range *range, bool is_write, struct gm_attrs attrs);

/* gpa lies in the range. */
static inline uint64_t range_offset(const struct range *range, uint64_t gpa)
{
    return range->offset + (gpa - range->gpa);
}

/* gpa lies in the range, which has host memory. */
static inline uint8_t *range_pointer(const struct range *range, uint64_t gpa)
{
    return range->hva + (gpa - range->gpa);
}

/* Where gpa's byte is in the range's block. */
static inline uint64_t range_ram_offset(const struct range *range, uint64_t gpa)
{
    return range->region->ram_offset + range_offset(range, gpa);
}

/*
 * Is an access of @size_bytes at @gpa, where @range (or a hole: NULL) was found, nothing but host
 * memory that @direct (RANGE_DIRECT_*) allows to use? The question of every fast path.
 */
static inline bool range_is_direct(const struct range *range, uint32_t direct, uint64_t gpa,
                                   uint64_t size_bytes)
{
    return __builtin_expect(range != NULL && (range->flags & direct) != 0 &&
                                bytes_until(gpa, range->last, size_bytes) == size_bytes,
                            1);
}

/*
 * Record a write that has been stored to the range's block. Without a client that is a barrier to
 * the compiler and a load; gm_ram_dirty_mark() does the same again, and marks (ram/dirty.h).
 */
static inline void range_mark(const struct range *range, uint64_t gpa, uint64_t size_bytes)
{
    struct gm_ram *ram = range->region->ram;

    barrier_light(&ram->dirty.barrier);
    /* acquire: pairs with the release with which a client begins */
    if (__builtin_expect(atomic_load_explicit(&ram->dirty.active, memory_order_acquire) != 0, 0)) {
        gm_ram_dirty_mark(ram, range_ram_offset(range, gpa), size_bytes, UINT32_MAX);
    }
}

/*
 * Copy to, from a RAM device by aligned loads and stores of 1, 2, 4 and 8 bytes, in ascending
 * order.
 */
void registers_read(void *to, const void *registers, uint64_t size_bytes);
void registers_write(void *registers, const void *from, uint64_t size_bytes);

#endif
