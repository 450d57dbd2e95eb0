/* slots/slots.c - attaching a backend to a space: a listener that plans, and then acts in apply. */
#include "slots/slots.h"

#include "base/check.h"
#include "base/diag.h"

#include <errno.h>
#include <stdint.h>

#define DEFAULT_MAX_SLOTS 32764u /* KVM_USER_MEM_SLOTS of x86 Linux */
#define MIN_PAGE_BYTES 4096u

/* What the plan came to becomes what is there. Destroyed slots stay in the plan, to be freed. */
static void commit_set(struct gm_slots *slots)
{
    for (size_t i = 0; i < slots->plan.op_count; i++) {
        struct plan_op *op = &slots->plan.ops[i];

        switch (op->kind) {
        case PLAN_DESTROY:
            slot_set_remove(&slots->set, op->slot);
            slots->stats.destroys++;
            slots->stats.untouched_destroys += op->untouched ? 1 : 0;
            break;
        case PLAN_SET_FLAGS:
            op->slot->shown.flags = op->new_flags;
            slots->stats.flag_changes++;
            break;
        case PLAN_CREATE:
            slot_set_insert(&slots->set, op->slot);
            op->slot = NULL; /* the set's now */
            slots->stats.creates++;
            break;
        }
    }
    slots->stats.joins += slots->plan.joins;
    for (size_t i = 0; i < slots->plan.rebind_count; i++) {
        struct plan_rebind *rebind = &slots->plan.rebinds[i];
        struct gm_region *before = rebind->slot->shown.region;

        rebind->slot->shown.region = rebind->region;
        rebind->slot->shown.offset = rebind->region_offset;
        rebind->region = before; /* its reference goes with the plan */
    }
}

static void on_settle(void *opaque)
{
    struct gm_slots *slots = opaque;

    if (!slots->is_pending) {
        return;
    }
    slots_release(slots);
    lock_take(&slots->lock);
    commit_set(slots);
    GM_AUDIT(slot_set_audit(&slots->set));
    lock_drop(&slots->lock);
    for (size_t i = 0; i < slots->plan.op_count; i++) {
        if (slots->plan.ops[i].kind == PLAN_DESTROY) {
            gm_region_put(slots->plan.ops[i].slot->shown.region);
            mem_free(&slots->allocator, slots->plan.ops[i].slot);
        }
    }
    slots_drop_plan(slots);
}

static void on_abort(void *opaque)
{
    slots_drop_plan(opaque);
}

static int check_ops(const struct gm_backend_ops *ops, struct gm_diag *diag)
{
    if (ops == NULL || ops->size != sizeof(*ops)) {
        return diag_set(diag, -EINVAL, "gm_backend_ops.size is not that of this library");
    }
    if (ops->create == NULL || ops->destroy == NULL || ops->set_flags == NULL) {
        return diag_set(diag, -EINVAL, "a backend needs create, destroy and set_flags");
    }
    if ((ops->hold == NULL) != (ops->release == NULL) ||
        (ops->eventfd_add == NULL) != (ops->eventfd_del == NULL)) {
        return diag_set(diag, -EINVAL,
                        "a backend has both of hold and release, and of eventfd_add and _del");
    }
    return 0;
}

static int check_options(struct gm_backend_options *options, struct gm_diag *diag)
{
    if (options->size != sizeof(*options)) {
        return diag_set(diag, -EINVAL, "gm_backend_options.size is not that of this library");
    }
    if (options->max_slots == 0) {
        options->max_slots = DEFAULT_MAX_SLOTS;
    }
    if (options->page_bytes == 0) {
        options->page_bytes = MIN_PAGE_BYTES;
    }
    if (options->max_slots > GM_SLOT_NUMBERS_MAX) {
        return diag_set(diag, -EINVAL, "%u slots are more than the %u that can be numbered",
                        options->max_slots, GM_SLOT_NUMBERS_MAX);
    }
    if (options->slot_span_bytes != 0 && (!is_power_of_two(options->slot_span_bytes) ||
                                          options->slot_span_bytes < options->page_bytes)) {
        return diag_set(diag, -EINVAL, "slots cannot be kept within 0x%llx bytes",
                        (unsigned long long)options->slot_span_bytes);
    }
    if (!is_power_of_two(options->page_bytes) || options->page_bytes < MIN_PAGE_BYTES) {
        return diag_set(diag, -EINVAL, "a page of %u bytes is not a power of two from %u on",
                        options->page_bytes, MIN_PAGE_BYTES);
    }
    return 0;
}

