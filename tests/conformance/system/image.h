/*
 * conformance/system/image.h - what the host and the guest program of the system oracle hand each other.
 *
 * The guest program (guest/) lives in system management mode, below whatever a case does to the processor. For each
 * case it puts the arena's memory and all registers in place, hidden parts of segments included, by filling the state
 * save area (AMD APM 2, table 10-1) and leaving by RSM. A case ends where it writes to SYSTEM_PORT, which raises an
 * SMI: the save area then says what has become of every register. A triple fault resets the machine; its firmware
 * finds the guest program still in RAM, which notes the end and goes on.
 *
 * The machine's RAM is a file that both sides see. The host writes everything into it before the machine starts, and
 * reads the answers when it has stopped:
 *
 *        0        the arena: all memory that cases use
 *      192 KiB    SMBASE, where every reset puts it: the way in at +0x8000, the save area at its end
 *        1 MiB    the guest program
 *        2 MiB    the arena as it is without a case; and with the present one's patches
 *        3 MiB    struct system_image
 *       16 MiB    the cases; the answers from 96 MiB on
 */
#ifndef CONFORMANCE_SYSTEM_IMAGE_H
#define CONFORMANCE_SYSTEM_IMAGE_H

#include <stdint.h>

#define SYSTEM_ARENA_BYTES 0x10000u
#define SYSTEM_SMBASE 0x30000u
#define SYSTEM_MONITOR 0x100000u
#define SYSTEM_PLAIN 0x200000u
#define SYSTEM_PATCHED 0x210000u
#define SYSTEM_IMAGE 0x300000u
#define SYSTEM_CASES 0x1000000u
#define SYSTEM_ANSWERS 0x6000000u
#define SYSTEM_RAM_BYTES 0xa000000u

#define SYSTEM_IMAGE_MAGIC 0x3153595347414d47ull

/* ACPI's SMI command port. AL is what is written; two values mean something to ACPI and raise none. */
#define SYSTEM_PORT 0xb2u
#define SYSTEM_AL_DEAF 0xf0u /* and 0xf1 */

enum {
    SYSTEM_PATCHES_MAX = 384,
    SYSTEM_CHANGES_MAX = 256, /* cases with more are not compared */
};

/* Attributes as in the save area: the descriptor's second byte of flags, and G, D/B, L, AVL in bits 12 to 15. */
struct system_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint16_t attributes;
};

enum system_segment_number {
    SYSTEM_ES,
    SYSTEM_CS,
    SYSTEM_SS,
    SYSTEM_DS,
    SYSTEM_FS,
    SYSTEM_GS,
    SYSTEM_LDT,
    SYSTEM_TR,
    SYSTEM_SEGMENTS,
};

enum system_msr {
    SYSTEM_STAR,
    SYSTEM_LSTAR,
    SYSTEM_CSTAR,
    SYSTEM_MASK,
    SYSTEM_KERNEL_GS,
    SYSTEM_ENTER_CS,
    SYSTEM_ENTER_SP,
    SYSTEM_ENTER_IP,
    SYSTEM_MSRS,
};

struct system_state {
    uint64_t gpr[16];
    uint64_t rip, rflags;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer;
    uint64_t dr[4], dr6, dr7;
    uint64_t xcr0;
    uint64_t gdt_base, idt_base;
    uint64_t msr[SYSTEM_MSRS];
    uint32_t gdt_limit, idt_limit;
    uint32_t pkru, unused;
    struct system_segment segment[SYSTEM_SEGMENTS];
};

/* A word of the arena. */
struct system_word {
    uint32_t offset, value;
};

enum system_pending {
    SYSTEM_PENDING_NMI = 0x100, /* or an interrupt's vector, or 0 */
};

struct system_case {
    struct system_state state;
    uint32_t pending; /* waits from the beginning */
    uint32_t patch_count;
    struct system_word patches[SYSTEM_PATCHES_MAX]; /* how the arena differs from the plain one */
};

enum system_end {
    SYSTEM_END_NONE,
    SYSTEM_END_PORT,     /* as it should */
    SYSTEM_END_SHUTDOWN, /* triple fault: the state is lost, memory is not */
    SYSTEM_END_STUCK,    /* it did not end, and run.py reset the machine */
};

struct system_answer {
    struct system_state state;
    uint32_t end;
    uint32_t change_count; /* of which the first are: */
    struct system_word changes[SYSTEM_CHANGES_MAX];
};

struct system_image {
    uint64_t magic;
    uint32_t case_count;
    uint32_t answer_count; /* so many cases are done */
    uint32_t is_running;   /* a case is */
    uint32_t is_stuck;     /* set by run.py */
};

#define SYSTEM_CASES_MAX ((SYSTEM_ANSWERS - SYSTEM_CASES) / (uint32_t)sizeof(struct system_case))

_Static_assert(sizeof(struct system_state) == 472, "the same in 32-bit and 64-bit code");
_Static_assert(sizeof(struct system_case) == 480 + 8 * SYSTEM_PATCHES_MAX, "the same, too");
_Static_assert(SYSTEM_CASES_MAX <=
                   (SYSTEM_RAM_BYTES - SYSTEM_ANSWERS) / sizeof(struct system_answer),
               "each case has room for its answer");

#endif
