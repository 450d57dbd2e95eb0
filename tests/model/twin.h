/*
 * model/twin.h - a map and its model, edited side by side: random trees, random edits, and the
 * comparison after each commit.
 */
#ifndef MODEL_TWIN_H
#define MODEL_TWIN_H

#include "model/model.h"
#include "model/random.h"

#define TWIN_RAMS 6
#define TWIN_EDITS_MAX 64
#define TWIN_ROOTS 2 /* regions 0 and 1: wide containers, and what most spaces show */

struct watch;
struct recorder;

/* What all spaces of a model show: one view for each resolved root. */
struct picture {
    int roots[MODEL_SPACES_MAX];
    struct model_view views[MODEL_SPACES_MAX];
    int count;
    int of_space[MODEL_SPACES_MAX]; /* NONE where there is no space */
};

struct twin_options {
    int region_count;
    unsigned space_count;
    unsigned address_bits;                /* 8 to 64: where most of it lies */
    uint32_t max_ranges;                  /* 0: the default */
    bool huge_blocks;                     /* too large for a dirty record: nothing is logged */
    uint64_t steps_max;                   /* of the model; heavier trees are not committed */
    const struct gm_allocator *allocator; /* of the map and the blocks; NULL for malloc */
};

struct twin {
    struct rnd rnd;
    struct twin_options options;
    struct gm_map *map;
    struct gm_region **regions;
    struct gm_ram *rams[TWIN_RAMS];
    struct gm_space *spaces[MODEL_SPACES_MAX];
    int fds[2];         /* of eventfds */
    struct model model; /* as of the last commit */
    struct model next;  /* as of the transaction under way */
    struct picture picture;
    struct picture next_picture;
    struct gm_view *held[MODEL_SPACES_MAX]; /* the library's views of the last commit */
    uint64_t made_count;
    uint64_t released_count; /* written by release callbacks, maybe of liburcu's thread */

    struct watch **watches;
    size_t watch_count;
    struct recorder **recorders;
    size_t recorder_count;

    unsigned eventfds_added; /* in the transaction under way */
    unsigned coalesced_added;
    uint64_t edit_count;
    uint64_t commit_count;
    uint64_t failed_count;
    uint64_t heavy_count;
    uint64_t view_count; /* that were compared, and the ranges in them */
    uint64_t range_count;
    uint64_t range_max;
    uint64_t coalesced_count; /* that listeners knew, after each commit */
    uint64_t deep_count;      /* maps with a way down through five aliases and more */
};

void twin_init(struct twin *twin, uint64_t seed, const struct twin_options *options);
/* Frees the map too, and checks that every region was released once. */
void twin_fini(struct twin *twin);

/* Numbers of the kinds that trees are made of. */
gm_size_t twin_random_size(struct twin *twin, enum gm_region_kind kind);
uint64_t twin_random_addr(struct twin *twin);

/* One that exists. */
int twin_random_region(struct twin *twin);

/* Make region @index, which does not exist, on both sides. */
void twin_make_region(struct twin *twin, int index);

/* A random edit, recorded in @txn and in @edit; false if nothing could be recorded. */
bool twin_edit(struct twin *twin, struct gm_txn *txn, struct model_edit *edit);

/* Record a given edit. */
void twin_record(struct twin *twin, struct gm_txn *txn, const struct model_edit *edit);

/*
 * Commit @txn, which has @count edits, on both sides, and compare everything.
 * @may_fail: an errno that listeners or backends have been told to return, or 0.
 * Return: what the library returned; 1 if the tree was too heavy for the model and the transaction was aborted.
 */
int twin_commit(struct twin *twin, struct gm_txn *txn, const struct model_edit *edits, size_t count,
                int may_fail);

/* Would a commit of these edits succeed? */
bool twin_would_commit(struct twin *twin, const struct model_edit *edits, size_t count);

/* Compare the library's views, sharing and region states with the model's. */
void twin_compare(struct twin *twin);

/* Attach most regions, a few in each commit. */
void twin_grow(struct twin *twin);

/* Give coalesced ranges to regions that can have some, one in each commit. */
void twin_coalesce(struct twin *twin);

/* A random region that nobody needs goes, and another comes. */
void twin_replace_region(struct twin *twin);

/* Make, free a space at random; compare. */
void twin_change_spaces(struct twin *twin);

/* The index of a region, block, space of ours; NONE if it is not one. */
int twin_region_index(const struct twin *twin, const struct gm_region *region);
int twin_ram_index(const struct twin *twin, const struct gm_ram *ram);

const struct model_view *twin_view_of(const struct twin *twin, const struct picture *picture,
                                      int space);

#endif
