/*
 * conformance/system/tcg_watch.c - instructions that QEMU's processor does otherwise, seen before they are run: what they
 * reach in memory, by segments and stacks. What they do beside that is in tcg_flow.c and tcg_system.c.
 */
#include "tcg_watch.h"

#include "arena.h"

#define PTE_NX (UINT64_C(1) << 63)

static bool decode(struct watch *watch)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth stack;
    } modes[] = {{ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
                 {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
                 {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64}};
    const struct x86_segment *cs = &watch->cpu->segment[X86_CS];
    uint64_t linear = watch->bits == 64 ? watch->cpu->rip : (uint32_t)(cs->base + watch->cpu->rip);
    uint64_t end = linear < SYSTEM_ARENA_BYTES ? SYSTEM_ARENA_BYTES - linear : 0;
    ZydisDecoder decoder;

    ZydisDecoderInit(&decoder, modes[watch->bits / 32].mode, modes[watch->bits / 32].stack);
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, watch->vcpu->rig.memory + linear,
                                               end < 15 ? end : 15, &watch->insn, watch->operands));
}

uint64_t register_value(const struct watch *watch, ZydisRegister number)
{
    ZydisRegister wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, number);
    ZyanI8 id = ZydisRegisterGetId(wide);
    unsigned width = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, number);
    uint64_t value;

    if (number == ZYDIS_REGISTER_NONE || id < 0 || id > 15) {
        return 0;
    }
    value = watch->cpu->gpr[id];
    return width >= 64 ? value : value & ((UINT64_C(1) << width) - 1);
}

uint64_t offset_of(const struct watch *watch, const ZydisDecodedOperand *operand)
{
    uint64_t offset = register_value(watch, operand->mem.base) +
                      register_value(watch, operand->mem.index) * operand->mem.scale +
                      (uint64_t)operand->mem.disp.value;

    return offset & mask_of(watch->insn.address_width);
}

enum x86_segment_number segment_number(ZydisRegister number)
{
    static const enum x86_segment_number numbers[] = {X86_ES, X86_CS, X86_SS,
                                                      X86_DS, X86_FS, X86_GS};

    return number >= ZYDIS_REGISTER_ES && number <= ZYDIS_REGISTER_GS
               ? numbers[number - ZYDIS_REGISTER_ES]
               : X86_DS;
}

uint64_t stack_word(const struct watch *watch, unsigned index, unsigned size)
{
    const struct x86_segment *ss = &watch->cpu->segment[X86_SS];
    uint64_t mask = watch->bits == 64 ? UINT64_MAX : ss->db ? UINT32_MAX : UINT16_MAX;
    uint64_t at = (watch->cpu->gpr[X86_RSP] + (uint64_t)index * size) & mask;
    uint64_t value = 0;

    at = watch->bits == 64 ? at : (uint32_t)(ss->base + at);
    if (at < SYSTEM_ARENA_BYTES - 8) {
        memcpy(&value, watch->vcpu->rig.memory + at, size);
    }
    return value;
}

uint64_t descriptor_of(const struct watch *watch, uint64_t selector)
{
    uint64_t table = (selector & 4) != 0 ? ARENA_LDT : ARENA_GDT;
    uint64_t descriptor = 0;

    if ((selector & 0xfff8) <= ARENA_GDT_LIMIT - 7) {
        memcpy(&descriptor, watch->vcpu->rig.memory + table + (selector & 0xfff8), 8);
    }
    return descriptor;
}

uint64_t limit_of(uint64_t descriptor)
{
    uint64_t limit = (descriptor & 0xffff) | (descriptor >> 32 & 0xf0000);

    return (descriptor >> 55 & 1) != 0 ? limit << 12 | 0xfff : limit;
}

static bool is_within(const struct x86_segment *segment, uint64_t offset, uint64_t size,
                      bool is_write)
{
    return (is_write ? segment->can_write : segment->can_read) && offset >= segment->first &&
           offset <= segment->last && segment->last - offset >= size - 1;
}

