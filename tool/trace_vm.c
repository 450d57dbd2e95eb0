/* trace_vm.c - following a trace: its VMs, and what their calls come to. */
#include "trace_vm.h"

#include "tool.h"
#include "trace_commit.h"

#include <stdlib.h>
#include <string.h>

static struct trace_vcpu *vcpu_of(struct trace_vm *vm, uint32_t number)
{
    size_t i;

    for (i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpus[i].number == number) {
            return &vm->vcpus[i];
        }
    }
    vm->vcpus =
        tool_reserve(vm->vcpus, &vm->vcpu_capacity, vm->vcpu_count + 1, sizeof(vm->vcpus[0]));
    vm->vcpus[vm->vcpu_count] = (struct trace_vcpu){.number = number};
    return &vm->vcpus[vm->vcpu_count++];
}

/* ---- failures ---- */

static void count_error(struct trace_vm *vm, const char *error)
{
    size_t i;

    for (i = 0; i < TRACE_ERRORS; i++) {
        if (vm->errors[i].error == NULL) {
            vm->errors[i].error = error;
        }
        if (vm->errors[i].error == error) {
            vm->errors[i].count++;
            return;
        }
    }
}

static void fail(struct trace_follow *follow, struct trace_vm *vm, const struct trace_event *event)
{
    struct trace_finding finding = trace_finding_of(follow, event, FINDING_FAILED);
    const struct trace_range *other;

    finding.error = event->error;
    trace_copy(finding.text, sizeof(finding.text), (struct word){event->name, strlen(event->name)});
    if (event->call == TRACE_SET_REGION && event->has_fields && event->size_bytes > 0 &&
        strcmp(event->error, "EEXIST") == 0) {
        other = trace_ranges_at(&vm->by_gpa, trace_ranges_from(&vm->by_gpa, event->as, event->gpa),
                                event->as, finding.last);
        finding.other =
            other != NULL ? ((const struct trace_slot *)(const void *)other)->number : TRACE_NONE;
    }
    count_error(vm, event->error);
    vm->counts.failed++;
    trace_finding_add(follow, &finding);
}

/* ---- calls ---- */

static void set_region(struct trace_follow *follow, struct trace_vm *vm,
                       const struct trace_event *event)
{
    vm->counts.calls++;
    if (event->result == TRACE_ERROR) {
        fail(follow, vm, event);
    } else if (event->result == TRACE_UNKNOWN) {
        vm->counts.unknown++;
    } else {
        trace_commit_call(follow, vm, event);
        vm->commit.changes++;
        trace_commit_change(follow, vm, event);
    }
}

/* How long ago the slot's log was fetched before. */
static void time_log(struct trace_vm *vm, struct trace_slot *slot, const struct trace_event *event)
{
    if (slot->log_count > 0 && event->has_time && event->end_us >= slot->log_last_us) {
        uint64_t gap = event->end_us - slot->log_last_us;

        vm->log_gap_us_min =
            vm->log_gaps == 0 || gap < vm->log_gap_us_min ? gap : vm->log_gap_us_min;
        vm->log_gap_us_max = gap > vm->log_gap_us_max ? gap : vm->log_gap_us_max;
        vm->log_gap_us_sum += gap;
        vm->log_gaps++;
    }
    slot->log_last_us = event->end_us;
}

static void get_log(struct trace_follow *follow, struct trace_vm *vm,
                    const struct trace_event *event)
{
    struct trace_slot *slot;

    if (event->result != TRACE_SUCCESS) {
        if (event->result == TRACE_ERROR) {
            vm->counts.failed_logs++;
            fail(follow, vm, event);
        }
        return;
    }
    trace_commit_call(follow, vm, event);
    vm->counts.log_gets++;
    vm->counts.dirty += event->dirty_count;
    vm->commit.has_fetched |= !event->has_fields;
    slot = event->has_fields ? trace_slot_of(vm, event->as, event->slot) : NULL;
    if (slot != NULL) {
        time_log(vm, slot, event);
        slot->log_count++;
        slot->dirty_count += event->dirty_count;
        slot->log_commit = vm->commit.serial;
    }
}

