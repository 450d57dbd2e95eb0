/*
 * race/test_soft_orders.c - the orders of docs/locking-software.md that test_soft_points.c and test_soft_walks.c have not, forced one by
 * one: a taker beside a walk that has flags to set, or is between two tables, or is about to begin; a harvest beside a write;
 * new roots beside the reclaim; generations that come round.
 *
 *   fault-resolved      slot and host page are known, nothing is installed
 *   fault-checked       as an installer: they still are what they were
 *   fault-chose-rights  ... and whether somebody tracks the page is known, too
 *   fault-installed     no installer any more, and not in guest mode again
 *   walk-table          the processor has read an entry that leads to a table
 *   walk-leaf           ... or the leaf, and has not filled its TLB
 *   gate-entering       on its way into guest mode; held was not looked at
 */
#include "race/test_soft_points.h"

#include <linux/kvm.h>

static struct waiter waiter;

/* ---- F4 ---- */

static unsigned told;

static void on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes)
{
    (void)opaque;
    (void)gpa;
    (void)size_bytes;
    told++;
}

static void track_first_page(void)
{
    REQUIRE(gm_soft_track(race.soft, 0, PLACE) == 0, "tracking");
}

static void fault_that_found_no_tracker_has_its_leaf_taken_by_who_tracks(void **state)
{
    /* F4: the count is read, and the leaf will be writable; who tracks has counted, and waits for installers. */
    unsigned before;

    (void)state;
    told = 0;
    gm_soft_set_tracker(race.soft, on_written, NULL);
    assert_loads_now(PLACE + PAGE, 0); /* so that the table is there: else all is looked at again */
    begin_until("fault-chose-rights", GM_MMU_WRITE, PLACE);
    waiter_start(&waiter, track_first_page);
    assert_waits(&waiter, &race.soft->mmu.installers);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    before = told; /* the write came before the taking, or after it */
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    assert_int_equal(told, before + 1);
}

static void tracking_beside_a_vcpu_that_knows_the_page_waits_for_it(void **state)
{
    /* F4: no installer, but it is in guest mode, and could store to the page by its TLB: only behind that is it told. */
    (void)state;
    told = 0;
    gm_soft_set_tracker(race.soft, on_written, NULL);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    assert_loads_now(PLACE + 16 * PAGE, 0x1000 + 16);
    gm_mmu_flush_all(puppet.mmu);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    begin_until("walk-leaf", GM_MMU_READ, PLACE + 16 * PAGE);
    waiter_start(&waiter, track_first_page);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_loads(finish(), 0x1000 + 16);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(told, 0);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    assert_int_equal(told, 1);
}

/* ---- W1, W3, W4 ---- */

static void age_first_page(void)
{
    (void)gm_soft_age(race.soft, race.hva, PAGE);
}

static void walk_that_has_a_flag_to_set_does_not_use_a_leaf_that_is_gone(void **state)
{
    /* W1: it was read before; the compare fails, and the walk begins anew. */
    (void)state;
    assert_loads_now(PLACE, 0x1000);
    age_first_page();
    begin_until("walk-leaf", GM_MMU_READ, PLACE);
    waiter_start(&waiter, invalidate_first_page);
    assert_waits(&waiter, &race.soft->core.gate);
    puppet_stop_at(&puppet, "fault-resolved");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    pthread_join(waiter.thread, NULL);
    end_invalidation_of_first_page();
    assert_loads(finish(), 0x1000);
}

static void aging_beside_a_vcpu_that_knows_the_page_waits_for_it(void **state)
{
    /* W4: its TLB would use the page, and set no flag: once aged, the next use is seen as one. */
    (void)state;
    assert_loads_now(PLACE + 16 * PAGE, 0x1000 + 16);
    gm_mmu_flush_all(puppet.mmu);
    assert_loads_now(PLACE, 0x1000);
    begin_until("walk-leaf", GM_MMU_READ, PLACE + 16 * PAGE);
    waiter_start(&waiter, age_first_page);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_loads(finish(), 0x1000 + 16);
    pthread_join(waiter.thread, NULL);
    assert_loads_now(PLACE, 0x1000);
    assert_int_equal(gm_soft_age(race.soft, race.hva, PAGE), 1);
}

