/*
 * pc/bios.h - the firmware image: the file's bytes in a block of host memory.
 */
#ifndef TOOL_PC_BIOS_H
#define TOOL_PC_BIOS_H

#include <guestmem/ram.h>

/* An image ends at 4 GiB and has to leave the APICs and KVM's own pages below it alone. */
#define BIOS_BYTES_MIN ((uint64_t)64 << 10)
#define BIOS_BYTES_MAX ((uint64_t)16 << 20)

/*
 * Read an image. Return: 0, the caller owns a reference; -EINVAL no image has that size; -ENOMEM;
 * errno of opening or reading the file. The diag names the file.
 */
int bios_load(const char *path, struct gm_ram **bios, struct gm_diag *diag);

#endif
