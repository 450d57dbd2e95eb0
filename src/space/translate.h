/*
 * space/translate.h - following IOMMUs: from an address in one space to where the access really
 * goes.
 *
 * An IOMMU's callback runs outside of read sections. It names another space, where a range may
 * again be an IOMMU, and so on; after IOMMU_DEPTH_MAX of them the access is denied, so that spaces
 * which translate into each other end.
 */
#ifndef SPACE_TRANSLATE_H
#define SPACE_TRANSLATE_H

#include "space/space.h"

#include <guestmem/access.h>

#define IOMMU_DEPTH_MAX 8u

/* What an access wants to do. */
#define NEED_READ (1u << 0)
#define NEED_WRITE (1u << 1)

/*
 * An address that is being followed: in @view, which the open read section keeps, or whose
 * reference somebody has.
 */
struct place {
    const struct gm_view *view;
    uint64_t gpa;
    uint64_t size_bytes; /* wanted from gpa on; following it past an IOMMU clips it to the page */
    unsigned need;       /* NEED_* */
    struct gm_attrs attrs;

    /* What is there. */
    const struct range *range; /* NULL: a hole */
    uint64_t run_bytes;        /* the part of size_bytes that lies in the range, or hole */
    bool is_translated;        /* an IOMMU was followed */
};

/*
 * Ask an IOMMU region about an access at @offset in it, of which size_bytes are clipped to the
 * page that the answer is about.
 * Context: outside of a read section, with a reference on the region.
 * Return: OK, and where the access goes on: space (the callback's to keep) and gpa; or DENIED.
 */
struct iommu_access {
    struct gm_region *region;
    uint64_t offset;
    unsigned need; /* NEED_* */
    struct gm_attrs attrs;
    uint64_t size_bytes;    /* in: wanted; out: of the page */
    struct gm_space *space; /* out */
    uint64_t gpa;           /* out */
};
enum gm_access iommu_ask(struct iommu_access *access);

/* Look @place up: set range and run_bytes. Context: inside a read section. */
static inline void place_look(struct place *place)
{
    uint64_t hole_last = 0;

    place->range = view_lookup(place->view, place->gpa, &hole_last);
    place->run_bytes = bytes_until(
        place->gpa, place->range != NULL ? place->range->last : hole_last, place->size_bytes);
}

/* A place that view_lookup() has found already; need and attrs are left to the caller. */
static inline struct place place_found(const struct gm_view *view, uint64_t gpa,
                                       uint64_t size_bytes, const struct range *range,
                                       uint64_t hole_last)
{
    return (struct place){
        .view = view,
        .gpa = gpa,
        .size_bytes = size_bytes,
        .range = range,
        .run_bytes = bytes_until(gpa, range != NULL ? range->last : hole_last, size_bytes),
    };
}

static inline bool place_is_iommu(const struct place *place)
{
    return place->range != NULL && place->range->region->kind == GM_REGION_IOMMU;
}

/*
 * Look @place up, and follow it until no IOMMU is there.
 * Context: inside a read section.
 * Return: OK, still inside one (maybe another); or DENIED, the section left: run_bytes are denied.
 */
enum gm_access place_follow(struct place *place);

/*
 * Widen run_bytes over the ranges that follow, within size_bytes, as far as their host memory
 * follows the place's in one block and may be used in the same way. The place's own range is host
 * memory. Context: in the section of place_follow().
 */
void place_extend(struct place *place);

#endif
