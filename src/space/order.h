/*
 * space/order.h - numbers and their bytes: byte orders, and loads and stores of host memory that
 * are one instruction where they are aligned.
 */
#ifndef SPACE_ORDER_H
#define SPACE_ORDER_H

#include "region/map.h"

#include <guestmem/region.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define HOST_IS_BIG (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

static inline bool order_is_big(enum gm_order order, const struct gm_map *map)
{
    return order == GM_ORDER_GUEST ? map->guest_big_endian : order == GM_ORDER_BIG;
}

/* Is it a size that numbers have: 1, 2, 4 or 8? */
static inline bool number_size_is_valid(unsigned size_bytes)
{
    return size_bytes <= 8 && (0x116u >> size_bytes & 1) != 0;
}

/* The low @size_bytes (1 to 8) of a number. */
static inline uint64_t number_mask(unsigned size_bytes)
{
    return UINT64_MAX >> (64 - 8 * size_bytes);
}

/* Its low @size_bytes (1 to 8) in the other order; what is above them goes. */
static inline uint64_t number_swap(uint64_t value, unsigned size_bytes)
{
    return __builtin_bswap64(value) >> (64 - 8 * size_bytes);
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

/*
 * A number of 1, 2, 4 or 8 bytes in the host's order. Aligned: one load, acquire, pairing with
 * host_store() in whoever passes data through guest memory. Unaligned: any number of loads.
 */
static inline uint64_t host_load(const void *from, unsigned size_bytes)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;

    switch (size_bytes) {
    case 8:
        if (pointer_is_aligned(from, 8)) {
            return __atomic_load_n((const uint64_t *)from, __ATOMIC_ACQUIRE);
        }
        memcpy(&eight, from, 8);
        return eight;
    case 4:
        if (pointer_is_aligned(from, 4)) {
            return __atomic_load_n((const uint32_t *)from, __ATOMIC_ACQUIRE);
        }
        memcpy(&four, from, 4);
        return four;
    case 2:
        if (pointer_is_aligned(from, 2)) {
            return __atomic_load_n((const uint16_t *)from, __ATOMIC_ACQUIRE);
        }
        memcpy(&two, from, 2);
        return two;
    default:
        return __atomic_load_n((const uint8_t *)from, __ATOMIC_ACQUIRE);
    }
}

/* Aligned: one store, release, pairing with host_load(). */
static inline void host_store(void *to, uint64_t value, unsigned size_bytes)
{
    uint16_t two = (uint16_t)value;
    uint32_t four = (uint32_t)value;

    switch (size_bytes) {
    case 8:
        if (pointer_is_aligned(to, 8)) {
            __atomic_store_n((uint64_t *)to, value, __ATOMIC_RELEASE);
        } else {
            memcpy(to, &value, 8);
        }
        break;
    case 4:
        if (pointer_is_aligned(to, 4)) {
            __atomic_store_n((uint32_t *)to, four, __ATOMIC_RELEASE);
        } else {
            memcpy(to, &four, 4);
        }
        break;
    case 2:
        if (pointer_is_aligned(to, 2)) {
            __atomic_store_n((uint16_t *)to, two, __ATOMIC_RELEASE);
        } else {
            memcpy(to, &two, 2);
        }
        break;
    default:
        __atomic_store_n((uint8_t *)to, (uint8_t)value, __ATOMIC_RELEASE);
        break;
    }
}

#endif
