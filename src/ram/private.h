/*
 * ram/private.h - the memory that a guest keeps private: a part of a guest memfd, beside a block's
 * own memory, which the guest shares with its host. Only the hypervisor maps it.
 */
#ifndef RAM_PRIVATE_H
#define RAM_PRIVATE_H

#include "ram/ram.h"

static inline bool ram_has_guest_memfd(const struct gm_ram *ram)
{
    return ram->guest_memfd >= 0;
}

/* Do the options say it all, or none of it? Return: 0; -EINVAL. */
int private_check(const struct gm_ram_options *options, struct gm_diag *diag);

/*
 * Take a descriptor of our own, if the options name one. What was taken stays with the block when
 * it fails. The block's sizes are set.
 * Return: 0; -EBADF, -EINVAL, -EMFILE of gm_ram_new().
 */
int private_open(struct gm_ram *ram, const struct gm_ram_options *options, struct gm_diag *diag);

/* Give pages of it back to the host. 0, or -1 and errno. */
int private_free_pages(const struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes);

#endif
