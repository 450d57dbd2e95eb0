/*
 * unit/test_x86_sse.c - exceptions of SSE that are not masked, and what loads the state of x87 and SSE. Expected values
 * are the Intel SDM's, volume 1, 4.9 and 11.5.
 */
#include "x86_rig.h"

enum {
    HANDLER = 0x11000,
    MASKS = 0x1f80,
    IE = 1,
    ZE = 4,
    OE = 8,
    UE = 0x10,
    PE = 0x20,
    FTZ = 0x8000,
};
#define MASK_OF(flag) ((flag) << 7)

/* 64-bit mode with a gate for #XM that leads to HLT. */
static struct x86_rig rig_with_gate(uint32_t mxcsr)
{
    struct x86_rig rig = x86_rig_new(64);

    x86_rig_put(&rig, X86_RIG_IDT + 19 * 16, UINT64_C(0x00018e0000081000));
    rig.rig.memory[HANDLER] = 0xf4;
    rig.cpu->mxcsr = mxcsr;
    return rig;
}

static bool is_in_handler(const struct x86_rig *rig)
{
    return rig->cpu->rip == HANDLER + 1;
}

static void division_by_zero_unmasked_computes_nothing(void **state)
{
    /* divps: one quotient is infinite, another one would be inexact, and that is not said. */
    struct x86_rig rig = rig_with_gate(MASKS & ~MASK_OF(ZE));

    (void)state;
    rig.cpu->xmm[0] = (union x86_xmm){.f32 = {1, 1, 1, 1}};
    rig.cpu->xmm[1] = (union x86_xmm){.f32 = {0, 3, 1, 1}};
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x5e\xc1\xf4"), X86_EXIT_HLT);
    assert_true(is_in_handler(&rig));
    assert_int_equal(rig.cpu->mxcsr, (MASKS & ~MASK_OF(ZE)) | ZE);
    assert_true(rig.cpu->xmm[0].f32[1] == 1);
    x86_rig_free(&rig);
}

static void invalid_unmasked_hides_what_comes_after_computing(void **state)
{
    /* mulps: infinity times 0, and an overflow. */
    struct x86_rig rig = rig_with_gate(MASKS & ~MASK_OF(IE));

    (void)state;
    rig.cpu->xmm[0] = (union x86_xmm){.u32 = {0x7f800000, 0x7f7fffff, 0, 0}};
    rig.cpu->xmm[1] = (union x86_xmm){.u32 = {0, 0x7f7fffff, 0, 0}};
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x59\xc1\xf4"), X86_EXIT_HLT);
    assert_true(is_in_handler(&rig));
    assert_int_equal(rig.cpu->mxcsr, (MASKS & ~MASK_OF(IE)) | IE);
    x86_rig_free(&rig);
}

/* mulsd of two numbers with this MXCSR. Return: MXCSR afterwards. */
static uint32_t multiply(uint32_t mxcsr, double a, double b, bool *is_raised, double *result)
{
    struct x86_rig rig = rig_with_gate(mxcsr);
    uint32_t seen;

    rig.cpu->xmm[0].f64[0] = a;
    rig.cpu->xmm[1].f64[0] = b;
    assert_int_equal(X86_RIG_RUN(&rig, "\xf2\x0f\x59\xc1\xf4"), X86_EXIT_HLT);
    *is_raised = is_in_handler(&rig);
    *result = rig.cpu->xmm[0].f64[0];
    seen = rig.cpu->mxcsr;
    x86_rig_free(&rig);
    return seen;
}

static void tiny_exact_result_underflows_unmasked_only(void **state)
{
    bool is_raised;
    double result;

    (void)state;
    assert_int_equal(multiply(MASKS, 0x1p-1000, 0x1p-60, &is_raised, &result), MASKS);
    assert_false(is_raised);
    assert_true(result == 0x1p-1060);
    assert_int_equal(multiply(MASKS & ~MASK_OF(UE), 0x1p-1000, 0x1p-60, &is_raised, &result),
                     (MASKS & ~MASK_OF(UE)) | UE);
    assert_true(is_raised);
    assert_true(result == 0x1p-1000);
}

