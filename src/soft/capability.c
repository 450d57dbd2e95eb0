/*
 * soft/capability.c - what a software VM says it can do, and what it can be told to do differently.
 *
 * Values are those of Linux on x86. A capability that is not here is 0.
 * Source: Linux api.rst, sections 7 and 8.
 */
#include "kcore/attributes.h"
#include "kcore/dirtylog.h"
#include "kcore/ring.h"
#include "soft/ioctl.h"
#include "soft/run.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <unistd.h>

#define RING_BYTES_MAX ((long)(RING_ENTRIES_MAX * sizeof(struct kvm_dirty_gfn)))

struct capability {
    uint32_t number;
    long value;
};

static const struct capability CAPABILITIES[] = {
    {KVM_CAP_USER_MEMORY, 1},
    {KVM_CAP_USER_MEMORY2, 1},
    {KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1},
    {KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1},
    {KVM_CAP_NR_MEMSLOTS, MEMSLOT_USER_IDS},
    {KVM_CAP_MULTI_ADDRESS_SPACE, KCORE_SPACES},
    {KVM_CAP_READONLY_MEM, 1},
    {KVM_CAP_SYNC_MMU, 1},
    {KVM_CAP_MMU_SHADOW_CACHE_CONTROL, 1},
    {KVM_CAP_SET_TSS_ADDR, 1},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, 1},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
     KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET},
    {KVM_CAP_DIRTY_LOG_RING, RING_BYTES_MAX},
    {KVM_CAP_DIRTY_LOG_RING_ACQ_REL, RING_BYTES_MAX},
    {KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 1},
    {KVM_CAP_MEMORY_ATTRIBUTES, ATTRIBUTES_ALL},
    {KVM_CAP_MEMORY_FAULT_INFO, 1},
    {KVM_CAP_GUEST_MEMFD, 1},
    {KVM_CAP_GUEST_MEMFD_FLAGS, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED},
    {KVM_CAP_PRE_FAULT_MEMORY, 1},
    {KVM_CAP_CHECK_EXTENSION_VM, 1},
    {KVM_CAP_ENABLE_CAP_VM, 1},
    {KVM_CAP_EXT_CPUID, 1},
    {KVM_CAP_EXT_EMUL_CPUID, 1},
    {KVM_CAP_GET_MSR_FEATURES, 1},
    {KVM_CAP_SREGS2, 1},
    {KVM_CAP_XSAVE, 1},
    {KVM_CAP_XSAVE2, sizeof(struct kvm_xsave)},
    {KVM_CAP_XCRS, 1},
    {KVM_CAP_DEBUGREGS, 1},
    {KVM_CAP_VCPU_EVENTS, 1},
    {KVM_CAP_MP_STATE, 1},
    {KVM_CAP_USER_NMI, 1},
    {KVM_CAP_GET_TSC_KHZ, 1},
    {KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC},
    {KVM_CAP_KVMCLOCK_CTRL, 1},
    {KVM_CAP_MCE, MCE_BANKS},
    {KVM_CAP_SET_BOOT_CPU_ID, 1},
    {KVM_CAP_MSR_PLATFORM_INFO, 1},
    {KVM_CAP_X86_USER_SPACE_MSR, 1},
    {KVM_CAP_X86_MSR_FILTER, 1},
    {KVM_CAP_SET_GUEST_DEBUG, 1},
    {KVM_CAP_SET_GUEST_DEBUG2, GUEST_DEBUG_KNOWN},
    {KVM_CAP_MAX_VCPUS, KCORE_VCPU_IDS},
    {KVM_CAP_MAX_VCPU_ID, KCORE_VCPU_IDS},
    {KVM_CAP_COALESCED_MMIO, KVM_COALESCED_MMIO_PAGE_OFFSET},
    {KVM_CAP_COALESCED_PIO, 1},
    {KVM_CAP_IOEVENTFD, 1},
    {KVM_CAP_IOEVENTFD_NO_LENGTH, 1},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, 1},
    {KVM_CAP_IRQFD, 1},
    {KVM_CAP_IRQFD_RESAMPLE, 1},
    {KVM_CAP_IMMEDIATE_EXIT, 1},
    {KVM_CAP_SYNC_REGS, KVM_SYNC_X86_VALID_FIELDS},
    {KVM_CAP_INTERNAL_ERROR_DATA, 1},
    {KVM_CAP_IRQCHIP, 1},
    {KVM_CAP_HLT, 1},
    {KVM_CAP_PIT2, 1},
    {KVM_CAP_PIT_STATE2, 1},
    {KVM_CAP_IRQ_ROUTING, IRQCHIP_ROUTES_MAX},
    {KVM_CAP_IRQ_INJECT_STATUS, 1},
    {KVM_CAP_SIGNAL_MSI, 1},
    {KVM_CAP_TSC_DEADLINE_TIMER, 1},
    {KVM_CAP_X2APIC_API, CHIPS_X2APIC_API},
};

