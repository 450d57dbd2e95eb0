/* kcore/kcore.c - a virtual machine's beginning and end, holding its vCPUs, and who follows its slots. */
#include "kcore/kcore.h"

#include "base/alloc.h"
#include "base/check.h"
#include "kcore/attributes.h"
#include "kcore/change.h"
#include "kcore/retire.h"

#include <errno.h>

#define GPA_BITS_MIN 36u
#define GPA_BITS_MAX 52u

static bool options_are_valid(const struct kcore_options *options)
{
    return options->spaces >= 1 && options->spaces <= KCORE_SPACES &&
           options->gpa_bits >= GPA_BITS_MIN && options->gpa_bits <= GPA_BITS_MAX &&
           options->generation_bits >= 1 && options->generation_bits < 64 &&
           options->arch_ops != NULL;
}

/* Each of the three undoes itself where it fails. */
static int init_locks(struct kcore *core)
{
    int rc = lock_init(&core->slots_lock, LOCK_RANK_KCORE);

    if (rc != 0) {
        return rc;
    }
    rc = lock_init(&core->hold_lock, LOCK_RANK_HOLD);
    if (rc != 0) {
        goto out_slots;
    }
    rc = lock_init(&core->vcpus_lock, LOCK_RANK_LEAF);
    if (rc != 0) {
        goto out_hold;
    }
    return 0;

out_hold:
    lock_fini(&core->hold_lock);
out_slots:
    lock_fini(&core->slots_lock);
    return rc;
}

static void fini_locks(struct kcore *core)
{
    lock_fini(&core->vcpus_lock);
    lock_fini(&core->hold_lock);
    lock_fini(&core->slots_lock);
}

static int init_slots(struct kcore *core)
{
    for (unsigned i = 0; i < core->spaces; i++) {
        struct memslots *slots = mem_zalloc(&core->allocator, sizeof(*slots));

        if (slots == NULL) {
            return -ENOMEM;
        }
        slots->core = core;
        slots->generation = i; /* no two versions have the same */
        core->generation = i;
        atomic_init(&core->slots[i], slots);
        core->by_id[i] = mem_zalloc(&core->allocator, MEMSLOT_IDS * sizeof(*core->by_id[i]));
        if (core->by_id[i] == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

static void fini_slots(struct kcore *core)
{
    for (unsigned i = 0; i < core->spaces; i++) {
        struct memslots *slots = atomic_load_explicit(&core->slots[i], memory_order_relaxed);

        if (slots != NULL) {
            memslots_free_all(core, slots);
        }
        mem_free(&core->allocator, core->by_id[i]);
    }
}

int kcore_init(struct kcore *core, const struct kcore_options *options)
{
    int rc;

    if (!options_are_valid(options)) {
        return -EINVAL;
    }
    *core = (struct kcore){
        .allocator = *mem_allocator_or_default(options->allocator),
        .spaces = options->spaces,
        .gpa_bits = options->gpa_bits,
        .generation_bits = options->generation_bits,
        .arch_ops = options->arch_ops,
        .arch = options->arch,
        .private_opaque = options->private_opaque,
        .log_is_immediate = options->log_is_immediate,
    };
    core->deferred = rcu_domain_new();
    if (core->deferred == NULL) {
        return -ENOMEM;
    }
    index_pool_init(&core->index_pool, &core->allocator);
    rc = init_slots(core);
    if (rc != 0) {
        goto out_slots;
    }
    rc = init_locks(core);
    if (rc != 0) {
        goto out_slots;
    }
    rc = notifier_init(&core->notifier);
    if (rc != 0) {
        goto out_locks;
    }
    rc = gate_init(&core->gate);
    if (rc != 0) {
        goto out_notifier;
    }
    return 0;

out_notifier:
    notifier_fini(&core->notifier);
out_locks:
    fini_locks(core);
out_slots:
    fini_slots(core);
    rcu_domain_free(core->deferred);
    return rc;
}

void kcore_fini(struct kcore *core)
{
    GM_ASSERT(core->vcpus == NULL && core->hold_count == 0);
    rcu_domain_drain(core->deferred); /* what was retired names the VM */
    GM_ASSERT(atomic_load(&core->dead_count) == 0);
    rcu_domain_free(core->deferred);
    fini_slots(core);
    kcore_attributes_fini(core);
    index_pool_fini(&core->index_pool);
    gate_fini(&core->gate);
    notifier_fini(&core->notifier);
    fini_locks(core);
}

const struct memslot *kcore_slot_by_id(const struct kcore *core, uint32_t slot)
{
    unsigned space = change_space(slot);
    uint32_t id = change_id(slot);

    return space < core->spaces && id < MEMSLOT_IDS ? core->by_id[space][id] : NULL;
}

/* Tell one follower of all slots that are there. Under the slots lock, vCPUs held. */
static void tell_all(struct kcore *core, const struct kcore_follower *follower,
                     void (*tell)(void *opaque, const struct memslot *slot))
{
    for (unsigned i = 0; i < core->spaces && tell != NULL; i++) {
        const struct memslots *slots = kcore_slots(core, i);
        const struct memslot *slot = memslots_next(slots, (struct gfn){0});

        while (slot != NULL) {
            tell(follower->opaque, slot);
            slot = memslots_next(slots, (struct gfn){slot->base.value + slot->page_count});
        }
    }
}

void kcore_follow(struct kcore *core, struct kcore_follower *follower)
{
    struct kcore_follower **link = &core->followers;

    lock_take(&core->slots_lock);
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = follower;
    follower->next = NULL;
    kcore_hold(core);
    tell_all(core, follower, follower->created);
    kcore_release(core);
    lock_drop(&core->slots_lock);
}

void kcore_unfollow(struct kcore *core, struct kcore_follower *follower)
{
    struct kcore_follower **link = &core->followers;

    lock_take(&core->slots_lock);
    while (*link != follower) {
        GM_ASSERT(*link != NULL);
        link = &(*link)->next;
    }
    *link = follower->next;
    kcore_hold(core);
    tell_all(core, follower, follower->removing);
    kcore_release(core);
    lock_drop(&core->slots_lock);
}

void kcore_hold(struct kcore *core)
{
    lock_take(&core->hold_lock);
    core->hold_count++;
    if (core->hold_count == 1) {
        /* Others who hold meanwhile wait for the lock, and so for the vCPUs. */
        gate_hold(&core->gate);
        atomic_fetch_add_explicit(&core->holds, 1, memory_order_relaxed);
    }
    lock_drop(&core->hold_lock);
}

void kcore_release(struct kcore *core)
{
    lock_take(&core->hold_lock);
    GM_ASSERT(core->hold_count > 0);
    core->hold_count--;
    if (core->hold_count == 0) {
        gate_release(&core->gate);
    }
    lock_drop(&core->hold_lock);
}
