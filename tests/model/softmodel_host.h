/*
 * model/softmodel_host.h - host memory for tests of the software KVM: three areas that claim to be made of
 * 4 KiB, 2 MiB and 1 GiB pages, one where nothing is; what each page's protection is; and contents
 * that tell where they belong.
 */
#ifndef MODEL_SOFTMODEL_HOST_H
#define MODEL_SOFTMODEL_HOST_H

#include "model/random.h"

#include <guestmem/types.h>

#include <stdint.h>

#define HOST_4K (UINT64_C(1) << 12)
#define HOST_2M (UINT64_C(1) << 21)
#define HOST_1G (UINT64_C(1) << 30)

enum softhost_protection {
    HOST_NOTHING, /* not mapped, or PROT_NONE */
    HOST_READ,
    HOST_WRITE,
};

enum softhost_kind { HOST_AREA_4K, HOST_AREA_2M, HOST_AREA_1G, HOST_AREAS };

struct softhost_area {
    uint64_t start;
    uint64_t size_bytes;
    uint64_t granule_bytes;         /* of protections; what it claims as its page size, */
    uint64_t claimed_bytes;         /* unless it claims less just now */
    enum softhost_protection *held; /* one a granule */
};

/* The areas of 2 MiB and 1 GiB lie side by side, so that one slot may span both. */
struct softhost {
    struct softhost_area areas[HOST_AREAS];
    uint64_t nowhere; /* HOST_NOWHERE_BYTES without memory */
    uint64_t spare;   /* a granule of addresses for exchanges */
    uint64_t memfd;   /* HOST_MEMFD_BYTES of a guest memfd; 0: none */
    uint64_t stamps;  /* so that no contents repeat */
};

#define HOST_AREA_4K_BYTES (512 * HOST_4K)
#define HOST_AREA_2M_BYTES (128 * HOST_2M)
#define HOST_AREA_1G_BYTES HOST_1G
#define HOST_MEMFD_BYTES (128 * HOST_4K)
#define HOST_NOWHERE_BYTES (64 * HOST_4K)

void softhost_init(struct softhost *host);
void softhost_fini(struct softhost *host);
/* All of it readable and writable again. */
void softhost_restore(struct softhost *host);

/* Also for addresses in no area. */
enum softhost_protection softhost_protection(const struct softhost *host, uint64_t hva);

/* The option page_bytes of struct gm_soft_options; its opaque is the host. */
uint64_t softhost_page_bytes(void *opaque, gm_hva_t hva, uint64_t size_bytes);

/* Of the pages of large areas, only some are accessed, so that little memory is needed: the
 * @n-th of the 2 MiB that holds the page at @hva. */
#define HOST_HOT_PAGES 4u
uint64_t softhost_hot_page(const struct softhost *host, uint64_t hva, unsigned n);

/* A stretch of granules of one area. */
struct softhost_stretch {
    enum softhost_kind kind;
    uint64_t first;
    uint64_t count;
};
struct softhost_stretch softhost_random_stretch(const struct softhost *host, struct rnd *rnd);
uint64_t softhost_stretch_start(const struct softhost *host, struct softhost_stretch stretch);
uint64_t softhost_stretch_bytes(const struct softhost *host, struct softhost_stretch stretch);

/* What may happen to it between the start and the end of an invalidation. */
void softhost_protect(struct softhost *host, struct softhost_stretch stretch,
                      enum softhost_protection to);
void softhost_discard(struct softhost *host,
                      struct softhost_stretch stretch); /* madvise(MADV_DONTNEED) */
void softhost_exchange(struct softhost *host, uint64_t one,
                       uint64_t other); /* two granules of 4 KiB, mremap() */
/* The area of 2 MiB pages claims smaller ones, or its own again. */
void softhost_resize(struct softhost *host);
/* Give the stretch new contents, where it can be written. */
void softhost_stamp(struct softhost *host, struct softhost_stretch stretch);
/* A guest memfd's memory, with contents; and no more. */
void softhost_map_memfd(struct softhost *host, int fd);
void softhost_unmap_memfd(struct softhost *host);

#endif
