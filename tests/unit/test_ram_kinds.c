/* unit/test_ram_kinds.c - blocks of every kind: what they are, and each option that is refused. */
#include "ram_rig.h"

#include "model/faults.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- what is made ---- */

static void kinds_have_their_bytes_and_their_answers(void **state)
{
    /* Zeroes, or the file's bytes; writable to the last one; page size and descriptor of the
     * backing. */
    unsigned skipped = 0;

    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        bool has_fd = kind == RIG_MEMFD || kind == RIG_HUGETLB || rig_is_file(kind);
        struct gm_ram *ram;
        uint8_t *bytes;

        if (rig_lacks(kind, 2)) {
            skipped++;
            continue;
        }
        ram = rig_new(kind, 2 * HUGE);
        bytes = gm_ram_hva(ram);
        assert_int_equal(gm_ram_size(ram), 2 * HUGE);
        assert_int_equal(gm_ram_page_bytes(ram), kind == RIG_HUGETLB ? HUGE : PAGE);
        assert_int_equal(gm_ram_fd(ram) >= 0, has_fd);
        assert_bytes(bytes, 2 * HUGE, rig_fresh_byte(kind, false));
        memset(bytes, 0x3c, 2 * HUGE);
        assert_bytes(bytes, 2 * HUGE, 0x3c);
        gm_ram_put(ram);
    }
    rig_give_huge_back();
    print_message("%u kinds skipped\n", skipped);
}

/* The signal that a child dies of when it loads a byte; 0 if it lives. */
static int signal_of_touching(const volatile uint8_t *byte)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* sanitizers have handlers */
        signal(SIGBUS, SIG_DFL);
        _exit(*byte == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void kinds_that_we_map_have_guard_pages(void **state)
{
    /* On both sides, also of huge pages and files, and of what may still grow. */
    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        struct gm_ram_options options;
        struct gm_ram *ram;
        uint8_t *bytes;

        if (rig_is_caller(kind) || rig_lacks(kind, 1)) {
            continue;
        }
        options = rig_options(kind, HUGE);
        options.max_size_bytes = rig_is_file(kind) ? 0 : 4 * HUGE;
        ram = rig_make(&options);
        bytes = gm_ram_hva(ram);
        assert_int_equal((uintptr_t)bytes % HUGE, 0);
        assert_int_equal(signal_of_touching(bytes - 1), SIGSEGV);
        assert_int_equal(signal_of_touching(bytes + HUGE), SIGSEGV);
        assert_int_equal(signal_of_touching(bytes + HUGE - 1), 0);
        gm_ram_put(ram);
    }
    rig_give_huge_back();
}

static void shared_memory_is_shared_with_children(void **state)
{
    /* A child's store is seen where the kind says so, and only there. */
    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        bool is_shared = kind == RIG_SHARED || kind == RIG_MEMFD || kind == RIG_FILE_SHARED ||
                         kind == RIG_CALLER_SHARED;
        struct gm_ram *ram;
        volatile uint8_t *bytes;
        pid_t child;
        int status;

        if (kind == RIG_HUGETLB) { /* as a memfd, and scarce */
            continue;
        }
        ram = rig_new(kind, PAGE);
        bytes = gm_ram_hva(ram);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            bytes[5] = 0x77;
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(bytes[5], is_shared ? 0x77 : rig_fresh_byte(kind, false));
        gm_ram_put(ram);
    }
}

static void file_blocks_show_a_part_of_the_file(void **state)
{
    /* From the offset on; a shared one writes to the file, and survives the caller's descriptor. */
    int fd = rig_file(4 * PAGE, O_RDWR);
    struct gm_ram_options options = rig_options(RIG_ANON, 2 * PAGE);
    struct gm_ram *ram;
    uint8_t *bytes;
    uint8_t seen;
    int kept = dup(fd);

    (void)state;
    assert_int_equal(pwrite(fd, "begin", 5, (off_t)PAGE), 5);
    options.kind = GM_RAM_FILE;
    options.fd = fd;
    options.file_offset = PAGE;
    ram = rig_make(&options); /* closes it */
    bytes = gm_ram_hva(ram);
    assert_memory_equal(bytes, "begin", 5);
    assert_int_equal(fcntl(gm_ram_fd(ram), F_GETFD), FD_CLOEXEC);
    bytes[2 * PAGE - 1] = 0x99;
    assert_int_equal(pread(kept, &seen, 1, (off_t)(3 * PAGE) - 1), 1);
    assert_int_equal(seen, 0x99);
    assert_int_equal(gm_ram_discard(ram, 0, PAGE, NULL), 0); /* of the file's second page */
    assert_int_equal(pread(kept, &seen, 1, (off_t)PAGE), 1);
    assert_int_equal(seen, 0);
    assert_int_equal(pread(kept, &seen, 1, 0), 1);
    assert_int_equal(seen, FILE_BYTE);
    gm_ram_put(ram);
    close(kept);
}

