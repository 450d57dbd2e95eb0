/*
 * race/test_dirty_race.c - marks, harvests, begins and ends beside each other.
 *
 * Writers store a growing number into the word that stands for a page and then mark the page. Whoever
 * harvests reads the words of the pages that it got. In the end it must have read what was stored
 * last, or a page was lost. Everything runs twice: with the kernel's barrier, and with fences.
 *
 * Rounds are short, since a later mark of the same page hides that an earlier one was lost.
 */
#include "model/random.h"
#include "ram/ram.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE ((uint64_t)GM_DIRTY_PAGE_BYTES)
#define WRITERS 2u
#define TRACKED 512u /* pages that are written, in groups of neighbours */
#define GROUP 8u     /* pages in a group */
#define STRIDE 8191u /* pages from one group to the next: 523,000 pages, which takes three levels */
#define PAGE_COUNT ((uint64_t)(TRACKED / GROUP) * STRIDE)
#define CLIENT 2u

static uint64_t seed;

static uint64_t page_of(uint64_t tracked)
{
    return tracked / GROUP * STRIDE + tracked % GROUP;
}

/* What the threads of one test share. */
struct arena {
    struct gm_ram *ram;
    pthread_barrier_t gate;
    unsigned rounds;
    unsigned marks; /* of each writer in a round, at most */
    atomic_uint writers_busy;
    _Atomic(uint64_t) data[WRITERS][TRACKED]; /* the guest's memory */
    uint64_t seen[WRITERS][TRACKED];          /* the consumer's copy */
    uint64_t lost;                            /* asserted when all threads have ended */
};

struct writer {
    struct arena *arena;
    unsigned index;
    pthread_t thread;
};

static void arena_init(struct arena *arena, bool fences, unsigned rounds, unsigned marks)
{
    memset(arena, 0, sizeof(*arena));
    assert_int_equal(gm_ram_new_unbacked(PAGE_COUNT * PAGE, NULL, &arena->ram, NULL), 0);
    if (fences) {
        arena->ram->dirty.barrier.light_fences = true;
    }
    arena->rounds = rounds;
    arena->marks = marks;
    assert_int_equal(pthread_barrier_init(&arena->gate, NULL, WRITERS + 1), 0);
}

static void arena_fini(struct arena *arena)
{
    pthread_barrier_destroy(&arena->gate);
    gm_ram_put(arena->ram);
    assert_int_equal(arena->lost, 0);
}

/* Store, then mark: one page mostly, sometimes some of a group, or everything between two groups. */
static void write_some(struct arena *arena, unsigned index, uint64_t value, struct rnd *rnd)
{
    uint64_t tracked = rnd_next(rnd) % TRACKED;
    uint64_t count = rnd_next(rnd) % 4 != 0 ? 1 : 1 + rnd_next(rnd) % GROUP;

    if (rnd_next(rnd) % 2 != 0) {
        tracked %= 2 * GROUP; /* a few pages are hot, so that threads meet */
    }
    if (count > TRACKED - tracked) {
        count = TRACKED - tracked;
    }
    for (uint64_t i = 0; i < count; i++) {
        atomic_store_explicit(&arena->data[index][tracked + i], value, memory_order_relaxed);
    }
    gm_ram_dirty_mark(arena->ram, page_of(tracked) * PAGE,
                      (page_of(tracked + count - 1) - page_of(tracked)) * PAGE + 1, 0xff);
}

static void *write_rounds(void *opaque)
{
    struct writer *writer = opaque;
    struct arena *arena = writer->arena;
    struct rnd rnd = {seed + 77 * (writer->index + 1)};
    uint64_t value = 0;

    for (unsigned round = 0; round < arena->rounds; round++) {
        uint64_t marks = rnd_next(&rnd) % arena->marks + 1;

        pthread_barrier_wait(&arena->gate);
        for (uint64_t i = 0; i < marks; i++) {
            value++;
            write_some(arena, writer->index, value, &rnd);
        }
        atomic_fetch_sub(&arena->writers_busy, 1);
        pthread_barrier_wait(&arena->gate);
    }
    return NULL;
}

