/*
 * prop/test_teardown.c - handles of one machine, freed in random orders: each that the headers allow ends with all memory freed and
 * all regions released, whatever came first. On the software KVM; a few on /dev/kvm where there is one.
 */
#include "model/faults.h"
#include "model/random.h"

#include <guestmem/guestmem.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u
#define ROUNDS 120
#define KVM_ROUNDS 15

static atomic_int released; /* release callbacks */

/* What is not freed yet. */
static struct faults counted;
static const struct gm_allocator COUNTED = {faults_alloc, faults_free, &counted};

/* What there is to free. Those before VM go with it, if it is closed first. */
enum part {
    PART_VCPU,
    PART_LISTENER,     /* of all spaces */
    PART_OWN_LISTENER, /* of our space: before the space */
    PART_SPACE,        /* ours */
    PART_VM,
    PART_RAM_REGION,
    PART_DEVICE,
    PART_ALIAS, /* of the RAM region, which goes on living through it */
    PART_BLOCK,
    PART_VIEW,
    PART_MAPPING, /* of RAM */
    PART_BOUNCE,  /* of the device */
    PART_CACHE,
    PART_TXN, /* with edits recorded */
    PART_HARVEST,
    PART_COUNT,
};

struct machine {
    struct gm_vm *vm;
    struct gm_vcpu *vcpu;
    struct gm_listener *listener;
    struct gm_listener *own_listener;
    struct gm_space *space;
    struct gm_region *ram;
    struct gm_region *device;
    struct gm_region *alias;
    struct gm_ram *block;
    struct gm_view *view;
    struct gm_mapping mapping;
    struct gm_mapping bounce;
    struct gm_cache cache;
    struct gm_txn *txn;
    struct gm_harvest *harvest;
    bool is_closed;
    bool is_gone[PART_COUNT];
};

static enum gm_access on_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                               struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    return GM_ACCESS_OK;
}

static void on_region_released(void *opaque)
{
    (void)opaque;
    atomic_fetch_add(&released, 1);
}

static struct gm_region *new_region(struct machine *machine, struct gm_region_options options)
{
    struct gm_region *region;

    options.size = sizeof(options);
    options.release = on_region_released;
    assert_int_equal(gm_region_new(gm_vm_map(machine->vm), &options, &region, NULL), 0);
    assert_int_equal(gm_region_add(gm_vm_memory_root(machine->vm), region, NULL), 0);
    return region;
}

static void make_tree(struct machine *machine)
{
    static const struct gm_io_ops IO = {.size = sizeof(IO), .write = on_write};

    machine->ram = new_region(machine, (struct gm_region_options){.kind = GM_REGION_RAM,
                                                                  .size_bytes = 16 * PAGE,
                                                                  .ram = machine->block});
    machine->device = new_region(
        machine, (struct gm_region_options){
                     .kind = GM_REGION_MMIO, .size_bytes = PAGE, .addr = 0x100000, .io = &IO});
    machine->alias = new_region(machine, (struct gm_region_options){.kind = GM_REGION_ALIAS,
                                                                    .size_bytes = 4 * PAGE,
                                                                    .addr = 0x200000,
                                                                    .target = machine->ram});
}

static void set_up(struct machine *machine, enum gm_accel accel)
{
    static const struct gm_listener_ops OPS = {.size = sizeof(OPS)};
    const struct gm_map_options map = {.size = sizeof(map), .allocator = &COUNTED};
    const struct gm_vm_options options = {.size = sizeof(options), .map = &map, .accel = accel};
    const struct gm_attrs attrs = {0};
    uint64_t size_bytes = PAGE;
    struct gm_space *memory;

    memset(machine, 0, sizeof(*machine));
    released = 0;
    assert_int_equal(gm_vm_open(&options, &machine->vm, NULL), 0);
    assert_int_equal(gm_ram_new_memfd("ram", 16 * PAGE, &COUNTED, &machine->block, NULL), 0);
    make_tree(machine);
    memory = gm_vm_memory(machine->vm);
    assert_int_equal(gm_vcpu_new(machine->vm, 0, &machine->vcpu, NULL), 0);
    assert_int_equal(
        gm_space_new(gm_vm_map(machine->vm), "own", machine->alias, &machine->space, NULL), 0);
    assert_int_equal(
        gm_listener_register(gm_vm_map(machine->vm), NULL, 1, &OPS, NULL, &machine->listener, NULL),
        0);
    assert_int_equal(gm_listener_register(gm_vm_map(machine->vm), machine->space, 1, &OPS, NULL,
                                          &machine->own_listener, NULL),
                     0);
    machine->view = gm_view_get(memory);
    assert_int_equal(gm_map_range(memory, 0, &size_bytes, true, attrs, &machine->mapping), 0);
    size_bytes = 8;
    assert_int_equal(gm_map_range(memory, 0x100000, &size_bytes, true, attrs, &machine->bounce), 0);
    assert_int_equal(gm_cache_init(&machine->cache, memory, PAGE, PAGE, true, attrs), 0);
    assert_int_equal(gm_txn_begin(gm_vm_map(machine->vm), &machine->txn), 0);
    assert_int_equal(gm_txn_set_enabled(machine->txn, machine->device, false), 0);
    assert_int_equal(gm_txn_set_root(machine->txn, machine->space, machine->ram), 0);
    assert_int_equal(gm_ram_dirty_begin(machine->block, 0), 0);
    gm_ram_dirty_mark(machine->block, 0, PAGE, 1);
    assert_int_equal(gm_harvest_begin(machine->block, 0, 0, PAGE, &machine->harvest), 0);
}

