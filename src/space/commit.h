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
    return map_is_locked_out(map);
}

/* 0, or -EIO: the map is a copy in a child of fork(). Before anything is waited for; not asked of who takes it down. */
int commit_in_parent(const struct gm_map *map, struct gm_diag *diag);

/* 0, or -EIO: the map is broken or given up. What only takes things down need not ask. */
int commit_allowed(struct map_locked locked, struct gm_diag *diag);

/*
 * Apply all edits, or none: see gm_txn_commit() for the steps and the errors.
 */
int commit_edits(struct map_locked locked, struct edit *edits, size_t count, struct gm_diag *diag);

#endif
