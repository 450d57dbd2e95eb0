/*
 * fuzz/formats.c - the tool's readers, given any bytes: maps, edits, scripts of slots, traces, straces, programs. Each answer is a
 * report (exit code 0, nothing on stderr) or a refusal (2, one line on stderr, nothing on stdout); the same bytes get the
 * same answer; JSON can be parsed; and what was accepted, written again from what was read, is read as the same.
 *
 * The first byte of an input says for which reader the rest is. For `translate` that is a line of arguments, a map, a line %%, and
 * the guest's memory.
 */
#include "fuzz.h"

#include "model/require.h"

#include "mapfile.h"
#include "program.h"
#include "replay_steps.h"
#include "soft_memory.h"
#include "soft_script.h"
#include "tool.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOG_PAGES_MAX 0x4000u /* of a script that is run: larger logs are only slow */
#define MOVE_MAX 0x10000u     /* the same of what it moves */

char require_place[160] = "formats";

/* ---- files ---- */

struct file {
    int fd;
    char path[32];
};

/* What the input stands in, and what is written again. Both are made once. */
static struct file input_file = {.fd = -1}, again_file = {.fd = -1};

static void put_file(struct file *file, const void *data, size_t size_bytes)
{
    if (file->fd < 0) {
        file->fd = memfd_create("fuzz", MFD_CLOEXEC);
        REQUIRE(file->fd >= 0, "no memory");
        snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->fd);
    }
    REQUIRE(ftruncate(file->fd, 0) == 0 &&
                pwrite(file->fd, data, size_bytes, 0) == (ssize_t)size_bytes,
            "no memory");
}

/* ---- commands, and what they say ---- */

struct said {
    int exit_code;
    char *out, *err;
    size_t out_bytes, err_bytes;
};

static void forget(struct said *said)
{
    free(said->out);
    free(said->err);
}

/* stdout and stderr are variables in glibc: what the tool prints comes here. */
static struct said say(int (*run)(void *opaque), void *opaque)
{
    FILE *out = stdout, *err = stderr;
    struct said said = {0};

    stdout = open_memstream(&said.out, &said.out_bytes);
    stderr = open_memstream(&said.err, &said.err_bytes);
    if (stdout == NULL || stderr == NULL) {
        abort();
    }
    said.exit_code = run(opaque);
    fclose(stdout);
    fclose(stderr);
    stdout = out;
    stderr = err;
    return said;
}

struct call {
    int (*command)(int argc, char **argv);
    const char *option; /* NULL: none */
    const char *path;
};

static int run_command(void *opaque)
{
    const struct call *call = opaque;
    char name[] = "fuzz";
    char option[32] = "", path[64];
    char *argv[4] = {name};
    int argc = 1;

    if (call->option != NULL) {
        snprintf(option, sizeof(option), "%s", call->option);
        argv[argc++] = option;
    }
    snprintf(path, sizeof(path), "%s", call->path);
    argv[argc++] = path;
    return call->command(argc, argv);
}

static bool is_one_line(const char *text, size_t size_bytes)
{
    return size_bytes > 1 && memchr(text, '\n', size_bytes) == text + size_bytes - 1;
}

static void check_json(const struct said *said)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *object = json_tokener_parse_ex(tokener, said->out, (int)said->out_bytes);

    REQUIRE(object != NULL && json_tokener_get_error(tokener) == json_tokener_success,
            "this is no JSON: %.300s", said->out);
    json_object_put(object);
    json_tokener_free(tokener);
}

static void check(const struct call *call, const struct said *said)
{
    REQUIRE(said->exit_code == TOOL_OK || said->exit_code == TOOL_BAD_INPUT, "exit code %d: %s",
            said->exit_code, said->err);
    if (said->exit_code == TOOL_OK) {
        REQUIRE(said->err_bytes == 0, "accepted, and there is a message: %s", said->err);
    } else {
        REQUIRE(is_one_line(said->err, said->err_bytes), "not one line: %s", said->err);
        REQUIRE(said->out_bytes == 0, "refused, and printed: %.300s", said->out);
        REQUIRE(strncmp(said->err, call->path, strlen(call->path)) == 0 ||
                    strncmp(said->err, "guestmem: ", 10) == 0,
                "says not where: %s", said->err);
    }
    if (said->exit_code == TOOL_OK && call->option != NULL && strcmp(call->option, "--json") == 0) {
        check_json(said);
    }
}

