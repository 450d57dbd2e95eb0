/*
 * race/test_dirty_litmus.c - the two-thread patterns of ram/dirty.h's table, in tight rounds.
 *
 * A processor may load the dirty record before its own store of data is visible to others. To give it
 * the time, the writer first stores to lines that are in no near cache, so that its data waits behind
 * them; the consumer comes after a random delay.
 */
#include "model/random.h"
#include "ram/ram.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE ((uint64_t)GM_DIRTY_PAGE_BYTES)
#define PAGE_COUNT 300000u /* three levels */
#define DIRTY_PAGE 123456u
#define CLIENT 0u
#define ROUNDS 10000u
#define WIDE_ROUNDS 1000u
#define COLD_LINES 24u        /* stored to in a round */
#define COLD_WORDS (4u << 20) /* 32 MiB */

static uint64_t seed;

struct litmus {
    struct gm_ram *ram;
    unsigned rounds;
    bool wide; /* the writer marks the whole block, not one page */
    struct rnd rnd;
    pthread_t writer;
    unsigned lost; /* rounds whose data was not seen; asserted when the writer has ended */
    _Alignas(64) atomic_uint turn;       /* the round that the writer may do; pairs with its spin */
    _Alignas(64) atomic_uint done;       /* the round that it has done; pairs with the consumer's */
    _Alignas(64) _Atomic(uint64_t) data; /* the page's content: the number of the round */
};

static void wait_for(atomic_uint *counter, unsigned value)
{
    for (unsigned spins = 1; atomic_load_explicit(counter, memory_order_acquire) != value;
         spins++) {
        if (spins % 1024 == 0) {
            sched_yield();
        }
    }
}

static void store_to_cold_lines(struct rnd *rnd)
{
    static _Atomic(uint64_t) cold[COLD_WORDS];

    for (unsigned i = 0; i < COLD_LINES; i++) {
        atomic_store_explicit(&cold[rnd_below(rnd, COLD_WORDS)], i, memory_order_relaxed);
    }
}

static void *write_rounds(void *opaque)
{
    struct litmus *litmus = opaque;
    struct rnd rnd = {~seed};

    for (unsigned round = 1; round <= litmus->rounds; round++) {
        wait_for(&litmus->turn, round);
        store_to_cold_lines(&rnd);
        atomic_store_explicit(&litmus->data, round, memory_order_relaxed);
        gm_ram_dirty_mark(litmus->ram, litmus->wide ? 0 : DIRTY_PAGE * PAGE,
                          litmus->wide ? PAGE_COUNT * PAGE : 1, 1u << CLIENT);
        atomic_store_explicit(&litmus->done, round, memory_order_release);
    }
    return NULL;
}

static void litmus_init(struct litmus *litmus, bool fences, bool wide)
{
    memset(litmus, 0, sizeof(*litmus));
    litmus->rounds = wide ? WIDE_ROUNDS : ROUNDS;
    litmus->wide = wide;
    litmus->rnd.state = seed;
    assert_int_equal(gm_ram_new_unbacked(PAGE_COUNT * PAGE, NULL, &litmus->ram, NULL), 0);
    if (fences) {
        litmus->ram->dirty.barrier.light_fences = true;
    }
    assert_int_equal(pthread_create(&litmus->writer, NULL, write_rounds, litmus), 0);
}

static void litmus_fini(struct litmus *litmus)
{
    pthread_join(litmus->writer, NULL);
    gm_ram_put(litmus->ram);
    assert_int_equal(litmus->lost, 0);
}

static void let_writer_begin(struct litmus *litmus, unsigned round)
{
    uint64_t delay = rnd_below(&litmus->rnd, litmus->wide ? 40000 : 1000);

    atomic_store_explicit(&litmus->turn, round, memory_order_release);
    while (delay > 0) {
        delay--;
        atomic_signal_fence(memory_order_seq_cst); /* so that the loop stays */
    }
}

