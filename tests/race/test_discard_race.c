/*
 * race/test_discard_race.c - discards, preallocation and resizes beside accesses of software vCPUs
 * and of the VMM, and beside commits that show and hide what goes. Threads run for a number of
 * rounds, not for a time.
 */
#include "model/random.h"
#include "model/require.h"
#include "unit/machine.h"

#include <guestmem/soft.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#define PAGE ((uint64_t)4096)
#define PAGES 32u
#define GROWN_PAGES 64u
#define WINDOW ((uint64_t)1 << 20) /* where the same block is seen again, now and then */
#define ROUNDS 120u
#define WRITERS 3u /* two vCPUs, and the VMM's own accesses */
#define CLIENT 0u

struct board {
    struct machine machine;
    struct gm_soft *soft;
    struct gm_slots *slots;
    struct gm_ram *ram;
    struct gm_region *base;
    struct gm_region *window;
    atomic_uint round; /* of commits; those who discard and preallocate make some calls in each */
    atomic_bool is_over;
};

struct writer {
    struct board *board;
    unsigned index;
    pthread_t thread;
    struct gm_soft_vcpu *vcpu; /* NULL: by gm_load() and gm_store() */
    struct rnd rnd;
    uint64_t written[PAGES]; /* the last number in each page's word of ours */
    atomic_ullong wiped;     /* how often one was found to be gone */
};

static enum gm_mmu_outcome mmu_access(struct writer *writer, uint64_t gpa, bool is_store,
                                      uint64_t *value)
{
    struct gm_mmu *mmu = gm_soft_vcpu_mmu(writer->vcpu);
    enum gm_mmu_outcome outcome = gm_mmu_enter(mmu);

    if (outcome == GM_MMU_OK) {
        outcome = is_store ? gm_mmu_store(mmu, gpa, 8, *value) : gm_mmu_load(mmu, gpa, 8, value);
    }
    if (outcome == GM_MMU_OK) {
        gm_mmu_leave(mmu);
    }
    return outcome;
}

/* False: nothing is there now (the window is closed). */
static bool access_word(struct writer *writer, uint64_t gpa, bool is_store, uint64_t *value)
{
    struct gm_space *space = writer->board->machine.space;
    enum gm_mmu_outcome outcome;

    if (writer->vcpu == NULL) {
        return (is_store
                    ? gm_store(space, gpa, 8, GM_ORDER_LITTLE, *value, no_attrs)
                    : gm_load(space, gpa, 8, GM_ORDER_LITTLE, value, no_attrs)) == GM_ACCESS_OK;
    }
    do {
        outcome = mmu_access(writer, gpa, is_store, value);
    } while (outcome == GM_MMU_RESTART || outcome == GM_MMU_KICKED);
    REQUIRE(outcome == GM_MMU_OK || outcome == GM_MMU_MMIO, "outcome %d", (int)outcome);
    return outcome == GM_MMU_OK;
}

/* Each writer has a word in each page. It holds the number written last, or zero since a discard. */
static void *write_on(void *opaque)
{
    struct writer *writer = opaque;
    uint64_t number = 0;

    while (!atomic_load(&writer->board->is_over)) {
        unsigned page = (unsigned)rnd_below(&writer->rnd, PAGES);
        uint64_t offset = page * PAGE + 64u * (writer->index + 1);
        uint64_t gpa = rnd_one_in(&writer->rnd, 3) ? WINDOW + offset : offset;
        uint64_t value = 0;

        if (!access_word(writer, gpa, false, &value)) {
            REQUIRE(gpa >= WINDOW, "page %u is gone", page);
            continue;
        }
        REQUIRE(value == writer->written[page] || value == 0,
                "writer %u, page %u: %" PRIu64 " after %" PRIu64, writer->index, page, value,
                writer->written[page]);
        if (value != writer->written[page]) {
            atomic_fetch_add_explicit(&writer->wiped, 1, memory_order_relaxed);
            writer->written[page] = 0; /* from here on it stays so, until we write */
        }
        number++;
        if (access_word(writer, gpa, true, &number)) {
            writer->written[page] = number;
        }
    }
    return NULL;
}

/* After each fourth call wait for the next round, so that nobody else is kept out for good. */
static bool goes_on(struct board *board, unsigned calls)
{
    unsigned round = atomic_load(&board->round);

    while (calls % 4 == 0 && !atomic_load(&board->is_over) && atomic_load(&board->round) == round) {
        sched_yield();
    }
    return !atomic_load(&board->is_over);
}

static void *discard_on(void *opaque)
{
    struct board *board = opaque;
    struct rnd rnd = {.state = 5};

    for (unsigned calls = 1; goes_on(board, calls); calls++) {
        uint64_t page = rnd_below(&rnd, PAGES);
        uint64_t count = 1 + rnd_below(&rnd, PAGES - page);

        REQUIRE(gm_ram_discard(board->ram, page * PAGE, count * PAGE, NULL) == 0, "discarding");
    }
    return NULL;
}

