/*
 * unit/test_rings.c - harvesting dirty rings, against a hypervisor whose every move the test makes: it pushes, it resets as Linux
 * does, and in between another vCPU may write or a consumer may harvest.
 */
#include "machine.h"

#include "base/alloc.h"
#include "model/random.h"
#include "slots/rings.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#define ENTRIES 64u
#define PAGES 128u
#define CLIENT 2u
#define SLOT 5u
#define RAM_OFFSET (8u * 4096u)

struct rig {
    struct machine machine;
    struct gm_ram *ram;
    struct gm_slot slot;
    struct dirty_rings rings;
    struct dirty_ring ring;
    struct kvm_dirty_gfn entries[ENTRIES];
    uint32_t pushed;
    uint32_t reset;
    /* What happens as the reset begins; NULL: nothing. */
    void (*at_reset)(struct rig *rig);
    int reset_error;
    unsigned told;          /* by the log hook */
    uint64_t seen_at_reset; /* pages of a harvest there */
};

/* Linux's: what is marked so is taken back, from where the last reset ended, up to what is not. */
static int reset_as_linux(void *opaque)
{
    struct rig *rig = opaque;
    int count = 0;

    if (rig->at_reset != NULL) {
        rig->at_reset(rig);
    }
    if (rig->reset_error != 0) {
        return rig->reset_error;
    }
    while ((rig->entries[rig->reset % ENTRIES].flags & KVM_DIRTY_GFN_F_RESET) != 0) {
        rig->entries[rig->reset % ENTRIES].flags = 0;
        rig->reset++;
        count++;
    }
    return count;
}

static void on_log(void *opaque, enum gm_log_level level, const char *text)
{
    struct rig *rig = opaque;

    assert_int_equal(level, GM_LOG_WARNING);
    assert_non_null(strstr(text, "a dirty ring of 64 entries overflowed"));
    assert_true(rings_are_lost(&rig->rings)); /* takes the lock: it is not held */
    rig->told++;
}

static void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    rig->machine = machine_new();
    rig->ram = new_ram(RAM_OFFSET + PAGES * 4096u);
    rig->slot = (struct gm_slot){
        .number = SLOT,
        .flags = GM_SLOT_LOG,
        .size_bytes = (PAGES - 4) * 4096u,
        .region = add_memory(&rig->machine, GM_REGION_RAM, 0, PAGES * 4096u, rig->ram, RAM_OFFSET),
        .offset = 4 * 4096u,
    };
    assert_int_equal(gm_ram_dirty_begin(rig->ram, CLIENT), 0);
    assert_int_equal(
        rings_init(&rig->rings, ENTRIES, mem_allocator_or_default(NULL), reset_as_linux, rig), 0);
    rig->rings.log = (struct gm_log_hook){.log = on_log, .opaque = rig};
    rings_add(&rig->rings, &rig->ring, rig->entries, NULL);
    assert_int_equal(rings_before_change(&rig->rings, 0, &rig->slot, GM_SLOT_LOG), 0);
}

static void rig_fini(struct rig *rig)
{
    assert_int_equal(rig->told, rings_are_lost(&rig->rings)); /* once, and only then */
    rings_remove(&rig->rings, &rig->ring);
    rings_fini(&rig->rings);
    gm_ram_put(rig->ram);
    machine_free(&rig->machine);
}

/* As Linux: no look at what is overwritten. */
static void push(struct rig *rig, uint32_t slot, uint64_t page)
{
    rig->entries[rig->pushed % ENTRIES] =
        (struct kvm_dirty_gfn){.flags = KVM_DIRTY_GFN_F_DIRTY, .slot = slot, .offset = page};
    rig->pushed++;
}

/* Harvest and commit. Return: how many pages; the first and last in *first and *last. */
static uint64_t harvest(struct rig *rig, uint64_t *first, uint64_t *last)
{
    struct gm_harvest *harvest;
    uint64_t count;
    uint64_t from;
    uint64_t to;

    assert_int_equal(gm_harvest_begin(rig->ram, CLIENT, 0, gm_ram_size(rig->ram), &harvest), 0);
    count = gm_harvest_page_count(harvest);
    for (bool is_first = true; gm_harvest_next(harvest, &from, &to); is_first = false) {
        *first = is_first ? from : *first;
        *last = to;
    }
    gm_harvest_commit(harvest);
    return count;
}

static uint64_t harvest_count(struct rig *rig)
{
    uint64_t ignored;

    return harvest(rig, &ignored, &ignored);
}

/* All vCPUs are held. Return: is the log now "all of it"? */
static bool fetch(struct rig *rig)
{
    uint64_t bitmap[PAGES / 64] = {0};

    rings_fetch(&rig->rings, &rig->slot, bitmap);
    assert_true(bitmap[0] == 0 || bitmap[0] == UINT64_MAX);
    return bitmap[0] != 0;
}

