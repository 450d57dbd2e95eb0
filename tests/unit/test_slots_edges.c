/*
 * unit/test_slots_edges.c - slot backends where things go wrong, or take long: vCPUs that cannot be held for an undo, a hold that is slow, memory
 * that runs out in a commit of many changes, a detach that fails; and the same for eventfds of the port space.
 */
#include "unit/hypervisor.h"
#include "unit/machine.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "model/faults.h"
#include "slots/ports.h"

#define CLIENT 2u
#define MANY 24u

struct rig {
    struct machine machine;
    struct hypervisor hypervisor;
    struct gm_slots *slots;
    struct gm_ram *ram; /* 1 MiB */
    struct gm_diag diag;
    struct faults faults;
    struct gm_allocator allocator;
    bool refuses_holds;
    char said[512]; /* the last warning */
};

static void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    rig->machine = machine_new();
    rig->ram = new_ram(1 << 20);
    rig->allocator = faults_allocator(&rig->faults);
}

static void rig_fini(struct rig *rig)
{
    machine_free(&rig->machine);
    gm_ram_put(rig->ram);
    assert_int_equal(faults_live(&rig->faults), 0);
}

static void on_log(void *opaque, enum gm_log_level level, const char *text)
{
    struct rig *rig = opaque;

    (void)level;
    snprintf(rig->said, sizeof(rig->said), "%s", text);
}

static int rig_attach(struct rig *rig, const struct gm_backend_ops *ops)
{
    const struct gm_backend_options options = {
        .size = sizeof(options),
        .allocator = &rig->allocator,
        .log = {.log = on_log, .opaque = rig, .slow_hold_ms = 1},
    };

    return gm_slots_attach(rig->machine.space, &options, ops, rig, &rig->slots, &rig->diag);
}

static void expect(struct rig *rig, const char *text)
{
    assert_string_equal(rig->hypervisor.text, text);
    rig->hypervisor.text[0] = '\0';
}

/* The dirty pages of the RAM's first 64, harvested. */
static uint64_t harvest(struct rig *rig)
{
    struct gm_harvest *taken;
    uint64_t first;
    uint64_t last;
    uint64_t pages = 0;

    assert_int_equal(gm_harvest_begin(rig->ram, CLIENT, 0, 64 * PAGE, &taken), 0);
    while (gm_harvest_next(taken, &first, &last)) {
        for (; first <= last; first++) {
            pages |= UINT64_C(1) << first;
        }
    }
    gm_harvest_commit(taken);
    return pages;
}

/* ---- operations of a backend that passes them on ---- */

static int pass_create(void *opaque, const struct gm_slot *slot)
{
    return on_create(&((struct rig *)opaque)->hypervisor, slot);
}

static int pass_destroy(void *opaque, const struct gm_slot *slot)
{
    return on_destroy(&((struct rig *)opaque)->hypervisor, slot);
}

static int pass_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    return on_set_flags(&((struct rig *)opaque)->hypervisor, slot, new_flags);
}

static int pass_hold(void *opaque)
{
    return on_hold(&((struct rig *)opaque)->hypervisor);
}

static void pass_release(void *opaque)
{
    on_release(&((struct rig *)opaque)->hypervisor);
}

static int pass_log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                          uint64_t page_count, uint64_t *bitmap)
{
    return on_log_fetch(&((struct rig *)opaque)->hypervisor, slot, first_page, page_count, bitmap);
}

static struct gm_backend_ops pass_all(void)
{
    return (struct gm_backend_ops){
        .size = sizeof(struct gm_backend_ops),
        .create = pass_create,
        .destroy = pass_destroy,
        .set_flags = pass_set_flags,
        .hold = pass_hold,
        .release = pass_release,
        .log_fetch = pass_log_fetch,
    };
}

/* ---- holds ---- */

static int hold_if_it_may(void *opaque)
{
    const struct rig *rig = opaque;

    return rig->refuses_holds ? -EINTR : pass_hold(opaque);
}

/* Of a hypervisor that allows the end of a log with vCPUs running. */
static int destroy_held_or_not(void *opaque, const struct gm_slot *slot)
{
    struct rig *rig = opaque;
    bool was_held = rig->hypervisor.held;
    int rc;

    rig->hypervisor.held = true;
    rc = on_destroy(&rig->hypervisor, slot);
    rig->hypervisor.held = was_held;
    return rc;
}

