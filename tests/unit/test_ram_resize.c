/*
 * unit/test_ram_resize.c - another size: memory that comes and goes, regions that hold on to it,
 * the dirty record.
 */
#include "machine.h"
#include "ram_rig.h"

#include "base/rcu.h"

static const enum rig_kind RESIZABLE[] = {RIG_ANON, RIG_SHARED, RIG_MEMFD, RIG_HUGETLB,
                                          RIG_UNBACKED};
#define KINDS (sizeof(RESIZABLE) / sizeof(RESIZABLE[0]))

static struct gm_ram *new_resizable(enum rig_kind kind, uint64_t size_bytes, uint64_t max_bytes)
{
    struct gm_ram_options options = rig_options(kind, size_bytes);

    options.max_size_bytes = max_bytes;
    return rig_make(&options);
}

static bool is_accessible(const uint8_t *byte)
{
    int fds[2];
    bool is;

    assert_int_equal(pipe(fds), 0);
    is = write(fds[1], byte, 1) == 1; /* EFAULT, without a signal */
    close(fds[0]);
    close(fds[1]);
    return is;
}

static void resize_gives_zeroed_memory_and_takes_it_away(void **state)
{
    /* In place: the old bytes stay; what grows is zero, also where there was something before;
     * what goes is freed. */
    unsigned skipped = 0;

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        enum rig_kind kind = RESIZABLE[i];
        struct gm_ram *ram;
        uint8_t *bytes;
        uint64_t held;

        if (rig_lacks(kind, 4)) {
            skipped++;
            continue;
        }
        ram = new_resizable(kind, HUGE, 4 * HUGE);
        bytes = gm_ram_hva(ram);
        assert_int_equal(gm_ram_resize(ram, 4 * HUGE, NULL), 0);
        assert_int_equal(gm_ram_size(ram), 4 * HUGE);
        assert_ptr_equal(gm_ram_hva(ram), bytes);
        if (kind == RIG_UNBACKED) {
            assert_int_equal(gm_ram_resize(ram, PAGE, NULL), 0);
            assert_int_equal(gm_ram_size(ram), PAGE);
            gm_ram_put(ram);
            continue;
        }
        assert_bytes(bytes, 4 * HUGE, 0);
        memset(bytes, 0x5a, 4 * HUGE);
        held = kind == RIG_ANON     ? rig_private_pages(bytes, 4 * HUGE)
               : kind == RIG_SHARED ? rig_shared_pages(bytes, 4 * HUGE)
                                    : rig_held_pages(kind, ram);
        assert_int_equal(held, 4 * HUGE / PAGE);
        assert_int_equal(gm_ram_resize(ram, 2 * HUGE, NULL), 0);
        assert_int_equal(rig_held_pages(kind, ram), 2 * HUGE / PAGE);
        assert_int_equal(rig_private_pages(bytes + 2 * HUGE, 2 * HUGE), 0);
        assert_bytes(bytes, 2 * HUGE, 0x5a);
        assert_false(is_accessible(bytes + 2 * HUGE));
        assert_false(is_accessible(bytes + 4 * HUGE - 1));
        assert_int_equal(gm_ram_resize(ram, 3 * HUGE, NULL), 0);
        assert_bytes(bytes, 2 * HUGE, 0x5a);
        assert_bytes(bytes + 2 * HUGE, HUGE, 0);
        assert_false(is_accessible(bytes + 3 * HUGE));
        gm_ram_put(ram);
    }
    rig_give_huge_back();
    print_message("%u kinds skipped\n", skipped);
}

static void resize_of_huge_pages_takes_and_gives_reserved_ones(void **state)
{
    /* Growing past the pool fails as it is asked for, and changes nothing; shrinking gives
     * reservations back, too. */
    struct gm_ram *ram;
    struct gm_diag diag = {0};

    (void)state;
    RIG_NEEDS_HUGE(3);
    ram = new_resizable(RIG_HUGETLB, HUGE, 8 * HUGE);
    assert_int_equal(gm_ram_resize(ram, 4 * HUGE, &diag), -ENOMEM);
    assert_non_null(strstr(diag.text, "hugepages-2048kB"));
    assert_int_equal(gm_ram_size(ram), HUGE);
    assert_int_equal(gm_ram_resize(ram, 2 * HUGE + 1, NULL), 0);
    assert_int_equal(gm_ram_size(ram), 3 * HUGE);
    memset(gm_ram_hva(ram), 1, 3 * HUGE);
    assert_int_equal(gm_ram_resize(ram, HUGE, NULL), 0);
    assert_int_equal(rig_read_number(RIG_FREE_HUGE), 2);
    gm_ram_put(rig_new(RIG_HUGETLB, 2 * HUGE)); /* others can have them */
    gm_ram_put(ram);
    rig_give_huge_back();
}

