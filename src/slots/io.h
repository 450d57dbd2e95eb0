/*
 * slots/io.h - eventfds and coalesced ranges on their way to a hypervisor: what the slots of memory and the
 * listener of ports do alike.
 *
 * Removing one costs a grace period of the kernel's: a millisecond, with its locks held, so that several threads are no
 * faster than one (docs/kvm-eventfds.md). What an edit removes and adds again the same is therefore left alone.
 */
#ifndef SLOTS_IO_H
#define SLOTS_IO_H

#include <guestmem/backend.h>
#include <guestmem/listener.h>

enum io_kind {
    IO_EVENTFD,
    IO_COALESCED,
};

/* One call of the backend. */
struct io_step {
    bool adds;
    enum io_kind kind;
    struct gm_eventfd eventfd;
    struct gm_coalesced coalesced;
    const struct gm_region *region; /* COALESCED: whose, and where in it; for comparing only */
    uint64_t offset;
};

/* Some steps: removals first, each part by ascending address. */
struct io_plan {
    struct io_step *steps;
    size_t count;
    size_t del_count;
};

/* How many of the changes have steps at most: those whose operations the backend has. */
size_t io_plan_room(const struct gm_backend_ops *ops, const struct gm_change *changes,
                    size_t count);

/* The steps that changes come to, into plan->steps, which has room for them. */
void io_plan_fill(struct io_plan *plan, const struct gm_backend_ops *ops,
                  const struct gm_change *changes, size_t count);

/* Make the call, or its inverse. Return: what it returned. */
int io_step_do(const struct gm_backend_ops *ops, void *opaque, const struct io_step *step);
int io_step_take_back(const struct gm_backend_ops *ops, void *opaque, const struct io_step *step);

uint64_t io_step_address(const struct io_step *step);

/* What a diag says of a kind: that the hypervisor refuses it, and its noun. */
struct io_words {
    enum gm_diag_id id;
    const char *noun;
};
const struct io_words *io_step_words(const struct io_step *step);

/*
 * What whoever collects coalesced writes has to know of ranges that a backend removes. Both NULL in a table that is
 * not filled: nobody collects, and none is to be added.
 */
struct coalesced_hooks {
    /* Before a range is added or removed; what comes next must not fail for want of memory. 0 or -ENOMEM. */
    int (*reserve)(void *opaque);
    /* The range is removed: no more writes to it are collected. Those that were are for the region that shows there
     * now. Under the map's lock, before the commit's view is published. */
    void (*removed)(void *opaque, bool is_port, const struct gm_coalesced *range);
    void *opaque;
};

#endif
