/*
 * unit/test_kcore_log.c - the dirty bitmap: marks, get, clear, put back, manual protection, and which
 * pages mmu is asked to protect again.
 */
#include "unit/arch.h"

#define PAGE UINT64_C(4096)
#define HVA UINT64_C(0x7f0000000000)
#define LOG MEMSLOT_LOG
#define ALL UINT64_MAX

/* Slot 1 with 200 pages from frame 0x100 on, logged: three words and eight bits. */
static struct arch *open_logged(void)
{
    struct arch *arch = arch_open();

    assert_int_equal(arch_set(arch, 1, LOG, 0x100 * PAGE, 200 * PAGE, HVA), 0);
    (void)arch_said(arch);
    return arch;
}

static void mark(struct arch *arch, uint64_t page)
{
    const struct memslot *slot = kcore_slot_by_id(&arch->core, 1);

    assert_true(kcore_mark_dirty(&arch->core, NULL, slot, (struct gfn){slot->base.value + page}));
}

static void expect_log(struct arch *arch, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t words[5] = {7, 7, 7, 7, 7};

    assert_int_equal(kcore_log_get(&arch->core, 1, words, 5), 0);
    assert_int_equal(words[0], a);
    assert_int_equal(words[1], b);
    assert_int_equal(words[2], c);
    assert_int_equal(words[3], d);
    assert_int_equal(words[4], 7); /* behind the slot's: left alone */
}

static void log_get_takes_and_protects_what_is_dirty(void **state)
{
    /* Only words with bits are protected, then one flush; a second get finds nothing. */
    struct arch *arch = open_logged();

    (void)state;
    expect_log(arch, 0, 0, 0, 0);
    assert_string_equal(arch_said(arch), "");
    mark(arch, 0);
    mark(arch, 63);
    mark(arch, 63);
    mark(arch, 199);
    expect_log(arch, 0x8000000000000001, 0, 0, 0x80);
    assert_string_equal(arch_said(arch), "protect:0.1:0:8000000000000001 protect:0.1:192:80 tlb");
    expect_log(arch, 0, 0, 0, 0);
    assert_string_equal(arch_said(arch), "");
    arch_close(arch);
}

static void log_of_what_is_not_logged_has_errors_of_the_kernel(void **state)
{
    /* The rows of LAB.md: absent, not logged, numbers beyond, a space beyond. */
    struct arch *arch = open_logged();
    uint64_t words[4];
    uint64_t pages = 0;

    (void)state;
    assert_int_equal(arch_set(arch, 2, 0, 0, PAGE, HVA), 0);
    assert_int_equal(kcore_log_get(&arch->core, 2, words, 4), -ENOENT);
    assert_int_equal(kcore_log_get(&arch->core, 3, words, 4), -ENOENT);
    assert_int_equal(kcore_log_get(&arch->core, 0x10001, words, 4), -ENOENT);
    assert_int_equal(kcore_log_get(&arch->core, 32764, words, 4), -EINVAL);
    assert_int_equal(kcore_log_get(&arch->core, 0xffff, words, 4), -EINVAL);
    assert_int_equal(kcore_log_get(&arch->core, 0x20001, words, 4), -EINVAL);
    assert_int_equal(kcore_log_get(&arch->core, 1, words, 3), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 2, 0, 64, words), -ENOENT);
    assert_int_equal(kcore_log_clear(&arch->core, 3, 0, 64, words), -ENOENT);
    assert_int_equal(kcore_log_clear(&arch->core, 3, 1, 64, words), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 32764, 0, 64, words), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 0x20001, 0, 64, words), -EINVAL);
    assert_int_equal(kcore_log_page_count(&arch->core, 1, &pages), 0);
    assert_int_equal(pages, 200);
    assert_int_equal(kcore_log_page_count(&arch->core, 2, &pages), -ENOENT);
    assert_int_equal(kcore_log_page_count(&arch->core, 32764, &pages), -EINVAL);
    arch_close(arch);
}

static void log_mark_of_a_slot_without_log_is_nothing(void **state)
{
    /* Nor of a version that was logged once: it says what it said, and its log is gone with it. */
    struct arch *arch = open_logged();
    const struct memslot *slot;

    (void)state;
    assert_int_equal(arch_set(arch, 1, 0, 0x100 * PAGE, 200 * PAGE, HVA), 0);
    slot = arch_find(arch, 0, 0x100);
    assert_true(kcore_mark_dirty(&arch->core, NULL, slot, slot->base));
    assert_null(slot->log);
    arch_close(arch);
}

