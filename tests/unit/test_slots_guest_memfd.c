/*
 * unit/test_slots_guest_memfd.c - slots of blocks with a guest memfd: which part of it each has, what commits and logs come to. The
 * hypervisor refuses what Linux 6.18 was seen to refuse: a log, a read-only slot, any change, a part of the file in two slots.
 */
#include "unit/hypervisor.h"
#include "unit/machine.h"

#include <sys/mman.h>
#include <unistd.h>

#define CLIENT 2u
#define OFFSET (4 * PAGE)
#define RAM_BYTES (64 * PAGE)

struct rig {
    struct machine machine;
    struct hypervisor hypervisor;
    struct gm_slots *slots;
    struct gm_ram *ram;
    struct gm_diag diag;
};

/* The part of the file is checked here, all else by the hypervisor of the other tests. */
static int create_private(void *opaque, const struct gm_slot *slot)
{
    const struct hypervisor *hypervisor = opaque;
    uint64_t at;
    uint64_t other_at;

    if (gm_slot_guest_memfd(slot, &at) == -1) {
        assert_int_equal(at, 0);
        return on_create(opaque, slot);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct gm_slot *other = &hypervisor->slots[i];

        if (hypervisor->used[i] && gm_slot_guest_memfd(other, &other_at) != -1 &&
            other_at < at + slot->size_bytes && at < other_at + other->size_bytes) {
            return -EINVAL;
        }
    }
    return on_create(opaque, slot);
}

static int attach(struct rig *rig, bool takes_guest_memfd)
{
    struct gm_backend_options options = {
        .size = sizeof(options),
        .takes_guest_memfd = takes_guest_memfd,
    };
    struct gm_backend_ops ops = hypervisor_ops;

    ops.create = create_private;
    return gm_slots_attach(rig->machine.space, &options, &ops, &rig->hypervisor, &rig->slots,
                           &rig->diag);
}

static void rig_init(struct rig *rig)
{
    struct gm_ram_options options = {
        .size = sizeof(options),
        .kind = GM_RAM_ANON,
        .flags = GM_RAM_GUEST_MEMFD,
        .size_bytes = RAM_BYTES,
        .guest_memfd = memfd_create("private", MFD_CLOEXEC),
        .guest_memfd_offset = OFFSET,
    };

    memset(rig, 0, sizeof(*rig));
    rig->machine = machine_new();
    assert_int_equal(ftruncate(options.guest_memfd, (off_t)(OFFSET + RAM_BYTES)), 0);
    assert_int_equal(gm_ram_new(&options, &rig->ram, NULL), 0);
    close(options.guest_memfd);
}

static void rig_fini(struct rig *rig)
{
    if (rig->slots != NULL) {
        assert_int_equal(gm_slots_detach(rig->slots, NULL), 0);
        for (unsigned i = 0; i < SLOTS; i++) {
            assert_false(rig->hypervisor.used[i]);
        }
    }
    machine_free(&rig->machine);
    gm_ram_put(rig->ram);
}

/* What was called, and what each slot with a guest memfd has of it: the block's own page for page. */
static void expect(struct rig *rig, const char *text)
{
    struct gm_slot listed[SLOTS];
    size_t count = gm_slots_list(rig->slots, listed, SLOTS);
    uint64_t base;
    int fd = gm_ram_guest_memfd(rig->ram, &base);

    assert_string_equal(rig->hypervisor.text, text);
    rig->hypervisor.text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const struct gm_slot *told = &rig->hypervisor.slots[listed[i].number];
        uint64_t in_block = (uint64_t)((uint8_t *)listed[i].hva - (uint8_t *)gm_ram_hva(rig->ram));

        uint64_t offset;

        if ((listed[i].flags & GM_SLOT_GUEST_MEMFD) != 0) {
            assert_int_equal(gm_slot_guest_memfd(&listed[i], &offset), fd);
            assert_int_equal(offset, base + in_block);
            assert_int_equal(gm_slot_guest_memfd(told, &offset), fd);
            assert_int_equal(offset, base + in_block);
        } else {
            assert_int_equal(gm_slot_guest_memfd(&listed[i], &offset), -1);
            assert_int_equal(offset, 0);
        }
        assert_int_equal(told->flags, (listed[i].flags & GM_SLOT_GUEST_MEMFD) != 0
                                          ? listed[i].flags & ~GM_SLOT_LOG
                                          : listed[i].flags);
    }
}

