/* conformance/x86/case.c - random operands, prefixes and states around a form. */
#include "case.h"

#include "maker.h"
#include "values.h"

#include <string.h>

/* Where x87 has no part in it: only the rounding is random, and no register in use. */
static void make_x87(struct maker *maker)
{
    static const uint16_t precisions[] = {0, 0x200, 0x300, 0x300};
    struct case_state *state = &maker->test->before;
    enum form_group group = maker->test->form->group;
    uint64_t random = rnd_next(maker->rnd);

    state->fcw = (uint16_t)(0x37f ^ (random & 0x0c00));
    if (group != GROUP_FPU && group != GROUP_X87 && group != GROUP_MMX) {
        return;
    }
    state->fcw &= (uint16_t)~0x300;
    state->fcw |= precisions[rnd_below(maker->rnd, 4)];
    state->fcw &= (uint16_t)(maker_chance(maker, 3, 4) ? 0xffff : random | 0xffc0);
    state->fsw = (uint16_t)(random >> 16) & 0x7f7f;
    if (!maker_chance(maker, 1, 16)) { /* no exception pending */
        state->fsw &= state->fcw | 0xffc0;
    }
    state->fsw |= (state->fsw & ~state->fcw & 0x3f) != 0 ? 0x8080 : 0;
    state->ftw = (uint8_t)(random >> 32 | random >> 40);
    for (unsigned i = 0; i < 8; i++) {
        value_random_80_bits(maker->rnd, state->st[i]);
    }
}

static void make_state(struct maker *maker)
{
    struct case_state *state = &maker->test->before;
    struct rnd *rnd = maker->rnd;

    for (unsigned i = 0; i < 16; i++) {
        state->gpr[i] = value_random(rnd);
    }
    for (unsigned i = 0; i < 16; i++) {
        value_random_16_bytes(rnd, &state->xmm[i]);
    }
    state->rflags = 2 | FLAG_IF | (rnd_next(rnd) & (FLAGS_STATUS | FLAG_ID));
    state->rflags |= maker_chance(maker, 1, 4) ? FLAG_DF : 0;
    state->rflags |= maker_chance(maker, 1, 8) ? FLAG_AC : 0; /* Linux has set CR0.AM */
    state->mxcsr = (uint32_t)rnd_next(rnd) & 0x0000e07f; /* rounding, FTZ, DAZ, exceptions seen */
    state->mxcsr |= maker_chance(maker, 7, 8) ? 0x1f80 : (uint32_t)rnd_next(rnd) & 0x1f80;
    make_x87(maker);
}

/* Prefixes that change nothing, or the address. */
static void make_prefixes(struct maker *maker)
{
    static const uint8_t segments[] = {0x2e, 0x36, 0x3e, 0x26};
    const struct form *form = maker->test->form;
    bool is_branch = form->group == GROUP_FLOW || form->group == GROUP_CONDITION;
    unsigned size = maker->test->size_bytes;

    if (maker_chance(maker, 1, 16)) {
        maker->legacy[maker->legacy_count++] = segments[rnd_below(maker->rnd, 4)];
    }
    if (maker_chance(maker, 1, 16) && !is_branch) {
        maker->is_gs = true;
        maker->legacy[maker->legacy_count++] = 0x65;
    }
    if (maker_chance(maker, 1, 16) && !is_branch && form->special != SPECIAL_BIT &&
        (form->flags & FORM_VECTOR) == 0) {
        maker->is_address_32 = true;
        maker->legacy[maker->legacy_count++] = 0x67;
    }
    if (size == 2 || ((size == 8 || size == 1) && form->mandatory == 0 && !is_branch &&
                      (form->flags & (FORM_DEFAULT_64 | FORM_VECTOR)) == 0 &&
                      form->encoding < ENCODING_VEX && maker_chance(maker, 1, 16))) {
        maker->legacy[maker->legacy_count++] = 0x66;
    }
    if ((form->flags & FORM_REPEAT) != 0 && maker_chance(maker, 2, 3)) {
        maker->is_repeated = true;
        maker->legacy[maker->legacy_count++] = maker_chance(maker, 2, 3) ? 0xf3 : 0xf2;
    }
    if (form->encoding < ENCODING_VEX && (form->flags & (FORM_RARE | FORM_NO_LOCK)) == 0 &&
        maker_chance(maker, 1, 256)) {
        maker->legacy[maker->legacy_count++] = 0xf0;
    }
    while (maker_chance(maker, 1, 2048) && maker->legacy_count < 12) { /* at times too many */
        maker->legacy_count += 6;
        memset(maker->legacy + maker->legacy_count - 6, 0x3e, 6);
        maker->is_gs = false;
    }
    if (form->mandatory != 0 && form->encoding < ENCODING_VEX) {
        maker->legacy[maker->legacy_count++] = form->mandatory;
    }
}

