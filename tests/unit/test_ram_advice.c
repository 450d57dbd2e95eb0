/*
 * unit/test_ram_advice.c - what the kernel was advised, as /proc/self/smaps and children tell;
 * and NUMA nodes.
 */
#include "ram_rig.h"

#include <sys/wait.h>
#ifdef GM_HAVE_NUMA
#include <numaif.h>
#endif

/* Has the mapping that begins or lies at @address this one of smaps' VmFlags? */
static bool has_flag(const void *address, const char *flag)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char wanted[8];
    char line[512];
    bool is_within = false;
    bool has = false;

    assert_non_null(file);
    snprintf(wanted, sizeof(wanted), " %s ", flag);
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long start;
        unsigned long end;
        char rest;

        if (sscanf(line, "%lx-%lx%c", &start, &end, &rest) == 3) {
            is_within = (uintptr_t)address >= start && (uintptr_t)address < end;
        } else if (is_within && strncmp(line, "VmFlags:", 8) == 0) {
            has = strstr(line + 8, wanted) != NULL;
        }
    }
    fclose(file);
    return has;
}

static bool is_private(enum rig_kind kind)
{
    return kind == RIG_ANON || kind == RIG_CALLER_PRIVATE;
}

static bool takes_huge(enum rig_kind kind)
{
    return kind != RIG_HUGETLB && !rig_is_file(kind) && kind != RIG_UNBACKED;
}

struct row {
    uint32_t advice;
    uint32_t opposite;
    const char *flag; /* that the advice sets */
    bool (*takes)(enum rig_kind kind);
};

static bool any_memory(enum rig_kind kind)
{
    return kind != RIG_UNBACKED;
}

static const struct row ROWS[] = {
    {GM_RAM_ADVICE_HUGE, GM_RAM_ADVICE_NO_HUGE, "hg", takes_huge},
    {GM_RAM_ADVICE_NO_HUGE, GM_RAM_ADVICE_HUGE, "nh", takes_huge},
    {GM_RAM_ADVICE_MERGE, GM_RAM_ADVICE_NO_MERGE, "mg", is_private},
    {GM_RAM_ADVICE_NO_DUMP, GM_RAM_ADVICE_DUMP, "dd", any_memory},
    {GM_RAM_ADVICE_NO_FORK, GM_RAM_ADVICE_FORK, "dc", any_memory},
    {GM_RAM_ADVICE_WIPE_ON_FORK, GM_RAM_ADVICE_KEEP_ON_FORK, "wf", is_private},
};

static void advice_is_what_the_kernel_has_of_each_kind(void **state)
{
    /* At the making and later, and its opposite takes it back; kinds that do not take it say so. */
    (void)state;
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); i++) {
        const struct row *row = &ROWS[i];

        for (enum rig_kind kind = 0; kind <= RIG_UNBACKED; kind++) {
            struct gm_ram_options options;
            struct gm_diag diag = {0};
            struct gm_ram *ram;

            if (rig_lacks(kind, 2)) {
                continue;
            }
            ram = rig_new(kind, HUGE);
            if (!row->takes(kind)) {
                assert_int_equal(gm_ram_advise(ram, row->advice, &diag), -EOPNOTSUPP);
                assert_true(diag.text[0] != '\0');
                gm_ram_put(ram);
                continue;
            }
            assert_false(has_flag(gm_ram_hva(ram), row->flag));
            assert_int_equal(gm_ram_advise(ram, row->advice, NULL), 0);
            assert_true(has_flag(gm_ram_hva(ram), row->flag));
            assert_int_equal(gm_ram_advise(ram, row->opposite, NULL), 0);
            assert_false(has_flag(gm_ram_hva(ram), row->flag));
            gm_ram_put(ram);
            options = rig_options(kind, HUGE);
            options.advice = row->advice;
            ram = rig_make(&options);
            assert_true(has_flag(gm_ram_hva(ram), row->flag));
            gm_ram_put(ram);
        }
    }
    rig_give_huge_back();
}

static void advice_that_is_refused_takes_back_the_rest(void **state)
{
    /* All of it, or none: what was advised before stays. */
    struct gm_ram *ram = rig_new(RIG_MEMFD, HUGE);
    const uint32_t both = GM_RAM_ADVICE_NO_DUMP | GM_RAM_ADVICE_NO_FORK;

    (void)state;
    assert_int_equal(gm_ram_advise(ram, both | GM_RAM_ADVICE_MERGE, NULL), -EOPNOTSUPP);
    assert_false(has_flag(gm_ram_hva(ram), "dd"));
    assert_false(has_flag(gm_ram_hva(ram), "dc"));
    assert_int_equal(gm_ram_advise(ram, both, NULL), 0);
    assert_true(has_flag(gm_ram_hva(ram), "dd"));
    assert_true(has_flag(gm_ram_hva(ram), "dc"));
    gm_ram_put(ram);

    /* The caller's memory is a file's, mapped privately: the kernel refuses only the second of
     * these. */
    struct gm_ram_options options = rig_options(RIG_CALLER_PRIVATE, HUGE);
    int fd = rig_file(HUGE, O_RDWR);

    assert_ptr_equal(
        mmap(options.memory, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0),
        options.memory);
    ram = rig_make(&options);
    close(fd);
    assert_int_equal(gm_ram_advise(ram, GM_RAM_ADVICE_NO_FORK, NULL), 0);
    assert_int_equal(gm_ram_advise(ram, GM_RAM_ADVICE_NO_DUMP | GM_RAM_ADVICE_WIPE_ON_FORK, NULL),
                     -EOPNOTSUPP);
    assert_false(has_flag(gm_ram_hva(ram), "dd"));
    assert_true(has_flag(gm_ram_hva(ram), "dc"));
    gm_ram_put(ram);
}

