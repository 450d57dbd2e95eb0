/* base/diag.h - filling a caller's struct gm_diag. */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

#include <guestmem/types.h>

/*
 * Write a sentence, what it is about and the code it explains, unless @diag is NULL.
 * Return: @code, so that a failing function can end with `return diag_set(...)`. What leads to it is
 * laid out apart from the rest (cold), which then takes fewer cache lines.
 */
__attribute__((cold, format(printf, 4, 5))) int diag_set(struct gm_diag *diag, enum gm_diag_id id,
                                                         int code, const char *format, ...);

#endif
