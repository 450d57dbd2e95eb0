/* vm/vcpu.c - a vCPU: making it, taking a caller's, its time in KVM_RUN, its counts. */
#include "base/alloc.h"
#include "base/diag.h"
#include "base/point.h"
#include "vm/vm.h"

#include <errno.h>

static struct gm_vcpu *vcpu_alloc(struct gm_vm *vm)
{
    struct gm_vcpu *vcpu = mem_zalloc(&vm->allocator, sizeof(*vcpu));

    if (vcpu != NULL) {
        vcpu->vm = vm;
        vcpu->fd = -1;
        atomic_init(&vcpu->stop, false);
        atomic_init(&vcpu->in_run, false);
    }
    return vcpu;
}

/* The list has changed: the ring is reached by the area of a vCPU that is there. */
static void choose_ring(struct gm_vm *vm)
{
    lock_take(&vm->coalesced.lock);
    lock_take(&vm->lock);
    vm->coalesced.ring = vm->vcpus != NULL ? vm->vcpus->coalesced_ring : NULL;
    lock_drop(&vm->lock);
    lock_drop(&vm->coalesced.lock);
}

/* What can fail is behind us: the vCPU is the VM's from here on. */
static void vcpu_join_vm(struct gm_vcpu *vcpu)
{
    struct gm_vm *vm = vcpu->vm;

    lock_take(&vm->lock);
    vcpu->next = vm->vcpus;
    vm->vcpus = vcpu;
    lock_drop(&vm->lock);
    choose_ring(vm);
}

int gm_vcpu_new(struct gm_vm *vm, unsigned id, struct gm_vcpu **out, struct gm_diag *diag)
{
    struct gm_vcpu *vcpu;
    int rc = vm_in_parent(vm, diag);

    if (rc != 0) {
        return rc;
    }
    vcpu = vcpu_alloc(vm);
    if (vcpu == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for vCPU %u", id);
    }
    rc = vm->accel->make_vcpu(vcpu, id, diag);
    if (rc != 0) {
        mem_free(&vm->allocator, vcpu);
        return rc;
    }
    vcpu_join_vm(vcpu);
    *out = vcpu;
    return 0;
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
    int rc = vm_in_parent(vm, diag);

    if (rc != 0) {
        return rc;
    }
    if (vm->soft != NULL) {
        return diag_set(diag, GM_DIAG_VCPU_NO_DESCRIPTOR, -EOPNOTSUPP,
                        "a software VM's vCPUs have no descriptors: make them by gm_vcpu_new()");
    }
    if (vcpu_fd < 0 || run == NULL) {
        return diag_set(diag, GM_DIAG_VCPU_ARGUMENTS, -EINVAL,
                        "a vCPU's descriptor and its kvm_run area are both needed");
    }
    if (vm_has_fd(vm, vcpu_fd)) {
        return diag_set(diag, GM_DIAG_VCPU_ATTACHED, -EEXIST,
                        "the vCPU with descriptor %d is attached already", vcpu_fd);
    }
    vcpu = vcpu_alloc(vm);
    if (vcpu == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM,
                        "no memory for the vCPU with descriptor %d", vcpu_fd);
    }
    vcpu->fd = vcpu_fd;
    vcpu->run = run;
    rc = vcpu_take_fd(vcpu, kick, opaque, diag);
    if (rc != 0) {
        mem_free(&vm->allocator, vcpu);
        return rc;
    }
    vcpu_join_vm(vcpu);
    *out = vcpu;
    return 0;
}

static void leave_vm(struct gm_vcpu *vcpu)
{
    struct gm_vm *vm = vcpu->vm;
    struct gm_vcpu **link;

    lock_take(&vm->lock);
    for (link = &vm->vcpus; *link != vcpu;) {
        link = &(*link)->next;
    }
    *link = vcpu->next;
    lock_drop(&vm->lock);
}

/* In a child of fork(). One that ran as the process was copied can only be given up. */
static void free_copy(struct gm_vcpu *vcpu)
{
    struct gm_vm *vm = vcpu->vm;

    leave_vm(vcpu);
    if (atomic_load(&vcpu->in_run)) {
        vm->is_torn = true;
        vm->accel->drop_vcpu(vcpu);
        return;
    }
    vcpu->own_signal = false; /* the descriptor's signal mask is the parent's */
    vm->accel->end_vcpu(vcpu);
    mem_free(&vm->allocator, vcpu);
}

void gm_vcpu_free(struct gm_vcpu *vcpu)
{
    struct gm_vm *vm;

    if (vcpu == NULL) {
        return;
    }
    vm = vcpu->vm;
    if (vm_is_copy(vm)) {
        alone_begin();
        free_copy(vcpu);
        alone_end();
        return;
    }
    coalesced_flush(&vm->coalesced); /* the last vCPU takes the ring with it */
    leave_vm(vcpu);
    GM_POINT("vcpu-unlinked");
    choose_ring(vm);
    vm->accel->end_vcpu(vcpu);
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
    /* Release; pairs with the acquire in vcpu_any_runs(): what the run did is over. */
    atomic_store_explicit(&vcpu->in_run, false, memory_order_release);
}

bool vcpu_any_runs(struct gm_vm *vm)
{
    bool running = false;

    lock_take(&vm->lock);
    for (struct gm_vcpu *vcpu = vm->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        /* Acquire; pairs with the release in vcpu_unbind(). */
        running = running || atomic_load_explicit(&vcpu->in_run, memory_order_acquire);
    }
    lock_drop(&vm->lock);
    return running;
}

void gm_vcpu_enter(struct gm_vcpu *vcpu)
{
    if (vm_is_copy(vcpu->vm)) {
        return;
    }
    /* The one error is of KVM_SET_SIGNAL_MASK, which took a mask when the vCPU was made. */
    (void)vcpu_bind(vcpu);
    vcpu->vm->accel->enter(vcpu);
}

void gm_vcpu_leave(struct gm_vcpu *vcpu)
{
    if (vm_is_copy(vcpu->vm)) {
        return;
    }
    vcpu->vm->accel->leave(vcpu);
    vcpu_unbind(vcpu);
}

void gm_vcpu_kick(struct gm_vcpu *vcpu)
{
    if (vm_is_copy(vcpu->vm)) {
        return; /* whom it would stop is in the parent */
    }
    /* Sequentially consistent: before the thread id is read (kick.h, K-3). */
    atomic_store(&vcpu->stop, true);
    vcpu->vm->accel->kick(vcpu);
}

int gm_vcpu_fd(const struct gm_vcpu *vcpu)
{
    return vcpu->fd;
}

struct gm_soft_vcpu *gm_vcpu_soft(const struct gm_vcpu *vcpu)
{
    return vcpu->soft;
}

long gm_vcpu_ioctl(struct gm_vcpu *vcpu, unsigned long request, unsigned long argument)
{
    return vm_is_copy(vcpu->vm) ? -EIO : vcpu->vm->accel->vcpu_ioctl(vcpu, request, argument);
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
        .rings_full = read_count(&counts->rings_full),
        .other = read_count(&counts->other),
    };
}