/* A commit is what it was recorded for, or -EIO once the map has been given up. */
static void end_txn(struct machine *machine, struct rnd *rnd)
{
    int rc;

    if (rnd_one_in(rnd, 2)) {
        gm_txn_abort(machine->txn);
        return;
    }
    rc = gm_txn_commit(machine->txn, NULL);
    assert_int_equal(rc, machine->is_closed ? -EIO : machine->is_gone[PART_SPACE] ? -ENOENT : 0);
}

/* Free one part. Return: false if it is not its turn yet, and it says so. */
static bool free_part(struct machine *machine, enum part part, struct rnd *rnd)
{
    switch (part) {
    case PART_VCPU:
        gm_vcpu_free(machine->vcpu);
        break;
    case PART_LISTENER:
        assert_int_equal(gm_listener_unregister(machine->listener, NULL), 0);
        break;
    case PART_OWN_LISTENER:
        assert_int_equal(gm_listener_unregister(machine->own_listener, NULL), 0);
        break;
    case PART_SPACE:
        if (!machine->is_gone[PART_OWN_LISTENER]) {
            assert_int_equal(gm_space_free(machine->space, NULL), -EBUSY);
            return false;
        }
        assert_int_equal(gm_space_free(machine->space, NULL), 0);
        break;
    case PART_VM:
        assert_int_equal(gm_vm_close(machine->vm, NULL), 0);
        machine->is_closed = true;
        break;
    case PART_RAM_REGION:
        gm_region_put(machine->ram);
        break;
    case PART_DEVICE:
        gm_region_put(machine->device);
        break;
    case PART_ALIAS:
        gm_region_put(machine->alias);
        break;
    case PART_BLOCK:
        gm_ram_put(machine->block);
        break;
    case PART_VIEW:
        assert_true(gm_view_count(machine->view) > 0);
        gm_view_put(machine->view);
        break;
    case PART_MAPPING:
        memset(machine->mapping.data, 1, machine->mapping.size_bytes);
        assert_int_equal(gm_unmap(&machine->mapping, PAGE), GM_ACCESS_OK);
        break;
    case PART_BOUNCE:
        assert_int_equal(gm_unmap(&machine->bounce, 8),
                         machine->is_closed ? GM_ACCESS_DECODE : GM_ACCESS_OK);
        break;
    case PART_CACHE:
        gm_cache_fini(&machine->cache);
        break;
    case PART_TXN:
        end_txn(machine, rnd);
        break;
    case PART_HARVEST:
        if (rnd_one_in(rnd, 2)) {
            gm_harvest_commit(machine->harvest);
        } else {
            gm_harvest_abort(machine->harvest);
        }
        break;
    case PART_COUNT:
        break;
    }
    return true;
}

/* All parts, each time one of those that are left. */
static void free_in_some_order(struct machine *machine, struct rnd *rnd)
{
    unsigned left = PART_COUNT;

    while (left > 0) {
        enum part part = (enum part)rnd_below(rnd, PART_COUNT);

        /* The bounce buffer's device may have been taken out by the transaction: it has to go before. */
        if (machine->is_gone[part] || (part == PART_TXN && !machine->is_gone[PART_BOUNCE]) ||
            (part == PART_BLOCK && !machine->is_gone[PART_HARVEST])) {
            continue;
        }
        if ((part < PART_VM && machine->is_closed) || free_part(machine, part, rnd)) {
            machine->is_gone[part] = true;
            left--;
        }
    }
}

static void rounds(const char *name, enum gm_accel accel, int count)
{
    struct rnd rnd = {rnd_seed(name)};

    for (int i = 0; i < count; i++) {
        struct machine machine;

        set_up(&machine, accel);
        free_in_some_order(&machine, &rnd);
        gm_map_quiesce(NULL);
        assert_int_equal(faults_live(&counted), 0);
        assert_int_equal(released, 3);
    }
}

static void teardown_in_any_order_frees_all(void **state)
{
    (void)state;
    rounds("teardown", GM_ACCEL_SOFT, ROUNDS);
}

static void teardown_of_kvm_in_any_order_frees_all(void **state)
{
    (void)state;
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        skip();
    }
    rounds("teardown of KVM", GM_ACCEL_KVM, KVM_ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(teardown_in_any_order_frees_all),
        cmocka_unit_test(teardown_of_kvm_in_any_order_frees_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
