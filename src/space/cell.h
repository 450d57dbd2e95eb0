/*
 * space/cell.h - a cell: one resolved root, its published view, and the spaces that show it. During a
 * commit it also carries what the edits may have touched, and the view that will follow.
 */
#ifndef SPACE_CELL_H
#define SPACE_CELL_H

#include "base/point.h"
#include "space/hub.h"
#include "space/space.h"
#include "view/diff.h"

/* Touched spans kept apart; more are joined into one. */
#define DAMAGE_SPANS 16u

/* Stretches of an address space that a commit's edits can have touched: ascending, apart. */
struct damage {
    uint32_t count;
    struct span spans[DAMAGE_SPANS];
};

void damage_add(struct damage *damage, struct span span);

struct cell {
    _Atomic(struct gm_view *) view; /* first: the readers' way to it is short */
    struct gm_map *map;
    struct gm_region *root; /* referenced; NULL for the empty cell */
    struct gm_space *spaces;
    uint32_t space_count;
    struct cell *next;
    struct cell **prev;
    struct rcu_item reclaim;

    /* ---- the commit under way ---- */
    bool touched;
    bool is_new;
    struct cell *next_touched;
    uint32_t next_space_count;
    struct damage damage;
    struct gm_view *next_view; /* NULL: the view stays */
    struct change_list changes;
};

/* What the space shows now: borrowed until the read section that the caller is in ends. */
static inline const struct gm_view *space_view(const struct gm_space *space)
{
    /* acquire, twice: pairs with the releases in cell_link_space() and publish() */
    struct cell *cell = rcu_load(&((struct gm_space *)space)->cell);
    const struct gm_view *view;

    GM_POINT("cell-loaded");
    view = rcu_load(&cell->view);
    GM_POINT("view-loaded");
    return view;
}

static inline struct gm_view *cell_view(const struct cell *cell)
{
    return atomic_load_explicit(&cell->view, memory_order_relaxed); /* the lock orders it */
}

/*
 * Make the cell of @root, with an empty view, and enter it in hub and region. NULL: no memory.
 */
struct cell *cell_new(struct map_locked locked, struct gm_region *root);

/* Take a cell without spaces out; its memory goes after a grace period. */
void cell_remove(struct map_locked locked, struct cell *cell);

void cell_link_space(struct cell *cell, struct gm_space *space);
void cell_unlink_space(struct gm_space *space);

/*
 * Render what is damaged, and compare: sets next_view (if anything differs) and changes.
 * Return: 0; -ELOOP; -E2BIG; -ENOMEM.
 */
int cell_update(struct cell *cell, struct render *render);

/* Forget the commit's scratch; a next_view that was not published is freed. */
void cell_settle(struct cell *cell);

#endif
