/*
 * kcore/attributes.c - the attributes of guest frames: a persistent index of ranges, published under RCU.
 *
 * A change cuts what lies at its ends, takes out what lies within, and joins with equal neighbours, so
 * there are never more ranges than the attributes need. Its cost is logarithmic in the ranges that
 * stay, for each range that goes.
 */
#include "kcore/attributes.h"

#include "base/alloc.h"
#include "base/check.h"
#include "kcore/index.h"
#include "kcore/retire.h"

#include <errno.h>

static uint64_t attributes_of(const struct index_entry *entry)
{
    return (uint64_t)(uintptr_t)entry->value;
}

static const struct index_node *ranges_of(const struct kcore *core)
{
    const struct attributes *attributes = rcu_load(&core->attributes);

    return attributes != NULL ? attributes->ranges : NULL;
}

uint64_t kcore_attributes(const struct kcore *core, struct gfn gfn)
{
    return (uint64_t)(uintptr_t)index_find(ranges_of(core), gfn.value);
}

/* Do [first, last] all have the same? If so, *attributes says which. */
static bool is_uniform(const struct index_node *ranges, uint64_t first, uint64_t last,
                       uint64_t *attributes)
{
    struct index_entry entry;

    if (index_floor(ranges, first, &entry) && entry.last >= first) {
        *attributes = attributes_of(&entry);
        return entry.last >= last; /* a range ends where the attributes do */
    }
    *attributes = 0;
    return !index_ceiling(ranges, first, &entry) || entry.first > last;
}

bool kcore_attributes_same(const struct kcore *core, struct gfn first, uint64_t page_count)
{
    uint64_t attributes;

    return page_count == 0 ||
           is_uniform(ranges_of(core), first.value, first.value + (page_count - 1), &attributes);
}

static int insert(struct index_edit *edit, uint64_t first, uint64_t last, uint64_t attributes)
{
    struct index_entry entry = {first, last, 0, (const void *)(uintptr_t)attributes};

    return index_insert(edit, &entry);
}

/* Cut the range that goes on across @at, so that one begins there. */
static int cut(struct index_edit *edit, uint64_t at)
{
    struct index_entry entry;
    int rc;

    if (at == 0 || !index_floor(edit->root, at - 1, &entry) || entry.last < at) {
        return 0;
    }
    rc = index_remove(edit, entry.first, 0);
    rc = rc != 0 ? rc : insert(edit, entry.first, at - 1, attributes_of(&entry));
    return rc != 0 ? rc : insert(edit, at, entry.last, attributes_of(&entry));
}

/* Take out the ranges within [first, last]; none crosses its ends. */
static int clear(struct index_edit *edit, uint64_t first, uint64_t last)
{
    struct index_entry entry;
    int rc = 0;

    while (rc == 0 && index_ceiling(edit->root, first, &entry) && entry.first <= last) {
        rc = index_remove(edit, entry.first, 0);
    }
    return rc;
}

/* Add a range where there is none, joined with equal neighbours. */
static int add(struct index_edit *edit, uint64_t first, uint64_t last, uint64_t attributes)
{
    struct index_entry entry;
    int rc = 0;

    if (first > 0 && index_floor(edit->root, first - 1, &entry) && entry.last + 1 == first &&
        attributes_of(&entry) == attributes) {
        first = entry.first;
        rc = index_remove(edit, entry.first, 0);
    }
    if (rc == 0 && index_ceiling(edit->root, last, &entry) && entry.first == last + 1 &&
        attributes_of(&entry) == attributes) {
        last = entry.last;
        rc = index_remove(edit, entry.first, 0);
    }
    return rc != 0 ? rc : insert(edit, first, last, attributes);
}

static int change(struct index_edit *edit, uint64_t first, uint64_t last, uint64_t attributes)
{
    int rc = cut(edit, first);

    rc = rc != 0 ? rc : cut(edit, last + 1);
    rc = rc != 0 ? rc : clear(edit, first, last);
    return rc != 0 || attributes == 0 ? rc : add(edit, first, last, attributes);
}

static void reclaim(struct rcu_item *item)
{
    struct attributes *attributes = rcu_owner(item, struct attributes, reclaim);
    struct kcore *core = attributes->core;

    index_free_nodes(&core->index_pool, attributes->dead_nodes);
    mem_free(&core->allocator, attributes);
    retire_uncount(core, 1);
}

/*
 * vCPUs are held, so each sees the change at one instruction's boundary. Faults that are under way and
 * have seen the old attributes begin anew; what one has installed by then is unmapped.
 */