static void undo_without_a_hold_counts_all_pages_as_written(void **state)
{
    /*
     * Two new logged slots; the second is refused. The first goes again, and a guest may have written there up to the last
     * moment, after its log was read: nobody was held. So all of its pages are dirty, and no others.
     */
    struct gm_backend_ops ops = pass_all();
    struct gm_region *regions[2];
    struct gm_region *elsewhere;
    struct gm_harvest *taken;
    struct gm_txn *txn;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    ops.hold = hold_if_it_may;
    ops.destroy = destroy_held_or_not;
    assert_int_equal(rig_attach(&rig, &ops), 0);
    elsewhere = add_memory(&rig.machine, GM_REGION_RAM, 0x100000, PAGE, rig.ram, 128 * PAGE);
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_log(txn, elsewhere, CLIENT, true),
                     0); /* somebody harvests the block */
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(gm_harvest_begin(rig.ram, CLIENT, 0, 64 * PAGE, &taken), 0);
    gm_harvest_commit(taken);
    rig.hypervisor.text[0] = '\0';
    rig.hypervisor.calls = 0;
    for (unsigned i = 0; i < 2; i++) {
        const struct gm_region_options options = {
            .size = sizeof(options),
            .kind = GM_REGION_RAM,
            .size_bytes = 4 * PAGE,
            .ram = rig.ram,
            .ram_offset = i * 8 * PAGE,
            .addr = i * 0x10000,
        };

        assert_int_equal(gm_region_new(rig.machine.map, &options, &regions[i], NULL), 0);
    }
    rig.hypervisor.fail_at = 2;
    rig.refuses_holds = true;
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gm_txn_set_log(txn, regions[i], CLIENT, true), 0);
        assert_int_equal(gm_txn_add(txn, rig.machine.root, regions[i]), 0);
    }
    assert_int_equal(gm_txn_commit(txn, &rig.diag), -ENOMEM);
    assert_int_equal(rig.diag.id, GM_DIAG_BACKEND_SLOT);
    assert_false(gm_map_is_broken(rig.machine.map));
    expect(&rig, "create 1 0+4000 l; delete 1; ");
    assert_int_equal(harvest(&rig), 0xf);
    rig.refuses_holds = false;
    gm_region_put(regions[0]);
    gm_region_put(regions[1]);
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    rig_fini(&rig);
}

static int slow_hold(void *opaque)
{
    uint64_t until = clock_now_ns() + 2 * NS_PER_MS;

    while (clock_now_ns() < until) {
    }
    return pass_hold(opaque);
}

static void slow_hold_is_said_and_counted(void **state)
{
    /* 2 ms where 1 ms is allowed: a warning with the time, and the statistics have at least as much. */
    struct gm_backend_ops ops = pass_all();
    struct gm_slots_stats stats;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    ops.hold = slow_hold;
    assert_int_equal(rig_attach(&rig, &ops), 0);
    add_memory(&rig.machine, GM_REGION_RAM, 0, 0x10000, rig.ram, 0);
    assert_string_equal(rig.said, ""); /* nobody is held for new memory */
    add_region(&rig.machine, 0x4000,
               (struct gm_region_options){.kind = GM_REGION_ROM,
                                          .size_bytes = 0x1000,
                                          .ram = rig.ram,
                                          .ram_offset = 0x80000,
                                          .priority = 1});
    assert_non_null(strstr(rig.said, "vCPUs were held out of guest mode for "));
    gm_slots_stats(rig.slots, &stats);
    assert_int_equal(stats.holds, 1);
    assert_true(stats.max_hold_ns >= 2 * NS_PER_MS && stats.hold_ns >= stats.max_hold_ns);
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    rig_fini(&rig);
}

/* ---- logs of large pages ---- */

