/*
 * tests/kvm/test_vm.c - opening, attaching to and closing a VM, and commits that the kernel or memory
 * refuses: they change nothing that the guest could see.
 */
#include "guest.h"

#include "base/rcu.h"
#include "slots/slots.h"
#include "vm/vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

static unsigned open_fd_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

static void open_missing_device_returns_enoent(void **state)
{
    /* One sentence that says what to do, and nothing was made. */
    const struct gm_vm_options options = {.size = sizeof(options), .device = "/dev/no-such-kvm"};
    struct gm_vm *vm = (struct gm_vm *)&options;
    struct gm_diag diag = {0};

    (void)state;
    assert_int_equal(gm_vm_open(&options, &vm, &diag), -ENOENT);
    assert_ptr_equal(vm, &options);
    assert_non_null(strstr(diag.text, "/dev/no-such-kvm"));
    assert_int_equal(gm_vm_open(&options, &vm, NULL), -ENOENT);
}

static void open_bad_options_returns_einval(void **state)
{
    /* Sizes of another library, signals that cannot be blocked. */
    const int bad_signals[] = {-1, SIGKILL, SIGSTOP, 1000, 32, SIGRTMIN - 1};
    struct gm_vm_options options = {.size = sizeof(size_t)};
    struct gm_diag diag = {0};
    struct gm_vm *vm;

    (void)state;
    assert_int_equal(gm_vm_open(&options, &vm, &diag), -EINVAL);
    assert_int_equal(diag.code, -EINVAL);
    options.size = sizeof(options);
    for (unsigned i = 0; i < sizeof(bad_signals) / sizeof(bad_signals[0]); i++) {
        options.kick_signal = bad_signals[i];
        assert_int_equal(gm_vm_open(&options, &vm, NULL), -EINVAL);
        assert_int_equal(gm_vm_attach(0, 0, &options, &vm, NULL), -EINVAL);
    }
}

static void open_gives_two_empty_spaces(void **state)
{
    /* Memory of 2^64 bytes and 64 Ki ports, nothing in either, no slots. */
    struct gm_region_state region;
    unsigned fds = open_fd_count();
    struct gm_view *view;
    struct gm_vm *vm;

    (void)state;
    GUEST_NEEDS_KVM();
    assert_int_equal(gm_vm_open(NULL, &vm, NULL), 0);
    assert_int_equal(open_fd_count(), fds + 2);
    gm_region_state(gm_vm_memory_root(vm), &region);
    assert_true(region.size == GM_SIZE_2_64);
    gm_region_state(gm_vm_ports_root(vm), &region);
    assert_true(region.size == 0x10000);
    view = gm_view_get(gm_vm_memory(vm));
    assert_int_equal(gm_view_count(view), 0);
    gm_view_put(view);
    assert_ptr_equal(gm_space_map_of(gm_vm_ports(vm)), gm_vm_map(vm));
    assert_int_equal(gm_slots_list(gm_vm_slots(vm), NULL, 0), 0);
    assert_int_equal(ioctl(gm_vm_system_fd(vm), KVM_GET_API_VERSION, 0), KVM_API_VERSION);
    assert_int_equal(gm_vm_close(vm, NULL), 0);
    assert_int_equal(gm_vm_close(NULL, NULL), 0);
    assert_int_equal(open_fd_count(), fds);
}

static void vcpu_id_or_descriptor_taken_returns_eexist(void **state)
{
    /* A failed making leaves nothing open. */
    struct gm_diag diag = {0};
    struct gm_vcpu *second;
    struct guest guest;
    unsigned fds;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    fds = open_fd_count();
    assert_int_equal(gm_vcpu_new(guest.vm, 0, &second, &diag), -EEXIST);
    assert_non_null(strstr(diag.text, "vCPU 0"));
    assert_int_equal(gm_vcpu_attach(guest.vm, gm_vcpu_fd(guest.vcpu), gm_vcpu_kvm_run(guest.vcpu),
                                    NULL, NULL, &second, &diag),
                     -EEXIST);
    assert_int_equal(gm_vcpu_attach(guest.vm, -1, NULL, NULL, NULL, &second, NULL), -EINVAL);
    assert_int_equal(open_fd_count(), fds);
    assert_int_equal(gm_vcpu_new(guest.vm, 1, &second, NULL), 0);
    gm_vcpu_free(second);
    assert_int_equal(open_fd_count(), fds);
    gm_vcpu_free(NULL);
    guest_fini(&guest);
}

