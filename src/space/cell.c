/* space/cell.c - cells: their life, and the damage that a commit notes in them. */
#include "space/cell.h"

#include "base/check.h"
#include "region/uses.h"

/* ---- damage ---- */

void damage_add(struct damage *damage, struct span span)
{
    uint32_t at = 0;
    uint32_t end;

    span = span_meet(span, span_of(0, POS_2_64));
    if (span_is_empty(span)) {
        return;
    }
    while (at < damage->count && damage->spans[at].end < span.start) {
        at++;
    }
    for (end = at; end < damage->count && damage->spans[end].start <= span.end; end++) {
        span = span_join(span, damage->spans[end]);
    }
    if (at == end && damage->count == DAMAGE_SPANS) {
        span = span_join(span, span_join(damage->spans[0], damage->spans[DAMAGE_SPANS - 1]));
        at = 0;
        end = DAMAGE_SPANS;
    }
    memmove(&damage->spans[at + 1], &damage->spans[end],
            (damage->count - end) * sizeof(damage->spans[0]));
    damage->spans[at] = span;
    damage->count += 1 - (end - at);
}

/* ---- life ---- */

struct cell *cell_new(struct map_locked locked, struct gm_region *root)
{
    struct gm_map *map = locked.map;
    struct cell *cell = mem_zalloc(&map->allocator, sizeof(*cell));
    struct view_builder builder;
    struct gm_view *view;

    if (cell == NULL) {
        return NULL;
    }
    view_build_begin(&builder, map, NULL);
    view = view_build_end(&builder, root);
    if (view == NULL) {
        mem_free(&map->allocator, cell);
        return NULL;
    }
    atomic_init(&cell->view, view);
    cell->map = map;
    cell->root = root;
    cell->next = map->hub->cells;
    cell->prev = &map->hub->cells;
    if (cell->next != NULL) {
        cell->next->prev = &cell->next;
    }
    map->hub->cells = cell;
    map_get(map);
    if (root != NULL) {
        gm_region_get(root);
        root->cell = cell;
        uses_add(locked, root);
    }
    return cell;
}

static void reclaim(struct rcu_item *item)
{
    struct cell *cell = rcu_owner(item, struct cell, reclaim);
    struct gm_map *map = cell->map;

    view_put(cell_view(cell));
    gm_region_put(cell->root);
    mem_free(&map->allocator, cell);
    map_put(map);
}

void cell_remove(struct map_locked locked, struct cell *cell)
{
    GM_ASSERT(cell->space_count == 0);
    if (cell->root != NULL) {
        cell->root->cell = NULL;
        uses_drop(locked, cell->root);
    }
    *cell->prev = cell->next;
    if (cell->next != NULL) {
        cell->next->prev = cell->prev;
    }
    rcu_defer(&cell->reclaim, reclaim);
}

void cell_link_space(struct cell *cell, struct gm_space *space)
{
    space->next_in_cell = cell->spaces;
    space->prev_in_cell = &cell->spaces;
    if (cell->spaces != NULL) {
        cell->spaces->prev_in_cell = &space->next_in_cell;
    }
    cell->spaces = space;
    cell->space_count++;
    /* release: pairs with the acquire in space_view() */
    rcu_store(&space->cell, cell);
}

void cell_unlink_space(struct gm_space *space)
{
    struct cell *cell = atomic_load_explicit(&space->cell, memory_order_relaxed);

    *space->prev_in_cell = space->next_in_cell;
    if (space->next_in_cell != NULL) {
        space->next_in_cell->prev_in_cell = space->prev_in_cell;
    }
    cell->space_count--;
}

void cell_settle(struct cell *cell)
{
    if (cell->next_view != NULL) {
        view_put(cell->next_view);
        cell->next_view = NULL;
    }
    mem_free(&cell->map->scratch.allocator, cell->changes.items);
    cell->changes = (struct change_list){0};
    cell->damage.count = 0;
    cell->touched = false;
    cell->is_new = false;
}
