/* conformance/system/cases.c - the state that a case begins in, what is wrong with its tables, and its program. */
#include "cases.h"

#include <string.h>

#define CR0_PE UINT64_C(1)
#define CR0_ET_NE_MP UINT64_C(0x32)
#define CR0_PG UINT64_C(0x80000000)
#define CR4_PAE UINT64_C(0x20)
#define CR4_OSFXSR_OSXMMEXCPT UINT64_C(0x600)
#define EFER_LONG UINT64_C(0xd01) /* SCE, LME, LMA, NXE */
#define PROGRAM_ATOMS_MAX 5

const char *const case_mode_names[MODE_COUNT] = {
    [MODE_REAL] = "real",
    [MODE_UNREAL] = "unreal",
    [MODE_VIRTUAL] = "virtual-8086",
    [MODE_16] = "16-bit protected",
    [MODE_32] = "32-bit protected",
    [MODE_PAGED] = "32-bit paging",
    [MODE_PAE] = "PAE",
    [MODE_64] = "64-bit",
    [MODE_COMPAT32] = "32-bit compatibility",
    [MODE_COMPAT16] = "16-bit compatibility",
};

static bool is_long(enum maker_mode mode)
{
    return mode >= MODE_64;
}

static bool has_real_segments(enum maker_mode mode)
{
    return mode <= MODE_VIRTUAL;
}

/* As a load of the selector leaves it. */
static struct system_segment segment_of(const struct maker *maker, uint16_t selector)
{
    struct system_segment segment = {.selector = selector};
    uint64_t low;
    uint32_t limit;

    if ((selector & ~3u) == 0) {
        return segment;
    }
    memcpy(&low, maker->arena + ARENA_GDT + (selector & ~7u), 8);
    limit = (uint32_t)((low & 0xffff) | (low >> 32 & 0xf0000));
    segment.base = (low >> 16 & 0xffffff) | (low >> 32 & 0xff000000);
    segment.limit = (low >> 55 & 1) != 0 ? limit << 12 | 0xfff : limit;
    segment.attributes = (uint16_t)(low >> 40 & 0xf0ff);
    return segment;
}

static struct system_segment real_segment(const struct maker *maker, uint16_t selector)
{
    struct system_segment segment = {
        .base = (uint64_t)selector << 4, .limit = 0xffff, .selector = selector};

    segment.attributes = maker->mode == MODE_VIRTUAL ? 0xf3 : 0x93;
    if (maker->mode == MODE_UNREAL) {
        segment.limit = UINT32_MAX;
        segment.attributes = 0xc093;
    }
    return segment;
}

static uint16_t code_selector(struct maker *maker)
{
    static const uint16_t codes32[] = {SELECTOR_CODE32, SELECTOR_RING1_CODE, SELECTOR_RING2_CODE,
                                       SELECTOR_USER_CODE32};

    switch (maker->mode) {
    case MODE_16:
    case MODE_COMPAT16:
        return maker->level == 0 ? SELECTOR_CODE16 : SELECTOR_USER_CODE16;
    case MODE_64:
        return maker->level == 0 ? SELECTOR_CODE64 : SELECTOR_USER_CODE64;
    default:
        return codes32[maker->level];
    }
}

static uint16_t data_selector(struct maker *maker)
{
    static const uint16_t data32[] = {SELECTOR_DATA32, SELECTOR_RING1_DATA, SELECTOR_RING2_DATA,
                                      SELECTOR_USER_DATA32};

    if (maker->mode == MODE_16 || maker->mode == MODE_COMPAT16) {
        return maker->level == 0 ? SELECTOR_DATA16 : SELECTOR_USER_DATA16;
    }
    return data32[maker->level];
}

