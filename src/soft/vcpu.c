/* soft/vcpu.c - vCPUs of a software VM: mmu's, each made under the VM's lock. */
#include "base/alloc.h"
#include "soft/soft.h"

#include <errno.h>

int gm_soft_vcpu_new(struct gm_soft *soft, unsigned id, struct gm_soft_vcpu **out)
{
    struct gm_soft_vcpu *vcpu;
    int rc;

    if (id >= KCORE_VCPU_IDS) {
        return -EINVAL;
    }
    vcpu = mem_zalloc(&soft->allocator, sizeof(*vcpu));
    if (vcpu == NULL) {
        return -ENOMEM;
    }
    vcpu->soft = soft;
    lock_take(&soft->lock);
    rc = private_make_apic(soft);
    if (rc == 0) {
        rc = mmu_vcpu_init(&vcpu->mmu, &soft->mmu, id);
    }
    lock_drop(&soft->lock);
    if (rc != 0) {
        mem_free(&soft->allocator, vcpu);
        return rc;
    }
    *out = vcpu;
    return 0;
}

void gm_soft_vcpu_free(struct gm_soft_vcpu *vcpu)
{
    if (vcpu != NULL) {
        struct gm_soft *soft = vcpu->soft;

        mmu_vcpu_fini(&vcpu->mmu);
        mem_free(&soft->allocator, vcpu);
    }
}

struct gm_mmu *gm_soft_vcpu_mmu(struct gm_soft_vcpu *vcpu)
{
    return &vcpu->mmu.face;
}

int gm_soft_vcpu_set_space(struct gm_soft_vcpu *vcpu, unsigned space)
{
    return mmu_vcpu_set_space(&vcpu->mmu, space);
}

void *gm_soft_vcpu_ring(struct gm_soft_vcpu *vcpu, uint32_t *entry_count)
{
    struct ring *ring = &vcpu->mmu.base.ring;

    *entry_count = ring->entry_count;
    return ring->entries;
}

bool soft_has_vcpus(struct gm_soft *soft)
{
    bool has;

    lock_take(&soft->core.vcpus_lock);
    has = soft->core.vcpus != NULL;
    lock_drop(&soft->core.vcpus_lock);
    return has;
}

bool soft_had_vcpus(struct gm_soft *soft)
{
    bool had;

    lock_take(&soft->core.slots_lock);
    had = soft->core.vcpu_count != 0;
    lock_drop(&soft->core.slots_lock);
    return had;
}
