/*
 * x86/event.c - delivery of exceptions and interrupts (Intel SDM 3A, chapter 6; 20.1.4 for real mode).
 */
#include "x86/event.h"

#include "x86/mem.h"
#include "x86/seg.h"

#define DR6_BREAKPOINTS UINT64_C(15)
#define DR7_GD UINT64_C(0x2000)

/* A gate of the IDT. */
struct gate {
    uint64_t offset;
    uint16_t selector;
    uint8_t type, dpl, ist;
    bool is_present;
};

static uint64_t return_rip(const struct x86_vcpu *vcpu)
{
    uint64_t length = vcpu->event.kind == X86_EVENT_SOFTWARE ? vcpu->event.length : 0;

    return (vcpu->rip + length) & vcpu->code_mask;
}

/* Faults are to be tried again with RF set; traps, interrupts and aborts are not. */
static uint64_t pushed_flags(const struct x86_vcpu *vcpu)
{
    bool is_fault = vcpu->event.kind == X86_EVENT_EXCEPTION && vcpu->event.vector != X86_DB &&
                    vcpu->event.vector != X86_DF;

    return x86_get_rflags(vcpu) | (is_fault ? X86_FLAG_RF : 0);
}

static void clear_flags(struct x86_vcpu *vcpu, bool is_interrupt_gate)
{
    uint64_t cleared = X86_FLAG_TF | X86_FLAG_NT | X86_FLAG_RF | X86_FLAG_VM;

    cleared |= is_interrupt_gate ? X86_FLAG_IF : 0;
    vcpu->rflags &= ~cleared;
}

static enum step deliver_real(struct x86_vcpu *vcpu)
{
    struct seg_frame frame = seg_frame_now(vcpu);
    uint64_t entry;

    if (vcpu->event.vector * 4u + 3 > vcpu->idt.limit) {
        return step_raise(vcpu, X86_GP);
    }
    TRY(mem_load_system(vcpu, (uint32_t)(vcpu->idt.base + vcpu->event.vector * 4u), 4, &entry));
    TRY(seg_frame_push(vcpu, &frame, 2, x86_get_rflags(vcpu)));
    TRY(seg_frame_push(vcpu, &frame, 2, vcpu->segment[X86_CS].selector));
    TRY(seg_frame_push(vcpu, &frame, 2, return_rip(vcpu)));
    vcpu->gpr[X86_RSP] = seg_frame_sp(vcpu, &frame);
    vcpu->rflags &= ~(X86_FLAG_IF | X86_FLAG_TF | X86_FLAG_AC | X86_FLAG_RF);
    seg_load_real(vcpu, X86_CS, (uint16_t)(entry >> 16));
    vcpu->rip = (uint16_t)entry;
    return STEP_NEXT;
}

/* #GP and #NP of a gate name the vector. */
static enum step raise_gate(struct x86_vcpu *vcpu, uint8_t vector)
{
    return step_raise_code(vcpu, vector, vcpu->event.vector * 8u + 2);
}

static enum step read_gate(struct x86_vcpu *vcpu, struct gate *gate)
{
    unsigned size = is_long_mode(vcpu) ? 16 : 8;
    uint64_t linear = vcpu->idt.base + vcpu->event.vector * size;
    uint64_t low;
    uint64_t high = 0;

    if (vcpu->event.vector * size + size - 1 > vcpu->idt.limit) {
        return raise_gate(vcpu, X86_GP);
    }
    TRY(mem_load_system(vcpu, size == 8 ? (uint32_t)linear : linear, 8, &low));
    if (size == 16) {
        TRY(mem_load_system(vcpu, linear + 8, 8, &high));
    }
    *gate = (struct gate){
        .offset = (low & 0xffff) | (low >> 32 & 0xffff0000) | high << 32,
        .selector = (uint16_t)(low >> 16),
        .ist = low >> 32 & 7,
        .type = low >> 40 & 31,
        .dpl = low >> 45 & 3,
        .is_present = low >> 47 & 1,
    };
    return STEP_NEXT;
}

static enum step check_gate(struct x86_vcpu *vcpu, const struct gate *gate)
{
    bool is_wide = gate->type == SYS_INTERRUPT_GATE || gate->type == SYS_TRAP_GATE;
    bool is_16 = gate->type == SYS_INTERRUPT_GATE16 || gate->type == SYS_TRAP_GATE16;

    if (!is_wide && (is_long_mode(vcpu) || (!is_16 && gate->type != SYS_TASK_GATE))) {
        return raise_gate(vcpu, X86_GP);
    }
    if (vcpu->event.kind == X86_EVENT_SOFTWARE && !vcpu->event.is_privileged &&
        gate->dpl < vcpu->cpl) {
        return raise_gate(vcpu, X86_GP);
    }
    if (!gate->is_present) {
        return raise_gate(vcpu, X86_NP);
    }
    return gate->type == SYS_TASK_GATE ? step_exit(vcpu, X86_EXIT_EMULATION) : STEP_NEXT;
}

