/*
 * fuzz/map.c - edits and transactions of a map, beside the slow model of tests/model: views, sharing, listeners' events and
 * slots have to be what it says, whatever fails meanwhile: an allocation, a listener, a backend's operation.
 *
 * The input is what tests/model takes as chance: what the map is like, its regions, and then operations until it ends.
 */
#include "fuzz.h"

#include "model/faults.h"
#include "model/random.h"
#include "model/recorder.h"
#include "model/require.h"
#include "model/twin.h"
#include "model/watch.h"

#include <errno.h>
#include <string.h>

#define WATCHES 4u
#define RECORDERS 2u
#define LEVELS_MAX 4u
#define OPERATIONS_MAX 200u

struct session {
    struct faults faults;
    struct gm_allocator allocator;
    struct twin twin;
    struct watch *watches[WATCHES];
    struct recorder *recorders[RECORDERS];
};

/* A transaction in the making: the edits that count, and where open inner levels began. */
struct draft {
    struct gm_txn *txn;
    struct model_edit edits[TWIN_EDITS_MAX];
    size_t count;
    size_t marks[LEVELS_MAX];
    size_t depth;
};

static unsigned below(struct session *session, unsigned end)
{
    return (unsigned)rnd_below(&session->twin.rnd, end);
}

static void begin(struct session *session)
{
    static const unsigned bits[] = {8, 12, 16, 20, 24, 32, 40, 64};
    struct rnd rnd = {1};
    struct twin_options options = {
        .region_count = 4 + (int)rnd_below(&rnd, 28),
        .space_count = 2 + (unsigned)rnd_below(&rnd, 4),
        .address_bits = bits[rnd_below(&rnd, 8)],
        .steps_max = 400,
        .huge_blocks = rnd_below(&rnd, 4) == 3,
        .max_ranges = (uint32_t)rnd_below(&rnd, 4) == 3 ? 4 + (uint32_t)rnd_below(&rnd, 60) : 0,
    };

    memset(session, 0, sizeof(*session));
    session->allocator = faults_allocator(&session->faults);
    options.allocator = &session->allocator;
    twin_init(&session->twin, rnd_next(&rnd), &options);
    for (unsigned i = 0; i < WATCHES; i++) {
        session->watches[i] = watch_new(&session->twin, i < 2 ? (int)i : MODEL_NONE, (int)i % 3);
    }
    for (unsigned i = 0; i < RECORDERS; i++) {
        session->recorders[i] = recorder_new(&session->twin, (int)i, &session->allocator);
    }
}

static void end(struct session *session)
{
    for (unsigned i = 0; i < RECORDERS; i++) {
        recorder_free(session->recorders[i]);
    }
    for (unsigned i = 0; i < WATCHES; i++) {
        watch_free(session->watches[i]);
    }
    twin_fini(&session->twin);
    for (unsigned i = 0; i < 4 && faults_live(&session->faults) > 0; i++) {
        gm_map_quiesce(NULL);
    }
    REQUIRE(faults_live(&session->faults) == 0, "%lld allocations are left",
            (long long)faults_live(&session->faults));
}

static void nest(struct draft *draft)
{
    if (draft->depth < LEVELS_MAX) {
        REQUIRE(gm_txn_nest(draft->txn) == 0, "nesting");
        draft->marks[draft->depth++] = draft->count;
    }
}

static void unnest(struct draft *draft, bool keeps)
{
    if (draft->depth == 0) {
        return;
    }
    draft->depth--;
    if (keeps) {
        REQUIRE(gm_txn_commit(draft->txn, NULL) == 0, "ending an inner level");
    } else {
        gm_txn_abort(draft->txn);
        draft->count = draft->marks[draft->depth];
    }
}

static void draft_edits(struct session *session, struct draft *draft)
{
    unsigned steps = 1 + below(session, 24);

    for (unsigned i = 0; i < steps; i++) {
        switch (below(session, 16)) {
        case 13:
            nest(draft);
            break;
        case 14:
            unnest(draft, true);
            break;
        case 15:
            unnest(draft, false);
            break;
        default:
            draft->count += twin_edit(&session->twin, draft->txn, &draft->edits[draft->count]);
            break;
        }
    }
    while (draft->depth > 0) {
        unnest(draft, true);
    }
}

