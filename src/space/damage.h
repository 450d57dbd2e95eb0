/*
 * space/damage.h - where in which cells an edit can be seen.
 *
 * An edit touches a stretch of one region. What shows it is found by going upwards: to the parent, to each
 * used alias, and so on to the regions that cells are rendered from, clipping on the way. The way up
 * is walked in the tree as it is before the edit and again as it is after it, so that both where a
 * thing was and where it went are rendered anew.
 */
#ifndef SPACE_DAMAGE_H
#define SPACE_DAMAGE_H

#include "region/edit.h"
#include "space/cell.h"

struct damage_walk {
    struct map_locked locked;
    struct cell *touched; /* cells with damage, by next_touched */
    uint32_t steps_left;  /* of the commit: past it, everything is rendered anew */
};

/* Note that all of, or a part of, a cell has to be rendered. */
void damage_cell(struct damage_walk *walk, struct cell *cell, struct span span);
void damage_all(struct damage_walk *walk);

/* Note what an edit touches, in the tree as it is now. Call it before and after applying. */
void damage_edit(struct damage_walk *walk, const struct edit *edit);

#endif
