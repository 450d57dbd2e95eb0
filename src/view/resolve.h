/*
 * view/resolve.h - which region an address space is really rendered from: spaces that resolve to the same
 * one share a view.
 */
#ifndef VIEW_RESOLVE_H
#define VIEW_RESOLVE_H

#include "region/region.h"

/*
 * One step: the region that @region leads to; @region itself where the way ends; NULL where it leads to
 * nothing. An alias with offset 0, not smaller than its target, leads to the target. A region
 * without content of its own leads to its only enabled child, if that is at address 0 and not
 * larger; without enabled children, to nothing. A disabled region leads to nothing.
 */
struct gm_region *resolve_step(struct gm_region *region);

/*
 * The end of the way from @root (may be NULL). The regions on it get @stamp, and so does the target of an
 * alias that it ends at: only edits of stamped regions, or of their children, can change the way.
 * Return: 0; -ELOOP it goes round.
 */
int resolve_root(struct map_locked locked, struct gm_region *root, uint64_t stamp,
                 struct gm_region **resolved);

#endif
