/*
 * race/test_ring_points.c - the orders of vCPUs, harvests of their dirty rings, consumers and commits, forced one by one: the rows of
 * docs/locking-dirty.md, "dirty rings". Rows 1 to 5, 7 and 8 with a hypervisor of the test's own, rows 6, 9 and 10 with the software
 * KVM.
 *
 * The test's points, in that hypervisor's reset:
 *
 *   resetting  all entries are taken; none is reset
 *   reset      all are reset, and their pages closed; none is marked
 *
 * The library's:
 *
 *   walk-leaf     a processor, in guest mode, has read a leaf, and has not filled its TLB
 *   slot-changed  a slot was created or destroyed, or logs or does not, as of now
 */
#include "model/actor.h"
#include "unit/machine.h"

#include "race/test_soft_points.h"

#include "base/alloc.h"
#include "slots/rings.h"

#include <linux/kvm.h>

#define ENTRIES 64u
#define PAGES 16u
#define CLIENT 2u
#define SLOT 5u
#define VCPUS 2u

static struct machine machine;
static struct gm_ram *ram;
static struct gm_region *region;

static uint64_t *word_of(unsigned page)
{
    return (uint64_t *)((uint8_t *)gm_ram_hva(ram) + page * PAGE);
}

static uint64_t data_of(unsigned page)
{
    return __atomic_load_n(word_of(page), __ATOMIC_RELAXED);
}

/* The pages that a consumer's harvest has, as bits. */
static unsigned harvest(void)
{
    struct gm_harvest *harvest;
    unsigned pages = 0;
    uint64_t first;
    uint64_t last;

    REQUIRE(gm_harvest_begin(ram, CLIENT, 0, PAGES * PAGE, &harvest) == 0, "a harvest");
    while (gm_harvest_next(harvest, &first, &last)) {
        for (; first <= last; first++) {
            pages |= 1u << first;
        }
    }
    gm_harvest_commit(harvest);
    return pages;
}

static void open_memory(void)
{
    machine = machine_new();
    ram = new_ram(PAGES * PAGE);
    region = add_memory(&machine, GM_REGION_RAM, 0, PAGES * PAGE, ram, 0);
    REQUIRE(gm_ram_dirty_begin(ram, CLIENT) == 0, "a recording");
}

static void close_memory(void)
{
    machine_free(&machine);
    gm_ram_put(ram);
}

/* ---- a hypervisor ---- */

struct fake_vcpu {
    struct dirty_ring ring;
    struct kvm_dirty_gfn entries[ENTRIES];
    uint32_t pushed;
    uint32_t reset;
};

static struct dirty_rings rings;
static struct gm_slot slot;
static struct fake_vcpu vcpus[VCPUS];
static pthread_mutex_t tables =
    PTHREAD_MUTEX_INITIALIZER; /* what follows; a store is made under it */
static bool is_open[PAGES];
static struct actor
    runner; /* the first vCPU's thread; the test's own is the second's, and a consumer's */
static struct actor syncer;

static void push(struct fake_vcpu *vcpu, unsigned page)
{
    struct kvm_dirty_gfn *entry = &vcpu->entries[vcpu->pushed % ENTRIES];

    entry->slot = SLOT;
    entry->offset = page;
    __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
    vcpu->pushed++;
}

/* A write that faults: the entry comes first. */
static void fault(struct fake_vcpu *vcpu, unsigned page)
{
    pthread_mutex_lock(&tables);
    if (!is_open[page]) {
        push(vcpu, page);
        is_open[page] = true;
    }
    pthread_mutex_unlock(&tables);
}

