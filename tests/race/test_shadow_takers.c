/*
 * race/test_shadow_takers.c - the orders of what a vCPU does at shadow tables and what the host does, forced one by one:
 * rows S10 to S13.
 */
#include "race/test_shadow_points.h"

#include <linux/kvm.h>

/* ---- S10, S11: what takers do beside a fault ---- */

static void shadow_fault_resolved_before_delete_comes_out_as_mmio(void **state)
{
    /* S10: another version of the slots is the newest: of the data's, */
    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-resolved", GM_MMU_READ, 0x2000);
    set_data_slot(0, 0, 0);
    assert_int_equal(finish().outcome, GM_MMU_MMIO);
    assert_int_equal(leaves_of(race.hva + DATA, SLOT_BYTES), 0);
}

static void shadow_fault_resolved_before_replacement_reads_the_new_memory(void **state)
{
    struct gm_soft_slot list[2] = {{.slot = 0}, {0, 0, DATA, SLOT_BYTES, race.hva + SPARE}};

    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-resolved", GM_MMU_READ, 0x2000);
    assert_int_equal(gm_soft_set_slots(race.soft, list, 2, NULL), 0);
    assert_loads(finish(), SPARE_WORD(2));
    assert_loads_now(0x1000, SPARE_WORD(1));
}

static void shadow_fault_resolved_before_its_tables_are_replaced_walks_the_new_ones(void **state)
{
    /* S10: of the tables': all pages that stood for them go. */
    struct gm_soft_slot list[2] = {{.slot = 1}, {1, 0, 0, SLOT_BYTES, race.hva + SPARE}};

    (void)state;
    memcpy(memory_word(SPARE), memory_word(0), SLOT_BYTES);
    *memory_word(SPARE + PT + 2 * 8) = page_of(9);
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-resolved", GM_MMU_READ, 0x2000);
    assert_int_equal(gm_soft_set_slots(race.soft, list, 2, NULL), 0);
    assert_loads(finish(), WORD(9));
}

static void shadow_fault_resolved_before_log_begins_is_logged(void **state)
{
    /* S10: a write found an unlogged slot. */
    (void)state;
    begin_until("shadow-resolved", GM_MMU_WRITE, 0x2000);
    set_data_slot(LOG, SLOT_BYTES, DATA);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_true(is_reported(2));
    stores(0x2000, 1);
    assert_true(is_reported(2));
}

static void shadow_fault_resolved_before_tracking_writes_by_hand(void **state)
{
    /* S10: nothing maps the page writable. */
    uint64_t leaves;

    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-resolved", GM_MMU_WRITE, 0x2000);
    assert_int_equal(gm_soft_track(race.soft, 0, DATA + 2 * PAGE), 0);
    leaves = stats().shadow_leaves;
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_int_equal(stats().shadow_leaves, leaves);
    assert_int_equal(memory(DATA + 2 * PAGE), 0x77);
}

static void shadow_fault_resolved_before_zap_all_maps_into_new_tables(void **state)
{
    /* S10: its root is obsolete. */
    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-resolved", GM_MMU_READ, 0x2000);
    gm_soft_zap_all(race.soft);
    assert_int_equal(stats().shadow_pages, 1); /* a root that its vCPU has not given up */
    assert_loads(finish(), WORD(2));
    assert_int_equal(stats().shadow_pages, 4);
}

static void write_tables_anew(uint64_t table)
{
    gm_soft_invalidate_begin(race.soft, race.hva + table, PAGE);
    *memory_word(table + 2 * 8) = page_of(9);
    gm_soft_invalidate_end(race.soft, race.hva + table, PAGE);
}

static void shadow_fault_resolved_before_an_invalidation_of_its_table_walks_again(void **state)
{
    /* S11: the table's memory has other contents, written by no vCPU. */
    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-resolved", GM_MMU_READ, 0x2000);
    write_tables_anew(PT);
    assert_loads(finish(), WORD(9));
    write_tables_anew(PT); /* and the entry that was mapped is forgotten, too */
    *memory_word(PT + 2 * 8) = page_of(2);
    assert_loads_now(0x2000, WORD(2));
}

