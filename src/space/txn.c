/* space/txn.c - transactions: recording edits, nesting, and handing them to the commit. */
#include <guestmem/txn.h>

#include "base/diag.h"
#include "region/edit.h"
#include "space/commit.h"

#include <guestmem/ram.h>

#include <errno.h>

struct gm_txn {
    struct gm_map *map; /* referenced */
    struct edit *edits;
    size_t count;
    size_t capacity;
    size_t *marks; /* of each inner level: the edits that were there when it began */
    size_t depth;
    size_t mark_capacity;
};

int gm_txn_begin(struct gm_map *map, struct gm_txn **txn)
{
    struct gm_txn *made = mem_zalloc(&map->allocator, sizeof(*made));

    if (made == NULL) {
        return -ENOMEM;
    }
    made->map = map;
    map_get(map);
    *txn = made;
    return 0;
}

int gm_txn_nest(struct gm_txn *txn)
{
    size_t *marks = mem_reserve(&txn->map->allocator, txn->marks, &txn->mark_capacity,
                                txn->depth + 1, sizeof(*marks));

    if (marks == NULL) {
        return -ENOMEM;
    }
    txn->marks = marks;
    marks[txn->depth] = txn->count;
    txn->depth++;
    return 0;
}

/* Forget the edits from @first on. */
static void drop_edits(struct gm_txn *txn, size_t first)
{
    while (txn->count > first) {
        struct edit *edit;

        txn->count--;
        edit = &txn->edits[txn->count];
        gm_region_put(edit->region);
        gm_region_put(edit->parent);
        if (edit->space != NULL) {
            space_put(edit->space);
        }
    }
}

static void txn_free(struct gm_txn *txn)
{
    struct gm_map *map = txn->map;

    drop_edits(txn, 0);
    mem_free(&map->allocator, txn->edits);
    mem_free(&map->allocator, txn->marks);
    mem_free(&map->allocator, txn);
    map_put(map);
}

static int commit_outermost(struct gm_txn *txn, struct gm_diag *diag)
{
    struct gm_map *map = txn->map;
    struct map_locked locked;
    int result;

    if (commit_is_nested(map)) {
        return diag_set(diag, -EDEADLK, "a commit inside a listener's callback");
    }
    locked = map_lock(map);
    result = commit_allowed(locked, diag);
    if (result == 0) {
        result = commit_edits(locked, txn->edits, txn->count, diag);
    }
    map_unlock(locked);
    return result;
}

int gm_txn_commit(struct gm_txn *txn, struct gm_diag *diag)
{
    int result;

    if (txn->depth > 0) {
        txn->depth--;
        return 0;
    }
    result = commit_outermost(txn, diag);
    txn_free(txn);
    return result;
}

void gm_txn_abort(struct gm_txn *txn)
{
    if (txn == NULL) {
        return;
    }
    if (txn->depth > 0) {
        txn->depth--;
        drop_edits(txn, txn->marks[txn->depth]);
        return;
    }
    txn_free(txn);
}

/* ---- recording ---- */

static int record(struct gm_txn *txn, const struct edit *edit)
{
    struct edit *edits;

    if ((edit->region != NULL && edit->region->map != txn->map) ||
        (edit->parent != NULL && edit->parent->map != txn->map)) {
        return -EINVAL;
    }
    edits = mem_reserve(&txn->map->allocator, txn->edits, &txn->capacity, txn->count + 1,
                        sizeof(*edits));
    if (edits == NULL) {
        return -ENOMEM;
    }
    txn->edits = edits;
    edits[txn->count] = *edit;
    txn->count++;
    if (edit->region != NULL) {
        gm_region_get(edit->region);
    }
    if (edit->parent != NULL) {
        gm_region_get(edit->parent);
    }
    if (edit->space != NULL) {
        ref_get(&edit->space->refs);
    }
    return 0;
}

int gm_txn_add(struct gm_txn *txn, struct gm_region *parent, struct gm_region *child)
{
    struct edit edit = {.kind = EDIT_ADD, .region = child, .parent = parent};

    return parent->kind != GM_REGION_ALIAS ? record(txn, &edit) : -EINVAL;
}

int gm_txn_del(struct gm_txn *txn, struct gm_region *parent, struct gm_region *child)
{
    struct edit edit = {.kind = EDIT_DEL, .region = child, .parent = parent};

    return parent->kind != GM_REGION_ALIAS ? record(txn, &edit) : -EINVAL;
}

int gm_txn_set_addr(struct gm_txn *txn, struct gm_region *region, uint64_t addr)
{
    struct edit edit = {.kind = EDIT_ADDR, .region = region, .to.number = addr};

    return record(txn, &edit);
}

int gm_txn_set_size(struct gm_txn *txn, struct gm_region *region, gm_size_t size)
{
    struct edit edit = {.kind = EDIT_SIZE, .region = region, .to.size = size};

    return size <= GM_SIZE_2_64 ? record(txn, &edit) : -EINVAL;
}

int gm_txn_set_priority(struct gm_txn *txn, struct gm_region *region, int32_t priority)
{
    struct edit edit = {.kind = EDIT_PRIORITY, .region = region, .to.priority = priority};

    return record(txn, &edit);
}

