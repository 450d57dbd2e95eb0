/*
 * space/audit.h - checking a whole map against its invariants, in builds with -Daudit=true.
 */
#ifndef SPACE_AUDIT_H
#define SPACE_AUDIT_H

#include "region/map.h"

/*
 * Stops the program unless, between commits:
 *   I-5  every region's children are in its index once, at their place, and name it as parent
 *   I-6  enabled_child_count counts the enabled children
 *   I-7  uses counts a cell, a used parent and used aliases; just the used aliases are in their
 *        target's list
 *   I-8  every space is in the cell of the region that its root resolves to, and every cell but the
 *        empty one has spaces
 *   I-9  what a cell publishes is what rendering its root from scratch gives
 */
void map_audit(struct map_locked locked);

#endif