static void lead_strings(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t from = maker_target(maker, false);
    uint64_t to = maker_chance(maker, 1, 8) ? from + rnd_below(maker->rnd, 32) - 16
                                            : maker_target(maker, false);

    if (maker->is_address_32) {
        from = from >= LOW_4G ? CASE_DATA + 0x800 : from;
        to = to >= LOW_4G ? CASE_DATA + 0x1800 : to;
    }
    test->target = to;
    if (maker_chance(maker, 1, 2)) { /* equal for a while */
        uint64_t value = value_random(maker->rnd);

        for (unsigned i = 0; i < 6; i++) {
            maker_put(maker, from + i * 8, &value, 8);
            maker_put(maker, to + i * 8, &value, 8);
        }
        test->before.gpr[X86_RAX] = value;
    }
    maker_lead_register(maker, X86_RSI, from - (maker->is_gs ? CASE_GS_BASE : 0));
    maker_lead_register(maker, X86_RDI, to);
    maker_lead_register(maker, X86_RCX,
                        rnd_below(maker->rnd, maker_chance(maker, 1, 8) ? 2000 : 24));
    if (maker->is_address_32 && maker->is_repeated) { /* before the first element: hosts differ */
        test->before.gpr[X86_RSI] &= UINT32_MAX;
        test->before.gpr[X86_RDI] &= UINT32_MAX;
        test->before.gpr[X86_RCX] &= UINT32_MAX;
    }
}

static uint64_t random_branch(struct maker *maker, bool is_near)
{
    struct test_case *test = maker->test;
    uint64_t branch;

    do {
        branch = is_near ? test->before.rip + CASE_LENGTH_MAX + rnd_below(maker->rnd, 100)
                         : CASE_CODE + rnd_below(maker->rnd, CASE_CODE_BYTES);
        if (is_near && maker_chance(maker, 1, 2)) {
            branch = test->before.rip - 1 - rnd_below(maker->rnd, 100);
        }
    } while (branch + 1 > test->before.rip && branch < test->before.rip + CASE_LENGTH_MAX + 8);
    if (maker_chance(maker, 1, 64) && !is_near) {
        branch = maker_target(maker, true); /* may not be executed */
    }
    return branch;
}

/* RSP leads to memory; where something is popped that must not be anything, it is put there. */
static void lead_stack(struct maker *maker)
{
    struct test_case *test = maker->test;
    enum form_special special = test->form->special;
    uint64_t target = maker_target(maker, special != SPECIAL_STACK);
    uint64_t value = value_random(maker->rnd);

    if (special == SPECIAL_POP_FLAGS) {
        value &= ~FLAG_TF;
        maker_put(maker, target, &value, 8);
    } else if (special == SPECIAL_RETURN) {
        test->branch = random_branch(maker, false);
        maker_put(maker, target, &test->branch, 8);
    } else if (special == SPECIAL_ENTER) {
        maker_set_register(maker, X86_RBP, maker_target(maker, false));
    }
    test->target = target;
    maker_set_register(maker, X86_RSP, target);
}

static void make_special_before(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t *gpr = test->before.gpr;

    if (maker_is_stack_special(test->form->special)) {
        lead_stack(maker);
    }
    switch ((enum form_special)test->form->special) {
    case SPECIAL_STRING:
        lead_strings(maker);
        break;
    case SPECIAL_TABLE:
        test->target = maker_target(maker, false);
        if (maker->is_address_32 && test->target >= LOW_4G) {
            test->target = CASE_DATA + 0x800;
        }
        maker_lead_register(maker, X86_RBX, test->target - (maker->is_gs ? CASE_GS_BASE : 0));
        break;
    case SPECIAL_XSAVE: /* of the states that both have: x87's and SSE's */
    case SPECIAL_XRSTOR:
        maker_set_register(maker, X86_RAX, rnd_next(maker->rnd) << 32 | rnd_below(maker->rnd, 4));
        maker_set_register(maker, X86_RDX, rnd_next(maker->rnd) << 32);
        break;
    case SPECIAL_LENGTHS:
        gpr[X86_RAX] = maker_chance(maker, 3, 4) ? rnd_below(maker->rnd, 20) : gpr[X86_RAX];
        gpr[X86_RDX] = maker_chance(maker, 3, 4) ? 0 - rnd_below(maker->rnd, 20) : gpr[X86_RDX];
        break;
    case SPECIAL_LOOP:
        gpr[X86_RCX] = maker_chance(maker, 1, 2) ? rnd_below(maker->rnd, 3) : gpr[X86_RCX];
        test->branch = random_branch(maker, true);
        break;
    case SPECIAL_BRANCH:
        test->branch = random_branch(maker, test->form->encoding == ENCODING_REL8);
        if (test->branch >= LOW_4G) {
            test->branch = CASE_CODE;
        }
        if (test->form->opcode == 0xe8) {
            lead_stack(maker);
        }
        break;
    default:
        break;
    }
}

