/*
 * x86/seg.c - loading segment registers (Intel SDM 3A, chapters 3 and 5), and what is derived from them.
 */
#include "x86/seg.h"

#include "x86/breakpoint.h"
#include "x86/mem.h"

#define CR0_AM 0x40000u

#define TYPE_ACCESSED 1u
#define TYPE_WRITE 2u /* of data; of code: readable */
#define TYPE_DOWN 4u  /* of data: expands down */
#define TYPE_CODE 8u

void seg_derive(struct x86_vcpu *vcpu, struct x86_segment *segment)
{
    bool is_code = (segment->type & TYPE_CODE) != 0;
    bool is_down = !is_code && (segment->type & TYPE_DOWN) != 0;

    segment->can_read = !segment->unusable && (!is_code || (segment->type & TYPE_WRITE) != 0);
    segment->can_write = !segment->unusable && !is_code && (segment->type & TYPE_WRITE) != 0;
    if (!has_descriptors(vcpu)) {
        segment->can_read = segment->can_write = true;
    }
    segment->first = is_down ? (uint64_t)segment->limit + 1 : 0;
    segment->last = !is_down ? segment->limit : segment->db ? UINT32_MAX : UINT16_MAX;
}

static bool checks_alignment(const struct x86_vcpu *vcpu)
{
    return vcpu->cpl == 3 && (vcpu->cr0 & CR0_AM) != 0 && (vcpu->rflags & X86_FLAG_AC) != 0;
}

void seg_derive_mode(struct x86_vcpu *vcpu)
{
    static const uint64_t no_tag = GM_TLB_NO_TAG;
    const struct x86_segment *cs = &vcpu->segment[X86_CS];
    const struct x86_segment *ss = &vcpu->segment[X86_SS];
    bool is_64 = is_long_mode(vcpu) && cs->l;

    vcpu->mode = is_64 ? X86_MODE_64 : cs->db ? X86_MODE_32 : X86_MODE_16;
    vcpu->code_mask = is_64 ? UINT64_MAX : UINT32_MAX;
    vcpu->stack_mask = is_64 ? UINT64_MAX : ss->db ? UINT32_MAX : UINT16_MAX;
    if (!is_protected(vcpu)) {
        vcpu->cpl = 0;
    } else {
        vcpu->cpl = (vcpu->rflags & X86_FLAG_VM) != 0 ? 3 : ss->dpl;
    }
    vcpu->fetch_view = vcpu->cpl == 3 ? GM_MMU_USER : GM_MMU_SUPERVISOR;
    vcpu->data_view = vcpu->cpl == 3                      ? GM_MMU_USER
                      : (vcpu->rflags & X86_FLAG_AC) != 0 ? GM_MMU_SUPERVISOR_AC
                                                          : GM_MMU_SUPERVISOR;
    vcpu->checks_alignment = checks_alignment(vcpu);
    vcpu->has_breakpoints = breakpoint_is_any(vcpu);
    vcpu->data_tag = vcpu->checks_alignment || vcpu->has_breakpoints
                         ? &no_tag
                         : &vcpu->mmu->view_tags[vcpu->data_view];
    vcpu->has_sse = (vcpu->cr4 & 0x200) != 0 && (vcpu->cr0 & 4) == 0;
}

void seg_load_real(struct x86_vcpu *vcpu, enum x86_segment_number number, uint16_t selector)
{
    struct x86_segment *segment = &vcpu->segment[number];

    if ((vcpu->rflags & X86_FLAG_VM) != 0) {
        *segment = (struct x86_segment){.limit = 0xffff, .type = 3, .present = 1, .dpl = 3, .s = 1};
    }
    segment->selector = selector;
    segment->base = (uint64_t)selector << 4;
    segment->unusable = 0;
    seg_derive(vcpu, segment);
    seg_derive_mode(vcpu);
}

bool seg_is_in_table(const struct x86_vcpu *vcpu, uint16_t selector, uint64_t *linear)
{
    uint64_t base = vcpu->gdt.base;
    uint32_t limit = vcpu->gdt.limit;

    if ((selector & 4) != 0) {
        if (vcpu->ldt.unusable) {
            return false;
        }
        base = vcpu->ldt.base;
        limit = vcpu->ldt.limit;
    }
    *linear = base + (selector & ~7u);
    if (!is_long_mode(vcpu)) {
        *linear = (uint32_t)*linear;
    }
    return (selector | 7u) <= limit;
}

enum step seg_read_descriptor(struct x86_vcpu *vcpu, uint16_t selector, uint8_t vector,
                              struct descriptor *descriptor)
{
    *descriptor = (struct descriptor){0};
    if (!seg_is_in_table(vcpu, selector, &descriptor->linear)) {
        return raise_selector(vcpu, vector, selector);
    }
    return mem_load_system(vcpu, descriptor->linear, 8, &descriptor->low);
}

enum step seg_read_high(struct x86_vcpu *vcpu, uint16_t selector, uint8_t vector,
                        struct descriptor *descriptor)
{
    uint64_t linear;

    if (!is_long_mode(vcpu)) {
        return STEP_NEXT;
    }
    if ((selector & ~7u) > UINT16_MAX - 8u ||
        !seg_is_in_table(vcpu, (uint16_t)(selector + 8), &linear)) {
        return raise_selector(vcpu, vector, selector);
    }
    TRY(mem_load_system(vcpu, descriptor->linear + 8, 8, &descriptor->high));
    if ((descriptor->high >> 40 & 31) != 0) {
        return raise_selector(vcpu, vector, selector);
    }
    return STEP_NEXT;
}