static int record_flag(struct gm_txn *txn, enum edit_kind kind, struct gm_region *region, bool flag)
{
    struct edit edit = {.kind = kind, .region = region, .to.flag = flag};

    return record(txn, &edit);
}

int gm_txn_set_enabled(struct gm_txn *txn, struct gm_region *region, bool enabled)
{
    return record_flag(txn, EDIT_ENABLED, region, enabled);
}

int gm_txn_set_readonly(struct gm_txn *txn, struct gm_region *region, bool readonly)
{
    return record_flag(txn, EDIT_READONLY, region, readonly);
}

int gm_txn_set_nonvolatile(struct gm_txn *txn, struct gm_region *region, bool nonvolatile)
{
    return record_flag(txn, EDIT_NONVOLATILE, region, nonvolatile);
}

int gm_txn_set_romd(struct gm_txn *txn, struct gm_region *region, bool romd)
{
    if (region->kind != GM_REGION_ROM_DEVICE) {
        return -EINVAL;
    }
    return record_flag(txn, EDIT_ROMD, region, romd);
}

int gm_txn_set_alias_offset(struct gm_txn *txn, struct gm_region *alias, uint64_t target_offset)
{
    struct edit edit = {.kind = EDIT_ALIAS_OFFSET, .region = alias, .to.number = target_offset};

    return alias->kind == GM_REGION_ALIAS ? record(txn, &edit) : -EINVAL;
}

int gm_txn_set_log(struct gm_txn *txn, struct gm_region *region, unsigned client, bool on)
{
    struct edit edit = {.kind = EDIT_LOG, .region = region, .on = on};

    if (client >= GM_DIRTY_CLIENTS || !region_has_ram(region)) {
        return -EINVAL;
    }
    edit.to.number = (uint64_t)1 << client;
    return record(txn, &edit);
}

int gm_txn_set_log_all(struct gm_txn *txn, unsigned client, bool on)
{
    struct edit edit = {.kind = EDIT_LOG_ALL, .on = on};

    if (client >= GM_DIRTY_CLIENTS) {
        return -EINVAL;
    }
    edit.to.number = (uint64_t)1 << client;
    return record(txn, &edit);
}

static int record_eventfd(struct gm_txn *txn, enum edit_kind kind, struct gm_region *region,
                          const struct gm_eventfd *eventfd)
{
    struct edit edit = {.kind = kind, .region = region, .to.eventfd = *eventfd};
    uint64_t size = eventfd->size_bytes != 0 ? eventfd->size_bytes : 1;

    if (!region_terminates(region) || size > 8 || !is_power_of_two(size) ||
        (eventfd->match && eventfd->size_bytes == 0)) {
        return -EINVAL;
    }
    return record(txn, &edit);
}

int gm_txn_add_eventfd(struct gm_txn *txn, struct gm_region *region,
                       const struct gm_eventfd *eventfd)
{
    return record_eventfd(txn, EDIT_EVENTFD_ADD, region, eventfd);
}

int gm_txn_del_eventfd(struct gm_txn *txn, struct gm_region *region,
                       const struct gm_eventfd *eventfd)
{
    return record_eventfd(txn, EDIT_EVENTFD_DEL, region, eventfd);
}

int gm_txn_set_root(struct gm_txn *txn, struct gm_space *space, struct gm_region *root)
{
    struct edit edit = {.kind = EDIT_ROOT, .region = root, .space = space};

    return space->map == txn->map ? record(txn, &edit) : -EINVAL;
}

/* ---- one edit as a transaction ---- */

static int begin_single(struct gm_map *map, struct gm_txn **txn, struct gm_diag *diag)
{
    int result = gm_txn_begin(map, txn);

    return result == 0 ? 0 : diag_set(diag, result, "no memory for a transaction");
}

/* The transaction holds one recorded edit, or none if recording failed with @result. */
static int commit_single(struct gm_txn *txn, int result, struct gm_diag *diag)
{
    if (result != 0) {
        gm_txn_abort(txn);
        return diag_set(diag, result, "the edit could not be recorded");
    }
    return gm_txn_commit(txn, diag);
}

int gm_region_add(struct gm_region *parent, struct gm_region *child, struct gm_diag *diag)
{
    struct gm_txn *txn;
    int result = begin_single(parent->map, &txn, diag);

    return result == 0 ? commit_single(txn, gm_txn_add(txn, parent, child), diag) : result;
}

int gm_region_del(struct gm_region *parent, struct gm_region *child, struct gm_diag *diag)
{
    struct gm_txn *txn;
    int result = begin_single(parent->map, &txn, diag);

    return result == 0 ? commit_single(txn, gm_txn_del(txn, parent, child), diag) : result;
}

int gm_region_set_enabled(struct gm_region *region, bool enabled, struct gm_diag *diag)
{
    struct gm_txn *txn;
    int result = begin_single(region->map, &txn, diag);

    return result == 0 ? commit_single(txn, gm_txn_set_enabled(txn, region, enabled), diag)
                       : result;
}

int gm_region_set_addr(struct gm_region *region, uint64_t addr, struct gm_diag *diag)
{
    struct gm_txn *txn;
    int result = begin_single(region->map, &txn, diag);

    return result == 0 ? commit_single(txn, gm_txn_set_addr(txn, region, addr), diag) : result;
}
