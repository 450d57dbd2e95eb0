/*
 * unit/test_listener_order.c - who is told what, and when: sequences written by hand from
 * guestmem/listener.h.
 */
#include "unit/picture.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define JOURNAL_BYTES 8192

struct board {
    struct gm_map *map;
    struct gm_region *root;
    struct gm_region *ram;
    struct gm_region *bar;
    struct gm_space *space;
    struct gm_space *empty;
    char journal[JOURNAL_BYTES]; /* what was told since it was last read, a word each */
};

/* A listener with a letter for a name, which writes down all that it is told. */
struct scribe {
    struct board *board;
    char name;
    int prepare_result;
    int apply_result;
    int undo_result;
    struct gm_listener *listener;
};

static void write_down(struct scribe *scribe, const char *what)
{
    size_t used = strlen(scribe->board->journal);

    snprintf(scribe->board->journal + used, JOURNAL_BYTES - used, "%s%c%s", used > 0 ? " " : "",
             scribe->name, what);
}

static void write_range(struct scribe *scribe, const char *what, const struct gm_section *section)
{
    char text[80];

    snprintf(text, sizeof(text), "%s%llx", what, (unsigned long long)section->gpa);
    write_down(scribe, text);
}

static int on_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                      size_t count, struct gm_diag *diag)
{
    struct scribe *scribe = opaque;
    char text[40];

    (void)space;
    (void)changes;
    (void)diag;
    snprintf(text, sizeof(text), "?%zu", count);
    write_down(scribe, text);
    return scribe->prepare_result;
}

static void on_begin(void *opaque)
{
    write_down(opaque, "(");
}

static void on_commit(void *opaque)
{
    write_down(opaque, ")");
}

static void on_abort(void *opaque)
{
    write_down(opaque, "x");
}

static void on_del(void *opaque, const struct gm_section *section)
{
    write_range(opaque, "-", section);
}

static void on_nop(void *opaque, const struct gm_section *section)
{
    write_range(opaque, "=", section);
}

static void on_add(void *opaque, const struct gm_section *section)
{
    write_range(opaque, "+", section);
}

static void write_log(struct scribe *scribe, const char *what, const struct gm_section *section,
                      uint32_t old_mask, uint32_t new_mask)
{
    char text[80];

    snprintf(text, sizeof(text), "%s%llx:%x>%x", what, (unsigned long long)section->gpa, old_mask,
             new_mask);
    write_down(scribe, text);
}

static void on_log_start(void *opaque, const struct gm_section *section, uint32_t old_mask,
                         uint32_t new_mask)
{
    write_log(opaque, "l", section, old_mask, new_mask);
}

static void on_log_stop(void *opaque, const struct gm_section *section, uint32_t old_mask,
                        uint32_t new_mask)
{
    write_log(opaque, "s", section, old_mask, new_mask);
}

static void on_eventfd_del(void *opaque, const struct gm_section *section,
                           const struct gm_eventfd *eventfd)
{
    char text[40];

    (void)section;
    snprintf(text, sizeof(text), "e-%llx", (unsigned long long)eventfd->offset);
    write_down(opaque, text);
}

static void on_eventfd_add(void *opaque, const struct gm_section *section,
                           const struct gm_eventfd *eventfd)
{
    char text[40];

    (void)section;
    snprintf(text, sizeof(text), "e+%llx", (unsigned long long)eventfd->offset);
    write_down(opaque, text);
}

static void write_coalesced(struct scribe *scribe, const char *what,
                            const struct gm_coalesced *coalesced)
{
    char text[80];

    snprintf(text, sizeof(text), "%s%llx-%llx", what, (unsigned long long)coalesced->gpa,
             (unsigned long long)coalesced->last);
    write_down(scribe, text);
}

static void on_coalesced_del(void *opaque, const struct gm_section *section,
                             const struct gm_coalesced *coalesced)
{
    (void)section;
    write_coalesced(opaque, "c-", coalesced);
}

