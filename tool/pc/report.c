/*
 * pc/report.c - collecting the report, and printing it for people.
 */
#include "pc/report.h"

#include "show.h"
#include "table.h"
#include "tool.h"

#include "pc/clock.h"

#include <guestmem/ram.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
} ends[] = {
    [PC_RUNNING] = {"running", "the machine still runs"},
    [PC_POWER_OFF] = {"power-off", "the guest powered the machine off"},
    [PC_EXIT_PORT] = {"exit-port", "the guest wrote to the exit port"},
    [PC_RESET] = {"reset", "the guest asked for a reset"},
    [PC_IDLE] = {"idle", "the guest is idle: halted for 1 s, saying nothing"},
    [PC_HALTED] = {"halted", "the guest halted with interrupts disabled"},
    [PC_TIME_UP] = {"time-up", "the time given by --for is over"},
    [PC_INTERRUPTED] = {"interrupted", "interrupted by a signal"},
    [PC_CRASHED] = {"crashed", "the guest crashed"},
    [PC_FAILED] = {"failed", "the machine could not go on"},
};

const char *report_end_name(enum pc_end end)
{
    return ends[end].name;
}

const char *report_end_text(enum pc_end end)
{
    return ends[end].text;
}

void report_init(struct report *report, struct gm_vm *vm, struct pc *pc, const char *reason)
{
    struct gm_slots *slots = gm_vm_slots(vm);
    size_t room;

    *report = (struct report){.is_soft = gm_vm_soft(vm) != NULL, .reason = reason};
    pc_result(pc, &report->result);
    /* The run is over, so the number of slots does not change between the two calls. */
    room = gm_slots_list(slots, NULL, 0);
    report->slot = tool_alloc(room * sizeof(*report->slot));
    report->slot_count = gm_slots_list(slots, report->slot, room);
    report->view = gm_view_get(gm_vm_memory(vm));
    gm_map_stats(gm_vm_map(vm), &report->map);
    gm_slots_stats(slots, &report->slots);
    report->dirty_error = pc_dirty_pages(pc, &report->dirty_pages);
}

void report_fini(struct report *report)
{
    gm_view_put(report->view);
    free(report->slot);
}

const char *report_kind_name(const struct gm_section *section)
{
    switch (gm_region_kind(section->region)) {
    case GM_REGION_RAM:
        return "ram";
    case GM_REGION_ROM:
        return "rom";
    case GM_REGION_ROM_DEVICE:
        return "rom-device";
    case GM_REGION_MMIO:
        return "i/o";
    case GM_REGION_RESERVATION:
        return "reservation";
    default:
        return "other"; /* this machine has no more kinds */
    }
}

static void print_view(const struct report *report)
{
    static const struct table_column columns[] = {
        {"first", TABLE_RIGHT}, {"last", TABLE_RIGHT}, {"size", TABLE_RIGHT},  {"kind", TABLE_LEFT},
        {"flags", TABLE_LEFT},  {"from", TABLE_RIGHT}, {"region", TABLE_LEFT},
    };
    struct gm_section section;
    char size[SHOW_SIZE_BYTES];
    struct table table;
    size_t i;

    table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
    for (i = 0; gm_view_at(report->view, i, &section); i++) {
        table_add(&table, "%" PRIx64, section.gpa);
        table_add(&table, "%" PRIx64, section.last);
        table_add(&table, "%s", show_size(gm_section_size(&section), size));
        table_add(&table, "%s", report_kind_name(&section));
        table_add(&table, "%s", (section.flags & GM_SECTION_READONLY) != 0 ? "ro" : "");
        table_add(&table, "%" PRIx64, section.offset);
        table_add(&table, "%s", gm_region_name(section.region));
    }
    table_print(&table);
}