static void run(struct trace_follow *follow, struct trace_vm *vm, const struct trace_event *event)
{
    struct trace_vcpu *vcpu = vcpu_of(vm, event->vcpu);

    if (vm->commit.is_open && vm->commit.tid == event->tid) {
        trace_commit_end(follow, vm);
    }
    follow->has_runs = true;
    vm->counts.runs += !event->is_begin;
    vcpu->is_running = event->is_begin;
    vcpu->left = follow->serial;
}

/* Host memory has changed: below which slots? */
static void notify(struct trace_follow *follow, struct trace_vm *vm,
                   const struct trace_event *event)
{
    uint64_t last = event->size_bytes - 1 > UINT64_MAX - event->hva
                        ? UINT64_MAX
                        : event->hva + (event->size_bytes - 1);
    size_t i;

    vm->counts.notified++;
    for (i = 0; i < vm->by_gpa.count && event->size_bytes > 0; i++) {
        const struct trace_slot *slot = vm->by_gpa.entries[i].item;
        uint64_t slot_last = slot->range.hva + (slot->range.last - slot->range.gpa);

        if (slot->range.hva <= last && slot_last >= event->hva) {
            struct trace_finding finding = trace_finding_of(follow, event, FINDING_NOTIFIED);

            trace_finding_about(&finding, slot);
            finding.hva = event->hva;
            finding.back_bytes = event->size_bytes;
            trace_copy(finding.text, sizeof(finding.text),
                       (struct word){event->text, strlen(event->text)});
            trace_finding_add(follow, &finding);
        }
    }
}

static void unsupported(struct trace_follow *follow, const struct trace_event *event)
{
    struct trace_finding finding = trace_finding_of(follow, event, FINDING_UNSUPPORTED);

    finding.error = event->error;
    trace_copy(finding.text, sizeof(finding.text), (struct word){event->name, strlen(event->name)});
    trace_finding_add(follow, &finding);
}

/* ---- VMs ---- */

static struct trace_vm *vm_of(struct trace_follow *follow, const struct trace_event *event)
{
    struct trace_vm *vm;

    while (follow->vm_count <= event->vm) {
        vm = tool_alloc(sizeof(*vm));
        vm->index = (uint32_t)follow->vm_count;
        vm->pid = event->pid;
        vm->fd = event->fd;
        vm->line = follow->trace->lines.number;
        follow->vms = tool_reserve(follow->vms, &follow->vm_capacity, follow->vm_count + 1,
                                   sizeof(follow->vms[0]));
        follow->vms[follow->vm_count++] = vm;
        trace_map_set(&follow->open, vm->pid, vm->index, vm);
    }
    vm = follow->vms[event->vm];
    if (vm->is_closed) { /* another descriptor of it was not in the trace */
        vm->is_closed = false;
        follow->kept_slots -= vm->by_gpa.count;
        trace_map_set(&follow->open, vm->pid, vm->index, vm);
    }
    return vm;
}

static void free_slots(struct trace_vm *vm)
{
    trace_map_fini(&vm->by_number, free);
    trace_map_fini(&vm->by_gpa, NULL);
}

static void close_vm(struct trace_follow *follow, struct trace_vm *vm)
{
    if (vm->is_closed) {
        return;
    }
    trace_commit_end(follow, vm);
    vm->is_closed = true;
    trace_map_remove(&follow->open, vm->pid, vm->index);
    trace_commit_forget(vm);
    vm->live_at_close = vm->by_gpa.count;
    follow->kept_slots += vm->live_at_close;
    if (follow->kept_slots > TRACE_KEPT_SLOTS_MAX) {
        follow->kept_slots -= vm->live_at_close;
        free_slots(vm);
    }
}

