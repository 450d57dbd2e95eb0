/*
 * base/options.h - structures that callers fill in and that grow: options, and tables of callbacks.
 *
 * Each begins with its size, which tells what version the caller was compiled with. A shorter one, from the first
 * version on, is taken with zeroes for what it lacks. A longer one is taken if all that we do not know is zero, and else
 * refused: it asks for what we cannot do. So a member is only ever added at the end, never in padding, and its zero
 * means what was there before it.
 */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include <guestmem/types.h>

/* What nobody's structure is longer than: sizes beyond are no sizes. */
#define OPTIONS_BYTES_MAX 4096u

struct options_kind {
    const char *name;
    size_t now_bytes;   /* as this library knows it */
    size_t first_bytes; /* in its first version */
};

/* Of struct @type, whose first version ended with member @last. */
#define OPTIONS_KIND(type, last)                                                                   \
    {                                                                                              \
        .name = #type, .now_bytes = sizeof(struct type),                                           \
        .first_bytes = (offsetof(struct type, last) + sizeof(((struct type *)0)->last) +           \
                        _Alignof(struct type) - 1) /                                               \
                       _Alignof(struct type) * _Alignof(struct type),                              \
    }

/*
 * Copy a caller's structure.
 * @ours:   out, of kind->now_bytes; its size is that.
 * @theirs: NULL: zeroes, which are all defaults.
 * Return: 0; -EINVAL shorter than the first version; -E2BIG longer than ours, with something in the surplus.
 */
int options_take(const struct options_kind *kind, void *ours, const void *theirs,
                 struct gm_diag *diag);

#endif
