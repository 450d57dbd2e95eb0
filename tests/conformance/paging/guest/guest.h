/*
 * conformance/paging/guest/guest.h - the parts of the guest program, and the instructions that C lacks.
 *
 * No C library, no interrupts. It is built twice: as 32-bit code, which runs without paging between
 * accesses, and as 64-bit code, which runs on page tables of its own.
 */
#ifndef CONFORMANCE_PAGING_GUEST_H
#define CONFORMANCE_PAGING_GUEST_H

#include "../image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A register's width, and that of what interrupts push. */
typedef uintptr_t word_t;

#define VECTOR_COUNT 49u /* the last is PAGING_VECTOR_DONE */

/* Selectors. DPL and RPL of a ring's are the ring. */
#define CODE_SELECTOR(ring) (0x08u + 0x10u * (ring) + (ring))
#define DATA_SELECTOR(ring) (0x10u + 0x10u * (ring) + (ring))
#define TSS_SELECTOR 0x48u
#define LDT_SELECTOR 0x58u
#define GDT_COUNT 13u

/* What take_access() enters the ring with; enter32.S and enter64.S have the offsets. */
struct frame {
    word_t rip;
    word_t cs;
    word_t flags;
    word_t rsp;
    word_t ss;
    word_t linear; /* RDI */
    word_t value;  /* RAX */
    word_t cr0;
};

/* What ended it. */
struct trap {
    word_t vector;
    word_t error_code;
    word_t value;
    word_t cr2;
};

/* enter32.S, enter64.S */
void take_access(const struct frame *frame);
extern struct trap trap;
extern const uint8_t stub_read[], stub_write[], stub_fetch[], stub_implicit[];
extern const word_t vector_entries[VECTOR_COUNT];
extern uint8_t stack_of_traps[]; /* its end */
extern uint8_t stack_of_access[];

void guest_main(void);

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void write_msr(uint32_t number, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static inline void write_pkru(uint32_t value)
{
    __asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0));
}

static inline void write_cr0(word_t value)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static inline void write_cr3(word_t value)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

static inline void write_cr4(word_t value)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

#endif
