/* replay_run.c - running the steps of `guestmem replay`. */
#include "replay.h"

#include "tool.h"
#include "views.h"

#include <errno.h>
#include <inttypes.h>

/* ---- looking up what a step names ---- */

static struct gm_region *find_region(const struct replay *replay, uint32_t id)
{
    const struct mapfile_region *record = mapfile_find(&replay->mapfile, id);

    return record != NULL ? record->region : NULL;
}

static struct gm_space *find_space(const struct replay *replay, uint32_t index)
{
    return index < replay->mapfile.space_count ? replay->mapfile.spaces[index].space : NULL;
}

/* ---- transactions ---- */

static int run_begin(struct replay *replay)
{
    int result = replay->txn == NULL ? gm_txn_begin(replay->mapfile.map, &replay->txn)
                                     : gm_txn_nest(replay->txn);

    replay->depth += result == 0;
    return result;
}

/* Whatever becomes of the outermost commit, its transaction is gone. */
static struct gm_txn *close_level(struct replay *replay)
{
    struct gm_txn *txn = replay->txn;

    if (txn != NULL && --replay->depth == 0) {
        replay->txn = NULL;
    }
    return txn;
}

static int run_commit(struct replay *replay)
{
    struct gm_txn *txn = close_level(replay);

    return txn != NULL ? gm_txn_commit(txn, NULL) : -EINVAL;
}

static int run_abort(struct replay *replay)
{
    struct gm_txn *txn = close_level(replay);

    gm_txn_abort(txn);
    return txn != NULL ? 0 : -EINVAL;
}

/* ---- edits ---- */

static int record_set(struct gm_txn *txn, struct gm_region *region, const struct step *step)
{
    switch (step->attribute) {
    case SET_ENABLED:
        return gm_txn_set_enabled(txn, region, step->is_on);
    case SET_READONLY:
        return gm_txn_set_readonly(txn, region, step->is_on);
    case SET_ROMD:
        return gm_txn_set_romd(txn, region, step->is_on);
    case SET_NONVOLATILE:
        return gm_txn_set_nonvolatile(txn, region, step->is_on);
    case SET_ADDR:
        return gm_txn_set_addr(txn, region, (uint64_t)step->value);
    case SET_SIZE:
        return gm_txn_set_size(txn, region, step->value);
    case SET_PRIORITY:
        return gm_txn_set_priority(txn, region, step->priority);
    case SET_OFFSET:
        return gm_txn_set_alias_offset(txn, region, (uint64_t)step->value);
    }
    return -EINVAL;
}

static int record_edit(const struct replay *replay, struct gm_txn *txn, const struct step *step)
{
    struct gm_region *region = step->is_all ? NULL : find_region(replay, step->id);
    struct gm_region *child;

    if (region == NULL && !step->is_all) {
        return -ENOENT;
    }
    switch (step->kind) {
    case STEP_SET:
        return record_set(txn, region, step);
    case STEP_LOG:
        return step->is_all ? gm_txn_set_log_all(txn, step->client, step->is_on)
                            : gm_txn_set_log(txn, region, step->client, step->is_on);
    default:
        child = find_region(replay, step->child);
        if (child == NULL) {
            return -ENOENT;
        }
        return step->kind == STEP_ADD ? gm_txn_add(txn, region, child)
                                      : gm_txn_del(txn, region, child);
    }
}

/* In the open transaction, or in one of its own. */
static int run_edit(struct replay *replay, const struct step *step)
{
    struct gm_txn *txn;
    int result;

    if (replay->txn != NULL) {
        return record_edit(replay, replay->txn, step);
    }
    result = gm_txn_begin(replay->mapfile.map, &txn);
    if (result != 0) {
        return result;
    }
    result = record_edit(replay, txn, step);
    if (result != 0) {
        gm_txn_abort(txn);
        return result;
    }
    return gm_txn_commit(txn, NULL);
}

/* ---- listeners and slots ---- */

static int run_watch(struct replay *replay, const struct step *step)
{
    struct gm_space *space = step->is_all ? NULL : find_space(replay, step->space);

    if (space == NULL && !step->is_all) {
        return -ENOENT;
    }
    return replay_watch(replay, step->name, space, step->priority);
}

static int run_slots(struct replay *replay, const struct step *step)
{
    struct gm_space *space = find_space(replay, step->space);

    if (space == NULL) {
        return -ENOENT;
    }
    return replay_attach_slots(replay, space, step->has_max ? &step->max : NULL);
}

/* ---- dirty pages ---- */

/*
 * Fill [first, last] with zeros, range by range of the present view. Only logged RAM remembers it; of
 * anything else one byte says what becomes of a write. Returns the pieces' outcomes or-ed.
 */
