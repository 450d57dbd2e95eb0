/*
 * trace_strace_who.c - whose threads, whose descriptors, which VM.
 *
 * Strace names threads, and descriptors belong to processes. Which thread is whose is known where
 * clone() is in the trace; else a thread is taken to be of the process that uses the descriptors
 * that it uses (`is_guess`).
 */
#include "trace_strace_who.h"

#include "tool.h"

#include <stdlib.h>
#include <string.h>

/* ---- threads and processes ---- */

void strace_thread_free(void *item)
{
    struct thread *thread = item;

    if (thread->process != NULL && --thread->process->thread_count == 0) {
        free(thread->process);
    }
    free(thread->pending);
    free(thread);
}

struct thread *strace_thread_of(struct strace *strace, uint32_t tid)
{
    struct thread *thread = trace_map_find(&strace->threads, 0, tid);

    if (thread == NULL) {
        thread = tool_alloc(sizeof(*thread));
        trace_map_set(&strace->threads, 0, tid, thread);
    }
    return thread;
}

static void join_process(struct thread *thread, struct process *process)
{
    thread->process = process;
    process->thread_count++;
}

static struct process *new_process(uint32_t id)
{
    struct process *process = tool_alloc(sizeof(*process));

    process->id = id;
    return process;
}

static struct process *process_with_id(const struct strace *strace, uint64_t id)
{
    size_t i;

    for (i = 0; i < strace->threads.count; i++) {
        const struct thread *thread = strace->threads.entries[i].item;

        if (thread->process != NULL && thread->process->id == id) {
            return thread->process;
        }
    }
    return NULL;
}

/* The process whose descriptor @fd was opened last, among those that have one. */
static struct process *owner_of(const struct strace *strace, uint32_t fd)
{
    const struct descriptor *best = NULL;
    uint64_t id = 0;
    size_t i;

    for (i = 0; i < strace->descriptors.count; i++) {
        const struct trace_map_entry *entry = &strace->descriptors.entries[i];
        const struct descriptor *descriptor = entry->item;

        if (entry->low == fd && (best == NULL || descriptor->vm > best->vm)) {
            best = descriptor;
            id = entry->high;
        }
    }
    return best != NULL ? process_with_id(strace, id) : NULL;
}

/* The one process that has descriptors of KVM, or NULL. */
static struct process *only_owner(const struct strace *strace)
{
    const struct trace_map *descriptors = &strace->descriptors;

    if (descriptors->count == 0 ||
        descriptors->entries[0].high != descriptors->entries[descriptors->count - 1].high) {
        return NULL;
    }
    return process_with_id(strace, descriptors->entries[0].high);
}

/* The process of a thread; if nothing is known of it, it is a new one. */
static struct process *process_of(struct strace *strace, uint32_t tid)
{
    struct thread *thread = strace_thread_of(strace, tid);

    if (thread->process == NULL) {
        join_process(thread, new_process(tid));
    }
    return thread->process;
}

/* The process of a thread that makes a call on a descriptor, or NULL. */
static struct process *user_of(struct trace *trace, uint32_t tid, uint32_t fd, enum trace_call call)
{
    struct strace *strace = trace->strace;
    struct thread *thread = strace_thread_of(strace, tid);
    struct process *owner;

    if (thread->process == NULL) {
        owner = owner_of(strace, fd);
        if (owner == NULL && call == TRACE_RUN) {
            owner = only_owner(strace);
        }
        if (owner != NULL) {
            trace->is_guess = true;
            join_process(thread, owner);
        }
    }
    return thread->process;
}

static void name_event(struct trace_event *event, enum trace_call call, const char *name)
{
    event->call = call;
    trace_copy(event->name, sizeof(event->name), (struct word){name, strlen(name)});
}

/* All descriptors of a process are gone. */
static void drop_descriptors(struct strace *strace, uint32_t process)
{
    size_t place = trace_map_place(&strace->descriptors, process, 0);

    while (place < strace->descriptors.count &&
           strace->descriptors.entries[place].high == process) {
        free(strace->descriptors.entries[place].item);
        trace_map_remove_at(&strace->descriptors, place);
    }
}

