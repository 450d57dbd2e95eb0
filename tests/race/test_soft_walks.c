/*
 * race/test_soft_walks.c - the orders of a processor's walk and who takes away what it has read, forced one by
 * one: whoever takes waits until the walk, and the access that follows, are over.
 */
#include "race/test_soft_points.h"

#include <linux/kvm.h>

/* ---- walk-leaf: the processor goes on with what it has read ---- */

static void harvest(void)
{
    REQUIRE(is_reported(0), "the page was written");
}

/* A write has been harvested; a second one is under way, by a leaf that still had the right, while
 * another harvest takes it. Whatever it does, the harvests after it know of the writes that follow. */
static void write_in_a_harvest(void)
{
    static struct waiter waiter;

    if (!puppet_can_stop()) {
        skip();
    }
    set_flags(LOG);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    gm_mmu_flush_all(puppet.mmu); /* of a vCPU that does nothing just now: so that it walks */
    begin_until("walk-leaf", GM_MMU_WRITE, PLACE);
    waiter_start(&waiter, harvest);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    (void)is_reported(0);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 2).outcome, GM_MMU_OK);
    assert_true(is_reported(0));
}

static void walk_of_a_write_in_a_harvest_is_waited_for(void **state)
{
    /* D4, W2: by protection. */
    (void)state;
    write_in_a_harvest();
}

static void walk_of_a_write_in_a_harvest_of_buffers_is_waited_for(void **state)
{
    /* The same, by dirty flags. */
    (void)state;
    write_in_a_harvest();
}

static void walk_of_a_write_whose_leaf_goes_is_logged_by_buffers(void **state)
{
    /* W1: its leaf was accessed, and is not dirty. It is gone when that flag is to be set, so the store is made by another
     * leaf, of which the log knows. */
    static struct waiter waiter;

    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    set_flags(LOG);
    begin_until("walk-dirties", GM_MMU_WRITE, PLACE);
    waiter_start(&waiter, invalidate_first_page);
    assert_waits(&waiter, &race.soft->core.gate);
    puppet_stop_at(&puppet, "fault-resolved");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    pthread_join(waiter.thread, NULL);
    end_invalidation_of_first_page();
    assert_int_equal(finish().outcome, GM_MMU_OK);
    assert_true(is_reported(0));
}

static void delete_slot(void)
{
    struct gm_soft_slot gone = {.slot = 0};

    REQUIRE(gm_soft_set_slots(race.soft, &gone, 1, NULL) == 0, "deleting");
}

static void walk_in_a_delete_is_waited_for(void **state)
{
    /* The access came before the delete, which does not return before it; afterwards nothing is there. */
    static struct waiter waiter;

    (void)state;
    assert_loads_now(PLACE, 0x1000);
    gm_mmu_flush_all(puppet.mmu);
    begin_until("walk-leaf", GM_MMU_READ, PLACE);
    waiter_start(&waiter, delete_slot);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_loads(finish(), 0x1000);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(puppet_do(&puppet, GM_MMU_READ, PLACE, 0).outcome, GM_MMU_MMIO);
}

static void walk_in_an_invalidation_is_waited_for(void **state)
{
    /* W2: begin does not return while a processor may go on with the page; then its TLB is without it. */
    static struct waiter waiter;

    (void)state;
    assert_loads_now(PLACE, 0x1000);
    gm_mmu_flush_all(puppet.mmu);
    begin_until("walk-leaf", GM_MMU_READ, PLACE);
    waiter_start(&waiter, invalidate_first_page);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_loads(finish(), 0x1000);
    pthread_join(waiter.thread, NULL);
    puppet_stop_at(&puppet, "fault-resolved");
    puppet_begin(&puppet, GM_MMU_READ, PLACE, 0);
    puppet_wait_stopped(&puppet);
    gm_soft_invalidate_end(race.soft, race.hva, PAGE);
    assert_loads(finish(), 0x1000);
}

/* ---- walk-leaf: all calls that take something away wait for the processor ---- */

