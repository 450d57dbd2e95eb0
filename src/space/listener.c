/* space/listener.c - registering listeners, and bringing dirty logs in through them. */
#include <guestmem/listener.h>

#include "base/check.h"
#include "base/diag.h"
#include "base/options.h"
#include "space/cell.h"
#include "space/commit.h"
#include "space/tell.h"

#include <errno.h>

/* ---- the hub's list: ascending by priority, then in the order of registering ---- */

static int list_insert(struct map_locked locked, struct gm_listener *listener)
{
    struct hub *hub = locked.map->hub;
    struct gm_listener **listeners =
        mem_reserve(&locked.map->allocator, hub->listeners, &hub->listener_capacity,
                    hub->listener_count + 1, sizeof(*listeners));
    size_t at;

    if (listeners == NULL) {
        return -ENOMEM;
    }
    hub->listeners = listeners;
    for (at = hub->listener_count; at > 0 && listeners[at - 1]->priority > listener->priority;
         at--) {
        listeners[at] = listeners[at - 1];
    }
    listeners[at] = listener;
    hub->listener_count++;
    if (listener->space != NULL) {
        listener->space->listener_count++;
    } else {
        hub->all_listener_count++;
    }
    return 0;
}

static void list_remove(struct map_locked locked, struct gm_listener *listener)
{
    struct hub *hub = locked.map->hub;
    size_t at = 0;

    while (hub->listeners[at] != listener) {
        at++;
    }
    hub->listener_count--;
    memmove(&hub->listeners[at], &hub->listeners[at + 1],
            (hub->listener_count - at) * sizeof(hub->listeners[0]));
    if (listener->space != NULL) {
        listener->space->listener_count--;
    } else {
        hub->all_listener_count--;
    }
}

/* ---- replaying the present views ---- */

struct replay {
    struct telling telling;
    struct change_list *lists; /* one for each space told */
    size_t list_count;
};

static int replay_space(struct replay *replay, struct gm_space *space, bool as_adds)
{
    const struct gm_allocator *allocator = &space->map->allocator;
    struct cell *cell = atomic_load_explicit(&space->cell, memory_order_relaxed);
    const struct gm_view *view = cell_view(cell);
    struct range_source all = {view, NULL, 0, view->range_count};
    struct range_source none = {NULL, NULL, 0, 0};
    struct change_list *list = &replay->lists[replay->list_count];
    int result = as_adds ? diff_second_pass(list, allocator, none, all)
                         : diff_first_pass(list, allocator, all, none);

    replay->list_count++;
    if (result == 0 && list->count > 0) {
        result = tell_add(&replay->telling, space, list);
    }
    return result;
}

static int replay_collect(struct replay *replay, const struct gm_listener *listener, bool as_adds)
{
    struct gm_map *map = listener->map;
    struct gm_space *space;
    size_t space_count = 0;
    int result = 0;

    for (space = map->hub->spaces; space != NULL; space = space->next) {
        space_count++;
    }
    if (space_count == 0) {
        return 0;
    }
    replay->lists = mem_zalloc(&map->allocator, space_count * sizeof(*replay->lists));
    if (replay->lists == NULL) {
        return -ENOMEM;
    }
    for (space = map->hub->spaces; space != NULL && result == 0; space = space->next) {
        if (listener->space == NULL || listener->space == space) {
            result = replay_space(replay, space, as_adds);
        }
    }
    return result;
}

/* Tell one listener all that its spaces show, as adds or as dels. */
static int replay_to(struct map_locked locked, struct gm_listener *listener, bool as_adds,
                     struct gm_diag *diag)
{
    uint32_t log_all = locked.map->log_all_mask;
    struct replay replay = {.telling = {.locked = locked,
                                        .listeners = &listener,
                                        .listener_count = 1,
                                        .old_log_all = as_adds ? 0 : log_all,
                                        .new_log_all = as_adds ? log_all : 0,
                                        .diag = diag}};
    int result;
    size_t i;

    result = replay_collect(&replay, listener, as_adds);
    if (result == -ENOMEM) {
        diag_set(diag, GM_DIAG_NO_MEMORY, result, "no memory to replay the map to a listener");
    }
    if (result == 0) {
        result = tell_prepare(&replay.telling);
    }
    if (result == 0) {
        tell_changes(&replay.telling);
        result = tell_apply(&replay.telling);
    }
    if (result == 0) {
        tell_settled(&replay.telling);
    }
    for (i = 0; i < replay.list_count; i++) {
        mem_free(&locked.map->allocator, replay.lists[i].items);
    }
    mem_free(&locked.map->allocator, replay.lists);
    tell_end(&replay.telling);
    return result;
}

static int enlist(struct map_locked locked, struct gm_listener *listener, struct gm_diag *diag)
{
    int result = list_insert(locked, listener);

    if (result != 0) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, result, "no memory for a listener");
    }
    result = replay_to(locked, listener, true, diag);
    if (result != 0) {
        list_remove(locked, listener);
    }
    return result;
}

/* ---- the public face ---- */

static const struct options_kind OPS = OPTIONS_KIND(gm_listener_ops, log_global_stop);

int gm_listener_register(struct gm_map *map, struct gm_space *space, int32_t priority,
                         const struct gm_listener_ops *ops, void *opaque,
                         struct gm_listener **listener, struct gm_diag *diag)
{
    struct map_locked locked;
    struct gm_listener_ops taken;
    struct gm_listener *made;
    int result = options_take(&OPS, &taken, ops, diag);

