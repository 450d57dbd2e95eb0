/*
 * conformance/system/tcg_watch.h - the next instruction, as those see it who know what QEMU's processor does otherwise.
 */
#ifndef CONFORMANCE_SYSTEM_TCG_WATCH_H
#define CONFORMANCE_SYSTEM_TCG_WATCH_H

#include "tcg.h"

#include "x86/insn.h"

#include <Zydis/Zydis.h>

#define WATCH_EFER_LME UINT64_C(0x100)
#define WATCH_CR0_PE UINT64_C(1)
#define WATCH_CR0_PG UINT64_C(0x80000000)
#define WATCH_CR4_PAE UINT64_C(0x20)
#define WATCH_FLAG_TF UINT64_C(0x100)
#define WATCH_FLAG_VM UINT64_C(0x20000)
#define WATCH_FRAME_BYTES 48u /* more than any instruction pushes or pops */

struct watch {
    const struct vcpu *vcpu;
    const struct x86_vcpu *cpu;
    unsigned bits;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

static inline uint64_t mask_of(unsigned bits)
{
    return bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

/* Operands: a general-purpose register, or 0; a segment register; the offset of one in memory. */
uint64_t register_value(const struct watch *watch, ZydisRegister number);
enum x86_segment_number segment_number(ZydisRegister number);
uint64_t offset_of(const struct watch *watch, const ZydisDecodedOperand *operand);

/* A word on the stack, if it is in the arena without paging's help. */
uint64_t stack_word(const struct watch *watch, unsigned index, unsigned size);

/* With paging: the page is not there, or not for every access of everybody. */
bool is_page_odd(const struct watch *watch, uint64_t linear);

/* What the arena has for a selector, or 0; and a descriptor's limit in bytes. */
uint64_t descriptor_of(const struct watch *watch, uint64_t selector);
uint64_t limit_of(uint64_t descriptor);

/* Transfers of control, tcg_flow.c: does the instruction; would any event that may come; is the target behind CS's end,
 * where nobody looks at it? */
bool differs_in_flow(const struct watch *watch, enum tcg_difference *what);
bool differs_in_gates(const struct watch *watch, enum tcg_difference *what);
bool goes_past_limit(const struct watch *watch);

/* Registers of the system, tcg_system.c; and what cannot be decoded. */
bool differs_in_system(const struct watch *watch, enum tcg_difference *what);
bool differs_undecoded(const struct watch *watch, enum tcg_difference *what);

#endif
