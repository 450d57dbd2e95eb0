/*
 * race/test_shadow_points.c - the orders of faults, writes and flushes of two vCPUs at shadow tables, forced one by one:
 * rows S1 to S9.
 */
#include "race/test_shadow_points.h"

/* ---- S1 to S4: a fault's walk, and an edit of an entry that it went by ---- */

static void edit_after_the_walk_is_noticed(uint64_t entry, uint64_t value, uint64_t expected)
{
    uint64_t writes;

    assert_loads_now(0x1000, WORD(1)); /* so that tables are shadowed, page 2 not mapped */
    writes = stats().shadow_writes;
    begin_until("shadow-resolved", GM_MMU_READ, 0x2000);
    other_stores(entry, value);
    assert_int_equal(stats().shadow_writes, writes + 1);
    assert_loads(finish(), expected);
    assert_true(stats().faults_retried > 0);
}

static void shadow_fault_walks_again_after_an_edit_by_hand(void **state)
{
    /* S1: the edit, and its dropping of entries, came before the fault has the lock. */
    (void)state;
    edit_after_the_walk_is_noticed(PT + 2 * 8, page_of(9), WORD(9));
}

static void shadow_fault_walks_again_after_an_edit_of_a_directory(void **state)
{
    /* S1: of a table above the lowest level, to one that leads elsewhere. */
    (void)state;
    *memory_word(0x9000 + 2 * 8) = page_of(7);
    edit_after_the_walk_is_noticed(PD, 0x9000 | FLAGS, WORD(7));
}

static void shadow_fault_walks_again_after_an_edit_of_the_root(void **state)
{
    /* S1: of the topmost one. */
    (void)state;
    *memory_word(0x9000) = 0xa000 | FLAGS;
    *memory_word(0xa000) = 0xb000 | FLAGS;
    *memory_word(0xb000 + 2 * 8) = page_of(6);
    edit_after_the_walk_is_noticed(PML4, 0x9000 | FLAGS, WORD(6));
}

static void shadow_fault_with_the_lock_sees_an_edit_by_hand(void **state)
{
    /* S2: the entry is written while the fault has the lock; what the write drops waits for it. */
    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-mapping", GM_MMU_READ, 0x2000);
    puppet_begin(&other, GM_MMU_WRITE, PT + 2 * 8, page_of(9));
    while (memory(PT + 2 * 8) != page_of(9)) {
        race_pass_time();
    }
    assert_loads(finish(), WORD(9));
    assert_int_equal(puppet_end(&other).outcome, GM_MMU_OK);
    assert_loads_now(0x2000, WORD(9));
}

static void shadow_fault_with_the_lock_sees_an_unseen_edit(void **state)
{
    /* S2: of a table that is unsync, by a mapping: nobody has to be told. */
    (void)state;
    assert_loads_now(0x1000, WORD(1));
    other_stores_unseen(PT + 3 * 8, page_of(8));
    assert_int_equal(stats().shadow_unsync, 1);
    begin_until("shadow-mapping", GM_MMU_READ, 0x2000);
    other_stores_unseen(PT + 2 * 8, page_of(9)); /* by its TLB: without the lock */
    assert_loads(finish(), WORD(9));
    assert_int_equal(stats().shadow_unsync, 1);
}

static void shadow_fault_sees_an_edit_of_a_table_that_nothing_stood_for(void **state)
{
    /* S3: before the table's writes are caught: the entry is read again after that. */
    (void)state;
    other_stores(PT + 3 * 8, page_of(3)); /* in its TLB, with the right to write */
    begin_until("shadow-mapping", GM_MMU_READ, 0x2000);
    other_stores(PT + 2 * 8, page_of(9));
    assert_loads(finish(), WORD(9));
    assert_int_equal(stats().shadow_writes, 0);
    /* And from then on they are. */
    other_stores(PT + 2 * 8, page_of(5));
    assert_int_equal(stats().shadow_writes, 1);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    assert_loads_now(0x2000, WORD(5));
}

static struct puppet_access mapped;

