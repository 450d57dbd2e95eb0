/* conformance/system/atoms_flow.c - far jumps, calls and returns, interrupts, system calls, flags, ports. */
#include "maker.h"

/* Where a far transfer goes: to a handler, which ends the case, or to nowhere. */
static uint64_t target(struct maker *maker)
{
    return maker_chance(maker, 7, 8)
               ? ARENA_HANDLERS + ARENA_HANDLER_BYTES * (0x40 + maker_below(maker, 16))
               : maker_address(maker);
}

void atom_far(struct maker *maker)
{
    bool is_call = maker_chance(maker, 1, 2);
    unsigned size = maker_any_size(maker);
    uint32_t place = maker_place(maker);
    uint16_t selector = maker_selector(maker);

    if (maker->bits == 64 || maker_chance(maker, 1, 2)) {
        maker_store(maker, place, target(maker), size);
        maker_store(maker, place + size, selector, 2);
        put_size(maker, size);
        PUT(maker, "\xff");
        put_memory(maker, is_call ? 3 : 5, place);
        return;
    }
    put_size(maker, size);
    put_value(maker, is_call ? 0x9a : 0xea, 1);
    put_value(maker, target(maker), size);
    put_value(maker, selector, 2);
}

/* A code segment and the stack that goes with it. */
static void choose_ring(struct maker *maker, uint16_t *code, uint16_t *stack)
{
    static const uint16_t pairs[][2] = {
        {SELECTOR_CODE32, SELECTOR_DATA32},
        {SELECTOR_CODE16, SELECTOR_DATA16},
        {SELECTOR_CODE64, SELECTOR_DATA32},
        {SELECTOR_CODE64, 0},
        {SELECTOR_USER_CODE32, SELECTOR_USER_DATA32},
        {SELECTOR_USER_CODE16, SELECTOR_USER_DATA16},
        {SELECTOR_USER_CODE64, SELECTOR_USER_DATA32},
        {SELECTOR_RING1_CODE, SELECTOR_RING1_DATA},
        {SELECTOR_RING2_CODE, SELECTOR_RING2_DATA},
        {SELECTOR_CONFORMING | 3, SELECTOR_USER_DATA32},
        {SELECTOR_CONFORMING | 1, SELECTOR_RING1_DATA},
    };
    const uint16_t *pair = MAKER_PICK(maker, pairs);

    *code = maker_chance(maker, 1, 6) ? maker_selector(maker) : pair[0];
    *stack = maker_chance(maker, 1, 6) ? maker_selector(maker) : pair[1];
}

static uint64_t outer_stack(struct maker *maker)
{
    return maker_chance(maker, 5, 6) ? ARENA_SP3 : maker_address(maker);
}

/* IRET to virtual-8086 mode: nine words. */
static void return_to_virtual(struct maker *maker)
{
    static const uint16_t segments[] = {0, 0, 0, 0x10, 0x500};

    for (unsigned i = 0; i < 4; i++) {
        put_push(maker, MAKER_PICK(maker, segments), 4);
    }
    put_push(maker, 0, 4);
    put_push(maker, ARENA_SP_REAL, 4);
    put_push(maker, maker_flags(maker) | FLAG_VM, 4);
    put_push(maker, 0, 4);
    put_push(maker, target(maker), 4);
    put_size(maker, 4);
    PUT(maker, "\xcf");
}

void atom_return(struct maker *maker)
{
    bool is_iret = maker_chance(maker, 2, 3);
    unsigned size = maker_any_size(maker);
    unsigned pushed = maker->bits == 64 && size == 4 ? 8 : size;
    unsigned skipped = maker_chance(maker, 1, 3) ? 4 * maker_below(maker, 4) : 0;
    uint16_t code, stack;

    if (is_iret && maker->bits != 64 && maker_chance(maker, 1, 8)) {
        return_to_virtual(maker);
        return;
    }
    choose_ring(maker, &code, &stack);
    size = pushed == 8 ? 8 : size; /* what was pushed is popped */
    put_push(maker, stack, pushed);
    put_push(maker, outer_stack(maker), pushed);
    if (is_iret) {
        put_push(maker, maker_flags(maker), pushed);
    } else {
        put_load(maker, REG_BX, skipped);
        put_size(maker, maker->bits == 16 ? 2 : maker->bits == 32 ? 4 : 8);
        PUT(maker, "\x29\xdc"); /* SUB SP, BX */
    }
    put_push(maker, code, pushed);
    put_push(maker, target(maker), pushed);
    put_size(maker, size);
    if (is_iret) {
        PUT(maker, "\xcf");
    } else if (skipped == 0) {
        PUT(maker, "\xcb");
    } else {
        PUT(maker, "\xca");
        put_value(maker, skipped, 2);
    }
}

