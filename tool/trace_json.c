/* trace_json.c - a trace's report as JSON. */
#include "trace_report.h"

#include "json.h"
#include "tool.h"

#include <linux/kvm.h>

static void add_number(struct json_object *object, const char *key, uint64_t value)
{
    json_add(object, key, json_new_number(value));
}

static struct json_object *time_of(bool has_time, uint64_t us)
{
    return has_time ? json_new_number(us) : NULL;
}

static struct json_object *flags_to_json(uint32_t flags)
{
    char text[TRACE_FLAGS_BYTES];

    return json_new_text(trace_flags_text(flags, text));
}

static void add_range(struct json_object *object, const struct trace_range *range, uint32_t number)
{
    add_number(object, "as", range->as);
    add_number(object, "slot", number);
    json_add(object, "start", json_new_hex(range->gpa));
    json_add(object, "size", json_new_hex((gm_size_t)(range->last - range->gpa) + 1));
    json_add(object, "hva", json_new_hex(range->hva));
    json_add(object, "flags", flags_to_json(range->flags));
}

/* ---- findings ---- */

static struct json_object *few_to_json(const struct trace_few *few)
{
    struct json_object *list = json_new_array();
    uint32_t i;

    for (i = 0; i < few->count && i < TRACE_FEW; i++) {
        json_append(list, json_new_number(few->number[i]));
    }
    return list;
}

static void add_back(struct json_object *object, const struct trace_follow *follow,
                     const struct trace_finding *finding)
{
    json_add(object, "back_size", json_new_hex(finding->back_bytes));
    add_number(object, "back_line", finding->back_line);
    json_add(object, "back_slots", few_to_json(&finding->back));
    add_number(object, "back_slot_count", finding->back.count);
    json_add(object, "merged", json_new_bool(finding->is_merged));
    json_add(object, "gone_us", time_of(finding->has_time, finding->gone_us));
    json_add(object, "running_vcpus", follow->has_runs ? few_to_json(&finding->ran) : NULL);
    json_add(object, "running_vcpu_count",
             follow->has_runs ? json_new_number(finding->ran.count) : NULL);
    json_add(object, "log_lost", json_new_bool(finding->is_log_lost));
}

static struct json_object *finding_to_json(const struct trace_follow *follow,
                                           const struct trace_finding *finding)
{
    struct trace_range range = {finding->as, finding->flags, finding->gpa, finding->last,
                                finding->hva};
    struct json_object *object = json_new_object();

    json_add(object, "what", json_new_text(trace_finding_name(finding->kind)));
    json_add(object, "vm", finding->vm != TRACE_NONE ? json_new_number(finding->vm) : NULL);
    add_number(object, "line", finding->line);
    json_add(object, "time_us", time_of(finding->has_time, finding->time_us));
    if (finding->kind != FINDING_UNSUPPORTED) {
        add_range(object, &range, finding->slot);
    }
    switch (finding->kind) {
    case FINDING_UNCHANGED:
    case FINDING_RETURNED:
        add_back(object, follow, finding);
        break;
    case FINDING_MOVED:
        json_add(object, "old_start", json_new_hex(finding->old_gpa));
        break;
    case FINDING_FLAGS:
        json_add(object, "old_flags", flags_to_json(finding->old_flags));
        break;
    case FINDING_ODD:
        json_add(object, "why", json_new_text(finding->why));
        break;
    default:
        json_add(object, "call", json_new_text(finding->text));
        json_add(object, "error", finding->error != NULL ? json_new_text(finding->error) : NULL);
        break;
    }
    if (finding->kind == FINDING_FAILED && finding->other != TRACE_NONE) {
        add_number(object, "overlaps", finding->other);
    }
    return object;
}

/* ---- VMs ---- */

