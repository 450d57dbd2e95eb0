/*
 * space/commit.c - a commit, step by step.
 *
 *   apply the edits to the tree, noting what shows them        (taken back in reverse on failure)
 *   resolve the spaces' roots, if an edit can have moved them
 *   render the damaged windows of the cells; compare           (pure)
 *   listeners prepare                                          the last that may fail for memory
 *   listeners are told; slot backends apply                    (undone on failure)
 *   publish: one store for each changed cell                   cannot fail
 *   listeners settle and commit; what the tree gave up is dropped
 */
#include "space/commit.h"

#include "base/check.h"
#include "base/diag.h"
#include "space/audit.h"
#include "space/cell.h"
#include "space/damage.h"
#include "space/tell.h"
#include "view/resolve.h"

#include <errno.h>

/* Steps up the tree that a commit follows before it renders everything instead. */
#define REACH_STEPS 4096u

/* A space that goes to another cell: everything it shows is compared. */
struct move {
    struct gm_space *space;
    struct change_list changes;
};

struct commit {
    struct map_locked locked;
    struct hub *hub;
    struct edit *edits;
    size_t count;
    size_t applied; /* edits that are in the tree */
    bool roots_may_move;
    struct damage_walk walk;
    struct render render;
    struct move *moves;
    size_t move_count;
    size_t move_capacity;
    struct telling telling;
    struct gm_diag *diag;
};

/* ---- the tree ---- */

/* Where roots that lead through the edited regions go on to: if that changes, spaces may move. */
struct ways {
    struct gm_region *region;
    struct gm_region *parent;
    bool is_size; /* an alias's way depends on its target's size, too */
};

static struct gm_region *way_from(const struct hub *hub, struct gm_region *region)
{
    return region != NULL && region->way_stamp == hub->way_stamp ? resolve_step(region) : NULL;
}

static struct ways ways_of(const struct hub *hub, const struct edit *edit)
{
    struct gm_region *region = edit->region;
    struct gm_region *parent = edit->parent;

    if (parent == NULL && region != NULL) {
        parent = region->parent;
    }
    return (struct ways){
        .region = way_from(hub, region),
        .parent = way_from(hub, parent),
        .is_size = edit->kind == EDIT_SIZE && region->way_stamp == hub->way_stamp,
    };
}

static int apply_root(struct edit *edit)
{
    if (edit->space->prev == NULL) {
        return -ENOENT; /* it has ended */
    }
    edit->from.root = edit->space->root;
    edit->space->root = edit->region;
    if (edit->region != NULL) {
        gm_region_get(edit->region);
    }
    return 0;
}

static int apply_one(struct commit *commit, struct edit *edit)
{
    struct ways before;
    struct ways after;
    int result;

    if (edit->kind == EDIT_ROOT) {
        return apply_root(edit);
    }
    if (!edit_changes(commit->locked, edit)) {
        return edit_apply(commit->locked, edit);
    }
    before = ways_of(commit->hub, edit);
    damage_edit(&commit->walk, edit);
    result = edit_apply(commit->locked, edit);
    if (result != 0) {
        return result;
    }
    damage_edit(&commit->walk, edit);
    after = ways_of(commit->hub, edit);
    if (after.is_size || before.region != after.region || before.parent != after.parent) {
        commit->roots_may_move = true;
    }
    return 0;
}

struct reason {
    int code;
    enum gm_diag_id id;
    const char *text;
};

static const struct reason *reason_of(int result)
{
    static const struct reason REASONS[] = {
        {-EBUSY, GM_DIAG_EDIT_HAS_PARENT, "the child has a parent already"},
        {-ENOENT, GM_DIAG_EDIT_NOT_THERE, "what it removes is not there"},
        {-EEXIST, GM_DIAG_EDIT_THERE_ALREADY, "it is there already"},
        {-ELOOP, GM_DIAG_EDIT_LOOP, "the child contains its parent"},
        {-ENOMEM, GM_DIAG_NO_MEMORY, "no memory"},
        {-EBADF, GM_DIAG_EDIT_DESCRIPTOR, "its descriptor cannot be duplicated"},
        {-EMFILE, GM_DIAG_EDIT_DESCRIPTOR, "its descriptor cannot be duplicated"},
        {0, GM_DIAG_EDIT_REFUSED, "the region does not take it"}, /* of all others */
    };
    const struct reason *reason = REASONS;

    while (reason->code != 0 && reason->code != result) {
        reason++;
    }
    return reason;
}