/* ---- allocations that fail ---- */

struct scarce {
    unsigned live;
    unsigned left; /* until one fails; 0: none does */
};

static void *scarce_alloc(void *opaque, size_t size_bytes)
{
    struct scarce *scarce = opaque;

    if (scarce->left != 0) {
        scarce->left--;
        if (scarce->left == 0) {
            return NULL;
        }
    }
    __atomic_add_fetch(&scarce->live, 1, __ATOMIC_RELAXED);
    return malloc(size_bytes);
}

static void scarce_free(void *opaque, void *memory)
{
    struct scarce *scarce = opaque;

    __atomic_sub_fetch(&scarce->live, 1, __ATOMIC_RELAXED); /* also from liburcu's thread */
    free(memory);
}

static void open_without_memory_leaves_nothing(void **state)
{
    /* Each allocation fails once: -ENOMEM, nothing leaks, and at last it works. */
    struct scarce scarce = {0};
    const struct gm_allocator allocator = {scarce_alloc, scarce_free, &scarce};
    const struct gm_map_options map = {.size = sizeof(map), .allocator = &allocator};
    const struct gm_vm_options options = {.size = sizeof(options), .map = &map};
    unsigned fds = open_fd_count();
    struct gm_vcpu *vcpu;
    struct gm_vm *vm;
    unsigned failures = 0;

    (void)state;
    GUEST_NEEDS_KVM();
    for (;; failures++) {
        int rc;

        scarce.left = failures + 1;
        rc = gm_vm_open(&options, &vm, NULL);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        rcu_drain();
        assert_int_equal(__atomic_load_n(&scarce.live, __ATOMIC_RELAXED), 0);
        assert_int_equal(open_fd_count(), fds);
    }
    assert_true(failures > 5);
    scarce.left = 1;
    assert_int_equal(gm_vcpu_new(vm, 0, &vcpu, NULL), -ENOMEM);
    assert_int_equal(gm_vcpu_new(vm, 0, &vcpu, NULL), 0);
    assert_int_equal(gm_vm_close(vm, NULL), 0); /* takes the vCPU along */
    rcu_drain();
    assert_int_equal(__atomic_load_n(&scarce.live, __ATOMIC_RELAXED), 0);
    assert_int_equal(open_fd_count(), fds);
}

/* ---- commits that are refused ---- */

static void commit_past_the_slot_limit_changes_nothing(void **state)
{
    /* Three slots are enough for a window in the middle of RAM, not for a second one. */
    const struct gm_vm_options options = {.size = sizeof(options), .max_slots = 3};
    char before[SLOTS_TEXT_BYTES];
    char after[SLOTS_TEXT_BYTES];
    struct gm_diag diag = {0};
    struct gm_region *first;
    struct gm_region *second;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, &options);
    first = guest_add_ram(&guest, "first", 0x3000, 0x1000);
    guest_slots_text(guest.vm, before);
    assert_string_equal(before, "0+3000::ram+0 3000+1000::first+0 4000+4000::ram+4000 ");
    assert_int_equal(
        gm_region_new_ram(gm_vm_map(guest.vm), "second", gm_region_ram(first), &second), 0);
    {
        struct gm_txn *txn;

        assert_int_equal(gm_txn_begin(gm_vm_map(guest.vm), &txn), 0);
        assert_int_equal(gm_txn_set_addr(txn, second, 0x9000), 0);
        assert_int_equal(gm_txn_add(txn, gm_vm_memory_root(guest.vm), second), 0);
        assert_int_equal(gm_txn_commit(txn, &diag), -ENOSPC);
    }
    assert_int_equal(diag.code, -ENOSPC);
    assert_true(diag.text[0] != '\0');
    guest_slots_text(guest.vm, after);
    assert_string_equal(after, before);
    EMIT_LOAD_AL(&guest, 0x9000);
    EMIT_STORE_AL(&guest, 0x2000);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_int_equal(guest_bytes(guest.ram)[0x2000], 0xff);
    gm_region_put(first);
    gm_region_put(second);
    guest_fini(&guest);
}

/* The kernel's operations, of which one fails. */
struct faulty {
    struct gm_backend_ops real;
    void *opaque;
    unsigned left; /* until one fails; 0: none does */
};

