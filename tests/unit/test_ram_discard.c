/* unit/test_ram_discard.c - giving memory back: what is held falls, for every backing. */
#include "ram_rig.h"

#include <sys/syscall.h>

#define BYTES (4 * HUGE)

static void discard_of_a_part_frees_just_its_pages(void **state)
{
    /* All of a block is written, and two stretches of it given back: as many pages go, and only
     * their contents. */
    unsigned skipped = 0;

    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        struct gm_ram *ram;
        uint8_t *bytes;
        uint8_t fresh = rig_fresh_byte(kind, true);
        uint64_t before;

        if (rig_lacks(kind, 4)) {
            skipped++;
            continue;
        }
        ram = rig_new(kind, BYTES);
        bytes = gm_ram_hva(ram);
        memset(bytes, 0x5a, BYTES);
        before = rig_held_pages(kind, ram);
        assert_true(before >= BYTES / PAGE);
        assert_int_equal(gm_ram_discard(ram, HUGE, HUGE, NULL), 0);
        assert_int_equal(before - rig_held_pages(kind, ram), HUGE / PAGE);
        assert_int_equal(gm_ram_discard(ram, 3 * HUGE, HUGE, NULL), 0);
        assert_int_equal(before - rig_held_pages(kind, ram), 2 * HUGE / PAGE);
        assert_bytes(bytes, HUGE, 0x5a);
        assert_bytes(bytes + HUGE, HUGE, fresh);
        assert_bytes(bytes + 2 * HUGE, HUGE, 0x5a);
        assert_bytes(bytes + 3 * HUGE, HUGE, fresh);
        bytes[HUGE] = 1; /* and it can be used again */
        assert_int_equal(bytes[HUGE], 1);
        gm_ram_put(ram);
    }
    rig_give_huge_back();
    print_message("%u kinds skipped\n", skipped);
}

static void discard_of_one_page_frees_it(void **state)
{
    /* The least that can be given back is one page of the backing. */
    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        struct gm_ram *ram;
        uint8_t *bytes;
        uint64_t before;

        if (kind == RIG_HUGETLB) { /* above: its page is 2 MiB */
            continue;
        }
        ram = rig_new(kind, 16 * PAGE);
        bytes = gm_ram_hva(ram);
        memset(bytes, 0x5a, 16 * PAGE);
        before = rig_held_pages(kind, ram);
        assert_int_equal(gm_ram_discard(ram, 7 * PAGE, PAGE, NULL), 0);
        assert_int_equal(before - rig_held_pages(kind, ram), 1);
        assert_bytes(bytes, 7 * PAGE, 0x5a);
        assert_bytes(bytes + 7 * PAGE, PAGE, rig_fresh_byte(kind, true));
        assert_bytes(bytes + 8 * PAGE, 8 * PAGE, 0x5a);
        gm_ram_put(ram);
    }
}

static void discard_of_a_private_file_leaves_the_file_alone(void **state)
{
    /* Neither what was written nor its discard reaches the file. */
    int fd = rig_file(4 * PAGE, O_RDWR);
    struct gm_ram_options options = rig_options(RIG_ANON, 4 * PAGE);
    struct gm_ram *ram;
    uint8_t *bytes;
    uint8_t seen;

    (void)state;
    options.kind = GM_RAM_FILE;
    options.flags = GM_RAM_PRIVATE;
    options.fd = dup(fd);
    ram = rig_make(&options);
    bytes = gm_ram_hva(ram);
    bytes[PAGE] = 0x11;
    assert_int_equal(pread(fd, &seen, 1, (off_t)PAGE), 1);
    assert_int_equal(seen, FILE_BYTE);
    assert_int_equal(gm_ram_discard(ram, 0, 4 * PAGE, NULL), 0);
    assert_int_equal(bytes[PAGE], FILE_BYTE);
    assert_int_equal(pread(fd, &seen, 1, (off_t)PAGE), 1);
    assert_int_equal(seen, FILE_BYTE);
    gm_ram_put(ram);
    close(fd);
}

static void discard_of_huge_pages_gives_them_to_the_host(void **state)
{
    /* A discarded huge page is free for others; the next touch takes one again. */
    struct gm_ram *ram;
    uint8_t *bytes;

    (void)state;
    RIG_NEEDS_HUGE(3);
    ram = rig_new(RIG_HUGETLB, 3 * HUGE);
    bytes = gm_ram_hva(ram);
    memset(bytes, 1, 3 * HUGE);
    assert_int_equal(rig_read_number(RIG_FREE_HUGE), 0);
    assert_int_equal(gm_ram_discard(ram, HUGE, HUGE, NULL), 0);
    assert_int_equal(rig_read_number(RIG_FREE_HUGE), 1);
    assert_int_equal(gm_ram_discard(ram, PAGE, HUGE, NULL), -EINVAL);
    assert_int_equal(gm_ram_discard(ram, 0, PAGE, NULL), -EINVAL);
    assert_int_equal(bytes[HUGE], 0);
    assert_int_equal(rig_read_number(RIG_FREE_HUGE), 0);
    gm_ram_put(ram);
    assert_int_equal(rig_read_number(RIG_FREE_HUGE), 3);
    rig_give_huge_back();
}

