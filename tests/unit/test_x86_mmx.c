/*
 * unit/test_x86_mmx.c - MMX beside what tests/conformance/x86 compares with the host: when it may run, in other modes
 * than the host's, and what it leaves of x87. Expected values are the Intel SDM's (1, chapter 9; 3A, chapter 13).
 */
#include "x86_rig.h"

enum {
    HANDLER = 0x11000,
};

static void set_mm(struct x86_rig *rig, unsigned number, uint64_t value)
{
    unsigned top = rig->cpu->fpu.fsw >> 11 & 7;

    memcpy(rig->cpu->fpu.st[(number - top) & 7], &value, sizeof(value));
}

static uint64_t get_mm(const struct x86_rig *rig, unsigned number)
{
    uint64_t value;

    assert_int_equal(rig->cpu->fpu.fsw >> 11 & 7, 0);
    memcpy(&value, rig->cpu->fpu.st[number], sizeof(value));
    return value;
}

static void registers_are_those_of_x87_by_number(void **state)
{
    /* The stack's top at 5 is ST(0): mm5. Afterwards it is 0, no register is empty, and mm5 is a NaN to x87. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->fpu.fsw = 5 << 11;
    rig.cpu->fpu.ftw = 0x20;
    set_mm(&rig, 5, UINT64_C(0x0001000200030004));
    set_mm(&rig, 6, UINT64_C(0x0010001000100010));
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\xfd\xee\xf4"), X86_EXIT_HLT); /* paddw mm5,mm6 */
    assert_int_equal(get_mm(&rig, 5), UINT64_C(0x0011001200130014));
    assert_int_equal(get_mm(&rig, 6), UINT64_C(0x0010001000100010));
    assert_int_equal(rig.cpu->fpu.ftw, 0xff);
    assert_int_equal(rig.cpu->fpu.st[5][8], 0xff);
    assert_int_equal(rig.cpu->fpu.st[5][9], 0xff);
    x86_rig_free(&rig);
}

/* Vector that the code ends with: its handler is a HLT. The code runs with a stack's top of 3, which stays. */
static unsigned vector_of(uint64_t cr0, uint16_t fsw, const char *code, size_t count)
{
    struct x86_rig rig = x86_rig_new(64);
    unsigned vector;

    for (unsigned i = 0; i < 32; i++) {
        x86_rig_put(&rig, X86_RIG_IDT + 16 * i, UINT64_C(0x00018e0000081000) + i);
        rig.rig.memory[HANDLER + i] = 0xf4;
    }
    rig.cpu->cr0 |= cr0;
    rig.cpu->fpu.fsw = fsw | 3 << 11;
    rig.cpu->fpu.fcw = (uint16_t)(0x37f & ~fsw);
    x86_state_changed(rig.cpu);
    assert_int_equal(x86_rig_run(&rig, code, count), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->fpu.fsw >> 11 & 7, 3);
    vector = (unsigned)(rig.cpu->rip - 1 - HANDLER);
    x86_rig_free(&rig);
    return vector;
}

static void refusals_come_in_the_manuals_order(void **state)
{
    static const struct {
        uint64_t cr0;
        uint16_t fsw;
        unsigned vector;
    } cases[] = {{4, 0, 6}, {8, 0, 7}, {12, 0, 6}, {0, 0x8081, 16}, {8, 0x8081, 7}};

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* pxor mm0,mm1; movd ebx,mm0; maskmovq mm0,mm1; pextrw ebx,mm1,2; cvtps2pi mm0,xmm1; movq2dq xmm0,mm1 */
        static const char *const codes[] = {"\x0f\xef\xc1",     "\x0f\x7e\xc3", "\x0f\xf7\xc1",
                                            "\x0f\xc5\xd9\x02", "\x0f\x2d\xc1", "\xf3\x0f\xd6\xc1"};

        for (unsigned j = 0; j < sizeof(codes) / sizeof(codes[0]); j++) {
            assert_int_equal(
                vector_of(cases[i].cr0, cases[i].fsw, codes[j], j == 3 || j == 5 ? 4 : 3),
                cases[i].vector);
        }
    }
    /* A page fault of the operand: movq mm0,[400000] */
    assert_int_equal(vector_of(0, 0, "\x0f\x6f\x04\x25\0\0\x40\0", 8), 14);
}