static void on_coalesced_add(void *opaque, const struct gm_section *section,
                             const struct gm_coalesced *coalesced)
{
    (void)section;
    write_coalesced(opaque, "c+", coalesced);
}

static int on_apply(void *opaque, struct gm_diag *diag)
{
    struct scribe *scribe = opaque;

    (void)diag;
    write_down(scribe, "!");
    return scribe->apply_result;
}

static int on_undo(void *opaque)
{
    struct scribe *scribe = opaque;

    write_down(scribe, "u");
    return scribe->undo_result;
}

static void on_settle(void *opaque)
{
    write_down(opaque, ".");
}

static void on_global_start(void *opaque)
{
    write_down(opaque, "G");
}

static void on_global_stop(void *opaque)
{
    write_down(opaque, "g");
}

static int on_log_sync(void *opaque, const struct gm_section *section)
{
    char text[80];

    snprintf(text, sizeof(text), "y%llx-%llx", (unsigned long long)section->gpa,
             (unsigned long long)section->last);
    write_down(opaque, text);
    return 0;
}

static const struct gm_listener_ops full = {
    .size = sizeof(full),
    .prepare = on_prepare,
    .begin = on_begin,
    .commit = on_commit,
    .abort = on_abort,
    .region_del = on_del,
    .region_nop = on_nop,
    .region_add = on_add,
    .log_start = on_log_start,
    .log_stop = on_log_stop,
    .eventfd_del = on_eventfd_del,
    .eventfd_add = on_eventfd_add,
    .coalesced_del = on_coalesced_del,
    .coalesced_add = on_coalesced_add,
    .apply = on_apply,
    .undo = on_undo,
    .settle = on_settle,
    .log_sync = on_log_sync,
    .log_global_start = on_global_start,
    .log_global_stop = on_global_stop,
};

/* Without what stands around the changes. */
static const struct gm_listener_ops changes_only = {
    .size = sizeof(changes_only),
    .region_del = on_del,
    .region_nop = on_nop,
    .region_add = on_add,
    .log_start = on_log_start,
    .log_stop = on_log_stop,
    .eventfd_del = on_eventfd_del,
    .eventfd_add = on_eventfd_add,
    .coalesced_del = on_coalesced_del,
    .coalesced_add = on_coalesced_add,
    .log_global_start = on_global_start,
    .log_global_stop = on_global_stop,
};

/* ---- the board: RAM at 0, a BAR at 1000 in the space; another space is empty ---- */

static int board_begin(void **state)
{
    struct board *board = calloc(1, sizeof(*board));

    assert_int_equal(gm_map_new(NULL, &board->map, NULL), 0);
    assert_int_equal(gm_region_new_container(board->map, "root", GM_SIZE_2_64, &board->root), 0);
    board->ram = picture_child(
        board->map, board->root,
        (struct gm_region_options){.kind = GM_REGION_RAM, .name = "ram", .size_bytes = 0x3000});
    board->bar = picture_child(board->map, board->root,
                               (struct gm_region_options){.kind = GM_REGION_MMIO,
                                                          .name = "bar",
                                                          .size_bytes = 0x1000,
                                                          .addr = 0x1000,
                                                          .priority = 1});
    assert_int_equal(gm_space_new(board->map, "space", board->root, &board->space, NULL), 0);
    assert_int_equal(gm_space_new(board->map, "empty", NULL, &board->empty, NULL), 0);
    *state = board;
    return 0;
}

static int board_end(void **state)
{
    struct board *board = *state;

    gm_region_put(board->root);
    gm_map_free(board->map);
    free(board);
    return 0;
}

static void enter(struct scribe *scribe, struct gm_space *space, int32_t priority,
                  const struct gm_listener_ops *ops)
{
    assert_int_equal(gm_listener_register(scribe->board->map, space, priority, ops, scribe,
                                          &scribe->listener, NULL),
                     0);
}

static void leave(struct scribe *scribe)
{
    assert_int_equal(gm_listener_unregister(scribe->listener, NULL), 0);
}

