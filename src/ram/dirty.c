/* ram/dirty.c - the dirty record's clients, and marking. */
#include "ram/dirty.h"

#include "base/addr.h"
#include "base/check.h"
#include "base/rcu.h"
#include "ram/ram.h"

#include <errno.h>

/* All that a block may come to have: a set does not change when the block is resized. */
static uint64_t pages_of(const struct gm_ram *ram)
{
    return ram->max_size >> PAGE_SHIFT_4K; /* host pages are whole 4 KiB pages */
}

int ram_dirty_init(struct ram_dirty *dirty)
{
    barrier_init(&dirty->barrier);
    atomic_init(&dirty->active, 0);
    for (unsigned client = 0; client < GM_DIRTY_CLIENTS; client++) {
        atomic_init(&dirty->sets[client], NULL);
        dirty->begin_counts[client] = 0;
    }
    return lock_init(&dirty->lock, LOCK_RANK_DIRTY) == 0 ? 0 : -ENOMEM;
}

void ram_dirty_fini(struct ram_dirty *dirty)
{
    for (unsigned client = 0; client < GM_DIRTY_CLIENTS; client++) {
        pageset_free(atomic_load_explicit(&dirty->sets[client], memory_order_relaxed));
    }
    lock_fini(&dirty->lock);
}

uint32_t ram_dirty_clients(const struct gm_ram *ram)
{
    return atomic_load_explicit(&ram->dirty.active, memory_order_relaxed); /* a hint, no pair */
}

/* Count one more begin of a client that has begun. */
static bool begin_again(struct ram_dirty *dirty, unsigned client)
{
    bool begun = dirty->begin_counts[client] > 0;

    if (begun) {
        dirty->begin_counts[client]++;
    }
    return begun;
}

static void publish(struct ram_dirty *dirty, unsigned client, struct pageset *set)
{
    rcu_store(&dirty->sets[client], set); /* pairs with ram_dirty_next_set() */
    /* Release: pairs with the acquire in clients_to_mark(); who sees the bit sees the set. */
    atomic_fetch_or_explicit(&dirty->active, 1u << client, memory_order_release);
}

/* Returns the set that was taken away, with its reference. */
static struct pageset *withdraw(struct ram_dirty *dirty, unsigned client)
{
    struct pageset *set = atomic_load_explicit(&dirty->sets[client], memory_order_relaxed);

    /* Relaxed: a mark that still sees the bit finds no set, or one that its section keeps alive. */
    atomic_fetch_and_explicit(&dirty->active, ~(1u << client), memory_order_relaxed);
    atomic_store_explicit(&dirty->sets[client], NULL, memory_order_relaxed);
    return set;
}

/*
 * Publish @set unless another thread was first. Returns 0 or -ENOMEM, and in *unused the set that the
 * caller has to drop, which marks may have seen. The lock is held over the barrier, so that no begin
 * of the client returns before it.
 */
static int begin_with(struct ram_dirty *dirty, unsigned client, struct pageset *set,
                      struct pageset **unused)
{
    *unused = NULL;
    if (begin_again(dirty, client)) {
        *unused = set;
        return 0;
    }
    publish(dirty, client, set);
    if (barrier_heavy(&dirty->barrier) != 0) {
        *unused = withdraw(dirty, client);
        return -ENOMEM;
    }
    dirty->begin_counts[client] = 1;
    return 0;
}

int gm_ram_dirty_begin(struct gm_ram *ram, unsigned client)
{
    struct ram_dirty *dirty = &ram->dirty;
    struct pageset *unused;
    struct pageset *set;
    bool begun;
    int result;

    if (client >= GM_DIRTY_CLIENTS) {
        return -EINVAL;
    }
    lock_take(&dirty->lock);
    begun = begin_again(dirty, client);
    lock_drop(&dirty->lock);
    if (begun) {
        return 0;
    }
    set =
        pageset_new(pages_of(ram), &ram->allocator); /* unlocked: it calls the caller's allocator */
    if (set == NULL) {
        return -ENOMEM;
    }
    lock_take(&dirty->lock);
    result = begin_with(dirty, client, set, &unused);
    lock_drop(&dirty->lock);
    if (unused != NULL) {
        pageset_put(unused);
    }
    return result;
}

int gm_ram_dirty_end(struct gm_ram *ram, unsigned client)
{
    struct ram_dirty *dirty = &ram->dirty;
    struct pageset *set = NULL;
    int result = 0;

    if (client >= GM_DIRTY_CLIENTS) {
        return -EINVAL;
    }
    lock_take(&dirty->lock);
    if (dirty->begin_counts[client] == 0) {
        result = -ENOENT;
    } else {
        dirty->begin_counts[client]--;
        set = dirty->begin_counts[client] == 0 ? withdraw(dirty, client) : NULL;
    }
    lock_drop(&dirty->lock);
    if (set != NULL) {
        pageset_put(set);
    }
    return result;
}