static void *prealloc_on(void *opaque)
{
    struct board *board = opaque;
    struct rnd rnd = {.state = 6};

    for (unsigned calls = 1; goes_on(board, calls); calls++) {
        struct gm_ram_prealloc_options options = {
            .size = sizeof(options),
            .offset_bytes = rnd_below(&rnd, PAGES) * PAGE,
            .size_bytes = PAGE,
            .thread_count = 2,
        };
        int rc = gm_ram_prealloc(board->ram, &options, NULL);

        REQUIRE(rc == 0 || rc == -EBUSY, "preallocating: %d", rc);
    }
    return NULL;
}

static void edit(struct board *board, struct gm_region *region, bool enabled, uint64_t size_bytes)
{
    struct gm_txn *txn;

    REQUIRE(gm_txn_begin(board->machine.map, &txn) == 0, "begin");
    REQUIRE(gm_txn_set_enabled(txn, region, enabled) == 0, "enabled");
    REQUIRE(gm_txn_set_size(txn, region, size_bytes) == 0, "size");
    REQUIRE(gm_txn_commit(txn, NULL) == 0, "commit");
}

/* Show the block a second time, or no more; let it grow and shrink. A prealloc may stand in the way of a resize. */
static void commit_once(struct board *board, unsigned round)
{
    uint64_t shown = gm_ram_size(board->ram);
    uint64_t wanted = round % 8 < 4 ? GROWN_PAGES * PAGE : PAGES * PAGE;
    int rc;

    edit(board, board->window, round % 2 == 0, PAGES * PAGE);
    if (round % 4 != 0) {
        return;
    }
    if (wanted < shown) {
        edit(board, board->base, true, wanted);
    }
    do {
        rc = gm_ram_resize(board->ram, wanted, NULL);
    } while (rc == -EBUSY);
    REQUIRE(rc == 0, "resizing: %d", rc);
    edit(board, board->base, true, wanted);
}

static void board_init(struct board *board, enum gm_ram_kind kind)
{
    const struct gm_soft_options soft_options = {.size = sizeof(soft_options)};
    const struct gm_ram_options options = {
        .size = sizeof(options),
        .kind = kind,
        .size_bytes = PAGES * PAGE,
        .max_size_bytes = GROWN_PAGES * PAGE,
        .name = "race",
    };

    memset(board, 0, sizeof(*board));
    atomic_init(&board->is_over, false);
    atomic_init(&board->round, 0);
    board->machine = machine_new();
    assert_int_equal(gm_ram_new(&options, &board->ram, NULL), 0);
    board->base = add_memory(&board->machine, GM_REGION_RAM, 0, PAGES * PAGE, board->ram, 0);
    board->window = add_memory(&board->machine, GM_REGION_RAM, WINDOW, PAGES * PAGE, board->ram, 0);
    assert_int_equal(gm_ram_dirty_begin(board->ram, CLIENT), 0);
    assert_int_equal(gm_soft_open(&soft_options, &board->soft, NULL), 0);
    assert_int_equal(gm_soft_attach(board->soft, board->machine.space, 0, &board->slots, NULL), 0);
}

static void board_fini(struct board *board)
{
    assert_int_equal(gm_slots_detach(board->slots, NULL), 0);
    assert_int_equal(gm_soft_close(board->soft), 0);
    machine_free(&board->machine);
    assert_int_equal(gm_ram_dirty_end(board->ram, CLIENT), 0);
    gm_ram_put(board->ram);
}

/* Has each writer met a discard? Or it would have tested nothing. */
static bool all_are_wiped(const struct writer *writers)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        if (atomic_load_explicit(&writers[i].wiped, memory_order_relaxed) == 0) {
            return false;
        }
    }
    return true;
}

static void run(enum gm_ram_kind kind)
{
    static struct board board;
    static struct writer writers[WRITERS];
    pthread_t discarder;
    pthread_t preallocator;

    board_init(&board, kind);
    memset(writers, 0, sizeof(writers));
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].board = &board;
        writers[i].index = i;
        writers[i].rnd.state = i + 1;
        if (i < WRITERS - 1) {
            assert_int_equal(gm_soft_vcpu_new(board.soft, i, &writers[i].vcpu), 0);
        }
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_on, &writers[i]), 0);
    }
    assert_int_equal(pthread_create(&discarder, NULL, discard_on, &board), 0);
    assert_int_equal(pthread_create(&preallocator, NULL, prealloc_on, &board), 0);
    /* On a busy machine it takes longer until each has had its turn. */
    for (unsigned round = 0; round < ROUNDS || (!all_are_wiped(writers) && round < ROUNDS * 100);
         round++) {
        commit_once(&board, round);
        atomic_store(&board.round, round + 1);
        sched_yield();
    }
    atomic_store(&board.is_over, true);
    assert_int_equal(pthread_join(discarder, NULL), 0);
    assert_int_equal(pthread_join(preallocator, NULL), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        gm_soft_vcpu_free(writers[i].vcpu);
    }
    assert_true(all_are_wiped(writers));
    board_fini(&board);
}

static void discard_beside_everything_of_private_memory(void **state)
{
    /* What a writer finds is what it wrote last, or zero; never an older number. */
    (void)state;
    run(GM_RAM_ANON);
}

static void discard_beside_everything_of_a_memfd(void **state)
{
    /* The same of memory whose pages are a file's. */
    (void)state;
    run(GM_RAM_MEMFD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discard_beside_everything_of_private_memory),
        cmocka_unit_test(discard_beside_everything_of_a_memfd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
