/* soft_script.c - parsing the lines of `guestmem soft`. */
#include "soft_script.h"

#include "soft_memory.h"
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What may stand in a field. */
enum field_kind {
    FIELD_NONE, /* the line is over */
    FIELD_ANY,  /* 64 bits */
    FIELD_32,   /* 32 bits */
    FIELD_ACCESS_BYTES,
    FIELD_WORD_OFFSET, /* of 8 bytes within the memory */
    FIELD_OFFSET,      /* of a range within the memory, whose size comes next */
    FIELD_SIZE,
    FIELD_PAGES,
    FIELD_PROTECTION,
};

/* No slot has as many pages (Linux, KVM_MEM_MAX_NR_PAGES). */
#define PAGES_MAX (1ull << 31)
/* rep movsb of more would keep an emulated machine busy for minutes. */
#define WORDS_MAX 4096u

static const struct {
    const char *word;
    enum script_verb verb;
    struct {
        const char *name;
        enum field_kind kind;
    } fields[SCRIPT_FIELDS_MAX];
} verbs[] = {
    {"vm", SCRIPT_VM, {{NULL, FIELD_NONE}}},
    {"set",
     SCRIPT_SET,
     {{"SLOT", FIELD_32},
      {"FLAGS", FIELD_32},
      {"GPA", FIELD_ANY},
      {"SIZE", FIELD_ANY},
      {"OFF", FIELD_ANY}}},
    {"seta",
     SCRIPT_SETA,
     {{"SLOT", FIELD_32},
      {"FLAGS", FIELD_32},
      {"GPA", FIELD_ANY},
      {"SIZE", FIELD_ANY},
      {"HVA", FIELD_ANY}}},
    {"log", SCRIPT_LOG, {{"SLOT", FIELD_32}, {"PAGES", FIELD_PAGES}}},
    {"clear", SCRIPT_CLEAR, {{"SLOT", FIELD_32}, {"FIRST", FIELD_ANY}, {"N", FIELD_32}}},
    {"cap", SCRIPT_CAP, {{"CAP", FIELD_32}, {"ARG", FIELD_ANY}}},
    {"w", SCRIPT_W, {{"N", FIELD_ACCESS_BYTES}, {"GPA", FIELD_ANY}, {"VALUE", FIELD_ANY}}},
    {"r", SCRIPT_R, {{"N", FIELD_ACCESS_BYTES}, {"GPA", FIELD_ANY}}},
    {"ra", SCRIPT_RA, {{"N", FIELD_ACCESS_BYTES}, {"GPA", FIELD_ANY}}},
    {"x", SCRIPT_X, {{"GPA", FIELD_ANY}}},
    {"add", SCRIPT_ADD, {{"GPA", FIELD_ANY}, {"VALUE", FIELD_ANY}}},
    {"movs", SCRIPT_MOVS, {{"DST", FIELD_ANY}, {"SRC", FIELD_ANY}, {"N", FIELD_ANY}}},
    {"hw", SCRIPT_HW, {{"OFF", FIELD_WORD_OFFSET}, {"VALUE", FIELD_ANY}}},
    {"hr", SCRIPT_HR, {{"OFF", FIELD_WORD_OFFSET}}},
    {"madv", SCRIPT_MADV, {{"OFF", FIELD_OFFSET}, {"SIZE", FIELD_SIZE}}},
    {"mprot",
     SCRIPT_MPROT,
     {{"OFF", FIELD_OFFSET}, {"SIZE", FIELD_SIZE}, {"PROT", FIELD_PROTECTION}}},
    {"sum", SCRIPT_SUM, {{NULL, FIELD_NONE}}},
};
#define VERB_COUNT (sizeof(verbs) / sizeof(verbs[0]))

static int take_field(struct lines *lines, const char *name, enum field_kind kind,
                      struct script_line *line, unsigned index)
{
    uint64_t max = UINT64_MAX;
    gm_size_t value;

    switch (kind) {
    case FIELD_32:
        max = UINT32_MAX;
        break;
    case FIELD_WORD_OFFSET:
        max = SCRIPT_MEMORY_BYTES - sizeof(uint64_t);
        break;
    case FIELD_OFFSET:
        max = SCRIPT_MEMORY_BYTES;
        break;
    case FIELD_SIZE:
        max = SCRIPT_MEMORY_BYTES - line->fields[index - 1];
        break;
    case FIELD_PAGES:
        max = PAGES_MAX;
        break;
    default:
        break;
    }
    if (take_hex(lines, name, max, &value) != 0) {
        return -1;
    }
    line->fields[index] = (uint64_t)value;
    if (kind == FIELD_ACCESS_BYTES && value != 1 && value != 2 && value != 4 && value != 8) {
        return lines_error(lines, "%s is 1, 2, 4 or 8, not %" PRIx64, name, (uint64_t)value);
    }
    if (kind == FIELD_PROTECTION && value != PROT_NONE && value != PROT_READ &&
        value != (PROT_READ | PROT_WRITE)) {
        return lines_error(lines, "%s is 0, 1 or 3, not %" PRIx64, name, (uint64_t)value);
    }
    return 0;
}

static int take_words(struct lines *lines, struct script_line *line)
{
    size_t capacity = 0;

    while (has_more(lines)) {
        if (line->word_count == WORDS_MAX) {
            return lines_error(lines, "more than %u words", WORDS_MAX);
        }
        line->words =
            tool_reserve(line->words, &capacity, line->word_count + 1, sizeof(*line->words));
        if (take_hex64(lines, "a word", &line->words[line->word_count]) != 0) {
            return -1;
        }
        line->word_count++;
    }
    return 0;
}

static int parse_line(struct lines *lines, struct script_line *line)
{
    struct word word;
    unsigned i;
    size_t verb;

    if (*lines->text == '#') {
        line->verb = SCRIPT_COMMENT;
        return 0;
    }
    if (take_word(lines, "a word", &word) != 0) {
        return -1;
    }
    for (verb = 0; verb < VERB_COUNT && !word_is(word, verbs[verb].word); verb++) {
    }
    if (verb == VERB_COUNT) {
        return lines_error(lines, "'%.*s' is not a word of a script",
                           word.length < 60 ? (int)word.length : 60, word.text);
    }
    line->verb = verbs[verb].verb;
    for (i = 0; i < SCRIPT_FIELDS_MAX && verbs[verb].fields[i].kind != FIELD_NONE; i++) {
        if (take_field(lines, verbs[verb].fields[i].name, verbs[verb].fields[i].kind, line, i) !=
            0) {
            return -1;
        }
    }
    return line->verb == SCRIPT_CLEAR ? take_words(lines, line) : take_end(lines);
}

int script_read(struct script *script, struct lines *lines)
{
    bool has_vm = false;
    int result;

    *script = (struct script){0};
    while ((result = lines_next_or_comment(lines)) == 1) {
        struct script_line *line;

        script->lines =
            tool_reserve(script->lines, &script->capacity, script->count + 1, sizeof(*line));
        line = &script->lines[script->count++];
        *line = (struct script_line){.text = tool_strndup(lines->text, strlen(lines->text))};
        if (parse_line(lines, line) != 0) {
            return -1;
        }
        has_vm = has_vm || line->verb == SCRIPT_VM;
        if (!has_vm && line->verb != SCRIPT_COMMENT) {
            return lines_error(lines, "no VM yet: `vm` makes one");
        }
    }
    return result;
}

void script_free(struct script *script)
{
    size_t i;

    for (i = 0; i < script->count; i++) {
        free(script->lines[i].text);
        free(script->lines[i].words);
    }
    free(script->lines);
}