static void log_get_with_manual_protection_leaves_all_as_it_is(void **state)
{
    /* Get only reads; clear takes what it is given, where it is dirty, and protects that. */
    struct arch *arch = open_logged();
    const uint64_t first[2] = {0x6, ALL};
    const uint64_t tail[2] = {ALL, ALL};

    (void)state;
    assert_int_equal(kcore_set_manual_protect(&arch->core, 1), 0);
    for (uint64_t page = 0; page < 200; page += 3) {
        mark(arch, page);
    }
    expect_log(arch, 0x9249249249249249, 0x4924924924924924, 0x2492492492492492, 0x49);
    assert_string_equal(arch_said(arch), "");
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, 128, first), 0);
    /* Of bits 1 and 2 none was dirty in the first word: nothing to protect there. */
    assert_string_equal(arch_said(arch), "protect:0.1:64:4924924924924924 tlb");
    expect_log(arch, 0x9249249249249249, 0, 0x2492492492492492, 0x49);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 128, 72, tail), 0);
    assert_string_equal(arch_said(arch), "protect:0.1:128:2492492492492492 protect:0.1:192:49 tlb");
    expect_log(arch, 0x9249249249249249, 0, 0, 0);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 128, 72, tail), 0);
    assert_string_equal(arch_said(arch), "");
    arch_close(arch);
}

static void log_clear_takes_whole_words_and_the_tail_only(void **state)
{
    /* With and without manual protection: clear needs no capability. */
    struct arch *arch = open_logged();
    const uint64_t words[4] = {ALL, ALL, ALL, ALL};

    (void)state;
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, 0, words), 0);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 192, 8, words), 0);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 192, 0, words), 0);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, 200, words), 0);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 1, 64, words), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, 63, words), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, 199, words), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 192, 9, words), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 192, 64, words), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 256, 0, words), -EINVAL);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 64, UINT64_MAX - 63, words), -EINVAL);
    arch_close(arch);
}

static void log_put_back_makes_pages_dirty_again(void **state)
{
    /* Beside what was marked meanwhile; never a bit past the end; nothing for a slot that has gone. */
    struct arch *arch = open_logged();
    const uint64_t words[5] = {0x5, 0, 0, ALL, ALL};

    (void)state;
    mark(arch, 1);
    kcore_log_put_back(&arch->core, 1, words, 5);
    expect_log(arch, 0x7, 0, 0, 0xff);
    kcore_log_put_back(&arch->core, 1, words, 1);
    expect_log(arch, 0x5, 0, 0, 0);
    kcore_log_put_back(&arch->core, 2, words, 5);
    kcore_log_put_back(&arch->core, 40000, words, 5);
    kcore_log_put_back(&arch->core, 0x30001, words, 5);
    arch_close(arch);
}

static void log_put_back_with_manual_protection_is_nothing(void **state)
{
    /* Nothing was taken, so nothing comes back: not even what was cleared since. */
    struct arch *arch = open_logged();
    uint64_t words[4];
    const uint64_t one[1] = {1};

    (void)state;
    assert_int_equal(kcore_set_manual_protect(&arch->core, 1), 0);
    mark(arch, 0);
    assert_int_equal(kcore_log_get(&arch->core, 1, words, 4), 0);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, 64, one), 0);
    kcore_log_put_back(&arch->core, 1, words, 4);
    expect_log(arch, 0, 0, 0, 0);
    arch_close(arch);
}

static void log_manual_protect_takes_0_1_and_3(void **state)
{
    /* As KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. */
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(kcore_set_manual_protect(&arch->core, 0), 0);
    assert_int_equal(kcore_set_manual_protect(&arch->core, 1), 0);
    assert_int_equal(kcore_set_manual_protect(&arch->core, 2), -EINVAL);
    assert_int_equal(kcore_set_manual_protect(&arch->core, 3), 0);
    assert_int_equal(kcore_set_manual_protect(&arch->core, 4), -EINVAL);
    assert_int_equal(kcore_set_manual_protect(&arch->core, UINT64_C(1) << 32), -EINVAL);
    arch_close(arch);
}

static void log_initially_all_set_begins_with_ones(void **state)
{
    /* On create, on log-on, with read-only; no bit past the end; not where it is off again. */
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(kcore_set_manual_protect(&arch->core, 3), 0);
    assert_int_equal(arch_set(arch, 1, LOG, 0, 200 * PAGE, HVA), 0);
    expect_log(arch, ALL, ALL, ALL, 0xff);
    assert_int_equal(arch_set(arch, 1, 0, 0, 200 * PAGE, HVA), 0);
    assert_int_equal(arch_set(arch, 1, LOG, 0, 200 * PAGE, HVA), 0);
    expect_log(arch, ALL, ALL, ALL, 0xff);
    assert_int_equal(arch_set(arch, 1, 0, 0, 0, 0), 0);
    assert_int_equal(arch_set(arch, 1, LOG | MEMSLOT_READONLY, 0, 200 * PAGE, HVA), 0);
    expect_log(arch, ALL, ALL, ALL, 0xff);
    assert_int_equal(kcore_set_manual_protect(&arch->core, 1), 0);
    assert_int_equal(arch_set(arch, 1, MEMSLOT_READONLY, 0, 200 * PAGE, HVA), 0);
    assert_int_equal(arch_set(arch, 1, LOG | MEMSLOT_READONLY, 0, 200 * PAGE, HVA), 0);
    expect_log(arch, 0, 0, 0, 0);
    arch_close(arch);
}

