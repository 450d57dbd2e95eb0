/* unit/echo.h - a device whose bytes are their offsets, and that remembers how it was used last. */
#ifndef UNIT_ECHO_H
#define UNIT_ECHO_H

#include <guestmem/region.h>

struct echo {
    unsigned reads;
    unsigned writes;
    uint64_t last_offset;
    uint64_t last_value;
    struct gm_attrs last_attrs;
};

static inline enum gm_access echo_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                       uint64_t *value, struct gm_attrs attrs)
{
    struct echo *echo = opaque;

    echo->reads++;
    echo->last_attrs = attrs;
    *value = 0;
    for (unsigned i = 0; i < size_bytes; i++) {
        *value |= (uint64_t)((offset + i) & 0xff) << 8 * i;
    }
    return GM_ACCESS_OK;
}

static inline enum gm_access echo_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                        uint64_t value, struct gm_attrs attrs)
{
    struct echo *echo = opaque;

    (void)size_bytes;
    echo->writes++;
    echo->last_offset = offset;
    echo->last_value = value;
    echo->last_attrs = attrs;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops echo_ops = {
    .size = sizeof(struct gm_io_ops), .read = echo_read, .write = echo_write};

#endif