static void bit_of_a_large_page_is_all_of_its_pages(void **state)
{
    /* A hypervisor with pages of 64 KiB: its page 1 is the pages 16 to 31 of the record. */
    struct gm_backend_ops ops = pass_all();
    const struct gm_backend_options options = {.size = sizeof(options), .page_bytes = 0x10000};
    struct gm_region *region;
    struct gm_txn *txn;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    gm_ram_put(rig.ram);
    rig.ram = new_ram(4 << 20); /* so large that it is aligned in the host, too */
    assert_int_equal((uintptr_t)gm_ram_hva(rig.ram) % 0x10000, 0);
    assert_int_equal(
        gm_slots_attach(rig.machine.space, &options, &ops, &rig, &rig.slots, &rig.diag), 0);
    region = add_memory(&rig.machine, GM_REGION_RAM, 0, 0x20000, rig.ram, 0);
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_log(txn, region, CLIENT, true), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(gm_region_log_sync(region, 0, 0x20000), 0);
    (void)harvest(&rig);
    rig.hypervisor.log[0][0] = 1 << 1;
    assert_int_equal(gm_region_log_sync(region, 0, 0x20000), 0);
    assert_int_equal(harvest(&rig), 0xffff0000);
    assert_int_equal(harvest(&rig), 0);
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    rig_fini(&rig);
}

/* ---- memory that runs out ---- */

/* MANY pieces of RAM apart from each other, and registers with an eventfd beside each, in one commit. */
static int add_many(struct rig *rig)
{
    static const struct gm_io_ops io = {.size = sizeof(io)};
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(rig->machine.map, &txn), 0);
    for (unsigned i = 0; i < MANY; i++) {
        const struct gm_eventfd eventfd = {.offset = 8, .size_bytes = 4, .fd = 1};
        struct gm_region_options options = {
            .size = sizeof(options),
            .kind = GM_REGION_RAM,
            .size_bytes = PAGE,
            .addr = i * 4 * PAGE,
            .ram = rig->ram,
            .ram_offset = i * 2 * PAGE,
        };
        struct gm_region *region;

        assert_int_equal(gm_region_new(rig->machine.map, &options, &region, NULL), 0);
        assert_int_equal(gm_txn_set_log(txn, region, CLIENT, i % 2 == 0), 0);
        assert_int_equal(gm_txn_add(txn, rig->machine.root, region), 0);
        gm_region_put(region);
        options = (struct gm_region_options){
            .size = sizeof(options),
            .kind = GM_REGION_MMIO,
            .size_bytes = PAGE,
            .addr = i * 4 * PAGE + PAGE,
            .io = &io,
        };
        assert_int_equal(gm_region_new(rig->machine.map, &options, &region, NULL), 0);
        if (i < 8) {
            assert_int_equal(gm_txn_add_eventfd(txn, region, &eventfd), 0);
        }
        assert_int_equal(gm_txn_add(txn, rig->machine.root, region), 0);
        gm_region_put(region);
    }
    return gm_txn_commit(txn, &rig->diag);
}

static void commit_of_many_changes_fails_whole_for_each_allocation(void **state)
{
    /*
     * More than the fixed memory of a commit holds, so that also plans are allocated. Each allocation of the backend fails
     * once: -ENOMEM, it says so, no call has been made, and the map shows what it showed.
     */
    struct rig rig;
    unsigned failures = 0;
    int64_t live;
    int rc;

    (void)state;
    rig_init(&rig);
    assert_int_equal(gm_slots_attach(rig.machine.space,
                                     &(struct gm_backend_options){
                                         .size = sizeof(struct gm_backend_options),
                                         .allocator = &rig.allocator,
                                     },
                                     &hypervisor_ops, &rig.hypervisor, &rig.slots, &rig.diag),
                     0);
    live = faults_live(&rig.faults);
    for (;; failures++) {
        faults_arm(&rig.faults, failures + 1);
        rc = add_many(&rig);
        if (!faults_disarm(&rig.faults)) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(rig.diag.id, GM_DIAG_NO_MEMORY);
        expect(&rig, "");
        assert_int_equal(gm_slots_list(rig.slots, NULL, 0), 0);
        assert_in_range(faults_live(&rig.faults), live,
                        live + 2); /* a slot, a log's memory: for the next commit */
    }
    assert_int_equal(rc, 0);
    assert_true(failures > MANY + 4); /* each slot, and what plans are made of */
    assert_int_equal(gm_slots_list(rig.slots, NULL, 0), MANY);
    assert_int_equal(rig.hypervisor.eventfd_count, 8);
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    assert_int_equal(rig.hypervisor.eventfd_count, 0);
    rig_fini(&rig);
}

