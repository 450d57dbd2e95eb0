/*
 * vm/guest_memfd.c - memory that a guest keeps private: making files for it, and saying where it is. By ioctls, which /dev/kvm and
 * the software KVM answer alike.
 */
#include "base/diag.h"
#include "vm/vm.h"

#include <guestmem/kvm_abi.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

/* A capability's value, 0 if it is not there. */
static uint64_t capability(struct gm_vm *vm, unsigned long number)
{
    long value = gm_vm_ioctl(vm, KVM_CHECK_EXTENSION, number);

    return value > 0 ? (uint64_t)value : 0;
}

/* Before 6.18 there were no flags, and no capability that says so. */
static int check_flags(struct gm_vm *vm, uint64_t flags, struct gm_diag *diag)
{
    if (capability(vm, KVM_CAP_GUEST_MEMFD) == 0 || capability(vm, KVM_CAP_USER_MEMORY2) == 0) {
        return diag_set(diag, GM_DIAG_KVM_GUEST_MEMFD, -EOPNOTSUPP,
                        "this VM has no guest memfds (KVM_CAP_GUEST_MEMFD)");
    }
    if ((flags & ~capability(vm, KVM_CAP_GUEST_MEMFD_FLAGS)) != 0) {
        return diag_set(diag, GM_DIAG_KVM_GUEST_MEMFD, -EOPNOTSUPP,
                        "this VM has no guest memfds with flags 0x%" PRIx64
                        " (KVM_CAP_GUEST_MEMFD_FLAGS)",
                        flags);
    }
    return 0;
}

int gm_vm_guest_memfd(struct gm_vm *vm, uint64_t size_bytes, uint64_t flags, int *fd,
                      struct gm_diag *diag)
{
    struct kvm_create_guest_memfd wanted = {.size = size_bytes, .flags = flags};
    long made;
    int rc = vm_in_parent(vm, diag);

    if (rc == 0) {
        rc = check_flags(vm, flags, diag);
    }
    if (rc != 0) {
        return rc;
    }
    made = gm_vm_ioctl(vm, KVM_CREATE_GUEST_MEMFD, (unsigned long)&wanted);
    if (made < 0) {
        return diag_set(diag, GM_DIAG_KVM_GUEST_MEMFD, (int)made,
                        "KVM makes no guest memfd of 0x%" PRIx64 " bytes: %s", size_bytes,
                        strerror((int)-made));
    }
    (void)fcntl((int)made, F_SETFD, FD_CLOEXEC); /* Linux makes it without */
    *fd = (int)made;
    return 0;
}

int gm_vm_set_attributes(struct gm_vm *vm, gm_gpa_t gpa, uint64_t size_bytes, uint64_t attributes,
                         struct gm_diag *diag)
{
    struct kvm_memory_attributes wanted = {
        .address = gpa,
        .size = size_bytes,
        .attributes = attributes,
    };
    uint64_t known;
    long done;
    int rc = vm_in_parent(vm, diag);

    if (rc != 0) {
        return rc;
    }
    known = capability(vm, KVM_CAP_MEMORY_ATTRIBUTES);
    if (known == 0 || (attributes & ~known) != 0) {
        return diag_set(diag, GM_DIAG_KVM_ATTRIBUTES, -EOPNOTSUPP,
                        "guest addresses of this VM can have the attributes 0x%" PRIx64
                        " (KVM_CAP_MEMORY_ATTRIBUTES), and not 0x%" PRIx64,
                        known, attributes);
    }
    done = gm_vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, (unsigned long)&wanted);
    return done == 0 ? 0
                     : diag_set(diag, GM_DIAG_KVM_ATTRIBUTES, (int)done,
                                "KVM does not give 0x%" PRIx64 "+0x%" PRIx64
                                " the attributes 0x%" PRIx64 ": %s",
                                gpa, size_bytes, attributes, strerror((int)-done));
}