static bool faulty_fails(struct faulty *faulty)
{
    if (faulty->left == 0) {
        return false;
    }
    faulty->left--;
    return faulty->left == 0;
}

static int faulty_create(void *opaque, const struct gm_slot *slot)
{
    struct faulty *faulty = opaque;

    return faulty_fails(faulty) ? -ENOBUFS : faulty->real.create(faulty->opaque, slot);
}

static int faulty_destroy(void *opaque, const struct gm_slot *slot)
{
    struct faulty *faulty = opaque;

    return faulty_fails(faulty) ? -ENOBUFS : faulty->real.destroy(faulty->opaque, slot);
}

static int faulty_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    struct faulty *faulty = opaque;

    return faulty_fails(faulty) ? -ENOBUFS
                                : faulty->real.set_flags(faulty->opaque, slot, new_flags);
}

static int faulty_hold(void *opaque)
{
    struct faulty *faulty = opaque;

    return faulty_fails(faulty) ? -ENOBUFS : faulty->real.hold(faulty->opaque);
}

static void faulty_release(void *opaque)
{
    struct faulty *faulty = opaque;

    faulty->real.release(faulty->opaque);
}

static int faulty_log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                            uint64_t page_count, uint64_t *bitmap)
{
    struct faulty *faulty = opaque;

    return faulty->real.log_fetch(faulty->opaque, slot, first_page, page_count, bitmap);
}

/* Put itself between the VM's slots and its kernel. */
static void faulty_interpose(struct faulty *faulty, struct gm_vm *vm)
{
    struct gm_slots *slots = gm_vm_slots(vm);

    *faulty = (struct faulty){.real = slots->ops, .opaque = slots->opaque};
    slots->ops.create = faulty_create;
    slots->ops.destroy = faulty_destroy;
    slots->ops.set_flags = faulty_set_flags;
    slots->ops.hold = faulty_hold;
    slots->ops.release = faulty_release;
    slots->ops.log_fetch = faulty_log_fetch;
    slots->opaque = faulty;
}

/* Read 0x3000, 0x5000 and 0x9000, and write 0x4000 (a logged page), as the guest sees them. */
static void expect_reads(struct guest *guest, const char *expected)
{
    guest_program(guest);
    EMIT_LOAD_AL(guest, 0x3000);
    EMIT_STORE_AL(guest, 0x2000);
    EMIT_LOAD_AL(guest, 0x5000);
    EMIT_STORE_AL(guest, 0x2001);
    EMIT_LOAD_AL(guest, 0x9000);
    EMIT_STORE_AL(guest, 0x2002);
    EMIT_HLT(guest);
    guest_run_to_hlt(guest);
    assert_memory_equal(guest_bytes(guest->ram) + 0x2000, expected, 3);
}

static bool page_is_dirty(struct gm_region *region, unsigned page)
{
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;
    bool found;

    assert_int_equal(gm_region_log_sync(region, 0, GUEST_RAM_BYTES), 0);
    assert_int_equal(gm_harvest_begin(gm_region_ram(region), 1, page * 4096, 4096, &harvest), 0);
    found = gm_harvest_next(harvest, &first, &last);
    gm_harvest_commit(harvest);
    return found;
}

/* A commit of every kind of operation: a window appears, one goes read-only, one moves, a log ends. */
static int commit_all_kinds(struct guest *guest, struct gm_region *hidden, struct gm_region *rom,
                            struct gm_region *bar)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(gm_vm_map(guest->vm), &txn), 0);
    assert_int_equal(gm_txn_set_enabled(txn, hidden, true), 0);
    assert_int_equal(gm_txn_set_readonly(txn, rom, true), 0);
    assert_int_equal(gm_txn_set_addr(txn, bar, 0xc000), 0);
    assert_int_equal(gm_txn_set_log(txn, guest->ram, 2, true), 0);
    assert_int_equal(gm_txn_set_log(txn, rom, 2, true), 0);
    return gm_txn_commit(txn, NULL);
}