static void fetch_marks_the_pages_of_the_slots_block(void **state)
{
    /* Page N of the slot is N pages after its offset in its region, and after the region's in its block. */
    struct rig rig;
    uint64_t first = 0;
    uint64_t last = 0;

    (void)state;
    rig_init(&rig);
    push(&rig, SLOT, 7);
    push(&rig, SLOT, 8);
    push(&rig, SLOT, 9);
    assert_false(fetch(&rig));
    assert_int_equal(harvest(&rig, &first, &last), 3);
    assert_int_equal(first, 8 + 4 + 7);
    assert_int_equal(last, 8 + 4 + 9);
    assert_false(fetch(&rig));
    assert_int_equal(harvest_count(&rig), 0);
    rig_fini(&rig);
}

static void entry_of_another_space_marks_the_slot_there(void **state)
{
    /* The upper half of an entry's slot number: the same number in both spaces, of different pages. */
    struct rig rig;
    struct gm_slot other;
    uint64_t first = 0;
    uint64_t last = 0;

    (void)state;
    rig_init(&rig);
    other = rig.slot;
    other.offset = 0;
    assert_int_equal(rings_before_change(&rig.rings, 1, &other, GM_SLOT_LOG), 0);
    push(&rig, 1u << 16 | SLOT, 2);
    assert_false(fetch(&rig));
    assert_int_equal(harvest(&rig, &first, &last), 1);
    assert_int_equal(first, 8 + 2);
    push(&rig, SLOT, 2);
    assert_false(fetch(&rig));
    assert_int_equal(harvest(&rig, &first, &last), 1);
    assert_int_equal(first, 8 + 4 + 2);
    rings_after_change(&rig.rings, 1, &other, 0, 0);
    rig_fini(&rig);
}

static void ring_goes_round_many_times(void **state)
{
    /* The front is where the last harvest ended, however often the positions wrap. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    for (unsigned i = 0; i < 100; i++) {
        unsigned count = i % (ENTRIES - 1);

        for (unsigned n = 0; n < count; n++) {
            push(&rig, SLOT, (i + n) % (PAGES - 4));
        }
        assert_false(fetch(&rig));
        assert_int_equal(harvest_count(&rig), count);
        assert_int_equal(rig.reset, rig.pushed);
    }
    rig_fini(&rig);
}

static void ring_used_before_is_found_where_it_goes_on(void **state)
{
    /* Of a VM that is attached to once more nobody knows the ring's front: at each place, and over the end. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    for (unsigned at = 0; at < ENTRIES; at++) {
        const uint32_t known = at;

        rings_remove(&rig.rings, &rig.ring);
        memset(rig.entries, 0, sizeof(rig.entries));
        rig.pushed = at;
        rig.reset = at;
        rings_add(&rig.rings, &rig.ring, rig.entries, at % 2 == 0 ? NULL : &known);
        assert_false(fetch(&rig));
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned n = 0; n < ENTRIES / 2 + 1; n++) {
                push(&rig, SLOT, n);
            }
            assert_false(fetch(&rig));
            assert_int_equal(harvest_count(&rig), ENTRIES / 2 + 1);
            assert_int_equal(rig.reset, rig.pushed);
        }
    }
    rig_fini(&rig);
}

static void harvest_beside(struct rig *rig)
{
    rig->seen_at_reset = harvest_count(rig);
}

static void page_is_marked_after_its_reset(void **state)
{
    /* Until the reset another vCPU writes through the page's open translation, unseen. A consumer that harvested the page
     * before, and read it, would miss that. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    rig.at_reset = harvest_beside;
    push(&rig, SLOT, 3);
    assert_true(rings_full(&rig.rings, &rig.ring));
    assert_int_equal(rig.seen_at_reset, 0);
    assert_int_equal(harvest_count(&rig), 1);
    rig_fini(&rig);
}

static void entry_that_names_nothing_is_counted_and_passed_over(void **state)
{
    /* Slots that do not log, other spaces, pages beyond the slot; and what is between them is not lost. */
    const uint32_t slots[] = {SLOT + 1,           0xffff,   1u << 16 | SLOT,
                              RINGS_SPACES << 16, 9u << 16, UINT32_MAX};
    struct rig rig;

    (void)state;
    rig_init(&rig);
    for (unsigned i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        push(&rig, slots[i], 1);
    }
    push(&rig, SLOT, PAGES - 5);
    push(&rig, SLOT, PAGES - 4);
    push(&rig, SLOT, UINT32_MAX);
    push(&rig, SLOT, UINT64_MAX);
    assert_false(fetch(&rig));
    assert_int_equal(harvest_count(&rig), 1);
    assert_int_equal(rig.rings.strays, sizeof(slots) / sizeof(slots[0]) + 3);
    rings_after_change(&rig.rings, 0, &rig.slot, 0, 0);
    push(&rig, SLOT, 0);
    push(&rig, SLOT, 1);
    assert_false(fetch(&rig));
    assert_int_equal(harvest_count(&rig), 0);
    rig_fini(&rig);
}

