/*
 * tests/kvm/test_smm.c - the memory of vCPUs in system management mode: SMRAM and a device that only they see, the rest as all
 * see it.
 *
 * On /dev/kvm the guest is interrupted by KVM_SMI, and its handler ends by RSM. A software vCPU has no SMM: it is moved to the
 * address space and runs the same bytes there.
 */
#include "pages.h"

#include <guestmem/soft.h>

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define CLIENT 1u
#define SMRAM 0x30000u /* where the processor has SMBASE after a reset: Intel SDM 3C, "SMRAM" */
#define SMRAM_BYTES 0x10000u
#define HANDLER 0x8000u /* of SMRAM */
#define DEVICE 0x50000u
#define WRITTEN 0x1000u /* of SMRAM */

struct rig {
    struct guest guest;
    struct gm_region *root;
    struct gm_region *alias;
    struct gm_region *smram;
    struct gm_region *device;
    struct recorder device_seen;
};

static void add_at(struct rig *rig, struct gm_region *region, uint64_t gpa, int priority)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(gm_vm_map(rig->guest.vm), &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, region, gpa), 0);
    assert_int_equal(gm_txn_set_priority(txn, region, priority), 0);
    assert_int_equal(gm_txn_add(txn, rig->root, region), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

/* Return: false: no second address space, and then that is what the diag says. */
static bool rig_init(struct rig *rig, uint32_t ring_entries)
{
    struct gm_vm_options options = {.size = sizeof(options), .dirty_ring_entries = ring_entries};
    struct gm_diag diag = {0};
    struct gm_map *map;
    struct gm_ram *ram;
    int rc;

    memset(rig, 0, sizeof(*rig));
    guest_init(&rig->guest, &options);
    map = gm_vm_map(rig->guest.vm);
    assert_null(gm_vm_smm(rig->guest.vm));
    assert_int_equal(gm_region_new_container(map, "smm", GM_SIZE_2_64, &rig->root), 0);
    assert_int_equal(gm_region_new_alias(map, "all", gm_vm_memory_root(rig->guest.vm), 0,
                                         GM_SIZE_2_64, &rig->alias),
                     0);
    assert_int_equal(gm_ram_new_anon(SMRAM_BYTES, NULL, &ram, NULL), 0);
    assert_int_equal(gm_region_new_ram(map, "smram", ram, &rig->smram), 0);
    gm_ram_put(ram);
    assert_int_equal(
        gm_region_new_mmio(map, "device", 0x1000, &recorder_ops, &rig->device_seen, &rig->device),
        0);
    add_at(rig, rig->alias, 0, 0);
    add_at(rig, rig->smram, SMRAM, 1);
    add_at(rig, rig->device, DEVICE, 1);
    rc = gm_vm_add_smm(rig->guest.vm, rig->root, &diag);
    if (rc != 0) {
        assert_int_equal(rc, -EOPNOTSUPP);
        assert_non_null(strstr(diag.text, "KVM_CAP_MULTI_ADDRESS_SPACE"));
        assert_null(gm_vm_smm(rig->guest.vm));
    } else {
        assert_int_equal(gm_vm_add_smm(rig->guest.vm, rig->root, NULL), -EEXIST);
    }
    return rc == 0;
}

static void rig_fini(struct rig *rig)
{
    gm_region_put(rig->root);
    gm_region_put(rig->alias);
    gm_region_put(rig->smram);
    gm_region_put(rig->device);
    guest_fini(&rig->guest);
}

#define NEEDS_SMM(rig, ring_entries)                                                               \
    do {                                                                                           \
        GUEST_NEEDS_KVM();                                                                         \
        if (!rig_init(rig, ring_entries)) {                                                        \
            rig_fini(rig);                                                                         \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* Write 0x5a to a page of SMRAM, 0x77 to the device; then @end. */
static void emit_handler(struct guest *guest, uint8_t end_first, uint8_t end_second)
{
    EMIT(guest, 0x67, 0xc6, 0x05, 0x00, (SMRAM + WRITTEN) >> 8 & 0xff, SMRAM >> 16, 0x00, 0x5a);
    EMIT(guest, 0xb0, 0x77);                                       /* mov al, 0x77 */
    EMIT(guest, 0x67, 0x88, 0x05, 0x00, 0x00, DEVICE >> 16, 0x00); /* mov [device], al */
    EMIT(guest, end_first, end_second);
}

/* Let the vCPU run the handler in SMM, once, and come back to a HLT. */
static void run_in_smm(struct rig *rig)
{
    struct guest *guest = &rig->guest;
    struct gm_soft_vcpu *soft = gm_vcpu_soft(guest->vcpu);

    guest->code = (uint8_t *)gm_ram_hva(guest->ram_block) + GUEST_CODE;
    if (soft != NULL) {
        emit_handler(guest, 0x90, 0xf4); /* nop, hlt */
        pages_reset_vcpu(guest->vcpu);
        assert_int_equal(gm_soft_vcpu_set_space(soft, 1), 0);
        guest_run_to_hlt(guest);
        assert_int_equal(gm_soft_vcpu_set_space(soft, 0), 0);
        return;
    }
    EMIT(guest, 0x90, 0xf4);
    pages_reset_vcpu(guest->vcpu);
    guest->code = guest_bytes(rig->smram) + HANDLER;
    emit_handler(guest, 0x0f, 0xaa); /* rsm */
    assert_int_equal(ioctl(gm_vcpu_fd(guest->vcpu), KVM_SMI), 0);
    guest_run_to_hlt(guest);
}

static void smm_sees_its_ram_and_its_device(void **state)
{
    /* What is written in SMM goes to SMRAM, and its MMIO to the space's device; others see neither. */
    uint8_t outside = 0;
    struct rig rig;

    (void)state;
    NEEDS_SMM(&rig, 0);
    run_in_smm(&rig);
    assert_int_equal(guest_bytes(rig.smram)[WRITTEN], 0x5a);
    assert_int_equal(rig.device_seen.count, 1);
    assert_true(rig.device_seen.items[0].is_write);
    assert_int_equal(rig.device_seen.items[0].offset, 0);
    assert_int_equal(rig.device_seen.items[0].value, 0x77);
    assert_int_equal(
        gm_read(gm_vm_memory(rig.guest.vm), SMRAM + WRITTEN, &outside, 1, (struct gm_attrs){0}),
        GM_ACCESS_DECODE);
    assert_int_equal(
        gm_read(gm_vm_smm(rig.guest.vm), SMRAM + WRITTEN, &outside, 1, (struct gm_attrs){0}),
        GM_ACCESS_OK);
    assert_int_equal(outside, 0x5a);
    assert_int_equal(gm_slots_list(gm_vm_slots(rig.guest.vm), NULL, 0), 1);
    assert_int_equal(gm_slots_list(gm_vm_smm_slots(rig.guest.vm), NULL, 0), 2);
    rig_fini(&rig);
}

/* Is that page of SMRAM among those that a harvest has? */
static bool harvest_has_page(struct rig *rig, uint64_t page)
{
    struct gm_harvest *harvest;
    bool has = false;
    uint64_t first;
    uint64_t last;

    assert_int_equal(gm_region_log_sync(rig->smram, 0, SMRAM_BYTES), 0);
    assert_int_equal(gm_harvest_begin(gm_region_ram(rig->smram), CLIENT, 0, SMRAM_BYTES, &harvest),
                     0);
    while (gm_harvest_next(harvest, &first, &last)) {
        has = has || (first <= page && page <= last);
    }
    gm_harvest_commit(harvest);
    return has;
}

static void write_in_smm_is_harvested(uint32_t ring_entries)
{
    struct rig rig;

    NEEDS_SMM(&rig, ring_entries);
    guest_set_log(rig.guest.vm, rig.smram, CLIENT, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(harvest_has_page(&rig, WRITTEN / 4096));
        run_in_smm(&rig);
        assert_true(harvest_has_page(&rig, WRITTEN / 4096));
    }
    rig_fini(&rig);
}

static void write_in_smm_is_in_its_slots_log(void **state)
{
    /* Slots of both spaces have the same numbers, and different logs. */
    (void)state;
    write_in_smm_is_harvested(0);
}

static void write_in_smm_is_in_the_ring(void **state)
{
    /* An entry's upper half says in which space its slot is. */
    struct pages pages;

    (void)state;
    GUEST_NEEDS_KVM();
    if (!pages_init(&pages, PAGES_LOG_RING)) {
        skip();
    }
    pages_fini(&pages);
    write_in_smm_is_harvested(PAGES_RING_ENTRIES);
}

static void shared_edit_changes_the_slots_of_both_spaces(void **state)
{
    /* One commit, two sets of slots, and vCPUs are held once: RAM goes away and comes back. */
    struct rig rig;

    (void)state;
    NEEDS_SMM(&rig, 0);
    guest_set_log(rig.guest.vm, rig.guest.ram, CLIENT, true);
    guest_set_enabled(rig.guest.ram, false);
    assert_int_equal(gm_slots_list(gm_vm_slots(rig.guest.vm), NULL, 0), 0);
    assert_int_equal(gm_slots_list(gm_vm_smm_slots(rig.guest.vm), NULL, 0), 1);
    guest_set_enabled(rig.guest.ram, true);
    run_in_smm(&rig);
    assert_int_equal(rig.device_seen.count, 1);
    rig_fini(&rig);
}

static void coalesced_write_in_smm_goes_to_the_memory_that_all_see(void **state)
{
    /* A ring's entry does not say that its vCPU was in SMM: where all see a coalesced range, it hides the device of SMM. */
    struct rig rig;
    struct gm_txn *txn;

    (void)state;
    NEEDS_SMM(&rig, 0);
    assert_int_equal(gm_region_set_addr(rig.guest.mmio, DEVICE, NULL), 0);
    run_in_smm(&rig);
    assert_int_equal(rig.device_seen.count, 1);
    assert_int_equal(rig.guest.mmio_seen.count, 0);
    assert_int_equal(gm_txn_begin(gm_vm_map(rig.guest.vm), &txn), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, rig.guest.mmio, 0, GM_COALESCED_WHOLE), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    run_in_smm(&rig);
    assert_int_equal(rig.device_seen.count, 1);
    assert_int_equal(rig.guest.mmio_seen.count, 1);
    assert_int_equal(rig.guest.mmio_seen.items[0].value, 0x77);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smm_sees_its_ram_and_its_device),
        cmocka_unit_test(write_in_smm_is_in_its_slots_log),
        cmocka_unit_test(write_in_smm_is_in_the_ring),
        cmocka_unit_test(shared_edit_changes_the_slots_of_both_spaces),
        cmocka_unit_test(coalesced_write_in_smm_goes_to_the_memory_that_all_see),
    };

    return GUEST_RUN_ON_BOTH(tests);
}
