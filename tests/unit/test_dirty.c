/* unit/test_dirty.c - the dirty record and its harvests, one thing at a time. */
#include "ram/ram.h"
#include "base/rcu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE ((uint64_t)GM_DIRTY_PAGE_BYTES)
#define GIB ((uint64_t)1 << 30)
#define EVERYONE 0xffu

/* ---- allocations that fail ---- */

/* Fails the allocation that finds left == 0, once. Freed from the RCU thread too, hence atomic. */
struct failing {
    int left;
    atomic_int alive;
};

static void *failing_alloc(void *opaque, size_t size_bytes)
{
    struct failing *failing = opaque;

    if (failing->left == 0) {
        failing->left = -1;
        return NULL;
    }
    failing->left -= failing->left > 0;
    atomic_fetch_add(&failing->alive, 1);
    return malloc(size_bytes);
}

static void failing_free(void *opaque, void *memory)
{
    struct failing *failing = opaque;

    atomic_fetch_sub(&failing->alive, 1);
    free(memory);
}

/* ---- helpers ---- */

static struct gm_ram *new_block(uint64_t page_count)
{
    struct gm_ram *ram;

    assert_int_equal(gm_ram_new_unbacked(page_count * PAGE, NULL, &ram, NULL), 0);
    return ram;
}

static struct gm_harvest *harvest_of(struct gm_ram *ram, unsigned client)
{
    struct gm_harvest *harvest;

    assert_int_equal(gm_harvest_begin(ram, client, 0, gm_ram_size(ram), &harvest), 0);
    return harvest;
}

static void assert_next_run(struct gm_harvest *harvest, uint64_t first_page, uint64_t last_page)
{
    uint64_t first;
    uint64_t last;

    assert_true(gm_harvest_next(harvest, &first, &last));
    assert_int_equal(first, first_page);
    assert_int_equal(last, last_page);
}

static void assert_no_run(struct gm_harvest *harvest)
{
    uint64_t first;
    uint64_t last;

    assert_false(gm_harvest_next(harvest, &first, &last));
    assert_false(gm_harvest_next(harvest, &first, &last)); /* and it stays so */
}

/* Harvest all of the client's pages, compare with one run, and commit. */
static void assert_harvests_run(struct gm_ram *ram, unsigned client, uint64_t first_page,
                                uint64_t last_page)
{
    struct gm_harvest *harvest = harvest_of(ram, client);

    assert_int_equal(gm_harvest_page_count(harvest), last_page - first_page + 1);
    assert_next_run(harvest, first_page, last_page);
    assert_no_run(harvest);
    gm_harvest_commit(harvest);
}

static void assert_clean(struct gm_ram *ram, unsigned client)
{
    struct gm_harvest *harvest = harvest_of(ram, client);

    assert_int_equal(gm_harvest_page_count(harvest), 0);
    assert_no_run(harvest);
    gm_harvest_commit(harvest);
}

/* ---- one thing each ---- */

static void dirty_bad_client_is_refused(void **state)
{
    /* Clients are 0 to 7, and have begun before they end or harvest. */
    struct gm_ram *ram = new_block(10);
    struct gm_harvest *harvest = NULL;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, GM_DIRTY_CLIENTS), -EINVAL);
    assert_int_equal(gm_ram_dirty_end(ram, GM_DIRTY_CLIENTS), -EINVAL);
    assert_int_equal(gm_ram_dirty_end(ram, 0), -ENOENT);
    assert_int_equal(gm_harvest_begin(ram, GM_DIRTY_CLIENTS, 0, 1, &harvest), -EINVAL);
    assert_int_equal(gm_harvest_begin(ram, 0, 0, 1, &harvest), -ENOENT);
    assert_null(harvest);
    gm_ram_put(ram);
}

static void dirty_mark_before_begin_is_not_recorded(void **state)
{
    /* A client starts with clean pages. */
    struct gm_ram *ram = new_block(100);

    (void)state;
    gm_ram_dirty_mark(ram, 0, 100 * PAGE, EVERYONE);
    assert_int_equal(gm_ram_dirty_begin(ram, 3), 0);
    assert_int_equal(ram_dirty_clients(ram), 1u << 3);
    assert_clean(ram, 3);
    gm_ram_put(ram);
}

static void dirty_mark_reaches_only_clients_in_the_mask(void **state)
{
    /* Each client has its own record, and a mark names the clients that it is for. */
    struct gm_ram *ram = new_block(100);

    (void)state;
    for (unsigned client = 0; client < GM_DIRTY_CLIENTS; client++) {
        assert_int_equal(gm_ram_dirty_begin(ram, client), 0);
    }
    gm_ram_dirty_mark(ram, 5 * PAGE, 1, 0x05);
    gm_ram_dirty_mark(ram, 6 * PAGE, 1, 0);
    for (unsigned client = 0; client < GM_DIRTY_CLIENTS; client++) {
        if (client == 0 || client == 2) {
            assert_harvests_run(ram, client, 5, 5);
        } else {
            assert_clean(ram, client);
        }
    }
    gm_ram_put(ram);
}

