/*
 * unit/test_kcore_slots.c - versions of slots: lookups, generations and their wrap, as many slots as there
 * can be, what a move and flags hand on, and old versions in the hands of readers.
 */
#include "unit/arch.h"

#include "kcore/change.h"
#include "kcore/retire.h"
#include "model/random.h"
#include "model/require.h"

#define MIB UINT64_C(0x100000)
#define HVA UINT64_C(0x7f0000000000)
#define LOG MEMSLOT_LOG

static void slots_are_found_by_frame(void **state)
{
    /* At the first and last page of each, and not beside; next goes from one to the following. */
    struct arch *arch = arch_open();
    const struct memslots *slots;

    (void)state;
    assert_null(arch_find(arch, 0, 0));
    assert_int_equal(arch_set(arch, 7, 0, 2 * MIB, MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 3, 0, 4 * MIB, 4096, HVA), 0);
    slots = kcore_slots(&arch->core, 0);
    assert_null(arch_find(arch, 0, 0x1ff));
    assert_int_equal(arch_find(arch, 0, 0x200)->id, 7);
    assert_int_equal(arch_find(arch, 0, 0x2ff)->id, 7);
    assert_null(arch_find(arch, 0, 0x300));
    assert_int_equal(arch_find(arch, 0, 0x400)->id, 3);
    assert_null(arch_find(arch, 0, 0x401));
    assert_null(arch_find(arch, 1, 0x200));
    assert_null(arch_find(arch, 0, UINT64_MAX));
    assert_int_equal(memslots_next(slots, (struct gfn){0})->id, 7);
    assert_int_equal(memslots_next(slots, (struct gfn){0x200})->id, 7);
    assert_int_equal(memslots_next(slots, (struct gfn){0x201})->id, 3);
    assert_null(memslots_next(slots, (struct gfn){0x401}));
    assert_int_equal(memslot_hva(arch_find(arch, 0, 0x210), (struct gfn){0x210}).value,
                     HVA + 0x10000);
    arch_close(arch);
}

static void say_visited(void *opaque, const struct memslot *slot, struct gfn first,
                        uint64_t page_count)
{
    arch_say(opaque, "%u:%" PRIx64 "+%" PRIx64 " ", slot->id, first.value, page_count);
}

static const char *visited(struct arch *arch, uint64_t hva, uint64_t size_bytes)
{
    (void)arch_said(arch);
    memslots_visit_hva(kcore_slots(&arch->core, 0), (struct hva){hva}, size_bytes, say_visited,
                       arch);
    return arch_said(arch);
}

static void slots_are_found_by_host_address(void **state)
{
    /* Two slots over the same memory, one behind, and one with private memory apart. */
    struct memslot_change private = {.slot = 4,
                                     .flags = MEMSLOT_GUEST_MEMFD,
                                     .gpa = 16 * MIB,
                                     .size_bytes = MIB,
                                     .hva = HVA + 8 * MIB,
                                     .private_hva = HVA + 16 * MIB};
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 2, 0, 4 * MIB, 2 * MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 3, 0, 8 * MIB, MIB, HVA + 2 * MIB), 0);
    assert_int_equal(kcore_apply(&arch->core, &private, 1, NULL), 0);
    assert_string_equal(visited(arch, HVA, 1), "1:0+1 2:400+1");
    assert_string_equal(visited(arch, HVA + 0x1fff, 2), "1:1+2 2:401+2");
    assert_string_equal(visited(arch, HVA + MIB - 1, 1), "1:ff+1 2:4ff+1");
    assert_string_equal(visited(arch, HVA + MIB, 2 * MIB), "2:500+100 3:800+100");
    assert_string_equal(visited(arch, 0, UINT64_MAX), "1:0+100 2:400+200 3:800+100 4:1000+100 "
                                                      "4:1000+100");
    assert_string_equal(visited(arch, HVA + 4096, UINT64_MAX), "1:1+ff 2:401+1ff 3:800+100 "
                                                               "4:1000+100 4:1000+100");
    assert_string_equal(visited(arch, HVA + 16 * MIB + 4096, 4096), "4:1001+1");
    assert_string_equal(visited(arch, HVA, 0), "");
    assert_string_equal(visited(arch, HVA - 1, 1), "");
    assert_string_equal(visited(arch, HVA + 3 * MIB, MIB), "");
    assert_int_equal(arch_set(arch, 4, 0, 0, 0, 0), 0);
    assert_string_equal(visited(arch, HVA + 16 * MIB + 4096, 4096), "");
    arch_close(arch);
}

