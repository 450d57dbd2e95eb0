/* guest/work/tree.c - a B-tree and a hash table with chains, against each other, over a heap that grows and shrinks. */
#include "guest/work/work.h"

#include <string.h>

#define ORDER 8u /* a node has ORDER - 1 to 2 * ORDER - 1 keys */
#define KEYS (2 * ORDER - 1)
#define BUCKETS 512u

struct node {
    uint16_t count;
    bool is_leaf;
    uint64_t keys[KEYS];
    uint64_t values[KEYS];
    struct node *children[KEYS + 1];
};

struct item {
    struct item *next;
    uint64_t key, value;
    uint8_t filling[40];
};

static struct node *node_new(bool is_leaf)
{
    struct node *node = heap_new(sizeof(*node));

    memset(node, 0, sizeof(*node));
    node->is_leaf = is_leaf;
    return node;
}

/* The full child becomes two; its middle key comes up. */
static void split_child(struct node *parent, unsigned at)
{
    struct node *left = parent->children[at], *right = node_new(left->is_leaf);

    right->count = ORDER - 1;
    memcpy(right->keys, left->keys + ORDER, (ORDER - 1) * sizeof(uint64_t));
    memcpy(right->values, left->values + ORDER, (ORDER - 1) * sizeof(uint64_t));
    memcpy(right->children, left->children + ORDER, ORDER * sizeof(struct node *));
    left->count = ORDER - 1;
    memmove(parent->keys + at + 1, parent->keys + at, (parent->count - at) * sizeof(uint64_t));
    memmove(parent->values + at + 1, parent->values + at, (parent->count - at) * sizeof(uint64_t));
    memmove(parent->children + at + 2, parent->children + at + 1,
            (parent->count - at) * sizeof(struct node *));
    parent->keys[at] = left->keys[ORDER - 1];
    parent->values[at] = left->values[ORDER - 1];
    parent->children[at + 1] = right;
    parent->count++;
}

static unsigned place_of(const struct node *node, uint64_t key)
{
    unsigned at = 0;

    while (at < node->count && node->keys[at] < key) {
        at++;
    }
    return at;
}

static void tree_set(struct node **root, uint64_t key, uint64_t value)
{
    struct node *node = *root;

    if (node->count == KEYS) {
        node = node_new(false);
        node->children[0] = *root;
        *root = node;
        split_child(node, 0);
    }
    for (;;) {
        unsigned at = place_of(node, key);

        if (at < node->count && node->keys[at] == key) {
            node->values[at] = value;
            return;
        }
        if (node->is_leaf) {
            memmove(node->keys + at + 1, node->keys + at, (node->count - at) * sizeof(uint64_t));
            memmove(node->values + at + 1, node->values + at,
                    (node->count - at) * sizeof(uint64_t));
            node->keys[at] = key;
            node->values[at] = value;
            node->count++;
            return;
        }
        if (node->children[at]->count == KEYS) {
            split_child(node, at); /* whose middle key may be this one: look again */
        } else {
            node = node->children[at];
        }
    }
}

static const uint64_t *tree_get(const struct node *node, uint64_t key)
{
    for (;;) {
        unsigned at = place_of(node, key);

        if (at < node->count && node->keys[at] == key) {
            return &node->values[at];
        }
        if (node->is_leaf) {
            return NULL;
        }
        node = node->children[at];
    }
}

/* In order, freeing nodes. */
static uint64_t tree_end(struct node *node, uint64_t sum)
{
    for (unsigned i = 0; i <= node->count; i++) {
        sum = node->is_leaf ? sum : tree_end(node->children[i], sum);
        sum = i < node->count ? fold(sum, node->keys[i] ^ node->values[i]) : sum;
    }
    heap_free(node);
    return sum;
}

static struct item **item_place(struct item **buckets, uint64_t key)
{
    struct item **place = &buckets[key * 0x9e3779b97f4a7c15ul >> 55];

    while (*place != NULL && (*place)->key != key) {
        place = &(*place)->next;
    }
    return place;
}

static void table_set(struct item **buckets, uint64_t key, uint64_t value)
{
    struct item **place = item_place(buckets, key);

    if (*place == NULL) {
        *place = heap_new(sizeof(struct item));
        memset(*place, 0, sizeof(struct item));
        (*place)->key = key;
    }
    (*place)->value = value;
}

static void table_end(struct item **buckets)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        while (buckets[i] != NULL) {
            struct item *item = buckets[i];

            buckets[i] = item->next;
            heap_free(item);
        }
    }
}

uint64_t work_tree(uint64_t rounds)
{
    struct item **buckets = heap_new(BUCKETS * sizeof(*buckets));
    uint64_t state = 4711, sum = 0;

    memset(buckets, 0, BUCKETS * sizeof(*buckets));
    while (rounds-- > 0) {
        struct node *root = node_new(true);

        for (unsigned i = 0; i < 2500; i++) {
            uint64_t key = random_next(&state) % 4000, value = random_next(&state);

            tree_set(&root, key, value);
            table_set(buckets, key, value);
        }
        for (uint64_t key = 0; key < 4000; key++) {
            const uint64_t *value = tree_get(root, key);
            struct item *item = *item_place(buckets, key);

            work_require((value != NULL) == (item != NULL) &&
                             (value == NULL || *value == item->value),
                         "tree and table differ");
        }
        sum = tree_end(root, sum);
        table_end(buckets);
    }
    heap_free(buckets);
    return sum;
}
