/*
 * conformance/system/arena.h - the arena: tables of all modes, at linear addresses that are physical ones, and what
 * is where in them.
 */
#ifndef CONFORMANCE_SYSTEM_ARENA_H
#define CONFORMANCE_SYSTEM_ARENA_H

#include "image.h"

#include <stdint.h>

enum {
    ARENA_IVT = 0x0,
    ARENA_IDT32 = 0x1000, /* gates of 8 bytes */
    ARENA_IDT16 = 0x1800,
    ARENA_IDT64 = 0x2000, /* gates of 16 bytes */
    ARENA_GDT = 0x3000,
    ARENA_LDT = 0x4000,
    ARENA_TSS32 = 0x4400,
    ARENA_TSS16 = 0x4800,
    ARENA_TSS64 = 0x4c00,
    ARENA_CODE = 0x5000,
    ARENA_HANDLERS = 0x6000, /* one for each vector, ARENA_HANDLER_BYTES apart */
    ARENA_BODIES = 0x6800,   /* where those lead that go on: see arena_go_on() */
    ARENA_STACKS = 0x7000,
    ARENA_DATA = 0x8000,
    ARENA_PML4 = 0x9000,
    ARENA_PDPT = 0xa000,
    ARENA_PD = 0xb000,
    ARENA_PT = 0xc000,
    ARENA_PAE_PDPT = 0xd000,
    ARENA_PD32 = 0xe000,
    ARENA_PT32 = 0xf000,
};

enum {
    ARENA_HANDLER_BYTES = 8,
    ARENA_CODE_BYTES = 0x1000,
    ARENA_TSS_LIMIT = 0x1ff,
    ARENA_TSS_BITMAP = 0x68,
    ARENA_GDT_LIMIT = 0x1ff,
    ARENA_LDT_LIMIT = 0x7f,
    ARENA_SLOT_BYTES = 32, /* handlers that go on do so at the next multiple of this */
};

/* Where stacks begin: downwards from here. */
enum {
    ARENA_SP0 = 0x7300,    /* ring 0's own */
    ARENA_SP_TSS = 0x7600, /* of the TSS, for ring 0; rings 1 and 2 are 0x80 and 0x100 above */
    ARENA_SP3 = 0x7a00,    /* ring 3's own */
    ARENA_SP_IST = 0x7b80, /* IST 1; the others are 0x80 above each other */
    ARENA_SP_REAL =
        0xcf80, /* within 64 KiB of any low segment, and on no table of a mode without paging */
};

/* Selectors, with their descriptor's level as RPL. */
enum {
    SELECTOR_CODE32 = 0x08,
    SELECTOR_DATA32 = 0x10,
    SELECTOR_CODE64 = 0x18,
    SELECTOR_CODE16 = 0x20,
    SELECTOR_DATA16 = 0x28,
    SELECTOR_USER_CODE32 = 0x33,
    SELECTOR_USER_DATA32 = 0x3b,
    SELECTOR_USER_CODE64 = 0x43,
    SELECTOR_TSS32 = 0x48,
    SELECTOR_TSS16 = 0x50,
    SELECTOR_TSS64 = 0x58,
    SELECTOR_LDT = 0x68,
    SELECTOR_USER_CODE16 = 0x7b,
    SELECTOR_USER_DATA16 = 0x83,
    SELECTOR_CONFORMING = 0x88,
    SELECTOR_RING1_CODE = 0x91,
    SELECTOR_RING1_DATA = 0x99,
    SELECTOR_RING2_CODE = 0xa2,
    SELECTOR_RING2_DATA = 0xaa,
    SELECTOR_DOWN32 = 0xb0, /* expands down from 4 GiB to 7000 */
    SELECTOR_DOWN16 = 0xb8, /* from 64 KiB */
    SELECTOR_READ_ONLY = 0xc0,
    SELECTOR_EXECUTE_ONLY = 0xc8,
    SELECTOR_ABSENT = 0xd0,
    SELECTOR_SHORT = 0xd8, /* up to 80ff */
    SELECTOR_CONFORMING64 = 0xe0,
    SELECTOR_FREE_TSS32 = 0xe8,
    SELECTOR_FREE_TSS16 = 0xf0,
    SELECTOR_FREE_TSS64 = 0xf8,
    SELECTOR_RANDOM = 0x108, /* from here on descriptors are a case's own */
};

/* Page table entries: present, writable, for all, accessed and dirty. */
#define ARENA_PTE UINT64_C(0x67)

/* The plain arena. */
void arena_make(uint8_t arena[SYSTEM_ARENA_BYTES]);

/* Let the handler of a vector not end the case, but go on behind the slot that the exception came from, or, of a
 * vector without a fault, at the next instruction. @bits: of the code that it is. */
void arena_go_on(uint8_t arena[SYSTEM_ARENA_BYTES], unsigned vector, unsigned bits);

/* Does the exception push an error code? */
static inline int arena_has_error_code(unsigned vector)
{
    return vector < 32 && ((UINT32_C(1) << vector) & 0x00027d00) != 0; /* 8, 10 to 14, 17 */
}

#endif