/* ---- attaching and detaching ---- */

static void span_of_slots_that_is_no_power_of_two_is_refused(void **state)
{
    /* Nor one below a page. */
    struct gm_backend_options options = {.size = sizeof(options), .slot_span_bytes = 0x3000};
    struct rig rig;

    (void)state;
    rig_init(&rig);
    assert_int_equal(gm_slots_attach(rig.machine.space, &options, &hypervisor_ops, &rig.hypervisor,
                                     &rig.slots, &rig.diag),
                     -EINVAL);
    assert_int_equal(rig.diag.id, GM_DIAG_BACKEND_OPTIONS);
    options.slot_span_bytes = 0x800;
    assert_int_equal(gm_slots_attach(rig.machine.space, &options, &hypervisor_ops, &rig.hypervisor,
                                     &rig.slots, &rig.diag),
                     -EINVAL);
    rig_fini(&rig);
}

static void detach_that_is_refused_leaves_all_as_it_was(void **state)
{
    /* The second delete fails: the first slot comes back, commits go on, and the next detach succeeds. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    add_memory(&rig.machine, GM_REGION_RAM, 0, PAGE, rig.ram, 0);
    add_memory(&rig.machine, GM_REGION_RAM, 4 * PAGE, PAGE, rig.ram, 4 * PAGE);
    assert_int_equal(gm_slots_attach(rig.machine.space, NULL, &hypervisor_ops, &rig.hypervisor,
                                     &rig.slots, &rig.diag),
                     0);
    rig.hypervisor.text[0] = '\0';
    rig.hypervisor.calls = 0;
    rig.hypervisor.fail_at = 2;
    assert_int_equal(gm_slots_detach(rig.slots, &rig.diag), -EBUSY);
    assert_int_equal(rig.diag.id, GM_DIAG_BACKEND_SLOT);
    expect(&rig, "delete 0; create 0 0+1000 -; ");
    add_memory(&rig.machine, GM_REGION_RAM, 8 * PAGE, PAGE, rig.ram, 8 * PAGE);
    expect(&rig, "create 2 8000+1000 -; ");
    assert_int_equal(gm_slots_detach(rig.slots, &rig.diag), 0);
    expect(&rig, "delete 0; delete 1; delete 2; ");
    rig_fini(&rig);
}

/* ---- the port space ---- */

struct port_rig {
    struct hypervisor hypervisor;
    struct gm_map *map;
    struct gm_region *root;
    struct gm_region
        *device; /* at port 0x100: eventfds at 0 and 4, a coalesced range of 0x10 to 0x1f */
    struct gm_space *space;
    struct ports *ports;
    struct gm_diag diag;
};

static void port_rig_init(struct port_rig *rig)
{
    static const struct gm_io_ops io = {.size = sizeof(io)};
    const struct gm_region_options options = {.size = sizeof(options),
                                              .kind = GM_REGION_MMIO,
                                              .size_bytes = 0x20,
                                              .addr = 0x100,
                                              .io = &io};
    const struct gm_eventfd eventfds[] = {{.offset = 0, .size_bytes = 4, .fd = 1},
                                          {.offset = 4, .size_bytes = 4, .fd = 1}};
    struct gm_txn *txn;

    memset(rig, 0, sizeof(*rig));
    assert_int_equal(gm_map_new(NULL, &rig->map, NULL), 0);
    assert_int_equal(gm_region_new_container(rig->map, "ports", 0x10000, &rig->root), 0);
    assert_int_equal(gm_space_new(rig->map, "ports", rig->root, &rig->space, NULL), 0);
    assert_int_equal(gm_region_new(rig->map, &options, &rig->device, NULL), 0);
    assert_int_equal(gm_txn_begin(rig->map, &txn), 0);
    assert_int_equal(gm_txn_add(txn, rig->root, rig->device), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, rig->device, &eventfds[0]), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, rig->device, &eventfds[1]), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, rig->device, 0x10, 0x10), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

static int port_rig_attach(struct port_rig *rig, const struct gm_allocator *allocator)
{
    return ports_attach(rig->space, allocator, &hypervisor_ops, &rig->hypervisor, &rig->ports,
                        &rig->diag);
}

