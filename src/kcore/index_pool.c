/* kcore/index_pool.c - where nodes of indexes come from and go to. */
#include "kcore/index.h"

#include <stddef.h>

void index_pool_init(struct index_pool *pool, const struct gm_allocator *allocator)
{
    *pool = (struct index_pool){.allocator = allocator, .keep_max = INDEX_KEEP_MAX};
}

static void free_list(const struct gm_allocator *allocator, struct index_node *nodes)
{
    while (nodes != NULL) {
        struct index_node *next = nodes->link;

        mem_free(allocator, nodes);
        nodes = next;
    }
}

void index_pool_fini(struct index_pool *pool)
{
    free_list(pool->allocator, pool->ready);
    free_list(pool->allocator, atomic_load_explicit(&pool->returned, memory_order_acquire));
}

struct index_node *index_pool_take(struct index_pool *pool)
{
    struct index_node *node;

    if (pool->ready == NULL) {
        /* Pairs with the release in push(). */
        pool->ready = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
    }
    node = pool->ready;
    if (node == NULL) {
        return mem_alloc(pool->allocator, sizeof(*node));
    }
    pool->ready = node->link;
    atomic_fetch_sub_explicit(&pool->kept, 1, memory_order_relaxed);
    return node;
}

/* Only ever taken as a whole, so a node cannot come back between the load and the swap. */
static void push(struct index_pool *pool, struct index_node *first, struct index_node *last)
{
    struct index_node *head = atomic_load_explicit(&pool->returned, memory_order_relaxed);

    do {
        last->link = head;
        /* Release; pairs with the acquire in index_pool_take(). */
    } while (!atomic_compare_exchange_weak_explicit(&pool->returned, &head, first,
                                                    memory_order_release, memory_order_relaxed));
}

void index_free_nodes(struct index_pool *pool, struct index_node *nodes)
{
    unsigned kept = atomic_load_explicit(&pool->kept, memory_order_relaxed);
    struct index_node *last = NULL;
    struct index_node *rest = nodes;
    unsigned count = 0;

    while (rest != NULL && kept + count < pool->keep_max) {
        last = rest;
        rest = rest->link;
        count++;
    }
    free_list(pool->allocator, rest);
    if (last != NULL) {
        atomic_fetch_add_explicit(&pool->kept, count, memory_order_relaxed);
        push(pool, nodes, last);
    }
}

void index_free_tree(struct index_pool *pool, const struct index_node *root)
{
    /* Nodes wait for their turn in a list that they make themselves. */
    struct index_node *waiting = (struct index_node *)(uintptr_t)root;

    if (waiting != NULL) {
        waiting->link = NULL;
    }
    while (waiting != NULL) {
        struct index_node *node = waiting;

        waiting = node->link;
        for (unsigned i = 0; node->level > 0 && i < node->count; i++) {
            struct index_node *child = (struct index_node *)(uintptr_t)node->values[i];

            child->link = waiting;
            waiting = child;
        }
        mem_free(pool->allocator, node);
    }
}
