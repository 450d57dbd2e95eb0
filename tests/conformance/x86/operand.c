/* conformance/x86/operand.c - ModRM operands: addresses first, and then registers that lead there. */
#include "maker.h"
#include "values.h"

#include <string.h>

static bool is_writable(uint64_t address, unsigned byte_count)
{
    return address >= CASE_DATA && byte_count <= CASE_WRITABLE_BYTES &&
           address - CASE_DATA <= CASE_WRITABLE_BYTES - byte_count;
}

/* Put bytes into memory where it may be written; a case has other memory elsewhere. */
void maker_put(struct maker *maker, uint64_t address, const void *bytes, unsigned byte_count)
{
    if (is_writable(address, byte_count)) {
        memcpy(maker->data + (address - CASE_DATA), bytes, byte_count);
    }
}

/* Where an operand is. With @is_plain: wholly in memory that may be written, or wholly elsewhere. */
uint64_t maker_target(struct maker *maker, bool is_plain)
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
        return maker_chance(maker, 3, 4) ? middle & ~UINT64_C(15) : middle;
    }
}

void maker_set_register(struct maker *maker, unsigned number, uint64_t value)
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
void maker_lead_register(struct maker *maker, unsigned number, uint64_t value)
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
        return maker_chance(maker, 1, 2) ? (int32_t)rnd_next(maker->rnd)
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
    bool with_sib = (base & 7) == 4 || maker_chance(maker, 1, 8);

    encode_base(maker, base, with_sib);
    if (with_sib) {
        encode_sib(maker, (unsigned)rnd_below(maker->rnd, 4), 4, base);
    }
    maker_lead_register(maker, base, address - (uint64_t)(int64_t)maker->displacement);
}

static void make_base_and_index(struct maker *maker, uint64_t address)
{
    unsigned base = free_register(maker, false);
    unsigned index = free_register(maker, true);
    unsigned scale = (unsigned)rnd_below(maker->rnd, 4);
    uint64_t *gpr = maker->test->before.gpr;

    while (index == base && address >= LOW_4G) {
        index = free_register(maker, true);
    }
    if (base == index) { /* solved by the displacement only */
        uint64_t times = (UINT64_C(1) << scale) + 1;

        maker_lead_register(maker, base, address / times);
        maker->displacement = (int32_t)(address % times);
        maker->displacement_bytes = 1;
        encode_rm(maker, 1, 4);
    } else {
        encode_base(maker, base, true);
        maker_lead_register(
            maker, base, address - (uint64_t)(int64_t)maker->displacement - (gpr[index] << scale));
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
    maker_lead_register(maker, index, value);
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

bool maker_is_stack_special(enum form_special special)
{
    return special == SPECIAL_STACK || special == SPECIAL_POP_FLAGS || special == SPECIAL_RETURN ||
           special == SPECIAL_ENTER || special == SPECIAL_INDIRECT_CALL;
}

/* Operands' memory: interesting values. */
static void fill_target(struct maker *maker, uint64_t target)
{
    uint8_t bytes[32];

    if (maker_chance(maker, 1, 2)) {
        for (unsigned i = 0; i < 4; i++) {
            uint64_t value = value_random(maker->rnd);

            memcpy(bytes + i * 8, &value, 8);
        }
    } else {
        value_random_16_bytes(maker->rnd, bytes);
        value_random_16_bytes(maker->rnd, bytes + 16);
    }
    maker_put(maker, target, bytes, sizeof(bytes));
}

static void make_rm(struct maker *maker)
{
    struct test_case *test = maker->test;
    const struct form *form = test->form;
    bool is_memory = (form->flags & FORM_MEMORY_ONLY) != 0 || maker_chance(maker, 1, 2);

    if ((form->flags & FORM_REGISTER_ONLY) != 0 || !is_memory) {
        do {
            test->rm = (uint8_t)rnd_below(maker->rnd, 16);
        } while (form->special == SPECIAL_INDIRECT_CALL && test->rm == X86_RSP);
        encode_rm(maker, 3, test->rm);
        return;
    }
    if (maker_is_stack_special(form->special) && !maker->is_address_32 &&
        maker_chance(maker, 1, 8) && form->special != SPECIAL_INDIRECT_CALL) {
        make_stack_memory(maker);
        return;
    }
    test->target = maker_target(maker, form->special == SPECIAL_SELECTOR);
    if (maker->is_address_32 && test->target >= LOW_4G) {
        test->target = CASE_DATA + 0x800;
    }
    if ((form->flags & FORM_ALIGNED) != 0 && maker_chance(maker, 7, 8)) {
        test->target &= ~UINT64_C(15);
    }
    if ((form->special == SPECIAL_XSAVE || form->special == SPECIAL_XRSTOR) &&
        maker_chance(maker, 7, 8)) {
        test->target &= ~UINT64_C(63);
    }
    fill_target(maker, test->target);
    make_memory(maker, test->target);
}

void maker_make_modrm(struct maker *maker)
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
