/*
 * slots/ports.h - the port space's eventfds and coalesced ranges. Ports have no slots; a listener of their own tells the
 * hypervisor of them in the same commits.
 */
#ifndef SLOTS_PORTS_H
#define SLOTS_PORTS_H

#include <guestmem/backend.h>

struct ports;

/*
 * Attach to the port space. Of @ops, which is copied, eventfd_add and _del, coalesced_add and _del are used, for ports;
 * @allocator is copied.
 * Return: 0; what gm_listener_register() and the operations return.
 */
int ports_attach(struct gm_space *space, const struct gm_allocator *allocator,
                 const struct gm_backend_ops *ops, void *opaque, struct ports **ports,
                 struct gm_diag *diag);

/*
 * Take all of them back, and free it. For a map that is gone already, together with the listener: so it cannot fail.
 * NULL is allowed.
 */
void ports_free(struct ports *ports);

#endif
