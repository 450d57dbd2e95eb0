/*
 * replay.h - the state of `guestmem replay`: a map, what is attached to it, and the step being run.
 *
 * What happens under a step is written to `below` and printed after the step's own line, because
 * the line ends with the result, which is known last.
 */
#ifndef TOOL_REPLAY_H
#define TOOL_REPLAY_H

#include "mapfile.h"
#include "replay_steps.h"

#include <stdatomic.h>

/*
 * Fault injection: allocations of the library, prepares of listeners and operations of backends
 * count together; the one at which the countdown ends fails.
 */
struct fault {
    _Atomic uint64_t countdown; /* 0: none is set */
};

static inline bool fault_hits(struct fault *fault)
{
    uint64_t left = atomic_load_explicit(&fault->countdown, memory_order_relaxed);

    /* relaxed: a count and nothing else; steps run on one thread */
    while (left != 0 &&
           !atomic_compare_exchange_weak_explicit(&fault->countdown, &left, left - 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    return left == 1;
}

struct watcher;
struct recorder;

struct replay {
    struct mapfile mapfile;
    struct fault fault;
    struct gm_allocator allocator; /* counts down the fault; of the map and of slots */
    FILE *below;                   /* what happens under the present step; into below_text */
    char *below_text;
    size_t below_length;

    struct gm_txn *txn; /* open between begin and commit; NULL outside */
    unsigned depth;     /* of begins */

    struct watcher *watchers;   /* owned */
    struct recorder *recorders; /* owned; by number of their space */

    uint64_t slot_ops;       /* creates, deletes and flag changes that backends made */
    uint64_t calls;          /* of watchers, as far as they are written */
    uint64_t shown_slot_ops; /* the counts that `stats` last showed */
    uint64_t shown_calls;
    struct gm_map_stats shown;
};

/* Each returns a step's result: 0 or -errno. */

/* replay_run.c: run one step; its events and answers go to replay->below. */
int replay_run_step(struct replay *replay, const struct step *step);

/* replay_watch.c: recording listeners. @space NULL: all. */
int replay_watch(struct replay *replay, const char *name, struct gm_space *space, int32_t priority);
int replay_unwatch(struct replay *replay, const char *name);
void replay_free_watchers(struct replay *replay);

/* replay_slots.c: recording slot backends. @max NULL: the library's own limit. */
int replay_attach_slots(struct replay *replay, struct gm_space *space, const uint32_t *max);
void replay_show_slots(struct replay *replay);
void replay_free_slots(struct replay *replay);

/* Write a slot's flags: l, o, or -. */
#define SLOT_FLAGS_TEXT_BYTES 3
const char *slot_flags_text(uint32_t flags, char text[SLOT_FLAGS_TEXT_BYTES]);

#endif
