/*
 * slots/slots.h - one backend attached to one space: what the files of the listener share.
 *
 * Everything is touched under the map's commit lock only, but for what `lock` protects. The set and
 * its slots change in settle alone, so listings always show what the last commit came to:
 *
 *   idle --prepare--> pending --apply--> applied --settle--> idle    (gather.c, apply.c, slots.c)
 *                        ^ \               |
 *                        |  +--abort--> idle
 *                        +-----undo-------+                          (apply.c)
 */
#ifndef SLOTS_SLOTS_H
#define SLOTS_SLOTS_H

#include "base/fork.h"
#include "base/lock.h"
#include "base/scratch.h"
#include "slots/io.h"
#include "slots/plan.h"
#include "slots/set.h"

#include <guestmem/backend.h>
#include <guestmem/listener.h>

/* One call of the backend, with its inverse. */
enum step_kind {
    STEP_IO = 1,
    STEP_SLOT,
};
struct step {
    enum step_kind kind;
    const struct plan_op *op; /* SLOT */
    struct io_step io;        /* IO */
};

struct gm_slots {
    struct gm_allocator allocator;
    struct gm_backend_ops ops;
    void *opaque;
    struct plan_limits limits;
    struct gm_listener *listener;
    struct fork_mark mark;
    struct gm_log_hook log;

    struct lock lock; /* rank LEAF: the set and the stats, for readers outside of commits */
    struct slot_set set;
    struct gm_slots_stats stats;

    /* Under the map's lock, and freed with it: the memory of one plan, and of a slot that was deleted. */
    struct plan_memory plan_memory;
    struct scratch scratch;
    struct gm_allocator slot_allocator;
    struct slot *spare;

    bool is_pending; /* there is a plan, and regions referenced for it */
    struct plan plan;
    struct step
        *steps; /* eventfds and coalesced ranges to remove, the plan's operations, those to add */
    size_t step_count;
    size_t steps_done;
    bool is_held;
    uint64_t held_since_ns;

    uint64_t *bitmap; /* of log_fetch: room for the pages of every logged slot */
    size_t bitmap_words;
    /* Taking something back failed: the hypervisor's slots are not as the set says. */
    bool is_broken;
    atomic_bool is_detaching; /* before the commit lock is taken: by itself, it orders nothing */
};

/* From a commit's changes to a plan and its steps. Errors as plan_init(). */
int slots_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                  size_t count, struct gm_diag *diag);

/* Forget the plan. */
void slots_drop_plan(struct gm_slots *slots);

/* Make the calls, up to the first that fails (slots_undo() follows). 0, or what it returned. */
int slots_apply(void *opaque, struct gm_diag *diag);

/* Take back the calls that were made. 0, or -EIO: some cannot be, and the slots are broken. */
int slots_undo(void *opaque);

/* Let vCPUs in again, if they were held out. */
void slots_release(struct gm_slots *slots);

/* Room for the log of @slot: 0 or -ENOMEM. */
int slots_reserve_log(struct gm_slots *slots, const struct slot *slot);

/*
 * Bring the log of a logged slot, as far as it meets @span, into its block's record. Room is
 * reserved.
 * Return: 0; -errno of the backend: the log could not be read, at least in part: the rest is still to be fetched.
 */
int slots_fetch_log(struct gm_slots *slots, const struct slot *slot, struct span span);

/* Mark all pages of a slot as dirty, because nobody can say which are. */
void slots_mark_all(const struct slot *slot, struct span span);

/* The listener's log_sync. */
int slots_log_sync(void *opaque, const struct gm_section *section);

#endif
