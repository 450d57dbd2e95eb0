/*
 * views.h - the flat views of a map's address spaces: which spaces share one, how they are printed.
 */
#ifndef TOOL_VIEWS_H
#define TOOL_VIEWS_H

#include "mapfile.h"

#include <json-c/json.h>

/* A snapshot. Views are numbered in the order in which address spaces first use them. */
struct views {
    size_t space_count;
    size_t *spaces;          /* indices of the mapfile's spaces, ascending */
    size_t *number_of_space; /* the view of each of them */
    size_t view_count;
    struct gm_view **views; /* a reference each */
};

/*
 * Take a snapshot of all address spaces; or of those named @as, or, if none is, of the one with
 * that number. Nothing may be found: space_count is 0 then.
 */
void views_take(struct views *views, const struct mapfile *mapfile);
void views_take_named(struct views *views, const struct mapfile *mapfile, const char *as);
void views_free(struct views *views);

/* As the corpus has it in views.txt. */
void views_print(FILE *out, const struct mapfile *mapfile);

/* Arrays for the JSON output: the snapshot's address spaces; one view's ranges, in an object. */
struct json_object *views_spaces_to_json(const struct views *views, const struct mapfile *mapfile);
struct json_object *view_to_json(const struct gm_view *view);

/* Flags of a section: o, n, R, or -. */
#define FLAGS_TEXT_BYTES 4
const char *flags_text(uint32_t section_flags, char text[FLAGS_TEXT_BYTES]);

#endif
