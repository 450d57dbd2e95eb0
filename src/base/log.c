/* base/log.c - telling a caller's log hook. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_say(const struct gm_log_hook *hook, enum gm_log_level level, const char *format, ...)
{
    char text[GM_DIAG_TEXT_BYTES];
    va_list arguments;

    if (hook->log == NULL) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    hook->log(hook->opaque, level, text);
}
