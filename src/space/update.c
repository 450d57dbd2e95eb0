/*
 * space/update.c - bringing a cell's view up to date: render the damage, sew it to what is untouched, compare.
 */
#include "space/cell.h"

#include <errno.h>

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
    fresh = mem_reserve(&update->cell->map->scratch.allocator, update->fresh,
                        &update->fresh_capacity, update->fresh_count + 1, sizeof(*fresh));
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
        struct span piece = span_meet(span, (struct span){range.gpa, (pos_t)range.last + 1});
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

static bool is_unmergeable(const struct range *range)
{
    return (range->flags & GM_SECTION_UNMERGEABLE) != 0;
}

/*
 * Widen @span over unmergeable ranges that it cuts or touches (what is rendered there could not be put
 * together with the rest of them), and say which old ranges it meets.
 */
static struct window window_of(const struct gm_view *old, struct span *span)
{
    struct window window;
    const struct range *range;

    window.old_first = view_lower_bound(old, (uint64_t)span->start);
    window.old_end =
        span->end >= POS_2_64 ? old->range_count : view_lower_bound(old, (uint64_t)span->end);
    if (window.old_end < old->range_count) {
        range = view_range(old, window.old_end);
        if ((pos_t)range->gpa < span->end || /* the span ends inside it, or right before it */
            ((pos_t)range->gpa == span->end && is_unmergeable(range))) {
            window.old_end++;
            span->end = is_unmergeable(range) ? (pos_t)range->last + 1 : span->end;
        }
    }
    if (window.old_first > 0) {
        range = view_range(old, window.old_first - 1);
        if ((pos_t)range->last + 1 == span->start && is_unmergeable(range)) {
            window.old_first--;
        }
    }
    if (window.old_first < window.old_end) {
        range = view_range(old, window.old_first);
        if (is_unmergeable(range)) {
            span->start = pos_min(span->start, range->gpa);
        }
    }
    return window;
}

/*
 * Damage span *i, widened, with those after it that it reaches once they are widened too: what an
 * unmergeable range is rendered from must not be cut. *i becomes the last of them.
 */
static struct window next_span(const struct update *update, uint32_t *i, struct span *span)
{
    const struct damage *damage = &update->cell->damage;
    struct window window;

    *span = damage->spans[*i];
    window = window_of(update->old, span);
    for (; *i + 1 < damage->count; ++*i) {
        struct span following = damage->spans[*i + 1];
        struct window met = window_of(update->old, &following);

        if (following.start > span->end) {
            break;
        }
        span->end = pos_max(span->end, following.end);
        window.old_end = met.old_end > window.old_end ? met.old_end : window.old_end;
    }
    return window;
}

/*
 * The window of damage span @i, and of those after it that meet the same old ranges.
 * Return: 0 or -errno; *next is the first span that is not in it.
 */
static int render_one_window(struct update *update, uint32_t i, uint32_t *next)
{
    struct window *window = &update->windows[update->window_count];
    pos_t done = 0;
    int result = 0;

    *next = i;
    for (; i < update->cell->damage.count && result == 0; *next = ++i) {
        struct span span;
        struct window met = next_span(update, &i, &span);

        if (done == 0) {
            *window = met;
            window->fresh_first = update->fresh_count;
        } else if (met.old_first >= window->old_end) {
            break;
        }
        window->old_end = met.old_end > window->old_end ? met.old_end : window->old_end;
        result = add_old(update, window, (struct span){done, span.start});
        if (result == 0) {
            result = add_rendered(update, window, span);
            done = span.end;
        }
    }
    if (result == 0) {
        result = add_old(update, window, (struct span){done, POS_2_64});
    }
    window->fresh_end = update->fresh_count;
    return result;
}

static int render_windows(struct update *update)
{
    uint32_t i = 0;

    while (i < update->cell->damage.count) {
        int result = render_one_window(update, i, &i);

        if (result != 0) {
            return result;
        }
        update->window_count++;
    }
    return 0;
}

