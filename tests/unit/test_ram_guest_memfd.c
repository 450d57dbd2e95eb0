/*
 * unit/test_ram_guest_memfd.c - blocks with a guest memfd beside their memory: what is taken, which half a discard frees. A memfd
 * stands for the guest memfd, as only a VM can tell them apart: what it does with them is in kvm/test_guest_memfd.c.
 */
#include "ram_rig.h"

#define BYTES (16 * PAGE)
#define OFFSET (4 * PAGE)
#define FILE_BYTES (OFFSET + BYTES)

static int new_memfd(uint64_t size_bytes)
{
    int fd = memfd_create("private", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size_bytes), 0);
    return fd;
}

/* Every page of the file is there. */
static int full_memfd(uint64_t size_bytes)
{
    int fd = new_memfd(size_bytes);

    for (uint64_t at = 0; at < size_bytes; at += PAGE) {
        assert_int_equal(pwrite(fd, &at, sizeof(at), (off_t)at), sizeof(at));
    }
    assert_int_equal(rig_file_pages(fd), size_bytes / PAGE);
    return fd;
}

static struct gm_ram_options options_with(enum rig_kind kind, uint64_t size_bytes, int guest_memfd)
{
    struct gm_ram_options options = rig_options(kind, size_bytes);

    options.flags |= GM_RAM_GUEST_MEMFD;
    options.guest_memfd = guest_memfd;
    options.guest_memfd_offset = OFFSET;
    return options;
}

static void guest_memfd_is_kept_by_the_block(void **state)
{
    /* The caller's descriptor may be closed; the block's own is told, with its offset, and ends with the block. */
    int fd = new_memfd(FILE_BYTES);
    struct gm_ram_options options = options_with(RIG_MEMFD, BYTES, fd);
    struct gm_ram *ram = rig_make(&options);
    struct gm_ram *plain = rig_new(RIG_ANON, BYTES);
    struct stat theirs;
    struct stat ours;
    uint64_t offset = 0;
    int kept = gm_ram_guest_memfd(ram, &offset);

    (void)state;
    assert_true(kept >= 0 && kept != fd && kept != gm_ram_fd(ram));
    assert_int_equal(offset, OFFSET);
    assert_int_equal(gm_ram_guest_memfd(ram, NULL), kept);
    assert_int_equal(fcntl(kept, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fstat(fd, &theirs), 0);
    assert_int_equal(fstat(kept, &ours), 0);
    assert_int_equal(theirs.st_ino, ours.st_ino);
    close(fd);
    assert_int_equal(fstat(kept, &ours), 0);
    gm_ram_put(ram);
    assert_int_equal(fstat(kept, &ours), -1);
    assert_int_equal(gm_ram_guest_memfd(plain, &offset), -1);
    assert_int_equal(offset, 0);
    gm_ram_put(plain);
}

static void assert_refused(const struct gm_ram_options *options, int code, int id)
{
    struct gm_diag diag = {0};
    struct gm_ram *ram = NULL;

    assert_int_equal(gm_ram_new(options, &ram, &diag), code);
    assert_null(ram);
    assert_int_equal(diag.code, code);
    assert_int_equal(diag.id, id);
}

static void guest_memfd_that_does_not_fit_is_refused(void **state)
{
    /* No file, a closed one, an offset within a page or that wraps, too few bytes, a kind without memory, no flag. */
    int fd = new_memfd(FILE_BYTES);
    int ends[2];
    struct gm_ram_options good = options_with(RIG_ANON, BYTES, fd);
    struct gm_ram_options bad = good;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    bad.guest_memfd = ends[0];
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_GUEST_MEMFD);
    close(ends[0]);
    close(ends[1]);
    assert_refused(&bad, -EBADF, GM_DIAG_RAM_GUEST_MEMFD);
    bad.guest_memfd = -1;
    assert_refused(&bad, -EBADF, GM_DIAG_RAM_GUEST_MEMFD);
    bad = good;
    bad.guest_memfd_offset = OFFSET - 512;
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_GUEST_MEMFD);
    bad.guest_memfd_offset = OFFSET + PAGE;
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_GUEST_MEMFD);
    bad.guest_memfd_offset = UINT64_MAX - PAGE + 1;
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_GUEST_MEMFD);
    bad = good;
    bad.max_size_bytes = BYTES + PAGE;
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_GUEST_MEMFD);
    bad = good;
    bad.kind = GM_RAM_UNBACKED;
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_OPTIONS);
    bad = good;
    bad.flags = 0; /* forgotten: the guest's secrets would lie in shared memory */
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_OPTIONS);
    bad.guest_memfd = 0;
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_OPTIONS);
    bad = good;
    bad.flags |= 1u << 2;
    assert_refused(&bad, -EINVAL, GM_DIAG_RAM_OPTIONS);
    gm_ram_put(rig_make(&good));
    close(fd);
}

static void options_of_before_have_no_guest_memfd(void **state)
{
    /* A program that was compiled with the structure's first version gets what it got. */
    struct gm_ram_options options = rig_options(RIG_ANON, BYTES);
    struct gm_ram *ram;

    (void)state;
    options.size = offsetof(struct gm_ram_options, guest_memfd);
    options.guest_memfd = 1; /* not read */
    ram = rig_make(&options);
    assert_int_equal(gm_ram_guest_memfd(ram, NULL), -1);
    gm_ram_put(ram);
}

