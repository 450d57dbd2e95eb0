/* region/edit.c - applying and taking back one edit of the tree. */
#include "region/edit.h"

#include "base/check.h"

#include <guestmem/ram.h>

#include <errno.h>

/* ---- children ---- */

static int apply_add(struct map_locked locked, struct edit *edit)
{
    struct gm_region *child = edit->region;
    const struct gm_region *ancestor;

    if (child->parent != NULL) {
        return -EBUSY;
    }
    if (edit->parent == child) {
        return -ELOOP;
    }
    ancestor = child->children.count > 0 ? edit->parent : NULL; /* else it is nobody's ancestor */
    for (; ancestor != NULL; ancestor = ancestor->parent) {
        if (ancestor == child) {
            return -ELOOP;
        }
    }
    gm_region_get(child);
    region_attach(locked, edit->parent, child);
    return 0;
}

static int apply_del(struct map_locked locked, struct edit *edit)
{
    struct gm_region *child = edit->region;

    if (child->parent != edit->parent) {
        return -ENOENT;
    }
    edit->old_added = child->as_child.added;
    region_detach(locked, child);
    return 0;
}

/* The child comes back to the place among equal priorities that it had. */
static void revert_del(struct map_locked locked, struct edit *edit)
{
    struct children *children = &edit->parent->children;
    uint64_t next_added = children->next_added;

    children->next_added = edit->old_added;
    region_attach(locked, edit->parent, edit->region);
    children->next_added = next_added;
}

/* ---- place and extent: the parent's index is keyed by them ---- */

static void set_extent(struct gm_region *region, uint64_t addr, pos_t size)
{
    if (region->parent != NULL) {
        children_remove(&region->parent->children, region);
    }
    region->addr = addr;
    region->size = size;
    if (region->parent != NULL) {
        children_insert(&region->parent->children, region);
    }
}

static int apply_size(struct edit *edit)
{
    struct gm_region *region = edit->region;

    if (edit->to.size > GM_SIZE_2_64 || region_claim(region, edit->to.size) != 0) {
        return -EINVAL;
    }
    edit->from.size = region->size;
    set_extent(region, region->addr, (pos_t)edit->to.size);
    return 0;
}

static void set_enabled(struct gm_region *region, bool enabled)
{
    if (region->parent != NULL) {
        region->parent->enabled_child_count += (uint64_t)enabled - (uint64_t)region->enabled;
    }
    region->enabled = enabled;
}

/* ---- logging: clients begin when applied, and end when finished, so that a failure loses no bit ---- */

static int begin_everywhere(struct map_locked locked, uint32_t mask)
{
    struct gm_region *region;
    struct gm_region *undone;
    int result;

    for (region = locked.map->regions; region != NULL; region = region->next_in_map) {
        result = region_log_begin(region, mask);
        if (result != 0) {
            for (undone = locked.map->regions; undone != region; undone = undone->next_in_map) {
                region_log_end(undone, mask);
            }
            return result;
        }
    }
    return 0;
}

static void end_everywhere(struct map_locked locked, uint32_t mask)
{
    struct gm_region *region;

    for (region = locked.map->regions; region != NULL; region = region->next_in_map) {
        region_log_end(region, mask);
    }
}

static int apply_log(struct edit *edit)
{
    struct gm_region *region = edit->region;
    uint32_t mask = (uint32_t)edit->to.number;

    edit->from.mask = region->log_mask;
    if (!edit->on) {
        region->log_mask &= ~mask;
        return 0;
    }
    if ((region->log_mask & mask) == 0) {
        int result = region_log_begin(region, mask);

        if (result != 0) {
            return result;
        }
    }
    region->log_mask |= mask;
    return 0;
}

static int apply_log_all(struct map_locked locked, struct edit *edit)
{
    struct gm_map *map = locked.map;
    uint32_t mask = (uint32_t)edit->to.number;

    edit->from.mask = map->log_all_mask;
    if (!edit->on) {
        map->log_all_mask &= ~mask;
        return 0;
    }
    if ((map->log_all_mask & mask) == 0) {
        int result = begin_everywhere(locked, mask);

        if (result != 0) {
            return result;
        }
    }
    map->log_all_mask |= mask;
    return 0;
}