static int apply_edits(struct commit *commit)
{
    for (; commit->applied < commit->count; commit->applied++) {
        struct edit *edit = &commit->edits[commit->applied];
        int result = apply_one(commit, edit);

        if (result != 0) {
            const struct reason *reason = reason_of(result);

            return diag_set(commit->diag, reason->id, result,
                            "edit %zu, of region '%s', failed: %s", commit->applied + 1,
                            edit->region != NULL ? edit->region->name : "", reason->text);
        }
    }
    return 0;
}

static void revert_edits(struct commit *commit)
{
    while (commit->applied > 0) {
        struct edit *edit;

        commit->applied--;
        edit = &commit->edits[commit->applied];
        if (edit->kind == EDIT_ROOT) {
            gm_region_put(edit->space->root);
            edit->space->root = edit->from.root;
        } else {
            edit_revert(commit->locked, edit);
        }
    }
}

/* ---- where spaces are shown from ---- */

static struct cell *current_cell(const struct gm_space *space)
{
    return atomic_load_explicit(&space->cell, memory_order_relaxed); /* the lock orders it */
}

static int cell_for_root(struct commit *commit, struct gm_region *root, struct cell **cell)
{
    *cell = root != NULL ? root->cell : commit->hub->empty_cell;
    if (*cell != NULL) {
        return 0;
    }
    *cell = cell_new(commit->locked, root);
    if (*cell == NULL) {
        return -ENOMEM;
    }
    (*cell)->is_new = true;
    damage_cell(&commit->walk, *cell, span_of(0, POS_2_64));
    return 0;
}

static int move_space(struct commit *commit, struct gm_space *space, struct cell *cell)
{
    struct move *moves =
        mem_reserve(&commit->locked.map->scratch.allocator, commit->moves, &commit->move_capacity,
                    commit->move_count + 1, sizeof(*moves));

    if (moves == NULL) {
        return -ENOMEM;
    }
    commit->moves = moves;
    moves[commit->move_count] = (struct move){.space = space};
    space->next_cell = cell;
    space->move_index = commit->move_count;
    commit->move_count++;
    return 0;
}

static int resolve_space(struct commit *commit, struct gm_space *space)
{
    struct gm_region *root;
    struct cell *cell = NULL;
    int result = resolve_root(commit->locked, space->root, commit->hub->way_stamp, &root);

    if (result != 0) {
        return diag_set(commit->diag, GM_DIAG_ROOT_LOOP, result,
                        "the root of space '%s' leads back to itself", space->name);
    }
    result = cell_for_root(commit, root, &cell);
    if (result == 0 && space->next_cell == NULL && cell != current_cell(space)) {
        result = move_space(commit, space, cell);
    }
    return result != 0 ? diag_set(commit->diag, GM_DIAG_NO_MEMORY, result, "no memory") : 0;
}

/* All spaces, if edits can have moved them; else those that were given another root. */
static int resolve_spaces(struct commit *commit)
{
    struct gm_space *space;
    int result = 0;
    size_t i;

    if (!commit->roots_may_move && !commit->hub->ways_unknown) {
        for (i = 0; i < commit->count && result == 0; i++) {
            if (commit->edits[i].kind == EDIT_ROOT) {
                result = resolve_space(commit, commit->edits[i].space);
            }
        }
        return result;
    }
    commit->hub->way_stamp++;
    commit->hub->ways_unknown = true; /* until the commit has succeeded */
    for (space = commit->hub->spaces; space != NULL && result == 0; space = space->next) {
        result = resolve_space(commit, space);
    }
    return result;
}

/* ---- views ---- */

static struct gm_view *view_to_be(const struct cell *cell)
{
    return cell->next_view != NULL ? cell->next_view : cell_view(cell);
}

/* Spaces that a cell will have after the moves; nobody looks at what has none. */
static void count_spaces(struct commit *commit)
{
    struct cell *cell;
    size_t i;

    for (cell = commit->walk.touched; cell != NULL; cell = cell->next_touched) {
        cell->next_space_count = cell->space_count;
    }
    for (i = 0; i < commit->move_count; i++) {
        const struct gm_space *space = commit->moves[i].space;

        current_cell(space)->next_space_count--;
        space->next_cell->next_space_count++;
    }
}

