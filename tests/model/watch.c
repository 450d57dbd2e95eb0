/* model/watch.c - rebuilding views from events. */
#include "model/watch.h"

#include "model/mirror.h"
#include "model/require.h"

#include <string.h>

#define MIRRORS_MAX (MODEL_SPACES_MAX + 1)

enum watch_state { IDLE, PREPARED, BEGUN, APPLIED, SETTLED };

struct watch {
    struct twin *twin;
    struct gm_listener *handle;
    int space;
    int32_t priority;
    unsigned registered; /* the larger, the later */
    enum watch_state state;
    bool logs_globally;
    bool logged_globally_before; /* as of begin */
    struct mirror mirrors[MIRRORS_MAX];
    struct mirror before[MIRRORS_MAX]; /* as of begin: where abort leads back to */
    struct gm_change *promised;        /* what prepare was shown, of all spaces */
    size_t promised_count;
    size_t promised_capacity;
    size_t told_count;
    int fail_with;
    bool fail_in_apply;
    bool has_failed;
};

/* What was called, over all listeners, since watch_reset_order(). */
enum call { PREPARE, BEGIN, CHANGE, APPLY, UNDO, SETTLE, COMMIT, ABORT };

struct note {
    const struct watch *watch;
    enum call call;
    struct gm_space *space; /* PREPARE, CHANGE */
    size_t change;          /* CHANGE: number within its space and commit, as the listener counts */
    enum gm_change_kind kind;
};

static struct note *notes;
static size_t note_count;
static size_t note_capacity;

static void note(const struct watch *watch, enum call call, struct gm_space *space, size_t change,
                 enum gm_change_kind kind)
{
    if (note_count == note_capacity) {
        note_capacity = note_capacity * 2 + 256;
        notes = realloc(notes, note_capacity * sizeof(*notes));
    }
    notes[note_count++] = (struct note){watch, call, space, change, kind};
}

/* ---- mirrors ---- */

/* The mirror of a space; one that is empty is used for a space not seen before. */
static struct mirror *mirror_of(struct watch *watch, struct gm_space *space)
{
    struct mirror *free_one = NULL;
    unsigned i;

    for (i = 0; i < MIRRORS_MAX; i++) {
        struct mirror *mirror = &watch->mirrors[i];

        if (mirror->space == space) {
            return mirror;
        }
        if (mirror_is_empty(mirror)) {
            free_one = mirror;
        }
    }
    REQUIRE(free_one != NULL, "too many spaces are known");
    free_one->space = space;
    return free_one;
}

/* ---- the callbacks ---- */

static void enter(struct watch *watch, enum call call, enum watch_state wanted,
                  enum watch_state next)
{
    note(watch, call, NULL, 0, 0);
    REQUIRE(watch->state == wanted, "call %d in state %d", (int)call, (int)watch->state);
    watch->state = next;
}

/* What one section is told comes in this order, in either pass. */
static int rank_of(enum gm_change_kind kind)
{
    static const int ranks[] = {
        [GM_CHANGE_EVENTFD_DEL] = 0, [GM_CHANGE_COALESCED_DEL] = 1, [GM_CHANGE_DEL] = 2,
        [GM_CHANGE_NOP] = 0,         [GM_CHANGE_ADD] = 0,           [GM_CHANGE_COALESCED_ADD] = 1,
        [GM_CHANGE_EVENTFD_ADD] = 2, [GM_CHANGE_LOG_START] = 3,     [GM_CHANGE_LOG_STOP] = 4,
    };

    return ranks[kind];
}

static bool is_first_pass(const struct gm_change *change)
{
    return change->kind == GM_CHANGE_DEL || change->kind == GM_CHANGE_EVENTFD_DEL ||
           change->kind == GM_CHANGE_COALESCED_DEL;
}

/* One pass of dels, ascending; then one of all else, ascending. */
static void check_promise(const struct gm_space *space, const struct gm_change *changes,
                          size_t count)
{
    bool second = false;
    uint64_t gpa = 0;
    int rank = 0;
    size_t i;

    REQUIRE(count > 0, "prepare without changes");
    for (i = 0; i < count; i++) {
        const struct gm_change *change = &changes[i];
        bool is_del = is_first_pass(change);

        REQUIRE(change->section.space == space, "a change of another space");
        if (!is_del && !second) {
            second = true;
            gpa = 0;
            rank = 0;
        }
        REQUIRE(is_del == !second, "change %zu is in the wrong pass", i);
        REQUIRE(change->section.gpa >= gpa, "change %zu does not ascend", i);
        REQUIRE(change->section.gpa > gpa || rank_of(change->kind) >= rank,
                "change %zu of its section comes too late", i);
        gpa = change->section.gpa;
        rank = rank_of(change->kind);
    }
}

