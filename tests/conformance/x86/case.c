/* conformance/x86/case.c - random operands, prefixes and states around a form. */
#include "case.h"

#include <string.h>

#define FLAG_CF UINT64_C(0x1)
#define FLAG_PF UINT64_C(0x4)
#define FLAG_AF UINT64_C(0x10)
#define FLAG_ZF UINT64_C(0x40)
#define FLAG_SF UINT64_C(0x80)
#define FLAG_TF UINT64_C(0x100)
#define FLAG_IF UINT64_C(0x200)
#define FLAG_DF UINT64_C(0x400)
#define FLAG_OF UINT64_C(0x800)
#define FLAG_AC UINT64_C(0x40000)
#define FLAG_ID UINT64_C(0x200000)
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define LOW_4G UINT64_C(0x100000000)

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* A case under way. */
struct maker {
    struct test_case *test;
    struct rnd *rnd;
    uint8_t *data;
    /* The encoding. */
    uint8_t legacy[16]; /* prefixes before REX */
    unsigned legacy_count;
    uint8_t rex;
    bool has_rex;
    bool is_address_32, is_gs;
    uint8_t modrm, sib;
    bool has_modrm, has_sib;
    unsigned displacement_bytes;
    int32_t displacement;
    bool is_rip_relative;
    uint16_t taken; /* registers that may not be changed any more: a bit each */
};

static bool chance(struct maker *maker, unsigned part, unsigned whole)
{
    return rnd_below(maker->rnd, whole) < part;
}

static uint64_t random_value(struct rnd *rnd)
{
    static const uint64_t some[] = {
        0,          1,          2,          0x7f,      0x80,
        0xff,       0x7fff,     0x8000,     0xffff,    0x7fffffff,
        0x80000000, 0xffffffff, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN,
    };

    switch (rnd_below(rnd, 8)) {
    case 0:
        return some[rnd_below(rnd, COUNT_OF(some))];
    case 1:
        return some[rnd_below(rnd, COUNT_OF(some))] + rnd_below(rnd, 5) - 2;
    case 2:
        return rnd_below(rnd, 130);
    case 3:
        return UINT64_C(1) << rnd_below(rnd, 64);
    case 4:
        return (uint64_t)(int64_t)(int32_t)rnd_next(rnd);
    case 5:
        return rnd_next(rnd) >> rnd_below(rnd, 64);
    default:
        return rnd_next(rnd);
    }
}

static uint32_t random_float(struct rnd *rnd)
{
    static const uint32_t some[] = {
        0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
        0xffc00001, 0x7f800001, 0xffa00000, 1,          0x80000001, 0x007fffff, 0x00800000,
        0x7f7fffff, 0x4f000000, 0xcf000000, 0x4effffff, 0x3f000000, 0x3fc00000, 0x5f000000,
    };

    switch (rnd_below(rnd, 4)) {
    case 0:
        return some[rnd_below(rnd, COUNT_OF(some))];
    case 1: /* about 1: sums and products stay in range */
        return (0x3a000000u + (uint32_t)rnd_below(rnd, 0x0b000000)) ^
               (uint32_t)(rnd_next(rnd) & 0x80000000);
    default:
        return (uint32_t)rnd_next(rnd);
    }
}

static uint64_t random_double(struct rnd *rnd)
{
    static const uint64_t some[] = {
        0,
        UINT64_C(0x8000000000000000),
        UINT64_C(0x3ff0000000000000),
        UINT64_C(0xbff0000000000000),
        UINT64_C(0x7ff0000000000000),
        UINT64_C(0xfff0000000000000),
        UINT64_C(0x7ff8000000000000),
        UINT64_C(0xfff8000000000001),
        UINT64_C(0x7ff0000000000001),
        1,
        UINT64_C(0x800fffffffffffff),
        UINT64_C(0x0010000000000000),
        UINT64_C(0x7fefffffffffffff),
        UINT64_C(0x41dfffffffe00000), /* 2^31 - 0.5 */
        UINT64_C(0xc1e0000000000000),
        UINT64_C(0x43e0000000000000), /* 2^63 */
        UINT64_C(0x380fffffe0000000), /* about where single precision gets denormal */
        UINT64_C(0x47efffffe8000000), /* ... and ends */
        UINT64_C(0x3fe0000000000000),
        UINT64_C(0x3ff8000000000000),
    };

    switch (rnd_below(rnd, 4)) {
    case 0:
        return some[rnd_below(rnd, COUNT_OF(some))];
    case 1:
        return (UINT64_C(0x3f00000000000000) + rnd_below(rnd, UINT64_C(0x0180000000000000))) ^
               (rnd_next(rnd) & UINT64_C(0x8000000000000000));
    default:
        return rnd_next(rnd);
    }
}

