/*
 * soft/ioctl.c - which object has which request, and what the others say to it. As on Linux: an
 * unknown request is -EINVAL to the system and to a vCPU, and -ENOTTY to a VM.
 */
#include "soft/ioctl.h"

#include "kcore/ring.h"
#include "soft/run.h"
#include "soft/soft.h"

#include <errno.h>
#include <limits.h>

long gm_soft_system_ioctl(unsigned long request, unsigned long argument)
{
    switch (request) {
    case KVM_GET_API_VERSION:
        return argument != 0 ? -EINVAL : KVM_API_VERSION;
    case KVM_CHECK_EXTENSION:
        return ioctl_check_extension(argument);
    case KVM_GET_VCPU_MMAP_SIZE:
        return argument != 0 ? -EINVAL : (long)VCPU_RUN_BYTES;
    case KVM_GET_SUPPORTED_CPUID:
        return ioctl_get_supported_cpuid(argument);
    case KVM_GET_EMULATED_CPUID:
        return ioctl_get_emulated_cpuid(argument);
    case KVM_GET_MSR_INDEX_LIST:
        return ioctl_get_msr_indices(argument);
    case KVM_GET_MSR_FEATURE_INDEX_LIST:
        return ioctl_get_feature_msr_indices(argument);
    case KVM_X86_GET_MCE_CAP_SUPPORTED:
        return ioctl_get_mce_cap(argument);
    case KVM_GET_MSRS:
        return ioctl_get_feature_msrs(argument);
    default:
        return -EINVAL;
    }
}

/* Any limit can be set, also one that a result cannot say. */
static long page_limit(const struct gm_soft *soft)
{
    uint64_t limit = atomic_load_explicit(&soft->mmu.tables.used_max, memory_order_relaxed);

    return limit <= LONG_MAX ? (long)limit : LONG_MAX;
}

long gm_soft_vm_ioctl(struct gm_soft *soft, unsigned long request, unsigned long argument)
{
    long rc;

    if (soft_is_copy(soft)) {
        return -EIO;
    }
    switch (request) {
    case KVM_CHECK_EXTENSION:
        return ioctl_check_extension(argument);
    case KVM_ENABLE_CAP:
        return ioctl_enable_cap(soft, argument);
    case KVM_SET_USER_MEMORY_REGION:
        return ioctl_set_region(soft, argument);
    case KVM_SET_USER_MEMORY_REGION2:
        return ioctl_set_region2(soft, argument);
    case KVM_GET_DIRTY_LOG:
        return ioctl_get_log(soft, argument);
    case KVM_CLEAR_DIRTY_LOG:
        return ioctl_clear_log(soft, argument);
    case KVM_RESET_DIRTY_RINGS:
        return kcore_reset_rings(&soft->core);
    case KVM_SET_TSS_ADDR:
        return private_set_tss(soft, argument);
    case KVM_SET_IDENTITY_MAP_ADDR:
        return ioctl_set_identity(soft, argument);
    case KVM_SET_NR_MMU_PAGES:
        return mmu_set_page_limit(&soft->mmu, argument);
    case KVM_GET_NR_MMU_PAGES:
        return page_limit(soft);
    case KVM_SET_MEMORY_ATTRIBUTES:
        return ioctl_set_attributes(soft, argument);
    case KVM_CREATE_GUEST_MEMFD:
        return ioctl_create_guest_memfd(soft, argument);
    case KVM_SET_BOOT_CPU_ID:
        return soft_set_boot_vcpu(soft, argument);
    case KVM_X86_SET_MSR_FILTER:
        return ioctl_set_msr_filter(soft, argument);
    case KVM_GET_CLOCK:
        return ioctl_get_clock(soft, argument);
    case KVM_SET_CLOCK:
        return ioctl_set_clock(soft, argument);
    default:
        break;
    }
    rc = ioctl_vm_chips(soft, request, argument);
    return rc != -ENOTTY ? rc : ioctl_vm_io(soft, request, argument);
}

static long set_signal_mask(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    return signals_set_mask(&vcpu->signals, argument);
}

