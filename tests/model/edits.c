/*
 * model/edits.c - random trees, edited at random in transactions of every shape; after each commit
 * views, sharing, listeners and slots have to be what the model says.
 */
#include "model/edits.h"

#include "model/recorder.h"
#include "model/require.h"
#include "model/twin.h"
#include "model/watch.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define WATCHES_MAX 12

struct session {
    struct twin twin;
    struct watch *watches[WATCHES_MAX];
    size_t watch_count;
    struct recorder *recorders[2];
    size_t recorder_count;
};

/* One transaction in the making: the edits that count, and where open inner levels began. */
struct draft {
    struct gm_txn *txn;
    struct model_edit edits[TWIN_EDITS_MAX];
    size_t count;
    size_t marks[4];
    size_t depth;
};

static void nest(struct draft *draft)
{
    REQUIRE(gm_txn_nest(draft->txn) == 0, "nesting");
    draft->marks[draft->depth++] = draft->count;
}

static void unnest(struct draft *draft, bool keeps)
{
    draft->depth--;
    if (keeps) {
        REQUIRE(gm_txn_commit(draft->txn, NULL) == 0, "ending an inner level");
    } else {
        gm_txn_abort(draft->txn);
        draft->count = draft->marks[draft->depth];
    }
}

static void add_edits(struct twin *twin, struct draft *draft, size_t wanted)
{
    size_t tries;

    for (tries = 0; tries < 4 * wanted && draft->count < wanted; tries++) {
        if (draft->depth < 4 && rnd_one_in(&twin->rnd, 12)) {
            nest(draft);
        }
        if (twin_edit(twin, draft->txn, &draft->edits[draft->count])) {
            draft->count++;
        }
        if (draft->depth > 0 && rnd_one_in(&twin->rnd, 4)) {
            unnest(draft, rnd_one_in(&twin->rnd, 2));
        }
    }
    while (draft->depth > 0) {
        unnest(draft, true);
    }
}

/* Mostly one edit; sometimes a few, rarely many. */
static size_t edits_wanted(struct rnd *rnd)
{
    switch (rnd_below(rnd, 8)) {
    case 0:
        return 1 + rnd_below(rnd, 24);
    case 1:
    case 2:
    case 3:
        return 1 + rnd_below(rnd, 8);
    default:
        return 1;
    }
}

/* Ask a listener or a backend to fail. Returns the errno. */
static int arm(struct session *session)
{
    struct rnd *rnd = &session->twin.rnd;

    if (session->recorder_count > 0 && rnd_one_in(rnd, 3)) {
        recorder_fail(session->recorders[rnd_below(rnd, session->recorder_count)],
                      1 + (unsigned)rnd_below(rnd, 4), -EADDRNOTAVAIL);
        return -EADDRNOTAVAIL;
    }
    watch_fail(session->watches[rnd_below(rnd, session->watch_count)], -ENOTBLK,
               rnd_one_in(rnd, 2));
    return -ENOTBLK;
}

static bool disarm(struct session *session)
{
    bool failed = false;
    size_t i;

    for (i = 0; i < session->watch_count; i++) {
        failed = watch_disarm(session->watches[i]) || failed;
        watch_fail(session->watches[i], 0, false);
    }
    for (i = 0; i < session->recorder_count; i++) {
        failed = recorder_disarm(session->recorders[i]) || failed;
        recorder_fail(session->recorders[i], 0, 0);
    }
    return failed;
}

static void transaction(struct session *session)
{
    struct twin *twin = &session->twin;
    struct draft draft = {.depth = 0};
    int may_fail = 0;
    int result;
    bool failed;

    REQUIRE(gm_txn_begin(twin->map, &draft.txn) == 0, "beginning");
    add_edits(twin, &draft, edits_wanted(&twin->rnd));
    if (rnd_one_in(&twin->rnd, 40)) {
        gm_txn_abort(draft.txn);
        return;
    }
    if (rnd_one_in(&twin->rnd, 25)) {
        may_fail = arm(session);
    }
    result = twin_commit(twin, draft.txn, draft.edits, draft.count, may_fail);
    failed = disarm(session);
    REQUIRE(failed == (may_fail != 0 && result == may_fail),
            "somebody failed: %d, and the commit returned %d", failed, result);
}

static void add_watch(struct session *session, int space)
{
    int32_t priority = (int32_t)rnd_below(&session->twin.rnd, 7) - 3;

    session->watches[session->watch_count++] = watch_new(&session->twin, space, priority);
}

