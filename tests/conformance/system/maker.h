/*
 * conformance/system/maker.h - a case under way: its state, its arena, and the program that is being written.
 */
#ifndef CONFORMANCE_SYSTEM_MAKER_H
#define CONFORMANCE_SYSTEM_MAKER_H

#include "arena.h"

#include "model/random.h"

#include <stdbool.h>

#define FLAG_TF UINT64_C(0x100)
#define FLAG_IF UINT64_C(0x200)
#define FLAG_IOPL UINT64_C(0x3000)
#define FLAG_NT UINT64_C(0x4000)
#define FLAG_RF UINT64_C(0x10000)
#define FLAG_VM UINT64_C(0x20000)
#define FLAG_AC UINT64_C(0x40000)

enum maker_register {
    REG_AX,
    REG_CX,
    REG_DX,
    REG_BX,
    REG_SP,
    REG_BP,
    REG_SI,
    REG_DI,
};

/* What a case begins in. */
enum maker_mode {
    MODE_REAL,
    MODE_UNREAL, /* real mode with limits of 4 GiB */
    MODE_VIRTUAL,
    MODE_16, /* protected, without paging */
    MODE_32,
    MODE_PAGED, /* 32-bit paging */
    MODE_PAE,
    MODE_64,
    MODE_COMPAT32,
    MODE_COMPAT16,
    MODE_COUNT,
};

struct maker {
    struct rnd *rnd;
    struct system_case *test;
    uint8_t arena[SYSTEM_ARENA_BYTES];
    enum maker_mode mode;
    unsigned level; /* CPL at the beginning */
    /* The program so far, and what runs it if all of it goes well. */
    unsigned at;   /* offset in the arena of the next byte */
    unsigned bits; /* 16, 32, 64 */
    bool is_protected, is_long;
};

static inline bool maker_chance(struct maker *maker, unsigned part, unsigned whole)
{
    return rnd_below(maker->rnd, whole) < part;
}

static inline unsigned maker_below(struct maker *maker, unsigned end)
{
    return (unsigned)rnd_below(maker->rnd, end);
}

#define MAKER_PICK(maker, array) ((array)[maker_below((maker), sizeof(array) / sizeof((array)[0]))])

/* Code: bytes; a value of so many bytes; the prefixes that give an instruction this operand size. */
void put_bytes(struct maker *maker, const char *bytes, unsigned byte_count);
void put_value(struct maker *maker, uint64_t value, unsigned byte_count);
void put_size(struct maker *maker, unsigned size_bytes);
#define PUT(maker, literal) put_bytes((maker), (literal), sizeof(literal) - 1)

/* A size of 2 or 4 bytes, or 8 in 64-bit code; the size that the mode has without prefixes. */
unsigned maker_any_size(struct maker *maker);
unsigned maker_plain_size(const struct maker *maker);

/* MOV to a register, of all its bits; PUSH of so many bytes by way of AX; MOV to a segment register, likewise. */
void put_load(struct maker *maker, enum maker_register number, uint64_t value);
void put_push(struct maker *maker, uint64_t value, unsigned size_bytes);
void put_segment(struct maker *maker, unsigned number, uint16_t selector);
/* ModRM and displacement of memory at an absolute address; of a register. */
void put_memory(struct maker *maker, unsigned digit, uint32_t address);
void put_register(struct maker *maker, unsigned digit, enum maker_register number);

/* Memory outside of the code; a place for data of an instruction. */
void maker_store(struct maker *maker, uint32_t offset, uint64_t value, unsigned byte_count);
uint32_t maker_place(struct maker *maker);

/* Values that reach borders: addresses, selectors, flags, words. */
uint64_t maker_address(struct maker *maker);
uint16_t maker_selector(struct maker *maker);
uint64_t maker_flags(struct maker *maker);
uint64_t maker_word(struct maker *maker);
/* A random segment or system descriptor, often nearly good. */
uint64_t maker_descriptor(struct maker *maker);

/* An instruction with what it needs, by group. */
typedef void maker_atom(struct maker *maker);
maker_atom atom_control; /* atoms_system.c: CR, DR, MSR, XCR0, PKRU, TLB */
maker_atom atom_msr;
maker_atom atom_debug;
maker_atom atom_table; /* atoms_segment.c: descriptor tables and registers */
maker_atom atom_segment;
maker_atom atom_inspect;
maker_atom atom_far; /* atoms_flow.c */
maker_atom atom_return;
maker_atom atom_interrupt;
maker_atom atom_fast_call;
maker_atom atom_flags;
maker_atom atom_port;
maker_atom atom_misc;
maker_atom atom_memory; /* atoms_memory.c: limits, canonical addresses, stacks */
maker_atom atom_stack;
maker_atom atom_mode; /* atoms_mode.c: from one mode to another, step by step */

#endif
