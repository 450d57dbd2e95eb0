/* soft/soft.c - opening and closing a software VM, and what goes straight on to mmu. */
#include "soft/soft.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/diag.h"
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

static int check_options(const struct gm_soft_options *options, struct gm_diag *diag)
{
    unsigned levels = options->ept_levels;
    unsigned bits = options->gpa_bits;

    if (options->size != sizeof(*options)) {
        return diag_set(diag, -EINVAL, "gm_soft_options.size is not that of this library");
    }
    if (bits != 0 && (bits < GPA_BITS_MIN || bits > GPA_BITS_MAX)) {
        return diag_set(diag, -EINVAL, "guest addresses of %u bits: they have %u to %u", bits,
                        GPA_BITS_MIN, GPA_BITS_MAX);
    }
    if (levels != 0 && levels != 4 && levels != 5) {
        return diag_set(diag, -EINVAL, "tables of %u levels: they have 4 or 5", levels);
    }
    if (levels == 4 && bits > GPA_BITS_OF_4_LEVELS) {
        return diag_set(diag, -EINVAL, "guest addresses of %u bits take tables of 5 levels", bits);
    }
    if (options->log != GM_SOFT_LOG_PROTECT && options->log != GM_SOFT_LOG_BUFFER) {
        return diag_set(diag, -EINVAL, "%d is no way of logging writes", (int)options->log);
    }
    if (!is_memory_type(options->memory_type)) {
        return diag_set(diag, -EINVAL, "%u is no memory type of EPT", options->memory_type);
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
    soft->arch_ops = mmu_arch_ops;
    soft->arch_ops.private_gone = guest_memfd_gone;
    rc = kcore_init(&soft->core, &core);
    if (rc != 0) {
        goto out_memfds;
    }
    rc = mmu_init(&soft->mmu, &soft->core, &mmu);
    if (rc != 0) {
        goto out_core;
    }
    kcore_follow(&soft->core, &soft->memfds.follower);
    return 0;

out_core:
    kcore_fini(&soft->core);
out_memfds:
    guest_memfds_fini(&soft->memfds, &soft->allocator);
out_lock:
    lock_fini(&soft->lock);
    return rc;
}

int gm_soft_open(const struct gm_soft_options *options, struct gm_soft **out, struct gm_diag *diag)
{
    struct gm_soft_options chosen = {.size = sizeof(chosen)};
    const struct gm_allocator *allocator;
    struct gm_soft *soft;
    int rc;

    if (options != NULL) {
        rc = check_options(options, diag);
        if (rc != 0) {
            return rc;
        }
        chosen = *options;
    }
    fill_in(&chosen);
    if (!host_can_populate()) {
        return diag_set(diag, -EOPNOTSUPP,
                        "this kernel has no MADV_POPULATE_WRITE: it takes Linux 5.14 or newer");
    }
    allocator = mem_allocator_or_default(chosen.allocator);
    soft = mem_zalloc(allocator, sizeof(*soft));
    if (soft == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for a software VM");
    }
    soft->allocator = *allocator;
    soft->private_slots.are_made = chosen.intel_private_slots;
    rc = init_parts(soft, &chosen);
    if (rc != 0) {
        mem_free(allocator, soft);
        return diag_set(diag, rc, "a software VM cannot be made: %s", strerror(-rc));
    }
    *out = soft;
    return 0;
}

int gm_soft_close(struct gm_soft *soft)
{
    struct gm_allocator allocator;

    if (soft == NULL) {
        return 0;
    }
    if (soft_has_vcpus(soft)) {
        return -EBUSY;
    }
    kcore_unfollow(&soft->core, &soft->memfds.follower);
    mmu_fini(&soft->mmu);
    kcore_fini(&soft->core);
    private_slots_fini(&soft->private_slots);
    guest_memfds_fini(&soft->memfds, &soft->allocator);
    lock_fini(&soft->lock);
    allocator = soft->allocator;
    mem_free(&allocator, soft);
    return 0;
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

void gm_soft_invalidate_begin(struct gm_soft *soft, gm_hva_t hva, uint64_t size_bytes)
{
    notifier_start(&soft->core, (struct hva){hva}, size_bytes);
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
