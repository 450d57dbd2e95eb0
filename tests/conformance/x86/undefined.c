/* conformance/x86/undefined.c - what the manual does not define, and is not compared. */
#include "maker.h"

#include <string.h>

#define MXCSR_STEP_MASKS 0xd80u /* invalid, denormal, overflow, underflow */
#define X87_STORE_MASKS 0x19u   /* invalid, overflow, underflow */
#define XSAVE_LEGACY_BYTES 576u /* with the header */
#define XCR0_LEGACY UINT64_C(3) /* x87, SSE */
#define VECTOR_PF 14
#define VECTOR_AC 17

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

/* MOVUPS and its like, and what ENTER looks at last: whether their alignment is checked depends (SDM 2, MOVUPS). */
static bool is_alignment_open(const struct test_case *test)
{
    unsigned opcode = test->form->opcode, mandatory = test->form->mandatory;
    bool is_unaligned_move =
        test->form->group == GROUP_SSE_MOVE && test->is_memory &&
        (((opcode & ~1u) == 0x0f10 && (mandatory == 0 || mandatory == 0x66)) ||
         ((opcode == 0x0f6f || opcode == 0x0f7f) && mandatory == 0xf3) || opcode == 0x0ff0);
    bool is_masked_move = test->form->group == GROUP_SSE_MOVE && opcode == 0x0ff7;
    bool is_string = test->is_memory && opcode >= 0x0f3a60 && opcode <= 0x0f3a63;

    return (test->before.rflags & FLAG_AC) != 0 &&
           (is_unaligned_move || is_masked_move || is_string || opcode == 0xc8);
}

/* DPPS and DPPD have exceptions of each step, which the interpreter does not tell apart: docs/software-vcpu.md. */
static bool is_dot_product_open(const struct test_case *test)
{
    return (test->form->opcode & ~1u) == 0x0f3a40 &&
           (test->before.mxcsr & MXCSR_STEP_MASKS) != MXCSR_STEP_MASKS;
}

/* x87's store that an exception forbids: whether its memory must be there is not said. */
static bool is_store_open(const struct test_case *test)
{
    const struct case_state *before = &test->before;
    bool is_plain = test->target >= CASE_DATA &&
                    test->target <= CASE_DATA + CASE_WRITABLE_BYTES - 16 &&
                    ((before->rflags & FLAG_AC) == 0 || test->target % 8 == 0);

    return test->form->group == GROUP_X87 && test->is_memory &&
           (before->fcw & X87_STORE_MASKS) != X87_STORE_MASKS && !is_plain;
}

/* CVTPI2PS of memory: Intel's processors go over to MMX; of AMD's x87 is left alone (SDM 2A, APM 5, CVTPI2PS). */
static bool is_transition_open(const struct test_case *test)
{
    return test->form->group == GROUP_MMX && test->is_memory && test->form->opcode == 0x0f2a &&
           test->form->mandatory == 0;
}

/*
 * XSAVE and its like, of an area that begins or ends where no memory is: Intel's processors touch those parts alone that
 * are asked for, AMD's all (SDM 1, 13.7 to 13.12, say what is written, not what has to be there).
 */
static bool is_area_open(const struct test_case *test)
{
    bool is_whole = test->target >= CASE_DATA &&
                    test->target <= CASE_DATA + CASE_WRITABLE_BYTES - XSAVE_LEGACY_BYTES;
    bool is_xsave = test->form->group == GROUP_FPU && test->form->opcode == 0x0fae &&
                    test->is_memory && test->form->digit >= 4;

    return is_xsave && !is_whole && (test->before.gpr[X86_RAX] & XCR0_LEGACY) != XCR0_LEGACY;
}

