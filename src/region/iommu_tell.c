/* region/iommu_tell.c - telling an IOMMU's notifiers of maps and unmaps, and replaying. */
#include "region/iommu.h"

#include "base/point.h"
#include "base/rcu.h"
#include "region/region.h"

#include <errno.h>

/* ---- turns ---- */

/* Under the lock, by a user. False: it was removed, and must not be called. */
static bool take_turn(struct iommu *iommu, struct gm_iommu_notifier *notifier)
{
    while (!notifier->is_removed && notifier->teller != NULL &&
           notifier->teller != iommu_thread()) {
        pthread_cond_wait(&iommu->changed, &iommu->lock.mutex);
    }
    if (notifier->is_removed) {
        return false;
    }
    notifier->teller = iommu_thread();
    notifier->depth++;
    return true;
}

static void end_turn(struct iommu *iommu, struct gm_iommu_notifier *notifier)
{
    notifier->depth--;
    if (notifier->depth == 0) {
        notifier->teller = NULL;
        pthread_cond_broadcast(&iommu->changed);
    }
}

/* ---- one call ---- */

static bool wants(const struct gm_iommu_notifier *notifier, const struct gm_iommu_event *event)
{
    return !notifier->is_removed && (notifier->options.kinds & event->kind) != 0 &&
           notifier->options.index == event->index && notifier->options.first <= event->last &&
           event->first <= notifier->options.last;
}

/* In its turn, without the lock. */
static void call(const struct gm_iommu_notifier *notifier, const struct gm_iommu_event *event)
{
    struct gm_iommu_event clipped = *event;
    struct iommu_frame frame;

    clipped.no_wait = false;
    if (clipped.first < notifier->options.first) {
        clipped.translated += notifier->options.first - clipped.first;
        clipped.first = notifier->options.first;
    }
    if (clipped.last > notifier->options.last) {
        clipped.last = notifier->options.last;
    }
    iommu_frame_push(&frame, notifier->region->map);
    notifier->options.notify(notifier->options.opaque, &clipped);
    iommu_frame_pop(&frame);
}

/* Under the lock, which is dropped for the call. By a user. */
static void tell(struct iommu *iommu, struct gm_iommu_notifier *notifier,
                 const struct gm_iommu_event *event)
{
    if (take_turn(iommu, notifier)) {
        lock_drop(&iommu->lock);
        call(notifier, event);
        lock_take(&iommu->lock);
        end_turn(iommu, notifier);
    }
}

static void tell_all(struct iommu *iommu, const struct gm_iommu_event *event)
{
    struct gm_iommu_notifier *notifier;
    struct gm_iommu_notifier *dead = NULL;

    lock_take(&iommu->lock);
    notifier = iommu->notifiers;
    while (notifier != NULL) {
        struct gm_iommu_notifier *told = notifier;
        bool is_dead = false;

        if (wants(told, event)) {
            told->users++;
            tell(iommu, told, event);
            notifier = told->next;
            is_dead = iommu_drop_user(iommu, told);
        } else {
            notifier = told->next;
        }
        if (is_dead) {
            told->next = dead;
            dead = told;
        }
    }
    lock_drop(&iommu->lock);
    while (dead != NULL) {
        struct gm_iommu_notifier *next = dead->next;

        iommu_notifier_free(dead);
        dead = next;
    }
}

/* ---- the owner's calls ---- */

static bool event_is_valid(const struct gm_region *region, const struct gm_iommu_event *event)
{
    bool is_map = event->kind == GM_IOMMU_MAP;
    bool is_unmap = event->kind == GM_IOMMU_UNMAP || event->kind == GM_IOMMU_DEVICE_UNMAP;

    return region->iommu != NULL && (is_unmap || (is_map && event->space != NULL)) &&
           event->index < region->iommu->ops.index_count && event->first <= event->last;
}

/* Release: pairs with the acquire in iommu_unmaps(). */
static void count(atomic_uint_fast64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_acq_rel);
}

int gm_iommu_notify(struct gm_region *region, const struct gm_iommu_event *event)
{
    if (!event_is_valid(region, event)) {
        return -EINVAL;
    }
    count(&region->iommu->changes);
    if (event->kind == GM_IOMMU_MAP) {
        count(&region->map->iommu_maps);
    } else {
        count(&region->map->iommu_unmaps);
        GM_POINT("iommu-counted");
        if (!event->no_wait) {
            rcu_wait();
        }
    }
    tell_all(region->iommu, event);
    return 0;
}

void gm_iommu_wait(struct gm_region *region)
{
    (void)region; /* sections are the process's */
    rcu_wait();
}

/* ---- one notifier ---- */