/* Pages that the file does not have in [first, first + count). */
static void assert_hole(int fd, uint64_t first, uint64_t count)
{
    off_t start = (off_t)(first * PAGE);

    assert_int_equal(lseek(fd, start, SEEK_HOLE), start);
    assert_true(lseek(fd, start, SEEK_DATA) == start + (off_t)(count * PAGE));
}

static void discard_of_a_half_frees_it_alone(void **state)
{
    /* For every kind: private pages go from the file, at its offset; shared ones as ever; both if none is named. */
    unsigned skipped = 0;

    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        uint64_t page = kind == RIG_HUGETLB ? HUGE : PAGE;
        int fd = full_memfd(OFFSET + 4 * page);
        uint64_t full = rig_file_pages(fd);
        struct gm_ram_options options;
        struct gm_ram *ram;
        uint64_t before;

        if (rig_lacks(kind, 4)) {
            skipped++;
            close(fd);
            continue;
        }
        options = options_with(kind, 4 * page, fd);
        ram = rig_make(&options);
        memset(gm_ram_hva(ram), 0x5a, 4 * page);
        before = rig_held_pages(kind, ram);
        /* A page of the host's, whatever the shared memory's are. */
        assert_int_equal(gm_ram_discard_half(ram, GM_RAM_HALF_PRIVATE, PAGE, PAGE, NULL), 0);
        assert_int_equal(rig_file_pages(fd), full - 1);
        assert_hole(fd, OFFSET / PAGE + 1, 1);
        assert_int_equal(rig_held_pages(kind, ram), before);
        assert_int_equal(gm_ram_discard_half(ram, GM_RAM_HALF_SHARED, page, page, NULL), 0);
        assert_int_equal(rig_file_pages(fd), full - 1);
        assert_int_equal(before - rig_held_pages(kind, ram), page / PAGE);
        assert_int_equal(gm_ram_discard(ram, 2 * page, page, NULL), 0);
        assert_int_equal(rig_file_pages(fd), full - 1 - page / PAGE);
        assert_hole(fd, (OFFSET + 2 * page) / PAGE, page / PAGE);
        assert_int_equal(before - rig_held_pages(kind, ram), 2 * page / PAGE);
        gm_ram_put(ram);
        close(fd);
    }
    rig_give_huge_back();
    print_message("%u kinds skipped\n", skipped);
}

static void discard_of_a_half_that_is_wrong_frees_nothing(void **state)
{
    /* No half, both, a block without a guest memfd, a range outside, less than a page, one that is pinned. */
    int fd = full_memfd(FILE_BYTES);
    struct gm_ram_options options = options_with(RIG_ANON, BYTES, fd);
    struct gm_ram *ram = rig_make(&options);
    struct gm_ram *plain = rig_new(RIG_ANON, BYTES);
    struct gm_diag diag = {0};

    (void)state;
    assert_int_equal(gm_ram_discard_half(ram, 0, 0, PAGE, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_RAM_OPTIONS);
    assert_int_equal(gm_ram_discard_half(ram, 3, 0, PAGE, NULL), -EINVAL);
    assert_int_equal(gm_ram_discard_half(plain, GM_RAM_HALF_SHARED, 0, PAGE, &diag), -EOPNOTSUPP);
    assert_int_equal(diag.id, GM_DIAG_RAM_GUEST_MEMFD);
    assert_int_equal(gm_ram_discard_half(ram, GM_RAM_HALF_PRIVATE, BYTES, PAGE, NULL), -EINVAL);
    assert_int_equal(gm_ram_discard_half(ram, GM_RAM_HALF_PRIVATE, 0, 512, NULL), -EINVAL);
    gm_ram_discard_disable(ram);
    assert_int_equal(gm_ram_discard_half(ram, GM_RAM_HALF_PRIVATE, 0, PAGE, NULL), -EBUSY);
    assert_int_equal(gm_ram_discard_enable(ram), 0);
    assert_int_equal(rig_file_pages(fd), FILE_BYTES / PAGE);
    gm_ram_put(plain);
    gm_ram_put(ram);
    close(fd);
}

static void shrinking_frees_private_pages_too(void **state)
{
    /* What lies past the new end goes from both halves; growing again finds neither. */
    int fd = full_memfd(FILE_BYTES);
    struct gm_ram_options options = options_with(RIG_MEMFD, BYTES, fd);
    struct gm_ram *ram;

    (void)state;
    options.max_size_bytes = BYTES;
    ram = rig_make(&options);
    assert_int_equal(gm_ram_resize(ram, 3 * PAGE, NULL), 0);
    assert_int_equal(rig_file_pages(fd), (OFFSET + 3 * PAGE) / PAGE);
    assert_int_equal(gm_ram_resize(ram, BYTES, NULL), 0);
    assert_int_equal(rig_file_pages(fd), (OFFSET + 3 * PAGE) / PAGE);
    gm_ram_put(ram);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guest_memfd_is_kept_by_the_block),
        cmocka_unit_test(guest_memfd_that_does_not_fit_is_refused),
        cmocka_unit_test(options_of_before_have_no_guest_memfd),
        cmocka_unit_test(discard_of_a_half_frees_it_alone),
        cmocka_unit_test(discard_of_a_half_that_is_wrong_frees_nothing),
        cmocka_unit_test(shrinking_frees_private_pages_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
