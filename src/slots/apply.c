/*
 * slots/apply.c - carrying out a plan: one call of the backend after the other, and taking them
 * back in reverse. Nothing is allocated. The set does not change here, so that until settle it says
 * what the hypervisor had before.
 */
#include "base/check.h"
#include "base/diag.h"
#include "slots/slots.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What a backend returned, as -errno whatever it was. */
static int as_error(int rc)
{
    return rc <= 0 ? rc : -EIO;
}

static int hold(struct gm_slots *slots)
{
    uint64_t start_ns = now_ns();
    int rc;

    if (slots->is_held || slots->ops.hold == NULL) {
        return 0;
    }
    rc = as_error(slots->ops.hold(slots->opaque));
    if (rc == 0) {
        slots->is_held = true;
        slots->held_since_ns = start_ns;
    }
    return rc;
}

void slots_release(struct gm_slots *slots)
{
    uint64_t took_ns;

    if (!slots->is_held) {
        return;
    }
    slots->ops.release(slots->opaque);
    slots->is_held = false;
    took_ns = now_ns() - slots->held_since_ns;
    lock_take(&slots->lock);
    slots->stats.holds++;
    slots->stats.hold_ns += took_ns;
    if (took_ns > slots->stats.max_hold_ns) {
        slots->stats.max_hold_ns = took_ns;
    }
    lock_drop(&slots->lock);
}

static int eventfd_call(struct gm_slots *slots, const struct gm_eventfd *eventfd, bool is_add)
{
    int (*call)(void *, uint64_t, uint32_t, bool, uint64_t, int) =
        is_add ? slots->ops.eventfd_add : slots->ops.eventfd_del;

    return as_error(call(slots->opaque, eventfd->offset, eventfd->size_bytes, eventfd->match,
                         eventfd->value, eventfd->fd));
}

/*
 * Drain a log that ends, while vCPUs are held out. Also what cannot be read is in the record then.
 */
static void drain(struct gm_slots *slots, const struct slot *slot)
{
    if (slots_fetch_log(slots, slot, slot_span(slot)) != 0) {
        slots_mark_all(slot, slot_span(slot));
    }
}

static int slot_call(struct gm_slots *slots, const struct plan_op *op)
{
    const struct slot *slot = op->slot;
    bool is_logged = (slot->shown.flags & GM_SLOT_LOG) != 0;

    switch (op->kind) {
    case PLAN_DESTROY:
        if (is_logged) {
            drain(slots, slot);
        }
        return as_error(slots->ops.destroy(slots->opaque, &slot->shown));
    case PLAN_SET_FLAGS:
        if (is_logged && (op->new_flags & GM_SLOT_LOG) == 0) {
            drain(slots, slot);
        }
        return as_error(slots->ops.set_flags(slots->opaque, &slot->shown, op->new_flags));
    case PLAN_CREATE:
        return as_error(slots->ops.create(slots->opaque, &slot->shown));
    }
    return -EIO;
}

/*
 * The inverse of a create or of new flags. @now is the slot as the hypervisor has it. If it logs, a
 * guest that was not held may have written through it since: what it wrote is drained, too.
 */
static int take_back_new(struct gm_slots *slots, const struct plan_op *op, const struct slot *now)
{
    bool is_logged = (now->shown.flags & GM_SLOT_LOG) != 0;
    bool is_exact = true;
    int rc;

    if (is_logged) {
        is_exact = hold(slots) == 0;
        drain(slots, now);
    }
    rc = op->kind == PLAN_CREATE
             ? slots->ops.destroy(slots->opaque, &now->shown)
             : slots->ops.set_flags(slots->opaque, &now->shown, op->slot->shown.flags);
    if (!is_exact) {
        slots_mark_all(now, slot_span(now));
    }
    return as_error(rc);
}

static int take_back_slot(struct gm_slots *slots, const struct plan_op *op)
{
    struct slot now = *op->slot;

    if (op->kind == PLAN_DESTROY) {
        return as_error(slots->ops.create(slots->opaque, &now.shown));
    }
    if (op->kind == PLAN_SET_FLAGS) {
        now.shown.flags = op->new_flags;
    }
    return take_back_new(slots, op, &now);
}

static int step_do(struct gm_slots *slots, const struct step *step)
{
    return step->kind == STEP_SLOT
               ? slot_call(slots, step->op)
               : eventfd_call(slots, &step->eventfd, step->kind == STEP_EVENTFD_ADD);
}

static int step_take_back(struct gm_slots *slots, const struct step *step)
{
    return step->kind == STEP_SLOT
               ? take_back_slot(slots, step->op)
               : eventfd_call(slots, &step->eventfd, step->kind == STEP_EVENTFD_DEL);
}

static const char *errno_name(int rc)
{
    const char *name = strerrorname_np(-rc);

    return name != NULL ? name : "an unknown error";
}

static int explain(struct gm_diag *diag, int rc, const struct step *step)
{
    static const char *const VERBS[] = {
        [PLAN_DESTROY] = "delete",
        [PLAN_SET_FLAGS] = "change the flags of",
        [PLAN_CREATE] = "create",
    };

    if (step->kind == STEP_SLOT) {
        const struct gm_slot *slot = &step->op->slot->shown;

        return diag_set(
            diag, rc,
            "the hypervisor refused to %s slot %" PRIu32 " at 0x%" PRIx64 "+0x%" PRIx64 ": %s",
            VERBS[step->op->kind], slot->number, slot->gpa, slot->size_bytes, errno_name(rc));
    }
    return diag_set(diag, rc, "the hypervisor refused to %s the eventfd at 0x%" PRIx64 ": %s",
                    step->kind == STEP_EVENTFD_ADD ? "add" : "remove", step->eventfd.offset,
                    errno_name(rc));
}

int slots_apply(void *opaque, struct gm_diag *diag)
{
    struct gm_slots *slots = opaque;
    int rc;

    if (!slots->is_pending) {
        return 0;
    }
    rc = slots->plan.needs_hold ? hold(slots) : 0;
    if (rc != 0) {
        return diag_set(diag, rc, "vCPUs could not be held out of guest mode: %s", errno_name(rc));
    }
    while (slots->steps_done < slots->step_count) {
        const struct step *step = &slots->steps[slots->steps_done];

        rc = step_do(slots, step);
        /* What is already in an unknown state is taken down as far as it goes. */
        if (rc != 0 && !(slots->is_broken && slots->is_detaching)) {
            return explain(diag, rc, step);
        }
        slots->steps_done++;
    }
    return 0;
}

int slots_undo(void *opaque)
{
    struct gm_slots *slots = opaque;
    int rc = 0;

    if (!slots->is_pending) {
        return 0;
    }
    /* One that fails does not stop the rest: the guest keeps as much of its memory as it can. */
    while (slots->steps_done > 0) {
        slots->steps_done--;
        if (step_take_back(slots, &slots->steps[slots->steps_done]) != 0) {
            slots->is_broken = true;
            rc = -EIO;
        }
    }
    slots_release(slots);
    return rc;
}
