/*
 * unit/picture.h - small trees by one-line helpers, and what a space shows as a line of text that a test can say
 * by heart: "0-fff ram+0, 2000-2fff bar+800 o". After a range come the flags that matter: o readonly,
 * n nonvolatile, i not in romd mode, u unmergeable.
 */
#ifndef UNIT_PICTURE_H
#define UNIT_PICTURE_H

#include <guestmem/guestmem.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PICTURE_BYTES 4096

static inline enum gm_access picture_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                          uint64_t *value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    return GM_ACCESS_OK;
}

static inline enum gm_access picture_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                           uint64_t value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops picture_io = {
    .size = sizeof(picture_io), .read = picture_read, .write = picture_write};

/* A region of @options; what its kind needs and @options lack is filled in. The caller owns it. */
static inline struct gm_region *picture_region(struct gm_map *map, struct gm_region_options options)
{
    struct gm_region *region;
    struct gm_ram *ram = NULL;

    options.size = sizeof(options);
    if (options.kind == GM_REGION_MMIO || options.kind == GM_REGION_ROM_DEVICE) {
        options.io = &picture_io;
    }
    if (options.ram == NULL &&
        (options.kind == GM_REGION_RAM || options.kind == GM_REGION_ROM ||
         options.kind == GM_REGION_ROM_DEVICE || options.kind == GM_REGION_RAM_DEVICE)) {
        assert_int_equal(
            gm_ram_new_unbacked(options.size_bytes < 4096 ? 4096 : (uint64_t)options.size_bytes,
                                NULL, &ram, NULL),
            0);
        options.ram = ram;
    }
    assert_int_equal(gm_region_new(map, &options, &region, NULL), 0);
    gm_ram_put(ram);
    return region;
}

/* The same, as a child of @parent, which is left as the only holder: the pointer is borrowed. */
static inline struct gm_region *picture_child(struct gm_map *map, struct gm_region *parent,
                                              struct gm_region_options options)
{
    struct gm_region *region = picture_region(map, options);

    assert_int_equal(gm_region_add(parent, region, NULL), 0);
    gm_region_put(region);
    return region;
}

static inline void picture_range(char *text, const struct gm_section *section)
{
    size_t used = strlen(text);

    snprintf(text + used, PICTURE_BYTES - used, "%s%llx-%llx %s+%llx", used > 0 ? ", " : "",
             (unsigned long long)section->gpa, (unsigned long long)section->last,
             gm_region_name(section->region), (unsigned long long)section->offset);
    if ((section->flags ^ GM_SECTION_ROMD) != 0) {
        used = strlen(text);
        snprintf(text + used, PICTURE_BYTES - used, " %s%s%s%s",
                 section->flags & GM_SECTION_READONLY ? "o" : "",
                 section->flags & GM_SECTION_NONVOLATILE ? "n" : "",
                 section->flags & GM_SECTION_ROMD ? "" : "i",
                 section->flags & GM_SECTION_UNMERGEABLE ? "u" : "");
    }
}

static inline void picture_of(struct gm_space *space, char *text)
{
    struct gm_view *view = gm_view_get(space);
    struct gm_section section;
    size_t i;

    text[0] = '\0';
    for (i = 0; gm_view_at(view, i, &section); i++) {
        picture_range(text, &section);
    }
    gm_view_put(view);
}

/* What a space shows has to be @expected. */
static inline void require_picture(struct gm_space *space, const char *expected)
{
    char text[PICTURE_BYTES];

    picture_of(space, text);
    assert_string_equal(text, expected);
}

#endif
