/*
 * mmu/large.h - what mmu keeps for each slot: how large its leaves may be, and which frames are
 * write-tracked.
 *
 * Whether a large leaf may map a frame has four parts. Where the slot lies (its ends, and whether its
 * guest and host addresses are alike), logging and attributes are looked up where they are kept;
 * tracked frames are counted here, for each 2 MiB and 1 GiB. The counts change under the slots lock,
 * followed by a taker that splits what is too large; an installer reads them with no taker between, so
 * it sees the new count or is split after.
 */
#ifndef MMU_LARGE_H
#define MMU_LARGE_H

#include "mmu/mmu.h"

struct slot_pages;

/* kcore's slot_prepare and slot_free: -ENOMEM. */
int slot_pages_new(struct mmu *mmu, struct memslot *slot);
void slot_pages_free(struct mmu *mmu, struct memslot *slot);

/*
 * The highest level of a leaf for @gfn, 1 to 3, as far as the VM goes: the slot's place, logging,
 * attributes, tracking. Exact as an installer or taker; before, a hint.
 * Context: read section or slots lock.
 */
unsigned slot_leaf_level(struct mmu *mmu, const struct memslot *slot, struct gfn gfn);

/*
 * And as far as the host's pages go, which is asked once for a slot: what was remembered (0: nothing
 * yet); asking, which may block and call the user's function; remembering. Forget it when other memory may
 * be behind the slot.
 */
unsigned slot_backing_level(const struct memslot *slot);
unsigned slot_ask_backing(struct mmu *mmu, struct hva hva, uint64_t size_bytes);
void slot_remember_backing(const struct memslot *slot, unsigned level);
void slot_forget_backing(const struct memslot *slot);

/* Could any leaf of the slot be large, as far as its size and place go? */
bool slot_could_have_large(const struct memslot *slot);

/* Writes of the frame are tracked. Context as above. */
bool slot_is_tracked(const struct memslot *slot, struct gfn gfn);

/* Count one more, one less. Under the slots lock. -ENOMEM; -ENOENT it is not tracked. *changed: out: the
 * frame begins, ends to be tracked. */
int slot_track(struct mmu *mmu, const struct memslot *slot, struct gfn gfn, bool *changed);
int slot_untrack(struct mmu *mmu, const struct memslot *slot, struct gfn gfn, bool *changed);

#endif
