/* space/tell.c - telling listeners what a commit changes. */
#include "space/tell.h"

#include "base/diag.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>

static bool hears(const struct gm_listener *listener, const struct gm_space *space)
{
    return listener->space == NULL || listener->space == space;
}

/* Does the listener take part at all? */
static bool takes_part(const struct telling *telling, const struct gm_listener *listener)
{
    size_t i;

    /* Global logging begins or ends for every listener that hears of it, whatever its space shows. */
    if ((telling->old_log_all == 0) != (telling->new_log_all == 0) &&
        (listener->ops.log_global_start != NULL || listener->ops.log_global_stop != NULL)) {
        return true;
    }
    for (i = 0; i < telling->told_count; i++) {
        if (hears(listener, telling->told[i].space)) {
            return true;
        }
    }
    return false;
}

static void count_call(const struct telling *telling)
{
    count_add(&telling->locked.map->hub->listener_calls, 1);
}

/* The sections of a list that several spaces share name the one that is told now. */
static void name_space(const struct told *told)
{
    size_t i;

    for (i = 0; i < told->changes->count; i++) {
        told->changes->items[i].section.space = told->space;
    }
}

static void call_plain(struct telling *telling, struct gm_listener *listener,
                       void (*call)(void *opaque))
{
    if (call != NULL) {
        count_call(telling);
        call(listener->opaque);
    }
}

/* Abort, in reverse, all listeners that have prepared or begun; the flags go with it. */
static void abort_all(struct telling *telling)
{
    size_t i;

    for (i = telling->listener_count; i-- > 0;) {
        struct gm_listener *listener = telling->listeners[i];

        if (listener->prepared || listener->begun) {
            call_plain(telling, listener, listener->ops.abort);
        }
        listener->prepared = false;
        listener->begun = false;
        listener->applied = false;
    }
}

/* What a listener has to say when it refuses: kept apart, as success writes no diag. */
static void begin_saying(struct gm_diag *said)
{
    said->code = 0;
    said->id = GM_DIAG_NONE;
    said->text[0] = '\0';
}

/* It has refused with @result. Return: @result. */
static int pass_on(const struct telling *telling, struct gm_diag *said, int result)
{
    if (said->text[0] == '\0') {
        return diag_set(telling->diag, GM_DIAG_LISTENER_REFUSED, result,
                        "a listener refused the commit: %s", strerror(-result));
    }
    if (telling->diag != NULL) {
        said->code = result;
        said->id = said->id != GM_DIAG_NONE ? said->id : GM_DIAG_LISTENER_REFUSED;
        *telling->diag = *said;
    }
    return result;
}

static int prepare_one(struct telling *telling, struct gm_listener *listener)
{
    struct gm_diag said;
    size_t i;
    int result = 0;

    begin_saying(&said);
    for (i = 0; i < telling->told_count && result == 0; i++) {
        const struct told *told = &telling->told[i];

        if (listener->ops.prepare != NULL && hears(listener, told->space)) {
            name_space(told);
            count_call(telling);
            result = listener->ops.prepare(listener->opaque, told->space, told->changes->items,
                                           told->changes->count, &said);
            listener->prepared = listener->prepared || result == 0;
        }
    }
    return result != 0 ? pass_on(telling, &said, result) : 0;
}

int tell_prepare(struct telling *telling)
{
    size_t i;

    for (i = 0; i < telling->listener_count; i++) {
        int result = prepare_one(telling, telling->listeners[i]);

        if (result != 0) {
            abort_all(telling);
            return result;
        }
    }
    return 0;
}

/* ---- begin and the two passes ---- */

static void call_change(struct telling *telling, struct gm_listener *listener,
                        const struct gm_change *change)
{
    const struct gm_listener_ops *ops = &listener->ops;
    void (*region_call)(void *, const struct gm_section *) = NULL;
    void (*log_call)(void *, const struct gm_section *, uint32_t, uint32_t) = NULL;
    void (*eventfd_call)(void *, const struct gm_section *, const struct gm_eventfd *) = NULL;
    void (*coalesced_call)(void *, const struct gm_section *, const struct gm_coalesced *) = NULL;

    switch (change->kind) {
    case GM_CHANGE_DEL:
        region_call = ops->region_del;
        break;
    case GM_CHANGE_NOP:
        region_call = ops->region_nop;
        break;
    case GM_CHANGE_ADD:
        region_call = ops->region_add;
        break;
    case GM_CHANGE_LOG_START:
        log_call = ops->log_start;
        break;
    case GM_CHANGE_LOG_STOP:
        log_call = ops->log_stop;
        break;
    case GM_CHANGE_EVENTFD_DEL:
        eventfd_call = ops->eventfd_del;
        break;
    case GM_CHANGE_COALESCED_DEL:
        coalesced_call = ops->coalesced_del;
        break;
    case GM_CHANGE_COALESCED_ADD:
        coalesced_call = ops->coalesced_add;
        break;
    case GM_CHANGE_EVENTFD_ADD:
        eventfd_call = ops->eventfd_add;
        break;
    }
    if (region_call != NULL) {
        count_call(telling);
        region_call(listener->opaque, &change->section);
    } else if (log_call != NULL) {
        count_call(telling);
        log_call(listener->opaque, &change->section, change->old_mask, change->new_mask);
    } else if (eventfd_call != NULL) {
        count_call(telling);
        eventfd_call(listener->opaque, &change->section, &change->eventfd);
    } else if (coalesced_call != NULL) {
        count_call(telling);
        coalesced_call(listener->opaque, &change->section, &change->coalesced);
    }
}

