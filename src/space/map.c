/* space/map.c - making and giving up a map. */
#include "base/diag.h"
#include "base/options.h"
#include "base/rcu.h"
#include "base/rcu_start.h"
#include "space/cell.h"
#include "space/hub.h"

#include <guestmem/map.h>

#include <errno.h>

#define DEFAULT_MAX_RANGES (1u << 20)
#define DEFAULT_MAX_STEPS (16u << 20)

const struct options_kind map_options_kind = OPTIONS_KIND(gm_map_options, guest_big_endian);

static void set_limits(struct hub *hub, const struct gm_map_options *options)
{
    hub->limits.max_ranges = options->max_view_ranges;
    hub->limits.max_steps = options->max_render_steps;
    if (hub->limits.max_ranges == 0) {
        hub->limits.max_ranges = DEFAULT_MAX_RANGES;
    }
    if (hub->limits.max_steps == 0) {
        hub->limits.max_steps = DEFAULT_MAX_STEPS;
    }
}

int gm_map_new(const struct gm_map_options *options, struct gm_map **map, struct gm_diag *diag)
{
    const struct gm_allocator *allocator;
    struct gm_map_options chosen;
    struct gm_map *made;
    int rc = options_take(&map_options_kind, &chosen, options, diag);

    if (rc != 0) {
        return rc;
    }
    if (rcu_start() != 0) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM,
                        "no thread can be made that frees what a map has replaced");
    }
    allocator = mem_allocator_or_default(chosen.allocator);
    made = mem_zalloc(allocator, sizeof(*made));
    if (made == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a map");
    }
    ref_init(&made->refs);
    made->allocator = *allocator;
    scratch_init(&made->scratch, allocator);
    made->log = chosen.log;
    made->guest_big_endian = chosen.guest_big_endian;
    rc = fork_mark_init(&made->mark);
    if (rc != 0) {
        mem_free(allocator, made);
        return rc == -ENOMEM ? diag_set(diag, GM_DIAG_NO_MEMORY, rc, "no memory for a map's mark")
                             : diag_set(diag, GM_DIAG_KERNEL_TOO_OLD, rc,
                                        "this kernel has no MADV_WIPEONFORK: it takes Linux 4.14");
    }
    if (readers_init(&made->readers, allocator) != 0) {
        fork_mark_fini(&made->mark);
        mem_free(allocator, made);
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a map");
    }
    if (lock_init(&made->lock, LOCK_RANK_MAP) != 0) {
        readers_fini(&made->readers);
        fork_mark_fini(&made->mark);
        mem_free(allocator, made);
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a lock");
    }
    made->hub = mem_zalloc(allocator, sizeof(*made->hub));
    if (made->hub != NULL) {
        made->hub->spaces_end = &made->hub->spaces;
        set_limits(made->hub, &chosen);
        made->hub->empty_cell = cell_new((struct map_locked){made}, NULL);
    }
    if (made->hub == NULL || made->hub->empty_cell == NULL) {
        mem_free(allocator, made->hub);
        map_put(made);
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a map");
    }
    *map = made;
    return 0;
}

/* Links between regions keep them alive in circles (a child that is an alias of its parent): cut all. */
static void detach_regions(struct map_locked locked)
{
    struct gm_region *region;

    for (region = locked.map->regions; region != NULL; region = region->next_in_map) {
        while (region->children.top != NULL) {
            struct gm_region *child = region->children.top;

            region_detach(locked, child);
            region_put_later(child);
        }
    }
}

static void end_spaces(struct map_locked locked)
{
    struct hub *hub = locked.map->hub;

    while (hub->spaces != NULL) {
        struct gm_space *space = hub->spaces;

        hub->spaces = space->next;
        cell_unlink_space(space);
        gm_region_put(space->root);
        space->root = NULL;
        space_retire(space);
    }
    while (hub->cells != NULL) {
        cell_remove(locked, hub->cells);
    }
}

static void free_map(struct gm_map *map)
{
    struct map_locked locked = map_lock(map);
    size_t i;

    map->closed = true;
    for (i = 0; i < map->hub->listener_count; i++) {
        mem_free(&map->allocator, map->hub->listeners[i]);
    }
    end_spaces(locked);
    detach_regions(locked);
    mem_free(&map->allocator, map->hub->listeners);
    mem_free(&map->allocator, map->hub);
    map->hub = NULL;
    map_unlock(locked);
    map_put(map);
}

bool map_was_at_rest(struct gm_map *map)
{
    if (!lock_try(&map->lock)) {
        return false;
    }
    lock_drop(&map->lock);
    return true;
}

void gm_map_free(struct gm_map *map)
{
    if (map == NULL) {
        return;
    }
    if (!map_is_copy(map)) {
        free_map(map);
    } else if (map_was_at_rest(map)) {
        alone_begin();
        free_map(map);
        alone_end();
    }
}

void gm_map_quiesce(struct gm_map *map)
{
    if (map != NULL && map_is_copy(map)) {
        return; /* what is deferred here waits for nobody */
    }
    rcu_drain();
    if (map != NULL) {
        readers_wait(&map->readers);
        map_wait_buried(map);
    }
    rcu_drain(); /* what the burials have deferred: dirty records */
}

void gm_map_stats(const struct gm_map *map, struct gm_map_stats *stats)
{
    const struct hub *hub = map->hub;

    *stats = (struct gm_map_stats){
        .commits = count_read(&hub->commits),
        .failed_commits = count_read(&hub->failed_commits),
        .rendered_views = count_read(&hub->rendered_views),
        .rendered_ranges = count_read(&hub->rendered_ranges),
        .visited_regions = count_read(&hub->visited_regions),
        .listener_calls = count_read(&hub->listener_calls),
    };
}

bool gm_map_is_broken(const struct gm_map *map)
{
    return atomic_load_explicit(&map->hub->broken, memory_order_relaxed);
}
