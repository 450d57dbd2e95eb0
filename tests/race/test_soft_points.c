/*
 * race/test_soft_points.c - the orders of a fault and what changes beside it that docs/locking-software.md and
 * kcore/notifier.h have tables of, forced one by one.
 */
#include "race/test_soft_points.h"

#include <errno.h>
#include <sys/mman.h>

/* ---- fault-resolved: what was looked up has changed since ---- */

static void fault_resolved_before_delete_comes_out_as_mmio(void **state)
{
    /* F2: another version of the slots is the newest. */
    struct gm_soft_slot gone = {.slot = 0};

    (void)state;
    begin_until("fault-resolved", GM_MMU_READ, PLACE);
    assert_int_equal(gm_soft_set_slots(race.soft, &gone, 1, NULL), 0);
    assert_int_equal(finish().outcome, GM_MMU_MMIO);
    assert_int_equal(leaves_of(race.hva, MEMORY_BYTES), 0);
}

static void fault_resolved_before_replacement_reads_the_new_memory(void **state)
{
    /* A list deletes the slot and makes it anew, of other memory. */
    struct gm_soft_slot list[2] = {{.slot = 0}, {0, 0, PLACE, LARGE_BYTES, race.hva + LARGE_BYTES}};

    (void)state;
    begin_until("fault-resolved", GM_MMU_READ, PLACE);
    assert_int_equal(gm_soft_set_slots(race.soft, list, 2, NULL), 0);
    assert_loads(finish(), 0x1000 + LARGE_BYTES / PAGE);
    assert_int_equal(leaves_of(race.hva, LARGE_BYTES), 0);
}

static void fault_resolved_before_move_does_not_map_the_old_place(void **state)
{
    /* The slot moves by 2 MiB; at the old place is nothing. */
    (void)state;
    begin_until("fault-resolved", GM_MMU_WRITE, PLACE);
    race_set_slot(&race, 0, 0, PLACE + LARGE_BYTES, LARGE_BYTES, 0);
    assert_int_equal(finish().outcome, GM_MMU_MMIO);
    assert_loads_now(PLACE + LARGE_BYTES, 0x1000);
}

static void fault_resolved_as_nothing_before_create_reads_memory(void **state)
{
    /* It was to install an MMIO entry; a slot has come since. */
    (void)state;
    begin_until("fault-resolved", GM_MMU_READ, PLACE + LARGE_BYTES);
    race_set_slot(&race, 1, 0, PLACE + LARGE_BYTES, LARGE_BYTES, LARGE_BYTES);
    assert_loads(finish(), 0x1000 + LARGE_BYTES / PAGE);
}

static void fault_checked_as_nothing_before_create_reads_memory(void **state)
{
    /* It has asked whether that still holds, and has not installed its MMIO entry: which must not be of the
     * generation that comes. */
    (void)state;
    /* So that the table for it is there. */
    assert_int_equal(puppet_do(&puppet, GM_MMU_READ, PLACE + LARGE_BYTES + PAGE, 0).outcome,
                     GM_MMU_MMIO);
    begin_until("fault-checked", GM_MMU_READ, PLACE + LARGE_BYTES);
    race_set_slot(&race, 1, 0, PLACE + LARGE_BYTES, LARGE_BYTES, LARGE_BYTES);
    assert_loads(finish(), 0x1000 + LARGE_BYTES / PAGE);
}

static void fault_refused_before_writable_replacement_writes_memory(void **state)
{
    /* A write found read-only memory, and will remember that it did: of the generation before. */
    struct gm_soft_slot list[2] = {{.slot = 0}, {0, 0, PLACE, LARGE_BYTES, race.hva}};

    (void)state;
    assert_int_equal(gm_soft_set_slots(race.soft, list, 1, NULL), 0);
    race_set_slot(&race, 0, READONLY, PLACE, LARGE_BYTES, 0);
    begin_until("fault-resolved", GM_MMU_WRITE, PLACE);
    assert_int_equal(gm_soft_set_slots(race.soft, list, 2, NULL), 0);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_int_not_equal(*race_word(&race, 0, 0), 0x1000);
}