static void file_that_ends_within_the_last_page_is_enough(void **state)
{
    /* The block is whole pages; bytes past the file's end are zero. */
    struct gm_ram_options options = rig_options(RIG_FILE_SHARED, PAGE + 100);
    struct gm_ram *ram = rig_make(&options);
    uint8_t *bytes = gm_ram_hva(ram);

    (void)state;
    assert_int_equal(gm_ram_size(ram), 2 * PAGE);
    assert_bytes(bytes, PAGE + 100, FILE_BYTE);
    assert_bytes(bytes + PAGE + 100, PAGE - 100, 0);
    gm_ram_put(ram);
}

static void caller_memory_is_released_once_after_the_last_reference(void **state)
{
    /* Not by the block, nor while somebody holds it. */
    struct gm_ram_options options = rig_options(RIG_CALLER_PRIVATE, 4 * PAGE);
    unsigned released = 0;
    struct gm_ram *ram;

    (void)state;
    options.opaque = &released;
    ram = rig_make(&options);
    assert_ptr_equal(gm_ram_hva(ram), options.memory);
    gm_ram_get(ram);
    gm_ram_put(ram);
    assert_int_equal(released, 0);
    gm_ram_put(ram);
    assert_int_equal(released, 1);
}

static void huge_pages_are_reserved_at_the_making(void **state)
{
    /* A block takes its pages from the pool before any is touched; a second one is refused with
     * the numbers. */
    struct gm_ram_options options;
    struct gm_ram *first;
    struct gm_ram *second;
    struct gm_diag diag = {0};
    int next_fd = dup(0);
    int after_fd;

    (void)state;
    close(next_fd);
    RIG_NEEDS_HUGE(2);
    first = rig_new(RIG_HUGETLB, HUGE + 1);
    assert_int_equal(gm_ram_size(first), 2 * HUGE);
    options = rig_options(RIG_HUGETLB, HUGE);
    assert_int_equal(gm_ram_new(&options, &second, &diag), -ENOMEM);
    assert_non_null(strstr(diag.text, "hugepages-2048kB"));
    memset(gm_ram_hva(first), 1, 2 * HUGE); /* no SIGBUS */
    gm_ram_put(first);
    second = rig_make(&options);
    gm_ram_put(second);
    rig_give_huge_back();
    after_fd = dup(0);
    close(after_fd);
    assert_int_equal(after_fd, next_fd);
}

static void huge_pages_that_the_host_lacks_are_refused(void **state)
{
    /* No pool, or no such size: an error and a sentence, and never a signal later. */
    struct gm_ram_options options = rig_options(RIG_HUGETLB, HUGE);
    struct gm_ram *ram;
    struct gm_diag diag = {0};

    (void)state;
    if (rig_reserve_huge(0)) {
        assert_int_equal(gm_ram_new(&options, &ram, &diag), -ENOMEM);
        assert_non_null(strstr(diag.text, "nr_hugepages"));
        rig_give_huge_back();
    }
    options.page_bytes = 8 * MIB; /* no x86 has these */
    assert_int_equal(gm_ram_new(&options, &ram, &diag), -EOPNOTSUPP);
    assert_non_null(strstr(diag.text, "8192 KiB"));
    options.page_bytes = 1024 * MIB; /* nobody has reserved these, or the processor lacks them */
    if (rig_read_number("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages") <= 0) {
        int rc = gm_ram_new(&options, &ram, &diag);

        assert_true(rc == -ENOMEM || rc == -EOPNOTSUPP);
        assert_non_null(strstr(diag.text, "1048576"));
    }
}

