/*
 * space/reader.c - a reader's own reference on the newest view, and when it is another one. The inlined half, in guestmem/space.h,
 * asks whether the map has published anything (base/readers.h: the count alone; no slot, since the view is referenced).
 */
#include "space/cell.h"

#include <guestmem/space.h>

void gm_reader_init(struct gm_reader *reader, struct gm_space *space)
{
    *reader = (struct gm_reader){.changes = space->map->readers.changes, .space = space};
    (void)gm_reader_view_slow(reader);
}

void gm_reader_fini(struct gm_reader *reader)
{
    gm_view_put((struct gm_view *)reader->view);
    *reader = (struct gm_reader){0};
}

const struct gm_view *gm_reader_view_slow(struct gm_reader *reader)
{
    struct gm_view *old = (struct gm_view *)reader->view;
    /* Read before the view is: a change that comes meanwhile makes the next call come here again. */
    uint64_t number = readers_number(&reader->space->map->readers);
    struct gm_view *view;

    rcu_enter();
    view = (struct gm_view *)space_view(reader->space);
    if (view != old) {
        view_get(view); /* the cell's reference lasts beyond this section */
    }
    rcu_leave();
    reader->view = view;
    reader->changes_seen = number;
    if (view != old && old != NULL) {
        view_put(old); /* outside of the section, since it can call out */
    }
    return view;
}
