/*
 * unit/test_render.c - trees whose pictures follow by hand from the rules of QEMU's docs/devel/memory.rst
 * ("Visibility", "Overlapping regions and priority", "Region names", aliases) and of corpus/README.md.
 */
#include "unit/picture.h"

#include "view/render.h"

#include <errno.h>

struct board {
    struct gm_map *map;
    struct gm_region *root;
    struct gm_space *space;
};

static int board_begin(void **state)
{
    static struct board board;

    assert_int_equal(gm_map_new(NULL, &board.map, NULL), 0);
    assert_int_equal(gm_region_new_container(board.map, "root", GM_SIZE_2_64, &board.root), 0);
    assert_int_equal(gm_space_new(board.map, "space", board.root, &board.space, NULL), 0);
    *state = &board;
    return 0;
}

static int board_end(void **state)
{
    struct board *board = *state;

    gm_region_put(board->root);
    gm_map_free(board->map);
    return 0;
}

static struct gm_region *put(struct board *board, struct gm_region *parent, const char *name,
                             enum gm_region_kind kind, uint64_t addr, gm_size_t size,
                             int32_t priority)
{
    return picture_child(
        board->map, parent,
        (struct gm_region_options){
            .kind = kind, .name = name, .size_bytes = size, .addr = addr, .priority = priority});
}

static struct gm_region *put_alias(struct board *board, struct gm_region *parent, const char *name,
                                   struct gm_region *target, uint64_t offset, uint64_t addr,
                                   gm_size_t size)
{
    return picture_child(board->map, parent,
                         (struct gm_region_options){.kind = GM_REGION_ALIAS,
                                                    .name = name,
                                                    .size_bytes = size,
                                                    .addr = addr,
                                                    .target = target,
                                                    .target_offset = offset});
}

/* ---- priorities ---- */

static void transparent_container_shows_what_is_below_it(void **state)
{
    /* The worked picture of memory.rst: C, priority 1, below the container B, priority 2, with D and E. */
    struct board *board = *state;
    struct gm_region *b = put(board, board->root, "B", GM_REGION_CONTAINER, 0x2000, 0x4000, 2);

    put(board, board->root, "C", GM_REGION_MMIO, 0, 0x6000, 1);
    put(board, b, "D", GM_REGION_MMIO, 0, 0x1000, 0);
    put(board, b, "E", GM_REGION_MMIO, 0x2000, 0x1000, 0);
    require_picture(board->space,
                    "0-1fff C+0, 2000-2fff D+0, 3000-3fff C+3000, 4000-4fff E+0, 5000-5fff C+5000");
}

static void parent_with_content_shows_between_its_children(void **state)
{
    /* The same with B as I/O: "if B had provided a handler", it shows where D and E do not. */
    struct board *board = *state;
    struct gm_region *b = put(board, board->root, "B", GM_REGION_MMIO, 0x2000, 0x4000, 2);

    put(board, board->root, "C", GM_REGION_MMIO, 0, 0x6000, 1);
    put(board, b, "D", GM_REGION_MMIO, 0, 0x1000, 0);
    put(board, b, "E", GM_REGION_MMIO, 0x2000, 0x1000, 0);
    require_picture(board->space, "0-1fff C+0, 2000-2fff D+0, 3000-3fff B+1000, 4000-4fff E+0, "
                                  "5000-5fff B+3000");
}

static void priority_counts_among_siblings_only(void **state)
{
    /* A child's priority of 1000 in a container of priority 0 does not lift it over the container's sibling. */
    struct board *board = *state;
    struct gm_region *low = put(board, board->root, "low", GM_REGION_CONTAINER, 0, 0x2000, 0);

    put(board, low, "proud", GM_REGION_MMIO, 0, 0x2000, 1000);
    put(board, board->root, "high", GM_REGION_MMIO, 0x1000, 0x1000, 1);
    require_picture(board->space, "0-fff proud+0, 1000-1fff high+0");
}

static void sibling_added_last_wins_among_equals(void **state)
{
    /* Equal priorities: the later one is on top; taking it out and adding it again keeps it there. */
    struct board *board = *state;
    struct gm_region *first = put(board, board->root, "first", GM_REGION_MMIO, 0, 0x2000, 0);

    put(board, board->root, "second", GM_REGION_MMIO, 0x1000, 0x2000, 0);
    require_picture(board->space, "0-fff first+0, 1000-2fff second+0");
    gm_region_get(first);
    assert_int_equal(gm_region_del(board->root, first, NULL), 0);
    assert_int_equal(gm_region_add(board->root, first, NULL), 0);
    gm_region_put(first);
    require_picture(board->space, "0-1fff first+0, 2000-2fff second+1000");
}

