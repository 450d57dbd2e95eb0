/*
 * region/children.h - a region's children, indexed by where they are.
 *
 * A treap keyed by address, each node knowing how far the subtree below it reaches, answers "which children
 * touch this span" without looking at the others: what one BAR's toggle costs among five hundred. The
 * links are inside the children, so that adding one needs no memory and undoing cannot fail.
 */
#ifndef REGION_CHILDREN_H
#define REGION_CHILDREN_H

#include "base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gm_region;

/* A child's place; `added` orders equal priorities: the larger was added later and wins. */
struct child_link {
    struct gm_region *left;
    struct gm_region *right;
    pos_t subtree_end; /* the largest end (exclusive) in the subtree */
    uint64_t added;
    uint64_t weight; /* the treap's heap order, a hash */
};

struct children {
    struct gm_region *top;
    uint64_t count;
    uint64_t next_added;
};

/* Put in, take out; the child's addr and size must not change while it is in. */
void children_insert(struct children *children, struct gm_region *child);
void children_remove(struct children *children, struct gm_region *child);

/* Call @visit for each child whose extent meets @span, by address, until it returns false. */
bool children_visit(const struct children *children, struct span span,
                    bool (*visit)(void *opaque, struct gm_region *child), void *opaque);

/* The same for every child, also those without extent. */
bool children_visit_all(const struct children *children,
                        bool (*visit)(void *opaque, struct gm_region *child), void *opaque);

/* Does @a win over @b, its sibling? */
bool child_wins(const struct gm_region *a, const struct gm_region *b);

/* Stops the program if the treap's orders, ends or count are wrong. */
void children_audit(const struct children *children);

#endif