/* The stack is used; how much of it is not looked at but for the plainest. */
static bool is_stack_outside(const struct watch *watch)
{
    const struct x86_segment *ss = &watch->cpu->segment[X86_SS];
    uint64_t mask = ss->db ? UINT32_MAX : UINT16_MAX;
    uint64_t sp = watch->cpu->gpr[X86_RSP] & mask;
    uint64_t size = watch->insn.operand_width / 8;

    switch (watch->insn.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
        return !is_within(ss, (sp - size) & mask, size, true);
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
        return !is_within(ss, sp, size, false);
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
        if (!is_within(ss, (watch->cpu->gpr[X86_RBP] - WATCH_FRAME_BYTES) & mask,
                       2 * WATCH_FRAME_BYTES, true)) {
            return true;
        }
        break;
    default:
        break;
    }
    return !is_within(ss, (sp - WATCH_FRAME_BYTES) & mask, 2 * WATCH_FRAME_BYTES, true);
}

/* What an event at this level would push does not fit. */
static bool is_frame_outside(const struct watch *watch)
{
    const struct x86_segment *ss = &watch->cpu->segment[X86_SS];
    uint64_t mask = ss->db ? UINT32_MAX : UINT16_MAX;

    return watch->cpu->cpl == 0 && !is_long_mode(watch->cpu) &&
           !is_within(ss, (watch->cpu->gpr[X86_RSP] - WATCH_FRAME_BYTES) & mask, WATCH_FRAME_BYTES,
                      true);
}

/* 64-bit code uses a stack that has no canonical address. */
static bool is_stack_nowhere(const struct watch *watch)
{
    bool is_by_frame = watch->insn.mnemonic == ZYDIS_MNEMONIC_ENTER ||
                       watch->insn.mnemonic == ZYDIS_MNEMONIC_LEAVE;

    for (unsigned i = 0; i < watch->insn.operand_count; i++) {
        const ZydisDecodedOperand *operand = &watch->operands[i];
        uint64_t address = offset_of(watch, operand);

        if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY &&
            operand->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
            operand->mem.segment == ZYDIS_REGISTER_SS &&
            !(is_canonical(watch->cpu, address - WATCH_FRAME_BYTES) &&
              is_canonical(watch->cpu, address + WATCH_FRAME_BYTES))) {
            return true;
        }
    }
    return is_by_frame && !is_canonical(watch->cpu, watch->cpu->gpr[X86_RBP] - WATCH_FRAME_BYTES);
}

bool is_page_odd(const struct watch *watch, uint64_t linear)
{
    bool is_wide = (watch->cpu->cr4 & WATCH_CR4_PAE) != 0;
    uint64_t page = linear >> 12;
    uint64_t entry = 0;

    if ((watch->cpu->cr0 & WATCH_CR0_PG) == 0) {
        return false;
    }
    if (page < SYSTEM_ARENA_BYTES / 0x1000) {
        memcpy(&entry,
               watch->vcpu->rig.memory + (is_wide ? ARENA_PT + 8 * page : ARENA_PT32 + 4 * page),
               is_wide ? 8 : 4);
    }
    return (entry & (ARENA_PTE | PTE_NX)) != ARENA_PTE;
}

static bool is_stack_page_odd(const struct watch *watch)
{
    uint64_t mask = watch->bits == 64 ? UINT64_MAX : watch->cpu->stack_mask;

    return is_page_odd(watch, watch->cpu->gpr[X86_RSP] & mask);
}

/* A far transfer of ring 3, by a stack whose page is not an ordinary one. */
static bool is_far_on_odd_page(const struct watch *watch)
{
    bool is_far = watch->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ||
                  watch->insn.mnemonic == ZYDIS_MNEMONIC_IRET ||
                  watch->insn.mnemonic == ZYDIS_MNEMONIC_IRETD ||
                  watch->insn.mnemonic == ZYDIS_MNEMONIC_IRETQ;

    return is_far && watch->cpu->cpl == 3 && is_stack_page_odd(watch);
}

static bool is_stack_operand(const ZydisDecodedOperand *operand)
{
    return operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
           operand->mem.segment == ZYDIS_REGISTER_SS;
}