static void dirty_mark_of_bytes_touches_their_pages(void **state)
{
    /* One byte marks its page; a byte on either side of a border marks two; no bytes mark none. */
    struct gm_ram *ram = new_block(1000);

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_ram_dirty_mark(ram, 7 * PAGE + 4095, 1, EVERYONE);
    assert_harvests_run(ram, 0, 7, 7);
    gm_ram_dirty_mark(ram, 7 * PAGE + 4095, 2, EVERYONE);
    assert_harvests_run(ram, 0, 7, 8);
    gm_ram_dirty_mark(ram, 7 * PAGE, 0, EVERYONE);
    assert_clean(ram, 0);
    gm_ram_dirty_mark(ram, 60 * PAGE + 1, 200 * PAGE, EVERYONE);
    assert_harvests_run(ram, 0, 60, 260);
    gm_ram_put(ram);
}

static void dirty_mark_beyond_the_end_is_clipped(void **state)
{
    /* Bytes past the end are ignored, however far the numbers go. */
    struct gm_ram *ram = new_block(1000);

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_ram_dirty_mark(ram, 1000 * PAGE, 1, EVERYONE);
    gm_ram_dirty_mark(ram, UINT64_MAX, UINT64_MAX, EVERYONE);
    assert_clean(ram, 0);
    gm_ram_dirty_mark(ram, 998 * PAGE, UINT64_MAX, EVERYONE);
    assert_harvests_run(ram, 0, 998, 999);
    gm_ram_dirty_mark(ram, 0, UINT64_MAX, EVERYONE);
    assert_harvests_run(ram, 0, 0, 999);
    gm_ram_put(ram);
}

static void dirty_client_begun_twice_records_until_ended_twice(void **state)
{
    /* Begins count; the record starts afresh after the last end. */
    struct gm_ram *ram = new_block(100);

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 1), 0);
    gm_ram_dirty_mark(ram, 0, 1, EVERYONE);
    assert_int_equal(gm_ram_dirty_begin(ram, 1), 0);
    assert_int_equal(gm_ram_dirty_end(ram, 1), 0);
    gm_ram_dirty_mark(ram, PAGE, 1, EVERYONE);
    assert_harvests_run(ram, 1, 0, 1);
    gm_ram_dirty_mark(ram, PAGE, 1, EVERYONE);
    assert_int_equal(gm_ram_dirty_end(ram, 1), 0);
    assert_int_equal(gm_ram_dirty_end(ram, 1), -ENOENT);
    assert_int_equal(ram_dirty_clients(ram), 0);
    assert_int_equal(gm_ram_dirty_begin(ram, 1), 0);
    assert_clean(ram, 1);
    gm_ram_put(ram);
}

static void dirty_recording_of_a_size_that_no_host_holds_is_no_memory(void **state)
{
    /* The record of 2^63 bytes would be 2^48 bytes itself; asking for it changes nothing. */
    struct gm_ram *ram = new_block(((uint64_t)1 << 63) / PAGE);

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), -ENOMEM);
    assert_int_equal(gm_ram_dirty_end(ram, 0), -ENOENT);
    gm_ram_dirty_mark(ram, 0, UINT64_MAX, EVERYONE);
    gm_ram_put(ram);
}

static void dirty_page_at_a_far_offset_is_found(void **state)
{
    /* 256 TiB take five levels, of which only the touched words take memory. */
    uint64_t page_count = (1024 * 256 * GIB) / PAGE;
    struct gm_ram *ram = new_block(page_count);
    struct gm_harvest *harvest;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_ram_dirty_mark(ram, 0, 1, EVERYONE);
    gm_ram_dirty_mark(ram, (page_count / 3) * PAGE, 1, EVERYONE);
    gm_ram_dirty_mark(ram, (page_count - 1) * PAGE, 1, EVERYONE);
    harvest = harvest_of(ram, 0);
    assert_next_run(harvest, 0, 0);
    assert_next_run(harvest, page_count / 3, page_count / 3);
    assert_next_run(harvest, page_count - 1, page_count - 1);
    assert_no_run(harvest);
    gm_harvest_commit(harvest);
    assert_clean(ram, 0);
    gm_ram_put(ram);
}

