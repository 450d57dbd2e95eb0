/* slots/io.c - the calls that a commit's eventfds and coalesced ranges come to. */
#include "slots/io.h"

#include <stdlib.h>

static bool is_eventfd(enum gm_change_kind kind)
{
    return kind == GM_CHANGE_EVENTFD_DEL || kind == GM_CHANGE_EVENTFD_ADD;
}

static bool is_coalesced(enum gm_change_kind kind)
{
    return kind == GM_CHANGE_COALESCED_DEL || kind == GM_CHANGE_COALESCED_ADD;
}

static bool has_step(const struct gm_backend_ops *ops, const struct gm_change *change)
{
    return (ops->eventfd_add != NULL && is_eventfd(change->kind)) ||
           (ops->coalesced_add != NULL && is_coalesced(change->kind));
}

size_t io_plan_room(const struct gm_backend_ops *ops, const struct gm_change *changes, size_t count)
{
    size_t room = 0;

    for (size_t i = 0; i < count; i++) {
        room += has_step(ops, &changes[i]) ? 1 : 0;
    }
    return room;
}

static struct io_step step_of(const struct gm_change *change)
{
    const struct gm_section *section = &change->section;

    if (is_eventfd(change->kind)) {
        return (struct io_step){
            .adds = change->kind == GM_CHANGE_EVENTFD_ADD,
            .kind = IO_EVENTFD,
            .eventfd = change->eventfd,
        };
    }
    return (struct io_step){
        .adds = change->kind == GM_CHANGE_COALESCED_ADD,
        .kind = IO_COALESCED,
        .coalesced = change->coalesced,
        .region = section->region,
        .offset = section->offset + (change->coalesced.gpa - section->gpa),
    };
}

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

/* By address first; equal is what a backend could not tell apart, and a collected write's region neither. */
static int compare(const void *left, const void *right)
{
    const struct io_step *a = left;
    const struct io_step *b = right;
    const uint64_t differences[][2] = {
        {io_step_address(a), io_step_address(b)},
        {a->kind, b->kind},
        {a->eventfd.size_bytes, b->eventfd.size_bytes},
        {a->eventfd.match, b->eventfd.match},
        {a->eventfd.value, b->eventfd.value},
        {(uint32_t)a->eventfd.fd, (uint32_t)b->eventfd.fd},
        {a->coalesced.last, b->coalesced.last},
        {(uintptr_t)a->region, (uintptr_t)b->region},
        {a->offset, b->offset},
    };
    int result = 0;

    for (size_t i = 0; result == 0 && i < sizeof(differences) / sizeof(differences[0]); i++) {
        result = compare_numbers(differences[i][0], differences[i][1]);
    }
    return result;
}

static size_t collect(struct io_step *steps, const struct gm_backend_ops *ops,
                      const struct gm_change *changes, size_t count, bool adds)
{
    size_t collected = 0;

    for (size_t i = 0; i < count; i++) {
        if (has_step(ops, &changes[i])) {
            struct io_step step = step_of(&changes[i]);

            if (step.adds == adds) {
                steps[collected] = step;
                collected++;
            }
        }
    }
    if (collected > 1) {
        qsort(steps, collected, sizeof(*steps), compare);
    }
    return collected;
}

/* Leave out what both parts have; @dels and @adds are sorted, and lie one behind the other. */
static void leave_pairs_out(struct io_plan *plan, size_t del_count, size_t add_count)
{
    struct io_step *adds = &plan->steps[del_count];
    size_t kept_dels = 0;
    size_t kept_adds = 0;
    size_t del = 0;
    size_t add = 0;

    while (del < del_count || add < add_count) {
        int order = del == del_count   ? 1
                    : add == add_count ? -1
                                       : compare(&plan->steps[del], &adds[add]);

        if (order < 0) {
            plan->steps[kept_dels] = plan->steps[del];
            kept_dels++;
        } else if (order > 0) {
            adds[kept_adds] = adds[add];
            kept_adds++;
        }
        del += order <= 0 ? 1 : 0;
        add += order >= 0 ? 1 : 0;
    }
    for (size_t i = 0; i < kept_adds; i++) {
        plan->steps[kept_dels + i] = adds[i];
    }
    plan->del_count = kept_dels;
    plan->count = kept_dels + kept_adds;
}

void io_plan_fill(struct io_plan *plan, const struct gm_backend_ops *ops,
                  const struct gm_change *changes, size_t count)
{
    size_t del_count = collect(plan->steps, ops, changes, count, false);
    size_t add_count = collect(&plan->steps[del_count], ops, changes, count, true);

    leave_pairs_out(plan, del_count, add_count);
}

static int call(const struct gm_backend_ops *ops, void *opaque, const struct io_step *step,
                bool adds)
{
    const struct gm_eventfd *eventfd = &step->eventfd;
    const struct gm_coalesced *range = &step->coalesced;

    if (step->kind == IO_EVENTFD) {
        return (adds ? ops->eventfd_add : ops->eventfd_del)(opaque, eventfd->offset,
                                                            eventfd->size_bytes, eventfd->match,
                                                            eventfd->value, eventfd->fd);
    }
    return (adds ? ops->coalesced_add : ops->coalesced_del)(opaque, range->gpa, range->last);
}

int io_step_do(const struct gm_backend_ops *ops, void *opaque, const struct io_step *step)
{
    return call(ops, opaque, step, step->adds);
}

int io_step_take_back(const struct gm_backend_ops *ops, void *opaque, const struct io_step *step)
{
    return call(ops, opaque, step, !step->adds);
}

uint64_t io_step_address(const struct io_step *step)
{
    return step->kind == IO_EVENTFD ? step->eventfd.offset : step->coalesced.gpa;
}

const struct io_words *io_step_words(const struct io_step *step)
{
    static const struct io_words WORDS[] = {
        [IO_EVENTFD] = {GM_DIAG_BACKEND_EVENTFD, "eventfd"},
        [IO_COALESCED] = {GM_DIAG_BACKEND_COALESCED, "coalesced range"},
    };

    return &WORDS[step->kind];
}
