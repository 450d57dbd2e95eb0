/*
 * prop/test_prop_failures.c - whatever can fail in a commit fails once: each allocation, each
 * listener's prepare and apply, each operation of a backend. Nothing may have changed afterwards, and the same
 * commit has to work when nothing fails.
 */
#include "model/faults.h"
#include "model/random.h"
#include "model/recorder.h"
#include "model/require.h"
#include "model/twin.h"
#include "model/watch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EDITS_MAX 12
#define WATCHES 5
#define BENCHES 8 /* maps that a failure is tried on, each with some rounds of edits */
#define MARKS_MAX 4096

/* A map with everything that can fail. */
struct bench {
    struct faults faults;
    struct gm_allocator allocator;
    struct twin twin;
    struct watch *watches[WATCHES];
    struct recorder *recorders[2];
    struct model_edit edits[EDITS_MAX];
    size_t edit_count;
    uint64_t failures;
};

/* ---- dirty pages, to be compared ---- */

struct marks {
    struct mark {
        int ram;
        unsigned client;
        uint64_t first;
        uint64_t last;
    } items[MARKS_MAX];
    size_t count;
};

/* What each client of each block would harvest; the harvests are given back. */
static void collect_marks(const struct twin *twin, struct marks *marks)
{
    struct gm_harvest *harvest;
    unsigned client;
    int ram;

    marks->count = 0;
    for (ram = 0; ram < TWIN_RAMS; ram++) {
        for (client = 0; client < GM_DIRTY_CLIENTS; client++) {
            struct mark mark = {ram, client, 0, 0};

            if (gm_harvest_begin(twin->rams[ram], client, 0, gm_ram_size(twin->rams[ram]),
                                 &harvest) != 0) {
                continue;
            }
            while (marks->count < MARKS_MAX && gm_harvest_next(harvest, &mark.first, &mark.last)) {
                marks->items[marks->count++] = mark;
            }
            gm_harvest_abort(harvest);
        }
    }
}

static void require_same_marks(const struct twin *twin, const struct marks *before)
{
    static struct marks after;
    size_t i;

    collect_marks(twin, &after);
    REQUIRE(after.count == before->count, "%zu runs of dirty pages, before it were %zu",
            after.count, before->count);
    for (i = 0; i < after.count; i++) {
        const struct mark *a = &after.items[i];
        const struct mark *b = &before->items[i];

        REQUIRE(a->ram == b->ram && a->client == b->client && a->first == b->first &&
                    a->last == b->last,
                "dirty pages of block %d changed", a->ram);
    }
}

/* Somebody writes: the next pages that each commit must not lose. */
static void write_somewhere(struct bench *bench)
{
    struct twin *twin = &bench->twin;
    int ram;

    for (ram = 0; ram < TWIN_RAMS; ram++) {
        uint64_t at = rnd_below(&twin->rnd, gm_ram_size(twin->rams[ram]));

        gm_ram_dirty_mark(twin->rams[ram], at, 1 + rnd_below(&twin->rnd, 20000), UINT32_MAX);
    }
}

/* ---- the bench ---- */

/* 0 to WATCHES - 1, not in the order of registering. */
static int priority_of(int watch)
{
    return watch * 3 % WATCHES;
}

static void begin(struct bench *bench, uint64_t seed)
{
    struct twin_options options = {
        .region_count = 64,
        .space_count = 3,
        .address_bits = 24,
        .steps_max = 2000,
    };
    int i;

    memset(bench, 0, sizeof(*bench));
    bench->allocator = faults_allocator(&bench->faults);
    options.allocator = &bench->allocator;
    twin_init(&bench->twin, seed, &options);
    for (i = 0; i < WATCHES; i++) {
        bench->watches[i] = watch_new(&bench->twin, i < 3 ? i : MODEL_NONE, priority_of(i));
    }
    for (i = 0; i < 2; i++) {
        bench->recorders[i] = recorder_new(&bench->twin, i, &bench->allocator);
    }
    twin_grow(&bench->twin);
    twin_coalesce(&bench->twin);
}