static void publish(struct kcore *core, struct attributes *next, struct gfn first,
                    uint64_t page_count)
{
    kcore_hold(core);
    rcu_store(&core->attributes, next);
    notifier_renew(&core->notifier);
    for (unsigned i = 0; i < core->spaces; i++) {
        core->arch_ops->attributes_changed(core->arch, i, first, page_count);
    }
    core->arch_ops->tlb_flush(core->arch);
    kcore_release(core);
}

/* Under the slots lock. */
static int set(struct kcore *core, struct gfn first, uint64_t page_count, uint64_t attributes)
{
    struct attributes *now = atomic_load_explicit(&core->attributes, memory_order_relaxed);
    uint64_t last = first.value + (page_count - 1);
    struct attributes *next;
    struct index_edit edit;
    uint64_t present;
    int rc;

    if (is_uniform(ranges_of(core), first.value, last, &present) && present == attributes) {
        return 0;
    }
    next = mem_zalloc(&core->allocator, sizeof(*next));
    if (next == NULL) {
        return -ENOMEM;
    }
    index_edit_begin(&edit, &core->index_pool, ranges_of(core));
    rc = change(&edit, first.value, last, attributes);
    if (rc != 0) {
        index_edit_abort(&edit);
        mem_free(&core->allocator, next);
        return rc;
    }
    next->core = core;
    if (now != NULL) {
        now->dead_nodes = index_edit_commit(&edit);
    } else {
        (void)index_edit_commit(&edit); /* it began with nothing, and replaced nothing */
    }
    next->ranges = edit.root;
    publish(core, next, first, page_count);
    if (now != NULL) {
        retire_count(core, 1);
        rcu_domain_defer(core->deferred, &now->reclaim, reclaim);
    }
    return 0;
}

int kcore_set_attributes(struct kcore *core, uint64_t gpa, uint64_t size_bytes, uint64_t attributes)
{
    int rc;

    if (((gpa | size_bytes) & (PAGE_BYTES_4K - 1)) != 0 || size_bytes == 0 ||
        !range_holds(0, UINT64_C(1) << core->gpa_bits, gpa, size_bytes)) {
        return -EINVAL;
    }
    if ((attributes & ~ATTRIBUTES_ALL) != 0 ||
        ((attributes & ATTRIBUTE_NO_READ) != 0 && (attributes & ATTRIBUTE_NO_WRITE) == 0)) {
        return -EINVAL;
    }
    lock_take(&core->slots_lock);
    rc = set(core, gfn_of(gpa), size_bytes >> PAGE_SHIFT_4K, attributes);
    GM_AUDIT(attributes_audit_sometimes(core));
    lock_drop(&core->slots_lock);
    retire_keep_up(core);
    return rc;
}

void kcore_attributes_fini(struct kcore *core)
{
    struct attributes *attributes = atomic_load_explicit(&core->attributes, memory_order_relaxed);

    if (attributes != NULL) {
        index_free_tree(&core->index_pool, attributes->ranges);
        mem_free(&core->allocator, attributes);
    }
}

#ifdef GM_AUDIT_ON
struct audit {
    const struct kcore *core;
    struct index_entry previous;
    uint64_t count;
};

static void audit_range(void *opaque, const struct index_entry *entry)
{
    struct audit *audit = opaque;
    uint64_t attributes = attributes_of(entry);

    GM_ASSERT(attributes != 0 && (attributes & ~ATTRIBUTES_ALL) == 0);
    GM_ASSERT(entry->last < UINT64_C(1) << (audit->core->gpa_bits - PAGE_SHIFT_4K));
    if (audit->count > 0) {
        GM_ASSERT(audit->previous.last < entry->first);
        GM_ASSERT(audit->previous.last + 1 != entry->first ||
                  attributes_of(&audit->previous) != attributes);
    }
    audit->previous = *entry;
    audit->count++;
}

void attributes_audit(const struct kcore *core)
{
    struct audit audit = {.core = core};
    uint64_t count = index_audit(ranges_of(core));

    index_visit(ranges_of(core), 0, UINT64_MAX, audit_range, &audit);
    GM_ASSERT(count == audit.count);
}

/* Large trees now and then, so that tests with many ranges end. */
void attributes_audit_sometimes(const struct kcore *core)
{
    const struct index_node *ranges = ranges_of(core);

    if (ranges == NULL || ranges->level < 2 || atomic_load(&core->notifier.sequence) % 64 == 0) {
        attributes_audit(core);
    }
}
#endif
