/* region/iommu.c - making an IOMMU's part of a region, and registering its notifiers. */
#include "region/iommu.h"

#include "base/addr.h"
#include "base/check.h"
#include "base/diag.h"
#include "base/options.h"
#include "region/region.h"

#include <errno.h>

#define ALL_KINDS (GM_IOMMU_MAP | GM_IOMMU_UNMAP | GM_IOMMU_DEVICE_UNMAP)
#define DEFAULT_PAGE_BYTES 4096u

static _Thread_local const struct iommu_frame *running_frames;

const void *iommu_thread(void)
{
    return &running_frames;
}

bool iommu_is_telling(const struct gm_map *map)
{
    const struct iommu_frame *frame = running_frames;

    while (frame != NULL && frame->map != map) {
        frame = frame->outer;
    }
    return frame != NULL;
}

void iommu_frame_push(struct iommu_frame *frame, const struct gm_map *map)
{
    *frame = (struct iommu_frame){map, running_frames};
    running_frames = frame;
}

void iommu_frame_pop(const struct iommu_frame *frame)
{
    running_frames = frame->outer;
}

/* ---- making ---- */

bool iommu_ops_are_valid(const struct gm_iommu_ops *ops)
{
    return ops->min_page_bytes == 0 || is_power_of_two(ops->min_page_bytes);
}

int iommu_new(const struct gm_allocator *allocator, const struct gm_iommu_ops *ops,
              struct iommu **iommu)
{
    struct iommu *made = mem_zalloc(allocator, sizeof(*made));

    if (made == NULL) {
        return -ENOMEM;
    }
    made->ops = *ops;
    if (made->ops.index_count == 0) {
        made->ops.index_count = 1;
    }
    if (made->ops.min_page_bytes == 0) {
        made->ops.min_page_bytes = DEFAULT_PAGE_BYTES;
    }
    made->notifiers_end = &made->notifiers;
    if (lock_init(&made->lock, LOCK_RANK_LEAF) != 0) {
        mem_free(allocator, made);
        return -ENOMEM;
    }
    if (pthread_cond_init(&made->changed, NULL) != 0) {
        lock_fini(&made->lock);
        mem_free(allocator, made);
        return -ENOMEM;
    }
    *iommu = made;
    return 0;
}

void iommu_free(const struct gm_allocator *allocator, struct iommu *iommu)
{
    if (iommu != NULL) {
        GM_ASSERT(iommu->notifiers == NULL); /* each holds a reference on the region */
        pthread_cond_destroy(&iommu->changed);
        lock_fini(&iommu->lock);
        mem_free(allocator, iommu);
    }
}

/* ---- the list ---- */

static void link_last(struct iommu *iommu, struct gm_iommu_notifier *notifier)
{
    notifier->prev = iommu->notifiers_end;
    *iommu->notifiers_end = notifier;
    iommu->notifiers_end = &notifier->next;
}

static void unlink_notifier(struct iommu *iommu, struct gm_iommu_notifier *notifier)
{
    *notifier->prev = notifier->next;
    if (notifier->next != NULL) {
        notifier->next->prev = notifier->prev;
    } else {
        iommu->notifiers_end = notifier->prev;
    }
}

void iommu_notifier_free(struct gm_iommu_notifier *notifier)
{
    struct gm_region *region = notifier->region;

    mem_free(&region->map->allocator, notifier);
    gm_region_put(region);
}

bool iommu_drop_user(struct iommu *iommu, struct gm_iommu_notifier *notifier)
{
    notifier->users--;
    if (notifier->users > 0 || !notifier->is_removed) {
        return false;
    }
    unlink_notifier(iommu, notifier);
    return true;
}

void iommu_pin(struct gm_iommu_notifier *notifier)
{
    gm_region_get(notifier->region);
    lock_take(&notifier->region->iommu->lock);
    notifier->users++;
    lock_drop(&notifier->region->iommu->lock);
}

void iommu_unpin(struct gm_iommu_notifier *notifier)
{
    struct gm_region *region = notifier->region;
    bool is_dead;

    lock_take(&region->iommu->lock);
    is_dead = iommu_drop_user(region->iommu, notifier);
    lock_drop(&region->iommu->lock);
    if (is_dead) {
        iommu_notifier_free(notifier);
    }
    gm_region_put(region);
}

static unsigned kinds_wanted(const struct iommu *iommu, unsigned index)
{
    const struct gm_iommu_notifier *notifier;
    unsigned kinds = 0;

    for (notifier = iommu->notifiers; notifier != NULL; notifier = notifier->next) {
        if (notifier->options.index == index && !notifier->is_removed) {
            kinds |= notifier->options.kinds;
        }
    }
    return kinds;
}

/* ---- registering: one thread at a time, so that the owner hears of kinds in order ---- */

/* Under the lock. */
static void begin_registering(struct iommu *iommu)
{
    while (iommu->registrar != NULL) {
        pthread_cond_wait(&iommu->changed, &iommu->lock.mutex);
    }
    iommu->registrar = iommu_thread();
}

static void end_registering(struct iommu *iommu)
{
    iommu->registrar = NULL;
    pthread_cond_broadcast(&iommu->changed);
}

static bool is_registering(struct iommu *iommu)
{
    bool result;

    lock_take(&iommu->lock);
    result = iommu->registrar == iommu_thread();
    lock_drop(&iommu->lock);
    return result;
}

