/* show_tree.c - the tree of regions for people: each region once, at the addresses of its root. */
#include "show.h"

#include "table.h"
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Deeper levels are not indented further: the names stay in sight. */
#define INDENT_LEVELS_MAX 24

struct trees {
    const struct mapfile *mapfile;
    struct mapfile_region **children; /* all children, those of one parent together, as printed */
    size_t child_count;
    size_t *first_child; /* of each region: its first index in children; one more at the end */
    bool *is_printed;
    bool *is_visible;                /* some range of a shown view is of it */
    struct mapfile_region **targets; /* of aliases, to be printed if nobody else does */
    size_t target_count;
    size_t target_capacity;
};

/* A region on the way down, and where the walk is among its children. */
struct level {
    struct mapfile_region *region;
    gm_size_t start; /* unclipped, so it may lie past 2^64 */
    size_t next_child;
};

static size_t index_of(const struct trees *trees, const struct mapfile_region *region)
{
    return (size_t)(region - trees->mapfile->regions);
}

/* By parent; below it by address, and what covers the other first. */
static int compare_children(const void *a, const void *b)
{
    const struct mapfile_region *left = *(struct mapfile_region *const *)a;
    const struct mapfile_region *right = *(struct mapfile_region *const *)b;

    if (left->parent != right->parent) {
        return left->parent < right->parent ? -1 : 1; /* both in one array */
    }
    if (left->addr != right->addr) {
        return left->addr < right->addr ? -1 : 1;
    }
    if (left->priority != right->priority) {
        return left->priority > right->priority ? -1 : 1;
    }
    return left->sub_line > right->sub_line ? -1 : left->sub_line < right->sub_line;
}

static void sort_children(struct trees *trees)
{
    const struct mapfile *mapfile = trees->mapfile;
    size_t next = 0;
    size_t i;

    trees->children = tool_alloc(mapfile->sub_count * sizeof(trees->children[0]));
    for (i = 0; i < mapfile->sub_count; i++) {
        trees->children[i] = mapfile->subs[i].child;
    }
    trees->child_count = mapfile->sub_count;
    qsort(trees->children, trees->child_count, sizeof(trees->children[0]), compare_children);
    trees->first_child = tool_alloc((mapfile->region_count + 1) * sizeof(trees->first_child[0]));
    for (i = 0; i < mapfile->region_count; i++) {
        trees->first_child[i] = next;
        while (next < trees->child_count && trees->children[next]->parent == &mapfile->regions[i]) {
            next++;
        }
    }
    trees->first_child[mapfile->region_count] = next;
}

static void find_visible(struct trees *trees, const struct views *views)
{
    struct gm_section section;
    size_t i;
    size_t k;

    trees->is_visible = tool_alloc(trees->mapfile->region_count * sizeof(bool));
    for (i = 0; i < views->view_count; i++) {
        for (k = 0; gm_view_at(views->views[i], k, &section); k++) {
            trees->is_visible[index_of(trees, mapfile_region_of(section.region))] = true;
        }
    }
}

/* ---- a row ---- */

static const struct table_column tree_columns[] = {
    {"id", TABLE_RIGHT},   {"first", TABLE_RIGHT}, {"last", TABLE_RIGHT},
    {"size", TABLE_RIGHT}, {"prio", TABLE_RIGHT},  {"kind", TABLE_LEFT},
    {"flags", TABLE_LEFT}, {"state", TABLE_LEFT},  {"region", TABLE_LEFT},
};

static const char *state_of(const struct trees *trees, const struct mapfile_region *region)
{
    enum gm_region_kind kind = gm_region_kind(region->region);

    if ((region->flags & MAPFILE_ENABLED) == 0) {
        return "disabled";
    }
    if (kind == GM_REGION_CONTAINER || kind == GM_REGION_ALIAS) {
        return "";
    }
    return trees->is_visible[index_of(trees, region)] ? "" : "hidden";
}

static const char *flags_of(const struct mapfile_region *region)
{
    bool is_readonly = (region->flags & MAPFILE_READONLY) != 0;

    if ((region->flags & MAPFILE_NONVOLATILE) != 0) {
        return is_readonly ? "ro nv" : "nv";
    }
    return is_readonly ? "ro" : "";
}

