/*
 * prop/test_prop_counts.c - what one device's edit costs, among eight devices and among five hundred: the
 * same views, ranges, visits, calls and slot operations. Only a view's directory of leaves
 * is larger.
 */
#include "model/faults.h"

#include <guestmem/guestmem.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define FEW 8u
#define MANY 500u
#define HOLE_START 0xc0000000ull
#define HOLE_BYTES 0x20000000ull
#define BAR_STRIDE 0x10000ull
#define BAR_BYTES 0x1000ull

struct machine {
    struct faults faults;
    struct gm_allocator allocator;
    struct gm_map *map;
    struct gm_ram *ram;
    struct gm_region *root;
    struct gm_region *memory;
    struct gm_region *hole;
    struct gm_region *window; /* over memory: what is behind it becomes slots of its own */
    struct gm_region *bars[MANY];
    struct gm_region *masters[MANY]; /* a container with an alias of root, as a bus master has */
    struct gm_region *aliases[MANY];
    struct gm_space *space;
    struct gm_space *spaces[MANY];
    unsigned count;
    bool has_masters;
    struct gm_listener *listener;
    struct gm_slots *slots;
    uint64_t told;
};

/* What a commit did. */
struct counts {
    struct gm_map_stats stats;
    struct gm_slots_stats slots;
    uint64_t told;
    uint64_t allocations;
};

static enum gm_access io_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                              struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    return GM_ACCESS_OK;
}

static enum gm_access io_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                               struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops io = {.size = sizeof(io), .read = io_read, .write = io_write};

static void on_section(void *opaque, const struct gm_section *section)
{
    struct machine *machine = opaque;

    (void)section;
    machine->told++;
}

static const struct gm_listener_ops listening = {.size = sizeof(listening),
                                                 .region_del = on_section,
                                                 .region_nop = on_section,
                                                 .region_add = on_section};

static int slot_call(void *opaque, const struct gm_slot *slot)
{
    (void)opaque;
    (void)slot;
    return 0;
}

static int slot_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    (void)opaque;
    (void)slot;
    (void)new_flags;
    return 0;
}

static struct gm_region *new_region(struct machine *machine, struct gm_region_options options)
{
    struct gm_region *region;

    options.size = sizeof(options);
    assert_int_equal(gm_region_new(machine->map, &options, &region, NULL), 0);
    return region;
}

static void add_device(struct machine *machine, unsigned i)
{
    machine->bars[i] = new_region(machine, (struct gm_region_options){.kind = GM_REGION_MMIO,
                                                                      .name = "bar",
                                                                      .size_bytes = BAR_BYTES,
                                                                      .addr = i * BAR_STRIDE,
                                                                      .io = &io});
    assert_int_equal(gm_region_add(machine->hole, machine->bars[i], NULL), 0);
    if (machine->has_masters) {
        machine->masters[i] =
            new_region(machine, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                           .name = "bus master container",
                                                           .size_bytes = GM_SIZE_2_64});
        machine->aliases[i] =
            new_region(machine, (struct gm_region_options){.kind = GM_REGION_ALIAS,
                                                           .name = "bus master",
                                                           .size_bytes = GM_SIZE_2_64,
                                                           .target = machine->root});
        assert_int_equal(gm_region_add(machine->masters[i], machine->aliases[i], NULL), 0);
        assert_int_equal(
            gm_space_new(machine->map, "device", machine->masters[i], &machine->spaces[i], NULL),
            0);
    }
}

