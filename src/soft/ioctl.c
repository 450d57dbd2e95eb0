/*
 * soft/ioctl.c - which object has which request, and what the others say to it. As on Linux: an
 * unknown request is -EINVAL to the system and to a vCPU, and -ENOTTY to a VM.
 */
#include "soft/ioctl.h"

#include "kcore/ring.h"
#include "soft/soft.h"

#include <errno.h>
#include <limits.h>

/* kvm_run, the page of port data, and the page of coalesced MMIO: as Linux on x86. */
#define VCPU_MMAP_BYTES (3 * PAGE_BYTES_4K)

long gm_soft_system_ioctl(unsigned long request, unsigned long argument)
{
    switch (request) {
    case KVM_GET_API_VERSION:
        return argument != 0 ? -EINVAL : KVM_API_VERSION;
    case KVM_CHECK_EXTENSION:
        return ioctl_check_extension(argument);
    case KVM_GET_VCPU_MMAP_SIZE:
        return argument != 0 ? -EINVAL : (long)VCPU_MMAP_BYTES;
    default:
        return -EINVAL;
    }
}

/* A limit that was never set may be more than a result can say. */
static long page_limit(const struct gm_soft *soft)
{
    uint64_t limit = atomic_load_explicit(&soft->mmu.tables.used_max, memory_order_relaxed);

    return limit <= LONG_MAX ? (long)limit : LONG_MAX;
}

long gm_soft_vm_ioctl(struct gm_soft *soft, unsigned long request, unsigned long argument)
{
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
    default:
        return -ENOTTY;
    }
}

long gm_soft_vcpu_ioctl(struct gm_soft_vcpu *vcpu, unsigned long request, unsigned long argument)
{
    switch (request) {
    case KVM_PRE_FAULT_MEMORY:
        return ioctl_pre_fault(vcpu, argument);
    case KVM_TRANSLATE:
        return ioctl_translate(vcpu, argument);
    default:
        return -EINVAL;
    }
}