static struct gm_region *add_private(struct rig *rig, uint64_t gpa, uint64_t size_bytes,
                                     uint64_t ram_offset)
{
    return add_memory(&rig->machine, GM_REGION_RAM, gpa, size_bytes, rig->ram, ram_offset);
}

static void private_slots_have_their_part_of_the_file(void **state)
{
    /* A slice of the block, split by a window and put together again: each piece goes on with its own part. */
    static const struct gm_io_ops io = {.size = sizeof(io)};
    struct gm_region *window;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    add_private(&rig, 0x100000, 32 * PAGE, 8 * PAGE);
    add_private(&rig, 0x200000, 8 * PAGE, 48 * PAGE);
    assert_int_equal(attach(&rig, true), 0);
    expect(&rig, "create 0 100000+20000 g; create 1 200000+8000 g; ");
    window =
        add_region(&rig.machine, 0x104000,
                   (struct gm_region_options){
                       .kind = GM_REGION_MMIO, .size_bytes = 2 * PAGE, .io = &io, .priority = 1});
    expect(&rig, "hold; delete 0; create 0 100000+4000 g; create 2 106000+1a000 g; release; ");
    assert_int_equal(gm_region_set_enabled(window, false, NULL), 0);
    expect(&rig, "create 3 104000+2000 g; ");
    rig_fini(&rig);
}

static void set_readonly(struct rig *rig, struct gm_region *region, bool readonly)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(rig->machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_readonly(txn, region, readonly), 0);
    assert_int_equal(gm_txn_commit(txn, &rig->diag), 0);
}

static void read_only_slots_have_no_guest_memfd(void **state)
{
    /* No hypervisor has both: the slot is replaced by one of the shared memory, and back. */
    struct gm_region *region;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    region = add_private(&rig, 0x100000, 16 * PAGE, 0);
    assert_int_equal(attach(&rig, true), 0);
    expect(&rig, "create 0 100000+10000 g; ");
    set_readonly(&rig, region, true);
    expect(&rig, "hold; delete 0; create 0 100000+10000 o; release; ");
    set_readonly(&rig, region, false);
    expect(&rig, "hold; delete 0; create 0 100000+10000 g; release; ");
    rig_fini(&rig);
}

static void set_log(struct rig *rig, struct gm_region *region, bool on)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(rig->machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_log(txn, region, CLIENT, on), 0);
    assert_int_equal(gm_txn_commit(txn, &rig->diag), 0);
}

static uint64_t harvest_pages(struct rig *rig)
{
    struct gm_harvest *taken;
    uint64_t count;

    assert_int_equal(gm_harvest_begin(rig->ram, CLIENT, 0, RAM_BYTES, &taken), 0);
    count = gm_harvest_page_count(taken);
    gm_harvest_commit(taken);
    return count;
}

static void all_of_a_logged_private_slot_counts_as_written(void **state)
{
    /* The hypervisor is not asked for a log that it cannot have. Each sync, and the log's end, finds all of the slot, and no more. */
    struct gm_region *region;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    region = add_private(&rig, 0x100000, 16 * PAGE, 8 * PAGE);
    assert_int_equal(gm_ram_dirty_begin(rig.ram, CLIENT), 0); /* so that the end can be looked at */
    assert_int_equal(attach(&rig, true), 0);
    expect(&rig, "create 0 100000+10000 g; ");
    set_log(&rig, region, true);
    expect(&rig, "");
    assert_int_equal(harvest_pages(&rig), 0);
    assert_int_equal(gm_region_log_sync(region, 4 * PAGE, 2 * PAGE), 0);
    assert_int_equal(harvest_pages(&rig), 2);
    assert_int_equal(gm_region_log_sync(region, 0, 16 * PAGE), 0);
    assert_int_equal(harvest_pages(&rig), 16);
    set_log(&rig, region, false);
    expect(&rig, "hold; release; ");
    assert_int_equal(harvest_pages(&rig), 16);
    set_log(&rig, region, true);
    assert_int_equal(gm_region_del(rig.machine.root, region, NULL), 0);
    expect(&rig, "hold; delete 0; release; ");
    assert_int_equal(harvest_pages(&rig), 16);
    assert_int_equal(gm_ram_dirty_end(rig.ram, CLIENT), 0);
    rig_fini(&rig);
}