bool case_is_left_out(const struct test_case *test, const uint8_t *data)
{
    unsigned special = test->form->special;
    bool is_area = special == SPECIAL_FXRSTOR || special == SPECIAL_XRSTOR;
    uint64_t offset = test->target + (is_area ? 24 : 0) - CASE_DATA;
    uint32_t mxcsr;

    if (is_alignment_open(test) || is_store_open(test) || is_dot_product_open(test) ||
        is_transition_open(test) || is_area_open(test)) {
        return true;
    }
    if ((!is_area && special != SPECIAL_MXCSR) || offset > CASE_DATA_BYTES - sizeof(mxcsr)) {
        return false;
    }
    memcpy(&mxcsr, data + offset, sizeof(mxcsr));
    return (mxcsr & ~CASE_MXCSR_KNOWN) == CASE_MXCSR_MM;
}

/* Which of two pages, or of two operands, is found out first is not said. */
static bool is_order_undefined(const struct test_case *test, const struct case_outcome *outcome)
{
    bool is_compare = test->form->group == GROUP_STRING && (test->form->opcode & ~1u) == 0xa6;
    bool is_at_end = outcome->cr2 > CASE_DATA + CASE_DATA_BYTES - 16 &&
                     outcome->cr2 <= CASE_DATA + CASE_DATA_BYTES;
    bool is_fxsave = test->form->group == GROUP_FPU && test->form->opcode == 0x0fae &&
                     (test->form->digit <= 1 || (test->form->digit >= 4 && test->is_memory));
    bool is_x87 = test->form->group == GROUP_X87 && outcome->vector == VECTOR_PF;
    /* The first byte, or the first that its mask lets through. */
    bool is_masked_move = test->form->opcode == 0x0ff7;
    bool is_push = test->form->special == SPECIAL_INDIRECT_CALL; /* or the target first */
    /* Some processors do not fetch what follows its opcode (SDM 2, UD). */
    bool is_cut_ud1 = test->form->opcode == 0x0fb9 && test->mapped < test->length;

    bool is_alignment = (test->before.rflags & FLAG_AC) != 0 &&
                        (outcome->vector == VECTOR_AC || outcome->vector == VECTOR_PF);

    return is_compare || is_fxsave || is_x87 || is_masked_move || is_push || is_alignment ||
           is_cut_ud1 || (is_at_end && test->is_memory);
}

/* A store of MMX that faults: x87 has gone over to MMX before, as on Intel's processors, or has not. */
static bool is_mmx_store(const struct test_case *test)
{
    unsigned opcode = test->form->opcode;

    return test->form->group == GROUP_MMX &&
           (test->form->special == SPECIAL_STRING ||
            (test->is_memory && (opcode == 0x0f7e || opcode == 0x0f7f || opcode == 0x0fe7)));
}

/* CMPS and SCAS alone have flags. */
static bool is_string_compare(const struct test_case *test)
{
    unsigned opcode = test->form->opcode & ~1u;

    return test->form->group == GROUP_STRING && (opcode == 0xa6 || opcode == 0xae);
}

struct case_mask case_undefined(const struct test_case *test, const struct case_outcome *outcome,
                                const struct case_features *features)
{
    struct case_mask mask = {0};

    if (outcome->vector >= 0) {
        mask.flags = is_string_compare(test) && !features->is_compare_undone ? FLAGS_STATUS : 0;
        mask.is_fault_undefined = is_order_undefined(test, outcome);
        /* Hosts push before they look where to: it is below RSP. Of x87's 10 bytes those of the first page may be there. */
        mask.is_memory_undefined = test->form->special == SPECIAL_INDIRECT_CALL ||
                                   (test->form->group == GROUP_X87 && outcome->vector == VECTOR_PF);
        mask.is_x87_undefined = is_mmx_store(test);
        return mask;
    }
    mask.flags = undefined_flags(test);
    if (test->form->undefined == UNDEFINED_SCAN) {
        mask.is_result_undefined = (outcome->state.rflags & FLAG_ZF) != 0;
    } else if (test->form->undefined == UNDEFINED_DOUBLE_SHIFT) {
        mask.is_result_undefined = count_of(test) > test->size_bytes * 8;
    }
    return mask;
}