static int on_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                      size_t count, struct gm_diag *diag)
{
    struct watch *watch = opaque;

    (void)diag;
    note(watch, PREPARE, space, 0, 0);
    REQUIRE(watch->state == IDLE || watch->state == PREPARED, "prepare in state %d",
            (int)watch->state);
    check_promise(space, changes, count);
    if (watch->state == IDLE) {
        watch->promised_count = 0;
        watch->told_count = 0;
    }
    watch->state = PREPARED;
    if (watch->fail_with != 0 && !watch->fail_in_apply) {
        int error = watch->fail_with;

        watch->fail_with = 0;
        watch->has_failed = true;
        /* If it was the first space's prepare that fails there will be no abort. */
        watch->state = watch->promised_count > 0 ? PREPARED : IDLE;
        if (diag != NULL) {
            diag->code = error;
        }
        return error;
    }
    if (watch->promised_count + count > watch->promised_capacity) {
        watch->promised_capacity = (watch->promised_count + count) * 2;
        watch->promised =
            realloc(watch->promised, watch->promised_capacity * sizeof(*watch->promised));
    }
    memcpy(&watch->promised[watch->promised_count], changes, count * sizeof(*changes));
    watch->promised_count += count;
    return 0;
}

/* What prepare was shown space by space is told in two passes over all spaces. */
static void order_by_pass(struct watch *watch)
{
    struct gm_change *ordered = malloc((watch->promised_count + 1) * sizeof(*ordered));
    size_t count = 0;
    unsigned pass;
    size_t i;

    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < watch->promised_count; i++) {
            if (is_first_pass(&watch->promised[i]) == (pass == 0)) {
                ordered[count] = watch->promised[i];
                count++;
            }
        }
    }
    if (count > 0) {
        memcpy(watch->promised, ordered, count * sizeof(*ordered));
    }
    free(ordered);
}

static void on_begin(void *opaque)
{
    struct watch *watch = opaque;
    unsigned i;

    if (watch->state == IDLE) { /* only where global logging begins or ends */
        watch->promised_count = 0;
        watch->told_count = 0;
        watch->state = PREPARED;
    }
    enter(watch, BEGIN, PREPARED, BEGUN);
    order_by_pass(watch);
    watch->logged_globally_before = watch->logs_globally;
    for (i = 0; i < MIRRORS_MAX; i++) {
        mirror_copy(&watch->before[i], &watch->mirrors[i]);
    }
}

static void on_commit(void *opaque)
{
    struct watch *watch = opaque;

    enter(watch, COMMIT, SETTLED, IDLE);
    REQUIRE(watch->promised_count > 0 || watch->logged_globally_before != watch->logs_globally,
            "a commit that tells nothing");
}

static void on_abort(void *opaque)
{
    struct watch *watch = opaque;
    unsigned i;

    note(watch, ABORT, NULL, 0, 0);
    REQUIRE(watch->state == PREPARED || watch->state == BEGUN, "abort in state %d",
            (int)watch->state);
    if (watch->state == BEGUN) {
        for (i = 0; i < MIRRORS_MAX; i++) {
            mirror_copy(&watch->mirrors[i], &watch->before[i]);
        }
        watch->logs_globally = watch->logged_globally_before;
    }
    watch->state = IDLE;
}

static int on_apply(void *opaque, struct gm_diag *diag)
{
    struct watch *watch = opaque;

    enter(watch, APPLY, BEGUN, APPLIED);
    REQUIRE(watch->told_count == watch->promised_count, "%zu of %zu changes were told",
            watch->told_count, watch->promised_count);
    if (watch->fail_with != 0 && watch->fail_in_apply) {
        int error = watch->fail_with;

        watch->fail_with = 0;
        watch->has_failed = true; /* undo follows all the same */
        if (diag != NULL) {
            diag->code = error;
        }
        return error;
    }
    return 0;
}

static int on_undo(void *opaque)
{
    enter(opaque, UNDO, APPLIED, BEGUN);
    return 0;
}

