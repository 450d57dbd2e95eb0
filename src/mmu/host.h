/*
 * mmu/host.h - the host's memory behind a slot: making sure that it is there, and its page size.
 */
#ifndef MMU_HOST_H
#define MMU_HOST_H

#include "base/addr.h"

#include <stdbool.h>
#include <stdint.h>

/* Does this kernel have what host_populate() needs (MADV_POPULATE_WRITE, Linux 5.14)? */
bool host_can_populate(void);

/*
 * Make host pages present, for reading or for writing, as a touch would, but without a signal where
 * that cannot be. May block in the kernel (swap, userfaultfd).
 * Return: 0; -EFAULT nothing is mapped there, or not with that right; -ENOMEM; -EHWPOISON.
 */
int host_populate(struct hva hva, uint64_t size_bytes, bool for_writing);

/*
 * The largest page size that backs all of the range, as /proc/self/smaps tells: that of hugetlb
 * memory, else 4096. Slow: some microseconds, or more in a process with much memory.
 */
uint64_t host_page_bytes(struct hva hva, uint64_t size_bytes);

#endif
