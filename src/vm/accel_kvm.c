/*
 * vm/accel_kvm.c - a map on /dev/kvm: its slots, its ports' eventfds, and vCPUs, which stand at the backend's gate for just the
 * time of KVM_RUN.
 */
#include "base/addr.h"
#include "base/diag.h"
#include "kvm/io.h"
#include "vm/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int accel_begin(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    const struct kvm_backend_choice choice = {
        .flags = options->no_manual_protect ? KVM_BACKEND_NO_MANUAL_PROTECT : 0,
        .ring_entries = options->dirty_ring_entries,
        .allocator = &vm->allocator,
    };
    struct kvm_features features;
    int rc = kvm_probe(vm->system_fd, vm->vm_fd, &features, diag);

    if (rc != 0) {
        return rc;
    }
    return kvm_backend_init(&vm->backend, vm->vm_fd, &features, &choice, diag);
}

static int accel_attach(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    struct gm_backend_options slots = kvm_backend_options(&vm->backend, options->max_slots);
    struct gm_backend_ops memory;
    struct gm_backend_ops ports;
    int rc;

    vm->backend.coalesced = coalesced_hooks(&vm->coalesced);
    memory = kvm_backend_ops(&vm->backend, 0);
    ports = kvm_port_ops(&vm->backend);
    slots.allocator = &vm->allocator;
    slots.log = vm->map->log;
    vm->backend.rings.log = vm->map->log;
    rc = ports_attach(vm->ports, &vm->allocator, &ports, &vm->backend.faces[0], &vm->ports_listener,
                      diag);
    if (rc == 0) {
        rc = gm_slots_attach(vm->memory, &slots, &memory, &vm->backend.faces[0], &vm->slots, diag);
    }
    return rc;
}

static int accel_attach_smm(struct gm_vm *vm, struct gm_diag *diag)
{
    struct gm_backend_options slots = kvm_backend_options(&vm->backend, vm->max_slots);
    struct gm_backend_ops ops = kvm_backend_ops(&vm->backend, SMM_SPACE);

    if (vm->backend.features.spaces <= SMM_SPACE) {
        return diag_set(diag, GM_DIAG_KVM_SPACES, -EOPNOTSUPP,
                        "this kernel's KVM has one address space (KVM_CAP_MULTI_ADDRESS_SPACE)");
    }
    slots.allocator = &vm->allocator;
    return gm_slots_attach(vm->smm, &slots, &ops, &vm->backend.faces[SMM_SPACE], &vm->smm_slots,
                           diag);
}

static int accel_check_idle(struct gm_vm *vm, struct gm_diag *diag)
{
    return vcpu_any_runs(vm)
               ? diag_set(diag, GM_DIAG_VM_RUNS, -EBUSY, "a vCPU of this VM is running")
               : 0;
}

static void accel_end(struct gm_vm *vm)
{
    ports_free(vm->ports_listener);
    kvm_backend_fini(&vm->backend);
    if (vm->owns_fds) {
        close(vm->vm_fd);
        close(vm->system_fd);
    }
}

static void accel_drop_vcpu(struct gm_vcpu *vcpu)
{
    if (vcpu->owns_fd) {
        munmap(vcpu->run, vcpu->run_bytes);
        close(vcpu->fd);
    }
}

static void accel_forget(struct gm_vm *vm)
{
    vm->backend.manual_protect = false;
    vm->backend.vm_fd = -1; /* what still asks, asks nobody */
}

static void accel_drop(struct gm_vm *vm)
{
    for (struct gm_vcpu *vcpu = vm->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        accel_drop_vcpu(vcpu);
    }
    if (vm->owns_fds) {
        close(vm->vm_fd);
        close(vm->system_fd);
    }
}

/* A signal interrupts KVM_RUN, and nothing else that a caller would have to try again. */
static long plain_ioctl(int fd, unsigned long request, unsigned long argument)
{
    int result;

    do {
        result = ioctl(fd, request, argument);
    } while (result == -1 && errno == EINTR && request != KVM_RUN);
    return result == -1 ? -errno : result;
}

static long accel_system_ioctl(struct gm_vm *vm, unsigned long request, unsigned long argument)
{
    return plain_ioctl(vm->system_fd, request, argument);
}

static long accel_vm_ioctl(struct gm_vm *vm, unsigned long request, unsigned long argument)
{
    return plain_ioctl(vm->vm_fd, request, argument);
}

static long accel_vcpu_ioctl(struct gm_vcpu *vcpu, unsigned long request, unsigned long argument)
{
    return plain_ioctl(vcpu->fd, request, argument);
}

static void kick_by_signal(void *opaque)
{
    struct gm_vcpu *vcpu = opaque;

    kick_send(&vcpu->kick);
}

/* The page that all vCPUs' areas have in common. */
static struct kvm_coalesced_mmio_ring *ring_of(const struct gm_vcpu *vcpu)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t offset = vcpu->vm->backend.features.coalesced_page * page_bytes;

    return offset != 0 && range_holds(0, vcpu->run_bytes, offset, page_bytes)
               ? (void *)((uint8_t *)vcpu->run + offset)
               : NULL;
}

