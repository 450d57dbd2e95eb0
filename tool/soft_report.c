/* soft_report.c - printing what a guest's access came to, and answering its MMIO reads. */
#include "soft_report.h"

#include "tool.h"

#include <inttypes.h>
#include <stdio.h>

/* What devices answer: a byte that depends on its address alone, so that all transcripts agree. */
static uint8_t mmio_byte(gm_gpa_t gpa)
{
    return (uint8_t)(gpa * 0x9d + 0x5a + (gpa >> 12) * 7);
}

void report_mmio_write(struct script_report *report, gm_gpa_t gpa, const uint8_t *data,
                       unsigned size_bytes)
{
    unsigned i;

    report->exit_count++;
    printf(" mmio-w %" PRIx64 "+%u:", gpa, size_bytes);
    for (i = 0; i < size_bytes; i++) {
        printf("%02x", data[i]);
    }
}

void report_mmio_read(struct script_report *report, gm_gpa_t gpa, uint8_t *data,
                      unsigned size_bytes)
{
    unsigned i;

    report->exit_count++;
    printf(" mmio-r %" PRIx64 "+%u", gpa, size_bytes);
    for (i = 0; i < size_bytes; i++) {
        data[i] = mmio_byte(gpa + i);
    }
}

void report_port(struct script_report *report)
{
    report->exit_count++;
    printf(" io");
}

void report_error(int error)
{
    printf(" run:%s", tool_error_name(error));
}

void report_internal_error(unsigned suberror)
{
    printf(" INTERNAL_ERROR/%u", suberror);
}

void report_shutdown(void)
{
    printf(" SHUTDOWN");
}

void report_other(unsigned exit_reason)
{
    printf(" exit%u", exit_reason);
}

void report_value(uint64_t value, unsigned size_bytes)
{
    printf(" =%" PRIx64, size_bytes < 8 ? value & (((uint64_t)1 << 8 * size_bytes) - 1) : value);
}

void report_hlt(void)
{
    printf(" hlt");
}
