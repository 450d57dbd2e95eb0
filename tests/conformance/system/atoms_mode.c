/*
 * conformance/system/atoms_mode.c - ways from a mode to another, as software goes them; now and then a step is left out
 * or goes wrong.
 */
#include "maker.h"

#define CR0_PE UINT64_C(1)
#define CR0_PG UINT64_C(0x80000000)
#define CR4_PAE UINT64_C(0x20)
#define EFER 0xc0000080u
#define EFER_LME UINT64_C(0x100)

static bool is_skipped(struct maker *maker)
{
    return maker_chance(maker, 1, 40);
}

static void put_control(struct maker *maker, unsigned number, uint64_t value)
{
    if (is_skipped(maker)) {
        return;
    }
    value ^=
        maker_chance(maker, 1, 40) ? UINT64_C(1) << maker_below(maker, number == 4 ? 13 : 32) : 0;
    put_load(maker, REG_AX, value);
    PUT(maker, "\x0f\x22");
    put_register(maker, number, REG_AX);
}

static void put_efer(struct maker *maker, uint64_t value)
{
    if (is_skipped(maker)) {
        return;
    }
    put_load(maker, REG_CX, EFER);
    put_load(maker, REG_AX, value);
    put_load(maker, REG_DX, 0);
    PUT(maker, "\x0f\x30");
}

static void put_idt(struct maker *maker, unsigned base)
{
    uint32_t place = maker_place(maker);

    if (is_skipped(maker)) {
        return;
    }
    maker_store(maker, place, base == ARENA_IDT64 ? 0xfff : base == 0 ? 0x3ff : 0x7ff, 2);
    maker_store(maker, place + 2, base, 8);
    put_size(maker, 4);
    PUT(maker, "\x0f\x01");
    put_memory(maker, 3, place);
}

/* JMP to the next instruction in another code segment. */
static void put_jump(struct maker *maker, uint16_t selector, unsigned bits)
{
    /* 7 bytes in each form, and a prefix. */
    unsigned end = maker->at + (maker->bits == 16 ? 8 : 7);

    if (is_skipped(maker)) {
        return;
    }
    if (maker->bits == 64) { /* no immediate form: by memory */
        uint32_t place = maker_place(maker);

        maker_store(maker, place, end, 4);
        maker_store(maker, place + 4, selector, 2);
        PUT(maker, "\xff");
        put_memory(maker, 5, place);
    } else {
        put_size(maker, 4);
        PUT(maker, "\xea");
        put_value(maker, end, 4);
        put_value(maker, selector, 2);
    }
    maker->bits = bits;
}

static void put_segments(struct maker *maker, uint16_t selector)
{
    for (unsigned i = 0; i < 6; i++) {
        if (i != SYSTEM_CS && !is_skipped(maker)) {
            put_segment(maker, i, selector);
        }
    }
}

static void enter_protected(struct maker *maker)
{
    bool is_wide = maker_chance(maker, 2, 3);

    put_idt(maker, ARENA_IDT32);
    put_control(maker, 0, maker->test->state.cr0 | CR0_PE);
    put_jump(maker, is_wide ? SELECTOR_CODE32 : SELECTOR_CODE16, is_wide ? 32 : 16);
    put_segments(maker, is_wide ? SELECTOR_DATA32 : SELECTOR_DATA16);
    maker->is_protected = true;
}

static void enter_long(struct maker *maker)
{
    put_idt(maker, ARENA_IDT64);
    put_control(maker, 4, maker->test->state.cr4 | CR4_PAE);
    put_control(maker, 3, ARENA_PML4);
    put_efer(maker, EFER_LME);
    put_control(maker, 0, maker->test->state.cr0 | CR0_PE | CR0_PG);
    put_jump(maker, SELECTOR_CODE64, 64);
    maker->is_protected = maker->is_long = true;
}

static void leave_long(struct maker *maker)
{
    if (maker->bits == 64) {
        put_jump(maker, SELECTOR_CODE32, 32);
    }
    put_segments(maker, SELECTOR_DATA32);
    put_idt(maker, ARENA_IDT32);
    put_control(maker, 0, maker->test->state.cr0 & ~CR0_PG);
    put_efer(maker, 0);
    maker->is_long = false;
}

static void enter_real(struct maker *maker)
{
    bool is_unreal = maker_chance(maker, 1, 3);

    if (maker->bits == 32) {
        put_jump(maker, SELECTOR_CODE16, 16);
    }
    put_segments(maker, is_unreal ? SELECTOR_DATA32 : SELECTOR_DATA16);
    put_idt(maker, ARENA_IVT);
    put_control(maker, 0, maker->test->state.cr0 & ~(CR0_PE | CR0_PG));
    put_jump(maker, 0, 16);
    put_segments(maker, 0);
    maker->is_protected = false;
}

/* Paging on, in one of two shapes, or off. */
static void switch_paging(struct maker *maker)
{
    if (maker_chance(maker, 1, 3)) {
        put_control(maker, 0, maker->test->state.cr0 & ~CR0_PG);
    } else if (maker_chance(maker, 1, 2)) {
        put_control(maker, 4, maker->test->state.cr4 | CR4_PAE);
        put_control(maker, 3, ARENA_PAE_PDPT);
        put_control(maker, 0, maker->test->state.cr0 | CR0_PG);
    } else {
        put_control(maker, 4, maker->test->state.cr4 & ~CR4_PAE);
        put_control(maker, 3, ARENA_PD32);
        put_control(maker, 0, maker->test->state.cr0 | CR0_PG);
    }
}

/* 64-bit and compatibility code, by far jumps. */
static void change_code(struct maker *maker)
{
    static const struct {
        uint16_t selector;
        uint8_t bits;
    } kinds[] = {{SELECTOR_CODE64, 64}, {SELECTOR_CODE32, 32}, {SELECTOR_CODE16, 16}};
    unsigned choice = maker_below(maker, maker->is_long ? 3 : 2);

    choice += maker->is_long ? 0 : 1;
    put_jump(maker, kinds[choice].selector, kinds[choice].bits);
}

void atom_mode(struct maker *maker)
{
    if (!maker->is_protected) {
        if (maker_chance(maker, 1, 3)) {
            enter_long(maker);
        } else {
            enter_protected(maker);
        }
    } else if (maker->is_long) {
        if (maker_chance(maker, 1, 2)) {
            change_code(maker);
        } else {
            leave_long(maker);
        }
    } else {
        switch (maker_below(maker, 4)) {
        case 0:
            enter_real(maker);
            break;
        case 1:
            enter_long(maker);
            break;
        case 2:
            switch_paging(maker);
            break;
        default:
            change_code(maker);
            break;
        }
    }
}