static void masked_move_takes_the_segment_of_its_prefix(void **state)
{
    /* 32-bit code: by ES instead of DS, and DI with an address size of 16. */
    struct x86_rig rig = x86_rig_new(32);
    uint64_t value;

    (void)state;
    rig.cpu->segment[X86_ES].base = X86_RIG_DATA;
    x86_state_changed(rig.cpu);
    set_mm(&rig, 1, UINT64_C(0x8877665544332211));
    set_mm(&rig, 2, UINT64_C(0x80ff7f0080007f80));
    rig.cpu->gpr[X86_RDI] = 0xabcd0040;
    assert_int_equal(X86_RIG_RUN(&rig, "\x26\x67\x0f\xf7\xca\xf4"), X86_EXIT_HLT);
    memcpy(&value, rig.rig.memory + X86_RIG_DATA + 0x40, 8);
    assert_int_equal(value, UINT64_C(0x8877000044000011));
    /* movdqu xmm0,[20000]; pcmpeqb xmm1,xmm1; es maskmovdqu xmm0,xmm1 */
    memset(rig.rig.memory + X86_RIG_DATA, 0x5a, 16);
    rig.cpu->mp_state = X86_RUNNABLE;
    rig.cpu->gpr[X86_RDI] = 0x41;
    assert_int_equal(
        X86_RIG_RUN(&rig, "\xf3\x0f\x6f\x05\0\0\x02\0\x66\x0f\x74\xc9\x26\x66\x0f\xf7\xc1\xf4"),
        X86_EXIT_HLT);
    assert_memory_equal(rig.rig.memory + X86_RIG_DATA + 0x41, rig.rig.memory + X86_RIG_DATA, 16);
    assert_int_equal(rig.rig.memory[X86_RIG_DATA + 0x40], 0x11);
    x86_rig_free(&rig);
}

static void conversion_of_doubles_in_memory_leaves_x87_alone(void **state)
{
    /* SDM 2A, CVTPI2PD: with m64 no transition, and no pending exception of x87 is looked at. */
    struct x86_rig rig = x86_rig_new(64);
    const int32_t integers[2] = {-7, 1000000};

    (void)state;
    rig.cpu->fpu.fsw = 0x8081 | 3 << 11;
    rig.cpu->fpu.fcw = 0x37e;
    memcpy(rig.rig.memory + X86_RIG_DATA, integers, 8);
    /* cvtpi2pd xmm1,[20000] */
    assert_int_equal(X86_RIG_RUN(&rig, "\x66\x0f\x2a\x0c\x25\0\0\x02\0\xf4"), X86_EXIT_HLT);
    assert_true(rig.cpu->xmm[1].f64[0] == -7.0 && rig.cpu->xmm[1].f64[1] == 1000000.0);
    assert_int_equal(rig.cpu->fpu.fsw, 0x8081 | 3 << 11);
    x86_rig_free(&rig);
}

static void mmio_operand_is_answered(void **state)
{
    /* paddb mm0,[a0000000] with 0x01 everywhere: the access comes out, and x87 changes with its answer. */
    struct x86_rig rig = x86_rig_new(32);

    (void)state;
    rig.cpu->fpu.fsw = 1 << 11;
    set_mm(&rig, 0, UINT64_C(0x00102030405060ff));
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\xfc\x05\0\0\0\xa0\xf4"), X86_EXIT_MMIO);
    assert_int_equal(rig.cpu->fpu.fsw >> 11, 1);
    memset(gm_mmu_exit(rig.rig.mmu)->data, 1, 8);
    assert_int_equal(x86_run(rig.cpu, 100), X86_EXIT_HLT);
    assert_int_equal(get_mm(&rig, 0), UINT64_C(0x0111213141516100));
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_are_those_of_x87_by_number),
        cmocka_unit_test(refusals_come_in_the_manuals_order),
        cmocka_unit_test(masked_move_takes_the_segment_of_its_prefix),
        cmocka_unit_test(conversion_of_doubles_in_memory_leaves_x87_alone),
        cmocka_unit_test(mmio_operand_is_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
