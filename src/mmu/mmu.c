/* mmu/mmu.c - making and ending a VM's tables and a vCPU's part in them. */
#include "mmu/mmu.h"

#include "base/alloc.h"
#include "base/check.h"
#include "mmu/guest.h"
#include "mmu/take.h"
#include "mmu/tlb.h"

#include <errno.h>

static int make_roots(struct mmu *mmu)
{
    struct tables_cache cache = {0};
    int rc = tables_cache_fill(&mmu->tables, &cache);

    for (unsigned space = 0; space < KCORE_SPACES && rc == 0; space++) {
        atomic_store(&mmu->roots[space],
                     table_take(&mmu->tables, &cache, mmu->levels, space, (struct gfn){0}));
    }
    tables_cache_drain(&mmu->tables, &cache);
    return rc;
}

int mmu_init(struct mmu *mmu, struct kcore *core, const struct mmu_options *options)
{
    int rc;

    if (options->levels < 4 || options->levels > EPT_LEVELS_MAX || options->memory_type > 7) {
        return -EINVAL;
    }
    memset(mmu, 0, sizeof(*mmu));
    mmu->allocator = *mem_allocator_or_default(options->allocator);
    mmu->core = core;
    mmu->levels = options->levels;
    mmu->memory_type = options->memory_type;
    mmu->log_buffer = options->log_buffer;
    mmu->eager_split = options->eager_split;
    mmu->page_bytes = options->page_bytes;
    mmu->opaque = options->opaque;
    shadow_init(&mmu->shadow, options->shadow_paging);
    rc = lock_init(&mmu->lock, LOCK_RANK_MMU);
    if (rc != 0) {
        return rc;
    }
    rc = gate_init(&mmu->installers);
    if (rc != 0) {
        goto out_lock;
    }
    rc = flush_log_init(&mmu->flush_log);
    if (rc != 0) {
        goto out_gate;
    }
    rc = tables_init(&mmu->tables, &mmu->allocator, MMU_PAGES_DEFAULT);
    if (rc != 0) {
        goto out_log;
    }
    rc = make_roots(mmu);
    if (rc != 0) {
        goto out_tables;
    }
    return 0;

out_tables:
    tables_fini(&mmu->tables);
out_log:
    flush_log_fini(&mmu->flush_log);
out_gate:
    gate_fini(&mmu->installers);
out_lock:
    lock_fini(&mmu->lock);
    return rc;
}

void mmu_fini(struct mmu *mmu)
{
    struct retired retired = {0};

    shadow_fini(mmu);
    for (unsigned space = 0; space < KCORE_SPACES; space++) {
        retire_tree((struct mmu_locked){mmu}, atomic_load(&mmu->roots[space]), &retired);
    }
    tables_free_retired(mmu->core->deferred, &retired);
    rcu_domain_drain(mmu->core->deferred);
    tables_fini(&mmu->tables);
    flush_log_fini(&mmu->flush_log);
    gate_fini(&mmu->installers);
    lock_fini(&mmu->lock);
}

/* Installers are never asked to hurry: they do not block. */
static void no_kick(void *opaque)
{
    (void)opaque;
}

int mmu_vcpu_init(struct mmu_vcpu *vcpu, struct mmu *mmu, unsigned id)
{
    int rc;

    memset(vcpu, 0, sizeof(*vcpu));
    vcpu->mmu = mmu;
    linear_init(&vcpu->linear);
    rc = tlb_init(vcpu);
    if (rc != 0) {
        return rc;
    }
    if (mmu->log_buffer) {
        vcpu->log_buffer =
            mem_alloc(&mmu->allocator, MMU_LOG_ENTRIES * sizeof(vcpu->log_buffer[0]));
        rc = vcpu->log_buffer != NULL ? 0 : -ENOMEM;
    }
    if (rc == 0) {
        rc = kcore_vcpu_init(&vcpu->base, mmu->core, id, &vcpu->face.requests);
    }
    if (rc != 0) {
        mem_free(&mmu->allocator, vcpu->log_buffer);
        tlb_fini(vcpu);
        return rc;
    }
    gate_add(&mmu->installers, &vcpu->installer, no_kick, NULL);
    return 0;
}

static void add_count(atomic_ullong *to, const atomic_ullong *from)
{
    count_up(to, atomic_load_explicit(from, memory_order_relaxed));
}

static void add_counts(struct mmu_counts *to, const struct mmu_counts *from)
{
    add_count(&to->faults, &from->faults);
    add_count(&to->faults_fixed, &from->faults_fixed);
    add_count(&to->faults_spurious, &from->faults_spurious);
    add_count(&to->faults_retried, &from->faults_retried);
    add_count(&to->mmio, &from->mmio);
    add_count(&to->flushes, &from->flushes);
    add_count(&to->splits, &from->splits);
    add_count(&to->collapses, &from->collapses);
    add_count(&to->reclaimed, &from->reclaimed);
    for (unsigned level = 1; level <= EPT_LEAF_LEVEL_MAX; level++) {
        add_count(&to->leaves[level], &from->leaves[level]);
    }
}

void mmu_sum_counts(struct mmu *mmu, struct mmu_counts *sum)
{
    struct kcore *core = mmu->core;

    memset(sum, 0, sizeof(*sum));
    lock_take(&mmu->lock);
    lock_take(&core->vcpus_lock);
    add_counts(sum, &mmu->counts);
    for (struct kcore_vcpu *base = core->vcpus; base != NULL; base = base->next) {
        const struct mmu_vcpu *vcpu = mmu_vcpu_of_base(base);

        if (!vcpu->counts_are_summed) {
            add_counts(sum, &vcpu->counts);
        }
    }
    lock_drop(&core->vcpus_lock);
    lock_drop(&mmu->lock);
}

void mmu_vcpu_fini(struct mmu_vcpu *vcpu)
{
    struct mmu *mmu = vcpu->mmu;

    GM_ASSERT(!vcpu->base.in_guest);
    gate_remove(&mmu->installers, &vcpu->installer);
    lock_take(&mmu->lock);
    add_counts(&mmu->counts, &vcpu->counts);
    vcpu->counts_are_summed = true;
    lock_drop(&mmu->lock);
    kcore_vcpu_fini(&vcpu->base);
    shadow_vcpu_fini(vcpu);
    tables_cache_drain(&mmu->tables, &vcpu->cache);
    mem_free(&mmu->allocator, vcpu->log_buffer);
    tlb_fini(vcpu);
}

int mmu_vcpu_set_space(struct mmu_vcpu *vcpu, unsigned space)
{
    if (space >= vcpu->mmu->core->spaces || vcpu->base.in_guest) {
        return -EINVAL;
    }
    vcpu->space = space;
    linear_forget(vcpu); /* contexts are of one space; the new tags are published with it */
    return 0;
}