/* The operand that ModRM names, as a register or memory. */
static void set_operand(struct maker *maker, uint64_t value)
{
    struct test_case *test = maker->test;

    if (test->is_memory) {
        maker_put(maker, test->target, &value, 8);
    } else {
        test->before.gpr[test->rm] = value;
    }
}

/* A quotient that fits: the upper half is less than the divisor, or the sign of the lower one. */
static void lead_division(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t *gpr = test->before.gpr;
    uint64_t upper = maker_chance(maker, 1, 2) ? rnd_below(maker->rnd, 100) : 0;

    if (test->is_memory &&
        maker_chance(maker, 1, 2)) { /* large enough; the registers may lead there */
        set_operand(maker, rnd_next(maker->rnd) | UINT64_C(0x6060606060606060));
    }
    if (test->is_memory || maker_chance(maker, 1, 8)) {
        return;
    }
    if (test->form->digit == 7 && maker_chance(maker, 1, 2)) {
        upper = UINT64_MAX - rnd_below(maker->rnd, 4);
    }
    if (test->size_bytes == 1) {
        gpr[X86_RAX] = (gpr[X86_RAX] & ~UINT64_C(0xff00)) | (upper & 0xff) << 8;
    } else {
        gpr[X86_RDX] = upper;
    }
    if (test->rm > X86_RDX && maker_chance(maker, 3, 4)) {
        gpr[test->rm] = rnd_next(maker->rnd) | 1;
    }
}

static void lead_compare(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t *gpr = test->before.gpr;
    unsigned half = test->size_bytes;

    if (maker_chance(maker, 1, 2)) {
        return;
    }
    if (test->form->special == SPECIAL_COMPARE) {
        set_operand(maker, gpr[X86_RAX]);
        return;
    }
    maker_put(maker, test->target, &gpr[X86_RAX], half);
    maker_put(maker, test->target + half, &gpr[X86_RDX], half);
}

/* An image that is mostly valid. */
static void lead_fxrstor(struct maker *maker)
{
    uint8_t image[160] = {0};
    uint16_t fcw = (uint16_t)(0x37f ^ (rnd_next(maker->rnd) & 0x0c00));
    uint32_t mxcsr =
        (uint32_t)rnd_next(maker->rnd) & (maker_chance(maker, 7, 8) ? 0xffff : 0x3ffff);

    memcpy(image, &fcw, sizeof(fcw));
    memcpy(image + 24, &mxcsr, sizeof(mxcsr));
    maker_put(maker, maker->test->target, image, sizeof(image));
}

/* ... and of XSAVE's: with a header that is mostly valid. */
static void lead_xrstor(struct maker *maker)
{
    uint64_t header[8] = {rnd_below(maker->rnd, 4)};

    lead_fxrstor(maker);
    header[rnd_below(maker->rnd, 3)] |= maker_chance(maker, 1, 8) ? UINT64_C(1) << 62 : 0;
    maker_put(maker, maker->test->target + 512, header, sizeof(header));
}

static void make_special_after(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t value;

    switch ((enum form_special)test->form->special) {
    case SPECIAL_DIVIDE:
        lead_division(maker);
        break;
    case SPECIAL_COMPARE:
    case SPECIAL_COMPARE_PAIR:
        lead_compare(maker);
        break;
    case SPECIAL_INDIRECT:
    case SPECIAL_INDIRECT_CALL:
        test->branch = random_branch(maker, false);
        set_operand(maker, test->branch);
        break;
    case SPECIAL_MXCSR:
        value = rnd_next(maker->rnd) & (maker_chance(maker, 7, 8) ? 0xffff : 0x3ffff);
        maker_put(maker, test->target, &value, 4);
        break;
    case SPECIAL_FXRSTOR:
        lead_fxrstor(maker);
        break;
    case SPECIAL_XRSTOR:
        lead_xrstor(maker);
        break;
    case SPECIAL_SELECTOR:
        value = value_random(maker->rnd) & ~UINT64_C(0xffff);
        set_operand(maker, value | rnd_below(maker->rnd, CASE_SELECTORS_END));
        break;
    default:
        break;
    }
}