static void random_16_bytes(struct rnd *rnd, void *bytes)
{
    union x86_xmm value;

    switch (rnd_below(rnd, 3)) {
    case 0:
        for (unsigned i = 0; i < 4; i++) {
            value.u32[i] = random_float(rnd);
        }
        break;
    case 1:
        for (unsigned i = 0; i < 2; i++) {
            value.u64[i] = random_double(rnd);
        }
        break;
    default:
        for (unsigned i = 0; i < 2; i++) {
            value.u64[i] = random_value(rnd);
        }
        break;
    }
    memcpy(bytes, &value, sizeof(value));
}

static void make_state(struct maker *maker)
{
    struct case_state *state = &maker->test->before;
    struct rnd *rnd = maker->rnd;

    for (unsigned i = 0; i < 16; i++) {
        state->gpr[i] = random_value(rnd);
    }
    for (unsigned i = 0; i < 16; i++) {
        random_16_bytes(rnd, &state->xmm[i]);
    }
    state->rflags = 2 | FLAG_IF | (rnd_next(rnd) & (FLAGS_STATUS | FLAG_ID));
    state->rflags |= chance(maker, 1, 4) ? FLAG_DF : 0;
    state->rflags |= chance(maker, 1, 64) ? FLAG_AC : 0;
    state->mxcsr = (uint32_t)rnd_next(rnd) & 0x0000e07f; /* rounding, FTZ, DAZ, exceptions seen */
    state->mxcsr |= chance(maker, 7, 8) ? 0x1f80 : (uint32_t)rnd_next(rnd) & 0x1f80;
    state->fcw = (uint16_t)(0x37f ^ (rnd_next(rnd) & 0x0c00)); /* rounding */
}

static bool is_writable(uint64_t address, unsigned byte_count)
{
    return address >= CASE_DATA && byte_count <= CASE_WRITABLE_BYTES &&
           address - CASE_DATA <= CASE_WRITABLE_BYTES - byte_count;
}

/* Put bytes into memory where it may be written; a case has other memory elsewhere. */
static void put(struct maker *maker, uint64_t address, const void *bytes, unsigned byte_count)
{
    if (is_writable(address, byte_count)) {
        memcpy(maker->data + (address - CASE_DATA), bytes, byte_count);
    }
}

/* Where an operand is. With @is_plain: wholly in memory that may be written, or wholly elsewhere. */
static uint64_t random_target(struct maker *maker, bool is_plain)
{
    struct rnd *rnd = maker->rnd;
    uint64_t middle = CASE_DATA + 0x400 + rnd_below(rnd, CASE_WRITABLE_BYTES - 0x800);

    switch (rnd_below(rnd, 64)) {
    case 0: /* not there */
        return CASE_DATA - 0x800 + rnd_below(rnd, 0x400);
    case 1: /* not canonical, where a register leads to it */
        return rnd_next(rnd) | UINT64_C(0x4000000000000000);
    case 2: /* may be read */
        return is_plain ? middle : CASE_DATA + CASE_WRITABLE_BYTES + rnd_below(rnd, 0xe00);
    case 3: /* ends in the next page, which may be read, or before */
        return is_plain ? middle : CASE_DATA + CASE_WRITABLE_BYTES - 1 - rnd_below(rnd, 24);
    case 4:
        return is_plain ? middle : CASE_DATA + CASE_DATA_BYTES - 1 - rnd_below(rnd, 24);
    case 5:
        return is_plain ? middle : CASE_DATA - 1 - rnd_below(rnd, 16);
    case 6: /* from one page into another */
        return CASE_DATA + 0x1000 - rnd_below(rnd, 16);
    case 7: /* the kernel's */
        return is_plain ? middle : UINT64_C(0xffff900000000000) + rnd_below(rnd, 1u << 30);
    default:
        return chance(maker, 3, 4) ? middle & ~UINT64_C(15) : middle;
    }
}