static void end(struct bench *bench)
{
    int i;

    for (i = 0; i < 2; i++) {
        recorder_free(bench->recorders[i]);
    }
    for (i = 0; i < WATCHES; i++) {
        watch_free(bench->watches[i]);
    }
    twin_fini(&bench->twin);
    for (i = 0; i < 4 && faults_live(&bench->faults) > 0; i++) {
        gm_map_quiesce(NULL);
    }
    REQUIRE(faults_live(&bench->faults) == 0, "%lld allocations are left",
            (long long)faults_live(&bench->faults));
}

static int64_t settled_live(struct bench *bench)
{
    gm_map_quiesce(bench->twin.map);
    return faults_live(&bench->faults);
}

/* Edits that a commit takes. */
static void choose_edits(struct bench *bench)
{
    struct twin *twin = &bench->twin;
    size_t wanted = 1 + rnd_below(&twin->rnd, EDITS_MAX);
    struct gm_txn *txn;

    do {
        REQUIRE(gm_txn_begin(twin->map, &txn) == 0, "beginning");
        for (bench->edit_count = 0; bench->edit_count < wanted;) {
            bench->edit_count += twin_edit(twin, txn, &bench->edits[bench->edit_count]);
        }
        gm_txn_abort(txn);
        wanted = 1 + rnd_below(&twin->rnd, EDITS_MAX);
    } while (!twin_would_commit(twin, bench->edits, bench->edit_count));
}

static struct gm_txn *record_edits(struct bench *bench)
{
    struct gm_txn *txn;
    size_t i;

    REQUIRE(gm_txn_begin(bench->twin.map, &txn) == 0, "beginning");
    for (i = 0; i < bench->edit_count; i++) {
        twin_record(&bench->twin, txn, &bench->edits[i]);
    }
    return txn;
}

/* All regions, not only the edited ones, are what the model says. */
static void require_regions(struct bench *bench)
{
    const struct twin *twin = &bench->twin;
    int i;

    for (i = 0; i < twin->options.region_count; i++) {
        const struct model_region *region = &twin->model.regions[i];
        struct gm_region_state state;

        gm_region_state(twin->regions[i], &state);
        REQUIRE(state.size == region->size && state.addr == region->addr &&
                    state.enabled == region->enabled && state.readonly == region->readonly &&
                    state.priority == region->priority && state.romd == region->romd &&
                    (state.log_mask & ~twin->model.log_all_mask) ==
                        (region->log_mask & ~twin->model.log_all_mask) &&
                    twin_region_index(twin, state.parent) == region->parent,
                "region %d changed", i);
    }
}

/* ---- each thing that can fail ---- */

/*
 * Commit bench's edits with @arm(bench, n) for n = 1, 2, ... until nothing fails any more; that last
 * commit is the one that counts.
 */
static void fail_each(struct bench *bench, void (*arm)(struct bench *bench, unsigned nth),
                      bool (*disarm)(struct bench *bench), int error)
{
    static struct marks marks;
    unsigned nth = 0;
    bool failed;
    int result;

    int64_t live = settled_live(bench);

    write_somewhere(bench);
    collect_marks(&bench->twin, &marks);
    do {
        struct gm_txn *txn = record_edits(bench);

        nth++;
        arm(bench, nth);
        result = twin_commit(&bench->twin, txn, bench->edits, bench->edit_count, error);
        failed = disarm(bench);
        REQUIRE(failed || result == 0, "nothing failed, and the commit returned %d", result);
        if (result != 0) {
            bench->failures++;
            require_same_marks(&bench->twin, &marks);
            require_regions(bench);
            if (nth % 32 == 1) { /* a backend may keep its first buffer for logs, and a slot */
                int64_t left = settled_live(bench) - live;

                REQUIRE(left >= 0 && left <= 4, "%lld allocations are left", (long long)left);
            }
        }
    } while (result != 0); /* an audit, which comes last, can do without memory */
    require_regions(bench);
}

