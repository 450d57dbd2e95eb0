/*
 * guestmem/guestmem.h - all of the public interface, but for the software KVM's ioctls:
 * soft_ioctl.h and kvm_abi.h bring <linux/kvm.h> with them, so who wants them asks for them.
 */
#ifndef GUESTMEM_GUESTMEM_H
#define GUESTMEM_GUESTMEM_H

#include <guestmem/access.h>
#include <guestmem/backend.h>
#include <guestmem/iommu.h>
#include <guestmem/listener.h>
#include <guestmem/map.h>
#include <guestmem/mmu.h>
#include <guestmem/ram.h>
#include <guestmem/region.h>
#include <guestmem/soft.h>
#include <guestmem/space.h>
#include <guestmem/txn.h>
#include <guestmem/types.h>
#include <guestmem/version.h>
#include <guestmem/vm.h>

#endif
