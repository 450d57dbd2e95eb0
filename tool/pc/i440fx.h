/*
 * pc/i440fx.h - the host bridge: which of RAM, firmware and PCI bus shows below 1 MiB.
 */
#ifndef TOOL_PC_I440FX_H
#define TOOL_PC_I440FX_H

#include "pc/pci.h"

/* Twelve windows of 16 KiB from 0xc0000 on, and one of 64 KiB at 0xf0000. */
#define PAM_WINDOW_COUNT 13

/* One window. Its mode is two bits of a PAM register: reads go to RAM, writes go to RAM. */
struct pam_window {
    struct board *board;
    uint64_t gpa;
    unsigned mode;
    struct gm_region *ram;        /* shown if reads go to RAM; read-only if writes do not */
    struct gm_region *write_only; /* shown if writes alone go to RAM */
};

struct i440fx {
    struct board *board;
    struct pci_device pci;
    struct pam_window windows[PAM_WINDOW_COUNT];
    struct gm_region *smram;
    bool smram_shown;
};

/* Make the bridge, device 0 of the bus, and its windows. Return: 0 or -errno. */
int i440fx_init(struct i440fx *bridge, struct pci_bus *bus);

#endif
