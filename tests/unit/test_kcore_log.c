/*
 * unit/test_kcore_log.c - the dirty bitmap: marks, get, clear, loans, manual protection, and which
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
    /* All at once, then one flush; of a log that is clean nothing is protected. */
    struct arch *arch = open_logged();

    (void)state;
    expect_log(arch, 0, 0, 0, 0);
    assert_string_equal(arch_said(arch), "");
    mark(arch, 0);
    mark(arch, 63);
    mark(arch, 63);
    mark(arch, 199);
    expect_log(arch, 0x8000000000000001, 0, 0, 0x80);
    assert_string_equal(arch_said(arch), "words:0.1:0:8000000000000001,0,0,80 tlb");
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
    /* Of bits 1 and 2 none was dirty in the first word: nothing to protect there. As the rest of the block stays
     * dirty, the others are protected alone. */
    assert_string_equal(arch_said(arch), "protect:0.1:64:4924924924924924 tlb");
    expect_log(arch, 0x9249249249249249, 0, 0x2492492492492492, 0x49);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 128, 72, tail), 0);
    assert_string_equal(arch_said(arch), "words:0.1:128:ffffffffffffffff,ffffffffffffffff tlb");
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

static void log_clear_of_more_than_a_gibibyte_ends_where_it_should(void **state)
{
    /* It is done a gibibyte at a time, so that vCPUs are not held for long; behind the range bits stay, whatever lies behind the bitmap. */
    enum { WORDS = 5000, CLEARED = 4100, LATER = 4150 };
    static uint64_t bitmap[WORDS];
    static uint64_t seen[WORDS];
    struct arch *arch = arch_open();

    (void)state;
    arch->is_silent = true;
    arch->core.manual_protect = true;
    assert_int_equal(arch_set(arch, 1, LOG, 0, WORDS * 64 * PAGE, HVA), 0);
    memset(bitmap, 0xff, sizeof(bitmap));
    mark(arch, 3);
    mark(arch, CLEARED * 64 - 1);
    mark(arch, CLEARED * 64);
    mark(arch, LATER * 64);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, CLEARED * 64, bitmap), 0);
    assert_int_equal(kcore_log_get(&arch->core, 1, seen, WORDS), 0);
    for (unsigned i = 0; i < WORDS; i++) {
        assert_int_equal(seen[i], i == CLEARED || i == LATER ? 1 : 0);
    }
    arch_close(arch);
}

static void log_loan_that_is_not_read_is_dirty_again(void **state)
{
    /* Beside what was marked meanwhile, which a reader in between finds alone. Then no harvest has lost anything. */
    struct arch *arch = open_logged();
    struct dirtylog_loan loan;
    struct dirtylog_loan empty;

    (void)state;
    mark(arch, 1);
    mark(arch, 199);
    assert_int_equal(kcore_log_lend(&arch->core, 1, &loan), 0);
    assert_int_equal(loan.word_count, 4);
    assert_int_equal(loan.words[0], 2);
    assert_int_equal(loan.words[3], 0x80);
    assert_int_equal(kcore_log_lend(&arch->core, 1, &empty), 0);
    assert_int_equal(empty.words[0], 0);
    kcore_log_return(&arch->core, &empty, false);
    mark(arch, 2);
    expect_log(arch, 4, 0, 0, 0);
    mark(arch, 3);
    assert_int_equal(loan.words[0], 2);
    kcore_log_return(&arch->core, &loan, false);
    expect_log(arch, 0xa, 0, 0, 0x80);
    expect_log(arch, 0, 0, 0, 0);
    /* Of nothing else the log knows: what came back is taken all the same. */
    mark(arch, 5);
    assert_int_equal(kcore_log_lend(&arch->core, 1, &loan), 0);
    kcore_log_return(&arch->core, &loan, false);
    expect_log(arch, 0x20, 0, 0, 0);
    expect_log(arch, 0, 0, 0, 0);
    arch_close(arch);
}

static void log_loan_outlives_its_slot(void **state)
{
    /* Read, and not read: another slot of that number knows nothing of it. */
    struct arch *arch = open_logged();
    struct dirtylog_loan loans[2];

    (void)state;
    mark(arch, 1);
    assert_int_equal(kcore_log_lend(&arch->core, 1, &loans[0]), 0);
    mark(arch, 2);
    assert_int_equal(kcore_log_lend(&arch->core, 1, &loans[1]), 0);
    assert_int_equal(arch_set(arch, 1, LOG, 0x100 * PAGE, 0, HVA), 0);
    assert_int_equal(arch_set(arch, 1, LOG, 0x100 * PAGE, 200 * PAGE, HVA), 0);
    rcu_domain_drain(arch->core.deferred);
    assert_int_equal(loans[0].words[0], 2);
    assert_int_equal(loans[1].words[0], 4);
    kcore_log_return(&arch->core, &loans[0], false);
    kcore_log_return(&arch->core, &loans[1], true);
    expect_log(arch, 0, 0, 0, 0);
    arch_close(arch);
}