static struct json_object *counts_to_json(const struct trace_counts *counts)
{
    const struct {
        const char *name;
        uint64_t value;
    } list[] = {
        {"calls", counts->calls},
        {"created", counts->created},
        {"deleted", counts->deleted},
        {"moved", counts->moved},
        {"flags", counts->flags},
        {"same", counts->same},
        {"failed", counts->failed},
        {"unknown", counts->unknown},
        {"commits", counts->commits},
        {"slots_max", counts->slots_max},
        {"unchanged", counts->unchanged},
        {"unchanged_whole", counts->unchanged_whole},
        {"unchanged_running", counts->unchanged_running},
        {"unchanged_bytes", counts->unchanged_bytes},
        {"gone_us_max", counts->gone_us_max},
        {"gone_us_sum", counts->gone_us_sum},
        {"returned", counts->returned},
        {"logs_lost", counts->log_lost},
        {"logging_on", counts->log_on},
        {"logging_off", counts->log_off},
        {"logs_fetched", counts->log_gets},
        {"logs_cleared", counts->log_clears},
        {"dirty_pages", counts->dirty},
        {"ring_resets", counts->rings_reset},
        {"ring_entries", counts->rings_entries},
        {"notified", counts->notified},
        {"odd", counts->odd},
        {"unsupported", counts->unsupported},
        {"runs", counts->runs},
    };
    struct json_object *object = json_new_object();
    size_t i;

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        add_number(object, list[i].name, list[i].value);
    }
    return object;
}

static struct json_object *plan_to_json(const struct trace_plan *plan)
{
    struct json_object *object = json_new_object();

    add_number(object, "created", plan->created);
    add_number(object, "deleted", plan->deleted);
    add_number(object, "split", plan->untouched);
    add_number(object, "flags", plan->flags);
    return object;
}

static struct json_object *errors_to_json(const struct trace_vm *vm)
{
    struct json_object *object = json_new_object();
    size_t i;

    for (i = 0; i < TRACE_ERRORS; i++) {
        if (vm->errors[i].error != NULL) {
            add_number(object, vm->errors[i].error, vm->errors[i].count);
        }
    }
    return object;
}

static struct json_object *interval_to_json(const struct trace_vm *vm)
{
    struct json_object *object;

    if (vm->log_gaps == 0) {
        return NULL;
    }
    object = json_new_object();
    add_number(object, "min", vm->log_gap_us_min);
    add_number(object, "mean", vm->log_gap_us_sum / vm->log_gaps);
    add_number(object, "max", vm->log_gap_us_max);
    return object;
}

static struct json_object *slot_to_json(const struct trace_slot *slot)
{
    struct json_object *object = json_new_object();

    add_range(object, &slot->range, slot->number);
    add_number(object, "line", slot->line);
    json_add(object, "time_us", time_of(slot->has_time, slot->time_us));
    add_number(object, "logs_fetched", slot->log_count);
    add_number(object, "dirty_pages", slot->dirty_count);
    return object;
}

static struct json_object *vm_to_json(const struct trace_vm *vm)
{
    struct json_object *object = json_new_object();
    struct json_object *slots = json_new_array();
    size_t i;

    add_number(object, "vm", vm->index);
    add_number(object, "pid", vm->pid);
    add_number(object, "fd", vm->fd);
    add_number(object, "line", vm->line);
    json_add(object, "created", json_new_bool(vm->is_created));
    json_add(object, "closed", json_new_bool(vm->is_closed));
    add_number(object, "vcpus", vm->vcpu_count);
    json_add(object, "counts", counts_to_json(&vm->counts));
    json_add(object, "errors", errors_to_json(vm));
    json_add(object, "log_interval_us", interval_to_json(vm));
    json_add(object, "guestmem", plan_to_json(&vm->plan));
    for (i = 0; i < vm->by_gpa.count; i++) {
        json_append(slots, slot_to_json(vm->by_gpa.entries[i].item));
    }
    json_add(object, "slots", slots);
    return object;
}

int trace_report_json(const struct trace_follow *follow)
{
    const struct trace *trace = follow->trace;
    struct json_object *object = json_new_object();
    struct json_object *vms = json_new_array();
    struct json_object *findings = json_new_array();
    size_t i;

    json_add(object, "format",
             json_new_text(trace->format == TRACE_FORMAT_STRACE ? "strace" : "guestmem-trace"));
    add_number(object, "lines", trace->lines.number);
    add_number(object, "events", follow->events);
    json_add(object, "time_us", time_of(follow->has_time, follow->last_us));
    add_number(object, "lines_passed_over", trace->passed);
    json_add(object, "cut_off", json_new_bool(trace->is_cut));
    json_add(object, "guessed_processes", json_new_bool(trace->is_guess));
    for (i = 0; i < follow->vm_count; i++) {
        json_append(vms, vm_to_json(follow->vms[i]));
    }
    json_add(object, "vms", vms);
    for (i = 0; i < follow->finding_count; i++) {
        json_append(findings, finding_to_json(follow, &follow->findings[i]));
    }
    json_add(object, "findings", findings);
    add_number(object, "findings_left_out", follow->findings_left_out);
    return json_print(object);
}
