/* space/audit.c - the invariants of a map, counted anew. */
#include "space/audit.h"

#include "base/check.h"
#include "space/cell.h"
#include "view/resolve.h"

/* ---- the tree ---- */

struct child_count {
    const struct gm_region *parent;
    uint64_t all;
    uint64_t enabled;
};

static bool count_child(void *opaque, struct gm_region *child)
{
    struct child_count *count = opaque;

    GM_ASSERT(child->parent == count->parent);
    count->all++;
    count->enabled += child->enabled;
    return true;
}

static void audit_children(const struct gm_region *region)
{
    struct child_count count = {.parent = region};

    children_audit(&region->children);
    children_visit_all(&region->children, count_child, &count);
    GM_ASSERT(count.all == region->children.count);
    GM_ASSERT(count.enabled == region->enabled_child_count);
}

static void audit_uses(const struct gm_region *region)
{
    const struct gm_region *alias;
    uint64_t uses = 0;

    uses += region->cell != NULL;
    uses += region->parent != NULL && region->parent->uses > 0;
    for (alias = region->used_aliases; alias != NULL; alias = alias->next_used_alias) {
        GM_ASSERT(alias->target == region && alias->uses > 0);
        GM_ASSERT(*alias->prev_used_alias == alias);
        uses++;
    }
    GM_ASSERT(uses == region->uses);
    GM_ASSERT(region->target == NULL || (region->uses > 0) == (region->prev_used_alias != NULL));
}

/* ---- spaces and cells ---- */

static void audit_cell(struct map_locked locked, const struct cell *cell)
{
    const struct hub *hub = locked.map->hub;
    const struct gm_space *space;
    uint32_t count = 0;

    GM_ASSERT(cell->root == NULL ? cell == hub->empty_cell : cell->root->cell == cell);
    GM_ASSERT(!cell->touched && cell->next_view == NULL && cell->damage.count == 0);
    for (space = cell->spaces; space != NULL; space = space->next_in_cell) {
        GM_ASSERT(atomic_load_explicit(&space->cell, memory_order_relaxed) == cell);
        count++;
    }
    GM_ASSERT(count == cell->space_count);
    GM_ASSERT(count > 0 || cell == hub->empty_cell);
    view_audit(cell_view(cell));
}

static void audit_space(struct map_locked locked, const struct gm_space *space)
{
    const struct cell *cell = atomic_load_explicit(&space->cell, memory_order_relaxed);
    struct gm_region *root = NULL;
    int result = resolve_root(locked, space->root, locked.map->hub->way_stamp, &root);

    GM_ASSERT(result == 0 && cell->root == root);
}

/* ---- views against a rendering from scratch ---- */

static void audit_view(const struct gm_view *view, struct render *render)
{
    struct range merged = {0};
    size_t at = 0;
    size_t i;

    if (view->root == NULL) {
        GM_ASSERT(view->range_count == 0);
        return;
    }
    if (render_window(render, view->root, span_of(0, POS_2_64)) != 0) {
        return; /* no memory for an audit */
    }
    for (i = 0; i < render->count; i++) {
        merged = render->ranges[i];
        while (i + 1 < render->count && range_merges(&merged, &render->ranges[i + 1])) {
            i++;
            merged.last = render->ranges[i].last;
        }
        GM_ASSERT(at < view->range_count && range_equals(&merged, view_range(view, at)));
        GM_ASSERT(merged.log_mask == view_range(view, at)->log_mask);
        GM_ASSERT(merged.eventfds == view_range(view, at)->eventfds);
        GM_ASSERT(merged.coalesced == view_range(view, at)->coalesced);
        at++;
    }
    GM_ASSERT(at == view->range_count);
}

void map_audit(struct map_locked locked)
{
    const struct hub *hub = locked.map->hub;
    const struct gm_region *region;
    const struct gm_space *space;
    const struct cell *cell;
    struct render render;

    for (region = locked.map->regions; region != NULL; region = region->next_in_map) {
        audit_children(region);
        audit_uses(region);
    }
    for (space = hub->spaces; space != NULL; space = space->next) {
        audit_space(locked, space);
    }
    render_begin(&render, locked, hub->limits);
    for (cell = hub->cells; cell != NULL; cell = cell->next) {
        audit_cell(locked, cell);
        audit_view(cell_view(cell), &render);
    }
    render_end(&render);
}