static void begin(struct machine *machine, unsigned count, bool has_masters)
{
    struct gm_map_options options = {.size = sizeof(options), .allocator = &machine->allocator};
    struct gm_backend_ops backend = {.size = sizeof(backend),
                                     .create = slot_call,
                                     .destroy = slot_call,
                                     .set_flags = slot_flags};
    unsigned i;

    memset(machine, 0, sizeof(*machine));
    machine->count = count;
    machine->has_masters = has_masters;
    machine->allocator = faults_allocator(&machine->faults);
    assert_int_equal(gm_map_new(&options, &machine->map, NULL), 0);
    assert_int_equal(gm_ram_new_unbacked(0xc0000000, NULL, &machine->ram, NULL), 0);
    machine->root = new_region(machine, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                   .name = "system",
                                                                   .size_bytes = GM_SIZE_2_64});
    machine->memory = new_region(machine, (struct gm_region_options){.kind = GM_REGION_RAM,
                                                                     .name = "ram",
                                                                     .size_bytes = 0xc0000000,
                                                                     .ram = machine->ram});
    machine->hole = new_region(machine, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                   .name = "pci",
                                                                   .size_bytes = HOLE_BYTES,
                                                                   .addr = HOLE_START});
    machine->window = new_region(machine, (struct gm_region_options){.kind = GM_REGION_MMIO,
                                                                     .name = "window",
                                                                     .size_bytes = 0x20000,
                                                                     .addr = 0xa0000,
                                                                     .priority = 1,
                                                                     .io = &io});
    assert_int_equal(gm_region_add(machine->root, machine->memory, NULL), 0);
    assert_int_equal(gm_region_add(machine->root, machine->hole, NULL), 0);
    assert_int_equal(gm_region_add(machine->root, machine->window, NULL), 0);
    assert_int_equal(gm_space_new(machine->map, "memory", machine->root, &machine->space, NULL), 0);
    for (i = 0; i < count; i++) {
        add_device(machine, i);
    }
    assert_int_equal(gm_listener_register(machine->map, machine->space, 0, &listening, machine,
                                          &machine->listener, NULL),
                     0);
    assert_int_equal(
        gm_slots_attach(machine->space, NULL, &backend, machine, &machine->slots, NULL), 0);
}

static void end(struct machine *machine)
{
    unsigned i;

    assert_int_equal(gm_slots_detach(machine->slots, NULL), 0);
    for (i = 0; i < machine->count; i++) {
        gm_region_put(machine->bars[i]);
        gm_region_put(machine->masters[i]);
        gm_region_put(machine->aliases[i]);
    }
    gm_region_put(machine->window);
    gm_region_put(machine->hole);
    gm_region_put(machine->memory);
    gm_region_put(machine->root);
    gm_map_free(machine->map);
    gm_ram_put(machine->ram);
    gm_map_quiesce(NULL); /* the allocator counts in the machine until the last thing is freed */
}

static struct counts counts_now(struct machine *machine)
{
    struct counts counts = {.told = machine->told, .allocations = machine->faults.allocations};

    gm_map_stats(machine->map, &counts.stats);
    gm_slots_stats(machine->slots, &counts.slots);
    return counts;
}

static struct counts counts_between(const struct counts *before, const struct counts *after)
{
    return (struct counts){
        .stats = {.commits = after->stats.commits - before->stats.commits,
                  .rendered_views = after->stats.rendered_views - before->stats.rendered_views,
                  .rendered_ranges = after->stats.rendered_ranges - before->stats.rendered_ranges,
                  .visited_regions = after->stats.visited_regions - before->stats.visited_regions,
                  .listener_calls = after->stats.listener_calls - before->stats.listener_calls},
        .slots = {.creates = after->slots.creates - before->slots.creates,
                  .destroys = after->slots.destroys - before->slots.destroys,
                  .flag_changes = after->slots.flag_changes - before->slots.flag_changes,
                  .untouched_destroys =
                      after->slots.untouched_destroys - before->slots.untouched_destroys,
                  .holds = after->slots.holds - before->slots.holds},
        .told = after->told - before->told,
        .allocations = after->allocations - before->allocations,
    };
}

/* ---- the edits that are counted ---- */

static void hide(struct machine *machine, unsigned which)
{
    assert_int_equal(gm_region_set_enabled(machine->bars[which], false, NULL), 0);
}

static void show(struct machine *machine, unsigned which)
{
    assert_int_equal(gm_region_set_enabled(machine->bars[which], true, NULL), 0);
}

static void move(struct machine *machine, unsigned which)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(machine->map, &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, machine->bars[which], which * BAR_STRIDE + 2 * BAR_BYTES),
                     0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

static void move_back(struct machine *machine, unsigned which)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(machine->map, &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, machine->bars[which], which * BAR_STRIDE), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

static void open_window(struct machine *machine, unsigned which)
{
    (void)which;
    assert_int_equal(gm_region_set_enabled(machine->window, false, NULL), 0);
}

static void close_window(struct machine *machine, unsigned which)
{
    (void)which;
    assert_int_equal(gm_region_set_enabled(machine->window, true, NULL), 0);
}

