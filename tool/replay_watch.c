/* replay_watch.c - listeners that write down what they are told. */
#include "replay.h"

#include "tool.h"
#include "views.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct watcher {
    struct watcher *next;
    struct replay *replay;
    char *name;
    struct gm_listener *listener;
    bool has_begun; /* `begin` is written, its commit or abort not yet */
};

/* Where a call is written; every one is, but for prepare. */
static FILE *next_line(const struct watcher *watcher)
{
    watcher->replay->calls++;
    return watcher->replay->below;
}

/* NAME WHAT SPACE START SIZE REGION OFFSET, as all lines about a section begin. */
static void write_section(const struct watcher *watcher, const char *what,
                          const struct gm_section *section)
{
    char size[TOOL_HEX_BYTES];

    fprintf(next_line(watcher), "%s %s %u %" PRIx64 " %s %" PRIu32 " %" PRIx64, watcher->name, what,
            gm_space_index(section->space), section->gpa, tool_hex(gm_section_size(section), size),
            mapfile_region_of(section->region)->id, section->offset);
}

static void write_change(const struct watcher *watcher, const char *what,
                         const struct gm_section *section)
{
    char flags[FLAGS_TEXT_BYTES];

    write_section(watcher, what, section);
    fprintf(watcher->replay->below, " %s\n", flags_text(section->flags, flags));
}

static void write_log(const struct watcher *watcher, const char *what,
                      const struct gm_section *section, uint32_t old_mask, uint32_t new_mask)
{
    write_section(watcher, what, section);
    fprintf(watcher->replay->below, " %" PRIx32 " %" PRIx32 "\n", old_mask, new_mask);
}

static int watch_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                         size_t count, struct gm_diag *diag)
{
    struct watcher *watcher = opaque;

    (void)space;
    (void)changes;
    (void)count;
    (void)diag;
    return fault_hits(&watcher->replay->fault) ? -ENOMEM : 0;
}

static void watch_begin(void *opaque)
{
    struct watcher *watcher = opaque;

    watcher->has_begun = true;
    fprintf(next_line(watcher), "%s begin\n", watcher->name);
}

static void watch_commit(void *opaque)
{
    struct watcher *watcher = opaque;

    watcher->has_begun = false;
    fprintf(next_line(watcher), "%s commit\n", watcher->name);
}

static void watch_abort(void *opaque)
{
    struct watcher *watcher = opaque;

    if (watcher->has_begun) { /* else it has only prepared, which is not written either */
        fprintf(next_line(watcher), "%s abort\n", watcher->name);
    }
    watcher->has_begun = false;
}

static void watch_del(void *opaque, const struct gm_section *section)
{
    write_change(opaque, "del", section);
}

static void watch_nop(void *opaque, const struct gm_section *section)
{
    write_change(opaque, "nop", section);
}

static void watch_add(void *opaque, const struct gm_section *section)
{
    write_change(opaque, "add", section);
}

static void watch_log_start(void *opaque, const struct gm_section *section, uint32_t old_mask,
                            uint32_t new_mask)
{
    write_log(opaque, "log_start", section, old_mask, new_mask);
}

static void watch_log_stop(void *opaque, const struct gm_section *section, uint32_t old_mask,
                           uint32_t new_mask)
{
    write_log(opaque, "log_stop", section, old_mask, new_mask);
}

static const struct gm_listener_ops watch_ops = {
    .size = sizeof(watch_ops),
    .prepare = watch_prepare,
    .begin = watch_begin,
    .commit = watch_commit,
    .abort = watch_abort,
    .region_del = watch_del,
    .region_nop = watch_nop,
    .region_add = watch_add,
    .log_start = watch_log_start,
    .log_stop = watch_log_stop,
};

static struct watcher **find(struct replay *replay, const char *name)
{
    struct watcher **at = &replay->watchers;

    while (*at != NULL && strcmp((*at)->name, name) != 0) {
        at = &(*at)->next;
    }
    return at;
}

static void free_watcher(struct watcher *watcher)
{
    free(watcher->name);
    free(watcher);
}

int replay_watch(struct replay *replay, const char *name, struct gm_space *space, int32_t priority)
{
    struct watcher *watcher;
    int result;

    if (*find(replay, name) != NULL) {
        return -EEXIST;
    }
    watcher = tool_alloc(sizeof(*watcher));
    watcher->replay = replay;
    watcher->name = tool_strndup(name, strlen(name));
    result = gm_listener_register(replay->mapfile.map, space, priority, &watch_ops, watcher,
                                  &watcher->listener, NULL);
    if (result != 0) {
        free_watcher(watcher);
        return result;
    }
    watcher->next = replay->watchers;
    replay->watchers = watcher;
    return 0;
}

int replay_unwatch(struct replay *replay, const char *name)
{
    struct watcher **at = find(replay, name);
    struct watcher *watcher = *at;
    int result;

    if (watcher == NULL) {
        return -ENOENT;
    }
    result = gm_listener_unregister(watcher->listener, NULL);
    if (result == 0) {
        *at = watcher->next;
        free_watcher(watcher);
    }
    return result;
}

/* A map that broke refuses to unregister: then the listeners end with it, after this. */
void replay_free_watchers(struct replay *replay)
{
    while (replay->watchers != NULL) {
        struct watcher *watcher = replay->watchers;

        replay->watchers = watcher->next;
        free_watcher(watcher);
    }
}
