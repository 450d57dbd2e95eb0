/* soft/msr_filter.c - guests' MSRs, filtered and answered by the user. */
#include "soft/msr_filter.h"

#include "base/alloc.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>

#define REASONS                                                                                    \
    (KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)

int msr_filter_init(struct msr_filter *filter)
{
    return lock_init(&filter->lock, LOCK_RANK_LEAF);
}

static void free_bitmaps(const struct kvm_msr_filter *is, const struct gm_allocator *allocator)
{
    for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
        mem_free(allocator, is->ranges[i].bitmap);
    }
}

void msr_filter_fini(struct msr_filter *filter, const struct gm_allocator *allocator)
{
    free_bitmaps(&filter->is, allocator);
    lock_fini(&filter->lock);
}

/* The first range that is about such accesses of the number decides. */
static bool is_allowed(const struct kvm_msr_filter *is, uint32_t number, uint32_t kind)
{
    for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
        const struct kvm_msr_filter_range *range = &is->ranges[i];
        uint32_t bit = number - range->base;

        if (number >= range->base && bit < range->nmsrs && (range->flags & kind) != 0) {
            return (range->bitmap[bit / 8] >> (bit % 8) & 1) != 0;
        }
    }
    return (is->flags & KVM_MSR_FILTER_DEFAULT_DENY) == 0;
}

bool msr_filter_allows(struct msr_filter *filter, uint32_t number, bool is_write)
{
    bool allows;

    if (!atomic_load_explicit(&filter->is_on, memory_order_relaxed)) {
        return true;
    }
    lock_take(&filter->lock);
    allows = is_allowed(&filter->is, number, is_write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ);
    lock_drop(&filter->lock);
    return allows;
}

uint32_t msr_filter_reason(enum x86_msr_result result)
{
    switch (result) {
    case X86_MSR_UNKNOWN:
        return KVM_MSR_EXIT_REASON_UNKNOWN;
    case X86_MSR_REFUSED:
        return KVM_MSR_EXIT_REASON_INVAL;
    case X86_MSR_DENIED:
        return KVM_MSR_EXIT_REASON_FILTER;
    case X86_MSR_DONE:
        break;
    }
    return 0;
}

bool msr_filter_asks(const struct msr_filter *filter, enum x86_msr_result result)
{
    return (atomic_load_explicit(&filter->reasons, memory_order_relaxed) &
            msr_filter_reason(result)) != 0;
}

int msr_filter_set_reasons(struct msr_filter *filter, uint64_t reasons)
{
    if ((reasons & ~(uint64_t)REASONS) != 0) {
        return -EINVAL;
    }
    atomic_store_explicit(&filter->reasons, (unsigned)reasons, memory_order_relaxed);
    return 0;
}

/* The user's bitmap becomes one of the VM's. Linux takes whole words of 64 bits. */
static int take_bitmap(struct kvm_msr_filter_range *range, const struct gm_allocator *allocator)
{
    uint64_t user_bitmap = (uintptr_t)range->bitmap;
    uint64_t size_bytes = ((uint64_t)range->nmsrs + 63) / 64 * 8;

    range->bitmap = NULL;
    if ((range->flags & ~(uint32_t)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)) != 0) {
        return -EINVAL;
    }
    if (size_bytes == 0) {
        return 0;
    }
    if (size_bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE) {
        return -EINVAL;
    }
    range->bitmap = mem_alloc(allocator, size_bytes);
    return range->bitmap == NULL ? -ENOMEM : usercopy_from(range->bitmap, user_bitmap, size_bytes);
}

static int take_bitmaps(struct kvm_msr_filter *is, const struct gm_allocator *allocator,
                        bool *has_ranges)
{
    int rc = 0;

    *has_ranges = false;
    for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
        struct kvm_msr_filter_range *range = &is->ranges[i];

        if (rc == 0) {
            rc = take_bitmap(range, allocator);
            *has_ranges = *has_ranges || range->nmsrs != 0;
        } else {
            range->bitmap = NULL;
        }
    }
    return rc;
}

static long set_filter(struct gm_soft *soft, struct kvm_msr_filter *is)
{
    struct msr_filter *filter = &soft->msr_filter;
    struct kvm_msr_filter before;
    bool has_ranges;
    int rc = take_bitmaps(is, &soft->allocator, &has_ranges);

    if (rc == 0 && !has_ranges && (is->flags & KVM_MSR_FILTER_DEFAULT_DENY) != 0) {
        rc = -EINVAL;
    }
    if (rc != 0) {
        free_bitmaps(is, &soft->allocator);
        return rc;
    }
    lock_take(&filter->lock);
    before = filter->is;
    filter->is = *is;
    lock_drop(&filter->lock);
    atomic_store_explicit(&filter->is_on, has_ranges, memory_order_relaxed);
    free_bitmaps(&before, &soft->allocator);
    return 0;
}

long ioctl_set_msr_filter(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_msr_filter is;
    int rc = usercopy_from(&is, argument, sizeof(is));

    if (rc != 0) {
        return rc;
    }
    return (is.flags & ~(uint32_t)KVM_MSR_FILTER_DEFAULT_DENY) != 0 ? -EINVAL
                                                                    : set_filter(soft, &is);
}
