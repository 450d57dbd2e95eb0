/*
 * soft/share.c - a vCPU's kvm_run area and dirty ring in a file of its user's.
 *
 * Both are anonymous at first, and pages of the file take their place at the same addresses: nobody who knows
 * the addresses has to be told.
 */
#include "soft/soft.h"

#include <guestmem/kvm_abi.h>

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING_OFFSET_BYTES ((off_t)KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)PAGE_BYTES_4K)

static int fill_file(const struct gm_soft_vcpu *vcpu, int fd, off_t size_bytes)
{
    struct stat status;
    ssize_t written;

    if (fstat(fd, &status) != 0) {
        return -errno;
    }
    if (status.st_size != 0) {
        return -EINVAL;
    }
    if (ftruncate(fd, size_bytes) != 0) {
        return -errno;
    }
    written = pwrite(fd, vcpu->run, VCPU_RUN_BYTES, 0);
    if (written == (ssize_t)VCPU_RUN_BYTES) {
        return 0;
    }
    return written < 0 ? -errno : -ENOSPC;
}

static int replace(void *at, size_t size_bytes, int fd, off_t offset)
{
    void *mapped = mmap(at, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset);

    return mapped == MAP_FAILED ? -errno : 0;
}

int gm_soft_show_coalesced(struct gm_soft *soft, void *page)
{
    return iobuses_show_ring(&soft->iobuses, page);
}

int gm_soft_vcpu_share(struct gm_soft_vcpu *vcpu, int fd)
{
    const struct ring *ring = &vcpu->mmu.base.ring;
    off_t ring_bytes = (off_t)(ring->entry_count * sizeof(struct kvm_dirty_gfn));
    off_t size_bytes = ring_bytes != 0 ? RING_OFFSET_BYTES + ring_bytes : (off_t)VCPU_RUN_BYTES;
    int rc = fill_file(vcpu, fd, size_bytes);

    if (rc == 0) {
        rc = replace(vcpu->run, VCPU_RUN_BYTES, fd, 0);
    }
    if (rc == 0) {
        rc = iobuses_show_ring(&vcpu->soft->iobuses, (uint8_t *)vcpu->run + VCPU_RING_OFFSET);
    }
    /* If this fails, the area lies in the file, and as it was. */
    if (rc == 0 && ring_bytes != 0) {
        rc = replace(ring->entries, (size_t)ring_bytes, fd, RING_OFFSET_BYTES);
    }
    return rc;
}
