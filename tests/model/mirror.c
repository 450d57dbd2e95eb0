/* model/mirror.c - one space as a listener knows it, and the same as the model shows it. */
#include "model/mirror.h"

#include "model/require.h"

#include <string.h>

bool mirror_is_empty(const struct mirror *mirror)
{
    return mirror->count == 0 && mirror->eventfd_count == 0 && mirror->coalesced_count == 0;
}

void mirror_fini(struct mirror *mirror)
{
    free(mirror->sections);
    free(mirror->eventfds);
    free(mirror->coalesced);
}

void mirror_copy(struct mirror *to, const struct mirror *from)
{
    struct mirror old = *to;

    *to = *from;
    to->sections = old.sections;
    to->capacity = old.capacity;
    to->eventfds = old.eventfds;
    to->eventfd_capacity = old.eventfd_capacity;
    to->coalesced = old.coalesced;
    to->coalesced_capacity = old.coalesced_capacity;
    if (to->capacity < from->count) {
        to->capacity = from->capacity;
        to->sections = realloc(to->sections, to->capacity * sizeof(*to->sections));
    }
    if (to->eventfd_capacity < from->eventfd_count) {
        to->eventfd_capacity = from->eventfd_capacity;
        to->eventfds = realloc(to->eventfds, to->eventfd_capacity * sizeof(*to->eventfds));
    }
    if (to->coalesced_capacity < from->coalesced_count) {
        to->coalesced_capacity = from->coalesced_capacity;
        to->coalesced = realloc(to->coalesced, to->coalesced_capacity * sizeof(*to->coalesced));
    }
    if (from->count > 0) {
        memcpy(to->sections, from->sections, from->count * sizeof(*to->sections));
    }
    if (from->eventfd_count > 0) {
        memcpy(to->eventfds, from->eventfds, from->eventfd_count * sizeof(*to->eventfds));
    }
    if (from->coalesced_count > 0) {
        memcpy(to->coalesced, from->coalesced, from->coalesced_count * sizeof(*to->coalesced));
    }
}

/* The place of the first section that ends at @gpa or behind it. */
static size_t place_of(const struct mirror *mirror, uint64_t gpa)
{
    size_t at = 0;

    while (at < mirror->count && mirror->sections[at].last < gpa) {
        at++;
    }
    return at;
}

bool mirror_same_section(const struct gm_section *a, const struct gm_section *b)
{
    return a->space == b->space && a->gpa == b->gpa && a->last == b->last &&
           a->region == b->region && a->offset == b->offset && a->flags == b->flags &&
           a->hva == b->hva;
}

struct gm_section *mirror_known(struct mirror *mirror, const struct gm_section *section,
                                const char *what)
{
    size_t at = place_of(mirror, section->gpa);

    REQUIRE(at < mirror->count && mirror_same_section(&mirror->sections[at], section),
            "%s of [%llx, %llx] %s, which is not there", what, (unsigned long long)section->gpa,
            (unsigned long long)section->last, gm_region_name(section->region));
    return &mirror->sections[at];
}

void mirror_del(struct mirror *mirror, const struct gm_section *section)
{
    struct gm_section *found = mirror_known(mirror, section, "del");
    size_t at = (size_t)(found - mirror->sections);
    size_t i;

    for (i = 0; i < mirror->eventfd_count; i++) {
        REQUIRE(mirror->eventfds[i].offset < section->gpa ||
                    mirror->eventfds[i].offset > section->last,
                "del before its eventfd_del");
    }
    for (i = 0; i < mirror->coalesced_count; i++) {
        REQUIRE(mirror->coalesced[i].last < section->gpa ||
                    mirror->coalesced[i].gpa > section->last,
                "del before its coalesced_del");
    }
    memmove(found, found + 1, (mirror->count - at - 1) * sizeof(*found));
    mirror->count--;
}

