/*
 * space/order.h - numbers and their bytes: byte orders. What the inlined halves of public calls do, too, is in
 * guestmem/inline.h; loads and stores of memory that others use, in guestmem/host.h.
 */
#ifndef SPACE_ORDER_H
#define SPACE_ORDER_H

#include "region/map.h"

#include <guestmem/access.h>

#include <stdbool.h>
#include <stdint.h>

#define HOST_IS_BIG (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
#define HOST_ORDER (HOST_IS_BIG ? GM_ORDER_BIG : GM_ORDER_LITTLE)

static inline bool order_is_big(enum gm_order order, const struct gm_map *map)
{
    return order == GM_ORDER_GUEST ? map->guest_big_endian : order == GM_ORDER_BIG;
}

static inline bool number_size_is_valid(unsigned size_bytes)
{
    return gm_number_size_is_valid(size_bytes);
}

/* The low @size_bytes (1 to 8) of a number. */
static inline uint64_t number_mask(unsigned size_bytes)
{
    return UINT64_MAX >> (64 - 8 * size_bytes);
}

static inline uint64_t number_swap(uint64_t value, unsigned size_bytes)
{
    return gm_number_swap(value, size_bytes);
}

/* The number that @size_bytes (1 to 8) are, first byte lowest, or highest if @big. */
static inline uint64_t number_from_bytes(const uint8_t *bytes, unsigned size_bytes, bool big)
{
    uint64_t value = 0;
    unsigned i;

    for (i = 0; i < size_bytes; i++) {
        value |= (uint64_t)bytes[i] << 8 * (big ? size_bytes - 1 - i : i);
    }
    return value;
}

static inline void number_to_bytes(uint8_t *bytes, uint64_t value, unsigned size_bytes, bool big)
{
    unsigned i;

    for (i = 0; i < size_bytes; i++) {
        bytes[i] = (uint8_t)(value >> 8 * (big ? size_bytes - 1 - i : i));
    }
}

static inline bool pointer_is_aligned(const void *pointer, unsigned size_bytes)
{
    return ((uintptr_t)pointer & (size_bytes - 1)) == 0;
}

#endif
