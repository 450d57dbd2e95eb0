/*
 * space/tell.h - telling listeners: the calls of guestmem/listener.h in their order, for a commit as for
 * a registration.
 */
#ifndef SPACE_TELL_H
#define SPACE_TELL_H

#include "space/hub.h"
#include "space/space.h"
#include "view/diff.h"

/* One space whose view changes, and how. */
struct told {
    struct gm_space *space;
    struct change_list *changes; /* shared by the spaces of a cell */
};

struct telling {
    struct map_locked locked;
    struct gm_listener **listeners; /* ascending */
    size_t listener_count;
    struct told *told; /* ascending by space index */
    size_t told_count;
    size_t told_capacity;
    uint32_t old_log_all; /* the map's global clients before and after */
    uint32_t new_log_all;
    struct gm_diag *diag;
};

/* Ask listeners to prepare. On failure those that had are told abort. 0, or what one returned. */
int tell_prepare(struct telling *telling);

/* begin, then both passes of every space. */
void tell_changes(struct telling *telling);

/* apply. On failure what was applied is undone, and all are told abort; if an undo fails the map
 * breaks, and the result is -EIO. */
int tell_apply(struct telling *telling);

/* After publishing: settle, then commit. */
void tell_settled(struct telling *telling);

/* Enter a space, once, at its place among the others; 0 or -ENOMEM. */
int tell_add(struct telling *telling, struct gm_space *space, struct change_list *changes);
void tell_end(struct telling *telling);

#endif
