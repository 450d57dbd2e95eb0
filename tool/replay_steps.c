/* replay_steps.c - parsing the steps of `guestmem replay`. */
#include "replay_steps.h"

#include "tool.h"

#include <stdlib.h>
#include <string.h>

/* ---- fields that several steps have ---- */

static int take_name(struct lines *lines, char **name)
{
    struct word word;

    if (take_word(lines, "NAME", &word) != 0) {
        return -1;
    }
    *name = tool_strndup(word.text, word.length);
    return 0;
}

/* One of two words. */
static int take_choice(struct lines *lines, const char *off, const char *on, bool *is_on)
{
    struct word word;

    if (take_word(lines, on, &word) != 0) {
        return -1;
    }
    *is_on = word_is(word, on);
    if (!*is_on && !word_is(word, off)) {
        return lines_error(lines, "'%.*s' is neither %s nor %s",
                           word.length < 60 ? (int)word.length : 60, word.text, off, on);
    }
    return 0;
}

/* Is the next field this very word? Then it is taken. */
static bool take_if(struct lines *lines, const char *text)
{
    const char *before = lines->next;
    struct word word;

    if (has_more(lines) && take_word(lines, "", &word) == 0 && word_is(word, text)) {
        return true;
    }
    lines->next = before;
    return false;
}

/* ---- the steps ---- */

static int parse_watch(struct lines *lines, struct step *step)
{
    if (take_name(lines, &step->name) != 0) {
        return -1;
    }
    step->is_all = take_if(lines, "-");
    if (!step->is_all && take_decimal(lines, "SPACE", &step->space) != 0) {
        return -1;
    }
    return take_signed(lines, "PRIORITY", 16, &step->priority);
}

static int parse_unwatch(struct lines *lines, struct step *step)
{
    return take_name(lines, &step->name);
}

static int parse_slots(struct lines *lines, struct step *step)
{
    if (take_decimal(lines, "SPACE", &step->space) != 0) {
        return -1;
    }
    step->has_max = has_more(lines);
    return step->has_max ? take_decimal(lines, "MAX", &step->max) : 0;
}

static int parse_nothing(struct lines *lines, struct step *step)
{
    (void)lines;
    (void)step;
    return 0;
}

static int parse_set(struct lines *lines, struct step *step)
{
    static const struct {
        const char *word;
        enum step_attribute attribute;
    } attributes[] = {
        {"enabled", SET_ENABLED},         {"readonly", SET_READONLY}, {"romd", SET_ROMD},
        {"nonvolatile", SET_NONVOLATILE}, {"addr", SET_ADDR},         {"size", SET_SIZE},
        {"priority", SET_PRIORITY},       {"offset", SET_OFFSET},
    };
    const size_t count = sizeof(attributes) / sizeof(attributes[0]);
    struct word word;
    size_t i;

    if (take_decimal(lines, "ID", &step->id) != 0 || take_word(lines, "what to set", &word) != 0) {
        return -1;
    }
    for (i = 0; i < count && !word_is(word, attributes[i].word); i++) {
    }
    if (i == count) {
        return lines_error(lines, "a region has no '%.*s' to set",
                           word.length < 60 ? (int)word.length : 60, word.text);
    }
    step->attribute = attributes[i].attribute;
    switch (step->attribute) {
    case SET_ADDR:
    case SET_OFFSET:
        return take_hex(lines, "VALUE", UINT64_MAX, &step->value);
    case SET_SIZE:
        return take_hex(lines, "VALUE", GM_SIZE_2_64, &step->value);
    case SET_PRIORITY:
        return take_signed(lines, "PRIORITY", 10, &step->priority);
    default:
        return take_choice(lines, "0", "1", &step->is_on);
    }
}

static int parse_link(struct lines *lines, struct step *step)
{
    if (take_decimal(lines, "PARENT", &step->id) != 0) {
        return -1;
    }
    return take_decimal(lines, "CHILD", &step->child);
}

static int parse_log(struct lines *lines, struct step *step)
{
    step->is_all = take_if(lines, "all");
    if ((!step->is_all && take_decimal(lines, "ID", &step->id) != 0) ||
        take_decimal(lines, "CLIENT", &step->client) != 0) {
        return -1;
    }
    return take_choice(lines, "off", "on", &step->is_on);
}

static int parse_write(struct lines *lines, struct step *step)
{
    if (take_decimal(lines, "SPACE", &step->space) != 0 ||
        take_hex(lines, "ADDR", UINT64_MAX, &step->value) != 0) {
        return -1;
    }
    return take_hex64(lines, "LEN", &step->length_bytes);
}

static int parse_dirty(struct lines *lines, struct step *step)
{
    if (take_decimal(lines, "ID", &step->id) != 0) {
        return -1;
    }
    return take_decimal(lines, "CLIENT", &step->client);
}

static int parse_fail(struct lines *lines, struct step *step)
{
    return take_hex(lines, "N", UINT64_MAX, &step->value);
}

static const struct {
    const char *word;
    enum step_kind kind;
    int (*parse)(struct lines *lines, struct step *step);
} kinds[] = {
    {"watch", STEP_WATCH, parse_watch},
    {"unwatch", STEP_UNWATCH, parse_unwatch},
    {"slots", STEP_SLOTS, parse_slots},
    {"begin", STEP_BEGIN, parse_nothing},
    {"commit", STEP_COMMIT, parse_nothing},
    {"abort", STEP_ABORT, parse_nothing},
    {"set", STEP_SET, parse_set},
    {"add", STEP_ADD, parse_link},
    {"del", STEP_DEL, parse_link},
    {"log", STEP_LOG, parse_log},
    {"write", STEP_WRITE, parse_write},
    {"dirty", STEP_DIRTY, parse_dirty},
    {"fail", STEP_FAIL, parse_fail},
    {"views", STEP_VIEWS, parse_nothing},
    {"show-slots", STEP_SHOW_SLOTS, parse_nothing},
    {"stats", STEP_STATS, parse_nothing},
};

static bool is_map_line(struct word word)
{
    return word_is(word, "region") || word_is(word, "alias") || word_is(word, "sub") ||
           word_is(word, "as");
}

static int parse_step(struct lines *lines, struct step *step)
{
    struct word word;
    size_t i;

    if (take_word(lines, "a step", &word) != 0) {
        return -1;
    }
    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (word_is(word, kinds[i].word)) {
            step->kind = kinds[i].kind;
            return kinds[i].parse(lines, step) == 0 ? take_end(lines) : -1;
        }
    }
    if (is_map_line(word)) {
        return lines_error(lines, "the map has ended with the first step, above");
    }
    return lines_error(lines, "'%.*s' is neither a line of a map nor a step",
                       word.length < 60 ? (int)word.length : 60, word.text);
}

int steps_read(struct steps *steps, struct lines *lines)
{
    int result;

    *steps = (struct steps){0};
    do {
        struct step *step;

        steps->list = tool_reserve(steps->list, &steps->capacity, steps->count + 1, sizeof(*step));
        step = &steps->list[steps->count++];
        *step = (struct step){.text = tool_strndup(lines->text, strlen(lines->text))};
        if (parse_step(lines, step) != 0) {
            return -1;
        }
        result = lines_next(lines);
    } while (result == 1);
    return result;
}

void steps_free(struct steps *steps)
{
    size_t i;

    for (i = 0; i < steps->count; i++) {
        free(steps->list[i].text);
        free(steps->list[i].name);
    }
    free(steps->list);
}
