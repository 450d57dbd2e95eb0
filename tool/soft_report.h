/*
 * soft_report.h - what a guest's access came to, as it stands on the line behind the arrow: its
 * exits in order, then how it ended. Both machines report through these, so that they speak alike.
 */
#ifndef TOOL_SOFT_REPORT_H
#define TOOL_SOFT_REPORT_H

#include <guestmem/types.h>

/* A guest that keeps exiting is given up after so many exits; its line then has no end. */
#define SCRIPT_EXITS_MAX 4096u

struct script_report {
    unsigned exit_count;
};

static inline bool report_is_full(const struct script_report *report)
{
    return report->exit_count >= SCRIPT_EXITS_MAX;
}

/* An MMIO exit of 1 to 8 bytes. A read is answered: @data is filled in. */
void report_mmio_write(struct script_report *report, gm_gpa_t gpa, const uint8_t *data,
                       unsigned size_bytes);
void report_mmio_read(struct script_report *report, gm_gpa_t gpa, uint8_t *data,
                      unsigned size_bytes);
/* A port was accessed; only code of the script's own does that. */
void report_port(struct script_report *report);

/* How it ended. @error: a negative errno of KVM_RUN. */
void report_error(int error);
void report_internal_error(unsigned suberror);
void report_shutdown(void);
void report_other(unsigned exit_reason);
void report_value(uint64_t value, unsigned size_bytes);
void report_hlt(void);

#endif
