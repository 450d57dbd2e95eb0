/*
 * tool.h - what all commands of the tool share: exit codes, messages, memory that cannot run out.
 *
 * Output goes to stdout, everything else to stderr. A command is handed its own argv, of which
 * argv[0] is its name, and returns the exit code.
 */
#ifndef TOOL_TOOL_H
#define TOOL_TOOL_H

#include <guestmem/types.h>

#include <stdbool.h>
#include <stddef.h>

enum tool_exit {
    TOOL_OK = 0,
    TOOL_FAILED = 1,    /* the machine or the system could not do it */
    TOOL_BAD_INPUT = 2, /* the command line or a file is wrong */
    TOOL_NO_KVM = 3,    /* /dev/kvm does not open */
};

int cmd_flat(int argc, char **argv);
int cmd_kvm(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_slots(int argc, char **argv);
int cmd_soft(int argc, char **argv);
int cmd_translate(int argc, char **argv);

/* "guestmem: ..." on stderr, one line. */
void tool_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The name of a negative errno: "ENOMEM". */
const char *tool_error_name(int error);

/* Memory for the tool's own records. Where there is none, says so and exits with TOOL_FAILED. */
void *tool_alloc(size_t size_bytes);
char *tool_strndup(const char *text, size_t length);

/* An array with room for @count items: the same one, or a larger copy. */
void *tool_reserve(void *array, size_t *capacity, size_t count, size_t item_bytes);

/* A number in hexadecimal, without prefix. Return: @text. */
#define TOOL_HEX_BYTES 33
const char *tool_hex(gm_size_t number, char text[TOOL_HEX_BYTES]);

/* A copy for a terminal: bytes that would steer one are spelled \xNN. The caller frees it. */
char *tool_printable(const char *text);

/*
 * What the commands that read one file take: `[--json] [--all] [--timeline] [--as NAME]
 * [--accel NAME] FILE`. A command sets which of the options it has; tool_options_parse() fills in the rest.
 */
struct tool_options {
    const char *help; /* all of `guestmem COMMAND --help` */
    bool takes_json;
    bool takes_as;
    bool takes_accel;
    bool takes_all;
    bool takes_timeline;
    bool json;
    bool all;
    bool timeline;
    const char *as;    /* borrowed from argv; NULL if not given */
    const char *accel; /* the same */
    const char *path;  /* borrowed from argv; "-" is stdin */
};

/*
 * Return: true to go on; false when the command is over (--help, or a bad command line, about which
 * the user has been told), with its exit code in @exit_code.
 */
bool tool_options_parse(struct tool_options *options, int argc, char **argv, int *exit_code);

/* Flush stdout. Return: TOOL_OK, or TOOL_FAILED after saying that not all could be written. */
int tool_finish_output(void);

#endif