static void writers_start(struct arena *arena, struct writer *writers)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.arena = arena, .index = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_rounds, &writers[i]), 0);
    }
}

static void writers_join(struct writer *writers)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
    }
}

static void read_page(const struct arena *arena, uint64_t seen[WRITERS][TRACKED], uint64_t tracked)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        seen[i][tracked] = atomic_load_explicit(&arena->data[i][tracked], memory_order_relaxed);
    }
}

/*
 * Harvest [first, last] and read the pages; keep what was read unless the harvest is aborted. Pages
 * between the groups are dirty too, by marks that span them.
 */
static void harvest_some(struct arena *arena, uint64_t first_page, uint64_t last_page,
                         bool abort_it)
{
    static uint64_t fresh[WRITERS][TRACKED];
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;

    assert_int_equal(gm_harvest_begin(arena->ram, CLIENT, first_page * PAGE,
                                      (last_page - first_page + 1) * PAGE, &harvest),
                     0);
    memcpy(fresh, arena->seen, sizeof(fresh));
    while (gm_harvest_next(harvest, &first, &last)) {
        for (uint64_t page = first; page <= last; page++) {
            if (page % STRIDE < GROUP) {
                read_page(arena, fresh, page / STRIDE * GROUP + page % STRIDE);
            } else {
                page += STRIDE - page % STRIDE - 1;
            }
        }
    }
    if (abort_it) {
        gm_harvest_abort(harvest);
    } else {
        memcpy(arena->seen, fresh, sizeof(fresh));
        gm_harvest_commit(harvest);
    }
}

static void count_lost(struct arena *arena)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        for (uint64_t tracked = 0; tracked < TRACKED; tracked++) {
            arena->lost += arena->seen[i][tracked] != atomic_load(&arena->data[i][tracked]);
        }
    }
}

static void race_harvests(bool fences)
{
    static struct arena arena;
    struct writer writers[WRITERS];
    struct rnd rnd = {seed};
    unsigned harvests = 0;

    arena_init(&arena, fences, 1500, 60);
    assert_int_equal(gm_ram_dirty_begin(arena.ram, CLIENT), 0);
    writers_start(&arena, writers);
    for (unsigned round = 0; round < arena.rounds; round++) {
        atomic_store(&arena.writers_busy, WRITERS);
        pthread_barrier_wait(&arena.gate);
        while (atomic_load(&arena.writers_busy) > 0) {
            uint64_t first_page = rnd_next(&rnd) % PAGE_COUNT;
            bool everything = rnd_next(&rnd) % 2 == 0;

            harvests++;
            harvest_some(&arena, everything ? 0 : first_page % (2 * STRIDE),
                         everything ? PAGE_COUNT - 1 : PAGE_COUNT - 1 - first_page / 2,
                         harvests % 3 == 0);
        }
        pthread_barrier_wait(&arena.gate);
        harvest_some(&arena, 0, PAGE_COUNT - 1, false);
        count_lost(&arena);
    }
    writers_join(writers);
    pageset_audit(atomic_load(&arena.ram->dirty.sets[CLIENT]));
    arena_fini(&arena);
}

static void dirty_marks_beside_harvests_lose_no_page(void **state)
{
    /* Two writers, and a consumer that aborts every third harvest. */
    (void)state;
    race_harvests(false);
}

static void dirty_marks_beside_harvests_with_fences_lose_no_page(void **state)
{
    /* The same on a kernel without membarrier. */
    (void)state;
    race_harvests(true);
}

