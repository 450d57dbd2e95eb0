/* trace_report.c - a trace's report for people: counts first, then what is notable, then slots. */
#include "trace_report.h"

#include "show.h"
#include "table.h"
#include "tool.h"

#include <inttypes.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* So many VMs, findings, and slots of each VM, are listed unless all are asked for. */
#define LISTED_VMS 20
#define LISTED_FINDINGS 40
#define LISTED_SLOTS 40

static const char *const names[FINDING_KINDS] = {
    [FINDING_UNCHANGED] = "unchanged",
    [FINDING_RETURNED] = "returned",
    [FINDING_MOVED] = "moved",
    [FINDING_FLAGS] = "flags",
    [FINDING_FAILED] = "failed",
    [FINDING_NOTIFIED] = "notified",
    [FINDING_ODD] = "odd",
    [FINDING_UNSUPPORTED] = "unsupported",
};

const char *trace_finding_name(enum trace_finding_kind kind)
{
    return names[kind];
}

/* ---- texts ---- */

static const char *short_flags(uint32_t flags, char text[TRACE_FLAGS_BYTES])
{
    uint32_t known = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;

    snprintf(text, TRACE_FLAGS_BYTES, "%s%s%s", (flags & KVM_MEM_LOG_DIRTY_PAGES) != 0 ? "log" : "",
             (flags & known) == known ? " " : "", (flags & KVM_MEM_READONLY) != 0 ? "ro" : "");
    if ((flags & ~known) != 0) {
        size_t used = strlen(text);

        snprintf(text + used, TRACE_FLAGS_BYTES - used, "%s0x%x", used > 0 ? " " : "",
                 flags & ~known);
    }
    return text;
}