/* Now and then another segment that the level may use; never one without memory for the stack. */
static uint16_t odd_data_selector(struct maker *maker, bool is_stack)
{
    static const uint16_t odd[] = {SELECTOR_DOWN32,    SELECTOR_SHORT,      SELECTOR_DOWN16,
                                   SELECTOR_READ_ONLY, SELECTOR_CONFORMING, SELECTOR_USER_DATA32};

    if (maker->level != 0 || !maker_chance(maker, 1, 8)) {
        return data_selector(maker);
    }
    return odd[maker_below(maker, is_stack ? 2 : sizeof(odd) / sizeof(odd[0]))];
}

static void set_segments(struct maker *maker)
{
    struct system_segment *segment = maker->test->state.segment;

    for (unsigned i = 0; i <= SYSTEM_GS; i++) {
        if (has_real_segments(maker->mode)) {
            segment[i] =
                real_segment(maker, i != SYSTEM_SS && i != SYSTEM_CS && maker_chance(maker, 1, 4)
                                        ? (uint16_t)(0x10 * maker_below(maker, 0x10))
                                        : 0);
        } else {
            segment[i] = segment_of(maker, odd_data_selector(maker, i == SYSTEM_SS));
        }
    }
    if (!has_real_segments(maker->mode)) {
        segment[SYSTEM_CS] = segment_of(maker, code_selector(maker));
        if (maker->mode == MODE_64 && maker->level == 0 && maker_chance(maker, 1, 2)) {
            segment[SYSTEM_SS] = (struct system_segment){0};
        }
    } else if (maker->mode == MODE_REAL) {
        segment[SYSTEM_CS].attributes = 0x9b;
    } else if (maker->mode == MODE_UNREAL) {
        segment[SYSTEM_CS].attributes = 0x9b;
        segment[SYSTEM_CS].limit = 0xffff;
    }
}

static void set_tables(struct maker *maker)
{
    struct system_state *state = &maker->test->state;
    bool is_16 = maker->mode == MODE_16 && maker_chance(maker, 1, 2);

    state->gdt_base = ARENA_GDT;
    state->gdt_limit = ARENA_GDT_LIMIT;
    state->segment[SYSTEM_LDT] = segment_of(maker, SELECTOR_LDT);
    state->segment[SYSTEM_TR] = segment_of(maker, is_long(maker->mode) ? SELECTOR_TSS64
                                                  : is_16              ? SELECTOR_TSS16
                                                                       : SELECTOR_TSS32);
    if (is_long(maker->mode)) {
        state->idt_base = ARENA_IDT64;
        state->idt_limit = 0xfff;
    } else if (maker->mode <= MODE_UNREAL) {
        state->idt_base = ARENA_IVT;
        state->idt_limit = 0x3ff;
    } else {
        state->idt_base = is_16 || maker_chance(maker, 1, 8) ? ARENA_IDT16 : ARENA_IDT32;
        state->idt_limit = 0x7ff;
    }
}

static void set_control(struct maker *maker)
{
    struct system_state *state = &maker->test->state;

    state->cr0 = CR0_ET_NE_MP | (maker->mode <= MODE_UNREAL ? 0 : CR0_PE);
    state->cr0 |= maker_chance(maker, 1, 12) ? rnd_next(maker->rnd) & 0xe : 0; /* MP, EM, TS */
    state->cr0 |= maker_chance(maker, 1, 2) ? 0x10000 : 0;                     /* WP */
    state->cr0 |= maker->mode == MODE_PAGED || maker->mode >= MODE_PAE ? CR0_PG : 0;
    state->cr4 = CR4_OSFXSR_OSXMMEXCPT | (maker->mode >= MODE_PAE ? CR4_PAE : 0);
    /* TSD, DE, PSE, PGE, UMIP, FSGSBASE, OSXSAVE, PKE */
    state->cr4 |= rnd_next(maker->rnd) & rnd_next(maker->rnd) & UINT64_C(0x45089c);
    state->cr4 &= maker_chance(maker, 1, 8) ? ~UINT64_C(0x600) : UINT64_MAX;
    state->cr3 = maker->mode == MODE_PAGED ? ARENA_PD32
                 : maker->mode == MODE_PAE ? ARENA_PAE_PDPT
                 : is_long(maker->mode)    ? ARENA_PML4
                                           : 0;
    state->efer = is_long(maker->mode) ? EFER_LONG : 0;
    state->dr6 = 0xffff0ff0;
    state->dr7 = 0x400;
    state->xcr0 = 1;
}

