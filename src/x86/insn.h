/*
 * x86/insn.h - an instruction as it is executed: made once by decode.c, run many times by its handler.
 */
#ifndef X86_INSN_H
#define X86_INSN_H

#include "x86/flags.h"
#include "x86/x86.h"

#include <string.h>

/* How code is decoded: by CS.L and CS.D. */
enum x86_mode {
    X86_MODE_16,
    X86_MODE_32,
    X86_MODE_64,
};

/* What an instruction's handler has come to. */
enum step {
    STEP_NEXT = 0,
    STEP_JUMP,     /* complete; it has set vcpu->rip */
    STEP_AGAIN,    /* one of a string's elements is complete: from the same instruction on */
    STEP_FAULT,    /* vcpu->fault, with nothing changed */
    STEP_OUTCOME,  /* vcpu->outcome, likewise: the access has left guest mode */
    STEP_EXIT,     /* vcpu->exit, likewise */
    STEP_SOFTWARE, /* vcpu->event: INT n and its like */
    STEP_LATE,     /* complete, and then vcpu->exit: HLT */
};

/* Has REP INS read more than it has stored? It is not interrupted then. */
static inline bool is_ahead(const struct x86_vcpu *vcpu)
{
    return vcpu->ahead_next != 0;
}

struct insn;
typedef enum step insn_fn(struct x86_vcpu *vcpu, const struct insn *insn);

/* Segments of memory operands: enum x86_segment_number, or in 64-bit mode, where base and limits do not count: */
enum {
    SEG_FLAT = 6,
    SEG_FLAT_STACK, /* by RSP or RBP: a bad address is #SS */
};

/* Operand kinds, and forms: three of them. */
enum {
    KIND_NONE,
    KIND_REG,
    KIND_MEM,
    KIND_IMM,
};
#define FORM(a, b, c) ((a) | (b) << 2 | (c) << 4)
#define FORM_NONE FORM(KIND_NONE, KIND_NONE, KIND_NONE)
#define FORM_R FORM(KIND_REG, KIND_NONE, KIND_NONE)
#define FORM_M FORM(KIND_MEM, KIND_NONE, KIND_NONE)
#define FORM_I FORM(KIND_IMM, KIND_NONE, KIND_NONE)
#define FORM_RR FORM(KIND_REG, KIND_REG, KIND_NONE)
#define FORM_RM FORM(KIND_REG, KIND_MEM, KIND_NONE)
#define FORM_MR FORM(KIND_MEM, KIND_REG, KIND_NONE)
#define FORM_RI FORM(KIND_REG, KIND_IMM, KIND_NONE)
#define FORM_MI FORM(KIND_MEM, KIND_IMM, KIND_NONE)

/* Prefixes. */
enum {
    INSN_LOCK = 1,
    INSN_REPE = 2, /* F3, of MOVS and its like as well */
    INSN_REPNE = 4,
};

struct insn {
    insn_fn *run;
    uint64_t imm;  /* sign-extended; of a relative branch: the distance from the next instruction */
    uint64_t disp; /* relative to rip: counted from the block's begin */
    uint64_t addr_mask; /* of effective addresses */
    /* General registers: the byte's offset in vcpu->gpr, so that AH is but another place. Others: the number. */
    uint8_t reg[3];
    uint8_t form;
    uint8_t size;  /* of the first operand; without operands, or of a branch: the operand size */
    uint8_t size1; /* of the second operand */
    uint8_t base, index, scale, seg; /* the memory operand */
    uint8_t prefixes;
    uint8_t address_size;
    uint8_t sub;       /* what the handler's family tells apart */
    uint8_t offset;    /* from the block's begin */
    uint8_t next;      /* ... of the next instruction */
    uint8_t ends;      /* no instruction follows in the block */
    uint16_t selector; /* of a far pointer in the instruction */
};

X86_INLINE enum step step_exit(struct x86_vcpu *vcpu, enum x86_exit exit)
{
    vcpu->exit = exit;
    return STEP_EXIT;
}

/* The VMM debugs: @vector is X86_DB, or X86_BP. */
X86_INLINE enum step step_debug(struct x86_vcpu *vcpu, uint8_t vector, uint64_t dr6)
{
    vcpu->exit_vector = vector;
    vcpu->exit_dr6 = dr6;
    return step_exit(vcpu, X86_EXIT_DEBUG);
}

/* An exception without error code, or with. */
X86_INLINE enum step step_raise(struct x86_vcpu *vcpu, uint8_t vector)
{
    vcpu->fault = (struct x86_event){.kind = X86_EVENT_EXCEPTION, .vector = vector};
    return STEP_FAULT;
}