static void arm_allocation(struct bench *bench, unsigned nth)
{
    faults_arm(&bench->faults, nth);
}

static bool disarm_allocation(struct bench *bench)
{
    return faults_disarm(&bench->faults);
}

/* Those from some priority on: the first of them that is told anything fails, so each one in turn. */
static void arm_listener(struct bench *bench, unsigned nth)
{
    int i;

    for (i = 0; i < WATCHES; i++) {
        if (nth <= 2 * WATCHES && priority_of(i) >= ((int)nth - 1) / 2) {
            watch_fail(bench->watches[i], -ENOTBLK, nth % 2 == 0);
        }
    }
}

static bool disarm_listener(struct bench *bench)
{
    bool failed = false;
    int i;

    for (i = 0; i < WATCHES; i++) {
        failed = watch_disarm(bench->watches[i]) || failed;
        watch_fail(bench->watches[i], 0, false);
    }
    return failed;
}

static void arm_backend_0(struct bench *bench, unsigned nth)
{
    recorder_fail(bench->recorders[0], nth, -EADDRNOTAVAIL);
}

static void arm_backend_1(struct bench *bench, unsigned nth)
{
    recorder_fail(bench->recorders[1], nth, -EADDRNOTAVAIL);
}

static bool disarm_backends(struct bench *bench)
{
    bool failed = recorder_disarm(bench->recorders[0]) || recorder_disarm(bench->recorders[1]);

    recorder_fail(bench->recorders[0], 0, 0);
    recorder_fail(bench->recorders[1], 0, 0);
    return failed;
}

/* ---- tests ---- */

static uint64_t seed;
static uint64_t rounds;

static uint64_t run_bench(uint64_t bench_seed, void (*arm)(struct bench *bench, unsigned nth),
                          bool (*disarm)(struct bench *bench), int error)
{
    static struct bench bench;
    uint64_t round;

    begin(&bench, bench_seed);
    for (round = 0; round < rounds; round++) {
        snprintf(require_place, sizeof(require_place), "GM_SEED=%llu, bench %llu, round %llu",
                 (unsigned long long)seed, (unsigned long long)(bench_seed - seed),
                 (unsigned long long)round);
        choose_edits(&bench);
        fail_each(&bench, arm, disarm, error);
    }
    end(&bench);
    return bench.failures;
}

static void run(void (*arm)(struct bench *bench, unsigned nth), bool (*disarm)(struct bench *bench),
                int error, const char *what)
{
    uint64_t failures = 0;
    uint64_t i;

    for (i = 0; i < BENCHES; i++) {
        failures += run_bench(seed + i, arm, disarm, error);
    }
    printf("%s: %llu failed commits\n", what, (unsigned long long)failures);
}

static void commit_with_a_failing_allocation_changes_nothing(void **state)
{
    /* Each allocation of a commit, by map, blocks and slots, fails once. */
    (void)state;
    run(arm_allocation, disarm_allocation, -ENOMEM, "allocations");
}

static void commit_with_a_failing_listener_changes_nothing(void **state)
{
    /* Each listener's prepare, and each one's apply, fails once. */
    (void)state;
    run(arm_listener, disarm_listener, -ENOTBLK, "listeners");
}

static void commit_with_a_failing_backend_changes_nothing(void **state)
{
    /* Each operation of either backend fails once, and those before it are undone. */
    (void)state;
    run(arm_backend_0, disarm_backends, -EADDRNOTAVAIL, "the first backend");
    run(arm_backend_1, disarm_backends, -EADDRNOTAVAIL, "the second backend");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_with_a_failing_allocation_changes_nothing),
        cmocka_unit_test(commit_with_a_failing_listener_changes_nothing),
        cmocka_unit_test(commit_with_a_failing_backend_changes_nothing),
    };

    seed = rnd_seed("prop_failures");
    rounds = rnd_setting("GM_ROUNDS", 15);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