/* All that a process had is gone when its last thread is. */
int strace_exited(struct trace *trace, const struct strace_line *line, struct trace_event *event)
{
    struct strace *strace = trace->strace;
    struct thread *thread = trace_map_remove(&strace->threads, 0, line->tid);
    struct process *process = thread != NULL ? thread->process : NULL;
    bool is_last = process != NULL && process->thread_count == 1;

    if (is_last) {
        name_event(event, TRACE_EXIT, "exit");
        event->pid = process->id;
        drop_descriptors(strace, process->id);
    }
    if (thread != NULL) {
        strace_thread_free(thread);
    }
    return is_last ? 1 : 0;
}

/* Descriptors of KVM are closed when another program is run. */
static int executed(struct trace *trace, const struct strace_line *line, struct trace_event *event)
{
    struct process *process = strace_thread_of(trace->strace, line->tid)->process;

    if (process == NULL) {
        return 0;
    }
    name_event(event, TRACE_EXIT, "exec");
    event->pid = process->id;
    drop_descriptors(trace->strace, process->id);
    return 1;
}

/* ---- descriptors ---- */

static void set_descriptor(struct strace *strace, uint32_t process, uint32_t fd,
                           struct descriptor value)
{
    struct descriptor *descriptor = tool_alloc(sizeof(*descriptor));

    *descriptor = value;
    free(trace_map_set(&strace->descriptors, process, fd, descriptor));
}

/*
 * A vCPU whose creation is not in the trace: it is of its process's VM, if that has one. Its number
 * stands in what -y shows; else it is the next.
 */
static void adopt_vcpu(struct strace *strace, uint32_t process, uint32_t fd, struct word path)
{
    size_t i = trace_map_place(&strace->descriptors, process, 0);
    uint32_t vm = TRACE_NONE;
    uint32_t count = 0;
    uint64_t number;

    for (; i < strace->descriptors.count && strace->descriptors.entries[i].high == process; i++) {
        const struct descriptor *other = strace->descriptors.entries[i].item;

        if (vm != TRACE_NONE && other->vm != vm) {
            return;
        }
        vm = other->vm;
        count += other->vcpu != TRACE_NONE;
    }
    trace_split(&path, ':');
    trace_split(&path, ':');
    if (vm != TRACE_NONE) {
        bool is_shown = trace_number(path, &number) && number < TRACE_NONE;

        set_descriptor(strace, process, fd,
                       (struct descriptor){vm, is_shown ? (uint32_t)number : count});
    }
}

static void copy_descriptors(struct strace *strace, uint32_t from, uint32_t to)
{
    size_t place = trace_map_place(&strace->descriptors, from, 0);
    size_t end = trace_map_place(&strace->descriptors, from, UINT64_MAX);
    size_t count = end - place;
    size_t i;

    for (i = 0; i < count; i++) { /* copying moves the entries, but not their order */
        struct trace_map_entry entry =
            strace->descriptors.entries[trace_map_place(&strace->descriptors, from, 0) + i];

        set_descriptor(strace, to, (uint32_t)entry.low, *(struct descriptor *)entry.item);
    }
}

/* ---- calls other than ioctl ---- */

bool strace_contains(struct word word, const char *text)
{
    return memmem(word.text, word.length, text, strlen(text)) != NULL;
}

/* A thread or a process was made. */
static void cloned(struct trace *trace, const struct strace_line *line)
{
    struct process *parent = process_of(trace->strace, line->tid);
    bool shares = strace_contains(line->arguments, "CLONE_FILES") ||
                  strace_contains(line->arguments, "CLONE_THREAD");
    uint32_t tid = (uint32_t)line->value;
    struct thread *child = strace_thread_of(trace->strace, tid);

    if (child->process != NULL) {
        return; /* its own lines came first, and it was guessed */
    }
    join_process(child, shares ? parent : new_process(tid));
    if (!shares) {
        copy_descriptors(trace->strace, parent->id, tid);
    }
}

/* Has the VM, or the vCPU, another descriptor? */
static bool has_other(const struct strace *strace, const struct descriptor *gone)
{
    size_t i;

    for (i = 0; i < strace->descriptors.count; i++) {
        const struct descriptor *other = strace->descriptors.entries[i].item;

        if (other->vm == gone->vm && other->vcpu == gone->vcpu) {
            return true;
        }
    }
    return false;
}