static void fault_resolved_before_log_begins_is_logged(void **state)
{
    /* A write found an unlogged slot. */
    (void)state;
    begin_until("fault-resolved", GM_MMU_WRITE, PLACE);
    set_flags(LOG);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_true(is_reported(0));
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    assert_true(is_reported(0));
}

static void fault_resolved_before_readonly_replacement_comes_out_as_mmio(void **state)
{
    /* A write found writable memory. */
    struct gm_soft_slot list[2] = {{.slot = 0}, {0, READONLY, PLACE, LARGE_BYTES, race.hva}};

    (void)state;
    begin_until("fault-resolved", GM_MMU_WRITE, PLACE);
    assert_int_equal(gm_soft_set_slots(race.soft, list, 2, NULL), 0);
    assert_int_equal(finish().outcome, GM_MMU_MMIO);
    assert_int_equal(*race_word(&race, 0, 0), 0x1000);
}

static void fault_resolved_before_attributes_is_denied(void **state)
{
    /* F3: writes are forbidden meanwhile. */
    (void)state;
    begin_until("fault-resolved", GM_MMU_WRITE, PLACE);
    set_attributes(GM_ATTRIBUTE_NO_WRITE);
    assert_int_equal(finish().outcome, GM_MMU_DENIED);
    assert_int_equal(*race_word(&race, 0, 0), 0x1000);
}

static unsigned told;

static void on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes)
{
    (void)opaque;
    assert_int_equal(gpa, PLACE);
    assert_int_equal(size_bytes, 8);
    told++;
}

static void fault_resolved_before_tracking_is_told(void **state)
{
    /* The tracker comes while a write is on its way. */
    (void)state;
    told = 0;
    gm_soft_set_tracker(race.soft, on_written, NULL);
    begin_until("fault-resolved", GM_MMU_WRITE, PLACE);
    assert_int_equal(gm_soft_track(race.soft, 0, PLACE), 0);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    assert_int_equal(told, 2);
}

static void fault_resolved_of_a_large_page_before_tracking_within_it_is_told(void **state)
{
    /* F4: the leaf would have been 2 MiB, and the tracked page another one of them. */
    (void)state;
    told = 0;
    gm_soft_set_tracker(race.soft, on_written, NULL);
    begin_until("fault-resolved", GM_MMU_WRITE, PLACE + 16 * PAGE);
    assert_int_equal(gm_soft_track(race.soft, 0, PLACE), 0);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    assert_int_equal(told, 1);
}

static void fault_resolved_before_zap_all_maps_into_the_new_tables(void **state)
{
    /* New roots have come. */
    (void)state;
    begin_until("fault-resolved", GM_MMU_READ, PLACE);
    gm_soft_zap_all(race.soft);
    assert_loads(finish(), 0x1000);
    assert_int_equal(leaves_of(race.hva, PAGE), 1);
}

/* ---- fault-resolved: host memory that goes away ---- */

static void fault_resolved_before_invalidation_asks_for_memory_again(void **state)
{
    /* Row 3 of notifier.h: begun and ended; the memory is not there any more. */
    void *memory = race_word(&race, 0, 0);

    (void)state;
    begin_until("fault-resolved", GM_MMU_READ, PLACE);
    gm_soft_invalidate_begin(race.soft, race.hva, PAGE);
    assert_int_equal(mprotect(memory, PAGE, PROT_NONE), 0);
    gm_soft_invalidate_end(race.soft, race.hva, PAGE);
    puppet_go_on(&puppet);
    assert_int_equal(puppet_end(&puppet).error, -EFAULT);
    assert_int_equal(leaves_of(race.hva, PAGE), 0);
    assert_int_equal(mprotect(memory, PAGE, PROT_READ | PROT_WRITE), 0);
}

