/* ram/prealloc.h - making pages present where the kernel has no call for it. */
#ifndef RAM_PREALLOC_H
#define RAM_PREALLOC_H

#include "ram/ram.h"

/*
 * On kernels before 5.14: space for a file's part by fallocate(); private anonymous memory by
 * writing back what each page holds, in one instruction. Other kinds' pages could be missed by
 * SIGBUS.
 * Return: 0; -EOPNOTSUPP such a kind; -ENOMEM.
 */
int prealloc_by_touch(const struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes);

#endif
