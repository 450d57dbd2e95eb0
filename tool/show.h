/*
 * show.h - the parts of `guestmem show`: what is in a map, for people and as JSON.
 */
#ifndef TOOL_SHOW_H
#define TOOL_SHOW_H

#include "mapfile.h"
#include "views.h"

#include <json-c/json.h>

/* The slots that a hypervisor with 4 KiB pages would be given for one view. */
struct show_slots {
    struct gm_slot *list;
    size_t count;
    struct gm_diag diag; /* if there is no plan: why; else its code is 0 */
};

/* Plan the slots of what @space shows. */
void show_slots_plan(struct show_slots *slots, struct gm_space *space);
void show_slots_free(struct show_slots *slots);

/* A size for people: "640 KiB", "~3.99 GiB" where two decimals do not say all. */
#define SHOW_SIZE_BYTES 24
const char *show_size(gm_size_t size_bytes, char text[SHOW_SIZE_BYTES]);

/* "ram", "container", ... */
const char *show_kind(const struct gm_region *region);

/* The trees below the snapshot's roots, and the targets of aliases in them that lie elsewhere. */
void show_trees(const struct mapfile *mapfile, const struct views *views);

/* One view, and its slots. */
void show_view(const struct gm_view *view);
void show_slots(const struct show_slots *slots);

struct json_object *show_regions_to_json(const struct mapfile *mapfile);
struct json_object *show_slots_to_json(const struct show_slots *slots);

#endif