static void dirty_mark_after_an_unfinished_mark_is_found(void **state)
{
    /* A mark finds its page's bit set by another that was interrupted before it set the summary. */
    struct gm_ram *ram = new_block(64 * 64 * 64 + 1);
    struct pageset *set;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    set = atomic_load(&ram->dirty.sets[0]);
    assert_int_equal(set->level_count, 3);
    atomic_fetch_or(&set->levels[0][1000], (uint64_t)1 << 5);
    gm_ram_dirty_mark(ram, (1000 * 64 + 5) * PAGE, 1, EVERYONE);
    assert_harvests_run(ram, 0, 1000 * 64 + 5, 1000 * 64 + 5);
    atomic_fetch_or(&set->levels[0][2000], 1);
    atomic_fetch_or(&set->levels[1][2000 / 64], (uint64_t)1 << 2000 % 64);
    gm_ram_dirty_mark(ram, 2000 * 64 * PAGE, 1, EVERYONE);
    assert_harvests_run(ram, 0, 2000 * 64, 2000 * 64);
    gm_ram_put(ram);
}

static void harvest_bad_range_is_refused(void **state)
{
    /* A range lies within the block; an empty one is valid and finds nothing. */
    struct gm_ram *ram = new_block(10);
    struct gm_harvest *harvest = NULL;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_ram_dirty_mark(ram, 0, 10 * PAGE, EVERYONE);
    assert_int_equal(gm_harvest_begin(ram, 0, 0, 10 * PAGE + 1, &harvest), -EINVAL);
    assert_int_equal(gm_harvest_begin(ram, 0, 10 * PAGE + 1, 0, &harvest), -EINVAL);
    assert_int_equal(gm_harvest_begin(ram, 0, 1, UINT64_MAX, &harvest), -EINVAL);
    assert_int_equal(gm_harvest_begin(ram, 0, UINT64_MAX, 1, &harvest), -EINVAL);
    assert_null(harvest);
    assert_int_equal(gm_harvest_begin(ram, 0, 10 * PAGE, 0, &harvest), 0);
    assert_no_run(harvest);
    gm_harvest_commit(harvest);
    assert_harvests_run(ram, 0, 0, 9);
    gm_ram_put(ram);
}

static void harvest_of_bytes_is_widened_to_pages(void **state)
{
    /* A harvest of two bytes across a border takes both pages, and leaves their neighbours. */
    struct gm_ram *ram = new_block(10);
    struct gm_harvest *harvest;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_ram_dirty_mark(ram, 0, 10 * PAGE, EVERYONE);
    assert_int_equal(gm_harvest_begin(ram, 0, 4 * PAGE - 1, 2, &harvest), 0);
    assert_next_run(harvest, 3, 4);
    assert_no_run(harvest);
    gm_harvest_commit(harvest);
    harvest = harvest_of(ram, 0);
    assert_next_run(harvest, 0, 2);
    assert_next_run(harvest, 5, 9);
    assert_no_run(harvest);
    gm_harvest_commit(harvest);
    gm_ram_put(ram);
}

static void harvest_aborted_gives_pages_back_beside_new_marks(void **state)
{
    /* After an abort the old pages and those marked meanwhile are dirty. */
    struct gm_ram *ram = new_block(1000);
    struct gm_harvest *harvest;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_ram_dirty_mark(ram, 100 * PAGE, 100 * PAGE, EVERYONE);
    harvest = harvest_of(ram, 0);
    assert_next_run(harvest, 100, 199);
    gm_ram_dirty_mark(ram, 200 * PAGE, 5 * PAGE, EVERYONE);
    gm_harvest_abort(harvest);
    assert_harvests_run(ram, 0, 100, 204);
    gm_ram_put(ram);
}

static void harvest_open_twice_holds_each_page_once(void **state)
{
    /* What one harvest holds another does not find, unless it was marked again. */
    struct gm_ram *ram = new_block(1000);
    struct gm_harvest *first;
    struct gm_harvest *second;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_ram_dirty_mark(ram, 0, 1000 * PAGE, EVERYONE);
    assert_int_equal(gm_harvest_begin(ram, 0, 0, 500 * PAGE, &first), 0);
    second = harvest_of(ram, 0);
    assert_next_run(first, 0, 499);
    assert_next_run(second, 500, 999);
    gm_ram_dirty_mark(ram, 0, 1, EVERYONE);
    assert_harvests_run(ram, 0, 0, 0);
    gm_harvest_abort(first);
    gm_harvest_commit(second);
    assert_harvests_run(ram, 0, 0, 499);
    gm_ram_put(ram);
}

static void harvest_outlives_its_recording_and_its_block(void **state)
{
    /* A harvest keeps what it needs; pages given back to an ended recording go nowhere. */
    struct gm_ram *ram = new_block(1000);
    struct gm_harvest *harvest;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_ram_dirty_mark(ram, 3 * PAGE, PAGE, EVERYONE);
    harvest = harvest_of(ram, 0);
    assert_int_equal(gm_ram_dirty_end(ram, 0), 0);
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    gm_harvest_abort(harvest);
    assert_clean(ram, 0);
    gm_ram_dirty_mark(ram, 4 * PAGE, PAGE, EVERYONE);
    harvest = harvest_of(ram, 0);
    gm_ram_put(ram);
    assert_next_run(harvest, 4, 4);
    gm_harvest_abort(harvest);
}