static const struct {
    const char *name;
    void (*run)(struct machine *machine, unsigned which);
    /* The least that it has to come to, so that nothing is compared with nothing. */
    uint64_t told;
    uint64_t slot_operations;
} edits[] = {
    {"hide a BAR", hide, 1, 0},
    {"show a BAR", show, 1, 0},
    {"move a BAR", move, 2, 0},
    {"move it back", move_back, 2, 0},
    {"open a window to memory", open_window, 2, 1},
    {"close the window", close_window, 2, 1},
    {"open it again", open_window, 2, 1},
    {"close it again", close_window, 2, 1},
};

#define EDITS (sizeof(edits) / sizeof(edits[0]))

static void count_edits(unsigned count, bool has_masters, unsigned which, struct counts *results)
{
    static struct machine machine;
    size_t i;

    begin(&machine, count, has_masters);
    for (i = 0; i < EDITS; i++) {
        struct counts before = counts_now(&machine);
        struct counts after;

        edits[i].run(&machine, which);
        after = counts_now(&machine);
        results[i] = counts_between(&before, &after);
    }
    end(&machine);
}

/*
 * How many allocations more. Leaves of a view hold 16 ranges and are half full at least; the array of
 * them doubles as it grows. Builds with audits render everything once more, into two such arrays.
 */
static unsigned allocations_more(void)
{
    unsigned more = 0;
    unsigned items;

    for (items = 8; items < (MANY + FEW) / 8; items *= 2) {
        more++;
    }
#ifdef GM_AUDIT_ON
    for (items = 8; items < MANY + FEW; items *= 2) {
        more += 2;
    }
#endif
    return more;
}

static void require_same_cost(const char *name, const struct counts *few, const struct counts *many)
{
    printf(
        "%-24s views %llu ranges %llu visits %llu calls %llu slots %llu; allocations %llu, %llu\n",
        name, (unsigned long long)few->stats.rendered_views,
        (unsigned long long)few->stats.rendered_ranges,
        (unsigned long long)few->stats.visited_regions,
        (unsigned long long)few->stats.listener_calls,
        (unsigned long long)(few->slots.creates + few->slots.destroys + few->slots.flag_changes),
        (unsigned long long)few->allocations, (unsigned long long)many->allocations);
    assert_int_equal(many->stats.commits, few->stats.commits);
    assert_int_equal(many->stats.rendered_views, few->stats.rendered_views);
    assert_int_equal(many->stats.rendered_ranges, few->stats.rendered_ranges);
    assert_int_equal(many->stats.visited_regions, few->stats.visited_regions);
    assert_int_equal(many->stats.listener_calls, few->stats.listener_calls);
    assert_int_equal(many->told, few->told);
    assert_int_equal(many->slots.creates, few->slots.creates);
    assert_int_equal(many->slots.destroys, few->slots.destroys);
    assert_int_equal(many->slots.flag_changes, few->slots.flag_changes);
    assert_int_equal(many->slots.untouched_destroys, few->slots.untouched_destroys);
    assert_int_equal(many->slots.holds, few->slots.holds);
    assert_true(many->allocations <= few->allocations + allocations_more());
}

static void compare_costs(bool has_masters)
{
    struct counts few[EDITS];
    struct counts many[EDITS];
    size_t i;

    count_edits(FEW, has_masters, FEW / 2, few);
    count_edits(MANY, has_masters, MANY / 2, many);
    for (i = 0; i < EDITS; i++) {
        require_same_cost(edits[i].name, &few[i], &many[i]);
        assert_int_equal(few[i].stats.rendered_views, 1);
        assert_true(few[i].told >= edits[i].told);
        assert_true(few[i].slots.creates + few[i].slots.destroys >= edits[i].slot_operations);
    }
    /* Pieces stay split: from the second time on the window alone is a slot that comes and goes. */
    for (i = 6; i < EDITS; i++) {
        assert_int_equal(few[i].slots.creates + few[i].slots.destroys, 1);
        assert_int_equal(few[i].slots.untouched_destroys, 0);
    }
}

static void edit_among_500_devices_costs_what_it_costs_among_8(void **state)
{
    /* One address space: the counts of eight edits are equal. */
    (void)state;
    compare_costs(false);
}

static void edit_among_500_bus_masters_costs_what_it_costs_among_8(void **state)
{
    /* Each device has an address space of its own that shares memory's view: still equal. */
    (void)state;
    compare_costs(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edit_among_500_devices_costs_what_it_costs_among_8),
        cmocka_unit_test(edit_among_500_bus_masters_costs_what_it_costs_among_8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
