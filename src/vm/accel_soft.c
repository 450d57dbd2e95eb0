/* vm/accel_soft.c - a map on the software KVM, and its vCPUs. */
#include "base/check.h"
#include "base/diag.h"
#include "kcore/dirtylog.h"
#include "kcore/ring.h"
#include "soft/backend_io.h"
#include "soft/soft.h"
#include "vm/vm.h"

#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <string.h>

static void accel_end(struct gm_vm *vm)
{
    bool is_copy = soft_is_copy(vm->soft);
    int rc;

    ports_free(vm->ports_listener);
    rc = gm_soft_close(vm->soft);
    GM_ASSERT(rc == 0 || is_copy); /* a copy may have vCPUs of gm_soft_vcpu_new() left */
}

static int accel_begin(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    const struct gm_soft_options defaults = {
        .size = sizeof(defaults),
        .allocator = &vm->allocator,
    };

    int rc = gm_soft_open(options->soft != NULL ? options->soft : &defaults, &vm->soft, diag);

    if (rc != 0 || options->dirty_ring_entries == 0) {
        return rc;
    }
    rc = kcore_enable_rings(&vm->soft->core,
                            (uint64_t)options->dirty_ring_entries * sizeof(struct kvm_dirty_gfn));
    if (rc != 0) {
        accel_end(vm);
        return diag_set(diag, GM_DIAG_SOFT_RINGS, -EINVAL,
                        "a dirty ring of the software KVM has at least 1024 and at most %u entries",
                        RING_ENTRIES_MAX);
    }
    return 0;
}

static int accel_attach(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    const struct soft_attachment how = {0, options->max_slots, vm->map->log};
    struct gm_backend_ops ports;
    int rc;

    vm->soft->coalesced = coalesced_hooks(&vm->coalesced);
    ports = soft_port_ops(vm->soft);
    rc = ports_attach(vm->ports, &vm->allocator, &ports, &vm->soft->faces[0], &vm->ports_listener,
                      diag);
    if (rc != 0) {
        return rc;
    }
    rc = soft_attach(vm->soft, vm->memory, &how, &vm->slots, diag);
    if (rc == 0 && options->no_manual_protect) {
        rc = kcore_set_manual_protect(&vm->soft->core, 0);
        GM_ASSERT(rc == 0);
    }
    return rc;
}

static int accel_attach_smm(struct gm_vm *vm, struct gm_diag *diag)
{
    const struct soft_attachment how = {SMM_SPACE, vm->max_slots, vm->map->log};

    return soft_attach(vm->soft, vm->smm, &how, &vm->smm_slots, diag);
}

/* Its own vCPUs go with it; those of gm_soft_vcpu_new() are their maker's. */
static int accel_check_idle(struct gm_vm *vm, struct gm_diag *diag)
{
    unsigned ours = 0;

    lock_take(&vm->lock);
    for (const struct gm_vcpu *vcpu = vm->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        ours++;
    }
    lock_drop(&vm->lock);
    if (soft_count_vcpus(vm->soft) != ours) {
        return diag_set(diag, GM_DIAG_VM_VCPUS_LEFT, -EBUSY,
                        "a vCPU of gm_soft_vcpu_new() is left: free it first");
    }
    return vcpu_any_runs(vm)
               ? diag_set(diag, GM_DIAG_VM_RUNS, -EBUSY, "a vCPU of this VM is running")
               : 0;
}

/* It is memory and nothing else. */
static void accel_nothing(struct gm_vm *vm)
{
    (void)vm;
}

static void accel_drop_vcpu(struct gm_vcpu *vcpu)
{
    (void)vcpu;
}

static long accel_system_ioctl(struct gm_vm *vm, unsigned long request, unsigned long argument)
{
    (void)vm; /* they have one system */
    return gm_soft_system_ioctl(request, argument);
}

static long accel_vm_ioctl(struct gm_vm *vm, unsigned long request, unsigned long argument)
{
    return gm_soft_vm_ioctl(vm->soft, request, argument);
}

static long accel_vcpu_ioctl(struct gm_vcpu *vcpu, unsigned long request, unsigned long argument)
{
    return gm_soft_vcpu_ioctl(vcpu->soft, request, argument);
}

static int accel_make_vcpu(struct gm_vcpu *vcpu, unsigned id, struct gm_diag *diag)
{
    int rc = gm_soft_vcpu_new(vcpu->vm->soft, id, &vcpu->soft);

    if (rc != 0) {
        return diag_set(diag, GM_DIAG_SOFT_VCPU, rc, "the software KVM does not make vCPU %u: %s",
                        id, strerror(-rc));
    }
    vcpu->run = gm_soft_vcpu_run_page(vcpu->soft);
    vcpu->run_bytes = VCPU_RUN_BYTES;
    vcpu->coalesced_ring =
        vcpu->vm->soft->iobuses.ring; /* where it is filled: the area shows the same */
    vcpu->has_immediate_exit = true;
    return 0;
}

static void accel_end_vcpu(struct gm_vcpu *vcpu)
{
    gm_soft_vcpu_free(vcpu->soft);
}

/* Its KVM_RUN stands at the software KVM's own gate. */
static void accel_enter_or_leave(struct gm_vcpu *vcpu)
{
    (void)vcpu;
}

static int accel_run(struct gm_vcpu *vcpu, bool *is_ours)
{
    int rc;

    /* Sequentially consistent; pairs with the store in gm_vcpu_kick(): what is not seen here comes
     * with a kick that KVM_RUN notices. */
    if (atomic_load(&vcpu->stop)) {
        (void)vcpu_arm_immediate_exit(vcpu);
    }
    rc = (int)gm_soft_vcpu_ioctl(vcpu->soft, KVM_RUN, 0);
    /* A kick that has come with a `stop` that was seen before is still there: it ends nothing. */
    *is_ours = !vcpu->soft->was_signalled;
    return rc;
}

static bool accel_ring_full(struct gm_vcpu *vcpu)
{
    return gm_soft_vcpu_empty_ring(vcpu->soft);
}

static void accel_kick(struct gm_vcpu *vcpu)
{
    gm_mmu_kick(gm_soft_vcpu_mmu(vcpu->soft));
}

const struct vm_accel vm_accel_soft = {
    .begin = accel_begin,
    .attach = accel_attach,
    .attach_smm = accel_attach_smm,
    .check_idle = accel_check_idle,
    .end = accel_end,
    .forget = accel_nothing,
    .drop = accel_nothing,
    .system_ioctl = accel_system_ioctl,
    .vm_ioctl = accel_vm_ioctl,
    .make_vcpu = accel_make_vcpu,
    .end_vcpu = accel_end_vcpu,
    .drop_vcpu = accel_drop_vcpu,
    .vcpu_ioctl = accel_vcpu_ioctl,
    .enter = accel_enter_or_leave,
    .leave = accel_enter_or_leave,
    .run = accel_run,
    .kick = accel_kick,
    .ring_full = accel_ring_full,
};
