/* slots/slots.c - attaching a backend to a space: a listener that plans, and then acts in apply. */
#include "slots/slots.h"

#include "base/check.h"
#include "base/diag.h"
#include "base/log.h"
#include "base/options.h"
#include "ram/watch.h"

#include <errno.h>
#include <stdint.h>

#define DEFAULT_SLOW_HOLD_MS 100u
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
    if (slots->plan.joins != 0) {
        log_say(&slots->log, GM_LOG_WARNING,
                "slot numbers ran out: %zu slots were made of pieces, whose memory guests missed "
                "for a moment",
                (size_t)slots->plan.joins);
    }
    lock_take(&slots->lock);
    commit_set(slots);
    GM_AUDIT(slot_set_audit(&slots->set));
    lock_drop(&slots->lock);
    for (size_t i = 0; i < slots->plan.op_count; i++) {
        if (slots->plan.ops[i].kind == PLAN_DESTROY) {
            ram_watch_put(slots->plan.ops[i].slot->watch);
            gm_region_put(slots->plan.ops[i].slot->shown.region);
            mem_free(&slots->slot_allocator, slots->plan.ops[i].slot);
        }
    }
    slots_drop_plan(slots);
}

static void on_abort(void *opaque)
{
    slots_drop_plan(opaque);
}

static const struct options_kind OPS = OPTIONS_KIND(gm_backend_ops, eventfd_del);
static const struct options_kind OPTIONS = OPTIONS_KIND(gm_backend_options, needs_hva);

static int check_ops(const struct gm_backend_ops *ops, struct gm_diag *diag)
{
    if (ops->create == NULL || ops->destroy == NULL || ops->set_flags == NULL) {
        return diag_set(diag, GM_DIAG_BACKEND_OPS, -EINVAL,
                        "a backend needs create, destroy and set_flags");
    }
    if ((ops->hold == NULL) != (ops->release == NULL) ||
        (ops->eventfd_add == NULL) != (ops->eventfd_del == NULL) ||
        (ops->invalidate_begin == NULL) != (ops->invalidate_end == NULL) ||
        (ops->coalesced_add == NULL) != (ops->coalesced_del == NULL)) {
        return diag_set(diag, GM_DIAG_BACKEND_OPS, -EINVAL,
                        "a backend has both of hold and release, of eventfd_add and _del, of "
                        "invalidate_begin and _end, and of coalesced_add and _del");
    }
    return 0;
}

static int check_options(struct gm_backend_options *options, struct gm_diag *diag)
{
    if (options->max_slots == 0) {
        options->max_slots = DEFAULT_MAX_SLOTS;
    }
    if (options->page_bytes == 0) {
        options->page_bytes = MIN_PAGE_BYTES;
    }
    if (options->max_slots > GM_SLOT_NUMBERS_MAX) {
        return diag_set(diag, GM_DIAG_BACKEND_OPTIONS, -EINVAL,
                        "%u slots are more than the %u that can be numbered", options->max_slots,
                        GM_SLOT_NUMBERS_MAX);
    }
    if (options->slot_span_bytes != 0 && (!is_power_of_two(options->slot_span_bytes) ||
                                          options->slot_span_bytes < options->page_bytes)) {
        return diag_set(diag, GM_DIAG_BACKEND_OPTIONS, -EINVAL,
                        "slots cannot be kept within 0x%llx bytes",
                        (unsigned long long)options->slot_span_bytes);
    }
    if (!is_power_of_two(options->page_bytes) || options->page_bytes < MIN_PAGE_BYTES) {
        return diag_set(diag, GM_DIAG_BACKEND_OPTIONS, -EINVAL,
                        "a page of %u bytes is not a power of two from %u on", options->page_bytes,
                        MIN_PAGE_BYTES);
    }
    return 0;
}

/* Slots are made and deleted in turn: the last one that was deleted becomes the next. */
static void *slot_alloc(void *opaque, size_t size_bytes)
{
    struct gm_slots *slots = opaque;
    struct slot *slot = slots->spare;

    GM_ASSERT(size_bytes == sizeof(*slot));
    slots->spare = NULL;
    return slot != NULL ? slot : mem_alloc(&slots->allocator, size_bytes);
}

