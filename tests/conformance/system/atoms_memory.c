/* conformance/system/atoms_memory.c - accesses at limits, by odd addresses, and stacks at their ends. */
#include "maker.h"

/* MOV of a size between AX and memory at [BX], by a segment. */
static void access_memory(struct maker *maker, unsigned size, bool is_write, bool is_by_bp)
{
    static const char overrides[] = "\x26\x2e\x36\x3e\x64\x65";
    unsigned number = maker_below(maker, 8);

    if (number < 6) {
        put_bytes(maker, overrides + number, 1);
    }
    if (size > 1) {
        put_size(maker, size);
    }
    put_value(maker, (is_write ? 0x88u : 0x8au) | (size > 1 ? 1u : 0), 1);
    if (maker->bits == 16) { /* [BX], [BP + 0] */
        put_bytes(maker, is_by_bp ? "\x46\0" : "\x07", is_by_bp ? 2 : 1);
    } else {
        put_bytes(maker, is_by_bp ? "\x45\0" : "\x03", is_by_bp ? 2 : 1);
    }
}

void atom_memory(struct maker *maker)
{
    bool is_by_bp = maker_chance(maker, 1, 3);
    unsigned size = 1u << maker_below(maker, maker->bits == 64 ? 4 : 3);
    uint64_t address = maker_address(maker);

    if (maker_chance(maker, 1, 4)) { /* unreal mode: by 32-bit addresses from 16-bit code */
        if (maker->bits == 16) {
            put_load(maker, REG_BX, address);
            PUT(maker, "\x67\x8a\x03");
            return;
        }
    }
    put_load(maker, is_by_bp ? REG_BP : REG_BX, address);
    access_memory(maker, size, maker_chance(maker, 1, 2), is_by_bp);
}

/* Jumps beyond the limit, or to no address. */
static void jump_far_off(struct maker *maker)
{
    put_load(maker, REG_BX, maker_address(maker));
    if (maker->bits != 64) {
        put_size(maker, maker_any_size(maker));
    }
    put_bytes(maker, maker_chance(maker, 1, 2) ? "\xff\xe3" : "\xff\xd3", 2); /* JMP, CALL BX */
}

void atom_stack(struct maker *maker)
{
    static const char *const users[] = {
        "\x50", "\x58", "\x60", "\x61", "\xc9", "\x9c", "\x06", "\xe8\x00", "\x6a\x01", "\xc3",
    };
    static const uint64_t pointers[] = {0,      1,      2,      3,       4,      6,     8,
                                        0xffff, 0xfffe, 0xfffc, 0x10000, 0x7000, 0x7004};
    uint64_t sp = maker_chance(maker, 1, 2) ? MAKER_PICK(maker, pointers) : maker_address(maker);
    const char *user = MAKER_PICK(maker, users);
    unsigned size = maker_any_size(maker);

    if (maker_chance(maker, 1, 5)) {
        jump_far_off(maker);
        return;
    }
    if (maker_chance(maker, 1, 2)) {
        put_load(maker, maker_chance(maker, 3, 4) ? REG_SP : REG_BP, sp);
    }
    put_size(maker, size == 8 ? 4 : size);
    if (maker_chance(maker, 1, 6)) { /* ENTER */
        PUT(maker, "\xc8");
        put_value(maker, maker_below(maker, 0x40) * 4, 2);
        put_value(maker, maker_below(maker, 4), 1);
        return;
    }
    put_bytes(maker, user, user[0] == '\x6a' ? 2 : 1);
    if (user[0] == '\xe8') {
        put_value(maker, 0,
                  size == 2 && maker->bits != 64   ? 2
                  : maker->bits == 16 && size == 2 ? 2
                                                   : 4);
    }
}
