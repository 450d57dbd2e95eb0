/* kcore/index.c - searching the persistent index. Changes are in index_edit.c. */
#include "kcore/index.h"

#include "base/check.h"

#include <stddef.h>

/* How many of the node's entries have first <= @point: they come first. */
static unsigned count_until(const struct index_node *node, uint64_t point)
{
    const uint64_t *base = node->firsts;
    unsigned left = node->count;

    /* Without branches on the outcome, which no predictor can guess. */
    while (left > 1) {
        unsigned half = left / 2;

        base += base[half - 1] <= point ? half : 0;
        left -= half;
    }
    return (unsigned)(base - node->firsts) + (left == 1 && *base <= point ? 1 : 0);
}

static struct index_entry entry_at(const struct index_node *node, unsigned place)
{
    return (struct index_entry){node->firsts[place], node->lasts[place], node->ids[place],
                                node->values[place]};
}

/* The leaf and place of the last entry with first <= @point; NULL: none. */
static const struct index_node *find_floor(const struct index_node *node, uint64_t point,
                                           unsigned *place)
{
    while (node != NULL) {
        unsigned until = count_until(node, point);

        if (until == 0) {
            return NULL; /* in the root only: a child was chosen because its first is <= point */
        }
        *place = until - 1;
        if (node->level == 0) {
            return node;
        }
        node = node->values[*place];
    }
    return NULL;
}

const void *index_find(const struct index_node *root, uint64_t point)
{
    unsigned place;
    const struct index_node *leaf = find_floor(root, point, &place);

    return leaf != NULL && leaf->lasts[place] >= point ? leaf->values[place] : NULL;
}

bool index_floor(const struct index_node *root, uint64_t point, struct index_entry *entry)
{
    unsigned place;
    const struct index_node *leaf = find_floor(root, point, &place);

    if (leaf != NULL) {
        *entry = entry_at(leaf, place);
    }
    return leaf != NULL;
}

/* How many of the node's entries have first < @point. */
static unsigned count_before(const struct index_node *node, uint64_t point)
{
    return point == 0 ? 0 : count_until(node, point - 1);
}

bool index_ceiling(const struct index_node *root, uint64_t point, struct index_entry *entry)
{
    const struct index_node *node = root;
    const struct index_node *right = NULL; /* the subtree behind the way down that is nearest */

    while (node != NULL && node->level > 0) {
        unsigned before = count_before(node, point);
        unsigned place = before == 0 ? 0 : before - 1;

        if (place + 1 < node->count) {
            right = node->values[place + 1];
        }
        node = node->values[place];
    }
    if (node != NULL) {
        unsigned place = count_before(node, point);

        if (place < node->count) {
            *entry = entry_at(node, place);
            return true;
        }
    }
    if (right == NULL) {
        return false;
    }
    while (right->level > 0) {
        right = right->values[0];
    }
    *entry = entry_at(right, 0);
    return true;
}

void index_visit(const struct index_node *root, uint64_t first, uint64_t last,
                 index_visit_fn *visit, void *opaque)
{
    struct {
        const struct index_node *node;
        unsigned place;
        unsigned end;
    } way[INDEX_LEVELS_MAX];
    unsigned depth = 0;

    if (root == NULL) {
        return;
    }
    way[0].node = root;
    way[0].place = 0;
    way[0].end = count_until(root, last);
    for (;;) {
        const struct index_node *node = way[depth].node;
        unsigned place = way[depth].place;

        if (place == way[depth].end) {
            if (depth == 0) {
                return;
            }
            depth--;
            continue;
        }
        way[depth].place++;
        if (node->lasts[place] < first) {
            continue;
        }
        if (node->level == 0) {
            struct index_entry entry = entry_at(node, place);

            visit(opaque, &entry);
            continue;
        }
        depth++;
        GM_ASSERT(depth < INDEX_LEVELS_MAX);
        way[depth].node = node->values[place];
        way[depth].place = 0;
        way[depth].end = count_until(way[depth].node, last);
    }
}

#ifdef GM_AUDIT_ON
static bool is_before(const struct index_node *node, unsigned a, unsigned b)
{
    return node->firsts[a] < node->firsts[b] ||
           (node->firsts[a] == node->firsts[b] && node->ids[a] < node->ids[b]);
}

static uint64_t largest_last(const struct index_node *node)
{
    uint64_t largest = 0;

    for (unsigned i = 0; i < node->count; i++) {
        largest = node->lasts[i] > largest ? node->lasts[i] : largest;
    }
    return largest;
}

static void audit_child(const struct index_node *node, unsigned place)
{
    const struct index_node *child = node->values[place];
    unsigned last = child->count - 1u;

    GM_ASSERT(child->level + 1 == node->level);
    GM_ASSERT(child->firsts[0] == node->firsts[place] && child->ids[0] == node->ids[place]);
    GM_ASSERT(largest_last(child) == node->lasts[place]);
    if (place + 1 < node->count) {
        GM_ASSERT(child->firsts[last] < node->firsts[place + 1] ||
                  (child->firsts[last] == node->firsts[place + 1] &&
                   child->ids[last] < node->ids[place + 1]));
    }
}

/* Recursion as deep as the tree. @is_edge: of the nodes that are the last of their level. */
static uint64_t audit_node(const struct index_node *node, bool is_edge)
{
    uint64_t entries = 0;

    GM_ASSERT(node->count > 0 && node->count <= INDEX_FANOUT);
    GM_ASSERT(is_edge || node->count >= INDEX_ENTRIES_MIN);
    GM_ASSERT(node->state != INDEX_DEAD);
    for (unsigned i = 0; i < node->count; i++) {
        GM_ASSERT(node->firsts[i] <= node->lasts[i]);
        GM_ASSERT(i == 0 || is_before(node, i - 1, i));
        if (node->level > 0) {
            audit_child(node, i);
            entries += audit_node(node->values[i], is_edge && i + 1 == node->count);
        } else {
            entries++;
        }
    }
    return entries;
}

uint64_t index_audit(const struct index_node *root)
{
    return root != NULL ? audit_node(root, true) : 0;
}
#endif
