/*
 * model/radix.h - a software IOMMU of one radix table: two levels of 64 entries, pages of 4 KiB and 256 KiB, 16 MiB of
 * addresses. Its translate takes no lock. Who changes it holds its lock over the change and the telling.
 */
#ifndef MODEL_RADIX_H
#define MODEL_RADIX_H

#include <guestmem/guestmem.h>

#include <pthread.h>
#include <stdatomic.h>

#define RADIX_ENTRIES 64u
#define RADIX_PAGE_BYTES UINT64_C(0x1000)
#define RADIX_LARGE_BYTES (RADIX_ENTRIES * RADIX_PAGE_BYTES)
#define RADIX_BYTES (RADIX_ENTRIES * RADIX_LARGE_BYTES)
#define RADIX_PAGES (RADIX_ENTRIES * RADIX_ENTRIES)

/* An entry: an address there, GM_IOMMU_READ and _WRITE; at the upper level also RADIX_LARGE, or the table below. */
#define RADIX_LARGE (UINT64_C(1) << 2)

struct radix_table {
    atomic_uint_fast64_t entries[RADIX_ENTRIES];
};

struct radix {
    struct gm_space *target;
    struct gm_region *region; /* set by who makes it, before anything is mapped */
    pthread_mutex_t lock;
    atomic_uint_fast64_t large[RADIX_ENTRIES]; /* 0: see the table below */
    struct radix_table tables[RADIX_ENTRIES];  /* never freed: nothing that is walked goes */
    atomic_uint kinds;                         /* that notifiers want */
};

extern const struct gm_iommu_ops radix_ops;

void radix_init(struct radix *radix, struct gm_space *target);
void radix_fini(struct radix *radix);

/* Map [iova, iova + size): pages, large ones where @size_bytes is a large page's; tells of it. */
void radix_map(struct radix *radix, uint64_t iova, uint64_t size_bytes, uint64_t translated,
               unsigned rights);

/* Unmap likewise. When it returns, nobody uses what was there. */
void radix_unmap(struct radix *radix, uint64_t iova, uint64_t size_bytes);

#endif
