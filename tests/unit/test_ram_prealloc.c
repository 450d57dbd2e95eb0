/*
 * unit/test_ram_prealloc.c - making pages present: how many are, what is kept, and each way to
 * fail.
 */
#include "ram_rig.h"

#include "ram/prealloc.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#define BYTES (40 * MIB) /* more than two chunks */

static struct gm_ram_prealloc_options all(unsigned thread_count)
{
    return (struct gm_ram_prealloc_options){
        .size = sizeof(struct gm_ram_prealloc_options),
        .thread_count = thread_count,
    };
}

static void prealloc_makes_all_pages_present_and_keeps_contents(void **state)
{
    /* Of every kind, by one thread and by several. */
    unsigned skipped = 0;

    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        for (unsigned threads = 0; threads <= 3; threads += 3) {
            struct gm_ram_prealloc_options options = all(threads);
            struct gm_ram *ram;
            uint8_t *bytes;
            uint8_t fresh = rig_fresh_byte(kind, false);

            if (rig_lacks(kind, BYTES / HUGE)) {
                skipped++;
                continue;
            }
            ram = rig_new(kind, BYTES);
            bytes = gm_ram_hva(ram);
            bytes[5 * PAGE + 7] = 0x42;
            assert_int_equal(gm_ram_prealloc(ram, &options, NULL), 0);
            assert_true(rig_held_pages(kind, ram) >= BYTES / PAGE);
            assert_bytes(bytes, 5 * PAGE + 7, fresh);
            assert_int_equal(bytes[5 * PAGE + 7], 0x42);
            assert_bytes(bytes + 5 * PAGE + 8, MIB, fresh);
            gm_ram_put(ram);
        }
    }
    rig_give_huge_back();
    print_message("%u kinds skipped\n", skipped);
}

static void prealloc_of_a_range_is_widened_to_pages_and_no_further(void **state)
{
    /* Two bytes across a border are two pages. */
    struct gm_ram_prealloc_options options = all(1);
    struct gm_ram *ram = rig_new(RIG_ANON, 64 * PAGE);

    (void)state;
    assert_int_equal(gm_ram_advise(ram, GM_RAM_ADVICE_NO_HUGE, NULL), 0);
    options.offset_bytes = 10 * PAGE - 1;
    options.size_bytes = 2;
    assert_int_equal(gm_ram_prealloc(ram, &options, NULL), 0);
    assert_int_equal(rig_held_pages(RIG_ANON, ram), 2);
    options.offset_bytes = 60 * PAGE;
    options.size_bytes = 0; /* to the end */
    assert_int_equal(gm_ram_prealloc(ram, &options, NULL), 0);
    assert_int_equal(rig_held_pages(RIG_ANON, ram), 6);
    assert_int_equal(gm_ram_prealloc(ram, NULL, NULL), 0); /* all of it */
    assert_int_equal(rig_held_pages(RIG_ANON, ram), 64);
    gm_ram_put(ram);
}

/* ---- progress ---- */

struct told {
    pthread_t thread;
    unsigned calls;
    uint64_t last_bytes;
    unsigned stop_at; /* the call that says no; 0: none */
};

static bool on_progress(void *opaque, uint64_t done_bytes, uint64_t total_bytes)
{
    struct told *told = opaque;

    assert_true(pthread_equal(told->thread, pthread_self()));
    assert_int_equal(total_bytes, 4 * BYTES);
    assert_true(done_bytes > told->last_bytes && done_bytes <= total_bytes);
    told->last_bytes = done_bytes;
    told->calls++;
    return told->calls != told->stop_at;
}

static void prealloc_tells_how_far_it_is_and_ends_with_all(void **state)
{
    /* On the calling thread, rising, to the last byte. */
    (void)state;
    for (unsigned threads = 1; threads <= 4; threads++) {
        struct told told = {.thread = pthread_self()};
        struct gm_ram_prealloc_options options = all(threads);
        struct gm_ram *ram = rig_new(RIG_ANON, 4 * BYTES);

        options.progress = on_progress;
        options.opaque = &told;
        assert_int_equal(gm_ram_prealloc(ram, &options, NULL), 0);
        assert_int_equal(told.last_bytes, 4 * BYTES);
        assert_true(told.calls >= 1 && (threads > 1 || told.calls == 10));
        gm_ram_put(ram);
    }
}

