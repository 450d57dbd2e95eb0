/*
 * region/uses.h - which regions edits travel upwards through: see gm_region.uses.
 */
#ifndef REGION_USES_H
#define REGION_USES_H

#include "region/region.h"

/*
 * One more, one less, of what makes a region used: a cell of its own, a used parent, a used alias. The
 * first and the last are passed on to the children and to an alias's target. No memory, no recursion.
 */
void uses_add(struct map_locked locked, struct gm_region *region);
void uses_drop(struct map_locked locked, struct gm_region *region);

#endif
