/* unit/test_ram.c - blocks of host memory: sizes, guards, seals, lifetime, failures. */
#include <guestmem/ram.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)

/* An allocator that counts what is alive, and fails once after @left_until_failure allocations. */
struct counting {
    int left_until_failure; /* negative: never */
    int alive;
};

static void *counting_alloc(void *opaque, size_t size_bytes)
{
    struct counting *counting = opaque;

    if (counting->left_until_failure == 0) {
        counting->left_until_failure = -1;
        return NULL;
    }
    counting->left_until_failure -= counting->left_until_failure > 0;
    counting->alive++;
    return malloc(size_bytes);
}

static void counting_free(void *opaque, void *memory)
{
    struct counting *counting = opaque;

    counting->alive--;
    free(memory);
}

static struct gm_allocator allocator_of(struct counting *counting)
{
    return (struct gm_allocator){counting_alloc, counting_free, counting};
}

static uint64_t page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct gm_ram *new_anon(uint64_t size_bytes)
{
    struct gm_ram *ram;

    assert_int_equal(gm_ram_new_anon(size_bytes, NULL, &ram, NULL), 0);
    return ram;
}

static struct gm_ram *new_memfd(uint64_t size_bytes)
{
    struct gm_ram *ram;

    assert_int_equal(gm_ram_new_memfd("test", size_bytes, NULL, &ram, NULL), 0);
    return ram;
}

/* The signal that a child dies of when it loads a byte; 0 if it lives. */
static int signal_of_touching(const volatile uint8_t *byte)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* sanitizers have handlers */
        _exit(*byte == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* Whether the process maps the byte at all. */
static bool is_mapped(const void *byte)
{
    uintptr_t at = (uintptr_t)byte & ~(uintptr_t)(page_bytes() - 1);
    unsigned char resident;

    return mincore((void *)at, page_bytes(), &resident) == 0;
}

static void ram_size_of_any_bytes_is_rounded_to_host_pages(void **state)
{
    /* A block has at least the bytes that were asked for, and whole host pages. */
    static const uint64_t sizes[] = {1, 4095, 4096, 4097, 3 * MIB - 1, 5 * MIB + 1};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t pages = (sizes[i] - 1) / page_bytes() + 1;
        struct gm_ram *blocks[3] = {new_anon(sizes[i]), new_memfd(sizes[i]), NULL};

        assert_int_equal(gm_ram_new_unbacked(sizes[i], NULL, &blocks[2], NULL), 0);
        for (int kind = 0; kind < 3; kind++) {
            assert_int_equal(gm_ram_size(blocks[kind]), pages * page_bytes());
            gm_ram_put(blocks[kind]);
        }
    }
}

static void ram_bad_size_is_refused_with_a_sentence(void **state)
{
    /* Sizes of 0 and above 2^63 are the caller's mistake, and the diagnosis says so. */
    static const uint64_t sizes[] = {0, ((uint64_t)1 << 63) + 1, UINT64_MAX};
    struct gm_ram *ram = (struct gm_ram *)&sizes;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct gm_diag diag = {0};

        assert_int_equal(gm_ram_new_anon(sizes[i], NULL, &ram, &diag), -EINVAL);
        assert_int_equal(diag.code, -EINVAL);
        assert_true(strlen(diag.text) > 0);
        assert_int_equal(gm_ram_new_memfd("x", sizes[i], NULL, &ram, NULL), -EINVAL);
        assert_int_equal(gm_ram_new_unbacked(sizes[i], NULL, &ram, NULL), -EINVAL);
    }
    assert_ptr_equal(ram, &sizes); /* untouched by failures */
}

static void ram_size_beyond_the_host_is_no_memory(void **state)
{
    /* The largest size is valid, but no host has it. */
    struct gm_ram *ram;
    struct gm_diag diag = {0};

    (void)state;
    assert_int_equal(gm_ram_new_anon((uint64_t)1 << 63, NULL, &ram, &diag), -ENOMEM);
    assert_int_equal(diag.code, -ENOMEM);
    assert_int_equal(gm_ram_new_memfd("x", (uint64_t)1 << 63, NULL, &ram, NULL), -ENOMEM);
    assert_int_equal(gm_ram_new_memfd("x", (uint64_t)1 << 62, NULL, &ram, NULL), -ENOMEM);
}

