/*
 * soft/ioctl_slots.c - KVM_SET_USER_MEMORY_REGION and _REGION2, and what says how slots are used:
 * attributes, guest memfds, the identity map, faulting in advance.
 *
 * Source: Linux api.rst at each request. Padding that Linux passes over is passed over here.
 */
#include "base/addr.h"
#include "kcore/attributes.h"
#include "mmu/guest.h"
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <stddef.h>

#define REGION_FLAGS (KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)

_Static_assert(KVM_MEM_LOG_DIRTY_PAGES == MEMSLOT_LOG && KVM_MEM_READONLY == MEMSLOT_READONLY &&
                   KVM_MEM_GUEST_MEMFD == MEMSLOT_GUEST_MEMFD,
               "flags are handed to kcore as they are");
_Static_assert(sizeof(struct kvm_userspace_memory_region) ==
                   offsetof(struct kvm_userspace_memory_region2, guest_memfd_offset),
               "the newer structure begins with the older one");

static struct memslot_change change_of(const struct kvm_userspace_memory_region2 *region)
{
    return (struct memslot_change){
        .slot = region->slot,
        .flags = region->flags,
        .gpa = region->guest_phys_addr,
        .size_bytes = region->memory_size,
        .hva = region->userspace_addr,
    };
}

/*
 * The part of the file cannot be had, for the reason @rc. But Linux looks for that last: what is
 * wrong with the slot itself comes first. A list whose second change is never right is checked, and
 * not carried out, and tells which of them was the first to be wrong.
 */
static int error_before(struct gm_soft *soft, struct memslot_change change, int rc)
{
    struct memslot_change changes[2] = {change, {.flags = SOFT_FLAG_UNKNOWN}};
    size_t failed = 0;
    int slot_rc;

    changes[0].private_hva = PAGE_BYTES_4K; /* of no use, but aligned */
    slot_rc = kcore_apply(&soft->core, changes, 2, &failed);
    return failed == 0 ? slot_rc : rc;
}

/* A slot whose private pages lie in a guest memfd is made. */
static int set_private_region(struct gm_soft *soft,
                              const struct kvm_userspace_memory_region2 *region)
{
    struct memslot_change change = change_of(region);
    struct guest_memfd_binding *binding;
    int rc = guest_memfd_bind(soft, region->guest_memfd, region->guest_memfd_offset,
                              region->memory_size, &binding);

    if (rc != 0) {
        return error_before(soft, change, rc);
    }
    change.private_hva = guest_memfd_hva(binding).value;
    change.private_owner = binding;
    rc = kcore_apply(&soft->core, &change, 1, NULL);
    if (rc != 0) {
        guest_memfd_unbind(soft, binding);
    }
    return rc;
}

int soft_set_region(struct gm_soft *soft, const struct kvm_userspace_memory_region2 *region)
{
    struct memslot_change change = change_of(region);
    uint64_t offset = region->guest_memfd_offset;

    if ((region->flags & KVM_MEM_GUEST_MEMFD) != 0) {
        if (offset % PAGE_BYTES_4K != 0 ||
            !range_holds(0, UINT64_MAX, offset, region->memory_size)) {
            return -EINVAL;
        }
        if (region->memory_size != 0) {
            return set_private_region(soft, region);
        }
    }
    return kcore_apply(&soft->core, &change, 1, NULL);
}

long ioctl_set_region(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_userspace_memory_region2 region = {0};
    int rc = usercopy_from(&region, argument, sizeof(struct kvm_userspace_memory_region));

    if (rc != 0) {
        return rc;
    }
    if ((region.flags & ~REGION_FLAGS) != 0) {
        return -EINVAL;
    }
    return soft_set_region(soft, &region);
}

long ioctl_set_region2(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_userspace_memory_region2 region;
    int rc = usercopy_from(&region, argument, sizeof(region));

    return rc != 0 ? rc : soft_set_region(soft, &region);
}

long ioctl_set_attributes(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_memory_attributes wanted;
    int rc = usercopy_from(&wanted, argument, sizeof(wanted));

    if (rc != 0) {
        return rc;
    }
    if (wanted.flags != 0) {
        return -EINVAL;
    }
    return kcore_set_attributes(&soft->core, wanted.address, wanted.size, wanted.attributes);
}

long ioctl_create_guest_memfd(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_create_guest_memfd wanted;
    int rc = usercopy_from(&wanted, argument, sizeof(wanted));

    return rc != 0 ? rc : guest_memfd_create(soft, wanted.size, wanted.flags);
}

long ioctl_set_identity(struct gm_soft *soft, uint64_t argument)
{
    uint64_t gpa;
    int rc = usercopy_from(&gpa, argument, sizeof(gpa));

    lock_take(&soft->lock);
    /* Linux looks for vCPUs before it looks at the argument. */
    if (soft_had_vcpus(soft)) {
        rc = -EINVAL;
    } else if (rc == 0) {
        rc = private_set_identity(soft, gpa);
    }
    lock_drop(&soft->lock);
    return rc;
}

/* As the system sees it: a supervisor's read. Linux says "writeable" and "not the user's" of every page. */
long ioctl_translate(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct gm_mmu_translation translation;
    struct kvm_translation wanted;
    int rc = usercopy_from(&wanted, argument, sizeof(wanted));

    if (rc != 0) {
        return rc;
    }
    (void)vcpu_sync_paging(vcpu); /* else by the registers that the mmu had */
    guest_enter_at_boundary(&vcpu->mmu);
    (void)gm_mmu_explain(&vcpu->mmu.face, wanted.linear_address, GM_MMU_READ, GM_MMU_SUPERVISOR_AC,
                         &translation);
    gm_mmu_leave(&vcpu->mmu.face);
    wanted.valid = translation.outcome == GM_MMU_OK;
    wanted.physical_address = wanted.valid ? translation.gpa : UINT64_MAX;
    wanted.writeable = 1;
    wanted.usermode = 0;
    return usercopy_to(argument, &wanted, sizeof(wanted));
}

/* What was done counts, even if the rest cannot be: the next call will say why. */
long ioctl_pre_fault(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_pre_fault_memory range;
    uint64_t size_before;
    int rc = usercopy_from(&range, argument, sizeof(range));

    if (rc != 0) {
        return rc;
    }
    size_before = range.size;
    if (range.flags != 0) {
        rc = -EINVAL;
    } else {
        uint64_t gpa = range.gpa;
        uint64_t size_bytes = range.size;

        rc = mmu_prefault(&vcpu->mmu, &gpa, &size_bytes);
        range.gpa = gpa;
        range.size = size_bytes;
    }
    if (usercopy_to(argument, &range, sizeof(range)) != 0) {
        return -EFAULT;
    }
    return range.size != size_before ? 0 : rc;
}
