/* mmu/prefault.c - mapping pages before they are touched (Linux api.rst, KVM_PRE_FAULT_MEMORY). */
#include "kcore/vcpu.h"
#include "mmu/fault.h"
#include "mmu/mmu.h"

#include <errno.h>

static bool has_slot(struct mmu_vcpu *vcpu, struct gfn gfn)
{
    bool found;

    rcu_enter();
    found = memslots_find(kcore_slots(vcpu->mmu->core, vcpu->space), gfn) != NULL;
    rcu_leave();
    return found;
}

/* Map the page, for reading. Return: 0, and the level of its leaf; -errno. */
static int prefault_page(struct mmu_vcpu *vcpu, struct gfn gfn, unsigned *level)
{
    for (;;) {
        struct fault fault = {.gfn = gfn, .access = GM_MMU_READ, .level = 1};

        if (!has_slot(vcpu, gfn)) {
            return -ENOENT;
        }
        switch (fault_handle(vcpu, &fault)) {
        case FAULT_FIXED:
            *level = fault.level;
            return 0;
        case FAULT_RETRY:
            if ((__atomic_load_n(&vcpu->face.requests, __ATOMIC_RELAXED) & KCORE_REQUEST_KICK) !=
                0) {
                return -EINTR;
            }
            break;
        case FAULT_REFUSED:
        case FAULT_DENIED:
            return -EFAULT;
        case FAULT_ERROR:
            return fault.error;
        }
    }
}

int mmu_prefault(struct mmu_vcpu *vcpu, uint64_t *gpa, uint64_t *size_bytes)
{
    if (*gpa % PAGE_BYTES_4K != 0 || *size_bytes % PAGE_BYTES_4K != 0 || *size_bytes == 0 ||
        !range_holds(0, UINT64_MAX, *gpa, *size_bytes)) {
        return -EINVAL;
    }
    while (*size_bytes != 0) {
        unsigned level = 1;
        uint64_t leaf_left;
        int rc = prefault_page(vcpu, gfn_of(*gpa), &level);

        if (rc != 0) {
            return rc;
        }
        leaf_left = level_bytes(level) - *gpa % level_bytes(level);
        leaf_left = leaf_left < *size_bytes ? leaf_left : *size_bytes;
        *gpa += leaf_left;
        *size_bytes -= leaf_left;
        if (__atomic_load_n(&vcpu->face.requests, __ATOMIC_RELAXED) & KCORE_REQUEST_KICK) {
            return *size_bytes != 0 ? -EINTR : 0;
        }
    }
    return 0;
}
