/* views.c - which address spaces share a view, and views as text and as JSON. */
#include "views.h"

#include "json.h"
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- sharing ---- */

struct used_view {
    struct gm_view *view;
    size_t space;
};

/* Equal views side by side, the space that uses one first in front. */
static int compare_used(const void *a, const void *b)
{
    const struct used_view *left = a;
    const struct used_view *right = b;

    if (left->view != right->view) {
        return (uintptr_t)left->view < (uintptr_t)right->view ? -1 : 1;
    }
    return left->space < right->space ? -1 : left->space > right->space;
}

/* Find the views of views->spaces, and who shares them. */
static void take(struct views *views, const struct mapfile *mapfile)
{
    size_t count = views->space_count;
    struct used_view *used = tool_alloc(count * sizeof(*used));
    size_t *first_user = tool_alloc(count * sizeof(*first_user));
    size_t i;

    views->number_of_space = tool_alloc(count * sizeof(views->number_of_space[0]));
    views->views = tool_alloc(count * sizeof(views->views[0]));
    for (i = 0; i < count; i++) {
        used[i] = (struct used_view){gm_view_get(mapfile->spaces[views->spaces[i]].space), i};
    }
    qsort(used, count, sizeof(*used), compare_used);
    for (i = 0; i < count; i++) {
        bool is_first = i == 0 || used[i].view != used[i - 1].view;

        first_user[used[i].space] = is_first ? used[i].space : first_user[used[i - 1].space];
        if (is_first) {
            views->views[used[i].space] = used[i].view; /* moved to its number below */
        } else {
            gm_view_put(used[i].view);
        }
    }
    for (i = 0; i < count; i++) {
        if (first_user[i] == i) {
            views->views[views->view_count] = views->views[i];
            views->number_of_space[i] = views->view_count++;
        } else {
            views->number_of_space[i] = views->number_of_space[first_user[i]];
        }
    }
    free(used);
    free(first_user);
}

void views_take(struct views *views, const struct mapfile *mapfile)
{
    size_t i;

    *views = (struct views){.space_count = mapfile->space_count};
    views->spaces = tool_alloc(mapfile->space_count * sizeof(views->spaces[0]));
    for (i = 0; i < mapfile->space_count; i++) {
        views->spaces[i] = i;
    }
    take(views, mapfile);
}

void views_take_named(struct views *views, const struct mapfile *mapfile, const char *as)
{
    char *end;
    unsigned long number;
    size_t i;

    *views = (struct views){0};
    views->spaces = tool_alloc(mapfile->space_count * sizeof(views->spaces[0]));
    for (i = 0; i < mapfile->space_count; i++) {
        if (strcmp(mapfile->spaces[i].name, as) == 0) {
            views->spaces[views->space_count++] = i;
        }
    }
    if (views->space_count == 0 && *as >= '0' && *as <= '9') {
        number = strtoul(as, &end, 10);
        if (*end == '\0' && number < mapfile->space_count) {
            views->spaces[views->space_count++] = number;
        }
    }
    take(views, mapfile);
}

void views_free(struct views *views)
{
    size_t i;

    for (i = 0; i < views->view_count; i++) {
        gm_view_put(views->views[i]);
    }
    free(views->views);
    free(views->spaces);
    free(views->number_of_space);
}

/* ---- text ---- */

const char *flags_text(uint32_t section_flags, char text[FLAGS_TEXT_BYTES])
{
    size_t length = 0;

    if ((section_flags & GM_SECTION_READONLY) != 0) {
        text[length++] = 'o';
    }
    if ((section_flags & GM_SECTION_NONVOLATILE) != 0) {
        text[length++] = 'n';
    }
    if ((section_flags & GM_SECTION_ROMD) != 0) {
        text[length++] = 'R';
    }
    if (length == 0) {
        text[length++] = '-';
    }
    text[length] = '\0';
    return text;
}

static void print_view(FILE *out, size_t number, const struct gm_view *view)
{
    const struct gm_region *root = gm_view_root(view);
    char size[TOOL_HEX_BYTES];
    char flags[FLAGS_TEXT_BYTES];
    struct gm_section section;
    size_t i;

    if (root != NULL) {
        fprintf(out, "view %zu %" PRIu32 " %zu\n", number, mapfile_region_of(root)->id,
                gm_view_count(view));
    } else {
        fprintf(out, "view %zu -1 %zu\n", number, gm_view_count(view));
    }
    for (i = 0; gm_view_at(view, i, &section); i++) {
        fprintf(out, "range %" PRIx64 " %s %" PRIu32 " %" PRIx64 " %s\n", section.gpa,
                tool_hex(gm_section_size(&section), size), mapfile_region_of(section.region)->id,
                section.offset, flags_text(section.flags, flags));
    }
}

void views_print(FILE *out, const struct mapfile *mapfile)
{
    struct views views;
    size_t i;

    views_take(&views, mapfile);
    for (i = 0; i < views.space_count; i++) {
        fprintf(out, "as %zu %zu\n", i, views.number_of_space[i]);
    }
    for (i = 0; i < views.view_count; i++) {
        print_view(out, i, views.views[i]);
    }
    views_free(&views);
}

/* ---- JSON ---- */

static struct json_object *range_to_json(const struct gm_section *section)
{
    struct json_object *range = json_new_object();

    json_add(range, "start", json_new_hex(section->gpa));
    json_add(range, "size", json_new_hex(gm_section_size(section)));
    json_add(range, "region", json_new_number(mapfile_region_of(section->region)->id));
    json_add(range, "name", json_new_text(gm_region_name(section->region)));
    json_add(range, "offset", json_new_hex(section->offset));
    json_add(range, "readonly", json_new_bool((section->flags & GM_SECTION_READONLY) != 0));
    json_add(range, "nonvolatile", json_new_bool((section->flags & GM_SECTION_NONVOLATILE) != 0));
    json_add(range, "romd", json_new_bool((section->flags & GM_SECTION_ROMD) != 0));
    return range;
}

struct json_object *view_to_json(const struct gm_view *view)
{
    const struct gm_region *root = gm_view_root(view);
    struct json_object *object = json_new_object();
    struct json_object *ranges = json_new_array();
    struct gm_section section;
    size_t i;

    json_add(object, "root", root != NULL ? json_new_number(mapfile_region_of(root)->id) : NULL);
    for (i = 0; gm_view_at(view, i, &section); i++) {
        json_append(ranges, range_to_json(&section));
    }
    json_add(object, "ranges", ranges);
    return object;
}

static struct json_object *space_to_json(const struct mapfile_space *space, size_t index,
                                         size_t view)
{
    struct json_object *object = json_new_object();

    json_add(object, "index", json_new_number(index));
    json_add(object, "name", json_new_text(space->name));
    json_add(object, "root", space->root != NULL ? json_new_number(space->root->id) : NULL);
    json_add(object, "view", json_new_number(view));
    return object;
}

struct json_object *views_spaces_to_json(const struct views *views, const struct mapfile *mapfile)
{
    struct json_object *list = json_new_array();
    size_t i;

    for (i = 0; i < views->space_count; i++) {
        size_t index = views->spaces[i];

        json_append(list, space_to_json(&mapfile->spaces[index], index, views->number_of_space[i]));
    }
    return list;
}