static void parent_never_covers_its_child(void **state)
{
    /* A negative priority orders a child among siblings, not below its parent's own content. */
    struct board *board = *state;
    struct gm_region *outer = put(board, board->root, "outer", GM_REGION_MMIO, 0, 0x3000, 0);

    put(board, outer, "inner", GM_REGION_RAM, 0x1000, 0x1000, -10000);
    require_picture(board->space, "0-fff outer+0, 1000-1fff inner+0, 2000-2fff outer+2000");
}

static void reservation_hides_what_is_below_it(void **state)
{
    /* It has content, of the kind that answers nothing. */
    struct board *board = *state;

    put(board, board->root, "ram", GM_REGION_RAM, 0, 0x3000, 0);
    put(board, board->root, "kept", GM_REGION_RESERVATION, 0x1000, 0x1000, 1);
    require_picture(board->space, "0-fff ram+0, 1000-1fff kept+0, 2000-2fff ram+2000");
}

/* ---- clipping ---- */

static void child_is_clipped_to_its_parent(void **state)
{
    /* What sticks out is not there; a child wholly outside is nowhere. */
    struct board *board = *state;
    struct gm_region *box = put(board, board->root, "box", GM_REGION_CONTAINER, 0x1000, 0x1000, 0);

    put(board, box, "long", GM_REGION_RAM, 0x800, 0x1000, 0);
    put(board, box, "out", GM_REGION_RAM, 0x1000, 0x1000, 0);
    require_picture(board->space, "1800-1fff long+0");
}

static void empty_and_disabled_regions_show_nothing(void **state)
{
    /* Size 0 shows nothing though enabled; a disabled one hides its whole subtree. */
    struct board *board = *state;
    struct gm_region *off = picture_child(
        board->map, board->root,
        (struct gm_region_options){
            .kind = GM_REGION_MMIO, .name = "off", .size_bytes = 0x1000, .disabled = true});

    put(board, off, "in", GM_REGION_RAM, 0, 0x1000, 0);
    put(board, board->root, "none", GM_REGION_RAM, 0x2000, 0, 0);
    require_picture(board->space, "");
    assert_int_equal(gm_region_set_enabled(off, true, NULL), 0);
    require_picture(board->space, "0-fff in+0");
}

static void space_of_2_64_bytes_shows_its_last_byte(void **state)
{
    /* A region of 2^64 bytes, and one byte at the very end. */
    struct board *board = *state;

    put(board, board->root, "all", GM_REGION_MMIO, 0, GM_SIZE_2_64, 0);
    put(board, board->root, "last", GM_REGION_MMIO, UINT64_MAX, 1, 1);
    put(board, board->root, "over", GM_REGION_MMIO, UINT64_MAX - 0xfff, GM_SIZE_2_64, -1);
    require_picture(board->space,
                    "0-fffffffffffffffe all+0, ffffffffffffffff-ffffffffffffffff last+0");
}

/* ---- aliases ---- */

static void memory_split_by_a_hole_is_two_aliases(void **state)
{
    /* The PC of memory.rst: RAM below and above the PCI hole, VGA over RAM. */
    struct board *board = *state;
    struct gm_region *ram = picture_region(
        board->map, (struct gm_region_options){
                        .kind = GM_REGION_RAM, .name = "ram", .size_bytes = 0x180000000});
    struct gm_region *pci = picture_region(
        board->map, (struct gm_region_options){
                        .kind = GM_REGION_CONTAINER, .name = "pci", .size_bytes = 0x100000000});

    put_alias(board, board->root, "lomem", ram, 0, 0, 0xe0000000);
    put_alias(board, board->root, "himem", ram, 0xe0000000, 0x100000000, 0xa0000000);
    put_alias(board, board->root, "pci-hole", pci, 0xe0000000, 0xe0000000, 0x20000000);
    put(board, pci, "vga", GM_REGION_RAM, 0xe1000000, 0x1000000, 1);
    put(board, pci, "mmio", GM_REGION_MMIO, 0xe2000000, 0x1000, 1);
    put(board, pci, "low", GM_REGION_MMIO, 0x1000, 0x1000, 1);
    require_picture(board->space, "0-dfffffff ram+0, e1000000-e1ffffff vga+0, "
                                  "e2000000-e2000fff mmio+0, 100000000-19fffffff ram+e0000000");
    gm_region_put(ram);
    gm_region_put(pci);
}