static void print_slots(const struct report *report)
{
    static const struct table_column columns[] = {
        {"slot", TABLE_RIGHT}, {"first", TABLE_RIGHT}, {"last", TABLE_RIGHT},
        {"size", TABLE_RIGHT}, {"log", TABLE_LEFT},    {"flags", TABLE_LEFT},
        {"from", TABLE_RIGHT}, {"region", TABLE_LEFT},
    };
    char size[SHOW_SIZE_BYTES];
    struct table table;
    size_t i;

    table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
    for (i = 0; i < report->slot_count; i++) {
        const struct gm_slot *slot = &report->slot[i];

        table_add(&table, "%" PRIu32, slot->number);
        table_add(&table, "%" PRIx64, slot->gpa);
        table_add(&table, "%" PRIx64, slot->gpa + (slot->size_bytes - 1));
        table_add(&table, "%s", show_size(slot->size_bytes, size));
        table_add(&table, "%s", (slot->flags & GM_SLOT_LOG) != 0 ? "log" : "");
        table_add(&table, "%s", (slot->flags & GM_SLOT_READONLY) != 0 ? "ro" : "");
        table_add(&table, "%" PRIx64, slot->offset);
        table_add(&table, "%s", gm_region_name(slot->region));
    }
    table_print(&table);
}

/* A line of the last part: a name, a number, and what there is to say about it. */
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

static void print_changes(const struct report *report)
{
    const struct gm_slots_stats *slots = &report->slots;
    const struct gm_slots_stats *built = &report->result.built_slots;

    print_count("commits", report->map.commits,
                "%" PRIu64 " to build the machine, %" PRIu64 " by the guest",
                report->result.built.commits, report->map.commits - report->result.built.commits);
    print_count("slot changes", slots->creates + slots->destroys + slots->flag_changes,
                "%" PRIu64 " create, %" PRIu64 " delete, %" PRIu64 " flags; %" PRIu64
                " of them to build the machine",
                slots->creates, slots->destroys, slots->flag_changes,
                built->creates + built->destroys + built->flag_changes);
    print_count("  untouched", slots->untouched_destroys, "deletes of memory that did not change");
    print_count("vCPU held", slots->holds, "times, %.3f ms in all, %.3f ms at most",
                (double)slots->hold_ns / (double)CLOCK_NS_PER_MS,
                (double)slots->max_hold_ns / (double)CLOCK_NS_PER_MS);
}

static void print_exits(const struct gm_vcpu_stats *exits)
{
    uint64_t ports = exits->port_reads + exits->port_writes;
    uint64_t mmio = exits->mmio_reads + exits->mmio_writes;

    print_count("exits", ports + mmio + exits->interrupted + exits->other, "of all kinds");
    print_count("  port", ports, "%" PRIu64 " read, %" PRIu64 " written", exits->port_reads,
                exits->port_writes);
    print_count("  mmio", mmio, "%" PRIu64 " read, %" PRIu64 " written", exits->mmio_reads,
                exits->mmio_writes);
    print_count("  kicked", exits->interrupted, "to look at the guest, or to hold it");
    print_count("  other", exits->other, "not for memory or ports");
    print_count("unanswered", exits->unmapped, "accesses to where nothing is");
}

static void print_dirty(const struct report *report)
{
    char dirty[SHOW_SIZE_BYTES];
    char memory[SHOW_SIZE_BYTES];

    if (report->dirty_error != 0) {
        printf("  %-12s  %7s  %s\n", "dirty pages", "?", strerror(-report->dirty_error));
        return;
    }
    print_count("dirty pages", report->dirty_pages, "%s of %s",
                show_size((gm_size_t)report->dirty_pages * GM_DIRTY_PAGE_BYTES, dirty),
                show_size(report->result.memory_bytes, memory));
}

int report_print(const struct report *report)
{
    enum pc_end end = report->result.end;

    printf("\nEnded after %.2f s on %s: %s",
           (double)report->result.run_ns / (double)CLOCK_NS_PER_SECOND,
           report->is_soft ? "the software KVM" : "/dev/kvm", report_end_text(end));
    if (end == PC_EXIT_PORT) {
        printf(" (value %" PRIu32 ")", report->result.value);
    } else if (report->reason[0] != '\0') {
        printf(": %s", report->reason);
    }
    fputs("\n\n", stdout);
    printf("Flat view of memory, %zu ranges\n", gm_view_count(report->view));
    print_view(report);
    printf("\nSlots, %zu in use\n", report->slot_count);
    print_slots(report);
    fputs("\nWhat it took\n", stdout);
    print_changes(report);
    print_exits(&report->result.exits);
    print_dirty(report);
    return tool_finish_output();
}
