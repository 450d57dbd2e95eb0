/* conformance/system/maker.c - encoding, and random values. */
#include "maker.h"

#include <string.h>

void put_bytes(struct maker *maker, const char *bytes, unsigned byte_count)
{
    if (maker->at + byte_count <= ARENA_CODE + ARENA_CODE_BYTES) {
        memcpy(maker->arena + maker->at, bytes, byte_count);
        maker->at += byte_count;
    }
}

void put_value(struct maker *maker, uint64_t value, unsigned byte_count)
{
    put_bytes(maker, (const char *)&value, byte_count);
}

void put_size(struct maker *maker, unsigned size_bytes)
{
    if (size_bytes == 8) {
        PUT(maker, "\x48");
    } else if (size_bytes != (maker->bits == 16 ? 2 : 4)) {
        PUT(maker, "\x66");
    }
}

unsigned maker_plain_size(const struct maker *maker)
{
    return maker->bits / 8;
}

unsigned maker_any_size(struct maker *maker)
{
    if (maker_chance(maker, 2, 3)) {
        return maker_plain_size(maker);
    }
    return 2u << maker_below(maker, maker->bits == 64 ? 3 : 2);
}

void put_load(struct maker *maker, enum maker_register number, uint64_t value)
{
    bool is_wide = maker->bits == 64 && value >> 32 != 0;

    put_size(maker, is_wide ? 8 : 4);
    put_value(maker, 0xb8u + number, 1);
    put_value(maker, value, is_wide ? 8 : 4);
}

/* In 64-bit code there is no PUSH of 4 bytes: it is one of 8. */
void put_push(struct maker *maker, uint64_t value, unsigned size_bytes)
{
    put_load(maker, REG_AX, value);
    if (maker->bits != 64) {
        put_size(maker, size_bytes);
    } else if (size_bytes == 2) {
        PUT(maker, "\x66");
    }
    PUT(maker, "\x50");
}

void put_segment(struct maker *maker, unsigned number, uint16_t selector)
{
    put_load(maker, REG_AX, selector);
    PUT(maker, "\x8e");
    put_register(maker, number, REG_AX);
}

void put_register(struct maker *maker, unsigned digit, enum maker_register number)
{
    put_value(maker, 0xc0u | digit << 3 | number, 1);
}

void put_memory(struct maker *maker, unsigned digit, uint32_t address)
{
    if (maker->bits == 16) {
        put_value(maker, 6u | digit << 3, 1);
        put_value(maker, address, 2);
        return;
    }
    put_value(maker, (maker->bits == 64 ? 4u : 5u) | digit << 3, 1);
    if (maker->bits == 64) {
        PUT(maker, "\x25");
    }
    put_value(maker, address, 4);
}

void maker_store(struct maker *maker, uint32_t offset, uint64_t value, unsigned byte_count)
{
    memcpy(maker->arena + offset % (SYSTEM_ARENA_BYTES - 8), &value, byte_count);
}

uint32_t maker_place(struct maker *maker)
{
    return ARENA_DATA + 16 * maker_below(maker, 64) +
           (maker_chance(maker, 1, 4) ? maker_below(maker, 16) : 0);
}

uint64_t maker_address(struct maker *maker)
{
    static const uint64_t borders[] = {
        0,
        0xffff,
        0xfffe,
        0x10000,
        0x7fff,
        0x80ff,
        0x6fff,
        0xfff,
        UINT64_C(0xffffffff),
        UINT64_C(0x80000000),
        UINT64_C(0x00007fffffffffff),
        UINT64_C(0x0000800000000000),
        UINT64_C(0xffff7fffffffffff),
        UINT64_C(0xffff800000000000),
        UINT64_C(0xffffffffffffffff),
        UINT64_C(0x8000000000000000),
    };

    switch (maker_below(maker, 4)) {
    case 0:
        return MAKER_PICK(maker, borders) - maker_below(maker, 9);
    case 1:
        return ARENA_HANDLERS + ARENA_HANDLER_BYTES * maker_below(maker, 32);
    default:
        return maker_place(maker);
    }
}

uint16_t maker_selector(struct maker *maker)
{
    static const uint16_t good[] = {
        SELECTOR_CODE32,      SELECTOR_DATA32,      SELECTOR_CODE64,      SELECTOR_CODE16,
        SELECTOR_DATA16,      SELECTOR_USER_CODE32, SELECTOR_USER_DATA32, SELECTOR_USER_CODE64,
        SELECTOR_USER_CODE16, SELECTOR_USER_DATA16, SELECTOR_CONFORMING,  SELECTOR_RING1_CODE,
        SELECTOR_RING1_DATA,  SELECTOR_RING2_CODE,  SELECTOR_RING2_DATA,  SELECTOR_CONFORMING64,
    };
    unsigned selector;

    switch (maker_below(maker, 8)) {
    case 0:
        selector = maker_below(maker, 4); /* null */
        break;
    case 1:
    case 2:
    case 3:
        selector = MAKER_PICK(maker, good);
        selector = maker_chance(maker, 1, 4) ? selector ^ (1 + maker_below(maker, 3)) : selector;
        break;
    case 4:
        selector = SELECTOR_RANDOM + 8 * maker_below(maker, 8) + maker_below(maker, 4);
        break;
    case 5:
        selector = ARENA_GDT_LIMIT + 1 - 8 + maker_below(maker, 16); /* about the table's end */
        break;
    default:
        selector = 8 * maker_below(maker, 0x42) + maker_below(maker, 4);
        break;
    }
    if (maker_chance(maker, 1, 12)) {
        selector |= 4;
    }
    return (uint16_t)selector;
}

uint64_t maker_flags(struct maker *maker)
{
    uint64_t flags = rnd_next(maker->rnd) & UINT64_C(0x40ed5);

    flags |=
        rnd_next(maker->rnd) & rnd_next(maker->rnd) & rnd_next(maker->rnd) & UINT64_C(0x3f7fff);
    return maker_chance(maker, 3, 4) ? flags & ~(FLAG_TF | FLAG_NT) : flags;
}

uint64_t maker_word(struct maker *maker)
{
    switch (maker_below(maker, 4)) {
    case 0:
        return maker_address(maker);
    case 1:
        return UINT64_C(1) << maker_below(maker, 64);
    case 2:
        return rnd_next(maker->rnd) >> maker_below(maker, 64);
    default:
        return maker_selector(maker);
    }
}

uint64_t maker_descriptor(struct maker *maker)
{
    static const uint32_t bases[] = {0, 0, 0, 0x10, ARENA_DATA, ARENA_TSS32, ARENA_LDT, 0xffff0000};
    static const uint32_t limits[] = {0xfffff, 0xffff, 0xffff, 0x7fff, 0xfff,
                                      0x1ff,   0x67,   0x80ff, 0};
    uint32_t base = MAKER_PICK(maker, bases);
    uint32_t limit = MAKER_PICK(maker, limits);
    uint64_t access = 0x80 | maker_below(maker, 256);
    uint64_t flags = limit == 0xfffff ? 8 | maker_below(maker, 8) : maker_below(maker, 16) & 7;

    access &= maker_chance(maker, 1, 8) ? 0x7f : 0xff;
    access |= maker_chance(maker, 3, 4) ? 0x10 : 0;
    flags |= maker_chance(maker, 1, 16) ? 8 : 0;
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | flags << 52 | (uint64_t)(base >> 24) << 56;
}