static void shadow_fault_in_an_invalidation_of_its_table_maps_nothing(void **state)
{
    /* S11: begun, and not ended: it comes by again and again. */
    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-resolved", GM_MMU_READ, 0x2000);
    gm_soft_invalidate_begin(race.soft, race.hva + PT, PAGE);
    /* Its next walk finds no table, which is a fault of its own. */
    for (int i = 0; i < 3; i++) {
        puppet_stop_at(&puppet, "fault-resolved");
        puppet_go_on(&puppet);
        puppet_wait_stopped(&puppet);
        assert_int_equal(stats().shadow_leaves, 0);
    }
    *memory_word(PT + 2 * 8) = page_of(9);
    gm_soft_invalidate_end(race.soft, race.hva + PT, PAGE);
    assert_loads(finish(), WORD(9));
}

static void invalidate_pt(void)
{
    gm_soft_invalidate_begin(race.soft, race.hva + PT, PAGE);
}

static void shadow_fault_mapping_as_an_invalidation_of_its_table_begins_leaves_nothing(void **state)
{
    /* S11: start counts and waits for the lock; whatever is mapped goes. */
    static struct waiter waiter;

    (void)state;
    assert_loads_now(0x1000, WORD(1));
    begin_until("shadow-mapping", GM_MMU_READ, 0x2000);
    waiter_start(&waiter, invalidate_pt);
    while (!notifier_is_active(&race.soft->core.notifier)) {
        race_pass_time();
    }
    puppet_stop_at(&puppet, "fault-resolved");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(stats().shadow_leaves, 0);
    gm_soft_invalidate_end(race.soft, race.hva + PT, PAGE);
    assert_loads(finish(), WORD(2));
}

/* ---- S12, S13: what takers do beside a processor's walk ---- */

/* The page is mapped, and was written; a processor is about to write it again, by the leaf. */
static void call_waits_for_shadow_walk(void (*call)(void), uint32_t flags)
{
    static struct waiter waiter;

    if (!puppet_can_stop()) {
        skip();
    }
    set_data_slot(flags, SLOT_BYTES, DATA);
    stores(0x2000, 1);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    begin_until("shadow-leaf", GM_MMU_WRITE, 0x2000);
    waiter_start(&waiter, call);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(memory(DATA + 2 * PAGE), 0x77);
}

static void harvest_page_2(void)
{
    REQUIRE(is_reported(2), "the page was written");
}

static void shadow_walk_is_waited_for_by_harvests(void **state)
{
    /* S12: and the write after it is reported again. */
    (void)state;
    call_waits_for_shadow_walk(harvest_page_2, LOG);
    (void)is_reported(2);
    stores(0x2000, 2);
    assert_true(is_reported(2));
}

static void begin_data_log(void)
{
    set_data_slot(LOG, SLOT_BYTES, DATA);
}

static void shadow_walk_is_waited_for_by_logging(void **state)
{
    (void)state;
    call_waits_for_shadow_walk(begin_data_log, 0);
    stores(0x2000, 2);
    assert_true(is_reported(2));
}

static void delete_data(void)
{
    set_data_slot(0, 0, 0);
}

static void shadow_walk_is_waited_for_by_a_delete(void **state)
{
    (void)state;
    call_waits_for_shadow_walk(delete_data, 0);
    assert_int_equal(puppet_do(&puppet, GM_MMU_READ, 0x2000, 0).outcome, GM_MMU_MMIO);
}

static void delete_tables(void)
{
    race_set_slot(&race, 1, 0, 0, 0, 0);
}

static void shadow_walk_is_waited_for_by_a_delete_of_its_tables(void **state)
{
    /* S13: the root goes, too. */
    (void)state;
    call_waits_for_shadow_walk(delete_tables, 0);
    assert_int_equal(puppet_do(&puppet, GM_MMU_READ, 0x2000, 0).outcome, GM_MMU_TABLE_LOST);
    race_set_slot(&race, 1, 0, 0, SLOT_BYTES, 0);
    assert_loads_now(0x2000, 0x77);
}

static void age_page_2(void)
{
    REQUIRE(gm_soft_age(race.soft, race.hva + DATA + 2 * PAGE, PAGE) != 0, "age");
}

static void shadow_walk_is_waited_for_by_age(void **state)
{
    /* S12: so that the next access sets the flag again. */
    (void)state;
    call_waits_for_shadow_walk(age_page_2, 0);
    (void)gm_soft_age(race.soft, race.hva + DATA + 2 * PAGE, PAGE);
    stores(0x2000, 2);
    age_page_2();
}