static int closed(struct trace *trace, const struct strace_line *line, struct trace_event *event)
{
    struct strace *strace = trace->strace;
    struct process *process = strace_thread_of(strace, line->tid)->process;
    struct word rest = line->arguments;
    struct descriptor *gone;
    struct strace_descriptor used;

    if (process == NULL || !strace_descriptor(strace_argument(&rest), &used)) {
        return 0;
    }
    gone = trace_map_remove(&strace->descriptors, process->id, used.fd);
    if (gone == NULL) {
        return 0;
    }
    name_event(event, TRACE_CLOSE, "close");
    event->pid = process->id;
    event->vm = gone->vm;
    event->vcpu = gone->vcpu;
    event->fd = used.fd;
    event->is_last = !has_other(strace, gone);
    free(gone);
    return 1;
}

static void duplicated(struct trace *trace, const struct strace_line *line)
{
    struct strace *strace = trace->strace;
    struct process *process = strace_thread_of(strace, line->tid)->process;
    struct word rest = line->arguments;
    const struct descriptor *known;
    struct strace_descriptor used;

    if (process == NULL || !strace_descriptor(strace_argument(&rest), &used) ||
        line->value > INT32_MAX || line->value == used.fd) {
        return;
    }
    known = trace_map_find(&strace->descriptors, process->id, used.fd);
    if (known != NULL) {
        set_descriptor(strace, process->id, (uint32_t)line->value, *known);
    }
}

int strace_other_call(struct trace *trace, const struct strace_line *line,
                      struct trace_event *event)
{
    struct word name = line->name;

    if (line->result != TRACE_SUCCESS) {
        return 0;
    }
    if (word_is(name, "clone") || word_is(name, "clone3") || word_is(name, "fork") ||
        word_is(name, "vfork")) {
        if (line->value > 0 && line->value <= 1u << 22) {
            cloned(trace, line);
        }
    } else if (word_is(name, "execve") || word_is(name, "execveat")) {
        return executed(trace, line, event);
    } else if (word_is(name, "close")) {
        return closed(trace, line, event);
    } else if (word_is(name, "dup") || word_is(name, "dup2") || word_is(name, "dup3") ||
               (word_is(name, "fcntl") && strace_contains(line->arguments, "F_DUPFD"))) {
        duplicated(trace, line);
    }
    return 0;
}

/* ---- requests ---- */

/* Is the call made on a VM? */
static bool is_of_vm(enum trace_call call)
{
    return call == TRACE_SET_REGION || call == TRACE_GET_LOG || call == TRACE_CLEAR_LOG ||
           call == TRACE_VCPU_CREATE || call == TRACE_RESET_RINGS;
}

/* A request on a descriptor. Where it is not known, the call tells what it is. */
static void place_call(struct strace *strace, const struct process *process,
                       const struct strace_descriptor *used, struct trace_event *event)
{
    const struct descriptor *object = trace_map_find(&strace->descriptors, process->id, used->fd);

    if (object == NULL && is_of_vm(event->call) && event->result == TRACE_SUCCESS) {
        set_descriptor(strace, process->id, used->fd,
                       (struct descriptor){strace->vm_count++, TRACE_NONE});
    } else if (object == NULL && event->call == TRACE_RUN) {
        adopt_vcpu(strace, process->id, used->fd, used->path);
    }
    object = trace_map_find(&strace->descriptors, process->id, used->fd);
    if (object == NULL) {
        return;
    }
    event->vm = object->vm;
    event->fd = used->fd;
    if (event->call != TRACE_VCPU_CREATE) {
        event->vcpu = object->vcpu;
    } else if (event->result == TRACE_SUCCESS && event->value <= INT32_MAX) {
        set_descriptor(strace, process->id, (uint32_t)event->value,
                       (struct descriptor){event->vm, event->vcpu});
    }
}

/* Which VM and vCPU a request is for; descriptors that it makes. */
void strace_place(struct trace *trace, const struct strace_descriptor *used,
                  struct trace_event *event)
{
    struct strace *strace = trace->strace;
    struct process *process;

    if (event->call == TRACE_VM_CREATE) {
        process = process_of(strace, event->tid);
        event->pid = process->id;
        if (event->result == TRACE_SUCCESS && event->value <= INT32_MAX) {
            event->vm = strace->vm_count++;
            event->fd = (uint32_t)event->value;
            set_descriptor(strace, process->id, event->fd,
                           (struct descriptor){event->vm, TRACE_NONE});
        }
        return;
    }
    process = user_of(trace, event->tid, used->fd, event->call);
    if (process == NULL && is_of_vm(event->call) && event->result == TRACE_SUCCESS) {
        process = process_of(strace, event->tid);
    }
    if (process != NULL) {
        event->pid = process->id;
        place_call(strace, process, used, event);
    }
}
