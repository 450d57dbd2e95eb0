/*
 * kvm/ports.c - the port space's eventfds.
 *
 * prepare writes down what a commit is going to do, and reserves room for what will live after it; apply
 * does it, undo does the inverse in reverse. So between prepare and the end of a commit nothing is
 * allocated.
 *
 *   live   what KVM has now
 *   plan   the steps of the commit under way; [0, done) have been applied
 */
#include "kvm/ports.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/diag.h"

#include <guestmem/txn.h>

#include <errno.h>
#include <string.h>

struct step {
    bool adds;
    struct gm_eventfd eventfd;
};

struct kvm_ports {
    struct gm_allocator allocator;
    const struct kvm_backend *backend;
    struct gm_listener *listener;

    struct gm_eventfd *live;
    size_t live_count;
    size_t live_capacity;

    struct step *plan;
    size_t plan_count;
    size_t plan_capacity;
    size_t done;
    bool is_broken; /* taking a step back failed: KVM has other eventfds than the map */
};

static bool same_eventfd(const struct gm_eventfd *a, const struct gm_eventfd *b)
{
    return a->offset == b->offset && a->size_bytes == b->size_bytes && a->match == b->match &&
           (!a->match || a->value == b->value) && a->fd == b->fd;
}

static void live_remove(struct kvm_ports *ports, const struct gm_eventfd *eventfd)
{
    for (size_t i = 0; i < ports->live_count; i++) {
        if (same_eventfd(&ports->live[i], eventfd)) {
            ports->live_count--;
            ports->live[i] = ports->live[ports->live_count];
            return;
        }
    }
}

/* Both directions of a step are made of these; a failing one changes nothing. */
static int do_step(struct kvm_ports *ports, const struct gm_eventfd *eventfd, bool adds)
{
    int rc;

    if (!adds) {
        rc = kvm_eventfd_del(ports->backend, eventfd, true);
        if (rc == 0) {
            live_remove(ports, eventfd);
        }
        return rc;
    }
    rc = kvm_eventfd_add(ports->backend, eventfd, true);
    if (rc == 0) {
        GM_ASSERT(ports->live_count < ports->live_capacity);
        ports->live[ports->live_count] = *eventfd;
        ports->live_count++;
    }
    return rc;
}

static void plan_drop(struct kvm_ports *ports)
{
    ports->plan_count = 0;
    ports->done = 0;
}

static int reserve(struct kvm_ports *ports, size_t step_count)
{
    struct step *plan = mem_reserve(&ports->allocator, ports->plan, &ports->plan_capacity,
                                    step_count, sizeof(*plan));
    struct gm_eventfd *live;

    if (plan == NULL) {
        return -ENOMEM;
    }
    ports->plan = plan;
    /* Even if every step adds; and an undo that takes back deletions fits where they were. */
    live = mem_reserve(&ports->allocator, ports->live, &ports->live_capacity,
                       ports->live_count + step_count, sizeof(*live));
    if (live == NULL) {
        return -ENOMEM;
    }
    ports->live = live;
    return 0;
}

static int ports_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                         size_t count, struct gm_diag *diag)
{
    struct kvm_ports *ports = opaque;
    size_t step_count = 0;

    (void)space;
    for (size_t i = 0; i < count; i++) {
        step_count +=
            changes[i].kind == GM_CHANGE_EVENTFD_ADD || changes[i].kind == GM_CHANGE_EVENTFD_DEL;
    }
    plan_drop(ports);
    if (step_count == 0) {
        return 0;
    }
    if (ports->is_broken) {
        return diag_set(diag, -EIO, "an earlier change of ports' eventfds could not be undone");
    }
    if (reserve(ports, step_count) != 0) {
        return diag_set(diag, -ENOMEM, "no memory for %zu eventfds of ports", step_count);
    }
    for (size_t i = 0; i < count; i++) {
        if (changes[i].kind == GM_CHANGE_EVENTFD_ADD || changes[i].kind == GM_CHANGE_EVENTFD_DEL) {
            ports->plan[ports->plan_count].adds = changes[i].kind == GM_CHANGE_EVENTFD_ADD;
            ports->plan[ports->plan_count].eventfd = changes[i].eventfd;
            ports->plan_count++;
        }
    }
    return 0;
}

static int ports_undo(void *opaque)
{
    struct kvm_ports *ports = opaque;
    int first_error = 0;

    while (ports->done > 0) {
        const struct step *step = &ports->plan[ports->done - 1];
        int rc = do_step(ports, &step->eventfd, !step->adds);

        if (rc != 0) {
            ports->is_broken = true;
            first_error = first_error == 0 ? rc : first_error;
        }
        ports->done--;
    }
    plan_drop(ports);
    return first_error;
}

static int ports_apply(void *opaque, struct gm_diag *diag)
{
    struct kvm_ports *ports = opaque;

    while (ports->done < ports->plan_count) {
        const struct step *step = &ports->plan[ports->done];
        int rc = do_step(ports, &step->eventfd, step->adds);

        if (rc != 0) {
            unsigned port = (unsigned)step->eventfd.offset;

            return diag_set(diag, rc, "KVM does not %s the eventfd at port 0x%x: %s",
                            step->adds ? "add" : "remove", port, strerror(-rc));
        }
        ports->done++;
    }
    return 0;
}

static void ports_end(void *opaque)
{
    plan_drop(opaque);
}

static const struct gm_listener_ops listener_ops = {
    .size = sizeof(struct gm_listener_ops),
    .prepare = ports_prepare,
    .apply = ports_apply,
    .undo = ports_undo,
    .commit = ports_end,
    .abort = ports_end,
};

int kvm_ports_attach(struct gm_map *map, struct gm_space *space, const struct kvm_backend *backend,
                     const struct gm_allocator *allocator, struct kvm_ports **out,
                     struct gm_diag *diag)
{
    struct kvm_ports *ports = mem_zalloc(allocator, sizeof(*ports));
    int rc;

    if (ports == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for the port space's listener");
    }
    ports->allocator = *allocator;
    ports->backend = backend;
    rc = gm_listener_register(map, space, 0, &listener_ops, ports, &ports->listener, diag);
    if (rc != 0) {
        kvm_ports_free(ports);
        return rc;
    }
    *out = ports;
    return 0;
}

void kvm_ports_free(struct kvm_ports *ports)
{
    struct gm_allocator allocator;

    if (ports == NULL) {
        return;
    }
    for (size_t i = 0; i < ports->live_count; i++) {
        (void)kvm_eventfd_del(ports->backend, &ports->live[i], true);
    }
    allocator = ports->allocator;
    mem_free(&allocator, ports->live);
    mem_free(&allocator, ports->plan);
    mem_free(&allocator, ports);
}