static unsigned fill(struct gm_space *space, uint64_t first, uint64_t last)
{
    struct gm_view *view = gm_view_get(space);
    struct gm_section section;
    gm_size_t shown_bytes = 0;
    unsigned outcome = GM_ACCESS_OK;
    size_t i;

    for (i = 0; gm_view_at(view, i, &section); i++) {
        uint64_t start = section.gpa > first ? section.gpa : first;
        uint64_t end = section.last < last ? section.last : last;

        if (start <= end) {
            uint64_t piece_bytes = section.log_mask != 0 ? end - start + 1 : 1;

            outcome |= gm_fill(space, start, 0, piece_bytes, (struct gm_attrs){0});
            shown_bytes += (gm_size_t)(end - start) + 1;
        }
    }
    gm_view_put(view);
    return shown_bytes == (gm_size_t)(last - first) + 1 ? outcome : outcome | GM_ACCESS_DECODE;
}

/* The worst of what the write's pieces came to. */
static int run_write(struct replay *replay, const struct step *step)
{
    struct gm_space *space = find_space(replay, step->space);
    uint64_t first = (uint64_t)step->value;
    uint64_t last =
        first + (step->length_bytes - 1); /* below first: it wraps, as bus addresses do */
    unsigned outcome;

    if (space == NULL) {
        return -ENOENT;
    }
    if (step->length_bytes == 0) {
        return 0;
    }
    outcome = first <= last ? fill(space, first, last)
                            : fill(space, first, UINT64_MAX) | fill(space, 0, last);
    if ((outcome & GM_ACCESS_DECODE) != 0) {
        return -EFAULT;
    }
    if ((outcome & GM_ACCESS_DENIED) != 0) {
        return -EACCES;
    }
    return (outcome & GM_ACCESS_DEVICE) != 0 ? -EIO : 0;
}

/* Pages count from the region's first one; the tool's regions begin where their blocks do. */
static int run_dirty(struct replay *replay, const struct step *step)
{
    struct gm_region *region = find_region(replay, step->id);
    struct gm_region_state state;
    struct gm_harvest *harvest;
    uint64_t first_page;
    uint64_t last_page;
    int result;

    if (region == NULL) {
        return -ENOENT;
    }
    if (gm_region_ram(region) == NULL) {
        return -EINVAL;
    }
    gm_region_state(region, &state);
    if (state.size == 0) {
        return 0;
    }
    result = gm_region_log_sync(region, 0, state.size);
    if (result == 0) {
        result = gm_harvest_begin(gm_region_ram(region), step->client, 0, (uint64_t)state.size,
                                  &harvest);
    }
    if (result != 0) {
        return result;
    }
    while (gm_harvest_next(harvest, &first_page, &last_page)) {
        fprintf(replay->below, "dirty %" PRIx64 " %" PRIx64 "\n", first_page, last_page);
    }
    gm_harvest_commit(harvest);
    return 0;
}

/* ---- answers ---- */

static void show_stats(struct replay *replay)
{
    struct gm_map_stats now;

    gm_map_stats(replay->mapfile.map, &now);
    fprintf(replay->below,
            "stats rendered-views %" PRIx64 " rendered-ranges %" PRIx64 " calls %" PRIx64
            " slot-ops %" PRIx64 "\n",
            now.rendered_views - replay->shown.rendered_views,
            now.rendered_ranges - replay->shown.rendered_ranges,
            replay->calls - replay->shown_calls, replay->slot_ops - replay->shown_slot_ops);
    replay->shown = now;
    replay->shown_slot_ops = replay->slot_ops;
    replay->shown_calls = replay->calls;
}

int replay_run_step(struct replay *replay, const struct step *step)
{
    switch (step->kind) {
    case STEP_WATCH:
        return run_watch(replay, step);
    case STEP_UNWATCH:
        return replay_unwatch(replay, step->name);
    case STEP_SLOTS:
        return run_slots(replay, step);
    case STEP_BEGIN:
        return run_begin(replay);
    case STEP_COMMIT:
        return run_commit(replay);
    case STEP_ABORT:
        return run_abort(replay);
    case STEP_SET:
    case STEP_ADD:
    case STEP_DEL:
    case STEP_LOG:
        return run_edit(replay, step);
    case STEP_WRITE:
        return run_write(replay, step);
    case STEP_DIRTY:
        return run_dirty(replay, step);
    case STEP_FAIL:
        atomic_store_explicit(&replay->fault.countdown, (uint64_t)step->value,
                              memory_order_relaxed); /* as in fault_hits() */
        return 0;
    case STEP_VIEWS:
        views_print(replay->below, &replay->mapfile);
        return 0;
    case STEP_SHOW_SLOTS:
        replay_show_slots(replay);
        return 0;
    case STEP_STATS:
        show_stats(replay);
        return 0;
    }
    return -EINVAL;
}