static void fault_resolved_in_an_invalidation_waits_for_its_end(void **state)
{
    /* Row 2: begun, and not ended: the fault comes by again and again, and installs nothing. */
    (void)state;
    begin_until("fault-resolved", GM_MMU_READ, PLACE);
    gm_soft_invalidate_begin(race.soft, race.hva, PAGE);
    for (int i = 0; i < 3; i++) {
        puppet_stop_at(&puppet, "fault-resolved");
        puppet_go_on(&puppet);
        puppet_wait_stopped(&puppet);
        assert_int_equal(leaves_of(race.hva, PAGE), 0);
    }
    gm_soft_invalidate_end(race.soft, race.hva, PAGE);
    assert_loads(finish(), 0x1000);
}

static void fault_begun_in_an_invalidation_takes_no_page_from_before_its_end(void **state)
{
    /* Row 4: the token is from after the start, the page may be the old one. */
    uint64_t other = race.hva + LARGE_BYTES;
    void *spare;

    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    gm_soft_invalidate_begin(race.soft, race.hva, PAGE);
    begin_until("fault-resolved", GM_MMU_READ, PLACE);
    /* Other memory comes to lie there. */
    spare = mremap((void *)(uintptr_t)other, PAGE, PAGE,
                   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, (void *)(uintptr_t)race.hva);
    assert_ptr_equal(spare, (void *)(uintptr_t)race.hva);
    gm_soft_invalidate_end(race.soft, race.hva, PAGE);
    puppet_stop_at(&puppet, "fault-resolved");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet); /* so it has begun anew */
    assert_loads(finish(), 0x1000 + LARGE_BYTES / PAGE);
}

static void fault_of_unreadable_memory_in_an_invalidation_waits_for_its_end(void **state)
{
    /* The memory is gone in between, and back at the end: an access waits, and gives no error. */
    void *memory = race_word(&race, 0, 0);

    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    gm_soft_invalidate_begin(race.soft, race.hva, PAGE);
    assert_int_equal(mprotect(memory, PAGE, PROT_NONE), 0);
    begin_until("fault-resolved", GM_MMU_READ, PLACE);
    puppet_stop_at(&puppet, "fault-resolved");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    assert_int_equal(mprotect(memory, PAGE, PROT_READ | PROT_WRITE), 0);
    gm_soft_invalidate_end(race.soft, race.hva, PAGE);
    assert_loads(finish(), 0x1000);
}

static void fault_of_a_large_page_in_its_neighbours_invalidation_does_not_map_it(void **state)
{
    /* The leaf would be 2 MiB; another page of it is being invalidated. */
    uint64_t neighbour = race.hva + 32 * PAGE;

    (void)state;
    begin_until("fault-resolved", GM_MMU_READ, PLACE);
    gm_soft_invalidate_begin(race.soft, neighbour, PAGE);
    puppet_stop_at(&puppet, "fault-resolved");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    assert_int_equal(leaves_of(neighbour, PAGE), 0);
    gm_soft_invalidate_end(race.soft, neighbour, PAGE);
    assert_loads(finish(), 0x1000);
}

static void fault_installing_as_an_invalidation_begins_leaves_nothing(void **state)
{
    /* Row 1: start counts, and waits for the installer; whatever it installs is taken out. */
    static struct waiter waiter;

    (void)state;
    begin_until("fault-installing", GM_MMU_READ, PLACE);
    waiter_start(&waiter, invalidate_first_page);
    assert_waits(&waiter, &race.soft->mmu.installers);
    puppet_stop_at(&puppet, "fault-resolved");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(leaves_of(race.hva, PAGE), 0);
    gm_soft_invalidate_end(race.soft, race.hva, PAGE);
    assert_loads(finish(), 0x1000);
}

/* ---- fault-installing: takers wait ---- */

