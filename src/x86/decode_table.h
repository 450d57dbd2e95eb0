/*
 * x86/decode_table.h - which group of handlers an instruction belongs to.
 */
#ifndef X86_DECODE_TABLE_H
#define X86_DECODE_TABLE_H

#include "x86/exec.h"

#include <Zydis/Zydis.h>

enum {
    DECODE_ENDS =
        1, /* the block ends with it: it jumps, or changes what decoding or addresses depend on */
    DECODE_WIDTH = 2, /* insn->size is the operand size, whatever the first operand's is */
};

struct decode_rule {
    insn_select_fn *select; /* NULL: there is none */
    uint8_t sub;
    uint8_t flags;
};

/* @insn: its selector may be set, to say what kinds of registers a MOV names. */
struct decode_rule decode_find_rule(const ZydisDecodedInstruction *decoded,
                                    const ZydisDecodedOperand *operands, struct insn *insn);

/* insn->selector of MOV to or from segment, control and debug registers: which operand is the special one. */
enum {
    SPECIAL_FIRST = 1,
    SPECIAL_SECOND = 2,
    SPECIAL_DEBUG = 4,
};

#endif
