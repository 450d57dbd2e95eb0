/* region/children.c - the interval treap of a region's children. */
#include "region/children.h"

#include "base/check.h"
#include "region/region.h"

static uint64_t weight_of(uint64_t added)
{
    uint64_t mixed = (added + 1) * 0x9e3779b97f4a7c15ull;

    mixed ^= mixed >> 32;
    mixed *= 0xd6e8feb86659fd93ull;
    return mixed ^ (mixed >> 29);
}

static pos_t end_of(const struct gm_region *child)
{
    return (pos_t)child->addr + child->size;
}

/* Key order: by address; `added` makes keys unique. */
static bool key_before(const struct gm_region *a, const struct gm_region *b)
{
    return a->addr != b->addr ? a->addr < b->addr : a->as_child.added < b->as_child.added;
}

static void update(struct gm_region *node)
{
    struct child_link *link = &node->as_child;

    link->subtree_end = end_of(node);
    if (link->left != NULL) {
        link->subtree_end = pos_max(link->subtree_end, link->left->as_child.subtree_end);
    }
    if (link->right != NULL) {
        link->subtree_end = pos_max(link->subtree_end, link->right->as_child.subtree_end);
    }
}

/* Cut @node's treap in two: keys before @child's, and after. Depth is logarithmic in the count. */
static void split(struct gm_region *node, const struct gm_region *child, struct gm_region **before,
                  struct gm_region **after)
{
    if (node == NULL) {
        *before = NULL;
        *after = NULL;
        return;
    }
    if (key_before(node, child)) {
        *before = node;
        split(node->as_child.right, child, &node->as_child.right, after);
    } else {
        *after = node;
        split(node->as_child.left, child, before, &node->as_child.left);
    }
    update(node);
}

/* One treap of two, all keys of @a before those of @b. */
static struct gm_region *join(struct gm_region *a, struct gm_region *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    if (a->as_child.weight > b->as_child.weight) {
        a->as_child.right = join(a->as_child.right, b);
        update(a);
        return a;
    }
    b->as_child.left = join(a, b->as_child.left);
    update(b);
    return b;
}

static struct gm_region *insert(struct gm_region *node, struct gm_region *child)
{
    if (node == NULL || child->as_child.weight > node->as_child.weight) {
        split(node, child, &child->as_child.left, &child->as_child.right);
        update(child);
        return child;
    }
    if (key_before(child, node)) {
        node->as_child.left = insert(node->as_child.left, child);
    } else {
        node->as_child.right = insert(node->as_child.right, child);
    }
    update(node);
    return node;
}

static struct gm_region *erase(struct gm_region *node, const struct gm_region *child)
{
    GM_ASSERT(node != NULL);
    if (node == child) {
        return join(node->as_child.left, node->as_child.right);
    }
    if (key_before(child, node)) {
        node->as_child.left = erase(node->as_child.left, child);
    } else {
        node->as_child.right = erase(node->as_child.right, child);
    }
    update(node);
    return node;
}

void children_insert(struct children *children, struct gm_region *child)
{
    /* With the address: nobody who chooses where children go can know the treap's shape. */
    child->as_child.weight = weight_of(child->as_child.added + (uintptr_t)child);
    children->top = insert(children->top, child);
    children->count++;
}

void children_remove(struct children *children, struct gm_region *child)
{
    children->top = erase(children->top, child);
    children->count--;
    child->as_child.left = NULL;
    child->as_child.right = NULL;
}

static bool visit_node(struct gm_region *node, struct span span,
                       bool (*visit)(void *opaque, struct gm_region *child), void *opaque)
{
    if (node == NULL || node->as_child.subtree_end <= span.start) {
        return true;
    }
    if (!visit_node(node->as_child.left, span, visit, opaque)) {
        return false;
    }
    if ((pos_t)node->addr >= span.end) {
        return true;
    }
    if (node->size > 0 && end_of(node) > span.start && !visit(opaque, node)) {
        return false;
    }
    return visit_node(node->as_child.right, span, visit, opaque);
}

bool children_visit(const struct children *children, struct span span,
                    bool (*visit)(void *opaque, struct gm_region *child), void *opaque)
{
    return visit_node(children->top, span, visit, opaque);
}

static bool visit_all(struct gm_region *node, bool (*visit)(void *opaque, struct gm_region *child),
                      void *opaque)
{
    struct gm_region *right;

    if (node == NULL) {
        return true;
    }
    right = node->as_child.right; /* the visit may take the node out of use */
    return visit_all(node->as_child.left, visit, opaque) && visit(opaque, node) &&
           visit_all(right, visit, opaque);
}

bool children_visit_all(const struct children *children,
                        bool (*visit)(void *opaque, struct gm_region *child), void *opaque)
{
    return visit_all(children->top, visit, opaque);
}

bool child_wins(const struct gm_region *a, const struct gm_region *b)
{
    return a->priority != b->priority ? a->priority > b->priority
                                      : a->as_child.added > b->as_child.added;
}

static uint64_t audit_node(const struct gm_region *node)
{
    const struct child_link *link = &node->as_child;
    pos_t end = end_of(node);
    uint64_t count = 1;

    if (link->left != NULL) {
        GM_ASSERT(key_before(link->left, node) && link->left->as_child.weight <= link->weight);
        end = pos_max(end, link->left->as_child.subtree_end);
        count += audit_node(link->left);
    }
    if (link->right != NULL) {
        GM_ASSERT(key_before(node, link->right) && link->right->as_child.weight <= link->weight);
        end = pos_max(end, link->right->as_child.subtree_end);
        count += audit_node(link->right);
    }
    GM_ASSERT(end == link->subtree_end);
    return count;
}

void children_audit(const struct children *children)
{
    GM_ASSERT(children->count == (children->top != NULL ? audit_node(children->top) : 0));
}
