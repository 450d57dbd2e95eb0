/* space/txn.c - transactions: recording edits, nesting, and handing them to the commit. */
#include <guestmem/txn.h>

#include "base/diag.h"
#include "region/edit.h"
#include "space/commit.h"

#include <guestmem/ram.h>

#include <errno.h>

/* Edits of a transaction that take no memory of their own. */
#define FIRST_EDITS 4u

struct gm_txn {
    struct gm_map *map; /* referenced */
    struct edit *edits; /* `first`, while that is enough */
    struct edit first[FIRST_EDITS];
    size_t count;
    size_t capacity;
    size_t *marks; /* of each inner level: the edits that were there when it began */
    size_t depth;
    size_t mark_capacity;
    struct gm_diag said; /* by the edit that was refused last */
};

static void txn_init(struct gm_txn *txn, struct gm_map *map)
{
    txn->map = map;
    txn->edits = txn->first;
    txn->count = 0;
    txn->capacity = FIRST_EDITS;
    txn->marks = NULL;
    txn->depth = 0;
    txn->mark_capacity = 0;
    txn->said.code = 0;
    txn->said.id = GM_DIAG_NONE;
    txn->said.text[0] = '\0';
    map_get(map);
}

int gm_txn_begin(struct gm_map *map, struct gm_txn **txn)
{
    struct gm_txn *made = mem_alloc(&map->allocator, sizeof(*made));

    if (made == NULL) {
        return -ENOMEM;
    }
    txn_init(made, map);
    *txn = made;
    return 0;
}

