/* vm/vcpu.c - a vCPU: making it, taking a caller's, and its place at the run gate. */
#include "base/alloc.h"
#include "base/diag.h"
#include "vm/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void kick_by_signal(void *opaque)
{
    struct gm_vcpu *vcpu = opaque;

    kick_send(&vcpu->kick);
}

static struct gm_vcpu *vcpu_alloc(struct gm_vm *vm, int fd, struct kvm_run *run)
{
    struct gm_vcpu *vcpu = mem_zalloc(&vm->allocator, sizeof(*vcpu));

    if (vcpu != NULL) {
        vcpu->vm = vm;
        vcpu->fd = fd;
        vcpu->run = run;
        atomic_init(&vcpu->stop, false);
        atomic_init(&vcpu->in_run, false);
    }
    return vcpu;
}

/* What can fail is behind us: the vCPU is the VM's from here on. */
static void vcpu_join_vm(struct gm_vcpu *vcpu, void (*kick)(void *opaque), void *opaque)
{
    struct gm_vm *vm = vcpu->vm;

    gate_add(&vm->backend.gate, &vcpu->at_gate, kick, opaque);
    lock_take(&vm->lock);
    vcpu->next = vm->vcpus;
    vm->vcpus = vcpu;
    lock_drop(&vm->lock);
}

static int vcpu_use_signal(struct gm_vcpu *vcpu, struct gm_diag *diag)
{
    int rc = kick_init(&vcpu->kick, vcpu->vm->kick_signal, vcpu->fd);

    if (rc < 0) {
        return diag_set(diag, rc, "KVM does not set the vCPU's signal mask: %s", strerror(-rc));
    }
    vcpu->own_signal = true;
    return 0;
}

/* Until there is a vCPU of ours that runs instructions, only /dev/kvm has vCPUs of this kind. */
static int refuse_soft(const struct gm_vm *vm, struct gm_diag *diag)
{
    return vm->soft == NULL
               ? 0
               : diag_set(diag, -EOPNOTSUPP,
                          "a software VM's vCPUs do not run instructions: make them by "
                          "gm_soft_vcpu_new(gm_vm_soft(vm), ...) and use guestmem/mmu.h");
}

int gm_vcpu_new(struct gm_vm *vm, unsigned id, struct gm_vcpu **out, struct gm_diag *diag)
{
    size_t run_bytes = vm->backend.features.run_bytes;
    struct gm_vcpu *vcpu;
    int rc = refuse_soft(vm, diag);

    if (rc != 0) {
        return rc;
    }
    vcpu = vcpu_alloc(vm, -1, NULL);
    if (vcpu == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for vCPU %u", id);
    }
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the ioctl takes a number in the pointer's place
    rc = kvm_ioctl(vm->vm_fd, KVM_CREATE_VCPU, (void *)(unsigned long)id);
    if (rc < 0) {
        (void)diag_set(diag, rc, "KVM does not make vCPU %u: %s", id, strerror(-rc));
        goto out_free;
    }
    vcpu->fd = rc;
    vcpu->owns_fd = true;
    vcpu->run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        rc = diag_set(diag, -errno, "vCPU %u's shared area cannot be mapped: %s", id,
                      strerror(errno));
        goto out_close;
    }
    rc = vcpu_use_signal(vcpu, diag);
    if (rc != 0) {
        goto out_unmap;
    }
    vcpu_join_vm(vcpu, kick_by_signal, vcpu);
    *out = vcpu;
    return 0;

out_unmap:
    munmap(vcpu->run, run_bytes);
out_close:
    close(vcpu->fd);
out_free:
    mem_free(&vm->allocator, vcpu);
    return rc;
}

static bool vm_has_fd(struct gm_vm *vm, int vcpu_fd)
{
    const struct gm_vcpu *vcpu;

    lock_take(&vm->lock);
    for (vcpu = vm->vcpus; vcpu != NULL && vcpu->fd != vcpu_fd;) {
        vcpu = vcpu->next;
    }
    lock_drop(&vm->lock);
    return vcpu != NULL;
}

