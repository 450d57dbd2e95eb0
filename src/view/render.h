/*
 * view/render.h - what a tree comes to: the visible ranges of a root, or of a window of it.
 *
 * Pure: reads the tree under the map's lock, changes nothing, tells nobody.
 */
#ifndef VIEW_RENDER_H
#define VIEW_RENDER_H

#include "view/view.h"

/* The deepest nesting of regions and aliases that is followed; beyond it the commit fails (-E2BIG). */
#define RENDER_MAX_DEPTH 512u

struct render_limits {
    uint32_t max_ranges;
    uint32_t max_steps;
};

/* Rendered ranges, ascending, not merged. Reused from one render to the next. */
struct render {
    struct map_locked locked;
    struct render_limits limits;
    struct range *ranges;
    size_t count;
    size_t capacity;
    uint64_t steps; /* regions visited; whoever renders a view begins it at 0 */

    struct gm_region **siblings; /* a stack: the children under work, of each level */
    size_t sibling_count;
    size_t sibling_capacity;
};

void render_begin(struct render *render, struct map_locked locked, struct render_limits limits);

/*
 * Render @root's ranges within @window (of the address space, not empty) into render->ranges, which begin anew.
 * Return: 0; -ELOOP the tree comes back to itself at the same address; -E2BIG a limit; -ENOMEM.
 */
int render_window(struct render *render, struct gm_region *root, struct span window);

void render_end(struct render *render);

#endif
