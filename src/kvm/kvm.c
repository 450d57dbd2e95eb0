/* kvm/kvm.c - /dev/kvm itself: opening it, making a VM, and asking what it can do. */
#include "kvm/kvm.h"

#include "base/diag.h"

#include <guestmem/kvm_abi.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Slots of a kernel that does not say how many it has (Linux api.rst, KVM_CAP_NR_MEMSLOTS). */
#define SLOTS_UNTOLD 32u

int kvm_ioctl(int fd, unsigned long request, void *argument)
{
    int result;

    do {
        result = ioctl(fd, request, argument);
    } while (result == -1 && errno == EINTR);
    return result == -1 ? -errno : result;
}

static int open_failed(const char *path, int error, struct gm_diag *diag)
{
    switch (error) {
    case ENOENT:
        return diag_set(diag, GM_DIAG_KVM_MISSING, -ENOENT,
                        "%s does not exist: load the module (modprobe kvm_intel or kvm_amd) with "
                        "virtualization on in the firmware, or nested in the outer hypervisor",
                        path);
    case EACCES:
    case EPERM:
        return diag_set(diag, GM_DIAG_KVM_DENIED, -EACCES,
                        "%s may not be opened by this user: become root, or join the group kvm "
                        "(usermod -aG kvm USER, then log in again)",
                        path);
    case ENODEV:
    case ENXIO:
        return diag_set(diag, GM_DIAG_KVM_NO_DRIVER, -ENODEV,
                        "%s is there but no driver answers: load kvm_intel or kvm_amd; the "
                        "processor needs VMX or SVM, on in the firmware or the outer hypervisor",
                        path);
    default:
        return diag_set(diag, GM_DIAG_KVM_OPEN, -error, "%s cannot be opened: %s", path,
                        strerror(error));
    }
}

int kvm_open(const char *path, int *fd, struct gm_diag *diag)
{
    int device;
    int version;

    do {
        device = open(path, O_RDWR | O_CLOEXEC);
    } while (device == -1 && errno == EINTR);
    if (device == -1) {
        return open_failed(path, errno, diag);
    }
    version = kvm_ioctl(device, KVM_GET_API_VERSION, NULL);
    if (version != KVM_API_VERSION) {
        close(device);
        if (version < 0) {
            return diag_set(diag, GM_DIAG_KVM_VERSION, -EOPNOTSUPP,
                            "%s is not KVM: it does not tell an API version", path);
        }
        return diag_set(diag, GM_DIAG_KVM_VERSION, -EOPNOTSUPP,
                        "%s speaks KVM API version %d, guestmem speaks %d", path, version,
                        KVM_API_VERSION);
    }
    *fd = device;
    return 0;
}

int kvm_make_vm(int system_fd, int *vm_fd, struct gm_diag *diag)
{
    int fd = kvm_ioctl(system_fd, KVM_CREATE_VM, NULL);

    if (fd < 0) {
        return diag_set(diag, GM_DIAG_KVM_CREATE_VM, fd, "KVM does not make a VM: %s",
                        strerror(-fd));
    }
    *vm_fd = fd;
    return 0;
}

/*
 * A capability's value, 0 if it is not there. A VM may have less than the system as a whole, so it is
 * asked where it can be (KVM_CAP_CHECK_EXTENSION_VM).
 */
static int capability(int fd, unsigned long number)
{
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the ioctl takes a number in the pointer's place
    int value = kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)number);

    return value > 0 ? value : 0;
}

/* KVM_CAP_DIRTY_LOG_RING_ACQ_REL is the newer name, and the only one where processors order weakly. */
static void probe_rings(int fd, struct kvm_features *features)
{
    static const uint32_t CAPS[] = {KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_DIRTY_LOG_RING};

    for (size_t i = 0; i < sizeof(CAPS) / sizeof(CAPS[0]) && features->ring_cap == 0; i++) {
        features->ring_bytes = (uint32_t)capability(fd, CAPS[i]);
        features->ring_cap = features->ring_bytes != 0 ? CAPS[i] : 0;
    }
}

int kvm_probe(int system_fd, int vm_fd, struct kvm_features *features, struct gm_diag *diag)
{
    bool asks_vm = capability(system_fd, KVM_CAP_CHECK_EXTENSION_VM) != 0;
    int fd = asks_vm ? vm_fd : system_fd;
    int run_bytes = kvm_ioctl(system_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    int slots = capability(fd, KVM_CAP_NR_MEMSLOTS);
    int spaces = capability(fd, KVM_CAP_MULTI_ADDRESS_SPACE);

    if (run_bytes < (int)sizeof(struct kvm_run)) {
        return diag_set(diag, GM_DIAG_KVM_LACKS, -EOPNOTSUPP,
                        "the system descriptor is not KVM's: it does not tell "
                        "the size of a vCPU's shared area");
    }
    if (capability(fd, KVM_CAP_USER_MEMORY) == 0) {
        return diag_set(diag, GM_DIAG_KVM_LACKS, -EOPNOTSUPP,
                        "this kernel's KVM takes no user memory (KVM_CAP_USER_MEMORY)");
    }
    *features = (struct kvm_features){
        .max_slots = slots > 0 ? (uint32_t)slots : SLOTS_UNTOLD,
        .run_bytes = (size_t)run_bytes,
        .readonly_slots = capability(fd, KVM_CAP_READONLY_MEM) != 0,
        .join_works = capability(fd, KVM_CAP_JOIN_MEMORY_REGIONS_WORKS) != 0,
        .destroy_works = capability(fd, KVM_CAP_DESTROY_MEMORY_REGION_WORKS) != 0,
        .manual_protect = (capability(fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
                           KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0,
        .eventfds = capability(fd, KVM_CAP_IOEVENTFD) != 0,
        .eventfds_any_size = capability(fd, KVM_CAP_IOEVENTFD_ANY_LENGTH) != 0,
        .coalesced_page = (uint32_t)capability(fd, KVM_CAP_COALESCED_MMIO),
        .coalesced_ports = capability(fd, KVM_CAP_COALESCED_PIO) != 0,
        .immediate_exit = capability(fd, KVM_CAP_IMMEDIATE_EXIT) != 0,
        .guest_memfd =
            capability(fd, KVM_CAP_USER_MEMORY2) != 0 && capability(fd, KVM_CAP_GUEST_MEMFD) != 0,
        .spaces = spaces > 1 ? (unsigned)spaces : 1,
    };
    probe_rings(fd, features);
    return 0;
}
