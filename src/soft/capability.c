/*
 * soft/capability.c - what a software VM says it can do, and what it can be told to do differently.
 *
 * Values are those of Linux on x86. A capability that is not here is 0: also those of processors
 * and interrupts, which this part does not have.
 * Source: Linux api.rst, sections 7 and 8.
 */
#include "kcore/attributes.h"
#include "kcore/dirtylog.h"
#include "kcore/ring.h"
#include "soft/ioctl.h"
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
    {KVM_CAP_PRE_FAULT_MEMORY, 1},
    {KVM_CAP_CHECK_EXTENSION_VM, 1},
    {KVM_CAP_ENABLE_CAP_VM, 1},
    {KVM_CAP_MAX_VCPUS, KCORE_VCPU_IDS},
    {KVM_CAP_MAX_VCPU_ID, KCORE_VCPU_IDS},
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
    default:
        return -EINVAL;
    }
}
