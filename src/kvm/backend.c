/*
 * kvm/backend.c - the table of slot operations for one VM on /dev/kvm.
 *
 * The log. By default KVM_GET_DIRTY_LOG gives a slot's whole log and clears it. With manual protection it
 * clears nothing: KVM_CLEAR_DIRTY_LOG then clears, and write-protects again, just the pages that are
 * asked for, so that a display's harvest of one page costs one page's fault and not the whole slot's.
 * Either way the bits given out are the slot's whole log, and the caller keeps all of them. A VM with
 * dirty rings (kvm/ring.c) has no logs.
 *
 * A slot with a guest memfd is made by KVM_SET_USER_MEMORY_REGION2, which is the older call with two more members: all other
 * slots, and deletes, go on by the older one, which every kernel has. KVM changes nothing of such a slot.
 */
#include "kvm/backend.h"

#include "kvm/ring.h"

#include "base/addr.h"
#include "base/check.h"
#include "base/diag.h"
#include "kvm/io.h"

#include <guestmem/kvm_abi.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define WORD_PAGES 64u

_Static_assert(sizeof(struct kvm_userspace_memory_region) ==
                   offsetof(struct kvm_userspace_memory_region2, guest_memfd_offset),
               "the newer structure begins with the older one");

/* KVM's number of a slot: the address space stands in the upper half. */
static uint32_t number_of(const struct kvm_face *face, const struct gm_slot *slot)
{
    return face->space << 16 | slot->number;
}

static int set_region(const struct kvm_face *face, const struct gm_slot *slot, uint32_t flags,
                      uint64_t size_bytes)
{
    bool is_private = (flags & GM_SLOT_GUEST_MEMFD) != 0;
    struct kvm_userspace_memory_region2 region = {
        .slot = number_of(face, slot),
        .flags = ((flags & GM_SLOT_LOG) != 0 ? KVM_MEM_LOG_DIRTY_PAGES : 0) |
                 ((flags & GM_SLOT_READONLY) != 0 ? KVM_MEM_READONLY : 0) |
                 (is_private ? (uint32_t)KVM_MEM_GUEST_MEMFD : 0),
        .guest_phys_addr = slot->gpa,
        .memory_size = size_bytes,
        .userspace_addr = hva_of(slot->hva).value,
    };
    uint64_t offset_bytes;

    region.guest_memfd = (uint32_t)gm_slot_guest_memfd(slot, &offset_bytes);
    region.guest_memfd_offset = offset_bytes;
    return kvm_ioctl(face->backend->vm_fd,
                     is_private ? KVM_SET_USER_MEMORY_REGION2 : KVM_SET_USER_MEMORY_REGION,
                     &region);
}

static int change_slot(const struct kvm_face *face, const struct gm_slot *slot, uint32_t new_flags,
                       uint64_t size_bytes)
{
    struct dirty_rings *rings = &face->backend->rings;
    int rc = rings_before_change(rings, face->space, slot, new_flags);

    if (rc == 0) {
        rc = set_region(face, slot, new_flags, size_bytes);
        rings_after_change(rings, face->space, slot, new_flags, rc);
    }
    return rc;
}

static int slot_create(void *opaque, const struct gm_slot *slot)
{
    return change_slot(opaque, slot, slot->flags, slot->size_bytes);
}

static int slot_destroy(void *opaque, const struct gm_slot *slot)
{
    /* A slot of no bytes is no slot. Read-only is dropped too: an old kernel may not know it. */
    return change_slot(opaque, slot, 0, 0);
}

static int slot_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    return change_slot(opaque, slot, new_flags, slot->size_bytes);
}

/* The gate has one holder; both spaces of a commit, and a fetch within it, share it. */
static void hold(struct kvm_backend *backend)
{
    if (backend->holds == 0) {
        gate_hold(&backend->gate);
    }
    backend->holds++;
}

static void release(struct kvm_backend *backend)
{
    backend->holds--;
    if (backend->holds == 0) {
        gate_release(&backend->gate);
    }
}

static int backend_hold(void *opaque)
{
    const struct kvm_face *face = opaque;

    hold(face->backend);
    return 0;
}

static void backend_release(void *opaque)
{
    const struct kvm_face *face = opaque;

    release(face->backend);
}

/*
 * Clear, of the bits just fetched, those in the words that hold [first_page, first_page + page_count).
 * Whole words, since the kernel takes multiples of 64 pages (but for a slot's end): their other bits
 * were given out as well, so none is lost. Words without a bit need no call at the ends.
 */
static int log_clear(const struct kvm_face *face, const struct gm_slot *slot, uint64_t first_page,
                     uint64_t page_count, const uint64_t *bitmap)
{
    uint64_t slot_pages = slot->size_bytes >> PAGE_SHIFT_4K;
    uint64_t first = first_page / WORD_PAGES;
    uint64_t end = (first_page + page_count - 1) / WORD_PAGES + 1;
    struct kvm_clear_dirty_log clear = {.slot = number_of(face, slot)};
    uint64_t pages_left;

    while (first < end && bitmap[first] == 0) {
        first++;
    }
    while (first < end && bitmap[end - 1] == 0) {
        end--;
    }
    if (first == end) {
        return 0;
    }
    clear.first_page = first * WORD_PAGES;
    pages_left = slot_pages - clear.first_page;
    clear.num_pages =
        (uint32_t)((end - first) * WORD_PAGES < pages_left ? (end - first) * WORD_PAGES
                                                           : pages_left);
    clear.dirty_bitmap = (void *)&bitmap[first]; // read by the kernel only
    return kvm_ioctl(face->backend->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear);
}

