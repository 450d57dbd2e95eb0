/* region/region.c - making, holding and burying regions. */
#include "region/region.h"

#include "base/check.h"
#include "base/diag.h"
#include "region/uses.h"

#include <guestmem/ram.h>

#include <errno.h>

/* ---- making ---- */

static const char *name_of(const struct gm_region_options *options)
{
    return options->name != NULL ? options->name : "";
}

static bool kind_has_ram(enum gm_region_kind kind)
{
    return kind == GM_REGION_RAM || kind == GM_REGION_ROM || kind == GM_REGION_ROM_DEVICE ||
           kind == GM_REGION_RAM_DEVICE;
}

static bool kind_has_io(enum gm_region_kind kind)
{
    return kind == GM_REGION_MMIO || kind == GM_REGION_ROM_DEVICE;
}

/* Powers of two up to 8; 0 stands for a default, which is 1 below and @default_max above. */
static bool are_sizes(const struct gm_io_sizes *sizes, unsigned default_max)
{
    unsigned min_bytes = sizes->min_bytes != 0 ? sizes->min_bytes : 1;
    unsigned max_bytes = sizes->max_bytes != 0 ? sizes->max_bytes : default_max;

    return is_power_of_two(min_bytes) && is_power_of_two(max_bytes) && max_bytes <= 8 &&
           min_bytes <= max_bytes;
}

bool region_fits_ram(const struct gm_ram *ram, uint64_t ram_offset, gm_size_t size)
{
    return (gm_ram_hva(ram) == NULL && ram_offset == 0) ||
           (size < GM_SIZE_2_64 && range_holds(0, gm_ram_size(ram), ram_offset, (uint64_t)size));
}

static int check_memory(const struct gm_region_options *options, struct gm_diag *diag)
{
    if (kind_has_ram(options->kind) != (options->ram != NULL)) {
        return diag_set(diag, -EINVAL, "region '%s': a RAM block belongs to RAM kinds, and to all",
                        name_of(options));
    }
    if (options->ram != NULL &&
        !region_fits_ram(options->ram, options->ram_offset, options->size)) {
        return diag_set(diag, -EINVAL, "region '%s' ends beyond its RAM block of 0x%llx bytes",
                        name_of(options), (unsigned long long)gm_ram_size(options->ram));
    }
    return 0;
}

static int check_options(struct gm_map *map, const struct gm_region_options *options,
                         struct gm_diag *diag)
{
    bool is_alias = options->kind == GM_REGION_ALIAS;
    bool is_iommu = options->kind == GM_REGION_IOMMU;

    if (options->size_of_options != sizeof(*options)) {
        return diag_set(diag, -EINVAL, "size_of_options is %zu, not %zu", options->size_of_options,
                        sizeof(*options));
    }
    if (options->kind < GM_REGION_CONTAINER || options->kind > GM_REGION_IOMMU) {
        return diag_set(diag, -EINVAL, "there is no region kind %d", (int)options->kind);
    }
    if (options->size > GM_SIZE_2_64) {
        return diag_set(diag, -EINVAL, "region '%s' is larger than 2^64", name_of(options));
    }
    if (is_alias != (options->target != NULL) || (is_alias && options->target->map != map)) {
        return diag_set(diag, -EINVAL, "region '%s': aliases have a target of the same map",
                        name_of(options));
    }
    if (options->io != NULL
            ? !kind_has_io(options->kind) || options->io->size != sizeof(*options->io)
            : kind_has_io(options->kind)) {
        return diag_set(diag, -EINVAL, "region '%s': callbacks belong to MMIO and ROM devices",
                        name_of(options));
    }
    if (options->io != NULL &&
        (!are_sizes(&options->io->valid, 8) || !are_sizes(&options->io->implemented, 4))) {
        return diag_set(diag, -EINVAL,
                        "region '%s': access sizes are 1, 2, 4 or 8, the least not above the most",
                        name_of(options));
    }
    if (is_iommu != (options->iommu != NULL) ||
        (is_iommu && options->iommu->size != sizeof(*options->iommu))) {
        return diag_set(diag, -EINVAL, "region '%s': translation belongs to IOMMU regions",
                        name_of(options));
    }
    return check_memory(options, diag);
}

static void fill(struct gm_region *region, struct gm_map *map,
                 const struct gm_region_options *options)
{
    ref_init(&region->refs);
    region->kind = options->kind;
    region->map = map;
    region->opaque = options->opaque;
    region->release = options->release;
    region->ram = options->ram;
    region->ram_offset = options->ram_offset;
    region->target = options->target;
    region->target_offset = options->target_offset;
    region->size = (pos_t)options->size;
    region->addr = options->addr;
    region->priority = options->priority;
    region->enabled = !options->disabled;
    region->readonly = options->readonly || options->kind == GM_REGION_ROM;
    region->nonvolatile = options->nonvolatile;
    region->unmergeable = options->unmergeable;
    region->romd = !options->no_romd;
    if (options->io != NULL) {
        region->io = *options->io;
    }
    if (options->iommu != NULL) {
        region->iommu = *options->iommu;
    }
}