static void slots_each_version_has_its_own_generation(void **state)
{
    /* No version has a generation that another has or had, the invalid step's included. */
    struct arch *arch = arch_open();
    uint64_t generation = arch->core.generation;

    (void)state;
    assert_int_not_equal(arch_generation(arch, 0), arch_generation(arch, 1));
    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_generation(arch, 0), generation + 1);
    assert_int_equal(arch_set(arch, 1, LOG, 0, MIB, HVA), 0);
    assert_int_equal(arch_generation(arch, 0), generation + 2);
    assert_int_equal(arch_set(arch, 1, LOG, MIB, MIB, HVA), 0);
    assert_int_equal(arch_generation(arch, 0), generation + 4);
    assert_int_equal(arch_set(arch, 1, 0, 0, 0, 0), 0);
    assert_int_equal(arch_generation(arch, 0), generation + 6);
    assert_int_equal(arch_set(arch, 0x10001, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_generation(arch, 1), generation + 7);
    assert_int_equal(arch_generation(arch, 0), generation + 6);
    arch_close(arch);
}

static void slots_generation_that_wraps_drops_mmio(void **state)
{
    /* Of two bits, each fourth version comes round to 0, be it an invalid step or a last one. */
    struct arch arch;
    struct kcore_options options = arch_options(&arch);
    unsigned wraps = 0;

    (void)state;
    options.generation_bits = 2;
    assert_int_equal(kcore_init(&arch.core, &options), 0);
    for (unsigned i = 0; i < 24; i++) {
        uint64_t before = arch.core.generation;
        unsigned expected;

        assert_int_equal(arch_set(&arch, 1, 0, 0, i % 2 == 0 ? MIB : 0, HVA), 0);
        expected = (unsigned)(arch.core.generation / 4 - before / 4);
        wraps += expected;
        assert_int_equal(strstr(arch_said(&arch), "wrapped") != NULL, expected != 0);
    }
    assert_int_equal(wraps, arch.core.generation / 4);
    arch_close(&arch);
}

static void slots_move_hands_on_log_but_not_tables(void **state)
{
    /* The dirty bits move with the slot; what mmu keeps is made anew, for the new place. */
    struct arch *arch = arch_open();
    const struct memslot *before;
    const struct memslot *after;
    uint64_t words[4];

    (void)state;
    assert_int_equal(arch_set(arch, 1, LOG, 0, MIB, HVA), 0);
    rcu_enter();
    before = arch_find(arch, 0, 0);
    assert_true(kcore_mark_dirty(&arch->core, NULL, before, (struct gfn){65}));
    assert_int_equal(arch_set(arch, 1, LOG, 4 * MIB, MIB, HVA), 0);
    after = arch_find(arch, 0, 0x400);
    assert_ptr_equal(after->log, before->log);
    assert_ptr_not_equal(after->arch, before->arch);
    assert_int_equal(before->base.value, 0);
    rcu_leave();
    rcu_domain_drain(arch->core.deferred);
    assert_int_equal(kcore_log_get(&arch->core, 1, words, 4), 0);
    assert_int_equal(words[1], 2);
    arch_close(arch);
}

static void slots_flags_hand_on_tables_and_renew_the_log(void **state)
{
    /* Off and on again, in two changes: another log, with nothing in it; the same tables. */
    struct arch *arch = arch_open();
    void *tables;
    uint64_t words[4];

    (void)state;
    assert_int_equal(arch_set(arch, 1, LOG, 0, MIB, HVA), 0);
    tables = arch_find(arch, 0, 0)->arch;
    assert_true(kcore_mark_dirty(&arch->core, NULL, arch_find(arch, 0, 0), (struct gfn){3}));
    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), 0);
    assert_null(arch_find(arch, 0, 0)->log);
    assert_int_equal(kcore_log_get(&arch->core, 1, words, 4), -ENOENT);
    assert_int_equal(arch_set(arch, 1, LOG, 0, MIB, HVA), 0);
    assert_int_equal(kcore_log_get(&arch->core, 1, words, 4), 0);
    assert_int_equal(words[0], 0);
    assert_ptr_equal(arch_find(arch, 0, 0)->arch, tables);
    arch_close(arch);
}

