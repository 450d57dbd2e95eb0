/* region/map.c - the map's lock, its regions' graveyard and its memory. */
#include "region/map.h"

#include "base/point.h"
#include "region/iommu.h"
#include "region/region.h"

#include <time.h>

/* The maps whose dead this thread is burying: more than one where a release callback edits another. */
struct burial {
    const struct gm_map *map;
    const struct burial *outer;
};

static _Thread_local const struct burial *running_burials;

static bool is_burying(const struct gm_map *map)
{
    const struct burial *burial = running_burials;

    while (burial != NULL && burial->map != map) {
        burial = burial->outer;
    }
    return burial != NULL;
}

bool map_is_locked_out(const struct gm_map *map)
{
    return lock_is_mine(&map->lock) || iommu_is_telling(map);
}

void map_put(struct gm_map *map)
{
    if (ref_put(&map->refs)) {
        struct gm_allocator allocator = map->allocator;

        scratch_fini(&map->scratch);
        readers_fini(&map->readers);
        fork_mark_fini(&map->mark);
        lock_fini(&map->lock);
        mem_free(&allocator, map);
    }
}

/*
 * A region that dies while the lock is held by another thread is pushed (1), then the lock is tried (2); the
 * holder drops the lock (3), then looks at the graveyard (4). The fences keep 1 before 2 and 3 before
 * 4, so one of the two threads sees the other's step and the dead do not lie until the next commit.
 */
void map_bury(struct gm_map *map)
{
    struct burial burial = {map, running_burials};
    bool is_copy = map_is_copy(map);

    if (is_burying(map)) {
        return; /* the loop below, further out on this stack, looks again */
    }
    if (is_copy) {
        alone_begin();
    }
    map_get(map);
    running_burials = &burial;
    atomic_thread_fence(memory_order_seq_cst);
    while (atomic_load_explicit(&map->graveyard, memory_order_relaxed) != NULL &&
           lock_try(&map->lock)) {
        struct map_locked locked = {map};
        struct gm_region *dead = region_unlink_dead(locked);

        atomic_fetch_add_explicit(&map->burials, 1, memory_order_relaxed); /* under the lock */
        lock_drop(&map->lock);
        region_release_dead(dead);
        /* release: pairs with the acquire in map_wait_buried() */
        atomic_fetch_sub_explicit(&map->burials, 1, memory_order_release);
        atomic_thread_fence(memory_order_seq_cst);
    }
    GM_POINT("bury-looked");
    running_burials = burial.outer;
    map_put(map);
    if (is_copy) {
        alone_end();
    }
}

/* Who took the dead out before us did so under the lock, and is counted since. */
void map_wait_buried(struct gm_map *map)
{
    const struct timespec moment = {.tv_nsec = 50000};

    map_unlock(map_lock(map));
    /* acquire: pairs with the release in map_bury() */
    while (atomic_load_explicit(&map->burials, memory_order_acquire) != 0) {
        nanosleep(&moment, NULL); /* another thread's release callbacks, which take their time */
    }
}

void map_unlock(struct map_locked locked)
{
    struct gm_map *map = locked.map;

    map_get(map);
    lock_drop(&map->lock);
    GM_POINT("map-unlocked");
    map_bury(map);
    map_put(map);
}
