/*
 * ram/memory.h - a block's addresses: reserved as a whole, mapped as far as its size goes.
 *
 * A block is mapped in the middle of a reservation that nobody may access: the page before and the
 * page after it stop a stray pointer. Blocks of 2 MiB and more begin at a multiple of 2 MiB, so
 * that host and second-level page tables can use large pages; those of huge pages at a multiple of
 * these.
 */
#ifndef RAM_MEMORY_H
#define RAM_MEMORY_H

#include "ram/ram.h"

/* Reserve addresses for ram->max_size. Return: 0; -ENOMEM. */
int memory_reserve(struct gm_ram *ram);
/* Give all of them back, with what is mapped there. */
void memory_unreserve(struct gm_ram *ram);

/*
 * Map [from, to) of a block, which are reserved, and advise the kernel about it. Huge pages are
 * reserved by it, so that no touch fails for want of them. On error the part is reserved, as
 * before.
 * Return: 0; -ENOMEM; -EACCES, -ENODEV of the file; what ram_bind() and ram_advise_part() return.
 */
int memory_map(struct gm_ram *ram, uint64_t from, uint64_t to, struct gm_diag *diag);

/*
 * Take [from, to) away; its addresses stay reserved. Where the kernel has no memory for one more of
 * its records, it stays mapped, which does no harm: whoever wants its pages freed has freed them
 * before.
 */
void memory_unmap(struct gm_ram *ram, uint64_t from, uint64_t to);

/* Place what will be made in a mapped part on the block's NUMA nodes. Errors of gm_ram_new(). */
int ram_bind(const struct gm_ram *ram, void *start, uint64_t size_bytes, struct gm_diag *diag);

/*
 * Give a mapped part of the block the advice. Errors of gm_ram_advise(), and then nothing has
 * changed.
 */
int ram_advise_part(const struct gm_ram *ram, void *start, uint64_t size_bytes, uint32_t advice,
                    struct gm_diag *diag);

#endif