/* Run it once; what it says is to be forgotten. */
static struct said ask(int (*command)(int argc, char **argv), const char *option, const char *path)
{
    struct call call = {command, option, path};
    struct said said = say(run_command, &call);

    check(&call, &said);
    return said;
}

static void require_same(const struct said *a, const struct said *b, const char *what)
{
    REQUIRE(a->exit_code == b->exit_code && a->out_bytes == b->out_bytes &&
                memcmp(a->out, b->out, a->out_bytes) == 0,
            "%s: exit code %d, %d\n%.1500s\n----\n%.1500s\n%s", what, a->exit_code, b->exit_code,
            a->out, b->out, b->err);
}

/* Twice. Return: whether it was accepted. */
static bool ask_twice(int (*command)(int argc, char **argv), const char *option)
{
    struct said first = ask(command, option, input_file.path);
    struct said second = ask(command, option, input_file.path);
    bool is_taken = first.exit_code == TOOL_OK;

    require_same(&first, &second, "the same bytes, another answer");
    REQUIRE(first.err_bytes == second.err_bytes &&
                memcmp(first.err, second.err, first.err_bytes) == 0,
            "the same bytes, another message");
    forget(&first);
    forget(&second);
    return is_taken;
}

/* ---- maps ---- */

static void write_region(FILE *out, const struct mapfile_region *region)
{
    static const char letters[] = "ETMDORoni"; /* in the order of MAPFILE_* */
    char size[TOOL_HEX_BYTES];

    fprintf(out, "region %u %" PRIx64 " %s %d ", region->id, region->addr,
            tool_hex(region->size, size), region->priority);
    if (region->flags == 0) {
        putc('-', out);
    }
    for (unsigned i = 0; letters[i] != '\0'; i++) {
        if ((region->flags & 1u << i) != 0) {
            putc(letters[i], out);
        }
    }
    fprintf(out, " %s\n", region->name);
    if (region->target != NULL) {
        fprintf(out, "alias %u %u %" PRIx64 "\n", region->id, region->target->id,
                region->target_offset);
    }
}

static void write_map(FILE *out, const struct mapfile *mapfile)
{
    for (size_t i = 0; i < mapfile->space_count; i++) { /* lines may come in any order */
        const struct mapfile_space *space = &mapfile->spaces[i];

        if (space->has_root) {
            fprintf(out, "as %u %s\n", space->root_id, space->name);
        } else {
            fprintf(out, "as -1 %s\n", space->name);
        }
    }
    for (size_t i = 0; i < mapfile->region_count; i++) {
        write_region(out, &mapfile->regions[i]);
    }
    for (size_t i = 0; i < mapfile->sub_count; i++) {
        fprintf(out, "sub %u %u\n", mapfile->subs[i].parent_id, mapfile->subs[i].child_id);
    }
}

/* What was read, written again. */
struct again {
    enum { AGAIN_MAP, AGAIN_REPLAY, AGAIN_SCRIPT } form;
    const char *path;
    FILE *out;
    char *echo; /* REPLAY, SCRIPT: the lines that are echoed; to be freed */
    size_t echo_bytes;
    bool is_tame; /* SCRIPT: it may be run here */
};

static int write_replay(struct again *again, struct lines *lines)
{
    struct mapfile mapfile;
    struct steps steps = {0};
    FILE *echo = open_memstream(&again->echo, &again->echo_bytes);
    bool has_step = false;
    enum mapfile_end end = again->form == AGAIN_MAP ? MAPFILE_END_OF_FILE : MAPFILE_END_AT_STEP;
    int result = mapfile_read(&mapfile, lines, end, &has_step);

    if (result == 0 && has_step) {
        result = steps_read(&steps, lines);
    }
    if (result == 0) {
        write_map(again->out, &mapfile);
        for (size_t i = 0; i < steps.count; i++) {
            fprintf(again->out, "%s\n", steps.list[i].text);
            fprintf(echo, "%s\n", steps.list[i].text);
        }
    }
    fclose(echo);
    steps_free(&steps);
    mapfile_free(&mapfile);
    return result;
}

