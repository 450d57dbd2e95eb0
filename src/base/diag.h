/* base/diag.h - filling a caller's struct gm_diag. */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

#include <guestmem/types.h>

/*
 * Write a sentence and the code it explains, unless @diag is NULL.
 * Return: @code, so that a failing function can end with `return diag_set(...)`.
 */
__attribute__((format(printf, 3, 4))) int diag_set(struct gm_diag *diag, int code,
                                                   const char *format, ...);

#endif