static void set_register(struct maker *maker, unsigned number, uint64_t value)
{
    maker->test->before.gpr[number] = value;
    maker->taken |= (uint16_t)(1u << number);
}

static bool is_taken(const struct maker *maker, unsigned number)
{
    return (maker->taken >> number & 1) != 0;
}

static unsigned free_register(struct maker *maker, bool is_index)
{
    unsigned number;

    do {
        number = (unsigned)rnd_below(maker->rnd, 16);
    } while (is_taken(maker, number) || (is_index && number == X86_RSP));
    return number;
}

/* The register's upper half does not count in a 32-bit address. */
static void lead_register(struct maker *maker, unsigned number, uint64_t value)
{
    if (maker->is_address_32) {
        value = (uint32_t)value | (rnd_next(maker->rnd) << 32);
    }
    maker->test->before.gpr[number] = value;
}

static void encode_rm(struct maker *maker, unsigned mod, unsigned rm)
{
    maker->modrm |= (uint8_t)(mod << 6 | (rm & 7));
    maker->rex |= rm >= 8 ? 1 : 0;
}

static void encode_sib(struct maker *maker, unsigned scale, unsigned index, unsigned base)
{
    maker->has_sib = true;
    maker->sib = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
    maker->rex |= (uint8_t)((index >= 8 ? 2 : 0) | (base >= 8 ? 1 : 0));
}

static int32_t random_displacement(struct maker *maker, unsigned byte_count)
{
    switch (byte_count) {
    case 0:
        return 0;
    case 1:
        return (int8_t)rnd_next(maker->rnd);
    default:
        return chance(maker, 1, 2) ? (int32_t)rnd_next(maker->rnd)
                                   : (int32_t)rnd_below(maker->rnd, 0x400) - 0x200;
    }
}

/* [base + displacement]: MOD by the displacement's size. */
static void encode_base(struct maker *maker, unsigned base, bool with_sib)
{
    static const uint8_t sizes[] = {0, 1, 4};
    unsigned mod = (unsigned)rnd_below(maker->rnd, 3);

    if (mod == 0 && (base & 7) == 5) {
        mod = 1;
    }
    maker->displacement_bytes = sizes[mod];
    maker->displacement = random_displacement(maker, sizes[mod]);
    maker->modrm |= (uint8_t)(mod << 6);
    if (with_sib) {
        encode_rm(maker, 0, 4);
    } else {
        encode_rm(maker, 0, base);
    }
}

static void make_base(struct maker *maker, uint64_t address)
{
    unsigned base = free_register(maker, false);
    bool with_sib = (base & 7) == 4 || chance(maker, 1, 8);

    encode_base(maker, base, with_sib);
    if (with_sib) {
        encode_sib(maker, (unsigned)rnd_below(maker->rnd, 4), 4, base);
    }
    lead_register(maker, base, address - (uint64_t)(int64_t)maker->displacement);
}

static void make_base_and_index(struct maker *maker, uint64_t address)
{
    unsigned base = free_register(maker, false);
    unsigned index = free_register(maker, true);
    unsigned scale = (unsigned)rnd_below(maker->rnd, 4);
    uint64_t *gpr = maker->test->before.gpr;

    if (base == index) { /* solved by the displacement only */
        uint64_t times = (UINT64_C(1) << scale) + 1;

        address &= 0xffffffff;
        lead_register(maker, base, address / times);
        maker->displacement = (int32_t)(address % times);
        maker->displacement_bytes = 1;
        encode_rm(maker, 1, 4);
    } else {
        encode_base(maker, base, true);
        lead_register(maker, base,
                      address - (uint64_t)(int64_t)maker->displacement - (gpr[index] << scale));
    }
    encode_sib(maker, scale, index, base);
}

