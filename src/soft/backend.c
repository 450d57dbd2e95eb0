/*
 * soft/backend.c - the table of slot operations over a software VM: a map's edits become its slots.
 *
 * Logs are cleared by hand (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), so that a harvest of a few pages
 * protects a few pages again, and not the whole slot's.
 */
#include "base/check.h"
#include "base/diag.h"
#include "base/point.h"
#include "kcore/dirtylog.h"
#include "kcore/ring.h"
#include "soft/backend_io.h"
#include "soft/soft.h"

#include <errno.h>

#define WORD_PAGES 64u
/* KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE */
#define MANUAL_PROTECT 1u
/* The largest power of two of bytes that a slot may have. */
#define SLOT_SPAN_BYTES (UINT64_C(1) << 42)

_Static_assert(SLOT_SPAN_BYTES >> PAGE_SHIFT_4K <= MEMSLOT_PAGES_MAX, "kcore takes such a slot");
_Static_assert(GM_SLOT_LOG == MEMSLOT_LOG && GM_SLOT_READONLY == MEMSLOT_READONLY &&
                   GM_SLOT_GUEST_MEMFD == MEMSLOT_GUEST_MEMFD,
               "flags are handed to kcore as they are");

/* One with a guest memfd is made. */
static int set_private_slot(const struct soft_face *face, const struct gm_slot *slot)
{
    uint64_t offset_bytes;
    int fd = gm_slot_guest_memfd(slot, &offset_bytes);
    const struct kvm_userspace_memory_region2 region = {
        .slot = face->space << 16 | slot->number,
        .flags = slot->flags,
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->size_bytes,
        .userspace_addr = hva_of(slot->hva).value,
        .guest_memfd = (uint32_t)fd,
        .guest_memfd_offset = offset_bytes,
    };

    return soft_set_region(face->soft, &region);
}

static int set_slot(const struct soft_face *face, const struct gm_slot *slot, uint32_t flags,
                    uint64_t size_bytes)
{
    const struct memslot_change change = {
        .slot = face->space << 16 | slot->number,
        .flags = flags,
        .gpa = slot->gpa,
        .size_bytes = size_bytes,
        .hva = hva_of(slot->hva).value,
    };

    return kcore_apply(&face->soft->core, &change, 1, NULL);
}

static int change_slot(const struct soft_face *face, const struct gm_slot *slot, uint32_t new_flags,
                       uint64_t size_bytes)
{
    struct dirty_rings *rings = &face->soft->rings;
    int rc = rings_before_change(rings, face->space, slot, new_flags);

    if (rc == 0) {
        rc = set_slot(face, slot, new_flags, size_bytes);
        GM_POINT("slot-changed");
        rings_after_change(rings, face->space, slot, new_flags, rc);
    }
    return rc;
}

static int slot_create(void *opaque, const struct gm_slot *slot)
{
    return (slot->flags & GM_SLOT_GUEST_MEMFD) != 0
               ? set_private_slot(opaque, slot)
               : change_slot(opaque, slot, slot->flags, slot->size_bytes);
}

static int slot_destroy(void *opaque, const struct gm_slot *slot)
{
    return change_slot(opaque, slot, 0, 0);
}

static int slot_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    return change_slot(opaque, slot, new_flags, slot->size_bytes);
}

static int hold(void *opaque)
{
    const struct soft_face *face = opaque;

    kcore_hold(&face->soft->core);
    return 0;
}

static void release(void *opaque)
{
    const struct soft_face *face = opaque;

    kcore_release(&face->soft->core);
}

/* With rings, what vCPUs write is not in the slots' logs, or not all of it. */
static bool has_rings(struct gm_soft *soft)
{
    bool has;

    lock_take(&soft->core.slots_lock);
    has = soft->core.ring_entries != 0;
    lock_drop(&soft->core.slots_lock);
    return has;
}

/* vCPUs that are held have emptied their buffers into their rings. */
static void fetch_rings(struct gm_soft *soft, const struct gm_slot *slot, uint64_t *bitmap)
{
    kcore_hold(&soft->core);
    rings_fetch(&soft->rings, slot, bitmap);
    kcore_release(&soft->core);
}

/*
 * All bits are given out; those in the words that hold the range are cleared. If clearing fails,
 * they are given out again.
 */
