/* region/region.c - making, holding and burying regions. */
#include "region/region.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/diag.h"
#include "base/log.h"
#include "base/options.h"
#include "base/point.h"
#include "region/io_sizes.h"
#include "region/iommu.h"
#include "region/uses.h"

#include <guestmem/ram.h>

#include <errno.h>
#include <inttypes.h>

#define DEFAULT_SLOW_RELEASE_MS 1000u

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

static bool is_endless(const struct gm_region *region)
{
    return gm_ram_hva(region->ram) == NULL && region->ram_offset == 0;
}

int region_claim(struct gm_region *region, gm_size_t size)
{
    uint64_t end;

    if (region->ram == NULL || is_endless(region)) {
        return 0;
    }
    if (size >= GM_SIZE_2_64 || __builtin_add_overflow(region->ram_offset, (uint64_t)size, &end)) {
        return -EINVAL;
    }
    return ram_claim_raise(region->ram, &region->claim, end);
}

void region_claim_less(struct gm_region *region, gm_size_t size)
{
    if (region->ram != NULL && !is_endless(region)) {
        ram_claim_lower(region->ram, &region->claim,
                        size == 0 ? 0 : region->ram_offset + (uint64_t)size);
    }
}

static int check_memory(const struct gm_region_options *options, struct gm_diag *diag)
{
    if (kind_has_ram(options->kind) != (options->ram != NULL)) {
        return diag_set(diag, GM_DIAG_REGION_MEMORY, -EINVAL,
                        "region '%s': a RAM block belongs to RAM kinds, and to all",
                        name_of(options));
    }
    return 0;
}

static const struct options_kind OPTIONS = OPTIONS_KIND(gm_region_options, release);
static const struct options_kind IO_OPS = OPTIONS_KIND(gm_io_ops, guard_reentry);
static const struct options_kind IOMMU_OPS = OPTIONS_KIND(gm_iommu_ops, replay);

/* What a caller has said, in our version of it. */
struct settings {
    struct gm_region_options options; /* its tables are those below, or NULL */
    struct gm_io_ops io;
    struct gm_iommu_ops iommu;
};

static int take_settings(struct settings *taken, const struct gm_region_options *theirs,
                         struct gm_diag *diag)
{
    struct gm_region_options *options = &taken->options;
    int rc = options_take(&OPTIONS, options, theirs, diag);

    if (rc == 0 && options->io != NULL) {
        rc = options_take(&IO_OPS, &taken->io, options->io, diag);
        options->io = &taken->io;
    }
    if (rc == 0 && options->iommu != NULL) {
        rc = options_take(&IOMMU_OPS, &taken->iommu, options->iommu, diag);
        options->iommu = &taken->iommu;
    }
    return rc;
}

static int check_options(struct gm_map *map, const struct gm_region_options *options,
                         struct gm_diag *diag)
{
    bool is_alias = options->kind == GM_REGION_ALIAS;
    bool is_iommu = options->kind == GM_REGION_IOMMU;

