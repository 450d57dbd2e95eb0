/* region/map.c - the map's lock, its regions' graveyard and its memory. */
#include "region/map.h"

#include "region/region.h"

void map_put(struct gm_map *map)
{
    if (ref_put(&map->refs)) {
        struct gm_allocator allocator = map->allocator;

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
    map_get(map);
    atomic_thread_fence(memory_order_seq_cst);
    while (atomic_load_explicit(&map->graveyard, memory_order_relaxed) != NULL &&
           lock_try(&map->lock)) {
        struct map_locked locked = {map};
        struct gm_region *dead = region_unlink_dead(locked);

        lock_drop(&map->lock);
        region_release_dead(dead);
        atomic_thread_fence(memory_order_seq_cst);
    }
    map_put(map);
}

void map_unlock(struct map_locked locked)
{
    struct gm_map *map = locked.map;

    map_get(map);
    lock_drop(&map->lock);
    map_bury(map);
    map_put(map);
}