static int log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                     uint64_t page_count, uint64_t *bitmap)
{
    const struct kvm_face *face = opaque;
    const struct kvm_backend *backend = face->backend;
    struct kvm_dirty_log log = {.slot = number_of(face, slot), .dirty_bitmap = bitmap};
    int rc;

    GM_ASSERT(range_holds(0, slot->size_bytes >> PAGE_SHIFT_4K, first_page, page_count));
    rc = kvm_ioctl(backend->vm_fd, KVM_GET_DIRTY_LOG, &log);
    if (rc < 0 || !backend->manual_protect || page_count == 0) {
        return rc;
    }
    return log_clear(face, slot, first_page, page_count, bitmap);
}

/* What a processor has logged and not yet reported comes into the ring as its vCPU leaves guest mode. */
static int rings_log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                           uint64_t page_count, uint64_t *bitmap)
{
    const struct kvm_face *face = opaque;
    struct kvm_backend *backend = face->backend;

    (void)first_page;
    (void)page_count;
    hold(backend);
    rings_fetch(&backend->rings, slot, bitmap);
    release(backend);
    return 0;
}

static int set_manual_protect(int vm_fd, bool on)
{
    struct kvm_enable_cap enable = {
        .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        .args = {on ? KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE : 0},
    };

    return kvm_ioctl(vm_fd, KVM_ENABLE_CAP, &enable);
}

int kvm_backend_init(struct kvm_backend *backend, int vm_fd, const struct kvm_features *features,
                     const struct kvm_backend_choice *choice, struct gm_diag *diag)
{
    bool manual = features->manual_protect && choice->ring_entries == 0 &&
                  (choice->flags & KVM_BACKEND_NO_MANUAL_PROTECT) == 0;
    int rc = gate_init(&backend->gate);

    if (rc != 0) {
        return diag_set(diag, GM_DIAG_KVM_GATE, rc, "the run gate cannot be made: %s",
                        strerror(-rc));
    }
    backend->vm_fd = vm_fd;
    backend->features = *features;
    backend->manual_protect = manual;
    for (unsigned space = 0; space < RINGS_SPACES; space++) {
        backend->faces[space] = (struct kvm_face){backend, space};
    }
    rc = kvm_rings_enable(backend, choice, diag);
    if (rc != 0) {
        goto out_gate;
    }
    /* Also switched off: the owner of an attached VM may have switched it on before. */
    rc = features->manual_protect ? set_manual_protect(vm_fd, manual) : 0;
    if (rc < 0) {
        diag_set(diag, GM_DIAG_KVM_MANUAL_LOG, rc, "KVM does not switch manual dirty logging: %s",
                 strerror(-rc));
        goto out_rings;
    }
    return 0;

out_rings:
    rings_fini(&backend->rings);
out_gate:
    gate_fini(&backend->gate);
    return rc;
}

void kvm_backend_fini(struct kvm_backend *backend)
{
    if (backend->manual_protect) {
        (void)set_manual_protect(backend->vm_fd, false);
    }
    rings_fini(&backend->rings);
    gate_fini(&backend->gate);
}

struct gm_backend_options kvm_backend_options(const struct kvm_backend *backend, uint32_t max_slots)
{
    const struct kvm_features *features = &backend->features;
    bool fewer = max_slots != 0 && max_slots < features->max_slots;

    return (struct gm_backend_options){
        .size = sizeof(struct gm_backend_options),
        .max_slots = fewer ? max_slots : features->max_slots,
        /* KVM_MEM_MAX_NR_PAGES is 2^31 - 1: below it by a power of two. */
        .slot_span_bytes = (uint64_t)sysconf(_SC_PAGESIZE) << 30,
        .page_bytes = (uint32_t)sysconf(_SC_PAGESIZE),
        .no_readonly = !features->readonly_slots,
        .no_join = !features->join_works,
        .no_destroy = !features->destroy_works,
        .needs_hva = true,
        .takes_guest_memfd = features->guest_memfd,
    };
}

struct gm_backend_ops kvm_backend_ops(const struct kvm_backend *backend, unsigned space)
{
    struct gm_backend_ops ops = {
        .size = sizeof(struct gm_backend_ops),
        .create = slot_create,
        .destroy = slot_destroy,
        .set_flags = slot_set_flags,
        .hold = backend_hold,
        .release = backend_release,
        .log_fetch = backend->rings.entry_count != 0 ? rings_log_fetch : log_fetch,
    };

    if (space == 0) { /* KVM's eventfds and coalesced zones are of all spaces */
        kvm_memory_io_ops(backend, &ops);
    }
    return ops;
}