/* By the page's translation, if that is open. */
static bool store_if_open(unsigned page, uint64_t value)
{
    bool can;

    pthread_mutex_lock(&tables);
    can = is_open[page];
    if (can) {
        __atomic_store_n(word_of(page), value, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&tables);
    return can;
}

static void store(struct fake_vcpu *vcpu, unsigned page, uint64_t value)
{
    while (!store_if_open(page, value)) {
        fault(vcpu, page);
    }
}

static int take_back(struct fake_vcpu *vcpu)
{
    int count = 0;

    for (;;) {
        struct kvm_dirty_gfn *entry = &vcpu->entries[vcpu->reset % ENTRIES];

        if ((__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_RESET) == 0) {
            return count;
        }
        is_open[entry->offset] = false;
        __atomic_store_n(&entry->flags, 0, __ATOMIC_RELAXED);
        vcpu->reset++;
        count++;
    }
}

static int on_reset(void *opaque)
{
    int count = 0;

    (void)opaque;
    actor_point("resetting");
    pthread_mutex_lock(&tables);
    for (unsigned i = 0; i < VCPUS; i++) {
        count += take_back(&vcpus[i]);
    }
    pthread_mutex_unlock(&tables);
    actor_point("reset");
    return count;
}

static int set_up_fake(void **state)
{
    (void)state;
    open_memory();
    memset(vcpus, 0, sizeof(vcpus));
    memset(is_open, 0, sizeof(is_open));
    slot = (struct gm_slot){
        .number = SLOT, .flags = GM_SLOT_LOG, .size_bytes = PAGES * PAGE, .region = region};
    REQUIRE(rings_init(&rings, ENTRIES, mem_allocator_or_default(NULL), on_reset, NULL) == 0,
            "rings");
    for (unsigned i = 0; i < VCPUS; i++) {
        rings_add(&rings, &vcpus[i].ring, vcpus[i].entries, NULL);
    }
    return rings_before_change(&rings, 0, &slot, GM_SLOT_LOG);
}

static int tear_down_fake(void **state)
{
    (void)state;
    actors_end();
    for (unsigned i = 0; i < VCPUS; i++) {
        rings_remove(&rings, &vcpus[i].ring);
    }
    rings_fini(&rings);
    close_memory();
    return 0;
}

/* The first vCPU has come out because its ring is full. */
static void empty_ring(void *unused)
{
    (void)unused;
    REQUIRE(rings_full(&rings, &vcpus[0].ring), "it can go on");
}

/* Vcpus are held. Return: does all of the slot count as written? */
static bool fetch(void)
{
    uint64_t bitmap = 0;

    rings_fetch(&rings, &slot, &bitmap);
    return bitmap != 0;
}

static void sync_all(void *unused)
{
    (void)unused;
    REQUIRE(!fetch(), "nothing is lost");
}

/* ---- rows 1 to 5, 7 and 8 ---- */

static void ring_entry_harvested_before_its_store_is_pushed_again(void **state)
{
    /* 1: the vCPU comes out between the push and the store. */
    (void)state;
    fault(&vcpus[0], 3);
    actor_begin(&runner, empty_ring, NULL, NULL, 1);
    actor_end(&runner);
    assert_int_equal(harvest(), 1u << 3);
    assert_int_equal(data_of(3), 0);
    store(&vcpus[0], 3, 1);
    assert_int_equal(vcpus[0].pushed, 2);
    assert_false(fetch());
    assert_int_equal(harvest(), 1u << 3);
}

static void ring_store_by_an_open_page_before_the_reset_is_seen_with_the_mark(void **state)
{
    /* 2; and 3, which is why the mark comes last: a consumer that had it by now would miss the second store. */
    (void)state;
    store(&vcpus[0], 3, 1);
    actor_begin_until(&runner, empty_ring, NULL, "resetting", 1);
    assert_int_equal(harvest(), 0);
    store(&vcpus[1], 3, 2);
    assert_int_equal(vcpus[1].pushed, 0); /* nobody is told */
    actor_go_on_until(&runner, "reset");
    assert_int_equal(harvest(), 0);
    actor_end(&runner);
    assert_int_equal(harvest(), 1u << 3);
    assert_int_equal(data_of(3), 2);
}

static void ring_store_after_the_reset_is_an_entry_of_its_own(void **state)
{
    /* 4: the mark stands for less than the page has, and the other vCPU's entry for the rest. */
    (void)state;
    store(&vcpus[0], 3, 1);
    actor_begin_until(&runner, empty_ring, NULL, "reset", 1);
    store(&vcpus[1], 3, 2);
    assert_int_equal(vcpus[1].pushed, 1);
    actor_end(&runner);
    assert_int_equal(harvest(), 1u << 3);
    assert_false(fetch());
    assert_int_equal(harvest(), 1u << 3);
}

static void ring_sync_waits_for_the_marks_of_a_harvest_under_way(void **state)
{
    /* 5: though it would find nothing to take itself. */
    (void)state;
    store(&vcpus[0], 3, 1);
    actor_begin_until(&runner, empty_ring, NULL, "resetting", 1);
    actor_begin(&syncer, sync_all, NULL, NULL, 1);
    assert_true(actor_stays_waiting(&syncer));
    actor_go_on_until(&runner, "reset");
    assert_true(actor_stays_waiting(&syncer));
    actor_end(&runner);
    actor_end(&syncer);
    assert_int_equal(harvest(), 1u << 3);
}

static void ring_that_a_sync_emptied_lets_its_full_vcpu_go_on(void **state)
{
    /* 7: the vCPU has come out as full, and finds nothing. */
    (void)state;
    store(&vcpus[0], 3, 1);
    actor_begin_until(&syncer, sync_all, NULL, "resetting", 1);
    actor_begin(&runner, empty_ring, NULL, NULL, 1);
    assert_true(actor_stays_waiting(&runner));
    actor_end(&syncer);
    actor_end(&runner);
    assert_int_equal(harvest(), 1u << 3);
}

static void ring_pushed_beyond_its_end_makes_the_slot_count_as_written(void **state)
{
    /* 8: the vCPU runs on, past an entry that is still to be harvested, while another one's ring is. */
    (void)state;
    store(&vcpus[0], 3, 1);
    actor_begin_until(&runner, empty_ring, NULL, "resetting", 1);
    for (unsigned i = 0; i < ENTRIES + 1; i++) {
        push(&vcpus[1], i % PAGES);
    }
    actor_end(&runner);
    assert_true(fetch());
    assert_true(fetch());
}

/* ---- rows 6, 9 and 10: the software KVM, and a map ---- */

static struct gm_soft *soft;
static struct gm_slots *slots;

static void open_soft(enum gm_soft_log log)
{
    const struct kvm_enable_cap enable = {.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
                                          .args = {1024 * sizeof(struct kvm_dirty_gfn)}};

    options = (struct gm_soft_options){.size = sizeof(options), .log = log};
    open_memory();
    REQUIRE(gm_soft_open(&options, &soft, NULL) == 0, "a VM");
    REQUIRE(gm_soft_vm_ioctl(soft, KVM_ENABLE_CAP, (unsigned long)&enable) == 0, "rings");
    REQUIRE(gm_soft_attach(soft, machine.space, 0, &slots, NULL) == 0, "a map");
    puppet_init(&puppet, soft, 0);
}

static int set_up_soft(void **state)
{
    (void)state;
    open_soft(GM_SOFT_LOG_PROTECT);
    return 0;
}

static int set_up_soft_buffer(void **state)
{
    (void)state;
    open_soft(GM_SOFT_LOG_BUFFER);
    return 0;
}

static int tear_down_soft(void **state)
{
    (void)state;
    puppet_watch_others(NULL);
    puppet_fini(&puppet);
    REQUIRE(gm_slots_detach(slots, NULL) == 0, "detaching");
    REQUIRE(gm_soft_close(soft) == 0, "closing");
    close_memory();
    return 0;
}

static void log_begins(void)
{
    REQUIRE(gm_region_set_log(region, CLIENT, true, NULL) == 0, "logging");
}

static void puppet_writes(unsigned page)
{
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, page * PAGE, 1).outcome, GM_MMU_OK);
}