static void alias_shows_a_target_whose_parent_is_disabled(void **state)
{
    /* Attached nowhere, or below what is disabled: an alias shows it. A disabled target shows nothing. */
    struct board *board = *state;
    struct gm_region *box = picture_child(
        board->map, board->root,
        (struct gm_region_options){
            .kind = GM_REGION_CONTAINER, .name = "box", .size_bytes = 0x10000, .disabled = true});
    struct gm_region *ram = put(board, box, "ram", GM_REGION_RAM, 0x4000, 0x2000, 0);

    put_alias(board, board->root, "window", ram, 0x1000, 0x8000, 0x1000);
    require_picture(board->space, "8000-8fff ram+1000");
    assert_int_equal(gm_region_set_enabled(ram, false, NULL), 0);
    require_picture(board->space, "");
}

static void alias_past_the_end_of_its_target_shows_its_beginning(void **state)
{
    /* Larger than what is left of the target: the rest shows nothing. */
    struct board *board = *state;
    struct gm_region *ram = picture_region(
        board->map,
        (struct gm_region_options){.kind = GM_REGION_RAM, .name = "ram", .size_bytes = 0x2000});

    put_alias(board, board->root, "long", ram, 0x1800, 0x100, 0x5000);
    put_alias(board, board->root, "past", ram, 0x2000, 0x8000, 0x1000);
    require_picture(board->space, "100-8ff ram+1800");
    gm_region_put(ram);
}

static void alias_is_shown_in_its_targets_coordinates_not_its_place(void **state)
{
    /* Where the target itself is attached does not shift what its alias shows. */
    struct board *board = *state;
    struct gm_region *box = put(board, board->root, "box", GM_REGION_CONTAINER, 0x10000, 0x4000, 0);

    put(board, box, "ram", GM_REGION_RAM, 0x1000, 0x1000, 0);
    put_alias(board, board->root, "window", box, 0x1800, 0x20000, 0x1000);
    require_picture(board->space, "11000-11fff ram+0, 20000-207ff ram+800");
}

static void alias_cycle_that_shifts_ends_by_clipping(void **state)
{
    /* A page of RAM repeated through an alias of the container that holds the alias itself. */
    struct board *board = *state;
    struct gm_region *box = put(board, board->root, "box", GM_REGION_CONTAINER, 0, 0x4000, 0);

    put(board, box, "ram", GM_REGION_RAM, 0, 0x1000, 0);
    put_alias(board, box, "again", box, 0, 0x1800, 0x2800);
    require_picture(board->space, "0-fff ram+0, 1800-27ff ram+0, 3000-3fff ram+0");
}

static void alias_cycle_that_does_not_shift_fails(void **state)
{
    /* It would show itself at the same address: -ELOOP, and nothing has changed. */
    struct board *board = *state;
    struct gm_region *box = put(board, board->root, "box", GM_REGION_CONTAINER, 0x1000, 0x4000, 0);
    struct gm_region *again =
        picture_region(board->map, (struct gm_region_options){.kind = GM_REGION_ALIAS,
                                                              .name = "again",
                                                              .size_bytes = 0x1000,
                                                              .addr = 0x800,
                                                              .target = box,
                                                              .target_offset = 0x800});
    struct gm_diag diag = {0};

    put(board, box, "ram", GM_REGION_RAM, 0, 0x1000, 0);
    put(board, board->root, "more", GM_REGION_RAM, 0x8000, 0x1000, 0);
    assert_int_equal(gm_region_add(box, again, &diag), -ELOOP);
    assert_int_equal(diag.code, -ELOOP);
    require_picture(board->space, "1000-1fff ram+0, 8000-8fff more+0");
    gm_region_put(again);
}

/* ---- what is inherited ---- */

