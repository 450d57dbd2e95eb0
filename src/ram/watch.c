/* ram/watch.c - the list of those who map a block's memory. */
#include "ram/watch.h"

#include "base/alloc.h"
#include "base/check.h"

struct ram_watch {
    struct gm_ram *ram;
    const struct ram_watch_ops *ops;
    void *opaque;
    uint64_t uses;
    struct ram_watch *next;
    struct ram_watch **prev;
};

/* Under the lock. */
static struct ram_watch *find_and_use(struct gm_ram *ram, const void *opaque)
{
    struct ram_watch *watch = ram->watches;

    while (watch != NULL && watch->opaque != opaque) {
        watch = watch->next;
    }
    if (watch != NULL) {
        watch->uses++;
    }
    return watch;
}

static void insert(struct ram_watch *watch)
{
    struct gm_ram *ram = watch->ram;

    watch->next = ram->watches;
    watch->prev = &ram->watches;
    if (watch->next != NULL) {
        watch->next->prev = &watch->next;
    }
    ram->watches = watch;
}

/* The allocator is the caller's, and not called under the lock. */
struct ram_watch *ram_watch_get(struct gm_ram *ram, const struct ram_watch_ops *ops, void *opaque)
{
    struct ram_watch *made;
    struct ram_watch *watch;

    lock_take(&ram->memory_lock);
    watch = find_and_use(ram, opaque);
    lock_drop(&ram->memory_lock);
    if (watch != NULL) {
        return watch;
    }
    made = mem_alloc(&ram->allocator, sizeof(*made));
    if (made == NULL) {
        return NULL;
    }
    *made = (struct ram_watch){.ram = ram, .ops = ops, .opaque = opaque, .uses = 1};
    lock_take(&ram->memory_lock);
    watch = find_and_use(ram, opaque);
    if (watch == NULL) {
        insert(made);
    }
    lock_drop(&ram->memory_lock);
    if (watch != NULL) {
        mem_free(&ram->allocator, made);
        return watch;
    }
    return made;
}

void ram_watch_put(struct ram_watch *watch)
{
    struct gm_ram *ram;
    bool is_last;

    if (watch == NULL) {
        return;
    }
    ram = watch->ram;
    lock_take(&ram->memory_lock);
    GM_ASSERT(watch->uses > 0);
    watch->uses--;
    is_last = watch->uses == 0;
    if (is_last) {
        *watch->prev = watch->next;
        if (watch->next != NULL) {
            watch->next->prev = watch->prev;
        }
    }
    lock_drop(&ram->memory_lock);
    if (is_last) {
        mem_free(&ram->allocator, watch);
    }
}

void ram_watch_begin(struct gm_ram *ram, void *hva, uint64_t size_bytes)
{
    for (struct ram_watch *watch = ram->watches; watch != NULL; watch = watch->next) {
        watch->ops->begin(watch->opaque, hva, size_bytes);
    }
}

void ram_watch_end(struct gm_ram *ram, void *hva, uint64_t size_bytes)
{
    for (struct ram_watch *watch = ram->watches; watch != NULL; watch = watch->next) {
        watch->ops->end(watch->opaque, hva, size_bytes);
    }
}
