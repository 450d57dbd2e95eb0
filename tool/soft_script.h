/*
 * soft_script.h - the lines of a `guestmem soft` script. All of a file's lines are parsed before
 * the first one is run, so that a bad line leaves no half of an output.
 */
#ifndef TOOL_SOFT_SCRIPT_H
#define TOOL_SOFT_SCRIPT_H

#include "lines.h"

enum script_verb {
    SCRIPT_COMMENT,
    SCRIPT_VM,
    SCRIPT_SET,   /* SLOT FLAGS GPA SIZE OFF */
    SCRIPT_SETA,  /* the same with an absolute host address */
    SCRIPT_LOG,   /* SLOT PAGES */
    SCRIPT_CLEAR, /* SLOT FIRST N, and words */
    SCRIPT_CAP,   /* CAP ARG */
    SCRIPT_W,     /* N GPA VALUE */
    SCRIPT_R,     /* N GPA */
    SCRIPT_RA,    /* N GPA */
    SCRIPT_X,     /* GPA */
    SCRIPT_ADD,   /* GPA VALUE */
    SCRIPT_MOVS,  /* DST SRC N */
    SCRIPT_HW,    /* OFF VALUE */
    SCRIPT_HR,    /* OFF */
    SCRIPT_MADV,  /* OFF SIZE */
    SCRIPT_MPROT, /* OFF SIZE PROT */
    SCRIPT_SUM,
};

#define SCRIPT_FIELDS_MAX 5

struct script_line {
    enum script_verb verb;
    char *text;                         /* as it is echoed */
    uint64_t fields[SCRIPT_FIELDS_MAX]; /* in the order in which they stand on the line */
    uint64_t *words;                    /* CLEAR: the bitmap */
    size_t word_count;
};

struct script {
    struct script_line *lines;
    size_t count;
    size_t capacity;
};

/*
 * Parse to the end of the file. Return: 0; -1 a line is wrong, and the user has been told.
 * script_free() after both.
 */
int script_read(struct script *script, struct lines *lines);
void script_free(struct script *script);

#endif
