/* preload/trace_line.h - one line of a trace while it is put together: on the stack, without the C library. */
#ifndef PRELOAD_TRACE_LINE_H
#define PRELOAD_TRACE_LINE_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_LINE_BYTES 4096u

struct trace_line {
    char text[TRACE_LINE_BYTES];
    size_t length;
};

/* None of ours comes near the limit; what would go beyond it is left out. Async-signal-safe, all of them. */
void line_text(struct trace_line *line, const char *text);
void line_decimal(struct trace_line *line, uint64_t number);
void line_hex(struct trace_line *line, uint64_t number);
/* "1.000002". */
void line_seconds(struct trace_line *line, uint64_t ns);

/* " key=VALUE". */
void line_key_decimal(struct trace_line *line, const char *key, uint64_t number);
void line_key_hex(struct trace_line *line, const char *key, uint64_t number);
/* With \xNN for what a value may not hold. */
void line_key_text(struct trace_line *line, const char *key, const char *text);

/* " = RESULT" and the end of the line. @result: 0 or more, or -errno. */
void line_result(struct trace_line *line, long result);

#endif
