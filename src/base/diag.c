/* base/diag.c - filling a caller's struct gm_diag. */
#include "base/diag.h"

#include <stdarg.h>
#include <stdio.h>

int diag_set(struct gm_diag *diag, int code, const char *format, ...)
{
    va_list arguments;

    if (diag != NULL) {
        va_start(arguments, format);
        vsnprintf(diag->text, sizeof(diag->text), format, arguments);
        va_end(arguments);
        diag->code = code;
    }
    return code;
}
