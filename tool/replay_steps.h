/*
 * replay_steps.h - the steps of `guestmem replay`: what a line after the map says. All of a file's
 * steps are parsed before the first one is run, so that a bad line leaves no half of an output.
 *
 * IDs, address spaces and names are not looked up here: that one is unknown is a step's result.
 */
#ifndef TOOL_REPLAY_STEPS_H
#define TOOL_REPLAY_STEPS_H

#include "lines.h"

enum step_kind {
    STEP_WATCH,
    STEP_UNWATCH,
    STEP_SLOTS,
    STEP_BEGIN,
    STEP_COMMIT,
    STEP_ABORT,
    STEP_SET,
    STEP_ADD,
    STEP_DEL,
    STEP_LOG,
    STEP_WRITE,
    STEP_DIRTY,
    STEP_FAIL,
    STEP_VIEWS,
    STEP_SHOW_SLOTS,
    STEP_STATS,
};

/* What `set` sets. */
enum step_attribute {
    SET_ENABLED,
    SET_READONLY,
    SET_ROMD,
    SET_NONVOLATILE,
    SET_ADDR,
    SET_SIZE,
    SET_PRIORITY,
    SET_OFFSET,
};

struct step {
    enum step_kind kind;
    char *text;     /* the line as it is echoed */
    char *name;     /* WATCH, UNWATCH: the listener's */
    bool is_all;    /* WATCH: all address spaces; LOG: all regions */
    bool is_on;     /* LOG; SET: the booleans */
    uint32_t space; /* WATCH, SLOTS, WRITE */
    uint32_t id;    /* SET, LOG, DIRTY; ADD, DEL: the parent's */
    uint32_t child; /* ADD, DEL */
    uint32_t client;
    int32_t priority; /* WATCH, SET */
    enum step_attribute attribute;
    gm_size_t value;       /* SET: addr, size, offset; WRITE: address; FAIL: N */
    uint64_t length_bytes; /* WRITE */
    bool has_max;          /* SLOTS */
    uint32_t max;
};

struct steps {
    struct step *list;
    size_t count;
    size_t capacity;
};

/*
 * Parse from lines' current line to the end of the file. Return: 0; -1 a line is wrong, and the
 * user has been told. steps_free() after both.
 */
int steps_read(struct steps *steps, struct lines *lines);
void steps_free(struct steps *steps);

#endif
