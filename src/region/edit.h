/*
 * region/edit.h - one edit of the tree: applied, and taken back exactly.
 *
 * An edit is recorded by its arguments. Applying checks it against the tree as it is by then and keeps what it
 * replaces; reverting, in reverse order, puts that back and cannot fail. Finishing drops what a
 * successful commit no longer needs (references, dirty clients that ended).
 */
#ifndef REGION_EDIT_H
#define REGION_EDIT_H

#include "region/region.h"

#include <guestmem/txn.h>

enum edit_kind {
    EDIT_ADD = 1,
    EDIT_DEL,
    EDIT_ADDR,
    EDIT_SIZE,
    EDIT_PRIORITY,
    EDIT_ENABLED,
    EDIT_READONLY,
    EDIT_NONVOLATILE,
    EDIT_ROMD,
    EDIT_ALIAS_OFFSET,
    EDIT_LOG,
    EDIT_LOG_ALL,
    EDIT_EVENTFD_ADD,
    EDIT_EVENTFD_DEL,
    EDIT_COALESCED_ADD,
    EDIT_COALESCED_DEL,
    EDIT_ROOT, /* of an address space: space/ applies it, not us */
};

struct edit {
    enum edit_kind kind;
    struct gm_region
        *region; /* the child, for ADD and DEL; NULL for LOG_ALL, maybe for ROOT; referenced */
    struct gm_region *parent; /* ADD, DEL; referenced */
    struct gm_space *space;   /* ROOT; referenced */
    union {
        gm_size_t size;
        uint64_t number; /* addr, alias offset, client mask of LOG */
        int32_t priority;
        bool flag;
        struct gm_eventfd eventfd;
        struct coalesced_item coalesced;
    } to;
    bool on; /* LOG, LOG_ALL */
    union {
        pos_t size;
        uint64_t number;
        int32_t priority;
        bool flag;
        uint32_t mask;
        struct eventfd_list *eventfds;
        struct coalesced_list *coalesced;
        struct gm_region *root;
    } from;
    uint64_t old_added; /* DEL: the child's place among equals */
};

/* Would applying it now change anything? What does not, touches nothing and tells nobody. */
bool edit_changes(struct map_locked locked, const struct edit *edit);

/* 0, or -EINVAL, -EBUSY, -ENOENT, -ELOOP, -EEXIST, -ENOMEM: then nothing has changed. */
int edit_apply(struct map_locked locked, struct edit *edit);
void edit_revert(struct map_locked locked, struct edit *edit);

/* After the commit: drops references that the tree gave up. Release callbacks wait for the lock to go. */
void edit_finish(struct map_locked locked, struct edit *edit);

#endif