static void discard_of_a_bad_range_is_refused(void **state)
{
    /* Whole pages of the block, or nothing is given back. */
    static const uint64_t RANGES[][2] = {
        {0, 100},
        {100, PAGE},
        {0, 5 * PAGE},
        {4 * PAGE, PAGE},
        {UINT64_MAX, PAGE},
        {PAGE, UINT64_MAX},
        {UINT64_MAX & ~4095ull, PAGE},
    };
    struct gm_ram *ram = rig_new(RIG_ANON, 4 * PAGE);
    uint8_t *bytes = gm_ram_hva(ram);
    struct gm_diag diag;

    (void)state;
    memset(bytes, 0x5a, 4 * PAGE);
    for (size_t i = 0; i < sizeof(RANGES) / sizeof(RANGES[0]); i++) {
        diag = (struct gm_diag){0};
        assert_int_equal(gm_ram_discard(ram, RANGES[i][0], RANGES[i][1], &diag), -EINVAL);
        assert_int_equal(diag.code, -EINVAL);
    }
    assert_int_equal(gm_ram_discard(ram, 4 * PAGE, 0, NULL), 0); /* nothing is a range, too */
    assert_bytes(bytes, 4 * PAGE, 0x5a);
    gm_ram_put(ram);
}

static void discard_while_disabled_is_busy(void **state)
{
    /* Disables are counted; each is taken back once. */
    struct gm_ram *ram = rig_new(RIG_MEMFD, 4 * PAGE);
    uint8_t *bytes = gm_ram_hva(ram);

    (void)state;
    bytes[0] = 7;
    assert_int_equal(gm_ram_discard_enable(ram), -ENOENT);
    gm_ram_discard_disable(ram);
    gm_ram_discard_disable(ram);
    assert_int_equal(gm_ram_discard(ram, 0, PAGE, NULL), -EBUSY);
    assert_int_equal(gm_ram_discard_enable(ram), 0);
    assert_int_equal(gm_ram_discard(ram, 0, PAGE, NULL), -EBUSY);
    assert_int_equal(bytes[0], 7);
    assert_int_equal(gm_ram_discard_enable(ram), 0);
    assert_int_equal(gm_ram_discard(ram, 0, PAGE, NULL), 0);
    assert_int_equal(bytes[0], 0);
    assert_int_equal(gm_ram_discard_enable(ram), -ENOENT);
    gm_ram_put(ram);
}

static void discard_marks_its_pages_dirty_and_no_others(void **state)
{
    /* Who copies the block has to hear that its contents are others now. */
    struct gm_ram *ram = rig_new(RIG_ANON, 8 * PAGE);
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 3), 0);
    assert_int_equal(gm_ram_discard(ram, 2 * PAGE, 3 * PAGE, NULL), 0);
    assert_int_equal(gm_harvest_begin(ram, 3, 0, 8 * PAGE, &harvest), 0);
    assert_true(gm_harvest_next(harvest, &first, &last));
    assert_int_equal(first, 2);
    assert_int_equal(last, 4);
    assert_false(gm_harvest_next(harvest, &first, &last));
    gm_harvest_commit(harvest);
    assert_int_equal(gm_ram_dirty_end(ram, 3), 0);
    gm_ram_put(ram);
}

static void discard_of_no_memory_is_done_at_once(void **state)
{
    /* An unbacked block reads as zero before and after. */
    struct gm_ram *ram = rig_new(RIG_UNBACKED, 1024 * MIB);

    (void)state;
    assert_int_equal(gm_ram_discard(ram, 512 * MIB, 512 * MIB, NULL), 0);
    assert_int_equal(gm_ram_discard(ram, 512 * MIB, 513 * MIB, NULL), -EINVAL);
    gm_ram_put(ram);
}

static void discard_of_memory_that_is_mapped_in_two_ways_is_refused(void **state)
{
    /* No one call frees shared and private memory; what cannot be told apart is not half done. */
    struct gm_ram_options options = rig_options(RIG_CALLER_PRIVATE, 4 * PAGE);
    uint8_t *bytes = options.memory;
    struct gm_diag diag = {0};
    struct gm_ram *ram;

    (void)state;
    assert_ptr_equal(mmap(bytes + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                     bytes + 2 * PAGE);
    memset(bytes, 0x5a, 4 * PAGE);
    ram = rig_make(&options);
    assert_int_equal(gm_ram_discard(ram, 0, 4 * PAGE, &diag), -EOPNOTSUPP);
    assert_non_null(strstr(diag.text, "caller"));
    assert_bytes(bytes, 4 * PAGE, 0x5a);
    gm_ram_put(ram);
}

static void discard_of_locked_memory_is_refused(void **state)
{
    /* Memory that is locked stays, and the call says so. */
    struct gm_ram *ram = rig_new(RIG_CALLER_PRIVATE, 4 * PAGE);
    uint8_t *bytes = gm_ram_hva(ram);

    (void)state;
    memset(bytes, 0x5a, 4 * PAGE);
    assert_int_equal(syscall(SYS_mlock, bytes, PAGE), 0); /* sanitizers make mlock() nothing */
    assert_int_equal(gm_ram_discard(ram, 0, PAGE, NULL), -EOPNOTSUPP);
    assert_bytes(bytes, PAGE, 0x5a);
    assert_int_equal(syscall(SYS_munlock, bytes, PAGE), 0);
    assert_int_equal(gm_ram_discard(ram, 0, PAGE, NULL), 0);
    assert_bytes(bytes, PAGE, 0);
    gm_ram_put(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discard_of_a_part_frees_just_its_pages),
        cmocka_unit_test(discard_of_one_page_frees_it),
        cmocka_unit_test(discard_of_a_private_file_leaves_the_file_alone),
        cmocka_unit_test(discard_of_huge_pages_gives_them_to_the_host),
        cmocka_unit_test(discard_of_a_bad_range_is_refused),
        cmocka_unit_test(discard_while_disabled_is_busy),
        cmocka_unit_test(discard_marks_its_pages_dirty_and_no_others),
        cmocka_unit_test(discard_of_no_memory_is_done_at_once),
        cmocka_unit_test(discard_of_memory_that_is_mapped_in_two_ways_is_refused),
        cmocka_unit_test(discard_of_locked_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