static void set_msrs(struct maker *maker)
{
    uint64_t *msr = maker->test->state.msr;
    uint64_t entry = ARENA_HANDLERS + ARENA_HANDLER_BYTES * 0x60;

    msr[SYSTEM_STAR] = (uint64_t)SELECTOR_CODE32 << 32 | (uint64_t)(SELECTOR_USER_CODE32 - 16)
                                                             << 48;
    msr[SYSTEM_LSTAR] = entry;
    msr[SYSTEM_CSTAR] = entry + ARENA_HANDLER_BYTES;
    msr[SYSTEM_MASK] = rnd_next(maker->rnd) & UINT64_C(0x47f00);
    msr[SYSTEM_KERNEL_GS] = ARENA_DATA + 0x800;
    msr[SYSTEM_ENTER_CS] = maker_chance(maker, 1, 8) ? maker_below(maker, 4) : SELECTOR_CODE32;
    msr[SYSTEM_ENTER_SP] = ARENA_SP0;
    msr[SYSTEM_ENTER_IP] = entry + 2 * ARENA_HANDLER_BYTES;
}

static void set_registers(struct maker *maker)
{
    struct system_state *state = &maker->test->state;

    for (unsigned i = 0; i < 16; i++) {
        state->gpr[i] = maker_chance(maker, 1, 2) ? maker_place(maker) : rnd_next(maker->rnd);
        state->gpr[i] &= maker->mode == MODE_64 ? UINT64_MAX : UINT32_MAX;
    }
    state->gpr[REG_SP] = has_real_segments(maker->mode) ? ARENA_SP_REAL
                         : maker->level == 0            ? ARENA_SP0
                                                        : ARENA_SP3;
    state->rip = ARENA_CODE;
    state->rflags = 2 | (rnd_next(maker->rnd) & 0x8d5);
    state->rflags |= maker_chance(maker, 1, 2) ? FLAG_IF : 0;
    state->rflags |= maker_chance(maker, 1, 3) ? rnd_next(maker->rnd) & FLAG_IOPL : 0;
    state->rflags |= maker_chance(maker, 1, 24) ? FLAG_TF : 0;
    state->rflags |= maker_chance(maker, 1, 24) ? FLAG_NT : 0;
    state->rflags |= maker_chance(maker, 1, 24) ? FLAG_AC : 0;
    if (maker->mode == MODE_VIRTUAL) {
        state->rflags |= FLAG_VM | (maker_chance(maker, 3, 4) ? FLAG_IOPL : 0);
    }
}

static unsigned random_level(struct maker *maker)
{
    switch (maker->mode) {
    case MODE_REAL:
    case MODE_UNREAL:
        return 0;
    case MODE_VIRTUAL:
        return 3;
    case MODE_16:
    case MODE_64:
    case MODE_COMPAT16:
        return maker_chance(maker, 2, 3) ? 0 : 3;
    default:
        return maker_chance(maker, 1, 2)   ? 0
               : maker_chance(maker, 1, 4) ? 1 + maker_below(maker, 2)
                                           : 3;
    }
}

