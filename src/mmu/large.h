/*
 * mmu/large.h - what mmu keeps for each slot: how large its leaves may be, and which frames are
 * write-tracked.
 *
 * Whether a large leaf may map a frame has four parts. Where the slot lies (its ends, and whether its
 * guest and host addresses are alike), logging and attributes are looked up where they are kept;
 * tracked frames are counted here, for each 2 MiB and 1 GiB. The counts change under mmu's lock, with the slot
 * kept by the slots lock or a read section,
 * followed by a taker that splits what is too large; an installer reads them with no taker between, so
 * it sees the new count or is split after.
 */
#ifndef MMU_LARGE_H
#define MMU_LARGE_H

#include "mmu/host.h"
#include "mmu/mmu.h"

struct slot_pages;
struct rmap;

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
/* Of what kind the slot's memory is, for ahead.h; HOST_KIND_UNKNOWN until it is remembered. Forgotten with the
 * backing. */
enum host_kind slot_host_kind(const struct memslot *slot);
void slot_remember_host_kind(const struct memslot *slot, enum host_kind kind);
unsigned slot_ask_backing(struct mmu *mmu, struct hva hva, uint64_t size_bytes);
void slot_remember_backing(const struct memslot *slot, unsigned level);
void slot_forget_backing(const struct memslot *slot);

/* Could any leaf of the slot be large, as far as its size and place go? */
bool slot_could_have_large(const struct memslot *slot);

/* Writes of the frame are tracked: by a user, or since it holds a table that is shadowed. Context as above. */
bool slot_is_tracked(const struct memslot *slot, struct gfn gfn);
bool slot_is_tracked_by_user(const struct memslot *slot, struct gfn gfn);

/* Count one user more, one less. Under mmu's lock. -ENOMEM; -ENOENT there is none. */
int slot_track(struct mmu *mmu, const struct memslot *slot, struct gfn gfn);
int slot_untrack(struct mmu *mmu, const struct memslot *slot, struct gfn gfn);

/* The frame holds a table that is shadowed, from here on; not any more. Under mmu's lock. -ENOMEM. */
int slot_begin_table(struct mmu *mmu, const struct memslot *slot, struct gfn gfn);
void slot_end_table(const struct memslot *slot, struct gfn gfn);

/* Of a slot's blocks of one level, aligned in guest memory: the number of the one that holds @gfn; how
 * many it meets. */
uint64_t slot_block_index(const struct memslot *slot, struct gfn gfn, unsigned level);
uint64_t slot_block_count(const struct memslot *slot, unsigned level);

/* Where the slot's reverse map hangs (rmap.h). Under mmu's lock. */
struct rmap **slot_rmap(const struct memslot *slot);

#endif
