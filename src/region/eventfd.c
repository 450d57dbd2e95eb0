/* region/eventfd.c - immutable lists of a region's eventfds. */
#include "region/region.h"

void eventfd_list_get(struct eventfd_list *list)
{
    if (list != NULL) {
        ref_get(&list->refs);
    }
}

void eventfd_list_put(struct eventfd_list *list)
{
    if (list != NULL && ref_put(&list->refs)) {
        mem_free(list->allocator, list);
    }
}