static void on_settle(void *opaque)
{
    enter(opaque, SETTLE, APPLIED, SETTLED);
}

/* The next change that was promised has to be this one. */
static struct mirror *told(struct watch *watch, enum gm_change_kind kind,
                           const struct gm_section *section)
{
    const struct gm_change *change;

    REQUIRE(watch->state == BEGUN, "a change in state %d", (int)watch->state);
    REQUIRE(watch->told_count < watch->promised_count, "more changes than promised");
    change = &watch->promised[watch->told_count];
    REQUIRE(change->kind == kind && mirror_same_section(&change->section, section) &&
                change->section.log_mask == section->log_mask,
            "change %zu is of kind %d, not %d as promised", watch->told_count, (int)kind,
            (int)change->kind);
    note(watch, CHANGE, section->space, watch->told_count, kind);
    watch->told_count++;
    REQUIRE(watch->space == MODEL_NONE || section->space == watch->twin->spaces[watch->space],
            "a change of another's space");
    return mirror_of(watch, section->space);
}

/* What told() has just found. */
static const struct gm_change *promise(const struct watch *watch)
{
    return &watch->promised[watch->told_count - 1];
}

static void on_del(void *opaque, const struct gm_section *section)
{
    mirror_del(told(opaque, GM_CHANGE_DEL, section), section);
}

static void on_nop(void *opaque, const struct gm_section *section)
{
    mirror_known(told(opaque, GM_CHANGE_NOP, section), section, "nop");
}

static void on_add(void *opaque, const struct gm_section *section)
{
    mirror_add(told(opaque, GM_CHANGE_ADD, section), section);
}

static void on_log(struct watch *watch, const struct gm_section *section, uint32_t old_mask,
                   uint32_t new_mask, bool starts)
{
    enum gm_change_kind kind = starts ? GM_CHANGE_LOG_START : GM_CHANGE_LOG_STOP;
    struct mirror *mirror = told(watch, kind, section);
    struct gm_section *found = mirror_known(mirror, section, "log");
    const struct gm_change *change = &watch->promised[watch->told_count - 1];
    const struct gm_change *before = watch->told_count > 1 ? change - 1 : NULL;
    bool follows_start = !starts && before != NULL && before->kind == GM_CHANGE_LOG_START &&
                         before->section.gpa == section->gpa &&
                         before->section.space == section->space;

    REQUIRE(change->old_mask == old_mask && change->new_mask == new_mask, "masks as promised");
    REQUIRE(found->log_mask == old_mask || (follows_start && found->log_mask == new_mask),
            "old mask %x, known %x", old_mask, found->log_mask);
    REQUIRE(starts ? (new_mask & ~old_mask) != 0 : (old_mask & ~new_mask) != 0,
            "nothing changes from %x to %x", old_mask, new_mask);
    REQUIRE(section->log_mask == new_mask, "a section with mask %x, told %x", section->log_mask,
            new_mask);
    found->log_mask = new_mask;
}

static void on_log_start(void *opaque, const struct gm_section *section, uint32_t old_mask,
                         uint32_t new_mask)
{
    on_log(opaque, section, old_mask, new_mask, true);
}

static void on_log_stop(void *opaque, const struct gm_section *section, uint32_t old_mask,
                        uint32_t new_mask)
{
    on_log(opaque, section, old_mask, new_mask, false);
}

static void on_eventfd_del(void *opaque, const struct gm_section *section,
                           const struct gm_eventfd *eventfd)
{
    struct mirror *mirror = told(opaque, GM_CHANGE_EVENTFD_DEL, section);

    REQUIRE(mirror_same_eventfd(&promise(opaque)->eventfd, eventfd),
            "another eventfd than promised");
    mirror_known(mirror, section, "eventfd_del");
    mirror_eventfd_del(mirror, eventfd);
}

static void on_eventfd_add(void *opaque, const struct gm_section *section,
                           const struct gm_eventfd *eventfd)
{
    struct mirror *mirror = told(opaque, GM_CHANGE_EVENTFD_ADD, section);

    REQUIRE(mirror_same_eventfd(&promise(opaque)->eventfd, eventfd),
            "another eventfd than promised");
    mirror_known(mirror, section, "eventfd_add");
    mirror_eventfd_add(mirror, eventfd);
}