/* On a thread that waits: the other vCPU is stopped in guest mode. */
static void map_page_2(void)
{
    mapped = puppet_do(&puppet, GM_MMU_READ, 0x2000, 0);
}

/* The other vCPU is about to write an entry, by a right that it has read. Its page becomes a table. */
static void write_as_its_page_becomes_a_table(const char *point, uint64_t address)
{
    static struct waiter waiter;

    other_begin_until(point, GM_MMU_WRITE, address, page_of(9));
    waiter_start(&waiter, map_page_2);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_int_equal(other_finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    assert_loads(mapped, WORD(9));
    assert_int_equal(stats().shadow_writes, 0);
}

static void shadow_write_by_physical_address_comes_before_its_page_is_a_table(void **state)
{
    /* S4: it is waited for, and what it wrote is found. The right is gone from the TLB after it. */
    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    other_stores(PT + 3 * 8, page_of(3));
    gm_mmu_flush_all(other.mmu);
    write_as_its_page_becomes_a_table("walk-leaf", PT + 2 * 8);
    other_stores(PT + 2 * 8, page_of(5));
    assert_int_equal(stats().shadow_writes, 1);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    assert_loads_now(0x2000, WORD(5));
}

static void shadow_write_by_linear_address_comes_before_its_page_is_a_table(void **state)
{
    /* S4: the same by a mapping, whose leaf is protected. */
    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    other_stores_unseen(PT + 3 * 8, page_of(3));
    gm_mmu_flush_all(other.mmu);
    other.is_linear = true;
    /* Its walk refreshes the root first, then comes to the leaf. */
    write_as_its_page_becomes_a_table("shadow-leaf", TABLES + PT + 2 * 8);
    assert_int_equal(stats().shadow_unsync, 0);
    other_stores(TABLES + PT + 2 * 8, page_of(5));
    assert_int_equal(stats().shadow_unsync, 1);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    assert_loads_now(0x2000, WORD(5));
}

/* ---- S5 to S7: a flush, and a write that nobody sees ---- */

/* PT has shadow pages and is unsync, by a leaf that the other vCPU's TLB does not have. */
static void make_unsync(void)
{
    assert_loads_now(0x2000, WORD(2));
    other_stores_unseen(PT + 3 * 8, page_of(8));
    assert_int_equal(stats().shadow_unsync, 1);
    gm_mmu_invlpg(other.mmu, TABLES + PT);
}

static void flush_puppet(void)
{
    set_root(&puppet, PML4);
    mapped = puppet_do(&puppet, GM_MMU_READ, 0x2000, 0);
}

static void shadow_sync_waits_for_an_unseen_write(void **state)
{
    /* S5: the table is protected, who may write by an older right is waited for, and then it is read. */
    static struct waiter waiter;

    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    make_unsync();
    other.is_linear = true;
    other_begin_until("shadow-leaf", GM_MMU_WRITE, TABLES + PT + 2 * 8, page_of(9));
    waiter_start(&waiter, flush_puppet);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_int_equal(other_finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    assert_loads(mapped, WORD(9));
    assert_int_equal(stats().shadow_unsync, 0);
}

static void shadow_sync_takes_a_right_that_was_read_but_not_used(void **state)
{
    /* S5: the walk has to set the accessed flag, finds the leaf changed, and faults: the write comes after. */
    static struct waiter waiter;

    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    make_unsync();
    (void)gm_soft_age(race.soft, race.hva + PT, PAGE);
    other.is_linear = true;
    other_begin_until("shadow-leaf", GM_MMU_WRITE, TABLES + PT + 2 * 8, page_of(9));
    waiter_start(&waiter, flush_puppet);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_int_equal(other_finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    assert_loads(mapped, WORD(2));
    assert_int_equal(stats().shadow_unsync, 1);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    assert_loads_now(0x2000, WORD(9));
}

static void shadow_sync_keeps_later_writes_out_until_it_has_read(void **state)
{
    /* S6: what was protected may be written again, unseen, only by a fault, which waits for the lock. */
    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    make_unsync();
    set_root(&puppet, PML4);
    begin_until("shadow-syncing", GM_MMU_READ, 0x2000);
    other.is_linear = true;
    puppet_begin(&other, GM_MMU_WRITE, TABLES + PT + 2 * 8, page_of(9));
    for (int i = 0; i < 20; i++) {
        race_pass_time();
        assert_int_equal(memory(PT + 2 * 8) & ~UINT64_C(0xfff), page_of(2) & ~UINT64_C(0xfff));
    }
    puppet_go_on(&puppet);
    (void)puppet_end(&puppet); /* before the write or after it */
    assert_int_equal(puppet_end(&other).outcome, GM_MMU_OK);
    assert_int_equal(stats().shadow_unsync, 1);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    assert_loads_now(0x2000, WORD(9));
}

static void shadow_invlpg_of_another_vcpu_finds_an_unseen_write(void **state)
{
    /* S7: two vCPUs, one table: it stays unsync, so each flush of each of them looks at the entry. */
    (void)state;
    make_unsync();
    other_stores_unseen(PT + 2 * 8, page_of(9));
    gm_mmu_invlpg(other.mmu, 0x2000);
    other.is_linear = true;
    assert_loads(puppet_do(&other, GM_MMU_READ, 0x2000, 0), WORD(9));
    other_stores(TABLES + PT + 2 * 8, page_of(5));
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    assert_loads_now(0x2000, WORD(5));
    assert_int_equal(stats().shadow_unsync, 1);
}

static void shadow_dirty_flag_cleared_after_the_walk_is_set_again(void **state)
{
    /* S7: the walk of a write has set it; it is cleared before the leaf is put in. */
    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-resolved", GM_MMU_WRITE, 0x2008);
    assert_int_equal(memory(PT + 2 * 8) & DIRTY, DIRTY);
    other_stores(PT + 2 * 8, page_of(2));
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_int_equal(memory(PT + 2 * 8) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
    /* The same under the lock, unseen. */
    other_stores_unseen(PT + 3 * 8, page_of(3));
    begin_until("shadow-mapping", GM_MMU_WRITE, 0x3008);
    assert_int_equal(memory(PT + 3 * 8) & DIRTY, DIRTY);
    other_stores_unseen(PT + 3 * 8, page_of(3));
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_int_equal(memory(PT + 3 * 8) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
}

static void shadow_dirty_flag_cleared_by_another_vcpu_is_set_again(void **state)
{
    /* S7: the page is mapped writable; both flush. Which of both takes the right is all the same. */
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        stores(0x2008, i);
        assert_int_equal(memory(PT + 2 * 8) & DIRTY, DIRTY);
        other_stores_unseen(PT + 2 * 8, page_of(2) | ACCESSED);
        if (i == 0) {
            gm_mmu_invlpg(other.mmu, 0x2000);
            assert_loads(puppet_do(&other, GM_MMU_READ, DATA, 0), WORD(0));
            other_stores_unseen(PT + 3 * 8, page_of(3)); /* by its mapping: refreshes */
        }
        gm_mmu_invlpg(puppet.mmu, 0x2000);
        assert_loads_now(0x2000, WORD(2));
        assert_int_equal(memory(PT + 2 * 8) & DIRTY, 0);
        stores(0x2008, i + 2);
        assert_int_equal(memory(PT + 2 * 8) & DIRTY, DIRTY);
    }
}

/* ---- S8, S9: a write by hand, between the memory and the tables ---- */

static void shadow_write_by_hand_drops_what_was_mapped_meanwhile(void **state)
{
    /* S8: a fault maps the old entry after the write was settled; the write, then its drop come after it. */
    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    assert_loads_now(0x1000, WORD(1));
    other_stores(PT + 3 * 8, page_of(3));
    other_begin_until("walk-leaf", GM_MMU_WRITE, PT + 2 * 8, page_of(9)); /* settled by hand */
    assert_loads_now(0x2000, WORD(2));
    assert_int_equal(other_finish().outcome, GM_MMU_OK);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    assert_loads_now(0x2000, WORD(9));
}

/*
 * S9: a vCPU reads an entry that another one has just written by hand, flushes, and uses it. It must not find what
 * the entry said before (SDM 3A 4.10.4: INVLPG, CR3), though the writer has not dropped it yet. Its access may wait
 * for the writer.
 */
static void flush_while_a_write_by_hand_is_in_flight(uint64_t entry, uint64_t value,
                                                     uint64_t expected, bool is_by_cr3)
{
    bool is_seen;

    if (!puppet_can_stop()) {
        skip();
    }
    assert_loads_now(0x2000, WORD(2));
    other_begin_until("shadow-write-made", GM_MMU_WRITE, entry, value);
    is_seen = puppet_do(&puppet, GM_MMU_READ, TABLES + entry, 0).value == value;
    if (is_by_cr3) {
        set_root(&puppet, PML4);
    } else {
        gm_mmu_invlpg(puppet.mmu, 0x2000);
    }
    puppet_begin(&puppet, GM_MMU_READ, 0x2000, 0);
    for (int i = 0; i < 20; i++) {
        race_pass_time();
    }
    assert_int_equal(other_finish().outcome, GM_MMU_OK);
    if (is_seen) {
        assert_loads(puppet_end(&puppet), expected);
    } else {
        assert_int_equal(puppet_end(&puppet).outcome, GM_MMU_OK);
    }
}

static void shadow_invlpg_finds_a_write_by_hand_in_flight(void **state)
{
    (void)state;
    flush_while_a_write_by_hand_is_in_flight(PT + 2 * 8, page_of(9), WORD(9), false);
}

static void shadow_cr3_finds_a_write_by_hand_in_flight(void **state)
{
    (void)state;
    flush_while_a_write_by_hand_is_in_flight(PT + 2 * 8, page_of(9), WORD(9), true);
}

static void shadow_invlpg_finds_a_directory_written_by_hand_in_flight(void **state)
{
    (void)state;
    *memory_word(0x9000 + 2 * 8) = page_of(7);
    flush_while_a_write_by_hand_is_in_flight(PD, 0x9000 | FLAGS, WORD(7), false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POINT_TEST(shadow_fault_walks_again_after_an_edit_by_hand),
        POINT_TEST(shadow_fault_walks_again_after_an_edit_of_a_directory),
        POINT_TEST(shadow_fault_walks_again_after_an_edit_of_the_root),
        POINT_TEST(shadow_fault_with_the_lock_sees_an_edit_by_hand),
        POINT_TEST(shadow_fault_with_the_lock_sees_an_unseen_edit),
        POINT_TEST(shadow_fault_sees_an_edit_of_a_table_that_nothing_stood_for),
        POINT_TEST(shadow_write_by_physical_address_comes_before_its_page_is_a_table),
        POINT_TEST(shadow_write_by_linear_address_comes_before_its_page_is_a_table),
        POINT_TEST(shadow_sync_waits_for_an_unseen_write),
        POINT_TEST(shadow_sync_takes_a_right_that_was_read_but_not_used),
        POINT_TEST(shadow_sync_keeps_later_writes_out_until_it_has_read),
        POINT_TEST(shadow_invlpg_of_another_vcpu_finds_an_unseen_write),
        POINT_TEST(shadow_dirty_flag_cleared_after_the_walk_is_set_again),
        POINT_TEST(shadow_dirty_flag_cleared_by_another_vcpu_is_set_again),
        POINT_TEST(shadow_write_by_hand_drops_what_was_mapped_meanwhile),
        POINT_TEST(shadow_invlpg_finds_a_write_by_hand_in_flight),
        POINT_TEST(shadow_cr3_finds_a_write_by_hand_in_flight),
        POINT_TEST(shadow_invlpg_finds_a_directory_written_by_hand_in_flight),
    };

    return cmocka_run_group_tests_name("shadow_points", tests, NULL, NULL);
}
