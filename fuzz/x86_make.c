/*
 * fuzz/x86_make.c - inputs that reach deep: instructions that there are, on operands near the ends of pages, segments
 * and stacks, and tables that are nearly good.
 */
#include "x86.h"
#include "fuzz.h"

#include "conformance/system/arena.h"
#include "conformance/x86/forms.h"
#include "model/random.h"

#include <string.h>

struct make {
    struct rnd rnd;
    uint8_t *data;
    size_t size, max;
};

static bool chance(struct make *make, unsigned part, unsigned whole)
{
    return rnd_below(&make->rnd, whole) < part;
}

static unsigned below(struct make *make, unsigned end)
{
    return (unsigned)rnd_below(&make->rnd, end);
}

static void append(struct make *make, uint64_t value, unsigned byte_count)
{
    if (make->size + byte_count <= make->max) {
        memcpy(make->data + make->size, &value, byte_count);
        make->size += byte_count;
    }
}

/* Bytes of code, before their count is known. */
struct code {
    uint8_t bytes[24];
    unsigned count;
};

static void emit(struct code *code, uint64_t value, unsigned byte_count)
{
    if (code->count + byte_count <= sizeof(code->bytes)) {
        memcpy(code->bytes + code->count, &value, byte_count);
        code->count += byte_count;
    }
}

/* Addresses that matter: borders of what is there, odd ones about them, and wild ones. */
static uint64_t address(struct make *make)
{
    static const uint64_t borders[] = {
        0,
        0x1000,
        0x8000,
        0x9000,
        0x10000,
        0xffff,
        0x100000,
        0x104000,
        0x140000,
        0x141000,
        0x7000,
        0x5000,
        UINT64_C(0x80000000),
        UINT64_C(0xfee00000),
        UINT64_C(0x100000000),
        UINT64_C(0x800000000000),
        UINT64_C(0xffff800000000000),
    };

    switch (below(make, 4)) {
    case 0:
        return borders[below(make, sizeof(borders) / sizeof(borders[0]))] + below(make, 33) - 16;
    case 1:
        return rnd_next(&make->rnd) >> below(make, 64);
    default:
        return ARENA_DATA + below(make, 0x1000);
    }
}

static void emit_modrm(struct make *make, struct code *code, unsigned digit, bool is_memory)
{
    unsigned modrm = below(make, 256);

    modrm = digit < 8 ? (modrm & ~0x38u) | digit << 3 : modrm;
    modrm = is_memory && modrm >= 0xc0 ? modrm & 0x3f : modrm;
    emit(code, modrm, 1);
    if (modrm < 0xc0) { /* as 32- and 64-bit code have it; in 16-bit code it is more code */
        if ((modrm & 7) == 4) {
            emit(code, below(make, 256), 1);
        }
        if (modrm >= 0x80 || (modrm & 0xc7) == 5) {
            emit(code, address(make), 4);
        } else if (modrm >= 0x40) {
            emit(code, below(make, 256), 1);
        }
    }
}