static void walk_between_two_tables_in_zap_all_is_waited_for(void **state)
{
    /* W3: the tables below are linked no more; they are whole until the walk is over. */
    (void)state;
    for (unsigned tables = 1; tables <= 3; tables++) {
        assert_loads_now(PLACE, 0x1000);
        gm_mmu_flush_all(puppet.mmu);
        begin_until("walk-table", GM_MMU_READ, PLACE);
        for (unsigned i = 1; i < tables; i++) {
            puppet_stop_at(&puppet, "walk-table");
            puppet_go_on(&puppet);
            puppet_wait_stopped(&puppet);
        }
        waiter_start(&waiter, zap_all);
        assert_waits(&waiter, &race.soft->core.gate);
        assert_loads(finish(), 0x1000);
        pthread_join(waiter.thread, NULL);
    }
}

static void replace_slot(void)
{
    struct gm_soft_slot list[2] = {{.slot = 0}, {0, 0, PLACE, LARGE_BYTES, race.hva + LARGE_BYTES}};

    REQUIRE(gm_soft_set_slots(race.soft, list, 2, NULL) == 0, "replacing");
}

static void flush_that_finds_a_vcpu_outside_is_heeded_as_it_enters(void **state)
{
    /* W4: nobody waits for the vCPU, whose TLB has the page: it handles a fault of another one. */
    (void)state;
    assert_loads_now(PLACE, 0x1000);
    begin_until("fault-resolved", GM_MMU_READ, PLACE + 16 * PAGE);
    replace_slot();
    assert_loads(finish(), 0x1000 + LARGE_BYTES / PAGE + 16);
    assert_loads_now(PLACE, 0x1000 + LARGE_BYTES / PAGE);
}

static void flush_that_finds_a_vcpu_entering_waits_until_it_has_stepped_back(void **state)
{
    /* W4: it is seen inside, and sees the gate closed; what it finds behind it is the new memory. */
    (void)state;
    assert_loads_now(PLACE, 0x1000);
    begin_until("gate-entering", GM_MMU_READ, PLACE);
    waiter_start(&waiter, replace_slot);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_loads(finish(), 0x1000 + LARGE_BYTES / PAGE);
    pthread_join(waiter.thread, NULL);
}

/* ---- D1 to D3 ---- */

static void write_before_the_harvest_is_reported_and_there(void **state)
{
    /* D1: and the next one is reported anew. */
    (void)state;
    set_flags(LOG);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 0x55).outcome, GM_MMU_OK);
    assert_true(is_reported(0));
    assert_int_equal(race_load(race_word(&race, 0, 0)), 0x55);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 0x56).outcome, GM_MMU_OK);
    assert_true(is_reported(0));
}

static void write_whose_fault_is_handled_after_a_clean_harvest_is_in_the_next(void **state)
{
    /* D2: the harvest protects whole tables, and the fault hands that on. */
    (void)state;
    set_flags(LOG);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    assert_true(is_reported(0));
    begin_until("fault-resolved", GM_MMU_WRITE, PLACE);
    assert_false(is_reported(0));
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_true(is_reported(0));
    assert_int_equal(race_load(race_word(&race, 0, 0)), 0x77);
}

static void write_reported_before_it_is_made_is_reported_again(void **state)
{
    /* D3: the fault has set the right and the bit; a harvest takes both before the vCPU is in guest mode again. */
    (void)state;
    set_flags(LOG);
    begin_until("fault-installed", GM_MMU_WRITE, PLACE);
    puppet_stop_at(&puppet, "fault-installed"); /* the first time tables were missing */
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    assert_true(is_reported(0));
    assert_int_equal(race_load(race_word(&race, 0, 0)), 0x1000);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_true(is_reported(0));
    assert_int_equal(race_load(race_word(&race, 0, 0)), 0x77);
}

/* ---- new roots ---- */

#define SLOTS 80u
#define PAGES_MIN 64
#define FAR (UINT64_C(1) << 40) /* tables of its own */

static struct gm_soft_vcpu *filler;
static struct waiter filling;
static long filled;

static void prefault(uint64_t gpa)
{
    struct kvm_pre_fault_memory range = {.gpa = gpa, .size = PAGE};

    filled += gm_soft_vcpu_ioctl(filler, KVM_PRE_FAULT_MEMORY, (unsigned long)&range) == 0;
}

/* One page of each of many tables: more than may be in use. */
static void fill(void)
{
    for (uint32_t i = 1; i <= SLOTS; i++) {
        prefault(PLACE + i * LARGE_BYTES);
    }
}