static void link_to_map(struct map_locked locked, struct gm_region *region)
{
    struct gm_map *map = locked.map;

    region->next_in_map = map->regions;
    region->prev_in_map = &map->regions;
    if (map->regions != NULL) {
        map->regions->prev_in_map = &region->next_in_map;
    }
    map->regions = region;
}

/* Enter the map's list; a map that logs everything logs the new region too. */
static int enroll(struct gm_region *region)
{
    struct gm_map *map = region->map;
    struct map_locked locked;
    int result;

    if (lock_is_mine(&map->lock)) {
        return -EDEADLK;
    }
    locked = map_lock(map);
    result = map->closed ? -EINVAL : region_log_begin(region, map->log_all_mask);
    if (result == 0) {
        link_to_map(locked, region);
    }
    map_unlock(locked);
    return result;
}

int gm_region_new(struct gm_map *map, const struct gm_region_options *options,
                  struct gm_region **region, struct gm_diag *diag)
{
    struct gm_region *made;
    int result = check_options(map, options, diag);

    if (result != 0) {
        return result;
    }
    made = mem_zalloc(&map->allocator, sizeof(*made));
    if (made == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for region '%s'", name_of(options));
    }
    fill(made, map, options);
    made->name = mem_strdup(&map->allocator, name_of(options));
    result = made->name != NULL ? enroll(made) : -ENOMEM;
    if (result != 0) {
        mem_free(&map->allocator, made->name);
        mem_free(&map->allocator, made);
        return diag_set(diag, result, "region '%s' cannot be made: %s", name_of(options),
                        result == -ENOMEM    ? "no memory"
                        : result == -EDEADLK ? "a listener's callback is running"
                                             : "the map is closed");
    }
    map_get(map);
    if (made->ram != NULL) {
        gm_ram_get(made->ram);
    }
    if (made->target != NULL) {
        gm_region_get(made->target);
    }
    *region = made;
    return 0;
}

int gm_region_new_container(struct gm_map *map, const char *name, gm_size_t size,
                            struct gm_region **region)
{
    struct gm_region_options options = {
        .size_of_options = sizeof(options),
        .kind = GM_REGION_CONTAINER,
        .name = name,
        .size = size,
    };

    return gm_region_new(map, &options, region, NULL);
}

int gm_region_new_ram(struct gm_map *map, const char *name, struct gm_ram *ram,
                      struct gm_region **region)
{
    struct gm_region_options options = {
        .size_of_options = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = name,
        .size = gm_ram_size(ram),
        .ram = ram,
    };

    return gm_region_new(map, &options, region, NULL);
}

int gm_region_new_mmio(struct gm_map *map, const char *name, gm_size_t size,
                       const struct gm_io_ops *io, void *opaque, struct gm_region **region)
{
    struct gm_region_options options = {
        .size_of_options = sizeof(options),
        .kind = GM_REGION_MMIO,
        .name = name,
        .size = size,
        .io = io,
        .opaque = opaque,
    };

    return gm_region_new(map, &options, region, NULL);
}

int gm_region_new_alias(struct gm_map *map, const char *name, struct gm_region *target,
                        uint64_t target_offset, gm_size_t size, struct gm_region **region)
{
    struct gm_region_options options = {
        .size_of_options = sizeof(options),
        .kind = GM_REGION_ALIAS,
        .name = name,
        .size = size,
        .target = target,
        .target_offset = target_offset,
    };

    return gm_region_new(map, &options, region, NULL);
}

/* ---- the tree's links ---- */

void region_attach(struct map_locked locked, struct gm_region *parent, struct gm_region *child)
{
    child->parent = parent;
    child->as_child.added = parent->children.next_added;
    parent->children.next_added++;
    children_insert(&parent->children, child);
    parent->enabled_child_count += child->enabled;
    if (parent->uses > 0) {
        uses_add(locked, child);
    }
}

void region_detach(struct map_locked locked, struct gm_region *child)
{
    struct gm_region *parent = child->parent;
    bool was_used = parent->uses > 0;

    parent->enabled_child_count -= child->enabled;
    children_remove(&parent->children, child);
    child->parent = NULL;
    if (was_used) { /* the link is gone first: the child may lead back to its parent */
        uses_drop(locked, child);
    }
}

/* ---- logging ---- */

