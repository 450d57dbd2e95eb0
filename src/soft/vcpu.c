/* soft/vcpu.c - vCPUs of a software VM: the interpreter over mmu's, with a kvm_run area. */
#include "base/alloc.h"
#include "soft/soft.h"

#include <errno.h>
#include <sys/mman.h>

/* What the vCPU needs before anyone else can see it. */
static int make_parts(struct gm_soft_vcpu *vcpu)
{
    struct gm_soft *soft = vcpu->soft;
    int rc = lock_init(&vcpu->lock, LOCK_RANK_VCPU);

    if (rc != 0) {
        return rc;
    }
    vcpu->run =
        mmap(NULL, VCPU_RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (vcpu->run == MAP_FAILED) {
        rc = -ENOMEM;
        goto out_lock;
    }
    rc = iobuses_show_ring(&soft->iobuses, (uint8_t *)vcpu->run + VCPU_RING_OFFSET);
    if (rc != 0) {
        goto out_run;
    }
    rc = x86_vcpu_new(&vcpu->mmu.face, &soft->allocator, &vcpu->x86);
    if (rc != 0) {
        goto out_run;
    }
    mce_init(&vcpu->mce);
    vcpu->x86->hooks = soft_hooks(vcpu);
    vcpu->x86->ahead_bytes_max = X86_AHEAD_BYTES;
    return 0;

out_run:
    munmap(vcpu->run, VCPU_RUN_BYTES);
out_lock:
    lock_fini(&vcpu->lock);
    return rc;
}

static void free_parts(struct gm_soft_vcpu *vcpu)
{
    x86_vcpu_free(vcpu->x86);
    mem_free(&vcpu->soft->allocator, vcpu->cpuid);
    munmap(vcpu->run, VCPU_RUN_BYTES);
    lock_fini(&vcpu->lock);
}

/* From here on changes of slots wait for it. */
static int join_vm(struct gm_soft_vcpu *vcpu)
{
    struct gm_soft *soft = vcpu->soft;
    int rc;

    lock_take(&soft->lock);
    rc = soft->vcpu_ids_limit != 0 && vcpu->id >= soft->vcpu_ids_limit ? -EINVAL
                                                                       : private_make_apic(soft);
    if (rc == 0) {
        rc = mmu_vcpu_init(&vcpu->mmu, &soft->mmu, vcpu->id);
    }
    if (rc == 0) {
        clock_add_vcpu(vcpu);
        rc = chips_add_vcpu(vcpu);
        if (rc != 0) {
            mmu_vcpu_fini(&vcpu->mmu);
        }
    }
    if (rc == 0) {
        soft_ring_add(vcpu);
    }
    lock_drop(&soft->lock);
    return rc;
}

int gm_soft_vcpu_new(struct gm_soft *soft, unsigned id, struct gm_soft_vcpu **out)
{
    struct gm_soft_vcpu *vcpu;
    int rc;

    if (soft_is_copy(soft)) {
        return -EIO;
    }
    if (id >= KCORE_VCPU_IDS) {
        return -EINVAL;
    }
    vcpu = mem_zalloc(&soft->allocator, sizeof(*vcpu));
    if (vcpu == NULL) {
        return -ENOMEM;
    }
    vcpu->soft = soft;
    vcpu->id = id;
    rc = make_parts(vcpu);
    if (rc != 0) {
        goto out_free;
    }
    rc = join_vm(vcpu);
    if (rc != 0) {
        goto out_parts;
    }
    *out = vcpu;
    return 0;

out_parts:
    free_parts(vcpu);
out_free:
    mem_free(&soft->allocator, vcpu);
    return rc;
}

void gm_soft_vcpu_free(struct gm_soft_vcpu *vcpu)
{
    if (vcpu != NULL) {
        struct gm_soft *soft = vcpu->soft;
        bool is_copy = soft_is_copy(soft);

        if (is_copy) {
            alone_begin();
        }
        chips_remove_vcpu(vcpu);
        lock_take(&soft->lock);
        soft_ring_remove(vcpu);
        mmu_vcpu_fini(&vcpu->mmu);
        lock_drop(&soft->lock);
        free_parts(vcpu);
        mem_free(&soft->allocator, vcpu);
        if (is_copy) {
            alone_end();
        }
    }
}

struct kvm_run *gm_soft_vcpu_run_page(struct gm_soft_vcpu *vcpu)
{
    return vcpu->run;
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

unsigned soft_count_vcpus(struct gm_soft *soft)
{
    unsigned count = 0;

    lock_take(&soft->core.vcpus_lock);
    for (const struct kcore_vcpu *vcpu = soft->core.vcpus; vcpu != NULL; vcpu = vcpu->next) {
        count++;
    }
    lock_drop(&soft->core.vcpus_lock);
    return count;
}

bool soft_had_vcpus(struct gm_soft *soft)
{
    bool had;

    lock_take(&soft->core.slots_lock);
    had = soft->core.vcpu_count != 0;
    lock_drop(&soft->core.slots_lock);
    return had;
}

int soft_limit_vcpu_ids(struct gm_soft *soft, uint64_t limit)
{
    int rc = 0;

    lock_take(&soft->lock);
    if (limit > KCORE_VCPU_IDS || (soft->vcpu_ids_limit != 0 && soft->vcpu_ids_limit != limit)) {
        rc = -EINVAL;
    } else {
        soft->vcpu_ids_limit = (unsigned)limit;
    }
    lock_drop(&soft->lock);
    return rc;
}

/* One that no vCPU will have is taken, as in Linux: then there is none. */
int soft_set_boot_vcpu(struct gm_soft *soft, uint64_t id)
{
    int rc = 0;

    lock_take(&soft->lock);
    if (soft_had_vcpus(soft)) {
        rc = -EBUSY;
    } else {
        soft->boot_vcpu = (unsigned)id;
    }
    lock_drop(&soft->lock);
    return rc;
}