static void fault_installing_keeps_takers_waiting(void **state)
{
    /* F1: zap-all comes after what is installed. */
    static struct waiter waiter;

    (void)state;
    begin_until("fault-installing", GM_MMU_READ, PLACE);
    waiter_start(&waiter, zap_all);
    assert_waits(&waiter, &race.soft->mmu.installers);
    assert_loads(finish(), 0x1000);
    pthread_join(waiter.thread, NULL);
    assert_loads_now(PLACE, 0x1000);
}

/* ---- slots-flushed: the step between the flush of a slot and the version without it ---- */

static long prefault_result;

/* On the thread that changes slots, hence not by the ioctl, whose lock comes before those of a change. A kick ends the
 * waiting for the change, which waits for us. */
static void prefault_when_flushed(const char *point)
{
    uint64_t gpa = PLACE;
    uint64_t size_bytes = PAGE;

    if (strcmp(point, "slots-flushed") == 0) {
        puppet_watch_others(NULL);
        gm_mmu_kick(puppet.mmu);
        prefault_result = mmu_prefault(&puppet.vcpu->mmu, &gpa, &size_bytes);
    }
}

static void fault_begun_in_a_change_does_not_map_the_slot_that_goes(void **state)
{
    /* A fault that is out of guest mode is not held: it finds the slot, and that it is invalid. */
    struct gm_soft_slot list[2] = {{.slot = 0}, {1, 0, PLACE, LARGE_BYTES, race.hva + LARGE_BYTES}};

    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    prefault_result = 1;
    puppet_watch_others(prefault_when_flushed);
    assert_int_equal(gm_soft_set_slots(race.soft, list, 2, NULL), 0);
    assert_int_equal(prefault_result, -EINTR);
    assert_int_equal(leaves_of(race.hva, LARGE_BYTES), 0);
    assert_int_equal(gm_mmu_enter(puppet.mmu), GM_MMU_KICKED);
    assert_loads_now(PLACE, 0x1000 + LARGE_BYTES / PAGE);
}

#define POINT_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POINT_TEST(fault_resolved_before_delete_comes_out_as_mmio),
        POINT_TEST(fault_resolved_before_replacement_reads_the_new_memory),
        POINT_TEST(fault_resolved_before_move_does_not_map_the_old_place),
        POINT_TEST(fault_resolved_as_nothing_before_create_reads_memory),
        POINT_TEST(fault_checked_as_nothing_before_create_reads_memory),
        POINT_TEST(fault_refused_before_writable_replacement_writes_memory),
        POINT_TEST(fault_resolved_before_log_begins_is_logged),
        POINT_TEST(fault_resolved_before_readonly_replacement_comes_out_as_mmio),
        POINT_TEST(fault_resolved_before_attributes_is_denied),
        POINT_TEST(fault_resolved_before_tracking_is_told),
        cmocka_unit_test_setup_teardown(
            fault_resolved_of_a_large_page_before_tracking_within_it_is_told, set_up_large,
            tear_down),
        POINT_TEST(fault_resolved_before_zap_all_maps_into_the_new_tables),
        POINT_TEST(fault_resolved_before_invalidation_asks_for_memory_again),
        POINT_TEST(fault_resolved_in_an_invalidation_waits_for_its_end),
        POINT_TEST(fault_begun_in_an_invalidation_takes_no_page_from_before_its_end),
        POINT_TEST(fault_of_unreadable_memory_in_an_invalidation_waits_for_its_end),
        cmocka_unit_test_setup_teardown(
            fault_of_a_large_page_in_its_neighbours_invalidation_does_not_map_it, set_up_large,
            tear_down),
        POINT_TEST(fault_installing_as_an_invalidation_begins_leaves_nothing),
        POINT_TEST(fault_installing_keeps_takers_waiting),
        POINT_TEST(fault_begun_in_a_change_does_not_map_the_slot_that_goes),
    };

    return cmocka_run_group_tests_name("soft_points", tests, NULL, NULL);
}