void atom_interrupt(struct maker *maker)
{
    static const uint8_t vectors[] = {0x30, 0x31, 0x32, 0x33, 0x34, 0x80, 0,
                                      3,    8,    13,   14,   0x20, 0xff};
    uint32_t place = maker_place(maker);
    unsigned size = maker_any_size(maker);

    switch (maker_below(maker, 8)) {
    case 0:
        PUT(maker, "\xcc");
        return;
    case 1: /* OF set, or not; INTO */
        put_load(maker, REG_AX, maker_chance(maker, 1, 2) ? 0x7fffffff : 1);
        put_size(maker, 4);
        PUT(maker, "\x83\xc0\x01\xce");
        return;
    case 2: /* BOUND: an EVEX prefix in 64-bit code */
        if (maker->bits != 64) {
            maker_store(maker, place, maker_below(maker, 4), size);
            maker_store(maker, place + size, maker_below(maker, 8), size);
            put_load(maker, REG_BX, maker_below(maker, 8) - 1);
            put_size(maker, size);
            PUT(maker, "\x62");
            put_memory(maker, REG_BX, place);
            return;
        }
        break;
    case 3:
        PUT(maker, "\xf1");
        return;
    default:
        break;
    }
    PUT(maker, "\xcd");
    put_value(maker, MAKER_PICK(maker, vectors), 1);
}

void atom_fast_call(struct maker *maker)
{
    bool is_wide = maker->bits == 64 && maker_chance(maker, 2, 3);

    switch (maker_below(maker, 4)) {
    case 0:
        PUT(maker, "\x0f\x05");
        return;
    case 1:
        put_load(maker, REG_CX, target(maker));
        if (maker->bits == 64) { /* MOV R11, flags */
            PUT(maker, "\x49\xbb");
            put_value(maker, maker_flags(maker), 8);
        }
        put_bytes(maker, &"\x48\x0f\x07"[is_wide ? 0 : 1], is_wide ? 3 : 2);
        return;
    case 2:
        PUT(maker, "\x0f\x34");
        return;
    default:
        put_load(maker, REG_DX, target(maker));
        put_load(maker, REG_CX, outer_stack(maker));
        put_bytes(maker, &"\x48\x0f\x35"[is_wide ? 0 : 1], is_wide ? 3 : 2);
        return;
    }
}

void atom_flags(struct maker *maker)
{
    unsigned size = maker_any_size(maker);

    switch (maker_below(maker, 5)) {
    case 0:
        PUT(maker, "\xfa");
        return;
    case 1:
        PUT(maker, "\xfb\x90");
        return;
    case 2:
        put_size(maker, size == 8 ? 4 : size);
        PUT(maker, "\x9c\x58"); /* PUSHF; POP AX */
        return;
    default:
        put_push(maker, maker_flags(maker), size);
        put_size(maker, size == 8 ? 4 : size);
        PUT(maker, "\x9d\x90\x90");
        return;
    }
}

/* Ports at which QEMU's machine has nothing: reads are all ones. */
void atom_port(struct maker *maker)
{
    static const uint16_t ports[] = {0x80, 0x300, 0x307, 0x30e, 0x31f, 0x37f, 0xc78, 0xcb0, 0xe000};
    bool is_immediate = maker_chance(maker, 1, 4);
    unsigned size = 1u << maker_below(maker, 3);
    unsigned opcode = (is_immediate ? 0xe4u : 0xecu) | (maker_chance(maker, 1, 2) ? 2u : 0);

    if (!is_immediate) {
        put_load(maker, REG_DX, MAKER_PICK(maker, ports));
    }
    if (size > 1) {
        put_size(maker, size);
        opcode |= 1;
    }
    put_value(maker, opcode, 1);
    if (is_immediate) {
        PUT(maker, "\x80");
    }
}
