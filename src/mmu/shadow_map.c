/*
 * mmu/shadow_map.c - putting into the shadow tables what a walk of the guest's tables found.
 *
 * The walk was made in guest mode, before the lock was taken: its entries are read once more, each after writes to
 * its table are caught. So an entry that changes later is noticed, or its page is unsync.
 */
#include "mmu/shadow_page.h"

#include "base/check.h"
#include "base/point.h"
#include "kcore/attributes.h"
#include "mmu/fault.h"
#include "mmu/guest.h"
#include "mmu/guestwalk.h"
#include "mmu/large.h"
#include "mmu/walk.h"

/* One request, under the lock. */
struct map {
    struct shadow_work *work;
    struct mmu_vcpu *vcpu;
    const struct shadow_request *request;
    struct shadow_page *page; /* the walk has come to */
};

static enum shadow_map_result result_of(enum shadow_get got)
{
    switch (got) {
    case SHADOW_GOT:
        return SHADOW_MAP_DONE;
    case SHADOW_NO_STOCK:
        return SHADOW_MAP_NO_STOCK;
    default:
        return SHADOW_MAP_NO_MEMORY;
    }
}

/* The guest's table at a level of the walk, in host memory. NULL: it may be there no more. */
static const uint8_t *guest_table(const struct map *map, unsigned level)
{
    const struct shadow_request *request = map->request;
    struct kcore *core = map->vcpu->mmu->core;
    struct gfn gfn = gfn_of(request->walk->entry_gpas[level]);
    const struct memslot *slot = shadow_slot(map->vcpu->mmu, map->vcpu->space, gfn);
    struct hva hva;

    if (slot == NULL || !fault_page_hva(slot, gfn, kcore_attributes(core, gfn), &hva) ||
        notifier_retry(&core->notifier, request->token, hva, PAGE_BYTES_4K)) {
        return NULL;
    }
    return (const uint8_t *)(uintptr_t)hva.value;
}

static bool is_read_only(const struct map *map, struct gfn gfn)
{
    const struct memslot *slot = shadow_slot(map->vcpu->mmu, map->vcpu->space, gfn);

    return (slot->flags & MEMSLOT_READONLY) != 0;
}

/* Does the guest's entry say what the walk found? In read-only memory without the flags that it would have set. */
static bool is_unchanged(const struct map *map, unsigned level)
{
    const struct guestwalk *walk = map->request->walk;
    unsigned size_bytes = map->vcpu->linear.paging->entry_bytes;
    const uint8_t *entry = map->page->guest_table + walk->entry_gpas[level] % PAGE_BYTES_4K;
    uint64_t difference = gm_host_load(entry, size_bytes) ^ walk->entries[level];

    return difference == 0 || ((difference & ~(PAGING_ACCESSED | PAGING_DIRTY)) == 0 &&
                               is_read_only(map, map->page->gfn));
}

/* Go on to the page of @gfn and @role, which the entry is made to lead to. */
static enum shadow_map_result go_down(struct map *map, struct gfn gfn,
                                      const struct shadow_role *role, const uint8_t *table)
{
    unsigned index = level_index(map->page->role.level, gfn_of(map->request->linear));
    struct shadow_page *child = shadow_child(map->page, index);
    enum shadow_get got;

    if (child != NULL && shadow_page_is(child, gfn, role)) {
        child->write_count = 0;
        map->page = child;
        return SHADOW_MAP_DONE;
    }
    got = shadow_page_get(map->work, map->vcpu, gfn, role, table, &child);
    if (got != SHADOW_GOT) {
        return result_of(got);
    }
    shadow_drop(map->work, map->page, index);
    shadow_link(map->page, index, child, &map->vcpu->shadow.chunks);
    map->page = child;
    return SHADOW_MAP_DONE;
}

static enum shadow_map_result begin_at_root(struct map *map)
{
    const struct mmu_vcpu *vcpu = map->vcpu;
    unsigned level = vcpu->linear.paging->has_flags_at_top ? vcpu->linear.paging->level_count : 2;
    const uint8_t *table = guest_table(map, level);
    enum shadow_get got;

    if (table == NULL) {
        return SHADOW_MAP_RETRY;
    }
    got = shadow_root_get(map->work, map->vcpu, map->request->linear, table, &map->page);
    if (got == SHADOW_GOT && atomic_load(&map->page->is_invalid)) {
        return SHADOW_MAP_RETRY;
    }
    return result_of(got);
}

/* The page that stands for the guest's next table. */
static enum shadow_map_result go_down_guest(struct map *map)
{
    const struct guestwalk *walk = map->request->walk;
    unsigned level = map->page->role.level - 1u;
    const uint8_t *table = guest_table(map, level);
    const struct shadow_role role = {
        .level = (uint8_t)level,
        .space = map->page->role.space,
        .format = map->page->role.format,
        .quadrant = map->vcpu->linear.paging->entry_bytes == 4
                        ? (uint8_t)(map->request->linear >> level_shift(2) & 1)
                        : 0,
        .rights = walk->table_rights[level],
    };

    if (table == NULL) {
        return SHADOW_MAP_RETRY;
    }
    return go_down(map, gfn_of(walk->entry_gpas[level]), &role, table);
}

/* The key in the leaf's entry, whether or not keys are in force now. */
static uint64_t key_of(const struct guestwalk *walk)
{
    return walk->entries[walk->level] >> PAGING_KEY_SHIFT & PAGING_KEY_MASK;
}