static void readonly_and_nonvolatile_go_down_through_aliases(void **state)
{
    /* The same RAM through a read-only alias, a nonvolatile container, and as it is. */
    struct board *board = *state;
    struct gm_region *ram = put(board, board->root, "ram", GM_REGION_RAM, 0, 0x1000, 0);
    struct gm_region *box = picture_child(board->map, board->root,
                                          (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                     .name = "box",
                                                                     .size_bytes = 0x10000,
                                                                     .addr = 0x10000,
                                                                     .nonvolatile = true});

    picture_child(board->map, box,
                  (struct gm_region_options){.kind = GM_REGION_ALIAS,
                                             .name = "window",
                                             .size_bytes = 0x1000,
                                             .readonly = true,
                                             .target = ram});
    put_alias(board, box, "other", ram, 0, 0x2000, 0x800);
    require_picture(board->space, "0-fff ram+0, 10000-10fff ram+0 on, 12000-127ff ram+0 n");
}

static void rom_is_readonly_and_a_rom_device_has_modes(void **state)
{
    /* ROM from the start; a ROM device outside of romd mode is I/O. */
    struct board *board = *state;
    struct gm_region *flash =
        put(board, board->root, "flash", GM_REGION_ROM_DEVICE, 0x1000, 0x1000, 0);
    struct gm_txn *txn;

    put(board, board->root, "rom", GM_REGION_ROM, 0, 0x1000, 0);
    require_picture(board->space, "0-fff rom+0 o, 1000-1fff flash+0");
    assert_int_equal(gm_txn_begin(board->map, &txn), 0);
    assert_int_equal(gm_txn_set_romd(txn, flash, false), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    require_picture(board->space, "0-fff rom+0 o, 1000-1fff flash+0 i");
}

/* ---- merging ---- */

static void neighbours_of_one_region_merge(void **state)
{
    /* Two aliases side by side that continue each other are one range; a gap in offset is a border. */
    struct board *board = *state;
    struct gm_region *ram = picture_region(
        board->map,
        (struct gm_region_options){.kind = GM_REGION_RAM, .name = "ram", .size_bytes = 0x4000});

    put_alias(board, board->root, "a", ram, 0, 0, 0x1000);
    put_alias(board, board->root, "b", ram, 0x1000, 0x1000, 0x1000);
    put_alias(board, board->root, "c", ram, 0x3000, 0x2000, 0x1000);
    require_picture(board->space, "0-1fff ram+0, 2000-2fff ram+3000");
    gm_region_put(ram);
}

static void neighbours_of_an_unmergeable_region_do_not_merge(void **state)
{
    /* Two aliases side by side stay two; what one way down shows in one piece is never cut. */
    struct board *board = *state;
    struct gm_region *ram = picture_region(
        board->map,
        (struct gm_region_options){
            .kind = GM_REGION_RAM, .name = "ram", .size_bytes = 0x4000, .unmergeable = true});
    struct gm_region *bar;

    put_alias(board, board->root, "a", ram, 0, 0, 0x1000);
    put_alias(board, board->root, "b", ram, 0x1000, 0x1000, 0x3000);
    require_picture(board->space, "0-fff ram+0 u, 1000-3fff ram+1000 u");
    bar = put(board, board->root, "bar", GM_REGION_MMIO, 0x2000, 0x800, 1);
    require_picture(board->space, "0-fff ram+0 u, 1000-1fff ram+1000 u, 2000-27ff bar+0, "
                                  "2800-3fff ram+2800 u");
    assert_int_equal(gm_region_set_enabled(bar, false, NULL), 0);
    require_picture(board->space, "0-fff ram+0 u, 1000-3fff ram+1000 u");
    gm_region_put(ram);
}

static void unmergeable_range_edited_on_both_sides_stays_whole(void **state)
{
    /* Two edits of one commit, one before and one behind an unmergeable range, give it back in one piece. */
    struct board *board = *state;
    struct gm_region *left;
    struct gm_region *right;
    struct gm_txn *txn;

    picture_child(
        board->map, board->root,
        (struct gm_region_options){
            .kind = GM_REGION_MMIO, .name = "u", .size_bytes = 0x4000, .unmergeable = true});
    left = put(board, board->root, "left", GM_REGION_MMIO, 0, 0x1000, 1);
    right = put(board, board->root, "right", GM_REGION_MMIO, 0x3000, 0x1000, 1);
    require_picture(board->space, "0-fff left+0, 1000-2fff u+1000 u, 3000-3fff right+0");
    assert_int_equal(gm_txn_begin(board->map, &txn), 0);
    assert_int_equal(gm_txn_set_enabled(txn, left, false), 0);
    assert_int_equal(gm_txn_set_enabled(txn, right, false), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    require_picture(board->space, "0-3fff u+0 u");
}

/* ---- roots ---- */

static void spaces_that_resolve_to_one_region_share_a_view(void **state)
{
    /* Through an alias with offset 0, and a container whose only enabled child fits: the same pointer. */
    struct board *board = *state;
    struct gm_region *master = picture_region(
        board->map, (struct gm_region_options){
                        .kind = GM_REGION_CONTAINER, .name = "master", .size_bytes = GM_SIZE_2_64});
    struct gm_region *alias = put_alias(board, master, "alias", board->root, 0, 0, GM_SIZE_2_64);
    struct gm_space *device;
    struct gm_view *mine;
    struct gm_view *theirs;

    put(board, board->root, "ram", GM_REGION_RAM, 0x1000, 0x1000, 0);
    assert_int_equal(gm_space_new(board->map, "device", master, &device, NULL), 0);
    mine = gm_view_get(board->space);
    theirs = gm_view_get(device);
    assert_ptr_equal(mine, theirs);
    gm_view_put(theirs);
    assert_int_equal(gm_region_set_enabled(alias, false, NULL), 0);
    theirs = gm_view_get(device);
    assert_ptr_not_equal(mine, theirs);
    assert_int_equal(gm_view_count(theirs), 0);
    assert_null(gm_view_root(theirs));
    gm_view_put(theirs);
    gm_view_put(mine);
    gm_region_put(master);
}

static void root_is_shown_at_its_own_address(void **state)
{
    /* Also when it is another region's child (ppc 40p). */
    struct board *board = *state;
    struct gm_region *box = put(board, board->root, "box", GM_REGION_CONTAINER, 0x8000, 0x4000, 0);
    struct gm_space *inner;

    put(board, box, "ram", GM_REGION_RAM, 0x1000, 0x1000, 0);
    put(board, box, "io", GM_REGION_MMIO, 0x3000, 0x2000, 0);
    assert_int_equal(gm_space_new(board->map, "inner", box, &inner, NULL), 0);
    require_picture(inner, "9000-9fff ram+0, b000-bfff io+0");
}

static void root_that_shows_a_part_has_a_view_of_its_own(void **state)
{
    /* An alias that is shorter than its target, that begins further on, and a container that cuts its only child. */
    struct board *board = *state;
    struct gm_region *ram = picture_region(
        board->map,
        (struct gm_region_options){.kind = GM_REGION_RAM, .name = "ram", .size_bytes = 0x4000});
    struct gm_region *roots[] = {
        put_alias(board, board->root, "short", ram, 0, 0, 0x2000),
        put_alias(board, board->root, "late", ram, 0x1000, 0x10000, 0x4000),
        put(board, board->root, "box", GM_REGION_CONTAINER, 0x20000, 0x2000, 0),
    };
    const char *pictures[] = {"0-1fff ram+0", "10000-12fff ram+1000", "20000-21fff long+0"};
    struct gm_space *space;

    put(board, roots[2], "long", GM_REGION_RAM, 0, 0x4000, 0);
    for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
        assert_int_equal(gm_space_new(board->map, "part", roots[i], &space, NULL), 0);
        require_picture(space, pictures[i]);
    }
    gm_region_put(ram);
}

static void root_that_leads_back_to_itself_fails(void **state)
{
    /* A container whose only child is an alias of it: no view can be made. */
    struct board *board = *state;
    struct gm_region *ring = picture_region(
        board->map, (struct gm_region_options){
                        .kind = GM_REGION_CONTAINER, .name = "ring", .size_bytes = 0x1000});
    struct gm_space *space;

    put_alias(board, ring, "back", ring, 0, 0, 0x1000);
    assert_int_equal(gm_space_new(board->map, "round", ring, &space, NULL), -ELOOP);
    gm_region_put(ring);
}

/* ---- limits ---- */

static void view_past_the_limit_of_ranges_fails(void **state)
{
    /* The commit that would go past it is -E2BIG, and what was shown stays. */
    struct gm_map_options options = {.size = sizeof(options), .max_view_ranges = 3};
    struct board board;
    struct gm_region *more;

    (void)state;
    assert_int_equal(gm_map_new(&options, &board.map, NULL), 0);
    assert_int_equal(gm_region_new_container(board.map, "root", 0x10000, &board.root), 0);
    assert_int_equal(gm_space_new(board.map, "space", board.root, &board.space, NULL), 0);
    put(&board, board.root, "a", GM_REGION_MMIO, 0, 16, 0);
    put(&board, board.root, "b", GM_REGION_MMIO, 32, 16, 0);
    put(&board, board.root, "c", GM_REGION_MMIO, 64, 16, 0);
    more = picture_region(board.map,
                          (struct gm_region_options){
                              .kind = GM_REGION_MMIO, .name = "d", .size_bytes = 16, .addr = 96});
    assert_int_equal(gm_region_add(board.root, more, NULL), -E2BIG);
    require_picture(board.space, "0-f a+0, 20-2f b+0, 40-4f c+0");
    gm_region_put(more);
    gm_region_put(board.root);
    gm_map_free(board.map);
}

/* @count containers, one in the other, each with something beside. Owned by the caller. */
static struct gm_region *deep_tree(struct board *board, unsigned count)
{
    struct gm_region *top = NULL;

    for (unsigned i = 0; i < count; i++) {
        struct gm_region *outer = picture_region(
            board->map, (struct gm_region_options){
                            .kind = GM_REGION_CONTAINER, .name = "deep", .size_bytes = 0x1000});

        picture_child(
            board->map, outer,
            (struct gm_region_options){
                .kind = GM_REGION_MMIO, .name = "side", .size_bytes = 1, .addr = 0x10000});
        if (top != NULL) {
            assert_int_equal(gm_region_add(outer, top, NULL), 0);
            gm_region_put(top);
        }
        top = outer;
    }
    return top;
}

static void tree_deeper_than_the_stack_allows_fails(void **state)
{
    /* Two thousand: -E2BIG, not a crash; detached they do no harm. */
    struct board *board = *state;
    struct gm_region *top = deep_tree(board, 2000);

    assert_int_equal(gm_region_add(board->root, top, NULL), -E2BIG);
    require_picture(board->space, "");
    gm_region_put(top);
}

static void tree_as_deep_as_the_stack_allows_is_shown(void **state)
{
    /* Rendered from the outermost container, below which there are so many levels, and one more. */
    struct board *board = *state;
    struct gm_region *top = deep_tree(board, RENDER_MAX_DEPTH + 2);
    struct gm_region *next;

    assert_int_equal(gm_region_add(board->root, top, NULL), -E2BIG);
    gm_region_put(top);
    next = deep_tree(board, RENDER_MAX_DEPTH + 1);
    assert_int_equal(gm_region_add(board->root, next, NULL), 0);
    gm_region_put(next);
}

/* Forty containers, each showing the next one twice: 2^40 ways down. */
static void tree_with_too_many_ways_down_fails(void **state)
{
    /* The limit of steps ends it: -E2BIG soon, with the depth far below the limit. */
    struct gm_map_options options = {.size = sizeof(options), .max_render_steps = 10000};
    struct gm_region *levels[41];
    struct board board;
    unsigned i;

    (void)state;
    assert_int_equal(gm_map_new(&options, &board.map, NULL), 0);
    for (i = 0; i < 41; i++) {
        assert_int_equal(gm_region_new_container(board.map, "level", 0x10000, &levels[i]), 0);
    }
    for (i = 0; i < 40; i++) {
        put_alias(&board, levels[i], "once", levels[i + 1], 0, 0, 0x8000);
        put_alias(&board, levels[i], "twice", levels[i + 1], 0, 0x1000, 0x8000);
    }
    assert_int_equal(gm_space_new(board.map, "space", levels[0], &board.space, NULL), -E2BIG);
    assert_int_equal(gm_space_new(board.map, "space", levels[36], &board.space, NULL), 0);
    put(&board, levels[40], "io", GM_REGION_MMIO, 0, 0x100, 0);
    require_picture(board.space, "0-ff io+0, 1000-10ff io+0, 2000-20ff io+0, 3000-30ff io+0, "
                                 "4000-40ff io+0");
    for (i = 0; i < 41; i++) {
        gm_region_put(levels[i]);
    }
    gm_map_free(board.map);
}

/* ---- edits far below, and seen in many places ---- */

static void edit_two_hundred_levels_down_is_seen(void **state)
{
    /* Deeper than a commit looks for what shows an edit: then everything is rendered. */
    struct board *board = *state;
    struct gm_region *at = board->root;
    unsigned i;

    for (i = 0; i < 200; i++) {
        at = put(board, at, "level", GM_REGION_CONTAINER, 0x10, 0x100000, 0);
    }
    at = put(board, at, "io", GM_REGION_MMIO, 0, 0x100, 0);
    require_picture(board->space, "c80-d7f io+0");
    assert_int_equal(gm_region_set_enabled(at, false, NULL), 0);
    require_picture(board->space, "");
    assert_int_equal(gm_region_set_enabled(at, true, NULL), 0);
    require_picture(board->space, "c80-d7f io+0");
}

static void edit_of_what_six_thousand_aliases_show_is_seen_in_all(void **state)
{
    /* More places than a commit looks at one by one. */
    struct board *board = *state;
    struct gm_region *io = picture_region(
        board->map,
        (struct gm_region_options){.kind = GM_REGION_MMIO, .name = "io", .size_bytes = 0x10});
    struct gm_region_options alias = {
        .size = sizeof(alias), .kind = GM_REGION_ALIAS, .size_bytes = 0x10, .target = io};
    struct gm_view *view;
    struct gm_txn *txn;
    unsigned i;

    assert_int_equal(gm_txn_begin(board->map, &txn), 0);
    for (i = 0; i < 6000; i++) {
        struct gm_region *made;

        alias.addr = 0x20 * i;
        assert_int_equal(gm_region_new(board->map, &alias, &made, NULL), 0);
        assert_int_equal(gm_txn_add(txn, board->root, made), 0);
        gm_region_put(made);
    }
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    for (i = 0; i < 4; i++) {
        view = gm_view_get(board->space);
        assert_int_equal(gm_view_count(view), i % 2 == 0 ? 6000 : 0);
        gm_view_put(view);
        assert_int_equal(gm_region_set_enabled(io, i % 2 != 0, NULL), 0);
    }
    gm_region_put(io);
}

#define BOARD_TEST(test) cmocka_unit_test_setup_teardown(test, board_begin, board_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOARD_TEST(transparent_container_shows_what_is_below_it),
        BOARD_TEST(parent_with_content_shows_between_its_children),
        BOARD_TEST(priority_counts_among_siblings_only),
        BOARD_TEST(sibling_added_last_wins_among_equals),
        BOARD_TEST(parent_never_covers_its_child),
        BOARD_TEST(reservation_hides_what_is_below_it),
        BOARD_TEST(child_is_clipped_to_its_parent),
        BOARD_TEST(empty_and_disabled_regions_show_nothing),
        BOARD_TEST(space_of_2_64_bytes_shows_its_last_byte),
        BOARD_TEST(memory_split_by_a_hole_is_two_aliases),
        BOARD_TEST(alias_shows_a_target_whose_parent_is_disabled),
        BOARD_TEST(alias_past_the_end_of_its_target_shows_its_beginning),
        BOARD_TEST(alias_is_shown_in_its_targets_coordinates_not_its_place),
        BOARD_TEST(alias_cycle_that_shifts_ends_by_clipping),
        BOARD_TEST(alias_cycle_that_does_not_shift_fails),
        BOARD_TEST(readonly_and_nonvolatile_go_down_through_aliases),
        BOARD_TEST(rom_is_readonly_and_a_rom_device_has_modes),
        BOARD_TEST(neighbours_of_one_region_merge),
        BOARD_TEST(neighbours_of_an_unmergeable_region_do_not_merge),
        BOARD_TEST(unmergeable_range_edited_on_both_sides_stays_whole),
        BOARD_TEST(spaces_that_resolve_to_one_region_share_a_view),
        BOARD_TEST(root_is_shown_at_its_own_address),
        BOARD_TEST(root_that_shows_a_part_has_a_view_of_its_own),
        BOARD_TEST(root_that_leads_back_to_itself_fails),
        cmocka_unit_test(view_past_the_limit_of_ranges_fails),
        BOARD_TEST(tree_deeper_than_the_stack_allows_fails),
        BOARD_TEST(tree_as_deep_as_the_stack_allows_is_shown),
        cmocka_unit_test(tree_with_too_many_ways_down_fails),
        BOARD_TEST(edit_two_hundred_levels_down_is_seen),
        BOARD_TEST(edit_of_what_six_thousand_aliases_show_is_seen_in_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
