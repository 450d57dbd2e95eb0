/* trace_timeline.c - a picture of slots over time: a row for each, from its creation to its end. */
#include "trace_report.h"

#include "show.h"
#include "table.h"
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PICTURE_COLUMNS 60
/* So many rows of each VM. */
#define PICTURE_ROWS 400

struct picture {
    struct trace_life *lives;
    size_t count;
    size_t capacity;
};

static void add_life(struct picture *picture, const struct trace_life *life)
{
    picture->lives = tool_reserve(picture->lives, &picture->capacity, picture->count + 1,
                                  sizeof(picture->lives[0]));
    picture->lives[picture->count++] = *life;
}

static int compare(const void *a, const void *b)
{
    const struct trace_life *x = a;
    const struct trace_life *y = b;

    if (x->range.as != y->range.as) {
        return x->range.as < y->range.as ? -1 : 1;
    }
    if (x->range.gpa != y->range.gpa) {
        return x->range.gpa < y->range.gpa ? -1 : 1;
    }
    return x->begin_line < y->begin_line ? -1 : 1;
}

static void collect(struct picture *picture, const struct trace_follow *follow,
                    const struct trace_vm *vm)
{
    size_t i;

    for (i = 0; i < follow->life_count; i++) {
        if (follow->lives[i].vm == vm->index) {
            add_life(picture, &follow->lives[i]);
        }
    }
    for (i = 0; i < vm->by_gpa.count; i++) {
        const struct trace_slot *slot = vm->by_gpa.entries[i].item;
        struct trace_life life = {
            .range = slot->range,
            .number = slot->number,
            .begin_line = slot->line,
            .begin_us = slot->time_us,
        };

        add_life(picture, &life);
    }
    if (picture->count > 0) {
        qsort(picture->lives, picture->count, sizeof(picture->lives[0]), compare);
    }
}

/* The lines of the changes are the columns: slots change in bursts, and time would hide those. */
struct axis {
    unsigned long *lines; /* ascending */
    size_t count;
    size_t capacity;
};

static int compare_lines(const void *a, const void *b)
{
    unsigned long x = *(const unsigned long *)a;
    unsigned long y = *(const unsigned long *)b;

    return x < y ? -1 : x > y;
}

static void add_line(struct axis *axis, unsigned long line)
{
    axis->lines =
        tool_reserve(axis->lines, &axis->capacity, axis->count + 1, sizeof(axis->lines[0]));
    axis->lines[axis->count++] = line;
}

static void make_axis(struct axis *axis, const struct picture *picture)
{
    size_t kept = 0;
    size_t i;

    for (i = 0; i < picture->count; i++) {
        add_line(axis, picture->lives[i].begin_line);
        if (picture->lives[i].end_line != 0) {
            add_line(axis, picture->lives[i].end_line);
        }
    }
    qsort(axis->lines, axis->count, sizeof(axis->lines[0]), compare_lines);
    for (i = 0; i < axis->count; i++) {
        if (kept == 0 || axis->lines[kept - 1] != axis->lines[i]) {
            axis->lines[kept++] = axis->lines[i];
        }
    }
    axis->count = kept;
}

static size_t column_of(const struct axis *axis, unsigned long line)
{
    const unsigned long *found =
        bsearch(&line, axis->lines, axis->count, sizeof(axis->lines[0]), compare_lines);
    size_t index = found != NULL ? (size_t)(found - axis->lines) : axis->count;

    return axis->count <= PICTURE_COLUMNS ? index : index * PICTURE_COLUMNS / axis->count;
}

static void draw(const struct axis *axis, const struct trace_life *life,
                 char text[PICTURE_COLUMNS + 2])
{
    size_t width = axis->count < PICTURE_COLUMNS ? axis->count : PICTURE_COLUMNS;
    size_t begin = column_of(axis, life->begin_line);
    size_t end = life->end_line != 0 ? column_of(axis, life->end_line) : width;
    size_t i;

    memset(text, '.', width);
    text[width] = '\0';
    for (i = begin; i < end && i < width; i++) {
        text[i] = '=';
    }
    text[begin] = '[';
    if (end < width) {
        text[end] = end == begin ? '#' : ']';
    }
}

static void print_time(struct table *table, bool has_time, bool is_there, uint64_t us)
{
    if (has_time && is_there) {
        table_add(table, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
    } else {
        table_add(table, "%s", "");
    }
}

static void print_rows(const struct trace_follow *follow, const struct picture *picture,
                       const struct axis *axis)
{
    static const struct table_column columns[] = {
        {"as", TABLE_RIGHT},   {"first", TABLE_RIGHT},   {"size", TABLE_RIGHT},
        {"slot", TABLE_RIGHT}, {"hva", TABLE_RIGHT},     {"created", TABLE_RIGHT},
        {"line", TABLE_RIGHT}, {"deleted", TABLE_RIGHT}, {"line", TABLE_RIGHT},
        {"", TABLE_LEFT},
    };
    char text[PICTURE_COLUMNS + 2];
    char size[SHOW_SIZE_BYTES];
    struct table table;
    size_t i;

    table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
    for (i = 0; i < picture->count && i < PICTURE_ROWS; i++) {
        const struct trace_life *life = &picture->lives[i];

        table_add_number_if(&table, life->range.as > 0, life->range.as);
        table_add(&table, "%" PRIx64, life->range.gpa);
        table_add(&table, "%s",
                  show_size((gm_size_t)(life->range.last - life->range.gpa) + 1, size));
        table_add(&table, "%" PRIu32, life->number);
        table_add(&table, "%" PRIx64, life->range.hva);
        print_time(&table, follow->has_time, true, life->begin_us);
        table_add(&table, "%lu", life->begin_line);
        print_time(&table, follow->has_time, life->end_line != 0, life->end_us);
        table_add_number_if(&table, life->end_line != 0, life->end_line);
        draw(axis, life, text);
        table_add(&table, "%s", text);
    }
    table_print(&table);
    if (picture->count > PICTURE_ROWS) {
        printf("  ... and %zu more\n", picture->count - PICTURE_ROWS);
    }
}

void trace_timeline_print(const struct trace_follow *follow, size_t vm_count)
{
    size_t i;

    for (i = 0; i < vm_count; i++) {
        struct picture picture = {0};
        struct axis axis = {0};

        collect(&picture, follow, follow->vms[i]);
        if (picture.count > 0) {
            make_axis(&axis, &picture);
            printf("\nTIMELINE of VM %zu: %zu changes in %s, [ created, ] deleted, # both\n", i,
                   axis.count, axis.count > PICTURE_COLUMNS ? "60 columns" : "a column each");
            print_rows(follow, &picture, &axis);
        }
        free(picture.lives);
        free(axis.lines);
    }
    if (follow->lives_left_out > 0) {
        printf("  ... and %" PRIu64 " earlier or later slots that were not kept\n",
               follow->lives_left_out);
    }
}