static void slots_old_version_goes_on_saying_what_it_said(void **state)
{
    /* A reader keeps the version it has found through a hundred changes. */
    struct arch *arch = arch_open();
    const struct memslots *slots;
    const struct memslot *slot;

    (void)state;
    assert_int_equal(arch_set(arch, 1, LOG, 0, MIB, HVA), 0);
    rcu_enter();
    slots = kcore_slots(&arch->core, 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(arch_set(arch, 2 + i, 0, (2 + i) * MIB, MIB, HVA), 0);
    }
    assert_int_equal(arch_set(arch, 1, 0, 0, 0, 0), 0);
    slot = memslots_find(slots, (struct gfn){5});
    assert_int_equal(slot->id, 1);
    assert_int_equal(slot->flags, LOG);
    assert_int_equal(*(int *)slot->arch, 1);
    assert_int_equal(slots->count, 1);
    assert_null(memslots_next(slots, (struct gfn){1}));
    rcu_leave();
    arch_close(arch);
}

static void slots_full_number_is_reached(void **state)
{
    /* 32,764 slots of a page with holes between; then each answers, and one more is refused. */
    struct arch *arch = arch_open();
    const struct memslot *slot;
    unsigned seen = 0;

    (void)state;
    arch->is_silent = true;
    for (uint32_t id = 0; id < MEMSLOT_USER_IDS; id++) {
        uint32_t place = id * 7919u % MEMSLOT_USER_IDS; /* prime to it: each place once */

        assert_int_equal(arch_set(arch, id, 0, place * UINT64_C(8192), 4096, HVA + id * 4096ull),
                         0);
    }
    assert_int_equal(kcore_slots(&arch->core, 0)->count, MEMSLOT_USER_IDS);
    assert_int_equal(arch_set(arch, MEMSLOT_USER_IDS, 0, UINT64_C(1) << 40, 4096, HVA), -EINVAL);
    for (uint32_t id = 0; id < MEMSLOT_USER_IDS; id++) {
        uint64_t frame = id * 7919u % MEMSLOT_USER_IDS * UINT64_C(2);

        assert_int_equal(arch_find(arch, 0, frame)->id, id);
        assert_null(arch_find(arch, 0, frame + 1));
    }
    slot = memslots_next(kcore_slots(&arch->core, 0), (struct gfn){0});
    while (slot != NULL) {
        assert_int_equal(slot->base.value, seen * UINT64_C(2));
        seen++;
        slot = memslots_next(kcore_slots(&arch->core, 0), (struct gfn){slot->base.value + 1});
    }
    assert_int_equal(seen, MEMSLOT_USER_IDS);
    arch->is_silent = false;
    assert_string_equal(visited(arch, HVA + 4096 * 100, 4096), "100:2b78+1");
    arch_close(arch);
}

