/*
 * race/test_dirty_points.c - the orders of marks and harvests, forced one by one: the rows of docs/locking-dirty.md, "writers and
 * consumers" and "page bits and summary bits".
 *
 * An order that is forced has fences between its steps. That the library's own are enough where nobody forces anything is for
 * race/test_dirty_litmus.c to try.
 *
 *   mark-looked     a mark knows who has begun
 *   mark-found-set  ... and a client's set; its section is open
 *   mark-level      ... and has set its bits of a level, or found them set: the pages' first, then the summaries
 *   take-summary    a take has cleared what it may of a summary word: the topmost first
 *   take-pages      ... of a word of pages
 *   harvest-taken   all is taken; the barrier is to come
 */
#include "model/actor.h"
#include "ram/ram.h"

#include "base/check.h"
#include "base/rcu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define PAGE ((uint64_t)GM_DIRTY_PAGE_BYTES)
#define PAGE_COUNT 300000u
#define LEVELS 3u /* that so many pages have; two of them are summaries */
#define CLIENT 0u
/* In one word, so that all summaries of the one stand for the other, too. */
#define PAGE_A 123456u
#define PAGE_B (PAGE_A + 1)

static struct gm_ram *ram;
static atomic_uint data; /* what page A holds: relaxed, the record is to order it */
static struct actor writer;
static struct actor taker;

static int set_up(void **state)
{
    (void)state;
    GM_ASSERT(gm_ram_new_unbacked(PAGE_COUNT * PAGE, NULL, &ram, NULL) == 0);
    atomic_store(&data, 0);
    return 0;
}

/* A recording has begun. */
static int set_up_begun(void **state)
{
    (void)set_up(state);
    return gm_ram_dirty_begin(ram, CLIENT);
}

static int tear_down(void **state)
{
    (void)state;
    actors_end();
    gm_ram_put(ram);
    rcu_drain(); /* audits sets */
    return 0;
}

static void mark(unsigned page)
{
    gm_ram_dirty_mark(ram, page * PAGE, PAGE, 1u << CLIENT);
}

static void mark_a(void *unused)
{
    (void)unused;
    mark(PAGE_A);
}

static void store(void *unused)
{
    (void)unused;
    atomic_store_explicit(&data, 1, memory_order_relaxed);
}

/* As a writer has to. */
static void store_and_mark(void *unused)
{
    store(unused);
    mark_a(unused);
}

static void assert_data_is_seen(void)
{
    assert_int_equal(atomic_load_explicit(&data, memory_order_relaxed), 1);
}

/* ---- harvests: which of the two pages they have ---- */

#define HAS_A 1u
#define HAS_B 2u

static unsigned pages_of(struct gm_harvest *harvest)
{
    unsigned pages = 0;
    uint64_t first;
    uint64_t last;

    while (gm_harvest_next(harvest, &first, &last)) {
        GM_ASSERT(first >= PAGE_A && last <= PAGE_B);
        pages |= (first <= PAGE_A ? HAS_A : 0) | (last >= PAGE_B ? HAS_B : 0);
    }
    return pages;
}

static unsigned harvest_of(uint64_t first_page, uint64_t page_count)
{
    struct gm_harvest *harvest;
    unsigned pages;

    GM_ASSERT(gm_harvest_begin(ram, CLIENT, first_page * PAGE, page_count * PAGE, &harvest) == 0);
    pages = pages_of(harvest);
    gm_harvest_commit(harvest);
    return pages;
}

static unsigned harvest(void)
{
    return harvest_of(0, PAGE_COUNT);
}

static unsigned taken; /* by the taker, once it is over */

static void take(void *unused)
{
    (void)unused;
    taken = harvest();
}

static void take_a(void *unused)
{
    (void)unused;
    taken = harvest_of(PAGE_A, 1);
}

/* ---- writers and consumers ---- */

