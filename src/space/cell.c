/* space/cell.c - making cells, and bringing their views up to date. */
#include "space/cell.h"

#include <errno.h>

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
    struct cell *cell = (struct cell *)((char *)item - offsetof(struct cell, reclaim));
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
    mem_free(&cell->map->allocator, cell->changes.items);
    cell->changes = (struct change_list){0};
    cell->damage.count = 0;
    cell->touched = false;
    cell->is_new = false;
}

/* ---- rendering what is damaged ---- */

/* A stretch of the old view's ranges, and what takes its place. */
struct window {
    size_t old_first;
    size_t old_end;
    size_t fresh_first;
    size_t fresh_end;
};

struct update {
    struct cell *cell;
    struct gm_view *old;
    struct render *render;
    struct window windows[DAMAGE_SPANS];
    uint32_t window_count;
    struct range *fresh;
    size_t fresh_count;
    size_t fresh_capacity;
};

static int add_fresh(struct update *update, const struct window *window, const struct range *range)
{
    struct range *fresh;

    if (update->fresh_count > window->fresh_first &&
        range_merges(&update->fresh[update->fresh_count - 1], range)) {
        update->fresh[update->fresh_count - 1].last = range->last;
        return 0;
    }
    fresh = mem_reserve(&update->cell->map->allocator, update->fresh, &update->fresh_capacity,
                        update->fresh_count + 1, sizeof(*fresh));
    if (fresh == NULL) {
        return -ENOMEM;
    }
    update->fresh = fresh;
    fresh[update->fresh_count] = *range;
    update->fresh_count++;
    return 0;
}

/* The parts of the window's old ranges that lie in @span: untouched, so taken over as they are. */
static int add_old(struct update *update, const struct window *window, struct span span)
{
    size_t end = span_is_empty(span) ? 0 : window->old_end;
    size_t i;
    int result = 0;

    for (i = window->old_first; i < end && result == 0; i++) {
        struct range range = *view_range(update->old, i);
        struct span piece =
            span_meet(span, (struct span){range.gpa, (pos_t)range.last + 1});
        uint64_t cut;

        if (span_is_empty(piece)) {
            continue;
        }
        cut = (uint64_t)(piece.start - (pos_t)range.gpa);
        range.gpa += cut;
        range.offset += cut;
        range.hva = range.hva != NULL ? range.hva + cut : NULL;
        range.last = (uint64_t)(piece.end - 1);
        result = add_fresh(update, window, &range);
    }
    return result;
}

static int add_rendered(struct update *update, const struct window *window, struct span span)
{
    struct render *render = update->render;
    struct hub *hub = update->cell->map->hub;
    uint64_t steps = render->steps;
    size_t i;
    int result;

    result = render_window(render, update->cell->root, span);
    count_add(&hub->rendered_ranges, render->count);
    count_add(&hub->visited_regions, render->steps - steps);
    for (i = 0; i < render->count && result == 0; i++) {
        result = add_fresh(update, window, &render->ranges[i]);
    }
    return result;
}

/*
 * Widen @span over unmergeable ranges that it cuts (their parts could not be put together again), and
 * say which old ranges it meets.
 */
static struct window window_of(const struct gm_view *old, struct span *span)
{
    struct window window;
    const struct range *range;

    window.old_first = view_lower_bound(old, (uint64_t)span->start);
    if (window.old_first < old->range_count) {
        range = view_range(old, window.old_first);
        if ((range->flags & GM_SECTION_UNMERGEABLE) != 0 && (pos_t)range->gpa < span->end) {
            span->start = pos_min(span->start, range->gpa);
        }
    }
    window.old_end = span->end >= POS_2_64 ? old->range_count
                                           : view_lower_bound(old, (uint64_t)span->end);
    if (window.old_end < old->range_count) {
        range = view_range(old, window.old_end);
        if ((pos_t)range->gpa < span->end) { /* the span ends inside it */
            window.old_end++;
            if ((range->flags & GM_SECTION_UNMERGEABLE) != 0) {
                span->end = (pos_t)range->last + 1;
            }
        }
    }
    return window;
}

/* Neighbours that the new ranges merge with are part of what changes. */
static void take_neighbours(struct update *update, struct window *window)
{
    const struct gm_view *old = update->old;
    struct range *first;
    struct range *last;

    if (update->fresh_count == window->fresh_first) {
        return;
    }
    first = &update->fresh[window->fresh_first];
    last = &update->fresh[update->fresh_count - 1];
    if (window->old_first > 0) {
        const struct range *before = view_range(old, window->old_first - 1);

        if (range_merges(before, first)) {
            uint64_t by = first->gpa - before->gpa;

            first->gpa -= by;
            first->offset -= by;
            first->hva = first->hva != NULL ? first->hva - by : NULL;
            window->old_first--;
        }
    }
    if (window->old_end < old->range_count) {
        const struct range *after = view_range(old, window->old_end);

        if (range_merges(last, after)) {
            last->last = after->last;
            window->old_end++;
        }
    }
}