/* Harvest; what the page holds if it was dirty, else @before. */
static uint64_t harvest_page(struct litmus *litmus, uint64_t before)
{
    uint64_t bytes = PAGE_COUNT * PAGE;
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;

    assert_int_equal(gm_harvest_begin(litmus->ram, CLIENT, 0, bytes, &harvest), 0);
    while (gm_harvest_next(harvest, &first, &last)) {
        if (DIRTY_PAGE >= first && DIRTY_PAGE <= last) {
            before = atomic_load_explicit(&litmus->data, memory_order_relaxed);
        }
    }
    gm_harvest_commit(harvest);
    return before;
}

static void harvest_rounds(bool fences, bool wide)
{
    static struct litmus litmus;
    uint64_t seen = 0;

    litmus_init(&litmus, fences, wide);
    assert_int_equal(gm_ram_dirty_begin(litmus.ram, CLIENT), 0);
    for (unsigned round = 1; round <= litmus.rounds; round++) {
        if (round % 2 != 0) { /* dirty already, so that the writer's mark may skip */
            gm_ram_dirty_mark(litmus.ram, DIRTY_PAGE * PAGE, 1, 1u << CLIENT);
        }
        let_writer_begin(&litmus, round);
        seen = harvest_page(&litmus, seen);
        wait_for(&litmus.done, round);
        seen = harvest_page(&litmus, seen);
        litmus.lost += seen != round;
    }
    litmus_fini(&litmus);
}

static void mark_skipped_beside_a_harvest_loses_no_store(void **state)
{
    /* Row 3 of the table: the mark finds its page dirty while a harvest takes it. */
    (void)state;
    harvest_rounds(false, false);
}

static void mark_skipped_beside_a_harvest_with_fences_loses_no_store(void **state)
{
    /* The same on a kernel without membarrier. */
    (void)state;
    harvest_rounds(true, false);
}

static void mark_of_a_long_range_beside_a_harvest_loses_no_page(void **state)
{
    /* A harvest goes down while the mark of thousands of words is on its way up. */
    (void)state;
    harvest_rounds(false, true);
}

static void begin_rounds(bool fences)
{
    static struct litmus litmus;

    litmus_init(&litmus, fences, false);
    for (unsigned round = 1; round <= litmus.rounds; round++) {
        uint64_t seen;

        if (round % 4 ==
            0) { /* row 2: a recording ends meanwhile, where the page is dirty or not */
            assert_int_equal(gm_ram_dirty_begin(litmus.ram, CLIENT), 0);
            gm_ram_dirty_mark(litmus.ram, DIRTY_PAGE * PAGE, round % 8, 1u << CLIENT);
        }
        let_writer_begin(&litmus, round);
        if (round % 4 == 0) {
            assert_int_equal(gm_ram_dirty_end(litmus.ram, CLIENT), 0);
        }
        assert_int_equal(gm_ram_dirty_begin(litmus.ram, CLIENT), 0);
        seen = atomic_load_explicit(&litmus.data, memory_order_relaxed);
        wait_for(&litmus.done, round);
        seen = harvest_page(&litmus, seen);
        litmus.lost += seen != round;
        assert_int_equal(gm_ram_dirty_end(litmus.ram, CLIENT), 0);
    }
    litmus_fini(&litmus);
}

static void mark_that_misses_a_begin_loses_no_store(void **state)
{
    /* Rows 1 and 2: the mark finds no client, or the set of the recording before. */
    (void)state;
    begin_rounds(false);
}

static void mark_that_misses_a_begin_with_fences_loses_no_store(void **state)
{
    /* The same on a kernel without membarrier. */
    (void)state;
    begin_rounds(true);
}

static int begin_group(void **state)
{
    (void)state;
    seed = rnd_seed("dirty_litmus");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mark_skipped_beside_a_harvest_loses_no_store),
        cmocka_unit_test(mark_skipped_beside_a_harvest_with_fences_loses_no_store),
        cmocka_unit_test(mark_of_a_long_range_beside_a_harvest_loses_no_page),
        cmocka_unit_test(mark_that_misses_a_begin_loses_no_store),
        cmocka_unit_test(mark_that_misses_a_begin_with_fences_loses_no_store),
    };

    return cmocka_run_group_tests(tests, begin_group, NULL);
}
