/*
 * x86/seg.h - segment registers, descriptors, and what of the vCPU is derived from them.
 */
#ifndef X86_SEG_H
#define X86_SEG_H

#include "x86/insn.h"

/* Descriptor types of the system (Intel SDM 3A, table 3-2). */
enum {
    SYS_TSS16 = 1,
    SYS_LDT = 2,
    SYS_TSS16_BUSY = 3,
    SYS_CALL_GATE16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INTERRUPT_GATE16 = 6,
    SYS_TRAP_GATE16 = 7,
    SYS_TSS = 9,
    SYS_TSS_BUSY = 11,
    SYS_CALL_GATE = 12,
    SYS_INTERRUPT_GATE = 14,
    SYS_TRAP_GATE = 15,
};

/* A descriptor as it lies in a table; 64-bit mode's system descriptors have a second half. */
struct descriptor {
    uint64_t low, high;
    uint64_t linear; /* where it lies */
};

/* What is derived from a segment register; from all registers that say how code runs. */
void seg_derive(struct x86_vcpu *vcpu, struct x86_segment *segment);
void seg_derive_mode(struct x86_vcpu *vcpu);

/* As real and virtual-8086 mode load it: only selector and base; or, in the latter, all. */
void seg_load_real(struct x86_vcpu *vcpu, enum x86_segment_number number, uint16_t selector);

/* Read a selector's descriptor. Past its table's end: @vector with the selector. Nothing is loaded. */
enum step seg_read_descriptor(struct x86_vcpu *vcpu, uint16_t selector, uint8_t vector,
                              struct descriptor *descriptor);
/* ... its second half, in long mode. */
enum step seg_read_high(struct x86_vcpu *vcpu, uint16_t selector, uint8_t vector,
                        struct descriptor *descriptor);
/* Is the selector within its table? */
bool seg_is_in_table(const struct x86_vcpu *vcpu, uint16_t selector, uint64_t *linear);
void seg_unpack(const struct descriptor *descriptor, uint16_t selector,
                struct x86_segment *segment);
/* Set the descriptor's accessed flag in memory, if it is not. */
enum step seg_mark_accessed(struct x86_vcpu *vcpu, struct descriptor *descriptor);

/* MOV, POP and LDS to a data or stack segment register: every check of the mode. Not CS. */
enum step seg_load(struct x86_vcpu *vcpu, enum x86_segment_number number, uint16_t selector);

/* What a stack segment must be for @cpl; @vector of a bad one: #GP for MOV, #TS for a switch of stacks. */
enum step seg_prepare_stack(struct x86_vcpu *vcpu, uint16_t selector, unsigned cpl, uint8_t vector,
                            struct x86_segment *segment);

/* A code segment becomes CS, at a privilege level; SS's hidden level follows. */
void seg_commit_code(struct x86_vcpu *vcpu, const struct x86_segment *segment, unsigned cpl);
void seg_commit_stack(struct x86_vcpu *vcpu, const struct x86_segment *segment);
/* A null SS, as 64-bit mode has it, at a level. */
struct x86_segment seg_null_stack(unsigned level);
/* After a return to an outer level: data segments that it may not use are gone. */
void seg_drop_inner(struct x86_vcpu *vcpu);
/* What is a code segment in the mode: not both 64-bit and 32-bit. */
bool seg_is_code_valid(const struct x86_vcpu *vcpu, const struct descriptor *descriptor);

/* A stack that is pushed to before it is the vCPU's: nothing changes but memory. */
struct seg_frame {
    struct x86_segment segment;
    uint64_t sp;
    uint64_t mask;
    enum gm_mmu_view view;
    bool is_64;       /* the segment does not count */
    bool is_switched; /* its faults have its selector as the error code */
};
enum step seg_frame_push(struct x86_vcpu *vcpu, struct seg_frame *frame, unsigned size,
                         uint64_t value);
enum step seg_frame_pop(struct x86_vcpu *vcpu, struct seg_frame *frame, unsigned size,
                        uint64_t *value);
/* The stack as it is now. */
struct seg_frame seg_frame_now(const struct x86_vcpu *vcpu);
/* What RSP becomes. */
uint64_t seg_frame_sp(const struct x86_vcpu *vcpu, const struct seg_frame *frame);

/* Loads of the TSS's: the stack of a privilege level. */
enum step seg_stack_of_level(struct x86_vcpu *vcpu, unsigned level, uint16_t *ss, uint64_t *sp);

static inline unsigned descriptor_type(const struct descriptor *descriptor)
{
    return (unsigned)(descriptor->low >> 40) & 15;
}

static inline bool descriptor_is_system(const struct descriptor *descriptor)
{
    return (descriptor->low >> 44 & 1) == 0;
}

static inline unsigned descriptor_dpl(const struct descriptor *descriptor)
{
    return (unsigned)(descriptor->low >> 45) & 3;
}

static inline bool descriptor_is_present(const struct descriptor *descriptor)
{
    return (descriptor->low >> 47 & 1) != 0;
}

static inline bool descriptor_is_code(const struct descriptor *descriptor)
{
    return !descriptor_is_system(descriptor) && (descriptor_type(descriptor) & 8) != 0;
}

static inline bool descriptor_is_conforming(const struct descriptor *descriptor)
{
    return descriptor_is_code(descriptor) && (descriptor_type(descriptor) & 4) != 0;
}

static inline bool descriptor_is_long(const struct descriptor *descriptor)
{
    return (descriptor->low >> 53 & 1) != 0;
}

/* Raise with a selector as the error code. */
static inline enum step raise_selector(struct x86_vcpu *vcpu, uint8_t vector, uint16_t selector)
{
    return step_raise_code(vcpu, vector, selector & ~3u);
}

#endif