static void memfd_that_may_be_resized_takes_no_seal(void **state)
{
    /* Nor may a peer that has the descriptor add one that would stop us. */
    struct gm_ram_options options = rig_options(RIG_MEMFD, 2 * PAGE);
    struct gm_ram *ram;

    (void)state;
    options.max_size_bytes = 8 * PAGE;
    ram = rig_make(&options);
    assert_int_equal(fcntl(gm_ram_fd(ram), F_GET_SEALS) & (F_SEAL_GROW | F_SEAL_SHRINK), 0);
    assert_int_equal(fcntl(gm_ram_fd(ram), F_ADD_SEALS, F_SEAL_GROW), -1);
    assert_int_equal(errno, EPERM);
    gm_ram_put(ram);
}

/* ---- what is refused ---- */

/* Nothing is made, the sentence is there, and nobody's memory is released. */
static void assert_refused(const struct gm_ram_options *options, int expected)
{
    struct gm_diag diag = {0};
    struct gm_ram *ram = NULL;
    int rc = gm_ram_new(options, &ram, &diag);

    if (rc != expected) {
        fail_msg("%d (%s), not %d", rc, diag.text, expected);
    }
    assert_null(ram);
    assert_int_equal(diag.code, expected);
    assert_true(diag.text[0] != '\0');
}

static void options_that_no_kind_has_are_refused(void **state)
{
    /* One wrong option each. */
    struct gm_ram_options options;

    (void)state;
    for (enum rig_kind kind = 0; kind <= RIG_UNBACKED; kind++) {
        const struct gm_ram_options good = rig_options(kind, 4 * PAGE);
        bool is_file = rig_is_file(kind);

        options = good;
        options.size = offsetof(struct gm_ram_options, guest_memfd) -
                       1; /* the first version had all before it */
        assert_refused(&options, -EINVAL);
        options = good;
        options.kind = 0;
        assert_refused(&options, -EINVAL);
        options.kind = GM_RAM_UNBACKED + 1;
        assert_refused(&options, -EINVAL);
        options = good;
        options.size_bytes = 0;
        assert_refused(&options, -EINVAL);
        options.size_bytes = ((uint64_t)1 << 63) + PAGE;
        assert_refused(&options, -EINVAL);
        options = good;
        options.flags |= 1u << 7;
        assert_refused(&options, -EINVAL);
        options = good;
        options.flags = GM_RAM_PRIVATE;
        if (!is_file) {
            assert_refused(&options, -EINVAL);
        }
        options = good;
        options.max_size_bytes = 3 * PAGE;
        assert_refused(&options, -EINVAL);
        options.max_size_bytes = is_file || rig_is_caller(kind) ? 8 * PAGE : UINT64_MAX;
        assert_refused(&options, -EINVAL);
        options = good;
        options.page_bytes = kind == RIG_HUGETLB || rig_is_caller(kind) ? 3 * PAGE : PAGE;
        assert_refused(&options, -EINVAL);
        options = good;
        options.memory = options.memory == NULL ? (void *)&options : NULL;
        assert_refused(&options, -EINVAL);
        options = good;
        options.numa_policy = GM_NUMA_BIND; /* on no node */
        assert_refused(&options, -EINVAL);
        options.numa_policy = GM_NUMA_DEFAULT;
        options.numa_nodes[0] = 1;
        assert_refused(&options, -EINVAL);
        options = good;
        options.advice = GM_RAM_ADVICE_DUMP | GM_RAM_ADVICE_NO_DUMP;
        assert_refused(&options, -EINVAL);
        options.advice = 1u << 31;
        assert_refused(&options, -EINVAL);
        if (rig_is_caller(kind)) {
            munmap(good.memory, 4 * PAGE);
        }
        if (is_file) {
            close(good.fd);
        }
    }
    assert_refused(NULL, -EINVAL);
}