static void log_loan_with_manual_protection_shows_what_is_marked(void **state)
{
    /* Nothing is taken, so nothing comes back: not even what was cleared since. */
    struct arch *arch = open_logged();
    struct dirtylog_loan loan;
    struct dirtylog_loan taken;
    const uint64_t one[1] = {1};

    (void)state;
    assert_int_equal(kcore_set_manual_protect(&arch->core, 1), 0);
    mark(arch, 0);
    assert_int_equal(kcore_log_lend(&arch->core, 1, &loan), 0);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, 64, one), 0);
    assert_int_equal(loan.words[0], 0);
    mark(arch, 5);
    assert_int_equal(loan.words[0], 0x20);
    /* A harvest that takes all leaves these words where they are. */
    assert_int_equal(kcore_set_manual_protect(&arch->core, 0), 0);
    assert_int_equal(kcore_log_lend(&arch->core, 1, &taken), 0);
    assert_int_equal(taken.words[0], 0x20);
    assert_int_equal(loan.words[0], 0);
    mark(arch, 6);
    assert_int_equal(loan.words[0], 0x40);
    kcore_log_return(&arch->core, &taken, true);
    kcore_log_return(&arch->core, &loan, false);
    expect_log(arch, 0x40, 0, 0, 0);
    arch_close(arch);
}

static void log_without_memory_for_other_words_stays(void **state)
{
    /* The first harvest that takes needs some; nothing is lost when there is none. */
    struct arch *arch = open_logged();
    uint64_t words[4];

    (void)state;
    mark(arch, 7);
    faults_arm(&arch->faults, 1);
    assert_int_equal(kcore_log_get(&arch->core, 1, words, 4), -ENOMEM);
    assert_true(faults_disarm(&arch->faults));
    assert_string_equal(arch_said(arch), "");
    expect_log(arch, 0x80, 0, 0, 0);
    arch_close(arch);
}

static void log_clear_protects_whole_blocks_together(void **state)
{
    /* Blocks of 512 pages, of which nothing stays dirty, and clean ones between them; a block that stays dirty in
     * part goes by pages. */
    struct arch *arch = arch_open();
    uint64_t words[40];

    (void)state;
    assert_int_equal(arch_set(arch, 1, LOG, 0x100 * PAGE, 40 * 64 * PAGE, HVA), 0);
    assert_int_equal(kcore_set_manual_protect(&arch->core, 1), 0);
    (void)arch_said(arch);
    memset(words, 0, sizeof(words));
    mark(arch, 64);      /* block 0 */
    mark(arch, 16 * 64); /* block 2 */
    mark(arch, 24 * 64); /* block 3: this one is cleared, */
    mark(arch, 25 * 64); /* and this one is not */
    mark(arch, 39 * 64); /* block 4 */
    words[1] = words[16] = words[24] = words[39] = 3;
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, 40 * 64, words), 0);
    assert_string_equal(arch_said(arch),
                        "words:0.1:0:0,3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,3,0,0,0,0,0,0,0 "
                        "protect:0.1:1536:1 words:0.1:2048:0,0,0,0,0,0,0,3 tlb");
    assert_int_equal(kcore_log_get(&arch->core, 1, words, 40), 0);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(words[i], i == 25 ? 1 : 0);
    }
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
    assert_string_equal(arch_said(&arch), "drain words:0.1:0:0,40,0,0 tlb");
    assert_int_equal(kcore_log_clear(&arch.core, 1, 0, 128, words), 0);
    assert_string_equal(arch_said(&arch), "drain words:0.1:0:0,ffffffffffffffff tlb");
    assert_int_equal(arch_set(&arch, 1, LOG, 0x1000 * PAGE, 200 * PAGE, HVA), 0);
    assert_string_equal(arch_said(&arch), "prepare:0.1 drain flush:0.1 commit:0.1:1>1 tlb");
    expect_log(&arch, 0, 0x40, 0, 0);
    (void)arch_said(&arch);
    assert_int_equal(arch_set(&arch, 2, LOG, 0, PAGE, HVA), 0); /* nothing was logged there */
    assert_string_equal(arch_said(&arch), "prepare:0.2 commit:0.2:->1 tlb");
    arch_close(&arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_get_takes_and_protects_what_is_dirty),
        cmocka_unit_test(log_of_what_is_not_logged_has_errors_of_the_kernel),
        cmocka_unit_test(log_mark_of_a_slot_without_log_is_nothing),
        cmocka_unit_test(log_get_with_manual_protection_leaves_all_as_it_is),
        cmocka_unit_test(log_clear_takes_whole_words_and_the_tail_only),
        cmocka_unit_test(log_clear_of_more_than_a_gibibyte_ends_where_it_should),
        cmocka_unit_test(log_loan_that_is_not_read_is_dirty_again),
        cmocka_unit_test(log_loan_outlives_its_slot),
        cmocka_unit_test(log_loan_with_manual_protection_shows_what_is_marked),
        cmocka_unit_test(log_without_memory_for_other_words_stays),
        cmocka_unit_test(log_clear_protects_whole_blocks_together),
        cmocka_unit_test(log_manual_protect_takes_0_1_and_3),
        cmocka_unit_test(log_initially_all_set_begins_with_ones),
        cmocka_unit_test(log_sizes_at_words_ends_have_the_right_tails),
        cmocka_unit_test(log_buffers_are_drained_before_they_are_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