static void commit_whose_ioctl_fails_changes_nothing(void **state)
{
    /* Each operation of one commit fails once; slots, dirty pages and what the guest reads stay. */
    char before[SLOTS_TEXT_BYTES];
    char after[SLOTS_TEXT_BYTES];
    struct gm_region *hidden;
    struct gm_region *rom;
    struct gm_region *bar;
    struct faulty faulty;
    struct guest guest;
    unsigned failures = 0;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    hidden = guest_add_ram(&guest, "hidden", 0x3000, 0x1000);
    rom = guest_add_ram(&guest, "rom", 0x5000, 0x1000);
    bar = guest_add_ram(&guest, "bar", 0x9000, 0x1000);
    guest_set_enabled(hidden, false);
    guest_set_log(guest.vm, guest.ram, 1, true);
    guest_bytes(guest.ram)[0x3000] = 1;
    guest_bytes(hidden)[0] = 2;
    guest_bytes(rom)[0] = 3;
    guest_bytes(bar)[0] = 4;
    faulty_interpose(&faulty, guest.vm);
    guest_slots_text(guest.vm, before);
    for (;; failures++) {
        int rc;

        expect_reads(&guest, "\x01\x03\x04");
        faulty.left = failures + 1;
        rc = commit_all_kinds(&guest, hidden, rom, bar);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOBUFS);
        guest_slots_text(guest.vm, after);
        assert_string_equal(after, before);
        assert_true(page_is_dirty(guest.ram, 2)); /* expect_reads() stored there */
    }
    faulty.left = 0;
    assert_true(failures >= 6);
    assert_false(gm_map_is_broken(gm_vm_map(guest.vm)));
    expect_reads(&guest, "\x02\x03\xff");
    assert_true(page_is_dirty(guest.ram, 2));
    gm_region_put(hidden);
    gm_region_put(rom);
    gm_region_put(bar);
    guest_fini(&guest);
}

static void commit_whose_port_eventfd_fails_takes_memory_back(void **state)
{
    /* Two listeners: the memory's slots are done when the ports' eventfd is refused. */
    int fd = eventfd(0, EFD_NONBLOCK);
    const struct gm_eventfd eventfds[] = {{.offset = 1, .size_bytes = 1, .fd = fd},
                                          {.offset = 2, .size_bytes = 1, .fd = fd}};
    struct kvm_ioeventfd taken = {
        .addr = GUEST_PORT + 2, .len = 1, .fd = fd, .flags = KVM_IOEVENTFD_FLAG_PIO};
    char before[SLOTS_TEXT_BYTES];
    char after[SLOTS_TEXT_BYTES];
    struct gm_diag diag = {0};
    struct gm_region *window;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    window = guest_add_ram(&guest, "window", 0x3000, 0x1000);
    guest_set_enabled(window, false);
    guest_slots_text(guest.vm, before);
    assert_int_equal(ioctl(gm_vm_fd(guest.vm), KVM_IOEVENTFD, &taken), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct gm_txn *txn;

        assert_int_equal(gm_txn_begin(gm_vm_map(guest.vm), &txn), 0);
        assert_int_equal(gm_txn_set_enabled(txn, window, true), 0);
        assert_int_equal(gm_txn_add_eventfd(txn, guest.ports, &eventfds[0]), 0);
        assert_int_equal(gm_txn_add_eventfd(txn, guest.ports, &eventfds[1]), 0);
        assert_int_equal(gm_txn_commit(txn, &diag), i == 0 ? -EEXIST : 0);
        guest_slots_text(guest.vm, after);
        if (i == 0) {
            assert_string_equal(after, before);
            assert_non_null(strstr(diag.text, "port 0x12"));
            taken.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
            assert_int_equal(ioctl(gm_vm_fd(guest.vm), KVM_IOEVENTFD, &taken), 0);
        } else {
            assert_string_not_equal(after, before);
        }
    }
    gm_region_put(window);
    guest_fini(&guest);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_missing_device_returns_enoent),
        cmocka_unit_test(open_bad_options_returns_einval),
        cmocka_unit_test(open_gives_two_empty_spaces),
        cmocka_unit_test(vcpu_id_or_descriptor_taken_returns_eexist),
        cmocka_unit_test(open_without_memory_leaves_nothing),
        cmocka_unit_test(commit_past_the_slot_limit_changes_nothing),
        cmocka_unit_test(commit_whose_ioctl_fails_changes_nothing),
        cmocka_unit_test(commit_whose_port_eventfd_fails_takes_memory_back),
    };

    return guest_exit_code(cmocka_run_group_tests(tests, NULL, NULL));
}
