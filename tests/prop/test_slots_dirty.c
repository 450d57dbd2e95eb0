/*
 * prop/test_slots_dirty.c - no dirty page is ever lost. A guest writes whenever nothing holds it,
 * also in the middle of commits; windows come and go, logging goes on and off, and calls of the
 * hypervisor fail. What was written through a logged slot, and only that, is harvested.
 */
#include "model/random.h"
#include "unit/hypervisor.h"
#include "unit/machine.h"

#define CLIENT 1u
#define RAM_PAGES 200u
#define GUEST_PAGES 512u

struct guest {
    struct hypervisor hypervisor; /* first: what its hook is given is the guest */
    struct machine machine;
    struct gm_slots *slots;
    struct gm_ram *ram;
    struct gm_region *region;
    struct gm_region *others[5]; /* windows over it, and a second view of it */
    struct rnd random;
    bool written[RAM_PAGES]; /* through a logged slot, since the last harvest */
};

/* One store of the guest, through some slot. */
static void guest_write(struct hypervisor *hypervisor)
{
    struct guest *guest = (struct guest *)hypervisor;
    uint32_t number = (uint32_t)rnd_below(&guest->random, SLOTS);
    const struct gm_slot *slot = &hypervisor->slots[number];
    uint64_t page;

    if (!hypervisor->used[number] || slot->flags != GM_SLOT_LOG) {
        return;
    }
    page = rnd_below(&guest->random, slot->size_bytes / PAGE);
    hypervisor->log[number][page / 64] |= 1ull << (page % 64);
    page += (uint64_t)((uint8_t *)slot->hva - (uint8_t *)gm_ram_hva(guest->ram)) / PAGE;
    assert_true(page < RAM_PAGES);
    guest->written[page] = true;
}

static struct gm_region *add_window(struct guest *guest, uint64_t page, uint64_t pages,
                                    enum gm_region_kind kind)
{
    return add_region(&guest->machine, page * PAGE,
                      (struct gm_region_options){
                          .kind = kind,
                          .size_bytes = pages * PAGE,
                          .priority = 1,
                          .disabled = true,
                          .ram = kind == GM_REGION_ROM ? guest->ram : NULL,
                          .target = kind == GM_REGION_ALIAS ? guest->region : NULL,
                      });
}

static void guest_init(struct guest *guest)
{
    /* So few that pieces have to be joined now and then. */
    const struct gm_backend_options options = {.size = sizeof(options), .max_slots = 12};

    memset(guest, 0, sizeof(*guest));
    guest->random.state = rnd_seed("slots_dirty");
    guest->machine = machine_new();
    guest->ram = new_ram(RAM_PAGES * PAGE);
    assert_int_equal(gm_ram_dirty_begin(guest->ram, CLIENT), 0);
    guest->region = add_memory(&guest->machine, GM_REGION_RAM, 0, RAM_PAGES * PAGE, guest->ram, 0);
    guest->others[0] = add_window(guest, 20, 30, GM_REGION_ROM);
    guest->others[1] = add_window(guest, 40, 5, GM_REGION_RESERVATION);
    guest->others[2] = add_window(guest, 100, 60, GM_REGION_RESERVATION);
    guest->others[3] = add_window(guest, 300, 100, GM_REGION_ALIAS);
    guest->others[4] = add_window(guest, 320, 7, GM_REGION_ROM);
    guest->hypervisor.guest = guest_write;
    assert_int_equal(gm_slots_attach(guest->machine.space, &options, &hypervisor_ops, guest,
                                     &guest->slots, NULL),
                     0);
}

static void guest_fini(struct guest *guest)
{
    guest->hypervisor.guest = NULL;
    guest->hypervisor.fail_at = 0;
    assert_int_equal(gm_slots_detach(guest->slots, NULL), 0);
    machine_free(&guest->machine);
    gm_ram_put(guest->ram);
}

