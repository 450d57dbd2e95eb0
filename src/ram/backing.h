/*
 * ram/backing.h - what is behind a block's addresses: a descriptor of ours, or memory of the
 * caller's.
 */
#ifndef RAM_BACKING_H
#define RAM_BACKING_H

#include "ram/ram.h"

#define BACKING_NAME_BYTES_MAX 200u

/*
 * Give a new block its descriptor. All that is checked later than the options' form is checked
 * here. What was opened stays with the block when it fails.
 * Return: 0; errors of gm_ram_new().
 */
int backing_open(struct gm_ram *ram, const struct gm_ram_options *options, struct gm_diag *diag);

/* Give a block's own file another size. 0, or -errno; -EFBIG where asking would raise SIGXFSZ. */
int backing_resize_file(const struct gm_ram *ram, uint64_t size_bytes);

/* How many huge pages of that size the host could give now; 0 if it does not say. */
uint64_t backing_free_huge_pages(uint64_t page_bytes);

/*
 * What memory that somebody else has mapped is: sets ram->freeing.
 * Return: 0; -EINVAL not mapped throughout; -EACCES not readable and writable.
 */
int backing_look_up(struct gm_ram *ram, struct gm_diag *diag);

#endif