/* ---- sewing windows to what is around them ---- */

/* An untouched range that the window's first merges with becomes part of what changes. */
static void take_before(struct update *update, struct window *window)
{
    struct range *first = &update->fresh[window->fresh_first];
    const struct range *before;
    uint64_t by;

    if (window->old_first == 0) {
        return;
    }
    before = view_range(update->old, window->old_first - 1);
    if (range_merges(before, first)) {
        by = first->gpa - before->gpa;
        first->gpa -= by;
        first->offset -= by;
        first->hva = first->hva != NULL ? first->hva - by : NULL;
        window->old_first--;
    }
}

static void take_after(struct update *update, struct window *window, size_t end)
{
    struct range *last = &update->fresh[window->fresh_end - 1];
    const struct range *after;

    if (window->old_end >= end) {
        return;
    }
    after = view_range(update->old, window->old_end);
    if (range_merges(last, after)) {
        last->last = after->last;
        window->old_end++;
    }
}

/* Two windows without a range between them, whose ranges merge where they meet, are one: the second goes. */
static bool join_windows(struct update *update, uint32_t w)
{
    struct window *window = &update->windows[w - 1];
    struct window *next = &update->windows[w];
    struct range *fresh = update->fresh;
    uint32_t i;

    if (window->old_end != next->old_first || window->fresh_first == window->fresh_end ||
        next->fresh_first == next->fresh_end ||
        !range_merges(&fresh[window->fresh_end - 1], &fresh[next->fresh_first])) {
        return false;
    }
    fresh[window->fresh_end - 1].last = fresh[next->fresh_first].last;
    memmove(&fresh[next->fresh_first], &fresh[next->fresh_first + 1],
            (update->fresh_count - next->fresh_first - 1) * sizeof(*fresh));
    update->fresh_count--;
    window->old_end = next->old_end;
    window->fresh_end = next->fresh_end - 1;
    update->window_count--;
    memmove(next, next + 1, (update->window_count - w) * sizeof(*next));
    for (i = w; i < update->window_count; i++) {
        update->windows[i].fresh_first--;
        update->windows[i].fresh_end--;
    }
    return true;
}

static void sew_windows(struct update *update)
{
    uint32_t w = 0;

    while (w < update->window_count) {
        struct window *window = &update->windows[w];
        bool is_last = w + 1 == update->window_count;
        size_t end = is_last ? update->old->range_count : update->windows[w + 1].old_first;

        if (window->fresh_first < window->fresh_end) {
            if (w == 0 || update->windows[w - 1].old_end < window->old_first) {
                take_before(update, window);
            }
            take_after(update, window, end);
        }
        if (w == 0 || !join_windows(update, w)) {
            w++;
        }
    }
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
            old->eventfds != fresh->eventfds || old->coalesced != fresh->coalesced) {
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
            int result = passes[pass](&cell->changes, &cell->map->scratch.allocator, before, after);

            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

int cell_update(struct cell *cell, struct render *render)
{
    struct update update;
    bool differs = false;
    uint32_t w;
    int result;

    /* Member by member: the windows are not touched before they are needed. */
    update.cell = cell;
    update.old = cell_view(cell);
    update.render = render;
    update.window_count = 0;
    update.fresh = NULL;
    update.fresh_count = 0;
    update.fresh_capacity = 0;
    count_add(&cell->map->hub->rendered_views, 1);
    render->steps = 0; /* the limit is a view's */
    result = render_windows(&update);
    if (result == 0) {
        sew_windows(&update);
    }
    for (w = 0; w < update.window_count && result == 0; w++) {
        differs = differs || window_differs(&update, &update.windows[w]);
    }
    if (result == 0 && differs) {
        result = build_view(&update);
    }
    if (result == 0 && !cell->is_new && cell->map->hub->listener_count > 0) {
        result = build_changes(&update);
    }
    mem_free(&cell->map->scratch.allocator, update.fresh);
    return result;
}
