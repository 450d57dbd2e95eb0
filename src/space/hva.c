/* space/hva.c - from a host address to the region and guest address that show it. */
#include "space/route.h"
#include "space/cell.h"
#include "view/hva_index.h"

#include <guestmem/access.h>

#include <errno.h>

/* Inside a section. */
static struct hva_index *index_of(const struct gm_view *view)
{
    /* acquire: pairs with the release in make_index() */
    return atomic_load_explicit(&((struct gm_view *)view)->hva_index, memory_order_acquire);
}

/*
 * Make the index of a view that has none, outside of a section: it allocates. Two threads may both
 * make one; the first is kept.
 */
static void make_index(struct gm_view *view)
{
    struct hva_index *index = hva_index_new(view);
    struct hva_index *none = NULL;

    /* release: pairs with the acquire in index_of() and view_put() */
    if (index != NULL &&
        !atomic_compare_exchange_strong_explicit(&view->hva_index, &none, index,
                                                 memory_order_release, memory_order_relaxed)) {
        hva_index_free(&view->map->allocator, index);
    }
}

/* What was found, with a reference on its region. */
static int found(const struct range *range, struct gm_space *space, struct hva hva, gm_gpa_t *gpa,
                 struct gm_section *section)
{
    if (range == NULL) {
        return -ENOENT;
    }
    gm_region_get(range->region);
    range_to_section(range, space, section);
    *gpa = range->gpa + (hva.value - hva_of(range->hva).value);
    return 0;
}

int gm_hva_find(struct gm_space *space, const void *pointer, gm_gpa_t *gpa,
                struct gm_section *section)
{
    struct hva hva = hva_of(pointer);
    struct hva_index *index;
    struct gm_view *view;
    int result;

    rcu_enter();
    view = (struct gm_view *)space_view(space);
    index = index_of(view);
    if (index != NULL) {
        result = found(hva_index_find(index, hva), space, hva, gpa, section);
        rcu_leave();
        return result;
    }
    view_get(view);
    rcu_leave();
    make_index(view);
    index = index_of(view);
    result = found(index != NULL ? hva_index_find(index, hva) : hva_index_scan(view, hva), space,
                   hva, gpa, section);
    view_put(view);
    return result;
}