/* [index * scale + displacement]. What the multiplication loses is random. */
static void make_index(struct maker *maker, uint64_t address)
{
    unsigned index = free_register(maker, true);
    unsigned scale = (unsigned)rnd_below(maker->rnd, 4);
    int32_t displacement = random_displacement(maker, 4);
    uint64_t value;

    displacement &= ~7;
    displacement |= (int32_t)(address & 7);
    value = (address - (uint64_t)(int64_t)displacement) >> scale;
    if (scale != 0) {
        value |= rnd_next(maker->rnd) << (64 - scale);
    }
    if (maker->is_address_32) {
        value = (uint32_t)value;
    }
    lead_register(maker, index, value);
    maker->displacement = displacement;
    maker->displacement_bytes = 4;
    encode_rm(maker, 0, 4);
    encode_sib(maker, scale, index, 5);
    maker->rex &= (uint8_t)~1;
}

static bool fits_displacement(uint64_t address)
{
    return (uint64_t)(int64_t)(int32_t)address == address;
}

/* A memory operand that is at @target. */
static void make_memory(struct maker *maker, uint64_t target)
{
    uint64_t address = target - (maker->is_gs ? CASE_GS_BASE : 0);
    bool is_low = target < LOW_4G / 2 && fits_displacement(address);

    maker->test->is_memory = true;
    switch (rnd_below(maker->rnd, 8)) {
    case 0:
        if (is_low) {
            maker->displacement = (int32_t)address;
            maker->displacement_bytes = 4;
            encode_rm(maker, 0, 4);
            encode_sib(maker, (unsigned)rnd_below(maker->rnd, 4), 4, 5);
            return;
        }
        make_base(maker, address);
        return;
    case 1:
        if (is_low) {
            maker->is_rip_relative = true; /* when the length is known */
            maker->displacement_bytes = 4;
            encode_rm(maker, 0, 5);
            return;
        }
        make_base(maker, address);
        return;
    case 2:
        make_index(maker, address);
        return;
    case 3:
    case 4:
        make_base_and_index(maker, address);
        return;
    default:
        make_base(maker, address);
        return;
    }
}

/* PUSH and POP of memory by RSP, which leads to memory already. */
static void make_stack_memory(struct maker *maker)
{
    maker->test->is_memory = true;
    maker->is_gs = false;
    maker->displacement = random_displacement(maker, 1);
    maker->displacement_bytes = 1;
    encode_rm(maker, 1, 4);
    encode_sib(maker, 0, 4, X86_RSP);
}

static bool is_stack_special(enum form_special special)
{
    return special == SPECIAL_STACK || special == SPECIAL_POP_FLAGS || special == SPECIAL_RETURN ||
           special == SPECIAL_ENTER || special == SPECIAL_INDIRECT_CALL;
}

/* Operands' memory: interesting values. */
static void fill_target(struct maker *maker, uint64_t target)
{
    uint8_t bytes[32];

    if (chance(maker, 1, 2)) {
        for (unsigned i = 0; i < 4; i++) {
            uint64_t value = random_value(maker->rnd);

            memcpy(bytes + i * 8, &value, 8);
        }
    } else {
        random_16_bytes(maker->rnd, bytes);
        random_16_bytes(maker->rnd, bytes + 16);
    }
    put(maker, target, bytes, sizeof(bytes));
}

static void make_rm(struct maker *maker)
{
    struct test_case *test = maker->test;
    const struct form *form = test->form;
    bool is_memory = (form->flags & FORM_MEMORY_ONLY) != 0 || chance(maker, 1, 2);

    if ((form->flags & FORM_REGISTER_ONLY) != 0 || !is_memory) {
        do {
            test->rm = (uint8_t)rnd_below(maker->rnd, 16);
        } while (form->special == SPECIAL_INDIRECT_CALL && test->rm == X86_RSP);
        encode_rm(maker, 3, test->rm);
        return;
    }
    if (is_stack_special(form->special) && chance(maker, 1, 8) &&
        form->special != SPECIAL_INDIRECT_CALL) {
        make_stack_memory(maker);
        return;
    }
    test->target = random_target(maker, false);
    if (maker->is_address_32 && test->target >= LOW_4G) {
        test->target = CASE_DATA + 0x800;
    }
    if ((form->flags & FORM_ALIGNED) != 0 && chance(maker, 7, 8)) {
        test->target &= ~UINT64_C(15);
    }
    fill_target(maker, test->target);
    make_memory(maker, test->target);
}