struct pageset *ram_dirty_set_get(struct gm_ram *ram, unsigned client)
{
    struct pageset *set;

    lock_take(&ram->dirty.lock);
    set = atomic_load_explicit(&ram->dirty.sets[client], memory_order_relaxed);
    if (set != NULL) {
        ref_get(&set->refs);
    }
    lock_drop(&ram->dirty.lock);
    return set;
}

/* The writer's light barrier, and then those of the clients that have begun. */
static inline uint32_t clients_to_mark(const struct gm_ram *ram, uint32_t client_mask)
{
    uint32_t clients;

    barrier_light(&ram->dirty.barrier);
    /* Acquire: pairs with the release in publish(). */
    clients = client_mask & atomic_load_explicit(&ram->dirty.active, memory_order_acquire);
    GM_POINT("mark-looked");
    return clients;
}

/* Inside a read section; clients and size_bytes are not 0. */
static inline void mark_inside(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes,
                               uint32_t clients)
{
    uint64_t ram_bytes = ram_size(ram);
    uint64_t first_page = offset_bytes >> PAGE_SHIFT_4K;
    uint64_t last_page;

    if (__builtin_expect(offset_bytes >= ram_bytes, 0)) {
        return;
    }
    last_page = (offset_bytes + (bytes_until(offset_bytes, ram_bytes - 1, size_bytes) - 1)) >>
                PAGE_SHIFT_4K;
    if (__builtin_expect(first_page == last_page, 1)) {
        ram_dirty_mark_page(&ram->dirty, first_page, clients);
        return;
    }
    do {
        struct pageset *set = ram_dirty_next_set(&ram->dirty, &clients);

        if (set != NULL) {
            pageset_mark(set, first_page, last_page);
        }
    } while (clients != 0);
}

void gm_ram_dirty_mark(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes,
                       uint32_t client_mask)
{
    uint32_t clients = clients_to_mark(ram, client_mask);

    if (clients == 0 || size_bytes == 0) {
        return;
    }
    rcu_enter();
    mark_inside(ram, offset_bytes, size_bytes, clients);
    rcu_leave();
}

void ram_dirty_mark_inside(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes)
{
    /* Acquire: pairs with the release in publish(). */
    uint32_t clients = atomic_load_explicit(&ram->dirty.active, memory_order_acquire);

    if (clients != 0 && size_bytes != 0) {
        mark_inside(ram, offset_bytes, size_bytes, clients);
    }
}

/* Add the pages of @bitmap to @set, bit 0 being @first_page; page_count > 0. All are in the block. */
static void merge_set(struct pageset *set, uint64_t first_page, const uint64_t *bitmap,
                      uint64_t page_count)
{
    uint64_t word = first_page / PAGESET_WORD_PAGES;
    unsigned shift = first_page % PAGESET_WORD_PAGES;
    uint64_t carry = 0; /* pages of the bitmap's word that fall into the set's next word */

    for (uint64_t done = 0; done < page_count; done += PAGESET_WORD_PAGES) {
        uint64_t bits = bitmap[done / PAGESET_WORD_PAGES];
        uint64_t here;

        if (page_count - done < PAGESET_WORD_PAGES) {
            bits &= ((uint64_t)1 << (page_count - done)) - 1;
        }
        here = carry | bits << shift;
        carry = shift != 0 ? bits >> (PAGESET_WORD_PAGES - shift) : 0;
        if (here != 0) {
            pageset_mark_word(set, word, here);
        }
        word++;
    }
    if (carry != 0) {
        pageset_mark_word(set, word, carry);
    }
}

void ram_dirty_merge(struct gm_ram *ram, uint64_t offset_bytes, const uint64_t *bitmap,
                     uint64_t page_count, uint32_t client_mask)
{
    uint32_t clients = clients_to_mark(ram, client_mask);
    uint64_t first_page = offset_bytes >> PAGE_SHIFT_4K;
    uint64_t pages_left;

    GM_ASSERT((offset_bytes & (GM_DIRTY_PAGE_BYTES - 1)) == 0);
    if (clients == 0 || page_count == 0 || first_page >= pages_of(ram)) {
        return;
    }
    pages_left = pages_of(ram) - first_page;
    page_count = page_count < pages_left ? page_count : pages_left;
    rcu_enter();
    while (clients != 0) {
        struct pageset *set = ram_dirty_next_set(&ram->dirty, &clients);

        if (set != NULL) {
            merge_set(set, first_page, bitmap, page_count);
        }
    }
    rcu_leave();
}
