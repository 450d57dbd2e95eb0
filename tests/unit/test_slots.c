/*
 * unit/test_slots.c - a backend attached to a space, through the public interface only.
 */
#include "unit/hypervisor.h"
#include "unit/machine.h"

#define CLIENT 2u

/* ---- a machine with the backend attached ---- */

struct rig {
    struct machine machine;
    struct hypervisor hypervisor;
    struct gm_slots *slots;
    struct gm_ram *ram; /* 1 MiB */
    struct gm_ram *rom; /* 64 KiB */
    struct gm_diag diag;
};

static void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    rig->machine = machine_new();
    rig->ram = new_ram(1 << 20);
    rig->rom = new_ram(1 << 16);
}

static void rig_attach(struct rig *rig)
{
    assert_int_equal(gm_slots_attach(rig->machine.space, NULL, &hypervisor_ops, &rig->hypervisor,
                                     &rig->slots, &rig->diag),
                     0);
}

static void rig_detach(struct rig *rig)
{
    assert_int_equal(gm_slots_detach(rig->slots, &rig->diag), 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        assert_false(rig->hypervisor.used[i]);
    }
    assert_int_equal(rig->hypervisor.eventfd_count, 0);
    assert_false(rig->hypervisor.held);
}

static void rig_fini(struct rig *rig)
{
    machine_free(&rig->machine);
    gm_ram_put(rig->ram);
    gm_ram_put(rig->rom);
}

/* The hypervisor has just what the library lists. */
static void check_listed(struct rig *rig)
{
    struct gm_slot listed[SLOTS];
    size_t count = gm_slots_list(rig->slots, listed, SLOTS);
    size_t at = 0;

    for (uint32_t number = 0; number < SLOTS; number++) {
        if (!rig->hypervisor.used[number]) {
            continue;
        }
        assert_true(at < count);
        assert_int_equal(listed[at].number, number);
        check_known(&rig->hypervisor, &listed[at]);
        at++;
    }
    assert_int_equal(at, count);
}

static void expect(struct rig *rig, const char *text)
{
    assert_string_equal(rig->hypervisor.text, text);
    rig->hypervisor.text[0] = '\0';
    check_listed(rig);
    assert_false(rig->hypervisor.held);
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
            pages |= 1ull << first;
        }
    }
    gm_harvest_commit(taken);
    return pages;
}

static void set_log(struct rig *rig, struct gm_region *region, bool on)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(rig->machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_log(txn, region, CLIENT, on), 0);
    assert_int_equal(gm_txn_commit(txn, &rig->diag), 0);
}

/* ---- tests ---- */