static void ram_new_block_is_zero_and_writable(void **state)
{
    /* Every byte of a new block is zero, and keeps what is stored. */
    struct gm_ram *blocks[2] = {new_anon(3 * MIB), new_memfd(3 * MIB)};

    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        uint8_t *bytes = gm_ram_hva(blocks[kind]);

        for (uint64_t i = 0; i < 3 * MIB; i++) {
            assert_int_equal(bytes[i], 0);
        }
        memset(bytes, 0x5a, 3 * MIB);
        assert_int_equal(bytes[0], 0x5a);
        assert_int_equal(bytes[3 * MIB - 1], 0x5a);
        gm_ram_put(blocks[kind]);
    }
}

static void ram_touching_a_guard_page_kills(void **state)
{
    /* The bytes just before and just after a block are nobody's. */
    static const uint64_t sizes[] = {1, 64 * 1024, 2 * MIB, 3 * MIB + 1};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct gm_ram *blocks[2] = {new_anon(sizes[i]), new_memfd(sizes[i])};

        for (int kind = 0; kind < 2; kind++) {
            const uint8_t *bytes = gm_ram_hva(blocks[kind]);
            uint64_t size_bytes = gm_ram_size(blocks[kind]);

            assert_int_equal(signal_of_touching(bytes), 0);
            assert_int_equal(signal_of_touching(bytes + size_bytes - 1), 0);
            assert_int_equal(signal_of_touching(bytes - 1), SIGSEGV);
            assert_int_equal(signal_of_touching(bytes - page_bytes()), SIGSEGV);
            assert_int_equal(signal_of_touching(bytes + size_bytes), SIGSEGV);
            assert_int_equal(signal_of_touching(bytes + size_bytes + page_bytes() - 1), SIGSEGV);
            gm_ram_put(blocks[kind]);
        }
    }
}

static void ram_block_of_2_mib_or_more_is_aligned_for_large_pages(void **state)
{
    /* Large pages need the host address to be a multiple of their size. */
    static const uint64_t sizes[] = {2 * MIB, 2 * MIB + 1, 7 * MIB, 64 * MIB};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct gm_ram *blocks[2] = {new_anon(sizes[i]), new_memfd(sizes[i])};

        for (int kind = 0; kind < 2; kind++) {
            assert_int_equal((uintptr_t)gm_ram_hva(blocks[kind]) % (2 * MIB), 0);
            gm_ram_put(blocks[kind]);
        }
    }
}

static void ram_memfd_is_shared_sealed_and_closed_on_exec(void **state)
{
    /* Who gets the descriptor sees the same bytes and cannot change the size under us. */
    struct gm_ram *ram = new_memfd(2 * 4096);
    uint8_t *bytes = gm_ram_hva(ram);
    int fd = gm_ram_fd(ram);
    struct stat status;
    uint8_t *other;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, gm_ram_size(ram));
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    other = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(other != MAP_FAILED);
    bytes[17] = 99;
    assert_int_equal(other[17], 99);
    munmap(other, 4096);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 1 << 20), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(errno, EPERM);
    gm_ram_put(ram);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
}

static void ram_memfd_name_is_checked(void **state)
{
    /* A name has at most 200 bytes and is not NULL. */
    char name[202];
    struct gm_ram *ram;

    (void)state;
    memset(name, 'n', sizeof(name));
    name[201] = '\0';
    assert_int_equal(gm_ram_new_memfd(name, 4096, NULL, &ram, NULL), -EINVAL);
    assert_int_equal(gm_ram_new_memfd(NULL, 4096, NULL, &ram, NULL), -EINVAL);
    name[200] = '\0';
    assert_int_equal(gm_ram_new_memfd(name, 4096, NULL, &ram, NULL), 0);
    gm_ram_put(ram);
    assert_int_equal(gm_ram_new_memfd("", 4096, NULL, &ram, NULL), 0);
    gm_ram_put(ram);
}

static void ram_memfd_without_descriptors_left_says_so(void **state)
{
    /* Running out of descriptors is reported as what it is, and leaks nothing. */
    struct counting counting = {.left_until_failure = -1};
    struct gm_allocator allocator = allocator_of(&counting);
    struct gm_diag diag = {0};
    struct rlimit before;
    struct rlimit none;
    struct gm_ram *ram;
    int result;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    result = gm_ram_new_memfd("x", 4096, &allocator, &ram, &diag);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(result, -EMFILE);
    assert_non_null(strstr(diag.text, "ulimit -n"));
    assert_int_equal(counting.alive, 0);
}