/* Without the lock, while registering. */
static int tell_owner(const struct gm_region *region, unsigned index, unsigned old_kinds,
                      unsigned new_kinds)
{
    const struct gm_iommu_ops *ops = &region->iommu->ops;
    struct iommu_frame frame;
    int result;

    if (old_kinds == new_kinds || ops->notifiers_changed == NULL) {
        return 0;
    }
    iommu_frame_push(&frame, region->map);
    result = ops->notifiers_changed(region->opaque, index, old_kinds, new_kinds);
    iommu_frame_pop(&frame);
    return result;
}

static int check_options(const struct gm_region *region,
                         const struct gm_iommu_notifier_options *options, struct gm_diag *diag)
{
    if (region->iommu == NULL) {
        return diag_set(diag, GM_DIAG_IOMMU_NOTIFIER, -EINVAL, "region '%s' is not an IOMMU",
                        region->name);
    }
    if (options->kinds == 0 || (options->kinds & ~ALL_KINDS) != 0 || options->notify == NULL) {
        return diag_set(diag, GM_DIAG_IOMMU_NOTIFIER, -EINVAL,
                        "a notifier wants maps or unmaps, and has a callback");
    }
    if (options->index >= region->iommu->ops.index_count || options->last < options->first) {
        return diag_set(diag, GM_DIAG_IOMMU_NOTIFIER, -EINVAL,
                        "region '%s' has no table %u, or the range is empty", region->name,
                        options->index);
    }
    if (is_registering(region->iommu)) {
        return diag_set(diag, GM_DIAG_IN_CALLBACK, -EDEADLK,
                        "a notifier cannot be registered in notifiers_changed");
    }
    return 0;
}

static const struct options_kind OPTIONS = OPTIONS_KIND(gm_iommu_notifier_options, opaque);

int gm_iommu_register(struct gm_region *region, const struct gm_iommu_notifier_options *theirs,
                      struct gm_iommu_notifier **notifier, struct gm_diag *diag)
{
    struct iommu *iommu = region->iommu;
    struct gm_iommu_notifier_options taken;
    const struct gm_iommu_notifier_options *options = &taken;
    struct gm_iommu_notifier *made;
    int result = options_take(&OPTIONS, &taken, theirs, diag);
    unsigned kinds;

    if (result == 0) {
        result = check_options(region, options, diag);
    }
    if (result != 0) {
        return result;
    }
    made = mem_zalloc(&region->map->allocator, sizeof(*made));
    if (made == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a notifier of region '%s'",
                        region->name);
    }
    made->options = *options;
    made->region = region;
    gm_region_get(region);
    lock_take(&iommu->lock);
    begin_registering(iommu);
    kinds = kinds_wanted(iommu, options->index);
    lock_drop(&iommu->lock);
    result = tell_owner(region, options->index, kinds, kinds | options->kinds);
    lock_take(&iommu->lock);
    if (result == 0) {
        link_last(iommu, made);
    }
    end_registering(iommu);
    lock_drop(&iommu->lock);
    if (result != 0) {
        iommu_notifier_free(made);
        return diag_set(diag, GM_DIAG_IOMMU_REFUSED, result, "region '%s' refused a notifier",
                        region->name);
    }
    *notifier = made;
    return 0;
}

/* Under the lock, with registering over: a callback that registers must not wait for us. By a user. */
static void wait_for_turns(struct iommu *iommu, const struct gm_iommu_notifier *notifier)
{
    while (notifier->teller != NULL && notifier->teller != iommu_thread()) {
        pthread_cond_wait(&iommu->changed, &iommu->lock.mutex);
    }
}

void gm_iommu_unregister(struct gm_iommu_notifier *notifier)
{
    struct gm_region *region;
    struct iommu *iommu;
    unsigned index;
    unsigned old_kinds;
    unsigned new_kinds;

    if (notifier == NULL) {
        return;
    }
    region = notifier->region;
    iommu = region->iommu;
    index = notifier->options.index;
    iommu_pin(notifier);
    lock_take(&iommu->lock);
    begin_registering(iommu);
    old_kinds = kinds_wanted(iommu, index);
    notifier->is_removed = true;
    new_kinds = kinds_wanted(iommu, index);
    lock_drop(&iommu->lock);
    /* Less is wanted, which cannot be refused. */
    (void)tell_owner(region, index, old_kinds, new_kinds);
    lock_take(&iommu->lock);
    end_registering(iommu);
    wait_for_turns(iommu, notifier);
    lock_drop(&iommu->lock);
    iommu_unpin(notifier);
}

/* ---- what it is ---- */

unsigned gm_iommu_index(const struct gm_region *region, struct gm_attrs attrs)
{
    const struct iommu *iommu = region->iommu;

    return iommu != NULL && iommu->ops.attrs_to_index != NULL
               ? iommu->ops.attrs_to_index(region->opaque, attrs)
               : 0;
}

unsigned gm_iommu_index_count(const struct gm_region *region)
{
    return region->iommu != NULL ? region->iommu->ops.index_count : 0;
}

uint64_t gm_iommu_min_page(const struct gm_region *region)
{
    return region->iommu != NULL ? region->iommu->ops.min_page_bytes : 0;
}
