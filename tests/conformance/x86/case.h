/*
 * conformance/x86/case.h - one case: an instruction's bytes, and the state that it finds. Linear addresses are the same
 * on the host and in the guest, and outside of the window nothing is mapped that a case may reach.
 */
#ifndef CONFORMANCE_X86_CASE_H
#define CONFORMANCE_X86_CASE_H

#include "forms.h"

#include "model/random.h"
#include "x86/x86.h"

/*
 * The window. Around it 256 MiB are free, which BT by a 32-bit register can reach. Relative branches and RIP-relative
 * operands reach all of it.
 */
#define CASE_DATA                                                                                  \
    UINT64_C(0x40001000) /* two pages to write, one to read; before and behind them nothing */
#define CASE_DATA_BYTES 0x3000u
#define CASE_WRITABLE_BYTES 0x2000u
/* From the data no single bit of a register away. */
#define CASE_CODE UINT64_C(0x40156000) /* INT3 where no instruction is, to catch branches */
#define CASE_CODE_BYTES 0x2000u
#define CASE_CODE_END (CASE_CODE + CASE_CODE_BYTES)
#define CASE_GS_BASE UINT64_C(0x12345670)
/* Selectors of the host's GDT below this mean the same to the guest. */
#define CASE_SELECTORS_END 0x38u

#define CASE_LENGTH_MAX 24u /* more than 15 are a fault */
#define CASE_CATCH_BYTES 7u /* behind the instruction: native.c's jump out of it */

struct case_state {
    uint64_t gpr[16];
    uint64_t rip;
    uint64_t rflags;
    union x86_xmm xmm[16];
    uint32_t mxcsr;
    uint16_t fcw, fsw;
    uint16_t ftw;      /* abridged, as FXSAVE has it: a bit for each register that is not empty */
    uint8_t st[8][10]; /* in the stack's order */
};

/* After an instruction: complete, or before it with an exception. */
struct case_outcome {
    struct case_state state;
    int vector; /* -1: none */
    uint32_t error_code;
    uint64_t cr2;   /* of #PF */
    bool is_absent; /* the interpreter does not have it */
};

struct test_case {
    const struct form *form;
    unsigned size_bytes; /* of the operands; 0: the form has but one size */
    bool is_memory;
    uint8_t reg, rm; /* operands by number */
    uint64_t target; /* the memory operand, or where RSP, RSI and RDI lead to */
    uint64_t immediate;
    uint64_t branch; /* where it leads to */
    uint8_t bytes[CASE_LENGTH_MAX];
    unsigned length;
    unsigned mapped; /* so many of the bytes: the page behind is not there */
    struct case_state before;
};

/* What is not compared. */
struct case_mask {
    uint64_t flags;
    bool is_result_undefined; /* registers and memory */
    bool is_memory_undefined;
    bool is_x87_undefined;
    bool is_fault_undefined; /* which one it is, if there is one */
};

/* MXCSR's bits: what all processors have, and what AMD's alone have (misaligned exception mask, APM 1, 4.2.2). */
#define CASE_MXCSR_KNOWN UINT32_C(0xffff)
#define CASE_MXCSR_MM UINT32_C(0x20000)

/* Of the host. */
struct case_features {
    bool has[FEATURE_COUNT]; /* by form_feature */
    /* A fault of a repeated comparison leaves the flags that were there before (SDM 2, REP). AMD's manual does not say
       so, and its processors leave those of the last comparison. */
    bool is_compare_undone;
};

/* Make a case out of random numbers. @data: CASE_DATA_BYTES, of which the writable part is changed. */
void case_make(struct test_case *test, struct rnd *rnd, const struct form *form, uint8_t *data);

/* Does its outcome depend on the host's vendor as a whole (a bit of MXCSR that only some have, alignment that only some
   check), or is it known to be wrong? Such a case is not run. */
bool case_is_left_out(const struct test_case *test, const uint8_t *data);

struct case_mask case_undefined(const struct test_case *test, const struct case_outcome *outcome,
                                const struct case_features *features);

#endif
