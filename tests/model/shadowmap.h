/*
 * model/shadowmap.h - what a VFIO-like user of a space writes: a dictionary from a device's addresses (IOVA) to host
 * addresses, kept in step with a space by a listener, and with each IOMMU in it by a notifier.
 */
#ifndef MODEL_SHADOWMAP_H
#define MODEL_SHADOWMAP_H

#include <guestmem/guestmem.h>

#include <pthread.h>

#define SHADOWMAP_PAGES 8192u
#define SHADOWMAP_PAGE_BYTES UINT64_C(4096)
#define SHADOWMAP_SECTIONS 8u

/* An IOMMU's section, and its notifier. */
struct shadowmap_section {
    struct shadowmap *owner;
    struct gm_iommu_notifier *notifier; /* NULL: free */
    gm_gpa_t gpa;
    uint64_t offset;
};

struct shadowmap {
    struct gm_listener *listener;
    pthread_mutex_t lock;
    void *hva[SHADOWMAP_PAGES]; /* of each page of the space; NULL: the device reaches nothing */
    struct shadowmap_section sections[SHADOWMAP_SECTIONS];
};

/* Follow @space, from what it shows now on. */
void shadowmap_init(struct shadowmap *shadow, struct gm_space *space);
void shadowmap_fini(struct shadowmap *shadow);

/* What the device has at a page. Any thread. */
void *shadowmap_at(struct shadowmap *shadow, uint64_t page);

#endif
