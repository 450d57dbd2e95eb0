/* conformance/system/tcg_flow.c - transfers of control, and gates, that QEMU's processor goes through otherwise. */
#include "tcg_watch.h"

#include "arena.h"

#define SYSCALL_HANDLER 0x60u            /* cases.c */
#define FLAGS_VIRTUAL UINT64_C(0x180000) /* VIF, VIP */

/* Where a near branch goes, if it is one. */
static bool branch_target(const struct watch *watch, uint64_t *target)
{
    const ZydisDecodedOperand *operand = &watch->operands[0];
    unsigned size = watch->insn.operand_width / 8;

    if (watch->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        return false;
    }
    if (watch->insn.mnemonic == ZYDIS_MNEMONIC_RET) {
        *target = stack_word(watch, 0, size);
        return true;
    }
    if (watch->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_NONE) {
        return false;
    }
    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        *target = register_value(watch, operand->reg.value);
    } else if (operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && operand->imm.is_relative) {
        *target = (watch->cpu->rip + watch->insn.length + (uint64_t)operand->imm.value.s) &
                  mask_of(watch->insn.operand_width);
    } else {
        return false;
    }
    return true;
}

static bool differs_in_branch(const struct watch *watch, enum tcg_difference *what)
{
    uint64_t target;

    if (!branch_target(watch, &target)) {
        return false;
    }
    *what = TCG_BRANCH_16;
    if (watch->bits == 64 && (watch->insn.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0) {
        return true;
    }
    *what = watch->bits == 64 ? TCG_CANONICAL : TCG_LIMITS;
    return watch->bits == 64 ? !is_canonical(watch->cpu, target)
                             : target > watch->cpu->segment[X86_CS].limit;
}

/* 64-bit and 32-bit at once. */
static bool has_both_sizes(const struct watch *watch, uint64_t selector)
{
    return is_long_mode(watch->cpu) && (descriptor_of(watch, selector) >> 53 & 3) == 3;
}

/* A return behind the end of a segment, or to one of both sizes; the far pointer is at the top of the stack. */
static bool returns_past_limit(const struct watch *watch, unsigned size)
{
    uint64_t descriptor = descriptor_of(watch, stack_word(watch, 1, size));

    return has_both_sizes(watch, stack_word(watch, 1, size)) ||
           (!(is_long_mode(watch->cpu) && (descriptor >> 53 & 1) != 0) &&
            stack_word(watch, 0, size) > limit_of(descriptor));
}

/* ... to 64-bit code at an address that is not canonical. */
static bool returns_nowhere(const struct watch *watch, unsigned size)
{
    return is_long_mode(watch->cpu) && !is_canonical(watch->cpu, stack_word(watch, 0, size));
}

/* A return whose stack selector is the word @stack_index. */
static bool has_null_stack(const struct watch *watch, unsigned stack_index, unsigned size)
{
    uint64_t code = stack_word(watch, 1, size);
    uint64_t stack = stack_word(watch, stack_index, size);
    uint64_t descriptor = descriptor_of(watch, code);

    return is_long_mode(watch->cpu) && (stack & 0xfffc) == 0 &&
           (((stack ^ code) & 3) != 0 || (descriptor >> 53 & 1) == 0);
}

/* Where JMP and CALL go by a far pointer. */
static uint64_t far_target(const struct watch *watch, uint64_t *selector)
{
    const ZydisDecodedOperand *operand = &watch->operands[0];
    unsigned size = watch->insn.operand_width / 8;
    uint64_t target = 0;
    uint64_t at;

    *selector = 0;
    if (operand->type == ZYDIS_OPERAND_TYPE_POINTER) {
        *selector = operand->ptr.segment;
        return operand->ptr.offset;
    }
    at = watch->bits == 64 ? 0 : watch->cpu->segment[segment_number(operand->mem.segment)].base;
    at += offset_of(watch, operand);
    if (at < SYSTEM_ARENA_BYTES - 16) {
        memcpy(&target, watch->vcpu->rig.memory + at, size);
        memcpy(selector, watch->vcpu->rig.memory + at + size, 2);
    }
    return target;
}

/* In real and virtual-8086 mode nobody looks at the target of a far transfer. */
bool goes_past_limit(const struct watch *watch)
{
    const struct x86_vcpu *cpu = watch->cpu;
    bool is_call_or_jump =
        watch->insn.mnemonic == ZYDIS_MNEMONIC_JMP || watch->insn.mnemonic == ZYDIS_MNEMONIC_CALL;
    uint64_t target, selector;

    bool is_iret =
        watch->insn.mnemonic == ZYDIS_MNEMONIC_IRET || watch->insn.mnemonic == ZYDIS_MNEMONIC_IRETD;

    if (has_descriptors(cpu) ||
        (watch->insn.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR && !is_iret)) {
        return false;
    }
    target = is_call_or_jump ? far_target(watch, &selector)
                             : stack_word(watch, 0, watch->insn.operand_width / 8);
    return target > cpu->segment[X86_CS].limit;
}

static bool is_call_past_limit(const struct watch *watch)
{
    uint64_t selector;
    uint64_t target = far_target(watch, &selector);

    return watch->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR && has_descriptors(watch->cpu) &&
           (target > limit_of(descriptor_of(watch, selector)) || has_both_sizes(watch, selector) ||
            !is_canonical(watch->cpu, target));
}

static bool differs_in_far_return(const struct watch *watch, enum tcg_difference *what)
{
    const ZydisDecodedOperand *operand = &watch->operands[0];
    unsigned size = watch->insn.operand_width / 8;
    unsigned skipped =
        operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? (unsigned)operand->imm.value.u : 0;

    *what = TCG_LIMITS;
    if (returns_past_limit(watch, size)) {
        return true;
    }
    *what = TCG_CANONICAL;
    if (returns_nowhere(watch, size)) {
        return true;
    }
    *what = TCG_NULL_STACK;
    return skipped % size == 0 && has_null_stack(watch, 3 + skipped / size, size);
}

static bool differs_in_iret(const struct watch *watch, enum tcg_difference *what)
{
    const struct x86_vcpu *cpu = watch->cpu;
    bool is_protected = (cpu->cr0 & WATCH_CR0_PE) != 0 && (cpu->rflags & WATCH_FLAG_VM) == 0;
    unsigned size = watch->insn.operand_width / 8;
    uint64_t flags = stack_word(watch, 2, size);

    if (!is_protected) {
        return false;
    }
    *what = TCG_IRET_VIRTUAL;
    if ((flags & WATCH_FLAG_VM) != 0 && (cpu->cpl != 0 || is_long_mode(cpu))) {
        return true;
    }
    *what = TCG_LIMITS;
    if (returns_past_limit(watch, size)) {
        return true;
    }
    *what = TCG_CANONICAL;
    if (returns_nowhere(watch, size)) {
        return true;
    }
    *what = TCG_NULL_STACK;
    if (has_null_stack(watch, 4, size)) {
        return true;
    }
    *what = TCG_VIRTUAL_INTERRUPT;
    return (flags & FLAGS_VIRTUAL) != 0 && cpu->cpl == 0;
}

static bool differs_in_far_jump(const struct watch *watch, enum tcg_difference *what)
{
    uint64_t selector;

    *what = TCG_BOTH_SIZES;
    (void)far_target(watch, &selector);
    return has_both_sizes(watch, selector);
}

/* A selector that is null, but not 0. */
static bool is_odd_null(uint64_t selector)
{
    return (uint16_t)selector != 0 && (selector & 0xfffc) == 0;
}

/* SYSCALL and SYSRET where Intel's processors have them not. */
static bool is_call_by_legacy(const struct watch *watch, enum tcg_difference *what)
{
    if (watch->bits != 64) {
        *what = TCG_SYSCALL_LEGACY;
    }
    return watch->bits != 64;
}

/* SYSCALL's flags can be seen, other than at the end of a case that its handler is. */
static bool shows_syscall_flags(const struct watch *watch)
{
    const struct x86_vcpu *cpu = watch->cpu;
    uint64_t flags = x86_get_rflags(cpu) & ~cpu->msr.syscall_mask;
    bool is_event_next = (flags & WATCH_FLAG_TF) != 0 || cpu->is_shadowed;

    return (flags & X86_FLAGS_ARITHMETIC) != 0 &&
           (is_event_next || is_page_odd(watch, cpu->msr.lstar) ||
            cpu->msr.lstar != ARENA_HANDLERS + ARENA_HANDLER_BYTES * SYSCALL_HANDLER);
}

bool differs_in_flow(const struct watch *watch, enum tcg_difference *what)
{
    const struct x86_vcpu *cpu = watch->cpu;

    switch (watch->insn.mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
        *what = TCG_SYSCALL_PUSHED;
        return is_call_by_legacy(watch, what) || shows_syscall_flags(watch);
    case ZYDIS_MNEMONIC_SYSRET:
        *what = TCG_VIRTUAL_INTERRUPT;
        return is_call_by_legacy(watch, what) ||
               (cpu->gpr[X86_R8 + 3] & (FLAGS_VIRTUAL | WATCH_FLAG_VM)) != 0;
    case ZYDIS_MNEMONIC_SYSENTER:
        *what = TCG_SYSENTER_NULL;
        return is_odd_null(cpu->msr.sysenter_cs);
    case ZYDIS_MNEMONIC_SYSEXIT:
        *what = TCG_SYSENTER_NULL;
        if (is_odd_null(cpu->msr.sysenter_cs)) {
            return true;
        }
        *what = TCG_SYSEXIT_HALVES;
        return watch->bits == 64 && watch->insn.operand_width != 64 &&
               (cpu->gpr[X86_RCX] | cpu->gpr[X86_RDX]) > UINT32_MAX;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        return differs_in_iret(watch, what);
    case ZYDIS_MNEMONIC_INT1:
        *what = TCG_INT1;
        return true;
    case ZYDIS_MNEMONIC_CALL:
        *what = TCG_CALL_ORDER;
        return is_call_past_limit(watch) || differs_in_branch(watch, what);
    case ZYDIS_MNEMONIC_RET:
        if (watch->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
            return differs_in_far_return(watch, what);
        }
        return differs_in_branch(watch, what);
    case ZYDIS_MNEMONIC_JMP:
        if (watch->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
            return differs_in_far_jump(watch, what);
        }
        return differs_in_branch(watch, what);
    default:
        return differs_in_branch(watch, what);
    }
}

/* A gate of protected mode that leads behind the end of its code segment: where it leads is not looked at. */
static bool is_gate_past_limit(const struct watch *watch, uint64_t gate)
{
    uint64_t descriptor = descriptor_of(watch, gate >> 16 & 0xffff);
    uint64_t offset = (gate & 0xffff) | ((gate >> 43 & 1) != 0 ? gate >> 32 & 0xffff0000 : 0);
    bool is_code = (descriptor >> 40 & 0x98) == 0x98;

    return (gate >> 40 & 0x96) == 0x86 && is_code && (descriptor >> 45 & 3) <= watch->cpu->cpl &&
           offset > limit_of(descriptor);
}

/* Would this gate be gone through otherwise: from virtual-8086 mode to rings 1 and 2, by IST to the same ring? */
static bool differs_in_gate(const struct watch *watch, uint64_t gate, enum tcg_difference *what)
{
    uint64_t descriptor = descriptor_of(watch, gate >> 16 & 0xffff);
    unsigned level = descriptor >> 45 & 3;
    bool is_conforming = (descriptor >> 40 & 0x1c) == 0x1c;

    if (is_gate_past_limit(watch, gate) && !is_long_mode(watch->cpu)) {
        *what = TCG_LIMITS;
        return true;
    }
    if ((watch->cpu->rflags & WATCH_FLAG_VM) != 0) {
        *what = TCG_VIRTUAL_GATE;
        return level != 0;
    }
    *what = TCG_IST_STACK;
    return is_long_mode(watch->cpu) && !watch->cpu->segment[X86_SS].unusable &&
           (gate >> 32 & 7) != 0 && (level == watch->cpu->cpl || is_conforming);
}

/* The stack of an inner ring has no room: no limit is looked at when it is pushed to. */
static bool has_bad_inner_stack(const struct watch *watch)
{
    const struct x86_vcpu *cpu = watch->cpu;
    bool is_wide = (cpu->tr.type & 8) != 0;
    unsigned size = is_wide ? 4 : 2;

    if (is_long_mode(cpu) || (cpu->cr0 & WATCH_CR0_PE) == 0 ||
        cpu->tr.base > SYSTEM_ARENA_BYTES - 0x20) {
        return false;
    }
    for (unsigned level = 0; level < cpu->cpl; level++) {
        const uint8_t *at = watch->vcpu->rig.memory + cpu->tr.base + size + 2 * size * level;
        uint64_t sp = 0;
        uint64_t selector = 0;

        memcpy(&sp, at, size);
        memcpy(&selector, at + size, 2);
        if (sp < WATCH_FRAME_BYTES || sp - 1 > limit_of(descriptor_of(watch, selector))) {
            return true;
        }
    }
    return false;
}

/* Any event may come. */
bool differs_in_gates(const struct watch *watch, enum tcg_difference *what)
{
    const struct x86_vcpu *cpu = watch->cpu;
    unsigned size = is_long_mode(cpu) ? 16 : 8;
    uint64_t gate;

    *what = TCG_LIMITS;
    if (has_bad_inner_stack(watch)) {
        return true;
    }
    for (uint64_t at = 0; (cpu->cr0 & WATCH_CR0_PE) != 0 && at + size - 1 <= cpu->idt.limit;
         at += size) {
        if (cpu->idt.base + at > SYSTEM_ARENA_BYTES - 8) {
            return false;
        }
        memcpy(&gate, watch->vcpu->rig.memory + cpu->idt.base + at, 8);
        if (differs_in_gate(watch, gate, what)) {
            return true;
        }
    }
    return false;
}