/*
 * May this line be run in a process that goes on afterwards? A script's slots show the guest any memory that it names;
 * and the fuzzer need not wait.
 */
static bool is_tame(const struct script_line *line)
{
    const uint64_t *fields = line->fields;

    switch (line->verb) {
    case SCRIPT_SETA:
        return false;
    case SCRIPT_SET: /* within the reservation that the memory lies in, or in no user's memory */
        return fields[4] <= SCRIPT_MEMORY_BYTES && (fields[3] <= UINT64_C(4) << 30);
    case SCRIPT_LOG:
        return fields[1] <= LOG_PAGES_MAX;
    case SCRIPT_MOVS:
        return fields[2] <= MOVE_MAX;
    default:
        return true;
    }
}

static int write_script(struct again *again, struct lines *lines)
{
    struct script script = {0};
    FILE *echo = open_memstream(&again->echo, &again->echo_bytes);
    int result = script_read(&script, lines);

    again->is_tame = true;
    for (size_t i = 0; i < script.count && result == 0; i++) {
        fprintf(again->out, "%s\n", script.lines[i].text);
        fprintf(echo, "%s\n", script.lines[i].text);
        again->is_tame = again->is_tame && is_tame(&script.lines[i]);
    }
    fclose(echo);
    script_free(&script);
    return result;
}

static int write_again(void *opaque)
{
    struct again *again = opaque;
    struct lines lines;
    int result = lines_open(&lines, again->path);

    if (result == 0) {
        result =
            again->form == AGAIN_SCRIPT ? write_script(again, &lines) : write_replay(again, &lines);
    }
    lines_close(&lines);
    return result == 0 ? TOOL_OK : TOOL_BAD_INPUT;
}

/* Into again_file. Return: whether it could be read. */
static bool make_again(struct again *again)
{
    char *text = NULL;
    size_t text_bytes = 0;
    struct said said;
    bool is_read;

    again->path = input_file.path;
    again->out = open_memstream(&text, &text_bytes);
    REQUIRE(again->out != NULL, "no memory");
    said = say(write_again, again);
    fclose(again->out);
    is_read = said.exit_code == TOOL_OK;
    put_file(&again_file, text, text_bytes);
    free(text);
    forget(&said);
    return is_read;
}

/* Each line stands in the output, in its order, followed by its result, unless it is a comment. */
static void check_echo(const struct said *said, const struct again *again)
{
    const char *at = said->out;

    for (const char *line = again->echo; *line != '\0'; line = strchr(line, '\n') + 1) {
        size_t count = (size_t)(strchr(line, '\n') - line);

        while (*at != '\0' && (strncmp(at, line, count) != 0 ||
                               strncmp(at + count, *line == '#' ? "\n" : " ->", 1) != 0)) {
            at = strchrnul(at, '\n');
            at += *at == '\n';
        }
        REQUIRE(*at != '\0', "'%.*s' is not echoed: %.1500s", (int)count, line, said->out);
        at += count;
    }
}

/* The command says the same about what was written again. */
static void require_again(int (*command)(int argc, char **argv), const char *option,
                          const struct again *again)
{
    struct said first = ask(command, option, input_file.path);
    struct said second = ask(command, option, again_file.path);

    require_same(&first, &second, "what was read and written again is read as something else");
    if (again->echo != NULL && first.exit_code == TOOL_OK) {
        check_echo(&first, again);
    }
    forget(&first);
    forget(&second);
}

static void try_map(void)
{
    struct again again = {.form = AGAIN_MAP};
    bool is_taken = ask_twice(cmd_flat, NULL);

    REQUIRE(ask_twice(cmd_flat, "--json") == is_taken, "JSON of it is another matter");
    REQUIRE(ask_twice(cmd_show, NULL) == is_taken, "showing it is another matter");
    REQUIRE(ask_twice(cmd_show, "--json") == is_taken, "showing it as JSON is another matter");
    if (is_taken) {
        REQUIRE(make_again(&again), "what was accepted cannot be read");
        require_again(cmd_flat, NULL, &again);
        require_again(cmd_show, "--json", &again);
        free(again.echo); /* empty */
    }
}

static void try_replay(void)
{
    struct again again = {.form = AGAIN_REPLAY};

    if (ask_twice(cmd_replay, NULL)) {
        REQUIRE(make_again(&again), "what was accepted cannot be read");
        require_again(cmd_replay, NULL, &again);
        free(again.echo);
    }
}

