/*
 * preload/trace.h - what the program asks of KVM's memory, a line for each call: docs/trace-format.md.
 *
 * Lines are written by one write() each from a buffer on the stack, so they come whole from any thread, process and signal
 * handler. Without a trace all of this does nothing.
 */
#ifndef PRELOAD_TRACE_H
#define PRELOAD_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct object;

/* A call that is under way. */
struct trace {
    bool is_on;
    uint64_t begin_ns;
};

/* The environment's name for "NS:FILE": the CLOCK_MONOTONIC of the beginning, and the file, with its first line in it. */
#define TRACE_VARIABLE "GUESTMEM_KVM_TRACE"

/* The constructor's: open the file that the environment names, and say which program this is. */
void trace_open(void);
bool trace_is_on(void);

struct trace trace_begin(void);
/* @object: NULL for /dev/kvm. @result: as the ioctl's, or -errno. */
void trace_ioctl(struct trace trace, const struct object *object, int fd, unsigned request,
                 uint64_t argument, long result);
/* KVM_RUN takes long, so its beginning is told, too. */
void trace_run_begin(const struct object *object);
void trace_run_end(struct trace trace, const struct object *object, long result);
/* Host memory of its slots has changed. @by: the call's name. */
void trace_notify(const struct object *vm, const char *by, uintptr_t hva, size_t size_bytes);
void trace_close(const struct object *object, int fd);
/* A VM is there: from here on its slots' sizes are noted. */
void trace_vm_new(struct object *vm);
/* The last descriptor and mapping has gone. */
void trace_gone(struct object *object);
/* The program ends, but not by exit(). */
void trace_exit(int code);
/* In the parent. */
void trace_fork(pid_t child);

/* Is it the trace's descriptor, which the program must not know of? */
bool trace_has(int fd);
/* The program wants that number for itself. */
void trace_move(void);

#endif
