/* mapfile.c - reading a map: its lines, and whether they fit together. */
#include "mapfile.h"

#include "tool.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    char letter;
    uint32_t flag;
} flag_letters[] = {
    {'E', MAPFILE_ENABLED},    {'T', MAPFILE_TERMINATES},  {'M', MAPFILE_RAM},
    {'D', MAPFILE_RAM_DEVICE}, {'O', MAPFILE_ROM_DEVICE},  {'R', MAPFILE_ROMD},
    {'o', MAPFILE_READONLY},   {'n', MAPFILE_NONVOLATILE}, {'i', MAPFILE_IOMMU},
};

/* ---- one line ---- */

static int take_flags(struct lines *lines, uint32_t *flags)
{
    struct word word;
    size_t i;
    size_t k;

    *flags = 0;
    if (take_word(lines, "FLAGS", &word) != 0) {
        return -1;
    }
    if (word_is(word, "-")) {
        return 0;
    }
    for (i = 0; i < word.length; i++) {
        uint32_t flag = 0;

        for (k = 0; k < sizeof(flag_letters) / sizeof(flag_letters[0]); k++) {
            if (flag_letters[k].letter == word.text[i]) {
                flag = flag_letters[k].flag;
            }
        }
        if (flag == 0) {
            return lines_error(lines, "FLAGS: '%c' is none of ETMDORoni", word.text[i]);
        }
        if ((*flags & flag) != 0) {
            return lines_error(lines, "FLAGS: '%c' stands twice", word.text[i]);
        }
        *flags |= flag;
    }
    return 0;
}

/* What a region can hold besides its children is one thing at most. */
static int check_flags(const struct lines *lines, const struct mapfile_region *region)
{
    bool is_ram = (region->flags & (MAPFILE_RAM | MAPFILE_RAM_DEVICE)) != 0;
    bool is_rom_device = (region->flags & MAPFILE_ROM_DEVICE) != 0;
    bool is_iommu = (region->flags & MAPFILE_IOMMU) != 0;

    if ((is_iommu && (is_ram || is_rom_device)) ||
        (is_rom_device && (region->flags & MAPFILE_RAM_DEVICE) != 0)) {
        return lines_error(lines, "FLAGS: of D, O and i a region has one; i has no M");
    }
    return 0;
}

static int read_region(struct mapfile *mapfile, struct lines *lines)
{
    struct mapfile_region region = {.line = lines->number};

    if (take_decimal(lines, "ID", &region.id) != 0 ||
        take_hex64(lines, "ADDR", &region.addr) != 0 ||
        take_hex(lines, "SIZE", GM_SIZE_2_64, &region.size) != 0 ||
        take_signed(lines, "PRIO", 10, &region.priority) != 0 ||
        take_flags(lines, &region.flags) != 0 || check_flags(lines, &region) != 0) {
        return -1;
    }
    region.largest_size = region.size;
    region.name = take_rest(lines);
    mapfile->regions = tool_reserve(mapfile->regions, &mapfile->region_capacity,
                                    mapfile->region_count + 1, sizeof(region));
    mapfile->regions[mapfile->region_count++] = region;
    return 0;
}

static int read_alias(struct mapfile *mapfile, struct lines *lines)
{
    struct mapfile_alias alias = {.line = lines->number};

    if (take_decimal(lines, "ID", &alias.id) != 0 ||
        take_decimal(lines, "TARGET", &alias.target_id) != 0 ||
        take_hex64(lines, "OFFSET", &alias.offset) != 0 || take_end(lines) != 0) {
        return -1;
    }
    mapfile->aliases = tool_reserve(mapfile->aliases, &mapfile->alias_capacity,
                                    mapfile->alias_count + 1, sizeof(alias));
    mapfile->aliases[mapfile->alias_count++] = alias;
    return 0;
}

static int read_sub(struct mapfile *mapfile, struct lines *lines)
{
    struct mapfile_sub sub = {.line = lines->number};

    if (take_decimal(lines, "PARENT", &sub.parent_id) != 0 ||
        take_decimal(lines, "CHILD", &sub.child_id) != 0 || take_end(lines) != 0) {
        return -1;
    }
    mapfile->subs =
        tool_reserve(mapfile->subs, &mapfile->sub_capacity, mapfile->sub_count + 1, sizeof(sub));
    mapfile->subs[mapfile->sub_count++] = sub;
    return 0;
}