/* The gate's code segment, and the level that it runs at. */
static enum step read_target(struct x86_vcpu *vcpu, const struct gate *gate,
                             struct x86_segment *code, unsigned *level)
{
    struct descriptor descriptor;
    bool is_virtual = (vcpu->rflags & X86_FLAG_VM) != 0;

    if ((gate->selector & ~3u) == 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(seg_read_descriptor(vcpu, gate->selector, X86_GP, &descriptor));
    *level = descriptor_dpl(&descriptor);
    if (!descriptor_is_code(&descriptor) || *level > vcpu->cpl ||
        (is_long_mode(vcpu) &&
         (!descriptor_is_long(&descriptor) || !seg_is_code_valid(vcpu, &descriptor)))) {
        return raise_selector(vcpu, X86_GP, gate->selector);
    }
    if (!descriptor_is_present(&descriptor)) {
        return raise_selector(vcpu, X86_NP, gate->selector);
    }
    if (descriptor_is_conforming(&descriptor)) {
        *level = vcpu->cpl;
    }
    if (is_virtual && *level != 0) {
        return raise_selector(vcpu, X86_GP, gate->selector);
    }
    TRY(seg_mark_accessed(vcpu, &descriptor));
    seg_unpack(&descriptor, gate->selector, code);
    return STEP_NEXT;
}

/* 64-bit mode: from the interrupt stack table, or the level's, or the present one. */
static enum step choose_long_stack(struct x86_vcpu *vcpu, const struct gate *gate, unsigned level,
                                   struct seg_frame *frame)
{
    uint64_t at = gate->ist != 0 ? 0x24 + (gate->ist - 1) * 8u : 4 + level * 8;

    *frame = seg_frame_now(vcpu);
    frame->is_64 = true;
    frame->mask = UINT64_MAX;
    frame->view = level == 3 ? GM_MMU_USER : GM_MMU_SUPERVISOR;
    if (gate->ist != 0 || level < vcpu->cpl) {
        if (at + 7 > vcpu->tr.limit) {
            return raise_selector(vcpu, X86_TS, vcpu->tr.selector);
        }
        TRY(mem_load_system(vcpu, vcpu->tr.base + at, 8, &frame->sp));
        if (!is_canonical(vcpu, frame->sp)) {
            return step_raise_code(vcpu, X86_SS_FAULT, 0);
        }
    }
    frame->sp &= ~UINT64_C(15);
    if (level < vcpu->cpl) {
        frame->is_switched = true;
        frame->segment = seg_null_stack(level);
    }
    return STEP_NEXT;
}

static enum step choose_stack(struct x86_vcpu *vcpu, unsigned level, struct seg_frame *frame)
{
    uint16_t selector;

    *frame = seg_frame_now(vcpu);
    if (level == vcpu->cpl) {
        return STEP_NEXT;
    }
    frame->is_switched = true;
    frame->view = level == 3 ? GM_MMU_USER : GM_MMU_SUPERVISOR;
    TRY(seg_stack_of_level(vcpu, level, &selector, &frame->sp));
    TRY(seg_prepare_stack(vcpu, selector, level, X86_TS, &frame->segment));
    seg_derive(vcpu, &frame->segment);
    frame->mask = frame->segment.db ? UINT32_MAX : UINT16_MAX;
    return STEP_NEXT;
}

static enum step push_frame(struct x86_vcpu *vcpu, struct seg_frame *frame, unsigned size)
{
    static const enum x86_segment_number data[] = {X86_GS, X86_FS, X86_DS, X86_ES};
    bool is_virtual = (vcpu->rflags & X86_FLAG_VM) != 0;

    for (unsigned i = 0; is_virtual && i < 4; i++) {
        TRY(seg_frame_push(vcpu, frame, size, vcpu->segment[data[i]].selector));
    }
    if (frame->is_switched || size == 8) {
        TRY(seg_frame_push(vcpu, frame, size, vcpu->segment[X86_SS].selector));
        TRY(seg_frame_push(vcpu, frame, size, vcpu->gpr[X86_RSP]));
    }
    TRY(seg_frame_push(vcpu, frame, size, pushed_flags(vcpu)));
    TRY(seg_frame_push(vcpu, frame, size, vcpu->segment[X86_CS].selector));
    TRY(seg_frame_push(vcpu, frame, size, return_rip(vcpu)));
    if (vcpu->event.has_error_code) {
        TRY(seg_frame_push(vcpu, frame, size, vcpu->event.error_code));
    }
    return STEP_NEXT;
}

/* Coming from virtual-8086 mode, data segments are null. */
static void drop_data_segments(struct x86_vcpu *vcpu)
{
    static const enum x86_segment_number data[] = {X86_GS, X86_FS, X86_DS, X86_ES};

    for (unsigned i = 0; i < 4; i++) {
        vcpu->segment[data[i]] = (struct x86_segment){.unusable = 1};
        seg_derive(vcpu, &vcpu->segment[data[i]]);
    }
}

static enum step deliver_protected(struct x86_vcpu *vcpu)
{
    bool is_virtual = (vcpu->rflags & X86_FLAG_VM) != 0;
    struct x86_segment code;
    struct seg_frame frame;
    struct gate gate;
    unsigned level, size;

