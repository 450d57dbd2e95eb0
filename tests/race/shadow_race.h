/*
 * race/shadow_race.h - two vCPUs share page tables that are shadowed, edit them, flush, and use them all the time: what
 * the guest's side (shadow_race_guest.c) and the host's (test_shadow_race.c) both know.
 *
 * Each vCPU owns one page table, which both have mapped by directories of their own. Its entries:
 *
 *   mine      edited by the owner, who flushes at once; the other vCPU does not use them
 *   ours      edited by the owner; then a shootdown: the other vCPU flushes, says so, and must see the edit from then on
 *   counters  lead to pages that both write; the owner clears their dirty flags, with a shootdown
 *   hosts     edited by the host alone, while the table's memory is being invalidated
 *
 * Each page of data says its number. So what an access must find is known.
 */
#ifndef RACE_SHADOW_RACE_H
#define RACE_SHADOW_RACE_H

#include "model/softmodel_race.h"

/* Guest-physical addresses, and offsets in the host memory. */
#define TABLES 0x000000u /* slot 0 */
#define TABLE_PAGES 128u
#define COUNTED 0x100000u /* slot 1: the counters' pages, of each owner */
#define COUNTED_PAGES 8u
#define STEADY 0x200000u   /* slot 2: pages that say their number */
#define FLEETING 0x210000u /* slot 3: the same, and comes and goes */
#define NUMBERED_PAGES 16u /* of each of both */
#define MEMORY_BYTES UINT64_C(0x400000)

#define PML4(vcpu) (0x1000u * (1 + (vcpu)))
#define PDPT(vcpu) (0x1000u * (3 + (vcpu)))
#define PD(vcpu) (0x1000u * (5 + (vcpu)))
#define PT(owner) (0x1000u * (7 + (owner)))
#define PT_OF_TABLES 0x9000u
#define PD_SPARSE 0xa000u
#define SPARSE 32u /* the first page of tables with one entry each */
#define SPARSE_TABLES 96u

/* Linear addresses: of each owner's table, of slot 0, of the numbered pages by a large page, of either owner's table
 * as a directory of the vCPU's has it, of the sparse tables. */
#define LINEAR_OF(owner, entry) ((owner)*UINT64_C(0x200000) + (entry)*PAGE)
#define LINEAR_TABLES UINT64_C(0x400000)
#define LINEAR_LARGE UINT64_C(0x600000)
#define LINEAR_EITHER UINT64_C(0x800000)
#define LINEAR_SPARSE UINT64_C(0x40000000)

/* Entries of an owner's table. */
#define MINE 0u
#define MINE_ENTRIES 16u
#define OURS 16u
#define OURS_ENTRIES 3u
#define COUNTERS 32u
#define COUNTER_ENTRIES 4u
#define HOSTS 48u

/* In a page of counters: of each vCPU, one that is aligned and one that is not. */
#define ALIGNED(vcpu) (8u * (1 + (vcpu)))
#define SPLIT(vcpu) (67u + 32u * (vcpu))

#define P 0x1u
#define W 0x2u
#define U 0x4u
#define D 0x40u
#define LARGE 0x80u
#define FLAGS (P | W | U)
#define NOT_PRESENT 0xffffu /* instead of a page's number */

/* A request of an owner to the other: flush what entry `entry` led to. Taken from 1 on. */
struct shootdown {
    atomic_uint asked;
    atomic_uint done;
    unsigned entry;  /* before asked, after done: the owner's; between them the other's to read */
    unsigned number; /* OURS: the page that it leads to */
};

struct owner {
    unsigned mine[MINE_ENTRIES]; /* numbers; the owner's */
    struct shootdown shootdown;
    atomic_uint intended[OURS_ENTRIES]; /* numbers: an edit that is under way, or the last */
    /* What the host's entry says: the last edit that has ended, the last that has begun. */
    atomic_uint host_done;
    atomic_uint host_begun;
};

/* What one vCPU has flushed, of each owner's entries. Its own. */
struct flushed {
    unsigned ours[OURS_ENTRIES];
    bool wrote[COUNTER_ENTRIES]; /* since its last flush of it */
};

struct guest {
    struct owner owners[RACE_VCPUS];
    struct flushed flushed[RACE_VCPUS][RACE_VCPUS]; /* by vCPU, by owner */
    uint32_t counts[RACE_VCPUS][COUNTED_PAGES];     /* by vCPU */
    uint32_t splits[RACE_VCPUS][COUNTED_PAGES];
    unsigned either[RACE_VCPUS]; /* which owner's table */
    bool has_paging[RACE_VCPUS];
    atomic_uint fleeting; /* changes of slot 3: odd while it may be gone */
    atomic_bool pause;
    atomic_uint paused;
    uint64_t edits[RACE_VCPUS];
};

static inline uint64_t gpa_of_number(unsigned number)
{
    return STEADY + number * (uint64_t)PAGE;
}

static inline bool is_fleeting(unsigned number)
{
    return number >= NUMBERED_PAGES && number != NOT_PRESENT;
}

static inline uint64_t entry_gpa(unsigned owner, unsigned entry)
{
    return PT(owner) + entry * 8;
}

static inline uint64_t entry_of(unsigned number)
{
    return number == NOT_PRESENT ? 0 : gpa_of_number(number) | FLAGS;
}

extern struct guest guest;

/* One instruction: a flush that the other vCPU has asked for, then something of a random kind. */
enum gm_mmu_outcome shadow_instruction(struct race_vcpu *vcpu);

#endif
