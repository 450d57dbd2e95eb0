/* kvm/ring.h - a VM's dirty rings: enabling them. Mapping them is backend.h's. */
#ifndef KVM_RING_H
#define KVM_RING_H

#include "kvm/backend.h"

/* The rings of @choice, if any. Errors as kvm_backend_init(). */
int kvm_rings_enable(struct kvm_backend *backend, const struct kvm_backend_choice *choice,
                     struct gm_diag *diag);

#endif