void mirror_add(struct mirror *mirror, const struct gm_section *section)
{
    size_t at = place_of(mirror, section->gpa);

    REQUIRE(section->gpa <= section->last, "an empty range is added");
    REQUIRE(at == mirror->count || mirror->sections[at].gpa > section->last,
            "add of [%llx, %llx] over [%llx, %llx]", (unsigned long long)section->gpa,
            (unsigned long long)section->last, (unsigned long long)mirror->sections[at].gpa,
            (unsigned long long)mirror->sections[at].last);
    if (mirror->count == mirror->capacity) {
        mirror->capacity = mirror->capacity * 2 + 32;
        mirror->sections = realloc(mirror->sections, mirror->capacity * sizeof(*mirror->sections));
    }
    memmove(&mirror->sections[at + 1], &mirror->sections[at],
            (mirror->count - at) * sizeof(*mirror->sections));
    mirror->sections[at] = *section;
    mirror->sections[at].log_mask = 0; /* until log_start */
    mirror->count++;
}

bool mirror_same_eventfd(const struct gm_eventfd *a, const struct gm_eventfd *b)
{
    return a->offset == b->offset && a->size_bytes == b->size_bytes && a->match == b->match &&
           a->value == b->value && a->fd == b->fd;
}

static size_t find_eventfd(const struct mirror *mirror, const struct gm_eventfd *eventfd)
{
    size_t at = 0;

    while (at < mirror->eventfd_count && !mirror_same_eventfd(&mirror->eventfds[at], eventfd)) {
        at++;
    }
    return at;
}

void mirror_eventfd_add(struct mirror *mirror, const struct gm_eventfd *eventfd)
{
    REQUIRE(find_eventfd(mirror, eventfd) == mirror->eventfd_count, "eventfd added twice");
    if (mirror->eventfd_count == mirror->eventfd_capacity) {
        mirror->eventfd_capacity = mirror->eventfd_capacity * 2 + 8;
        mirror->eventfds =
            realloc(mirror->eventfds, mirror->eventfd_capacity * sizeof(*mirror->eventfds));
    }
    mirror->eventfds[mirror->eventfd_count++] = *eventfd;
}

void mirror_eventfd_del(struct mirror *mirror, const struct gm_eventfd *eventfd)
{
    size_t at = find_eventfd(mirror, eventfd);

    REQUIRE(at < mirror->eventfd_count, "an eventfd is removed that is not there");
    mirror->eventfds[at] = mirror->eventfds[--mirror->eventfd_count];
}

bool mirror_same_coalesced(const struct gm_coalesced *a, const struct gm_coalesced *b)
{
    return a->gpa == b->gpa && a->last == b->last;
}

/* The place of the first coalesced range that ends at @gpa or behind it. */
static size_t place_of_coalesced(const struct mirror *mirror, uint64_t gpa)
{
    size_t at = 0;

    while (at < mirror->coalesced_count && mirror->coalesced[at].last < gpa) {
        at++;
    }
    return at;
}

void mirror_coalesced_add(struct mirror *mirror, const struct gm_section *section,
                          const struct gm_coalesced *coalesced)
{
    size_t at = place_of_coalesced(mirror, coalesced->gpa);

    REQUIRE(coalesced->gpa >= section->gpa && coalesced->gpa <= coalesced->last &&
                coalesced->last <= section->last,
            "a coalesced range that is not of its section");
    REQUIRE(at == mirror->coalesced_count || mirror->coalesced[at].gpa > coalesced->last,
            "coalesced [%llx, %llx] added over another one", (unsigned long long)coalesced->gpa,
            (unsigned long long)coalesced->last);
    if (mirror->coalesced_count == mirror->coalesced_capacity) {
        mirror->coalesced_capacity = mirror->coalesced_capacity * 2 + 8;
        mirror->coalesced =
            realloc(mirror->coalesced, mirror->coalesced_capacity * sizeof(*mirror->coalesced));
    }
    memmove(&mirror->coalesced[at + 1], &mirror->coalesced[at],
            (mirror->coalesced_count - at) * sizeof(*mirror->coalesced));
    mirror->coalesced[at] = *coalesced;
    mirror->coalesced_count++;
}