_Static_assert(ATTRIBUTE_PRIVATE == KVM_MEMORY_ATTRIBUTE_PRIVATE &&
                   ATTRIBUTE_NO_READ == GM_ATTRIBUTE_NO_READ &&
                   ATTRIBUTE_NO_WRITE == GM_ATTRIBUTE_NO_WRITE &&
                   ATTRIBUTE_NO_EXECUTE == GM_ATTRIBUTE_NO_EXECUTE,
               "kcore has attributes by other names, not other bits");

/* How many vCPUs make sense: no more than there are processors to run them. */
static long recommended_vcpus(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    if (online < 1) {
        return 1;
    }
    return online < (long)KCORE_VCPU_IDS ? online : (long)KCORE_VCPU_IDS;
}

long ioctl_check_extension(uint64_t number)
{
    if (number == KVM_CAP_NR_VCPUS) {
        return recommended_vcpus();
    }
    for (size_t i = 0; i < sizeof(CAPABILITIES) / sizeof(CAPABILITIES[0]); i++) {
        if (CAPABILITIES[i].number == number) {
            return CAPABILITIES[i].value;
        }
    }
    return 0;
}

/* Whether guests have MSR_PLATFORM_INFO. */
static long show_platform_info(struct gm_soft *soft, uint64_t is_shown)
{
    atomic_store(&soft->hides_platform_info, is_shown == 0);
    return 0;
}

long ioctl_enable_cap(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_enable_cap enable;
    int rc = usercopy_from(&enable, argument, sizeof(enable));

    if (rc != 0) {
        return rc;
    }
    switch (enable.cap) {
    case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
        return enable.flags != 0 ? -EINVAL : kcore_set_manual_protect(&soft->core, enable.args[0]);
    case KVM_CAP_DIRTY_LOG_RING:
    case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
        /* Linux takes a 32-bit size, and no notice of flags. */
        return kcore_enable_rings(&soft->core, (uint32_t)enable.args[0]);
    case KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP:
        return enable.flags != 0 ? -EINVAL : kcore_enable_ring_bitmap(&soft->core);
    case KVM_CAP_MAX_VCPU_ID:
        return enable.flags != 0 ? -EINVAL : soft_limit_vcpu_ids(soft, enable.args[0]);
    case KVM_CAP_MSR_PLATFORM_INFO:
        return enable.flags != 0 ? -EINVAL : show_platform_info(soft, enable.args[0]);
    case KVM_CAP_X2APIC_API:
        return enable.flags != 0 ? -EINVAL : chips_use_x2apic_api(soft, enable.args[0]);
    case KVM_CAP_X86_USER_SPACE_MSR:
        return enable.flags != 0 ? -EINVAL
                                 : msr_filter_set_reasons(&soft->msr_filter, enable.args[0]);
    default:
        return -EINVAL;
    }
}