    if (result != 0) {
        return result;
    }
    if (space != NULL && space->map != map) {
        return diag_set(diag, GM_DIAG_OTHER_MAP, -EINVAL,
                        "a listener's space belongs to another map");
    }
    result = commit_in_parent(map, diag);
    if (result != 0) {
        return result;
    }
    if (commit_is_nested(map)) {
        return diag_set(diag, GM_DIAG_IN_CALLBACK, -EDEADLK,
                        "a listener cannot be registered inside a callback");
    }
    made = mem_zalloc(&map->allocator, sizeof(*made));
    if (made == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a listener");
    }
    *made = (struct gm_listener){
        .map = map, .space = space, .priority = priority, .ops = taken, .opaque = opaque};
    locked = map_lock(map);
    result = commit_allowed(locked, diag);
    if (result == 0) {
        result = enlist(locked, made, diag);
    }
    map_unlock(locked);
    if (result != 0) {
        mem_free(&map->allocator, made);
        return result;
    }
    *listener = made;
    return 0;
}

int gm_listener_unregister(struct gm_listener *listener, struct gm_diag *diag)
{
    struct gm_map *map = listener->map;
    struct map_locked locked;
    int result;

    result = commit_in_parent(map, diag);
    if (result != 0) {
        return result;
    }
    if (commit_is_nested(map)) {
        return diag_set(diag, GM_DIAG_IN_CALLBACK, -EDEADLK,
                        "a listener cannot be unregistered inside a callback");
    }
    locked = map_lock(map);
    result = replay_to(locked, listener, false, diag);
    if (result == 0) {
        list_remove(locked, listener);
    }
    map_unlock(locked);
    if (result == 0) {
        mem_free(&map->allocator, listener);
    }
    return result;
}

/* ---- dirty logs on demand ---- */

/* Of @region's bytes, as bytes of its block. Past the block's end for a region that is larger than an unbacked one. */
static struct span memory_span(const struct gm_region *region, struct span bytes)
{
    return span_shift(bytes, region->ram_offset);
}

/*
 * The part of a range that shows @memory of the block, as a section; false if none. By whichever region: slots stay as they are when
 * another region of the same memory takes their region's place, and with them what is in their logs.
 */
static bool shown_part(const struct range *range, const struct gm_ram *ram, struct span memory,
                       struct gm_section *section)
{
    struct span shown;
    struct span meet;
    uint64_t skipped_bytes;

    if (range->region->ram != ram) {
        return false;
    }
    shown =
        memory_span(range->region, span_of(range->offset, (pos_t)(range->last - range->gpa) + 1));
    meet = span_meet(shown, memory);
    if (span_is_empty(meet)) {
        return false;
    }
    skipped_bytes = (uint64_t)(meet.start - shown.start);
    range_to_section(range, NULL, section);
    section->gpa += skipped_bytes;
    section->offset += skipped_bytes;
    section->hva = range->hva != NULL ? range->hva + skipped_bytes : NULL;
    section->last -= (uint64_t)(shown.end - meet.end);
    return true;
}

static int sync_section(struct hub *hub, const struct gm_section *section)
{
    int result = 0;
    size_t i;

    for (i = 0; i < hub->listener_count; i++) {
        const struct gm_listener *listener = hub->listeners[i];

        if (listener->ops.log_sync != NULL &&
            (listener->space == NULL || listener->space == section->space)) {
            int one = 0;

            count_add(&hub->listener_calls, 1);
            one = listener->ops.log_sync(listener->opaque, section);
            result = result == 0 ? one : result;
        }
    }
    return result;
}

static int sync_space(struct gm_space *space, const struct gm_ram *ram, struct span memory)
{
    struct cell *cell = atomic_load_explicit(&space->cell, memory_order_relaxed);
    const struct gm_view *view = cell_view(cell);
    int result = 0;
    uint32_t i;
    uint32_t j;

    for (i = 0; i < view->leaf_count; i++) {
        for (j = 0; j < view->leaves[i]->count; j++) {
            struct gm_section section;

            if (shown_part(&view->leaves[i]->ranges[j], ram, memory, &section)) {
                int one;

                section.space = space;
                one = sync_section(space->map->hub, &section);
                result = result == 0 ? one : result;
            }
        }
    }
    return result;
}

int gm_region_log_sync(struct gm_region *region, uint64_t offset_bytes, gm_size_t size_bytes)
{
    struct gm_map *map = region->map;
    struct map_locked locked;
    struct gm_space *space;
    struct span memory;
    int result = 0;

    if (!region_has_ram(region)) {
        return -EINVAL;
    }
    result = commit_in_parent(map, NULL);
    if (result != 0) {
        return result;
    }
    if (commit_is_nested(map)) {
        return -EDEADLK;
    }
    if (size_bytes == 0) {
        return 0;
    }
    memory = memory_span(
        region, span_of(offset_bytes, size_bytes < GM_SIZE_2_64 ? (pos_t)size_bytes : POS_2_64));
    locked = map_lock(map);
    space = map->closed ? NULL : map->hub->spaces; /* a map that was given up has none */
    for (; space != NULL; space = space->next) {
        int one = sync_space(space, region->ram, memory);

        result = result == 0 ? one : result;
    }
    map_unlock(locked);
    return result;
}