int vcpu_take_fd(struct gm_vcpu *vcpu, void (*kick)(void *opaque), void *opaque,
                 struct gm_diag *diag)
{
    struct kvm_backend *backend = &vcpu->vm->backend;
    int rc = kvm_ring_map(backend, &vcpu->ring, vcpu->fd, diag);

    if (rc != 0) {
        return rc;
    }
    if (kick == NULL) {
        rc = kick_init(&vcpu->kick, vcpu->vm->kick_signal, vcpu->fd);
        if (rc < 0) {
            kvm_ring_unmap(backend, &vcpu->ring);
            return diag_set(diag, GM_DIAG_KVM_SIGNAL_MASK, rc,
                            "KVM does not set the vCPU's signal mask: %s", strerror(-rc));
        }
        vcpu->own_signal = true;
        kick = kick_by_signal;
        opaque = vcpu;
    }
    vcpu->run_bytes = backend->features.run_bytes;
    vcpu->coalesced_ring = ring_of(vcpu);
    vcpu->has_immediate_exit = backend->features.immediate_exit;
    gate_add(&backend->gate, &vcpu->at_gate, kick, opaque);
    return 0;
}

static int accel_make_vcpu(struct gm_vcpu *vcpu, unsigned id, struct gm_diag *diag)
{
    size_t run_bytes = vcpu->vm->backend.features.run_bytes;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the ioctl takes a number in the pointer's place
    int rc = kvm_ioctl(vcpu->vm->vm_fd, KVM_CREATE_VCPU, (void *)(unsigned long)id);

    if (rc < 0) {
        return diag_set(diag, GM_DIAG_KVM_CREATE_VCPU, rc, "KVM does not make vCPU %u: %s", id,
                        strerror(-rc));
    }
    vcpu->fd = rc;
    vcpu->owns_fd = true;
    vcpu->run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        rc = diag_set(diag, GM_DIAG_KVM_RUN_AREA, -errno,
                      "vCPU %u's shared area cannot be mapped: %s", id, strerror(errno));
        goto out_close;
    }
    rc = vcpu_take_fd(vcpu, NULL, NULL, diag);
    if (rc != 0) {
        goto out_unmap;
    }
    return 0;

out_unmap:
    munmap(vcpu->run, run_bytes);
out_close:
    close(vcpu->fd);
    return rc;
}

static void accel_end_vcpu(struct gm_vcpu *vcpu)
{
    gate_remove(&vcpu->vm->backend.gate, &vcpu->at_gate);
    kvm_ring_unmap(&vcpu->vm->backend, &vcpu->ring);
    if (vcpu->owns_fd) {
        munmap(vcpu->run, vcpu->run_bytes);
        close(vcpu->fd);
    } else if (vcpu->own_signal) {
        kick_fini(&vcpu->kick);
    }
}

static void accel_enter(struct gm_vcpu *vcpu)
{
    gate_enter(&vcpu->vm->backend.gate, &vcpu->at_gate);
    coalesced_enter(&vcpu->vm->coalesced);
}

static void accel_leave(struct gm_vcpu *vcpu)
{
    gate_leave(&vcpu->vm->backend.gate, &vcpu->at_gate);
}

static int accel_run(struct gm_vcpu *vcpu, bool *is_ours)
{
    struct gate *gate = &vcpu->vm->backend.gate;
    int rc;

    gate_enter(gate, &vcpu->at_gate);
    /* Sequentially consistent; pairs with the store in gm_vcpu_kick(): what is not seen here comes
     * with a kick that KVM_RUN notices. */
    if (atomic_load(&vcpu->stop) && !vcpu_arm_immediate_exit(vcpu)) {
        rc = -EINTR;
    } else {
        coalesced_enter(&vcpu->vm->coalesced);
        rc = ioctl(vcpu->fd, KVM_RUN, NULL) == -1 ? -errno : 0;
    }
    /* Relaxed: the gate opens only after this vCPU has left, so while its kick is the cause this
     * is true. */
    *is_ours = atomic_load_explicit(&gate->held, memory_order_relaxed);
    gate_leave(gate, &vcpu->at_gate);
    if (rc == -EINTR && vcpu->own_signal && kick_take(&vcpu->kick)) {
        *is_ours = true;
    }
    return rc;
}

static bool accel_ring_full(struct gm_vcpu *vcpu)
{
    return vcpu->ring.is_listed && rings_full(&vcpu->vm->backend.rings, &vcpu->ring);
}

static void accel_kick(struct gm_vcpu *vcpu)
{
    vcpu->at_gate.kick(vcpu->at_gate.opaque);
}

const struct vm_accel vm_accel_kvm = {
    .begin = accel_begin,
    .attach = accel_attach,
    .attach_smm = accel_attach_smm,
    .check_idle = accel_check_idle,
    .end = accel_end,
    .forget = accel_forget,
    .drop = accel_drop,
    .system_ioctl = accel_system_ioctl,
    .vm_ioctl = accel_vm_ioctl,
    .make_vcpu = accel_make_vcpu,
    .end_vcpu = accel_end_vcpu,
    .drop_vcpu = accel_drop_vcpu,
    .vcpu_ioctl = accel_vcpu_ioctl,
    .enter = accel_enter,
    .leave = accel_leave,
    .run = accel_run,
    .kick = accel_kick,
    .ring_full = accel_ring_full,
};