int gm_vcpu_attach(struct gm_vm *vm, int vcpu_fd, struct kvm_run *run, void (*kick)(void *opaque),
                   void *opaque, struct gm_vcpu **out, struct gm_diag *diag)
{
    struct gm_vcpu *vcpu;
    int rc = refuse_soft(vm, diag);

    if (rc != 0) {
        return rc;
    }
    if (vcpu_fd < 0 || run == NULL) {
        return diag_set(diag, -EINVAL, "a vCPU's descriptor and its kvm_run area are both needed");
    }
    if (vm_has_fd(vm, vcpu_fd)) {
        return diag_set(diag, -EEXIST, "the vCPU with descriptor %d is attached already", vcpu_fd);
    }
    vcpu = vcpu_alloc(vm, vcpu_fd, run);
    if (vcpu == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for the vCPU with descriptor %d", vcpu_fd);
    }
    if (kick == NULL) {
        rc = vcpu_use_signal(vcpu, diag);
        if (rc != 0) {
            mem_free(&vm->allocator, vcpu);
            return rc;
        }
        kick = kick_by_signal;
        opaque = vcpu;
    }
    vcpu_join_vm(vcpu, kick, opaque);
    *out = vcpu;
    return 0;
}

void gm_vcpu_free(struct gm_vcpu *vcpu)
{
    struct gm_vm *vm;
    struct gm_vcpu **link;

    if (vcpu == NULL) {
        return;
    }
    vm = vcpu->vm;
    lock_take(&vm->lock);
    for (link = &vm->vcpus; *link != vcpu;) {
        link = &(*link)->next;
    }
    *link = vcpu->next;
    lock_drop(&vm->lock);
    gate_remove(&vm->backend.gate, &vcpu->at_gate);
    if (vcpu->owns_fd) {
        munmap(vcpu->run, vm->backend.features.run_bytes);
        close(vcpu->fd);
    } else if (vcpu->own_signal) {
        kick_fini(&vcpu->kick);
    }
    mem_free(&vm->allocator, vcpu);
}

int vcpu_bind(struct gm_vcpu *vcpu)
{
    int rc = vcpu->own_signal ? kick_bind(&vcpu->kick) : 0;

    if (rc == 0) {
        atomic_store_explicit(&vcpu->in_run, true, memory_order_relaxed);
    }
    return rc;
}

void vcpu_unbind(struct gm_vcpu *vcpu)
{
    if (vcpu->own_signal) {
        kick_unbind(&vcpu->kick);
    }
    /* Release; pairs with the acquire in gm_vm_close(): what the run did is over. */
    atomic_store_explicit(&vcpu->in_run, false, memory_order_release);
}

void gm_vcpu_enter(struct gm_vcpu *vcpu)
{
    /* The one error is of KVM_SET_SIGNAL_MASK, which took a mask when the vCPU was made. */
    (void)vcpu_bind(vcpu);
    gate_enter(&vcpu->vm->backend.gate, &vcpu->at_gate);
}

void gm_vcpu_leave(struct gm_vcpu *vcpu)
{
    gate_leave(&vcpu->vm->backend.gate, &vcpu->at_gate);
    vcpu_unbind(vcpu);
}

void gm_vcpu_kick(struct gm_vcpu *vcpu)
{
    /* Sequentially consistent: before the thread id is read (kick.h, K-3). */
    atomic_store(&vcpu->stop, true);
    vcpu->at_gate.kick(vcpu->at_gate.opaque);
}

int gm_vcpu_fd(const struct gm_vcpu *vcpu)
{
    return vcpu->fd;
}

struct kvm_run *gm_vcpu_kvm_run(const struct gm_vcpu *vcpu)
{
    return vcpu->run;
}

static uint64_t read_count(const atomic_ullong *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void gm_vcpu_stats(const struct gm_vcpu *vcpu, struct gm_vcpu_stats *stats)
{
    const struct vcpu_counts *counts = &vcpu->counts;

    *stats = (struct gm_vcpu_stats){
        .runs = read_count(&counts->runs),
        .mmio_reads = read_count(&counts->mmio_reads),
        .mmio_writes = read_count(&counts->mmio_writes),
        .port_reads = read_count(&counts->port_reads),
        .port_writes = read_count(&counts->port_writes),
        .unmapped = read_count(&counts->unmapped),
        .interrupted = read_count(&counts->interrupted),
        .other = read_count(&counts->other),
    };
}