/*
 * The window of damage span @i and of those after it that come too near: two untouched ranges have to lie
 * between windows, so that each can merge with its neighbours without regard to the other.
 * Return: 0 or -errno; *next is the first span that is not in it.
 */
static int update_window(struct update *update, uint32_t i, uint32_t *next)
{
    const struct damage *damage = &update->cell->damage;
    struct window *window = &update->windows[update->window_count];
    pos_t done = 0;
    int result = 0;

    for (; i < damage->count && result == 0; i++) {
        struct span span = damage->spans[i];
        struct window met = window_of(update->old, &span);

        if (done == 0) {
            *window = met;
            window->fresh_first = update->fresh_count;
        } else if (met.old_first > window->old_end + 1) {
            break;
        }
        window->old_end = met.old_end > window->old_end ? met.old_end : window->old_end;
        span.start = pos_max(span.start, done);
        result = add_old(update, window, (struct span){done, span.start});
        if (result == 0 && !span_is_empty(span)) {
            result = add_rendered(update, window, span);
            done = span.end;
        }
    }
    *next = i;
    if (result == 0) {
        result = add_old(update, window, (struct span){done, POS_2_64});
    }
    if (result == 0) {
        take_neighbours(update, window);
    }
    window->fresh_end = update->fresh_count;
    return result;
}

static int update_windows(struct update *update)
{
    uint32_t i = 0;

    while (i < update->cell->damage.count) {
        int result = update_window(update, i, &i);

        if (result != 0) {
            return result;
        }
        update->window_count++;
    }
    return 0;
}

static bool window_differs(const struct update *update, const struct window *window)
{
    size_t count = window->old_end - window->old_first;
    size_t i;

    if (window->fresh_end - window->fresh_first != count) {
        return true;
    }
    for (i = 0; i < count; i++) {
        const struct range *old = view_range(update->old, window->old_first + i);
        const struct range *fresh = &update->fresh[window->fresh_first + i];

        if (!range_equals(old, fresh) || old->log_mask != fresh->log_mask ||
            old->eventfds != fresh->eventfds) {
            return true;
        }
    }
    return false;
}

static int build_view(struct update *update)
{
    struct cell *cell = update->cell;
    struct view_builder builder;
    size_t kept = 0;
    uint32_t w;
    size_t i;

    view_build_begin(&builder, cell->map, update->old);
    for (w = 0; w < update->window_count; w++) {
        const struct window *window = &update->windows[w];

        view_build_keep(&builder, kept, window->old_first);
        for (i = window->fresh_first; i < window->fresh_end; i++) {
            view_build_add(&builder, &update->fresh[i]);
        }
        kept = window->old_end;
    }
    view_build_keep(&builder, kept, update->old->range_count);
    cell->next_view = view_build_end(&builder, cell->root);
    if (cell->next_view == NULL) {
        return -ENOMEM;
    }
    return cell->next_view->range_count > update->render->limits.max_ranges ? -E2BIG : 0;
}

static int build_changes(struct update *update)
{
    static int (*const passes[])(struct change_list *, const struct gm_allocator *,
                                 struct range_source,
                                 struct range_source) = {diff_first_pass, diff_second_pass};
    struct cell *cell = update->cell;
    unsigned pass;
    uint32_t w;

    for (pass = 0; pass < 2; pass++) {
        for (w = 0; w < update->window_count; w++) {
            const struct window *window = &update->windows[w];
            struct range_source before = {update->old, NULL, window->old_first, window->old_end};
            struct range_source after = {NULL, update->fresh, window->fresh_first,
                                         window->fresh_end};
            int result = passes[pass](&cell->changes, &cell->map->allocator, before, after);

            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

int cell_update(struct cell *cell, struct render *render)
{
    struct update update = {.cell = cell, .old = cell_view(cell), .render = render};
    bool differs = false;
    uint32_t w;
    int result;

    count_add(&cell->map->hub->rendered_views, 1);
    result = update_windows(&update);
    for (w = 0; w < update.window_count && result == 0; w++) {
        differs = differs || window_differs(&update, &update.windows[w]);
    }
    if (result == 0 && differs) {
        result = build_view(&update);
    }
    if (result == 0 && !cell->is_new) {
        result = build_changes(&update);
    }
    mem_free(&cell->map->allocator, update.fresh);
    return result;
}