static int slots_new(const struct gm_backend_options *options, const struct gm_backend_ops *ops,
                     void *opaque, struct gm_slots **out)
{
    const struct gm_allocator *allocator = mem_allocator_or_default(options->allocator);
    struct gm_slots *slots = mem_zalloc(allocator, sizeof(*slots));
    int rc;

    if (slots == NULL) {
        return -ENOMEM;
    }
    slots->allocator = *allocator;
    slots->ops = *ops;
    slots->opaque = opaque;
    slots->limits = (struct plan_limits){
        .page_bytes = options->page_bytes,
        .slot_span_bytes = options->slot_span_bytes,
        .no_readonly = options->no_readonly,
        .no_join = options->no_join,
        .no_destroy = options->no_destroy,
        .needs_hva = options->needs_hva,
    };
    rc = lock_init(&slots->lock, LOCK_RANK_LEAF);
    if (rc != 0) {
        goto out_free;
    }
    rc = slot_set_init(&slots->set, options->max_slots, allocator);
    if (rc != 0) {
        goto out_lock;
    }
    *out = slots;
    return 0;

out_lock:
    lock_fini(&slots->lock);
out_free:
    mem_free(allocator, slots);
    return rc;
}

/* No slot is left. */
static void slots_free(struct gm_slots *slots)
{
    struct gm_allocator allocator = slots->allocator;

    GM_ASSERT(slots->set.count == 0 && !slots->is_pending);
    mem_free(&allocator, slots->bitmap);
    slot_set_fini(&slots->set, &allocator);
    lock_fini(&slots->lock);
    mem_free(&allocator, slots);
}

int gm_slots_attach(struct gm_space *space, const struct gm_backend_options *options,
                    const struct gm_backend_ops *ops, void *opaque, struct gm_slots **slots,
                    struct gm_diag *diag)
{
    static const struct gm_listener_ops LISTENER = {
        .size = sizeof(LISTENER),
        .prepare = slots_prepare,
        .abort = on_abort,
        .apply = slots_apply,
        .undo = slots_undo,
        .settle = on_settle,
        .log_sync = slots_log_sync,
    };
    struct gm_backend_options chosen = {.size = sizeof(chosen)};
    struct gm_slots *made;
    int rc = check_ops(ops, diag);

    if (rc != 0) {
        return rc;
    }
    if (options != NULL) {
        chosen = *options;
    }
    rc = check_options(&chosen, diag);
    if (rc != 0) {
        return rc;
    }
    rc = slots_new(&chosen, ops, opaque, &made);
    if (rc != 0) {
        return diag_set(diag, rc, "no memory for a slot backend");
    }
    /* The highest priority: apply comes last, settle (which descends) first, so vCPUs are held out
     * for as short as can be. */
    rc = gm_listener_register(gm_space_map_of(space), space, INT32_MAX, &LISTENER, made,
                              &made->listener, diag);
    if (rc != 0) {
        slots_free(made);
        return rc;
    }
    *slots = made;
    return 0;
}

int gm_slots_detach(struct gm_slots *slots, struct gm_diag *diag)
{
    int rc;

    atomic_store(&slots->is_detaching, true);
    rc = gm_listener_unregister(slots->listener, diag);
    if (rc != 0) {
        atomic_store(&slots->is_detaching, false);
        return rc;
    }
    slots_free(slots);
    return 0;
}

size_t gm_slots_list(struct gm_slots *slots, struct gm_slot *out, size_t max)
{
    size_t count;

    lock_take(&slots->lock);
    count = slot_set_list(&slots->set, out, max);
    lock_drop(&slots->lock);
    return count;
}

void gm_slots_stats(struct gm_slots *slots, struct gm_slots_stats *stats)
{
    lock_take(&slots->lock);
    *stats = slots->stats;
    lock_drop(&slots->lock);
}