static void slot_free(void *opaque, void *memory)
{
    struct gm_slots *slots = opaque;
    struct slot *before = slots->spare;

#ifdef GM_AUDIT_ON
    before = memory; /* so that sanitizers see what is used after its end */
#else
    slots->spare = memory;
#endif
    mem_free(&slots->allocator, before);
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
    scratch_init(&slots->scratch, allocator);
    slots->slot_allocator = (struct gm_allocator){slot_alloc, slot_free, slots};
    slots->plan_memory = (struct plan_memory){&slots->slot_allocator, &slots->scratch.allocator};
    slots->ops = *ops;
    slots->opaque = opaque;
    slots->log = options->log;
    if (slots->log.slow_hold_ms == 0) {
        slots->log.slow_hold_ms = DEFAULT_SLOW_HOLD_MS;
    }
    slots->limits = (struct plan_limits){
        .page_bytes = options->page_bytes,
        .slot_span_bytes = options->slot_span_bytes,
        .no_readonly = options->no_readonly,
        .no_join = options->no_join,
        .no_destroy = options->no_destroy,
        .needs_hva = options->needs_hva,
        .takes_guest_memfd = options->takes_guest_memfd,
    };
    rc = fork_mark_init(&slots->mark);
    if (rc != 0) {
        goto out_free;
    }
    rc = lock_init(&slots->lock, LOCK_RANK_LEAF);
    if (rc != 0) {
        goto out_mark;
    }
    rc = slot_set_init(&slots->set, options->max_slots, allocator);
    if (rc != 0) {
        goto out_lock;
    }
    *out = slots;
    return 0;

out_lock:
    lock_fini(&slots->lock);
out_mark:
    fork_mark_fini(&slots->mark);
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
    mem_free(&allocator, slots->spare);
    scratch_fini(&slots->scratch);
    slot_set_fini(&slots->set, &allocator);
    lock_fini(&slots->lock);
    fork_mark_fini(&slots->mark);
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
    struct gm_backend_options chosen;
    struct gm_backend_ops taken;
    struct gm_slots *made;
    int rc = options_take(&OPS, &taken, ops, diag);

    if (rc == 0) {
        rc = check_ops(&taken, diag);
    }
    if (rc == 0) {
        rc = options_take(&OPTIONS, &chosen, options, diag);
    }
    if (rc == 0) {
        rc = check_options(&chosen, diag);
    }
    if (rc != 0) {
        return rc;
    }
    rc = slots_new(&chosen, &taken, opaque, &made);
    if (rc != 0) {
        return rc == -EOPNOTSUPP
                   ? diag_set(diag, GM_DIAG_KERNEL_TOO_OLD, rc,
                              "this kernel has no MADV_WIPEONFORK")
                   : diag_set(diag, GM_DIAG_NO_MEMORY, rc, "no memory for a slot backend");
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

static int call_nobody(void *opaque, const struct gm_slot *slot)
{
    (void)opaque;
    (void)slot;
    return 0;
}

/* In a copy of the process: the hypervisor and its slots are the parent's. */
static int forget(struct gm_slots *slots)
{
    int rc;

    if (slots->is_pending) {
        return 0; /* copied in the middle of a commit: what is in it, nobody can say */
    }
    atomic_store(&slots->is_detaching, true);
    slots->ops = (struct gm_backend_ops){.destroy = call_nobody};
    slots->limits.no_destroy = false;
    alone_begin();
    rc = gm_listener_unregister(slots->listener, NULL);
    if (rc == 0) {
        slots_free(slots);
    }
    alone_end();
    return rc;
}

int gm_slots_detach(struct gm_slots *slots, struct gm_diag *diag)
{
    int rc;

    if (fork_mark_is_copy(&slots->mark)) {
        return forget(slots);
    }

    atomic_store(&slots->is_detaching, true);
    rc = gm_listener_unregister(slots->listener, diag);
    if (rc != 0) {
        atomic_store(&slots->is_detaching, false);
        return rc;
    }
    slots_free(slots);
    return 0;
}

int gm_slot_guest_memfd(const struct gm_slot *slot, uint64_t *offset_bytes)
{
    int fd;

    *offset_bytes = 0;
    if ((slot->flags & GM_SLOT_GUEST_MEMFD) == 0) {
        return -1;
    }
    fd = gm_ram_guest_memfd(gm_region_ram(slot->region), offset_bytes);
    *offset_bytes += gm_region_ram_offset(slot->region) + slot->offset;
    return fd;
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
