/*
 * pc/piix4.h - the ISA bridge and the power management function beside it.
 */
#ifndef TOOL_PC_PIIX4_H
#define TOOL_PC_PIIX4_H

#include "pc/byteports.h"
#include "pc/pci.h"

struct piix4 {
    struct board *board;
    struct pci_device isa;
    struct pci_device pm;
    struct byte_ports smi;
    struct gm_region *pm_ports;
    uint16_t pm_shown_at; /* 0: not shown */
    uint64_t start_ns;    /* when the PM timer stood at 0 */
    uint16_t pm1_enable;
    uint16_t pm1_control;
    uint32_t global_control;
    uint8_t command; /* the two bytes of the SMI command port */
    uint8_t status;
};

/* Make functions 0 and 3 of device 1, and their ports. Return: 0 or -errno. */
int piix4_init(struct piix4 *piix, struct pci_bus *bus);

#endif
