/* conformance/x86/assemble.c - prefixes, opcode, ModRM, immediates: the bytes of a case. */
#include "maker.h"

#include <string.h>

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

void maker_assemble(struct maker *maker)
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