/* What was told has to be @expected, and is forgotten. */
static void require_told(struct board *board, const char *expected)
{
    assert_string_equal(board->journal, expected);
    board->journal[0] = '\0';
}

static struct gm_txn *begin(struct board *board)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(board->map, &txn), 0);
    return txn;
}

static void commit(struct gm_txn *txn)
{
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

static int eventfd_fd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* ---- tests ---- */

static void listener_is_replayed_the_present_view(void **state)
{
    /* As adds when it comes, as dels when it goes; of an empty space it hears nothing. */
    struct board *board = *state;
    struct scribe a = {board, 'a', 0, 0, 0, NULL};
    struct scribe n = {board, 'n', 0, 0, 0, NULL};

    enter(&a, board->space, 0, &full);
    require_told(board, "a?3 a( a+0 a+1000 a+2000 a! a. a)");
    enter(&n, board->empty, 0, &full);
    require_told(board, "");
    leave(&n);
    require_told(board, "");
    leave(&a);
    require_told(board, "a?3 a( a-0 a-1000 a-2000 a! a. a)");
}

static void replay_tells_eventfds_and_logs_with_their_ranges(void **state)
{
    /* An eventfd after its range and before it goes; log_start after the add, no log_stop with the del. */
    struct board *board = *state;
    struct scribe a = {board, 'a', 0, 0, 0, NULL};
    struct gm_eventfd eventfd = {.offset = 0x20, .size_bytes = 4, .fd = eventfd_fd()};
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_txn_add_eventfd(txn, board->bar, &eventfd), 0);
    assert_int_equal(gm_txn_set_log(txn, board->ram, 1, true), 0);
    commit(txn);
    enter(&a, board->space, 0, &full);
    require_told(board, "a?6 a( a+0 al0:0>2 a+1000 ae+1020 a+2000 al2000:0>2 a! a. a)");
    leave(&a);
    require_told(board, "a?4 a( a-0 ae-1020 a-1000 a-2000 a! a. a)");
    close(eventfd.fd);
}

static void removed_ranges_are_told_before_any_other(void **state)
{
    /* Moving the BAR down: dels ascending, then adds and what stayed, ascending. */
    struct board *board = *state;
    struct scribe a = {board, 'a', 0, 0, 0, NULL};
    struct gm_txn *txn;

    enter(&a, board->space, 0, &changes_only);
    require_told(board, "a+0 a+1000 a+2000");
    txn = begin(board);
    assert_int_equal(gm_txn_set_addr(txn, board->bar, 0x800), 0);
    commit(txn);
    require_told(board, "a-0 a-1000 a-2000 a+0 a+800 a+1800");
    leave(&a);
}

static void priorities_decide_who_hears_first(void **state)
{
    /* Ascending for all but removal, where it descends; equals as registered, or the other way round. */
    struct board *board = *state;
    struct scribe high = {board, 'h', 0, 0, 0, NULL};
    struct scribe first = {board, 'f', 0, 0, 0, NULL};
    struct scribe second = {board, 's', 0, 0, 0, NULL};

    enter(&high, NULL, 7, &full);
    enter(&first, board->space, -2, &full);
    enter(&second, board->space, -2, &full);
    board->journal[0] = '\0';
    assert_int_equal(gm_region_set_enabled(board->bar, false, NULL), 0);
    require_told(board, "f?4 s?4 h?4 f( s( h( "
                        "h-0 s-0 f-0 h-1000 s-1000 f-1000 h-2000 s-2000 f-2000 "
                        "f+0 s+0 h+0 f! s! h! h. s. f. f) s) h)");
    leave(&second);
    leave(&first);
    leave(&high);
}

