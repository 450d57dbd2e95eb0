/* preload/trace_call.h - what a trace tells of an ioctl. */
#ifndef PRELOAD_TRACE_CALL_H
#define PRELOAD_TRACE_CALL_H

#include "preload/object.h"
#include "preload/trace_line.h"

struct trace_call {
    const struct object *object; /* NULL: /dev/kvm */
    int fd;
    unsigned request;
    uint64_t argument;
    long result; /* 0 or more, or -errno */
};

/* Calls that are about memory, all that fail, and what programs decide by: KVM_CHECK_EXTENSION. */
bool trace_call_is_told(const struct trace_call *call);

/* Did it fail because the software KVM does not have the request? */
bool trace_call_is_unsupported(const struct trace_call *call);

void trace_call_fields(struct trace_line *line, const struct trace_call *call);

/* The sizes of a VM's slots, which dirty logs are read by. */
void trace_slots_begin(struct object *vm);
void trace_slots_end(struct object *vm);

#endif
