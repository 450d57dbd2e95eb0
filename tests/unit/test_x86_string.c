/*
 * unit/test_x86_string.c - the software vCPU's string instructions: the flags of a repeated comparison that faults, and
 * prefixes that name another segment. Expected values are the Intel SDM's, volume 2.
 */
#include "x86_rig.h"

enum {
    HANDLER = 0x11000,
    PT = 0x6000,
    WINDOW = 0x200000, /* linear, by the page table */
    FLAGS = 0x8d5,     /* the arithmetic ones */
};

static uint64_t word_at(const struct x86_rig *rig, uint64_t gpa)
{
    uint64_t value;

    memcpy(&value, rig->rig.memory + gpa, 8);
    return value;
}

static void code_at(struct x86_rig *rig, uint64_t gpa, const char *bytes, size_t count)
{
    memcpy(rig->rig.memory + gpa, bytes, count);
}

/* 64-bit mode with a window of 4 KiB pages, of which none is there yet, and a gate for #PF that leads to HLT. */
static struct x86_rig rig_with_window(void)
{
    struct x86_rig rig = x86_rig_new(64);

    x86_rig_put(&rig, X86_RIG_PD + 8, PT | 7);
    x86_rig_put(&rig, X86_RIG_IDT + 14 * 16, UINT64_C(0x00018e0000081000));
    code_at(&rig, HANDLER, "\xf4", 1);
    rig.cpu->gpr[X86_RDI] = WINDOW;
    rig.cpu->gpr[X86_RSI] = X86_RIG_DATA;
    rig.cpu->gpr[X86_RCX] = 0x10000;
    x86_set_rflags(rig.cpu, FLAGS);
    return rig;
}

static void map(struct x86_rig *rig, unsigned page, uint64_t gpa)
{
    x86_rig_put(rig, PT + page * 8, gpa | 7);
}

/* In the frame of #PF, with its error code. */
static uint64_t pushed_flags(const struct x86_rig *rig)
{
    return word_at(rig, X86_RIG_STACK - 24) & FLAGS;
}

static void long_comparison_that_faults_has_the_flags_from_before(void **state)
{
    /* Three pages and a hole: more elements than are done between two boundaries. */
    static const struct {
        const char *code;
        unsigned size;
    } cases[] = {{"\xf2\xae", 1}, {"\xf3\xa6", 1}, {"\xf2\x66\xaf", 2}};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct x86_rig rig = rig_with_window();

        for (unsigned page = 0; page < 3; page++) {
            map(&rig, page, X86_RIG_DATA + page * PAGE);
        }
        rig.cpu->gpr[X86_RAX] = 0x101; /* found nowhere */
        assert_int_equal(x86_rig_run(&rig, cases[i].code, strlen(cases[i].code)), X86_EXIT_HLT);
        assert_int_equal(rig.cpu->cr2, WINDOW + 3 * PAGE);
        assert_int_equal(rig.cpu->gpr[X86_RDI], WINDOW + 3 * PAGE);
        assert_int_equal(rig.cpu->gpr[X86_RCX], 0x10000 - 3 * PAGE / cases[i].size);
        assert_int_equal(pushed_flags(&rig), FLAGS);
        x86_rig_free(&rig);
    }
}

static void comparison_with_mmio_that_faults_has_the_flags_from_before(void **state)
{
    /* The last byte of a page that is not memory, and then a hole. */
    struct x86_rig rig = rig_with_window();

    (void)state;
    map(&rig, 0, 0x180000);
    rig.cpu->gpr[X86_RDI] = WINDOW + PAGE - 1;
    rig.cpu->gpr[X86_RAX] = 1;
    assert_int_equal(X86_RIG_RUN(&rig, "\xf2\xae"), X86_EXIT_MMIO);
    gm_mmu_exit(rig.rig.mmu)->data[0] = 0;
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RDI], WINDOW + PAGE);
    assert_int_equal(pushed_flags(&rig), FLAGS);
    x86_rig_free(&rig);
}

