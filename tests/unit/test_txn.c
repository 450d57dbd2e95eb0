/* unit/test_txn.c - transactions: nesting, what an abort drops, errors that change nothing, re-entry. */
#include "unit/picture.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct board {
    struct gm_map *map;
    struct gm_region *root;
    struct gm_region *a;
    struct gm_region *b;
    struct gm_region *box;
    struct gm_space *space;
};

/* "a" and "b" are attached; "box" is not. */
static int board_begin(void **state)
{
    static struct board board;

    assert_int_equal(gm_map_new(NULL, &board.map, NULL), 0);
    assert_int_equal(gm_region_new_container(board.map, "root", GM_SIZE_2_64, &board.root), 0);
    board.a = picture_region(
        board.map,
        (struct gm_region_options){.kind = GM_REGION_RAM, .name = "a", .size_bytes = 0x1000});
    board.b = picture_region(
        board.map, (struct gm_region_options){
                       .kind = GM_REGION_MMIO, .name = "b", .size_bytes = 0x1000, .addr = 0x1000});
    assert_int_equal(gm_region_new_container(board.map, "box", 0x4000, &board.box), 0);
    assert_int_equal(gm_region_add(board.root, board.a, NULL), 0);
    assert_int_equal(gm_region_add(board.root, board.b, NULL), 0);
    assert_int_equal(gm_space_new(board.map, "space", board.root, &board.space, NULL), 0);
    *state = &board;
    return 0;
}

static int board_end(void **state)
{
    struct board *board = *state;

    gm_region_put(board->a);
    gm_region_put(board->b);
    gm_region_put(board->box);
    gm_region_put(board->root);
    gm_map_free(board->map);
    return 0;
}

#define AS_IT_WAS "0-fff a+0, 1000-1fff b+0"

static struct gm_txn *begin(struct board *board)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(board->map, &txn), 0);
    return txn;
}

static struct gm_map_stats stats_of(struct board *board)
{
    struct gm_map_stats stats;

    gm_map_stats(board->map, &stats);
    return stats;
}

/* ---- shapes ---- */

static void edits_are_seen_at_the_commit_and_all_at_once(void **state)
{
    /* Recording does nothing; the commit swaps two regions in one step. */
    struct board *board = *state;
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_txn_set_addr(txn, board->a, 0x1000), 0);
    assert_int_equal(gm_txn_set_addr(txn, board->b, 0), 0);
    require_picture(board->space, AS_IT_WAS);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    require_picture(board->space, "0-fff b+0, 1000-1fff a+0");
}

static void aborted_transaction_does_nothing(void **state)
{
    /* Nor does it hold the regions that it named. */
    struct board *board = *state;
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_txn_set_enabled(txn, board->a, false), 0);
    gm_txn_abort(txn);
    gm_txn_abort(NULL);
    require_picture(board->space, AS_IT_WAS);
    assert_int_equal(stats_of(board).failed_commits, 0);
}