static int log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                     uint64_t page_count, uint64_t *bitmap)
{
    const struct soft_face *face = opaque;
    struct gm_soft *soft = face->soft;
    uint32_t number = face->space << 16 | slot->number;
    uint64_t slot_pages = slot->size_bytes >> PAGE_SHIFT_4K;
    uint64_t first = align_down(first_page, WORD_PAGES);
    uint64_t words = (slot_pages + WORD_PAGES - 1) / WORD_PAGES;
    uint64_t clear_pages;
    int rc;

    GM_ASSERT(range_holds(0, slot_pages, first_page, page_count));
    if (soft->rings.entry_count != 0) {
        fetch_rings(soft, slot, bitmap);
        return 0;
    }
    if (has_rings(soft)) {
        return -ENXIO; /* they came after the map */
    }
    rc = kcore_log_get(&soft->core, number, bitmap, words);
    if (rc != 0 || page_count == 0) {
        return rc;
    }
    clear_pages = align_down(first_page + page_count - first + WORD_PAGES - 1, WORD_PAGES);
    if (clear_pages > slot_pages - first) {
        clear_pages = slot_pages - first;
    }
    return kcore_log_clear(&soft->core, number, first, clear_pages, &bitmap[first / WORD_PAGES]);
}

static void invalidate_begin(void *opaque, void *hva, uint64_t size_bytes)
{
    const struct soft_face *face = opaque;

    (void)gm_soft_invalidate_begin(face->soft, hva_of(hva).value, size_bytes);
}

static void invalidate_end(void *opaque, void *hva, uint64_t size_bytes)
{
    const struct soft_face *face = opaque;

    gm_soft_invalidate_end(face->soft, hva_of(hva).value, size_bytes);
}

static int reset_rings(void *opaque)
{
    return kcore_reset_rings(opaque);
}

void soft_ring_add(struct gm_soft_vcpu *vcpu)
{
    struct ring *ring = &vcpu->mmu.base.ring;
    uint32_t reset_count = atomic_load_explicit(&ring->reset, memory_order_relaxed);

    if (vcpu->soft->rings.entry_count != 0 && ring->entries != NULL) {
        rings_add(&vcpu->soft->rings, &vcpu->ring, ring->entries, &reset_count);
    }
}

void soft_ring_remove(struct gm_soft_vcpu *vcpu)
{
    rings_remove(&vcpu->soft->rings, &vcpu->ring);
}

/* The VM's rings become a map's: those of the vCPUs that are there, and of those to come. */
static int take_rings(struct gm_soft *soft, const struct gm_log_hook *log)
{
    int rc = 0;

    lock_take(&soft->lock);
    if (soft->rings.entry_count == 0) {
        (void)kcore_reset_rings(&soft->core); /* what their user had harvested */
        rc = rings_init(&soft->rings, soft->core.ring_entries, &soft->allocator, reset_rings,
                        &soft->core);
        soft->rings.log = *log;
    }
    /* None comes or goes while the lock is held. */
    for (struct kcore_vcpu *base = soft->core.vcpus; base != NULL && rc == 0; base = base->next) {
        soft_ring_add((struct gm_soft_vcpu *)mmu_vcpu_of_base(base)); /* its first member */
    }
    lock_drop(&soft->lock);
    return rc;
}

int soft_attach(struct gm_soft *soft, struct gm_space *space, const struct soft_attachment *how,
                struct gm_slots **slots, struct gm_diag *diag)
{
    struct gm_backend_ops ops = {
        .size = sizeof(ops),
        .create = slot_create,
        .destroy = slot_destroy,
        .set_flags = slot_set_flags,
        .hold = hold,
        .release = release,
        .log_fetch = log_fetch,
        .invalidate_begin = invalidate_begin,
        .invalidate_end = invalidate_end,
    };
    const struct gm_backend_options options = {
        .size = sizeof(options),
        .allocator = &soft->allocator,
        .max_slots = how->max_slots != 0 && how->max_slots < MEMSLOT_USER_IDS ? how->max_slots
                                                                              : MEMSLOT_USER_IDS,
        .slot_span_bytes = SLOT_SPAN_BYTES,
        .page_bytes = PAGE_BYTES_4K,
        .needs_hva = true,
        .takes_guest_memfd = true,
        .log = how->log,
    };
    int rc = has_rings(soft) ? take_rings(soft, &how->log) : 0;

    if (rc != 0) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, rc, "no memory for the dirty rings' harvests");
    }
    if (how->address_space == 0) { /* the buses are of all spaces */
        soft_memory_io_ops(soft, &ops);
    }
    rc = gm_slots_attach(space, &options, &ops, &soft->faces[how->address_space], slots, diag);
    if (rc == 0) {
        rc = kcore_set_manual_protect(&soft->core, MANUAL_PROTECT);
        GM_ASSERT(rc == 0);
    }
    return rc;
}

int gm_soft_attach(struct gm_soft *soft, struct gm_space *space, uint32_t max_slots,
                   struct gm_slots **slots, struct gm_diag *diag)
{
    return soft_attach(soft, space, &(struct soft_attachment){.max_slots = max_slots}, slots, diag);
}

bool gm_soft_vcpu_empty_ring(struct gm_soft_vcpu *vcpu)
{
    return vcpu->ring.is_listed && rings_full(&vcpu->soft->rings, &vcpu->ring);
}
