/* cmd_slots.c - `guestmem slots`: what a VMM did to its memory slots, from a trace of its calls. */
#include "tool.h"
#include "trace_report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: guestmem slots [--json] [--all] [--timeline] FILE\n"
    "\n"
    "Show what a program did to the memory slots of its VMs: what it created, moved and deleted,\n"
    "logging, dirty logs, errors; above all, memory that did not change and was deleted and made\n"
    "again, for how long it was gone, and which vCPUs were in KVM_RUN meanwhile. FILE, or - for\n"
    "stdin, is a trace of `guestmem kvm --trace`, or of a program on a real KVM, recorded with\n"
    "\n"
    "  strace -f -ttt -T -e trace=ioctl,close,dup,%process -o FILE PROGRAM ...\n"
    "\n"
    "of which -f -e ioctl is what it takes; without times there are no durations. Addresses are\n"
    "hexadecimal, all else decimal; times are seconds since the trace began. In the report a\n"
    "commit is a row of slot calls by one thread that did not run the guest in between. Notable:\n"
    "\n"
    "  unchanged     a delete of memory that the same commit made again where it was\n"
    "  returned      memory that a later commit made again as it was\n"
    "  moved, flags  of a slot that stayed: another address; logging on or off\n"
    "  failed        KVM's errno, and which slot was in the way\n"
    "  notified      host memory under a slot was unmapped, discarded or protected\n"
    "  odd           what KVM would have refused: the trace does not have everything\n"
    "  unsupported   a request that the software KVM does not have\n"
    "\n"
    "  --all         list every event, every notable one, and every slot\n"
    "  --timeline    draw each slot from its creation to its end\n"
    "  --json        the report as JSON, for programs\n"
    "  --help        this text\n"
    "\n"
    "Exit code: 0; 1 the output could not be written; 2 the file is no trace, or a line of it is\n"
    "wrong: FILE:LINE says how, and there is no report.\n";

/* Read it all. Return: 0; -1 the user has been told. */
static int follow_trace(struct trace *trace, struct trace_follow *follow, FILE *events)
{
    struct trace_event event;
    int result;

    while ((result = trace_next(trace, &event)) == 1) {
        trace_follow_event(follow, &event);
        if (events != NULL) {
            trace_event_print(events, trace->lines.number, &event);
        }
    }
    trace_follow_end(follow);
    return result;
}

static int report(const struct trace_follow *follow, const struct tool_options *options,
                  FILE *events)
{
    struct trace_report whole = {follow, events, options->timeline};

    if (options->json) {
        return trace_report_json(follow);
    }
    if (events != NULL && (fflush(events) != 0 || ferror(events))) {
        tool_error("cannot keep the events: %s", strerror(errno));
        return TOOL_FAILED;
    }
    trace_report_print(&whole);
    return tool_finish_output();
}

int cmd_slots(int argc, char **argv)
{
    struct tool_options options = {
        .help = help, .takes_json = true, .takes_all = true, .takes_timeline = true};
    struct trace_follow follow;
    struct trace trace;
    FILE *events = NULL;
    int exit_code;

    if (!tool_options_parse(&options, argc, argv, &exit_code)) {
        return exit_code;
    }
    if (options.json && (options.all || options.timeline)) {
        tool_error("slots: --json has all there is, and goes without --all and --timeline");
        return TOOL_BAD_INPUT;
    }
    if (options.all) {
        events = tmpfile(); /* the report's beginning is known at the trace's end */
        if (events == NULL) {
            tool_error("cannot make a temporary file: %s", strerror(errno));
            return TOOL_FAILED;
        }
    }
    trace_follow_init(&follow, &trace);
    exit_code = TOOL_BAD_INPUT;
    if (trace_open(&trace, options.path) == 0 && follow_trace(&trace, &follow, events) == 0) {
        exit_code = report(&follow, &options, events);
    }
    trace_follow_fini(&follow);
    trace_close(&trace);
    if (events != NULL) {
        fclose(events);
    }
    return exit_code;
}