static void try_script(void)
{
    struct again again = {.form = AGAIN_SCRIPT};
    struct said said;

    if (!make_again(&again)) {
        said = ask(cmd_soft, NULL, input_file.path);
        REQUIRE(said.exit_code == TOOL_BAD_INPUT, "what cannot be read was accepted");
        forget(&said);
    } else if (again.is_tame) {
        require_again(cmd_soft, NULL, &again);
    }
    free(again.echo);
}

static void try_trace(void)
{
    bool is_taken = ask_twice(cmd_slots, NULL);

    REQUIRE(ask_twice(cmd_slots, "--json") == is_taken, "JSON of it is another matter");
    REQUIRE(ask_twice(cmd_slots, "--all") == is_taken, "all of it is another matter");
    REQUIRE(ask_twice(cmd_slots, "--timeline") == is_taken, "its timeline is another matter");
}

static void try_program(void)
{
    char interpreter[PROGRAM_PATH_BYTES];
    enum program_kind kind = program_examine(input_file.path, interpreter);

    REQUIRE(kind <= PROGRAM_UNREADABLE, "kind %d", (int)kind);
    if (kind == PROGRAM_SCRIPT) {
        REQUIRE(memchr(interpreter, '\0', sizeof(interpreter)) != NULL, "a path without end");
    }
}

/* ---- translations ---- */

#define WORDS_MAX 16

/* The image of memory stands in again_file. */
struct translation {
    char line[200];
    char map[32], image[32];
};

static int run_translation(void *opaque)
{
    struct translation translation = *(struct translation *)opaque; /* getopt may move words */
    char name[] = "translate", map_option[] = "--map", image_option[] = "--memory";
    char *argv[WORDS_MAX + 6] = {name};
    char *rest = NULL;
    int argc = 1;

    for (char *word = strtok_r(translation.line, " ", &rest); word != NULL && argc <= WORDS_MAX;
         word = strtok_r(NULL, " ", &rest)) {
        if (strncmp(word, "--h", 3) != 0) { /* --host: another address each time */
            argv[argc++] = word;
        }
    }
    argv[argc++] = map_option;
    argv[argc++] = translation.map;
    argv[argc++] = image_option;
    argv[argc++] = translation.image;
    return cmd_translate(argc, argv);
}

static void try_translation(const uint8_t *data, size_t size)
{
    const uint8_t *map = memchr(data, '\n', size);
    size_t line_bytes = map != NULL ? (size_t)(map - data) : 0;
    struct translation translation = {.line = ""};
    const uint8_t *border;
    struct said first, second;

    if (map == NULL || line_bytes >= sizeof(translation.line)) {
        return;
    }
    memcpy(translation.line, data, line_bytes);
    map++;
    size -= line_bytes + 1;
    border = memmem(map, size, "%%\n", 3);
    put_file(&input_file, map, border != NULL ? (size_t)(border - map) : size);
    put_file(&again_file, border != NULL ? border + 3 : map,
             border != NULL ? size - (size_t)(border - map) - 3 : 0);
    snprintf(translation.map, sizeof(translation.map), "%s", input_file.path);
    snprintf(translation.image, sizeof(translation.image), "%s", again_file.path);
    first = say(run_translation, &translation);
    second = say(run_translation, &translation);
    REQUIRE(first.exit_code != TOOL_BAD_INPUT || is_one_line(first.err, first.err_bytes),
            "not one line: %s", first.err);
    REQUIRE(first.exit_code != TOOL_OK || (first.out_bytes != 0 && first.err_bytes == 0),
            "translated, and said %s", first.err);
    require_same(&first, &second, "the same translation, another answer");
    forget(&first);
    forget(&second);
}

/* ---- all of them ---- */

static void (*const readers[])(void) = {
    try_map, try_replay, try_script, try_trace, try_program,
};
#define READERS (sizeof(readers) / sizeof(readers[0]))

int fuzz_formats(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if (data[0] % (READERS + 1) == READERS) {
        try_translation(data + 1, size - 1);
        return 0;
    }
    put_file(&input_file, data + 1, size - 1);
    readers[data[0] % (READERS + 1)]();
    return 0;
}