static bool reaches_outside(const struct watch *watch)
{
    for (unsigned i = 0; i < watch->insn.operand_count; i++) {
        const ZydisDecodedOperand *operand = &watch->operands[i];
        bool is_write = (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;

        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY ||
            operand->mem.type == ZYDIS_MEMOP_TYPE_AGEN || operand->size == 0) {
            continue;
        }
        if (is_stack_operand(operand)) {
            if (is_stack_outside(watch)) {
                return true;
            }
        } else if (!is_within(&watch->cpu->segment[segment_number(operand->mem.segment)],
                              offset_of(watch, operand), operand->size / 8, is_write)) {
            return true;
        }
    }
    return false;
}

/* 64-bit code whose prefix names a segment that has no base there, but has one in the register. */
static bool has_based_prefix(const struct watch *watch)
{
    for (unsigned i = 0; watch->bits == 64 && i < watch->insn.raw.prefix_count; i++) {
        uint8_t prefix = watch->insn.raw.prefixes[i].value;

        if ((prefix & 0xe7) == 0x26 && watch->cpu->segment[prefix >> 3 & 3].base != 0) {
            return true;
        }
    }
    return false;
}

/* Memory that the instruction may not reach. */
static bool differs_at_limits(const struct watch *watch, enum tcg_difference *what)
{
    const struct x86_vcpu *cpu = watch->cpu;

    *what = TCG_LIMITS;
    if (watch->bits != 64 &&
        (cpu->rip + watch->insn.length - 1 > cpu->segment[X86_CS].limit || reaches_outside(watch) ||
         is_frame_outside(watch) || goes_past_limit(watch))) {
        return true;
    }
    *what = TCG_WRAP;
    if (watch->bits == 16 && cpu->rip + watch->insn.length > UINT16_MAX &&
        cpu->segment[X86_CS].limit > UINT16_MAX) {
        return true;
    }
    *what = TCG_FAR_STACK;
    if (is_far_on_odd_page(watch)) {
        return true;
    }
    *what = TCG_PREFIX_BASE;
    if (has_based_prefix(watch)) {
        return true;
    }
    *what = TCG_STACK_CANONICAL;
    return watch->bits == 64 && is_stack_nowhere(watch);
}

/* Where ENTER leaves the stack pointer the page is not an ordinary one. */
static bool is_enter_end_odd(const struct watch *watch)
{
    uint64_t mask = watch->bits == 64 ? UINT64_MAX : watch->cpu->stack_mask;
    uint64_t level = watch->operands[1].imm.value.u % 32;
    uint64_t bytes = watch->operands[0].imm.value.u + watch->insn.operand_width / 8 * (level + 1);

    return is_page_odd(watch, (watch->cpu->gpr[X86_RSP] - bytes) & mask);
}

/* On the stack, beside what is outside of it. */
static bool differs_in_stack(const struct watch *watch, enum tcg_difference *what)
{
    switch (watch->insn.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
        *what = TCG_PUSH_SEGMENT;
        return watch->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
               watch->operands[0].size == 16 && watch->insn.operand_width == 32;
    case ZYDIS_MNEMONIC_ENTER:
        *what = TCG_ENTER_END;
        return is_enter_end_odd(watch);
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        *what = TCG_POPA;
        return is_stack_page_odd(watch) ||
               ((watch->cpu->gpr[X86_RSP] - 32) ^ (watch->cpu->gpr[X86_RSP] + 32)) >> 12 != 0;
    default:
        return false;
    }
}

bool tcg_differs(const struct vcpu *vcpu, enum tcg_difference *what)
{
    const struct x86_segment *cs = &vcpu->cpu->segment[X86_CS];
    struct watch watch = {.vcpu = vcpu, .cpu = vcpu->cpu};

    watch.bits = is_long_mode(vcpu->cpu) && cs->l ? 64 : cs->db ? 32 : 16;
    if (!decode(&watch)) {
        *what = TCG_LIMITS;
        if (watch.bits != 64 && vcpu->cpu->rip + 15 > cs->limit) {
            return true;
        }
        return differs_undecoded(&watch, what);
    }
    return differs_in_gates(&watch, what) || differs_at_limits(&watch, what) ||
           differs_in_stack(&watch, what) || differs_in_flow(&watch, what) ||
           differs_in_system(&watch, what);
}
