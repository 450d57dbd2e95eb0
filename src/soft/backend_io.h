/*
 * soft/backend_io.h - eventfds and coalesced ranges of a map, as operations of a backend: of memory for gm_slots_attach(), of
 * ports for ports_attach(). Both have a struct soft_face as their opaque pointer.
 */
#ifndef SOFT_BACKEND_IO_H
#define SOFT_BACKEND_IO_H

#include "soft/soft.h"

#include <guestmem/backend.h>

/* Coalesced ranges are there once somebody drains the ring: soft->coalesced. */
void soft_memory_io_ops(const struct gm_soft *soft, struct gm_backend_ops *ops);
struct gm_backend_ops soft_port_ops(const struct gm_soft *soft);

#endif
