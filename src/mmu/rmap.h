/*
 * mmu/rmap.h - a slot's reverse map: for each of its frames, the shadow leaves that map it. EPT needs none,
 * since a frame has one place in its tree.
 *
 * A leaf of a higher level is listed once, for the block that it maps. Lists are made as they are needed,
 * in groups for 2 MiB, and go with the slot.
 * Context: all under mmu's lock; the slot is kept by a read section or the slots lock.
 */
#ifndef MMU_RMAP_H
#define MMU_RMAP_H

#include "mmu/entry_list.h"
#include "mmu/mmu.h"

struct rmap;

/* @gfn: the first that the leaf maps. Return: 0; -ENOMEM. The stock has a chunk. */
int rmap_add(struct mmu *mmu, const struct memslot *slot, unsigned level, struct gfn gfn,
             uint64_t *entry, struct chunk_stock *stock);
void rmap_remove(struct mmu *mmu, const struct memslot *slot, unsigned level, struct gfn gfn,
                 uint64_t *entry);

/*
 * The first list of @level that is not empty, of leaves that map frames of [*gfn, end); *gfn becomes the first frame
 * of these leaves, which may lie before. NULL: there is none.
 */
struct entry_list *rmap_next(const struct memslot *slot, unsigned level, struct gfn *gfn,
                             struct gfn end);

/* How many leaves the slot's lists have. */
uint64_t rmap_leaf_count(const struct memslot *slot);

/* With the slot, whose lists are empty. NULL is allowed. */
void rmap_free(struct mmu *mmu, const struct memslot *slot, struct rmap *rmap);

#endif
