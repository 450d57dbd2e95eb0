/*
 * tests/kvm/test_vcpu.c - what a guest's accesses come to: exits, data, outcomes, dirty pages. Its threads
 * are in test_run.c.
 */
#include "guest.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void expect_record(const struct recorder *recorder, unsigned index, struct record expected)
{
    const struct record *got = &recorder->items[index];

    assert_true(index < recorder->count);
    assert_int_equal(got->is_write, expected.is_write);
    assert_int_equal(got->size_bytes, expected.size_bytes);
    assert_int_equal(got->offset, expected.offset);
    assert_int_equal(got->value, expected.value);
}

static uint8_t *ram_at(struct guest *guest, unsigned gpa)
{
    return guest_bytes(guest->ram) + gpa;
}

static void port_write_reaches_its_region(void **state)
{
    /* OUT of one, two and four bytes: the region sees size, offset and value. */
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT(&guest, 0x66, 0xb8, 0x78, 0x56, 0x34, 0x12); /* mov eax, 0x12345678 */
    EMIT_MOV_DX(&guest, 0x11);
    EMIT_OUT_AL(&guest);
    EMIT_MOV_DX(&guest, 0x12);
    EMIT(&guest, 0xef); /* out dx, ax */
    EMIT_MOV_DX(&guest, 0x14);
    EMIT(&guest, 0x66, 0xef); /* out dx, eax */
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_int_equal(guest.ports_seen.count, 3);
    expect_record(&guest.ports_seen, 0, (struct record){true, 1, 1, 0x78});
    expect_record(&guest.ports_seen, 1, (struct record){true, 2, 2, 0x5678});
    expect_record(&guest.ports_seen, 2, (struct record){true, 4, 4, 0x12345678});
    guest_fini(&guest);
}

static void port_read_gives_the_regions_value(void **state)
{
    /* IN of one, two and four bytes: the guest stores what the region answered. */
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    guest.ports_seen.next_value = 0x99a0b1c2;
    EMIT_MOV_DX(&guest, 0x14);
    EMIT(&guest, 0x66, 0xed, 0x66, 0xa3, 0x00, 0x20); /* in eax, dx; mov [0x2000], eax */
    EMIT(&guest, 0xed, 0xa3, 0x04, 0x20);             /* in ax, dx; mov [0x2004], ax */
    EMIT(&guest, 0xec, 0xa2, 0x06, 0x20);             /* in al, dx; mov [0x2006], al */
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_memory_equal(ram_at(&guest, 0x2000), "\xc2\xb1\xa0\x99\xc2\xb1\xc2\x00", 8);
    assert_int_equal(guest.ports_seen.count, 3);
    for (unsigned i = 0; i < 3; i++) {
        expect_record(&guest.ports_seen, i, (struct record){false, 4 >> i, 4, 0x99a0b1c2});
    }
    guest_fini(&guest);
}

static void port_string_goes_to_one_port(void **state)
{
    /* REP OUTSB and REP INSW come as one exit with several items, each for the same port. */
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    memcpy(ram_at(&guest, 0x2000), "\x11\x22\x33\x44\x55", 5);
    guest.ports_seen.next_value = 0x1001;
    guest.ports_seen.step = 0x101;
    EMIT_MOV_DX(&guest, 0x18);
    EMIT(&guest, 0xfc, 0xbe, 0x00, 0x20, 0xb9, 0x05, 0x00); /* cld; mov si, 0x2000; mov cx, 5 */
    EMIT(&guest, 0xf3, 0x6e);                               /* rep outsb */
    EMIT(&guest, 0xbf, 0x00, 0x30, 0xb9, 0x03, 0x00);       /* mov di, 0x3000; mov cx, 3 */
    EMIT(&guest, 0xf3, 0x6d);                               /* rep insw */
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    for (unsigned i = 0; i < 5; i++) {
        expect_record(&guest.ports_seen, i, (struct record){true, 1, 8, 0x11 * (i + 1)});
    }
    expect_record(&guest.ports_seen, 5, (struct record){false, 2, 8, 0x1001});
    assert_memory_equal(ram_at(&guest, 0x3000), "\x01\x10\x02\x11\x03\x12", 6);
    guest_fini(&guest);
}

