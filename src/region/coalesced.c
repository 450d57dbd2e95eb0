/* region/coalesced.c - immutable lists of a region's coalesced ranges. */
#include "region/coalesced.h"

#include <errno.h>

static struct span span_of_item(const struct coalesced_item *item)
{
    return span_of(item->offset, (pos_t)item->size);
}

static bool same(const struct coalesced_item *a, const struct coalesced_item *b)
{
    return a->offset == b->offset && a->size == b->size;
}

bool coalesced_list_has(const struct coalesced_list *list, const struct coalesced_item *item)
{
    for (uint32_t i = 0; list != NULL && i < list->count; i++) {
        if (same(&list->items[i], item)) {
            return true;
        }
    }
    return false;
}

static bool overlaps(const struct coalesced_list *list, const struct coalesced_item *item)
{
    for (uint32_t i = 0; list != NULL && i < list->count; i++) {
        if (!span_is_empty(span_meet(span_of_item(&list->items[i]), span_of_item(item)))) {
            return true;
        }
    }
    return false;
}

/* Room for @count; filled with @old's but @except. */
static struct coalesced_list *list_new(const struct gm_allocator *allocator, uint32_t count,
                                       const struct coalesced_list *old,
                                       const struct coalesced_item *except)
{
    struct coalesced_list *list =
        mem_alloc(allocator, sizeof(*list) + count * sizeof(list->items[0]));

    if (list == NULL) {
        return NULL;
    }
    ref_init(&list->refs);
    list->allocator = allocator; /* the map's: regions and views keep it alive */
    list->count = 0;
    for (uint32_t i = 0; old != NULL && i < old->count; i++) {
        if (except == NULL || !same(&old->items[i], except)) {
            list->items[list->count] = old->items[i];
            list->count++;
        }
    }
    return list;
}

int coalesced_list_with(const struct gm_allocator *allocator, const struct coalesced_list *old,
                        const struct coalesced_item *item, struct coalesced_list **list)
{
    struct coalesced_list *made;

    if (overlaps(old, item)) {
        return -EEXIST;
    }
    made = list_new(allocator, (old != NULL ? old->count : 0) + 1, old, NULL);
    if (made == NULL) {
        return -ENOMEM;
    }
    made->items[made->count] = *item;
    made->count++;
    *list = made;
    return 0;
}

int coalesced_list_without(const struct gm_allocator *allocator, const struct coalesced_list *old,
                           const struct coalesced_item *item, struct coalesced_list **list)
{
    *list = NULL;
    if (!coalesced_list_has(old, item)) {
        return -ENOENT;
    }
    if (old->count == 1) {
        return 0;
    }
    *list = list_new(allocator, old->count - 1, old, item);
    return *list != NULL ? 0 : -ENOMEM;
}

void coalesced_list_get(struct coalesced_list *list)
{
    if (list != NULL) {
        ref_get(&list->refs);
    }
}

void coalesced_list_put(struct coalesced_list *list)
{
    if (list != NULL && ref_put(&list->refs)) {
        mem_free(list->allocator, list);
    }
}
