/* base/readers.c - slots of readers, and waiting for those who are inside. */
#include "base/readers.h"

#include "base/check.h"
#include "base/point.h"

#include <errno.h>
#include <sched.h>

#define SLOT_COUNT 31u /* of one piece of memory */

struct reader_slots {
    struct reader_slots *next; /* older; never changes */
    void *memory;              /* what was allocated: this is aligned within it */
    uint64_t changes;          /* in the oldest piece: the owner's count */
    uint8_t unused[READER_LINE_BYTES - 2 * sizeof(void *) - sizeof(uint64_t)];
    struct reader_slot slots[SLOT_COUNT];
};

static struct reader_slots *slots_new(const struct gm_allocator *allocator)
{
    uint8_t *memory = mem_zalloc(allocator, sizeof(struct reader_slots) + READER_LINE_BYTES - 1);
    struct reader_slots *slots;

    if (memory == NULL) {
        return NULL;
    }
    slots = (void *)(memory + (-(uintptr_t)memory & (READER_LINE_BYTES - 1)));
    slots->memory = memory;
    return slots;
}

int readers_init(struct readers *readers, const struct gm_allocator *allocator)
{
    struct reader_slots *slots = slots_new(allocator);

    if (slots == NULL) {
        return -ENOMEM;
    }
    slots->changes = 2; /* a number is never 0 */
    readers->allocator = *allocator;
    readers->changes = &slots->changes;
    barrier_init(&readers->barrier);
    atomic_init(&readers->slots, slots);
    return 0;
}

void readers_fini(struct readers *readers)
{
    struct reader_slots *slots = atomic_load_explicit(&readers->slots, memory_order_acquire);

    while (slots != NULL) {
        struct reader_slots *next = slots->next;

        mem_free(&readers->allocator, slots->memory);
        slots = next;
    }
}

/* Acquire: pairs with the release in readers_give_back(); the slot is 0. */
static struct reader_slot *take_free(struct reader_slots *slots)
{
    for (; slots != NULL; slots = slots->next) {
        for (unsigned i = 0; i < SLOT_COUNT; i++) {
            atomic_bool *is_taken = &slots->slots[i].is_taken;

            if (!atomic_load_explicit(is_taken, memory_order_relaxed) &&
                !atomic_exchange_explicit(is_taken, true, memory_order_acquire)) {
                return &slots->slots[i];
            }
        }
    }
    return NULL;
}

struct reader_slot *readers_take(struct readers *readers)
{
    /* acquire: pairs with the release below */
    struct reader_slots *all = atomic_load_explicit(&readers->slots, memory_order_acquire);
    struct reader_slot *slot = NULL;
    struct reader_slots *made;

    if (readers->barrier.light_fences) {
        return NULL;
    }
    slot = take_free(all);
    if (slot != NULL) {
        return slot;
    }
    made = slots_new(&readers->allocator);
    if (made == NULL) {
        return NULL;
    }
    slot = &made->slots[0];
    atomic_init(&slot->is_taken, true);
    do {
        made->next = all;
        /* release: pairs with the acquires above and in readers_wait() */
    } while (!atomic_compare_exchange_weak_explicit(&readers->slots, &all, made,
                                                    memory_order_acq_rel, memory_order_acquire));
    return slot;
}

void readers_give_back(struct reader_slot *slot)
{
    GM_ASSERT(__atomic_load_n(&slot->inside, __ATOMIC_RELAXED) == 0);
    atomic_store_explicit(&slot->is_taken, false, memory_order_release);
}

/* Relaxed: the change's own stores, which release, come after it. */
void readers_change(struct readers *readers)
{
    uint64_t number = __atomic_load_n(readers->changes, __ATOMIC_RELAXED);

    GM_ASSERT((number & 1) == 0);
    __atomic_store_n(readers->changes, number + 1, __ATOMIC_RELAXED);
}

void readers_changed(struct readers *readers)
{
    uint64_t number = __atomic_load_n(readers->changes, __ATOMIC_RELAXED);

    GM_ASSERT((number & 1) == 1);
    /* release: pairs with the acquire in readers_number(), and in who compares the count with its number */
    __atomic_store_n(readers->changes, number + 1, __ATOMIC_RELEASE);
}

/* Who has entered again since has another number, or is seen outside at some time. Acquire: pairs with the release of who leaves. */
static void wait_for(const struct reader_slot *slot)
{
    uint64_t inside = __atomic_load_n(&slot->inside, __ATOMIC_ACQUIRE);

    while (inside != 0 && __atomic_load_n(&slot->inside, __ATOMIC_ACQUIRE) == inside) {
        sched_yield();
    }
}

void readers_wait(const struct readers *readers)
{
    const struct reader_slots *slots;

    if (readers->barrier.light_fences) {
        return; /* nobody has a slot */
    }
    while (barrier_heavy(&readers->barrier) != 0) {
        sched_yield(); /* the kernel is short of memory; liburcu would have stopped the process */
    }
    slots = atomic_load_explicit(&readers->slots, memory_order_acquire);
    for (; slots != NULL; slots = slots->next) {
        for (unsigned i = 0; i < SLOT_COUNT; i++) {
            wait_for(&slots->slots[i]);
        }
    }
    GM_POINT("readers-waited");
}
