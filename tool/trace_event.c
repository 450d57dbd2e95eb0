/* trace_event.c - one event of a trace as a line for people. */
#include "trace_report.h"

#include <inttypes.h>

static void print_object(FILE *file, const struct trace_event *event)
{
    char text[32] = "-";

    if (event->vm != TRACE_NONE && event->vcpu != TRACE_NONE) {
        snprintf(text, sizeof(text), "%" PRIu32 ".%" PRIu32, event->vm, event->vcpu);
    } else if (event->vm != TRACE_NONE) {
        snprintf(text, sizeof(text), "%" PRIu32, event->vm);
    }
    fprintf(file, "  %5s", text);
}

static void print_arguments(FILE *file, const struct trace_event *event)
{
    char flags[TRACE_FLAGS_BYTES];

    switch (event->has_fields ? event->call : TRACE_OTHER) {
    case TRACE_SET_REGION:
        fprintf(file, "  as %" PRIu32 " slot %" PRIu32, event->as, event->slot);
        fprintf(file, " gpa %" PRIx64 " size %" PRIx64 " hva %" PRIx64 "%s%s", event->gpa,
                event->size_bytes, event->hva, event->flags != 0 ? " " : "",
                trace_flags_text(event->flags, flags));
        break;
    case TRACE_GET_LOG:
    case TRACE_CLEAR_LOG:
        fprintf(file, "  as %" PRIu32 " slot %" PRIu32, event->as, event->slot);
        if (event->has_dirty) {
            fprintf(file, " dirty %" PRIu64, event->dirty_count);
        }
        break;
    case TRACE_SET_ATTRIBUTES:
    case TRACE_PRE_FAULT:
        fprintf(file, "  gpa %" PRIx64 " size %" PRIx64, event->gpa, event->size_bytes);
        break;
    case TRACE_NOTIFY:
        fprintf(file, "  %s hva %" PRIx64 " size %" PRIx64, event->text, event->hva,
                event->size_bytes);
        break;
    case TRACE_ENABLE_CAP:
    case TRACE_RUN:
        fprintf(file, "  %s", event->text);
        break;
    default:
        break;
    }
}

void trace_event_print(FILE *file, unsigned long line, const struct trace_event *event)
{
    if (event->has_time) {
        fprintf(file, "  %6" PRIu64 ".%06" PRIu64, event->end_us / 1000000,
                event->end_us % 1000000);
    }
    fprintf(file, "  %8lu  %7" PRIu32, line, event->tid);
    print_object(file, event);
    fprintf(file, "  %s", event->name);
    print_arguments(file, event);
    if (event->is_begin) {
        fputs("  begins", file);
    } else if (event->call == TRACE_CLOSE || event->call == TRACE_EXIT) {
        /* the result says nothing */
    } else if (event->result == TRACE_ERROR) {
        fprintf(file, "  = %s", event->error);
    } else if (event->result == TRACE_UNKNOWN) {
        fputs("  = ?", file);
    } else {
        fprintf(file, "  = %" PRIu64, event->value);
    }
    fputc('\n', file);
}
