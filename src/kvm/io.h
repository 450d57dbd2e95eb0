/*
 * kvm/io.h - eventfds and coalesced ranges of one VM on /dev/kvm, as operations of a backend: of memory for gm_slots_attach(),
 * of ports for ports_attach(). Both have a struct kvm_face as their opaque pointer.
 */
#ifndef KVM_IO_H
#define KVM_IO_H

#include "kvm/backend.h"

/* Enter into a table what this kernel has. */
void kvm_memory_io_ops(const struct kvm_backend *backend, struct gm_backend_ops *ops);
struct gm_backend_ops kvm_port_ops(const struct kvm_backend *backend);

#endif
