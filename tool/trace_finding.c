/* trace_finding.c - what is notable in a trace: making findings and keeping them. */
#include "trace_commit.h"

#include "tool.h"

struct trace_finding trace_finding_of(const struct trace_follow *follow,
                                      const struct trace_event *event, enum trace_finding_kind kind)
{
    return (struct trace_finding){
        .kind = kind,
        .vm = event->vm,
        .line = follow->trace->lines.number,
        .has_time = event->has_time,
        .time_us = event->end_us,
        .as = event->as,
        .slot = event->slot,
        .flags = event->flags,
        .gpa = event->gpa,
        .last = event->size_bytes == 0 ? event->gpa
                : event->size_bytes - 1 > UINT64_MAX - event->gpa
                    ? UINT64_MAX
                    : event->gpa + (event->size_bytes - 1),
        .hva = event->hva,
        .other = TRACE_NONE,
    };
}

void trace_finding_about(struct trace_finding *finding, const struct trace_slot *slot)
{
    finding->as = slot->range.as;
    finding->slot = slot->number;
    finding->flags = slot->range.flags;
    finding->gpa = slot->range.gpa;
    finding->last = slot->range.last;
    finding->hva = slot->range.hva;
}

void trace_finding_add(struct trace_follow *follow, const struct trace_finding *finding)
{
    if (follow->finding_count == TRACE_FINDINGS_MAX) {
        follow->findings_left_out++;
        return;
    }
    follow->findings = tool_reserve(follow->findings, &follow->finding_capacity,
                                    follow->finding_count + 1, sizeof(*finding));
    follow->findings[follow->finding_count++] = *finding;
}