static void port_expect(struct port_rig *rig, const char *text)
{
    assert_string_equal(rig->hypervisor.text, text);
    rig->hypervisor.text[0] = '\0';
}

/* The map goes first, and its listener with it. */
static void port_rig_fini(struct port_rig *rig)
{
    gm_region_put(rig->device);
    gm_region_put(rig->root);
    gm_map_free(rig->map);
    ports_free(rig->ports);
}

static void ports_each_failing_call_is_taken_back(void **state)
{
    /* A device moves: of the six calls each fails once. Those before it are undone, in reverse; it says what was refused. */
    static const char *const SAID[] = {
        "KVM does not remove the eventfd at port 0x100: No such file or directory",
        "KVM does not remove the eventfd at port 0x104: No such file or directory",
        "KVM does not remove the coalesced range at port 0x110: Input/output error",
        "KVM does not add the eventfd at port 0x200: No space left on device",
        "KVM does not add the eventfd at port 0x204: No space left on device",
        "KVM does not add the coalesced range at port 0x210: No space left on device",
    };
    struct port_rig rig;

    (void)state;
    port_rig_init(&rig);
    assert_int_equal(port_rig_attach(&rig, &mem_default_allocator), 0);
    port_expect(&rig, "eventfd+ 100; eventfd+ 104; coalesced+ 110-11f; ");
    for (unsigned i = 0; i < 6; i++) {
        rig.hypervisor.calls = 0;
        rig.hypervisor.fail_at = i + 1;
        assert_int_not_equal(gm_region_set_addr(rig.device, 0x200, &rig.diag), 0);
        assert_string_equal(rig.diag.text, SAID[i]);
        assert_int_equal(rig.diag.id,
                         i % 3 == 2 ? GM_DIAG_BACKEND_COALESCED : GM_DIAG_BACKEND_EVENTFD);
        assert_int_equal(rig.hypervisor.eventfd_count, 2);
        assert_int_equal(rig.hypervisor.calls, 2 * i + 1);
        assert_false(gm_map_is_broken(rig.map));
    }
    rig.hypervisor.text[0] = '\0';
    assert_int_equal(gm_region_set_addr(rig.device, 0x200, &rig.diag), 0);
    port_expect(&rig, "eventfd- 100; eventfd- 104; coalesced- 110-11f; "
                      "eventfd+ 200; eventfd+ 204; coalesced+ 210-21f; ");
    port_rig_fini(&rig);
    assert_int_equal(rig.hypervisor.eventfd_count, 0);
    assert_non_null(strstr(rig.hypervisor.text, "coalesced- 210-21f; "));
}

static void ports_eventfds_that_differ_in_one_thing_are_told_apart(void **state)
{
    /* All at one port; some go, and what is left at the end is just the others. */
    static const struct gm_eventfd EVENTFDS[] = {
        {.offset = 8, .size_bytes = 4, .match = true, .value = 1, .fd = 1},
        {.offset = 8, .size_bytes = 4, .match = true, .value = 2, .fd = 1},
        {.offset = 8, .size_bytes = 2, .match = true, .value = 1, .fd = 1},
        {.offset = 8, .size_bytes = 4, .match = false, .value = 0, .fd = 1},
    };
    struct port_rig rig;
    struct gm_txn *txn;

    (void)state;
    for (unsigned gone = 0; gone < 4; gone++) {
        port_rig_init(&rig);
        assert_int_equal(port_rig_attach(&rig, &mem_default_allocator), 0);
        assert_int_equal(gm_txn_begin(rig.map, &txn), 0);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(gm_txn_add_eventfd(txn, rig.device, &EVENTFDS[i]), 0);
        }
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
        assert_int_equal(rig.hypervisor.eventfd_count, 6);
        assert_int_equal(gm_txn_begin(rig.map, &txn), 0);
        assert_int_equal(gm_txn_del_eventfd(txn, rig.device, &EVENTFDS[gone]), 0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
        assert_int_equal(rig.hypervisor.eventfd_count, 5);
        port_rig_fini(&rig);
        assert_int_equal(rig.hypervisor.eventfd_count, 0);
    }
}

