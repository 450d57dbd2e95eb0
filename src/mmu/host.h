/*
 * mmu/host.h - the host's memory behind a slot: making sure that it is there, and its page size.
 */
#ifndef MMU_HOST_H
#define MMU_HOST_H

#include "base/addr.h"

#include <stdbool.h>
#include <stdint.h>

/* Of what kind a slot's memory is. */
enum host_kind {
    HOST_KIND_UNKNOWN, /* nobody has asked yet */
    HOST_KIND_SHARED,  /* host_is_shared_memory() */
    HOST_KIND_OTHER,
};

/* Does this kernel have what host_populate() needs (MADV_POPULATE_WRITE, Linux 5.14)? */
bool host_can_populate(void);

/*
 * Make host pages present, for reading or for writing, as a touch would, but without a signal where
 * that cannot be. May block in the kernel (swap, userfaultfd).
 * Return: 0; -EFAULT nothing is mapped there, or not with that right; -ENOMEM; -EHWPOISON.
 */
int host_populate(struct hva hva, uint64_t size_bytes, bool for_writing);

/*
 * How many pages from @hva on, at most @page_count (HOST_PRESENT_MAX), the host has in memory, whether this process's
 * tables have them or not. 0 also where nothing is mapped, or that is not to be known.
 */
#define HOST_PRESENT_MAX 64u
unsigned host_present_pages(struct hva hva, unsigned page_count);

/*
 * Is all of the range mapped shared and writable, of memory that has no other store: memfd, /dev/shm, shared
 * anonymous? As /proc/self/maps tells; slow: some microseconds, or more in a process with many mappings.
 */
bool host_is_shared_memory(struct hva hva, uint64_t size_bytes);

/*
 * The largest page size that backs all of the range, as /proc/self/smaps tells: that of hugetlb
 * memory, else 4096. Slow: some microseconds, or more in a process with much memory.
 */
uint64_t host_page_bytes(struct hva hva, uint64_t size_bytes);

#endif
