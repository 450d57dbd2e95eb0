/* view/diff.c - comparing two ascending lists of ranges. */
#include "view/diff.h"

#include <errno.h>

/* A source being read: cheap steps also where it is a view's leaves. */
struct cursor {
    struct range_source source;
    const struct range *now; /* NULL at the end */
    size_t leaf;
    size_t in_leaf;
};

static void cursor_load(struct cursor *cursor)
{
    const struct range_source *source = &cursor->source;

    if (source->first >= source->end) {
        cursor->now = NULL;
    } else if (source->view == NULL) {
        cursor->now = &source->array[source->first];
    } else {
        while (cursor->in_leaf >= source->view->leaves[cursor->leaf]->count) {
            cursor->in_leaf -= source->view->leaves[cursor->leaf]->count;
            cursor->leaf++;
        }
        cursor->now = &source->view->leaves[cursor->leaf]->ranges[cursor->in_leaf];
    }
}

static struct cursor cursor_begin(struct range_source source)
{
    struct cursor cursor = {.source = source, .in_leaf = source.first};

    cursor_load(&cursor);
    return cursor;
}

static void cursor_next(struct cursor *cursor)
{
    cursor->source.first++;
    cursor->in_leaf++;
    cursor_load(cursor);
}

static struct gm_change *append(struct change_list *list, const struct gm_allocator *allocator,
                                enum gm_change_kind kind, const struct range *range)
{
    struct gm_change *items =
        mem_reserve(allocator, list->items, &list->capacity, list->count + 1, sizeof(*items));
    struct gm_change *change;

    if (items == NULL) {
        return NULL;
    }
    list->items = items;
    change = &items[list->count];
    list->count++;
    *change = (struct gm_change){.kind = kind};
    range_to_section(range, NULL, &change->section);
    return change;
}

/* An eventfd is shown by the range that holds all of its bytes. */
static bool shows_eventfd(const struct range *range, const struct gm_eventfd *eventfd)
{
    uint64_t size = eventfd->size_bytes != 0 ? eventfd->size_bytes : 1;

    return eventfd->offset >= range->offset &&
           eventfd->offset - range->offset <= range->last - range->gpa &&
           bytes_until(eventfd->offset - range->offset, range->last - range->gpa, size) == size;
}

/* Those of the range's eventfds that are not in @except, too. */
static int append_eventfds(struct change_list *list, const struct gm_allocator *allocator,
                           enum gm_change_kind kind, const struct range *range,
                           const struct eventfd_list *except)
{
    const struct eventfd_list *eventfds = range->eventfds;
    uint32_t i;

    for (i = 0; eventfds != NULL && eventfds != except && i < eventfds->count; i++) {
        const struct gm_eventfd *eventfd = &eventfds->items[i].given;

        if (shows_eventfd(range, eventfd) && !eventfd_list_has(except, eventfd)) {
            struct gm_change *change = append(list, allocator, kind, range);

            if (change == NULL) {
                return -ENOMEM;
            }
            change->eventfd = *eventfd;
            change->eventfd.offset = range->gpa + (eventfd->offset - range->offset);
        }
    }
    return 0;
}

/* What shows of those of the range's coalesced ranges that are not in @except, too. */
static int append_coalesced(struct change_list *list, const struct gm_allocator *allocator,
                            enum gm_change_kind kind, const struct range *range,
                            const struct coalesced_list *except)
{
    const struct coalesced_list *coalesced = range->coalesced;
    struct span shown = {range->gpa, (pos_t)range->last + 1};

    for (uint32_t i = 0; coalesced != NULL && coalesced != except && i < coalesced->count; i++) {
        const struct coalesced_item *item = &coalesced->items[i];
        struct span span =
            span_of((pos_t)range->gpa + item->offset - (pos_t)range->offset, (pos_t)item->size);

        span = span_meet(span, shown);
        if (!span_is_empty(span) && !coalesced_list_has(except, item)) {
            struct gm_change *change = append(list, allocator, kind, range);

            if (change == NULL) {
                return -ENOMEM;
            }
            change->coalesced =
                (struct gm_coalesced){(uint64_t)span.start, (uint64_t)(span.end - 1)};
        }
    }
    return 0;
}

static int append_log(struct change_list *list, const struct gm_allocator *allocator,
                      const struct range *range, uint32_t old_mask)
{
    static const enum gm_change_kind kinds[] = {GM_CHANGE_LOG_START, GM_CHANGE_LOG_STOP};
    uint32_t differing[] = {range->log_mask & ~old_mask, old_mask & ~range->log_mask};
    unsigned i;

    for (i = 0; i < 2; i++) {
        if (differing[i] != 0) {
            struct gm_change *change = append(list, allocator, kinds[i], range);

            if (change == NULL) {
                return -ENOMEM;
            }
            change->old_mask = old_mask;
            change->new_mask = range->log_mask;
        }
    }
    return 0;
}

/* Advance @cursor to the range that begins at @gpa; is it equal to @range? */
static bool find_equal(struct cursor *cursor, const struct range *range)
{
    while (cursor->now != NULL && cursor->now->gpa < range->gpa) {
        cursor_next(cursor);
    }
    return cursor->now != NULL && range_equals(cursor->now, range);
}

int diff_first_pass(struct change_list *list, const struct gm_allocator *allocator,
                    struct range_source before, struct range_source after)
{
    struct cursor old = cursor_begin(before);
    struct cursor new = cursor_begin(after);
    int result = 0;

    for (; old.now != NULL && result == 0; cursor_next(&old)) {
        bool stays = find_equal(&new, old.now);

        result = append_eventfds(list, allocator, GM_CHANGE_EVENTFD_DEL, old.now,
                                 stays ? new.now->eventfds : NULL);
        if (result == 0) {
            result = append_coalesced(list, allocator, GM_CHANGE_COALESCED_DEL, old.now,
                                      stays ? new.now->coalesced : NULL);
        }
        if (result == 0 && !stays && append(list, allocator, GM_CHANGE_DEL, old.now) == NULL) {
            result = -ENOMEM;
        }
    }
    list->second_pass = list->count;
    return result;
}

int diff_second_pass(struct change_list *list, const struct gm_allocator *allocator,
                     struct range_source before, struct range_source after)
{
    struct cursor old = cursor_begin(before);
    struct cursor new = cursor_begin(after);
    int result = 0;

    for (; new.now != NULL &&result == 0; cursor_next(&new)) {
        bool stays = find_equal(&old, new.now);

        if (append(list, allocator, stays ? GM_CHANGE_NOP : GM_CHANGE_ADD, new.now) == NULL) {
            return -ENOMEM;
        }
        result = append_coalesced(list, allocator, GM_CHANGE_COALESCED_ADD, new.now,
                                  stays ? old.now->coalesced : NULL);
        if (result == 0) {
            result = append_eventfds(list, allocator, GM_CHANGE_EVENTFD_ADD, new.now,
                                     stays ? old.now->eventfds : NULL);
        }
        if (result == 0) {
            result = append_log(list, allocator, new.now, stays ? old.now->log_mask : 0);
        }
    }
    return result;
}