static void inner_level_aborted_drops_its_edits_alone(void **state)
{
    /* Two levels deep: what the outer ones recorded before and after stays. */
    struct board *board = *state;
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_txn_set_addr(txn, board->a, 0x4000), 0);
    assert_int_equal(gm_txn_nest(txn), 0);
    assert_int_equal(gm_txn_set_enabled(txn, board->b, false), 0);
    assert_int_equal(gm_txn_nest(txn), 0);
    assert_int_equal(gm_txn_set_size(txn, board->b, 0x800), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    gm_txn_abort(txn);
    require_picture(board->space, AS_IT_WAS);
    assert_int_equal(gm_txn_set_addr(txn, board->b, 0x8000), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    require_picture(board->space, "4000-4fff a+0, 8000-8fff b+0");
}

static void inner_level_committed_leaves_its_edits_to_the_outer_one(void **state)
{
    /* Nothing happens before the outermost end; aborting that drops the inner edits too. */
    struct board *board = *state;
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_txn_nest(txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, board->a, 0x4000), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    require_picture(board->space, AS_IT_WAS);
    gm_txn_abort(txn);
    require_picture(board->space, AS_IT_WAS);
}

static void transaction_without_edits_commits(void **state)
{
    /* It renders nothing and tells nobody. */
    struct board *board = *state;
    struct gm_map_stats before = stats_of(board);

    assert_int_equal(gm_txn_commit(begin(board), NULL), 0);
    assert_int_equal(stats_of(board).commits, before.commits + 1);
    assert_int_equal(stats_of(board).rendered_views, before.rendered_views);
}

static void edit_that_changes_nothing_renders_nothing(void **state)
{
    /* Enabling what is enabled, and what nobody shows. */
    struct board *board = *state;
    struct gm_map_stats before = stats_of(board);

    assert_int_equal(gm_region_set_enabled(board->a, true, NULL), 0);
    assert_int_equal(gm_region_set_enabled(board->box, false, NULL), 0);
    assert_int_equal(stats_of(board).rendered_views, before.rendered_views);
}

/* ---- errors ---- */

/* A commit of one good edit and what @txn holds already fails with @error, and nothing has changed. */
static void require_failure(struct board *board, struct gm_txn *txn, int error)
{
    struct gm_map_stats before = stats_of(board);
    struct gm_region_state region;
    struct gm_diag diag = {0};

    assert_int_equal(gm_txn_commit(txn, &diag), error);
    assert_int_equal(diag.code, error);
    assert_true(diag.text[0] != '\0');
    assert_int_equal(stats_of(board).failed_commits, before.failed_commits + 1);
    assert_int_equal(stats_of(board).commits, before.commits);
    require_picture(board->space, AS_IT_WAS);
    gm_region_state(board->a, &region);
    assert_true(region.addr == 0 && region.size == 0x1000 && region.enabled);
    assert_ptr_equal(region.parent, board->root);
}

static struct gm_txn *begin_with_a_good_edit(struct board *board)
{
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_txn_set_addr(txn, board->a, 0x7000), 0);
    assert_int_equal(gm_txn_set_enabled(txn, board->a, false), 0);
    return txn;
}

static void child_that_has_a_parent_cannot_be_added(void **state)
{
    /* -EBUSY, also for the same parent again. */
    struct board *board = *state;
    struct gm_txn *txn = begin_with_a_good_edit(board);

    assert_int_equal(gm_txn_add(txn, board->box, board->b), 0);
    require_failure(board, txn, -EBUSY);
    txn = begin_with_a_good_edit(board);
    assert_int_equal(gm_txn_add(txn, board->root, board->b), 0);
    require_failure(board, txn, -EBUSY);
}

static void child_that_is_not_there_cannot_be_removed(void **state)
{
    /* -ENOENT, also if it is another's child. */
    struct board *board = *state;
    struct gm_txn *txn = begin_with_a_good_edit(board);

    assert_int_equal(gm_txn_del(txn, board->root, board->box), 0);
    require_failure(board, txn, -ENOENT);
    txn = begin_with_a_good_edit(board);
    assert_int_equal(gm_txn_del(txn, board->box, board->b), 0);
    require_failure(board, txn, -ENOENT);
}

static void region_cannot_be_its_own_ancestor(void **state)
{
    /* -ELOOP: below itself, and below its own child. */
    struct board *board = *state;
    struct gm_txn *txn = begin_with_a_good_edit(board);

    assert_int_equal(gm_txn_add(txn, board->box, board->box), 0);
    require_failure(board, txn, -ELOOP);
    txn = begin_with_a_good_edit(board);
    assert_int_equal(gm_txn_add(txn, board->a, board->box), 0);
    assert_int_equal(gm_txn_del(txn, board->root, board->a), 0);
    assert_int_equal(gm_txn_add(txn, board->box, board->a), 0);
    require_failure(board, txn, -ELOOP);
}