#define TIME_BYTES 32
static const char *time_text(bool has_time, uint64_t us, char text[TIME_BYTES])
{
    text[0] = '\0';
    if (has_time) {
        snprintf(text, TIME_BYTES, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
    }
    return text;
}

/* ---- counts ---- */

static void print_count(const char *name, uint64_t count, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void print_count(const char *name, uint64_t count, const char *format, ...)
{
    va_list arguments;

    printf("  %-12s  %7" PRIu64 "  ", name, count);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

static void print_errors(const struct trace_vm *vm)
{
    uint64_t others = vm->counts.failed;
    size_t i;

    printf("  %-12s  %7" PRIu64 " ", "errors", vm->counts.failed);
    for (i = 0; i < TRACE_ERRORS && vm->errors[i].error != NULL; i++) {
        printf("%s %" PRIu64 " %s", i > 0 ? "," : "", vm->errors[i].count, vm->errors[i].error);
        others -= vm->errors[i].count;
    }
    if (others > 0) {
        printf(", %" PRIu64 " others", others);
    }
    putchar('\n');
}

static void print_calls(const struct trace_vm *vm)
{
    const struct trace_counts *counts = &vm->counts;
    uint64_t failed = counts->failed - counts->failed_logs;

    print_count("slot calls", counts->calls,
                "%" PRIu64 " create, %" PRIu64 " delete, %" PRIu64 " move, %" PRIu64 " flags",
                counts->created, counts->deleted, counts->moved, counts->flags);
    if (counts->same + failed + counts->unknown > 0) {
        print_count("  and", counts->same + failed + counts->unknown,
                    "%" PRIu64 " with nothing to change, %" PRIu64 " without a result, %" PRIu64
                    " failed",
                    counts->same, counts->unknown, failed);
    }
    if (counts->failed > 0) {
        print_errors(vm);
    }
    print_count("commits", counts->commits,
                "rows of changes by one thread that did not run the "
                "guest in between");
    print_count("slots", counts->slots_max, "at most; %zu at the end",
                vm->is_closed ? vm->live_at_close : vm->by_gpa.count);
}

static void print_unchanged(const struct trace_follow *follow, const struct trace_vm *vm)
{
    const struct trace_counts *counts = &vm->counts;
    char size[SHOW_SIZE_BYTES];

    print_count("unchanged", counts->unchanged,
                "of %" PRIu64 " deletes took away memory that did not change%s", counts->deleted,
                counts->unchanged > 0 ? ":" : "");
    if (counts->unchanged > 0) {
        print_count("  whole", counts->unchanged_whole, "of them took away nothing else");
        if (follow->has_runs) {
            print_count("  running", counts->unchanged_running,
                        "of them while a vCPU was in KVM_RUN");
        }
        print_count("  log lost", counts->log_lost,
                    "of them with a dirty log that was not fetched");
        printf("  %-12s  %7s  %s in all", "  gone", "", show_size(counts->unchanged_bytes, size));
        if (follow->has_time) {
            printf(", for %.3f ms at most, %.3f ms in all", (double)counts->gone_us_max / 1000,
                   (double)counts->gone_us_sum / 1000);
        }
        putchar('\n');
    }
    print_count("guestmem", vm->plan.deleted,
                "deletes instead of %" PRIu64 ", %" PRIu64 " creates instead of %" PRIu64 "%s",
                counts->deleted, vm->plan.created, counts->created,
                counts->moved > 0 ? "; it moves by a delete and a create" : "");
    if (vm->plan.untouched > 0) {
        print_count("  split", vm->plan.untouched,
                    "of them of slots that changed in part, with vCPUs held out");
    }
}

static void print_logs(const struct trace_vm *vm)
{
    const struct trace_counts *counts = &vm->counts;

    if (counts->returned > 0) {
        print_count("returned", counts->returned, "times memory came back later as it was");
    }
    if (counts->log_on + counts->log_off > 0) {
        print_count("logging", counts->log_on + counts->log_off,
                    "times on or off for a slot that stayed: %" PRIu64 " on, %" PRIu64 " off",
                    counts->log_on, counts->log_off);
    }
    if (counts->log_gets + counts->log_clears > 0) {
        print_count("dirty logs", counts->log_gets,
                    "fetched, %" PRIu64 " cleared; %" PRIu64 " dirty pages known of",
                    counts->log_clears, counts->dirty);
    }
    if (vm->log_gaps > 0) {
        printf("  %-12s  %7s  a slot's log every %.3f ms (%.3f to %.3f)\n", "  every", "",
               (double)vm->log_gap_us_sum / (double)vm->log_gaps / 1000,
               (double)vm->log_gap_us_min / 1000, (double)vm->log_gap_us_max / 1000);
    }
    if (counts->rings_reset > 0) {
        print_count("dirty rings", counts->rings_reset, "resets, of %" PRIu64 " entries",
                    counts->rings_entries);
    }
}

static void print_rest(const struct trace_follow *follow, const struct trace_vm *vm)
{
    const struct trace_counts *counts = &vm->counts;

    if (counts->notified > 0) {
        print_count("host memory", counts->notified, "times unmapped, discarded or protected");
    }
    if (counts->unsupported > 0) {
        print_count("unsupported", counts->unsupported, "requests that failed for that");
    }
    if (counts->odd > 0) {
        print_count("odd", counts->odd,
                    "calls that KVM would have refused: the trace lacks what came before");
    }
    if (follow->has_runs) {
        print_count("KVM_RUN", counts->runs, "by %zu vCPU%s", vm->vcpu_count,
                    vm->vcpu_count == 1 ? "" : "s");
    }
}

static void print_vm(const struct trace_follow *follow, const struct trace_vm *vm)
{
    printf("\nVM %" PRIu32, vm->index);
    if (vm->pid != 0) {
        printf(" of process %" PRIu32, vm->pid);
    }
    printf(", descriptor %" PRIu32 "%s\n", vm->fd,
           vm->is_created ? "" : ", whose creation is not in the trace");
    print_calls(vm);
    print_unchanged(follow, vm);
    print_logs(vm);
    print_rest(follow, vm);
}

/* ---- findings ---- */

static void add_few(char *text, size_t size_bytes, const char *one, const char *many,
                    const struct trace_few *few)
{
    size_t used = strlen(text);
    uint32_t i;

    used += (size_t)snprintf(text + used, size_bytes - used, "%s", few->count == 1 ? one : many);
    for (i = 0; i < few->count && i < TRACE_FEW; i++) {
        used += (size_t)snprintf(text + used, size_bytes - used, "%s %" PRIu32, i > 0 ? "," : "",
                                 few->number[i]);
    }
    if (few->count > TRACE_FEW) {
        snprintf(text + used, size_bytes - used, " and %" PRIu32 " more", few->count - TRACE_FEW);
    }
}

#define DETAIL_BYTES 300

/* "all of it back as slots 0, 4, gone 0.214 ms, vCPU 1 ran" */
static void describe_back(const struct trace_follow *follow, const struct trace_finding *finding,
                          char text[DETAIL_BYTES])
{
    bool is_all = finding->back_bytes - 1 == finding->last - finding->gpa;
    char size[SHOW_SIZE_BYTES];
    size_t used;

    snprintf(text, DETAIL_BYTES, "%s of it back %s",
             is_all ? "all" : show_size(finding->back_bytes, size),
             finding->is_merged ? "within" : "as");
    add_few(text, DETAIL_BYTES, " slot", " slots", &finding->back);
    used = strlen(text);
    if (finding->has_time) {
        used += (size_t)snprintf(text + used, DETAIL_BYTES - used, ", gone %.3f ms",
                                 (double)finding->gone_us / 1000);
    }
    if (finding->ran.count > 0) {
        add_few(text, DETAIL_BYTES, ", in KVM_RUN: vCPU", ", in KVM_RUN: vCPUs", &finding->ran);
    } else if (follow->has_runs) {
        snprintf(text + used, DETAIL_BYTES - used, ", no vCPU in KVM_RUN");
    }
    used = strlen(text);
    if (finding->is_log_lost) {
        snprintf(text + used, DETAIL_BYTES - used, ", dirty log lost");
    }
}

static void describe(const struct trace_follow *follow, const struct trace_finding *finding,
                     char text[DETAIL_BYTES])
{
    char flags[TRACE_FLAGS_BYTES];
    char size[SHOW_SIZE_BYTES];

    switch (finding->kind) {
    case FINDING_UNCHANGED:
    case FINDING_RETURNED:
        describe_back(follow, finding, text);
        break;
    case FINDING_MOVED:
        snprintf(text, DETAIL_BYTES, "from %" PRIx64, finding->old_gpa);
        break;
    case FINDING_FLAGS:
        snprintf(text, DETAIL_BYTES, "flags were %s",
                 finding->old_flags != 0 ? short_flags(finding->old_flags, flags) : "none");
        break;
    case FINDING_FAILED:
        snprintf(text, DETAIL_BYTES, "%s: %s", finding->text, finding->error);
        if (finding->other != TRACE_NONE) {
            size_t used = strlen(text);

            snprintf(text + used, DETAIL_BYTES - used, ", overlaps slot %" PRIu32, finding->other);
        }
        break;
    case FINDING_NOTIFIED:
        snprintf(text, DETAIL_BYTES, "%s of %s of its host memory", finding->text,
                 show_size(finding->back_bytes, size));
        break;
    case FINDING_ODD:
        snprintf(text, DETAIL_BYTES, "%s", finding->why);
        break;
    default:
        snprintf(text, DETAIL_BYTES, "%s%s%s", finding->text, finding->error != NULL ? ": " : "",
                 finding->error != NULL ? finding->error : "");
        break;
    }
}

static void add_finding_row(struct table *table, const struct trace_follow *follow,
                            const struct trace_finding *finding)
{
    bool has_range = finding->kind != FINDING_UNSUPPORTED &&
                     (finding->last > finding->gpa || finding->kind == FINDING_NOTIFIED);
    char detail[DETAIL_BYTES];
    char flags[TRACE_FLAGS_BYTES];
    char time[TIME_BYTES];
    char size[SHOW_SIZE_BYTES];

    describe(follow, finding, detail);
    table_add(table, "%s", time_text(finding->has_time, finding->time_us, time));
    table_add(table, "%lu", finding->line);
    if (follow->vm_count > 1 && finding->vm != TRACE_NONE) {
        table_add(table, "%" PRIu32, finding->vm);
    } else {
        table_add(table, "%s", "");
    }
    table_add(table, "%s", names[finding->kind]);
    if (finding->as > 0) {
        table_add(table, "%" PRIu32, finding->as);
    } else {
        table_add(table, "%s", "");
    }
    if (has_range) {
        table_add(table, "%" PRIu32, finding->slot);
        table_add(table, "%" PRIx64, finding->gpa);
        table_add(table, "%" PRIx64, finding->last);
        table_add(table, "%s", show_size((gm_size_t)(finding->last - finding->gpa) + 1, size));
        table_add(table, "%s", short_flags(finding->flags, flags));
    } else {
        table_add_number_if(table, finding->kind != FINDING_UNSUPPORTED, finding->slot);
        table_add(table, "%s", "");
        table_add(table, "%s", "");
        table_add(table, "%s", "");
        table_add(table, "%s", "");
    }
    table_add(table, "%s", detail);
}

static void print_findings(const struct trace_report *report)
{
    static const struct table_column columns[] = {
        {"time", TABLE_RIGHT}, {"line", TABLE_RIGHT}, {"VM", TABLE_RIGHT},    {"what", TABLE_LEFT},
        {"as", TABLE_RIGHT},   {"slot", TABLE_RIGHT}, {"first", TABLE_RIGHT}, {"last", TABLE_RIGHT},
        {"size", TABLE_RIGHT}, {"flags", TABLE_LEFT}, {"", TABLE_LEFT},
    };
    const struct trace_follow *follow = report->follow;
    size_t count = follow->finding_count;
    struct table table;
    size_t i;

    if (count == 0) {
        return;
    }
    if (report->events == NULL && count > LISTED_FINDINGS) {
        count = LISTED_FINDINGS;
    }
    printf("\nNOTABLE\n");
    table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
    for (i = 0; i < count; i++) {
        add_finding_row(&table, follow, &follow->findings[i]);
    }
    table_print(&table);
    if (count < follow->finding_count) {
        printf("  ... and %zu more; --all lists them\n", follow->finding_count - count);
    }
    if (follow->findings_left_out > 0) {
        printf("  ... and %" PRIu64 " that are only counted\n", follow->findings_left_out);
    }
}

/* ---- slots at the end ---- */

static void print_slots(const struct trace_report *report, const struct trace_vm *vm)
{
    static const struct table_column columns[] = {
        {"as", TABLE_RIGHT},      {"slot", TABLE_RIGHT},  {"first", TABLE_RIGHT},
        {"last", TABLE_RIGHT},    {"size", TABLE_RIGHT},  {"flags", TABLE_LEFT},
        {"hva", TABLE_RIGHT},     {"since", TABLE_RIGHT}, {"line", TABLE_RIGHT},
        {"fetched", TABLE_RIGHT},
    };
    size_t count = vm->by_gpa.count;
    char flags[TRACE_FLAGS_BYTES];
    char size[SHOW_SIZE_BYTES];
    char time[TIME_BYTES];
    struct table table;
    size_t i;

    if (report->events == NULL && count > LISTED_SLOTS) {
        count = LISTED_SLOTS;
    }
    printf("\nSLOTS of VM %" PRIu32 " at the end: %zu\n", vm->index, vm->by_gpa.count);
    table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
    for (i = 0; i < count; i++) {
        const struct trace_slot *slot = vm->by_gpa.entries[i].item;
        const struct trace_range *range = &slot->range;

        table_add_number_if(&table, range->as > 0, range->as);
        table_add(&table, "%" PRIu32, slot->number);
        table_add(&table, "%" PRIx64, range->gpa);
        table_add(&table, "%" PRIx64, range->last);
        table_add(&table, "%s", show_size((gm_size_t)(range->last - range->gpa) + 1, size));
        table_add(&table, "%s", short_flags(range->flags, flags));
        table_add(&table, "%" PRIx64, range->hva);
        table_add(&table, "%s", time_text(slot->has_time, slot->time_us, time));
        table_add(&table, "%lu", slot->line);
        table_add_number_if(&table, slot->log_count > 0, slot->log_count);
    }
    table_print(&table);
    if (count < vm->by_gpa.count) {
        printf("  ... and %zu more; --all lists them\n", vm->by_gpa.count - count);
    }
}

/* ---- all of it ---- */

static void print_head(const struct trace_follow *follow)
{
    const struct trace *trace = follow->trace;

    printf("%s: %s, %lu lines", trace->lines.path,
           trace->format == TRACE_FORMAT_STRACE ? "strace" : "a trace of guestmem kvm",
           trace->lines.number);
    if (follow->has_time) {
        printf(", %.6f s", (double)follow->last_us / 1000000);
    }
    printf(", %zu VM%s\n", follow->vm_count, follow->vm_count == 1 ? "" : "s");
    if (trace->is_cut) {
        printf("  The last line is cut off and has been left out.\n");
    }
    if (trace->passed > 0) {
        printf("  %lu lines are not strace's and have been passed over, first line %lu.\n",
               trace->passed, trace->passed_first);
    }
}

static void print_guess(const struct trace_follow *follow)
{
    size_t i;

    for (i = 1; i < follow->vm_count && follow->trace->is_guess; i++) {
        if (follow->vms[i]->pid != follow->vms[0]->pid) {
            printf("  Which threads are of which process is a guess; strace -f -e "
                   "trace=ioctl,close,%%process tells.\n");
            return;
        }
    }
}

static void print_events(FILE *events)
{
    char buffer[65536];
    size_t length;

    printf("\nEVENTS\n");
    rewind(events);
    while ((length = fread(buffer, 1, sizeof(buffer), events)) > 0) {
        fwrite(buffer, 1, length, stdout);
    }
}

void trace_report_print(const struct trace_report *report)
{
    const struct trace_follow *follow = report->follow;
    size_t vm_count = follow->vm_count;
    size_t i;

    if (report->events == NULL && vm_count > LISTED_VMS) {
        vm_count = LISTED_VMS;
    }
    print_head(follow);
    print_guess(follow);
    for (i = 0; i < vm_count; i++) {
        print_vm(follow, follow->vms[i]);
    }
    if (vm_count < follow->vm_count) {
        printf("\n... and %zu more VMs; --all lists them\n", follow->vm_count - vm_count);
    }
    print_findings(report);
    if (report->has_timeline) {
        trace_timeline_print(follow, vm_count);
    }
    for (i = 0; i < vm_count; i++) {
        if (follow->vms[i]->by_gpa.count > 0) {
            print_slots(report, follow->vms[i]);
        }
    }
    if (report->events != NULL) {
        print_events(report->events);
    }
}
