/* model/radix.c - a software IOMMU of one radix table. */
#include "model/radix.h"

#include "base/check.h"

static void radix_translate(void *opaque, const struct gm_iommu_request *request,
                            struct gm_iommu_entry *entry)
{
    struct radix *radix = opaque;
    uint64_t at = request->offset / RADIX_LARGE_BYTES;
    uint64_t found = atomic_load(&radix->large[at]);

    entry->page_mask = RADIX_LARGE_BYTES - 1;
    if (found == 0) {
        uint64_t page = request->offset / RADIX_PAGE_BYTES % RADIX_ENTRIES;

        found = atomic_load(&radix->tables[at].entries[page]);
        entry->page_mask = RADIX_PAGE_BYTES - 1;
    }
    if (found != 0) {
        entry->space = radix->target;
        entry->translated = found & ~(RADIX_PAGE_BYTES - 1);
        entry->can_read = (found & GM_IOMMU_READ) != 0;
        entry->can_write = (found & GM_IOMMU_WRITE) != 0;
    }
}

static int radix_kinds(void *opaque, unsigned index, unsigned old_kinds, unsigned new_kinds)
{
    struct radix *radix = opaque;

    GM_ASSERT(index == 0 && atomic_load(&radix->kinds) == old_kinds);
    atomic_store(&radix->kinds, new_kinds);
    return 0;
}

const struct gm_iommu_ops radix_ops = {
    .size = sizeof(radix_ops),
    .translate = radix_translate,
    .notifiers_changed = radix_kinds,
};

void radix_init(struct radix *radix, struct gm_space *target)
{
    *radix = (struct radix){.target = target};
    GM_ASSERT(pthread_mutex_init(&radix->lock, NULL) == 0);
}

void radix_fini(struct radix *radix)
{
    pthread_mutex_destroy(&radix->lock);
}

/* Under the lock. 0 for a page that is not there. */
static void set(struct radix *radix, uint64_t iova, uint64_t size_bytes, uint64_t entry)
{
    uint64_t at = iova / RADIX_LARGE_BYTES;

    if (size_bytes == RADIX_LARGE_BYTES) {
        GM_ASSERT(iova % RADIX_LARGE_BYTES == 0);
        atomic_store(&radix->large[at], entry != 0 ? entry | RADIX_LARGE : 0);
        return;
    }
    for (uint64_t done = 0; done < size_bytes; done += RADIX_PAGE_BYTES) {
        uint64_t page = (iova + done) / RADIX_PAGE_BYTES;

        atomic_store(&radix->tables[page / RADIX_ENTRIES].entries[page % RADIX_ENTRIES],
                     entry != 0 ? entry + done : 0);
    }
}

void radix_map(struct radix *radix, uint64_t iova, uint64_t size_bytes, uint64_t translated,
               unsigned rights)
{
    struct gm_iommu_event event = {
        .kind = GM_IOMMU_MAP,
        .first = iova,
        .last = iova + size_bytes - 1,
        .space = radix->target,
        .translated = translated,
        .can_read = (rights & GM_IOMMU_READ) != 0,
        .can_write = (rights & GM_IOMMU_WRITE) != 0,
    };

    pthread_mutex_lock(&radix->lock);
    set(radix, iova, size_bytes, translated | rights);
    GM_ASSERT(gm_iommu_notify(radix->region, &event) == 0);
    pthread_mutex_unlock(&radix->lock);
}

void radix_unmap(struct radix *radix, uint64_t iova, uint64_t size_bytes)
{
    struct gm_iommu_event event = {
        .kind = GM_IOMMU_UNMAP, .first = iova, .last = iova + size_bytes - 1};

    pthread_mutex_lock(&radix->lock);
    set(radix, iova, size_bytes, 0);
    GM_ASSERT(gm_iommu_notify(radix->region, &event) == 0);
    pthread_mutex_unlock(&radix->lock);
}