static void make_modrm(struct maker *maker)
{
    struct test_case *test = maker->test;
    const struct form *form = test->form;

    maker->has_modrm = true;
    if (form->encoding == ENCODING_RM || form->encoding == ENCODING_VEX) {
        test->reg = (uint8_t)rnd_below(maker->rnd, 16);
        maker->rex |= test->reg >= 8 ? 4 : 0;
        maker->modrm = (uint8_t)((test->reg & 7) << 3);
    } else {
        maker->modrm = (uint8_t)(form->digit << 3);
    }
    make_rm(maker);
}

/* Prefixes that change nothing, or the address. */
static void make_prefixes(struct maker *maker)
{
    static const uint8_t segments[] = {0x2e, 0x36, 0x3e, 0x26};
    const struct form *form = maker->test->form;
    bool is_branch = form->group == GROUP_FLOW || form->group == GROUP_CONDITION;
    unsigned size = maker->test->size_bytes;

    if (chance(maker, 1, 16)) {
        maker->legacy[maker->legacy_count++] = segments[rnd_below(maker->rnd, 4)];
    }
    if (chance(maker, 1, 16) && !is_branch) {
        maker->is_gs = true;
        maker->legacy[maker->legacy_count++] = 0x65;
    }
    if (chance(maker, 1, 16) && !is_branch && form->special != SPECIAL_BIT &&
        (form->flags & FORM_VECTOR) == 0) {
        maker->is_address_32 = true;
        maker->legacy[maker->legacy_count++] = 0x67;
    }
    if (size == 2 || ((size == 8 || size == 1) && form->mandatory == 0 && !is_branch &&
                      (form->flags & (FORM_DEFAULT_64 | FORM_VECTOR)) == 0 &&
                      form->encoding < ENCODING_VEX && chance(maker, 1, 16))) {
        maker->legacy[maker->legacy_count++] = 0x66;
    }
    if ((form->flags & FORM_REPEAT) != 0 && chance(maker, 2, 3)) {
        maker->legacy[maker->legacy_count++] = chance(maker, 2, 3) ? 0xf3 : 0xf2;
    }
    if (form->encoding < ENCODING_VEX && (form->flags & FORM_RARE) == 0 && chance(maker, 1, 256)) {
        maker->legacy[maker->legacy_count++] = 0xf0;
    }
    while (chance(maker, 1, 2048) && maker->legacy_count < 12) { /* at times too many */
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
    uint64_t from = random_target(maker, false);
    uint64_t to =
        chance(maker, 1, 8) ? from + rnd_below(maker->rnd, 32) - 16 : random_target(maker, false);

    if (maker->is_address_32) {
        from = from >= LOW_4G ? CASE_DATA + 0x800 : from;
        to = to >= LOW_4G ? CASE_DATA + 0x1800 : to;
    }
    test->target = to;
    if (chance(maker, 1, 2)) { /* equal for a while */
        uint64_t value = random_value(maker->rnd);

        for (unsigned i = 0; i < 6; i++) {
            put(maker, from + i * 8, &value, 8);
            put(maker, to + i * 8, &value, 8);
        }
        test->before.gpr[X86_RAX] = value;
    }
    lead_register(maker, X86_RSI, from - (maker->is_gs ? CASE_GS_BASE : 0));
    lead_register(maker, X86_RDI, to);
    lead_register(maker, X86_RCX, rnd_below(maker->rnd, chance(maker, 1, 8) ? 2000 : 24));
}

static uint64_t random_branch(struct maker *maker, bool is_near)
{
    struct test_case *test = maker->test;
    uint64_t branch;

    do {
        branch = is_near ? test->before.rip + CASE_LENGTH_MAX + rnd_below(maker->rnd, 100)
                         : CASE_CODE + rnd_below(maker->rnd, CASE_CODE_BYTES);
        if (is_near && chance(maker, 1, 2)) {
            branch = test->before.rip - 1 - rnd_below(maker->rnd, 100);
        }
    } while (branch + 1 > test->before.rip && branch < test->before.rip + CASE_LENGTH_MAX + 8);
    if (chance(maker, 1, 64) && !is_near) {
        branch = random_target(maker, true); /* may not be executed */
    }
    return branch;
}

/* RSP leads to memory; where something is popped that must not be anything, it is put there. */
static void lead_stack(struct maker *maker)
{
    struct test_case *test = maker->test;
    enum form_special special = test->form->special;
    uint64_t target = random_target(maker, special != SPECIAL_STACK);
    uint64_t value = random_value(maker->rnd);

    if (special == SPECIAL_POP_FLAGS) {
        value &= ~FLAG_TF;
        put(maker, target, &value, 8);
    } else if (special == SPECIAL_RETURN) {
        test->branch = random_branch(maker, false);
        put(maker, target, &test->branch, 8);
    } else if (special == SPECIAL_ENTER) {
        set_register(maker, X86_RBP, random_target(maker, false));
    }
    test->target = target;
    set_register(maker, X86_RSP, target);
}

static void make_special_before(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t *gpr = test->before.gpr;

    if (is_stack_special(test->form->special)) {
        lead_stack(maker);
    }
    switch ((enum form_special)test->form->special) {
    case SPECIAL_STRING:
        lead_strings(maker);
        break;
    case SPECIAL_TABLE:
        test->target = random_target(maker, false);
        if (maker->is_address_32 && test->target >= LOW_4G) {
            test->target = CASE_DATA + 0x800;
        }
        lead_register(maker, X86_RBX, test->target - (maker->is_gs ? CASE_GS_BASE : 0));
        break;
    case SPECIAL_LOOP:
        gpr[X86_RCX] = chance(maker, 1, 2) ? rnd_below(maker->rnd, 3) : gpr[X86_RCX];
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
        put(maker, test->target, &value, 8);
    } else {
        test->before.gpr[test->rm] = value;
    }
}

/* A quotient that fits: the upper half is less than the divisor, or the sign of the lower one. */
static void lead_division(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t *gpr = test->before.gpr;
    uint64_t upper = chance(maker, 1, 2) ? rnd_below(maker->rnd, 100) : 0;

    if (test->is_memory && chance(maker, 1, 2)) { /* large enough; the registers may lead there */
        set_operand(maker, rnd_next(maker->rnd) | UINT64_C(0x6060606060606060));
    }
    if (test->is_memory || chance(maker, 1, 8)) {
        return;
    }
    if (test->form->digit == 7 && chance(maker, 1, 2)) {
        upper = UINT64_MAX - rnd_below(maker->rnd, 4);
    }
    if (test->size_bytes == 1) {
        gpr[X86_RAX] = (gpr[X86_RAX] & ~UINT64_C(0xff00)) | (upper & 0xff) << 8;
    } else {
        gpr[X86_RDX] = upper;
    }
    if (test->rm > X86_RDX && chance(maker, 3, 4)) {
        gpr[test->rm] = rnd_next(maker->rnd) | 1;
    }
}

static void lead_compare(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint64_t *gpr = test->before.gpr;
    unsigned half = test->size_bytes;

    if (chance(maker, 1, 2)) {
        return;
    }
    if (test->form->special == SPECIAL_COMPARE) {
        set_operand(maker, gpr[X86_RAX]);
        return;
    }
    put(maker, test->target, &gpr[X86_RAX], half);
    put(maker, test->target + half, &gpr[X86_RDX], half);
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
        value = rnd_next(maker->rnd) & (chance(maker, 7, 8) ? 0xffff : 0x3ffff);
        put(maker, test->target, &value, 4);
        break;
    case SPECIAL_SELECTOR: /* Linux's descriptors, as guest.c has them as well */
        value = random_value(maker->rnd) & ~UINT64_C(0xffff);
        set_operand(maker, value | rnd_below(maker->rnd, 0x38));
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

static void append(struct test_case *test, uint64_t value, unsigned byte_count)
{
    memcpy(test->bytes + test->length, &value, byte_count);
    test->length += byte_count;
}

static unsigned immediate_bytes(const struct test_case *test)
{
    unsigned size = test->size_bytes;

    switch ((enum form_immediate)test->form->immediate) {
    case IMMEDIATE_8:
        return 1;
    case IMMEDIATE_16:
        return 2;
    case IMMEDIATE_OPERAND:
        return size > 4 ? 4 : size;
    case IMMEDIATE_WHOLE:
        return size;
    case IMMEDIATE_ENTER:
        return 3;
    default:
        return 0;
    }
}

static void append_opcode(struct maker *maker)
{
    struct test_case *test = maker->test;
    uint32_t opcode = test->form->opcode;
    uint8_t low = (uint8_t)opcode;

    if (test->form->encoding == ENCODING_OREG) {
        low |= test->rm & 7;
    }
    if (opcode > 0xffff) {
        append(test, opcode >> 16, 1);
    }
    if (opcode > 0xff) {
        append(test, opcode >> 8, 1);
    }
    append(test, low, 1);
}

static unsigned vex_prefix_of(uint8_t mandatory)
{
    return mandatory == 0x66 ? 1 : mandatory == 0xf3 ? 2 : mandatory == 0xf2 ? 3 : 0;
}

static void append_vex(struct maker *maker)
{
    struct test_case *test = maker->test;
    const struct form *form = test->form;
    unsigned vvvv = form->digit == 8 ? 0 : (unsigned)rnd_below(maker->rnd, 16);
    unsigned map = form->opcode >> 8;

    append(test, 0xc4, 1);
    append(test, (~(unsigned)maker->rex & 7) << 5 | map, 1);
    append(test,
           (test->size_bytes == 8 ? 0x80u : 0) | (~vvvv & 15) << 3 | vex_prefix_of(form->mandatory),
           1);
    append(test, form->opcode & 0xff, 1);
}

static void append_displacement(struct maker *maker, unsigned immediate)
{
    struct test_case *test = maker->test;

    if (maker->is_rip_relative) {
        uint64_t next = test->before.rip + test->length + 4 + immediate;

        maker->displacement = (int32_t)(test->target - (maker->is_gs ? CASE_GS_BASE : 0) - next);
    }
    append(test, (uint64_t)(int64_t)maker->displacement, maker->displacement_bytes);
}

static void append_relative(struct test_case *test)
{
    unsigned size = test->form->encoding == ENCODING_REL8 ? 1 : 4;

    append(test, test->branch - (test->before.rip + test->length + size), size);
}

static void assemble(struct maker *maker)
{
    struct test_case *test = maker->test;
    unsigned immediate = immediate_bytes(test);

    memcpy(test->bytes, maker->legacy, maker->legacy_count);
    test->length = maker->legacy_count;
    if (test->form->encoding >= ENCODING_VEX) {
        append_vex(maker);
    } else {
        if (maker->rex != 0 || maker->has_rex) {
            append(test, 0x40u | maker->rex, 1);
        }
        append_opcode(maker);
    }
    if (maker->has_modrm) {
        append(test, maker->modrm, 1);
    }
    if (maker->has_sib) {
        append(test, maker->sib, 1);
    }
    append_displacement(maker, immediate);
    if (test->form->encoding == ENCODING_OFFSET) {
        uint64_t address = test->target - (maker->is_gs ? CASE_GS_BASE : 0);

        append(test, address, maker->is_address_32 ? 4 : 8);
    }
    if (test->form->encoding == ENCODING_REL8 || test->form->encoding == ENCODING_REL32) {
        append_relative(test);
    }
    append(test, test->immediate, immediate);
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
    uint64_t value = random_value(maker->rnd);

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
    if (chance(maker, 1, 32)) {
        test->before.rip = CASE_CODE + 0x1000 - rnd_below(maker->rnd, 16);
    }
}

/* Move what does not depend on its place to the end of the code, as a whole or in part. */
static void move_to_end(struct maker *maker)
{
    struct test_case *test = maker->test;

    test->mapped = test->length;
    if (maker->is_rip_relative || test->branch != 0 || !chance(maker, 1, 128)) {
        return;
    }
    if (chance(maker, 1, 2)) {
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
        test->target = random_target(maker, false);
        if (maker->is_address_32 && test->target >= LOW_4G) {
            test->target = CASE_DATA;
        }
        break;
    case ENCODING_RM:
    case ENCODING_RM_EXT:
    case ENCODING_VEX:
    case ENCODING_VEX_EXT:
        make_modrm(maker);
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
    maker.has_rex = chance(&maker, 1, 8) && form->encoding < ENCODING_VEX;
    make_prefixes(&maker);
    make_special_before(&maker);
    make_operands(&maker);
    if ((form->flags & FORM_LOCK) != 0 && test->is_memory && chance(&maker, 1, 4)) {
        memmove(maker.legacy + 1, maker.legacy, maker.legacy_count++);
        maker.legacy[0] = 0xf0;
    }
    make_special_after(&maker);
    if (form->special == SPECIAL_BIT) {
        limit_bit(&maker);
    }
    test->immediate = choose_immediate(&maker);
    assemble(&maker);
    move_to_end(&maker);
}

/* Shifts: the count, after masking. */
static unsigned count_of(const struct test_case *test)
{
    unsigned mask = test->size_bytes == 8 ? 63 : 31;

    if (test->form->immediate == IMMEDIATE_8) {
        return (unsigned)test->immediate & mask;
    }
    if ((test->form->opcode & ~1u) == 0xd0) {
        return 1;
    }
    return (unsigned)test->before.gpr[X86_RCX] & mask;
}

static uint64_t undefined_by_count(const struct test_case *test)
{
    unsigned count = count_of(test);
    unsigned bits = test->size_bytes * 8;

    switch ((enum form_undefined)test->form->undefined) {
    case UNDEFINED_ROTATE:
        return count > 1 ? FLAG_OF : 0;
    case UNDEFINED_DOUBLE_SHIFT:
        if (count > bits) {
            return FLAGS_STATUS;
        }
        return count == 0 ? 0 : FLAG_AF | (count > 1 ? FLAG_OF : 0);
    default:
        return count == 0 ? 0
                          : FLAG_AF | (count > 1 ? FLAG_OF : 0) |
                                (count >= bits && test->form->digit != 7 ? FLAG_CF : 0);
    }
}

static uint64_t undefined_flags(const struct test_case *test)
{
    switch ((enum form_undefined)test->form->undefined) {
    case UNDEFINED_AF:
        return FLAG_AF;
    case UNDEFINED_MUL:
        return FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF;
    case UNDEFINED_DIV:
        return FLAGS_STATUS;
    case UNDEFINED_SHIFT:
    case UNDEFINED_ROTATE:
    case UNDEFINED_DOUBLE_SHIFT:
        return undefined_by_count(test);
    case UNDEFINED_BIT:
        return FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF;
    case UNDEFINED_SCAN:
        return FLAGS_STATUS & ~FLAG_ZF;
    case UNDEFINED_COUNT:
        return FLAG_OF | FLAG_SF | FLAG_PF | FLAG_AF;
    case UNDEFINED_LOGIC:
        return FLAG_AF | FLAG_PF;
    case UNDEFINED_EXTRACT:
        return FLAG_AF | FLAG_SF | FLAG_PF;
    default:
        return 0;
    }
}

struct case_mask case_undefined(const struct test_case *test, const struct case_outcome *outcome)
{
    struct case_mask mask = {0};

    if (outcome->vector >= 0) {
        return mask; /* nothing has been done */
    }
    mask.flags = undefined_flags(test);
    if (test->form->undefined == UNDEFINED_SCAN) {
        mask.is_result_undefined = (outcome->state.rflags & FLAG_ZF) != 0;
    } else if (test->form->undefined == UNDEFINED_DOUBLE_SHIFT) {
        mask.is_result_undefined = count_of(test) > test->size_bytes * 8;
    }
    return mask;
}
