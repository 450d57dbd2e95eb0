/*
 * model/model.h - the slow, obvious model of a map: what the library has to come to.
 *
 * It shares no code and no algorithm with src/. The tree is an array of structs with parent numbers. A
 * view is found address by address: between any two neighbouring bounds of anything, one address is
 * asked "who answers here?" by going down from the root. Nothing is kept from one view to the next.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <guestmem/guestmem.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_NONE (-1)
#define MODEL_SPACES_MAX 16
#define MODEL_EVENTFDS_MAX 4
#define MODEL_COALESCED_MAX 4
#define MODEL_DEPTH_MAX 512u

/* A stretch of a region; from 0, GM_COALESCED_WHOLE: all of it, whatever its size. */
struct model_coalesced {
    uint64_t offset;
    gm_size_t size;
};

struct model_region {
    bool exists;
    enum gm_region_kind kind;
    gm_size_t size;
    uint64_t addr;
    int32_t priority;
    bool enabled;
    bool readonly;
    bool nonvolatile;
    bool unmergeable;
    bool romd;
    int ram; /* a block's number, or NONE */
    uint64_t ram_offset;
    uint64_t ram_size;   /* of the block */
    bool ram_is_endless; /* the start of an unbacked block: regions of it may be larger */
    int target;          /* of an alias */
    uint64_t target_offset;
    int parent;
    uint64_t added; /* among equal priorities the larger wins */
    uint32_t log_mask;
    unsigned eventfd_count;
    struct gm_eventfd eventfds[MODEL_EVENTFDS_MAX];
    unsigned coalesced_count;
    struct model_coalesced coalesced[MODEL_COALESCED_MAX];
};

struct model_space {
    bool exists;
    int root;
};

struct model {
    struct model_region *regions;
    int region_count;
    struct model_space spaces[MODEL_SPACES_MAX];
    uint32_t log_all_mask;
    uint64_t next_added;
};

/* @region_count is fixed; none of them exists yet. */
void model_init(struct model *model, int region_count);
void model_fini(struct model *model);

/* @to was made with the same number of regions. */
void model_copy(struct model *to, const struct model *from);

bool model_terminates(const struct model_region *region);
/* Does it overlap a coalesced range that the region has? */
bool model_meets_coalesced(const struct model_region *region,
                           const struct model_coalesced *coalesced);

/* ---- edits ---- */

enum model_edit_kind {
    MODEL_ADD,
    MODEL_DEL,
    MODEL_ADDR,
    MODEL_SIZE,
    MODEL_PRIORITY,
    MODEL_ENABLED,
    MODEL_READONLY,
    MODEL_NONVOLATILE,
    MODEL_ROMD,
    MODEL_ALIAS_OFFSET,
    MODEL_LOG,
    MODEL_LOG_ALL,
    MODEL_EVENTFD_ADD,
    MODEL_EVENTFD_DEL,
    MODEL_COALESCED_ADD,
    MODEL_COALESCED_DEL,
    MODEL_ROOT,
};

struct model_edit {
    enum model_edit_kind kind;
    int region; /* ROOT: the root or NONE */
    int parent; /* ADD, DEL */
    int space;  /* ROOT */
    gm_size_t value;
    int32_t priority;
    bool on;
    unsigned client;
    struct gm_eventfd eventfd;
    struct model_coalesced coalesced;
};

/* 0, or the -errno that a commit with this edit has to return. */
int model_apply(struct model *model, const struct model_edit *edit);

/* ---- views ---- */

struct model_range {
    uint64_t start;
    uint64_t last;
    int region;
    uint64_t offset;
    uint32_t flags; /* GM_SECTION_* */
    uint32_t log_mask;
    uint64_t path; /* which way down from the root: an unmergeable range is one way's */
};

struct model_view {
    struct model_range *ranges;
    size_t count;
    size_t painted_count; /* before neighbours of different ways merge */
    size_t capacity;
};

/* Children of each region, the winner first; valid until the next edit. */
struct model_index {
    const struct model *model;
    int *first; /* region_count + 1 */
    int *kids;
    uint64_t steps; /* regions visited by model_render() since the index was made */
    uint64_t steps_max;
    bool loops; /* what model_render() met */
    bool too_deep;
    unsigned alias_depth; /* the most aliases on one way down, since the index was made */
    __int128 *bounds;
    size_t bound_count;
    size_t bound_capacity;
};

void model_index_init(struct model_index *index, const struct model *model, uint64_t steps_max);
void model_index_fini(struct model_index *index);

/* Follow a root (may be NONE): 0 and the region it is rendered from (or NONE), or -ELOOP. */
int model_resolve(const struct model_index *index, int root, int *resolved);

/*
 * Who shows what below @root (may be NONE). The view's memory is reused.
 * Return: 0, or -1: it comes back to itself (index->loops), goes deeper than MODEL_DEPTH_MAX
 * (index->too_deep), or takes more steps than the test wants (neither).
 */
int model_render(struct model_index *index, int root, struct model_view *view);

bool model_views_equal(const struct model_view *a, const struct model_view *b);
void model_view_fini(struct model_view *view);

/* What shows of a coalesced range in one range of a view. */
struct model_shown {
    uint64_t gpa;
    uint64_t last;
    int region;
    uint64_t offset; /* in the region */
};

/* All that shows in @view, ascending; @shown has room for MODEL_COALESCED_MAX in each range. Returns how many. */
size_t model_show_coalesced(const struct model *model, const struct model_view *view,
                            struct model_shown *shown);

/* What slots have to hold: runs of whole pages of one block. */
struct model_run {
    uint64_t gpa;
    gm_size_t size;
    int ram;
    uint64_t ram_offset;
    uint32_t flags; /* GM_SLOT_* */
};

/* Append a run, growing the last one if it goes on there. */
size_t model_run_append(struct model_run *runs, size_t count, struct model_run run);

/* The runs that @view comes to; @runs has room for view->count. Returns how many. */
size_t model_runs(const struct model *model, const struct model_view *view, struct model_run *runs);

#endif