static void track_page_2(void)
{
    REQUIRE(gm_soft_track(race.soft, 0, DATA + 2 * PAGE) == 0, "tracking");
}

static void shadow_walk_is_waited_for_by_tracking(void **state)
{
    (void)state;
    call_waits_for_shadow_walk(track_page_2, 0);
}

static void invalidate_page_2(void)
{
    gm_soft_invalidate_begin(race.soft, race.hva + DATA + 2 * PAGE, PAGE);
}

static void shadow_walk_is_waited_for_by_an_invalidation(void **state)
{
    (void)state;
    call_waits_for_shadow_walk(invalidate_page_2, 0);
    gm_soft_invalidate_end(race.soft, race.hva + DATA + 2 * PAGE, PAGE);
    assert_loads_now(0x2000, 0x77);
}

static void limit_pages(void)
{
    REQUIRE(gm_soft_vm_ioctl(race.soft, KVM_SET_NR_MMU_PAGES, 64) == 0, "a limit");
}

static void shadow_walk_is_waited_for_by_zap_all(void **state)
{
    /* S13: the root that it began at is zapped in guest mode, and given up at the next walk. */
    (void)state;
    call_waits_for_shadow_walk(zap_all, 0);
    assert_int_equal(stats().shadow_pages, 1);
    assert_loads_now(0x2000, 0x77);
    assert_int_equal(stats().shadow_pages, 4);
    limit_pages();
}

static void shadow_root_zapped_by_a_vcpu_is_given_up_by_the_other(void **state)
{
    /* S13: a root that is written and written goes while its vCPU is in guest mode. */
    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    stores(0x2000, 1);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    begin_until("shadow-leaf", GM_MMU_WRITE, 0x2000);
    for (unsigned i = 0; i < 4; i++) {
        other_stores(PML4 + 8 + i * 8, 0);
    }
    assert_loads(finish(), 0x77);
    assert_int_equal(memory(DATA + 2 * PAGE), 0x77);
    /* It is in no hash any more, and its vCPU makes a new one. */
    other_stores(PML4, 0);
    assert_int_equal(stats().shadow_writes, 4);
    gm_mmu_invlpg(puppet.mmu, 0x2000);
    assert_int_equal(puppet_do(&puppet, GM_MMU_READ, 0x2000, 0).outcome, GM_MMU_PAGE_FAULT);
    other_stores(PML4, PDPT | FLAGS);
    assert_loads_now(0x2000, 0x77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POINT_TEST(shadow_fault_resolved_before_delete_comes_out_as_mmio),
        POINT_TEST(shadow_fault_resolved_before_replacement_reads_the_new_memory),
        POINT_TEST(shadow_fault_resolved_before_its_tables_are_replaced_walks_the_new_ones),
        POINT_TEST(shadow_fault_resolved_before_log_begins_is_logged),
        POINT_TEST(shadow_fault_resolved_before_tracking_writes_by_hand),
        POINT_TEST(shadow_fault_resolved_before_zap_all_maps_into_new_tables),
        POINT_TEST(shadow_fault_resolved_before_an_invalidation_of_its_table_walks_again),
        POINT_TEST(shadow_fault_in_an_invalidation_of_its_table_maps_nothing),
        POINT_TEST(shadow_fault_mapping_as_an_invalidation_of_its_table_begins_leaves_nothing),
        POINT_TEST(shadow_walk_is_waited_for_by_harvests),
        POINT_TEST(shadow_walk_is_waited_for_by_logging),
        POINT_TEST(shadow_walk_is_waited_for_by_a_delete),
        POINT_TEST(shadow_walk_is_waited_for_by_a_delete_of_its_tables),
        POINT_TEST(shadow_walk_is_waited_for_by_age),
        POINT_TEST(shadow_walk_is_waited_for_by_tracking),
        POINT_TEST(shadow_walk_is_waited_for_by_an_invalidation),
        POINT_TEST(shadow_walk_is_waited_for_by_zap_all),
        POINT_TEST(shadow_root_zapped_by_a_vcpu_is_given_up_by_the_other),
    };

    return cmocka_run_group_tests_name("shadow_takers", tests, NULL, NULL);
}