static void mmio_read_and_write_reach_their_region(void **state)
{
    /* Bytes arrive in memory order, and come back in it. */
    struct gm_vcpu_stats stats;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    guest.mmio_seen.next_value = 0xdeadbeef;
    EMIT(&guest, 0x66, 0xa1, 0x10, 0x80); /* mov eax, [0x8010] */
    EMIT(&guest, 0x66, 0xa3, 0x00, 0x20); /* mov [0x2000], eax */
    EMIT(&guest, 0xa3, 0x20, 0x80);       /* mov [0x8020], ax */
    EMIT_STORE_AL(&guest, 0x8ffe);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_int_equal(guest.mmio_seen.count, 3);
    expect_record(&guest.mmio_seen, 0, (struct record){false, 4, 0x10, 0xdeadbeef});
    expect_record(&guest.mmio_seen, 1, (struct record){true, 2, 0x20, 0xbeef});
    expect_record(&guest.mmio_seen, 2, (struct record){true, 1, 0xffe, 0xef});
    assert_memory_equal(ram_at(&guest, 0x2000), "\xef\xbe\xad\xde", 4);
    gm_vcpu_stats(guest.vcpu, &stats);
    assert_int_equal(stats.mmio_reads, 1);
    assert_int_equal(stats.mmio_writes, 2);
    assert_int_equal(stats.port_reads + stats.port_writes + stats.unmapped, 0);
    assert_int_equal(stats.other, 1);
    assert_int_equal(stats.runs, 4);
    guest_fini(&guest);
}

static void unmapped_memory_reads_as_ones_and_drops_writes(void **state)
{
    /* Nothing at all, and a reservation: neither answers. */
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RESERVATION,
        .size_bytes = 0x1000,
        .addr = 0xb000,
    };
    struct gm_region *reservation;
    struct gm_vcpu_stats stats;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    assert_int_equal(gm_region_new(gm_vm_map(guest.vm), &options, &reservation, NULL), 0);
    assert_int_equal(gm_region_add(gm_vm_memory_root(guest.vm), reservation, NULL), 0);
    EMIT(&guest, 0x66, 0xa1, 0x00, 0xa0, 0x66, 0xa3, 0x00, 0x20); /* [0xa000] -> [0x2000] */
    EMIT(&guest, 0xa1, 0x00, 0xb0, 0xa3, 0x04, 0x20);             /* [0xb000] -> [0x2004] */
    EMIT_STORE_AL(&guest, GUEST_HOLE);
    EMIT_STORE_AL(&guest, 0xb000);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_memory_equal(ram_at(&guest, 0x2000), "\xff\xff\xff\xff\xff\xff", 6);
    gm_vcpu_stats(guest.vcpu, &stats);
    assert_int_equal(stats.unmapped, 4);
    gm_region_put(reservation);
    guest_fini(&guest);
}