static void dirty_store_whose_mark_finds_no_client_is_seen_after_the_begin(void **state)
{
    /* 1: the mark is made nowhere. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&writer, store_and_mark, NULL, "mark-looked", 1);
    assert_int_equal(gm_ram_dirty_begin(ram, CLIENT), 0);
    assert_data_is_seen();
    actor_end(&writer);
    assert_int_equal(harvest(), 0);
}

static void dirty_store_whose_mark_finds_the_old_set_is_seen_after_the_next_begin(void **state)
{
    /* 2: the mark goes to the set of the recording before. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&writer, store_and_mark, NULL, "mark-found-set", 1);
    assert_int_equal(gm_ram_dirty_end(ram, CLIENT), 0);
    assert_int_equal(gm_ram_dirty_begin(ram, CLIENT), 0);
    assert_data_is_seen();
    actor_end(&writer);
    assert_int_equal(harvest(), 0);
}

static void dirty_store_whose_mark_skips_is_seen_after_the_take(void **state)
{
    /* 3: the page was dirty before, and is taken as such. */
    (void)state;
    ACTORS_NEED_POINTS();
    mark(PAGE_A);
    actor_begin_until(&writer, store_and_mark, NULL, "mark-level", 1);
    assert_int_equal(harvest(), HAS_A);
    assert_data_is_seen();
    actor_end(&writer);
    assert_int_equal(harvest(), 0);
}

static void dirty_mark_between_the_take_and_its_barrier_is_for_the_next_harvest(void **state)
{
    /* 4 */
    (void)state;
    ACTORS_NEED_POINTS();
    mark(PAGE_A);
    actor_begin_until(&taker, take, NULL, "harvest-taken", 1);
    store_and_mark(NULL);
    actor_end(&taker);
    assert_int_equal(taken, HAS_A);
    assert_int_equal(harvest(), HAS_A);
}

static void dirty_mark_before_the_take_is_taken_and_its_store_seen(void **state)
{
    /* 5 */
    (void)state;
    actor_begin(&writer, store_and_mark, NULL, NULL, 1);
    while (harvest() != HAS_A) { /* no join before: what orders the store is the record */
    }
    assert_data_is_seen();
    actor_end(&writer);
}

static void mark_and_store(void *unused)
{
    mark_a(unused);
    actor_point("marked");
    store(unused);
}

static void dirty_mark_before_its_store_may_lose_it(void **state)
{
    /* 6: why gm_ram_dirty_mark() says "store the data first". */
    (void)state;
    actor_begin_until(&writer, mark_and_store, NULL, "marked", 1);
    assert_int_equal(harvest(), HAS_A);
    assert_int_equal(atomic_load(&data), 0);
    actor_end(&writer);
    assert_data_is_seen();
    assert_int_equal(harvest(), 0);
}

static void dirty_mark_in_a_recording_that_ends_has_its_set_to_the_end_of_the_section(void **state)
{
    /* 7: nobody else holds the set. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&writer, store_and_mark, NULL, "mark-found-set", 1);
    assert_int_equal(gm_ram_dirty_end(ram, CLIENT), 0);
    actor_end(&writer);
}

static void dirty_harvest_aborted_in_the_next_recording_gives_it_nothing(void **state)
{
    /* 8: though it is of the same client. */
    struct gm_harvest *old;

    (void)state;
    mark(PAGE_A);
    assert_int_equal(gm_harvest_begin(ram, CLIENT, 0, PAGE_COUNT * PAGE, &old), 0);
    assert_int_equal(gm_ram_dirty_end(ram, CLIENT), 0);
    assert_int_equal(gm_ram_dirty_begin(ram, CLIENT), 0);
    gm_harvest_abort(old);
    assert_int_equal(harvest(), 0);
}

/* ---- page bits and summary bits. Page B makes a take come by before page A has all its summaries. ---- */

static void summary_and_page_marked_before_the_take_are_taken(void **state)
{
    /* 1 */
    (void)state;
    actor_begin(&writer, mark_a, NULL, NULL, 1);
    actor_end(&writer);
    assert_int_equal(harvest(), HAS_A);
}

static void summary_marked_after_the_take_leads_to_an_empty_word(void **state)
{
    /* 2: the mark has still to set one summary, or both. */
    (void)state;
    ACTORS_NEED_POINTS();
    for (unsigned level = 1; level < LEVELS; level++) {
        mark(PAGE_B);
        actor_begin_until(&writer, mark_a, NULL, "mark-level", level);
        assert_int_equal(harvest(), HAS_A | HAS_B);
        actor_end(&writer);
        assert_int_equal(harvest(), 0);
    }
}

