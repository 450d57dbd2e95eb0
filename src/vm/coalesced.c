/* vm/coalesced.c - dispatching the writes that a hypervisor has collected. The invariants C-1 to C-6 are in coalesced.h. */
#include "vm/coalesced.h"

#include "base/addr.h"
#include "base/check.h"
#include "base/edge.h"
#include "base/log.h"
#include "base/point.h"
#include "base/rcu.h"
#include "region/map.h"
#include "space/dispatch.h"
#include "space/cell.h"
#include "view/view.h"

#include <guestmem/access.h>

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

/* How many a ring has: it fills a page. One stays free. */
#define RING_ENTRIES                                                                               \
    ((uint32_t)((PAGE_BYTES_4K - sizeof(struct kvm_coalesced_mmio_ring)) /                         \
                sizeof(struct kvm_coalesced_mmio)))

int coalesced_init(struct coalesced *coalesced, const struct gm_allocator *allocator)
{
    int rc = lock_init(&coalesced->lock, LOCK_RANK_COALESCED);

    if (rc != 0) {
        return rc;
    }
    rc = -pthread_cond_init(&coalesced->dispatched_one, NULL);
    if (rc != 0) {
        lock_fini(&coalesced->lock);
        return rc;
    }
    coalesced->allocator = *allocator;
    atomic_init(&coalesced->is_used, false);
    return 0;
}

void coalesced_fini(struct coalesced *coalesced)
{
    GM_ASSERT(coalesced->count == 0 && !coalesced->is_busy);
    pthread_cond_destroy(&coalesced->dispatched_one);
    lock_fini(&coalesced->lock);
}

/* ---- the ring, and the queue before it; under the lock ---- */

/*
 * C-6. `last` is the hypervisor's: while it is out of range it adds nothing (Linux api.rst has an exit then), so it can be set. If only
 * `first`, which is ours, was overwritten, the ring is empty from where the next write comes.
 */