    if (options->kind < GM_REGION_CONTAINER || options->kind > GM_REGION_IOMMU) {
        return diag_set(diag, GM_DIAG_REGION_KIND, -EINVAL, "there is no region kind %d",
                        (int)options->kind);
    }
    if (options->size_bytes > GM_SIZE_2_64) {
        return diag_set(diag, GM_DIAG_REGION_SIZE, -EINVAL, "region '%s' is larger than 2^64",
                        name_of(options));
    }
    if (is_alias != (options->target != NULL) || (is_alias && options->target->map != map)) {
        return diag_set(diag, GM_DIAG_REGION_TARGET, -EINVAL,
                        "region '%s': aliases have a target of the same map", name_of(options));
    }
    if (kind_has_io(options->kind) != (options->io != NULL)) {
        return diag_set(diag, GM_DIAG_REGION_CALLBACKS, -EINVAL,
                        "region '%s': callbacks belong to MMIO and ROM devices", name_of(options));
    }
    if (options->flush_coalesced && options->io == NULL) {
        return diag_set(diag, GM_DIAG_REGION_CALLBACKS, -EINVAL,
                        "region '%s' has no callbacks that could see a flush", name_of(options));
    }
    if (options->io != NULL &&
        (!are_sizes(&options->io->valid, 8) || !are_sizes(&options->io->implemented, 4))) {
        return diag_set(diag, GM_DIAG_REGION_ACCESS_SIZES, -EINVAL,
                        "region '%s': access sizes are 1, 2, 4 or 8, the least not above the most",
                        name_of(options));
    }
    if (is_iommu != (options->iommu != NULL) ||
        (is_iommu && !iommu_ops_are_valid(options->iommu))) {
        return diag_set(
            diag, GM_DIAG_REGION_TRANSLATION, -EINVAL,
            "region '%s': translation belongs to IOMMU regions; pages are powers of two",
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
    region->size = (pos_t)options->size_bytes;
    region->addr = options->addr;
    region->priority = options->priority;
    region->enabled = !options->disabled;
    region->readonly = options->readonly || options->kind == GM_REGION_ROM;
    region->nonvolatile = options->nonvolatile;
    region->unmergeable = options->unmergeable;
    region->romd = !options->no_romd;
    atomic_init(&region->flushes, options->flush_coalesced);
    if (options->io != NULL) {
        region->io = *options->io;
        region->plain_sizes = (uint8_t)io_plain_sizes(&region->io);
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

    if (map_is_copy(map)) {
        return -EIO;
    }
    if (map_is_locked_out(map)) {
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

static int enroll_failed(int result, const char *name, struct gm_diag *diag)
{
    switch (result) {
    case -ENOMEM:
        return diag_set(diag, GM_DIAG_NO_MEMORY, result, "no memory for region '%s'", name);
    case -EIO:
        return diag_set(diag, GM_DIAG_FORKED, result,
                        "region '%s' cannot be made in a child of the map's process", name);
    case -EDEADLK:
        return diag_set(diag, GM_DIAG_IN_CALLBACK, result,
                        "region '%s' cannot be made inside a listener's callback", name);
    default:
        return diag_set(diag, GM_DIAG_MAP_GIVEN_UP, result,
                        "region '%s' cannot be made: the map has been given up", name);
    }
}

/* With options that were checked. */
static int make(struct gm_map *map, const struct gm_region_options *options,
                struct gm_region **region, struct gm_diag *diag)
{
    struct gm_region *made = mem_zalloc(&map->allocator, sizeof(*made));
    int result;

    if (made == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for region '%s'",
                        name_of(options));
    }
    fill(made, map, options);
    if (region_claim(made, options->size_bytes) != 0) {
        result = diag_set(diag, GM_DIAG_REGION_BEYOND_RAM, -EINVAL,
                          "region '%s' ends beyond its RAM block of 0x%llx bytes", name_of(options),
                          (unsigned long long)gm_ram_size(made->ram));
        mem_free(&map->allocator, made);
        return result;
    }
    made->name = mem_strdup(&map->allocator, name_of(options));
    result = made->name != NULL ? 0 : -ENOMEM;
    if (result == 0 && options->iommu != NULL) {
        result = iommu_new(&map->allocator, options->iommu, &made->iommu);
    }
    if (result == 0) {
        result = enroll(made);
    }
    if (result != 0) {
        region_claim_less(made, 0);
        iommu_free(&map->allocator, made->iommu);
        mem_free(&map->allocator, made->name);
        mem_free(&map->allocator, made);
        return enroll_failed(result, name_of(options), diag);
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

int gm_region_new(struct gm_map *map, const struct gm_region_options *options,
                  struct gm_region **region, struct gm_diag *diag)
{
    struct settings taken;
    int result = take_settings(&taken, options, diag);

    if (result == 0) {
        result = check_options(map, &taken.options, diag);
    }
    return result == 0 ? make(map, &taken.options, region, diag) : result;
}

int gm_region_new_container(struct gm_map *map, const char *name, gm_size_t size,
                            struct gm_region **region)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_CONTAINER,
        .name = name,
        .size_bytes = size,
    };

    return gm_region_new(map, &options, region, NULL);
}

int gm_region_new_ram(struct gm_map *map, const char *name, struct gm_ram *ram,
                      struct gm_region **region)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = name,
        .size_bytes = gm_ram_size(ram),
        .ram = ram,
    };

    return gm_region_new(map, &options, region, NULL);
}

int gm_region_new_mmio(struct gm_map *map, const char *name, gm_size_t size,
                       const struct gm_io_ops *io, void *opaque, struct gm_region **region)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_MMIO,
        .name = name,
        .size_bytes = size,
        .io = io,
        .opaque = opaque,
    };

    return gm_region_new(map, &options, region, NULL);
}

int gm_region_new_alias(struct gm_map *map, const char *name, struct gm_region *target,
                        uint64_t target_offset, gm_size_t size, struct gm_region **region)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_ALIAS,
        .name = name,
        .size_bytes = size,
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

    if (map->log.log != NULL) {
        region->died_ns = clock_now_ns();
    }
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
    if (region != NULL) {
        region_put(region);
    }
}

void region_die(struct gm_region *region)
{
    struct gm_map *map = region->map;

    map_get(map); /* the region's own goes with it, maybe in another thread */
    lay_in_graveyard(region);
    GM_POINT("grave-laid");
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

/* Its release callback comes at once. Said under the lock: gm_map_free() takes it before the hook's owner may end it. */
static void say_if_late(struct map_locked locked, const struct gm_region *region)
{
    const struct gm_log_hook *log = &locked.map->log;
    uint32_t slow_ms = log->slow_release_ms != 0 ? log->slow_release_ms : DEFAULT_SLOW_RELEASE_MS;
    uint64_t waited_ms;

    if (log->log == NULL || locked.map->closed || map_is_copy(locked.map)) {
        return;
    }
    waited_ms = (clock_now_ns() - region->died_ns) / NS_PER_MS;
    if (waited_ms >= slow_ms) {
        log_say(log, GM_LOG_WARNING,
                "region '%s' is released %" PRIu64
                " ms after nobody reached it any more: commits were under way",
                region->name, waited_ms);
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
        say_if_late(locked, region);
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
        region_claim_less(region, 0);
        gm_ram_put(region->ram);
        region_put_later(region->target);
        eventfd_list_put(region->eventfds);
        iommu_free(&map->allocator, region->iommu);
        coalesced_list_put(region->coalesced);
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
