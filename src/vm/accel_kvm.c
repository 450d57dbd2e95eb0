/* vm/accel_kvm.c - a map on /dev/kvm: its slots, and its ports' eventfds. */
#include "base/diag.h"
#include "vm/vm.h"

#include <errno.h>
#include <unistd.h>

static int accel_begin(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    struct kvm_features features;
    int rc = kvm_probe(vm->system_fd, vm->vm_fd, &features, diag);

    if (rc != 0) {
        return rc;
    }
    return kvm_backend_init(&vm->backend, vm->vm_fd, &features,
                            options->no_manual_protect ? KVM_BACKEND_NO_MANUAL_PROTECT : 0, diag);
}

static int accel_attach(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    struct gm_backend_options slots = kvm_backend_options(&vm->backend, options->max_slots);
    struct gm_backend_ops ops = kvm_backend_ops(&vm->backend);
    int rc = 0;

    slots.allocator = &vm->allocator;
    if (vm->backend.features.eventfds) {
        rc = kvm_ports_attach(vm->map, vm->ports, &vm->backend, &vm->allocator, &vm->ports_listener,
                              diag);
    }
    if (rc == 0) {
        rc = gm_slots_attach(vm->memory, &slots, &ops, &vm->backend, &vm->slots, diag);
    }
    return rc;
}

static int accel_check_idle(struct gm_vm *vm, struct gm_diag *diag)
{
    bool running = false;

    lock_take(&vm->lock);
    for (struct gm_vcpu *vcpu = vm->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        /* Acquire; pairs with the release in vcpu_unbind(). */
        running = running || atomic_load_explicit(&vcpu->in_run, memory_order_acquire);
    }
    lock_drop(&vm->lock);
    return running ? diag_set(diag, -EBUSY, "a vCPU of this VM is running") : 0;
}

static void accel_end(struct gm_vm *vm)
{
    kvm_ports_free(vm->ports_listener);
    kvm_backend_fini(&vm->backend);
    if (vm->owns_fds) {
        close(vm->vm_fd);
        close(vm->system_fd);
    }
}

const struct vm_accel vm_accel_kvm = {
    .begin = accel_begin,
    .attach = accel_attach,
    .check_idle = accel_check_idle,
    .end = accel_end,
};