static void region_cannot_outgrow_its_block(void **state)
{
    /* -EINVAL at commit for a block that has memory; past 2^64 it is not even recorded. */
    struct board *board = *state;
    struct gm_region *region;
    struct gm_ram *ram;
    struct gm_txn *txn;

    assert_int_equal(gm_ram_new_anon(0x1000, NULL, &ram, NULL), 0);
    assert_int_equal(gm_region_new_ram(board->map, "small", ram, &region), 0);
    txn = begin_with_a_good_edit(board);
    assert_int_equal(gm_txn_set_size(txn, region, 0x1001), 0);
    require_failure(board, txn, -EINVAL);
    txn = begin(board);
    assert_int_equal(gm_txn_set_size(txn, board->b, GM_SIZE_2_64 + 1), -EINVAL);
    assert_int_equal(gm_txn_set_size(txn, board->b, GM_SIZE_2_64), 0);
    gm_txn_abort(txn);
    gm_region_put(region);
    gm_ram_put(ram);
}

static void count_release(void *opaque)
{
    (*(int *)opaque)++;
}

static void child_is_made_in_its_parent_or_not_at_all(void **state)
{
    /* One call; what is wrong with either half is said, and then nothing is released. */
    struct board *board = *state;
    struct gm_map_stats before = stats_of(board);
    struct gm_region *alias;
    struct gm_region *child = NULL;
    struct gm_diag diag = {0};
    int released = 0;
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_RESERVATION,
                                        .name = "child",
                                        .size_bytes = 0x1000,
                                        .addr = 0x4000,
                                        .opaque = &released,
                                        .release = count_release};

    assert_int_equal(gm_region_new_alias(board->map, "alias", board->a, 0, 0x1000, &alias), 0);
    assert_int_equal(gm_region_new_child(alias, &options, &child, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_EDIT_REFUSED);
    options.kind = GM_REGION_ALIAS;
    assert_int_equal(gm_region_new_child(board->root, &options, &child, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_REGION_TARGET);
    gm_map_quiesce(board->map);
    assert_true(child == NULL && released == 0);
    require_picture(board->space, AS_IT_WAS);

    options.kind = GM_REGION_RESERVATION;
    assert_int_equal(gm_region_new_child(board->root, &options, &child, &diag), 0);
    options.addr = 0x8000;
    assert_int_equal(gm_region_new_child(board->root, &options, NULL, &diag), 0);
    assert_int_equal(stats_of(board).commits, before.commits + 2);
    require_picture(board->space, AS_IT_WAS ", 4000-4fff child+0, 8000-8fff child+0");
    assert_int_equal(gm_region_del(board->root, child, &diag), 0);
    gm_map_quiesce(board->map);
    assert_int_equal(released, 0); /* this one is ours */
    gm_region_put(child);
    gm_map_quiesce(board->map);
    assert_int_equal(released, 1);
    gm_region_put(alias);
}

static void logging_of_one_region_is_switched_in_one_call(void **state)
{
    struct board *board = *state;
    struct gm_region_state region;
    struct gm_diag diag = {0};

    assert_int_equal(gm_region_set_log(board->a, 3, true, &diag), 0);
    gm_region_state(board->a, &region);
    assert_int_equal(region.log_mask, 1u << 3);
    assert_int_equal(gm_region_set_log(board->a, 3, false, &diag), 0);
    gm_region_state(board->a, &region);
    assert_int_equal(region.log_mask, 0);
    assert_int_equal(gm_region_set_log(board->b, 3, true, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_EDIT_REFUSED);
}

/* @code, of the edit that was recorded last, and what the transaction has to say of it. */
static void require_refusal(const struct gm_txn *txn, int code, int id, const char *words)
{
    const struct gm_diag *diag = gm_txn_diag(txn);

    assert_int_equal(code, -EINVAL);
    assert_int_equal(diag->code, code);
    assert_int_equal(diag->id, id);
    if (strstr(diag->text, words) == NULL) {
        fail_msg("'%s' does not say '%s'", diag->text, words);
    }
}

static void edits_that_a_kind_does_not_take_are_not_recorded(void **state)
{
    /* -EINVAL at once, the transaction says why, and it goes on. */
    struct board *board = *state;
    struct gm_txn *txn = begin(board);
    struct gm_region *alias;
    struct gm_eventfd odd = {.size_bytes = 3, .fd = 1};
    const int refused = GM_DIAG_EDIT_REFUSED;

    assert_int_equal(gm_region_new_alias(board->map, "alias", board->a, 0, 0x1000, &alias), 0);
    assert_int_equal(gm_txn_diag(txn)->id, GM_DIAG_NONE);
    require_refusal(txn, gm_txn_add(txn, alias, board->box), refused, "'alias': an alias has no");
    require_refusal(txn, gm_txn_set_romd(txn, board->a, false), refused, "'a': romd mode");
    require_refusal(txn, gm_txn_del(txn, alias, board->box), refused, "'alias': an alias has no");
    require_refusal(txn, gm_txn_set_alias_offset(txn, board->a, 0), refused, "'a': it is no alias");
    require_refusal(txn, gm_txn_set_log(txn, board->b, 0, true), refused, "'b': it has no RAM");
    require_refusal(txn, gm_txn_set_log(txn, board->a, GM_DIRTY_CLIENTS, true), refused,
                    "no client 8");
    require_refusal(txn, gm_txn_set_log_all(txn, GM_DIRTY_CLIENTS + 1, true), refused,
                    "no client 9");
    require_refusal(txn, gm_txn_add_eventfd(txn, board->b, &odd), refused, "1, 2, 4 or 8 bytes");
    require_refusal(txn, gm_txn_add_eventfd(txn, alias, &odd), refused, "its kind answers no");
    require_refusal(txn, gm_txn_add_coalesced(txn, board->a, 0, 4), refused, "no callbacks");
    require_refusal(txn, gm_txn_add_coalesced(txn, board->b, 0, 0), refused, "has a size");
    require_refusal(txn, gm_txn_set_size(txn, board->a, GM_SIZE_2_64 + 1), refused, "2^64");
    assert_int_equal(gm_txn_set_addr(txn, board->b, 0x2000), 0);
    require_refusal(txn, gm_txn_diag(txn)->code, refused, "2^64"); /* a success keeps it */
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    require_picture(board->space, "0-fff a+0, 2000-2fff b+0");
    gm_region_put(alias);
}

static void regions_of_another_map_are_refused(void **state)
{
    /* Two maps share nothing: -EINVAL for each edit that would make them. */
    struct board *board = *state;
    struct gm_txn *txn = begin(board);
    struct gm_region *alias;
    struct gm_region *theirs;
    struct gm_space *space;
    struct gm_map *other;

    assert_int_equal(gm_map_new(NULL, &other, NULL), 0);
    assert_int_equal(gm_region_new_container(other, "theirs", 0x1000, &theirs), 0);
    require_refusal(txn, gm_txn_add(txn, board->root, theirs), GM_DIAG_OTHER_MAP, "'theirs'");
    require_refusal(txn, gm_txn_add(txn, theirs, board->box), GM_DIAG_OTHER_MAP, "'theirs'");
    require_refusal(txn, gm_txn_set_enabled(txn, theirs, false), GM_DIAG_OTHER_MAP, "'theirs'");
    require_refusal(txn, gm_txn_set_root(txn, board->space, theirs), GM_DIAG_OTHER_MAP, "'theirs'");
    gm_txn_abort(txn);
    assert_int_equal(gm_region_new_alias(board->map, "alias", theirs, 0, 0x1000, &alias), -EINVAL);
    assert_int_equal(gm_space_new(board->map, "space", theirs, &space, NULL), -EINVAL);
    gm_region_put(theirs);
    gm_map_free(other);
}

static void eventfd_is_added_and_removed_once(void **state)
{
    /* -EEXIST, -ENOENT, -EINVAL and -EBADF at commit; the same five values name it. */
    struct board *board = *state;
    int fd = eventfd(0, EFD_CLOEXEC);
    struct gm_eventfd first = {
        .offset = 0x10, .size_bytes = 4, .match = true, .value = 7, .fd = fd};
    struct gm_eventfd other = first;
    struct gm_txn *txn = begin(board);

    assert_int_equal(gm_txn_add_eventfd(txn, board->b, &first), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    txn = begin_with_a_good_edit(board);
    assert_int_equal(gm_txn_add_eventfd(txn, board->b, &first), 0);
    require_failure(board, txn, -EEXIST);
    other.value = 8;
    txn = begin_with_a_good_edit(board);
    assert_int_equal(gm_txn_del_eventfd(txn, board->b, &other), 0);
    require_failure(board, txn, -ENOENT);
    other.offset = 0xffd;
    txn = begin_with_a_good_edit(board);
    assert_int_equal(gm_txn_add_eventfd(txn, board->b, &other), 0);
    require_failure(board, txn, -EINVAL);
    other = (struct gm_eventfd){.size_bytes = 4, .fd = 1 << 20};
    txn = begin_with_a_good_edit(board);
    assert_int_equal(gm_txn_add_eventfd(txn, board->b, &other), 0);
    require_failure(board, txn, -EBADF);
    txn = begin(board);
    assert_int_equal(gm_txn_del_eventfd(txn, board->b, &first), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    close(fd);
}

static void failed_removal_leaves_the_child_its_place_among_equals(void **state)
{
    /* "b" lies over "low", added before it with equal priority; a commit that fails must not turn them around. */
    struct board *board = *state;
    struct gm_region *high = picture_child(
        board->map, board->root,
        (struct gm_region_options){
            .kind = GM_REGION_MMIO, .name = "high", .size_bytes = 0x800, .addr = 0x1000});
    struct gm_txn *txn = begin(board);

    require_picture(board->space, "0-fff a+0, 1000-17ff high+0, 1800-1fff b+800");
    gm_region_get(board->b);
    assert_int_equal(gm_txn_del(txn, board->root, board->b), 0);
    assert_int_equal(gm_txn_add(txn, board->root, board->b), 0);
    assert_int_equal(gm_txn_del(txn, board->box, high), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), -ENOENT);
    assert_int_equal(gm_region_set_enabled(board->a, false, NULL), 0);
    assert_int_equal(gm_region_set_enabled(high, false, NULL), 0);
    assert_int_equal(gm_region_set_enabled(high, true, NULL), 0);
    require_picture(board->space, "1000-17ff high+0, 1800-1fff b+800");
    gm_region_put(board->b);
}

/* ---- listeners that call back ---- */

struct meddler {
    struct board *board;
    unsigned calls;
    int failure; /* what its prepare returns */
};

/* Everything that would take the lock that is held is -EDEADLK, and states can be read. */
static void meddle(struct meddler *meddler)
{
    static const struct gm_listener_ops quiet = {.size = sizeof(quiet)};
    struct board *board = meddler->board;
    struct gm_region_state region;
    struct gm_listener *listener;
    struct gm_region *made;
    struct gm_space *space;
    struct gm_diag diag = {0};

    assert_int_equal(gm_region_set_enabled(board->a, false, &diag), -EDEADLK);
    assert_int_equal(diag.code, -EDEADLK);
    assert_int_equal(gm_txn_commit(begin(board), NULL), -EDEADLK);
    assert_int_equal(gm_space_new(board->map, "late", NULL, &space, NULL), -EDEADLK);
    assert_int_equal(gm_space_free(board->space, NULL), -EDEADLK);
    assert_int_equal(gm_listener_register(board->map, NULL, 0, &quiet, meddler, &listener, NULL),
                     -EDEADLK);
    assert_int_equal(gm_region_new_container(board->map, "late", 1, &made), -EDEADLK);
    assert_int_equal(gm_region_log_sync(board->a, 0, 1), -EDEADLK);
    gm_region_state(board->a, &region);
    gm_region_get(board->box);
    gm_region_put(board->box);
    meddler->calls++;
}

static int meddle_in_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                             size_t count, struct gm_diag *diag)
{
    struct meddler *meddler = opaque;

    (void)space;
    (void)changes;
    (void)count;
    (void)diag;
    meddle(meddler);
    return meddler->failure;
}

static void meddle_in_commit(void *opaque)
{
    meddle(opaque);
}

static void meddle_with_section(void *opaque, const struct gm_section *section)
{
    (void)section;
    meddle(opaque);
}

static void commit_from_inside_a_listener_is_edeadlk(void **state)
{
    /* From prepare, from a change, and from the commit callback; the outer commit goes on. */
    static const struct gm_listener_ops ops = {.size = sizeof(ops),
                                               .prepare = meddle_in_prepare,
                                               .region_del = meddle_with_section,
                                               .commit = meddle_in_commit};
    struct board *board = *state;
    struct meddler meddler = {.board = board};
    struct gm_listener *listener;

    assert_int_equal(
        gm_listener_register(board->map, board->space, 0, &ops, &meddler, &listener, NULL), 0);
    assert_int_equal(meddler.calls, 2);
    assert_int_equal(gm_region_set_enabled(board->b, false, NULL), 0);
    assert_int_equal(meddler.calls, 5);
    require_picture(board->space, "0-fff a+0");
    assert_int_equal(gm_listener_unregister(listener, NULL), 0);
}

static void listener_that_cannot_prepare_is_not_registered(void **state)
{
    /* Nor does its error change the map; nor can a space be freed that has a listener of its own. */
    static const struct gm_listener_ops ops = {.size = sizeof(ops), .prepare = meddle_in_prepare};
    static const struct gm_listener_ops small = {.size = sizeof(small) - 1};
    struct board *board = *state;
    struct meddler meddler = {.board = board, .failure = -ENOTBLK};
    struct gm_listener *listener;

    assert_int_equal(
        gm_listener_register(board->map, board->space, 0, &ops, &meddler, &listener, NULL),
        -ENOTBLK);
    assert_int_equal(
        gm_listener_register(board->map, board->space, 0, &small, &meddler, &listener, NULL),
        -EINVAL);
    assert_int_equal(gm_region_set_enabled(board->b, false, NULL), 0);
    assert_int_equal(meddler.calls, 1);
    meddler.failure = 0;
    assert_int_equal(
        gm_listener_register(board->map, board->space, 0, &ops, &meddler, &listener, NULL), 0);
    assert_int_equal(gm_space_free(board->space, NULL), -EBUSY);
    assert_int_equal(gm_listener_unregister(listener, NULL), 0);
    assert_int_equal(gm_space_free(board->space, NULL), 0);
}

#define BOARD_TEST(test) cmocka_unit_test_setup_teardown(test, board_begin, board_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOARD_TEST(edits_are_seen_at_the_commit_and_all_at_once),
        BOARD_TEST(aborted_transaction_does_nothing),
        BOARD_TEST(inner_level_aborted_drops_its_edits_alone),
        BOARD_TEST(inner_level_committed_leaves_its_edits_to_the_outer_one),
        BOARD_TEST(transaction_without_edits_commits),
        BOARD_TEST(edit_that_changes_nothing_renders_nothing),
        BOARD_TEST(child_that_has_a_parent_cannot_be_added),
        BOARD_TEST(child_that_is_not_there_cannot_be_removed),
        BOARD_TEST(region_cannot_be_its_own_ancestor),
        BOARD_TEST(region_cannot_outgrow_its_block),
        BOARD_TEST(child_is_made_in_its_parent_or_not_at_all),
        BOARD_TEST(logging_of_one_region_is_switched_in_one_call),
        BOARD_TEST(edits_that_a_kind_does_not_take_are_not_recorded),
        BOARD_TEST(regions_of_another_map_are_refused),
        BOARD_TEST(eventfd_is_added_and_removed_once),
        BOARD_TEST(failed_removal_leaves_the_child_its_place_among_equals),
        BOARD_TEST(commit_from_inside_a_listener_is_edeadlk),
        BOARD_TEST(listener_that_cannot_prepare_is_not_registered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
