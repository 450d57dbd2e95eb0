/*
 * slots/set.h - the slots in use: by address, and which numbers are free.
 *
 * A treap keyed by guest address, threaded by a list in the same order, with the links inside the
 * slots: adding and removing allocate nothing and cost the logarithm of the number of slots.
 * Numbers are a bitmap with a summary of its full words, so the lowest free one is found without a
 * scan.
 */
#ifndef SLOTS_SET_H
#define SLOTS_SET_H

#include "base/addr.h"
#include "base/alloc.h"

#include <guestmem/backend.h>

#define SLOT_NUMBER_NONE UINT32_MAX

struct slot {
    struct gm_slot shown;    /* as backends and listings get it; its region is referenced */
    struct gm_ram *ram;      /* of shown.region, which keeps it alive */
    uint64_t ram_offset;     /* of the slot's first byte in the block */
    struct ram_watch *watch; /* one use of its; NULL where the backend need not hear of discards */

    /* The set's. */
    struct slot *left;
    struct slot *right;
    struct slot *next;
    struct slot *previous;
    uint64_t heat; /* random: a parent's is not below its children's */
};

struct slot_set {
    struct slot *root;
    struct slot *first;
    uint32_t count;
    uint32_t max_slots;
    uint64_t random;
    uint64_t *used;       /* bit N: number N is in use, or is not below max_slots */
    uint64_t *full_words; /* bit N: used[N] is all ones */
    uint32_t word_count;
};

static inline struct span slot_span(const struct slot *slot)
{
    return span_of(slot->shown.gpa, slot->shown.size_bytes);
}

/* 0 or -ENOMEM. @max_slots is 1 to GM_SLOT_NUMBERS_MAX. */
int slot_set_init(struct slot_set *set, uint32_t max_slots, const struct gm_allocator *allocator);
/* The slots themselves are the caller's. */
void slot_set_fini(struct slot_set *set, const struct gm_allocator *allocator);

/* Add a slot whose addresses and number are free; remove one that is in. */
void slot_set_insert(struct slot_set *set, struct slot *slot);
void slot_set_remove(struct slot_set *set, struct slot *slot);

/* The first slot, by address, that ends after @position; NULL if none does. Go on by slot->next. */
struct slot *slot_set_first_ending_after(const struct slot_set *set, pos_t position);

/* The lowest free number from @from on; SLOT_NUMBER_NONE if there is none. */
uint32_t slot_set_free_number(const struct slot_set *set, uint32_t from);

/* Copy out the @max lowest numbers' slots, by number. Return: how many slots there are. */
size_t slot_set_list(const struct slot_set *set, struct gm_slot *out, size_t max);

/* Stops the program if I-12 does not hold, or links and numbers disagree. */
void slot_set_audit(const struct slot_set *set);

#endif
