/*
 * conformance/x86/maker.h - a case under way: what case.c, operand.c and assemble.c share.
 */
#ifndef CONFORMANCE_X86_MAKER_H
#define CONFORMANCE_X86_MAKER_H

#include "case.h"

#define FLAG_CF UINT64_C(0x1)
#define FLAG_PF UINT64_C(0x4)
#define FLAG_AF UINT64_C(0x10)
#define FLAG_ZF UINT64_C(0x40)
#define FLAG_SF UINT64_C(0x80)
#define FLAG_TF UINT64_C(0x100)
#define FLAG_IF UINT64_C(0x200)
#define FLAG_DF UINT64_C(0x400)
#define FLAG_OF UINT64_C(0x800)
#define FLAG_AC UINT64_C(0x40000)
#define FLAG_ID UINT64_C(0x200000)
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define LOW_4G UINT64_C(0x100000000)

struct maker {
    struct test_case *test;
    struct rnd *rnd;
    uint8_t *data;
    /* The encoding. */
    uint8_t legacy[16]; /* prefixes before REX */
    unsigned legacy_count;
    uint8_t rex;
    bool has_rex;
    bool is_address_32, is_gs, is_repeated;
    uint8_t modrm, sib;
    bool has_modrm, has_sib;
    unsigned displacement_bytes;
    int32_t displacement;
    bool is_rip_relative;
    uint16_t taken; /* registers that may not be changed any more: a bit each */
};

static inline bool maker_chance(struct maker *maker, unsigned part, unsigned whole)
{
    return rnd_below(maker->rnd, whole) < part;
}

/* Put bytes into memory where it may be written; a case has other memory elsewhere. */
void maker_put(struct maker *maker, uint64_t address, const void *bytes, unsigned byte_count);
/* Where an operand is. With @is_plain: wholly in memory that may be written, or wholly elsewhere. */
uint64_t maker_target(struct maker *maker, bool is_plain);
/* A register of this value, which nothing changes any more. */
void maker_set_register(struct maker *maker, unsigned number, uint64_t value);
/* ... whose upper half is random, where it does not count: in a 32-bit address. */
void maker_lead_register(struct maker *maker, unsigned number, uint64_t value);
/* Does the instruction use RSP? */
bool maker_is_stack_special(enum form_special special);
/* ModRM, SIB and displacement, and the registers that they name. */
void maker_make_modrm(struct maker *maker);
/* The bytes. */
void maker_assemble(struct maker *maker);

#endif
