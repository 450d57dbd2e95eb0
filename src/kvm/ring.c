/*
 * kvm/ring.c - a VM's dirty rings on /dev/kvm: enabling them, and mapping each vCPU's.
 *
 * KVM does not tell whether a VM has rings, nor how large they are. But a VM with rings has no logs, and says
 * so before it looks at the slot; and what is behind a ring's last page cannot be touched.
 */
#include "kvm/ring.h"

#include "base/addr.h"
#include "base/check.h"
#include "base/diag.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

static int reset_rings(void *opaque)
{
    const struct kvm_backend *backend = opaque;

    return kvm_ioctl(backend->vm_fd, KVM_RESET_DIRTY_RINGS, NULL);
}

/* Does a VM without slots have rings? Linux: ENXIO with rings, ENOENT without. */
static bool vm_has_rings(int vm_fd)
{
    uint64_t nothing = 0;
    struct kvm_dirty_log log = {.dirty_bitmap = &nothing};

    return kvm_ioctl(vm_fd, KVM_GET_DIRTY_LOG, &log) == -ENXIO;
}

static int enable(const struct kvm_backend *backend, uint64_t ring_bytes)
{
    struct kvm_enable_cap cap = {.cap = backend->features.ring_cap, .args = {ring_bytes}};

    return kvm_ioctl(backend->vm_fd, KVM_ENABLE_CAP, &cap);
}

static int check(const struct kvm_backend *backend, uint64_t ring_bytes, bool has_rings,
                 struct gm_diag *diag)
{
    const struct kvm_features *features = &backend->features;

    if (ring_bytes == 0) {
        return diag_set(diag, GM_DIAG_KVM_RINGS, -EINVAL,
                        "this VM has dirty rings: say in dirty_ring_entries how large they are");
    }
    if (features->ring_cap == 0) {
        return diag_set(
            diag, GM_DIAG_KVM_RINGS, -EOPNOTSUPP,
            "this kernel's KVM has no dirty rings (KVM_CAP_DIRTY_LOG_RING, Linux 5.11)");
    }
    if (!has_rings && ring_bytes > features->ring_bytes) {
        return diag_set(diag, GM_DIAG_KVM_RINGS, -EINVAL,
                        "a dirty ring has at most %zu entries on this kernel",
                        features->ring_bytes / sizeof(struct kvm_dirty_gfn));
    }
    return 0;
}

int kvm_rings_enable(struct kvm_backend *backend, const struct kvm_backend_choice *choice,
                     struct gm_diag *diag)
{
    uint64_t ring_bytes = (uint64_t)choice->ring_entries * sizeof(struct kvm_dirty_gfn);
    bool has_rings = vm_has_rings(backend->vm_fd);
    int rc;

    if (ring_bytes == 0 && !has_rings) {
        return 0;
    }
    rc = check(backend, ring_bytes, has_rings, diag);
    if (rc != 0) {
        return rc;
    }
    if (!has_rings) {
        rc = enable(backend, ring_bytes);
    }
    if (rc < 0) {
        return diag_set(
            diag, GM_DIAG_KVM_RINGS, rc,
            "KVM does not make dirty rings of %u entries (too few for it, or the VM has "
            "vCPUs already): %s",
            choice->ring_entries, strerror(-rc));
    }
    rc = rings_init(&backend->rings, choice->ring_entries, choice->allocator, reset_rings, backend);
    return rc == 0
               ? 0
               : diag_set(diag, GM_DIAG_NO_MEMORY, rc, "no memory for the dirty rings' harvests");
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t mapped_bytes(const struct kvm_backend *backend)
{
    return (size_t)backend->rings.entry_count * sizeof(struct kvm_dirty_gfn);
}

/* Is it the ring's size? One page more was mapped. Where the kernel cannot tell, what was said is believed. */
static bool is_size_right(uint8_t *ring, size_t size_bytes)
{
    if (madvise(ring, page_size(), MADV_POPULATE_READ) != 0) {
        return true;
    }
    return madvise(ring + size_bytes - page_size(), page_size(), MADV_POPULATE_READ) == 0 &&
           madvise(ring + size_bytes, page_size(), MADV_POPULATE_READ) != 0;
}

int kvm_ring_map(struct kvm_backend *backend, struct dirty_ring *ring, int vcpu_fd,
                 struct gm_diag *diag)
{
    size_t size_bytes = mapped_bytes(backend);
    off_t offset = (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)page_size();
    void *entries;

    if (size_bytes == 0) {
        return 0;
    }
    entries =
        mmap(NULL, size_bytes + page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, offset);
    if (entries == MAP_FAILED) {
        return diag_set(diag, GM_DIAG_KVM_RINGS, -errno, "a vCPU's dirty ring cannot be mapped: %s",
                        strerror(errno));
    }
    if (!is_size_right(entries, size_bytes)) {
        munmap(entries, size_bytes + page_size());
        return diag_set(diag, GM_DIAG_KVM_RINGS, -EINVAL,
                        "this VM's dirty rings do not have %u entries", backend->rings.entry_count);
    }
    munmap((uint8_t *)entries + size_bytes, page_size());
    rings_add(&backend->rings, ring, entries, NULL); /* it may have been used before */
    return 0;
}

void kvm_ring_unmap(struct kvm_backend *backend, struct dirty_ring *ring)
{
    if (ring->is_listed) {
        rings_remove(&backend->rings, ring);
        munmap(ring->entries, mapped_bytes(backend));
    }
}
