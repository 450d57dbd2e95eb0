/* mmu/rmap.c - which shadow leaves map a frame. */
#include "mmu/rmap.h"

#include "base/alloc.h"
#include "base/check.h"
#include "mmu/large.h"

#include <errno.h>

/* Lists of the 4 KiB leaves of 2 MiB. */
struct rmap_group {
    uint64_t leaf_count;
    struct entry_list lists[EPT_ENTRIES];
};

struct rmap {
    uint64_t leaf_counts[EPT_LEAF_LEVEL_MAX + 1]; /* by level */
    struct entry_list
        *large[EPT_LEAF_LEVEL_MAX + 1]; /* of levels 2 and 3, by block; NULL: none yet */
    struct rmap_group *groups[];        /* for each 2 MiB that the slot meets */
};

/* The slot's, made if it is not there. NULL: no memory. */
static struct rmap *need_rmap(struct mmu *mmu, const struct memslot *slot)
{
    struct rmap **place = slot_rmap(slot);

    if (*place == NULL) {
        *place = mem_zalloc(&mmu->allocator, sizeof(**place) + slot_block_count(slot, 2) *
                                                                   sizeof((*place)->groups[0]));
    }
    return *place;
}

/* The list of a frame, which is there once it was needed; NULL: not yet. */
static struct entry_list *find_list(const struct rmap *rmap, const struct memslot *slot,
                                    unsigned level, struct gfn gfn)
{
    uint64_t block = slot_block_index(slot, gfn, level > 1 ? level : 2);
    struct rmap_group *group;

    if (level > 1) {
        return rmap->large[level] != NULL ? &rmap->large[level][block] : NULL;
    }
    group = rmap->groups[block];
    return group != NULL ? &group->lists[gfn.value % EPT_ENTRIES] : NULL;
}

/* Make room for the frame's list. Return: 0; -ENOMEM. */
static int need_list(struct mmu *mmu, struct rmap *rmap, const struct memslot *slot, unsigned level,
                     struct gfn gfn)
{
    void *memory;

    if (find_list(rmap, slot, level, gfn) != NULL) {
        return 0;
    }
    if (level > 1) {
        memory =
            mem_zalloc(&mmu->allocator, slot_block_count(slot, level) * sizeof(struct entry_list));
        rmap->large[level] = memory;
    } else {
        memory = mem_zalloc(&mmu->allocator, sizeof(struct rmap_group));
        rmap->groups[slot_block_index(slot, gfn, 2)] = memory;
    }
    return memory != NULL ? 0 : -ENOMEM;
}

static void count(struct rmap *rmap, const struct memslot *slot, unsigned level, struct gfn gfn,
                  uint64_t by)
{
    rmap->leaf_counts[level] += by;
    if (level == 1) {
        rmap->groups[slot_block_index(slot, gfn, 2)]->leaf_count += by;
    }
}

int rmap_add(struct mmu *mmu, const struct memslot *slot, unsigned level, struct gfn gfn,
             uint64_t *entry, struct chunk_stock *stock)
{
    struct rmap *rmap = need_rmap(mmu, slot);

    if (rmap == NULL || need_list(mmu, rmap, slot, level, gfn) != 0) {
        return -ENOMEM;
    }
    entry_list_add(find_list(rmap, slot, level, gfn), entry, stock);
    count(rmap, slot, level, gfn, 1);
    return 0;
}

void rmap_remove(struct mmu *mmu, const struct memslot *slot, unsigned level, struct gfn gfn,
                 uint64_t *entry)
{
    struct rmap *rmap = *slot_rmap(slot);

    GM_ASSERT(rmap != NULL);
    entry_list_remove(find_list(rmap, slot, level, gfn), entry, &mmu->allocator);
    count(rmap, slot, level, gfn, -UINT64_C(1));
}

/* Has the frame's 2 MiB no list of small leaves? */
static bool is_group_empty(const struct rmap *rmap, const struct memslot *slot, struct gfn gfn)
{
    const struct rmap_group *group = rmap->groups[slot_block_index(slot, gfn, 2)];

    return group == NULL || group->leaf_count == 0;
}

struct entry_list *rmap_next(const struct memslot *slot, unsigned level, struct gfn *gfn,
                             struct gfn end)
{
    const struct rmap *rmap = *slot_rmap(slot);
    uint64_t slot_end = slot->base.value + slot->page_count;

    if (rmap == NULL || rmap->leaf_counts[level] == 0) {
        return NULL;
    }
    end.value = end.value < slot_end ? end.value : slot_end;
    *gfn = level_first(level, *gfn);
    /* A large leaf lies in its slot as a whole. */
    while (gfn->value < end.value) {
        struct entry_list *list;

        if (gfn->value < slot->base.value) {
            gfn->value = level > 1 ? gfn->value + level_pages(level) : slot->base.value;
            continue;
        }
        if (level == 1 && is_group_empty(rmap, slot, *gfn)) {
            gfn->value = level_first(2, *gfn).value + level_pages(2);
            continue;
        }
        list = find_list(rmap, slot, level, *gfn);
        if (list != NULL && !entry_list_is_empty(list)) {
            return list;
        }
        gfn->value += level_pages(level);
    }
    return NULL;
}

uint64_t rmap_leaf_count(const struct memslot *slot)
{
    const struct rmap *rmap = *slot_rmap(slot);
    uint64_t sum = 0;

    for (unsigned level = 1; rmap != NULL && level <= EPT_LEAF_LEVEL_MAX; level++) {
        sum += rmap->leaf_counts[level];
    }
    return sum;
}

void rmap_free(struct mmu *mmu, const struct memslot *slot, struct rmap *rmap)
{
    if (rmap == NULL) {
        return;
    }
    for (uint64_t i = 0; i < slot_block_count(slot, 2); i++) {
        mem_free(&mmu->allocator, rmap->groups[i]);
    }
    for (unsigned level = 2; level <= EPT_LEAF_LEVEL_MAX; level++) {
        mem_free(&mmu->allocator, rmap->large[level]);
    }
    mem_free(&mmu->allocator, rmap);
}