static void files_that_do_not_do_are_refused(void **state)
{
    /* Too short, open for too little, no file at all. */
    struct gm_ram_options options = rig_options(RIG_FILE_SHARED, 4 * PAGE);
    int fd = options.fd;
    int pipe_fds[2];
    int directory = open("/tmp", O_RDONLY | O_DIRECTORY);

    (void)state;
    options.size_bytes = 4 * PAGE + 1;
    assert_refused(&options, -EINVAL);
    options.size_bytes = 4 * PAGE;
    options.file_offset = PAGE;
    assert_refused(&options, -EINVAL);
    options.file_offset = UINT64_MAX & ~(PAGE - 1);
    assert_refused(&options, -EINVAL);
    options.size_bytes = PAGE;
    options.file_offset = 512;
    assert_refused(&options, -EINVAL);
    options.file_offset = 0;
    options.fd = -1;
    assert_refused(&options, -EBADF);
    options.fd = directory;
    options.flags = GM_RAM_PRIVATE;
    assert_refused(&options, -EINVAL);
    options.flags = 0;
    assert_int_equal(pipe(pipe_fds), 0);
    options.fd = pipe_fds[0];
    options.flags = GM_RAM_PRIVATE;
    assert_refused(&options, -EINVAL);
    options.fd = rig_file(PAGE, O_RDONLY);
    options.flags = 0;
    assert_refused(&options, -EACCES);
    close(options.fd);
    options.fd = rig_file(PAGE, O_WRONLY);
    options.flags = GM_RAM_PRIVATE;
    assert_refused(&options, -EACCES);
    close(options.fd);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    close(directory);
    close(fd);
}

static void memory_of_the_callers_that_does_not_do_is_refused(void **state)
{
    /* Not whole pages, not mapped throughout, not writable; and then it is not released. */
    unsigned released = 0;
    struct gm_ram_options options = rig_options(RIG_CALLER_PRIVATE, 4 * PAGE);
    uint8_t *bytes = options.memory;

    (void)state;
    options.opaque = &released;
    options.memory = bytes + 1;
    assert_refused(&options, -EINVAL);
    options.memory = bytes;
    options.size_bytes = PAGE + 1;
    assert_refused(&options, -EINVAL);
    options.size_bytes = 4 * PAGE;
    assert_int_equal(mprotect(bytes + PAGE, PAGE, PROT_READ), 0);
    assert_refused(&options, -EACCES);
    assert_int_equal(mprotect(bytes + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(munmap(bytes + 3 * PAGE, PAGE), 0);
    assert_refused(&options, -EINVAL);
    options.memory = (void *)(UINTPTR_MAX & ~(PAGE - 1));
    assert_refused(&options, -EINVAL);
    assert_int_equal(released, 0);
    munmap(bytes, 3 * PAGE);
}

static void failed_allocations_leave_nothing_behind(void **state)
{
    /* Of every kind, each allocation once: no memory, no descriptor, and the caller's memory is
     * not released. */
    (void)state;
    for (enum rig_kind kind = 0; kind <= RIG_UNBACKED; kind++) {
        struct gm_ram_options options;
        struct faults faults = {0};
        struct gm_allocator allocator = faults_allocator(&faults);
        unsigned released = 0;
        int rc = -ENOMEM;
        int next_fd;
        int after_fd;

        if (kind == RIG_HUGETLB) { /* as a memfd */
            continue;
        }
        options = rig_options(kind, 4 * PAGE);
        options.allocator = &allocator;
        options.opaque = &released;
        next_fd = dup(0);
        close(next_fd);
        for (unsigned n = 1; rc != 0; n++) {
            struct gm_ram *ram = NULL;

            faults_arm(&faults, n);
            rc = gm_ram_new(&options, &ram, NULL);
            assert_true(rc == -ENOMEM || (rc == 0 && n > 1));
            assert_int_equal(released, 0);
            gm_ram_put(ram);
            assert_int_equal(faults_live(&faults), 0);
        }
        after_fd = dup(0);
        close(after_fd);
        assert_int_equal(after_fd, next_fd);
        assert_int_equal(released, rig_is_caller(kind));
        if (options.fd >= 0) {
            close(options.fd);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_have_their_bytes_and_their_answers),
        cmocka_unit_test(kinds_that_we_map_have_guard_pages),
        cmocka_unit_test(shared_memory_is_shared_with_children),
        cmocka_unit_test(file_blocks_show_a_part_of_the_file),
        cmocka_unit_test(file_that_ends_within_the_last_page_is_enough),
        cmocka_unit_test(caller_memory_is_released_once_after_the_last_reference),
        cmocka_unit_test(huge_pages_are_reserved_at_the_making),
        cmocka_unit_test(huge_pages_that_the_host_lacks_are_refused),
        cmocka_unit_test(memfd_that_may_be_resized_takes_no_seal),
        cmocka_unit_test(options_that_no_kind_has_are_refused),
        cmocka_unit_test(files_that_do_not_do_are_refused),
        cmocka_unit_test(memory_of_the_callers_that_does_not_do_is_refused),
        cmocka_unit_test(failed_allocations_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