static void resize_of_a_memfd_resizes_the_file(void **state)
{
    /* A peer that maps it finds the new end by fstat(). */
    struct gm_ram *ram = new_resizable(RIG_MEMFD, PAGE, 8 * PAGE);
    struct stat status;

    (void)state;
    assert_int_equal(gm_ram_resize(ram, 5 * PAGE, NULL), 0);
    assert_int_equal(fstat(gm_ram_fd(ram), &status), 0);
    assert_int_equal(status.st_size, 5 * PAGE);
    assert_int_equal(gm_ram_resize(ram, 2 * PAGE, NULL), 0);
    assert_int_equal(fstat(gm_ram_fd(ram), &status), 0);
    assert_int_equal(status.st_size, 2 * PAGE);
    gm_ram_put(ram);
}

/* ---- refusals ---- */

static void resize_that_cannot_be_is_refused(void **state)
{
    /* Sizes out of range; blocks that were not made for it; while memory is in use. */
    struct gm_ram *ram = new_resizable(RIG_ANON, 2 * PAGE, 4 * PAGE);

    (void)state;
    assert_int_equal(gm_ram_resize(ram, 0, NULL), -EINVAL);
    assert_int_equal(gm_ram_resize(ram, 4 * PAGE + 1, NULL), -EINVAL);
    assert_int_equal(gm_ram_resize(ram, UINT64_MAX, NULL), -EINVAL);
    gm_ram_discard_disable(ram);
    assert_int_equal(gm_ram_resize(ram, PAGE, NULL), -EBUSY);
    assert_int_equal(gm_ram_resize(ram, 3 * PAGE, NULL), 0); /* growing frees nothing */
    assert_int_equal(gm_ram_discard_enable(ram), 0);
    assert_int_equal(gm_ram_resize(ram, PAGE, NULL), 0);
    assert_int_equal(gm_ram_discard(ram, PAGE, PAGE, NULL), -EINVAL);
    gm_ram_put(ram);
    for (enum rig_kind kind = 0; kind <= RIG_UNBACKED; kind++) {
        if (kind == RIG_HUGETLB) {
            continue;
        }
        ram = rig_new(kind, 2 * PAGE);
        assert_int_equal(gm_ram_resize(ram, PAGE, NULL), -EOPNOTSUPP);
        assert_int_equal(gm_ram_size(ram), 2 * PAGE);
        gm_ram_put(ram);
    }
}

struct told {
    struct gm_ram *ram;
    unsigned calls;
    uint64_t before;
    uint64_t after;
};

static void on_resized(void *opaque, struct gm_ram *ram, uint64_t old_size_bytes,
                       uint64_t size_bytes)
{
    struct told *told = opaque;

    assert_ptr_equal(ram, told->ram);
    assert_int_equal(gm_ram_size(ram), size_bytes);
    told->calls++;
    told->before = old_size_bytes;
    told->after = size_bytes;
}

static void resize_tells_both_sizes_once(void **state)
{
    /* Of each change, and of nothing else. */
    struct gm_ram_options options = rig_options(RIG_ANON, 2 * PAGE);
    struct told told = {0};

    (void)state;
    options.max_size_bytes = 8 * PAGE;
    options.resized = on_resized;
    options.opaque = &told;
    told.ram = rig_make(&options);
    assert_int_equal(gm_ram_resize(told.ram, 5 * PAGE - 1, NULL), 0);
    assert_int_equal(told.calls, 1);
    assert_int_equal(told.before, 2 * PAGE);
    assert_int_equal(told.after, 5 * PAGE);
    assert_int_equal(gm_ram_resize(told.ram, 5 * PAGE, NULL), 0); /* as it is */
    assert_int_equal(gm_ram_resize(told.ram, 9 * PAGE, NULL), -EINVAL);
    assert_int_equal(told.calls, 1);
    assert_int_equal(gm_ram_resize(told.ram, PAGE, NULL), 0);
    assert_int_equal(told.calls, 2);
    assert_int_equal(told.before, 5 * PAGE);
    assert_int_equal(told.after, PAGE);
    gm_ram_put(told.ram);
}

/* ---- regions ---- */

static int set_size(struct machine *machine, struct gm_region *region, uint64_t size_bytes)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(machine->map, &txn), 0);
    assert_int_equal(gm_txn_set_size(txn, region, size_bytes), 0);
    return gm_txn_commit(txn, NULL);
}

