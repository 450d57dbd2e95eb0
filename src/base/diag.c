/* base/diag.c - filling a caller's struct gm_diag, and the names of what is said. */
#include "base/diag.h"

#include <stdarg.h>
#include <stdio.h>

int diag_set(struct gm_diag *diag, enum gm_diag_id id, int code, const char *format, ...)
{
    va_list arguments;

    if (diag != NULL) {
        va_start(arguments, format);
        vsnprintf(diag->text, sizeof(diag->text), format, arguments);
        va_end(arguments);
        diag->code = code;
        diag->id = id;
    }
    return code;
}

const char *gm_diag_id_name(int id)
{
    switch (id) {
#define NAME_OF(name, number, text, errnos, meaning)                                               \
    case GM_DIAG_##name:                                                                           \
        return text;
        GM_DIAG_IDS(NAME_OF)
#undef NAME_OF
    default:
        return "unknown";
    }
}
