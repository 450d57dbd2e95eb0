/*
 * soft_guest.h - the guest of a script: page tables, and a few instructions for each kind of
 * access. They lie in a slot of their own, which is the same on both machines, since a script may
 * read it.
 *
 * Guest virtual addresses below 5 GiB are the physical ones, writable; from SCRIPT_ALIAS_GVA on the
 * same 5 GiB are mapped again, read-only. Nothing else is mapped.
 */
#ifndef TOOL_SOFT_GUEST_H
#define TOOL_SOFT_GUEST_H

#include <guestmem/types.h>

#define SCRIPT_GUEST_SLOT 32000u
#define SCRIPT_GUEST_GPA 0x100000000ull
#define SCRIPT_GUEST_BYTES 0x10000u
#define SCRIPT_GVA_END (5ull << 30)
#define SCRIPT_ALIAS_GVA 0x8000000000ull
#define SCRIPT_STACK_GVA (SCRIPT_GUEST_GPA + 0xf000)

/* What a guest does on one line. */
enum script_access_kind {
    ACCESS_STORE,
    ACCESS_LOAD,
    ACCESS_ADD,  /* lock add of 8 bytes */
    ACCESS_MOVE, /* rep movsb */
    ACCESS_JUMP,
};

struct script_access {
    enum script_access_kind kind;
    unsigned size_bytes; /* STORE, LOAD: 1, 2, 4, 8 */
    uint64_t gva;        /* MOVE: of the destination */
    uint64_t value;      /* STORE, ADD; MOVE: how many bytes */
    uint64_t source_gva; /* MOVE */
};

/* Write SCRIPT_GUEST_BYTES of page tables and code. */
void script_guest_fill(void *memory);

/* Where the code for an access begins. */
uint64_t script_guest_rip(const struct script_access *access);

#endif
