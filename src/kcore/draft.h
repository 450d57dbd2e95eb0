/*
 * kcore/draft.h - a list of changes while it is checked and prepared: the slots as they will be, beside the
 * slots as they are. All that can fail happens here.
 *
 *   init --stage--> ... --stage--> seal --> apply.c publishes it; draft_done()
 *     \                              \
 *      \------------------------------+--> draft_abort(): nothing has changed
 */
#ifndef KCORE_DRAFT_H
#define KCORE_DRAFT_H

#include "kcore/change.h"
#include "kcore/index.h"
#include "kcore/kcore.h"

/* A slot id that the list names. */
struct draft_touched {
    uint32_t slot;              /* id and address space, as in struct memslot_change */
    bool was_deleted;           /* at some time in the list, though it was there before */
    enum memslot_effect effect; /* of the whole list; set by draft_seal() */
    struct memslot *before;     /* published; NULL: none */
    struct memslot *after;      /* before, or one of the draft's own, or NULL: none */
};

struct draft_space {
    bool is_changed;
    struct index_edit by_gfn;
    struct index_edit by_hva;
    struct index_node *replaced[2]; /* after draft_seal(): nodes that go with the version before */
    uint32_t count;
    struct memslots *invalid; /* NULL: no slot goes or moves */
    struct memslots *next;
};

struct draft {
    struct kcore *core;
    struct draft_touched *touched; /* in the order in which the list names them */
    size_t touched_count;
    uint32_t *table; /* hash of slot -> index into touched, plus one; 0: free */
    size_t table_mask;
    struct memslot *unused; /* slots of the draft's own that a later change has replaced */
    struct draft_space spaces[KCORE_SPACES];
    bool is_changed; /* after draft_seal(): the list as a whole comes to something */
    /* So that one change takes no memory for these. */
    struct draft_touched one_touched;
    uint32_t one_table[2];
};

/* For @count changes. Context: the slots lock, until it is done. Return: 0; -ENOMEM. */
int draft_init(struct draft *draft, struct kcore *core, size_t count);

/* Check one change after those before it, and note what it does. Errors as kcore_apply(); after one the
 * draft can only be aborted. */
int draft_stage(struct draft *draft, const struct memslot_change *change,
                enum change_origin origin);

/* No more changes: say what the list comes to, and make the versions to publish. Return: 0; -ENOMEM. */
int draft_seal(struct draft *draft);

/* The draft's present version of a slot, if it is the draft's own, is to be replaced, or to go. */
void draft_put_aside(struct draft *draft, struct draft_touched *touched);

/* Free all that the draft has made. */
void draft_abort(struct draft *draft);

/* What it has made is published, or queued to be freed: free the rest. */
void draft_done(struct draft *draft);

static inline bool effect_removes(enum memslot_effect effect)
{
    return effect == MEMSLOT_DELETE || effect == MEMSLOT_MOVE || effect == MEMSLOT_REPLACE;
}

static inline bool effect_adds(enum memslot_effect effect)
{
    return effect == MEMSLOT_CREATE || effect == MEMSLOT_MOVE || effect == MEMSLOT_REPLACE;
}

#endif