static void log_sizes_at_words_ends_have_the_right_tails(void **state)
{
    /* 1, 63, 64, 65 and 128 pages. */
    static const uint64_t sizes[] = {1, 63, 64, 65, 128};
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(kcore_set_manual_protect(&arch->core, 3), 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t words[2] = {0, 0};
        uint64_t in_first = sizes[i] < 64 ? sizes[i] : 64;

        assert_int_equal(arch_set(arch, 1, LOG, 0, sizes[i] * PAGE, HVA), 0);
        assert_int_equal(kcore_log_get(&arch->core, 1, words, (sizes[i] + 63) / 64), 0);
        assert_int_equal(words[0], in_first == 64 ? ALL : (UINT64_C(1) << in_first) - 1);
        assert_int_equal(words[1], sizes[i] <= 64 ? 0 : sizes[i] == 65 ? 1 : ALL);
        assert_int_equal(arch_set(arch, 1, 0, 0, 0, 0), 0);
    }
    arch_close(arch);
}

/* A vCPU's buffer has page 70, which is still at its old place. */
static void drain_page_70(struct arch *arch)
{
    const struct memslot *slot = arch_find(arch, 0, 0x100 + 70);

    if (slot != NULL) {
        assert_true(kcore_mark_dirty(&arch->core, NULL, slot, (struct gfn){0x100 + 70}));
    }
}

static void log_buffers_are_drained_before_they_are_asked_for(void **state)
{
    /* By get, by clear, and by changes of a logged slot, while the slot is what it was. */
    struct arch arch;
    struct kcore_options options = arch_options(&arch);
    const uint64_t words[2] = {0, ALL};

    (void)state;
    options.log_is_immediate = false;
    assert_int_equal(kcore_init(&arch.core, &options), 0);
    assert_int_equal(arch_set(&arch, 1, LOG, 0x100 * PAGE, 200 * PAGE, HVA), 0);
    (void)arch_said(&arch);
    arch.on_drain = drain_page_70;
    expect_log(&arch, 0, 0x40, 0, 0);
    assert_string_equal(arch_said(&arch), "drain protect:0.1:64:40 tlb");
    assert_int_equal(kcore_log_clear(&arch.core, 1, 0, 128, words), 0);
    assert_string_equal(arch_said(&arch), "drain protect:0.1:64:40 tlb");
    assert_int_equal(arch_set(&arch, 1, LOG, 0x1000 * PAGE, 200 * PAGE, HVA), 0);
    assert_string_equal(arch_said(&arch), "prepare:0.1 drain flush:0.1 commit:0.1:1>1 tlb");
    expect_log(&arch, 0, 0x40, 0, 0);
    (void)arch_said(&arch);
    assert_int_equal(arch_set(&arch, 2, LOG, 0, PAGE, HVA), 0); /* nothing was logged there */
    assert_string_equal(arch_said(&arch), "prepare:0.2 commit:0.2:->1 tlb");
    arch_close(&arch);
}

/* A write that comes between taking and protecting marks its page again. */
static void mark_page_3(struct arch *arch, const struct memslot *slot)
{
    arch->on_protect = NULL;
    assert_true(kcore_mark_dirty(&arch->core, NULL, slot, (struct gfn){slot->base.value + 3}));
}

static void log_write_between_take_and_protect_is_not_lost(void **state)
{
    /* It is not in this harvest, and so in the next one. */
    struct arch *arch = open_logged();

    (void)state;
    mark(arch, 3);
    arch->on_protect = mark_page_3;
    expect_log(arch, 8, 0, 0, 0);
    expect_log(arch, 8, 0, 0, 0);
    expect_log(arch, 0, 0, 0, 0);
    arch_close(arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_get_takes_and_protects_what_is_dirty),
        cmocka_unit_test(log_of_what_is_not_logged_has_errors_of_the_kernel),
        cmocka_unit_test(log_mark_of_a_slot_without_log_is_nothing),
        cmocka_unit_test(log_get_with_manual_protection_leaves_all_as_it_is),
        cmocka_unit_test(log_clear_takes_whole_words_and_the_tail_only),
        cmocka_unit_test(log_put_back_makes_pages_dirty_again),
        cmocka_unit_test(log_put_back_with_manual_protection_is_nothing),
        cmocka_unit_test(log_manual_protect_takes_0_1_and_3),
        cmocka_unit_test(log_initially_all_set_begins_with_ones),
        cmocka_unit_test(log_sizes_at_words_ends_have_the_right_tails),
        cmocka_unit_test(log_buffers_are_drained_before_they_are_asked_for),
        cmocka_unit_test(log_write_between_take_and_protect_is_not_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
