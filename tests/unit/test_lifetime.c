/*
 * unit/test_lifetime.c - what lives longer than its map, and releases: of long chains, in other
 * threads, and all of them before gm_map_quiesce() returns.
 */
#include "unit/machine.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#define PAGE 0x1000u

static enum gm_access drop_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                                 struct gm_attrs attrs)
{
    unsigned *writes = opaque;

    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    (*writes)++;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops drop_ops = {.size = sizeof(drop_ops), .write = drop_write};

/* Free the map while its space is there; what it deferred has happened when this returns. */
static void give_up(struct machine *machine)
{
    struct machine other = machine_new();

    gm_region_put(machine->root);
    gm_map_free(machine->map);
    machine_free(&other); /* quiesces: that is not of one map alone */
}

static void lifetime_bounce_outlives_the_map(void **state)
{
    /* It is given back, and written nowhere. */
    struct machine machine = machine_new();
    struct gm_mapping mapping;
    uint64_t size = 64;
    unsigned writes = 0;

    (void)state;
    add_mmio(&machine, 0, PAGE, &drop_ops, &writes);
    assert_int_equal(gm_map_range(machine.space, 0, &size, true, no_attrs, &mapping), 0);
    give_up(&machine);
    assert_int_equal(gm_unmap(&mapping, size), GM_ACCESS_DECODE);
    assert_int_equal(writes, 0);
}

static void lifetime_region_outlives_the_map(void **state)
{
    /* Its logs are empty, and it takes no edit. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(16 * PAGE);
    struct gm_region *region = add_memory(&machine, GM_REGION_RAM, 0, 16 * PAGE, ram, 0);
    struct gm_region_state region_state;

    (void)state;
    gm_region_get(region);
    give_up(&machine);
    assert_int_equal(gm_region_log_sync(region, 0, PAGE), 0);
    assert_int_equal(gm_region_set_enabled(region, false, NULL), -EIO);
    gm_region_state(region, &region_state);
    assert_true(region_state.enabled);
    assert_null(region_state.parent);
    gm_region_put(region);
    gm_ram_put(ram);
}

static void lifetime_view_cache_and_transaction_outlive_the_map(void **state)
{
    /* Until each ends in its own way. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(16 * PAGE);
    struct gm_region *region = add_memory(&machine, GM_REGION_RAM, 0, 16 * PAGE, ram, 0);
    struct gm_section section;
    struct gm_view *view;
    struct gm_cache cache;
    struct gm_txn *txn;

    (void)state;
    view = gm_view_get(machine.space);
    assert_int_equal(gm_cache_init(&cache, machine.space, 0, PAGE, true, no_attrs), 0);
    assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_enabled(txn, region, false), 0);
    give_up(&machine);
    assert_true(gm_view_find(view, 0, &section));
    assert_ptr_equal(section.region, region);
    gm_cache_fini(&cache);
    gm_view_put(view);
    assert_int_equal(gm_txn_commit(txn, NULL), -EIO);
    gm_ram_put(ram);
}

static void lifetime_recording_ended_once_too_often_ends_quietly(void **state)
{
    /* The region's log goes on without a record, then ends. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(16 * PAGE);
    struct gm_region *region = add_memory(&machine, GM_REGION_RAM, 0, 16 * PAGE, ram, 0);
    struct gm_txn *txn;

    (void)state;
    for (int on = 1; on >= 0; on--) {
        assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
        assert_int_equal(gm_txn_set_log(txn, region, 0, on != 0), 0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
        assert_int_equal(gm_ram_dirty_end(ram, 0), on != 0 ? 0 : -ENOENT);
    }
    machine_free(&machine);
    gm_ram_put(ram);
}

/* ---- releases ---- */

struct link {
    struct machine *machine;
    struct gm_region *next; /* dropped when the region is released */
    unsigned *released;
};

static void link_release(void *opaque)
{
    struct link *link = opaque;

    (*link->released)++;
    gm_region_put(link->next);
}

static struct gm_region *new_released(struct machine *machine, void (*release)(void *opaque),
                                      void *opaque)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_CONTAINER,
        .size_bytes = PAGE,
        .opaque = opaque,
        .release = release,
    };
    struct gm_region *region;

    assert_int_equal(gm_region_new(machine->map, &options, &region, NULL), 0);
    return region;
}

static void release_that_drops_the_next_costs_no_stack(void **state)
{
    /* A chain of 200,000 regions, each held by the device of the one before. */
    const unsigned count = 200000;
    struct machine machine = machine_new();
    struct link *links = calloc(count, sizeof(*links));
    struct gm_region *last = NULL;
    unsigned released = 0;

    (void)state;
    assert_non_null(links);
    for (unsigned i = 0; i < count; i++) {
        links[i] = (struct link){.next = last, .released = &released};
        last = new_released(&machine, link_release, &links[i]);
    }
    gm_region_put(last);
    assert_int_equal(released, count);
    free(links);
    machine_free(&machine);
}