static bool descends(enum gm_change_kind kind)
{
    return kind == GM_CHANGE_DEL || kind == GM_CHANGE_LOG_STOP || kind == GM_CHANGE_EVENTFD_DEL ||
           kind == GM_CHANGE_COALESCED_DEL;
}

static void tell_pass(struct telling *telling, const struct told *told, size_t first, size_t end)
{
    size_t count = telling->listener_count;
    size_t i;
    size_t j;

    name_space(told);
    for (i = first; i < end; i++) {
        const struct gm_change *change = &told->changes->items[i];
        bool reverse = descends(change->kind);

        for (j = 0; j < count; j++) {
            struct gm_listener *listener = telling->listeners[reverse ? count - 1 - j : j];

            if (hears(listener, told->space)) {
                call_change(telling, listener, change);
            }
        }
    }
}

void tell_changes(struct telling *telling)
{
    bool global_starts = telling->old_log_all == 0 && telling->new_log_all != 0;
    bool global_stops = telling->old_log_all != 0 && telling->new_log_all == 0;
    size_t i;

    for (i = 0; i < telling->listener_count; i++) {
        struct gm_listener *listener = telling->listeners[i];

        if (takes_part(telling, listener)) {
            listener->begun = true;
            call_plain(telling, listener, listener->ops.begin);
            if (global_starts) {
                call_plain(telling, listener, listener->ops.log_global_start);
            }
        }
    }
    for (i = 0; i < telling->told_count; i++) {
        tell_pass(telling, &telling->told[i], 0, telling->told[i].changes->second_pass);
    }
    for (i = 0; i < telling->told_count; i++) {
        const struct change_list *changes = telling->told[i].changes;

        tell_pass(telling, &telling->told[i], changes->second_pass, changes->count);
    }
    for (i = telling->listener_count; global_stops && i-- > 0;) {
        struct gm_listener *listener = telling->listeners[i];

        if (listener->begun) {
            call_plain(telling, listener, listener->ops.log_global_stop);
        }
    }
}

/* ---- side effects ---- */

static int undo_all(struct telling *telling)
{
    int result = 0;
    size_t i;

    for (i = telling->listener_count; i-- > 0;) {
        struct gm_listener *listener = telling->listeners[i];

        if (listener->applied && listener->ops.undo != NULL) {
            count_call(telling);
            if (listener->ops.undo(listener->opaque) != 0) {
                result = -EIO;
            }
        }
    }
    if (result != 0) {
        atomic_store_explicit(&telling->locked.map->hub->broken, true, memory_order_relaxed);
        log_say(&telling->locked.map->log, GM_LOG_ERROR,
                "a failed commit could not be undone: the map is broken and takes no more commits");
        diag_set(telling->diag, GM_DIAG_UNDO_FAILED, result,
                 "a failed commit could not be undone: the map is broken");
    }
    return result;
}

int tell_apply(struct telling *telling)
{
    struct gm_diag said;
    size_t i;

    for (i = 0; i < telling->listener_count; i++) {
        struct gm_listener *listener = telling->listeners[i];
        int result;

        if (!listener->begun || listener->ops.apply == NULL) {
            continue;
        }
        count_call(telling);
        listener->applied = true; /* in part, if it fails: it is asked to undo that, too */
        begin_saying(&said);
        result = listener->ops.apply(listener->opaque, &said);
        if (result != 0) {
            int undone;

            (void)pass_on(telling, &said, result);
            undone = undo_all(telling);
            abort_all(telling);
            return undone != 0 ? undone : result;
        }
    }
    return 0;
}

void tell_settled(struct telling *telling)
{
    size_t i;

    for (i = telling->listener_count; i-- > 0;) {
        struct gm_listener *listener = telling->listeners[i];

        if (listener->applied) {
            call_plain(telling, listener, listener->ops.settle);
        }
    }
    for (i = 0; i < telling->listener_count; i++) {
        struct gm_listener *listener = telling->listeners[i];

        if (listener->begun) {
            call_plain(telling, listener, listener->ops.commit);
        }
        listener->prepared = false;
        listener->begun = false;
        listener->applied = false;
    }
}

int tell_add(struct telling *telling, struct gm_space *space, struct change_list *changes)
{
    struct told *told =
        mem_reserve(&telling->locked.map->scratch.allocator, telling->told, &telling->told_capacity,
                    telling->told_count + 1, sizeof(*told));
    size_t at = telling->told_count;

    if (told == NULL) {
        return -ENOMEM;
    }
    telling->told = told;
    while (at > 0 && told[at - 1].space->index > space->index) {
        at--;
    }
    if (at > 0 && told[at - 1].space == space) {
        return 0;
    }
    memmove(&told[at + 1], &told[at], (telling->told_count - at) * sizeof(*told));
    told[at] = (struct told){space, changes};
    telling->told_count++;
    return 0;
}

void tell_end(struct telling *telling)
{
    mem_free(&telling->locked.map->scratch.allocator, telling->told);
}