int gm_iommu_notify_one(struct gm_iommu_notifier *notifier, const struct gm_iommu_event *event)
{
    struct iommu *iommu = notifier->region->iommu;

    if (!event_is_valid(notifier->region, event)) {
        return -EINVAL;
    }
    iommu_pin(notifier);
    lock_take(&iommu->lock);
    if (wants(notifier, event)) {
        tell(iommu, notifier, event);
    }
    lock_drop(&iommu->lock);
    iommu_unpin(notifier);
    return 0;
}

int gm_iommu_unmap_all(struct gm_iommu_notifier *notifier)
{
    const struct gm_iommu_event all = {
        .kind = GM_IOMMU_UNMAP,
        .index = notifier->options.index,
        .first = notifier->options.first,
        .last = notifier->options.last,
    };

    return (notifier->options.kinds & GM_IOMMU_UNMAP) != 0 ? gm_iommu_notify_one(notifier, &all)
                                                           : -EINVAL;
}

/* ---- replaying page by page ---- */

/* What translate says at @offset: a map to the page's end, or an unmap of as much as is not there. */
static struct gm_iommu_event event_at(const struct gm_iommu_notifier *notifier, uint64_t offset)
{
    const struct gm_region *region = notifier->region;
    const struct gm_iommu_ops *ops = &region->iommu->ops;
    struct gm_iommu_request request = {
        .offset = offset,
        .index = notifier->options.index,
        .attrs = {.flags = GM_ATTR_DEBUG},
    };
    struct gm_iommu_entry entry = {0};
    bool is_there;

    if (ops->translate != NULL) {
        ops->translate(region->opaque, &request, &entry);
    }
    is_there = entry.space != NULL && (entry.can_read || entry.can_write);
    if (!is_there) {
        entry.page_mask |= IOMMU_DENIED_MASK | (ops->min_page_bytes - 1);
    }
    return (struct gm_iommu_event){
        .kind = is_there ? GM_IOMMU_MAP : GM_IOMMU_UNMAP,
        .index = request.index,
        .first = offset,
        .last = offset | entry.page_mask,
        .space = entry.space,
        .translated = (entry.translated & ~entry.page_mask) + (offset & entry.page_mask),
        .can_read = entry.can_read,
        .can_write = entry.can_write,
    };
}

/*
 * Tell the map at @offset in the notifier's turn, unless something has changed since translate was asked: an unmap
 * that is counted later is told after this turn. False: it has changed. @last: out.
 */
static bool replay_page(struct gm_iommu_notifier *notifier, uint64_t offset, uint64_t *last)
{
    struct iommu *iommu = notifier->region->iommu;
    /* acquire: pairs with count() */
    uint64_t changes = atomic_load_explicit(&iommu->changes, memory_order_acquire);
    struct gm_iommu_event event = event_at(notifier, offset);
    bool is_same;

    GM_POINT("replay-translated");
    *last = event.last;
    if (event.kind != GM_IOMMU_MAP) {
        return true; /* a map that has come since is told by who notifies it */
    }
    lock_take(&iommu->lock);
    if (!take_turn(iommu, notifier)) {
        lock_drop(&iommu->lock);
        return true;
    }
    lock_drop(&iommu->lock);
    is_same = atomic_load_explicit(&iommu->changes, memory_order_acquire) == changes;
    if (is_same) {
        call(notifier, &event);
    }
    lock_take(&iommu->lock);
    end_turn(iommu, notifier);
    lock_drop(&iommu->lock);
    return is_same;
}

static bool is_removed(struct gm_iommu_notifier *notifier)
{
    bool result;

    lock_take(&notifier->region->iommu->lock);
    result = notifier->is_removed;
    lock_drop(&notifier->region->iommu->lock);
    return result;
}

static int replay_pages(struct gm_iommu_notifier *notifier)
{
    uint64_t offset = notifier->options.first;
    unsigned tries = 0;

    while (!is_removed(notifier)) {
        uint64_t last;

        if (!replay_page(notifier, offset, &last)) {
            tries++;
            if (tries == IOMMU_TRIES_MAX) {
                return -EAGAIN;
            }
            continue;
        }
        if (last >= notifier->options.last) {
            break;
        }
        offset = last + 1;
        tries = 0;
    }
    return 0;
}

int gm_iommu_replay(struct gm_iommu_notifier *notifier)
{
    struct gm_region *region = notifier->region;
    const struct gm_iommu_notifier_options *options = &notifier->options;
    int result;

    if ((options->kinds & GM_IOMMU_MAP) == 0) {
        return -EINVAL;
    }
    iommu_pin(notifier);
    if (region->iommu->ops.replay != NULL) {
        result = region->iommu->ops.replay(region->opaque, notifier, options->index, options->first,
                                           options->last);
    } else {
        result = replay_pages(notifier);
    }
    iommu_unpin(notifier);
    return result;
}