static void clear_log(void)
{
    static uint64_t all[LARGE_BYTES / PAGE / 64];
    struct kvm_clear_dirty_log clear = {
        .slot = 0, .num_pages = LARGE_BYTES / PAGE, .dirty_bitmap = all};

    memset(all, 0xff, sizeof(all));
    REQUIRE(gm_soft_vm_ioctl(race.soft, KVM_CLEAR_DIRTY_LOG, (unsigned long)&clear) == 0, "clear");
}

static void begin_log(void)
{
    set_flags(LOG);
}

static void forbid_execution(void)
{
    set_attributes(GM_ATTRIBUTE_NO_EXECUTE);
}

static void track_first_page(void)
{
    REQUIRE(gm_soft_track(race.soft, 0, PLACE) == 0, "tracking");
}

static void age_first_page(void)
{
    REQUIRE(gm_soft_age(race.soft, race.hva, PAGE) == 1, "age");
}

static void move_slot(void)
{
    race_set_slot(&race, 0, 0, PLACE + LARGE_BYTES, LARGE_BYTES, 0);
}

/* The page is mapped and was written; a processor is about to write it again. */
static void call_waits_for_walk(void (*call)(void), uint32_t flags)
{
    static struct waiter waiter;

    if (!puppet_can_stop()) {
        skip();
    }
    set_flags(flags);
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE, 1).outcome, GM_MMU_OK);
    gm_mmu_flush_all(puppet.mmu);
    begin_until("walk-leaf", GM_MMU_WRITE, PLACE);
    waiter_start(&waiter, call);
    assert_waits(&waiter, &race.soft->core.gate);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(*race_word(&race, 0, 0), 0x77);
}

static void walk_is_waited_for_by_harvests(void **state)
{
    /* Get, and clear. */
    (void)state;
    call_waits_for_walk(harvest, LOG);
    call_waits_for_walk(clear_log, LOG);
}

static void walk_is_waited_for_by_logging(void **state)
{
    /* Logging begins while a write is under way: it came before. */
    (void)state;
    call_waits_for_walk(begin_log, 0);
}

static void walk_is_waited_for_by_attributes(void **state)
{
    /* The page is unmapped. */
    (void)state;
    call_waits_for_walk(forbid_execution, 0);
}

static void walk_is_waited_for_by_tracking(void **state)
{
    /* From the return on each write is told. */
    (void)state;
    call_waits_for_walk(track_first_page, 0);
}

static void walk_is_waited_for_by_age(void **state)
{
    /* So that the next access sets the flag again. */
    (void)state;
    call_waits_for_walk(age_first_page, 0);
}

static void walk_is_waited_for_by_zap_all(void **state)
{
    /* It is in the tables that go. */
    (void)state;
    call_waits_for_walk(zap_all, 0);
}

/* What the ring has is taken back. */
static void reset_ring(void)
{
    uint32_t entry_count;
    struct kvm_dirty_gfn *entries = gm_soft_vcpu_ring(puppet.vcpu, &entry_count);

    REQUIRE(entries[0].flags == KVM_DIRTY_GFN_F_DIRTY && entries[0].offset == 0, "an entry");
    __atomic_store_n(&entries[0].flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    REQUIRE(gm_soft_vm_ioctl(race.soft, KVM_RESET_DIRTY_RINGS, 0) == 1, "a reset");
}

static void walk_is_waited_for_by_a_reset_of_rings(void **state)
{
    /* As by a harvest. */
    (void)state;
    call_waits_for_walk(reset_ring, LOG);
}

static void walk_is_waited_for_by_a_move(void **state)
{
    /* The old place. */
    (void)state;
    call_waits_for_walk(move_slot, 0);
}

static void walk_of_an_unaligned_exchange_has_all_vcpus_held(void **state)
{
    /* As a processor locks the bus: the page is in the TLB, so this walk is the one for the exchange. */
    (void)state;
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, PLACE + 16, 0).outcome, GM_MMU_OK);
    begin_until("walk-leaf", PUPPET_EXCHANGE, PLACE + 11);
    assert_true(atomic_load(&race.soft->core.gate.held));
    assert_true(atomic_load(&race.soft->mmu.installers.held));
    assert_loads(finish(), 0);
    assert_int_equal(race_word(&race, 0, 1)[0] >> 24, 0x77); /* bytes 11 to 18, low one first */
    assert_int_equal(race_word(&race, 0, 2)[0], 0);
}

