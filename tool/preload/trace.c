/* preload/trace.c - the trace's file and its lines. */
#include "preload/trace.h"

#include "preload/kernel.h"
#include "preload/object.h"
#include "preload/trace_call.h"
#include "preload/trace_line.h"
#include "preload/trace_names.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int file = -1;
static uint64_t file_begin_ns;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- lines ---- */

static void line_object(struct trace_line *line, const struct object *object)
{
    const struct object *vm = object->kind == OBJECT_VM ? object : object->vm;

    line_text(line, "vm");
    line_decimal(line, vm->number);
    if (object->kind == OBJECT_VCPU) {
        line_text(line, ".vcpu");
        line_decimal(line, object->number);
    }
}

static void line_who(struct trace_line *line)
{
    line->length = 0;
    line_seconds(line, now_ns() - file_begin_ns);
    line_text(line, " ");
    line_decimal(line, (uint64_t)kernel_call(SYS_getpid));
    line_text(line, "/");
    line_decimal(line, (uint64_t)kernel_call(SYS_gettid));
    line_text(line, " ");
}

/* @object: NULL for none, which is @none. */
static void line_begin(struct trace_line *line, const struct object *object, const char *none,
                       const char *call)
{
    line_who(line);
    if (object != NULL) {
        line_object(line, object);
    } else {
        line_text(line, none);
    }
    line_text(line, " ");
    line_text(line, call);
}

static void line_write(const struct trace_line *line)
{
    /* What cannot be written is lost; the program is not to know. */
    (void)kernel_call(SYS_write, atomic_load(&file), line->text, line->length);
}

static void line_end(struct trace_line *line, struct trace trace, long result)
{
    line_text(line, " took=");
    line_seconds(line, now_ns() - trace.begin_ns);
    line_result(line, result);
    line_write(line);
}

/* ---- the file ---- */

static void write_event(const char *event, const char *key, uint64_t number)
{
    struct trace_line line;

    line_begin(&line, NULL, "-", event);
    line_key_decimal(&line, key, number);
    line_result(&line, 0);
    line_write(&line);
}

void trace_exit(int code)
{
    if (trace_is_on()) {
        write_event("exit", "code", (uint64_t)code & 0xff);
    }
}

static void on_program_exit(int code, void *opaque)
{
    (void)opaque;
    trace_exit(code);
}

static void write_program(void)
{
    struct trace_line line;
    char name[1024];
    ssize_t length = readlink("/proc/self/exe", name, sizeof(name) - 1);

    line_begin(&line, NULL, "-", "exec");
    if (length > 0) {
        name[length] = '\0';
        line_key_text(&line, "program", name);
    }
    line_result(&line, 0);
    line_write(&line);
}

void trace_open(void)
{
    const char *value = getenv(TRACE_VARIABLE);
    char *path = NULL;
    int fd;

    if (value == NULL) {
        return;
    }
    file_begin_ns = strtoull(value, &path, 10);
    if (*path != ':') {
        return;
    }
    fd = (int)kernel_call(SYS_openat, AT_FDCWD, path + 1, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    if (fd >= 0) {
        atomic_store(&file, descriptor_hide(fd));
        write_program();
        on_exit(on_program_exit, NULL);
    }
}

bool trace_is_on(void)
{
    return atomic_load_explicit(&file, memory_order_relaxed) >= 0;
}

bool trace_has(int fd)
{
    return fd >= 0 && atomic_load_explicit(&file, memory_order_relaxed) == fd;
}

void trace_move(void)
{
    int fd = atomic_load(&file);
    long moved = kernel_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, fd + 1);

    /* Without another number there is no trace any more. */
    atomic_store(&file, moved < 0 ? -1 : (int)moved);
}

struct trace trace_begin(void)
{
    struct trace trace = {.is_on = trace_is_on()};

    if (trace.is_on) {
        trace.begin_ns = now_ns();
    }
    return trace;
}

/* ---- calls ---- */

void trace_ioctl(struct trace trace, const struct object *object, int fd, unsigned request,
                 uint64_t argument, long result)
{
    struct trace_call call = {object, fd, request, argument, result};
    const char *name;
    struct trace_line line;

    if (!trace.is_on || !trace_call_is_told(&call)) {
        return;
    }
    name = trace_request_name(request);
    if (trace_call_is_unsupported(&call) || name == NULL) {
        line_begin(&line, object, "sys", "unsupported");
        line_key_hex(&line, "request", request);
        if (name != NULL) {
            line_key_text(&line, "name", name);
        }
        line_key_hex(&line, "arg", argument);
    } else {
        line_begin(&line, object, "sys", name);
        trace_call_fields(&line, &call);
    }
    line_end(&line, trace, result);
}

void trace_run_begin(const struct object *object)
{
    struct trace_line line;

    if (trace_is_on()) {
        line_begin(&line, object, "-", "KVM_RUN begin\n");
        line_write(&line);
    }
}

void trace_run_end(struct trace trace, const struct object *object, long result)
{
    const struct kvm_run *run = gm_soft_vcpu_run_page(object->vcpu);
    struct trace_line line;
    const char *exit;

    if (!trace.is_on) {
        return;
    }
    line_begin(&line, object, "-", "KVM_RUN");
    exit = trace_exit_name(run->exit_reason);
    if (result == 0 && exit != NULL) {
        line_key_text(&line, "exit", exit);
    } else if (result == 0) {
        line_key_decimal(&line, "exit", run->exit_reason);
    }
    if (result == 0 && run->exit_reason == KVM_EXIT_MMIO) {
        line_key_hex(&line, "gpa", run->mmio.phys_addr);
        line_key_decimal(&line, "len", run->mmio.len);
    } else if (result == 0 && run->exit_reason == KVM_EXIT_IO) {
        line_key_hex(&line, "port", run->io.port);
    }
    line_end(&line, trace, result);
}

void trace_notify(const struct object *vm, const char *by, uintptr_t hva, size_t size_bytes)
{
    struct trace_line line;

    if (trace_is_on()) {
        line_begin(&line, vm, "-", "notify");
        line_key_text(&line, "by", by);
        line_key_hex(&line, "hva", hva);
        line_key_hex(&line, "size", size_bytes);
        line_result(&line, 0);
        line_write(&line);
    }
}

void trace_close(const struct object *object, int fd)
{
    struct trace_line line;

    if (trace_is_on()) {
        line_begin(&line, object, "-", "close");
        line_key_decimal(&line, "fd", (unsigned)fd);
        line_result(&line, 0);
        line_write(&line);
    }
}

void trace_vm_new(struct object *vm)
{
    if (trace_is_on()) {
        trace_slots_begin(vm);
    }
}

void trace_gone(struct object *object)
{
    struct trace_line line;

    if (object->kind == OBJECT_VM) {
        trace_slots_end(object);
    }
    if (trace_is_on()) {
        line_begin(&line, object, "-", "close");
        line_key_decimal(&line, "last", 1);
        line_result(&line, 0);
        line_write(&line);
    }
}

void trace_fork(pid_t child)
{
    if (trace_is_on()) {
        write_event("fork", "child", (uint64_t)child);
    }
}