static void ports_undo_that_fails_breaks_the_map(void **state)
{
    /* From the fourth call on all fail: what could not be put back is not taken back at the end either. */
    struct port_rig rig;

    (void)state;
    port_rig_init(&rig);
    assert_int_equal(port_rig_attach(&rig, &mem_default_allocator), 0);
    rig.hypervisor.text[0] = '\0';
    rig.hypervisor.calls = 0;
    rig.hypervisor.fail_from = 4;
    assert_int_not_equal(gm_region_set_addr(rig.device, 0x200, &rig.diag), 0);
    assert_true(gm_map_is_broken(rig.map));
    rig.hypervisor.fail_from = 0;
    assert_int_equal(gm_region_set_addr(rig.device, 0x300, &rig.diag), -EIO);
    port_expect(&rig, "eventfd- 100; eventfd- 104; coalesced- 110-11f; ");
    port_rig_fini(&rig);
    port_expect(&rig, "");
}

static void ports_each_failing_allocation_changes_nothing(void **state)
{
    /* Attaching, then a commit with more eventfds than there were: allocation 1, 2, ... fails. No call is made. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    struct port_rig rig;
    struct gm_txn *txn;
    unsigned failures = 0;
    int rc = -ENOMEM;

    (void)state;
    port_rig_init(&rig);
    for (; rc != 0; failures++) {
        faults_arm(&faults, failures + 1);
        rc = port_rig_attach(&rig, &allocator);
        assert_true(rc == 0 || (rc == -ENOMEM && rig.hypervisor.calls == 0));
        assert_true(rc == 0 || faults_live(&faults) == 0);
    }
    assert_int_equal(failures - 1, 3); /* itself, the plan, what is live */
    assert_false(faults_disarm(&faults));
    port_expect(&rig, "eventfd+ 100; eventfd+ 104; coalesced+ 110-11f; ");
    for (rc = -ENOMEM, failures = 0; rc != 0; failures++) {
        assert_int_equal(gm_txn_begin(rig.map, &txn), 0);
        for (unsigned i = 0; i < 6; i++) {
            const struct gm_eventfd more = {.offset = 8 + i, .size_bytes = 1, .fd = 1};

            assert_int_equal(gm_txn_add_eventfd(txn, rig.device, &more), 0);
        }
        faults_arm(&faults, failures + 1);
        rc = gm_txn_commit(txn, &rig.diag);
        if (rc != 0) {
            assert_int_equal(rc, -ENOMEM);
            assert_int_equal(rig.diag.id, GM_DIAG_NO_MEMORY);
            port_expect(&rig, "");
        }
    }
    assert_true(failures > 1);
    assert_int_equal(rig.hypervisor.eventfd_count, 8);
    port_rig_fini(&rig);
    assert_int_equal(faults_live(&faults), 0);
}

static void ports_that_cannot_be_added_are_not_attached(void **state)
{
    /* The second of two eventfds is refused: the first is removed again, and nothing is left to free. */
    struct port_rig rig;

    (void)state;
    port_rig_init(&rig);
    rig.hypervisor.fail_at = 2;
    assert_int_equal(port_rig_attach(&rig, &mem_default_allocator), -ENOSPC);
    port_expect(&rig, "eventfd+ 100; eventfd- 100; ");
    assert_null(rig.ports);
    port_rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(undo_without_a_hold_counts_all_pages_as_written),
        cmocka_unit_test(slow_hold_is_said_and_counted),
        cmocka_unit_test(bit_of_a_large_page_is_all_of_its_pages),
        cmocka_unit_test(commit_of_many_changes_fails_whole_for_each_allocation),
        cmocka_unit_test(span_of_slots_that_is_no_power_of_two_is_refused),
        cmocka_unit_test(detach_that_is_refused_leaves_all_as_it_was),
        cmocka_unit_test(ports_each_failing_call_is_taken_back),
        cmocka_unit_test(ports_eventfds_that_differ_in_one_thing_are_told_apart),
        cmocka_unit_test(ports_undo_that_fails_breaks_the_map),
        cmocka_unit_test(ports_each_failing_allocation_changes_nothing),
        cmocka_unit_test(ports_that_cannot_be_added_are_not_attached),
    };

    return cmocka_run_group_tests_name("slots_edges", tests, NULL, NULL);
}