static int view_failed(int result, const struct gm_region *root, struct gm_diag *diag)
{
    const char *name = root != NULL ? root->name : "";

    switch (result) {
    case -ELOOP:
        return diag_set(diag, GM_DIAG_VIEW_LOOP, result,
                        "the map below region '%s' contains itself at the same address", name);
    case -E2BIG:
        return diag_set(diag, GM_DIAG_VIEW_TOO_BIG, result,
                        "the map below region '%s' has too many ranges, steps or levels", name);
    default:
        return diag_set(diag, GM_DIAG_NO_MEMORY, result,
                        "the map below region '%s' could not be rendered: no memory", name);
    }
}

static int update_cells(struct commit *commit)
{
    struct cell *cell;

    count_spaces(commit);
    for (cell = commit->walk.touched; cell != NULL; cell = cell->next_touched) {
        int result = cell->next_space_count > 0 ? cell_update(cell, &commit->render) : 0;

        if (result != 0) {
            return view_failed(result, cell->root, commit->diag);
        }
    }
    return 0;
}

static int compare_move(struct commit *commit, struct move *move)
{
    const struct gm_view *old = cell_view(current_cell(move->space));
    const struct gm_view *new = view_to_be(move->space->next_cell);
    struct range_source before = {old, NULL, 0, old->range_count};
    struct range_source after = {new, NULL, 0, new->range_count};
    const struct gm_allocator *allocator = &commit->locked.map->scratch.allocator;
    int result = diff_first_pass(&move->changes, allocator, before, after);

    return result == 0 ? diff_second_pass(&move->changes, allocator, before, after) : result;
}

/* Ranges that all came out the same are nothing to tell. */
static bool is_news(const struct change_list *changes)
{
    size_t i = 0;

    while (i < changes->count && changes->items[i].kind == GM_CHANGE_NOP) {
        i++;
    }
    return i < changes->count;
}

/* Enter what the listeners of a space will hear. */
static int collect_space(struct commit *commit, struct gm_space *space)
{
    struct cell *cell = current_cell(space);
    struct change_list *changes = cell->touched ? &cell->changes : NULL;

    if (space->next_cell != NULL) {
        struct move *move = &commit->moves[space->move_index];
        int result = move->changes.count == 0 ? compare_move(commit, move) : 0;

        if (result != 0) {
            return result;
        }
        changes = &move->changes;
    }
    return changes != NULL && is_news(changes) ? tell_add(&commit->telling, space, changes) : 0;
}

/* Only spaces that have listeners are looked at: most bus masters' have none. */
static int collect_told(struct commit *commit)
{
    const struct hub *hub = commit->hub;
    struct gm_space *space = hub->all_listener_count > 0 ? hub->spaces : NULL;
    int result = 0;
    size_t i;

    for (; space != NULL && result == 0; space = space->next) {
        result = collect_space(commit, space);
    }
    for (i = 0; hub->all_listener_count == 0 && i < hub->listener_count && result == 0; i++) {
        result = collect_space(commit, hub->listeners[i]->space);
    }
    return result != 0 ? diag_set(commit->diag, GM_DIAG_NO_MEMORY, result, "no memory") : 0;
}

/* ---- the outcome ---- */

static void publish_cell(struct cell *cell)
{
    struct gm_view *old = cell_view(cell);

    if (cell->next_view != NULL) {
        /* release: pairs with the acquire in space_view() */
        rcu_store(&cell->view, cell->next_view);
        cell->next_view = NULL;
        view_retire(old);
    }
}

/*
 * Cells that spaces move to come first, then the moves, then the other cells: a reader of a moving space
 * sees the old view or the new one, not the next view of the cell that it leaves (unless spaces swap).
 */
static void publish(struct commit *commit)
{
    struct readers *readers = &commit->locked.map->readers;
    struct cell *cell;
    size_t i;

    readers_change(readers);
    for (i = 0; i < commit->move_count; i++) {
        publish_cell(commit->moves[i].space->next_cell);
    }
    for (i = 0; i < commit->move_count; i++) {
        struct gm_space *space = commit->moves[i].space;

        cell_unlink_space(space);
        cell_link_space(space->next_cell, space);
    }
    for (cell = commit->walk.touched; cell != NULL; cell = cell->next_touched) {
        publish_cell(cell);
    }
    readers_changed(readers);
}

