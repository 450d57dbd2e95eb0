/*
 * trace.h - reading a trace of KVM's memory calls: what `guestmem kvm --trace` writes
 * (docs/trace-format.md), and what `strace -f -e ioctl` writes, as one kind of event.
 *
 * A trace is read line by line and may have any length; what is kept are the descriptors and threads
 * that are alive, and the line at hand.
 */
#ifndef TOOL_TRACE_H
#define TOOL_TRACE_H

#include "lines.h"
#include "trace_map.h"

#include <stdbool.h>
#include <stdint.h>

#define TRACE_NONE UINT32_MAX

enum trace_call {
    TRACE_OTHER, /* a request that has nothing to do with memory */
    TRACE_VM_CREATE,
    TRACE_VCPU_CREATE,
    TRACE_CLOSE, /* of a VM, or of a vCPU */
    TRACE_SET_REGION,
    TRACE_GET_LOG,
    TRACE_CLEAR_LOG,
    TRACE_RESET_RINGS,
    TRACE_ENABLE_CAP,
    TRACE_SET_ATTRIBUTES,
    TRACE_GUEST_MEMFD,
    TRACE_RUN,
    TRACE_PRE_FAULT,
    TRACE_NOTIFY, /* host memory has changed below KVM */
    TRACE_UNSUPPORTED,
    TRACE_EXIT, /* a process ended, or became another program: it has no VMs */
};

enum trace_result {
    TRACE_SUCCESS,
    TRACE_ERROR,
    TRACE_UNKNOWN, /* the process ended within the call, or the trace does */
};

/* One event. What a call has no use for is 0. */
struct trace_event {
    enum trace_call call;
    bool is_begin; /* the call has begun; its end is another event */
    enum trace_result result;
    bool has_time;
    bool has_fields; /* what the trace says of the arguments is below */
    bool has_dirty;
    bool is_last;      /* CLOSE: it was the last descriptor */
    uint64_t begin_us; /* since the trace began; end_us is the same where no duration is known */
    uint64_t end_us;
    uint32_t pid; /* in an strace: of the thread that was seen first of the process */
    uint32_t tid; /* 0: the trace does not say */
    uint32_t vm;  /* numbered as they appear in the trace; TRACE_NONE: of no VM */
    uint32_t vcpu;
    uint32_t fd; /* VM_CREATE: the VM's */
    uint32_t as;
    uint32_t slot;
    uint32_t flags; /* KVM_MEM_* */
    uint64_t gpa;
    uint64_t size_bytes;
    uint64_t hva;
    uint64_t value; /* what a call returned */
    uint64_t dirty_count;
    const char *error; /* the errno's name; static */
    char name[48];     /* of the call, or of what is not supported */
    char text[64];     /* NOTIFY: by what; ENABLE_CAP: which; RUN: why it came back */
};

enum trace_format {
    TRACE_FORMAT_UNKNOWN,
    TRACE_FORMAT_GUESTMEM,
    TRACE_FORMAT_STRACE,
};

struct strace;
struct trace_own;

struct trace {
    struct lines lines;
    enum trace_format format;
    bool is_cut;          /* the last line was not whole, and is left out */
    unsigned long passed; /* lines that are not of the format (strace's only) */
    unsigned long passed_first;
    bool is_guess;         /* strace does not say of which processes the threads are */
    bool has_took;         /* it tells how long calls took */
    bool is_coarse;        /* times are whole seconds */
    struct trace_own *own; /* NULL if the format is another one */
    struct strace *strace;
};

/*
 * Open a trace, "-" for stdin, and find out its format. Close it also where this failed. The path is
 * borrowed until then. Return: 0; -1 the user has been told what is wrong.
 */
int trace_open(struct trace *trace, const char *path);
void trace_close(struct trace *trace);

/*
 * Read the next event; its strings last until the next call. Return: 1; 0 the trace is over; -1 a line is wrong, and the user has been
 * told.
 */
int trace_next(struct trace *trace, struct trace_event *event);

/* ---- what both readers need ---- */

/* The call that a name of <linux/kvm.h> means, or a number of it; else TRACE_OTHER. */
enum trace_call trace_call_by_name(struct word name);
/* Could it be a request's name in <linux/kvm.h>? */
bool trace_is_request(struct word name);
bool trace_call_by_number(uint64_t request, enum trace_call *call, const char **name);

/* The errno's name as a string that lasts, or NULL if there is no such errno. */
const char *trace_errno_name(struct word name);

/* A whole number, decimal or with 0x. Return: false: it is none, or has more than 64 bits. */
bool trace_number(struct word word, uint64_t *value);

/* Seconds with a fraction, as microseconds; what is smaller is cut off. */
bool trace_seconds(struct word word, uint64_t *us);

/* Names of KVM_MEM_* with or without that prefix, and numbers, joined by |. */
bool trace_flags(struct word word, uint32_t *flags);

/* The flags' names as they stand in a trace. */
#define TRACE_FLAGS_BYTES 80
const char *trace_flags_text(uint32_t flags, char text[TRACE_FLAGS_BYTES]);

/* Up to the first @separator or the end; the rest, without it, stays in @rest. */
struct word trace_split(struct word *rest, char separator);

/* Copy a word, cut to what fits. */
void trace_copy(char *to, size_t size_bytes, struct word word);

/* trace_own.c and trace_strace.c: 1 an event; 0 none on this line; -1 it is wrong, the user has been told. */
struct trace_own *trace_own_new(void);
void trace_own_free(struct trace_own *own);
int trace_own_read(struct trace *trace, struct trace_event *event);
struct strace *strace_new(void);
void strace_free(struct strace *strace);
int strace_read(struct trace *trace, struct trace_event *event);

#endif