static void on_coalesced_del(void *opaque, const struct gm_section *section,
                             const struct gm_coalesced *coalesced)
{
    struct mirror *mirror = told(opaque, GM_CHANGE_COALESCED_DEL, section);

    REQUIRE(mirror_same_coalesced(&promise(opaque)->coalesced, coalesced),
            "another coalesced range than promised");
    mirror_known(mirror, section, "coalesced_del");
    mirror_coalesced_del(mirror, coalesced);
}

static void on_coalesced_add(void *opaque, const struct gm_section *section,
                             const struct gm_coalesced *coalesced)
{
    struct mirror *mirror = told(opaque, GM_CHANGE_COALESCED_ADD, section);

    REQUIRE(mirror_same_coalesced(&promise(opaque)->coalesced, coalesced),
            "another coalesced range than promised");
    mirror_known(mirror, section, "coalesced_add");
    mirror_coalesced_add(mirror, section, coalesced);
}

static void on_global(struct watch *watch, bool starts)
{
    REQUIRE(watch->state == BEGUN, "global logging in state %d", (int)watch->state);
    REQUIRE(watch->logs_globally != starts, "global logging changes to what it is");
    watch->logs_globally = starts;
}

static void on_global_start(void *opaque)
{
    on_global(opaque, true);
}

static void on_global_stop(void *opaque)
{
    on_global(opaque, false);
}

static const struct gm_listener_ops watch_ops = {
    .size = sizeof(watch_ops),
    .prepare = on_prepare,
    .begin = on_begin,
    .commit = on_commit,
    .abort = on_abort,
    .region_del = on_del,
    .region_nop = on_nop,
    .region_add = on_add,
    .log_start = on_log_start,
    .log_stop = on_log_stop,
    .eventfd_del = on_eventfd_del,
    .eventfd_add = on_eventfd_add,
    .coalesced_del = on_coalesced_del,
    .coalesced_add = on_coalesced_add,
    .apply = on_apply,
    .undo = on_undo,
    .settle = on_settle,
    .log_global_start = on_global_start,
    .log_global_stop = on_global_stop,
};

/* ---- checking ---- */

void watch_check(struct watch *watch, bool succeeded)
{
    const struct twin *twin = watch->twin;
    unsigned i;
    int space;

    (void)succeeded;
    REQUIRE(watch->state == IDLE, "a transaction is open: %d", (int)watch->state);
    REQUIRE(watch->logs_globally == (twin->model.log_all_mask != 0), "global logging is %d",
            (int)watch->logs_globally);
    for (i = 0; i < MIRRORS_MAX; i++) {
        for (space = 0; space < MODEL_SPACES_MAX && twin->spaces[space] != watch->mirrors[i].space;
             space++) {
        }
        if (space == MODEL_SPACES_MAX) {
            REQUIRE(mirror_is_empty(&watch->mirrors[i]), "a space that went is still known");
            watch->mirrors[i].space = NULL;
        }
    }
    for (space = 0; space < MODEL_SPACES_MAX; space++) {
        if (twin->spaces[space] != NULL && (watch->space == MODEL_NONE || watch->space == space)) {
            const struct mirror *mirror = mirror_of(watch, twin->spaces[space]);

            mirror_check(twin, mirror, twin_view_of(twin, &twin->picture, space));
            watch->twin->coalesced_count += mirror->coalesced_count;
        }
    }
}

/* ---- the order among listeners ---- */

static bool lower(const struct watch *a, const struct watch *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->registered < b->registered;
}

/* Calls of one kind, each listener once: ascending, or descending. */
static void check_calls(enum call call, bool ascending)
{
    const struct watch *before = NULL;
    size_t i;

    for (i = 0; i < note_count; i++) {
        if (notes[i].call == call && notes[i].watch != before) {
            REQUIRE(before == NULL || lower(before, notes[i].watch) == ascending,
                    "call %d: priority %d after %d", (int)call, (int)notes[i].watch->priority,
                    (int)before->priority);
            before = notes[i].watch;
        }
    }
}

static bool descends(enum gm_change_kind kind)
{
    return kind == GM_CHANGE_DEL || kind == GM_CHANGE_LOG_STOP || kind == GM_CHANGE_EVENTFD_DEL ||
           kind == GM_CHANGE_COALESCED_DEL;
}