static void add_row(struct trees *trees, struct table *table, const struct level *level,
                    size_t depth)
{
    const struct mapfile_region *region = level->region;
    int indent = 2 * (int)(depth < INDENT_LEVELS_MAX ? depth : INDENT_LEVELS_MAX);
    char first[TOOL_HEX_BYTES];
    char last[TOOL_HEX_BYTES];
    char size[SHOW_SIZE_BYTES];

    table_add(table, "%" PRIu32, region->id);
    table_add(table, "%s", tool_hex(level->start, first));
    table_add(table, "%s",
              region->size != 0 ? tool_hex(level->start + region->size - 1, last) : "-");
    table_add(table, "%s", show_size(region->size, size));
    table_add(table, "%" PRId32, region->priority);
    table_add(table, "%s", show_kind(region->region));
    table_add(table, "%s", flags_of(region));
    table_add(table, "%s", state_of(trees, region));
    if (region->target != NULL) {
        table_add(table, "%*s%s = %s (%" PRIu32 ") from %" PRIx64, indent, "", region->name,
                  region->target->name, region->target->id, region->target_offset);
    } else {
        table_add(table, "%*s%s", indent, "", region->name);
    }
}

/* ---- walking ---- */

static void note_target(struct trees *trees, struct mapfile_region *target)
{
    trees->targets = tool_reserve(trees->targets, &trees->target_capacity, trees->target_count + 1,
                                  sizeof(trees->targets[0]));
    trees->targets[trees->target_count++] = target;
}

/* Without recursion: files may be as deep as they like. */
static void add_tree(struct trees *trees, struct table *table, struct mapfile_region *root)
{
    struct level *levels = NULL;
    size_t capacity = 0;
    size_t depth = 0;
    struct level next = {.region = root, .start = root->addr};

    for (;;) {
        if (next.region != NULL) {
            size_t index = index_of(trees, next.region);

            next.next_child = trees->first_child[index];
            add_row(trees, table, &next, depth);
            trees->is_printed[index] = true;
            if (next.region->target != NULL) {
                note_target(trees, next.region->target);
            }
            levels = tool_reserve(levels, &capacity, depth + 1, sizeof(*levels));
            levels[depth++] = next;
            next.region = NULL;
        } else if (depth == 0) {
            break;
        } else {
            struct level *at = &levels[depth - 1];

            if (at->next_child < trees->first_child[index_of(trees, at->region) + 1]) {
                next.region = trees->children[at->next_child++];
                next.start = at->start + next.region->addr;
            } else {
                depth--;
            }
        }
    }
    free(levels);
}

static void print_tree(struct trees *trees, struct mapfile_region *root)
{
    struct table table;

    table_init(&table, tree_columns, sizeof(tree_columns) / sizeof(tree_columns[0]));
    add_tree(trees, &table, root);
    table_print(&table);
}

/* All targets in one table: they are small. What one of them leads to follows it. */
static void print_targets(struct trees *trees)
{
    struct table table;
    bool is_first = true;
    size_t i;

    table_init(&table, tree_columns, sizeof(tree_columns) / sizeof(tree_columns[0]));
    for (i = 0; i < trees->target_count; i++) {
        struct mapfile_region *target = trees->targets[i];

        if (!trees->is_printed[index_of(trees, target)]) {
            if (is_first) {
                puts("\nSEEN THROUGH ALIASES (at their own addresses)");
                is_first = false;
            }
            add_tree(trees, &table, target);
        }
    }
    table_print(&table);
}

void show_trees(const struct mapfile *mapfile, const struct views *views)
{
    struct trees trees = {.mapfile = mapfile};
    size_t i;

    sort_children(&trees);
    find_visible(&trees, views);
    trees.is_printed = tool_alloc(mapfile->region_count * sizeof(bool));
    for (i = 0; i < views->space_count; i++) {
        struct mapfile_region *root = mapfile->spaces[views->spaces[i]].root;

        if (root != NULL && !trees.is_printed[index_of(&trees, root)]) {
            char *name = tool_printable(mapfile->spaces[views->spaces[i]].name);

            printf("\nTREE of address space %zu, %s\n", views->spaces[i], name);
            print_tree(&trees, root);
            free(name);
        }
    }
    print_targets(&trees);
    free(trees.children);
    free(trees.first_child);
    free(trees.is_printed);
    free(trees.is_visible);
    free(trees.targets);
}
