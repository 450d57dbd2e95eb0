/*
 * soft/vcpu_regs.c - KVM_GET_REGS, KVM_SET_REGS, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS.
 *
 * Source: Linux api.rst at each request.
 */
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>

#define RFLAGS_VM (UINT64_C(1) << 17)
#define DR6_KEPT UINT64_C(0xe00f)
#define DR6_ONES UINT64_C(0xffff0ff0)
#define DR7_KEPT UINT64_C(0xffff2bff)
#define DR7_ONES UINT64_C(0x400)

/* The structure's order, which is not that of the registers' numbers. */
static uint64_t *register_of(struct kvm_regs *regs, unsigned number)
{
    uint64_t *const places[] = {
        (uint64_t *)&regs->rax, (uint64_t *)&regs->rcx, (uint64_t *)&regs->rdx,
        (uint64_t *)&regs->rbx, (uint64_t *)&regs->rsp, (uint64_t *)&regs->rbp,
        (uint64_t *)&regs->rsi, (uint64_t *)&regs->rdi, (uint64_t *)&regs->r8,
        (uint64_t *)&regs->r9,  (uint64_t *)&regs->r10, (uint64_t *)&regs->r11,
        (uint64_t *)&regs->r12, (uint64_t *)&regs->r13, (uint64_t *)&regs->r14,
        (uint64_t *)&regs->r15};

    return places[number];
}

long ioctl_get_regs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_regs regs = {.rip = vcpu->x86->rip, .rflags = x86_get_rflags(vcpu->x86)};

    for (unsigned i = X86_RAX; i <= X86_R15; i++) {
        *register_of(&regs, i) = vcpu->x86->gpr[i];
    }
    return usercopy_to(argument, &regs, sizeof(regs));
}

long ioctl_set_regs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct x86_vcpu *cpu = vcpu->x86;
    uint64_t rflags_before = x86_get_rflags(cpu);
    struct kvm_regs regs;
    int rc = usercopy_from(&regs, argument, sizeof(regs));

    if (rc != 0) {
        return rc;
    }
    for (unsigned i = X86_RAX; i <= X86_R15; i++) {
        cpu->gpr[i] = *register_of(&regs, i);
    }
    cpu->rip = regs.rip;
    x86_set_rflags(cpu, regs.rflags);
    if (((rflags_before ^ regs.rflags) & RFLAGS_VM) != 0) {
        x86_state_changed(cpu); /* how segments are checked */
    }
    return 0;
}

long ioctl_get_debugregs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    const uint64_t *dr = vcpu->x86->dr;
    struct kvm_debugregs regs = {.dr6 = dr[6], .dr7 = dr[7]};

    for (unsigned i = 0; i < 4; i++) {
        regs.db[i] = dr[i];
    }
    return usercopy_to(argument, &regs, sizeof(regs));
}

/* Bits that no processor lets be written are as they are after a write by a guest. */
long ioctl_set_debugregs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    uint64_t *dr = vcpu->x86->dr;
    struct kvm_debugregs regs;
    int rc = usercopy_from(&regs, argument, sizeof(regs));

    if (rc != 0) {
        return rc;
    }
    if (regs.flags != 0 || regs.dr6 >> 32 != 0 || regs.dr7 >> 32 != 0) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < 4; i++) {
        dr[i] = regs.db[i];
    }
    dr[6] = (regs.dr6 & DR6_KEPT) | DR6_ONES;
    dr[7] = (regs.dr7 & DR7_KEPT) | DR7_ONES;
    x86_state_changed(vcpu->x86);
    return 0;
}
