/* cmd_flat.c - `guestmem flat`: the flat view of each address space of a map. */
#include "json.h"
#include "mapfile.h"
#include "tool.h"
#include "views.h"

static const char help[] =
    "Usage: guestmem flat [--json] FILE\n"
    "\n"
    "Print the flat views of a machine's address spaces: which range of addresses shows which\n"
    "region. FILE is a map (guestmem show --help has one), or - for stdin. Numbers are\n"
    "hexadecimal, but for INDEX, VIEW, REGION, ROOT and COUNT:\n"
    "\n"
    "  as INDEX VIEW                          equal VIEW: the address spaces share one view\n"
    "  view VIEW ROOT COUNT                   ROOT: the region it was rendered from, or -1\n"
    "  range START SIZE REGION OFFSET FLAGS   o read-only, n nonvolatile, R romd mode, or -\n"
    "\n"
    "  --json    the same as JSON\n"
    "  --help    this text\n"
    "\n"
    "Exit code: 0; 1 the output could not be written; 2 the map is wrong: FILE:LINE says how.\n";

static int print_json(const struct mapfile *mapfile)
{
    struct json_object *object = json_new_object();
    struct json_object *list = json_new_array();
    struct views views;
    size_t i;

    views_take(&views, mapfile);
    json_add(object, "spaces", views_spaces_to_json(&views, mapfile));
    for (i = 0; i < views.view_count; i++) {
        json_append(list, view_to_json(views.views[i]));
    }
    json_add(object, "views", list);
    views_free(&views);
    return json_print(object);
}

int cmd_flat(int argc, char **argv)
{
    struct tool_options options = {.help = help, .takes_json = true};
    struct mapfile mapfile;
    struct lines lines;
    int exit_code;

    if (!tool_options_parse(&options, argc, argv, &exit_code)) {
        return exit_code;
    }
    if (mapfile_load(&mapfile, &lines, options.path) != 0) {
        exit_code = TOOL_BAD_INPUT;
    } else if (options.json) {
        exit_code = print_json(&mapfile);
    } else {
        views_print(stdout, &mapfile);
        exit_code = tool_finish_output();
    }
    mapfile_free(&mapfile);
    lines_close(&lines);
    return exit_code;
}