/* Pages that another recording's end and begin hide must be in the copy made after the begin. */
static void race_begins(bool fences)
{
    static struct arena arena;
    struct writer writers[WRITERS];

    arena_init(&arena, fences, 1500, 40);
    writers_start(&arena, writers);
    for (unsigned round = 0; round < arena.rounds; round++) {
        atomic_store(&arena.writers_busy, WRITERS);
        pthread_barrier_wait(&arena.gate);
        do {
            if (ram_dirty_clients(arena.ram) != 0) {
                assert_int_equal(gm_ram_dirty_end(arena.ram, CLIENT), 0);
            }
            assert_int_equal(gm_ram_dirty_begin(arena.ram, CLIENT), 0);
            for (uint64_t tracked = 0; tracked < TRACKED; tracked++) {
                read_page(&arena, arena.seen, tracked);
            }
        } while (round % 2 == 0 && atomic_load(&arena.writers_busy) > 0);
        pthread_barrier_wait(&arena.gate);
        harvest_some(&arena, 0, PAGE_COUNT - 1, false);
        count_lost(&arena);
    }
    writers_join(writers);
    arena_fini(&arena);
}

static void dirty_begin_beside_writers_loses_no_store(void **state)
{
    /* A store is in the copy that follows a begin, or its mark is in the harvest that follows that. */
    (void)state;
    race_begins(false);
}

static void dirty_begin_beside_writers_with_fences_loses_no_store(void **state)
{
    /* The same on a kernel without membarrier. */
    (void)state;
    race_begins(true);
}

/* One of several threads that harvest the same pages and count how often each was got. */
struct taker {
    struct arena *arena;
    pthread_t thread;
    uint8_t counts[TRACKED * 64];
};

static void *take_rounds(void *opaque)
{
    struct taker *taker = opaque;
    struct arena *arena = taker->arena;

    for (unsigned round = 0; round < arena->rounds; round++) {
        pthread_barrier_wait(&arena->gate);
        for (unsigned i = 0; i < 4; i++) {
            struct gm_harvest *harvest;
            uint64_t first;
            uint64_t last;

            if (gm_harvest_begin(arena->ram, CLIENT, 0,
                                 i < 3 ? (i + 1) * 900 * PAGE : PAGE_COUNT * PAGE, &harvest) != 0) {
                abort();
            }
            while (gm_harvest_next(harvest, &first, &last)) {
                for (uint64_t page = first; page <= last; page++) {
                    taker->counts[page]++;
                }
            }
            gm_harvest_commit(harvest);
        }
        pthread_barrier_wait(&arena->gate);
        pthread_barrier_wait(&arena->gate);
    }
    return NULL;
}

static void harvest_by_two_threads_gets_each_page_once(void **state)
{
    /* Both take overlapping ranges at once, edges within words; together they get every page once. */
    static struct arena arena;
    static struct taker takers[WRITERS];
    enum { PAGES = TRACKED * 64 };

    (void)state;
    arena_init(&arena, false, 400, 0);
    assert_int_equal(gm_ram_dirty_begin(arena.ram, CLIENT), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        takers[i].arena = &arena;
        assert_int_equal(pthread_create(&takers[i].thread, NULL, take_rounds, &takers[i]), 0);
    }
    for (unsigned round = 0; round < arena.rounds; round++) {
        gm_ram_dirty_mark(arena.ram, 0, PAGES * PAGE, 0xff);
        pthread_barrier_wait(&arena.gate);
        pthread_barrier_wait(&arena.gate);
        for (unsigned page = 0; page < PAGES; page++) {
            arena.lost += takers[0].counts[page] + takers[1].counts[page] != 1;
        }
        memset(takers[0].counts, 0, PAGES);
        memset(takers[1].counts, 0, PAGES);
        pthread_barrier_wait(&arena.gate);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(takers[i].thread, NULL);
    }
    arena_fini(&arena);
}

static int begin_group(void **state)
{
    (void)state;
    seed = rnd_seed("dirty_race");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dirty_marks_beside_harvests_lose_no_page),
        cmocka_unit_test(dirty_marks_beside_harvests_with_fences_lose_no_page),
        cmocka_unit_test(dirty_begin_beside_writers_loses_no_store),
        cmocka_unit_test(dirty_begin_beside_writers_with_fences_loses_no_store),
        cmocka_unit_test(harvest_by_two_threads_gets_each_page_once),
    };

    return cmocka_run_group_tests(tests, begin_group, NULL);
}
