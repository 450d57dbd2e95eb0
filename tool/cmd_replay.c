/* cmd_replay.c - `guestmem replay`: apply edits to a map and write down what they cause. */
#include "replay.h"
#include "tool.h"

#include <stdlib.h>

static const char help[] =
    "Usage: guestmem replay FILE\n"
    "\n"
    "Apply edits to a map and print what listeners and slot backends are told. FILE is a map\n"
    "(guestmem show --help has one) with steps after it, or - for stdin. Numbers are hexadecimal,\n"
    "but for region IDs, SPACE (the number of an `as` line, from 0), CLIENT, MAX and DECIMAL:\n"
    "\n"
    "  watch NAME SPACE|- PRIORITY     register a listener; - is all address spaces\n"
    "  unwatch NAME                    remove it\n"
    "  slots SPACE [MAX]               attach a recording slot backend of at most MAX slots\n"
    "  begin | commit | abort          a transaction; may be nested\n"
    "  set ID enabled|readonly|romd|nonvolatile 0|1\n"
    "  set ID addr|size|offset VALUE   offset: an alias's, in its target\n"
    "  set ID priority DECIMAL\n"
    "  add PARENT CHILD                del PARENT CHILD\n"
    "  log ID CLIENT on|off            dirty logging; log all CLIENT on|off for all RAM\n"
    "  write SPACE ADDR LEN            a device writes zeros\n"
    "  dirty ID CLIENT                 harvest: `dirty FIRST LAST` for each run of dirty pages\n"
    "  fail N                          the Nth fallible operation from here on fails once\n"
    "  views | show-slots | stats      what is there now; counts since the last stats\n"
    "\n"
    "Each step is printed as `STEP -> 0` or `STEP -> ERRNO`; what it caused stands below it.\n"
    "An edit outside of begin..commit is its own transaction. guestmem(1) says more.\n"
    "\n"
    "  --help    this text\n"
    "\n"
    "Exit code: 0, also where steps fail; 1 the output could not be written; 2 a line is wrong:\n"
    "FILE:LINE says how, and no step has been run.\n";

/* ---- the library's memory, which can be made to fail ---- */

static void *fallible_alloc(void *opaque, size_t size_bytes)
{
    return fault_hits(opaque) ? NULL : malloc(size_bytes);
}

static void fallible_free(void *opaque, void *memory)
{
    (void)opaque;
    free(memory);
}

/* ---- running ---- */

/* Steps write to a buffer that is printed below their line; it grows to the longest and is kept. */
static void open_below(struct replay *replay)
{
    replay->below = open_memstream(&replay->below_text, &replay->below_length);
    if (replay->below == NULL) {
        tool_error("out of memory");
        exit(TOOL_FAILED);
    }
}

static void run_steps(struct replay *replay, const struct steps *steps)
{
    size_t i;

    for (i = 0; i < steps->count; i++) {
        int result = replay_run_step(replay, &steps->list[i]);

        if (fflush(replay->below) != 0) {
            tool_error("out of memory");
            exit(TOOL_FAILED);
        }
        printf("%s -> %s\n", steps->list[i].text, result != 0 ? tool_error_name(result) : "0");
        fwrite(replay->below_text, 1, (size_t)ftello(replay->below), stdout);
        rewind(replay->below);
    }
}

/* What the end causes goes to the buffer and stays there: it is not a step. */
static void end_replay(struct replay *replay)
{
    atomic_store_explicit(&replay->fault.countdown, 0, memory_order_relaxed);
    while (replay->depth > 0) {
        gm_txn_abort(replay->txn);
        replay->depth--;
    }
    replay_free_slots(replay);
    mapfile_free(&replay->mapfile);
    replay_free_watchers(replay);
    fclose(replay->below);
    free(replay->below_text);
}

/* RAM blocks do not grow: each is made for the largest size that a step gives its region. */
static void note_sizes(struct replay *replay, const struct steps *steps)
{
    size_t i;

    for (i = 0; i < steps->count; i++) {
        const struct step *step = &steps->list[i];
        struct mapfile_region *record = NULL;

        if (step->kind == STEP_SET && step->attribute == SET_SIZE) {
            record = mapfile_find(&replay->mapfile, step->id);
        }
        if (record != NULL && step->value > record->largest_size) {
            record->largest_size = step->value;
        }
    }
}

static int read_all(struct replay *replay, struct steps *steps, struct lines *lines)
{
    bool has_step;

    if (mapfile_read(&replay->mapfile, lines, MAPFILE_END_AT_STEP, &has_step) != 0) {
        return -1;
    }
    if (has_step && steps_read(steps, lines) != 0) {
        return -1;
    }
    note_sizes(replay, steps);
    return 0;
}

int cmd_replay(int argc, char **argv)
{
    static struct replay replay; /* static: the map's memory may end after this function */
    struct tool_options options = {.help = help};
    struct steps steps = {0};
    struct lines lines;
    int exit_code = TOOL_BAD_INPUT;

    if (!tool_options_parse(&options, argc, argv, &exit_code)) {
        return exit_code;
    }
    replay = (struct replay){.allocator = {fallible_alloc, fallible_free, &replay.fault}};
    open_below(&replay);
    if (lines_open(&lines, options.path) == 0 && read_all(&replay, &steps, &lines) == 0 &&
        mapfile_build(&replay.mapfile, &replay.allocator) == 0) {
        gm_map_stats(replay.mapfile.map, &replay.shown);
        run_steps(&replay, &steps);
        exit_code = tool_finish_output();
    }
    end_replay(&replay);
    steps_free(&steps);
    lines_close(&lines);
    return exit_code;
}
