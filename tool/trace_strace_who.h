/*
 * trace_strace_who.h - the threads, processes and descriptors of an strace that are alive.
 */
#ifndef TOOL_TRACE_STRACE_WHO_H
#define TOOL_TRACE_STRACE_WHO_H

#include "trace_strace.h"

struct process {
    uint32_t id; /* the thread that was seen first */
    size_t thread_count;
};

struct thread {
    struct process *process;
    char *pending; /* what an unfinished call has shown of its arguments; NULL: none */
    bool is_kvm;   /* it is an ioctl that is traced */
    uint64_t begin_us;
};

struct descriptor {
    uint32_t vm;
    uint32_t vcpu; /* TRACE_NONE: the VM's own */
};

struct strace {
    struct trace_map threads;     /* 0, tid -> struct thread */
    struct trace_map descriptors; /* process, fd -> struct descriptor */
    uint32_t vm_count;
    bool has_time;
    uint64_t base_us;
    uint64_t last_us;
    uint64_t days_us;
    char text[4096]; /* the arguments of a call that was begun on another line */
};

/* The record of a thread; made if it is new. */
struct thread *strace_thread_of(struct strace *strace, uint32_t tid);
void strace_thread_free(void *thread);

bool strace_contains(struct word word, const char *text);

/* A thread ended. Return: 1 its process did, too, and @event says so; else 0. */
int strace_exited(struct trace *trace, const struct strace_line *line, struct trace_event *event);

/* A call other than ioctl(). Return: 1 an event; 0 none. */
int strace_other_call(struct trace *trace, const struct strace_line *line,
                      struct trace_event *event);

/*
 * Find out which VM and vCPU a request is for, and keep the descriptors that it makes. What it is
 * and came to stands in @event already, which gets process, VM, vCPU and descriptor.
 */
void strace_place(struct trace *trace, const struct strace_descriptor *used,
                  struct trace_event *event);

#endif