static void sync_region(void)
{
    REQUIRE(gm_region_log_sync(region, 0, PAGES * PAGE) == 0, "a sync");
}

static void assert_no_strays(void)
{
    lock_take(&soft->rings.lock);
    assert_int_equal(soft->rings.strays, 0);
    lock_drop(&soft->rings.lock);
}

static void ring_sync_has_what_a_running_processor_had_buffered(void **state)
{
    /* 6: one write to two pages; the first is noted in the processor's buffer, and the walk for the second under way. */
    static struct waiter waiter;

    (void)state;
    ACTORS_NEED_POINTS();
    log_begins();
    puppet_writes(3);
    puppet_writes(4);
    sync_region();
    assert_int_equal(harvest(), 1u << 3 | 1u << 4);
    begin_until("walk-leaf", GM_MMU_WRITE, 4 * PAGE - 4);
    puppet_stop_at(&puppet, "walk-leaf");
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
    waiter_start(&waiter, sync_region);
    assert_waits(&waiter, &soft->core.gate);
    assert_int_equal(harvest(), 0);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(harvest(), 1u << 3 | 1u << 4);
}

static void delete_region(void)
{
    REQUIRE(gm_region_del(machine.root, region, NULL) == 0, "deleting");
}

static void ring_entries_of_a_slot_that_goes_are_marked_before_it_does(void **state)
{
    /* 9: a vCPU runs, and has entries in its ring; the slot's last harvest comes when it is out, and nothing after it. */
    static struct waiter waiter;

    (void)state;
    ACTORS_NEED_POINTS();
    log_begins();
    puppet_writes(3);
    puppet_writes(5);
    gm_mmu_flush_all(puppet.mmu);
    begin_until("walk-leaf", GM_MMU_WRITE, 5 * PAGE);
    waiter_start(&waiter, delete_region);
    assert_waits(&waiter, &soft->core.gate);
    assert_int_equal(finish().outcome, GM_MMU_OK);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(harvest(), 1u << 3 | 1u << 5);
    assert_int_equal(data_of(5), 0x77);
    assert_no_strays();
}