static void flush_to_zero_counts_with_underflow_masked_only(void **state)
{
    bool is_raised;
    double result;

    (void)state;
    assert_int_equal(multiply(FTZ | MASKS, 0x1p-1000, 0x1p-60, &is_raised, &result),
                     FTZ | MASKS | UE | PE);
    assert_false(is_raised);
    assert_true(result == 0);
    assert_int_equal(
        multiply(FTZ | (MASKS & ~MASK_OF(UE)), 0x1p-1000, 0x1p-60, &is_raised, &result),
        FTZ | (MASKS & ~MASK_OF(UE)) | UE);
    assert_true(is_raised);
}

static void precision_of_a_result_out_of_range_is_without_bounds(void **state)
{
    /* Exact with a wider exponent, and not; masked, an overflow is inexact always. */
    bool is_raised;
    double result;

    (void)state;
    assert_int_equal(multiply(MASKS, 0x1p1000, 0x1p60, &is_raised, &result), MASKS | OE | PE);
    assert_int_equal(multiply(MASKS & ~MASK_OF(OE), 0x1p1000, 0x1p60, &is_raised, &result),
                     (MASKS & ~MASK_OF(OE)) | OE);
    assert_true(is_raised);
    assert_int_equal(multiply(MASKS & ~MASK_OF(OE), 0x1.0000000000001p1000, 0x1.8000000000001p60,
                              &is_raised, &result),
                     (MASKS & ~MASK_OF(OE)) | OE | PE);
    assert_int_equal(
        multiply(MASKS & ~MASK_OF(UE), 0x1.8p-1000, 0x1.0000000000001p-70, &is_raised, &result),
        (MASKS & ~MASK_OF(UE)) | UE | PE);
    /* Denormal, this would lose bits: but not with a wider exponent. */
    assert_int_equal(
        multiply(MASKS & ~MASK_OF(UE), 0x1.0000000000001p-1000, 0x1p-60, &is_raised, &result),
        (MASKS & ~MASK_OF(UE)) | UE);
    assert_true(is_raised);
}

static void elements_have_their_flags_each_for_itself(void **state)
{
    /* mulps, overflow not masked: an exact one; a masked underflow that is inexact adds PE of its own. */
    struct x86_rig rig = rig_with_gate(MASKS & ~MASK_OF(OE));

    (void)state;
    rig.cpu->xmm[0] = (union x86_xmm){.f32 = {0x1p100F, 1, 1, 1}};
    rig.cpu->xmm[1] = (union x86_xmm){.f32 = {0x1p100F, 1, 1, 1}};
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x59\xc1\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->mxcsr, (MASKS & ~MASK_OF(OE)) | OE);
    rig.cpu->mxcsr = MASKS & ~MASK_OF(OE);
    rig.cpu->mp_state = X86_RUNNABLE;
    rig.cpu->xmm[0].f32[3] = 0x1.8p-100F;
    rig.cpu->xmm[1].f32[3] = 0x1.8p-49F;
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x59\xc1\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->mxcsr, (MASKS & ~MASK_OF(OE)) | OE | UE | PE);
    x86_rig_free(&rig);
}

static void narrowing_has_the_precision_of_the_float(void **state)
{
    /* cvtsd2ss, overflow not masked: of a power of two, and of 2^200 + 2^160. */
    static const struct {
        double value;
        uint32_t flags;
    } cases[] = {{0x1p200, OE}, {0x1.0000000001p200, OE | PE}};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct x86_rig rig = rig_with_gate(MASKS & ~MASK_OF(OE));

        rig.cpu->xmm[1].f64[0] = cases[i].value;
        assert_int_equal(X86_RIG_RUN(&rig, "\xf2\x0f\x5a\xc1\xf4"), X86_EXIT_HLT);
        assert_true(is_in_handler(&rig));
        assert_int_equal(rig.cpu->mxcsr, (MASKS & ~MASK_OF(OE)) | cases[i].flags);
        x86_rig_free(&rig);
    }
}

