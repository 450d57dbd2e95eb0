/*
 * vm/exit.c - answering a vCPU's exits: MMIO and port I/O become accesses to the VM's spaces; a full
 * dirty ring is emptied.
 *
 * kvm_run holds an access's bytes in the order in which they lie in memory, which is what gm_read()
 * and gm_write() take: no byte order comes in here. Where nothing answers, a read gives all ones, as an
 * undriven bus does, and a write is lost.
 */
#include "base/addr.h"
#include "vm/vm.h"

#include <guestmem/access.h>

#include <linux/kvm.h>
#include <string.h>

/* One access of a vCPU. */
struct request {
    struct gm_space *space;
    uint64_t address;
    uint8_t *data;
    unsigned size_bytes;
    bool is_write;
};

/*
 * Set the bytes of a read that nothing answered. Rarely an access reaches over the end of what is
 * mapped: then the part that was answered stays.
 */
static void fill_with_ones(const struct request *request)
{
    struct gm_view *view = gm_view_get(request->space);
    struct gm_section section;

    if (gm_view_find(view, request->address, &section) &&
        bytes_until(request->address, section.last, request->size_bytes) == request->size_bytes) {
        /* Mapped, and refused as a whole: a reservation, or a size that the device does not take. */
        memset(request->data, 0xff, request->size_bytes);
    } else {
        for (unsigned i = 0; i < request->size_bytes; i++) {
            if (!gm_view_find(view, request->address + i, &section)) {
                request->data[i] = 0xff;
            }
        }
    }
    gm_view_put(view);
}

static enum gm_access answer(struct gm_vcpu *vcpu, const struct request *request)
{
    const struct gm_attrs attrs = {0};
    enum gm_access outcome;

    if (request->is_write) {
        outcome =
            gm_write(request->space, request->address, request->data, request->size_bytes, attrs);
    } else {
        outcome =
            gm_read(request->space, request->address, request->data, request->size_bytes, attrs);
    }
    if ((outcome & GM_ACCESS_DECODE) != 0) {
        vcpu_count(&vcpu->counts.unmapped);
        if (!request->is_write) {
            fill_with_ones(request);
        }
    }
    return outcome;
}

/* What the vCPU sees: in SMM, the space that was made for that. */
static struct gm_space *memory_of(const struct gm_vm *vm, const struct kvm_run *run)
{
    bool is_smm = (run->flags & KVM_RUN_X86_SMM) != 0 && vm->smm != NULL;

    return is_smm ? vm->smm : vm->memory;
}

static int answer_mmio(struct gm_vcpu *vcpu, struct kvm_run *run, enum gm_access *outcome)
{
    struct request request = {
        .space = memory_of(vcpu->vm, run),
        .address = run->mmio.phys_addr,
        .data = run->mmio.data,
        .size_bytes = run->mmio.len,
        .is_write = run->mmio.is_write != 0,
    };

    if (request.size_bytes == 0 || request.size_bytes > sizeof(run->mmio.data)) {
        return 0;
    }
    vcpu_count(request.is_write ? &vcpu->counts.mmio_writes : &vcpu->counts.mmio_reads);
    *outcome = answer(vcpu, &request);
    return 1;
}

/*
 * Port I/O; a string instruction gives several items for the same port at once. The items lie in
 * the shared area behind kvm_run, at an offset that the kernel says.
 */
static int answer_port(struct gm_vcpu *vcpu, struct kvm_run *run, enum gm_access *outcome)
{
    uint64_t all_bytes = (uint64_t)run->io.size * run->io.count;
    struct request request = {
        .space = vcpu->vm->ports,
        .address = run->io.port,
        .data = (uint8_t *)run + run->io.data_offset,
        .size_bytes = run->io.size,
        .is_write = run->io.direction == KVM_EXIT_IO_OUT,
    };
    int outcomes = GM_ACCESS_OK;

    if (!range_holds(0, vcpu->run_bytes, run->io.data_offset, all_bytes)) {
        return 0;
    }
    vcpu_count(request.is_write ? &vcpu->counts.port_writes : &vcpu->counts.port_reads);
    for (uint32_t i = run->io.count; i > 0; i--) {
        outcomes |= answer(vcpu, &request);
        request.data += request.size_bytes;
    }
    *outcome = (enum gm_access)outcomes;
    return 1;
}

/* The vCPU's own ring only: other vCPUs go on. */
static int empty_ring(struct gm_vcpu *vcpu, enum gm_access *outcome)
{
    if (!vcpu->vm->accel->ring_full(vcpu)) {
        return 0;
    }
    vcpu_count(&vcpu->counts.rings_full);
    *outcome = GM_ACCESS_OK;
    return 1;
}

int gm_vcpu_handle_exit(struct gm_vcpu *vcpu, struct kvm_run *run, enum gm_access *outcome)
{
    enum gm_access ignored;
    int answered = 0;

    if (outcome == NULL) {
        outcome = &ignored;
    }
    coalesced_flush(&vcpu->vm->coalesced); /* what the guest wrote before */
    if (run->exit_reason == KVM_EXIT_MMIO) {
        answered = answer_mmio(vcpu, run, outcome);
    } else if (run->exit_reason == KVM_EXIT_IO) {
        answered = answer_port(vcpu, run, outcome);
    } else if (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
        answered = empty_ring(vcpu, outcome);
    }
    if (answered == 0) {
        vcpu_count(&vcpu->counts.other);
    }
    return answered;
}