static void harvest_of_scattered_pages_returns_each(void **state)
{
    /* One page in 60, of 1 GiB: neighbouring words differ, and fill several chunks of a harvest. */
    uint64_t page_count = 1 * GIB / PAGE;
    struct gm_ram *ram = new_block(page_count);
    struct gm_harvest *harvest;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    for (uint64_t page = 0; page < page_count; page += 60) {
        gm_ram_dirty_mark(ram, page * PAGE, 1, EVERYONE);
    }
    harvest = harvest_of(ram, 0);
    assert_int_equal(gm_harvest_page_count(harvest), (page_count + 59) / 60);
    for (uint64_t page = 0; page < page_count; page += 60) {
        assert_next_run(harvest, page, page);
    }
    assert_no_run(harvest);
    gm_harvest_commit(harvest);
    assert_clean(ram, 0);
    gm_ram_put(ram);
}

/* Mark, begin a second client, harvest and abort or commit, under an allocator that fails once. */
static int try_all_calls(struct gm_ram *ram, uint64_t page_count)
{
    struct gm_harvest *harvest;
    int result = gm_ram_dirty_begin(ram, 1);

    if (result != 0) {
        assert_int_equal(gm_ram_dirty_end(ram, 1), -ENOENT);
        return result;
    }
    for (uint64_t page = 0; page < page_count; page += 61) {
        gm_ram_dirty_mark(ram, page * PAGE, 1, 1u << 1);
    }
    result = gm_harvest_begin(ram, 1, 0, page_count * PAGE, &harvest);
    if (result == 0) {
        gm_harvest_abort(harvest);
    }
    pageset_audit(atomic_load(&ram->dirty.sets[1]));
    harvest = NULL;
    /* With memory again, all pages are there. */
    ((struct failing *)ram->allocator.opaque)->left = -1;
    harvest = harvest_of(ram, 1);
    for (uint64_t page = 0; page < page_count; page += 61) {
        assert_next_run(harvest, page, page);
    }
    assert_no_run(harvest);
    gm_harvest_commit(harvest);
    assert_int_equal(gm_ram_dirty_end(ram, 1), 0);
    return result;
}

static void dirty_failed_allocation_changes_nothing(void **state)
{
    /* Each allocation of begin and of a harvest fails once; no page and no byte is lost. */
    uint64_t page_count = 5000 * 64; /* three levels; a harvest of 6 chunks */
    struct failing failing = {.left = -1};
    struct gm_allocator allocator = {failing_alloc, failing_free, &failing};
    int failures = 0;
    int result = -ENOMEM;

    (void)state;
    for (int n = 0; result != 0; n++) {
        struct gm_ram *ram;

        failing.left = -1;
        assert_int_equal(gm_ram_new_unbacked(page_count * PAGE, &allocator, &ram, NULL), 0);
        failing.left = n;
        result = try_all_calls(ram, page_count);
        assert_true(result == 0 || result == -ENOMEM);
        failures += result != 0;
        gm_ram_put(ram);
        rcu_drain();
        assert_int_equal(atomic_load(&failing.alive), 0);
    }
    assert_int_equal(failures,
                     8); /* the set, its bits, the harvest and 5 chunks beyond the first */
}

/* What was deferred is freed before leaks are looked for. */
static int end_group(void **state)
{
    (void)state;
    rcu_drain();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dirty_bad_client_is_refused),
        cmocka_unit_test(dirty_mark_before_begin_is_not_recorded),
        cmocka_unit_test(dirty_mark_reaches_only_clients_in_the_mask),
        cmocka_unit_test(dirty_mark_of_bytes_touches_their_pages),
        cmocka_unit_test(dirty_mark_beyond_the_end_is_clipped),
        cmocka_unit_test(dirty_client_begun_twice_records_until_ended_twice),
        cmocka_unit_test(dirty_recording_of_a_size_that_no_host_holds_is_no_memory),
        cmocka_unit_test(dirty_page_at_a_far_offset_is_found),
        cmocka_unit_test(dirty_mark_after_an_unfinished_mark_is_found),
        cmocka_unit_test(harvest_bad_range_is_refused),
        cmocka_unit_test(harvest_of_bytes_is_widened_to_pages),
        cmocka_unit_test(harvest_aborted_gives_pages_back_beside_new_marks),
        cmocka_unit_test(harvest_open_twice_holds_each_page_once),
        cmocka_unit_test(harvest_outlives_its_recording_and_its_block),
        cmocka_unit_test(harvest_of_scattered_pages_returns_each),
        cmocka_unit_test(dirty_failed_allocation_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, end_group);
}
