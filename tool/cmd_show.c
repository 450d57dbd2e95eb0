/* cmd_show.c - `guestmem show`: a map for people. */
#include "json.h"
#include "show.h"
#include "table.h"
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>

static const char help[] =
    "Usage: guestmem show [--as NAME] [--json] FILE\n"
    "\n"
    "Show a machine's memory map: its address spaces, the tree of regions below them, the flat\n"
    "views that the trees come to, and the slots that a hypervisor would be given. Addresses are\n"
    "hexadecimal. FILE is a map, or - for stdin. This is one; save it and try:\n"
    "\n"
    "  # region ID ADDR SIZE PRIO FLAGS NAME   E enabled, T has content, M it is RAM, o read-only\n"
    "  region 0 0 10000000000000000 0 E system\n"
    "  region 1 0 8000000 0 ETM ram\n"
    "  region 2 a0000 20000 1 ET vga\n"
    "  region 3 fffc0000 40000 0 ETMo bios\n"
    "  region 4 e0000 20000 1 E bios-below-1m\n"
    "  alias 4 3 20000\n"
    "  sub 0 1\n"
    "  sub 0 2\n"
    "  sub 0 3\n"
    "  sub 0 4\n"
    "  as 0 memory\n"
    "\n"
    "  --as NAME  only the address spaces of that name, or the one of that number\n"
    "  --json     as JSON\n"
    "  --help     this text\n"
    "\n"
    "States of regions: disabled; hidden, if no range of the shown views is of it. ~ says that a\n"
    "size is rounded down. guestmem(1) describes the formats.\n"
    "\n"
    "Exit code: 0; 1 the output could not be written; 2 the map is wrong: FILE:LINE says how.\n";

/* More names than that do not help. */
#define USERS_SHOWN_MAX 4

static void print_spaces(const struct mapfile *mapfile, const struct views *views)
{
    static const struct table_column columns[] = {{"number", TABLE_RIGHT},
                                                  {"view", TABLE_RIGHT},
                                                  {"root", TABLE_RIGHT},
                                                  {"name", TABLE_LEFT}};
    struct table table;
    size_t i;

    table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
    for (i = 0; i < views->space_count; i++) {
        const struct mapfile_space *space = &mapfile->spaces[views->spaces[i]];

        table_add(&table, "%zu", views->spaces[i]);
        table_add(&table, "%zu", views->number_of_space[i]);
        if (space->root != NULL) {
            table_add(&table, "%" PRIu32, space->root->id);
        } else {
            table_add(&table, "none");
        }
        table_add(&table, "%s", space->name);
    }
    puts("ADDRESS SPACES");
    table_print(&table);
}

static void print_users(const struct mapfile *mapfile, const struct views *views, size_t view)
{
    size_t count = 0;
    size_t i;

    for (i = 0; i < views->space_count; i++) {
        if (views->number_of_space[i] == view && count++ < USERS_SHOWN_MAX) {
            char *name = tool_printable(mapfile->spaces[views->spaces[i]].name);

            printf("%s%s", count == 1 ? " of " : ", ", name);
            free(name);
        }
    }
    if (count > USERS_SHOWN_MAX) {
        printf(" and %zu more", count - USERS_SHOWN_MAX);
    }
}

/* The first address space that shows a view. */
static struct gm_space *user_of(const struct mapfile *mapfile, const struct views *views,
                                size_t view)
{
    size_t i = 0;

    while (views->number_of_space[i] != view) {
        i++;
    }
    return mapfile->spaces[views->spaces[i]].space;
}

static void print_view(const struct mapfile *mapfile, const struct views *views, size_t view)
{
    size_t count = gm_view_count(views->views[view]);
    struct show_slots slots;

    printf("\nFLAT VIEW %zu", view);
    print_users(mapfile, views, view);
    printf(": %zu range%s\n", count, count == 1 ? "" : "s");
    show_view(views->views[view]);
    if (count == 0) {
        return;
    }
    show_slots_plan(&slots, user_of(mapfile, views, view));
    if (slots.diag.code != 0) {
        printf("\nSLOTS of view %zu: none can be planned: %s\n", view, slots.diag.text);
    } else if (slots.count == 0) {
        printf("\nSLOTS of view %zu: none, it has no page of RAM\n", view);
    } else {
        printf("\nSLOTS of view %zu: %zu\n", view, slots.count);
        show_slots(&slots);
    }
    show_slots_free(&slots);
}

static int print_text(const struct mapfile *mapfile, const struct views *views)
{
    size_t i;

    print_spaces(mapfile, views);
    show_trees(mapfile, views);
    for (i = 0; i < views->view_count; i++) {
        print_view(mapfile, views, i);
    }
    return tool_finish_output();
}

static struct json_object *diag_to_json(const struct gm_diag *diag)
{
    struct json_object *object = json_new_object();

    json_add(object, "id", json_new_text(gm_diag_id_name(diag->id)));
    json_add(object, "error", json_new_text(tool_error_name(diag->code)));
    json_add(object, "text", json_new_text(diag->text));
    return object;
}

static int print_json(const struct mapfile *mapfile, const struct views *views)
{
    struct json_object *object = json_new_object();
    struct json_object *list = json_new_array();
    size_t i;

    json_add(object, "regions", show_regions_to_json(mapfile));
    json_add(object, "spaces", views_spaces_to_json(views, mapfile));
    for (i = 0; i < views->view_count; i++) {
        struct json_object *view = view_to_json(views->views[i]);
        struct show_slots slots;

        show_slots_plan(&slots, user_of(mapfile, views, i));
        json_add(view, "slots", slots.diag.code == 0 ? show_slots_to_json(&slots) : NULL);
        json_add(view, "slots_error", slots.diag.code != 0 ? diag_to_json(&slots.diag) : NULL);
        show_slots_free(&slots);
        json_append(list, view);
    }
    json_add(object, "views", list);
    return json_print(object);
}

static int show(const struct mapfile *mapfile, const struct tool_options *options)
{
    struct views views;
    int exit_code;

    if (options->as != NULL) {
        views_take_named(&views, mapfile, options->as);
    } else {
        views_take(&views, mapfile);
    }
    if (options->as != NULL && views.space_count == 0) {
        tool_error("show: %s has no address space '%s' (guestmem show %s lists them)",
                   options->path, options->as, options->path);
        exit_code = TOOL_BAD_INPUT;
    } else if (options->json) {
        exit_code = print_json(mapfile, &views);
    } else {
        exit_code = print_text(mapfile, &views);
    }
    views_free(&views);
    return exit_code;
}

int cmd_show(int argc, char **argv)
{
    struct tool_options options = {.help = help, .takes_json = true, .takes_as = true};
    struct mapfile mapfile;
    struct lines lines;
    int exit_code;

    if (!tool_options_parse(&options, argc, argv, &exit_code)) {
        return exit_code;
    }
    if (mapfile_load(&mapfile, &lines, options.path) != 0) {
        exit_code = TOOL_BAD_INPUT;
    } else {
        exit_code = show(&mapfile, &options);
    }
    mapfile_free(&mapfile);
    lines_close(&lines);
    return exit_code;
}
