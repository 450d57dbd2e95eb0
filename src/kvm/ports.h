/*
 * kvm/ports.h - the port space's eventfds. Ports have no slots; a listener of their own registers
 * their eventfds with KVM in the same commits.
 */
#ifndef KVM_PORTS_H
#define KVM_PORTS_H

#include "kvm/backend.h"

#include <guestmem/listener.h>

struct kvm_ports;

/*
 * Attach to the port space. @backend is borrowed; @allocator is copied.
 * Return: 0; what gm_listener_register() and kvm_eventfd_add() return.
 */
int kvm_ports_attach(struct gm_map *map, struct gm_space *space, const struct kvm_backend *backend,
                     const struct gm_allocator *allocator, struct kvm_ports **ports,
                     struct gm_diag *diag);

/*
 * Take all of its eventfds back from KVM, and free it. For a map that is gone already, together with
 * the listener: so it cannot fail. NULL is allowed.
 */
void kvm_ports_free(struct kvm_ports *ports);

#endif
