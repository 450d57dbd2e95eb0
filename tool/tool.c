/* tool.c - messages, memory and the command lines of the commands that read one file. */
#include "tool.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tool_error(const char *format, ...)
{
    va_list arguments;

    fputs("guestmem: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

const char *tool_error_name(int error)
{
    const char *name = strerrorname_np(-error);

    return name != NULL ? name : "EUNKNOWN";
}

static void *out_of_memory(void)
{
    tool_error("out of memory");
    exit(TOOL_FAILED);
}

void *tool_alloc(size_t size_bytes)
{
    void *memory = calloc(1, size_bytes != 0 ? size_bytes : 1);

    return memory != NULL ? memory : out_of_memory();
}

char *tool_strndup(const char *text, size_t length)
{
    char *copy = strndup(text, length);

    return copy != NULL ? copy : out_of_memory();
}

void *tool_reserve(void *array, size_t *capacity, size_t count, size_t item_bytes)
{
    size_t larger = *capacity != 0 ? *capacity : 16;

    if (count <= *capacity) {
        return array;
    }
    while (larger < count) {
        larger *= 2;
    }
    array = reallocarray(array, larger, item_bytes);
    *capacity = larger;
    return array != NULL ? array : out_of_memory();
}

const char *tool_hex(gm_size_t number, char text[TOOL_HEX_BYTES])
{
    if (number >= GM_SIZE_2_64) {
        snprintf(text, TOOL_HEX_BYTES, "%" PRIx64 "%016" PRIx64, (uint64_t)(number >> 64),
                 (uint64_t)number);
    } else {
        snprintf(text, TOOL_HEX_BYTES, "%" PRIx64, (uint64_t)number);
    }
    return text;
}

char *tool_printable(const char *text)
{
    char *copy = tool_alloc(4 * strlen(text) + 1);
    char *to = copy;

    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte < ' ' || byte == 0x7f) {
            to += sprintf(to, "\\x%02x", byte);
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
    return copy;
}

/* One line about a bad command line, and how to go on. */
static bool bad_usage(char **argv, int *exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool bad_usage(char **argv, int *exit_code, const char *format, ...)
{
    va_list arguments;
    char text[200];

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    tool_error("%s: %s (see guestmem %s --help)", argv[0], text, argv[0]);
    *exit_code = TOOL_BAD_INPUT;
    return false;
}

bool tool_options_parse(struct tool_options *options, int argc, char **argv, int *exit_code)
{
    static const struct option known[] = {
        {"help", no_argument, NULL, 'h'},
        {"json", no_argument, NULL, 'j'},
        {"all", no_argument, NULL, 'l'},
        {"timeline", no_argument, NULL, 't'},
        {"as", required_argument, NULL, 'a'},
        {"accel", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    int option;

    opterr = 0;
    optind = 0; /* glibc: begin anew, main() has scanned an argv before */
    while ((option = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
        if (option == 'h') {
            fputs(options->help, stdout);
            *exit_code = tool_finish_output();
            return false;
        }
        if (option == 'j' && options->takes_json) {
            options->json = true;
        } else if (option == 'l' && options->takes_all) {
            options->all = true;
        } else if (option == 't' && options->takes_timeline) {
            options->timeline = true;
        } else if (option == 'a' && options->takes_as) {
            options->as = optarg;
        } else if (option == 'c' && options->takes_accel) {
            options->accel = optarg;
        } else if (option == ':') {
            return bad_usage(argv, exit_code, "%s needs a value", argv[optind - 1]);
        } else {
            return bad_usage(argv, exit_code, "unknown option %s", argv[optind - 1]);
        }
    }
    if (optind == argc) {
        return bad_usage(argv, exit_code, "FILE is missing");
    }
    if (optind + 1 != argc) {
        return bad_usage(argv, exit_code, "more than one FILE: %s", argv[optind + 1]);
    }
    options->path = argv[optind];
    return true;
}

int tool_finish_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        tool_error("cannot write the output: %s", strerror(errno));
        return TOOL_FAILED;
    }
    return TOOL_OK;
}
