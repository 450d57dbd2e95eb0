/* conformance/system/atoms_segment.c - descriptor tables and segment registers. */
#include "maker.h"

/* A pseudo-descriptor of a good table, often. */
static void put_pointer(struct maker *maker, uint32_t place, bool is_gdt)
{
    static const uint16_t idts[] = {ARENA_IVT, ARENA_IDT32, ARENA_IDT16, ARENA_IDT64};
    uint64_t base = is_gdt ? ARENA_GDT : MAKER_PICK(maker, idts);
    uint16_t limit = is_gdt ? ARENA_GDT_LIMIT : base == ARENA_IDT64 ? 0xfff : 0x7ff;

    if (maker_chance(maker, 1, 4)) {
        limit = (uint16_t)(is_gdt ? maker_below(maker, 0x200) : maker_below(maker, 0x1000));
    }
    if (maker_chance(maker, 1, 6)) {
        base = maker_address(maker);
    }
    maker_store(maker, place, limit, 2);
    maker_store(maker, place + 2, base, 8);
}

void atom_table(struct maker *maker)
{
    unsigned digit = maker_below(maker, 4);
    uint32_t place = maker_place(maker);
    uint16_t selector = maker_selector(maker);

    if (maker_chance(maker, 1, 2)) { /* SGDT, SIDT, LGDT, LIDT */
        if (digit >= 2) {
            put_pointer(maker, place, digit == 2);
        }
        if (maker->bits != 64) {
            put_size(maker, maker_any_size(maker));
        }
        PUT(maker, "\x0f\x01");
        put_memory(maker, digit, place);
        return;
    }
    if (digit == 3 && maker_chance(maker, 1, 2)) {
        selector = maker_chance(maker, 1, 2) ? SELECTOR_FREE_TSS32 : SELECTOR_FREE_TSS64;
    } else if (digit == 2 && maker_chance(maker, 1, 2)) {
        selector = SELECTOR_LDT;
    }
    put_load(maker, REG_AX, selector);
    if (maker_chance(maker, 1, 3)) { /* SLDT, STR, LLDT, LTR */
        maker_store(maker, place, selector, 2);
        PUT(maker, "\x0f\0");
        put_memory(maker, digit, place);
    } else {
        put_size(maker, maker_any_size(maker));
        PUT(maker, "\x0f\0");
        put_register(maker, digit, REG_AX);
    }
}

/* LDS and its like; only LSS, LFS and LGS are there in 64-bit code. */
static void load_far_pointer(struct maker *maker)
{
    static const char *const opcodes[] = {"\x0f\xb2", "\x0f\xb4", "\x0f\xb5", "\xc4", "\xc5"};
    unsigned choice = maker_below(maker, maker->bits == 64 ? 3 : 5);
    unsigned size = maker_any_size(maker);
    uint32_t place = maker_place(maker);

    maker_store(maker, place, maker_address(maker), size);
    maker_store(maker, place + size, maker_selector(maker), 2);
    put_size(maker, size);
    put_bytes(maker, opcodes[choice], choice < 3 ? 2 : 1);
    put_memory(maker, REG_BX, place);
}

/* What follows a load of SS is in its shadow, as far as TF and interrupts go. */
void atom_segment(struct maker *maker)
{
    static const char *const pops[] = {"\x07", "\x17", "\x1f", "\x0f\xa1", "\x0f\xa9"};
    static const char *const pushes[] = {"\x06", "\x16", "\x1e", "\x0e", "\x0f\xa0", "\x0f\xa8"};
    unsigned number = maker_chance(maker, 1, 8) ? maker_below(maker, 8) : maker_below(maker, 6);
    unsigned size = maker_any_size(maker);
    unsigned choice;

    switch (maker_below(maker, 8)) {
    case 0: /* MOV from a segment register */
        put_load(maker, REG_BX, 0x12345678);
        put_size(maker, size);
        PUT(maker, "\x8c");
        if (maker_chance(maker, 1, 3)) {
            put_memory(maker, number, maker_place(maker));
        } else {
            put_register(maker, number, REG_BX);
        }
        return;
    case 1: /* PUSH */
        choice = maker->bits == 64 ? 4 + maker_below(maker, 2) : maker_below(maker, 6);
        put_size(maker, size == 8 ? 4 : size);
        put_bytes(maker, pushes[choice], choice < 4 ? 1 : 2);
        return;
    case 2:
    case 3: /* POP */
        choice = maker->bits == 64 ? 3 + maker_below(maker, 2) : maker_below(maker, 5);
        put_push(maker, maker_selector(maker), size);
        if (maker->bits != 64 || size == 2) {
            put_size(maker, size);
        }
        put_bytes(maker, pops[choice], choice < 3 ? 1 : 2);
        return;
    case 4:
        load_far_pointer(maker);
        return;
    default:
        put_segment(maker, number, maker_selector(maker));
        return;
    }
}

void atom_inspect(struct maker *maker)
{
    unsigned size = maker_any_size(maker);

    put_load(maker, REG_BX, 0x55aa55aa);
    put_load(maker, REG_AX, maker_selector(maker) | UINT64_C(0xabcd0000));
    switch (maker_below(maker, 6)) {
    case 0: /* VERR, VERW */
    case 1:
        PUT(maker, "\x0f\0");
        put_register(maker, 4 + maker_below(maker, 2), REG_AX);
        return;
    case 2: /* ARPL; MOVSXD in 64-bit code */
        PUT(maker, "\x63");
        put_register(maker, REG_AX, REG_BX);
        return;
    default: /* LAR, LSL */
        put_size(maker, size);
        put_bytes(maker, maker_chance(maker, 1, 2) ? "\x0f\x02" : "\x0f\x03", 2);
        put_register(maker, REG_BX, REG_AX);
        return;
    }
}