static int read_space(struct mapfile *mapfile, struct lines *lines)
{
    struct mapfile_space space = {.line = lines->number, .has_root = true};
    const char *before = lines->next;
    struct word word;

    if (take_word(lines, "ROOT", &word) != 0) {
        return -1;
    }
    if (word_is(word, "-1")) {
        space.has_root = false;
    } else {
        lines->next = before;
        if (take_decimal(lines, "ROOT", &space.root_id) != 0) {
            return -1;
        }
    }
    space.name = take_rest(lines);
    mapfile->spaces = tool_reserve(mapfile->spaces, &mapfile->space_capacity,
                                   mapfile->space_count + 1, sizeof(space));
    mapfile->spaces[mapfile->space_count++] = space;
    return 0;
}

/* Return: 1 the line was the map's; 0 it is of another kind; -1 it is wrong. */
static int read_line(struct mapfile *mapfile, struct lines *lines)
{
    static const struct {
        const char *word;
        int (*read)(struct mapfile *mapfile, struct lines *lines);
    } readers[] = {
        {"region", read_region}, {"alias", read_alias}, {"sub", read_sub}, {"as", read_space}};
    struct word word;
    size_t i;

    if (take_word(lines, "a word", &word) != 0) {
        return -1;
    }
    for (i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
        if (word_is(word, readers[i].word)) {
            return readers[i].read(mapfile, lines) == 0 ? 1 : -1;
        }
    }
    lines->next = lines->text;
    return 0;
}

/* ---- all lines together ---- */

static int compare_ids(const void *a, const void *b)
{
    const struct mapfile_region *left = *(struct mapfile_region *const *)a;
    const struct mapfile_region *right = *(struct mapfile_region *const *)b;

    if (left->id != right->id) {
        return left->id < right->id ? -1 : 1;
    }
    return left->line < right->line ? -1 : left->line > right->line;
}

static int index_regions(struct mapfile *mapfile)
{
    size_t i;

    mapfile->by_id = tool_alloc(mapfile->region_count * sizeof(mapfile->by_id[0]));
    for (i = 0; i < mapfile->region_count; i++) {
        mapfile->by_id[i] = &mapfile->regions[i];
    }
    qsort(mapfile->by_id, mapfile->region_count, sizeof(mapfile->by_id[0]), compare_ids);
    for (i = 1; i < mapfile->region_count; i++) {
        const struct mapfile_region *first = mapfile->by_id[i - 1];

        if (mapfile->by_id[i]->id == first->id) {
            return lines_error_at(mapfile->lines, mapfile->by_id[i]->line,
                                  "region %u stands in line %lu already", first->id, first->line);
        }
    }
    return 0;
}

