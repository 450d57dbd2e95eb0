/*
 * pc/board.h - what the devices of the small PC stand on: its roots, the transaction that builds
 * it, the way to say that the run is over.
 *
 * All devices are called on the vCPU's thread. Only board_end() may be called from another one.
 */
#ifndef TOOL_PC_BOARD_H
#define TOOL_PC_BOARD_H

#include "pc/console.h"
#include "pc/pc.h"

#include <guestmem/ram.h>
#include <guestmem/region.h>
#include <guestmem/txn.h>

#include <stdatomic.h>

#define BOARD_REGIONS_MAX 96

struct board {
    struct gm_vcpu *vcpu; /* board_end() kicks it */
    struct gm_map *map;
    struct gm_region *memory; /* root of the memory space, borrowed */
    struct gm_region *ports;  /* root of the port space, borrowed */
    struct gm_region *pci;    /* what the PCI bus shows, below all RAM */
    struct gm_region *ram_region;
    struct gm_region *bios_region;
    struct gm_ram *ram;
    struct gm_ram *bios;
    uint64_t low_bytes; /* RAM below the PCI hole */
    struct console *console;

    struct gm_txn *building; /* open while the machine is built, then NULL */
    struct gm_region *regions[BOARD_REGIONS_MAX];
    unsigned region_count;

    _Atomic uint64_t end; /* enum pc_end, and its value in the upper half; the first one stays */
    struct gm_diag diag;  /* of PC_FAILED and PC_CRASHED, and of building */
};

/*
 * Make a region and attach it to @parent (NULL: nowhere) in the transaction that builds the
 * machine. The board owns it. @region may be NULL. Return: 0 or -errno; the board's diag is filled.
 */
int board_add_region(struct board *board, struct gm_region *parent,
                     const struct gm_region_options *options, struct gm_region **region);

/* The same for a device's ports, all in one line. */
struct board_ports {
    const char *name;
    uint16_t port;
    uint16_t count;
    const struct gm_io_ops *io;
    void *opaque;
};
int board_add_ports(struct board *board, const struct board_ports *ports);

/* Drop the board's references. */
void board_put_regions(struct board *board);

/* The run is over. The first reason counts. Any thread. */
void board_end(struct board *board, enum pc_end end, uint32_t value);
enum pc_end board_ended(const struct board *board, uint32_t *value);

/*
 * Commit an edit that the guest asked for through a register. Hardware cannot refuse one, so a
 * commit that fails ends the run as PC_FAILED with the sentence of the library.
 */
void board_commit(struct board *board, struct gm_txn *txn, int err);

#endif
