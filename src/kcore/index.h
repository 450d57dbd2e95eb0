/*
 * kcore/index.h - a persistent index of closed ranges: a B+tree whose published nodes never change.
 *
 * Entries ascend by (first, id), which no two share; they may overlap. Each inner node knows the
 * largest `last` below each child, so that all ranges that meet a given one are found without looking
 * at others. A change copies the nodes on its way and shares the rest with the tree before:
 *
 *   begin --insert, remove, replace--> ... --commit--> the root is published; index_free_nodes() for
 *      \                                               what it replaced, after a grace period
 *       \------------------------------abort---------> as if nothing had been
 *
 * A node that a draft has made is changed in place as long as the draft lasts, so a draft of many
 * changes copies each node once. One draft at a time may be open on a tree. An insert, remove or
 * replace that fails leaves a draft that can only be aborted.
 *
 * Readers walk a published root in a read section. Depth is logarithmic: a node
 * that is neither the root nor the last of its level has INDEX_ENTRIES_MIN entries or more.
 */
#ifndef KCORE_INDEX_H
#define KCORE_INDEX_H

#include "base/alloc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define INDEX_FANOUT 16u
/* A node with fewer gets some from a neighbour, or is joined with it. Well below the half that a split
 * leaves, so that adding and removing the same few entries does not split and join all the time. */
#define INDEX_ENTRIES_MIN 5u
/* More than any tree that fits into memory has. */
#define INDEX_LEVELS_MAX 16u

struct index_entry {
    uint64_t first;
    uint64_t last;
    uint32_t id; /* breaks ties */
    const void *value;
};

/* Whose a node is. Read by those who change trees only. */
enum index_state {
    INDEX_PUBLISHED,
    INDEX_DRAFT, /* of the draft that is open: may be changed */
    INDEX_DEAD,  /* the draft made it, and needs it no more */
};

/* Parallel arrays: a search touches `firsts` alone, but for the last step. */
struct index_node {
    uint16_t count;
    uint8_t level; /* 0: leaf */
    uint8_t state; /* enum index_state */
    struct index_node
        *link; /* a draft's list of made nodes, or of replaced ones; not for readers */
    uint64_t firsts[INDEX_FANOUT];
    uint64_t lasts[INDEX_FANOUT];     /* in inner nodes the largest of the child's */
    const void *values[INDEX_FANOUT]; /* in inner nodes the child */
    uint32_t ids[INDEX_FANOUT];
};

/* The value of the last entry with first <= @point, if it holds @point: of trees without overlaps the
 * one that does. NULL: none. */
const void *index_find(const struct index_node *root, uint64_t point);

/* The last entry with first <= @point. Return: is there one? */
bool index_floor(const struct index_node *root, uint64_t point, struct index_entry *entry);

/* The first entry with first >= @point. Return: is there one? */
bool index_ceiling(const struct index_node *root, uint64_t point, struct index_entry *entry);

/* Call @visit, in ascending order, for each entry that meets [first, last]. */
typedef void index_visit_fn(void *opaque, const struct index_entry *entry);
void index_visit(const struct index_node *root, uint64_t first, uint64_t last,
                 index_visit_fn *visit, void *opaque);

/*
 * Nodes that are in no tree, kept for the next change: they come back in bursts, after a grace period,
 * on another thread, which is what general allocators are slowest at.
 */
struct index_pool {
    const struct gm_allocator *allocator; /* borrowed */
    unsigned keep_max;                    /* nodes that are kept at most; tests keep none */
    struct index_node *ready;             /* for who changes trees, without locks */
    /* Pushed by anyone (release), taken as a whole by who changes trees (acquire). */
    _Atomic(struct index_node *) returned;
    atomic_uint kept; /* relaxed: in both lists, about */
};

#define INDEX_KEEP_MAX 2048u

void index_pool_init(struct index_pool *pool, const struct gm_allocator *allocator);
/* No tree is left. */
void index_pool_fini(struct index_pool *pool);
/* A node, or NULL: no memory. Context: who changes trees. */
struct index_node *index_pool_take(struct index_pool *pool);

/* A draft. */
struct index_edit {
    struct index_pool *pool; /* borrowed */
    struct index_node *root; /* the tree as it is now */
    struct index_node *made;
    struct index_node *replaced; /* published nodes that the tree no longer has */
};

void index_edit_begin(struct index_edit *edit, struct index_pool *pool,
                      const struct index_node *root);

/* Return: 0; -ENOMEM. The entry is not there yet; is there. */
int index_insert(struct index_edit *edit, const struct index_entry *entry);
int index_remove(struct index_edit *edit, uint64_t first, uint32_t id);

/* Give an entry, which is there, another value. Return: 0; -ENOMEM, unless its place was already changed
 * in this draft: then it cannot fail. */
int index_replace(struct index_edit *edit, uint64_t first, uint32_t id, const void *value);

/* Forget all changes, and free what they made. */
void index_edit_abort(struct index_edit *edit);

/* Nothing changes any more in edit->root, which may be published. Return: the nodes that only the tree
 * before has, for index_free_nodes() when nobody reads that one any longer. */
struct index_node *index_edit_commit(struct index_edit *edit);

/* A list by `link`. Any thread. */
void index_free_nodes(struct index_pool *pool, struct index_node *nodes);

/* Free a whole tree that nobody reads. */
void index_free_tree(struct index_pool *pool, const struct index_node *root);

#ifdef GM_AUDIT_ON
/* Order, levels, the keys and largest lasts of inner nodes (I-13). Return: how many entries. */
uint64_t index_audit(const struct index_node *root);
#endif

#endif