/* Each change goes to all of its space's listeners, by priority, before the next one. */
static void check_changes(const struct twin *twin)
{
    size_t hearers = 0;
    size_t i = 0;
    size_t j;

    while (i < note_count) {
        const struct note *first = &notes[i];

        if (first->call != CHANGE) {
            i++;
            continue;
        }
        for (hearers = 0, j = 0; j < twin->watch_count; j++) {
            const struct watch *watch = twin->watches[j];

            hearers += watch->space == MODEL_NONE || twin->spaces[watch->space] == first->space;
        }
        for (j = 1; j < hearers; j++) {
            const struct note *next = &notes[i + j];

            REQUIRE(i + j < note_count && next->call == CHANGE && next->space == first->space &&
                        next->kind == first->kind,
                    "a change was not told to all listeners before the next one");
            REQUIRE(lower(next[-1].watch, next->watch) == !descends(first->kind),
                    "kind %d: priority %d after %d", (int)first->kind, (int)next->watch->priority,
                    (int)next[-1].watch->priority);
        }
        i += hearers > 0 ? hearers : 1;
    }
}

/* All of one stage come before any of the next. */
static void check_stages(bool succeeded)
{
    static const int stage_of[] = {[PREPARE] = 0, [BEGIN] = 1,  [CHANGE] = 2, [APPLY] = 3,
                                   [UNDO] = 4,    [SETTLE] = 5, [COMMIT] = 6, [ABORT] = 7};
    int stage = 0;
    size_t i;

    for (i = 0; i < note_count; i++) {
        REQUIRE(stage_of[notes[i].call] >= stage, "call %d after stage %d", (int)notes[i].call,
                stage);
        stage = stage_of[notes[i].call];
        REQUIRE(succeeded ? notes[i].call != UNDO && notes[i].call != ABORT
                          : notes[i].call != SETTLE && notes[i].call != COMMIT,
                "call %d in a commit that ended otherwise", (int)notes[i].call);
    }
}

void watch_reset_order(struct twin *twin)
{
    (void)twin;
    note_count = 0;
}

void watch_check_order(struct twin *twin, bool succeeded)
{
    check_stages(succeeded);
    check_calls(PREPARE, true);
    check_calls(BEGIN, true);
    check_calls(APPLY, true);
    check_calls(SETTLE, false);
    check_calls(COMMIT, true);
    check_calls(UNDO, false);
    check_calls(ABORT, false);
    check_changes(twin);
}

/* ---- life ---- */

struct watch *watch_new(struct twin *twin, int space, int32_t priority)
{
    static unsigned registered;
    struct watch *watch = calloc(1, sizeof(*watch));
    struct gm_space *of = space != MODEL_NONE ? twin->spaces[space] : NULL;
    int result;

    watch->twin = twin;
    watch->space = space;
    watch->priority = priority;
    watch->registered = ++registered;
    note_count = 0;
    result = gm_listener_register(twin->map, of, priority, &watch_ops, watch, &watch->handle, NULL);
    REQUIRE(result == 0, "registering: %d", result);
    watch_check(watch, true);
    twin->watches = realloc(twin->watches, (twin->watch_count + 1) * sizeof(struct watch *));
    twin->watches[twin->watch_count++] = watch;
    return watch;
}

void watch_free(struct watch *watch)
{
    struct twin *twin = watch->twin;
    int result = gm_listener_unregister(watch->handle, NULL);
    size_t at = 0;
    unsigned i;

    REQUIRE(result == 0, "unregistering: %d", result);
    REQUIRE(watch->state == IDLE && !watch->logs_globally, "it ended in the middle of something");
    for (i = 0; i < MIRRORS_MAX; i++) {
        REQUIRE(mirror_is_empty(&watch->mirrors[i]), "unregistered, and ranges are still known");
        mirror_fini(&watch->mirrors[i]);
        mirror_fini(&watch->before[i]);
    }
    while (twin->watches[at] != watch) {
        at++;
    }
    twin->watches[at] = twin->watches[--twin->watch_count];
    if (twin->watch_count == 0) {
        free(twin->watches);
        twin->watches = NULL;
        free(notes);
        notes = NULL;
        note_count = 0;
        note_capacity = 0;
    }
    free(watch->promised);
    free(watch);
}

void watch_fail(struct watch *watch, int error, bool in_apply)
{
    watch->fail_with = error;
    watch->fail_in_apply = in_apply;
    watch->has_failed = false;
}

bool watch_disarm(struct watch *watch)
{
    watch->fail_with = 0;
    return watch->has_failed;
}