static void reclaim_waits_for_a_zap_all_that_takes_the_old_tables_apart(void **state)
{
    /* A fault needs a table page while zap-all waits for a vCPU. The clock must not come to the old trees' tables, to
     * which the new roots do not lead. */
    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    filled = 0;
    for (uint32_t i = 1; i <= SLOTS; i++) {
        race_set_slot(&race, i, 0, PLACE + i * LARGE_BYTES, LARGE_BYTES, LARGE_BYTES);
    }
    race_set_slot(&race, SLOTS + 1, 0, PLACE + FAR, LARGE_BYTES, LARGE_BYTES);
    assert_int_equal(gm_soft_vm_ioctl(race.soft, KVM_SET_NR_MMU_PAGES, PAGES_MIN), 0);
    assert_int_equal(gm_soft_vcpu_new(race.soft, 1, &filler), 0);
    prefault(PLACE + FAR);
    assert_loads_now(PLACE, 0x1000);
    gm_mmu_flush_all(puppet.mmu);
    begin_until("walk-leaf", GM_MMU_READ, PLACE);
    waiter_start(&waiter, zap_all);
    assert_waits(&waiter, &race.soft->core.gate);
    waiter_start(&filling, fill);
    for (int i = 0; i < 100; i++) {
        race_pass_time();
        assert_false(atomic_load(&filling.is_done));
    }
    assert_loads(finish(), 0x1000);
    pthread_join(waiter.thread, NULL);
    pthread_join(filling.thread, NULL);
    assert_int_equal(filled, SLOTS + 1);
    gm_soft_vcpu_free(filler);
}

/* ---- generations ---- */

#define GENERATION_BITS 3u
#define GENERATIONS (1u << GENERATION_BITS)

/* Each is one version more, and takes nothing away. */
static void create_slots(void)
{
    for (uint32_t i = 1; i <= GENERATIONS; i++) {
        race_set_slot(&race, i, 0, PLACE + i * LARGE_BYTES, LARGE_BYTES, LARGE_BYTES);
    }
}

static void mmio_entry_of_a_generation_that_comes_round_is_dropped(void **state)
{
    /* A fault has read the generation, and installs its entry while the bits come round to zero; then they come to the same
     * again, and memory is there. */
    uint64_t before;

    (void)state;
    race.soft->core.generation_bits = GENERATION_BITS;
    /* So that the table for it is there. */
    assert_int_equal(puppet_do(&puppet, GM_MMU_READ, PLACE + LARGE_BYTES + PAGE, 0).outcome,
                     GM_MMU_MMIO);
    before = race.soft->core.generation;
    begin_until("fault-checked", GM_MMU_READ, PLACE + LARGE_BYTES);
    waiter_start(&waiter, create_slots);
    assert_waits(&waiter, &race.soft->mmu.installers);
    puppet_stop_at(&puppet, "fault-installed");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(race.soft->core.generation, before + GENERATIONS);
    assert_loads(finish(), 0x1000 + LARGE_BYTES / PAGE);
}

#define POINT_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POINT_TEST(fault_that_found_no_tracker_has_its_leaf_taken_by_who_tracks),
        POINT_TEST(tracking_beside_a_vcpu_that_knows_the_page_waits_for_it),
        POINT_TEST(walk_that_has_a_flag_to_set_does_not_use_a_leaf_that_is_gone),
        POINT_TEST(aging_beside_a_vcpu_that_knows_the_page_waits_for_it),
        POINT_TEST(walk_between_two_tables_in_zap_all_is_waited_for),
        POINT_TEST(flush_that_finds_a_vcpu_outside_is_heeded_as_it_enters),
        POINT_TEST(flush_that_finds_a_vcpu_entering_waits_until_it_has_stepped_back),
        POINT_TEST(write_before_the_harvest_is_reported_and_there),
        POINT_TEST(write_whose_fault_is_handled_after_a_clean_harvest_is_in_the_next),
        POINT_TEST(write_reported_before_it_is_made_is_reported_again),
        POINT_TEST(reclaim_waits_for_a_zap_all_that_takes_the_old_tables_apart),
        POINT_TEST(mmio_entry_of_a_generation_that_comes_round_is_dropped),
    };

    return cmocka_run_group_tests_name("soft_orders", tests, NULL, NULL);
}
