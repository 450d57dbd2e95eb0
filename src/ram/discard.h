/* ram/discard.h - giving pages back to the host. */
#ifndef RAM_DISCARD_H
#define RAM_DISCARD_H

#include "ram/ram.h"

/*
 * Free the pages of a part that is mapped, between telling those who map it, and those of its private
 * memory. ram->memory_lock is held.
 * @halves: GM_RAM_HALF_*; of both the private memory goes even if the shared does not.
 * Return: 0; -EOPNOTSUPP, -EIO, -ENOSPC, -ENOMEM as gm_ram_discard().
 */
int discard_part(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes, uint32_t halves);

#endif