static void prealloc_stops_when_it_is_told_to(void **state)
{
    /* What was made present stays; the rest is not. */
    struct told told = {.thread = pthread_self(), .stop_at = 2};
    struct gm_ram_prealloc_options options = all(1);
    struct gm_ram *ram = rig_new(RIG_ANON, 4 * BYTES);
    struct gm_diag diag = {0};

    (void)state;
    options.progress = on_progress;
    options.opaque = &told;
    assert_int_equal(gm_ram_prealloc(ram, &options, &diag), -ECANCELED);
    assert_int_equal(diag.code, -ECANCELED);
    assert_int_equal(told.calls, 2);
    assert_int_equal(rig_held_pages(RIG_ANON, ram), told.last_bytes / PAGE);
    gm_ram_put(ram);
}

/* ---- failures ---- */

static void prealloc_of_a_bad_range_is_refused(void **state)
{
    /* Nothing becomes present. */
    static const uint64_t RANGES[][2] = {
        {0, 5 * PAGE}, {4 * PAGE, 0}, {4 * PAGE, 1}, {UINT64_MAX, 2}, {PAGE, UINT64_MAX}};
    struct gm_ram *ram = rig_new(RIG_ANON, 4 * PAGE);
    struct gm_ram_prealloc_options options;

    (void)state;
    for (size_t i = 0; i < sizeof(RANGES) / sizeof(RANGES[0]); i++) {
        options = all(1);
        options.offset_bytes = RANGES[i][0];
        options.size_bytes = RANGES[i][1];
        assert_int_equal(gm_ram_prealloc(ram, &options, NULL), -EINVAL);
    }
    options = all(257);
    assert_int_equal(gm_ram_prealloc(ram, &options, NULL), -EINVAL);
    options = all(1);
    options.size = 8;
    assert_int_equal(gm_ram_prealloc(ram, &options, NULL), -EINVAL);
    assert_int_equal(rig_held_pages(RIG_ANON, ram), 0);
    gm_ram_put(ram);
}

static void prealloc_of_a_file_that_was_truncated_fails_without_a_signal(void **state)
{
    /* A touch would be SIGBUS. */
    int fd = rig_file(16 * PAGE, O_RDWR);
    struct gm_ram_options options = rig_options(RIG_ANON, 16 * PAGE);
    struct gm_ram *ram;

    (void)state;
    options.kind = GM_RAM_FILE;
    options.fd = dup(fd);
    ram = rig_make(&options);
    assert_int_equal(ftruncate(fd, 8 * (off_t)PAGE), 0);
    assert_int_equal(gm_ram_prealloc(ram, NULL, NULL), -EFAULT);
    gm_ram_put(ram);
    close(fd);
}

static void prealloc_of_the_callers_memory_that_went_fails_without_a_signal(void **state)
{
    /* The caller has unmapped what it promised to keep. */
    struct gm_ram *ram = rig_new(RIG_CALLER_PRIVATE, 16 * PAGE);
    uint8_t *bytes = gm_ram_hva(ram);

    (void)state;
    assert_int_equal(munmap(bytes + 8 * PAGE, PAGE), 0);
    assert_int_equal(gm_ram_prealloc(ram, NULL, NULL), -EFAULT);
    gm_ram_put(ram);
}

static void prealloc_of_huge_pages_that_others_took_fails_without_a_signal(void **state)
{
    /* A discarded page went to another block: making it anew would be SIGBUS for a touch. */
    struct gm_ram *ram;
    struct gm_ram *other;
    struct gm_diag diag = {0};

    (void)state;
    RIG_NEEDS_HUGE(2);
    ram = rig_new(RIG_HUGETLB, 2 * HUGE);
    memset(gm_ram_hva(ram), 1, 2 * HUGE);
    assert_int_equal(gm_ram_discard(ram, HUGE, HUGE, NULL), 0);
    other = rig_new(RIG_HUGETLB, HUGE);
    assert_int_equal(gm_ram_prealloc(ram, NULL, &diag), -ENOMEM);
    assert_non_null(strstr(diag.text, "huge"));
    gm_ram_put(other);
    assert_int_equal(gm_ram_prealloc(ram, NULL, NULL), 0);
    gm_ram_put(ram);
    rig_give_huge_back();
}