static void comparison_goes_on_with_the_flags_that_a_handler_returns(void **state)
{
    /* An interrupt in the middle whose handler clears the flags: the fault's are those. */
    struct x86_rig rig = rig_with_window();

    (void)state;
    x86_rig_put(&rig, X86_RIG_IDT + 0x30 * 16, UINT64_C(0x00018e0000081100));
    code_at(&rig, HANDLER + 0x100, "\x48\xc7\x44\x24\x10\x02\x00\0\0\x48\xcf", 11);
    for (unsigned page = 0; page < 3; page++) {
        map(&rig, page, X86_RIG_DATA + page * PAGE);
    }
    x86_set_rflags(rig.cpu, FLAGS | 0x200);
    rig.cpu->gpr[X86_RAX] = 1;
    code_at(&rig, X86_RIG_CODE, "\xf2\xae", 2);
    assert_int_equal(x86_run(rig.cpu, 1), X86_EXIT_BUDGET);
    assert_true(rig.cpu->gpr[X86_RCX] > 0 && rig.cpu->gpr[X86_RCX] < 0x10000);
    assert_true(x86_can_interrupt(rig.cpu));
    x86_interrupt(rig.cpu, 0x30);
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RDI], WINDOW + 3 * PAGE);
    assert_int_equal(pushed_flags(&rig), 0);
    x86_rig_free(&rig);
}

static void comparison_that_ends_has_the_flags_of_its_last_element(void **state)
{
    /* ... and the next one, which faults at once, those of it. */
    struct x86_rig rig = rig_with_window();

    (void)state;
    for (unsigned page = 0; page < 2; page++) {
        map(&rig, page, X86_RIG_DATA + page * PAGE);
    }
    rig.rig.memory[X86_RIG_DATA + 2 * PAGE - 1] = 1;
    rig.cpu->gpr[X86_RAX] = 1;
    assert_int_equal(X86_RIG_RUN(&rig, "\xf2\xae\xf2\xae"), X86_EXIT_HLT);
    assert_int_equal(word_at(&rig, X86_RIG_STACK - 40), X86_RIG_CODE + 2);
    assert_int_equal(pushed_flags(&rig), 0x44); /* equal: ZF, PF */
    x86_rig_free(&rig);
}

/* The segments' bases, by number; a byte that says which is at each base + 0x40. */
static const uint32_t bases[X86_SEGMENTS] = {0x30000, X86_RIG_CODE, 0x40000,
                                             0x50000, 0x60000,      0x70000};

static struct x86_rig rig_with_segments(unsigned bits)
{
    struct x86_rig rig = x86_rig_new(bits);

    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        rig.cpu->segment[i].base = bits == 64 && i == X86_CS ? 0 : bases[i];
        rig.rig.memory[bases[i] + 0x40] = (uint8_t)(0x10 + i);
    }
    x86_state_changed(rig.cpu);
    rig.cpu->gpr[X86_RSI] = rig.cpu->gpr[X86_RDI] = rig.cpu->gpr[X86_RBX] = 0x40;
    rig.cpu->gpr[X86_RAX] = 0;
    return rig;
}

static const uint8_t segment_prefixes[X86_SEGMENTS] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

static void prefix_names_the_source_of_a_string(void **state)
{
    /* LODSB, XLAT, OUTSB and MOVSB; MOVSB's destination is ES whatever is named. */
    (void)state;
    for (unsigned bits = 16; bits <= 32; bits += 16) {
        for (unsigned i = 0; i < X86_SEGMENTS; i++) {
            uint8_t lods[] = {segment_prefixes[i], 0xac, 0xf4};
            uint8_t xlat[] = {segment_prefixes[i], 0xd7, 0xf4};
            uint8_t outs[] = {segment_prefixes[i], 0x6e, 0xf4};
            uint8_t movs[] = {segment_prefixes[i], 0xa4, 0xf4};
            const uint8_t *codes[] = {lods, xlat, outs, movs};

            for (unsigned k = 0; k < 4; k++) {
                struct x86_rig rig = rig_with_segments(bits);
                enum x86_exit exit;

                rig.cpu->gpr[X86_RDI] = 0x80;
                exit = x86_rig_run(&rig, codes[k], 3);
                assert_int_equal(exit, k == 2 ? X86_EXIT_IO : X86_EXIT_HLT);
                if (k < 2) {
                    assert_int_equal(rig.cpu->gpr[X86_RAX], 0x10 + i);
                } else if (k == 2) {
                    assert_int_equal(rig.cpu->io.data, 0x10 + i);
                } else {
                    assert_int_equal(rig.rig.memory[bases[X86_ES] + 0x80], 0x10 + i);
                }
                x86_rig_free(&rig);
            }
        }
    }
}

