/* base/options.c - taking structures that grow. */
#include "base/options.h"

#include "base/diag.h"

#include <errno.h>
#include <string.h>

static bool is_zero(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

int options_take(const struct options_kind *kind, void *ours, const void *theirs,
                 struct gm_diag *diag)
{
    const size_t now_bytes = kind->now_bytes;
    size_t size = now_bytes;

    if (theirs != NULL) {
        memcpy(&size, theirs, sizeof(size));
        if (size < kind->first_bytes) {
            return diag_set(diag, GM_DIAG_OPTIONS_TOO_SHORT, -EINVAL,
                            "the size in %s is %zu: it has %zu bytes or more", kind->name, size,
                            kind->first_bytes);
        }
        if (size > OPTIONS_BYTES_MAX ||
            (size > now_bytes &&
             !is_zero((const unsigned char *)theirs + now_bytes, size - now_bytes))) {
            return diag_set(diag, GM_DIAG_OPTIONS_TOO_NEW, -E2BIG,
                            "%s of %zu bytes has something past the %zu that this library knows",
                            kind->name, size, now_bytes);
        }
    }
    memset(ours, 0, now_bytes);
    if (theirs != NULL) {
        memcpy(ours, theirs, size < now_bytes ? size : now_bytes);
    }
    memcpy(ours, &now_bytes, sizeof(now_bytes));
    return 0;
}
