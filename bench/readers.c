/*
 * bench/readers.c - readers beside a thread that commits.
 *
 *     snapshot/N          take a view and give it back
 *     section/N           the view of a reader of one's own (gm_reader), which is the hot way
 *     sections/N          the same in two threads, and a lookup in it
 *     sections-commits/N  ... while a third thread commits 1,000 times a second
 *     readers/N           loads of 8 bytes in two threads, in N ranges
 *     readers-commits/N   the same, while a third thread commits 1,000 times a second
 */
#include "board.h"
#include "threads.h"

#define COMMIT_NS 1000000

static const struct gm_attrs nobody;

static void snapshot(void *context, uint64_t count)
{
    struct ranges *ranges = context;

    for (uint64_t i = 0; i < count; i++) {
        struct gm_view *view = gm_view_get(ranges->space);

        keep((uintptr_t)view);
        gm_view_put(view);
    }
}

static void section(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    struct gm_reader reader;

    gm_reader_init(&reader, ranges->space);
    for (uint64_t i = 0; i < count; i++) {
        keep((uintptr_t)gm_reader_view(&reader));
    }
    gm_reader_fini(&reader);
}

static void section_find(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    struct gm_section found;
    struct gm_reader reader;

    gm_reader_init(&reader, ranges->space);
    for (uint64_t i = 0; i < count; i++) {
        need(gm_view_find(gm_reader_view(&reader), ranges->addresses[i % ADDRESSES], &found),
             "find");
        keep(found.gpa);
    }
    gm_reader_fini(&reader);
}

static void load(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    uint64_t value = 0;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_load(ranges->space, ranges->addresses[i % ADDRESSES], 8, GM_ORDER_LITTLE, &value,
                     nobody) == GM_ACCESS_OK,
             "load");
        keep(value);
    }
}

/* A device's registers, behind the RAM, come and go. */
struct committer {
    pthread_t thread;
    struct gm_region *bar;
    bool stop; /* atomic */
};

static void *commit(void *argument)
{
    const struct timespec pause = {.tv_nsec = COMMIT_NS};
    struct committer *committer = argument;
    bool enabled = true;

    while (!__atomic_load_n(&committer->stop, __ATOMIC_RELAXED)) {
        enabled = !enabled;
        need(gm_region_set_enabled(committer->bar, enabled, NULL) == 0, "commit");
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static double time_snapshot(uint64_t count, uint64_t unused)
{
    (void)unused;
    return time_loop(snapshot, ranges_of(count), 8 * ADDRESSES);
}

static double time_section(uint64_t count, uint64_t unused)
{
    (void)unused;
    return time_loop(section, ranges_of(count), 8 * ADDRESSES);
}

/* @body in two threads, beside commits or not. */
static double time_beside(void (*body)(void *context, uint64_t count), uint64_t count, bool commits)
{
    struct ranges *ranges = ranges_of(count);
    struct committer committer = {0};
    double ns;

    if (commits) {
        committer.bar = new_region(ranges->map, (struct gm_region_options){.kind = GM_REGION_MMIO,
                                                                           .size_bytes = 0x1000,
                                                                           .addr = 1ull << 40,
                                                                           .io = &bar_io});
        add_region(ranges->root, committer.bar);
        need(pthread_create(&committer.thread, NULL, commit, &committer) == 0, "thread");
    }
    ns = time_threads(2, body, ranges, 4 * ADDRESSES);
    if (commits) {
        __atomic_store_n(&committer.stop, true, __ATOMIC_RELAXED);
        pthread_join(committer.thread, NULL);
        need(gm_region_del(ranges->root, committer.bar, NULL) == 0, "del");
        gm_region_put(committer.bar);
    }
    return ns;
}

static double time_readers(uint64_t count, uint64_t commits)
{
    return time_beside(load, count, commits != 0);
}

static double time_sections(uint64_t count, uint64_t commits)
{
    return time_beside(section_find, count, commits != 0);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < BOARD_COUNTS; i++) {
        add_case("snapshot/%u", time_snapshot, board_counts[i], 0);
        add_case("section/%u", time_section, board_counts[i], 0);
        add_case("sections/%u", time_sections, board_counts[i], false);
        add_case("sections-commits/%u", time_sections, board_counts[i], true);
        add_case("readers/%u", time_readers, board_counts[i], false);
        add_case("readers-commits/%u", time_readers, board_counts[i], true);
    }
    return serve_cases(argc, argv);
}
