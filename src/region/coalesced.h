/*
 * region/coalesced.h - a region's coalesced ranges: an immutable list, replaced as a whole, so that a flat range
 * can hold the one it was rendered with. Ranges of one list do not overlap.
 */
#ifndef REGION_COALESCED_H
#define REGION_COALESCED_H

#include "base/addr.h"
#include "base/alloc.h"
#include "base/ref.h"

#include <stdbool.h>

/* In the region's own coordinates. One that is the whole region, whatever its size, ends at 2^64. */
struct coalesced_item {
    uint64_t offset;
    gm_size_t size;
};

struct coalesced_list {
    struct ref refs;
    const struct gm_allocator *allocator;
    uint32_t count;
    struct coalesced_item items[];
};

bool coalesced_list_has(const struct coalesced_list *list, const struct coalesced_item *item);

/*
 * A new list: @old with one more, or with one less (NULL if none is left). @old (NULL: an empty one) stays as it
 * is.
 * Return: 0; -EEXIST it overlaps one that is there; -ENOMEM. Without: -ENOENT; -ENOMEM.
 */
int coalesced_list_with(const struct gm_allocator *allocator, const struct coalesced_list *old,
                        const struct coalesced_item *item, struct coalesced_list **list);
int coalesced_list_without(const struct gm_allocator *allocator, const struct coalesced_list *old,
                           const struct coalesced_item *item, struct coalesced_list **list);

/* References; NULL is allowed. */
void coalesced_list_get(struct coalesced_list *list);
void coalesced_list_put(struct coalesced_list *list);

#endif