/* On the thread that commits: the slot logs, and the vCPU runs. */
static void write_once_changed(const char *point)
{
    if (strcmp(point, "slot-changed") == 0) {
        puppet_watch_others(NULL);
        puppet_writes(3);
        REQUIRE(gm_soft_vcpu_empty_ring(puppet.vcpu), "it has entries");
    }
}

static void ring_entry_of_a_slot_that_has_just_begun_to_log_names_a_known_one(void **state)
{
    /* 10: the commit is not over. */
    (void)state;
    ACTORS_NEED_POINTS();
    puppet_writes(3);
    puppet_watch_others(write_once_changed);
    log_begins();
    assert_int_equal(harvest(), 1u << 3);
    assert_no_strays();
}

#define ORDER(test) cmocka_unit_test_setup_teardown(test, set_up_fake, tear_down_fake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ORDER(ring_entry_harvested_before_its_store_is_pushed_again),
        ORDER(ring_store_by_an_open_page_before_the_reset_is_seen_with_the_mark),
        ORDER(ring_store_after_the_reset_is_an_entry_of_its_own),
        ORDER(ring_sync_waits_for_the_marks_of_a_harvest_under_way),
        ORDER(ring_that_a_sync_emptied_lets_its_full_vcpu_go_on),
        ORDER(ring_pushed_beyond_its_end_makes_the_slot_count_as_written),
        cmocka_unit_test_setup_teardown(ring_sync_has_what_a_running_processor_had_buffered,
                                        set_up_soft_buffer, tear_down_soft),
        cmocka_unit_test_setup_teardown(ring_entries_of_a_slot_that_goes_are_marked_before_it_does,
                                        set_up_soft, tear_down_soft),
        cmocka_unit_test_setup_teardown(
            ring_entry_of_a_slot_that_has_just_begun_to_log_names_a_known_one, set_up_soft,
            tear_down_soft),
    };

    return cmocka_run_group_tests_name("ring_points", tests, NULL, NULL);
}
