/* soft/soft.c - opening and closing a software VM, and what goes straight on to mmu. */
#include "soft/soft.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/diag.h"
#include "base/options.h"
#include "mmu/entry.h"
#include "mmu/host.h"

#include <errno.h>
#include <string.h>

#define GPA_BITS_MIN 36u
#define GPA_BITS_MAX 52u
#define GPA_BITS_OF_4_LEVELS 48u
#define MEMORY_TYPE_WRITE_BACK 6u

/* EPT memory types: uncacheable, write-combining, write-through, write-protected, write-back. */
static bool is_memory_type(unsigned type)
{
    return type <= MEMORY_TYPE_WRITE_BACK && type != 2 && type != 3;
}

static const struct options_kind OPTIONS = OPTIONS_KIND(gm_soft_options, opaque);

static int check_options(const struct gm_soft_options *options, struct gm_diag *diag)
{
    unsigned levels = options->ept_levels;
    unsigned bits = options->gpa_bits;

    if (bits != 0 && (bits < GPA_BITS_MIN || bits > GPA_BITS_MAX)) {
        return diag_set(diag, GM_DIAG_SOFT_OPTIONS, -EINVAL,
                        "guest addresses of %u bits: they have %u to %u", bits, GPA_BITS_MIN,
                        GPA_BITS_MAX);
    }
    if (levels != 0 && levels != 4 && levels != 5) {
        return diag_set(diag, GM_DIAG_SOFT_OPTIONS, -EINVAL,
                        "tables of %u levels: they have 4 or 5", levels);
    }
    if (levels == 4 && bits > GPA_BITS_OF_4_LEVELS) {
        return diag_set(diag, GM_DIAG_SOFT_OPTIONS, -EINVAL,
                        "guest addresses of %u bits take tables of 5 levels", bits);
    }
    if (options->log != GM_SOFT_LOG_PROTECT && options->log != GM_SOFT_LOG_BUFFER) {
        return diag_set(diag, GM_DIAG_SOFT_OPTIONS, -EINVAL, "%d is no way of logging writes",
                        (int)options->log);
    }
    if (!is_memory_type(options->memory_type)) {
        return diag_set(diag, GM_DIAG_SOFT_OPTIONS, -EINVAL, "%u is no memory type of EPT",
                        options->memory_type);
    }
    return 0;
}

/* Zeroes that stand for defaults become those. */
static void fill_in(struct gm_soft_options *options)
{
    if (options->gpa_bits == 0) {
        options->gpa_bits = options->ept_levels == 4 ? GPA_BITS_OF_4_LEVELS : GPA_BITS_MAX;
    }
    if (options->ept_levels == 0) {
        options->ept_levels = options->gpa_bits > GPA_BITS_OF_4_LEVELS ? 5 : 4;
    }
    if (options->memory_type == 0) {
        options->memory_type = MEMORY_TYPE_WRITE_BACK;
    }
}

/* kcore and mmu need each other; either may be told of the other first. */
static int init_parts(struct gm_soft *soft, const struct gm_soft_options *options)
{
    const struct kcore_options core = {
        .allocator = &soft->allocator,
        .spaces = KCORE_SPACES,
        .gpa_bits = options->gpa_bits,
        .generation_bits = EPT_MMIO_BITS,
        .arch_ops = &soft->arch_ops,
        .arch = &soft->mmu,
        .private_opaque = soft,
        .log_is_immediate = options->log == GM_SOFT_LOG_PROTECT,
    };
    const struct mmu_options mmu = {
        .allocator = &soft->allocator,
        .levels = options->ept_levels,
        .memory_type = options->memory_type,
        .log_buffer = options->log == GM_SOFT_LOG_BUFFER,
        .eager_split = options->eager_split,
        .shadow_paging = options->shadow_paging,
        .page_bytes = options->page_bytes,
        .opaque = options->opaque,
    };
    int rc = lock_init(&soft->lock, LOCK_RANK_SOFT);

    if (rc != 0) {
        return rc;
    }
    rc = guest_memfds_init(&soft->memfds);
    if (rc != 0) {
        goto out_lock;
    }
    rc = chips_init(&soft->chips);
    if (rc != 0) {
        goto out_memfds;
    }
    rc = clock_init(&soft->clock);
    if (rc != 0) {
        goto out_chips;
    }
    rc = msr_filter_init(&soft->msr_filter);
    if (rc != 0) {
        goto out_clock;
    }
    rc = iobuses_init(&soft->iobuses, &soft->allocator);
    if (rc != 0) {
        goto out_filter;
    }
    rc = irqfds_init(&soft->irqfds, &soft->allocator);
    if (rc != 0) {
        goto out_iobuses;
    }
    soft->arch_ops = mmu_arch_ops;
    soft->arch_ops.private_gone = guest_memfd_gone;
    rc = kcore_init(&soft->core, &core);
    if (rc != 0) {
        goto out_irqfds;
    }
    rc = mmu_init(&soft->mmu, &soft->core, &mmu);
    if (rc != 0) {
        goto out_core;
    }
    kcore_follow(&soft->core, &soft->memfds.follower);
    return 0;

out_core:
    kcore_fini(&soft->core);
out_irqfds:
    irqfds_fini(&soft->irqfds);
out_iobuses:
    iobuses_fini(&soft->iobuses);
out_filter:
    msr_filter_fini(&soft->msr_filter, &soft->allocator);
out_clock:
    clock_fini(&soft->clock);
out_chips:
    chips_fini(&soft->chips);
out_memfds:
    guest_memfds_fini(&soft->memfds, &soft->allocator);
out_lock:
    lock_fini(&soft->lock);
    return rc;
}

