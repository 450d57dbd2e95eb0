/*
 * x86/exec_segment.c - segment registers and descriptor tables.
 */
#include "x86/exec.h"

#include "x86/decode_table.h"
#include "x86/mem.h"
#include "x86/seg.h"

/* A load of SS holds interrupts and traps back for one instruction. */
static void shadow_stack_load(struct x86_vcpu *vcpu, unsigned number)
{
    if (number == X86_SS) {
        vcpu->is_shadowed = true;
        vcpu->is_ss_shadow = true;
    }
}

static enum step mov_to_segment(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t selector;

    if (insn->reg[0] == X86_CS) {
        return step_raise(vcpu, X86_UD);
    }
    TRY(operand_read(vcpu, insn, 1, 2, &selector));
    TRY(seg_load(vcpu, insn->reg[0], (uint16_t)selector));
    shadow_stack_load(vcpu, insn->reg[0]);
    return STEP_NEXT;
}

/* A register gets as many bytes as the operand size says; memory always two. */
static enum step mov_from_segment(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_memory = operand_kind(insn, 0) == KIND_MEM;
    uint64_t selector = vcpu->segment[insn->reg[1]].selector;

    return operand_write(vcpu, insn, 0, is_memory ? 2 : insn->size, selector);
}

static enum step push_segment(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t aside = sp;
    uint64_t selector = vcpu->segment[insn->reg[0]].selector;

    /* With 32 bits only two bytes are written (Intel SDM 2, PUSH). */
    if (insn->size == 4) {
        aside = (sp & ~vcpu->stack_mask) | ((sp - 2) & vcpu->stack_mask);
        TRY(stack_push(vcpu, 2, selector, &aside));
        vcpu->gpr[X86_RSP] = aside;
        return STEP_NEXT;
    }
    TRY(stack_push(vcpu, insn->size, selector, &sp));
    vcpu->gpr[X86_RSP] = sp;
    return STEP_NEXT;
}

static enum step pop_segment(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t mask = vcpu->stack_mask;
    uint64_t selector;

    TRY(stack_pop(vcpu, insn->size, &selector, &sp));
    TRY(seg_load(vcpu, insn->reg[0], (uint16_t)selector));
    vcpu->gpr[X86_RSP] = (vcpu->gpr[X86_RSP] & ~mask) | (sp & mask);
    shadow_stack_load(vcpu, insn->reg[0]);
    return STEP_NEXT;
}

/* LDS and its like. */
static enum step load_far(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t offset = mem_offset(vcpu, insn);
    uint64_t linear, value, selector;

    TRY(mem_linear_of(vcpu, insn->seg, offset, insn->size, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, insn->size, insn->seg, &value));
    offset = (offset + insn->size) & insn->addr_mask;
    TRY(mem_linear_of(vcpu, insn->seg, offset, 2, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, 2, insn->seg, &selector));
    TRY(seg_load(vcpu, insn->reg[2], (uint16_t)selector));
    reg_write(vcpu, insn->reg[0], insn->size, value);
    return STEP_NEXT;
}

static void set_zero(struct x86_vcpu *vcpu, bool is_set)
{
    uint64_t flags = flags_arithmetic(vcpu) & ~X86_FLAG_ZF;

    flags_set_arithmetic(vcpu, flags | (is_set ? X86_FLAG_ZF : 0));
}

/* LAR's and LSL's system types: which of them has what they ask for. */
static bool is_system_visible(const struct x86_vcpu *vcpu, unsigned type, bool is_limit)
{
    switch (type) {
    case SYS_TSS16:
    case SYS_TSS16_BUSY:
        return !is_long_mode(vcpu);
    case SYS_CALL_GATE16:
    case SYS_TASK_GATE:
        return !is_limit && !is_long_mode(vcpu);
    case SYS_CALL_GATE:
        return !is_limit;
    default:
        return type == SYS_LDT || type == SYS_TSS || type == SYS_TSS_BUSY;
    }
}

/* LAR, LSL, VERR, VERW: what they may look at is answered by ZF, not by faults. */
static bool is_visible(const struct x86_vcpu *vcpu, const struct descriptor *descriptor,
                       uint16_t selector, enum segment_op op)
{
    unsigned dpl = descriptor_dpl(descriptor);
    bool has_right = vcpu->cpl <= dpl && (selector & 3u) <= dpl;
    bool is_code = descriptor_is_code(descriptor);
    bool is_writable = (descriptor_type(descriptor) & 2) != 0;

    if (descriptor_is_conforming(descriptor)) {
        has_right = true;
    }
    if (descriptor_is_system(descriptor)) {
        return (op == SEGMENT_LAR || op == SEGMENT_LSL) && has_right &&
               is_system_visible(vcpu, descriptor_type(descriptor), op == SEGMENT_LSL);
    }
    if (op == SEGMENT_VERR) {
        return has_right && (!is_code || is_writable);
    }
    if (op == SEGMENT_VERW) {
        return has_right && !is_code && is_writable;
    }
    return has_right;
}

