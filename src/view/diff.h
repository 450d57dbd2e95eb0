/*
 * view/diff.h - what changed between two lists of ranges, in the order in which listeners are told.
 */
#ifndef VIEW_DIFF_H
#define VIEW_DIFF_H

#include "view/view.h"

#include <guestmem/listener.h>

struct change_list {
    struct gm_change *items;
    size_t count;
    size_t capacity;
    size_t second_pass; /* items before it are of the first pass */
};

/* A source of ascending ranges: some of a view, or an array. */
struct range_source {
    const struct gm_view *view; /* NULL: the array */
    const struct range *array;
    size_t first;
    size_t end;
};

/*
 * Append to the list what leads from @before to @after: first pass (dels) of all calls first, so call
 * diff_first_pass() for each window in ascending order, then diff_second_pass() likewise.
 * Return: 0; -ENOMEM.
 */
int diff_first_pass(struct change_list *list, const struct gm_allocator *allocator,
                    struct range_source before, struct range_source after);
int diff_second_pass(struct change_list *list, const struct gm_allocator *allocator,
                     struct range_source before, struct range_source after);

#endif
