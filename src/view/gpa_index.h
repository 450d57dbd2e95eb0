/*
 * view/gpa_index.h - from a guest address to the range of a view, in two loads.
 *
 * A stretch of addresses is cut into buckets of one power of two. A bucket that two ranges or fewer reach into says where the
 * second begins; one that more reach into is a stretch of its own, with smaller buckets. So evenly laid out RAM takes one
 * step, and a PC's first megabyte takes a second one. What an access needs of a range lies in one line, its entry: a lookup touches
 * one bucket and one entry.
 *
 * An index is made when a view has been asked often enough (view_count_cold()), and belongs to its view, like whose ranges it is
 * immutable. It may say "not known" of any address: the view's own search decides then.
 *
 *   I-1  what it finds is what view_search() finds
 *   I-2  a stretch has at most 2 * its ranges + 11 buckets, a bucket of a stretch covers less than the stretch does
 */
#ifndef VIEW_GPA_INDEX_H
#define VIEW_GPA_INDEX_H

#include "base/alloc.h"

#include <stdint.h>

struct gm_ram;
struct gm_view;
struct gpa_section; /* view/view.h: the range as the public sees it */
struct range;

#define GPA_BUCKET_DEEPER UINT32_MAX

struct gpa_bucket {
    uint64_t split; /* addresses below it belong to @low, others to @high */
    uint32_t low;   /* number of an entry; or GPA_BUCKET_DEEPER: @high is a stretch */
    uint32_t high;
};

struct gpa_stretch {
    uint64_t base;
    uint32_t bucket_count;
    uint32_t shift; /* of a bucket's size */
    const struct gpa_bucket *buckets;
};

/* Of a range, what accesses to host memory need. */
struct gpa_entry {
    uint64_t gpa;
    uint64_t size_less_1; /* last - gpa */
    uint64_t
        load_offsets; /* from gpa, at which 8 bytes may be loaded as host memory; 0: nothing may */
    uint64_t
        store_offsets; /* ... stored, with a barrier to the compiler before the record is looked at */
    uint64_t addend; /* host address less guest address, where something may be loaded or stored */
    struct gm_ram *ram;  /* NULL without */
    uint64_t ram_offset; /* of gpa's byte in it */
    const struct range *range;
};

/* Where @gpa's byte is. @gpa lies in the range, which allows something. */
static inline uint8_t *gpa_entry_pointer(const struct gpa_entry *entry, uint64_t gpa)
{
    return (uint8_t *)(uintptr_t)(gpa + entry->addend);
}

#define GPA_ENTRY_BYTES 64u
_Static_assert(sizeof(struct gpa_entry) == GPA_ENTRY_BYTES, "an entry is a line of the cache");

struct gpa_index {
    struct gpa_stretch root;
    /* The first stands for "not known": of no range, allows nothing. */
    const struct gpa_entry *entries;
    const struct gpa_stretch *deeper;
    const struct gpa_section *sections; /* of the same ranges; the first has no address */
    void *memory;                       /* of entries and sections, which are aligned within it */
};

/*
 * Make the index of a view. Costs n log n; allocates, so not within a read section.
 * Return: the index, or NULL without memory.
 */
struct gpa_index *gpa_index_new(const struct gm_view *view);

/* NULL is allowed. */
void gpa_index_free(const struct gm_allocator *allocator, struct gpa_index *index);

#endif
