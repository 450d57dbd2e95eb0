/* space/damage.c - finding what shows an edited region. */
#include "space/damage.h"

#define MAX_DEPTH 64u

void damage_cell(struct damage_walk *walk, struct cell *cell, struct span span)
{
    damage_add(&cell->damage, span);
    if (!cell->touched) {
        cell->touched = true;
        cell->next_touched = walk->touched;
        walk->touched = cell;
    }
}

void damage_all(struct damage_walk *walk)
{
    struct cell *cell;

    for (cell = walk->locked.map->hub->cells; cell != NULL; cell = cell->next) {
        if (cell->root != NULL) {
            damage_cell(walk, cell, span_of(0, POS_2_64));
        }
    }
    walk->steps_left = 0;
}

/* @span, in the region's own coordinates, may look different: who shows it? */
static void reach(struct damage_walk *walk, const struct gm_region *region, struct span span,
                  unsigned depth)
{
    const struct gm_region *alias;

    span = span_meet(span, region_span(region));
    if (span_is_empty(span) || !region->enabled || region->uses == 0) {
        return;
    }
    if (walk->steps_left == 0) {
        return; /* everything is damaged already */
    }
    if (depth == MAX_DEPTH || walk->steps_left == 1) {
        damage_all(walk);
        return;
    }
    walk->steps_left--;
    if (region->cell != NULL) {
        damage_cell(walk, region->cell, span_shift(span, region->addr));
    }
    if (region->parent != NULL) {
        reach(walk, region->parent, span_shift(span, region->addr), depth + 1);
    }
    for (alias = region->used_aliases; alias != NULL; alias = alias->next_used_alias) {
        reach(walk, alias, span_shift(span, -(pos_t)alias->target_offset), depth + 1);
    }
}

static void reach_in_parent(struct damage_walk *walk, const struct gm_region *child)
{
    if (child->parent != NULL && child->enabled) {
        reach(walk, child->parent, span_of(child->addr, child->size), 0);
    }
}

void damage_edit(struct damage_walk *walk, const struct edit *edit)
{
    const struct gm_region *region = edit->region;

    switch (edit->kind) {
    case EDIT_ADD:
    case EDIT_DEL:
        if (region->parent == edit->parent) {
            reach_in_parent(walk, region);
        }
        break;
    case EDIT_PRIORITY:
        reach_in_parent(walk, region);
        break;
    case EDIT_ADDR: /* aliases of it show it where they are, wherever it is */
        reach_in_parent(walk, region);
        if (region->cell != NULL) {
            damage_cell(walk, region->cell, span_of(region->addr, region->size));
        }
        break;
    case EDIT_LOG_ALL:
        damage_all(walk);
        break;
    case EDIT_ROOT:
        break;
    default:
        reach(walk, region, region_span(region), 0);
    }
}
