/*
 * space/access.h - accesses of any length that begin inside a read section.
 *
 * An address space may be freed while an access is under way: what the access still needs of it, it
 * has to take in the section in which it began. So what does not fit a fast path goes on in here,
 * with the section still open.
 */
#ifndef SPACE_ACCESS_H
#define SPACE_ACCESS_H

#include "view/view.h"

#include <guestmem/access.h>

/*
 * Read, write bytes of @view, which was loaded in the open section. The section is left.
 * Return: the pieces' outcomes or-ed.
 */
enum gm_access access_read(const struct gm_view *view, uint64_t gpa, void *data,
                           uint64_t size_bytes, struct gm_attrs attrs);
enum gm_access access_write(const struct gm_view *view, uint64_t gpa, const void *data,
                            uint64_t size_bytes, struct gm_attrs attrs);

#endif