uint32_t region_effective_log_mask(const struct gm_region *region)
{
    return region->ram != NULL ? region->log_mask | region->map->log_all_mask : 0;
}

int region_log_begin(struct gm_region *region, uint32_t mask)
{
    unsigned client;
    int result;

    if (region->ram == NULL) {
        return 0;
    }
    for (client = 0; client < GM_DIRTY_CLIENTS; client++) {
        if ((mask >> client & 1) != 0) {
            result = gm_ram_dirty_begin(region->ram, client);
            if (result != 0) {
                region_log_end(region, mask & ((1u << client) - 1));
                return result;
            }
        }
    }
    return 0;
}

void region_log_end(struct gm_region *region, uint32_t mask)
{
    unsigned client;

    for (client = 0; region->ram != NULL && client < GM_DIRTY_CLIENTS; client++) {
        if ((mask >> client & 1) != 0) {
            /* -ENOENT: the caller ended the client once too often, and our recording with it. */
            (void)gm_ram_dirty_end(region->ram, client);
        }
    }
}

/* ---- references, and the end ---- */

void gm_region_get(struct gm_region *region)
{
    ref_get(&region->refs);
}

static void lay_in_graveyard(struct gm_region *region)
{
    struct gm_map *map = region->map;
    struct gm_region *head = atomic_load_explicit(&map->graveyard, memory_order_relaxed);

    do {
        region->next_dead = head;
        /* release: pairs with the acquire exchange in region_unlink_dead() */
    } while (!atomic_compare_exchange_weak_explicit(&map->graveyard, &head, region,
                                                    memory_order_release, memory_order_relaxed));
}

void region_put_later(struct gm_region *region)
{
    if (region != NULL && ref_put(&region->refs)) {
        lay_in_graveyard(region);
    }
}

void gm_region_put(struct gm_region *region)
{
    struct gm_map *map;

    if (region == NULL || !ref_put(&region->refs)) {
        return;
    }
    map = region->map;
    map_get(map); /* the region's own goes with it, maybe in another thread */
    lay_in_graveyard(region);
    map_bury(map);
    map_put(map);
}

static void orphan_children(struct map_locked locked, struct gm_region *region)
{
    while (region->children.top != NULL) {
        struct gm_region *child = region->children.top;

        region_detach(locked, child);
        region_put_later(child);
    }
}

struct gm_region *region_unlink_dead(struct map_locked locked)
{
    struct gm_map *map = locked.map;
    struct gm_region *dead = atomic_exchange_explicit(&map->graveyard, NULL, memory_order_acquire);
    struct gm_region *region;

    for (region = dead; region != NULL; region = region->next_dead) {
        GM_ASSERT(region->parent == NULL && region->cell == NULL && region->uses == 0);
        orphan_children(locked, region);
        *region->prev_in_map = region->next_in_map;
        if (region->next_in_map != NULL) {
            region->next_in_map->prev_in_map = region->prev_in_map;
        }
        region_log_end(region, region->log_mask);
        region_log_end(region, map->log_all_mask);
    }
    return dead;
}

void region_release_dead(struct gm_region *dead)
{
    while (dead != NULL) {
        struct gm_region *region = dead;
        struct gm_map *map = region->map;

        dead = region->next_dead;
        if (region->release != NULL) {
            region->release(region->opaque);
        }
        gm_ram_put(region->ram);
        region_put_later(region->target);
        eventfd_list_put(region->eventfds);
        mem_free(&map->allocator, region->name);
        mem_free(&map->allocator, region);
        map_put(map);
    }
}

/* ---- what it is ---- */

enum gm_region_kind gm_region_kind(const struct gm_region *region)
{
    return region->kind;
}

const char *gm_region_name(const struct gm_region *region)
{
    return region->name;
}

void *gm_region_opaque(const struct gm_region *region)
{
    return region->opaque;
}

struct gm_ram *gm_region_ram(const struct gm_region *region)
{
    return region->ram;
}

uint64_t gm_region_ram_offset(const struct gm_region *region)
{
    return region->ram_offset;
}

void gm_region_state(const struct gm_region *region, struct gm_region_state *state)
{
    bool is_mine = lock_is_mine(&region->map->lock); /* a listener asks */
    struct map_locked locked = is_mine ? (struct map_locked){region->map} : map_lock(region->map);

    *state = (struct gm_region_state){
        .size = (gm_size_t)region->size,
        .addr = region->addr,
        .priority = region->priority,
        .enabled = region->enabled,
        .readonly = region->readonly,
        .nonvolatile = region->nonvolatile,
        .romd = region->romd,
        .log_mask = region_effective_log_mask(region),
        .parent = region->parent,
    };
    if (!is_mine) {
        map_unlock(locked);
    }
}