static void slots_of_the_full_number_go_in_one_list(void **state)
{
    /* All in, moved by a page and out again, as three lists of 32,764 changes. */
    static struct memslot_change list[MEMSLOT_USER_IDS];
    struct arch *arch = arch_open();
    size_t failed;

    (void)state;
    arch->is_silent = true;
    for (uint32_t id = 0; id < MEMSLOT_USER_IDS; id++) {
        list[id] = (struct memslot_change){
            .slot = id, .gpa = (MEMSLOT_USER_IDS - id) * UINT64_C(8192), .size_bytes = 4096};
    }
    assert_int_equal(kcore_apply(&arch->core, list, MEMSLOT_USER_IDS, &failed), 0);
    assert_int_equal(kcore_slots(&arch->core, 0)->count, MEMSLOT_USER_IDS);
    for (uint32_t id = 0; id < MEMSLOT_USER_IDS; id++) {
        list[id].gpa += 4096;
    }
    assert_int_equal(kcore_apply(&arch->core, list, MEMSLOT_USER_IDS, &failed), 0);
    assert_int_equal(arch_find(arch, 0, 3)->id, MEMSLOT_USER_IDS - 1);
    for (uint32_t id = 0; id < MEMSLOT_USER_IDS; id++) {
        list[id].size_bytes = 0;
    }
    list[MEMSLOT_USER_IDS - 1].slot = 0; /* deleted already */
    assert_int_equal(kcore_apply(&arch->core, list, MEMSLOT_USER_IDS, &failed), -EINVAL);
    assert_int_equal(failed, MEMSLOT_USER_IDS - 1);
    assert_int_equal(kcore_slots(&arch->core, 0)->count, MEMSLOT_USER_IDS);
    list[MEMSLOT_USER_IDS - 1].slot = MEMSLOT_USER_IDS - 1;
    assert_int_equal(kcore_apply(&arch->core, list, MEMSLOT_USER_IDS, &failed), 0);
    assert_int_equal(kcore_slots(&arch->core, 0)->count, 0);
    assert_null(kcore_slots(&arch->core, 0)->by_gfn);
    assert_int_equal(atomic_load(&arch->core.holds), 3);
    arch_close(arch);
}

/* How many allocations a change takes with @count slots. Nothing is kept, so each node is one. */
static void count_allocations(unsigned count, uint64_t allocations[3])
{
    struct arch *arch = arch_open();
    uint64_t before;

    arch->is_silent = true;
    arch->core.index_pool.keep_max = 0;
    for (uint32_t id = 0; id < count; id++) {
        assert_int_equal(arch_set(arch, id, 0, id * UINT64_C(8192), 4096, HVA + id * 4096ull), 0);
    }
    for (int i = 0; i < 3; i++) {
        before = arch->faults.allocations;
        assert_int_equal(arch_set(arch, count / 2, i == 0 ? LOG : 0, count / 2 * UINT64_C(8192),
                                  i == 1 ? 0 : 4096, HVA + count / 2 * 4096ull),
                         0);
        allocations[i] = arch->faults.allocations - before;
    }
    arch_close(arch);
}

static void slots_cost_of_a_change_is_logarithmic(void **state)
{
    /* Flags, delete, create: from 8 to 32,000 slots each tree has three more levels, which a change
     * copies and, where nodes are full, splits. */
    uint64_t few[3];
    uint64_t many[3];

    (void)state;
    count_allocations(8, few);
    count_allocations(32000, many);
    for (int i = 0; i < 3; i++) {
        assert_true(many[i] <= few[i] + 2 * (3 + 3));
    }
}

static void slots_storm_of_changes_does_not_fill_memory(void **state)
{
    /* 50,000 changes as fast as can be: what they replace is freed as fast as it is made. */
    struct arch *arch = arch_open();
    int64_t peak = 0;

    (void)state;
    arch->is_silent = true;
    for (uint32_t id = 0; id < 300; id++) {
        assert_int_equal(arch_set(arch, id, 0, id * UINT64_C(8192), 4096, HVA), 0);
    }
    for (uint32_t i = 0; i < 50000; i++) {
        uint32_t id = i / 2 % 300;

        assert_int_equal(arch_set(arch, id, i % 2 == 0 ? LOG : 0, id * UINT64_C(8192), 4096, HVA),
                         0);
        peak = faults_live(&arch->faults) > peak ? faults_live(&arch->faults) : peak;
    }
    /* Slots and their tables; nodes in stock; for each thing that waits, four nodes, a log and itself. */
    assert_true(peak <= 2 * 300 + 200 + INDEX_KEEP_MAX + 8 * (int64_t)DEAD_MAX);
    arch_close(arch);
}

/* A thread that looks things up all the time. Assertions of cmocka's are for its own thread. */
struct reader {
    struct arch *arch;
    atomic_bool is_over;
    atomic_ullong versions;
};

