/* replay_slots.c - slot backends that write down the operations they are given, and no more. */
#include "replay.h"

#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct recorder {
    struct recorder *next;
    struct replay *replay;
    struct gm_space *space;
    struct gm_slots *slots;
};

const char *slot_flags_text(uint32_t flags, char text[SLOT_FLAGS_TEXT_BYTES])
{
    size_t length = 0;

    if ((flags & GM_SLOT_LOG) != 0) {
        text[length++] = 'l';
    }
    if ((flags & GM_SLOT_READONLY) != 0) {
        text[length++] = 'o';
    }
    if (length == 0) {
        text[length++] = '-';
    }
    text[length] = '\0';
    return text;
}

/* NUMBER GPA SIZE FLAGS REGION OFFSET */
static void write_slot(FILE *out, const struct gm_slot *slot)
{
    char flags[SLOT_FLAGS_TEXT_BYTES];

    fprintf(out, "%" PRIx32 " %" PRIx64 " %" PRIx64 " %s %" PRIu32 " %" PRIx64 "\n", slot->number,
            slot->gpa, slot->size_bytes, slot_flags_text(slot->flags, flags),
            mapfile_region_of(slot->region)->id, slot->offset);
}

/* An operation that fails has not happened: it leaves no line. */
static int record_create(void *opaque, const struct gm_slot *slot)
{
    struct replay *replay = ((struct recorder *)opaque)->replay;

    if (fault_hits(&replay->fault)) {
        return -EIO;
    }
    fputs("op create ", replay->below);
    write_slot(replay->below, slot);
    replay->slot_ops++;
    return 0;
}

static int record_destroy(void *opaque, const struct gm_slot *slot)
{
    struct replay *replay = ((struct recorder *)opaque)->replay;

    if (fault_hits(&replay->fault)) {
        return -EIO;
    }
    fprintf(replay->below, "op delete %" PRIx32 "\n", slot->number);
    replay->slot_ops++;
    return 0;
}

static int record_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    struct replay *replay = ((struct recorder *)opaque)->replay;
    char flags[SLOT_FLAGS_TEXT_BYTES];

    if (fault_hits(&replay->fault)) {
        return -EIO;
    }
    fprintf(replay->below, "op flags %" PRIx32 " %s\n", slot->number,
            slot_flags_text(new_flags, flags));
    replay->slot_ops++;
    return 0;
}

static int record_hold(void *opaque)
{
    struct replay *replay = ((struct recorder *)opaque)->replay;

    if (fault_hits(&replay->fault)) {
        return -EIO;
    }
    fputs("op hold\n", replay->below);
    return 0;
}

static void record_release(void *opaque)
{
    struct replay *replay = ((struct recorder *)opaque)->replay;

    fputs("op release\n", replay->below);
}

/* Nobody runs on these slots: all pages are clean. */
static int record_log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                            uint64_t page_count, uint64_t *bitmap)
{
    struct replay *replay = ((struct recorder *)opaque)->replay;

    (void)first_page;
    (void)page_count;
    if (fault_hits(&replay->fault)) {
        return -EIO;
    }
    memset(bitmap, 0, (slot->size_bytes / GM_DIRTY_PAGE_BYTES + 63) / 64 * sizeof(*bitmap));
    return 0;
}

static const struct gm_backend_ops record_ops = {
    .size = sizeof(record_ops),
    .create = record_create,
    .destroy = record_destroy,
    .set_flags = record_set_flags,
    .hold = record_hold,
    .release = record_release,
    .log_fetch = record_log_fetch,
};

int replay_attach_slots(struct replay *replay, struct gm_space *space, const uint32_t *max)
{
    struct gm_backend_options options = {.size = sizeof(options)};
    struct recorder **at = &replay->recorders;
    struct recorder *recorder;
    int result;

    if (max != NULL && *max == 0) {
        return -EINVAL; /* to the library, 0 is its own limit */
    }
    options.max_slots = max != NULL ? *max : 0;
    options.allocator = &replay->allocator;
    while (*at != NULL && gm_space_index((*at)->space) < gm_space_index(space)) {
        at = &(*at)->next;
    }
    if (*at != NULL && (*at)->space == space) {
        return -EEXIST;
    }
    recorder = tool_alloc(sizeof(*recorder));
    *recorder = (struct recorder){.next = *at, .replay = replay, .space = space};
    result = gm_slots_attach(space, &options, &record_ops, recorder, &recorder->slots, NULL);
    if (result != 0) {
        free(recorder);
        return result;
    }
    *at = recorder;
    return 0;
}

void replay_show_slots(struct replay *replay)
{
    struct recorder *recorder;

    for (recorder = replay->recorders; recorder != NULL; recorder = recorder->next) {
        size_t count = gm_slots_list(recorder->slots, NULL, 0);
        struct gm_slot *list = tool_alloc(count * sizeof(*list));
        size_t i;

        gm_slots_list(recorder->slots, list, count);
        for (i = 0; i < count; i++) {
            fputs("slot ", replay->below);
            write_slot(replay->below, &list[i]);
        }
        free(list);
    }
}

void replay_free_slots(struct replay *replay)
{
    while (replay->recorders != NULL) {
        struct recorder *recorder = replay->recorders;
        int result = gm_slots_detach(recorder->slots, NULL);

        replay->recorders = recorder->next;
        if (result != 0) {
            continue; /* a broken map: its operations may yet be called while it ends */
        }
        free(recorder);
    }
}
