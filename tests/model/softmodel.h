/*
 * model/softmodel.h - the software KVM, slow and obvious: slots in a plain array, a look-up that asks
 * each of them, attributes as the list of what was painted, a bit for each page that was written.
 *
 * Sources: Linux api.rst (KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG,
 * KVM_SET_MEMORY_ATTRIBUTES) and the table of what real kernels answered in LAB.md. Nothing here is
 * taken from the library.
 */
#ifndef MODEL_SOFTMODEL_H
#define MODEL_SOFTMODEL_H

#include <guestmem/soft.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOFTMODEL_SLOTS 64u
#define SOFTMODEL_PAINTS 48u
#define SOFTMODEL_TRACKED 16u
#define SOFTMODEL_PAGE 4096u

/* The flags of KVM's uAPI. */
#define SOFTMODEL_LOG 1u
#define SOFTMODEL_READONLY 2u
#define SOFTMODEL_GUEST_MEMFD 4u

/* Attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE, and guestmem's own three. */
#define SOFTMODEL_NO_READ 1u
#define SOFTMODEL_NO_WRITE 2u
#define SOFTMODEL_NO_EXECUTE 4u
#define SOFTMODEL_PRIVATE 8u

struct softmodel_slot {
    bool is_used;
    bool is_private; /* the VM's own: users cannot name it, nor overlap it */
    uint16_t id;
    uint8_t space;
    uint32_t flags;
    uint64_t first; /* guest frame */
    uint64_t page_count;
    uint64_t hva;
    uint64_t private_hva; /* of pages that are private to the guest; 0: there is no such memory */
    /* A bit a page, while the slot is logged; else NULL. `dirty`: written since the last harvest, has to
     * be reported. `maybe`: may be reported, and need not. */
    uint64_t *dirty;
    uint64_t *maybe;
    /* While a list is looked at: the slot whose log this one goes on with, -1 for none. */
    int goes_on;
};

/* Attributes that were set, over those that were set before. */
struct softmodel_paint {
    uint64_t first;
    uint64_t page_count;
    uint64_t attributes;
};

struct softmodel_tracked {
    unsigned space;
    uint64_t frame;
    unsigned count;
};

struct softmodel {
    unsigned gpa_bits;
    unsigned spaces;
    bool has_rings;
    bool has_ring_bitmap;
    uint64_t manual; /* what KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 was enabled with */
    struct softmodel_slot slots[SOFTMODEL_SLOTS];
    struct softmodel_paint paints[SOFTMODEL_PAINTS];
    unsigned paint_count;
    struct softmodel_tracked tracked[SOFTMODEL_TRACKED];
};

/* What the dictionary says of a page, or, of several, what holds for all of them. */
struct softmodel_page {
    struct softmodel_slot *slot; /* NULL: nothing is there, or not all of it in one slot */
    uint64_t hva;
    uint64_t shared_hva; /* the slot's, also of a private page */
    bool is_private;     /* it lies in a guest memfd, as the test has it mapped */
    uint64_t attributes; /* of the first page */
    bool is_uniform;     /* the pages have equal attributes */
    bool is_tracked;     /* one of them is */
    /* What entries may allow, as far as slot, attributes and tracking go. */
    bool can_read;
    bool can_write;
    bool can_execute;
};

enum softmodel_verdict {
    SOFTMODEL_MEMORY,
    SOFTMODEL_MMIO,
    SOFTMODEL_DENIED,
};

void softmodel_init(struct softmodel *model, unsigned gpa_bits, unsigned spaces);
void softmodel_fini(struct softmodel *model);

/* As gm_soft_set_slots(): all or none. Return: 0, -EINVAL, -EEXIST, and *failed says which. */
int softmodel_set_slots(struct softmodel *model, const struct gm_soft_slot *changes, size_t count,
                        size_t *failed);
/* A new slot with a guest memfd: its private pages are at @private_hva. Return: as above. */
int softmodel_set_memfd_slot(struct softmodel *model, const struct gm_soft_slot *change,
                             uint64_t private_hva);
/* A slot of the VM's own, in all spaces, at a place that is free. */
void softmodel_add_private(struct softmodel *model, uint64_t gpa, uint64_t page_count);

/* By number as the ioctls have it: id, and space from bit 16 on. NULL: none. */
struct softmodel_slot *softmodel_by_number(struct softmodel *model, uint32_t number);
unsigned softmodel_count(const struct softmodel *model);

struct softmodel_page softmodel_look(struct softmodel *model, unsigned space, uint64_t frame,
                                     uint64_t page_count);
enum softmodel_verdict softmodel_judge(const struct softmodel_page *page,
                                       enum gm_mmu_access access);

/* A vCPU wrote the page. */
void softmodel_wrote(struct softmodel_page *page, uint64_t frame);
/* A vCPU was about to. */
void softmodel_nearly_wrote(struct softmodel_page *page, uint64_t frame);
/* Are all of these pages of the slot dirty, or may be? */
bool softmodel_all_dirty(const struct softmodel_slot *slot, uint64_t frame, uint64_t page_count);
/* The page of a slot has been harvested. */
void softmodel_cleaned(struct softmodel_slot *slot, uint64_t page);

static inline bool softmodel_bit(const uint64_t *bits, uint64_t page)
{
    return bits != NULL && (bits[page / 64] >> (page % 64) & 1) != 0;
}

/* The errors of KVM_GET_DIRTY_LOG; of KVM_CLEAR_DIRTY_LOG with these pages. */
int softmodel_log_errno(struct softmodel *model, uint32_t number);
int softmodel_clear_errno(struct softmodel *model, uint32_t number, uint64_t first_page,
                          uint64_t page_count);

/* As kcore_set_attributes(). Return: 0; -EINVAL. */
int softmodel_set_attributes(struct softmodel *model, uint64_t gpa, uint64_t size_bytes,
                             uint64_t attributes);
/* Return: 0; -EINVAL; untrack: -ENOENT. At most SOFTMODEL_TRACKED frames at once: -ENOSPC. */
int softmodel_track(struct softmodel *model, unsigned space, uint64_t gpa);
int softmodel_untrack(struct softmodel *model, unsigned space, uint64_t gpa);

#endif