    TRY(read_gate(vcpu, &gate));
    TRY(check_gate(vcpu, &gate));
    TRY(read_target(vcpu, &gate, &code, &level));
    if (is_long_mode(vcpu)) {
        size = 8;
        TRY(choose_long_stack(vcpu, &gate, level, &frame));
    } else {
        size = (gate.type & 8) != 0 ? 4 : 2;
        gate.offset = zero_extend(gate.offset, size);
        TRY(choose_stack(vcpu, level, &frame));
    }
    if (size == 8 ? !is_canonical(vcpu, gate.offset) : gate.offset > code.limit) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(push_frame(vcpu, &frame, size));
    clear_flags(vcpu, (gate.type & 1) == 0);
    vcpu->gpr[X86_RSP] = seg_frame_sp(vcpu, &frame);
    if (frame.is_switched) {
        seg_commit_stack(vcpu, &frame.segment);
    }
    seg_commit_code(vcpu, &code, level);
    if (is_virtual) {
        drop_data_segments(vcpu);
    }
    vcpu->rip = gate.offset;
    return STEP_NEXT;
}

enum event_class {
    CLASS_BENIGN,
    CLASS_CONTRIBUTORY,
    CLASS_PAGE_FAULT,
};

static enum event_class class_of(const struct x86_event *event)
{
    if (event->kind != X86_EVENT_EXCEPTION) {
        return CLASS_BENIGN;
    }
    switch (event->vector) {
    case X86_DE:
    case X86_TS:
    case X86_NP:
    case X86_SS_FAULT:
    case X86_GP:
        return CLASS_CONTRIBUTORY;
    case X86_PF:
        return CLASS_PAGE_FAULT;
    default:
        return CLASS_BENIGN;
    }
}

/* A fault while an event is delivered (Intel SDM 3A, table 6-5). */
static enum step combine(struct x86_vcpu *vcpu)
{
    enum event_class first = class_of(&vcpu->event);
    enum event_class second = class_of(&vcpu->fault);

    if (vcpu->event.kind == X86_EVENT_EXCEPTION && vcpu->event.vector == X86_DF &&
        second != CLASS_BENIGN) {
        return step_exit(vcpu, X86_EXIT_SHUTDOWN);
    }
    if (second != CLASS_BENIGN && (first == CLASS_PAGE_FAULT ||
                                   (first == CLASS_CONTRIBUTORY && second == CLASS_CONTRIBUTORY))) {
        vcpu->event = (struct x86_event){
            .kind = X86_EVENT_EXCEPTION, .vector = X86_DF, .has_error_code = true};
        return STEP_FAULT;
    }
    if (second == CLASS_CONTRIBUTORY && vcpu->fault.has_error_code &&
        vcpu->event.kind != X86_EVENT_SOFTWARE) {
        vcpu->fault.error_code |= 1; /* EXT */
    }
    vcpu->event = vcpu->fault;
    return STEP_FAULT;
}

enum step event_deliver(struct x86_vcpu *vcpu)
{
    enum step step = is_protected(vcpu) ? deliver_protected(vcpu) : deliver_real(vcpu);

    if (step == STEP_FAULT) {
        return combine(vcpu);
    }
    if (step == STEP_NEXT) {
        if (vcpu->event.kind == X86_EVENT_NMI) {
            vcpu->is_nmi_blocked = true;
        }
        if (vcpu->event.vector == X86_DB) {
            vcpu->dr[7] &= ~DR7_GD;
        }
        vcpu->event = (struct x86_event){0};
        vcpu->is_shadowed = vcpu->is_ss_shadow = false;
    }
    return step;
}

void event_note_debug(struct x86_vcpu *vcpu, uint64_t bits)
{
    vcpu->dr[6] = (vcpu->dr[6] & ~DR6_BREAKPOINTS) | bits;
}

void event_trap_debug(struct x86_vcpu *vcpu, uint64_t bits)
{
    event_note_debug(vcpu, bits);
    vcpu->event = (struct x86_event){.kind = X86_EVENT_EXCEPTION, .vector = X86_DB};
}

void event_trap_step(struct x86_vcpu *vcpu)
{
    event_trap_debug(vcpu, X86_DR6_BS);
}
