/*
 * soft/guest_memfd.h - files for memory that a guest keeps private (KVM_CREATE_GUEST_MEMFD), and
 * the slots that are bound to parts of them (KVM_SET_USER_MEMORY_REGION2).
 *
 * A file is a memfd that the user owns. We remember which ones we made, by device and inode, and
 * keep none of them open: the memory goes when the user has closed the file and no slot is bound to
 * it. A binding maps its part of the file, and lives until readers of the slot have gone.
 *
 *   bind --> bound (its part of the file is taken) --slot removed, or never made--> unbound
 *        --grace period--> unmapped and freed
 */
#ifndef SOFT_GUEST_MEMFD_H
#define SOFT_GUEST_MEMFD_H

#include "base/lock.h"
#include "kcore/kcore.h"

#include <stdint.h>

struct gm_soft;
struct guest_memfd;
struct guest_memfd_binding;

struct guest_memfds {
    struct lock lock; /* rank LEAF: what follows */
    struct guest_memfd *files;
    struct kcore_follower follower; /* tells which bound slots are removed */
};

/* Return: 0; -errno of a mutex. */
int guest_memfds_init(struct guest_memfds *memfds);
/* No binding is left. */
void guest_memfds_fini(struct guest_memfds *memfds, const struct gm_allocator *allocator);

/*
 * KVM_CREATE_GUEST_MEMFD. @flags: those of KVM_CAP_GUEST_MEMFD_FLAGS, all of which change nothing here.
 * Return: a descriptor, the caller's; -EINVAL flags, or a size that is 0, negative as a file's is,
 * or not page-aligned; -ENOMEM; -EMFILE, -ENFILE and what else memfd_create() and ftruncate() say.
 */
int guest_memfd_create(struct gm_soft *soft, uint64_t size_bytes, uint64_t flags);

/*
 * Take a part of a file for a slot, and map it.
 * @fd: as the user gave it.
 * Return: 0; -EBADF no descriptor; -EINVAL no guest memfd of this VM, or past its end; -EEXIST a
 * part of it is bound; -ENOMEM.
 */
int guest_memfd_bind(struct gm_soft *soft, uint32_t fd, uint64_t offset_bytes, uint64_t size_bytes,
                     struct guest_memfd_binding **binding);

/* Where it is mapped. */
struct hva guest_memfd_hva(const struct guest_memfd_binding *binding);

/* Give up a binding whose slot could not be made. */
void guest_memfd_unbind(struct gm_soft *soft, struct guest_memfd_binding *binding);

/* kcore_arch_ops.private_gone: @private_opaque is the VM, @private_owner the binding. */
void guest_memfd_gone(void *private_opaque, void *private_owner);

#endif
