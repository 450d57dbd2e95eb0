/* conformance/system/vcpu.h - cases on the software vCPU: the arena is all the memory that it has. */
#ifndef CONFORMANCE_SYSTEM_VCPU_H
#define CONFORMANCE_SYSTEM_VCPU_H

#include "image.h"

#include "unit/soft_rig.h"
#include "x86/x86.h"

/* What comes of a case. */
enum vcpu_end {
    VCPU_END_ANSWER,  /* struct system_answer is filled in */
    VCPU_END_ABSENT,  /* an instruction that is not there */
    VCPU_END_OUTSIDE, /* it reaches beyond the arena */
    VCPU_END_ENDLESS, /* it halts for good, or does not come to an end */
    VCPU_END_UNCLEAR, /* it cannot be compared: see vcpu.c */
    VCPU_END_COUNT,
};

struct vcpu {
    struct rig rig;
    struct x86_vcpu *cpu;
    uint8_t plain[SYSTEM_ARENA_BYTES]; /* as the case finds it */
};

void vcpu_open(struct vcpu *vcpu);
void vcpu_close(struct vcpu *vcpu);

/* @plain: the arena without patches. */
enum vcpu_end case_run(struct vcpu *vcpu, const uint8_t plain[SYSTEM_ARENA_BYTES],
                       const struct system_case *test, struct system_answer *answer);

/*
 * Once more, in single steps, as long as @look wants to see the next instruction. Events are delivered between. The
 * state at the end is as after case_run(), or the test fails.
 */
typedef bool vcpu_look_fn(void *opaque, const struct vcpu *vcpu);
void vcpu_walk(struct vcpu *vcpu, const struct system_case *test, vcpu_look_fn *look, void *opaque,
               const struct system_answer *answer);

#endif
