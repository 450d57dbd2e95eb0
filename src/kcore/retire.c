/* kcore/retire.c - freeing versions of slots. */
#include "kcore/retire.h"

#include "base/alloc.h"
#include "kcore/dirtylog.h"
#include "kcore/index.h"

void memslot_free(struct kcore *core, struct memslot *slot)
{
    if ((slot->owns & MEMSLOT_OWNS_LOG) != 0) {
        dirtylog_free(&core->allocator, slot->log);
    }
    if ((slot->owns & MEMSLOT_OWNS_ARCH) != 0) {
        core->arch_ops->slot_free(core->arch, slot);
    }
    if ((slot->owns & MEMSLOT_OWNS_PRIVATE) != 0 && core->arch_ops->private_gone != NULL) {
        core->arch_ops->private_gone(core->private_opaque, slot->private_owner);
    }
    mem_free(&core->allocator, slot);
}

void memslot_free_list(struct kcore *core, struct memslot *slots)
{
    while (slots != NULL) {
        struct memslot *next = slots->dead_next;

        memslot_free(core, slots);
        slots = next;
    }
}

void retire_count(struct kcore *core, unsigned count)
{
    atomic_fetch_add_explicit(&core->dead_count, count, memory_order_relaxed);
}

void retire_uncount(struct kcore *core, unsigned count)
{
    atomic_fetch_sub_explicit(&core->dead_count, count, memory_order_relaxed);
}

void retire_keep_up(struct kcore *core)
{
    if (atomic_load_explicit(&core->dead_count, memory_order_relaxed) >= DEAD_MAX) {
        rcu_domain_drain(core->deferred);
    }
}

/* On liburcu's thread, or on that of who drains the domain, as kcore_fini() does. */
static void reclaim(struct rcu_item *item)
{
    struct memslots *slots = rcu_owner(item, struct memslots, reclaim);
    struct kcore *core = slots->core;

    index_free_nodes(&core->index_pool, slots->dead_nodes[0]);
    index_free_nodes(&core->index_pool, slots->dead_nodes[1]);
    memslot_free_list(core, slots->dead_slots);
    mem_free(&core->allocator, slots->dead_invalid);
    retire_uncount(core, slots->dead_count);
    mem_free(&core->allocator, slots);
}

void memslots_retire(struct memslots *slots)
{
    slots->dead_count = 1;
    for (const struct memslot *slot = slots->dead_slots; slot != NULL; slot = slot->dead_next) {
        slots->dead_count++;
    }
    retire_count(slots->core, slots->dead_count);
    rcu_domain_defer(slots->core->deferred, &slots->reclaim, reclaim);
}

static void free_entry(void *opaque, const struct index_entry *entry)
{
    memslot_free(opaque, (struct memslot *)(uintptr_t)entry->value);
}

void memslots_free_all(struct kcore *core, struct memslots *slots)
{
    index_visit(slots->by_gfn, 0, UINT64_MAX, free_entry, core);
    index_free_tree(&core->index_pool, slots->by_gfn);
    index_free_tree(&core->index_pool, slots->by_hva);
    mem_free(&core->allocator, slots);
}