static void prealloc_of_no_memory_is_done_at_once(void **state)
{
    /* Nothing has to become present. */
    struct gm_ram *ram = rig_new(RIG_UNBACKED, (uint64_t)1 << 50);

    (void)state;
    assert_int_equal(gm_ram_prealloc(ram, NULL, NULL), 0);
    gm_ram_put(ram);
}

/* ---- without the kernel's help ---- */

static void prealloc_by_touch_makes_present_what_cannot_be_missed(void **state)
{
    /* As on kernels before 5.14: by space for the file, or by writing back; kinds that could
     * raise a signal are refused. */
    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        bool is_safe =
            kind == RIG_ANON || kind == RIG_MEMFD || kind == RIG_HUGETLB || kind == RIG_FILE_SHARED;
        struct gm_ram *ram;
        uint8_t *bytes;

        if (rig_lacks(kind, 2)) {
            continue;
        }
        ram = rig_new(kind, 2 * HUGE);
        bytes = gm_ram_hva(ram);
        bytes[PAGE] = 0x42;
        assert_int_equal(prealloc_by_touch(ram, 0, 2 * HUGE), is_safe ? 0 : -EOPNOTSUPP);
        assert_int_equal(bytes[PAGE], 0x42);
        if (is_safe) {
            assert_true(rig_held_pages(kind, ram) >= 2 * HUGE / PAGE);
            assert_bytes(bytes + 2 * PAGE, PAGE, rig_fresh_byte(kind, false));
        }
        gm_ram_put(ram);
    }
    rig_give_huge_back();
}

struct writer {
    volatile uint8_t *byte;
    atomic_uint stores; /* so far */
    atomic_bool is_over;
};

/* Its last store must never come back older, also after it has left the processor. */
static void *write_on(void *opaque)
{
    struct writer *writer = opaque;
    uintptr_t lost = 0;

    for (unsigned i = 1; !atomic_load(&writer->is_over); i++) {
        __atomic_store_n(writer->byte, (uint8_t)i, __ATOMIC_RELAXED);
        for (unsigned look = 0; look < 50; look++) {
            lost += __atomic_load_n(writer->byte, __ATOMIC_RELAXED) != (uint8_t)i;
        }
        atomic_store(&writer->stores, i);
    }
    return (void *)lost;
}

static void prealloc_by_touch_loses_no_write_of_another_thread(void **state)
{
    /* A load and a store would, now and then, put an older byte back. */
    struct gm_ram *ram = rig_new(RIG_ANON, PAGE);
    struct writer writer = {.byte = gm_ram_hva(ram)};
    pthread_t thread;
    void *lost;

    (void)state;
    atomic_init(&writer.stores, 0);
    atomic_init(&writer.is_over, false);
    assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
    while (atomic_load(&writer.stores) < 500000) {
        for (unsigned i = 0; i < 1000; i++) {
            assert_int_equal(prealloc_by_touch(ram, 0, PAGE), 0);
        }
    }
    atomic_store(&writer.is_over, true);
    assert_int_equal(pthread_join(thread, &lost), 0);
    assert_null(lost);
    gm_ram_put(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prealloc_makes_all_pages_present_and_keeps_contents),
        cmocka_unit_test(prealloc_of_a_range_is_widened_to_pages_and_no_further),
        cmocka_unit_test(prealloc_tells_how_far_it_is_and_ends_with_all),
        cmocka_unit_test(prealloc_stops_when_it_is_told_to),
        cmocka_unit_test(prealloc_of_a_bad_range_is_refused),
        cmocka_unit_test(prealloc_of_a_file_that_was_truncated_fails_without_a_signal),
        cmocka_unit_test(prealloc_of_the_callers_memory_that_went_fails_without_a_signal),
        cmocka_unit_test(prealloc_of_huge_pages_that_others_took_fails_without_a_signal),
        cmocka_unit_test(prealloc_of_no_memory_is_done_at_once),
        cmocka_unit_test(prealloc_by_touch_makes_present_what_cannot_be_missed),
        cmocka_unit_test(prealloc_by_touch_loses_no_write_of_another_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
