/*
 * unit/test_soft_vcpu_strings.c - KVM_RUN's exits of INS and OUTS: how many elements each has, and what becomes of those that were
 * read. Counts are those of Linux's KVM.
 */
#include "run_rig.h"

static uint8_t *port_data(const struct rig *rig)
{
    return (uint8_t *)run_page(rig) + run_page(rig)->io.data_offset;
}

static void string_output_comes_element_by_element(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    memcpy(rig.memory + 0x2000, "abc", 3);
    RUN_LOAD(
        &rig,
        "\xbe\x00\x20\xb9\x03\x00\xba\x02\x04\xf3\x6e\xf4"); /* mov si; mov cx,3; mov dx; rep outsb */
    for (unsigned i = 0; i < 3; i++) {
        assert_run_exits(&rig, KVM_EXIT_IO);
        assert_int_equal(run_page(&rig)->io.count, 1);
        assert_int_equal(*port_data(&rig), "abc"[i]);
    }
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void string_input_is_read_ahead_within_its_page(void **state)
{
    /* As KVM has it: to the page's end, 1,024 bytes at most; elements that do not fit the page's rest come alone. */
    static const uint32_t counts[] = {0x78, 1, 0x200, 0x200, 0x200, 0x1ff, 1, 7};
    struct rig rig = run_rig_new(NULL);
    uint8_t expected[0x1200];
    uint32_t done = 0;

    (void)state;
    /* mov di,0x2f0f; mov cx,0x880; mov dx; rep insw; hlt */
    RUN_LOAD(&rig, "\xbf\x0f\x2f\xb9\x80\x08\xba\x02\x04\xf3\x6d\xf4");
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        assert_run_exits(&rig, KVM_EXIT_IO);
        assert_int_equal(run_page(&rig)->io.direction, KVM_EXIT_IO_IN);
        assert_int_equal(run_page(&rig)->io.size, 2);
        assert_int_equal(run_page(&rig)->io.count, counts[i]);
        assert_int_equal(rig.vcpu->x86->gpr[X86_RCX], 0x880 - done);
        for (uint32_t k = 0; k < 2 * counts[i]; k++) {
            expected[2 * done + k] = port_data(&rig)[k] = (uint8_t)((2 * done + k) * 7 + i);
        }
        done += counts[i];
    }
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(done, 0x880);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RCX], 0);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RDI], 0x2f0f + 0x1100);
    assert_memory_equal(rig.memory + 0x2f0f, expected, 0x1100);
    rig_free(&rig);
}

static void string_input_that_was_read_is_stored_before_all_else(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xbf\x00\x20\xb9\x20\x00\xba\x02\x04\xf3\x6c\xf4"); /* 0x20 bytes; hlt */
    assert_run_exits(&rig, KVM_EXIT_IO);
    assert_int_equal(run_page(&rig)->io.count, 0x20);
    memset(port_data(&rig), 0x6b, 0x20);
    run_page(&rig)->immediate_exit = 1;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_RUN, 0), -EINTR);
    run_page(&rig)->immediate_exit = 0;
    assert_int_equal(rig.vcpu->x86->gpr[X86_RCX], 0);
    assert_int_equal(rig.memory[0x201f], 0x6b);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void counter_that_is_set_while_string_input_is_read_counts(void **state)
{
    /* Linux's selftest userspace_io_test: what is stored is what the counter says, of what was read. */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xbf\x00\x20\xb9\x02\x00\xba\x02\x04\xf3\x6c\xf4"); /* 2 bytes; hlt */
    assert_run_exits(&rig, KVM_EXIT_IO);
    memset(port_data(&rig), 0x6b, 4);
    rig.vcpu->x86->gpr[X86_RCX] = 1;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_memory_equal(rig.memory + 0x2000, "\x6b\0", 2);
    RUN_LOAD(&rig, "\xbf\x00\x20\xb9\x02\x00\xba\x02\x04\xf3\x6c\xf4");
    assert_run_exits(&rig, KVM_EXIT_IO); /* nothing is left of the other */
    assert_int_equal(run_page(&rig)->io.count, 2);
    rig.vcpu->x86->gpr[X86_RCX] = 5;
    assert_run_exits(&rig, KVM_EXIT_IO);
    assert_int_equal(run_page(&rig)->io.count, 3);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(string_output_comes_element_by_element),
        cmocka_unit_test(string_input_is_read_ahead_within_its_page),
        cmocka_unit_test(string_input_that_was_read_is_stored_before_all_else),
        cmocka_unit_test(counter_that_is_set_while_string_input_is_read_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
