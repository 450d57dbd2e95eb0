/* conformance/x86/undefined.c - what the manual does not define, and is not compared. */
#include "maker.h"

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

/* Which of two pages, or of two operands, is found out first is not said. */
static bool is_order_undefined(const struct test_case *test, const struct case_outcome *outcome)
{
    bool is_compare = test->form->group == GROUP_STRING && (test->form->opcode & ~1u) == 0xa6;
    bool is_at_end = outcome->cr2 > CASE_DATA + CASE_DATA_BYTES - 16 &&
                     outcome->cr2 <= CASE_DATA + CASE_DATA_BYTES;
    bool is_fxsave =
        test->form->group == GROUP_FPU && test->form->opcode == 0x0fae && test->form->digit <= 1;
    bool is_push = test->form->special == SPECIAL_INDIRECT_CALL; /* or the target first */

    return is_compare || is_fxsave || is_push || (is_at_end && test->is_memory);
}

struct case_mask case_undefined(const struct test_case *test, const struct case_outcome *outcome)
{
    struct case_mask mask = {0};

    if (outcome->vector >= 0) {
        mask.is_fault_undefined = is_order_undefined(test, outcome);
        /* Hosts push before they look where to: it is below RSP. */
        mask.is_memory_undefined = test->form->special == SPECIAL_INDIRECT_CALL;
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
