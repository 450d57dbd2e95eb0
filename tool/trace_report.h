/*
 * trace_report.h - what `guestmem slots` has to say about a trace, for people and as JSON.
 */
#ifndef TOOL_TRACE_REPORT_H
#define TOOL_TRACE_REPORT_H

#include "trace_vm.h"

#include <stdio.h>

struct trace_report {
    const struct trace_follow *follow;
    FILE *events; /* each event as a line for people, or NULL: all findings are listed as well */
    bool has_timeline;
};

/* On stdout. */
void trace_report_print(const struct trace_report *report);

/* Print the same as a JSON document. Return: an exit code. */
int trace_report_json(const struct trace_follow *follow);

/* Write one event as a line. */
void trace_event_print(FILE *file, unsigned long line, const struct trace_event *event);

/* "unchanged", "moved", ... */
const char *trace_finding_name(enum trace_finding_kind kind);

/* Each slot's time as a row of a picture, of the first VMs. */
void trace_timeline_print(const struct trace_follow *follow, size_t vm_count);

#endif
