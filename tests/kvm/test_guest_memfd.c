/*
 * tests/kvm/test_guest_memfd.c - guests whose memory lies in a guest memfd, beside memory that they share with the host or as all
 * of it. Where a kernel has none (Linux before 6.8) the tests see to it that the map says so, and skip the rest.
 */
#include "guest.h"

#include <guestmem/kvm_abi.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)
#define CLIENT 3u
#define WINDOW UINT64_C(0x20000)
#define WINDOW_BYTES (8 * PAGE)
#define OFFSET (2 * PAGE) /* of the block in the file */
#define MAPPED_TOO (GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

struct board {
    struct guest guest;
    struct gm_ram *ram;
    struct gm_region *region; /* the block at WINDOW, of priority 1 */
    uint8_t *bytes;           /* its shared memory */
};

static struct gm_region *new_region(struct guest *guest, struct gm_ram *ram)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = "private",
        .size_bytes = WINDOW_BYTES,
        .addr = WINDOW,
        .ram = ram,
        .priority = 1,
    };
    struct gm_region *region;

    assert_int_equal(gm_region_new(gm_vm_map(guest->vm), &options, &region, NULL), 0);
    return region;
}

static struct gm_ram *new_block(int guest_memfd, bool is_own_memory)
{
    struct gm_ram_options options = {
        .size = sizeof(options),
        .kind = is_own_memory ? GM_RAM_FILE : GM_RAM_SHARED,
        .flags = GM_RAM_GUEST_MEMFD,
        .size_bytes = WINDOW_BYTES,
        .fd = guest_memfd,
        .file_offset = OFFSET,
        .guest_memfd = guest_memfd,
        .guest_memfd_offset = OFFSET,
    };
    struct gm_diag diag = {0};
    struct gm_ram *ram;

    if (!is_own_memory) {
        options.fd = 0;
        options.file_offset = 0;
    }
    if (gm_ram_new(&options, &ram, &diag) != 0) {
        fail_msg("gm_ram_new: %s", diag.text);
    }
    return ram;
}

/* This kernel has no such thing: neither files of the kind, nor slots for them. The guest goes on as it was. */
static void check_refusals(struct guest *guest, uint64_t flags)
{
    struct gm_diag diag = {0};
    struct gm_region *region;
    struct gm_ram *ram;
    char before[SLOTS_TEXT_BYTES];
    char after[SLOTS_TEXT_BYTES];
    int fd;

    assert_int_equal(gm_vm_guest_memfd(guest->vm, WINDOW_BYTES, flags, &fd, &diag), -EOPNOTSUPP);
    assert_int_equal(diag.id, GM_DIAG_KVM_GUEST_MEMFD);
    if (gm_vm_ioctl(guest->vm, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD) == 1) {
        return; /* but not with these flags */
    }
    fd = memfd_create("none", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)(OFFSET + WINDOW_BYTES)), 0);
    ram = new_block(fd, false);
    region = new_region(guest, ram);
    guest_slots_text(guest->vm, before);
    assert_int_equal(gm_region_add(gm_vm_memory_root(guest->vm), region, &diag), -EOPNOTSUPP);
    assert_int_equal(diag.id, GM_DIAG_SLOTS_GUEST_MEMFD);
    guest_slots_text(guest->vm, after);
    assert_string_equal(before, after);
    EMIT_HLT(guest);
    guest_run_to_hlt(guest);
    gm_region_put(region);
    gm_ram_put(ram);
    close(fd);
}

/* Return: false: nothing is left, as this kernel has no guest memfds of these flags. */
static bool board_init(struct board *board, uint64_t flags)
{
    bool is_own_memory = flags == MAPPED_TOO;
    int fd;

    memset(board, 0, sizeof(*board));
    guest_init(&board->guest, NULL);
    if (gm_vm_guest_memfd(board->guest.vm, OFFSET + WINDOW_BYTES, flags, &fd, NULL) != 0) {
        check_refusals(&board->guest, flags);
        guest_fini(&board->guest);
        return false;
    }
    board->ram = new_block(fd, is_own_memory);
    close(fd);
    board->bytes = gm_ram_hva(board->ram);
    board->region = new_region(&board->guest, board->ram);
    return true;
}