/* A transaction of one to three edits, which may meet a failing call. */
static void edit(struct guest *guest)
{
    struct gm_txn *txn;
    int rc;

    assert_int_equal(gm_txn_begin(guest->machine.map, &txn), 0);
    do {
        struct gm_region *other = guest->others[rnd_below(&guest->random, 5)];

        switch (rnd_below(&guest->random, 4)) {
        case 0:
            assert_int_equal(
                gm_txn_set_log(txn, guest->region, CLIENT, rnd_one_in(&guest->random, 2)), 0);
            break;
        case 1:
            assert_int_equal(
                gm_txn_set_addr(txn, other,
                                rnd_below(&guest->random, GUEST_PAGES - RAM_PAGES) * PAGE),
                0);
            break;
        case 2:
            assert_int_equal(gm_txn_set_log_all(txn, CLIENT, rnd_one_in(&guest->random, 4)), 0);
            break;
        default:
            assert_int_equal(gm_txn_set_enabled(txn, other, rnd_one_in(&guest->random, 2)), 0);
            break;
        }
    } while (!rnd_one_in(&guest->random, 2));
    guest->hypervisor.calls = 0;
    guest->hypervisor.fail_at =
        rnd_one_in(&guest->random, 3) ? 1 + (unsigned)rnd_below(&guest->random, 8) : 0;
    rc = gm_txn_commit(txn, NULL);
    assert_true(
        rc == 0 || rc == -ENOSPC ||
        (guest->hypervisor.fail_at > 0 && guest->hypervisor.calls >= guest->hypervisor.fail_at));
    assert_false(guest->hypervisor.held);
    guest->hypervisor.text[0] = '\0';
}

static bool is_wanted(const struct gm_section *section)
{
    enum gm_region_kind kind = gm_region_kind(section->region);

    return kind == GM_REGION_RAM || kind == GM_REGION_ROM;
}

/* Page by page: the hypervisor maps what the view shows, and logs where someone asked for it. */
static void check_map(struct guest *guest)
{
    struct gm_view *view = gm_view_get(guest->machine.space);

    for (uint64_t page = 0; page < GUEST_PAGES; page++) {
        const struct gm_slot *slot = NULL;
        struct gm_section section;
        bool is_shown = gm_view_find(view, page * PAGE, &section) && is_wanted(&section);

        for (unsigned i = 0; i < SLOTS; i++) {
            const struct gm_slot *one = &guest->hypervisor.slots[i];

            if (guest->hypervisor.used[i] && page * PAGE >= one->gpa &&
                page * PAGE - one->gpa < one->size_bytes) {
                slot = one;
            }
        }
        assert_int_equal(is_shown, slot != NULL);
        if (is_shown) {
            assert_ptr_equal((uint8_t *)slot->hva + (page * PAGE - slot->gpa),
                             (uint8_t *)section.hva + (page * PAGE - section.gpa));
            assert_int_equal((slot->flags & GM_SLOT_LOG) != 0, section.log_mask != 0);
            assert_int_equal((slot->flags & GM_SLOT_READONLY) != 0,
                             gm_region_kind(section.region) == GM_REGION_ROM);
        }
    }
    gm_view_put(view);
}

static void check_harvest(struct guest *guest)
{
    struct gm_harvest *harvest;
    bool taken[RAM_PAGES] = {false};
    uint64_t first;
    uint64_t last;

    assert_int_equal(gm_region_log_sync(guest->region, 0, RAM_PAGES * PAGE), 0);
    assert_int_equal(gm_harvest_begin(guest->ram, CLIENT, 0, RAM_PAGES * PAGE, &harvest), 0);
    while (gm_harvest_next(harvest, &first, &last)) {
        for (; first <= last; first++) {
            taken[first] = true;
        }
    }
    gm_harvest_commit(harvest);
    assert_memory_equal(taken, guest->written, sizeof(taken));
    memset(guest->written, 0, sizeof(guest->written));
}

static void slots_random_edits_lose_no_dirty_page(void **state)
{
    /* Harvests between random edits give exactly what the guest wrote. */
    static struct guest guest;
    struct gm_slots_stats stats;
    uint64_t edits = rnd_setting("GM_EDITS", 5000);

    (void)state;
    guest_init(&guest);
    for (uint64_t i = 0; i < edits; i++) {
        edit(&guest);
        check_map(&guest);
        for (unsigned writes = 0; writes < 8; writes++) {
            guest_write(&guest.hypervisor);
        }
        if (rnd_one_in(&guest.random, 3)) {
            check_harvest(&guest);
        }
    }
    gm_slots_stats(guest.slots, &stats);
    assert_true(stats.joins > 0 && stats.flag_changes > 0 && stats.holds > 0);
    guest_fini(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_random_edits_lose_no_dirty_page),
    };

    return cmocka_run_group_tests_name("slots_dirty", tests, NULL, NULL);
}