static void page_marked_after_the_take_of_its_summary_is_taken(void **state)
{
    /* 3: the take has cleared one summary, or both. */
    (void)state;
    ACTORS_NEED_POINTS();
    for (unsigned level = 1; level < LEVELS; level++) {
        mark(PAGE_B);
        actor_begin_until(&taker, take, NULL, "take-summary", level);
        mark(PAGE_A);
        actor_end(&taker);
        assert_int_equal(taken, HAS_A | HAS_B);
        assert_int_equal(harvest(), 0);
    }
}

static void page_marked_after_the_take_of_its_word_is_for_the_next_one(void **state)
{
    /* 4 */
    (void)state;
    ACTORS_NEED_POINTS();
    mark(PAGE_B);
    actor_begin_until(&taker, take, NULL, "take-pages", 1);
    mark(PAGE_A);
    actor_end(&taker);
    assert_int_equal(taken, HAS_B);
    assert_int_equal(harvest(), HAS_A);
}

static void page_whose_summary_was_set_is_taken_with_it(void **state)
{
    /* 5: the mark has found a summary set, or both. */
    (void)state;
    ACTORS_NEED_POINTS();
    for (unsigned level = 2; level <= LEVELS; level++) {
        mark(PAGE_B);
        actor_begin_until(&writer, mark_a, NULL, "mark-level", level);
        assert_int_equal(harvest(), HAS_A | HAS_B);
        actor_end(&writer);
        assert_int_equal(harvest(), 0);
    }
}

static void page_that_an_unfinished_mark_made_dirty_is_found_after_a_second_mark(void **state)
{
    /* 6: the second one has returned, and has not relied on the first. */
    (void)state;
    ACTORS_NEED_POINTS();
    for (unsigned level = 1; level < LEVELS; level++) {
        actor_begin_until(&writer, mark_a, NULL, "mark-level", level);
        mark(PAGE_A);
        assert_int_equal(harvest(), HAS_A);
        actor_end(&writer);
        assert_int_equal(harvest(), 0);
    }
}

static void take_of_a_part_hides_nothing_from_another_take(void **state)
{
    /* What the summary stands for besides is found while the part is being taken. */
    static const struct {
        const char *point;
        unsigned nth;
    } STOPS[] = {{"take-summary", 1}, {"take-summary", 2}, {"take-pages", 1}};

    (void)state;
    ACTORS_NEED_POINTS();
    for (unsigned i = 0; i < sizeof(STOPS) / sizeof(STOPS[0]); i++) {
        mark(PAGE_A);
        mark(PAGE_B);
        actor_begin_until(&taker, take_a, NULL, STOPS[i].point, STOPS[i].nth);
        assert_int_equal(harvest_of(PAGE_B, PAGE_COUNT - PAGE_B), HAS_B);
        actor_end(&taker);
        assert_int_equal(taken, HAS_A);
    }
}

static int prepare(void **state)
{
    (void)state;
    actors_prepare();
    return 0;
}

#define ORDER(test) cmocka_unit_test_setup_teardown(test, set_up_begun, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            dirty_store_whose_mark_finds_no_client_is_seen_after_the_begin, set_up, tear_down),
        ORDER(dirty_store_whose_mark_finds_the_old_set_is_seen_after_the_next_begin),
        ORDER(dirty_store_whose_mark_skips_is_seen_after_the_take),
        ORDER(dirty_mark_between_the_take_and_its_barrier_is_for_the_next_harvest),
        ORDER(dirty_mark_before_the_take_is_taken_and_its_store_seen),
        ORDER(dirty_mark_before_its_store_may_lose_it),
        ORDER(dirty_mark_in_a_recording_that_ends_has_its_set_to_the_end_of_the_section),
        ORDER(dirty_harvest_aborted_in_the_next_recording_gives_it_nothing),
        ORDER(summary_and_page_marked_before_the_take_are_taken),
        ORDER(summary_marked_after_the_take_leads_to_an_empty_word),
        ORDER(page_marked_after_the_take_of_its_summary_is_taken),
        ORDER(page_marked_after_the_take_of_its_word_is_for_the_next_one),
        ORDER(page_whose_summary_was_set_is_taken_with_it),
        ORDER(page_that_an_unfinished_mark_made_dirty_is_found_after_a_second_mark),
        ORDER(take_of_a_part_hides_nothing_from_another_take),
    };

    return cmocka_run_group_tests_name("dirty_points", tests, prepare, NULL);
}
