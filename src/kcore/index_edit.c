/*
 * kcore/index_edit.c - changing the persistent index.
 *
 * Each change goes down once, making the nodes on its way the draft's own, and comes up once, mending
 * what the parents say of them, splitting what is too full, and joining what is too empty.
 */
#include "kcore/index.h"

#include "base/check.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* The way from the root to a leaf: nodes of the draft's own. */
struct way {
    unsigned depth; /* of the leaf */
    bool is_end;    /* it leads behind the last entry of all */
    struct index_node *nodes[INDEX_LEVELS_MAX];
    unsigned places[INDEX_LEVELS_MAX]; /* of the child; in the leaf, of the entry */
};

void index_edit_begin(struct index_edit *edit, struct index_pool *pool,
                      const struct index_node *root)
{
    *edit = (struct index_edit){.pool = pool, .root = (struct index_node *)(uintptr_t)root};
}

static void node_add(struct index_edit *edit, struct index_node *node)
{
    node->state = INDEX_DRAFT;
    node->link = edit->made;
    edit->made = node;
}

static struct index_node *node_new(struct index_edit *edit, unsigned level)
{
    struct index_node *node = index_pool_take(edit->pool);

    if (node != NULL) {
        node->count = 0;
        node->level = (uint8_t)level;
        node_add(edit, node);
    }
    return node;
}

/* Copy @count entries between nodes, or within one. */
static void move_entries(struct index_node *to, unsigned to_place, const struct index_node *from,
                         unsigned from_place, unsigned count)
{
    memmove(&to->firsts[to_place], &from->firsts[from_place], count * sizeof(to->firsts[0]));
    memmove(&to->lasts[to_place], &from->lasts[from_place], count * sizeof(to->lasts[0]));
    memmove(&to->values[to_place], &from->values[from_place], count * sizeof(to->values[0]));
    memmove(&to->ids[to_place], &from->ids[from_place], count * sizeof(to->ids[0]));
}

/* The tree no longer has @node. */
static void node_drop(struct index_edit *edit, struct index_node *node)
{
    if (node->state == INDEX_DRAFT) {
        node->state = INDEX_DEAD;
        return;
    }
    node->link = edit->replaced;
    edit->replaced = node;
}

/* @node itself if the draft made it, or a copy that takes its place. NULL: no memory. */
static struct index_node *node_own(struct index_edit *edit, struct index_node *node)
{
    struct index_node *copy;

    if (node->state == INDEX_DRAFT) {
        return node;
    }
    copy = index_pool_take(edit->pool);
    if (copy == NULL) {
        return NULL;
    }
    *copy = *node; /* of a fixed size: faster than just what is in use */
    node_add(edit, copy);
    node_drop(edit, node);
    return copy;
}

static struct index_node *own_child(struct index_edit *edit, struct index_node *parent,
                                    unsigned place)
{
    struct index_node *child =
        node_own(edit, (struct index_node *)(uintptr_t)parent->values[place]);

    if (child != NULL) {
        parent->values[place] = child;
    }
    return child;
}