X86_INLINE enum step step_raise_code(struct x86_vcpu *vcpu, uint8_t vector, uint32_t error_code)
{
    vcpu->fault = (struct x86_event){.kind = X86_EVENT_EXCEPTION,
                                     .vector = vector,
                                     .has_error_code = true,
                                     .error_code = error_code};
    return STEP_FAULT;
}

enum {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OF = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS_FAULT = 12,
    X86_GP = 13,
    X86_PF = 14,
    X86_MF = 16,
    X86_AC = 17,
    X86_XM = 19,
};

/* Go on only if the step has been done. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum step try_step = (call);                                                               \
        if (__builtin_expect(try_step != STEP_NEXT, 0)) {                                          \
            return try_step;                                                                       \
        }                                                                                          \
    } while (0)

X86_INLINE uint64_t reg_read(const struct x86_vcpu *vcpu, unsigned reg, unsigned size)
{
    const uint8_t *place = (const uint8_t *)vcpu->gpr + reg;
    uint64_t value = 0;

    memcpy(&value, place, size);
    return value;
}

/* 32 bits clear the upper half. */
X86_INLINE void reg_write(struct x86_vcpu *vcpu, unsigned reg, unsigned size, uint64_t value)
{
    uint8_t *place = (uint8_t *)vcpu->gpr + reg;

    if (size == 4) {
        value = (uint32_t)value;
        size = 8;
    }
    memcpy(place, &value, size);
}

/* By number instead of place: no high bytes. */
X86_INLINE uint64_t gpr_read(const struct x86_vcpu *vcpu, unsigned number, unsigned size)
{
    return zero_extend(vcpu->gpr[number], size);
}

X86_INLINE void gpr_write(struct x86_vcpu *vcpu, unsigned number, unsigned size, uint64_t value)
{
    reg_write(vcpu, number * 8, size, value);
}

X86_INLINE bool is_long_mode(const struct x86_vcpu *vcpu)
{
    return (vcpu->msr.efer & 0x400) != 0; /* LMA */
}

X86_INLINE bool is_protected(const struct x86_vcpu *vcpu)
{
    return (vcpu->cr0 & 1) != 0;
}

/* Protected mode, and not virtual-8086: segments are descriptors. */
X86_INLINE bool has_descriptors(const struct x86_vcpu *vcpu)
{
    return is_protected(vcpu) && (vcpu->rflags & X86_FLAG_VM) == 0;
}

/* By bits 47 (or 56, with CR4.LA57) to 63 all equal. */
X86_INLINE bool is_canonical(const struct x86_vcpu *vcpu, uint64_t linear)
{
    unsigned unused = (vcpu->cr4 & 0x1000) != 0 ? 7 : 16;

    return (uint64_t)((int64_t)(linear << unused) >> unused) == linear;
}

/* rip of the instruction under way, and of the next one. */
X86_INLINE uint64_t insn_rip(const struct x86_vcpu *vcpu, const struct insn *insn)
{
    return (vcpu->gpr[X86_GPR_BLOCK] + insn->offset) & vcpu->code_mask;
}

X86_INLINE uint64_t insn_next_rip(const struct x86_vcpu *vcpu, const struct insn *insn)
{
    return (vcpu->gpr[X86_GPR_BLOCK] + insn->next) & vcpu->code_mask;
}

/* Instances of a handler that takes a constant size, and their table. */
#define INSN_SIZES(name)                                                                           \
    static enum step name##_1(struct x86_vcpu *vcpu, const struct insn *insn)                      \
    {                                                                                              \
        return name(vcpu, insn, 1);                                                                \
    }                                                                                              \
    INSN_WIDE_SIZES(name)
#define INSN_WIDE_SIZES(name)                                                                      \
    static enum step name##_2(struct x86_vcpu *vcpu, const struct insn *insn)                      \
    {                                                                                              \
        return name(vcpu, insn, 2);                                                                \
    }                                                                                              \
    static enum step name##_4(struct x86_vcpu *vcpu, const struct insn *insn)                      \
    {                                                                                              \
        return name(vcpu, insn, 4);                                                                \
    }                                                                                              \
    static enum step name##_8(struct x86_vcpu *vcpu, const struct insn *insn)                      \
    {                                                                                              \
        return name(vcpu, insn, 8);                                                                \
    }
#define INSN_TABLE(name)                                                                           \
    {                                                                                              \
        name##_1, name##_2, name##_4, name##_8                                                     \
    }
#define INSN_WIDE_TABLE(name)                                                                      \
    {                                                                                              \
        NULL, name##_2, name##_4, name##_8                                                         \
    }

/* Which of a table's: of 1, 2, 4, 8 bytes. */
X86_INLINE unsigned size_index(unsigned size)
{
    return (unsigned)__builtin_ctz(size);
}

#endif