static void port_access_past_the_last_port_reads_ones_there(void **state)
{
    /* Four bytes at 0xfffe: two ports exist, two do not. */
    struct gm_region *top;
    struct gm_txn *txn;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    assert_int_equal(
        gm_region_new_mmio(gm_vm_map(guest.vm), "top", 2, &recorder_ops, &guest.ports_seen, &top),
        0);
    assert_int_equal(gm_txn_begin(gm_vm_map(guest.vm), &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, top, 0xfffe), 0);
    assert_int_equal(gm_txn_add(txn, gm_vm_ports_root(guest.vm), top), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    guest.ports_seen.next_value = 0x4321;
    EMIT_MOV_DX(&guest, 0xfffe);
    EMIT(&guest, 0x66, 0xed, 0x66, 0xa3, 0x00, 0x20); /* in eax, dx; mov [0x2000], eax */
    EMIT(&guest, 0x66, 0xef);                         /* out dx, eax */
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_memory_equal(ram_at(&guest, 0x2000), "\x21\x43\xff\xff", 4);
    assert_int_equal(guest.ports_seen.count, 2);
    expect_record(&guest.ports_seen, 1, (struct record){true, 2, 0, 0x4321});
    gm_region_put(top);
    guest_fini(&guest);
}

static void rom_written_is_denied_and_unchanged(void **state)
{
    /* A read-only slot: reads are direct, a write exits, is refused, and the guest goes on. */
    enum gm_access outcome = GM_ACCESS_OK;
    struct gm_vcpu_stats stats;
    struct kvm_run *run;
    struct gm_region *rom;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    rom = guest_add_ram(&guest, "rom", 0x9000, 0x1000);
    guest_set_readonly(guest.vm, rom, true);
    guest_bytes(rom)[5] = 0x77;
    EMIT_LOAD_AL(&guest, 0x9005);
    EMIT_STORE_AL(&guest, 0x2000);
    EMIT_STORE_AL(&guest, 0x9006);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_int_equal(*ram_at(&guest, 0x2000), 0x77);
    assert_int_equal(guest_bytes(rom)[6], 0);
    gm_vcpu_stats(guest.vcpu, &stats);
    assert_int_equal(stats.mmio_reads, 0);
    assert_int_equal(stats.mmio_writes, 1);
    assert_int_equal(stats.unmapped, 0);

    run = gm_vcpu_kvm_run(guest.vcpu);
    guest_reset(guest.vcpu);
    assert_int_equal(gm_vcpu_ioctl(guest.vcpu, KVM_RUN, 0), 0);
    assert_int_equal(gm_vcpu_handle_exit(guest.vcpu, run, &outcome), 1);
    assert_int_equal(outcome, GM_ACCESS_DENIED);
    gm_region_put(rom);
    guest_fini(&guest);
}

static void handle_exit_of_other_reason_is_the_callers(void **state)
{
    /* HLT is no access; an item list that does not fit the shared area is no kernel's. */
    struct kvm_run *run;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    run = gm_vcpu_kvm_run(guest.vcpu);
    assert_int_equal(gm_vcpu_handle_exit(guest.vcpu, run, NULL), 0);
    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = KVM_EXIT_IO_IN;
    run->io.size = 4;
    run->io.count = 0x40000000;
    run->io.data_offset = 0x1000;
    assert_int_equal(gm_vcpu_handle_exit(guest.vcpu, run, NULL), 0);
    run->io.count = 1;
    run->io.data_offset = UINT64_MAX;
    assert_int_equal(gm_vcpu_handle_exit(guest.vcpu, run, NULL), 0);
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.len = 9;
    assert_int_equal(gm_vcpu_handle_exit(guest.vcpu, run, NULL), 0);
    guest_fini(&guest);
}

static void expect_harvest(struct gm_region *region, unsigned client, const unsigned *pages,
                           unsigned count)
{
    struct gm_ram *ram = gm_region_ram(region);
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;
    unsigned at = 0;

    assert_int_equal(gm_region_log_sync(region, 0, gm_ram_size(ram)), 0);
    assert_int_equal(gm_harvest_begin(ram, client, 0, gm_ram_size(ram), &harvest), 0);
    while (gm_harvest_next(harvest, &first, &last)) {
        for (uint64_t page = first; page <= last; page++) {
            assert_true(at < count);
            assert_int_equal(page, pages[at]);
            at++;
        }
    }
    assert_int_equal(at, count);
    gm_harvest_commit(harvest);
}

static void check_dirty_pages(bool no_manual_protect)
{
    const struct gm_vm_options options = {.size = sizeof(options),
                                          .no_manual_protect = no_manual_protect};
    const unsigned before[] = {0, 1, 63, 64, 100, 199};
    const unsigned after[] = {63, 150};
    struct gm_region *region;
    struct guest guest;

    guest_init(&guest, &options);
    region = guest_add_ram(&guest, "logged", 0x10000, 200 * 4096);
    guest_emit_dirty_page(&guest, 16 + 7); /* not logged yet */
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    guest_set_log(guest.vm, region, 2, true);
    guest_program(&guest);
    for (unsigned i = 0; i < 6; i++) {
        guest_emit_dirty_page(&guest, 16 + before[i]);
    }
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    expect_harvest(region, 2, before, 6);
    expect_harvest(region, 2, NULL, 0);
    guest_program(&guest);
    for (unsigned i = 0; i < 2; i++) {
        guest_emit_dirty_page(&guest, 16 + after[i]);
    }
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    expect_harvest(region, 2, after, 2);
    guest_set_log(guest.vm, region, 2, false);
    gm_region_put(region);
    guest_fini(&guest);
}

static void dirty_pages_with_manual_protect_are_those_written(void **state)
{
    /* Just the pages that the guest wrote since the last harvest. */
    (void)state;
    GUEST_NEEDS_KVM();
    check_dirty_pages(false);
}

static void dirty_pages_without_manual_protect_are_those_written(void **state)
{
    /* The same, where reading the log clears all of it. */
    (void)state;
    GUEST_NEEDS_KVM();
    check_dirty_pages(true);
}

static void dirty_pages_survive_the_deletion_of_their_slot(void **state)
{
    /* A window over logged memory splits its slot: what was dirty before stays dirty. */
    const unsigned pages[] = {3, 9};
    struct gm_region *region;
    struct gm_region *window;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    region = guest_add_ram(&guest, "logged", 0x10000, 16 * 4096);
    guest_set_log(guest.vm, region, 0, true);
    guest_emit_dirty_page(&guest, 16 + 3);
    guest_emit_dirty_page(&guest, 16 + 9);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    window = guest_add_ram(&guest, "window", 0x13000, 4096);
    expect_harvest(region, 0, pages, 2);
    gm_region_put(window);
    gm_region_put(region);
    guest_fini(&guest);
}

static void port_eventfd_in_a_commit_takes_the_write(void **state)
{
    /* An eventfd of a port region: the guest's OUT signals it and does not exit. */
    int fd = eventfd(0, EFD_NONBLOCK);
    const struct gm_eventfd eventfd = {.offset = 3, .size_bytes = 1, .fd = fd};
    struct gm_vcpu_stats stats;
    struct gm_txn *txn;
    struct guest guest;
    uint64_t count = 0;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    if (gm_vm_ioctl(guest.vm, KVM_CHECK_EXTENSION, KVM_CAP_IOEVENTFD) <= 0) {
        guest_fini(&guest);
        skip();
    }
    assert_int_equal(gm_txn_begin(gm_vm_map(guest.vm), &txn), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, guest.ports, &eventfd), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    EMIT_MOV_DX(&guest, 0x13);
    EMIT_OUT_AL(&guest);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 1);
    gm_vcpu_stats(guest.vcpu, &stats);
    assert_int_equal(stats.port_writes, 0);

    assert_int_equal(gm_txn_begin(gm_vm_map(guest.vm), &txn), 0);
    assert_int_equal(gm_txn_del_eventfd(txn, guest.ports, &eventfd), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    guest_reset(guest.vcpu);
    guest_run_to_hlt(&guest);
    assert_int_equal(guest.ports_seen.count, 1);
    close(fd);
    guest_fini(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(port_write_reaches_its_region),
        cmocka_unit_test(port_read_gives_the_regions_value),
        cmocka_unit_test(port_string_goes_to_one_port),
        cmocka_unit_test(mmio_read_and_write_reach_their_region),
        cmocka_unit_test(unmapped_memory_reads_as_ones_and_drops_writes),
        cmocka_unit_test(port_access_past_the_last_port_reads_ones_there),
        cmocka_unit_test(rom_written_is_denied_and_unchanged),
        cmocka_unit_test(handle_exit_of_other_reason_is_the_callers),
        cmocka_unit_test(dirty_pages_with_manual_protect_are_those_written),
        cmocka_unit_test(dirty_pages_without_manual_protect_are_those_written),
        cmocka_unit_test(dirty_pages_survive_the_deletion_of_their_slot),
        cmocka_unit_test(port_eventfd_in_a_commit_takes_the_write),
    };

    return GUEST_RUN_ON_BOTH(tests);
}