static void slots_attach_maps_what_is_shown(void **state)
{
    /* Memory that was there before the backend, by kind: MMIO and a ROM device outside romd get
     * none. */
    static const struct gm_io_ops io = {.size = sizeof(io)};
    struct rig rig;
    struct gm_region *flash;
    struct gm_txn *txn;

    (void)state;
    rig_init(&rig);
    add_memory(&rig.machine, GM_REGION_RAM, 0, 0x10000, rig.ram, 0);
    add_memory(&rig.machine, GM_REGION_RAM_DEVICE, 0x20000, 0x2000, rig.ram, 0x20000);
    add_memory(&rig.machine, GM_REGION_ROM, 0x30000, 0x4000, rig.rom, 0);
    flash = add_region(&rig.machine, 0x40000,
                       (struct gm_region_options){.kind = GM_REGION_ROM_DEVICE,
                                                  .size_bytes = 0x4000,
                                                  .ram = rig.rom,
                                                  .ram_offset = 0x8000,
                                                  .io = &io,
                                                  .no_romd = true});
    rig_attach(&rig);
    expect(&rig, "create 0 0+10000 -; create 1 20000+2000 -; create 2 30000+4000 o; ");

    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_romd(txn, flash, true), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    expect(&rig, "create 3 40000+4000 o; ");
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_romd(txn, flash, false), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    expect(&rig, "delete 3; ");
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_shadow_window_moves_only_itself(void **state)
{
    /* A ROM over RAM, switched off and on: the first time splits, later ones touch the window
     * alone. */
    struct rig rig;
    struct gm_region *window;
    struct gm_slots_stats stats;

    (void)state;
    rig_init(&rig);
    add_memory(&rig.machine, GM_REGION_RAM, 0, 0x100000, rig.ram, 0);
    window = add_region(&rig.machine, 0xc0000,
                        (struct gm_region_options){.kind = GM_REGION_ROM,
                                                   .size_bytes = 0x10000,
                                                   .ram = rig.rom,
                                                   .priority = 1,
                                                   .disabled = true});
    rig_attach(&rig);
    expect(&rig, "create 0 0+100000 -; ");
    assert_int_equal(gm_region_set_enabled(window, true, NULL), 0);
    expect(&rig, "hold; delete 0; create 0 0+c0000 -; create 1 c0000+10000 o; "
                 "create 2 d0000+30000 -; release; ");
    assert_int_equal(gm_region_set_enabled(window, false, NULL), 0);
    expect(&rig, "hold; delete 1; create 1 c0000+10000 -; release; ");
    assert_int_equal(gm_region_set_enabled(window, true, NULL), 0);
    expect(&rig, "hold; delete 1; create 1 c0000+10000 o; release; ");
    gm_slots_stats(rig.slots, &stats);
    assert_int_equal(stats.creates, 6);
    assert_int_equal(stats.destroys, 3);
    assert_int_equal(stats.untouched_destroys, 1);
    assert_int_equal(stats.holds, 3);
    assert_true(stats.hold_ns >= stats.max_hold_ns && stats.max_hold_ns > 0);
    assert_int_equal(stats.joins, 0);
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_of_memory_that_is_not_there_have_no_log_to_fetch(void **state)
{
    /* Nobody can have written to it; the hypervisor of these tests does not want to be asked. */
    struct rig rig;
    struct gm_ram *unbacked;
    struct gm_region *region;

    (void)state;
    rig_init(&rig);
    assert_int_equal(gm_ram_new_unbacked(0x8000, NULL, &unbacked, NULL), 0);
    region = add_memory(&rig.machine, GM_REGION_RAM, 0x10000, 0x8000, unbacked, 0);
    rig_attach(&rig);
    set_log(&rig, region, true);
    expect(&rig, "create 0 10000+8000 -; flags 0 l; ");
    assert_int_equal(gm_region_log_sync(region, 0, 0x8000), 0);
    set_log(&rig, region, false);
    expect(&rig, "hold; flags 0 -; release; ");
    rig_detach(&rig);
    gm_ram_put(unbacked);
    rig_fini(&rig);
}

static void slots_log_is_drained_before_it_ends(void **state)
{
    /* Pages in the hypervisor's log when logging ends, or the slot goes, are in the record
     * afterwards. */
    struct rig rig;
    struct gm_region *region;

    (void)state;
    rig_init(&rig);
    region = add_memory(&rig.machine, GM_REGION_RAM, 0x10000, 0x8000, rig.ram, 0x4000);
    assert_int_equal(gm_ram_dirty_begin(rig.ram, CLIENT), 0); /* our own, beside the region's */
    rig_attach(&rig);
    set_log(&rig, region, true);
    expect(&rig, "create 0 10000+8000 -; flags 0 l; ");
    rig.hypervisor.log[0][0] = 1 << 3;
    set_log(&rig, region, false);
    expect(&rig, "hold; flags 0 -; release; ");
    assert_int_equal(harvest(&rig), 1 << (3 + 4));

    set_log(&rig, region, true);
    rig.hypervisor.log[0][0] = 1 << 5;
    assert_int_equal(gm_region_set_enabled(region, false, NULL), 0);
    expect(&rig, "flags 0 l; hold; delete 0; release; ");
    assert_int_equal(harvest(&rig), 1 << (5 + 4));
    assert_int_equal(gm_ram_dirty_end(rig.ram, CLIENT), 0);
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_unreadable_log_marks_all(void **state)
{
    /* A log that cannot be fetched: every page of the slot counts as dirty, the commit goes on. */
    struct rig rig;
    struct gm_region *region;

    (void)state;
    rig_init(&rig);
    region = add_memory(&rig.machine, GM_REGION_RAM, 0x10000, 0x8000, rig.ram, 0x4000);
    set_log(&rig, region, true);
    rig_attach(&rig);
    rig.hypervisor.log_fails = true;
    assert_int_equal(gm_region_set_enabled(region, false, NULL), 0);
    assert_int_equal(harvest(&rig), 0xff0);
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_sync_brings_logs_in(void **state)
{
    /* On demand, for a range; all that was fetched is kept. What a failure left there comes later. */
    struct rig rig;
    struct gm_region *region;

    (void)state;
    rig_init(&rig);
    region = add_memory(&rig.machine, GM_REGION_RAM, 0x10000, 0x8000, rig.ram, 0x4000);
    set_log(&rig, region, true);
    rig_attach(&rig);
    rig.hypervisor.log[0][0] = 0x81;
    assert_int_equal(gm_region_log_sync(region, 0x800, 0x100), 0);
    assert_int_equal(harvest(&rig), 0x810);
    rig.hypervisor.log_fails = true;
    assert_int_equal(gm_region_log_sync(region, 0x1800, 0x1000), -EIO);
    assert_int_equal(harvest(&rig), 0);
    rig.hypervisor.log[0][0] = 0x06;
    rig.hypervisor.log_fails = false;
    assert_int_equal(gm_region_log_sync(region, 0x1800, 0x1000), 0);
    assert_int_equal(harvest(&rig), 0x060);
    rig_detach(&rig);
    rig_fini(&rig);
}

/* RAM that is split and logged, a region that goes, one that comes, eventfds that go and come. */
struct edit {
    struct gm_region *low;
    struct gm_region *window;
    struct gm_region *logged;
    struct gm_region *bell;
};

static const struct gm_eventfd BELLS[] = {{0x10, 4, true, 7, 1}, {0x20, 2, false, 0, 1}};

static void edit_init(struct edit *edit, struct rig *rig)
{
    static const struct gm_io_ops io = {.size = sizeof(io)};
    struct gm_txn *txn;

    edit->low = add_memory(&rig->machine, GM_REGION_RAM, 0, 0x10000, rig->ram, 0);
    edit->window = add_region(&rig->machine, 0x4000,
                              (struct gm_region_options){.kind = GM_REGION_ROM,
                                                         .size_bytes = 0x2000,
                                                         .ram = rig->rom,
                                                         .priority = 1,
                                                         .disabled = true});
    edit->logged = add_memory(&rig->machine, GM_REGION_RAM, 0x80000, 0x10000, rig->ram, 0x80000);
    edit->bell = add_mmio(&rig->machine, 0xf0000, 0x1000, &io, NULL);
    assert_int_equal(gm_txn_begin(rig->machine.map, &txn), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, edit->bell, &BELLS[0]), 0);
    assert_int_equal(gm_txn_set_log(txn, edit->low, CLIENT, true), 0);
    assert_int_equal(gm_txn_commit(txn, &rig->diag), 0);
}

static int edit_commit(struct edit *edit, struct rig *rig)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(rig->machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_enabled(txn, edit->window, true), 0);
    assert_int_equal(gm_txn_set_log(txn, edit->logged, CLIENT, true), 0);
    assert_int_equal(gm_txn_del_eventfd(txn, edit->bell, &BELLS[0]), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, edit->bell, &BELLS[1]), 0);
    return gm_txn_commit(txn, &rig->diag);
}

static void slots_each_failing_call_is_taken_back(void **state)
{
    /* Call 1, 2, ... of a commit fails once: slots, flags, eventfds, records are as before. */
    struct rig rig;
    struct edit edit;
    struct hypervisor before;
    unsigned n = 0;
    int rc = -1;

    (void)state;
    rig_init(&rig);
    edit_init(&edit, &rig);
    rig_attach(&rig);
    expect(&rig, "create 0 0+10000 l; create 1 80000+10000 -; eventfd+ f0010; ");
    before = rig.hypervisor;
    while (rc != 0) {
        n++;
        assert_true(n < 20);
        rig.hypervisor.calls = 0;
        rig.hypervisor.fail_at = n;
        rig.diag.code = 0;
        rc = edit_commit(&edit, &rig);
        if (rc != 0) {
            assert_int_equal(rig.diag.code, rc);
            assert_true(rig.diag.text[0] != '\0');
            assert_memory_equal(rig.hypervisor.slots, before.slots, sizeof(before.slots[0]) * 2);
            assert_memory_equal(rig.hypervisor.used, before.used, sizeof(before.used));
            assert_int_equal(rig.hypervisor.eventfd_count, 1);
            assert_int_equal(rig.hypervisor.eventfds[0].offset, 0xf0010);
            assert_false(rig.hypervisor.held);
            assert_int_equal(harvest(&rig), 0);
            assert_false(gm_map_is_broken(rig.machine.map));
            check_listed(&rig);
            rig.hypervisor.text[0] = '\0';
        }
    }
    /* eventfd-, hold, delete, flags, three creates, eventfd+ */
    assert_int_equal(n, 9);
    expect(&rig, "eventfd- f0010; hold; delete 0; flags 1 l; create 0 0+4000 l; "
                 "create 2 4000+2000 o; create 3 6000+a000 l; eventfd+ f0020; release; ");
    rig.hypervisor.fail_at = 0;
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_refusal_names_the_slot(void **state)
{
    /* The sentence says which slot where, and the errno's name. */
    struct rig rig;
    struct gm_region *region;

    (void)state;
    rig_init(&rig);
    region = add_memory(&rig.machine, GM_REGION_RAM, 0xc0000, 0x8000, rig.ram, 0);
    assert_int_equal(gm_region_set_enabled(region, false, NULL), 0);
    rig_attach(&rig);
    rig.hypervisor.fail_at = 1;
    assert_int_equal(gm_region_set_enabled(region, true, &rig.diag), -ENOMEM);
    assert_string_equal(rig.diag.text,
                        "the hypervisor refused to create slot 0 at 0xc0000+0x8000: ENOMEM");
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_written_meanwhile_stays_dirty(void **state)
{
    /* The guest writes through a new logged slot, a later call fails: the page is dirty. */
    struct rig rig;
    struct gm_region *region;
    struct gm_region *other;
    struct gm_txn *txn;

    (void)state;
    rig_init(&rig);
    region = add_memory(&rig.machine, GM_REGION_RAM, 0x10000, 0x8000, rig.ram, 0x4000);
    other = add_memory(&rig.machine, GM_REGION_RAM, 0x20000, 0x1000, rig.ram, 0x20000);
    assert_int_equal(gm_region_set_enabled(region, false, NULL), 0);
    assert_int_equal(gm_region_set_enabled(other, false, NULL), 0);
    set_log(&rig, region, true);
    rig_attach(&rig);
    rig.hypervisor.guest_writes = true;
    rig.hypervisor.fail_at = 2;
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_enabled(txn, region, true), 0);
    assert_int_equal(gm_txn_set_enabled(txn, other, true), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), -ENOMEM);
    expect(&rig, "create 0 10000+8000 l; hold; delete 0; release; ");
    assert_int_equal(harvest(&rig), 1 << (1 + 4));
    rig_detach(&rig);
    rig_fini(&rig);
}

static int refuse_if_told(void *opaque, struct gm_diag *diag)
{
    bool *refuses = opaque;

    (void)diag;
    return *refuses ? -EPERM : 0;
}

static void slots_later_listener_failing_undoes_them(void **state)
{
    /* The slots were applied, then another listener refuses. */
    static const struct gm_listener_ops ops = {.size = sizeof(ops), .apply = refuse_if_told};
    struct gm_listener *listener;
    bool refuses = false;
    struct rig rig;
    struct edit edit;

    (void)state;
    rig_init(&rig);
    edit_init(&edit, &rig);
    rig_attach(&rig);
    rig.hypervisor.text[0] = '\0';
    assert_int_equal(gm_listener_register(rig.machine.map, rig.machine.space, INT32_MAX, &ops,
                                          &refuses, &listener, NULL),
                     0);
    refuses = true;
    assert_int_equal(edit_commit(&edit, &rig), -EPERM);
    expect(&rig, "eventfd- f0010; hold; delete 0; flags 1 l; create 0 0+4000 l; "
                 "create 2 4000+2000 o; create 3 6000+a000 l; eventfd+ f0020; eventfd- f0020; "
                 "delete 3; delete 2; delete 0; flags 1 -; create 0 0+10000 l; eventfd+ f0010; "
                 "release; ");
    refuses = false;
    assert_int_equal(gm_listener_unregister(listener, NULL), 0);
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_failing_undo_breaks(void **state)
{
    /* From the fourth call on everything fails: -EIO, also later on; detaching deletes what is
     * left. */
    struct rig rig;
    struct edit edit;

    (void)state;
    rig_init(&rig);
    edit_init(&edit, &rig);
    rig_attach(&rig);
    rig.hypervisor.calls = 0;
    rig.hypervisor.fail_from = 4;
    assert_int_equal(edit_commit(&edit, &rig), -EIO);
    assert_false(rig.hypervisor.held);
    rig.hypervisor.fail_from = 0;
    rig.hypervisor.has_lost = true;
    assert_true(gm_map_is_broken(rig.machine.map));
    assert_int_equal(edit_commit(&edit, &rig), -EIO);
    rig_detach(&rig);
    gm_region_put(rig.machine.root);
    gm_map_free(rig.machine.map);
    gm_ram_put(rig.ram);
    gm_ram_put(rig.rom);
}

/* Call @first of a commit fails, and then call @second, which undoes. Return: was there that one? */
static bool break_by_one_call(unsigned first, unsigned second)
{
    struct rig rig;
    struct edit edit;
    bool is_reached;

    rig_init(&rig);
    edit_init(&edit, &rig);
    rig_attach(&rig);
    rig.hypervisor.calls = 0;
    rig.hypervisor.fail_at = first;
    rig.hypervisor.fail_also = second;
    assert_int_not_equal(edit_commit(&edit, &rig), 0);
    is_reached = rig.hypervisor.calls >= second;
    assert_int_equal(gm_map_is_broken(rig.machine.map), is_reached);
    rig.hypervisor.fail_at = 0;
    rig.hypervisor.fail_also = 0;
    rig.hypervisor.has_lost = is_reached;
    if (is_reached) {
        assert_int_equal(edit_commit(&edit, &rig), -EIO);
    }
    /* What could not be deleted stays, as in Linux until the VM is closed. */
    assert_int_equal(gm_slots_detach(rig.slots, &rig.diag), 0);
    gm_region_put(rig.machine.root);
    gm_map_free(rig.machine.map);
    gm_ram_put(rig.ram);
    gm_ram_put(rig.rom);
    return is_reached;
}

static void slots_each_call_that_does_not_undo_breaks(void **state)
{
    /* One alone, whichever it is: creates, deletes, flags and eventfds. */
    unsigned broken = 0;

    (void)state;
    for (unsigned first = 2; first <= 8; first++) {
        for (unsigned second = first + 1; break_by_one_call(first, second); second++) {
            broken++;
        }
    }
    /* What was done by then: an eventfd; a hold, which is let go of anyway; six slots' changes. */
    assert_int_equal(broken, 1 + 1 + 2 + 3 + 4 + 5 + 6);
}

static void on_region_release(void *opaque)
{
    *(bool *)opaque = true;
}

static void slots_hold_their_regions(void **state)
{
    /* A region lives as long as its slot, and no longer. */
    struct rig rig;
    struct gm_region *region;
    bool is_released = false;

    (void)state;
    rig_init(&rig);
    region = add_region(&rig.machine, 0x10000,
                        (struct gm_region_options){.kind = GM_REGION_RAM,
                                                   .size_bytes = 0x4000,
                                                   .ram = rig.ram,
                                                   .opaque = &is_released,
                                                   .release = on_region_release});
    rig_attach(&rig);
    assert_int_equal(gm_region_del(rig.machine.root, region, NULL), 0);
    expect(&rig, "create 0 10000+4000 -; delete 0; ");
    gm_map_quiesce(rig.machine.map);
    assert_true(is_released);
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_same_memory_in_another_region_is_kept(void **state)
{
    /* A region gives way to another of the same memory: no call, and the old one is let go. */
    struct rig rig;
    struct gm_region *before;
    struct gm_region *after;
    struct gm_slot slot;
    struct gm_txn *txn;
    bool is_released = false;

    (void)state;
    rig_init(&rig);
    before = add_region(&rig.machine, 0x10000,
                        (struct gm_region_options){.kind = GM_REGION_RAM,
                                                   .size_bytes = 0x4000,
                                                   .ram = rig.ram,
                                                   .ram_offset = 0x2000,
                                                   .opaque = &is_released,
                                                   .release = on_region_release});
    after = add_memory(&rig.machine, GM_REGION_RAM, 0xf000, 0x5000, rig.ram, 0x1000);
    assert_int_equal(gm_region_set_enabled(after, false, NULL), 0);
    rig_attach(&rig);
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_del(txn, rig.machine.root, before), 0);
    assert_int_equal(gm_txn_set_enabled(txn, after, true), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(gm_slots_list(rig.slots, &slot, 1), 2);
    assert_ptr_equal(slot.region, after);
    assert_int_equal(slot.offset, 0x1000);
    expect(&rig, "create 0 10000+4000 -; create 1 f000+1000 -; ");
    gm_map_quiesce(rig.machine.map);
    assert_true(is_released);
    rig_detach(&rig);
    rig_fini(&rig);
}

/* ---- limits and options ---- */

static void slots_limit_refuses_the_commit(void **state)
{
    /* Three slots are one too many: -ENOSPC, and the view is as it was. */
    const struct gm_backend_options options = {.size = sizeof(options), .max_slots = 2};
    struct rig rig;
    struct gm_region *region;
    struct gm_section section;
    struct gm_view *view;

    (void)state;
    rig_init(&rig);
    add_memory(&rig.machine, GM_REGION_RAM, 0, 0x1000, rig.ram, 0);
    add_memory(&rig.machine, GM_REGION_RAM, 0x10000, 0x1000, rig.ram, 0x1000);
    region = add_memory(&rig.machine, GM_REGION_RAM, 0x20000, 0x1000, rig.ram, 0x2000);
    assert_int_equal(gm_slots_attach(rig.machine.space, &options, &hypervisor_ops, &rig.hypervisor,
                                     &rig.slots, &rig.diag),
                     -ENOSPC);
    assert_string_equal(rig.hypervisor.text, "");
    assert_int_equal(gm_region_set_enabled(region, false, NULL), 0);
    assert_int_equal(gm_slots_attach(rig.machine.space, &options, &hypervisor_ops, &rig.hypervisor,
                                     &rig.slots, &rig.diag),
                     0);
    assert_int_equal(gm_region_set_enabled(region, true, &rig.diag), -ENOSPC);
    assert_string_equal(rig.diag.text, "the map needs 3 memory slots and the hypervisor has 2");
    view = gm_view_get(rig.machine.space);
    assert_false(gm_view_find(view, 0x20000, &section));
    gm_view_put(view);
    expect(&rig, "create 0 0+1000 -; create 1 10000+1000 -; ");
    rig_detach(&rig);
    rig_fini(&rig);
}

static void slots_bad_options_are_refused(void **state)
{
    /* Sizes of structures, pages that are none, half of a pair. */
    struct gm_backend_options options = {.size = sizeof(options)};
    struct gm_backend_ops ops = hypervisor_ops;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    options.size = sizeof(options.size); /* below its first version */
    assert_int_equal(
        gm_slots_attach(rig.machine.space, &options, &ops, NULL, &rig.slots, &rig.diag), -EINVAL);
    options = (struct gm_backend_options){.size = sizeof(options), .page_bytes = 0x1800};
    assert_int_equal(gm_slots_attach(rig.machine.space, &options, &ops, NULL, &rig.slots, NULL),
                     -EINVAL);
    options.page_bytes = 2048;
    assert_int_equal(gm_slots_attach(rig.machine.space, &options, &ops, NULL, &rig.slots, NULL),
                     -EINVAL);
    options = (struct gm_backend_options){.size = sizeof(options), .max_slots = UINT32_MAX};
    assert_int_equal(gm_slots_attach(rig.machine.space, &options, &ops, NULL, &rig.slots, NULL),
                     -EINVAL);
    ops.release = NULL;
    assert_int_equal(gm_slots_attach(rig.machine.space, NULL, &ops, NULL, &rig.slots, NULL),
                     -EINVAL);
    ops = hypervisor_ops;
    ops.eventfd_add = NULL;
    assert_int_equal(gm_slots_attach(rig.machine.space, NULL, &ops, NULL, &rig.slots, NULL),
                     -EINVAL);
    ops = hypervisor_ops;
    ops.create = NULL;
    assert_int_equal(gm_slots_attach(rig.machine.space, NULL, &ops, NULL, &rig.slots, NULL),
                     -EINVAL);
    ops.size = 0;
    assert_int_equal(gm_slots_attach(rig.machine.space, NULL, &ops, NULL, &rig.slots, NULL),
                     -EINVAL);
    rig_fini(&rig);
}

static void slots_two_backends_share_a_space(void **state)
{
    /* Each is told once of each commit, and has slots of its own. */
    struct rig rig;
    struct hypervisor second;
    struct gm_slots *slots;
    struct gm_region *region;

    (void)state;
    rig_init(&rig);
    memset(&second, 0, sizeof(second));
    region = add_memory(&rig.machine, GM_REGION_RAM, 0, 0x1000, rig.ram, 0);
    rig_attach(&rig);
    assert_int_equal(
        gm_slots_attach(rig.machine.space, NULL, &hypervisor_ops, &second, &slots, NULL), 0);
    assert_int_equal(gm_region_set_enabled(region, false, NULL), 0);
    assert_int_equal(gm_region_set_enabled(region, true, NULL), 0);
    expect(&rig, "create 0 0+1000 -; delete 0; create 0 0+1000 -; ");
    assert_string_equal(second.text, "create 0 0+1000 -; delete 0; create 0 0+1000 -; ");
    assert_int_equal(gm_slots_detach(slots, NULL), 0);
    rig_detach(&rig);
    rig_fini(&rig);
}

/* Fails the allocation that finds left == 0, once. */
struct failing {
    int left;
    int alive;
};

static void *failing_alloc(void *opaque, size_t size_bytes)
{
    struct failing *failing = opaque;

    if (failing->left == 0) {
        failing->left = -1;
        return NULL;
    }
    failing->left -= failing->left > 0;
    failing->alive++;
    return malloc(size_bytes);
}

static void failing_free(void *opaque, void *memory)
{
    struct failing *failing = opaque;

    failing->alive--;
    free(memory);
}

static void slots_each_failing_allocation_changes_nothing(void **state)
{
    /* Attaching, then a commit: allocation 0, 1, ... fails. No call is made, and nothing leaks. */
    struct failing failing = {.left = -1};
    const struct gm_allocator allocator = {failing_alloc, failing_free, &failing};
    const struct gm_backend_options options = {.size = sizeof(options), .allocator = &allocator};
    struct rig rig;
    struct edit edit;
    int alive;
    int rc = -ENOMEM;

    (void)state;
    rig_init(&rig);
    edit_init(&edit, &rig);
    for (int n = 0; rc == -ENOMEM; n++) {
        failing.left = n;
        rc = gm_slots_attach(rig.machine.space, &options, &hypervisor_ops, &rig.hypervisor,
                             &rig.slots, &rig.diag);
        assert_true(rc == 0 || (failing.alive == 0 && rig.hypervisor.calls == 0));
    }
    assert_int_equal(rc, 0);
    expect(&rig, "create 0 0+10000 l; create 1 80000+10000 -; eventfd+ f0010; ");
    alive = failing.alive;
    rc = -ENOMEM;
    for (int n = 0; rc == -ENOMEM; n++) {
        failing.left = n;
        rc = edit_commit(&edit, &rig);
        if (rc != 0) {
            assert_in_range(failing.alive, alive,
                            alive + 1); /* a slot may be kept for the next commit */
            expect(&rig, "");
        }
    }
    assert_int_equal(rc, 0);
    failing.left = -1;
    rig_detach(&rig);
    assert_int_equal(failing.alive, 0);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_attach_maps_what_is_shown),
        cmocka_unit_test(slots_shadow_window_moves_only_itself),
        cmocka_unit_test(slots_of_memory_that_is_not_there_have_no_log_to_fetch),
        cmocka_unit_test(slots_log_is_drained_before_it_ends),
        cmocka_unit_test(slots_unreadable_log_marks_all),
        cmocka_unit_test(slots_sync_brings_logs_in),
        cmocka_unit_test(slots_each_failing_call_is_taken_back),
        cmocka_unit_test(slots_refusal_names_the_slot),
        cmocka_unit_test(slots_written_meanwhile_stays_dirty),
        cmocka_unit_test(slots_later_listener_failing_undoes_them),
        cmocka_unit_test(slots_failing_undo_breaks),
        cmocka_unit_test(slots_each_call_that_does_not_undo_breaks),
        cmocka_unit_test(slots_hold_their_regions),
        cmocka_unit_test(slots_same_memory_in_another_region_is_kept),
        cmocka_unit_test(slots_limit_refuses_the_commit),
        cmocka_unit_test(slots_bad_options_are_refused),
        cmocka_unit_test(slots_two_backends_share_a_space),
        cmocka_unit_test(slots_each_failing_allocation_changes_nothing),
    };

    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