void seg_unpack(const struct descriptor *descriptor, uint16_t selector, struct x86_segment *segment)
{
    uint64_t low = descriptor->low;
    uint32_t limit = (uint32_t)((low & 0xffff) | (low >> 32 & 0xf0000));

    *segment = (struct x86_segment){
        .base = (low >> 16 & 0xffffff) | (low >> 32 & 0xff000000) | descriptor->high << 32,
        .selector = selector,
        .type = descriptor_type(descriptor),
        .s = low >> 44 & 1,
        .dpl = descriptor_dpl(descriptor),
        .present = low >> 47 & 1,
        .avl = low >> 52 & 1,
        .l = low >> 53 & 1,
        .db = low >> 54 & 1,
        .g = low >> 55 & 1,
    };
    segment->limit = segment->g ? limit << 12 | 0xfff : limit;
}

enum step seg_mark_accessed(struct x86_vcpu *vcpu, struct descriptor *descriptor)
{
    if (descriptor_is_system(descriptor) || (descriptor_type(descriptor) & TYPE_ACCESSED) != 0) {
        return STEP_NEXT;
    }
    descriptor->low |= UINT64_C(1) << 40;
    return mem_store_system(vcpu, descriptor->linear + 5, 1, descriptor->low >> 40 & 0xff);
}

static void commit(struct x86_vcpu *vcpu, enum x86_segment_number number,
                   const struct x86_segment *segment)
{
    vcpu->segment[number] = *segment;
    seg_derive(vcpu, &vcpu->segment[number]);
    if (number == X86_SS) {
        seg_derive_mode(vcpu);
    }
}

/* A null selector: the register cannot be used, but in 64-bit mode. */
static void commit_null(struct x86_vcpu *vcpu, enum x86_segment_number number, uint16_t selector)
{
    struct x86_segment segment = vcpu->segment[number];

    segment.selector = selector;
    segment.unusable = 1;
    if (number == X86_SS) {
        segment.dpl = selector & 3;
    } else {
        segment.base = 0;
        segment.limit = 0;
        segment.type = 0;
        segment.present = 0;
    }
    commit(vcpu, number, &segment);
}

enum step seg_prepare_stack(struct x86_vcpu *vcpu, uint16_t selector, unsigned cpl, uint8_t vector,
                            struct x86_segment *segment)
{
    struct descriptor descriptor;

    if ((selector & ~3u) == 0) {
        return step_raise_code(vcpu, vector, 0);
    }
    TRY(seg_read_descriptor(vcpu, selector, vector, &descriptor));
    if (descriptor_is_system(&descriptor) || descriptor_is_code(&descriptor) ||
        (descriptor_type(&descriptor) & TYPE_WRITE) == 0 || (selector & 3) != cpl ||
        descriptor_dpl(&descriptor) != cpl) {
        return raise_selector(vcpu, vector, selector);
    }
    if (!descriptor_is_present(&descriptor)) {
        return raise_selector(vcpu, X86_SS_FAULT, selector);
    }
    TRY(seg_mark_accessed(vcpu, &descriptor));
    seg_unpack(&descriptor, selector, segment);
    return STEP_NEXT;
}

static enum step load_stack(struct x86_vcpu *vcpu, uint16_t selector)
{
    struct x86_segment segment;

    if ((selector & ~3u) == 0 && vcpu->mode == X86_MODE_64 && vcpu->cpl != 3 &&
        (selector & 3) == vcpu->cpl) {
        commit_null(vcpu, X86_SS, selector);
        return STEP_NEXT;
    }
    TRY(seg_prepare_stack(vcpu, selector, vcpu->cpl, X86_GP, &segment));
    commit(vcpu, X86_SS, &segment);
    return STEP_NEXT;
}

enum step seg_load(struct x86_vcpu *vcpu, enum x86_segment_number number, uint16_t selector)
{
    struct descriptor descriptor;
    struct x86_segment segment;
    unsigned dpl;

    if (!has_descriptors(vcpu)) {
        seg_load_real(vcpu, number, selector);
        return STEP_NEXT;
    }
    if (number == X86_SS) {
        return load_stack(vcpu, selector);
    }
    if ((selector & ~3u) == 0) {
        commit_null(vcpu, number, selector);
        return STEP_NEXT;
    }
    TRY(seg_read_descriptor(vcpu, selector, X86_GP, &descriptor));
    dpl = descriptor_dpl(&descriptor);
    if (descriptor_is_system(&descriptor) ||
        (descriptor_is_code(&descriptor) && (descriptor_type(&descriptor) & TYPE_WRITE) == 0) ||
        (!descriptor_is_conforming(&descriptor) && ((selector & 3) > dpl || vcpu->cpl > dpl))) {
        return raise_selector(vcpu, X86_GP, selector);
    }
    if (!descriptor_is_present(&descriptor)) {
        return raise_selector(vcpu, X86_NP, selector);
    }
    TRY(seg_mark_accessed(vcpu, &descriptor));
    seg_unpack(&descriptor, selector, &segment);
    commit(vcpu, number, &segment);
    return STEP_NEXT;
}

enum step seg_stack_of_level(struct x86_vcpu *vcpu, unsigned level, uint16_t *ss, uint64_t *sp)
{
    bool is_32 = (vcpu->tr.type & 8) != 0;
    uint64_t at = is_32 ? 4 + level * 8 : 2 + level * 4;
    unsigned size = is_32 ? 4 : 2;
    uint64_t value;

    if (at + 2 * size - 1 > vcpu->tr.limit) {
        return raise_selector(vcpu, X86_TS, vcpu->tr.selector);
    }
    TRY(mem_load_system(vcpu, (uint32_t)(vcpu->tr.base + at), size, sp));
    TRY(mem_load_system(vcpu, (uint32_t)(vcpu->tr.base + at + size), 2, &value));
    *ss = (uint16_t)value;
    return STEP_NEXT;
}
