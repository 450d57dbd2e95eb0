/*
 * slots/ports.c - the port space's eventfds and coalesced ranges.
 *
 * prepare writes down what a commit is going to do, and reserves room for what will live after it; apply
 * does it, undo does the inverse in reverse. So between prepare and the end of a commit nothing is
 * allocated.
 *
 *   live   what the hypervisor has now: the steps that added it
 *   plan   the steps of the commit under way; [0, done) have been applied
 */
#include "slots/ports.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/diag.h"
#include "slots/io.h"

#include <errno.h>
#include <string.h>

struct ports {
    struct gm_allocator allocator;
    struct gm_backend_ops ops;
    void *opaque;
    struct gm_listener *listener;

    struct io_step *live;
    size_t live_count;
    size_t live_capacity;

    struct io_plan plan;
    size_t plan_capacity;
    size_t done;
};

static bool is_same(const struct io_step *a, const struct io_step *b)
{
    const struct gm_eventfd *x = &a->eventfd;
    const struct gm_eventfd *y = &b->eventfd;

    return a->kind == b->kind && x->offset == y->offset && x->size_bytes == y->size_bytes &&
           x->match == y->match && x->value == y->value && x->fd == y->fd &&
           a->coalesced.gpa == b->coalesced.gpa && a->coalesced.last == b->coalesced.last;
}

static void live_remove(struct ports *ports, const struct io_step *step)
{
    for (size_t i = 0; i < ports->live_count; i++) {
        if (is_same(&ports->live[i], step)) {
            ports->live_count--;
            ports->live[i] = ports->live[ports->live_count];
            return;
        }
    }
}

static void live_add(struct ports *ports, const struct io_step *step)
{
    GM_ASSERT(ports->live_count < ports->live_capacity);
    ports->live[ports->live_count] = *step;
    ports->live_count++;
}

/* The hypervisor has taken a step, or its inverse. */
static void note(struct ports *ports, const struct io_step *step, bool adds)
{
    if (adds) {
        live_add(ports, step);
    } else {
        live_remove(ports, step);
    }
}

static void plan_drop(struct ports *ports)
{
    ports->plan.count = 0;
    ports->done = 0;
}

static int reserve(struct ports *ports, size_t step_count)
{
    struct io_step *steps = mem_reserve(&ports->allocator, ports->plan.steps, &ports->plan_capacity,
                                        step_count, sizeof(*steps));
    struct io_step *live;

    if (steps == NULL) {
        return -ENOMEM;
    }
    ports->plan.steps = steps;
    /* Even if every step adds; and an undo that takes back deletions fits where they were. */
    live = mem_reserve(&ports->allocator, ports->live, &ports->live_capacity,
                       ports->live_count + step_count, sizeof(*live));
    if (live == NULL) {
        return -ENOMEM;
    }
    ports->live = live;
    return 0;
}

static int on_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                      size_t count, struct gm_diag *diag)
{
    struct ports *ports = opaque;
    size_t room = io_plan_room(&ports->ops, changes, count);

    (void)space;
    plan_drop(ports);
    if (room == 0) {
        return 0;
    }
    if (reserve(ports, room) != 0) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for %zu eventfds of ports",
                        room);
    }
    io_plan_fill(&ports->plan, &ports->ops, changes, count);
    return 0;
}

/* Where a step cannot be taken back, the hypervisor has others than the map, which then takes no more commits. */
static int on_undo(void *opaque)
{
    struct ports *ports = opaque;
    int first_error = 0;

    while (ports->done > 0) {
        const struct io_step *step = &ports->plan.steps[ports->done - 1];
        int rc = io_step_take_back(&ports->ops, ports->opaque, step);

        if (rc == 0) {
            note(ports, step, !step->adds);
        } else {
            first_error = first_error == 0 ? rc : first_error;
        }
        ports->done--;
    }
    plan_drop(ports);
    return first_error;
}

static int on_apply(void *opaque, struct gm_diag *diag)
{
    struct ports *ports = opaque;

    while (ports->done < ports->plan.count) {
        const struct io_step *step = &ports->plan.steps[ports->done];
        int rc = io_step_do(&ports->ops, ports->opaque, step);

        if (rc != 0) {
            const struct io_words *words = io_step_words(step);

            return diag_set(diag, words->id, rc, "KVM does not %s the %s at port 0x%x: %s",
                            step->adds ? "add" : "remove", words->noun,
                            (unsigned)io_step_address(step), strerror(-rc));
        }
        note(ports, step, step->adds);
        ports->done++;
    }
    return 0;
}

static void on_end(void *opaque)
{
    plan_drop(opaque);
}

static const struct gm_listener_ops listener_ops = {
    .size = sizeof(struct gm_listener_ops),
    .prepare = on_prepare,
    .apply = on_apply,
    .undo = on_undo,
    .commit = on_end,
    .abort = on_end,
};

int ports_attach(struct gm_space *space, const struct gm_allocator *allocator,
                 const struct gm_backend_ops *ops, void *opaque, struct ports **out,
                 struct gm_diag *diag)
{
    struct ports *ports = mem_zalloc(allocator, sizeof(*ports));
    int rc;

    if (ports == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM,
                        "no memory for the port space's listener");
    }
    ports->allocator = *allocator;
    ports->ops = *ops;
    ports->opaque = opaque;
    rc = gm_listener_register(gm_space_map_of(space), space, 0, &listener_ops, ports,
                              &ports->listener, diag);
    if (rc != 0) {
        ports_free(ports);
        return rc;
    }
    *out = ports;
    return 0;
}

void ports_free(struct ports *ports)
{
    struct gm_allocator allocator;

    if (ports == NULL) {
        return;
    }
    for (size_t i = 0; i < ports->live_count; i++) {
        (void)io_step_take_back(&ports->ops, ports->opaque, &ports->live[i]);
    }
    allocator = ports->allocator;
    mem_free(&allocator, ports->live);
    mem_free(&allocator, ports->plan.steps);
    mem_free(&allocator, ports);
}
