/* view/resolve.c - following roots to where they are rendered from. */
#include "view/resolve.h"

#include <errno.h>

static bool find_enabled(void *opaque, struct gm_region *child)
{
    struct gm_region **found = opaque;

    if (child->enabled) {
        *found = child;
        return false;
    }
    return true;
}

static struct gm_region *step_container(struct gm_region *region)
{
    struct gm_region *only = NULL;

    if (region->enabled_child_count == 0) {
        return NULL;
    }
    if (region->enabled_child_count > 1) {
        return region;
    }
    children_visit_all(&region->children, find_enabled, &only);
    return only->addr == 0 && only->size <= region->size ? only : region;
}

struct gm_region *resolve_step(struct gm_region *region)
{
    if (!region->enabled) {
        return NULL;
    }
    if (region->target != NULL) {
        return region->target_offset == 0 && region->size >= region->target->size ? region->target
                                                                                  : region;
    }
    return region_terminates(region) ? region : step_container(region);
}

/* A way that goes round is caught by a second walker at half the speed. */
int resolve_root(struct map_locked locked, struct gm_region *root, uint64_t stamp,
                 struct gm_region **resolved)
{
    struct gm_region *slow = root;
    struct gm_region *next;
    bool slow_moves = false;

    (void)locked;
    while (root != NULL) {
        root->way_stamp = stamp;
        next = resolve_step(root);
        if (next == root) {
            if (root->target != NULL) {
                root->target->way_stamp = stamp;
            }
            break;
        }
        root = next;
        if (slow_moves) {
            slow = resolve_step(slow);
        }
        slow_moves = !slow_moves;
        if (root != NULL && root == slow) {
            return -ELOOP;
        }
    }
    *resolved = root;
    return 0;
}
