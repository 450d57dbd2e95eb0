/*
 * translate_guest.h - the guest of `guestmem translate`: a machine's memory map, an image of its memory, and a
 * software vCPU that reads it.
 */
#ifndef TOOL_TRANSLATE_GUEST_H
#define TOOL_TRANSLATE_GUEST_H

#include "mapfile.h"

#include <guestmem/soft.h>

struct translate_guest {
    struct lines lines;
    struct mapfile mapfile;
    struct gm_view *view; /* of the address space that is looked at */
    uint64_t image_bytes;
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
};

/*
 * @as: name of the address space, NULL for the map's first. @image_path: byte N is the byte at guest physical
 * address N; it may end early, and is not written.
 * Return: TOOL_OK, or after an error the exit code. translate_guest_close() after both.
 */
int translate_guest_open(struct translate_guest *guest, const char *map_path, const char *as,
                         const char *image_path);
void translate_guest_close(struct translate_guest *guest);

/* Host physical address of a byte of this process, by /proc/self/pagemap. False: not permitted, or not
 * present. */
bool translate_host_physical(uint64_t hva, uint64_t *hpa);

#endif