static void prefix_does_not_name_the_destination_of_a_string(void **state)
{
    /* STOSB, SCASB, INSB, and CMPSB, whose first operand the prefix does name. */
    (void)state;
    for (unsigned bits = 16; bits <= 32; bits += 16) {
        for (unsigned i = 0; i < X86_SEGMENTS; i++) {
            uint8_t code[] = {segment_prefixes[i], 0xaa, 0xf4};
            struct x86_rig rig = rig_with_segments(bits);

            rig.cpu->gpr[X86_RAX] = 0x77;
            assert_int_equal(x86_rig_run(&rig, code, 3), X86_EXIT_HLT);
            assert_int_equal(rig.rig.memory[bases[X86_ES] + 0x40], 0x77);

            code[1] = 0xae; /* 0x77 at ES */
            rig.cpu->mp_state = X86_RUNNABLE;
            rig.cpu->gpr[X86_RDI] = 0x40;
            assert_int_equal(x86_rig_run(&rig, code, 3), X86_EXIT_HLT);
            assert_int_equal(x86_get_rflags(rig.cpu) & FLAGS, 0x44);

            code[1] = 0xa6; /* what is there against ES's 0x12 */
            rig.rig.memory[bases[X86_ES] + 0x50] = 0x10 + X86_SS;
            rig.rig.memory[bases[X86_ES] + 0x40] = 0x10 + X86_ES;
            rig.cpu->mp_state = X86_RUNNABLE;
            rig.cpu->gpr[X86_RDI] = 0x50;
            rig.cpu->gpr[X86_RSI] = 0x40;
            assert_int_equal(x86_rig_run(&rig, code, 3), X86_EXIT_HLT);
            assert_int_equal((x86_get_rflags(rig.cpu) & 0x40) != 0, i == X86_SS);

            code[1] = 0x6c;
            rig.cpu->mp_state = X86_RUNNABLE;
            rig.cpu->gpr[X86_RDI] = 0x60;
            assert_int_equal(x86_rig_run(&rig, code, 3), X86_EXIT_IO);
            rig.cpu->io.data = 0x99;
            assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
            assert_int_equal(rig.rig.memory[bases[X86_ES] + 0x60], 0x99);
            x86_rig_free(&rig);
        }
    }
}

static void sixty_four_bit_mode_heeds_fs_and_gs_alone(void **state)
{
    (void)state;
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        uint8_t code[] = {segment_prefixes[i], 0xac, 0xf4};
        struct x86_rig rig = rig_with_segments(64);

        rig.rig.memory[0x40] = 0x55; /* bases do not count */
        assert_int_equal(x86_rig_run(&rig, code, 3), X86_EXIT_HLT);
        assert_int_equal(rig.cpu->gpr[X86_RAX], i >= X86_FS ? 0x10 + i : 0x55);
        x86_rig_free(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_comparison_that_faults_has_the_flags_from_before),
        cmocka_unit_test(comparison_with_mmio_that_faults_has_the_flags_from_before),
        cmocka_unit_test(comparison_goes_on_with_the_flags_that_a_handler_returns),
        cmocka_unit_test(comparison_that_ends_has_the_flags_of_its_last_element),
        cmocka_unit_test(prefix_names_the_source_of_a_string),
        cmocka_unit_test(prefix_does_not_name_the_destination_of_a_string),
        cmocka_unit_test(sixty_four_bit_mode_heeds_fs_and_gs_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
