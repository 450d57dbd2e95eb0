/*
 * slots/plan.h - the planner: from the slots that are there and what a commit changes, the fewest
 * operations that lead to the new map. Pure: it reads the set, allocates, and calls nothing.
 *
 * What is wanted of a page: if one section with RAM holds all of it and section and host memory
 * agree in alignment, a slot of that section's memory and flags; else none. Where the commit
 * mentions nothing, what the slots are now.
 *
 *   P-1  A slot is kept while all of it is wanted as it is. It is told new flags if all of it is
 *        wanted as it is but for logging. Every other slot that the commit touches is deleted.
 *   P-2  What is wanted and not kept is created: one slot for each run within a section, or within
 *        what was one slot before.
 *   P-3  Order: deletes, flags, creates, each by ascending address. A create takes the lowest
 *        number that is free when its turn comes. So the numbers in use never exceed the larger of
 *        what they are before and after.
 *   P-4  Only if that is more than there are numbers are neighbours joined that continue each other
 *        in address, memory and flags, with as few operations as possible (join.c).
 *   P-5  vCPUs have to be held if memory of a deleted slot stays visible where it was, or if a log
 *        has to be drained: of a logged slot that is deleted, or whose log ends.
 */
#ifndef SLOTS_PLAN_H
#define SLOTS_PLAN_H

#include "slots/set.h"

/* A range of the view, old or new. Not eligible for a slot if it has no @ram. */
struct plan_section {
    struct span span;
    struct gm_ram *ram;       /* compared only; NULL: nothing that could be a slot */
    uint64_t ram_offset;      /* of the first byte in the block */
    struct gm_region *region; /* compared only */
    uint64_t region_offset;   /* of the first byte in the region */
    uint8_t *hva;             /* of the first byte; NULL for unbacked RAM */
    uint32_t flags;           /* GM_SLOT_* */
};

/* What a commit mentions: each list ascending and disjoint. Sections are always mentioned whole. */
struct plan_changes {
    const struct plan_section *gone;
    size_t gone_count;
    const struct plan_section
        *shown; /* also those that were rendered again and came out the same */
    size_t shown_count;
};

struct plan_limits {
    uint32_t page_bytes;
    uint64_t slot_span_bytes; /* no slot crosses a multiple of it; a power of two; 0: 2^63 */
    bool no_readonly;
    bool no_join;
    bool no_destroy;
    bool needs_hva;
    bool takes_guest_memfd;
};

/* All borrowed for the call; operations go on referring to the set's slots. */
struct plan_input {
    const struct slot_set *set;
    const struct plan_changes *changes;
    const struct plan_limits *limits;
};

/* Where a plan's memory comes from. */
struct plan_memory {
    const struct gm_allocator *slots;   /* of slots to create */
    const struct gm_allocator *scratch; /* all else: it ends with the plan */
};

enum plan_op_kind {
    PLAN_DESTROY = 1,
    PLAN_SET_FLAGS,
    PLAN_CREATE,
};

struct plan_op {
    enum plan_op_kind kind;
    uint32_t new_flags; /* SET_FLAGS */
    /* DESTROY, SET_FLAGS: the set's, which stays so until the plan is done. CREATE: the plan's. */
    struct slot *slot;
    bool untouched; /* DESTROY: some of its memory did not change */
};

/* A slot that is kept though its memory is now shown by another region of the same block. */
struct plan_rebind {
    struct slot *slot;
    struct gm_region *region;
    uint64_t region_offset;
};

struct plan {
    struct plan_op *ops;
    size_t op_count;
    struct plan_rebind *rebinds;
    size_t rebind_count;
    bool needs_hold;
    uint32_t joins; /* groups of slots that become one because numbers ran out */
};

/*
 * Make the plan. The set must not change until it is carried out or dropped.
 * @plan: out; all that carrying it out needs is allocated. plan_fini() after 0.
 * Return: 0; -ENOMEM; -EINVAL unbacked RAM where the hypervisor needs memory; -ENOSPC not enough
 * numbers even after joining; -EOPNOTSUPP a slot has to be deleted and cannot be, or has a guest memfd
 * and must not.
 */
int plan_init(struct plan *plan, const struct plan_input *input, const struct plan_memory *memory,
              struct gm_diag *diag);

/* Free the plan, and the slots of creates that nobody took (by setting the op's slot to NULL). */
void plan_fini(struct plan *plan, const struct plan_memory *memory);

#endif