static void ram_memfd_above_the_file_size_limit_fails_without_a_signal(void **state)
{
    /* Growing a file past RLIMIT_FSIZE would raise SIGXFSZ, which kills; the call refuses instead. */
    struct rlimit before;
    struct rlimit small;
    struct gm_ram *ram;
    int result;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = MIB;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    result = gm_ram_new_memfd("x", 2 * MIB, NULL, &ram, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(result, -ENOMEM);
}

static void ram_unbacked_has_a_size_but_no_memory(void **state)
{
    /* A block for planning may be larger than any host. */
    struct gm_ram *ram;

    (void)state;
    assert_int_equal(gm_ram_new_unbacked((uint64_t)1 << 63, NULL, &ram, NULL), 0);
    assert_int_equal(gm_ram_size(ram), (uint64_t)1 << 63);
    assert_null(gm_ram_hva(ram));
    assert_int_equal(gm_ram_fd(ram), -1);
    gm_ram_put(ram);
}

static void ram_last_put_unmaps_everything(void **state)
{
    /* Memory lives as long as a reference, and then goes together with its guards. */
    struct counting counting = {.left_until_failure = -1};
    struct gm_allocator allocator = allocator_of(&counting);
    struct gm_ram *ram;
    uint8_t *bytes;

    (void)state;
    assert_int_equal(gm_ram_new_anon(5 * MIB, &allocator, &ram, NULL), 0);
    bytes = gm_ram_hva(ram);
    gm_ram_get(ram);
    gm_ram_put(ram);
    bytes[4 * MIB] = 1;
    assert_true(is_mapped(bytes - 1));
    assert_true(is_mapped(bytes + 5 * MIB));
    gm_ram_put(ram);
    assert_false(is_mapped(bytes - 1));
    assert_false(is_mapped(bytes));
    assert_false(is_mapped(bytes + 5 * MIB - 1));
    assert_false(is_mapped(bytes + 5 * MIB));
    assert_int_equal(counting.alive, 0);
    gm_ram_put(NULL);
}

static void ram_failed_allocation_leaves_nothing_behind(void **state)
{
    /* Each allocation of each constructor fails once. */
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        int result = -ENOMEM;
        int next_fd = dup(0);
        int after_fd;

        close(next_fd);
        for (int n = 0; result != 0; n++) {
            struct counting counting = {.left_until_failure = n};
            struct gm_allocator allocator = allocator_of(&counting);
            struct gm_ram *ram = NULL;

            result = kind == 0   ? gm_ram_new_anon(MIB, &allocator, &ram, NULL)
                     : kind == 1 ? gm_ram_new_memfd("x", MIB, &allocator, &ram, NULL)
                                 : gm_ram_new_unbacked(MIB, &allocator, &ram, NULL);
            assert_true(result == 0 || result == -ENOMEM);
            assert_true(n > 0 || result == -ENOMEM);
            gm_ram_put(ram);
            assert_int_equal(counting.alive, 0);
        }
        after_fd = dup(0);
        close(after_fd);
        assert_int_equal(after_fd, next_fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ram_size_of_any_bytes_is_rounded_to_host_pages),
        cmocka_unit_test(ram_bad_size_is_refused_with_a_sentence),
        cmocka_unit_test(ram_size_beyond_the_host_is_no_memory),
        cmocka_unit_test(ram_new_block_is_zero_and_writable),
        cmocka_unit_test(ram_touching_a_guard_page_kills),
        cmocka_unit_test(ram_block_of_2_mib_or_more_is_aligned_for_large_pages),
        cmocka_unit_test(ram_memfd_is_shared_sealed_and_closed_on_exec),
        cmocka_unit_test(ram_memfd_name_is_checked),
        cmocka_unit_test(ram_memfd_without_descriptors_left_says_so),
        cmocka_unit_test(ram_memfd_above_the_file_size_limit_fails_without_a_signal),
        cmocka_unit_test(ram_unbacked_has_a_size_but_no_memory),
        cmocka_unit_test(ram_last_put_unmaps_everything),
        cmocka_unit_test(ram_failed_allocation_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
