/*
 * conformance/system/guest/guest.h - instructions that C lacks, and the places of the state save area.
 */
#ifndef CONFORMANCE_SYSTEM_GUEST_H
#define CONFORMANCE_SYSTEM_GUEST_H

#include "../image.h"

#include <stdbool.h>
#include <stdint.h>

/* The save area of AMD64 processors (APM 2, table 10-1), from SMBASE + 0xfe00 on. */
#define SAVE_AREA (SYSTEM_SMBASE + 0xfe00u)
#define SAVE_SEGMENT(number) (SAVE_AREA + 0x10u * (number)) /* ES to GS */
#define SAVE_GDT (SAVE_AREA + 0x60u)
#define SAVE_LDT (SAVE_AREA + 0x70u)
#define SAVE_IDT (SAVE_AREA + 0x80u)
#define SAVE_TR (SAVE_AREA + 0x90u)
#define SAVE_EFER (SAVE_AREA + 0xd0u)
#define SAVE_CR4 (SAVE_AREA + 0x148u)
#define SAVE_CR3 (SAVE_AREA + 0x150u)
#define SAVE_CR0 (SAVE_AREA + 0x158u)
#define SAVE_DR7 (SAVE_AREA + 0x160u)
#define SAVE_DR6 (SAVE_AREA + 0x168u)
#define SAVE_RFLAGS (SAVE_AREA + 0x170u)
#define SAVE_RIP (SAVE_AREA + 0x178u)
#define SAVE_GPR(number) (SAVE_AREA + 0x1f8u - 8u * (number))

/* enter.S */
extern const uint8_t smi_entry[], smi_entry_end[];
extern void wait_interrupt(void), take_interrupt(void);
extern void allow_nmi(void);

static inline uint64_t load64(uint32_t address)
{
    return *(volatile uint64_t *)address;
}

static inline void store64(uint32_t address, uint64_t value)
{
    *(volatile uint64_t *)address = value;
}

static inline uint32_t load32(uint32_t address)
{
    return *(volatile uint32_t *)address;
}

static inline void store32(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
}

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint64_t read_msr(uint32_t number)
{
    uint64_t value;

    __asm__ volatile("rdmsr" : "=A"(value) : "c"(number));
    return value;
}

static inline void write_msr(uint32_t number, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "A"(value), "c"(number) : "memory");
}

static inline void write_cr4(uint32_t value)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

static inline uint64_t read_xcr0(void)
{
    uint64_t value;

    __asm__ volatile("xgetbv" : "=A"(value) : "c"(0));
    return value;
}

static inline void write_xcr0(uint64_t value)
{
    __asm__ volatile("xsetbv" : : "A"(value), "c"(0));
}

static inline uint32_t read_pkru(void)
{
    uint32_t value, unused;

    __asm__ volatile("rdpkru" : "=a"(value), "=d"(unused) : "c"(0));
    return value;
}

static inline void write_pkru(uint32_t value)
{
    __asm__ volatile("wrpkru" : : "a"(value), "d"(0), "c"(0));
}

#endif
