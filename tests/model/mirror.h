/*
 * model/mirror.h - what a listener knows of one space, from nothing but what it has been told. What is told has to fit what is
 * known.
 */
#ifndef MODEL_MIRROR_H
#define MODEL_MIRROR_H

#include "model/twin.h"

/* What a listener knows of one space, ascending. */
struct mirror {
    struct gm_space *space;
    struct gm_section *sections;
    size_t count;
    size_t capacity;
    struct gm_eventfd *eventfds; /* absolute offsets, no order */
    size_t eventfd_count;
    size_t eventfd_capacity;
    struct gm_coalesced *coalesced; /* ascending */
    size_t coalesced_count;
    size_t coalesced_capacity;
};

/* Is nothing known? */
bool mirror_is_empty(const struct mirror *mirror);
void mirror_fini(struct mirror *mirror);
void mirror_copy(struct mirror *to, const struct mirror *from);

/* All members but the log mask. */
bool mirror_same_section(const struct gm_section *a, const struct gm_section *b);
/* A section that has to be there; @what: who says so. */
struct gm_section *mirror_known(struct mirror *mirror, const struct gm_section *section,
                                const char *what);
void mirror_del(struct mirror *mirror, const struct gm_section *section);
void mirror_add(struct mirror *mirror, const struct gm_section *section);
bool mirror_same_eventfd(const struct gm_eventfd *a, const struct gm_eventfd *b);
void mirror_eventfd_add(struct mirror *mirror, const struct gm_eventfd *eventfd);
void mirror_eventfd_del(struct mirror *mirror, const struct gm_eventfd *eventfd);

bool mirror_same_coalesced(const struct gm_coalesced *a, const struct gm_coalesced *b);
/* What shows of it in @section, which is known. */
void mirror_coalesced_add(struct mirror *mirror, const struct gm_section *section,
                          const struct gm_coalesced *coalesced);
void mirror_coalesced_del(struct mirror *mirror, const struct gm_coalesced *coalesced);

/* It has to be what the model's view shows. */
void mirror_check(const struct twin *twin, const struct mirror *mirror,
                  const struct model_view *view);

#endif
