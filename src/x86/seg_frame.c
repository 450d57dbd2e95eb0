/*
 * x86/seg_frame.c - stacks and code segments that change in one instruction: interrupts, far calls and returns.
 */
#include "x86/mem.h"
#include "x86/seg.h"

void seg_commit_code(struct x86_vcpu *vcpu, const struct x86_segment *segment, unsigned cpl)
{
    struct x86_segment *cs = &vcpu->segment[X86_CS];

    *cs = *segment;
    cs->selector = (uint16_t)((cs->selector & ~3u) | cpl);
    seg_derive(vcpu, cs);
    vcpu->segment[X86_SS].dpl = (uint8_t)cpl;
    seg_derive_mode(vcpu);
}

void seg_commit_stack(struct x86_vcpu *vcpu, const struct x86_segment *segment)
{
    vcpu->segment[X86_SS] = *segment;
    seg_derive(vcpu, &vcpu->segment[X86_SS]);
    seg_derive_mode(vcpu);
}

struct x86_segment seg_null_stack(unsigned level)
{
    return (struct x86_segment){
        .limit = UINT32_MAX,
        .selector = (uint16_t)level,
        .type = 3,
        .present = 1,
        .dpl = (uint8_t)level,
        .db = 1,
        .s = 1,
        .g = 1,
        .unusable = 1,
    };
}

void seg_drop_inner(struct x86_vcpu *vcpu)
{
    static const enum x86_segment_number numbers[] = {X86_ES, X86_DS, X86_FS, X86_GS};

    for (unsigned i = 0; i < 4; i++) {
        struct x86_segment *segment = &vcpu->segment[numbers[i]];
        bool is_conforming = (segment->type & 12) == 12;

        if (segment->unusable) {
            segment->selector = 0; /* null, whatever its RPL was; FS and GS keep their bases */
        } else if (segment->s && !is_conforming && segment->dpl < vcpu->cpl) {
            segment->selector = 0;
            segment->unusable = 1;
            segment->base = 0;
            seg_derive(vcpu, segment);
        }
    }
}

bool seg_is_code_valid(const struct x86_vcpu *vcpu, const struct descriptor *descriptor)
{
    bool is_32 = (descriptor->low >> 54 & 1) != 0;

    return !(is_long_mode(vcpu) && descriptor_is_long(descriptor) && is_32);
}

struct seg_frame seg_frame_now(const struct x86_vcpu *vcpu)
{
    return (struct seg_frame){
        .segment = vcpu->segment[X86_SS],
        .sp = vcpu->gpr[X86_RSP],
        .mask = vcpu->stack_mask,
        .view = vcpu->data_view,
        .is_64 = vcpu->mode == X86_MODE_64,
    };
}

static enum step frame_linear(struct x86_vcpu *vcpu, const struct seg_frame *frame, unsigned size,
                              uint64_t offset, bool is_write, uint64_t *linear)
{
    const struct x86_segment *segment = &frame->segment;

    if (frame->is_64) {
        *linear = offset;
        return STEP_NEXT;
    }
    if (!(is_write ? segment->can_write : segment->can_read) || offset < segment->first ||
        offset > segment->last || segment->last - offset < size - 1) {
        return step_raise_code(vcpu, X86_SS_FAULT,
                               frame->is_switched ? segment->selector & ~3u : 0);
    }
    *linear = (uint32_t)(segment->base + offset);
    return STEP_NEXT;
}

enum step seg_frame_push(struct x86_vcpu *vcpu, struct seg_frame *frame, unsigned size,
                         uint64_t value)
{
    uint64_t offset = (frame->sp - size) & frame->mask;
    uint64_t linear;

    TRY(frame_linear(vcpu, frame, size, offset, true, &linear));
    mem_note(vcpu, linear, size, true);
    TRY(mem_store_as(vcpu, linear, size, SEG_FLAT_STACK, frame->view, zero_extend(value, size)));
    frame->sp = (frame->sp & ~frame->mask) | offset;
    return STEP_NEXT;
}

enum step seg_frame_pop(struct x86_vcpu *vcpu, struct seg_frame *frame, unsigned size,
                        uint64_t *value)
{
    uint64_t offset = frame->sp & frame->mask;
    uint64_t linear;

    TRY(frame_linear(vcpu, frame, size, offset, false, &linear));
    mem_note(vcpu, linear, size, false);
    TRY(mem_load_as(vcpu, linear, size, SEG_FLAT_STACK, MEM_READ, frame->view, value));
    frame->sp = (frame->sp & ~frame->mask) | ((offset + size) & frame->mask);
    return STEP_NEXT;
}

uint64_t seg_frame_sp(const struct x86_vcpu *vcpu, const struct seg_frame *frame)
{
    return (vcpu->gpr[X86_RSP] & ~frame->mask) | (frame->sp & frame->mask);
}
