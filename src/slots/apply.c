/*
 * slots/apply.c - carrying out a plan: one call of the backend after the other, and taking them
 * back in reverse. Nothing is allocated. The set does not change here, so that until settle it says
 * what the hypervisor had before.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/diag.h"
#include "base/log.h"
#include "slots/slots.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char *errno_name(int rc)
{
    const char *name = strerrorname_np(-rc);

    return name != NULL ? name : "an unknown error";
}

/* What a backend returned, as -errno whatever it was. */
static int as_error(int rc)
{
    return rc <= 0 ? rc : -EIO;
}

static int hold(struct gm_slots *slots)
{
    uint64_t start_ns = clock_now_ns();
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
    took_ns = clock_now_ns() - slots->held_since_ns;
    lock_take(&slots->lock);
    slots->stats.holds++;
    slots->stats.hold_ns += took_ns;
    if (took_ns > slots->stats.max_hold_ns) {
        slots->stats.max_hold_ns = took_ns;
    }
    lock_drop(&slots->lock);
    if (took_ns >= (uint64_t)slots->log.slow_hold_ms * NS_PER_MS) {
        log_say(&slots->log, GM_LOG_WARNING, "vCPUs were held out of guest mode for %" PRIu64 " ms",
                took_ns / NS_PER_MS);
    }
}

/*
 * Drain a log that ends, while vCPUs are held out. Also what cannot be read is in the record then.
 */
static void drain(struct gm_slots *slots, const struct slot *slot)
{
    if (slots_fetch_log(slots, slot, slot_span(slot)) != 0) {
        log_say(&slots->log, GM_LOG_WARNING,
                "the dirty log of slot %" PRIu32 " at 0x%" PRIx64
                " could not be read as it ended: all of its pages count as written",
                slot->shown.number, slot->shown.gpa);
        slots_mark_all(slot, slot_span(slot));
    }
}

/* The calls of the backend. One that keeps no log of a slot is not told that somebody wants one. */
static struct gm_slot slot_for_backend(const struct gm_slot *slot)
{
    struct gm_slot told = *slot;

    if ((told.flags & GM_SLOT_GUEST_MEMFD) != 0) {
        told.flags &= ~GM_SLOT_LOG;
    }
    return told;
}

static int create(struct gm_slots *slots, const struct gm_slot *slot)
{
    const struct gm_slot told = slot_for_backend(slot);

    return as_error(slots->ops.create(slots->opaque, &told));
}

static int destroy(struct gm_slots *slots, const struct gm_slot *slot)
{
    const struct gm_slot told = slot_for_backend(slot);

    return as_error(slots->ops.destroy(slots->opaque, &told));
}

static int set_flags(struct gm_slots *slots, const struct gm_slot *slot, uint32_t new_flags)
{
    return (slot->flags & GM_SLOT_GUEST_MEMFD) != 0
               ? 0
               : as_error(slots->ops.set_flags(slots->opaque, slot, new_flags));
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
        return destroy(slots, &slot->shown);
    case PLAN_SET_FLAGS:
        if (is_logged && (op->new_flags & GM_SLOT_LOG) == 0) {
            drain(slots, slot);
        }
        return set_flags(slots, &slot->shown, op->new_flags);
    case PLAN_CREATE:
        return create(slots, &slot->shown);
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
    rc = op->kind == PLAN_CREATE ? destroy(slots, &now->shown)
                                 : set_flags(slots, &now->shown, op->slot->shown.flags);
    if (!is_exact) {
        slots_mark_all(now, slot_span(now));
    }
    return rc;
}

static int take_back_slot(struct gm_slots *slots, const struct plan_op *op)
{
    struct slot now = *op->slot;

    if (op->kind == PLAN_DESTROY) {
        return create(slots, &now.shown);
    }
    if (op->kind == PLAN_SET_FLAGS) {
        now.shown.flags = op->new_flags;
    }
    return take_back_new(slots, op, &now);
}

static int step_do(struct gm_slots *slots, const struct step *step)
{
    return step->kind == STEP_SLOT ? slot_call(slots, step->op)
                                   : as_error(io_step_do(&slots->ops, slots->opaque, &step->io));
}

static int step_take_back(struct gm_slots *slots, const struct step *step)
{
    return step->kind == STEP_SLOT
               ? take_back_slot(slots, step->op)
               : as_error(io_step_take_back(&slots->ops, slots->opaque, &step->io));
}

static bool shares_private_part(const struct slot *slot, const struct slot *other)
{
    return slot != other && slot->ram == other->ram &&
           (other->shown.flags & GM_SLOT_GUEST_MEMFD) != 0 &&
           span_meets(span_of(slot->ram_offset, slot->shown.size_bytes),
                      span_of(other->ram_offset, other->shown.size_bytes));
}

