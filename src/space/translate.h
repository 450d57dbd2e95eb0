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

#include "region/iommu.h"
#include "space/cell.h"

#include <guestmem/access.h>

#define IOMMU_DEPTH_MAX 8u

/* What an access wants to do. */
#define NEED_READ GM_IOMMU_READ
#define NEED_WRITE GM_IOMMU_WRITE

/*
 * When a translation was asked for: before that, and of all that were followed in a row. What it said may be used inside
 * a section in which the ticket still holds; an unmap that comes later waits for that section
 * (region/iommu.h).
 */
struct ticket {
    const struct gm_map *map; /* alive: somebody has a reference on a region of it */
    uint64_t unmaps;
};

static inline struct ticket ticket_now(const struct gm_map *map)
{
    return (struct ticket){map, iommu_unmaps(map)};
}

/* Context: inside a section, before anything that a translation said is touched. */
static inline bool ticket_holds(const struct ticket *ticket)
{
    return iommu_unmaps(ticket->map) == ticket->unmaps;
}

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
    struct ticket ticket;      /* of the translation */
};

/*
 * Ask an IOMMU region about an access at @offset in it, of which size_bytes are clipped to the
 * page that the answer is about.
 * Context: outside of a read section, with a reference on the region.
 * Return: OK, and where the access goes on: space (not to be touched outside of a section in which the
 * ticket holds) and gpa; or DENIED.
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

/*
 * Enter a section again, in which what was asked for with @ticket may be used, and find the view of where it
 * leads. False: not entered, since something was unmapped meanwhile.
 */
bool iommu_enter(const struct ticket *ticket, const struct iommu_access *access,
                 const struct gm_view **view);

/* Look @place up: set range and run_bytes. Context: inside a read section. */
static inline void place_look(struct place *place)
{
    uint64_t hole_last = 0;

    place->range = view_lookup(place->view, place->gpa, &hole_last);
    place->run_bytes = bytes_until(
        place->gpa, place->range != NULL ? place->range->last : hole_last, place->size_bytes);
}

/* A place that view_find() was asked about: @range is what it found, or NULL. run_bytes is left to place_look_again(). */
static inline struct place place_found(const struct gm_view *view, uint64_t gpa,
                                       uint64_t size_bytes, const struct range *range,
                                       unsigned need, struct gm_attrs attrs)
{
    return (struct place){
        .view = view,
        .gpa = gpa,
        .size_bytes = size_bytes,
        .need = need,
        .attrs = attrs,
        .range = range,
    };
}

/*
 * Complete what place_found() left open. Context: inside the same read section.
 * Return: NULL; or the view with a reference, which is due to be given to view_warm() after the section.
 */
struct gm_view *place_look_again(struct place *place);

static inline bool place_is_iommu(const struct place *place)
{
    return place->range != NULL && place->range->region->kind == GM_REGION_IOMMU;
}

/*
 * Look @place up, and follow it until no IOMMU is there.
 * Context: inside a read section; the caller has a reference on the view, where it may begin again.
 * Return: OK, still inside one (maybe another), in which the ticket holds; or DENIED, the section left: run_bytes
 * are denied.
 */
enum gm_access place_follow(struct place *place);

/*
 * Widen run_bytes over the ranges that follow, within size_bytes, as far as their host memory
 * follows the place's in one block and may be used in the same way. The place's own range is host
 * memory. Context: in the section of place_follow().
 */
void place_extend(struct place *place);

#endif
