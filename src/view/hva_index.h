/*
 * view/hva_index.h - from a host address to the range of a view that shows it.
 *
 * Several ranges may show the same host memory (aliases, or regions of one block), in pieces of any
 * length, so a search among ranges sorted by host address would not do: the range that begins last
 * before an address need not be the one that holds it. The index cuts the host addresses into
 * segments that do not overlap, each with the range of the lowest GPA that shows it; a lookup is
 * one binary search. It is made when first asked for and belongs to its view, like whose ranges it
 * is immutable.
 */
#ifndef VIEW_HVA_INDEX_H
#define VIEW_HVA_INDEX_H

#include "base/addr.h"
#include "base/alloc.h"
#include "view/view.h"

struct hva_index;

/*
 * Make the index of a view. Costs n log n; allocates, so not within a read section.
 * Return: the index, or NULL without memory.
 */
struct hva_index *hva_index_new(const struct gm_view *view);

/* NULL is allowed. */
void hva_index_free(const struct gm_allocator *allocator, struct hva_index *index);

/* The range that shows the host byte at @hva, borrowed from the view; NULL if none does. */
const struct range *hva_index_find(const struct hva_index *index, struct hva hva);

/* The same by looking at every range: for when there is no memory for an index, and for tests. */
const struct range *hva_index_scan(const struct gm_view *view, struct hva hva);

#endif
