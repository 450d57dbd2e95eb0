/* trace_strace.c - what the lines of an strace mean: requests of KVM, on one line or on two. */
#include "trace_strace.h"

#include "tool.h"
#include "trace_strace_who.h"

#include <stdlib.h>
#include <string.h>

struct strace *strace_new(void)
{
    return tool_alloc(sizeof(struct strace));
}

void strace_free(struct strace *strace)
{
    if (strace != NULL) {
        trace_map_fini(&strace->threads, strace_thread_free);
        trace_map_fini(&strace->descriptors, free);
        free(strace);
    }
}

/* ---- time ---- */

/* Since the trace's first line. */
static uint64_t time_of(struct strace *strace, const struct strace_line *line)
{
    uint64_t now = line->time_us;

    if (line->clock == STRACE_RELATIVE) {
        now = strace->last_us + line->time_us;
        strace->last_us = now;
        return now;
    }
    if (!strace->has_time) {
        strace->base_us = now;
        strace->has_time = true;
    }
    now += strace->days_us;
    if (line->clock == STRACE_DAY && now + 43200000000u < strace->last_us) { /* midnight */
        strace->days_us += 86400000000u;
        now += 86400000000u;
    }
    strace->last_us = now > strace->last_us ? now : strace->last_us;
    return now > strace->base_us ? now - strace->base_us : 0;
}

/* ---- ioctl ---- */

/* A request: a name, or a number with a name in a comment. Return: false: not one of KVM's. */
static bool parse_request(struct word word, struct trace_event *event)
{
    struct word rest = word;
    struct word first = trace_split(&rest, ' ');
    const char *name = NULL;
    uint64_t number;
    uint64_t kind;

    if (trace_is_request(first)) {
        event->call = trace_call_by_name(first);
        trace_copy(event->name, sizeof(event->name), first);
        return true;
    }
    if (first.length > 5 && memcmp(first.text, "_IOC(", 5) == 0) { /* not known to strace */
        struct word parts = {word.text + 5, word.length - 6};
        struct word direction = strace_argument(&parts);
        uint64_t size;

        if (!trace_number(strace_argument(&parts), &kind) ||
            !trace_number(strace_argument(&parts), &number) ||
            !trace_number(strace_argument(&parts), &size) || kind != 0xae || number > 0xff ||
            size > 0x3fff) {
            return false;
        }
        number |= kind << 8 | size << 16 |
                  (uint64_t)strace_contains(direction, "_IOC_WRITE") << 30 |
                  (uint64_t)strace_contains(direction, "_IOC_READ") << 31;
    } else if (!trace_number(first, &number) || (number >> 8 & 0xff) != 0xae) {
        return false;
    }
    if (!trace_call_by_number(number, &event->call, &name)) {
        event->call = TRACE_OTHER;
        snprintf(event->name, sizeof(event->name), "0x%llx", (unsigned long long)number);
    } else {
        trace_copy(event->name, sizeof(event->name), (struct word){name, strlen(name)});
    }
    return true;
}

/* The value of NAME=VALUE within braces, without a comment. */
static bool member(struct word text, const char *name, struct word *value)
{
    if (text.length < 2 || *text.text != '{' || text.text[text.length - 1] != '}') {
        return false;
    }
    text = (struct word){text.text + 1, text.length - 2};
    while (text.length > 0) {
        struct word rest = strace_argument(&text);
        struct word key = trace_split(&rest, '=');

        if (word_is(key, name)) {
            *value = trace_split(&rest, ' ');
            return value->length > 0;
        }
    }
    return false;
}

static bool member_number(struct word text, const char *name, uint64_t *value)
{
    struct word word;

    return member(text, name, &word) && trace_number(word, value);
}

static bool parse_slot(struct word text, struct trace_event *event)
{
    uint64_t slot;

    if (!member_number(text, "slot", &slot) || slot > UINT32_MAX) {
        return false;
    }
    event->slot = (uint32_t)slot & 0xffff;
    event->as = (uint32_t)slot >> 16;
    return true;
}

static bool parse_region(struct word text, struct trace_event *event)
{
    struct word flags;

    return parse_slot(text, event) && member(text, "flags", &flags) &&
           trace_flags(flags, &event->flags) &&
           member_number(text, "guest_phys_addr", &event->gpa) &&
           member_number(text, "memory_size", &event->size_bytes) &&
           member_number(text, "userspace_addr", &event->hva);
}

/* What of a call's argument is needed. Return: 0; -1 the user has been told. */
static int parse_argument(struct trace *trace, const struct strace_line *line, struct word text,
                          struct trace_event *event)
{
    uint64_t number;