static enum step inspect(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool has_result = insn->sub == SEGMENT_LAR || insn->sub == SEGMENT_LSL;
    struct descriptor descriptor = {0};
    struct x86_segment segment;
    uint64_t value;
    uint16_t selector;
    bool is_shown = false;

    if (!has_descriptors(vcpu)) {
        return step_raise(vcpu, X86_UD);
    }
    TRY(operand_read(vcpu, insn, has_result ? 1 : 0, 2, &value));
    selector = (uint16_t)value;
    if ((selector & ~3u) != 0 && seg_is_in_table(vcpu, selector, &descriptor.linear)) {
        TRY(mem_load_system(vcpu, descriptor.linear, 8, &descriptor.low));
        is_shown = is_visible(vcpu, &descriptor, selector, insn->sub);
    }
    if (is_shown && has_result) {
        seg_unpack(&descriptor, selector, &segment);
        reg_write(vcpu, insn->reg[0], insn->size,
                  insn->sub == SEGMENT_LSL ? segment.limit : descriptor.low >> 32 & 0x00ffff00);
    }
    set_zero(vcpu, is_shown);
    return STEP_NEXT;
}

static enum step arpl(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t rpl = reg_read(vcpu, insn->reg[1], 2) & 3;
    struct mem_rmw rmw;
    bool is_done, is_lower;

    if (!has_descriptors(vcpu)) {
        return step_raise(vcpu, X86_UD);
    }
    TRY(operand_begin(vcpu, insn, 2, &rmw));
    is_lower = (rmw.old & 3) < rpl;
    if (is_lower) {
        TRY(operand_end(vcpu, insn, 2, &rmw, (rmw.old & ~UINT64_C(3)) | rpl, &is_done));
    }
    set_zero(vcpu, is_lower);
    return STEP_NEXT;
}

/* CR4.UMIP keeps programs from seeing the tables. */
static enum step check_umip(struct x86_vcpu *vcpu)
{
    bool is_forbidden = (vcpu->cr4 & 0x800) != 0 && vcpu->cpl > 0;

    return is_forbidden ? step_raise_code(vcpu, X86_GP, 0) : STEP_NEXT;
}

/* SLDT, STR. */
static enum step store_selector(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_memory = operand_kind(insn, 0) == KIND_MEM;
    uint16_t selector = insn->sub == SEGMENT_SLDT ? vcpu->ldt.selector : vcpu->tr.selector;

    if (!has_descriptors(vcpu)) {
        return step_raise(vcpu, X86_UD);
    }
    TRY(check_umip(vcpu));
    return operand_write(vcpu, insn, 0, is_memory ? 2 : insn->size, selector);
}