static void log_stop_descends_and_log_start_ascends(void **state)
{
    /* One client begins, another ends: both are told with the old and the new mask. */
    struct board *board = *state;
    struct scribe low = {board, 'l', 0, 0, 0, NULL};
    struct scribe high = {board, 'h', 0, 0, 0, NULL};
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_region_set_enabled(board->bar, false, NULL), 0);
    assert_int_equal(gm_txn_set_log(txn, board->ram, 0, true), 0);
    commit(txn);
    enter(&low, board->space, 1, &changes_only);
    enter(&high, board->space, 2, &changes_only);
    board->journal[0] = '\0';
    txn = begin(board);
    assert_int_equal(gm_txn_set_log(txn, board->ram, 0, false), 0);
    assert_int_equal(gm_txn_set_log(txn, board->ram, 2, true), 0);
    commit(txn);
    require_told(board, "l=0 h=0 ll0:1>4 hl0:1>4 hs0:1>4 ls0:1>4");
    leave(&high);
    leave(&low);
}

static void eventfd_goes_before_its_range_and_comes_after_it(void **state)
{
    /* Moved with its BAR; told highest first when it goes, lowest first when it comes. */
    struct board *board = *state;
    struct scribe low = {board, 'l', 0, 0, 0, NULL};
    struct scribe high = {board, 'h', 0, 0, 0, NULL};
    struct gm_eventfd eventfd = {.offset = 8, .size_bytes = 2, .fd = eventfd_fd()};
    struct gm_txn *txn;

    assert_int_equal(gm_region_set_enabled(board->ram, false, NULL), 0);
    enter(&low, board->space, 1, &changes_only);
    enter(&high, board->space, 2, &changes_only);
    board->journal[0] = '\0';
    txn = begin(board);
    assert_int_equal(gm_txn_add_eventfd(txn, board->bar, &eventfd), 0);
    commit(txn);
    require_told(board, "l=1000 h=1000 le+1008 he+1008");
    txn = begin(board);
    assert_int_equal(gm_txn_set_addr(txn, board->bar, 0x5000), 0);
    commit(txn);
    require_told(board, "he-1008 le-1008 h-1000 l-1000 l+5000 h+5000 le+5008 he+5008");
    txn = begin(board);
    assert_int_equal(gm_txn_del_eventfd(txn, board->bar, &eventfd), 0);
    commit(txn);
    require_told(board, "he-5008 le-5008 l=5000 h=5000");
    leave(&high);
    leave(&low);
    close(eventfd.fd);
}

static void coalesced_range_goes_before_its_range_and_comes_after_it(void **state)
{
    /* Before its region's eventfds when it comes, behind them when it goes; highest first when it goes. */
    struct board *board = *state;
    struct scribe low = {board, 'l', 0, 0, 0, NULL};
    struct scribe high = {board, 'h', 0, 0, 0, NULL};
    struct gm_eventfd eventfd = {.offset = 8, .size_bytes = 2, .fd = eventfd_fd()};
    struct gm_txn *txn;

    assert_int_equal(gm_region_set_enabled(board->ram, false, NULL), 0);
    enter(&low, board->space, 1, &changes_only);
    enter(&high, board->space, 2, &changes_only);
    board->journal[0] = '\0';
    txn = begin(board);
    assert_int_equal(gm_txn_add_coalesced(txn, board->bar, 0x100, 0x80), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, board->bar, &eventfd), 0);
    commit(txn);
    require_told(board, "l=1000 h=1000 lc+1100-117f hc+1100-117f le+1008 he+1008");
    txn = begin(board);
    assert_int_equal(gm_txn_set_addr(txn, board->bar, 0x5000), 0);
    commit(txn);
    require_told(board, "he-1008 le-1008 hc-1100-117f lc-1100-117f h-1000 l-1000 "
                        "l+5000 h+5000 lc+5100-517f hc+5100-517f le+5008 he+5008");
    txn = begin(board);
    assert_int_equal(gm_txn_del_coalesced(txn, board->bar, 0x100, 0x80), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, board->bar, 0, GM_COALESCED_WHOLE), 0);
    commit(txn);
    require_told(board, "hc-5100-517f lc-5100-517f l=5000 h=5000 lc+5000-5fff hc+5000-5fff");
    leave(&high);
    require_told(board, "he-5008 hc-5000-5fff h-5000");
    leave(&low);
    close(eventfd.fd);
}