int gm_soft_open(const struct gm_soft_options *options, struct gm_soft **out, struct gm_diag *diag)
{
    struct gm_soft_options chosen;
    const struct gm_allocator *allocator;
    struct gm_soft *soft;
    int rc = options_take(&OPTIONS, &chosen, options, diag);

    if (rc == 0) {
        rc = check_options(&chosen, diag);
    }
    if (rc != 0) {
        return rc;
    }
    fill_in(&chosen);
    if (!host_can_populate()) {
        return diag_set(diag, GM_DIAG_SOFT_KERNEL, -EOPNOTSUPP,
                        "this kernel has no MADV_POPULATE_WRITE: it takes Linux 5.14 or newer");
    }
    allocator = mem_allocator_or_default(chosen.allocator);
    soft = mem_zalloc(allocator, sizeof(*soft));
    if (soft == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a software VM");
    }
    rc = fork_mark_init(&soft->mark);
    if (rc != 0) {
        mem_free(allocator, soft);
        return diag_set(diag, GM_DIAG_NO_MEMORY, rc, "no memory for a software VM's mark");
    }
    soft->allocator = *allocator;
    soft->private_slots.are_made = chosen.intel_private_slots;
    for (unsigned space = 0; space < KCORE_SPACES; space++) {
        soft->faces[space] = (struct soft_face){soft, space};
    }
    rc = init_parts(soft, &chosen);
    if (rc != 0) {
        fork_mark_fini(&soft->mark);
        mem_free(allocator, soft);
        return diag_set(diag, GM_DIAG_SOFT_FAILED, rc, "a software VM cannot be made: %s",
                        strerror(-rc));
    }
    *out = soft;
    return 0;
}

static int close_vm(struct gm_soft *soft)
{
    struct gm_allocator allocator;

    if (soft_count_vcpus(soft) != 0) {
        return -EBUSY;
    }
    rings_fini(&soft->rings);
    kcore_unfollow(&soft->core, &soft->memfds.follower);
    mmu_fini(&soft->mmu);
    kcore_fini(&soft->core);
    irqfds_fini(&soft->irqfds);
    iobuses_fini(&soft->iobuses);
    msr_filter_fini(&soft->msr_filter, &soft->allocator);
    clock_fini(&soft->clock);
    chips_fini(&soft->chips);
    private_slots_fini(&soft->private_slots);
    guest_memfds_fini(&soft->memfds, &soft->allocator);
    lock_fini(&soft->lock);
    fork_mark_fini(&soft->mark);
    allocator = soft->allocator;
    mem_free(&allocator, soft);
    return 0;
}

int gm_soft_close(struct gm_soft *soft)
{
    int rc;

    if (soft == NULL) {
        return 0;
    }
    if (!soft_is_copy(soft)) {
        return close_vm(soft);
    }
    alone_begin();
    rc = close_vm(soft);
    alone_end();
    return rc;
}

void gm_soft_set_tracker(struct gm_soft *soft, gm_soft_written_fn *written, void *opaque)
{
    mmu_set_tracker(&soft->mmu, written, opaque);
}

int gm_soft_track(struct gm_soft *soft, unsigned space, gm_gpa_t gpa)
{
    return mmu_track(&soft->mmu, space, gfn_of(gpa));
}

int gm_soft_untrack(struct gm_soft *soft, unsigned space, gm_gpa_t gpa)
{
    return mmu_untrack(&soft->mmu, space, gfn_of(gpa));
}

bool gm_soft_invalidate_begin(struct gm_soft *soft, gm_hva_t hva, uint64_t size_bytes)
{
    return notifier_start(&soft->core, (struct hva){hva}, size_bytes);
}

void gm_soft_invalidate_end(struct gm_soft *soft, gm_hva_t hva, uint64_t size_bytes)
{
    notifier_end(&soft->core, (struct hva){hva}, size_bytes);
}

uint64_t gm_soft_age(struct gm_soft *soft, gm_hva_t hva, uint64_t size_bytes)
{
    return mmu_age(&soft->mmu, (struct hva){hva}, size_bytes);
}

void gm_soft_zap_all(struct gm_soft *soft)
{
    mmu_zap_all(&soft->mmu);
}