static void begin_session(struct session *session, uint64_t seed,
                          const struct twin_options *options)
{
    unsigned i;

    memset(session, 0, sizeof(*session));
    twin_init(&session->twin, seed, options);
    for (i = 0; i < options->space_count; i++) {
        add_watch(session, (int)i);
        if (i < 2) {
            session->recorders[session->recorder_count++] =
                recorder_new(&session->twin, (int)i, options->allocator);
        }
    }
    add_watch(session, MODEL_NONE);
    add_watch(session, 0);
}

static void end_session(struct session *session)
{
    size_t i;

    for (i = 0; i < session->recorder_count; i++) {
        recorder_free(session->recorders[i]);
    }
    for (i = 0; i < session->watch_count; i++) {
        watch_free(session->watches[i]);
    }
    twin_fini(&session->twin);
}

/* A listener leaves, and another comes. */
static void change_watch(struct session *session)
{
    struct rnd *rnd = &session->twin.rnd;
    size_t at = rnd_below(rnd, session->watch_count);
    int space =
        rnd_one_in(rnd, 3) ? MODEL_NONE : (int)rnd_below(rnd, session->twin.options.space_count);

    watch_free(session->watches[at]);
    session->watches[at] = watch_new(&session->twin, space, (int32_t)rnd_below(rnd, 7) - 3);
}

static struct twin_options random_options(struct rnd *rnd)
{
    static const unsigned bits[] = {8, 12, 16, 20, 24, 32, 40, 64};
    struct twin_options options = {
        .region_count = 64,
        .space_count = 2 + (unsigned)rnd_below(rnd, 4),
        .address_bits = bits[rnd_below(rnd, 8)],
        .steps_max = 800,
        .huge_blocks = rnd_one_in(rnd, 4),
    };

    if (rnd_one_in(rnd, 5)) {
        options.region_count = 64 + (int)rnd_below(rnd, 437);
        options.steps_max = 3000;
    }
    if (rnd_one_in(rnd, 4)) {
        options.max_ranges = 10 + (uint32_t)rnd_below(rnd, 60);
    }
    return options;
}

static void run_session(uint64_t seed, uint64_t edit_count, struct twin *sum)
{
    struct rnd rnd = {seed};
    struct twin_options options = random_options(&rnd);
    struct session session;
    uint64_t transactions;

    begin_session(&session, rnd_next(&rnd), &options);
    twin_grow(&session.twin);
    twin_coalesce(&session.twin);
    for (transactions = 0; session.twin.edit_count < edit_count; transactions++) {
        snprintf(require_place, sizeof(require_place),
                 "session GM_SEED=%llu, %d regions, %u bits, transaction %llu",
                 (unsigned long long)seed, options.region_count, options.address_bits,
                 (unsigned long long)transactions);
        transaction(&session);
        if (rnd_one_in(&session.twin.rnd, 60)) {
            twin_change_spaces(&session.twin);
        }
        if (rnd_one_in(&session.twin.rnd, 200)) {
            change_watch(&session);
        }
        if (rnd_one_in(&session.twin.rnd, 300)) {
            twin_replace_region(&session.twin);
        }
        REQUIRE(transactions < 40 * edit_count + 1000, "nothing can be edited");
    }
    sum->edit_count += session.twin.edit_count;
    sum->commit_count += session.twin.commit_count;
    sum->failed_count += session.twin.failed_count;
    sum->heavy_count += session.twin.heavy_count;
    sum->coalesced_count += session.twin.coalesced_count;
    sum->deep_count += session.twin.deep_count;
    sum->view_count += session.twin.view_count;
    sum->range_count += session.twin.range_count;
    if (session.twin.range_max > sum->range_max) {
        sum->range_max = session.twin.range_max;
    }
    end_session(&session);
}

void edits_run(uint64_t seed, uint64_t edit_count)
{
    struct twin sum = {0};
    struct rnd rnd = {seed};
    uint64_t session_seed = seed; /* so that a session that fails can be run as the first */
    clock_t start = clock();

    while (sum.edit_count < edit_count) {
        uint64_t left = edit_count - sum.edit_count;

        run_session(session_seed, left < 1000 ? left : 1000, &sum);
        session_seed = rnd_next(&rnd);
    }
    printf("%llu views of %.1f ranges, at most %llu; %llu maps with five aliases on one way\n",
           (unsigned long long)sum.view_count,
           (double)sum.range_count / (double)(sum.view_count + 1),
           (unsigned long long)sum.range_max, (unsigned long long)sum.deep_count);
    printf("%llu coalesced ranges known to listeners, commit after commit\n",
           (unsigned long long)sum.coalesced_count);
    printf("%llu edits in %llu commits, %llu of which failed; %llu too heavy; %.1f s\n",
           (unsigned long long)sum.edit_count, (unsigned long long)sum.commit_count,
           (unsigned long long)sum.failed_count, (unsigned long long)sum.heavy_count,
           (double)(clock() - start) / CLOCKS_PER_SEC);
}