/* BT's by a register: near, or so far that it is not canonical. */
static void limit_bit(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t *index = &test->before.gpr[test->reg];
    int64_t distance = (int64_t)*index >> 3;

    if (test->form->encoding != ENCODING_RM || !test->is_memory) {
        return;
    }
    if (test->size_bytes == 8 && distance < (INT64_C(1) << 50) && distance > -(INT64_C(1) << 50)) {
        /* A base register that is the index as well stays within 1 GiB around the window. */
        *index =
            distance < (1 << 29) && distance > -(1 << 29) ? *index : *index | UINT64_C(1) << 62;
    }
}

static unsigned choose_size(struct maker *maker)
{
    const struct form *form = maker->test->form;
    unsigned size;

    if (form->sizes == 0) {
        return 0;
    }
    do {
        size = 1u << rnd_below(maker->rnd, 4);
    } while ((form->sizes & size) == 0);
    return size;
}

static uint64_t choose_immediate(struct maker *maker)
{
    uint64_t value = value_random(maker->rnd);

    if (maker->test->form->special == SPECIAL_ENTER) {
        value = rnd_below(maker->rnd, 0x200) | rnd_below(maker->rnd, 40) << 16;
    }
    if (maker->test->form->special == SPECIAL_INTERRUPT) {
        value = 5 + rnd_below(maker->rnd, 0x7b); /* 80 is a system call */
    }
    return value;
}

/* Mostly in the middle of a page; at times in two, or at the end of all. */
static void choose_place(struct maker *maker)
{
    struct test_case *test = maker->test;

    test->before.rip = CASE_CODE + 0x100 + rnd_below(maker->rnd, CASE_CODE_BYTES - 0x200);
    if (maker_chance(maker, 1, 32)) {
        test->before.rip = CASE_CODE + 0x1000 - rnd_below(maker->rnd, 16);
    }
}

/* Move what does not depend on its place to the end of the code, as a whole or in part. */
static void move_to_end(struct maker *maker)
{
    struct test_case *test = maker->test;

    test->mapped = test->length;
    if (maker->is_rip_relative || test->branch != 0 || !maker_chance(maker, 1, 128)) {
        return;
    }
    if (maker_chance(maker, 1, 2)) {
        test->mapped = 1 + (unsigned)rnd_below(maker->rnd, test->length);
    }
    test->before.rip = CASE_CODE_END - test->mapped;
}

static void make_operands(struct maker *maker)
{
    struct test_case *test = maker->test;

    switch ((enum form_encoding)test->form->encoding) {
    case ENCODING_OREG:
        test->rm = (uint8_t)rnd_below(maker->rnd, 16);
        maker->rex |= test->rm >= 8 ? 1 : 0;
        break;
    case ENCODING_OFFSET:
        test->is_memory = true;
        test->target = maker_target(maker, false);
        if (maker->is_address_32 && test->target >= LOW_4G) {
            test->target = CASE_DATA;
        }
        break;
    case ENCODING_RM:
    case ENCODING_RM_EXT:
    case ENCODING_VEX:
    case ENCODING_VEX_EXT:
        maker_make_modrm(maker);
        break;
    default:
        break;
    }
}

void case_make(struct test_case *test, struct rnd *rnd, const struct form *form, uint8_t *data)
{
    struct maker maker = {.test = test, .rnd = rnd, .data = data};

    *test = (struct test_case){.form = form};
    make_state(&maker);
    choose_place(&maker);
    test->size_bytes = choose_size(&maker);
    if (test->size_bytes == 8 && (form->flags & FORM_DEFAULT_64) == 0) {
        maker.rex |= 8;
    }
    maker.has_rex = maker_chance(&maker, 1, 8) && form->encoding < ENCODING_VEX;
    make_prefixes(&maker);
    make_special_before(&maker);
    make_operands(&maker);
    if ((form->flags & FORM_LOCK) != 0 && test->is_memory && maker_chance(&maker, 1, 4)) {
        memmove(maker.legacy + 1, maker.legacy, maker.legacy_count++);
        maker.legacy[0] = 0xf0;
    }
    make_special_after(&maker);
    if (form->special == SPECIAL_BIT) {
        limit_bit(&maker);
    }
    test->immediate = choose_immediate(&maker);
    maker_assemble(&maker);
    move_to_end(&maker);
}
