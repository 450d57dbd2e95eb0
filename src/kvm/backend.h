/*
 * kvm/backend.h - the table of slot operations for one VM on /dev/kvm: slots, their logs, the run gate;
 * eventfds and coalesced ranges are in kvm/io.h.
 */
#ifndef KVM_BACKEND_H
#define KVM_BACKEND_H

#include "base/gate.h"
#include "kvm/kvm.h"
#include "slots/io.h"
#include "slots/rings.h"

#include <guestmem/backend.h>

#include <stdbool.h>
#include <stdint.h>

/* Do not use KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. */
#define KVM_BACKEND_NO_MANUAL_PROTECT (1u << 0)

/* One address space of KVM's: the opaque pointer of its operations. */
struct kvm_backend;
struct kvm_face {
    struct kvm_backend *backend;
    unsigned space;
};

struct kvm_backend {
    int vm_fd; /* borrowed */
    bool manual_protect;
    struct kvm_features features;
    struct gate gate; /* the VM's vCPUs stand here */
    unsigned holds;   /* of the gate, by both spaces and by fetches: under the map's commit lock */
    struct dirty_rings rings;         /* entry_count 0: slots have logs */
    struct coalesced_hooks coalesced; /* empty: nobody drains the ring, so nothing is coalesced */
    struct kvm_face faces[RINGS_SPACES];
};

/* What kvm_backend_init() is to do. */
struct kvm_backend_choice {
    uint32_t flags;        /* KVM_BACKEND_* */
    uint32_t ring_entries; /* of each vCPU's dirty ring; 0: none */
    const struct gm_allocator *allocator;
};

/*
 * Make the backend of a VM. Sets whether its logs are cleared by hand; whatever it was before. Rings are
 * enabled, or were by the VM's owner: then of the size that he says they have.
 * Return: 0; -ENOMEM and other errno of a mutex; errno of KVM_ENABLE_CAP; -EOPNOTSUPP this kernel has no
 * rings; -EINVAL it has none of this size, or the VM has rings and @choice none.
 */
int kvm_backend_init(struct kvm_backend *backend, int vm_fd, const struct kvm_features *features,
                     const struct kvm_backend_choice *choice, struct gm_diag *diag);

/* Give it up; the VM's logs are as Linux makes them. No vCPU is at the gate, no slots use it. */
void kvm_backend_fini(struct kvm_backend *backend);

/* What gm_slots_attach() wants to know. @max_slots: fewer than the kernel has; 0: all. */
struct gm_backend_options kvm_backend_options(const struct kvm_backend *backend,
                                              uint32_t max_slots);

/* The operations of one address space; its face is their opaque pointer. */
struct gm_backend_ops kvm_backend_ops(const struct kvm_backend *backend, unsigned space);

/*
 * Map the ring of a vCPU, and harvest it from now on; harvest it a last time, and unmap it. Nothing to do
 * where there are no rings.
 * Context: the vCPU is out of guest mode.
 * Return: 0; -EINVAL the rings of the VM have another size than was said; errno of mmap.
 */
int kvm_ring_map(struct kvm_backend *backend, struct dirty_ring *ring, int vcpu_fd,
                 struct gm_diag *diag);
void kvm_ring_unmap(struct kvm_backend *backend, struct dirty_ring *ring);

#endif