static void pcmpistri_finds_the_end_of_a_string(void **state)
{
    /* pxor xmm0,xmm0; pcmpistri xmm0,[20000],8: equal each, the first one. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    memcpy(rig.rig.memory + X86_RIG_DATA, "guest\0memory....", 16);
    assert_int_equal(
        X86_RIG_RUN(&rig, "\x66\x0f\xef\xc0\x66\x0f\x3a\x63\x04\x25\0\0\x02\0\x08\xf4"),
        X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RCX], 5);
    assert_int_equal(x86_get_rflags(rig.cpu) & 0x8d5, 0xc1); /* CF, ZF and SF: both strings end */
    x86_rig_free(&rig);
}

static void crc32_is_castagnolis(void **state)
{
    /* Of "123456789" (RFC 3720, B.4's polynomial): e3069283, inverted before and after. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    memcpy(rig.rig.memory + X86_RIG_DATA, "123456789", 9);
    rig.cpu->gpr[X86_RAX] = 0xffffffff;
    /* crc32 rax,qword [20000]; crc32 eax,byte [20008] */
    assert_int_equal(X86_RIG_RUN(&rig, "\xf2\x48\x0f\x38\xf1\x04\x25\0\0\x02\0"
                                       "\xf2\x0f\x38\xf0\x04\x25\x08\0\x02\0\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX] ^ 0xffffffff, 0xe3069283);
    x86_rig_free(&rig);
}

static void sum_of_pairs_has_the_precision_without_bounds(void **state)
{
    /* haddpd, overflow not masked: the second pair's sum is exact but for its exponent. */
    struct x86_rig rig = rig_with_gate(MASKS & ~MASK_OF(OE));

    (void)state;
    rig.cpu->xmm[0] = (union x86_xmm){.f64 = {1, 2}};
    rig.cpu->xmm[1] = (union x86_xmm){.f64 = {0x1p1023, 0x1p1023}};
    assert_int_equal(X86_RIG_RUN(&rig, "\x66\x0f\x7c\xc1\xf4"), X86_EXIT_HLT);
    assert_true(is_in_handler(&rig));
    assert_int_equal(rig.cpu->mxcsr, (MASKS & ~MASK_OF(OE)) | OE);
    x86_rig_free(&rig);
}

static void fxrstor_drops_reserved_bits_of_the_control_word(void **state)
{
    /* fxrstor [20000]; fnstcw [20200] */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    x86_rig_put(&rig, X86_RIG_DATA, 0xffff);
    x86_rig_put(&rig, X86_RIG_DATA + 24, MASKS);
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\xae\x0c\x25\0\0\x02\0\xd9\x3c\x25\0\x02\x02\0\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.rig.memory[X86_RIG_DATA + 0x200], 0x7f);
    assert_int_equal(rig.rig.memory[X86_RIG_DATA + 0x201], 0x1f);
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(division_by_zero_unmasked_computes_nothing),
        cmocka_unit_test(invalid_unmasked_hides_what_comes_after_computing),
        cmocka_unit_test(tiny_exact_result_underflows_unmasked_only),
        cmocka_unit_test(flush_to_zero_counts_with_underflow_masked_only),
        cmocka_unit_test(precision_of_a_result_out_of_range_is_without_bounds),
        cmocka_unit_test(elements_have_their_flags_each_for_itself),
        cmocka_unit_test(narrowing_has_the_precision_of_the_float),
        cmocka_unit_test(pcmpistri_finds_the_end_of_a_string),
        cmocka_unit_test(crc32_is_castagnolis),
        cmocka_unit_test(sum_of_pairs_has_the_precision_without_bounds),
        cmocka_unit_test(fxrstor_drops_reserved_bits_of_the_control_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
