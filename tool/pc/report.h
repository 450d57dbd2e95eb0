/*
 * pc/report.h - what `guestmem run` says after a run: the memory map that the guest has left, and
 * what it cost to keep the hypervisor at it.
 */
#ifndef TOOL_PC_REPORT_H
#define TOOL_PC_REPORT_H

#include "pc/pc.h"

/* All that is reported, collected once. */
struct report {
    struct pc_result result;
    bool is_soft;       /* it ran on the software KVM */
    const char *reason; /* a sentence about PC_CRASHED and PC_FAILED; borrowed */
    struct gm_map_stats map;
    struct gm_slots_stats slots;
    uint64_t dirty_pages;
    int dirty_error; /* 0, or why they could not be counted */
    struct gm_view *view;
    struct gm_slot *slot; /* slot_count of them */
    size_t slot_count;
};

/* Collect, after the run. */
void report_init(struct report *report, struct gm_vm *vm, struct pc *pc, const char *reason);
void report_fini(struct report *report);

/*
 * Print on stdout, for people or as one JSON object. Return: an exit code, as
 * tool_finish_output().
 */
int report_print(const struct report *report);
int report_print_json(const struct report *report);

/* What a range shows: "ram", "rom", "rom-device", "i/o", "reservation". */
const char *report_kind_name(const struct gm_section *section);

/* What an end is called in JSON, and a sentence about it. */
const char *report_end_name(enum pc_end end);
const char *report_end_text(enum pc_end end);

#endif