/* A gate that may be good: of any type, level, segment and stack. */
static void spoil_gate(struct maker *maker)
{
    static const uint8_t vectors[] = {0,  1,  2,  3,  4,  5,  6,    7,    8,    10,
                                      11, 12, 13, 13, 13, 14, 0x20, 0x30, 0x31, 0x32};
    static const uint8_t types[] = {14, 14, 15, 15, 6, 7, 5, 4, 12};
    unsigned vector = MAKER_PICK(maker, vectors);
    unsigned bytes = is_long(maker->mode) ? 16 : 8;
    uint32_t at = (uint32_t)maker->test->state.idt_base + bytes * vector;
    uint64_t access = 0x80 | maker_below(maker, 4) << 5 | MAKER_PICK(maker, types);
    uint64_t gate = ARENA_HANDLERS + ARENA_HANDLER_BYTES * vector;

    access &= maker_chance(maker, 1, 8) ? 0x7f : 0xff;
    access |= maker_chance(maker, 1, 16) ? 0x10 : 0;
    gate |= maker_chance(maker, 1, 8) ? maker_address(maker) & 0xffff : 0;
    gate |= (uint64_t)maker_selector(maker) << 16 | access << 40;
    if (is_long(maker->mode)) {
        gate &= maker_chance(maker, 1, 2) ? ~UINT64_C(0xffff0000) : UINT64_MAX;
        gate |= (gate & 0xffff0000) == 0 ? (uint64_t)SELECTOR_CODE64 << 16 : 0;
        gate |= (uint64_t)maker_below(maker, 8) << 32;
        maker_store(maker, at + 8, maker_chance(maker, 1, 8) ? maker_address(maker) >> 32 : 0, 8);
    }
    maker_store(maker, at, gate, 8);
}

static void spoil_tss(struct maker *maker)
{
    static const uint16_t offsets32[] = {4, 8, 12, 16, 20, 24, 0x66};
    static const uint16_t offsets16[] = {2, 4, 6, 8, 10, 12};
    uint32_t base = (uint32_t)maker->test->state.segment[SYSTEM_TR].base;

    if (maker_chance(maker, 1, 4)) {
        maker->test->state.segment[SYSTEM_TR].limit = maker_below(maker, 0x90);
    } else if (base == ARENA_TSS64) {
        maker_store(maker, base + 4 + 8 * maker_below(maker, 11), maker_address(maker), 8);
    } else if (base == ARENA_TSS16) {
        maker_store(maker, base + MAKER_PICK(maker, offsets16), maker_word(maker), 2);
    } else {
        maker_store(maker, base + MAKER_PICK(maker, offsets32), maker_word(maker), 4);
    }
}

/* A page of the arena: absent, read-only, for supervisors, or not to be executed. Not the code's. */
static void spoil_page(struct maker *maker)
{
    static const uint8_t pages[] = {1, 2, 3, 4, 7, 7, 8, 6};
    static const uint64_t bits[] = {1, 2, 4, UINT64_C(1) << 63};
    unsigned page = MAKER_PICK(maker, pages);
    uint64_t bit = MAKER_PICK(maker, bits);

    if (maker->mode == MODE_PAGED) {
        maker_store(maker, ARENA_PT32 + 4 * page, (page << 12 | ARENA_PTE) ^ (bit & 7), 4);
    } else {
        maker_store(maker, ARENA_PT + 8 * page, (page << 12 | ARENA_PTE) ^ bit, 8);
    }
}

static void spoil_limit(struct maker *maker)
{
    struct system_state *state = &maker->test->state;

    if (maker_chance(maker, 1, 2)) {
        state->idt_limit = maker_below(maker, is_long(maker->mode) ? 0x400 : 0x200);
    } else {
        state->gdt_limit = maker_below(maker, 0x200);
    }
}

static void spoil(struct maker *maker)
{
    for (unsigned i = maker_below(maker, 4); i > 0; i--) {
        switch (maker_below(maker, 8)) {
        case 0:
        case 1:
        case 2:
            spoil_gate(maker);
            break;
        case 3:
            spoil_tss(maker);
            break;
        case 4:
        case 5:
            spoil_page(maker);
            break;
        case 6:
            if (maker_chance(maker, 1, 3)) {
                spoil_limit(maker);
            }
            break;
        default: /* the bitmap of ports */
            maker_store(maker, ARENA_TSS32 + ARENA_TSS_BITMAP + 0x10 + 0x50 * maker_below(maker, 2),
                        rnd_next(maker->rnd) & rnd_next(maker->rnd), 8);
            break;
        }
    }
}