static void emit_prefixes(struct make *make, struct code *code)
{
    static const uint8_t prefixes[] = {0x66, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0xf3,
                                       0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

    while (chance(make, 1, 4)) {
        emit(code, prefixes[below(make, sizeof(prefixes))], 1);
    }
}

static unsigned immediate_bytes(struct make *make, const struct form *form)
{
    switch ((enum form_immediate)form->immediate) {
    case IMMEDIATE_8:
        return 1;
    case IMMEDIATE_16:
        return 2;
    case IMMEDIATE_OPERAND:
    case IMMEDIATE_WHOLE:
        return form->sizes == SIZE_8 ? 1 : chance(make, 1, 8) ? 2 : 4;
    case IMMEDIATE_ENTER:
        return 3;
    default:
        return 0;
    }
}

static void emit_vex(struct make *make, struct code *code, const struct form *form)
{
    unsigned pp = form->mandatory == 0x66   ? 1
                  : form->mandatory == 0xf3 ? 2
                  : form->mandatory == 0xf2 ? 3
                                            : 0;

    emit(code, 0xc4, 1);
    emit(code, 0xe0u | form->opcode >> 8, 1);
    emit(code, below(make, 2) << 7 | below(make, 16) << 3 | pp, 1);
    emit(code, form->opcode & 0xff, 1);
}

/* An instruction of the comparison with the host. */
static void emit_form(struct make *make, struct code *code)
{
    const struct form *form = &forms[below(make, (unsigned)forms_count)];
    bool has_modrm = form->encoding == ENCODING_RM || form->encoding == ENCODING_RM_EXT ||
                     form->encoding == ENCODING_VEX || form->encoding == ENCODING_VEX_EXT;

    emit_prefixes(make, code);
    if (form->encoding >= ENCODING_VEX) {
        emit_vex(make, code, form);
    } else {
        if (form->mandatory != 0) {
            emit(code, form->mandatory, 1);
        }
        if (chance(make, 1, 4)) {
            emit(code, 0x40u | below(make, 16), 1);
        }
        for (unsigned shift = form->opcode > 0xffff ? 16
                              : form->opcode > 0xff ? 8
                                                    : 0;
             shift > 0; shift -= 8) {
            emit(code, form->opcode >> shift, 1);
        }
        emit(code, (form->opcode & 0xff) + (form->encoding == ENCODING_OREG ? below(make, 8) : 0),
             1);
    }
    if (has_modrm) {
        bool has_digit = form->encoding == ENCODING_RM_EXT || form->encoding == ENCODING_VEX_EXT;

        emit_modrm(make, code, has_digit ? form->digit : 8, (form->flags & FORM_MEMORY_ONLY) != 0);
    }
    if (form->encoding == ENCODING_OFFSET) {
        emit(code, address(make), chance(make, 1, 2) ? 4 : 8);
    } else if (form->encoding == ENCODING_REL8) {
        emit(code, below(make, 64) - 16, 1);
    } else if (form->encoding == ENCODING_REL32) {
        emit(code, below(make, 128) - 32, 4);
    }
    emit(code, rnd_next(&make->rnd), immediate_bytes(make, form));
}

/* Those of the system, which the comparison with the host cannot have. */
static void emit_system(struct make *make, struct code *code)
{
    static const uint16_t plain[] = {0x05, 0x06, 0x07, 0x08, 0x09, 0x30, 0x31, 0x32, 0x33,
                                     0x34, 0x35, 0xa2, 0xa0, 0xa1, 0xa8, 0xa9, 0x0b, 0x77};
    static const uint8_t single[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x60,
                                     0x61, 0x6c, 0x6d, 0x6e, 0x6f, 0x9c, 0x9d, 0xc9,
                                     0xcb, 0xcc, 0xce, 0xcf, 0xec, 0xed, 0xee, 0xef,
                                     0xf1, 0xf4, 0xfa, 0xfb, 0x8e, 0x8c, 0x62, 0x63};
    unsigned byte;

    emit_prefixes(make, code);
    switch (below(make, 8)) {
    case 0:
        emit(code, 0x0f, 1);
        emit(code, plain[below(make, sizeof(plain) / sizeof(plain[0]))], 1);
        break;
    case 1: /* descriptor tables, MSW, INVLPG, SWAPGS, XSETBV */
        emit(code, 0x0f, 1);
        emit(code, below(make, 4), 1);
        emit_modrm(make, code, 8, false);
        break;
    case 2: /* control and debug registers */
        emit(code, 0x0f, 1);
        emit(code, 0x20 + below(make, 4), 1);
        emit(code, 0xc0 + below(make, 64), 1);
        break;
    case 3: /* far by immediate, INT, IN, OUT */
        byte = below(make, 6);
        emit(code, "\xea\x9a\xcd\xe4\xe7\xca"[byte], 1);
        emit(code, ARENA_CODE + below(make, 256), byte < 2 ? 4 : byte == 5 ? 2 : 1);
        emit(code, 8 * below(make, 0x42), byte < 2 ? 2 : 0);
        break;
    case 4:
        emit(code, 0xff, 1);
        emit_modrm(make, code, 3 + 2 * below(make, 2), true);
        break;
    default:
        byte = single[below(make, sizeof(single))];
        emit(code, byte, 1);
        if (byte >= 0x62 && byte != 0x6c &&
            (byte == 0x62 || byte == 0x63 || byte == 0x8e || byte == 0x8c)) {
            emit_modrm(make, code, 8, false);
        }
        break;
    }
}

/* A store into the code that follows. */
static void emit_modification(struct make *make, struct code *code)
{
    emit(code, 0xc7, 1);
    emit(code, 0x05, 1);
    emit(code, chance(make, 1, 2) ? below(make, 64) : ARENA_CODE + below(make, 256), 4);
    emit(code, rnd_next(&make->rnd), 4);
}

static void make_code(struct make *make)
{
    struct code code = {0};

    switch (below(make, 10)) {
    case 0:
        emit(&code, rnd_next(&make->rnd), 8);
        break;
    case 1:
        emit_modification(make, &code);
        break;
    case 2:
    case 3:
    case 4:
        emit_system(make, &code);
        break;
    default:
        emit_form(make, &code);
        break;
    }
    append(make, FUZZ_CODE, 1);
    append(make, code.count, 1);
    for (unsigned i = 0; i < code.count; i++) {
        append(make, code.bytes[i], 1);
    }
}

/* Descriptors, gates, stacks of the TSS, page table entries. */
static void make_table(struct make *make)
{
    static const uint8_t pages[] = {
        ARENA_IVT >> 12,  ARENA_IDT32 >> 12, ARENA_IDT64 >> 12, ARENA_GDT >> 12,
        ARENA_GDT >> 12,  ARENA_LDT >> 12,   ARENA_DATA >> 12,  ARENA_STACKS >> 12,
        ARENA_PML4 >> 12, ARENA_PDPT >> 12,  ARENA_PD >> 12,    ARENA_PT >> 12,
        ARENA_PT >> 12,   ARENA_PD32 >> 12,  ARENA_PT32 >> 12,  16};
    unsigned page = pages[below(make, sizeof(pages))];
    uint64_t value = rnd_next(&make->rnd);

    if (page >= 9 && page < 16) { /* an entry: where it leads, and its rights */
        static const uint64_t frames[] = {0x8000,   0x100000, 0x103000, 0x140000,
                                          0x200000, 0xc000,   0x9000};

        value = frames[below(make, sizeof(frames) / sizeof(frames[0]))] |
                (chance(make, 3, 4) ? 0x67 : below(make, 512));
        value |= chance(make, 1, 8) ? UINT64_C(1) << below(make, 64) : 0;
    } else if (chance(make, 1, 2)) { /* a descriptor, or a gate */
        value = (value & UINT64_C(0x00f0ff00000000ff)) | UINT64_C(0x0000800000000000) | 0xff00;
        value |= (uint64_t)(below(make, 0x42) * 8) << 16;
    }
    append(make, FUZZ_PUT, 1);
    append(make, page, 1);
    append(make, 8 * below(make, page >= 9 ? 24 : 512), 2);
    append(make, 8, 1);
    append(make, value, 8);
}

static void make_control(struct make *make)
{
    unsigned number = below(make, 18);
    uint64_t value = rnd_next(&make->rnd) >> below(make, 64);

    if (number == 0) {
        value = 0x33 ^ (UINT64_C(1) << below(make, 32));
    } else if (number == 3) {
        value = 0x620 ^ (UINT64_C(1) << below(make, 24));
    } else if (number == 2) {
        value = ARENA_PML4 + 0x1000 * below(make, 7);
    } else if (number == 7) {
        value = chance(make, 1, 2) ? ARENA_CODE + 0x1000 - below(make, 32) : address(make);
    } else if (number == 17) {
        value = rnd_next(&make->rnd) & 0x277fd7;
    }
    append(make, FUZZ_CONTROL, 1);
    append(make, number, 1);
    append(make, value, 8);
}

static void make_registers(struct make *make)
{
    switch (below(make, 6)) {
    case 0:
        append(make, FUZZ_SEGMENT, 1);
        append(make, below(make, 8), 1);
        append(make, 8 * below(make, 0x42) + below(make, 4), 2);
        append(make, 0x90 | below(make, 0x10000), 2);
        append(make, chance(make, 1, 2) ? 0xffff : address(make), 4);
        append(make, chance(make, 2, 3) ? 0 : address(make), 8);
        break;
    case 1:
        append(make, FUZZ_XMM, 1);
        append(make, below(make, 17), 1);
        append(make, rnd_next(&make->rnd), 8);
        break;
    case 2:
        make_control(make);
        break;
    default:
        append(make, FUZZ_GPR, 1);
        append(make, chance(make, 1, 4) ? 4 : below(make, 16), 1);
        append(make, address(make), 8);
        break;
    }
}

static void make_other(struct make *make)
{
    switch (below(make, 8)) {
    case 0:
        append(make, FUZZ_TABLE, 1);
        append(make, below(make, 2), 1);
        append(make, below(make, 0x1000), 2);
        append(make, 0x1000 * below(make, 5), 8);
        break;
    case 1:
        append(make, FUZZ_MSR, 1);
        append(make, below(make, 8), 1);
        append(make, address(make), 8);
        break;
    case 2:
        append(make, FUZZ_EVENT, 1);
        append(make, below(make, 6), 1);
        append(make, rnd_next(&make->rnd), 3);
        break;
    case 3:
        append(make, FUZZ_ANSWERS, 1);
        append(make, rnd_next(&make->rnd), 8);
        break;
    case 4:
    case 5:
        append(make, FUZZ_HOST, 1);
        append(make, rnd_next(&make->rnd), 2);
        break;
    default:
        append(make, FUZZ_RUN, 1);
        append(make, below(make, 64), 2);
        break;
    }
}

size_t fuzz_x86_make_ops(uint8_t *data, size_t max, uint64_t seed, unsigned op_count)
{
    struct make make = {.rnd = {seed}, .data = data, .max = max};

    for (unsigned i = 0; i < op_count; i++) {
        switch (below(&make, 8)) {
        case 0:
            make_table(&make);
            break;
        case 1:
        case 2:
            make_registers(&make);
            break;
        case 3:
            make_other(&make);
            break;
        default:
            make_code(&make);
            break;
        }
    }
    return make.size;
}

size_t fuzz_x86_make(uint8_t *data, size_t max, uint64_t seed)
{
    struct rnd rnd = {seed};

    if (max == 0) {
        return 0;
    }
    data[0] = (uint8_t)rnd_next(&rnd);
    return 1 +
           fuzz_x86_make_ops(data + 1, max - 1, rnd_next(&rnd), 4 + (unsigned)rnd_below(&rnd, 60));
}

size_t fuzz_x86_op_bytes(const uint8_t *data, size_t size)
{
    static const uint8_t bytes[FUZZ_OPS] = {
        [FUZZ_CODE] = 2,     [FUZZ_PUT] = 5,     [FUZZ_GPR] = 10, [FUZZ_CONTROL] = 10,
        [FUZZ_SEGMENT] = 18, [FUZZ_TABLE] = 12,  [FUZZ_MSR] = 10, [FUZZ_XMM] = 10,
        [FUZZ_EVENT] = 5,    [FUZZ_ANSWERS] = 9, [FUZZ_HOST] = 3, [FUZZ_RUN] = 3,
    };
    size_t count = size > 0 ? bytes[data[0] % FUZZ_OPS] : 0;

    if (count == 0 || count > size) {
        return 0;
    }
    if (data[0] % FUZZ_OPS <= FUZZ_PUT) {
        count += data[count - 1];
    }
    return count <= size ? count : 0;
}
