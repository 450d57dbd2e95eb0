/*
 * conformance/ept/dump.h - the tables of a software KVM as an image of image.h.
 *
 * Entries are copied bit for bit, but for the addresses: one that leads to a table leads to that
 * table's place in the image, and a leaf, in which our tables have the host address of a page, gets a
 * frame of its own of the same size. The frames of a size are few; when they are used up, they are
 * shared, and an answer may then stand for one of several pages.
 */
#ifndef CONFORMANCE_EPT_DUMP_H
#define CONFORMANCE_EPT_DUMP_H

#include "mmu/mmu.h"

#include "image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A page that leaves of a level map, and the frame in its place. */
struct dump_page {
    uint64_t hva;
    unsigned level;
    uint64_t address;
};

struct dump {
    struct mmu *mmu;
    unsigned space;
    enum oracle_format format;
    /* By number, the root is 0; each has EPT_ENTRIES words, in one stretch. */
    const uint64_t **tables;
    size_t table_count;
    uint64_t *words;
    struct dump_page *pages;
    size_t page_count;
    size_t level_page_count[EPT_LEAF_LEVEL_MAX + 1];
};

/* The tables as they are. Context: no vCPU is in guest mode. */
void dump_take(struct dump *dump, struct mmu *mmu, unsigned space, enum oracle_format format);
void dump_drop(struct dump *dump);

/* All entries as they are by now, numbers and frames as in @dump: as many words. To be freed. */
uint64_t *dump_again(struct dump *dump);

/*
 * The entries of @dump->words that a walk for @gpa meets, as indices into it, from the root down. The
 * last is the leaf, or what is in its place. Return: how many.
 */
unsigned dump_walk(const struct dump *dump, uint64_t gpa, size_t indices[EPT_LEVELS_MAX]);

/* Is the byte at a frame's address the one at @host? */
bool dump_is_host(const struct dump *dump, uint64_t address, uint64_t host);

/* The whole image. @window_gpa as image.h defines it. */
void dump_write(const struct dump *dump, FILE *file, uint64_t window_gpa,
                const struct oracle_query *queries, size_t query_count);

#endif