static void full_exit_without_entries_is_the_callers(void **state)
{
    /* But not if somebody else was faster, once. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    push(&rig, SLOT, 1);
    assert_false(fetch(&rig));
    assert_true(rings_full(&rig.rings, &rig.ring));
    assert_false(rings_full(&rig.rings, &rig.ring));
    rig_fini(&rig);
}

static void overflow_makes_whole_slots_dirty_from_then_on(void **state)
{
    /* Pushed over: which entries are gone, nobody knows. What is left is marked all the same. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    for (unsigned i = 0; i < ENTRIES + 10; i++) {
        push(&rig, SLOT, i);
    }
    assert_true(fetch(&rig));
    assert_true(rings_are_lost(&rig.rings));
    assert_int_equal(harvest_count(&rig), ENTRIES);
    push(&rig, SLOT, 1);
    assert_true(fetch(&rig));
    rig_fini(&rig);
}

static void lost_ring_that_is_full_lets_the_vcpu_go_on(void **state)
{
    /* It never takes back more than was pushed: the hypervisor would count backwards. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    for (unsigned i = 0; i < ENTRIES + ENTRIES / 2; i++) {
        push(&rig, SLOT, 1);
    }
    assert_true(fetch(&rig));
    for (unsigned i = 0; i < 100; i++) {
        uint32_t before = rig.reset;

        assert_true(rings_full(&rig.rings, &rig.ring));
        assert_true(rig.reset > before && rig.reset <= rig.pushed);
        while (rig.pushed - rig.reset < ENTRIES / 2) {
            push(&rig, SLOT, 1);
        }
    }
    rig_fini(&rig);
}

static void reset_that_fails_makes_whole_slots_dirty(void **state)
{
    /* The pages stay open: what is written to them from now on is not noticed. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    rig.reset_error = -EIO;
    push(&rig, SLOT, 1);
    assert_true(fetch(&rig));
    assert_int_equal(harvest_count(&rig), 1);
    assert_false(rings_full(&rig.rings, &rig.ring));
    rig_fini(&rig);
}

static void entries_of_garbage_mark_nothing_outside_of_the_slot(void **state)
{
    /* Flags, slots and pages that somebody else has written over the ring, its end among them. */
    struct rnd random = {rnd_seed("garbage in rings")};

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct rig rig;
        uint64_t first = 0;
        uint64_t last = 0;

        rig_init(&rig);
        for (unsigned i = 0; i < ENTRIES; i++) {
            rig.entries[i] = (struct kvm_dirty_gfn){
                .flags = (uint32_t)rnd_below(&random, 5),
                .slot = rnd_one_in(&random, 2) ? SLOT : (uint32_t)rnd_next(&random),
                .offset =
                    rnd_one_in(&random, 2) ? rnd_below(&random, 2 * PAGES) : rnd_next(&random),
            };
        }
        if (rnd_one_in(&random, 2) && !rings_full(&rig.rings, &rig.ring)) {
            assert_int_equal(rig.rings.harvested, 0);
        }
        (void)fetch(&rig);
        if (harvest(&rig, &first, &last) != 0) {
            /* The region begins 8 pages into the block, the slot 4 into the region. */
            assert_true(first >= 8 + 4 && last < 8 + PAGES);
        }
        rig_fini(&rig);
    }
}

static void entry_behind_one_of_no_page_is_not_lost(void **state)
{
    /* One of a page that no slot has, and the first page of the slot after: by their numbers they follow each other. */
    struct rig rig;
    uint64_t first = 0;
    uint64_t last = 0;

    (void)state;
    rig_init(&rig);
    push(&rig, SLOT - 1, UINT64_MAX);
    push(&rig, SLOT, 0);
    assert_false(fetch(&rig));
    assert_int_equal(harvest(&rig, &first, &last), 1);
    assert_int_equal(first, 8 + 4);
    assert_int_equal(rig.rings.strays, 1);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fetch_marks_the_pages_of_the_slots_block),
        cmocka_unit_test(entry_of_another_space_marks_the_slot_there),
        cmocka_unit_test(ring_goes_round_many_times),
        cmocka_unit_test(ring_used_before_is_found_where_it_goes_on),
        cmocka_unit_test(page_is_marked_after_its_reset),
        cmocka_unit_test(entry_that_names_nothing_is_counted_and_passed_over),
        cmocka_unit_test(full_exit_without_entries_is_the_callers),
        cmocka_unit_test(overflow_makes_whole_slots_dirty_from_then_on),
        cmocka_unit_test(lost_ring_that_is_full_lets_the_vcpu_go_on),
        cmocka_unit_test(reset_that_fails_makes_whole_slots_dirty),
        cmocka_unit_test(entry_behind_one_of_no_page_is_not_lost),
        cmocka_unit_test(entries_of_garbage_mark_nothing_outside_of_the_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