/* What the edit changed from off to on, or from on to off. */
static uint32_t log_gained(const struct edit *edit)
{
    return edit->on ? (uint32_t)edit->to.number & ~edit->from.mask : 0;
}

static uint32_t log_lost(const struct edit *edit)
{
    return edit->on ? 0 : (uint32_t)edit->to.number & edit->from.mask;
}

/* ---- eventfds ---- */

static int apply_eventfd(struct edit *edit)
{
    struct gm_region *region = edit->region;
    const struct gm_eventfd *eventfd = &edit->to.eventfd;
    const struct gm_allocator *allocator = &region->map->allocator;
    uint64_t size = eventfd->size_bytes != 0 ? eventfd->size_bytes : 1;
    struct eventfd_list *list;
    int result;

    if (edit->kind == EDIT_EVENTFD_DEL) {
        result = eventfd_list_without(allocator, region->eventfds, eventfd, &list);
    } else if ((pos_t)eventfd->offset + size > region->size) {
        result = -EINVAL;
    } else {
        result = eventfd_list_with(allocator, region->eventfds, eventfd, &list);
    }
    if (result == 0) {
        edit->from.eventfds = region->eventfds;
        region->eventfds = list;
    }
    return result;
}

/* ---- coalesced ranges ---- */

static bool is_within(const struct gm_region *region, const struct coalesced_item *item)
{
    bool is_whole = item->offset == 0 && item->size == GM_COALESCED_WHOLE;

    return is_whole || span_holds(region_span(region), span_of(item->offset, (pos_t)item->size));
}

static int apply_coalesced(struct edit *edit)
{
    struct gm_region *region = edit->region;
    const struct coalesced_item *item = &edit->to.coalesced;
    const struct gm_allocator *allocator = &region->map->allocator;
    struct coalesced_list *list;
    int result;

    if (edit->kind == EDIT_COALESCED_DEL) {
        result = coalesced_list_without(allocator, region->coalesced, item, &list);
    } else if (!is_within(region, item)) {
        result = -EINVAL;
    } else {
        result = coalesced_list_with(allocator, region->coalesced, item, &list);
        if (result == 0) {
            atomic_store_explicit(&region->flushes, true, memory_order_relaxed);
        }
    }
    if (result == 0) {
        edit->from.coalesced = region->coalesced;
        region->coalesced = list;
    }
    return result;
}

/* ---- all kinds ---- */

bool edit_changes(struct map_locked locked, const struct edit *edit)
{
    const struct gm_region *region = edit->region;
    uint32_t mask;

    switch (edit->kind) {
    case EDIT_ADDR:
        return region->addr != edit->to.number;
    case EDIT_SIZE:
        return (gm_size_t)region->size != edit->to.size;
    case EDIT_PRIORITY:
        return region->priority != edit->to.priority;
    case EDIT_ENABLED:
        return region->enabled != edit->to.flag;
    case EDIT_READONLY:
        return region->readonly != edit->to.flag;
    case EDIT_NONVOLATILE:
        return region->nonvolatile != edit->to.flag;
    case EDIT_ROMD:
        return region->romd != edit->to.flag;
    case EDIT_ALIAS_OFFSET:
        return region->target_offset != edit->to.number;
    case EDIT_LOG:
    case EDIT_LOG_ALL:
        mask = edit->kind == EDIT_LOG ? region->log_mask : locked.map->log_all_mask;
        return ((mask & (uint32_t)edit->to.number) != 0) != edit->on;
    default:
        return true;
    }
}

static int set_flag(struct edit *edit, bool *flag)
{
    edit->from.flag = *flag;
    *flag = edit->to.flag;
    return 0;
}

static int apply_attribute(struct edit *edit)
{
    struct gm_region *region = edit->region;

    switch (edit->kind) {
    case EDIT_ADDR:
        edit->from.number = region->addr;
        set_extent(region, edit->to.number, region->size);
        return 0;
    case EDIT_PRIORITY:
        edit->from.priority = region->priority;
        region->priority = edit->to.priority;
        return 0;
    case EDIT_ENABLED:
        edit->from.flag = region->enabled;
        set_enabled(region, edit->to.flag);
        return 0;
    case EDIT_ALIAS_OFFSET:
        edit->from.number = region->target_offset;
        region->target_offset = edit->to.number;
        return 0;
    case EDIT_READONLY:
        return set_flag(edit, &region->readonly);
    case EDIT_NONVOLATILE:
        return set_flag(edit, &region->nonvolatile);
    case EDIT_ROMD:
        return set_flag(edit, &region->romd);
    default:
        return -EINVAL;
    }
}

