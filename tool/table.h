/*
 * table.h - columns for people: cells are collected, then printed as wide as their column needs.
 *
 * A column whose cells are all empty is left out. The last column is not padded, so it is the place
 * for names. Bytes that would steer a terminal are printed as \xNN.
 */
#ifndef TOOL_TABLE_H
#define TOOL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_column {
    const char *title; /* literal */
    enum table_side { TABLE_LEFT, TABLE_RIGHT } side;
};

struct table {
    const struct table_column *columns; /* borrowed */
    size_t column_count;
    char **cells; /* row after row */
    size_t cell_count;
    size_t capacity;
};

void table_init(struct table *table, const struct table_column *columns, size_t column_count);

/* The next cell; rows fill from left to right. */
void table_add(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same: a number where there is one, else an empty cell. */
void table_add_number_if(struct table *table, bool is_there, uint64_t number);

/* Print on stdout, with titles, and free the cells. A table without rows prints nothing. */
void table_print(struct table *table);

#endif