/* Close a process's VMs: all, or one that a new VM has taken the descriptor of, unseen. */
static void close_vms(struct trace_follow *follow, uint32_t pid, const struct trace_vm *heir)
{
    size_t place = trace_map_place(&follow->open, pid, 0);

    while (place < follow->open.count && follow->open.entries[place].high == pid) {
        struct trace_vm *vm = follow->open.entries[place].item;

        if (heir == NULL || (vm != heir && vm->fd == heir->fd)) {
            close_vm(follow, vm);
        } else {
            place++;
        }
    }
}

static void create_vm(struct trace_follow *follow, const struct trace_event *event)
{
    struct trace_vm *vm = vm_of(follow, event);

    vm->is_created = true;
    vm->fd = event->fd;
    if (follow->trace->format == TRACE_FORMAT_STRACE) {
        close_vms(follow, vm->pid, vm);
    }
}

static void vm_event(struct trace_follow *follow, struct trace_vm *vm,
                     const struct trace_event *event)
{
    switch (event->call) {
    case TRACE_SET_REGION:
        set_region(follow, vm, event);
        break;
    case TRACE_GET_LOG:
        get_log(follow, vm, event);
        break;
    case TRACE_CLEAR_LOG:
        vm->counts.log_clears += event->result == TRACE_SUCCESS;
        break;
    case TRACE_RESET_RINGS:
        vm->counts.rings_reset += event->result == TRACE_SUCCESS;
        vm->counts.rings_entries += event->value;
        break;
    case TRACE_VCPU_CREATE:
        if (event->result == TRACE_SUCCESS && event->vcpu != TRACE_NONE) {
            vcpu_of(vm, event->vcpu);
        }
        break;
    case TRACE_NOTIFY:
        notify(follow, vm, event);
        break;
    case TRACE_UNSUPPORTED:
        vm->counts.unsupported++;
        unsupported(follow, event);
        break;
    default:
        break;
    }
}

void trace_follow_init(struct trace_follow *follow, const struct trace *trace)
{
    *follow = (struct trace_follow){.trace = trace};
}

void trace_follow_event(struct trace_follow *follow, const struct trace_event *event)
{
    follow->serial++;
    follow->events++;
    follow->has_time |= event->has_time;
    follow->last_us = event->end_us > follow->last_us ? event->end_us : follow->last_us;
    if (event->call == TRACE_EXIT) {
        if (event->result == TRACE_SUCCESS) {
            close_vms(follow, event->pid, NULL);
        }
    } else if (event->vm == TRACE_NONE) {
        if (event->call == TRACE_UNSUPPORTED && !event->is_begin) {
            unsupported(follow, event);
        }
    } else if (event->call == TRACE_VM_CREATE) {
        if (event->result == TRACE_SUCCESS) {
            create_vm(follow, event);
        }
    } else if (event->call == TRACE_CLOSE) {
        if (event->is_last && event->vcpu == TRACE_NONE) {
            close_vm(follow, vm_of(follow, event));
        }
    } else if (event->call == TRACE_RUN) {
        run(follow, vm_of(follow, event), event);
    } else if (!event->is_begin) {
        vm_event(follow, vm_of(follow, event), event);
    }
}

void trace_follow_end(struct trace_follow *follow)
{
    size_t i;

    for (i = 0; i < follow->vm_count; i++) {
        trace_commit_end(follow, follow->vms[i]);
    }
}

void trace_follow_fini(struct trace_follow *follow)
{
    size_t i;

    for (i = 0; i < follow->vm_count; i++) {
        struct trace_vm *vm = follow->vms[i];

        close_vm(follow, vm);
        free_slots(vm);
        free(vm->commit.deletions);
        free(vm->vcpus);
        free(vm);
    }
    trace_map_fini(&follow->open, NULL);
    free(follow->vms);
    free(follow->findings);
    free(follow->lives);
}
