/*
 * conformance/paging/image.h - what the host and the guest program of the paging oracle hand each other.
 *
 * The guest program (guest/) is a tiny monitor on the bare machine. For each case it puts entries into
 * page tables, sets control registers, lets one instruction at some privilege level make one access, and
 * notes what came of it. So QEMU's processor walks the tables, not our code.
 *
 * The machine's RAM is a file that both sides see. The host writes everything into it before the machine
 * starts, and reads the answers when it has stopped:
 *
 *        1 MiB   the guest program; its second page is the code that makes the accesses
 *        2 MiB   page tables that map the guest program, on every root, at linear addresses 0 to 4 MiB
 *       16 MiB   page tables under test
 *       64 MiB   struct paging_image; cases and answers behind it
 *   the rest     where leaves lead to
 *
 * All 8-byte words that a leaf can lead an access to are PAGING_WORD of their own physical address. As
 * data they say where they are: accesses are 4 bytes at offset 1. As code they are
 * `mov $(address >> 3), %eax; int $0x30`, so that a fetch tells the same.
 */
#ifndef CONFORMANCE_PAGING_IMAGE_H
#define CONFORMANCE_PAGING_IMAGE_H

#include <stdint.h>

#define PAGING_MONITOR 0x100000u
#define PAGING_STUB 0x101000u      /* physical, and linear for rings 0 to 2 */
#define PAGING_STUB_USER 0x3ff000u /* linear for ring 3 */
#define PAGING_MONITOR_TABLES 0x200000u
#define PAGING_MONITOR_END                                                                         \
    0x400000u /* linear addresses of the guest program; a multiple of 4 MiB */
#define PAGING_TABLES 0x1000000u
#define PAGING_TABLES_END 0x2000000u
#define PAGING_IMAGE 0x4000000u
#define PAGING_CASES 0x4001000u
#define PAGING_ANSWERS 0x6000000u
#define PAGING_IMAGE_END 0x8000000u

#define PAGING_IMAGE_MAGIC 0x314547414d474150ull
#define PAGING_LEVEL_COUNT 5

enum paging_kind {
    PAGING_KIND_READ = 0,
    PAGING_KIND_WRITE = 1,
    PAGING_KIND_FETCH = 2,
    PAGING_KIND_IMPLICIT = 3, /* LAR's read of a descriptor table */
};

struct paging_case {
    uint64_t entries[PAGING_LEVEL_COUNT]; /* by level, from 1 */
    uint64_t places[PAGING_LEVEL_COUNT];  /* their physical addresses; 0: this one stays as it is */
    uint64_t linear;                      /* a multiple of 8 */
    uint64_t cr3;
    uint64_t cr4;
    uint32_t cr0;
    uint32_t efer;
    uint32_t pkru;
    uint32_t written; /* what a write stores */
    uint8_t kind;     /* enum paging_kind */
    uint8_t ring;     /* CPL, 0 to 3 */
    uint8_t ac;       /* EFLAGS.AC */
    uint8_t unused[5];
};

#define PAGING_VECTOR_DONE 0x30u
#define PAGING_VECTOR_FAULT 14u

struct paging_answer {
    uint64_t entries[PAGING_LEVEL_COUNT]; /* as they are afterwards */
    uint64_t cr2;
    uint64_t value; /* of EAX */
    uint32_t vector;
    uint32_t error_code;
};

struct paging_image {
    uint64_t magic;
    uint64_t monitor_cr3; /* the guest program's own, in long mode */
    uint32_t is_long;     /* which of the guest programs this is for */
    uint32_t is_la57;
    uint32_t entry_bytes; /* 4 or 8 */
    uint32_t case_count;
    uint32_t answer_count; /* so many cases are done */
    uint32_t unused;
};

/* b8 imm32 is mov imm32, %eax; cd 30 is int $0x30. */
#define PAGING_WORD(address) (0x0030cd00000000b8ull | (uint64_t)(uint32_t)((address) >> 3) << 8)

_Static_assert(sizeof(struct paging_case) == 128, "the same in 32-bit and 64-bit code");
_Static_assert(sizeof(struct paging_answer) == 64, "the same in 32-bit and 64-bit code");
_Static_assert(sizeof(struct paging_image) == 40, "enter64.S reads it");

#endif