/* How many of the node's keys are below (@first, @id), or, with @or_equal, not above. */
static unsigned count_below(const struct index_node *node, uint64_t first, uint32_t id,
                            bool or_equal)
{
    unsigned low = 0;
    unsigned high = node->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        bool is_below = node->firsts[middle] < first ||
                        (node->firsts[middle] == first &&
                         (node->ids[middle] < id || (or_equal && node->ids[middle] == id)));

        if (is_below) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Go down to where (@first, @id) is, or would be, and own what lies on the way. 0 or -ENOMEM. */
static int go_down(struct index_edit *edit, uint64_t first, uint32_t id, struct way *way)
{
    struct index_node *node = node_own(edit, edit->root);
    unsigned depth = 0;

    if (node == NULL) {
        return -ENOMEM;
    }
    edit->root = node;
    way->is_end = true;
    for (;;) {
        way->nodes[depth] = node;
        if (node->level == 0) {
            way->places[depth] = count_below(node, first, id, false);
            way->is_end = way->is_end && way->places[depth] == node->count;
            way->depth = depth;
            return 0;
        }
        way->places[depth] = count_below(node, first, id, true);
        way->places[depth] -= way->places[depth] > 0 ? 1 : 0;
        way->is_end = way->is_end && way->places[depth] + 1 == node->count;
        node = own_child(edit, node, way->places[depth]);
        if (node == NULL) {
            return -ENOMEM;
        }
        depth++;
        GM_ASSERT(depth < INDEX_LEVELS_MAX);
    }
}

/* What a parent says of @node, which is not empty. */
static struct index_entry summary_of(const struct index_node *node)
{
    struct index_entry summary = {node->firsts[0], node->lasts[0], node->ids[0], node};

    for (unsigned i = 1; i < node->count; i++) {
        summary.last = node->lasts[i] > summary.last ? node->lasts[i] : summary.last;
    }
    return summary;
}

static void set_entry(struct index_node *node, unsigned place, const struct index_entry *entry)
{
    node->firsts[place] = entry->first;
    node->lasts[place] = entry->last;
    node->ids[place] = entry->id;
    node->values[place] = entry->value;
}

static void add_entry(struct index_node *node, unsigned place, const struct index_entry *entry)
{
    move_entries(node, place + 1, node, place, node->count - place);
    set_entry(node, place, entry);
    node->count++;
}

static void take_entry(struct index_node *node, unsigned place)
{
    move_entries(node, place, node, place + 1, node->count - place - 1);
    node->count--;
}

static void refresh(struct index_node *parent, unsigned place)
{
    struct index_entry summary = summary_of(parent->values[place]);

    set_entry(parent, place, &summary);
}

/* Say in each node above way->nodes[depth] what is true of its child now. */
static void refresh_above(struct way *way, unsigned depth)
{
    while (depth > 0) {
        depth--;
        refresh(way->nodes[depth], way->places[depth]);
    }
}

/*
 * Add @entry to way->nodes[depth], which may be full: then its upper part moves to a new node on its
 * right. What comes behind all others goes there alone, so that ascending keys fill their nodes.
 * Return: 0, *right the new node or NULL; -ENOMEM.
 */
static int add_or_split(struct index_edit *edit, const struct way *way, unsigned depth,
                        const struct index_entry *entry, struct index_node **right)
{
    struct index_node *node = way->nodes[depth];
    unsigned place = way->places[depth];
    unsigned keep = way->is_end ? INDEX_FANOUT : INDEX_FANOUT / 2;

    *right = NULL;
    if (node->count < INDEX_FANOUT) {
        add_entry(node, place, entry);
        return 0;
    }
    *right = node_new(edit, node->level);
    if (*right == NULL) {
        return -ENOMEM;
    }
    move_entries(*right, 0, node, keep, INDEX_FANOUT - keep);
    (*right)->count = (uint16_t)(INDEX_FANOUT - keep);
    node->count = (uint16_t)keep;
    if (place <= keep && keep < INDEX_FANOUT) {
        add_entry(node, place, entry);
    } else {
        add_entry(*right, place - keep, entry);
    }
    return 0;
}

/* A root above the old one and its right half. */
static int grow_root(struct index_edit *edit, const struct index_node *right)
{
    struct index_node *root = node_new(edit, edit->root->level + 1u);
    struct index_entry summary;

    if (root == NULL) {
        return -ENOMEM;
    }
    summary = summary_of(edit->root);
    add_entry(root, 0, &summary);
    summary = summary_of(right);
    add_entry(root, 1, &summary);
    edit->root = root;
    return 0;
}

int index_insert(struct index_edit *edit, const struct index_entry *entry)
{
    struct index_entry carried = *entry;
    struct index_node *right = NULL;
    struct way way;
    int rc;

    if (edit->root == NULL) {
        edit->root = node_new(edit, 0);
        if (edit->root == NULL) {
            return -ENOMEM;
        }
    }
    rc = go_down(edit, entry->first, entry->id, &way);
    if (rc != 0) {
        return rc;
    }
    for (unsigned depth = way.depth;; depth--) {
        rc = add_or_split(edit, &way, depth, &carried, &right);
        if (rc != 0) {
            return rc;
        }
        if (right == NULL) {
            refresh_above(&way, depth);
            return 0;
        }
        if (depth == 0) {
            return grow_root(edit, right);
        }
        carried = summary_of(right);
        refresh(way.nodes[depth - 1], way.places[depth - 1]);
        way.places[depth - 1]++;
    }
}

/* Join the children at @place and the next, or, if they are too many, share them out evenly. */
static int join(struct index_edit *edit, struct index_node *parent, unsigned place)
{
    struct index_node *left = own_child(edit, parent, place);
    struct index_node *right = left != NULL ? own_child(edit, parent, place + 1) : NULL;
    unsigned sum;

    if (right == NULL) {
        return -ENOMEM;
    }
    sum = (unsigned)left->count + right->count;
    if (sum <= INDEX_FANOUT) {
        move_entries(left, left->count, right, 0, right->count);
        left->count = (uint16_t)sum;
        node_drop(edit, right);
        take_entry(parent, place + 1);
        refresh(parent, place);
        return 0;
    }
    if (left->count < right->count) {
        unsigned moved = sum / 2 - left->count;

        move_entries(left, left->count, right, 0, moved);
        move_entries(right, 0, right, moved, right->count - moved);
    } else {
        unsigned moved = left->count - sum / 2;

        move_entries(right, moved, right, 0, right->count);
        move_entries(right, 0, left, left->count - moved, moved);
    }
    left->count = (uint16_t)(sum / 2);
    right->count = (uint16_t)(sum - sum / 2);
    refresh(parent, place);
    refresh(parent, place + 1);
    return 0;
}

/* The root may have one child, or nothing at all. */
static void shrink_root(struct index_edit *edit)
{
    while (edit->root != NULL && edit->root->count < 2) {
        struct index_node *root = edit->root;

        if (root->level == 0 && root->count == 1) {
            return;
        }
        edit->root = root->count == 1 ? (struct index_node *)(uintptr_t)root->values[0] : NULL;
        node_drop(edit, root);
    }
}

/*
 * Joining owns both neighbours first, so a joined child that is not on the way is copied for it: only
 * every so often, as a join leaves nodes that are far from both limits.
 */
int index_remove(struct index_edit *edit, uint64_t first, uint32_t id)
{
    struct index_node *leaf;
    struct way way;
    int rc;

    GM_ASSERT(edit->root != NULL);
    rc = go_down(edit, first, id, &way);
    if (rc != 0) {
        return rc;
    }
    leaf = way.nodes[way.depth];
    GM_ASSERT(way.places[way.depth] < leaf->count);
    GM_ASSERT(leaf->firsts[way.places[way.depth]] == first);
    GM_ASSERT(leaf->ids[way.places[way.depth]] == id);
    take_entry(leaf, way.places[way.depth]);
    for (unsigned depth = way.depth; depth > 0; depth--) {
        struct index_node *parent = way.nodes[depth - 1];
        unsigned place = way.places[depth - 1];

        if (way.nodes[depth]->count < INDEX_ENTRIES_MIN && parent->count > 1) {
            rc = join(edit, parent, place > 0 ? place - 1 : 0);
            if (rc != 0) {
                return rc;
            }
        } else if (way.nodes[depth]->count == 0) {
            node_drop(edit, way.nodes[depth]);
            take_entry(parent, place);
        } else {
            refresh(parent, place);
        }
    }
    shrink_root(edit);
    return 0;
}

int index_replace(struct index_edit *edit, uint64_t first, uint32_t id, const void *value)
{
    struct index_node *leaf;
    struct way way;
    int rc;

    GM_ASSERT(edit->root != NULL);
    rc = go_down(edit, first, id, &way);
    if (rc != 0) {
        return rc;
    }
    leaf = way.nodes[way.depth];
    GM_ASSERT(way.places[way.depth] < leaf->count);
    GM_ASSERT(leaf->firsts[way.places[way.depth]] == first);
    GM_ASSERT(leaf->ids[way.places[way.depth]] == id);
    leaf->values[way.places[way.depth]] = value;
    return 0;
}

void index_edit_abort(struct index_edit *edit)
{
    index_free_nodes(edit->pool, edit->made);
    *edit = (struct index_edit){.pool = edit->pool};
}

struct index_node *index_edit_commit(struct index_edit *edit)
{
    struct index_node *dead = NULL;
    struct index_node *next;

    for (struct index_node *node = edit->made; node != NULL; node = next) {
        next = node->link;
        node->link = NULL;
        if (node->state == INDEX_DEAD) {
            node->link = dead;
            dead = node;
        }
        node->state = INDEX_PUBLISHED;
    }
    index_free_nodes(edit->pool, dead);
    edit->made = NULL;
    return edit->replaced;
}
