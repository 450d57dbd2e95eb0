/*
 * trace_strace.h - one line of strace's output, taken apart.
 */
#ifndef TOOL_TRACE_STRACE_H
#define TOOL_TRACE_STRACE_H

#include "trace.h"

enum strace_kind {
    STRACE_FOREIGN, /* not strace's: the traced program may share its output */
    STRACE_CALL,    /* with its result */
    STRACE_BEGIN,   /* <unfinished ...> */
    STRACE_END,     /* <... resumed> */
    STRACE_EXITED,  /* +++ exited with 0 +++ */
    STRACE_NOTE,    /* a signal, a thread that was attached, ... */
};

enum strace_clock {
    STRACE_NO_CLOCK,
    STRACE_EPOCH,    /* -ttt */
    STRACE_DAY,      /* -t, -tt: since midnight */
    STRACE_RELATIVE, /* -r: since the line before */
};

/* Words point into the text. */
struct strace_line {
    enum strace_kind kind;
    enum strace_clock clock;
    bool is_coarse; /* whole seconds */
    uint64_t time_us;
    uint32_t tid; /* 0: not there */
    struct word name;
    struct word arguments; /* what stands between the parentheses, as far as it is on this line */
    enum trace_result result;
    uint64_t value;
    const char *error; /* static */
    bool has_took;
    uint64_t took_us;
};

void strace_line_parse(const char *text, struct strace_line *line);

/* The next argument, without blanks around it; commas within brackets and strings do not end it. */
struct word strace_argument(struct word *rest);

/* A descriptor, and what -y shows of it. */
struct strace_descriptor {
    uint32_t fd;
    struct word path; /* "anon_inode:kvm-vcpu:0"; may be empty */
};

bool strace_descriptor(struct word word, struct strace_descriptor *descriptor);

#endif