/* Each takes tables of all levels but the first. */
#define FAR (UINT64_C(1) << 48)
#define FAR_SLOTS 4u
#define LEVELS 5u

/* The entries on the way to PLACE, without the flags that a walk sets. */
static void read_way(const uint64_t *table, uint64_t *way)
{
    for (unsigned level = LEVELS; level > 0; level--) {
        uint64_t entry =
            __atomic_load_n(&table[level_index(level, gfn_of(PLACE))], __ATOMIC_ACQUIRE);

        way[level - 1] = entry & ~(EPT_ACCESSED | EPT_DIRTY);
        table = entry_table(entry);
        if (!entry_is_table(level, entry)) {
            return;
        }
    }
}

static void walk_in_zap_all_is_of_tables_that_nobody_has_again(void **state)
{
    /* While zap-all waits for the walk, faults take table pages: none of those that the walk is in. */
    static struct waiter waiter;
    uint64_t before[LEVELS] = {0};
    uint64_t after[LEVELS] = {0};
    const uint64_t *root;
    struct gm_soft_vcpu *other;

    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    for (uint32_t i = 1; i <= FAR_SLOTS; i++) {
        race_set_slot(&race, i, 0, PLACE + i * FAR, LARGE_BYTES, LARGE_BYTES);
    }
    assert_int_equal(gm_soft_vcpu_new(race.soft, 1, &other), 0);
    assert_loads_now(PLACE, 0x1000);
    age_first_page(); /* so that the walk will set a flag in the last of them */
    begin_until("walk-leaf", GM_MMU_READ, PLACE);
    root = mmu_vcpu_of(puppet.mmu)->root;
    read_way(root, before);
    waiter_start(&waiter, zap_all);
    assert_waits(&waiter, &race.soft->core.gate);
    for (uint32_t i = 1; i <= FAR_SLOTS; i++) {
        struct kvm_pre_fault_memory range = {.gpa = PLACE + i * FAR, .size = LARGE_BYTES};

        assert_int_equal(gm_soft_vcpu_ioctl(other, KVM_PRE_FAULT_MEMORY, (unsigned long)&range), 0);
    }
    read_way(root, after);
    assert_memory_equal(before, after, sizeof(before));
    assert_loads(finish(), 0x1000);
    pthread_join(waiter.thread, NULL);
    gm_soft_vcpu_free(other);
}

#define POINT_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POINT_TEST(walk_of_a_write_in_a_harvest_is_waited_for),
        cmocka_unit_test_setup_teardown(walk_of_a_write_in_a_harvest_of_buffers_is_waited_for,
                                        set_up_buffer, tear_down),
        cmocka_unit_test_setup_teardown(walk_of_a_write_whose_leaf_goes_is_logged_by_buffers,
                                        set_up_buffer, tear_down),
        POINT_TEST(walk_in_a_delete_is_waited_for),
        POINT_TEST(walk_in_an_invalidation_is_waited_for),
        POINT_TEST(walk_is_waited_for_by_harvests),
        POINT_TEST(walk_is_waited_for_by_logging),
        POINT_TEST(walk_is_waited_for_by_attributes),
        POINT_TEST(walk_is_waited_for_by_tracking),
        POINT_TEST(walk_is_waited_for_by_age),
        POINT_TEST(walk_is_waited_for_by_zap_all),
        POINT_TEST(walk_is_waited_for_by_a_move),
        cmocka_unit_test_setup_teardown(walk_is_waited_for_by_a_reset_of_rings, set_up_rings,
                                        tear_down),
        POINT_TEST(walk_of_an_unaligned_exchange_has_all_vcpus_held),
        POINT_TEST(walk_in_zap_all_is_of_tables_that_nobody_has_again),
    };

    return cmocka_run_group_tests_name("soft_walks", tests, NULL, NULL);
}