static void coalesced_range_is_clipped_to_what_shows(void **state)
{
    /* What lies over it cuts it in two; a part without any of it has none; what is hidden is not told. */
    struct board *board = *state;
    struct scribe a = {board, 'a', 0, 0, 0, NULL};
    struct gm_region *over;
    struct gm_txn *txn;

    over = picture_child(board->map, board->root,
                         (struct gm_region_options){.kind = GM_REGION_MMIO,
                                                    .name = "over",
                                                    .size_bytes = 0x10,
                                                    .addr = 0x1800,
                                                    .priority = 2});
    assert_int_equal(gm_region_set_enabled(board->ram, false, NULL), 0);
    enter(&a, board->space, 0, &changes_only);
    board->journal[0] = '\0';
    txn = begin(board);
    assert_int_equal(gm_txn_add_coalesced(txn, board->bar, 0x700, 0x200), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, board->bar, 0x100, 1), 0);
    commit(txn);
    require_told(board, "a=1000 ac+1700-17ff ac+1100-1100 a=1800 a=1810 ac+1810-18ff");
    assert_int_equal(gm_region_set_enabled(over, false, NULL), 0);
    require_told(board, "ac-1700-17ff ac-1100-1100 a-1000 a-1800 ac-1810-18ff a-1810 "
                        "a+1000 ac+1700-18ff ac+1100-1100");
    leave(&a);
}

static void coalesced_ranges_that_cannot_be_are_refused(void **state)
{
    /* When it is recorded: no callbacks, no size. At the commit: outside, overlapping, not there; nothing is told. */
    struct board *board = *state;
    struct scribe a = {board, 'a', 0, 0, 0, NULL};
    static const struct {
        uint64_t offset;
        gm_size_t size;
        bool deletes;
        int expected;
    } cases[] = {
        {0xfff, 2, false, -EINVAL},
        {0x1000, 1, false, -EINVAL},
        {UINT64_MAX, 2, false, -EINVAL},
        {1, GM_COALESCED_WHOLE, false, -EINVAL},
        {0x10f, 1, false, -EEXIST},
        {0, 0x1000, false, -EEXIST},
        {0, GM_COALESCED_WHOLE, false, -EEXIST},
        {0x100, 0xf, true, -ENOENT},
        {0x110, 0x10, true, -ENOENT},
    };
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_txn_add_coalesced(txn, board->ram, 0, 1), -EINVAL);
    assert_int_equal(gm_txn_add_coalesced(txn, board->root, 0, 1), -EINVAL);
    assert_int_equal(gm_txn_add_coalesced(txn, board->bar, 0, 0), -EINVAL);
    assert_int_equal(gm_txn_add_coalesced(txn, board->bar, 0, GM_SIZE_2_64 + 1), -EINVAL);
    assert_int_equal(gm_txn_add_coalesced(txn, board->bar, 0x100, 0x10), 0);
    commit(txn);
    enter(&a, board->space, 0, &changes_only);
    board->journal[0] = '\0';
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        txn = begin(board);
        assert_int_equal(
            cases[i].deletes
                ? gm_txn_del_coalesced(txn, board->bar, cases[i].offset, cases[i].size)
                : gm_txn_add_coalesced(txn, board->bar, cases[i].offset, cases[i].size),
            0);
        assert_int_equal(gm_txn_commit(txn, NULL), cases[i].expected);
        require_told(board, "");
    }
    leave(&a);
}

