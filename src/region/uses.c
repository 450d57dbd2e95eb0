/* region/uses.c - counting what is rendered, by worklist, so that deep trees cost no stack. */
#include "region/uses.h"

#include "base/check.h"

/* Regions whose count just became one (or zero) and whose edges have not been followed yet. */
struct worklist {
    struct gm_region *first;
};

static void gain(struct worklist *work, struct gm_region *region)
{
    region->uses++;
    if (region->uses == 1) {
        region->next_work = work->first;
        work->first = region;
    }
}

static bool gain_child(void *opaque, struct gm_region *child)
{
    gain(opaque, child);
    return true;
}

static void lose(struct worklist *work, struct gm_region *region)
{
    GM_ASSERT(region->uses > 0);
    region->uses--;
    if (region->uses == 0) {
        region->next_work = work->first;
        work->first = region;
    }
}

static bool lose_child(void *opaque, struct gm_region *child)
{
    lose(opaque, child);
    return true;
}

static void link_alias(struct gm_region *alias)
{
    struct gm_region *target = alias->target;

    alias->next_used_alias = target->used_aliases;
    alias->prev_used_alias = &target->used_aliases;
    if (target->used_aliases != NULL) {
        target->used_aliases->prev_used_alias = &alias->next_used_alias;
    }
    target->used_aliases = alias;
}

static void unlink_alias(struct gm_region *alias)
{
    *alias->prev_used_alias = alias->next_used_alias;
    if (alias->next_used_alias != NULL) {
        alias->next_used_alias->prev_used_alias = alias->prev_used_alias;
    }
    alias->next_used_alias = NULL;
    alias->prev_used_alias = NULL;
}

static struct gm_region *take(struct worklist *work)
{
    struct gm_region *region = work->first;

    if (region != NULL) {
        work->first = region->next_work;
        region->next_work = NULL;
    }
    return region;
}

void uses_add(struct map_locked locked, struct gm_region *region)
{
    struct worklist work = {NULL};

    (void)locked;
    gain(&work, region);
    for (region = take(&work); region != NULL; region = take(&work)) {
        children_visit_all(&region->children, gain_child, &work);
        if (region->target != NULL) {
            link_alias(region);
            gain(&work, region->target);
        }
    }
}

void uses_drop(struct map_locked locked, struct gm_region *region)
{
    struct worklist work = {NULL};

    (void)locked;
    lose(&work, region);
    for (region = take(&work); region != NULL; region = take(&work)) {
        children_visit_all(&region->children, lose_child, &work);
        if (region->target != NULL) {
            unlink_alias(region);
            lose(&work, region->target);
        }
    }
}
