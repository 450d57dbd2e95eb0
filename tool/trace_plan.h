/*
 * trace_plan.h - what guestmem's planner would have done in the place of a VMM: a slot is kept while
 * all of its memory stays as it is; one of which a part changes is deleted, and what stays of it is
 * created anew, in pieces that are then kept apart (src/slots/plan.h, P-1 and P-2).
 */
#ifndef TOOL_TRACE_PLAN_H
#define TOOL_TRACE_PLAN_H

#include "trace_map.h"

#include <stdbool.h>
#include <stdint.h>

/* Guest memory with the host memory that it shows. */
struct trace_range {
    uint32_t as;
    uint32_t flags; /* KVM_MEM_* */
    uint64_t gpa;
    uint64_t last; /* inclusive */
    uint64_t hva;
};

/* All zeros is one without slots. */
struct trace_plan {
    struct trace_map slots; /* as, gpa -> struct trace_range; disjoint */
    struct trace_map
        damage; /* as, gpa -> struct trace_range: where the commit has changed something; disjoint */
    uint64_t created;
    uint64_t deleted;
    uint64_t untouched; /* of the deleted: some of the memory stayed as it was */
    uint64_t flags;
};

/* Does other memory, or memory with other rights, stand where both are? */
bool trace_range_differs(const struct trace_range *a, const struct trace_range *b);

/* The place of the first range that reaches to @gpa or beyond; the map's ranges are disjoint. */
size_t trace_ranges_from(const struct trace_map *map, uint32_t as, uint64_t gpa);

/* The range there, if it begins at or below @last; else NULL. */
struct trace_range *trace_ranges_at(const struct trace_map *map, size_t place, uint32_t as,
                                    uint64_t last);

void trace_plan_damage(struct trace_plan *plan, const struct trace_range *range);
/* The commit is over: @live has the slots that are there now, items begin with a struct trace_range. */
void trace_plan_commit(struct trace_plan *plan, const struct trace_map *live);
void trace_plan_fini(struct trace_plan *plan);

#endif
