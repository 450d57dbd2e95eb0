/*
 * unit/machine.h - a small machine for tests: one map, one address space of 2^64 bytes over one
 * container, and one-line helpers to put regions in it. Everything that fails fails the test.
 */
#ifndef UNIT_MACHINE_H
#define UNIT_MACHINE_H

#include "model/random.h"

#include <guestmem/guestmem.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct gm_attrs no_attrs;
static const struct gm_attrs debug_attrs = {.flags = GM_ATTR_DEBUG};

struct machine {
    struct gm_map *map;
    struct gm_space *space;
    struct gm_region *root;
};

static inline struct machine machine_new_with(const struct gm_map_options *options)
{
    struct machine machine;

    assert_int_equal(gm_map_new(options, &machine.map, NULL), 0);
    assert_int_equal(gm_region_new_container(machine.map, "root", GM_SIZE_2_64, &machine.root), 0);
    assert_int_equal(gm_space_new(machine.map, "memory", machine.root, &machine.space, NULL), 0);
    return machine;
}

static inline struct machine machine_new(void)
{
    return machine_new_with(NULL);
}

static inline void machine_free(struct machine *machine)
{
    assert_int_equal(gm_space_free(machine->space, NULL), 0);
    gm_region_put(machine->root);
    gm_map_quiesce(machine->map);
    gm_map_free(machine->map);
}

static inline struct gm_ram *new_ram(uint64_t size_bytes)
{
    struct gm_ram *ram;

    assert_int_equal(gm_ram_new_anon(size_bytes, NULL, &ram, NULL), 0);
    return ram;
}

/*
 * Make a region of @options and show it at @gpa. The tree holds it; the pointer is borrowed from
 * there.
 */
static inline struct gm_region *add_region(struct machine *machine, uint64_t gpa,
                                           struct gm_region_options options)
{
    struct gm_region *region;

    options.size = sizeof(options);
    options.addr = gpa;
    assert_int_equal(gm_region_new(machine->map, &options, &region, NULL), 0);
    assert_int_equal(gm_region_add(machine->root, region, NULL), 0);
    gm_region_put(region);
    return region;
}

static inline struct gm_region *add_memory(struct machine *machine, enum gm_region_kind kind,
                                           uint64_t gpa, uint64_t size_bytes, struct gm_ram *ram,
                                           uint64_t ram_offset)
{
    return add_region(
        machine, gpa,
        (struct gm_region_options){
            .kind = kind, .size_bytes = size_bytes, .ram = ram, .ram_offset = ram_offset});
}

static inline struct gm_region *add_mmio(struct machine *machine, uint64_t gpa, uint64_t size_bytes,
                                         const struct gm_io_ops *io, void *opaque)
{
    return add_region(
        machine, gpa,
        (struct gm_region_options){
            .kind = GM_REGION_MMIO, .size_bytes = size_bytes, .io = io, .opaque = opaque});
}

/* Random numbers of a test program, from one seed. */
static struct rnd machine_rnd;

static inline void random_begin(const char *test)
{
    machine_rnd.state = rnd_seed(test);
}

static inline uint64_t random_below(uint64_t end)
{
    return rnd_below(&machine_rnd, end);
}

#endif