/* The commit's scratch in cells and spaces goes; so do cells that nobody shows (any more, or at last). */
static void settle_cells(struct commit *commit)
{
    struct cell *cell;
    struct cell *next;
    size_t i;

    for (cell = commit->walk.touched; cell != NULL; cell = next) {
        next = cell->next_touched;
        cell_settle(cell);
        if (cell->space_count == 0 && cell != commit->hub->empty_cell) {
            cell_remove(commit->locked, cell);
        }
    }
    for (i = 0; i < commit->move_count; i++) {
        mem_free(&commit->locked.map->scratch.allocator, commit->moves[i].changes.items);
        commit->moves[i].space->next_cell = NULL;
    }
}

static void finish_edits(struct commit *commit)
{
    size_t i;

    for (i = 0; i < commit->count; i++) {
        if (commit->edits[i].kind == EDIT_ROOT) {
            gm_region_put(commit->edits[i].from.root);
        } else {
            edit_finish(commit->locked, &commit->edits[i]);
        }
    }
}

/* Everything that can fail. On failure the tree is as it was. */
static int try_commit(struct commit *commit)
{
    uint32_t old_log_all = commit->locked.map->log_all_mask;
    int result = apply_edits(commit);

    if (result == 0) {
        result = resolve_spaces(commit);
    }
    if (result == 0) {
        result = update_cells(commit);
    }
    if (result == 0) {
        result = collect_told(commit);
    }
    if (result != 0) {
        return result;
    }
    commit->telling.old_log_all = old_log_all;
    commit->telling.new_log_all = commit->locked.map->log_all_mask;
    result = tell_prepare(&commit->telling);
    if (result != 0) {
        return result;
    }
    tell_changes(&commit->telling);
    return tell_apply(&commit->telling);
}

/* Cells that every space left have to go though no edit touched what they show. */
static void touch_left_cells(struct commit *commit)
{
    size_t i;

    for (i = 0; i < commit->move_count; i++) {
        struct cell *cell = current_cell(commit->moves[i].space);

        if (!cell->touched) {
            cell->touched = true;
            cell->next_touched = commit->walk.touched;
            commit->walk.touched = cell;
        }
    }
}

int commit_in_parent(const struct gm_map *map, struct gm_diag *diag)
{
    return map_is_copy(map) && !alone_now()
               ? diag_set(diag, GM_DIAG_FORKED, -EIO,
                          "this process is a child of the one that made the map")
               : 0;
}

int commit_allowed(struct map_locked locked, struct gm_diag *diag)
{
    if (locked.map->closed) {
        return diag_set(diag, GM_DIAG_MAP_GIVEN_UP, -EIO, "the map has been given up");
    }
    if (atomic_load_explicit(&locked.map->hub->broken, memory_order_relaxed)) {
        return diag_set(diag, GM_DIAG_MAP_BROKEN, -EIO,
                        "an earlier undo failed: the map takes no more commits");
    }
    return 0;
}

int commit_edits(struct map_locked locked, struct edit *edits, size_t count, struct gm_diag *diag)
{
    struct hub *hub = locked.map->hub;
    struct commit commit = {
        .locked = locked,
        .hub = hub,
        .edits = edits,
        .count = count,
        .walk = {locked, NULL, REACH_STEPS},
        .telling = {.locked = locked,
                    .listeners = hub->listeners,
                    .listener_count = hub->listener_count,
                    .diag = diag},
        .diag = diag,
    };
    int result;

    render_begin(&commit.render, locked, hub->limits);
    result = try_commit(&commit);
    if (result == 0) {
        hub->ways_unknown = false;
        touch_left_cells(&commit);
        publish(&commit);
        tell_settled(&commit.telling);
    } else {
        revert_edits(&commit);
    }
    settle_cells(&commit);
    if (result == 0) {
        finish_edits(&commit);
    }
    GM_AUDIT(map_audit(locked));
    count_add(result == 0 ? &hub->commits : &hub->failed_commits, 1);
    mem_free(&locked.map->scratch.allocator, commit.moves);
    tell_end(&commit.telling);
    render_end(&commit.render);
    return result;
}