static void global_logging_is_told_to_all(void **state)
{
    /* With the first client and after the last one, also where nothing is shown. */
    struct board *board = *state;
    struct scribe a = {board, 'a', 0, 0, 0, NULL};
    struct scribe n = {board, 'n', 0, 0, 0, NULL};
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_region_set_enabled(board->bar, false, NULL), 0);
    enter(&n, board->empty, 5, &changes_only);
    enter(&a, board->space, 0, &changes_only);
    board->journal[0] = '\0';
    assert_int_equal(gm_txn_set_log_all(txn, 3, true), 0);
    commit(txn);
    require_told(board, "aG nG a=0 al0:0>8");
    txn = begin(board);
    assert_int_equal(gm_txn_set_log_all(txn, 4, true), 0);
    commit(txn);
    require_told(board, "a=0 al0:8>18");
    txn = begin(board);
    assert_int_equal(gm_txn_set_log_all(txn, 3, false), 0);
    assert_int_equal(gm_txn_set_log_all(txn, 4, false), 0);
    commit(txn);
    require_told(board, "a=0 as0:18>0 ng ag");
    leave(&a);
    leave(&n);
}

static void listener_that_cannot_prepare_aborts_those_before_it(void **state)
{
    /* In reverse, and not itself; nobody is told begin. */
    struct board *board = *state;
    struct scribe low = {board, 'l', 0, 0, 0, NULL};
    struct scribe middle = {board, 'm', 0, 0, 0, NULL};
    struct scribe high = {board, 'h', 0, 0, 0, NULL};
    struct scribe last = {board, 'z', 0, 0, 0, NULL};

    enter(&low, board->space, 1, &full);
    enter(&middle, board->space, 2, &full);
    enter(&high, board->space, 3, &full);
    enter(&last, board->space, 4, &full);
    board->journal[0] = '\0';
    high.prepare_result = -ENOTBLK;
    assert_int_equal(gm_region_set_enabled(board->bar, false, NULL), -ENOTBLK);
    require_told(board, "l?4 m?4 h?4 mx lx");
    require_picture(board->space, "0-fff ram+0, 1000-1fff bar+0, 2000-2fff ram+2000");
    high.prepare_result = 0;
    leave(&last);
    leave(&high);
    leave(&middle);
    leave(&low);
}

static void listener_that_cannot_apply_is_undone_with_those_before_it(void **state)
{
    /* Undo in reverse from the one that failed; then abort, in reverse, for all. */
    struct board *board = *state;
    struct scribe low = {board, 'l', 0, 0, 0, NULL};
    struct scribe middle = {board, 'm', 0, 0, 0, NULL};
    struct scribe high = {board, 'h', 0, 0, 0, NULL};

    assert_int_equal(gm_region_set_enabled(board->ram, false, NULL), 0);
    enter(&low, board->space, 1, &full);
    enter(&middle, board->space, 2, &full);
    enter(&high, board->space, 3, &full);
    board->journal[0] = '\0';
    middle.apply_result = -ENOTBLK;
    assert_int_equal(gm_region_set_enabled(board->bar, false, NULL), -ENOTBLK);
    require_told(board, "l?1 m?1 h?1 l( m( h( h-1000 m-1000 l-1000 l! m! mu lu hx mx lx");
    assert_false(gm_map_is_broken(board->map));
    require_picture(board->space, "1000-1fff bar+0");
    middle.apply_result = 0;
    leave(&high);
    leave(&middle);
    leave(&low);
}

static void listener_of_a_space_that_did_not_change_hears_nothing(void **state)
{
    /* Nor one whose space shares nothing with the edit. */
    struct board *board = *state;
    struct scribe n = {board, 'n', 0, 0, 0, NULL};
    struct scribe o = {board, 'o', 0, 0, 0, NULL};
    struct gm_region *other = picture_region(
        board->map,
        (struct gm_region_options){.kind = GM_REGION_MMIO, .name = "other", .size_bytes = 0x1000});
    struct gm_space *space;

    assert_int_equal(gm_space_new(board->map, "other", other, &space, NULL), 0);
    enter(&n, board->empty, 0, &full);
    enter(&o, space, 0, &full);
    board->journal[0] = '\0';
    assert_int_equal(gm_region_set_enabled(board->bar, false, NULL), 0);
    require_told(board, "");
    leave(&o);
    leave(&n);
    gm_region_put(other);
}

