/* guestmem/guestmem.h - all of the public interface. */
#ifndef GUESTMEM_GUESTMEM_H
#define GUESTMEM_GUESTMEM_H

#include <guestmem/access.h>
#include <guestmem/backend.h>
#include <guestmem/listener.h>
#include <guestmem/map.h>
#include <guestmem/ram.h>
#include <guestmem/region.h>
#include <guestmem/space.h>
#include <guestmem/txn.h>
#include <guestmem/types.h>
#include <guestmem/version.h>
#include <guestmem/vm.h>

#endif