/* Somebody is told to fail, in a commit that else would work. Return: with what; 0: nobody is. */
static int arm(struct session *session)
{
    unsigned who = below(session, 8);
    unsigned nth = 1 + below(session, who == 5 ? 64 : 6);

    switch (who) {
    case 5:
        faults_arm(&session->faults, nth);
        return -ENOMEM;
    case 6:
        recorder_fail(session->recorders[nth % RECORDERS], 1 + nth / RECORDERS, -EADDRNOTAVAIL);
        return -EADDRNOTAVAIL;
    case 7:
        watch_fail(session->watches[nth % WATCHES], -ENOTBLK, nth / WATCHES == 0);
        return -ENOTBLK;
    default:
        return 0;
    }
}

/* Return: whether anybody has. */
static bool disarm(struct session *session)
{
    bool has_failed = faults_disarm(&session->faults);

    faults_arm(&session->faults, 0);
    for (unsigned i = 0; i < WATCHES; i++) {
        has_failed = watch_disarm(session->watches[i]) || has_failed;
        watch_fail(session->watches[i], 0, false);
    }
    for (unsigned i = 0; i < RECORDERS; i++) {
        has_failed = recorder_disarm(session->recorders[i]) || has_failed;
        recorder_fail(session->recorders[i], 0, 0);
    }
    return has_failed;
}

static void transact(struct session *session)
{
    struct draft draft = {.depth = 0};
    int may_fail = 0, result;
    bool has_failed;

    REQUIRE(gm_txn_begin(session->twin.map, &draft.txn) == 0, "beginning");
    draft_edits(session, &draft);
    if (twin_would_commit(&session->twin, draft.edits, draft.count)) {
        may_fail = arm(session);
    }
    result = twin_commit(&session->twin, draft.txn, draft.edits, draft.count, may_fail);
    has_failed = disarm(session);
    REQUIRE(has_failed || may_fail == 0 || result != may_fail,
            "nobody has failed, and the commit returned %d", result);
    /* An audit can do without memory; nobody else can hide that something failed. */
    REQUIRE(!has_failed || result == may_fail || may_fail == -ENOMEM,
            "somebody has failed, and the commit returned %d", result);
}

static void abort_transaction(struct session *session)
{
    struct draft draft = {.depth = 0};

    REQUIRE(gm_txn_begin(session->twin.map, &draft.txn) == 0, "beginning");
    draft_edits(session, &draft);
    gm_txn_abort(draft.txn);
    session->twin.eventfds_added = 0;
    session->twin.coalesced_added = 0;
}

/* A listener, or a backend, leaves, and another comes. */
static void change_listener(struct session *session)
{
    unsigned at = below(session, WATCHES + RECORDERS);
    int space = (int)below(session, session->twin.options.space_count + 1);

    if (at < WATCHES) {
        space = space == (int)session->twin.options.space_count ? MODEL_NONE : space;
        watch_free(session->watches[at]);
        session->watches[at] = watch_new(&session->twin, space, (int)below(session, 7) - 3);
    } else {
        at -= WATCHES;
        recorder_free(session->recorders[at]);
        session->recorders[at] = recorder_new(&session->twin, (int)at, &session->allocator);
    }
}

static void operate(struct session *session)
{
    switch (below(session, 16)) {
    case 11:
        abort_transaction(session);
        break;
    case 12:
        change_listener(session);
        break;
    case 13:
        twin_replace_region(&session->twin);
        break;
    case 14:
    case 15:
        twin_change_spaces(&session->twin);
        break;
    default:
        transact(session);
        break;
    }
}

int fuzz_map(const uint8_t *data, size_t size)
{
    static struct session session;

    fuzz_begin(data, size);
    begin(&session);
    twin_grow(&session.twin);
    for (unsigned i = 0; i < OPERATIONS_MAX && rnd_input.at != rnd_input.end; i++) {
        operate(&session);
    }
    fuzz_end();
    end(&session);
    return 0;
}
