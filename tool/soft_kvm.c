/* soft_kvm.c - a script's machine on a real /dev/kvm. */
#include "soft_machine.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct kvm {
    int system_fd;
    int vm_fd;   /* -1: there is none */
    int vcpu_fd; /* -1: there is none */
    size_t run_bytes;
};

static int fail(struct gm_diag *diag, const char *what)
{
    int error = errno;

    snprintf(diag->text, sizeof(diag->text), "%s", what);
    return -error;
}

static int kvm_open(struct script_machine *machine, struct gm_diag *diag)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    struct kvm *kvm;

    if (fd == -1) {
        int error = errno;

        snprintf(
            diag->text, sizeof(diag->text),
            "/dev/kvm does not open: %s. Without --accel kvm the script runs on the software KVM",
            strerror(error));
        return -error;
    }
    kvm = tool_alloc(sizeof(*kvm));
    *kvm = (struct kvm){.system_fd = fd,
                        .vm_fd = -1,
                        .vcpu_fd = -1,
                        .run_bytes = (size_t)ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0)};
    machine->opaque = kvm;
    return 0;
}

static void kvm_close(struct script_machine *machine)
{
    struct kvm *kvm = machine->opaque;

    close(kvm->system_fd);
    free(kvm);
}

static void close_if_open(int *fd)
{
    if (*fd != -1) {
        close(*fd);
        *fd = -1;
    }
}

static void kvm_destroy(struct script_machine *machine)
{
    struct kvm *kvm = machine->opaque;

    if (machine->run != NULL) {
        munmap(machine->run, kvm->run_bytes);
        machine->run = NULL;
    }
    close_if_open(&kvm->vcpu_fd);
    close_if_open(&kvm->vm_fd);
}

static int kvm_create(struct script_machine *machine, struct gm_diag *diag)
{
    struct kvm *kvm = machine->opaque;
    void *run;

    kvm->vm_fd = ioctl(kvm->system_fd, KVM_CREATE_VM, 0);
    if (kvm->vm_fd == -1) {
        return fail(diag, "KVM_CREATE_VM");
    }
    kvm->vcpu_fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, 0);
    if (kvm->vcpu_fd == -1) {
        return fail(diag, "KVM_CREATE_VCPU");
    }
    run = mmap(NULL, kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kvm->vcpu_fd, 0);
    if (run == MAP_FAILED) {
        return fail(diag, "mmap of a vCPU");
    }
    machine->run = run;
    return 0;
}

static long do_ioctl(int fd, unsigned long request, void *argument)
{
    int result = ioctl(fd, request, argument);

    return result >= 0 ? result : -errno;
}

static long kvm_system_ioctl(struct script_machine *machine, unsigned long request, void *argument)
{
    const struct kvm *kvm = machine->opaque;

    return do_ioctl(kvm->system_fd, request, argument);
}

static long kvm_vm_ioctl(struct script_machine *machine, unsigned long request, void *argument)
{
    const struct kvm *kvm = machine->opaque;

    return do_ioctl(kvm->vm_fd, request, argument);
}

static long kvm_vcpu_ioctl(struct script_machine *machine, unsigned long request, void *argument)
{
    const struct kvm *kvm = machine->opaque;

    return do_ioctl(kvm->vcpu_fd, request, argument);
}

const struct script_machine_ops script_kvm_ops = {
    .name = "kvm",
    .open = kvm_open,
    .close = kvm_close,
    .create = kvm_create,
    .destroy = kvm_destroy,
    .system_ioctl = kvm_system_ioctl,
    .vm_ioctl = kvm_vm_ioctl,
    .vcpu_ioctl = kvm_vcpu_ioctl,
};
