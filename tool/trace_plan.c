/* trace_plan.c - what guestmem's planner would have done in the place of a VMM. */
#include "trace_plan.h"

#include "tool.h"

#include <linux/kvm.h>
#include <stdlib.h>

/* Flags that a slot has for good. */
#define FLAGS_FIXED (~(uint32_t)KVM_MEM_LOG_DIRTY_PAGES)

bool trace_range_differs(const struct trace_range *a, const struct trace_range *b)
{
    return a->hva - a->gpa != b->hva - b->gpa || ((a->flags ^ b->flags) & FLAGS_FIXED) != 0;
}

size_t trace_ranges_from(const struct trace_map *map, uint32_t as, uint64_t gpa)
{
    size_t place = trace_map_place(map, as, gpa);

    if (place > 0) {
        const struct trace_range *before = map->entries[place - 1].item;

        place -= before->as == as && before->last >= gpa;
    }
    return place;
}

struct trace_range *trace_ranges_at(const struct trace_map *map, size_t place, uint32_t as,
                                    uint64_t last)
{
    struct trace_range *range = place < map->count ? map->entries[place].item : NULL;

    return range != NULL && range->as == as && range->gpa <= last ? range : NULL;
}

static void add(struct trace_map *map, const struct trace_range *range)
{
    struct trace_range *copy = tool_alloc(sizeof(*copy));

    *copy = *range;
    free(trace_map_set(map, range->as, range->gpa, copy));
}

/* Add a range to a map of disjoint ones; it becomes one with those that it overlaps or touches. */
static void unite(struct trace_map *map, const struct trace_range *range)
{
    struct trace_range whole = *range;
    size_t place = trace_ranges_from(map, whole.as, whole.gpa - (whole.gpa > 0));
    struct trace_range *other;

    while ((other = trace_ranges_at(map, place, whole.as,
                                    whole.last + (whole.last < UINT64_MAX))) != NULL) {
        whole.gpa = other->gpa < whole.gpa ? other->gpa : whole.gpa;
        whole.last = other->last > whole.last ? other->last : whole.last;
        trace_map_remove_at(map, place);
        free(other);
    }
    add(map, &whole);
}

void trace_plan_damage(struct trace_plan *plan, const struct trace_range *range)
{
    unite(&plan->damage, range);
}

enum stay { STAYS_WHOLE, STAYS_IN_PART, IS_GONE };

/* What of a slot's memory is there now, and with which flags. */
static enum stay stay_of(const struct trace_range *slot, const struct trace_map *live,
                         uint32_t *flags)
{
    size_t place = trace_ranges_from(live, slot->as, slot->gpa);
    uint64_t next = slot->gpa; /* up to here all is as it was */
    const struct trace_range *now;
    bool is_whole = true;
    bool is_gone = true;

    *flags = slot->flags;
    for (; (now = trace_ranges_at(live, place, slot->as, slot->last)) != NULL; place++) {
        bool differs = trace_range_differs(slot, now);

        is_whole = is_whole && !differs && now->gpa <= next;
        is_gone = is_gone && differs;
        *flags = differs ? *flags : now->flags;
        if (now->last >= slot->last) {
            return is_whole ? STAYS_WHOLE : is_gone ? IS_GONE : STAYS_IN_PART;
        }
        next = now->last + 1;
    }
    return is_gone ? IS_GONE : STAYS_IN_PART;
}

/* Keep or delete the slots that reach into @window, and widen it to them. */
static void delete_changed(struct trace_plan *plan, const struct trace_map *live,
                           struct trace_range *window)
{
    size_t place = trace_ranges_from(&plan->slots, window->as, window->gpa);
    struct trace_range *slot;

    while ((slot = trace_ranges_at(&plan->slots, place, window->as, window->last)) != NULL) {
        uint32_t flags;
        enum stay stay = stay_of(slot, live, &flags);

        window->gpa = slot->gpa < window->gpa ? slot->gpa : window->gpa;
        window->last = slot->last > window->last ? slot->last : window->last;
        if (stay == STAYS_WHOLE) {
            plan->flags += flags != slot->flags;
            slot->flags = flags;
            place++;
        } else {
            plan->deleted++;
            plan->untouched += stay == STAYS_IN_PART;
            trace_map_remove_at(&plan->slots, place);
            free(slot);
        }
    }
}

/* Create what of a live slot lies within @window and is in no slot of the plan. */
static void create_missing(struct trace_plan *plan, const struct trace_range *now,
                           const struct trace_range *window)
{
    uint64_t next = now->gpa > window->gpa ? now->gpa : window->gpa;
    uint64_t last = now->last < window->last ? now->last : window->last;

    for (;;) {
        size_t place = trace_ranges_from(&plan->slots, now->as, next);
        const struct trace_range *kept = trace_ranges_at(&plan->slots, place, now->as, last);
        struct trace_range run = {now->as, now->flags, next, last, now->hva + (next - now->gpa)};
        uint64_t kept_last = kept != NULL ? kept->last : last;

        if (kept == NULL || kept->gpa > next) {
            run.last = kept != NULL ? kept->gpa - 1 : last;
            add(&plan->slots, &run);
            plan->created++;
        }
        if (kept_last >= last) {
            return;
        }
        next = kept_last + 1;
    }
}

void trace_plan_commit(struct trace_plan *plan, const struct trace_map *live)
{
    struct trace_map windows = {0};
    size_t i;

    for (i = 0; i < plan->damage.count; i++) {
        struct trace_range *window = plan->damage.entries[i].item;

        delete_changed(plan, live, window);
        unite(&windows, window);
    }
    for (i = 0; i < windows.count; i++) {
        const struct trace_range *window = windows.entries[i].item;
        size_t place = trace_ranges_from(live, window->as, window->gpa);
        const struct trace_range *now;

        for (; (now = trace_ranges_at(live, place, window->as, window->last)) != NULL; place++) {
            create_missing(plan, now, window);
        }
    }
    trace_map_fini(&windows, free);
    trace_map_fini(&plan->damage, free);
}

void trace_plan_fini(struct trace_plan *plan)
{
    trace_map_fini(&plan->slots, free);
    trace_map_fini(&plan->damage, free);
}
