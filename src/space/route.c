/* space/route.c - deciding what an access does at a range, and copying a RAM device's registers. */
#include "space/route.h"

#include "space/order.h"

#include <string.h>

static enum route memory_route(const struct range *range, bool is_write, struct gm_attrs attrs,
                               enum route with_memory)
{
    bool is_denied =
        is_write && (range->flags & GM_SECTION_READONLY) != 0 && (attrs.flags & GM_ATTR_DEBUG) == 0;

    if (is_denied) {
        return ROUTE_DENIED;
    }
    return range->hva != NULL ? with_memory : ROUTE_ABSENT;
}

enum route route_of(const struct range *range, bool is_write, struct gm_attrs attrs)
{
    switch (range->region->kind) {
    case GM_REGION_RAM:
    case GM_REGION_ROM:
        return memory_route(range, is_write, attrs, ROUTE_MEMORY);
    case GM_REGION_RAM_DEVICE:
        return memory_route(range, is_write, attrs, ROUTE_REGISTERS);
    case GM_REGION_ROM_DEVICE:
        if (is_write ? (attrs.flags & GM_ATTR_DEBUG) != 0 : (range->flags & GM_SECTION_ROMD) != 0) {
            return range->hva != NULL ? ROUTE_MEMORY : ROUTE_ABSENT;
        }
        return ROUTE_CALL;
    case GM_REGION_MMIO:
        return ROUTE_CALL;
    case GM_REGION_IOMMU:
        return ROUTE_TRANSLATE;
    default:
        return ROUTE_DECODE;
    }
}

/* The largest register access at @registers that does not exceed @size_bytes. */
static unsigned register_bytes(const void *registers, uint64_t size_bytes)
{
    unsigned bytes = 8;

    while (bytes > size_bytes || !pointer_is_aligned(registers, bytes)) {
        bytes /= 2;
    }
    return bytes;
}

/* Volatile: each access happens once, in this order, in this size. */
static void load_register(uint8_t *to, const volatile void *at, unsigned bytes)
{
    uint8_t one;
    uint16_t two;
    uint32_t four;
    uint64_t eight;

    switch (bytes) {
    case 8:
        eight = *(const volatile uint64_t *)at;
        memcpy(to, &eight, 8);
        break;
    case 4:
        four = *(const volatile uint32_t *)at;
        memcpy(to, &four, 4);
        break;
    case 2:
        two = *(const volatile uint16_t *)at;
        memcpy(to, &two, 2);
        break;
    default:
        one = *(const volatile uint8_t *)at;
        *to = one;
        break;
    }
}

static void store_register(volatile void *at, const uint8_t *from, unsigned bytes)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;

    switch (bytes) {
    case 8:
        memcpy(&eight, from, 8);
        *(volatile uint64_t *)at = eight;
        break;
    case 4:
        memcpy(&four, from, 4);
        *(volatile uint32_t *)at = four;
        break;
    case 2:
        memcpy(&two, from, 2);
        *(volatile uint16_t *)at = two;
        break;
    default:
        *(volatile uint8_t *)at = *from;
        break;
    }
}

void registers_read(void *to, const void *registers, uint64_t size_bytes)
{
    uint8_t *out = to;
    const uint8_t *at = registers;

    while (size_bytes > 0) {
        unsigned bytes = register_bytes(at, size_bytes);

        load_register(out, at, bytes);
        out += bytes;
        at += bytes;
        size_bytes -= bytes;
    }
}

void registers_write(void *registers, const void *from, uint64_t size_bytes)
{
    const uint8_t *in = from;
    uint8_t *at = registers;

    while (size_bytes > 0) {
        unsigned bytes = register_bytes(at, size_bytes);

        store_register(at, in, bytes);
        in += bytes;
        at += bytes;
        size_bytes -= bytes;
    }
}
