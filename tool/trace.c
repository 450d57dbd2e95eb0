/* trace.c - opening a trace, and reading its events whichever format it has. */
#include "trace.h"

#include "trace_strace.h"
#include "tool.h"

#include <string.h>

/* A program's own output may come before strace's first line; this much of it. */
#define SEARCH_LINES 10000

static int refuse(const struct trace *trace, const char *what)
{
    return lines_error(&trace->lines,
                       "%s: expected a trace of `guestmem kvm --trace` (its first line is "
                       "`guestmem-trace 1`) or the output of `strace -f -e ioctl`",
                       what);
}

static bool is_strace(const char *text)
{
    struct strace_line line;

    strace_line_parse(text, &line);
    return line.kind != STRACE_FOREIGN;
}

/* A # begins a comment in guestmem's own format only. */
static int next_line(struct trace *trace)
{
    if (trace->format == TRACE_FORMAT_STRACE) {
        return lines_next_or_comment(&trace->lines);
    }
    return lines_next(&trace->lines);
}

/* Which format the current line is of. */
static void recognise(struct trace *trace)
{
    if (trace->passed == 0 && strncmp(trace->lines.text, "guestmem-trace", 14) == 0) {
        trace->format = TRACE_FORMAT_GUESTMEM;
        trace->own = trace_own_new();
    } else if (is_strace(trace->lines.text)) {
        trace->format = TRACE_FORMAT_STRACE;
        trace->strace = strace_new();
    } else if (trace->passed++ == 0) {
        trace->passed_first = trace->lines.number;
    }
}

int trace_open(struct trace *trace, const char *path)
{
    *trace = (struct trace){0};
    return lines_open(&trace->lines, path);
}

void trace_close(struct trace *trace)
{
    trace_own_free(trace->own);
    strace_free(trace->strace);
    lines_close(&trace->lines);
}

/* Return: 1 an event; 0 none on this line; -1 it is wrong. */
static int read_line(struct trace *trace, struct trace_event *event)
{
    if (trace->format == TRACE_FORMAT_UNKNOWN) {
        recognise(trace);
    }
    if (trace->format == TRACE_FORMAT_UNKNOWN) {
        return trace->passed < SEARCH_LINES ? 0 : refuse(trace, "this is neither kind of trace");
    }
    *event = (struct trace_event){0};
    return trace->format == TRACE_FORMAT_GUESTMEM ? trace_own_read(trace, event)
                                                  : strace_read(trace, event);
}

int trace_next(struct trace *trace, struct trace_event *event)
{
    int result;

    while ((result = next_line(trace)) == 1) {
        if (trace->lines.is_cut && trace->format != TRACE_FORMAT_UNKNOWN) {
            trace->is_cut = true;
            return 0;
        }
        result = read_line(trace, event);
        if (result != 0) {
            return result;
        }
    }
    if (result == 0 && trace->format == TRACE_FORMAT_UNKNOWN) {
        return trace->lines.number == 0 ? refuse(trace, "the file is empty")
                                        : refuse(trace, "this is neither kind of trace");
    }
    return result;
}