static long vcpu_ioctl(struct gm_soft_vcpu *vcpu, unsigned long request, unsigned long argument)
{
    static const struct {
        unsigned long request;
        long (*call)(struct gm_soft_vcpu *vcpu, uint64_t argument);
    } calls[] = {
        {KVM_SET_SIGNAL_MASK, set_signal_mask},
        {KVM_SET_GUEST_DEBUG, vcpu_set_guest_debug},
        {KVM_PRE_FAULT_MEMORY, ioctl_pre_fault},
        {KVM_TRANSLATE, ioctl_translate},
        {KVM_GET_REGS, ioctl_get_regs},
        {KVM_SET_REGS, ioctl_set_regs},
        {KVM_GET_SREGS, ioctl_get_sregs},
        {KVM_SET_SREGS, ioctl_set_sregs},
        {KVM_GET_SREGS2, ioctl_get_sregs2},
        {KVM_SET_SREGS2, ioctl_set_sregs2},
        {KVM_GET_FPU, ioctl_get_fpu},
        {KVM_SET_FPU, ioctl_set_fpu},
        {KVM_GET_XSAVE, ioctl_get_xsave},
        {KVM_GET_XSAVE2, ioctl_get_xsave},
        {KVM_SET_XSAVE, ioctl_set_xsave},
        {KVM_GET_XCRS, ioctl_get_xcrs},
        {KVM_SET_XCRS, ioctl_set_xcrs},
        {KVM_GET_DEBUGREGS, ioctl_get_debugregs},
        {KVM_SET_DEBUGREGS, ioctl_set_debugregs},
        {KVM_GET_MSRS, ioctl_get_msrs},
        {KVM_SET_MSRS, ioctl_set_msrs},
        {KVM_SET_CPUID, ioctl_set_cpuid},
        {KVM_SET_CPUID2, ioctl_set_cpuid2},
        {KVM_GET_CPUID2, ioctl_get_cpuid2},
        {KVM_GET_VCPU_EVENTS, ioctl_get_events},
        {KVM_SET_VCPU_EVENTS, ioctl_set_events},
        {KVM_INTERRUPT, ioctl_interrupt},
        {KVM_NMI, ioctl_nmi},
        {KVM_GET_MP_STATE, ioctl_get_mp_state},
        {KVM_SET_MP_STATE, ioctl_set_mp_state},
        {KVM_GET_TSC_KHZ, ioctl_get_tsc_khz},
        {KVM_SET_TSC_KHZ, ioctl_set_tsc_khz},
        {KVM_X86_SETUP_MCE, ioctl_setup_mce},
        {KVM_X86_SET_MCE, ioctl_set_mce},
        {KVM_KVMCLOCK_CTRL, ioctl_kvmclock_ctrl},
        {KVM_GET_LAPIC, ioctl_get_lapic},
        {KVM_SET_LAPIC, ioctl_set_lapic},
        {KVM_SET_VAPIC_ADDR, ioctl_set_vapic},
    };

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (calls[i].request == request) {
            return calls[i].call(vcpu, argument);
        }
    }
    return -EINVAL;
}

/* Signals are held away as long as there is a lock: a handler may leave by itself, or call for this vCPU. */
static long run_vcpu(struct gm_soft_vcpu *vcpu, unsigned long argument)
{
    uint64_t mask = signals_hold();
    long rc;

    lock_take(&vcpu->lock);
    signals_watch(&vcpu->signals, mask);
    rc = vcpu_run(vcpu, argument);
    lock_drop(&vcpu->lock);
    signals_release(mask);
    return rc;
}

long gm_soft_vcpu_ioctl(struct gm_soft_vcpu *vcpu, unsigned long request, unsigned long argument)
{
    long rc;

    if (soft_is_copy(vcpu->soft)) {
        return -EIO;
    }
    if (request == KVM_RUN) {
        return run_vcpu(vcpu, argument);
    }
    lock_take(&vcpu->lock);
    rc = vcpu_ioctl(vcpu, request, argument);
    lock_drop(&vcpu->lock);
    return rc;
}