static void board_show(struct board *board)
{
    struct gm_diag diag = {0};

    if (gm_region_add(gm_vm_memory_root(board->guest.vm), board->region, &diag) != 0) {
        fail_msg("the window: %s", diag.text);
    }
}

static void board_fini(struct board *board)
{
    gm_region_put(board->region);
    gm_ram_put(board->ram);
    guest_fini(&board->guest);
}

#define NEEDS_BOARD(board, flags)                                                                  \
    do {                                                                                           \
        GUEST_NEEDS_KVM();                                                                         \
        if (!board_init(board, flags)) {                                                           \
            print_message("skipped: no guest memfds with flags %u here\n", (unsigned)(flags));     \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* inc byte [gpa]; hlt. The program may run again and again. */
static void count_up(struct board *board, uint64_t gpa)
{
    uint16_t segment = (uint16_t)(gpa >> 4);

    guest_program(&board->guest);
    EMIT(&board->guest, 0xb8, LO(segment), HI(segment), 0x8e, 0xd8, 0xfe, 0x06, 0x00, 0x00);
    EMIT_HLT(&board->guest);
}

static void run_count(struct board *board, uint64_t gpa)
{
    count_up(board, gpa);
    guest_run_to_hlt(&board->guest);
}

static void expect_slots(struct board *board, const char *expected)
{
    char text[SLOTS_TEXT_BYTES];

    guest_slots_text(board->guest.vm, text);
    assert_string_equal(text, expected);
}

static void file_is_the_callers_and_checked(void **state)
{
    /* It has its size, closes on exec, and what KVM refuses is refused. */
    struct board board;
    struct gm_diag diag = {0};
    struct stat status;
    int fd;

    (void)state;
    NEEDS_BOARD(&board, 0);
    assert_int_equal(gm_vm_guest_memfd(board.guest.vm, 3 * PAGE, 0, &fd, NULL), 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, 3 * PAGE);
    close(fd);
    assert_int_equal(gm_vm_guest_memfd(board.guest.vm, 0, 0, &fd, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_KVM_GUEST_MEMFD);
    assert_int_equal(gm_vm_guest_memfd(board.guest.vm, PAGE + 1, 0, &fd, NULL), -EINVAL);
    assert_int_equal(gm_vm_guest_memfd(board.guest.vm, PAGE, 1u << 20, &fd, &diag), -EOPNOTSUPP);
    assert_int_equal(diag.id, GM_DIAG_KVM_GUEST_MEMFD);
    board_fini(&board);
}

static void guest_runs_from_shared_memory_beside_a_guest_memfd(void **state)
{
    /* No address is private: the guest's bytes are the block's. The map is edited around and above it, and its slot stays;
     * a hole in it makes two of it, and each goes on with its part. */
    struct gm_slots_stats before;
    struct gm_slots_stats after;
    struct gm_region *beside;
    struct gm_region *hole;
    struct board board;

    (void)state;
    NEEDS_BOARD(&board, 0);
    board_show(&board);
    expect_slots(&board, "0+8000::ram+0 20000+8000:g:private+0 ");
    board.bytes[0] = 41;
    run_count(&board, WINDOW);
    assert_int_equal(board.bytes[0], 42);
    gm_slots_stats(gm_vm_slots(board.guest.vm), &before);
    beside = guest_add_ram(&board.guest, "beside", WINDOW + WINDOW_BYTES, PAGE);
    run_count(&board, WINDOW);
    assert_int_equal(gm_region_del(gm_vm_memory_root(board.guest.vm), beside, NULL), 0);
    run_count(&board, WINDOW);
    assert_int_equal(board.bytes[0], 44);
    gm_slots_stats(gm_vm_slots(board.guest.vm), &after);
    assert_int_equal(after.creates - before.creates, 1); /* the other region's alone */
    assert_int_equal(after.destroys - before.destroys, 1);
    assert_int_equal(after.holds - before.holds, 0);
    hole = guest_add_ram(&board.guest, "hole", WINDOW + 2 * PAGE, PAGE);
    expect_slots(&board, "0+8000::ram+0 20000+2000:g:private+0 22000+1000::hole+0 "
                         "23000+5000:g:private+3000 ");
    run_count(&board, WINDOW);
    run_count(&board, WINDOW + 2 * PAGE);
    run_count(&board, WINDOW + 7 * PAGE);
    assert_int_equal(board.bytes[0], 45);
    assert_int_equal(board.bytes[2 * PAGE], 0);
    assert_int_equal(guest_bytes(hole)[0], 1);
    assert_int_equal(board.bytes[7 * PAGE], 1);
    gm_region_put(hole);
    gm_region_put(beside);
    board_fini(&board);
}

static void guest_runs_from_a_guest_memfd_that_is_mapped(void **state)
{
    /* The file is all that the block has: host and guest see each other's stores, and a discard's zeroes. */
    struct board board;

    (void)state;
    NEEDS_BOARD(&board, MAPPED_TOO);
    board_show(&board);
    expect_slots(&board, "0+8000::ram+0 20000+8000:g:private+0 ");
    board.bytes[PAGE] = 7;
    run_count(&board, WINDOW + PAGE);
    run_count(&board, WINDOW + PAGE);
    assert_int_equal(board.bytes[PAGE], 9);
    assert_int_equal(gm_ram_discard(board.ram, PAGE, PAGE, NULL), 0);
    assert_int_equal(board.bytes[PAGE], 0);
    run_count(&board, WINDOW + PAGE);
    assert_int_equal(board.bytes[PAGE], 1);
    assert_int_equal(gm_ram_discard_half(board.ram, GM_RAM_HALF_PRIVATE, PAGE, PAGE, NULL), 0);
    run_count(&board, WINDOW + PAGE);
    assert_int_equal(board.bytes[PAGE], 1);
    assert_int_equal(gm_ram_prealloc(board.ram, NULL, NULL), 0);
    assert_int_equal(board.bytes[PAGE], 1);
    board_fini(&board);
}

static void read_only_window_is_of_shared_memory(void **state)
{
    /* KVM has no read-only slots with a guest memfd. Reads go on, a write comes out, and writable it is bound again. */
    struct board board;

    (void)state;
    NEEDS_BOARD(&board, MAPPED_TOO);
    board_show(&board);
    run_count(&board, WINDOW);
    guest_set_readonly(board.guest.vm, board.region, true);
    expect_slots(&board, "0+8000::ram+0 20000+8000:o:private+0 ");
    run_count(&board, WINDOW); /* the write is dropped */
    assert_int_equal(board.bytes[0], 1);
    guest_set_readonly(board.guest.vm, board.region, false);
    expect_slots(&board, "0+8000::ram+0 20000+8000:g:private+0 ");
    run_count(&board, WINDOW);
    assert_int_equal(board.bytes[0], 2);
    board_fini(&board);
}

static uint64_t harvest_pages(struct board *board)
{
    struct gm_harvest *taken;
    uint64_t count;

    assert_int_equal(gm_harvest_begin(board->ram, CLIENT, 0, WINDOW_BYTES, &taken), 0);
    count = gm_harvest_page_count(taken);
    gm_harvest_commit(taken);
    return count;
}

static void logging_finds_all_of_it_written(void **state)
{
    /* KVM keeps no log of such a slot and takes no flags for it: it stays, and no write is missed. */
    struct board board;

    (void)state;
    NEEDS_BOARD(&board, 0);
    board_show(&board);
    guest_set_log(board.guest.vm, board.region, CLIENT, true);
    expect_slots(&board, "0+8000::ram+0 20000+8000:lg:private+0 ");
    run_count(&board, WINDOW + PAGE);
    assert_int_equal(gm_region_log_sync(board.region, 0, WINDOW_BYTES), 0);
    assert_int_equal(harvest_pages(&board), WINDOW_BYTES / PAGE);
    guest_set_log(board.guest.vm, board.region, CLIENT, false);
    expect_slots(&board, "0+8000::ram+0 20000+8000:g:private+0 ");
    run_count(&board, WINDOW + PAGE);
    assert_int_equal(board.bytes[PAGE], 2);
    board_fini(&board);
}

static int add_at(struct guest *guest, struct gm_region *region, uint64_t gpa, struct gm_diag *diag)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(gm_vm_map(guest->vm), &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, region, gpa), 0);
    assert_int_equal(gm_txn_add(txn, gm_vm_memory_root(guest->vm), region), 0);
    return gm_txn_commit(txn, diag);
}

static void part_that_is_shown_twice_is_refused(void **state)
{
    /* The diag says where it is shown already; nothing changes, and the guest goes on. */
    struct board board;
    struct gm_region *alias;
    struct gm_diag diag = {0};
    int rc;

    (void)state;
    NEEDS_BOARD(&board, 0);
    board_show(&board);
    assert_int_equal(
        gm_region_new_alias(gm_vm_map(board.guest.vm), "again", board.region, PAGE, PAGE, &alias),
        0);
    rc = add_at(&board.guest, alias, 0x40000, &diag);
    assert_true(rc == -EINVAL || rc == -EEXIST); /* by the kernel's version */
    assert_int_equal(diag.id, GM_DIAG_BACKEND_GUEST_MEMFD);
    assert_non_null(strstr(diag.text, "0x20000"));
    expect_slots(&board, "0+8000::ram+0 20000+8000:g:private+0 ");
    run_count(&board, WINDOW);
    assert_int_equal(board.bytes[0], 1);
    gm_region_put(alias);
    board_fini(&board);
}

static void file_that_is_not_of_the_vm_is_refused(void **state)
{
    /* Another VM's, and one that is no guest memfd: the map is as it was, and takes its own afterwards. */
    struct board board;
    struct board other;
    struct gm_region *strange;
    struct gm_ram *plain;
    struct gm_diag diag = {0};
    int fd;

    (void)state;
    NEEDS_BOARD(&board, 0);
    fd = memfd_create("plain", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)(OFFSET + WINDOW_BYTES)), 0);
    plain = new_block(fd, false);
    close(fd);
    assert_true(board_init(&other, 0));
    strange = new_region(&board.guest, other.ram);
    assert_int_equal(add_at(&board.guest, strange, WINDOW, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_BACKEND_GUEST_MEMFD);
    gm_region_put(strange);
    strange = new_region(&board.guest, plain);
    diag.id = 0;
    assert_int_equal(add_at(&board.guest, strange, WINDOW, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_BACKEND_GUEST_MEMFD);
    gm_region_put(strange);
    gm_ram_put(plain);
    expect_slots(&board, "0+8000::ram+0 ");
    board_show(&board);
    run_count(&board, WINDOW);
    assert_int_equal(board.bytes[0], 1);
    board_fini(&other);
    board_fini(&board);
}

/* Attributes that this VM lacks are refused; else, that they do what they say. */
static void private_addresses_reach_the_guest_memfd(void **state)
{
    /* The guest counts in one byte of shared and of private memory by turns: each keeps its own count, until it is discarded. */
    uint64_t at = WINDOW + PAGE;
    struct board board;
    struct gm_diag diag = {0};
    int rc;

    (void)state;
    NEEDS_BOARD(&board, 0);
    board_show(&board);
    run_count(&board, at);
    rc = gm_vm_set_attributes(board.guest.vm, at, PAGE, KVM_MEMORY_ATTRIBUTE_PRIVATE, &diag);
    if (rc == -EOPNOTSUPP) {
        assert_int_equal(diag.id, GM_DIAG_KVM_ATTRIBUTES);
        assert_int_equal(
            gm_vm_ioctl(board.guest.vm, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES), 0);
        board_fini(&board);
        print_message("skipped: no attributes of memory here\n");
        skip();
    }
    assert_int_equal(rc, 0);
    run_count(&board, at);
    run_count(&board, at);
    assert_int_equal(board.bytes[PAGE], 1);
    assert_int_equal(gm_vm_set_attributes(board.guest.vm, at, PAGE, 0, NULL), 0);
    run_count(&board, at);
    assert_int_equal(board.bytes[PAGE], 2);
    /* Now the shared half goes, and the private one, which is at 2, counts on. */
    assert_int_equal(gm_vm_set_attributes(board.guest.vm, WINDOW, WINDOW_BYTES,
                                          KVM_MEMORY_ATTRIBUTE_PRIVATE, NULL),
                     0);
    assert_int_equal(gm_ram_discard_half(board.ram, GM_RAM_HALF_SHARED, 0, WINDOW_BYTES, NULL), 0);
    assert_int_equal(board.bytes[PAGE], 0);
    run_count(&board, at);
    {
        struct kvm_regs regs;

        guest_program(&board.guest); /* mov al, [0] of the same page */
        EMIT(&board.guest, 0xb8, LO(at >> 4), HI(at >> 4), 0x8e, 0xd8, 0xa0, 0x00, 0x00);
        EMIT_HLT(&board.guest);
        guest_run_to_hlt(&board.guest);
        assert_int_equal(gm_vcpu_ioctl(board.guest.vcpu, KVM_GET_REGS, (uintptr_t)&regs), 0);
        assert_int_equal(regs.rax & 0xff, 3);
        assert_int_equal(gm_ram_discard_half(board.ram, GM_RAM_HALF_PRIVATE, 0, WINDOW_BYTES, NULL),
                         0);
        guest_reset(board.guest.vcpu);
        guest_run_to_hlt(&board.guest);
        assert_int_equal(gm_vcpu_ioctl(board.guest.vcpu, KVM_GET_REGS, (uintptr_t)&regs), 0);
        assert_int_equal(regs.rax & 0xff, 0);
    }
    board_fini(&board);
}

static void private_address_without_private_memory_is_a_fault(void **state)
{
    /* The run comes out with what the guest wanted; the attribute goes, and it goes on. What is wrong with a range is said. */
    struct board board;
    const struct kvm_run *run;
    struct gm_run_memory_fault fault;
    struct gm_diag diag = {0};

    (void)state;
    NEEDS_BOARD(&board, 0);
    run = gm_vcpu_kvm_run(board.guest.vcpu);
    if (gm_vm_ioctl(board.guest.vm, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES) == 0) {
        board_fini(&board);
        skip();
    }
    assert_int_equal(
        gm_vm_set_attributes(board.guest.vm, 0x3000, PAGE, KVM_MEMORY_ATTRIBUTE_PRIVATE, NULL), 0);
    count_up(&board, 0x3000);
    assert_int_equal(gm_vcpu_run(board.guest.vcpu), -EFAULT);
    assert_int_equal(run->exit_reason, KVM_EXIT_MEMORY_FAULT);
    memcpy(&fault, &run->hw, sizeof(fault));
    assert_int_equal(fault.flags, KVM_MEMORY_EXIT_FLAG_PRIVATE);
    assert_int_equal(fault.gpa, 0x3000);
    assert_int_equal(fault.size, PAGE);
    assert_int_equal(gm_vm_set_attributes(board.guest.vm, 0x3000, PAGE, 0, NULL), 0);
    guest_run_to_hlt(&board.guest);
    assert_int_equal(gm_vm_set_attributes(board.guest.vm, 0x3001, PAGE, 0, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_KVM_ATTRIBUTES);
    assert_int_equal(gm_vm_set_attributes(board.guest.vm, 0x3000, 0, 0, NULL), -EINVAL);
    assert_int_equal(gm_vm_set_attributes(board.guest.vm, 0x3000, PAGE, 1ull << 40, &diag),
                     -EOPNOTSUPP);
    board_fini(&board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_is_the_callers_and_checked),
        cmocka_unit_test(guest_runs_from_shared_memory_beside_a_guest_memfd),
        cmocka_unit_test(guest_runs_from_a_guest_memfd_that_is_mapped),
        cmocka_unit_test(read_only_window_is_of_shared_memory),
        cmocka_unit_test(logging_finds_all_of_it_written),
        cmocka_unit_test(part_that_is_shown_twice_is_refused),
        cmocka_unit_test(file_that_is_not_of_the_vm_is_refused),
        cmocka_unit_test(private_addresses_reach_the_guest_memfd),
        cmocka_unit_test(private_address_without_private_memory_is_a_fault),
    };

    return guest_exit_code(GUEST_RUN_ON_BOTH(tests));
}