static void spaces_that_share_a_view_are_told_each_by_itself(void **state)
{
    /* One edit, one view, two spaces: one after the other, in the order of their making. */
    struct board *board = *state;
    struct scribe all = {board, 'a', 0, 0, 0, NULL};
    struct gm_space *twin;

    assert_int_equal(gm_space_new(board->map, "twin", board->root, &twin, NULL), 0);
    assert_int_equal(gm_region_set_enabled(board->ram, false, NULL), 0);
    enter(&all, NULL, 0, &full);
    require_told(board, "a?1 a?1 a( a+1000 a+1000 a! a. a)");
    assert_int_equal(gm_region_set_enabled(board->bar, false, NULL), 0);
    require_told(board, "a?1 a?1 a( a-1000 a-1000 a! a. a)");
    assert_int_equal(gm_space_free(twin, NULL), 0);
    leave(&all);
}

static void listener_of_all_spaces_hears_them_come_and_go(void **state)
{
    /* A new space is told as adds, one that ends as dels, one that gets another root as what differs. */
    struct board *board = *state;
    struct scribe all = {board, 'a', 0, 0, 0, NULL};
    struct gm_space *late;
    struct gm_txn *txn;

    enter(&all, NULL, 0, &changes_only);
    board->journal[0] = '\0';
    assert_int_equal(gm_space_new(board->map, "late", board->bar, &late, NULL), 0);
    require_told(board, "a+1000");
    txn = begin(board);
    assert_int_equal(gm_txn_set_root(txn, late, board->root), 0);
    commit(txn);
    require_told(board, "a+0 a=1000 a+2000");
    assert_int_equal(gm_space_free(late, NULL), 0);
    require_told(board, "a-0 a-1000 a-2000");
    leave(&all);
}

static void log_sync_goes_to_the_sections_that_show_the_bytes(void **state)
{
    /* Cut to the bytes asked for, in each range that shows them. */
    struct board *board = *state;
    struct scribe a = {board, 'a', 0, 0, 0, NULL};

    enter(&a, board->space, 0, &full);
    board->journal[0] = '\0';
    assert_int_equal(gm_region_log_sync(board->ram, 0x800, 0x2000), 0);
    require_told(board, "ay800-fff ay2000-27ff");
    assert_int_equal(gm_region_log_sync(board->ram, 0x1000, 0x1000), 0);
    assert_int_equal(gm_region_log_sync(board->ram, 0, 0), 0);
    require_told(board, "");
    assert_int_equal(gm_region_log_sync(board->bar, 0, 1), -EINVAL);
    leave(&a);
}

#define BOARD_TEST(test) cmocka_unit_test_setup_teardown(test, board_begin, board_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOARD_TEST(listener_is_replayed_the_present_view),
        BOARD_TEST(replay_tells_eventfds_and_logs_with_their_ranges),
        BOARD_TEST(removed_ranges_are_told_before_any_other),
        BOARD_TEST(priorities_decide_who_hears_first),
        BOARD_TEST(log_stop_descends_and_log_start_ascends),
        BOARD_TEST(eventfd_goes_before_its_range_and_comes_after_it),
        BOARD_TEST(coalesced_range_goes_before_its_range_and_comes_after_it),
        BOARD_TEST(coalesced_range_is_clipped_to_what_shows),
        BOARD_TEST(coalesced_ranges_that_cannot_be_are_refused),
        BOARD_TEST(global_logging_is_told_to_all),
        BOARD_TEST(listener_that_cannot_prepare_aborts_those_before_it),
        BOARD_TEST(listener_that_cannot_apply_is_undone_with_those_before_it),
        BOARD_TEST(listener_of_a_space_that_did_not_change_hears_nothing),
        BOARD_TEST(spaces_that_share_a_view_are_told_each_by_itself),
        BOARD_TEST(listener_of_all_spaces_hears_them_come_and_go),
        BOARD_TEST(log_sync_goes_to_the_sections_that_show_the_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