int gm_txn_nest(struct gm_txn *txn)
{
    size_t *marks = mem_reserve(&txn->map->allocator, txn->marks, &txn->mark_capacity,
                                txn->depth + 1, sizeof(*marks));

    if (marks == NULL) {
        return diag_set(&txn->said, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a level");
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

static void txn_fini(struct gm_txn *txn)
{
    struct gm_map *map = txn->map;

    drop_edits(txn, 0);
    if (txn->edits != txn->first) {
        mem_free(&map->allocator, txn->edits);
    }
    mem_free(&map->allocator, txn->marks);
    map_put(map);
}

static void txn_free(struct gm_txn *txn)
{
    struct gm_allocator allocator = txn->map->allocator; /* the map may go with the transaction */

    txn_fini(txn);
    mem_free(&allocator, txn);
}

static int commit_outermost(struct gm_txn *txn, struct gm_diag *diag)
{
    struct gm_map *map = txn->map;
    struct map_locked locked;
    int result;

    result = commit_in_parent(map, diag);
    if (result != 0) {
        return result;
    }
    if (commit_is_nested(map)) {
        return diag_set(diag, GM_DIAG_IN_CALLBACK, -EDEADLK,
                        "a commit inside a listener's callback");
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

const struct gm_diag *gm_txn_diag(const struct gm_txn *txn)
{
    return &txn->said;
}

/* ---- recording ---- */

static int other_map(struct gm_txn *txn, const struct gm_region *region)
{
    return diag_set(&txn->said, GM_DIAG_OTHER_MAP, -EINVAL,
                    "region '%s' belongs to another map than the transaction", region->name);
}

/* What the region's kind, or its edit's values, do not allow. */
static int refuse(struct gm_txn *txn, const struct gm_region *region, const char *reason)
{
    return diag_set(&txn->said, GM_DIAG_EDIT_REFUSED, -EINVAL, "region '%s': %s", region->name,
                    reason);
}

static int refuse_client(struct gm_txn *txn, unsigned client)
{
    return diag_set(&txn->said, GM_DIAG_EDIT_REFUSED, -EINVAL,
                    "there is no client %u of a dirty record: there are %d, from 0 on", client,
                    GM_DIRTY_CLIENTS);
}

/* Room for one more edit: 0 or -ENOMEM. */
static int reserve_edit(struct gm_txn *txn)
{
    bool is_first = txn->edits == txn->first;
    struct edit *edits;

    if (txn->count < txn->capacity) {
        return 0;
    }
    edits = mem_reserve(&txn->map->allocator, is_first ? NULL : txn->edits, &txn->capacity,
                        txn->count + 1, sizeof(*edits));
    if (edits == NULL) {
        return -ENOMEM;
    }
    if (is_first) {
        memcpy(edits, txn->first, sizeof(txn->first));
    }
    txn->edits = edits;
    return 0;
}

static int record(struct gm_txn *txn, const struct edit *edit)
{
    if (edit->region != NULL && edit->region->map != txn->map) {
        return other_map(txn, edit->region);
    }
    if (edit->parent != NULL && edit->parent->map != txn->map) {
        return other_map(txn, edit->parent);
    }
    if (reserve_edit(txn) != 0) {
        return diag_set(&txn->said, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for an edit");
    }
    txn->edits[txn->count] = *edit;
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

    return parent->kind != GM_REGION_ALIAS ? record(txn, &edit)
                                           : refuse(txn, parent, "an alias has no children");
}

int gm_txn_del(struct gm_txn *txn, struct gm_region *parent, struct gm_region *child)
{
    struct edit edit = {.kind = EDIT_DEL, .region = child, .parent = parent};

    return parent->kind != GM_REGION_ALIAS ? record(txn, &edit)
                                           : refuse(txn, parent, "an alias has no children");
}

int gm_txn_set_addr(struct gm_txn *txn, struct gm_region *region, uint64_t addr)
{
    struct edit edit = {.kind = EDIT_ADDR, .region = region, .to.number = addr};

    return record(txn, &edit);
}

int gm_txn_set_size(struct gm_txn *txn, struct gm_region *region, gm_size_t size)
{
    struct edit edit = {.kind = EDIT_SIZE, .region = region, .to.size = size};

    return size <= GM_SIZE_2_64 ? record(txn, &edit)
                                : refuse(txn, region, "no region is larger than 2^64");
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
        return refuse(txn, region, "romd mode is for ROM devices");
    }
    return record_flag(txn, EDIT_ROMD, region, romd);
}

int gm_txn_set_alias_offset(struct gm_txn *txn, struct gm_region *alias, uint64_t target_offset)
{
    struct edit edit = {.kind = EDIT_ALIAS_OFFSET, .region = alias, .to.number = target_offset};

    return alias->kind == GM_REGION_ALIAS
               ? record(txn, &edit)
               : refuse(txn, alias, "it is no alias, and has no offset into a target");
}

int gm_txn_set_log(struct gm_txn *txn, struct gm_region *region, unsigned client, bool on)
{
    struct edit edit = {.kind = EDIT_LOG, .region = region, .on = on};

    if (client >= GM_DIRTY_CLIENTS) {
        return refuse_client(txn, client);
    }
    if (!region_has_ram(region)) {
        return refuse(txn, region, "it has no RAM whose writes could be logged");
    }
    edit.to.number = (uint64_t)1 << client;
    return record(txn, &edit);
}

int gm_txn_set_log_all(struct gm_txn *txn, unsigned client, bool on)
{
    struct edit edit = {.kind = EDIT_LOG_ALL, .on = on};

    if (client >= GM_DIRTY_CLIENTS) {
        return refuse_client(txn, client);
    }
    edit.to.number = (uint64_t)1 << client;
    return record(txn, &edit);
}

static int record_eventfd(struct gm_txn *txn, enum edit_kind kind, struct gm_region *region,
                          const struct gm_eventfd *eventfd)
{
    struct edit edit = {.kind = kind, .region = region, .to.eventfd = *eventfd};
    uint64_t size = eventfd->size_bytes != 0 ? eventfd->size_bytes : 1;

    if (!region_terminates(region)) {
        return refuse(txn, region, "its kind answers no write that an eventfd could take");
    }
    if (size > 8 || !is_power_of_two(size) || (eventfd->match && eventfd->size_bytes == 0)) {
        return refuse(txn, region,
                      "an eventfd is for writes of 1, 2, 4 or 8 bytes; one without a value also "
                      "of 0, which is any");
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

static int record_coalesced(struct gm_txn *txn, enum edit_kind kind, struct gm_region *region,
                            struct coalesced_item item)
{
    struct edit edit = {.kind = kind, .region = region, .to.coalesced = item};
    bool calls_back = region->kind == GM_REGION_MMIO || region->kind == GM_REGION_ROM_DEVICE;

    if (!calls_back) {
        return refuse(txn, region, "it has no callbacks that coalesced writes could come to later");
    }
    if (item.size == 0 || item.size > GM_SIZE_2_64) {
        return refuse(txn, region, "a coalesced range has a size, of 2^64 at most");
    }
    return record(txn, &edit);
}

int gm_txn_add_coalesced(struct gm_txn *txn, struct gm_region *region, uint64_t offset_bytes,
                         gm_size_t size_bytes)
{
    return record_coalesced(txn, EDIT_COALESCED_ADD, region,
                            (struct coalesced_item){offset_bytes, size_bytes});
}

int gm_txn_del_coalesced(struct gm_txn *txn, struct gm_region *region, uint64_t offset_bytes,
                         gm_size_t size_bytes)
{
    return record_coalesced(txn, EDIT_COALESCED_DEL, region,
                            (struct coalesced_item){offset_bytes, size_bytes});
}

int gm_txn_set_root(struct gm_txn *txn, struct gm_space *space, struct gm_region *root)
{
    struct edit edit = {.kind = EDIT_ROOT, .region = root, .space = space};

    return space->map == txn->map
               ? record(txn, &edit)
               : diag_set(&txn->said, GM_DIAG_OTHER_MAP, -EINVAL,
                          "space '%s' belongs to another map than the transaction", space->name);
}

/* ---- one edit as a transaction ---- */

/* @txn holds one recorded edit, or none if recording failed with @result. */
static int commit_single(struct gm_txn *txn, int result, struct gm_diag *diag)
{
    if (result == 0) {
        result = commit_outermost(txn, diag);
    } else if (diag != NULL) {
        *diag = txn->said;
    }
    txn_fini(txn);
    return result;
}

int gm_region_add(struct gm_region *parent, struct gm_region *child, struct gm_diag *diag)
{
    struct gm_txn txn;

    txn_init(&txn, parent->map);
    return commit_single(&txn, gm_txn_add(&txn, parent, child), diag);
}

int gm_region_del(struct gm_region *parent, struct gm_region *child, struct gm_diag *diag)
{
    struct gm_txn txn;

    txn_init(&txn, parent->map);
    return commit_single(&txn, gm_txn_del(&txn, parent, child), diag);
}

int gm_region_set_enabled(struct gm_region *region, bool enabled, struct gm_diag *diag)
{
    struct gm_txn txn;

    txn_init(&txn, region->map);
    return commit_single(&txn, gm_txn_set_enabled(&txn, region, enabled), diag);
}

int gm_region_set_addr(struct gm_region *region, uint64_t addr, struct gm_diag *diag)
{
    struct gm_txn txn;

    txn_init(&txn, region->map);
    return commit_single(&txn, gm_txn_set_addr(&txn, region, addr), diag);
}

int gm_region_set_log(struct gm_region *region, unsigned client, bool on, struct gm_diag *diag)
{
    struct gm_txn txn;

    txn_init(&txn, region->map);
    return commit_single(&txn, gm_txn_set_log(&txn, region, client, on), diag);
}

int gm_region_new_child(struct gm_region *parent, const struct gm_region_options *options,
                        struct gm_region **region, struct gm_diag *diag)
{
    struct gm_region *made;
    int result = gm_region_new(parent->map, options, &made, diag);

    if (result != 0) {
        return result;
    }
    result = gm_region_add(parent, made, diag);
    if (result != 0) {
        made->release = NULL; /* nobody else has seen it: the caller keeps what it would release */
    }
    if (result == 0 && region != NULL) {
        *region = made;
    } else {
        gm_region_put(made);
    }
    return result;
}
