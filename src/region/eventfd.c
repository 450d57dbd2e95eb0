/* region/eventfd.c - immutable lists of a region's eventfds. */
#include "region/eventfd.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

bool eventfd_same(const struct gm_eventfd *a, const struct gm_eventfd *b)
{
    return a->offset == b->offset && a->size_bytes == b->size_bytes && a->match == b->match &&
           a->value == b->value && a->fd == b->fd;
}

/* The eventfd's index in the list, or the list's count. */
static uint32_t find(const struct eventfd_list *list, const struct gm_eventfd *eventfd)
{
    uint32_t index = 0;

    while (index < list->count && !eventfd_same(&list->items[index].given, eventfd)) {
        index++;
    }
    return index;
}

bool eventfd_list_has(const struct eventfd_list *list, const struct gm_eventfd *eventfd)
{
    return list != NULL && find(list, eventfd) < list->count;
}

static int handle_new(const struct gm_allocator *allocator, int fd, struct eventfd_handle **handle)
{
    struct eventfd_handle *made = mem_alloc(allocator, sizeof(*made));

    if (made == NULL) {
        return -ENOMEM;
    }
    ref_init(&made->refs);
    made->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (made->fd < 0) {
        int result = -errno;

        mem_free(allocator, made);
        return result;
    }
    *handle = made;
    return 0;
}

static void handle_put(const struct gm_allocator *allocator, struct eventfd_handle *handle)
{
    if (ref_put(&handle->refs)) {
        close(handle->fd);
        mem_free(allocator, handle);
    }
}

static struct eventfd_list *list_new(const struct gm_allocator *allocator, uint32_t count)
{
    struct eventfd_list *list =
        mem_alloc(allocator, sizeof(*list) + count * sizeof(list->items[0]));

    if (list != NULL) {
        ref_init(&list->refs);
        list->allocator = allocator; /* the map's: regions and views keep it alive */
        list->count = count;
    }
    return list;
}

static void copy_item(struct eventfd_item *to, const struct eventfd_item *from)
{
    *to = *from;
    ref_get(&to->handle->refs);
}

int eventfd_list_with(const struct gm_allocator *allocator, const struct eventfd_list *old,
                      const struct gm_eventfd *eventfd, struct eventfd_list **list)
{
    uint32_t count = old != NULL ? old->count : 0;
    struct eventfd_list *made;
    uint32_t i;
    int result;

    if (eventfd_list_has(old, eventfd)) {
        return -EEXIST;
    }
    made = list_new(allocator, count + 1);
    if (made == NULL) {
        return -ENOMEM;
    }
    result = handle_new(allocator, eventfd->fd, &made->items[count].handle);
    if (result != 0) {
        mem_free(allocator, made);
        return result;
    }
    made->items[count].given = *eventfd;
    for (i = 0; i < count; i++) {
        copy_item(&made->items[i], &old->items[i]);
    }
    *list = made;
    return 0;
}

int eventfd_list_without(const struct gm_allocator *allocator, const struct eventfd_list *old,
                         const struct gm_eventfd *eventfd, struct eventfd_list **list)
{
    struct eventfd_list *made;
    uint32_t count = 0;
    uint32_t i;

    *list = NULL;
    if (!eventfd_list_has(old, eventfd)) {
        return -ENOENT;
    }
    if (old->count == 1) {
        return 0;
    }
    made = list_new(allocator, old->count - 1);
    if (made == NULL) {
        return -ENOMEM;
    }
    for (i = 0; i < old->count; i++) {
        if (!eventfd_same(&old->items[i].given, eventfd)) {
            copy_item(&made->items[count], &old->items[i]);
            count++;
        }
    }
    *list = made;
    return 0;
}

void eventfd_list_get(struct eventfd_list *list)
{
    if (list != NULL) {
        ref_get(&list->refs);
    }
}

void eventfd_list_put(struct eventfd_list *list)
{
    uint32_t i;

    if (list == NULL || !ref_put(&list->refs)) {
        return;
    }
    for (i = 0; i < list->count; i++) {
        handle_put(list->allocator, list->items[i].handle);
    }
    mem_free(list->allocator, list);
}