/* LLDT, LTR. */
static enum step load_system(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_ldt = insn->sub == SEGMENT_LLDT;
    struct descriptor descriptor;
    struct x86_segment *segment = is_ldt ? &vcpu->ldt : &vcpu->tr;
    unsigned type;
    uint64_t value;
    uint16_t selector;

    if (!has_descriptors(vcpu)) {
        return step_raise(vcpu, X86_UD);
    }
    if (vcpu->cpl != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(operand_read(vcpu, insn, 0, 2, &value));
    selector = (uint16_t)value;
    if ((selector & ~3u) == 0) {
        if (!is_ldt) {
            return step_raise_code(vcpu, X86_GP, 0);
        }
        *segment = (struct x86_segment){.selector = selector, .unusable = 1};
        return STEP_NEXT;
    }
    if ((selector & 4) != 0) {
        return raise_selector(vcpu, X86_GP, selector);
    }
    TRY(seg_read_descriptor(vcpu, selector, X86_GP, &descriptor));
    type = descriptor_type(&descriptor);
    if (!descriptor_is_system(&descriptor) ||
        (is_ldt ? type != SYS_LDT : type != SYS_TSS && (type != SYS_TSS16 || is_long_mode(vcpu)))) {
        return raise_selector(vcpu, X86_GP, selector);
    }
    if (!descriptor_is_present(&descriptor)) {
        return raise_selector(vcpu, X86_NP, selector);
    }
    TRY(seg_read_high(vcpu, selector, X86_GP, &descriptor));
    if (!is_ldt) { /* it is busy now */
        descriptor.low |= UINT64_C(2) << 40;
        TRY(mem_store_system(vcpu, descriptor.linear + 5, 1, descriptor.low >> 40 & 0xff));
    }
    seg_unpack(&descriptor, selector, segment);
    return STEP_NEXT;
}

/* SGDT, SIDT. The base lies behind the limit's two bytes: by words, so that alignment checks let it pass. */
static enum step store_table(struct x86_vcpu *vcpu, const struct insn *insn)
{
    const struct x86_table *table = insn->sub == SEGMENT_SGDT ? &vcpu->gdt : &vcpu->idt;
    unsigned size = vcpu->mode == X86_MODE_64 ? 8 : 4;
    uint64_t offset = mem_offset(vcpu, insn);
    uint64_t linear;

    TRY(check_umip(vcpu));
    TRY(mem_linear_of(vcpu, insn->seg, offset, 2, MEM_WRITE, &linear));
    TRY(store_linear(vcpu, linear, 2, insn->seg, table->limit));
    TRY(mem_linear_of(vcpu, insn->seg, (offset + 2) & insn->addr_mask, size, MEM_WRITE, &linear));
    for (unsigned i = 0; i < size; i += 2) {
        TRY(store_linear(vcpu, linear + i, 2, insn->seg, table->base >> (8 * i)));
    }
    return STEP_NEXT;
}

/* LGDT, LIDT: with 16 bits three bytes of the base count. */
static enum step load_table(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct x86_table *table = insn->sub == SEGMENT_LGDT ? &vcpu->gdt : &vcpu->idt;
    unsigned size = vcpu->mode == X86_MODE_64 ? 8 : 4;
    uint64_t offset = mem_offset(vcpu, insn);
    uint64_t linear, limit, base;

    if (vcpu->cpl != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(mem_linear_of(vcpu, insn->seg, offset, 2, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, 2, insn->seg, &limit));
    TRY(mem_linear_of(vcpu, insn->seg, (offset + 2) & insn->addr_mask, size, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, size, insn->seg, &base));
    if (size == 8 && !is_canonical(vcpu, base)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    if (size == 4 && insn->size == 2) {
        base &= 0xffffff;
    }
    *table = (struct x86_table){.base = base, .limit = (uint16_t)limit};
    return STEP_NEXT;
}

static enum step swapgs(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t base = vcpu->segment[X86_GS].base;

    (void)insn;
    if (vcpu->mode != X86_MODE_64) {
        return step_raise(vcpu, X86_UD);
    }
    if (vcpu->cpl != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    vcpu->segment[X86_GS].base = vcpu->msr.kernel_gs_base;
    vcpu->msr.kernel_gs_base = base;
    return STEP_NEXT;
}

/* RDFSBASE and its like: CR4.FSGSBASE allows them. */
static enum step access_base(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct x86_segment *segment = &vcpu->segment[insn->reg[2]];
    uint64_t base;

    if ((vcpu->cr4 & 0x10000) == 0 || vcpu->mode != X86_MODE_64) {
        return step_raise(vcpu, X86_UD);
    }
    if (insn->sub == SEGMENT_RDBASE) {
        reg_write(vcpu, insn->reg[0], insn->size, segment->base);
        return STEP_NEXT;
    }
    base = reg_read(vcpu, insn->reg[0], insn->size);
    if (!is_canonical(vcpu, base)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    segment->base = base;
    return STEP_NEXT;
}

insn_fn *exec_segment(struct insn *insn)
{
    switch (insn->sub) {
    case SEGMENT_MOV:
        return insn->selector == SPECIAL_FIRST ? mov_to_segment : mov_from_segment;
    case SEGMENT_PUSH:
        return push_segment;
    case SEGMENT_POP:
        return pop_segment;
    case SEGMENT_LOAD_FAR:
        return load_far;
    case SEGMENT_LAR:
    case SEGMENT_LSL:
    case SEGMENT_VERR:
    case SEGMENT_VERW:
        return inspect;
    case SEGMENT_ARPL:
        return arpl;
    case SEGMENT_SLDT:
    case SEGMENT_STR:
        return store_selector;
    case SEGMENT_LLDT:
    case SEGMENT_LTR:
        return load_system;
    case SEGMENT_SGDT:
    case SEGMENT_SIDT:
        return store_table;
    case SEGMENT_LGDT:
    case SEGMENT_LIDT:
        return load_table;
    case SEGMENT_SWAPGS:
        return swapgs;
    default:
        return access_base;
    }
}
