/*
 * region/eventfd.h - a region's eventfds: an immutable list, replaced as a whole, so that a flat range can
 * hold the one it was rendered with.
 *
 * An access that began before an eventfd was removed may signal it afterwards, when its owner has closed
 * the descriptor and the number is another file's. So signals go to a duplicate of ours, which all
 * lists with the eventfd share; listeners are told the owner's number.
 */
#ifndef REGION_EVENTFD_H
#define REGION_EVENTFD_H

#include "base/ref.h"

#include <guestmem/txn.h>

struct eventfd_handle {
    struct ref refs;
    int fd; /* ours */
};

struct eventfd_item {
    struct gm_eventfd given;
    struct eventfd_handle *handle; /* referenced */
};

struct eventfd_list {
    struct ref refs;
    const struct gm_allocator *allocator;
    uint32_t count;
    struct eventfd_item items[];
};

bool eventfd_same(const struct gm_eventfd *a, const struct gm_eventfd *b);

/* Is it in the list (NULL: an empty one)? */
bool eventfd_list_has(const struct eventfd_list *list, const struct gm_eventfd *eventfd);

/*
 * A new list: @old with one more, or with one less (NULL if none is left). @old stays as it is.
 * Return: 0; -EEXIST; -EBADF, -EMFILE the descriptor cannot be duplicated; -ENOMEM. Without: -ENOENT;
 * -ENOMEM.
 */
int eventfd_list_with(const struct gm_allocator *allocator, const struct eventfd_list *old,
                      const struct gm_eventfd *eventfd, struct eventfd_list **list);
int eventfd_list_without(const struct gm_allocator *allocator, const struct eventfd_list *old,
                         const struct gm_eventfd *eventfd, struct eventfd_list **list);

/* References; NULL is allowed. */
void eventfd_list_get(struct eventfd_list *list);
void eventfd_list_put(struct eventfd_list *list);

#endif