struct mapfile_region *mapfile_find(const struct mapfile *mapfile, uint32_t id)
{
    size_t low = 0;
    size_t high = mapfile->region_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (mapfile->by_id[middle]->id == id) {
            return mapfile->by_id[middle];
        }
        if (mapfile->by_id[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* The region that a line names; NULL after saying that there is none. */
static struct mapfile_region *resolve(const struct mapfile *mapfile, uint32_t id,
                                      unsigned long line)
{
    struct mapfile_region *region = mapfile_find(mapfile, id);

    if (region == NULL) {
        lines_error_at(mapfile->lines, line, "there is no region %u", id);
    }
    return region;
}

static int resolve_alias(const struct mapfile *mapfile, const struct mapfile_alias *alias)
{
    const uint32_t content =
        MAPFILE_TERMINATES | MAPFILE_RAM | MAPFILE_RAM_DEVICE | MAPFILE_ROM_DEVICE | MAPFILE_IOMMU;
    struct mapfile_region *region = resolve(mapfile, alias->id, alias->line);
    struct mapfile_region *target =
        region != NULL ? resolve(mapfile, alias->target_id, alias->line) : NULL;

    if (target == NULL) {
        return -1;
    }
    if (region->target != NULL) {
        return lines_error_at(mapfile->lines, alias->line,
                              "region %u is an alias already, by line %lu", region->id,
                              region->alias_line);
    }
    if ((region->flags & content) != 0) {
        return lines_error_at(mapfile->lines, alias->line,
                              "region %u has one of the flags TMDOi: it is no alias", region->id);
    }
    region->target = target;
    region->target_offset = alias->offset;
    region->alias_line = alias->line;
    return 0;
}

static int resolve_sub(const struct mapfile *mapfile, struct mapfile_sub *sub)
{
    sub->parent = resolve(mapfile, sub->parent_id, sub->line);
    sub->child = sub->parent != NULL ? resolve(mapfile, sub->child_id, sub->line) : NULL;
    if (sub->child == NULL) {
        return -1;
    }
    if (sub->parent->target != NULL) {
        return lines_error_at(mapfile->lines, sub->line,
                              "region %u is an alias: it has no children of its own",
                              sub->parent->id);
    }
    if (sub->child->parent != NULL) {
        return lines_error_at(mapfile->lines, sub->line,
                              "region %u is a child of %u already, by line %lu", sub->child->id,
                              sub->child->parent->id, sub->child->sub_line);
    }
    sub->child->parent = sub->parent;
    sub->child->sub_line = sub->line;
    return 0;
}

static struct mapfile_region *next_parent(const struct mapfile_region *region)
{
    return region->parent;
}

static struct mapfile_region *next_target(const struct mapfile_region *region)
{
    return region->target;
}

/*
 * Each region leads to one other at most, so who does not reach the end walks in a circle. A round
 * passes over what an earlier one has walked: the whole costs one visit a region.
 * Return: a region on a circle, or NULL.
 */
static struct mapfile_region *
find_circle(const struct mapfile *mapfile,
            struct mapfile_region *(*next)(const struct mapfile_region *region))
{
    size_t *round = tool_alloc(mapfile->region_count * sizeof(*round));
    struct mapfile_region *found = NULL;
    size_t i;

    for (i = 0; i < mapfile->region_count && found == NULL; i++) {
        struct mapfile_region *at = &mapfile->regions[i];

        while (at != NULL && round[at - mapfile->regions] == 0) {
            round[at - mapfile->regions] = i + 1;
            at = next(at);
        }
        if (at != NULL && round[at - mapfile->regions] == i + 1) {
            found = at;
        }
    }
    free(round);
    return found;
}

static int check_circles(const struct mapfile *mapfile)
{
    struct mapfile_region *start = find_circle(mapfile, next_parent);
    struct mapfile_region *at;
    unsigned long line = 0;

    if (start != NULL) {
        at = start;
        do { /* the last of the circle's lines closes it */
            line = at->sub_line > line ? at->sub_line : line;
            at = at->parent;
        } while (at != start);
        return lines_error_at(mapfile->lines, line, "region %u becomes its own ancestor",
                              start->id);
    }
    start = find_circle(mapfile, next_target);
    if (start != NULL) {
        at = start;
        do {
            line = at->alias_line > line ? at->alias_line : line;
            at = at->target;
        } while (at != start);
        return lines_error_at(mapfile->lines, line, "region %u becomes an alias of itself",
                              start->id);
    }
    return 0;
}

static int resolve_all(struct mapfile *mapfile)
{
    size_t i;

    if (index_regions(mapfile) != 0) {
        return -1;
    }
    for (i = 0; i < mapfile->alias_count; i++) {
        if (resolve_alias(mapfile, &mapfile->aliases[i]) != 0) {
            return -1;
        }
    }
    for (i = 0; i < mapfile->sub_count; i++) {
        if (resolve_sub(mapfile, &mapfile->subs[i]) != 0) {
            return -1;
        }
    }
    for (i = 0; i < mapfile->space_count; i++) {
        struct mapfile_space *space = &mapfile->spaces[i];

        if (space->has_root) {
            space->root = resolve(mapfile, space->root_id, space->line);
            if (space->root == NULL) {
                return -1;
            }
        }
    }
    return check_circles(mapfile);
}

int mapfile_read(struct mapfile *mapfile, struct lines *lines, enum mapfile_end end, bool *has_step)
{
    int result;

    *mapfile = (struct mapfile){.lines = lines};
    *has_step = false;
    while ((result = lines_next(lines)) == 1) {
        result = read_line(mapfile, lines);
        if (result == 0 && end == MAPFILE_END_OF_FILE) {
            return lines_error(lines, "'%.60s' is not a line of a map: region, alias, sub or as",
                               lines->text);
        }
        if (result <= 0) {
            *has_step = result == 0;
            break;
        }
    }
    return result == 0 ? resolve_all(mapfile) : -1;
}

int mapfile_load(struct mapfile *mapfile, struct lines *lines, const char *path)
{
    bool has_step;

    *mapfile = (struct mapfile){.lines = lines};
    if (lines_open(lines, path) != 0 ||
        mapfile_read(mapfile, lines, MAPFILE_END_OF_FILE, &has_step) != 0) {
        return -1;
    }
    return mapfile_build(mapfile, NULL);
}

void mapfile_free(struct mapfile *mapfile)
{
    size_t i;

    for (i = 0; i < mapfile->region_count; i++) {
        gm_region_put(mapfile->regions[i].region);
        gm_ram_put(mapfile->regions[i].ram);
        free(mapfile->regions[i].name);
    }
    if (mapfile->map != NULL) {
        gm_map_quiesce(mapfile->map);
        gm_map_free(mapfile->map);
    }
    for (i = 0; i < mapfile->space_count; i++) {
        free(mapfile->spaces[i].name);
    }
    free(mapfile->regions);
    free(mapfile->by_id);
    free(mapfile->subs);
    free(mapfile->aliases);
    free(mapfile->spaces);
}
