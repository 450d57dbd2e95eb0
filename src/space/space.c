/* space/space.c - address spaces. */
#include "space/space.h"

#include "base/check.h"
#include "base/diag.h"
#include "space/cell.h"
#include "space/commit.h"

#include <errno.h>

struct gm_view *gm_view_get(struct gm_space *space)
{
    struct gm_view *view;

    rcu_enter();
    view = (struct gm_view *)space_view(space);
    view_get(view); /* the cell's reference lasts beyond this section */
    rcu_leave();
    return view;
}

void space_put(struct gm_space *space)
{
    if (ref_put(&space->refs)) {
        struct gm_map *map = space->map;

        mem_free(&map->allocator, space->name);
        mem_free(&map->allocator, space);
        map_put(map);
    }
}

static void put_retired(struct rcu_item *item)
{
    space_put(rcu_owner(item, struct gm_space, reclaim));
}

void space_retire(struct gm_space *space)
{
    rcu_defer(&space->reclaim, put_retired);
}

static struct gm_space *make(struct gm_map *map, const char *name)
{
    struct gm_space *space = mem_zalloc(&map->allocator, sizeof(*space));

    if (space == NULL) {
        return NULL;
    }
    space->name = mem_strdup(&map->allocator, name);
    if (space->name == NULL) {
        mem_free(&map->allocator, space);
        return NULL;
    }
    ref_init(&space->refs);
    space->map = map;
    map_get(map);
    return space;
}

/* A space begins in the empty cell; its root comes, and goes, by an ordinary edit. */
static void enter(struct hub *hub, struct gm_space *space)
{
    space->index = hub->next_space_index;
    hub->next_space_index++;
    space->prev = hub->spaces_end;
    *space->prev = space;
    hub->spaces_end = &space->next;
    cell_link_space(hub->empty_cell, space);
}

static void leave(struct hub *hub, struct gm_space *space)
{
    *space->prev = space->next;
    if (space->next != NULL) {
        space->next->prev = space->prev;
    } else {
        hub->spaces_end = space->prev;
    }
    space->prev = NULL; /* says that it has ended */
    cell_unlink_space(space);
}

static int commit_root(struct map_locked locked, struct gm_space *space, struct gm_region *root,
                       struct gm_diag *diag)
{
    struct edit edit = {.kind = EDIT_ROOT, .region = root, .space = space};

    return commit_edits(locked, &edit, 1, diag);
}

static int enter_with_root(struct map_locked locked, struct gm_space *space, struct gm_region *root,
                           struct gm_diag *diag)
{
    struct hub *hub = locked.map->hub;
    int result;

    enter(hub, space);
    result = commit_root(locked, space, root, diag);
    if (result != 0) {
        leave(hub, space);
        hub->next_space_index--;
    }
    return result;
}

int gm_space_new(struct gm_map *map, const char *name, struct gm_region *root,
                 struct gm_space **space, struct gm_diag *diag)
{
    struct map_locked locked;
    struct gm_space *made;
    int result;

    name = name != NULL ? name : "";
    if (root != NULL && root->map != map) {
        return diag_set(diag, GM_DIAG_OTHER_MAP, -EINVAL,
                        "the root of space '%s' belongs to another map", name);
    }
    result = commit_in_parent(map, diag);
    if (result != 0) {
        return result;
    }
    if (commit_is_nested(map)) {
        return diag_set(diag, GM_DIAG_IN_CALLBACK, -EDEADLK,
                        "an address space cannot be made inside a listener");
    }
    made = make(map, name);
    if (made == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for space '%s'", name);
    }
    locked = map_lock(map);
    result = commit_allowed(locked, diag);
    if (result == 0) {
        result = enter_with_root(locked, made, root, diag);
    }
    map_unlock(locked);
    if (result != 0) {
        space_put(made);
        return result;
    }
    *space = made;
    return 0;
}

int gm_space_free(struct gm_space *space, struct gm_diag *diag)
{
    struct gm_map *map = space->map;
    struct map_locked locked;
    int result;

    result = commit_in_parent(map, diag);
    if (result != 0) {
        return result;
    }
    if (commit_is_nested(map)) {
        return diag_set(diag, GM_DIAG_IN_CALLBACK, -EDEADLK,
                        "an address space cannot end inside a listener");
    }
    locked = map_lock(map);
    if (space->listener_count > 0) {
        map_unlock(locked);
        return diag_set(diag, GM_DIAG_SPACE_HAS_LISTENERS, -EBUSY,
                        "space '%s' has listeners of its own", space->name);
    }
    result = commit_root(locked, space, NULL, diag);
    if (result == 0) {
        leave(map->hub, space);
        space_retire(space);
    }
    map_unlock(locked);
    return result;
}

const char *gm_space_name(const struct gm_space *space)
{
    return space->name;
}

unsigned gm_space_index(const struct gm_space *space)
{
    return space->index;
}

struct gm_map *gm_space_map_of(const struct gm_space *space)
{
    return space->map;
}