static void editing_release(void *opaque)
{
    struct link *link = opaque;

    assert_int_equal(gm_region_add(link->machine->root, link->next, NULL), 0);
    assert_int_equal(gm_region_del(link->machine->root, link->next, NULL), 0);
    link_release(opaque);
}

static void release_that_edits_the_map_is_followed_by_what_it_dropped(void **state)
{
    /* Both are released when the first put returns, or when the views that showed one have gone. */
    struct machine machine = machine_new();
    unsigned released = 0;
    struct link inner = {.released = &released};
    struct link outer = {.machine = &machine, .released = &released};

    (void)state;
    outer.next = new_released(&machine, link_release, &inner);
    gm_region_put(new_released(&machine, editing_release, &outer));
    gm_map_quiesce(machine.map);
    assert_int_equal(released, 2);
    machine_free(&machine);
}

/* ---- quiesce ---- */

struct slow {
    sem_t begun;
    sem_t may_end;
    atomic_bool has_ended;
};

static void slow_release(void *opaque)
{
    struct slow *slow = opaque;

    sem_post(&slow->begun);
    sem_wait(&slow->may_end);
    atomic_store(&slow->has_ended, true);
}

static void *put_region(void *region)
{
    gm_region_put(region);
    return NULL;
}

struct quiescing {
    struct gm_map *map;
    struct slow *slow;
    bool had_ended;
};

static void *quiesce(void *opaque)
{
    struct quiescing *quiescing = opaque;

    gm_map_quiesce(quiescing->map);
    quiescing->had_ended = atomic_load(&quiescing->slow->has_ended);
    return NULL;
}

static void quiesce_waits_for_a_release_in_another_thread(void **state)
{
    /* The region is dead before, and its callback under way. */
    struct machine machine = machine_new();
    struct slow slow = {0};
    struct quiescing quiescing = {.map = machine.map, .slow = &slow};
    pthread_t putter;
    pthread_t waiter;

    (void)state;
    sem_init(&slow.begun, 0, 0);
    sem_init(&slow.may_end, 0, 0);
    assert_int_equal(
        pthread_create(&putter, NULL, put_region, new_released(&machine, slow_release, &slow)), 0);
    sem_wait(&slow.begun);
    assert_int_equal(pthread_create(&waiter, NULL, quiesce, &quiescing), 0);
    sem_post(&slow.may_end);
    pthread_join(waiter, NULL);
    pthread_join(putter, NULL);
    assert_true(quiescing.had_ended);
    sem_destroy(&slow.begun);
    sem_destroy(&slow.may_end);
    machine_free(&machine);
}

struct counter {
    atomic_long live;
    atomic_bool is_quiet; /* nothing may be freed now */
    atomic_uint late_frees;
};

static void *counted_alloc(void *opaque, size_t size_bytes)
{
    struct counter *counter = opaque;

    atomic_fetch_add(&counter->live, 1);
    return malloc(size_bytes);
}

static void counted_free(void *opaque, void *memory)
{
    struct counter *counter = opaque;

    atomic_fetch_sub(&counter->live, 1);
    if (atomic_load(&counter->is_quiet)) {
        atomic_fetch_add(&counter->late_frees, 1);
    }
    free(memory);
}

static void quiesce_leaves_nothing_to_be_freed(void **state)
{
    /* A logged region is removed: its views, then it, then its dirty record are given up. */
    struct counter counter = {0};
    struct gm_allocator allocator = {counted_alloc, counted_free, &counter};
    struct gm_map_options options = {.size = sizeof(options), .allocator = &allocator};

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct machine machine = machine_new_with(&options);
        struct gm_region *region;
        struct gm_ram *ram;
        struct gm_txn *txn;
        long live;

        assert_int_equal(gm_ram_new_anon(16 * PAGE, &allocator, &ram, NULL), 0);
        gm_map_quiesce(machine.map);
        live = atomic_load(&counter.live);
        region = add_memory(&machine, GM_REGION_RAM, 0, 16 * PAGE, ram, 0);
        assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
        assert_int_equal(gm_txn_set_log(txn, region, 0, true), 0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
        assert_int_equal(gm_region_del(machine.root, region, NULL), 0);
        gm_map_quiesce(machine.map);
        atomic_store(&counter.is_quiet, true);
        assert_int_equal(atomic_load(&counter.live), live);
        atomic_store(&counter.is_quiet, false);
        gm_ram_put(ram);
        machine_free(&machine);
    }
    assert_int_equal(atomic_load(&counter.late_frees), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lifetime_bounce_outlives_the_map),
        cmocka_unit_test(lifetime_region_outlives_the_map),
        cmocka_unit_test(lifetime_view_cache_and_transaction_outlive_the_map),
        cmocka_unit_test(lifetime_recording_ended_once_too_often_ends_quietly),
        cmocka_unit_test(release_that_drops_the_next_costs_no_stack),
        cmocka_unit_test(release_that_edits_the_map_is_followed_by_what_it_dropped),
        cmocka_unit_test(quiesce_waits_for_a_release_in_another_thread),
        cmocka_unit_test(quiesce_leaves_nothing_to_be_freed),
    };

    return cmocka_run_group_tests_name("lifetime", tests, NULL, NULL);
}