static void advice_that_contradicts_itself_is_refused(void **state)
{
    /* Both of a pair, or bits that mean nothing. */
    struct gm_ram *ram = rig_new(RIG_ANON, HUGE);

    (void)state;
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); i++) {
        assert_int_equal(gm_ram_advise(ram, ROWS[i].advice | ROWS[i].opposite, NULL), -EINVAL);
    }
    assert_int_equal(gm_ram_advise(ram, GM_RAM_ADVICE_KEEP_ON_FORK << 1, NULL), -EINVAL);
    assert_int_equal(gm_ram_advise(ram, 0, NULL), 0);
    gm_ram_put(ram);
}

static void advice_follows_what_a_block_grows_by(void **state)
{
    /* New memory is advised as the old was, last. */
    struct gm_ram_options options = rig_options(RIG_MEMFD, HUGE);
    struct gm_ram *ram;
    uint8_t *bytes;

    (void)state;
    options.max_size_bytes = 4 * HUGE;
    options.advice = GM_RAM_ADVICE_NO_DUMP;
    ram = rig_make(&options);
    bytes = gm_ram_hva(ram);
    assert_int_equal(gm_ram_advise(ram, GM_RAM_ADVICE_NO_FORK, NULL), 0);
    assert_int_equal(gm_ram_resize(ram, 2 * HUGE, NULL), 0);
    assert_true(has_flag(bytes + HUGE, "dd"));
    assert_true(has_flag(bytes + HUGE, "dc"));
    assert_int_equal(gm_ram_advise(ram, GM_RAM_ADVICE_DUMP, NULL), 0);
    assert_int_equal(gm_ram_resize(ram, 3 * HUGE, NULL), 0);
    assert_false(has_flag(bytes + 2 * HUGE, "dd"));
    assert_true(has_flag(bytes + 2 * HUGE, "dc"));
    gm_ram_put(ram);
}

static void wipe_on_fork_gives_children_zeroes(void **state)
{
    /* What the advice is for. */
    struct gm_ram *ram = rig_new(RIG_ANON, PAGE);
    volatile uint8_t *bytes = gm_ram_hva(ram);
    pid_t child;
    int status;

    (void)state;
    bytes[3] = 9;
    assert_int_equal(gm_ram_advise(ram, GM_RAM_ADVICE_WIPE_ON_FORK, NULL), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(bytes[3]);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(bytes[3], 9);
    gm_ram_put(ram);
}

/* ---- NUMA ---- */

static void numa_policy_is_the_memorys_or_refused(void **state)
{
    /* With libnuma the kernel tells the policy and the node back; without, or of a node that is
     * not there, an error. */
    struct gm_diag diag = {0};
    struct gm_ram *ram;

    (void)state;
    for (enum rig_kind kind = 0; kind <= RIG_UNBACKED; kind++) {
        struct gm_ram_options options;
        int rc;

        if (rig_lacks(kind, 1)) {
            continue;
        }
        options = rig_options(kind, HUGE);
        options.max_size_bytes = kind == RIG_MEMFD ? 2 * HUGE : 0;
        options.numa_policy = GM_NUMA_BIND;
        options.numa_nodes[0] = 1;
        rc = gm_ram_new(&options, &ram, &diag);
        if (rig_is_file(kind) || kind == RIG_UNBACKED) {
            assert_int_equal(rc, -EINVAL);
            if (options.fd >= 0) {
                close(options.fd);
            }
            continue;
        }
#ifdef GM_HAVE_NUMA
        if (rc == 0) {
            unsigned long nodes[GM_NUMA_NODES_MAX / 64] = {0};
            uint8_t *bytes = gm_ram_hva(ram);
            int mode = -1;

            assert_int_equal(get_mempolicy(&mode, nodes, GM_NUMA_NODES_MAX, bytes, MPOL_F_ADDR), 0);
            assert_int_equal(mode, MPOL_BIND);
            assert_int_equal(nodes[0], 1);
            bytes[0] = 1;
            if (kind == RIG_MEMFD) {
                assert_int_equal(gm_ram_resize(ram, 2 * HUGE, NULL), 0);
                mode = -1;
                assert_int_equal(
                    get_mempolicy(&mode, nodes, GM_NUMA_NODES_MAX, bytes + HUGE, MPOL_F_ADDR), 0);
                assert_int_equal(mode, MPOL_BIND);
            }
            gm_ram_put(ram);
            options = rig_options(kind, HUGE);
            options.numa_policy = GM_NUMA_INTERLEAVE;
            options.numa_nodes[15] = (uint64_t)1 << 63; /* a node that no kernel has */
            assert_int_equal(gm_ram_new(&options, &ram, &diag), -EINVAL);
            assert_non_null(strstr(diag.text, "has_memory"));
        } else {
            assert_int_equal(rc, -EOPNOTSUPP); /* a kernel without NUMA */
        }
#else
        assert_int_equal(rc, -EOPNOTSUPP);
        assert_non_null(strstr(diag.text, "libnuma"));
#endif
        if (rig_is_caller(kind)) { /* of the block that was not made */
            munmap(options.memory, HUGE);
        }
    }
    rig_give_huge_back();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advice_is_what_the_kernel_has_of_each_kind),
        cmocka_unit_test(advice_that_is_refused_takes_back_the_rest),
        cmocka_unit_test(advice_that_contradicts_itself_is_refused),
        cmocka_unit_test(advice_follows_what_a_block_grows_by),
        cmocka_unit_test(wipe_on_fork_gives_children_zeroes),
        cmocka_unit_test(numa_policy_is_the_memorys_or_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
