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
 * Record a write that has been stored to a block, or the range's. Without a client that is a barrier to
 * the compiler and a load. Inside a section.
 */
static inline void ram_mark(struct gm_ram *ram, uint64_t ram_offset, uint64_t size_bytes)
{
    barrier_light(&ram->dirty.barrier);
    /* acquire: pairs with the release with which a client begins */
    if (__builtin_expect(atomic_load_explicit(&ram->dirty.active, memory_order_acquire) != 0, 0)) {
        ram_dirty_mark_inside(ram, ram_offset, size_bytes);
    }
}

static inline void range_mark(const struct range *range, uint64_t gpa, uint64_t size_bytes)
{
    ram_mark(range->region->ram, range_ram_offset(range, gpa), size_bytes);
}

/* Who records stores to the block? After the store, of a kind that store_offsets allowed. */
static inline uint32_t ram_recorders(const struct gm_ram *ram)
{
    atomic_signal_fence(memory_order_seq_cst); /* barrier_light(), where it is no more than that */
    /* acquire: pairs with the release with which a client begins */
    return atomic_load_explicit(&ram->dirty.active, memory_order_acquire);
}

/*
 * Copy to, from a RAM device by aligned loads and stores of 1, 2, 4 and 8 bytes, in ascending
 * order.
 */
void registers_read(void *to, const void *registers, uint64_t size_bytes);
void registers_write(void *registers, const void *from, uint64_t size_bytes);

#endif