static void resize_waits_for_regions_to_let_go(void **state)
{
    /* Grow: block, then region. Shrink: region, then block. The other order is refused,
     * whichever region it is. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_resizable(RIG_ANON, 4 * PAGE, 16 * PAGE);
    struct gm_region *region = add_memory(&machine, GM_REGION_RAM, 0, 4 * PAGE, ram, 0);
    struct gm_region *tail = add_memory(&machine, GM_REGION_ROM, MIB, PAGE, ram, 3 * PAGE);
    struct gm_diag diag = {0};

    (void)state;
    assert_int_equal(set_size(&machine, region, 8 * PAGE), -EINVAL);
    assert_int_equal(gm_ram_resize(ram, 8 * PAGE, NULL), 0);
    assert_int_equal(set_size(&machine, region, 8 * PAGE), 0);
    assert_int_equal(
        gm_store(machine.space, 7 * PAGE, 8, GM_ORDER_LITTLE, 77, (struct gm_attrs){0}),
        GM_ACCESS_OK);
    assert_int_equal(gm_ram_resize(ram, 7 * PAGE, &diag), -EBUSY);
    assert_non_null(strstr(diag.text, "0x8000"));
    assert_int_equal(gm_ram_size(ram), 8 * PAGE);
    assert_int_equal(set_size(&machine, region, 2 * PAGE), 0);
    assert_int_equal(gm_ram_resize(ram, 3 * PAGE, NULL), -EBUSY); /* the tail ends at 4 */
    assert_int_equal(gm_ram_resize(ram, 4 * PAGE, NULL), 0);
    assert_int_equal(set_size(&machine, tail, 0), 0);
    assert_int_equal(gm_ram_resize(ram, 2 * PAGE, NULL), 0);
    assert_int_equal(set_size(&machine, region, 3 * PAGE), -EINVAL);
    assert_int_equal(set_size(&machine, region, PAGE), 0);
    assert_int_equal(gm_ram_resize(ram, PAGE, NULL), 0);
    machine_free(&machine);
    rcu_drain();
    assert_int_equal(gm_ram_resize(ram, 16 * PAGE, NULL), 0); /* dead regions claim nothing */
    assert_int_equal(gm_ram_resize(ram, 1, NULL), 0);
    gm_ram_put(ram);
}

static void resize_of_a_block_whose_region_was_not_shrunk_after_all_is_refused(void **state)
{
    /* A transaction that shrinks the region and then fails has given nothing back. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_resizable(RIG_ANON, 8 * PAGE, 8 * PAGE);
    struct gm_region *region = add_memory(&machine, GM_REGION_RAM, 0, 8 * PAGE, ram, 0);
    struct gm_txn *txn;

    (void)state;
    assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_size(txn, region, PAGE), 0);
    assert_int_equal(gm_txn_set_size(txn, region, 9 * PAGE), 0); /* too large: found in commit */
    assert_int_equal(gm_txn_commit(txn, NULL), -EINVAL);
    assert_int_equal(gm_ram_resize(ram, 7 * PAGE, NULL), -EBUSY);
    /* Down and up again in one: what counts is what it comes to. */
    assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_size(txn, region, PAGE), 0);
    assert_int_equal(gm_txn_set_size(txn, region, 5 * PAGE), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(gm_ram_resize(ram, 4 * PAGE, NULL), -EBUSY);
    assert_int_equal(gm_ram_resize(ram, 5 * PAGE, NULL), 0);
    machine_free(&machine);
    rcu_drain();
    gm_ram_put(ram);
}

/* ---- the dirty record ---- */

static uint64_t harvest_all(struct gm_ram *ram, uint64_t *first, uint64_t *last)
{
    struct gm_harvest *harvest;
    uint64_t count;

    assert_int_equal(gm_harvest_begin(ram, 1, 0, gm_ram_size(ram), &harvest), 0);
    count = gm_harvest_page_count(harvest);
    if (count > 0) {
        assert_true(gm_harvest_next(harvest, first, last));
    }
    gm_harvest_commit(harvest);
    return count;
}

static void resize_makes_new_pages_dirty_and_takes_old_ones_out(void **state)
{
    /* What grows is news to a consumer; what is past the end is nobody's; what stays stays. */
    struct gm_ram *ram = new_resizable(RIG_ANON, 4 * PAGE, 1024 * PAGE);
    struct gm_harvest *open;
    uint64_t first = 0;
    uint64_t last = 0;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 1), 0);
    assert_int_equal(gm_ram_resize(ram, 1000 * PAGE, NULL), 0);
    assert_int_equal(harvest_all(ram, &first, &last), 996);
    assert_int_equal(first, 4);
    assert_int_equal(last, 999);
    gm_ram_dirty_mark(ram, 2 * PAGE, 1, 1u << 1);
    gm_ram_dirty_mark(ram, 900 * PAGE, 1, 1u << 1);
    assert_int_equal(gm_harvest_begin(ram, 1, 0, 1000 * PAGE, &open), 0);
    assert_int_equal(gm_harvest_page_count(open), 2);
    assert_int_equal(gm_ram_resize(ram, 8 * PAGE, NULL), 0);
    gm_harvest_abort(open); /* gives back a page that went */
    gm_ram_dirty_mark(ram, 8 * PAGE, 100 * PAGE, 1u << 1);
    assert_int_equal(harvest_all(ram, &first, &last), 1);
    assert_int_equal(first, 2);
    assert_int_equal(gm_ram_dirty_end(ram, 1), 0);
    gm_ram_put(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resize_gives_zeroed_memory_and_takes_it_away),
        cmocka_unit_test(resize_of_huge_pages_takes_and_gives_reserved_ones),
        cmocka_unit_test(resize_of_a_memfd_resizes_the_file),
        cmocka_unit_test(resize_that_cannot_be_is_refused),
        cmocka_unit_test(resize_tells_both_sizes_once),
        cmocka_unit_test(resize_waits_for_regions_to_let_go),
        cmocka_unit_test(resize_of_a_block_whose_region_was_not_shrunk_after_all_is_refused),
        cmocka_unit_test(resize_makes_new_pages_dirty_and_takes_old_ones_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