    switch (event->call) {
    case TRACE_SET_REGION:
        event->has_fields = parse_region(text, event);
        if (!event->has_fields && line->result == TRACE_SUCCESS) {
            return lines_error(&trace->lines,
                               text.length > 0 && *text.text == '{'
                                   ? "the arguments of %s are incomplete or wrong"
                                   : "strace shows only the address of the arguments of %s; a "
                                     "trace of `guestmem kvm --trace` has them",
                               event->name);
        }
        return 0;
    case TRACE_GET_LOG:
    case TRACE_CLEAR_LOG:
        event->has_fields = parse_slot(text, event);
        return 0;
    case TRACE_VCPU_CREATE:
        event->has_fields = trace_number(trace_split(&text, ' '), &number) && number < TRACE_NONE;
        event->vcpu = event->has_fields ? (uint32_t)number : TRACE_NONE;
        return 0;
    default:
        return 0;
    }
}

/* @arguments may be those of two lines put together. */
static int read_ioctl(struct trace *trace, const struct strace_line *line, struct word arguments,
                      struct trace_event *event)
{
    struct word rest = arguments;
    struct strace_descriptor used;

    if (!strace_descriptor(strace_argument(&rest), &used) ||
        !parse_request(strace_argument(&rest), event)) {
        return 0;
    }
    event->result = line->result;
    event->value = line->value;
    event->error = line->error;
    if (parse_argument(trace, line, strace_argument(&rest), event) != 0) {
        return -1;
    }
    strace_place(trace, &used, event);
    return event->vm != TRACE_NONE || event->call == TRACE_VM_CREATE;
}

/* ---- calls on two lines ---- */

static int begin_call(struct trace *trace, const struct strace_line *line,
                      struct trace_event *event)
{
    struct thread *thread = strace_thread_of(trace->strace, line->tid);
    struct trace_event begun = *event;

    free(thread->pending);
    thread->pending = tool_strndup(line->arguments.text, line->arguments.length);
    thread->begin_us = event->begin_us;
    if (!word_is(line->name, "ioctl") || read_ioctl(trace, line, line->arguments, &begun) != 1 ||
        begun.call != TRACE_RUN) {
        return 0;
    }
    *event = begun;
    event->is_begin = true;
    return 1;
}

static struct word whole_arguments(struct trace *trace, const struct strace_line *line)
{
    struct strace *strace = trace->strace;
    struct thread *thread = strace_thread_of(strace, line->tid);
    int length = snprintf(strace->text, sizeof(strace->text), "%s%.*s",
                          thread->pending != NULL ? thread->pending : "",
                          (int)(line->arguments.length % INT32_MAX), line->arguments.text);

    free(thread->pending);
    thread->pending = NULL;
    return (struct word){strace->text, (size_t)length < sizeof(strace->text)
                                           ? (size_t)length
                                           : sizeof(strace->text) - 1};
}

static int end_call(struct trace *trace, struct strace_line *line, struct trace_event *event)
{
    struct thread *thread = strace_thread_of(trace->strace, line->tid);

    if (thread->pending == NULL) {
        return 0; /* it began before the trace */
    }
    event->begin_us = thread->begin_us;
    line->arguments = whole_arguments(trace, line);
    return word_is(line->name, "ioctl") ? read_ioctl(trace, line, line->arguments, event)
                                        : strace_other_call(trace, line, event);
}

/* ---- a line ---- */

static int read_foreign(struct trace *trace)
{
    const char *text = trace->lines.text;

    if (strstr(text, "ioctl(") != NULL && strstr(text, "KVM_SET_USER_MEMORY_REGION") != NULL) {
        return lines_error(&trace->lines,
                           "a KVM_SET_USER_MEMORY_REGION that is not as strace writes it");
    }
    if (trace->passed++ == 0) {
        trace->passed_first = trace->lines.number;
    }
    return 0;
}

int strace_read(struct trace *trace, struct trace_event *event)
{
    struct strace *strace = trace->strace;
    struct strace_line line;

    strace_line_parse(trace->lines.text, &line);
    if (line.kind == STRACE_FOREIGN) {
        return read_foreign(trace);
    }
    event->vm = TRACE_NONE;
    event->vcpu = TRACE_NONE;
    event->tid = line.tid;
    event->has_time = line.clock != STRACE_NO_CLOCK;
    if (event->has_time) {
        trace->is_coarse = line.is_coarse;
        trace->has_took |= line.has_took;
        event->begin_us = time_of(strace, &line);
        event->end_us = event->begin_us;
        if (line.kind == STRACE_CALL && line.has_took && line.took_us < UINT32_MAX) {
            event->end_us += line.took_us;
        }
    }
    switch (line.kind) {
    case STRACE_CALL:
        return word_is(line.name, "ioctl") ? read_ioctl(trace, &line, line.arguments, event)
                                           : strace_other_call(trace, &line, event);
    case STRACE_BEGIN:
        return begin_call(trace, &line, event);
    case STRACE_END:
        return end_call(trace, &line, event);
    case STRACE_EXITED:
        return strace_exited(trace, &line, event);
    default:
        return 0;
    }
}