int edit_apply(struct map_locked locked, struct edit *edit)
{
    switch (edit->kind) {
    case EDIT_ADD:
        return apply_add(locked, edit);
    case EDIT_DEL:
        return apply_del(locked, edit);
    case EDIT_SIZE:
        return apply_size(edit);
    case EDIT_LOG:
        return apply_log(edit);
    case EDIT_LOG_ALL:
        return apply_log_all(locked, edit);
    case EDIT_EVENTFD_ADD:
    case EDIT_EVENTFD_DEL:
        return apply_eventfd(edit);
    case EDIT_COALESCED_ADD:
    case EDIT_COALESCED_DEL:
        return apply_coalesced(edit);
    default:
        return apply_attribute(edit);
    }
}

static void revert_attribute(struct edit *edit)
{
    struct gm_region *region = edit->region;

    switch (edit->kind) {
    case EDIT_ADDR:
        set_extent(region, edit->from.number, region->size);
        break;
    case EDIT_SIZE:
        set_extent(region, region->addr, edit->from.size);
        region_claim_less(region, (gm_size_t)edit->from.size);
        break;
    case EDIT_PRIORITY:
        region->priority = edit->from.priority;
        break;
    case EDIT_ENABLED:
        set_enabled(region, edit->from.flag);
        break;
    case EDIT_ALIAS_OFFSET:
        region->target_offset = edit->from.number;
        break;
    case EDIT_READONLY:
        region->readonly = edit->from.flag;
        break;
    case EDIT_NONVOLATILE:
        region->nonvolatile = edit->from.flag;
        break;
    case EDIT_ROMD:
        region->romd = edit->from.flag;
        break;
    default:
        GM_ASSERT(false);
    }
}

void edit_revert(struct map_locked locked, struct edit *edit)
{
    switch (edit->kind) {
    case EDIT_ADD:
        region_detach(locked, edit->region);
        gm_region_put(edit->region);
        break;
    case EDIT_DEL:
        revert_del(locked, edit);
        break;
    case EDIT_LOG:
        edit->region->log_mask = edit->from.mask;
        region_log_end(edit->region, log_gained(edit));
        break;
    case EDIT_LOG_ALL:
        locked.map->log_all_mask = edit->from.mask;
        end_everywhere(locked, log_gained(edit));
        break;
    case EDIT_EVENTFD_ADD:
    case EDIT_EVENTFD_DEL:
        eventfd_list_put(edit->region->eventfds);
        edit->region->eventfds = edit->from.eventfds;
        break;
    case EDIT_COALESCED_ADD:
    case EDIT_COALESCED_DEL:
        coalesced_list_put(edit->region->coalesced);
        edit->region->coalesced = edit->from.coalesced;
        break;
    default:
        revert_attribute(edit);
    }
}

void edit_finish(struct map_locked locked, struct edit *edit)
{
    switch (edit->kind) {
    case EDIT_DEL:
        gm_region_put(edit->region);
        break;
    case EDIT_SIZE: /* the views that showed more are replaced */
        if (region_has_ram(edit->region) && edit->region->size < edit->from.size) {
            readers_wait(&locked.map->readers); /* who shrinks the block waits for sections alone */
        }
        region_claim_less(edit->region, (gm_size_t)edit->region->size);
        break;
    case EDIT_LOG:
        region_log_end(edit->region, log_lost(edit));
        break;
    case EDIT_LOG_ALL:
        end_everywhere(locked, log_lost(edit));
        break;
    case EDIT_EVENTFD_ADD:
    case EDIT_EVENTFD_DEL:
        eventfd_list_put(edit->from.eventfds);
        break;
    case EDIT_COALESCED_ADD:
    case EDIT_COALESCED_DEL:
        coalesced_list_put(edit->from.coalesced);
        break;
    default:
        break;
    }
}