/* Some vectors' handlers go on; else the first exception is the end. */
static void choose_handlers(struct maker *maker)
{
    unsigned bits = is_long(maker->mode)                         ? 64
                    : maker->mode <= MODE_UNREAL                 ? 16
                    : maker->test->state.idt_base == ARENA_IDT16 ? 16
                                                                 : 32;

    if (maker_chance(maker, 1, 2)) {
        return;
    }
    for (unsigned vector = 0; vector < 0x38; vector++) {
        if (vector != 8 && maker_chance(maker, 3, 4)) {
            arena_go_on(maker->arena, vector, bits);
        }
    }
}

static void make_program(struct maker *maker)
{
    static maker_atom *const atoms[] = {
        atom_control, atom_control, atom_msr,     atom_debug,     atom_table,     atom_table,
        atom_segment, atom_segment, atom_segment, atom_inspect,   atom_far,       atom_far,
        atom_return,  atom_return,  atom_return,  atom_interrupt, atom_interrupt, atom_fast_call,
        atom_flags,   atom_flags,   atom_port,    atom_misc,      atom_misc,      atom_memory,
        atom_memory,  atom_stack,   atom_stack,   atom_mode,      atom_mode,
    };
    unsigned count = 1 + maker_below(maker, PROGRAM_ATOMS_MAX);

    maker->at = ARENA_CODE;
    maker->bits = maker->mode == MODE_64 ? 64 : 32;
    if (has_real_segments(maker->mode) || maker->mode == MODE_16 || maker->mode == MODE_COMPAT16) {
        maker->bits = 16;
    }
    maker->is_protected = maker->mode > MODE_UNREAL;
    maker->is_long = is_long(maker->mode);
    for (unsigned i = 0; i < count; i++) {
        MAKER_PICK(maker, atoms)(maker);
        while (maker->at % ARENA_SLOT_BYTES != 0) {
            PUT(maker, "\x90");
        }
    }
    put_value(maker, 0xe6 | SYSTEM_PORT << 8 | 0xfeeb0000u, 4);
}

/* What the arena has that the plain one does not. */
static bool make_patches(struct maker *maker, const uint8_t plain[SYSTEM_ARENA_BYTES])
{
    struct system_case *test = maker->test;

    test->patch_count = 0;
    for (uint32_t at = 0; at < SYSTEM_ARENA_BYTES; at += 4) {
        if (memcmp(maker->arena + at, plain + at, 4) != 0) {
            if (test->patch_count == SYSTEM_PATCHES_MAX) {
                return false;
            }
            test->patches[test->patch_count].offset = at;
            memcpy(&test->patches[test->patch_count++].value, maker->arena + at, 4);
        }
    }
    return true;
}

bool case_make(struct maker *maker, const uint8_t plain[SYSTEM_ARENA_BYTES])
{
    memcpy(maker->arena, plain, SYSTEM_ARENA_BYTES);
    maker->test->state = (struct system_state){0};
    maker->mode = (enum maker_mode)maker_below(maker, MODE_COUNT);
    maker->level = random_level(maker);
    maker->test->pending = maker_chance(maker, 1, 6) ? 0x20 + maker_below(maker, 0x20) : 0;
    if (maker_chance(maker, 1, 20)) {
        maker->test->pending = SYSTEM_PENDING_NMI;
    }
    for (unsigned i = 0; i < 8; i++) {
        if (maker_chance(maker, 1, 2)) {
            maker_store(maker, ARENA_GDT + SELECTOR_RANDOM + 8 * i, maker_descriptor(maker), 8);
        }
    }
    set_segments(maker);
    set_tables(maker);
    set_control(maker);
    set_msrs(maker);
    set_registers(maker);
    choose_handlers(maker);
    spoil(maker);
    make_program(maker);
    return make_patches(maker, plain);
}
