/* region/io_sizes.h - which sizes of accesses a region's callbacks take. */
#ifndef REGION_IO_SIZES_H
#define REGION_IO_SIZES_H

#include <guestmem/access.h>

#include <stdbool.h>
#include <stdint.h>

/* As struct gm_io_sizes, with nothing left out. */
struct io_sizes {
    unsigned min;
    unsigned max;
    bool unaligned;
};

#define IO_VALID_MAX_DEFAULT 8u
#define IO_IMPLEMENTED_MAX_DEFAULT 4u

/* What the region's maker left out filled in, and what makes no sense made harmless. */
static inline struct io_sizes io_sizes_of(const struct gm_io_sizes *given, unsigned default_max)
{
    struct io_sizes sizes = {
        .min = given->min_bytes != 0 ? given->min_bytes : 1,
        .max = given->max_bytes != 0 ? given->max_bytes : default_max,
        .unaligned = given->unaligned,
    };

    if (!gm_number_size_is_valid(sizes.min)) {
        sizes.min = 1;
    }
    if (!gm_number_size_is_valid(sizes.max)) {
        sizes.max = 8;
    }
    if (sizes.max < sizes.min) {
        sizes.max = sizes.min;
    }
    return sizes;
}

static inline struct io_sizes io_valid_sizes(const struct gm_io_ops *io)
{
    return io_sizes_of(&io->valid, IO_VALID_MAX_DEFAULT);
}

static inline struct io_sizes io_implemented_sizes(const struct gm_io_ops *io)
{
    return io_sizes_of(&io->implemented, IO_IMPLEMENTED_MAX_DEFAULT);
}

static inline bool io_sizes_take(const struct io_sizes *sizes, uint64_t offset, unsigned size_bytes)
{
    return size_bytes >= sizes->min && size_bytes <= sizes->max &&
           (sizes->unaligned || (offset & (size_bytes - 1)) == 0);
}

/* The sizes, or-ed, of which aligned accesses are just one call of read or write, with nothing to ask before. */
static inline unsigned io_plain_sizes(const struct gm_io_ops *io)
{
    struct io_sizes valid = io_valid_sizes(io);
    struct io_sizes implemented = io_implemented_sizes(io);
    unsigned plain = 0;

    if (io->accepts != NULL || io->guard_reentry) {
        return 0;
    }
    for (unsigned size = 1; size <= 8; size *= 2) {
        if (io_sizes_take(&valid, 0, size) && io_sizes_take(&implemented, 0, size)) {
            plain |= size;
        }
    }
    return plain;
}

#endif