static void check_alive(void *opaque, const struct memslot *slot, struct gfn first,
                        uint64_t page_count)
{
    REQUIRE_TRUE(*(int *)slot->arch == slot->id && memslot_holds(slot, first) && page_count > 0);
    (void)opaque;
}

/* Slots 1 and 2 are always both there, and never where the other is. */
static void read_version(const struct memslots *slots)
{
    const struct memslot *slot = memslots_next(slots, (struct gfn){0});
    uint32_t count = 0;
    uint32_t swapped = 0;

    while (slot != NULL) {
        REQUIRE_TRUE(*(int *)slot->arch == slot->id);
        REQUIRE_TRUE(memslots_find(slots, slot->base) == slot);
        REQUIRE_TRUE(slot->log == NULL || slot->log->page_count == slot->page_count);
        swapped += slot->id <= 2 ? slot->id : 0;
        count++;
        slot = memslots_next(slots, (struct gfn){slot->base.value + slot->page_count});
    }
    REQUIRE_TRUE(count == slots->count && swapped == 3);
    memslots_visit_hva(slots, (struct hva){HVA}, 64 * MIB, check_alive, NULL);
}

static void *read_all_the_time(void *opaque)
{
    struct reader *reader = opaque;
    uint64_t generation = 0;

    while (!atomic_load(&reader->is_over)) {
        const struct memslots *slots;

        rcu_enter();
        slots = kcore_slots(&reader->arch->core, 0);
        atomic_fetch_add(&reader->versions, slots->generation != generation ? 1 : 0);
        REQUIRE_TRUE(slots->generation >= generation);
        generation = slots->generation;
        read_version(slots);
        rcu_leave();
    }
    return NULL;
}

static void slots_readers_beside_changes_see_whole_versions(void **state)
{
    /* 5,000 lists, and as many more as a reader takes that goes through all slots of 500 versions. */
    struct reader reader = {.arch = arch_open()};
    struct rnd rnd = {rnd_seed("readers")};
    pthread_t thread;

    (void)state;
    reader.arch->is_silent = true;
    assert_int_equal(arch_set(reader.arch, 1, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_set(reader.arch, 2, LOG, 2 * MIB, MIB, HVA + MIB), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, &reader), 0);
    for (unsigned i = 0; i < 5000 || atomic_load(&reader.versions) < 500; i++) {
        uint32_t id = 3 + (uint32_t)rnd_below(&rnd, 60);
        uint64_t there = i % 2 == 0 ? 2 * MIB : 0;
        struct memslot_change list[] = {
            {.slot = 1, .gpa = 999 * MIB, .size_bytes = MIB, .hva = HVA},
            {.slot = 2, .flags = LOG, .gpa = 2 * MIB - there, .size_bytes = MIB, .hva = HVA + MIB},
            {.slot = 1, .gpa = there, .size_bytes = MIB, .hva = HVA},
            {.slot = id, .gpa = id * 2 * MIB, .size_bytes = MIB, .hva = HVA + id * MIB},
        };

        if (kcore_slot_by_id(&reader.arch->core, id) != NULL) {
            list[3].size_bytes = 0;
        }
        assert_int_equal(kcore_apply(&reader.arch->core, list, 4, NULL), 0);
    }
    atomic_store(&reader.is_over, true);
    pthread_join(thread, NULL);
    arch_close(reader.arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_found_by_frame),
        cmocka_unit_test(slots_are_found_by_host_address),
        cmocka_unit_test(slots_each_version_has_its_own_generation),
        cmocka_unit_test(slots_generation_that_wraps_drops_mmio),
        cmocka_unit_test(slots_move_hands_on_log_but_not_tables),
        cmocka_unit_test(slots_flags_hand_on_tables_and_renew_the_log),
        cmocka_unit_test(slots_old_version_goes_on_saying_what_it_said),
        cmocka_unit_test(slots_full_number_is_reached),
        cmocka_unit_test(slots_of_the_full_number_go_in_one_list),
        cmocka_unit_test(slots_cost_of_a_change_is_logarithmic),
        cmocka_unit_test(slots_storm_of_changes_does_not_fill_memory),
        cmocka_unit_test(slots_readers_beside_changes_see_whole_versions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
