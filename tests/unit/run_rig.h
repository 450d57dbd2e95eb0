/*
 * unit/run_rig.h - a software VM with vCPUs that KVM_RUN runs: 1 MiB of memory from 0, code in real mode.
 */
#ifndef UNIT_RUN_RIG_H
#define UNIT_RUN_RIG_H

#include "soft_rig.h"

#include "soft/soft.h"

#include <errno.h>

enum {
    RUN_CODE = 0x1000,
    RUN_STACK = 0x8000,
    RUN_MMIO = 0x100000, /* the first byte behind memory: DS of 0xf000, offset 0x10000 - 0x... */
};

/* Real mode with flat 4 GiB segments ("unreal"), about to run @count bytes at RUN_CODE. */
static inline void run_load(struct rig *rig, struct gm_soft_vcpu *vcpu, const void *code,
                            size_t count)
{
    struct x86_vcpu *cpu = vcpu->x86;

    memcpy(rig->memory + RUN_CODE, code, count);
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        cpu->segment[i].base = 0;
        cpu->segment[i].selector = 0;
        cpu->segment[i].limit = UINT32_MAX;
    }
    cpu->rip = RUN_CODE;
    cpu->gpr[X86_RSP] = RUN_STACK;
    x86_state_changed(cpu);
}

static inline struct rig run_rig_new(const struct gm_soft_options *options)
{
    struct rig rig = rig_new(options);

    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    return rig;
}

#define RUN_LOAD(rig, literal) run_load((rig), (rig)->vcpu, (literal), sizeof(literal) - 1)

static inline long run(struct rig *rig)
{
    return gm_soft_vcpu_ioctl(rig->vcpu, KVM_RUN, 0);
}

static inline struct kvm_run *run_page(const struct rig *rig)
{
    return gm_soft_vcpu_run_page(rig->vcpu);
}

static inline void assert_run_exits(struct rig *rig, unsigned reason)
{
    assert_int_equal(run(rig), 0);
    assert_int_equal(run_page(rig)->exit_reason, reason);
}

#endif
