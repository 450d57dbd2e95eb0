/*
 * mapfile.h - a machine's memory map as a text file (the README of the corpus calls it tree.txt).
 *
 * Reading takes two steps: mapfile_read() makes the file's lines into records and checks them
 * against each other; mapfile_build() makes the records into a gm_map. Lines may come in any order:
 * nothing is resolved before the last one has been read.
 *
 *   region ID ADDR SIZE PRIO FLAGS NAME...
 *   alias ID TARGET OFFSET
 *   sub PARENT CHILD
 *   as ROOT NAME...
 */
#ifndef TOOL_MAPFILE_H
#define TOOL_MAPFILE_H

#include "lines.h"

#include <guestmem/guestmem.h>

/* FLAGS of a region; what M, D, O or i say shows only where there is T. */
#define MAPFILE_ENABLED (1u << 0)     /* E */
#define MAPFILE_TERMINATES (1u << 1)  /* T */
#define MAPFILE_RAM (1u << 2)         /* M */
#define MAPFILE_RAM_DEVICE (1u << 3)  /* D */
#define MAPFILE_ROM_DEVICE (1u << 4)  /* O */
#define MAPFILE_ROMD (1u << 5)        /* R */
#define MAPFILE_READONLY (1u << 6)    /* o */
#define MAPFILE_NONVOLATILE (1u << 7) /* n */
#define MAPFILE_IOMMU (1u << 8)       /* i */

struct mapfile_region {
    uint32_t id;
    uint32_t flags; /* MAPFILE_* */
    uint64_t addr;
    gm_size_t size;
    gm_size_t largest_size; /* that edits will give it: its RAM block has a record for as much */
    int32_t priority;
    char *name;
    unsigned long line;

    struct mapfile_region *target; /* an alias's; NULL for all others */
    uint64_t target_offset;
    unsigned long alias_line;
    struct mapfile_region *parent; /* as the file says; edits do not reach here */
    unsigned long sub_line;

    struct gm_region *region; /* owned, from mapfile_build() on; its opaque is this record */
    struct gm_ram *ram;       /* owned; NULL without memory */
};

struct mapfile_sub {
    uint32_t parent_id;
    uint32_t child_id;
    unsigned long line;
    struct mapfile_region *parent;
    struct mapfile_region *child;
};

struct mapfile_alias {
    uint32_t id;
    uint32_t target_id;
    uint64_t offset;
    unsigned long line;
};

struct mapfile_space {
    bool has_root;
    uint32_t root_id;
    struct mapfile_region *root; /* NULL for `as -1` */
    char *name;
    unsigned long line;
    struct gm_space *space; /* from mapfile_build() on */
};

struct mapfile {
    const struct lines *lines; /* for messages */
    struct mapfile_region *regions;
    size_t region_count;
    size_t region_capacity;
    struct mapfile_region **by_id; /* region_count, sorted */
    struct mapfile_sub *subs;      /* in the order of adding */
    size_t sub_count;
    size_t sub_capacity;
    struct mapfile_alias *aliases;
    size_t alias_count;
    size_t alias_capacity;
    struct mapfile_space *spaces;
    size_t space_count;
    size_t space_capacity;
    struct gm_map *map; /* from mapfile_build() on */
};

/* Who may follow a map in the same file. */
enum mapfile_end {
    MAPFILE_END_OF_FILE, /* nobody: other lines are errors */
    MAPFILE_END_AT_STEP, /* lines of another kind: the first one ends the map and stays current */
};

/*
 * Read a map. @has_step: out, is lines' current line the first one after it? @lines must outlive
 * the mapfile. Return: 0; -1 something is wrong and the user has been told. mapfile_free() after
 * both.
 */
int mapfile_read(struct mapfile *mapfile, struct lines *lines, enum mapfile_end end,
                 bool *has_step);

/*
 * Make the map: regions, then the tree in one transaction, then the spaces. RAM is unbacked: maps
 * of machines larger than this one are welcome. Return: as above.
 */
int mapfile_build(struct mapfile *mapfile, const struct gm_allocator *allocator);

/* Both steps for a whole file. @lines: opened here; close it after the mapfile. */
int mapfile_load(struct mapfile *mapfile, struct lines *lines, const char *path);

void mapfile_free(struct mapfile *mapfile);

/* The region with an ID, or NULL. */
struct mapfile_region *mapfile_find(const struct mapfile *mapfile, uint32_t id);

/* The record of a region of the built map. */
static inline struct mapfile_region *mapfile_region_of(const struct gm_region *region)
{
    return (struct mapfile_region *)gm_region_opaque(region);
}

#endif