/* A page that maps the guest's large page in smaller parts. */
static enum shadow_map_result go_down_direct(struct map *map)
{
    const struct shadow_request *request = map->request;
    const struct guestwalk *walk = request->walk;
    unsigned level = map->page->role.level;
    const struct shadow_role role = {
        .level = (uint8_t)(level - 1),
        .space = map->page->role.space,
        .rights = (uint8_t)walk->rights,
        .key = (uint8_t)key_of(walk),
        .is_direct = true,
        .is_dirty = walk->is_dirty || request->fault->access == GM_MMU_WRITE,
    };

    return go_down(map, level_first(level, request->fault->gfn), &role, NULL);
}

/* May the page be written, with nobody to see it? */
static bool may_write(const struct map *map)
{
    const struct memslot *slot = map->request->resolved->slot;
    struct gfn gfn = map->request->fault->gfn;

    return !slot_is_tracked_by_user(slot, gfn) &&
           (!slot_is_tracked(slot, gfn) || shadow_make_unsync(map->work, map->vcpu->space, gfn));
}

/* The leaf for the walk's 4 KiB page, as if at level 1. */
static uint64_t leaf_for(const struct map *map)
{
    const struct shadow_request *request = map->request;
    uint64_t write = request->fault->access == GM_MMU_WRITE ? EPT_WRITE : 0;

    return fault_leaf(map->vcpu->mmu, request->resolved, write) |
           (uint64_t)request->walk->rights << SHADOW_RIGHTS_SHIFT |
           key_of(request->walk) << SHADOW_KEY_SHIFT |
           (uint64_t)(request->walk->level - 1) << SHADOW_LEVEL_SHIFT;
}

static enum shadow_map_result put_leaf(struct map *map)
{
    const struct shadow_request *request = map->request;
    struct shadow_page *page = map->page;
    unsigned level = page->role.level;
    unsigned index = level_index(level, gfn_of(request->linear));
    struct gfn first = level_first(level, request->fault->gfn);
    const uint64_t addable = EPT_RIGHTS | EPT_ACCESSED;
    uint64_t seen = entry_load(&page->entries[index]);
    uint64_t leaf = leaf_for(map);

    if (level > 1) {
        leaf -= (request->fault->gfn.value - first.value) << PAGE_SHIFT_4K;
        leaf |= EPT_LARGE;
    }
    if (entry_is_leaf(level, seen) && ((seen ^ leaf) & ~addable) == 0 &&
        shadow_frame(page, index).value == first.value) {
        (void)__atomic_fetch_or(&page->entries[index], leaf & addable, __ATOMIC_ACQ_REL);
        return SHADOW_MAP_DONE;
    }
    shadow_drop(map->work, page, index);
    return shadow_add_leaf(map->work, page, index, first, leaf, &map->vcpu->shadow.chunks) == 0
               ? SHADOW_MAP_DONE
               : SHADOW_MAP_NO_MEMORY;
}

/* Tables are there down to the guest's leaf: map its page. */
static enum shadow_map_result map_page(struct map *map)
{
    const struct shadow_request *request = map->request;
    const struct resolved *resolved = request->resolved;
    const struct memslot *slot = resolved->slot;
    struct fault *fault = request->fault;
    unsigned level = fault_leaf_level(map->vcpu->mmu, fault, resolved);
    enum shadow_map_result result = SHADOW_MAP_DONE;

    if (fault->access == GM_MMU_WRITE && !may_write(map)) {
        return SHADOW_MAP_BY_HAND;
    }
    fault_note_backing(map->vcpu->mmu, resolved);
    while (result == SHADOW_MAP_DONE && map->page->role.level > level) {
        result = go_down_direct(map);
    }
    if (result == SHADOW_MAP_DONE) {
        result = put_leaf(map);
    }
    if (result == SHADOW_MAP_DONE && fault->access == GM_MMU_WRITE &&
        (slot->flags & MEMSLOT_LOG) != 0) {
        guest_mark_written(map->vcpu, slot, fault->gfn);
    }
    return result;
}

static enum shadow_map_result map_walk(struct map *map)
{
    const struct shadow_request *request = map->request;
    enum shadow_map_result result;

    if (fault_is_stale(map->vcpu, request->fault, request->resolved)) {
        return SHADOW_MAP_RETRY;
    }
    if (map->vcpu->shadow.chunks.count < SHADOW_CHUNKS) {
        return SHADOW_MAP_NO_STOCK;
    }
    result = begin_at_root(map);
    while (result == SHADOW_MAP_DONE) {
        unsigned level = map->page->role.level;

        if (!is_unchanged(map, level)) {
            return SHADOW_MAP_RETRY;
        }
        if (level == request->walk->level) {
            return map_page(map);
        }
        result = go_down_guest(map);
    }
    return result;
}

enum shadow_map_result shadow_map(struct mmu_vcpu *vcpu, const struct shadow_request *request)
{
    struct retired retired = {0};
    struct shadow_work work = shadow_work_begin(vcpu->mmu, &retired);
    struct map map = {.work = &work, .vcpu = vcpu, .request = request};
    enum shadow_map_result result;

    GM_POINT("shadow-mapping");
    result = map_walk(&map);
    shadow_work_end(&work);
    return result;
}