static void ring_repair(struct coalesced *coalesced)
{
    struct kvm_coalesced_mmio_ring *ring = coalesced->ring;
    uint32_t first;
    uint32_t last;

    if (ring == NULL) {
        return;
    }
    first = __atomic_load_n(&ring->first, __ATOMIC_RELAXED);
    last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
    if (first < RING_ENTRIES && last < RING_ENTRIES) {
        return;
    }
    if (last >= RING_ENTRIES) {
        last = 0;
        __atomic_store_n(&ring->last, last, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&ring->first, last, __ATOMIC_RELEASE); /* as in ring_advance() */
    coalesced->is_overwritten = true;
}

/* The oldest in the ring is left there, if it is of no sense too. Return: is there one? */
static bool ring_peek(struct coalesced *coalesced, struct kvm_coalesced_mmio *entry)
{
    struct kvm_coalesced_mmio_ring *ring = coalesced->ring;
    uint32_t first;
    uint32_t last;

    if (ring == NULL) {
        return false;
    }
    GM_POINT("coalesced-peeking");
    first = __atomic_load_n(&ring->first, __ATOMIC_RELAXED);
    /* Acquire; pairs with the kernel's barrier, or soft/coalesced.c's release, after an entry was filled. */
    last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
    if (first >= RING_ENTRIES || last >= RING_ENTRIES || first == last) {
        return false;
    }
    EDGE_ACQUIRE(&coalesced->ring); /* pairs with the release in coalesced_enter() */
    *entry = ring->coalesced_mmio[first];
    return true;
}

/* Its entry is the hypervisor's again. Release; pairs with its look at `first` before it fills one. */
static void ring_advance(const struct coalesced *coalesced)
{
    struct kvm_coalesced_mmio_ring *ring = coalesced->ring;
    uint32_t first = __atomic_load_n(&ring->first, __ATOMIC_RELAXED);

    __atomic_store_n(&ring->first, (first + 1) % RING_ENTRIES, __ATOMIC_RELEASE);
}

static uint32_t ring_count(const struct coalesced *coalesced)
{
    struct kvm_coalesced_mmio_ring *ring = coalesced->ring;
    uint32_t first;
    uint32_t last;

    if (ring == NULL) {
        return 0;
    }
    first = __atomic_load_n(&ring->first, __ATOMIC_RELAXED);
    last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
    if (first >= RING_ENTRIES || last >= RING_ENTRIES) {
        return 0;
    }
    return (last + RING_ENTRIES - first) % RING_ENTRIES;
}

static struct coalesced_write write_of(const struct kvm_coalesced_mmio *entry)
{
    struct coalesced_write write = {
        .is_port = entry->pio != 0,
        .size_bytes = entry->len,
        .address = entry->phys_addr,
    };

    memcpy(write.data, entry->data, sizeof(write.data));
    return write;
}

static struct coalesced_write *queue_at(const struct coalesced *coalesced, size_t index)
{
    return &coalesced->queue[(coalesced->first + index) % coalesced->capacity];
}

/* The oldest of all. Return: is there one? */
static bool take(struct coalesced *coalesced, struct coalesced_write *write)
{
    struct kvm_coalesced_mmio entry;

    if (coalesced->count > 0) {
        *write = *queue_at(coalesced, 0);
        coalesced->first = (coalesced->first + 1) % coalesced->capacity;
        coalesced->count--;
        return true;
    }
    if (!ring_peek(coalesced, &entry)) {
        return false;
    }
    ring_advance(coalesced);
    *write = write_of(&entry);
    return true;
}

/* ---- dispatching ---- */

static void dispatch(const struct coalesced *coalesced, struct coalesced_write *write)
{
    const struct gm_attrs attrs = {0};

    if (write->size_bytes == 0 || write->size_bytes > sizeof(write->data)) {
        gm_region_put(write->region);
        return;
    }
    if (write->region == NULL) {
        (void)gm_write(write->is_port ? coalesced->ports : coalesced->memory, write->address,
                       write->data, write->size_bytes, attrs);
        return;
    }
    (void)dispatch_write(&(struct dispatch){.region = write->region, .offset = write->offset},
                         write->data, write->size_bytes);
    gm_region_put(write->region);
}

/* Take the oldest and dispatch it, without the lock meanwhile. Return: was there one? Under the lock. */
static bool dispatch_one(struct coalesced *coalesced)
{
    struct coalesced_write write;
    unsigned depth;

    if (!take(coalesced, &write)) {
        return false;
    }
    coalesced->is_busy = true;
    coalesced->dispatcher = pthread_self();
    lock_drop(&coalesced->lock);
    depth = dispatch_begin_anew(); /* an access to this region is what flushes, at any depth */
    dispatch(coalesced, &write);
    dispatch_return_to(depth);
    lock_take(&coalesced->lock);
    coalesced->is_busy = false;
    coalesced->dispatched++;
    if (coalesced->waiting > 0) {
        pthread_cond_broadcast(&coalesced->dispatched_one);
    }
    return true;
}

static void flush(struct coalesced *coalesced)
{
    uint64_t target = coalesced->dispatched + (coalesced->is_busy ? 1 : 0) + coalesced->count +
                      ring_count(coalesced);

    while (coalesced->dispatched < target) {
        if (coalesced->is_busy) {
            coalesced->waiting++;
            pthread_cond_wait(&coalesced->dispatched_one, &coalesced->lock.mutex);
            coalesced->waiting--;
        } else if (!dispatch_one(coalesced)) {
            break; /* the owner of an attached VM has drained the ring */
        }
    }
}

void coalesced_flush(struct coalesced *coalesced)
{
    bool is_news;

    /* Acquire; pairs with the release in reserve(). */
    if (!atomic_load_explicit(&coalesced->is_used, memory_order_acquire) ||
        lock_is_mine(&coalesced->map->lock) || map_is_copy(coalesced->map)) {
        return;
    }
    lock_take(&coalesced->lock);
    ring_repair(coalesced);
    if (!coalesced->is_busy || !pthread_equal(coalesced->dispatcher, pthread_self())) {
        flush(coalesced);
    }
    is_news = coalesced->is_overwritten && !coalesced->is_told && !coalesced->is_closed;
    coalesced->is_told = coalesced->is_told || is_news;
    lock_drop(&coalesced->lock);
    if (is_news) {
        log_say(&coalesced->map->log, GM_LOG_ERROR,
                "something has overwritten the ring of coalesced writes: those that were pending "
                "are lost");
    }
}

/* ---- ranges come and go: under the map's lock, so one at a time ---- */

/* The queue becomes @larger. Return: the old one. Under the lock. */
static struct coalesced_write *move_queue(struct coalesced *coalesced,
                                          struct coalesced_write *larger, size_t capacity)
{
    struct coalesced_write *old = coalesced->queue;

    for (size_t i = 0; i < coalesced->count; i++) {
        larger[i] = *queue_at(coalesced, i);
    }
    coalesced->queue = larger;
    coalesced->first = 0;
    coalesced->capacity = capacity;
    return old;
}

/* Meanwhile others can only take from the queue. */
static int reserve(void *opaque)
{
    struct coalesced *coalesced = opaque;
    struct coalesced_write *larger;
    struct coalesced_write *old;
    size_t wanted;
    bool fits;

    lock_take(&coalesced->lock);
    wanted = coalesced->count + RING_ENTRIES;
    fits = coalesced->is_closed || wanted <= coalesced->capacity;
    lock_drop(&coalesced->lock);
    if (!fits) {
        larger = mem_alloc(&coalesced->allocator, wanted * sizeof(*larger));
        if (larger == NULL) {
            return -ENOMEM;
        }
        lock_take(&coalesced->lock);
        old = move_queue(coalesced, larger, wanted);
        lock_drop(&coalesced->lock);
        mem_free(&coalesced->allocator, old);
    }
    /* Release; pairs with the acquire in coalesced_flush(). */
    atomic_store_explicit(&coalesced->is_used, true, memory_order_release);
    return 0;
}

/* Find the region that a write to [range] is for, in the view that is still published. */
static void bind(const struct coalesced *coalesced, struct coalesced_write *write, bool is_port,
                 const struct gm_coalesced *range)
{
    const struct gm_space *space = is_port ? coalesced->ports : coalesced->memory;
    const struct range *shown;
    uint64_t hole_last;

    if (write->region != NULL || write->is_port != is_port || write->address < range->gpa ||
        write->address > range->last) {
        return;
    }
    rcu_enter();
    shown = view_lookup(space_view(space), write->address, &hole_last);
    if (shown != NULL) {
        gm_region_get(shown->region);
        write->region = shown->region;
        write->offset = shown->offset + (write->address - shown->gpa);
    }
    rcu_leave();
}

static void removed(void *opaque, bool is_port, const struct gm_coalesced *range)
{
    struct coalesced *coalesced = opaque;
    struct kvm_coalesced_mmio entry;

    lock_take(&coalesced->lock);
    ring_repair(coalesced);
    /* Closed, it has no room, and nothing in it. */
    while (coalesced->count < coalesced->capacity && ring_peek(coalesced, &entry)) {
        coalesced->count++;
        *queue_at(coalesced, coalesced->count - 1) = write_of(&entry);
        ring_advance(coalesced);
    }
    for (size_t i = 0; i < coalesced->count; i++) {
        bind(coalesced, queue_at(coalesced, i), is_port, range);
    }
    lock_drop(&coalesced->lock);
}

void coalesced_enter(struct coalesced *coalesced)
{
    EDGE_RELEASE(&coalesced->ring);
}

struct coalesced_hooks coalesced_hooks(struct coalesced *coalesced)
{
    return (struct coalesced_hooks){.reserve = reserve, .removed = removed, .opaque = coalesced};
}

bool coalesced_was_at_rest(struct coalesced *coalesced)
{
    bool rests;

    if (!lock_try(&coalesced->lock)) {
        return false;
    }
    rests = !coalesced->is_busy && coalesced->waiting == 0;
    lock_drop(&coalesced->lock);
    return rests;
}

void coalesced_drop(struct coalesced *coalesced)
{
    lock_take(&coalesced->lock);
    coalesced->is_closed = true;
    lock_drop(&coalesced->lock);
    while (coalesced->count > 0) {
        coalesced->count--;
        gm_region_put(queue_at(coalesced, coalesced->count)->region);
    }
    mem_free(&coalesced->allocator, coalesced->queue);
    coalesced->queue = NULL;
    coalesced->capacity = 0;
}
