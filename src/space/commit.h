/*
 * space/commit.h - applying edits to a map as one step.
 */
#ifndef SPACE_COMMIT_H
#define SPACE_COMMIT_H

#include "region/edit.h"
#include "space/hub.h"
#include "space/space.h"

/* The calling thread is inside a listener's callback of this map (it holds the lock already). */
static inline bool commit_is_nested(const struct gm_map *map)
{
    return lock_is_mine(&map->lock);
}

/* 0, or -EIO: the map is broken or given up. What only takes things down need not ask. */
int commit_allowed(struct map_locked locked, struct gm_diag *diag);

/*
 * Apply all edits, or none: see gm_txn_commit() for the steps and the errors.
 */
int commit_edits(struct map_locked locked, struct edit *edits, size_t count, struct gm_diag *diag);

#endif