static void hypervisor_without_guest_memfds_is_given_none(void **state)
{
    /* Attaching to such a map is refused, and so is the commit that would show it, which changes nothing. Read-only, it can be shown. */
    struct gm_region *region;
    struct gm_txn *txn;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    region = add_private(&rig, 0x100000, 16 * PAGE, 0);
    assert_int_equal(attach(&rig, false), -EOPNOTSUPP);
    assert_int_equal(rig.diag.id, GM_DIAG_SLOTS_GUEST_MEMFD);
    set_readonly(&rig, region, true);
    assert_int_equal(attach(&rig, false), 0);
    expect(&rig, "create 0 100000+10000 o; ");
    memset(&rig.diag, 0, sizeof(rig.diag));
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_readonly(txn, region, false), 0);
    assert_int_equal(gm_txn_commit(txn, &rig.diag), -EOPNOTSUPP);
    assert_int_equal(rig.diag.code, -EOPNOTSUPP);
    assert_int_equal(rig.diag.id, GM_DIAG_SLOTS_GUEST_MEMFD);
    assert_non_null(strstr(rig.diag.text, "100000"));
    expect(&rig, "");
    assert_int_equal(gm_region_set_enabled(region, false, NULL), 0);
    expect(&rig, "delete 0; ");
    rig_fini(&rig);
}

static void part_that_is_shown_twice_is_refused(void **state)
{
    /* Of an alias beside the region, and of two that come in one commit: what was there stays, and the diag says where it is. */
    struct gm_region *region;
    struct gm_region *alias;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    region = add_private(&rig, 0x100000, 16 * PAGE, 0);
    assert_int_equal(
        gm_region_new_alias(rig.machine.map, "again", region, 4 * PAGE, 4 * PAGE, &alias), 0);
    assert_int_equal(attach(&rig, true), 0);
    expect(&rig, "create 0 100000+10000 g; ");
    assert_int_equal(gm_region_add(rig.machine.root, alias, &rig.diag), -EINVAL);
    assert_int_equal(rig.diag.id, GM_DIAG_BACKEND_GUEST_MEMFD);
    assert_non_null(strstr(rig.diag.text, "is shown at 0x100000"));
    expect(&rig, "");
    assert_int_equal(gm_region_set_enabled(region, false, NULL), 0);
    expect(&rig, "delete 0; ");
    assert_int_equal(gm_region_add(rig.machine.root, alias, NULL), 0); /* shows nothing now */
    memset(&rig.diag, 0, sizeof(rig.diag));
    assert_int_equal(gm_region_set_enabled(region, true, &rig.diag), -EINVAL);
    assert_int_equal(rig.diag.id, GM_DIAG_BACKEND_GUEST_MEMFD);
    assert_non_null(strstr(rig.diag.text, "as well"));
    expect(&rig, "create 0 0+4000 g; delete 0; ");
    assert_int_equal(gm_region_del(rig.machine.root, alias, NULL), 0);
    assert_int_equal(gm_region_set_enabled(region, true, NULL), 0);
    expect(&rig, "create 0 100000+10000 g; ");
    gm_region_put(alias);
    rig_fini(&rig);
}

static void private_slot_moves_in_one_commit(void **state)
{
    /* It goes before it comes, so the part of the file is free by then; a move that fails is taken back. */
    struct gm_region *region;
    struct gm_txn *txn;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    region = add_private(&rig, 0x100000, 16 * PAGE, 0);
    assert_int_equal(attach(&rig, true), 0);
    expect(&rig, "create 0 100000+10000 g; ");
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, region, 0x300000), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    expect(&rig, "delete 0; create 0 300000+10000 g; ");
    rig.hypervisor.fail_at = rig.hypervisor.calls + 2;
    assert_int_equal(gm_txn_begin(rig.machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, region, 0x400000), 0);
    assert_int_equal(gm_txn_commit(txn, &rig.diag), -ENOMEM);
    assert_int_equal(rig.diag.id, GM_DIAG_BACKEND_GUEST_MEMFD);
    assert_null(strstr(rig.diag.text, "as well")); /* where it was shown it is no more */
    expect(&rig, "delete 0; create 0 300000+10000 g; ");
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_slots_have_their_part_of_the_file),
        cmocka_unit_test(read_only_slots_have_no_guest_memfd),
        cmocka_unit_test(all_of_a_logged_private_slot_counts_as_written),
        cmocka_unit_test(hypervisor_without_guest_memfds_is_given_none),
        cmocka_unit_test(part_that_is_shown_twice_is_refused),
        cmocka_unit_test(private_slot_moves_in_one_commit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