/* Which slot of this space, as the plan leaves it, has some of the private memory of @slot? NULL: none. */
static const struct slot *find_private_part(const struct gm_slots *slots, const struct slot *slot)
{
    const struct plan *plan = &slots->plan;

    for (size_t i = 0; i < plan->op_count; i++) {
        if (plan->ops[i].kind == PLAN_CREATE && shares_private_part(slot, plan->ops[i].slot)) {
            return plan->ops[i].slot;
        }
    }
    for (const struct slot *other = slots->set.first; other != NULL; other = other->next) {
        bool is_deleted = false;

        for (size_t i = 0; i < plan->op_count; i++) {
            is_deleted |= plan->ops[i].kind == PLAN_DESTROY && plan->ops[i].slot == other;
        }
        if (!is_deleted && shares_private_part(slot, other)) {
            return other;
        }
    }
    return NULL;
}

/* A slot with a guest memfd was refused. No part of a file may be in two slots. */
static int explain_private(const struct gm_slots *slots, struct gm_diag *diag, int rc,
                           const struct slot *slot)
{
    const struct slot *other = find_private_part(slots, slot);

    if (other != NULL) {
        return diag_set(diag, GM_DIAG_BACKEND_GUEST_MEMFD, rc,
                        "the private memory of the RAM at 0x%" PRIx64 "+0x%" PRIx64
                        " is shown at 0x%" PRIx64 " as well, and can be in one slot only: %s",
                        slot->shown.gpa, slot->shown.size_bytes, other->shown.gpa, errno_name(rc));
    }
    return diag_set(diag, GM_DIAG_BACKEND_GUEST_MEMFD, rc,
                    "the hypervisor refused the guest memfd of the RAM at 0x%" PRIx64 "+0x%" PRIx64
                    ": is it of this VM, and this part of it in no other slot? (%s)",
                    slot->shown.gpa, slot->shown.size_bytes, errno_name(rc));
}

static int explain(const struct gm_slots *slots, struct gm_diag *diag, int rc,
                   const struct step *step)
{
    static const char *const VERBS[] = {
        [PLAN_DESTROY] = "delete",
        [PLAN_SET_FLAGS] = "change the flags of",
        [PLAN_CREATE] = "create",
    };
    const struct io_words *words;

    if (step->kind == STEP_SLOT) {
        const struct gm_slot *slot = &step->op->slot->shown;

        if (step->op->kind == PLAN_CREATE && (slot->flags & GM_SLOT_GUEST_MEMFD) != 0) {
            return explain_private(slots, diag, rc, step->op->slot);
        }
        return diag_set(
            diag, GM_DIAG_BACKEND_SLOT, rc,
            "the hypervisor refused to %s slot %" PRIu32 " at 0x%" PRIx64 "+0x%" PRIx64 ": %s",
            VERBS[step->op->kind], slot->number, slot->gpa, slot->size_bytes, errno_name(rc));
    }
    words = io_step_words(&step->io);
    return diag_set(diag, words->id, rc, "the hypervisor refused to %s the %s at 0x%" PRIx64 ": %s",
                    step->io.adds ? "add" : "remove", words->noun, io_step_address(&step->io),
                    errno_name(rc));
}

int slots_apply(void *opaque, struct gm_diag *diag)
{
    struct gm_slots *slots = opaque;
    int rc;

    if (!slots->is_pending) {
        return 0;
    }
    while (slots->steps_done < slots->step_count) {
        const struct step *step = &slots->steps[slots->steps_done];

        rc = step->kind == STEP_SLOT && slots->plan.needs_hold ? hold(slots) : 0;
        if (rc != 0) {
            return diag_set(diag, GM_DIAG_BACKEND_HOLD, rc,
                            "vCPUs could not be held out of guest mode: %s", errno_name(rc));
        }
        rc = step_do(slots, step);
        /* What is already in an unknown state is taken down as far as it goes. */
        if (rc != 0 && !(slots->is_broken && slots->is_detaching)) {
            return explain(slots, diag, rc, step);
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
        const struct step *step = &slots->steps[slots->steps_done];
        int taken = step_take_back(slots, step);

        if (taken != 0) {
            log_say(&slots->log, GM_LOG_ERROR,
                    "the hypervisor did not take back the change of the %s at 0x%" PRIx64 ": %s",
                    step->kind == STEP_SLOT ? "slot" : io_step_words(&step->io)->noun,
                    step->kind == STEP_SLOT ? step->op->slot->shown.gpa
                                            : io_step_address(&step->io),
                    errno_name(taken));
            slots->is_broken = true;
            rc = -EIO;
        }
    }
    slots_release(slots);
    return rc;
}
