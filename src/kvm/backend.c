/*
 * kvm/backend.c - the table of slot operations for one VM on /dev/kvm.
 *
 * The log. By default KVM_GET_DIRTY_LOG gives a slot's whole log and clears it. With manual protection it
 * clears nothing: KVM_CLEAR_DIRTY_LOG then clears, and write-protects again, just the pages that are
 * asked for, so that a display's harvest of one page costs one page's fault and not the whole slot's.
 * Either way the bits given out are the slot's whole log, and the caller keeps all of them.
 */
#include "kvm/backend.h"

#include "base/addr.h"
#include "base/check.h"
#include "base/diag.h"

#include <guestmem/txn.h>

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <unistd.h>

#define WORD_PAGES 64u

static int set_region(const struct kvm_backend *backend, const struct gm_slot *slot, uint32_t flags,
                      uint64_t size_bytes)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot->number,
        .flags = ((flags & GM_SLOT_LOG) != 0 ? KVM_MEM_LOG_DIRTY_PAGES : 0) |
                 ((flags & GM_SLOT_READONLY) != 0 ? KVM_MEM_READONLY : 0),
        .guest_phys_addr = slot->gpa,
        .memory_size = size_bytes,
        .userspace_addr = hva_of(slot->hva).value,
    };

    return kvm_ioctl(backend->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int slot_create(void *opaque, const struct gm_slot *slot)
{
    return set_region(opaque, slot, slot->flags, slot->size_bytes);
}

static int slot_destroy(void *opaque, const struct gm_slot *slot)
{
    /* A slot of no bytes is no slot. Read-only is dropped too: an old kernel may not know it. */
    return set_region(opaque, slot, 0, 0);
}

static int slot_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    return set_region(opaque, slot, new_flags, slot->size_bytes);
}

static int backend_hold(void *opaque)
{
    struct kvm_backend *backend = opaque;

    gate_hold(&backend->gate);
    return 0;
}

static void backend_release(void *opaque)
{
    struct kvm_backend *backend = opaque;

    gate_release(&backend->gate);
}

/*
 * Clear, of the bits just fetched, those in the words that hold [first_page, first_page + page_count).
 * Whole words, since the kernel takes multiples of 64 pages (but for a slot's end): their other bits
 * were given out as well, so none is lost. Words without a bit need no call at the ends.
 */
static int log_clear(const struct kvm_backend *backend, const struct gm_slot *slot,
                     uint64_t first_page, uint64_t page_count, const uint64_t *bitmap)
{
    uint64_t slot_pages = slot->size_bytes >> PAGE_SHIFT_4K;
    uint64_t first = first_page / WORD_PAGES;
    uint64_t end = (first_page + page_count - 1) / WORD_PAGES + 1;
    struct kvm_clear_dirty_log clear = {.slot = slot->number};
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
    return kvm_ioctl(backend->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear);
}

static int log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                     uint64_t page_count, uint64_t *bitmap)
{
    struct kvm_backend *backend = opaque;
    struct kvm_dirty_log log = {.slot = slot->number, .dirty_bitmap = bitmap};
    int rc;

    GM_ASSERT(range_holds(0, slot->size_bytes >> PAGE_SHIFT_4K, first_page, page_count));
    rc = kvm_ioctl(backend->vm_fd, KVM_GET_DIRTY_LOG, &log);
    if (rc < 0 || !backend->manual_protect || page_count == 0) {
        return rc;
    }
    return log_clear(backend, slot, first_page, page_count, bitmap);
}

static int eventfd_set(const struct kvm_backend *backend, const struct gm_eventfd *eventfd,
                       uint32_t flags)
{
    struct kvm_ioeventfd request = {
        .addr = eventfd->offset,
        .len = eventfd->size_bytes,
        .fd = eventfd->fd,
        .datamatch = eventfd->match ? eventfd->value : 0,
        .flags = flags | (eventfd->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
    };

    if (eventfd->size_bytes == 0 && !backend->features.eventfds_any_size) {
        return -EOPNOTSUPP;
    }
    return kvm_ioctl(backend->vm_fd, KVM_IOEVENTFD, &request);
}

int kvm_eventfd_add(const struct kvm_backend *backend, const struct gm_eventfd *eventfd,
                    bool is_port)
{
    return eventfd_set(backend, eventfd, is_port ? KVM_IOEVENTFD_FLAG_PIO : 0);
}

int kvm_eventfd_del(const struct kvm_backend *backend, const struct gm_eventfd *eventfd,
                    bool is_port)
{
    return eventfd_set(backend, eventfd,
                       KVM_IOEVENTFD_FLAG_DEASSIGN | (is_port ? KVM_IOEVENTFD_FLAG_PIO : 0));
}

static int memory_eventfd_add(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                              uint64_t value, int fd)
{
    return kvm_eventfd_add(opaque, &(struct gm_eventfd){address, size_bytes, match, value, fd},
                           false);
}

static int memory_eventfd_del(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                              uint64_t value, int fd)
{
    return kvm_eventfd_del(opaque, &(struct gm_eventfd){address, size_bytes, match, value, fd},
                           false);
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
                     uint32_t flags, struct gm_diag *diag)
{
    bool manual = features->manual_protect && (flags & KVM_BACKEND_NO_MANUAL_PROTECT) == 0;
    int rc = gate_init(&backend->gate);

    if (rc != 0) {
        return diag_set(diag, rc, "the run gate cannot be made: %s", strerror(-rc));
    }
    backend->vm_fd = vm_fd;
    backend->features = *features;
    backend->manual_protect = manual;
    /* Also switched off: the owner of an attached VM may have switched it on before. */
    rc = features->manual_protect ? set_manual_protect(vm_fd, manual) : 0;
    if (rc < 0) {
        gate_fini(&backend->gate);
        return diag_set(diag, rc, "KVM does not switch manual dirty logging: %s", strerror(-rc));
    }
    return 0;
}

void kvm_backend_fini(struct kvm_backend *backend)
{
    if (backend->manual_protect) {
        (void)set_manual_protect(backend->vm_fd, false);
    }
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
    };
}

struct gm_backend_ops kvm_backend_ops(const struct kvm_backend *backend)
{
    bool eventfds = backend->features.eventfds;

    return (struct gm_backend_ops){
        .size = sizeof(struct gm_backend_ops),
        .create = slot_create,
        .destroy = slot_destroy,
        .set_flags = slot_set_flags,
        .hold = backend_hold,
        .release = backend_release,
        .log_fetch = log_fetch,
        .eventfd_add = eventfds ? memory_eventfd_add : NULL,
        .eventfd_del = eventfds ? memory_eventfd_del : NULL,
    };
}