void mirror_coalesced_del(struct mirror *mirror, const struct gm_coalesced *coalesced)
{
    size_t at = place_of_coalesced(mirror, coalesced->gpa);
    struct gm_coalesced *found = &mirror->coalesced[at];

    REQUIRE(at < mirror->coalesced_count && mirror_same_coalesced(found, coalesced),
            "coalesced [%llx, %llx] is removed and not there", (unsigned long long)coalesced->gpa,
            (unsigned long long)coalesced->last);
    memmove(found, found + 1, (mirror->coalesced_count - at - 1) * sizeof(*found));
    mirror->coalesced_count--;
}

/* ---- checking ---- */

static void check_eventfds(const struct twin *twin, const struct mirror *mirror,
                           const struct model_view *view)
{
    size_t expected = 0;
    size_t i;
    unsigned j;

    for (i = 0; i < view->count; i++) {
        const struct model_range *range = &view->ranges[i];
        const struct model_region *region = &twin->model.regions[range->region];

        for (j = 0; j < region->eventfd_count; j++) {
            struct gm_eventfd eventfd = region->eventfds[j];
            gm_size_t size = eventfd.size_bytes != 0 ? eventfd.size_bytes : 1;
            gm_size_t range_end = (gm_size_t)range->offset + (range->last - range->start) + 1;

            if (eventfd.offset >= range->offset && eventfd.offset + size <= range_end) {
                eventfd.offset = range->start + (eventfd.offset - range->offset);
                REQUIRE(find_eventfd(mirror, &eventfd) < mirror->eventfd_count,
                        "an eventfd at %llx is not known", (unsigned long long)eventfd.offset);
                expected++;
            }
        }
    }
    REQUIRE(expected == mirror->eventfd_count, "%zu eventfds are known, not %zu",
            mirror->eventfd_count, expected);
}

static void check_coalesced(const struct twin *twin, const struct mirror *mirror,
                            const struct model_view *view)
{
    struct model_shown *shown = malloc((view->count * MODEL_COALESCED_MAX + 1) * sizeof(*shown));
    size_t expected = model_show_coalesced(&twin->model, view, shown);
    size_t i;

    for (i = 0; i < expected && i < mirror->coalesced_count; i++) {
        REQUIRE(mirror->coalesced[i].gpa == shown[i].gpa &&
                    mirror->coalesced[i].last == shown[i].last,
                "coalesced range %zu is known as [%llx, %llx], not [%llx, %llx]", i,
                (unsigned long long)mirror->coalesced[i].gpa,
                (unsigned long long)mirror->coalesced[i].last, (unsigned long long)shown[i].gpa,
                (unsigned long long)shown[i].last);
    }
    REQUIRE(expected == mirror->coalesced_count, "%zu coalesced ranges are known, not %zu",
            mirror->coalesced_count, expected);
    free(shown);
}

void mirror_check(const struct twin *twin, const struct mirror *mirror,
                  const struct model_view *view)
{
    size_t i;

    REQUIRE(mirror->count == view->count, "%zu ranges are known, not %zu", mirror->count,
            view->count);
    for (i = 0; i < view->count; i++) {
        const struct model_range *range = &view->ranges[i];
        const struct gm_section *section = &mirror->sections[i];

        REQUIRE(section->gpa == range->start && section->last == range->last &&
                    section->region == twin->regions[range->region] &&
                    section->offset == range->offset && section->flags == range->flags,
                "range %zu is known as another", i);
        REQUIRE(section->log_mask == range->log_mask, "range %zu: known mask %x, not %x", i,
                section->log_mask, range->log_mask);
    }
    check_eventfds(twin, mirror, view);
    check_coalesced(twin, mirror, view);
}
