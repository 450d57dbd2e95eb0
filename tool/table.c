/* table.c - aligned columns. */
#include "table.h"

#include "tool.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void table_init(struct table *table, const struct table_column *columns, size_t column_count)
{
    *table = (struct table){.columns = columns, .column_count = column_count};
}

void table_add(struct table *table, const char *format, ...)
{
    va_list arguments;
    char *text;
    int length;

    va_start(arguments, format);
    length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) {
        tool_error("out of memory");
        exit(TOOL_FAILED);
    }
    table->cells = tool_reserve(table->cells, &table->capacity, table->cell_count + 1,
                                sizeof(table->cells[0]));
    table->cells[table->cell_count++] = tool_printable(text);
    free(text);
}

void table_add_number_if(struct table *table, bool is_there, uint64_t number)
{
    if (is_there) {
        table_add(table, "%" PRIu64, number);
    } else {
        table_add(table, "%s", "");
    }
}

/* Characters, not bytes: names may be UTF-8. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static size_t column_width(const struct table *table, size_t column)
{
    size_t widest = 0;
    size_t i;

    for (i = column; i < table->cell_count; i += table->column_count) {
        size_t width = width_of(table->cells[i]);

        widest = width > widest ? width : widest;
    }
    if (widest == 0) {
        return 0;
    }
    return widest > strlen(table->columns[column].title) ? widest
                                                         : strlen(table->columns[column].title);
}

static void print_cell(const struct table *table, const size_t *widths, size_t column,
                       const char *text)
{
    int padding = (int)(widths[column] - width_of(text));

    if (widths[column] == 0) {
        return;
    }
    if (table->columns[column].side == TABLE_RIGHT) {
        printf("  %*s%s", padding, "", text);
    } else if (column + 1 == table->column_count) {
        printf("  %s", text);
    } else {
        printf("  %s%*s", text, padding, "");
    }
}

void table_print(struct table *table)
{
    size_t *widths = tool_alloc(table->column_count * sizeof(*widths));
    size_t i;

    for (i = 0; i < table->column_count; i++) {
        widths[i] = column_width(table, i);
    }
    for (i = 0; i < table->column_count && table->cell_count > 0; i++) {
        print_cell(table, widths, i, widths[i] != 0 ? table->columns[i].title : "");
    }
    for (i = 0; i < table->cell_count; i++) {
        if (i % table->column_count == 0) {
            putchar('\n');
        }
        print_cell(table, widths, i % table->column_count, table->cells[i]);
        free(table->cells[i]);
    }
    if (table->cell_count > 0) {
        putchar('\n');
    }
    free(table->cells);
    free(widths);
}
