/*
 * pc/cmos.c - the clock chip: 14 bytes of time and state, then bytes that a PC's firmware keeps its
 * settings in. The size of RAM stands there for firmware that does not ask fw_cfg.
 * Source: Motorola MC146818A datasheet (registers 0x00-0x0d); the use of the other bytes is what
 * SeaBIOS reads on this machine type.
 */
#include "pc/devices.h"

#include <time.h>

#define CMOS_PORTS 0x70
#define INDEX_MASK 0x7fu /* bit 7 masks NMIs and is not part of the index */

enum {
    RTC_SECONDS = 0x00,
    RTC_MINUTES = 0x02,
    RTC_HOURS = 0x04,
    RTC_DAY_OF_WEEK = 0x06,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_STATUS_A = 0x0a,
    RTC_STATUS_B = 0x0b,
    RTC_STATUS_C = 0x0c,
    RTC_STATUS_D = 0x0d,
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_KIB = 0x15,     /* 16 bits: RAM below 640 KiB */
    CMOS_EXTENDED_KIB = 0x17, /* 16 bits: RAM above 1 MiB, at most 65535 KiB */
    CMOS_EXTENDED_KIB_AGAIN = 0x30,
    CMOS_CENTURY = 0x32,
    CMOS_ABOVE_16M_64KIB = 0x34, /* 16 bits: RAM from 16 MiB to the PCI hole */
    CMOS_ABOVE_4G_64KIB = 0x5b,  /* 24 bits: RAM from 4 GiB on */
};

#define STATUS_A_32768_HZ 0x26u
#define STATUS_B_24_HOURS 0x02u
#define STATUS_D_BATTERY_GOOD 0x80u
#define EQUIPMENT_NO_FLOPPY 0x06u /* an FPU, a PS/2 pointer, no drives */

static uint8_t to_bcd(int number)
{
    return (uint8_t)((number / 10) % 10 << 4 | number % 10);
}

/* The byte of a time register; the registers hold binary-coded decimals, in UTC. */
static uint8_t time_byte(uint8_t index, uint8_t otherwise)
{
    time_t now = time(NULL);
    struct tm utc;

    if (gmtime_r(&now, &utc) == NULL) {
        return otherwise;
    }
    switch (index) {
    case RTC_SECONDS:
        return to_bcd(utc.tm_sec);
    case RTC_MINUTES:
        return to_bcd(utc.tm_min);
    case RTC_HOURS:
        return to_bcd(utc.tm_hour);
    case RTC_DAY_OF_WEEK:
        return to_bcd(utc.tm_wday + 1);
    case RTC_DAY:
        return to_bcd(utc.tm_mday);
    case RTC_MONTH:
        return to_bcd(utc.tm_mon + 1);
    case RTC_YEAR:
        return to_bcd(utc.tm_year % 100);
    case CMOS_CENTURY:
        return to_bcd((utc.tm_year + 1900) / 100);
    default:
        return otherwise;
    }
}

static uint8_t cmos_read(void *opaque, unsigned offset)
{
    const struct cmos *cmos = opaque;

    return offset == 0 ? cmos->index : time_byte(cmos->index, cmos->bytes[cmos->index]);
}

static void cmos_write(void *opaque, unsigned offset, uint8_t byte)
{
    struct cmos *cmos = opaque;

    if (offset == 0) {
        cmos->index = byte & INDEX_MASK;
    } else if (cmos->index != RTC_STATUS_C && cmos->index != RTC_STATUS_D) {
        cmos->bytes[cmos->index] = byte;
    }
}

static void put_number(struct cmos *cmos, uint8_t index, unsigned size_bytes, uint64_t value)
{
    unsigned i;

    for (i = 0; i < size_bytes; i++) {
        cmos->bytes[index + i] = (uint8_t)(value >> (8 * i));
    }
}

static void put_memory(struct cmos *cmos, const struct board *board)
{
    uint64_t extended_kib = (board->low_bytes - PC_MIB) >> 10;
    uint64_t high_bytes = gm_ram_size(board->ram) - board->low_bytes;

    if (extended_kib > UINT16_MAX) {
        extended_kib = UINT16_MAX;
    }
    put_number(cmos, CMOS_BASE_KIB, 2, 640);
    put_number(cmos, CMOS_EXTENDED_KIB, 2, extended_kib);
    put_number(cmos, CMOS_EXTENDED_KIB_AGAIN, 2, extended_kib);
    if (board->low_bytes > 16 * PC_MIB) {
        put_number(cmos, CMOS_ABOVE_16M_64KIB, 2, (board->low_bytes - 16 * PC_MIB) >> 16);
    }
    put_number(cmos, CMOS_ABOVE_4G_64KIB, 3, high_bytes >> 16);
}

int cmos_init(struct cmos *cmos, struct board *board)
{
    cmos->bytes[RTC_STATUS_A] = STATUS_A_32768_HZ;
    cmos->bytes[RTC_STATUS_B] = STATUS_B_24_HOURS;
    cmos->bytes[RTC_STATUS_D] = STATUS_D_BATTERY_GOOD;
    cmos->bytes[CMOS_EQUIPMENT] = EQUIPMENT_NO_FLOPPY;
    put_memory(cmos, board);
    cmos->ports = (struct byte_ports){
        .name = "cmos",
        .port = CMOS_PORTS,
        .count = 2,
        .read = cmos_read,
        .write = cmos_write,
        .opaque = cmos,
    };
    return byte_ports_add(board, &cmos->ports);
}
