/*
 * pc/i440fx.c - the host bridge's programmable windows (PAM) and its SMRAM window.
 *
 * The guest's writes to the bridge's registers become edits of regions, one transaction for each
 * write that changes anything. Every window is an alias of its own, and RAM and firmware are
 * unmergeable, so that each window has its own slot from the start: switching one cannot disturb
 * its neighbours.
 * Source: Intel 82441FX (PMC) datasheet, registers PAM0 to PAM6 and SMRAM.
 */
#include "pc/i440fx.h"

#include <string.h>

#define PAM0 0x59
#define PAM_FIRST_GPA 0xc0000u
#define PAM_LAST_GPA 0xf0000u /* of the last window */
#define PAM_WINDOW_BYTES 0x4000u
#define PAM_LAST_WINDOW_BYTES 0x10000u
#define PAM_READ 1u
#define PAM_WRITE 2u
#define PAM_MODES (PAM_READ | PAM_WRITE)

#define SMRAM 0x72
#define SMRAM_GPA 0xa0000u
#define SMRAM_BYTES 0x20000u
#define SMRAM_ENABLE 0x08u
#define SMRAM_LOCK 0x10u
#define SMRAM_OPEN 0x40u
#define SMRAM_BASE_A0000 0x02u /* the one value of its lowest three bits that means anything */

/* The last 128 KiB of the firmware, or all of it if it is smaller, show once more below 1 MiB. */
#define BIOS_ALIAS_GPA 0xe0000u
#define ONE_MIB 0x100000u

static uint32_t window_bytes(unsigned index)
{
    return index == PAM_WINDOW_COUNT - 1 ? PAM_LAST_WINDOW_BYTES : PAM_WINDOW_BYTES;
}

/*
 * PAM0's upper half is the window at 0xf0000; from PAM1 on each half is one of the others,
 * upwards.
 */
static unsigned window_mode(const struct pci_device *pci, unsigned index)
{
    if (index == PAM_WINDOW_COUNT - 1) {
        return pci->config[PAM0] >> 4 & PAM_MODES;
    }
    return pci->config[PAM0 + 1 + index / 2] >> (index % 2 == 0 ? 0 : 4) & PAM_MODES;
}

/* Where in the firmware image the byte is that shows at a GPA below 1 MiB. */
static uint64_t bios_offset(const struct board *board, uint64_t gpa)
{
    return gm_ram_size(board->bios) - (ONE_MIB - gpa);
}

/*
 * Writes to RAM that the guest cannot read at the moment: how a firmware copies itself into shadow
 * RAM.
 */
static enum gm_access write_only_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                       uint64_t value, struct gm_attrs attrs)
{
    const struct pam_window *window = opaque;
    struct gm_ram *ram = window->board->ram;

    (void)attrs;
    /* A little-endian host is given: it runs x86 guests under KVM. */
    memcpy((uint8_t *)gm_ram_hva(ram) + window->gpa + offset, &value, size_bytes);
    gm_ram_dirty_mark(ram, window->gpa + offset, size_bytes, (1u << GM_DIRTY_CLIENTS) - 1);
    return GM_ACCESS_OK;
}

/* Where no firmware lies below, a read finds an empty bus. */
static enum gm_access write_only_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                      uint64_t *value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = UINT64_MAX;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops write_only_io = {
    .size = sizeof(write_only_io),
    .read = write_only_read,
    .write = write_only_write,
    .order = GM_ORDER_LITTLE,
    .valid = {.min_bytes = 1, .max_bytes = 8, .unaligned = true},
    .implemented = {.min_bytes = 1, .max_bytes = 8, .unaligned = true},
};

/*
 * The write-only face of a window. Over firmware it is a ROM device, so that the guest can go on
 * executing there; elsewhere it is plain I/O.
 */
static int write_only_init(struct pam_window *window, uint32_t size_bytes, bool on_bios)
{
    struct board *board = window->board;
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = on_bios ? GM_REGION_ROM_DEVICE : GM_REGION_MMIO,
        .name = "pam-write-only",
        .addr = window->gpa,
        .size_bytes = size_bytes,
        .priority = 1,
        .disabled = true,
        .ram = on_bios ? board->bios : NULL,
        .ram_offset = on_bios ? bios_offset(board, window->gpa) : 0,
        .io = &write_only_io,
        .opaque = window,
    };

    return board_add_region(board, board->memory, &options, &window->write_only);
}

/* The firmware's own face: what the PCI bus shows at the window while RAM does not cover it. */
static int bios_alias_init(const struct pam_window *window, uint32_t size_bytes)
{
    struct board *board = window->board;
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_ALIAS,
        .name = "isa-bios",
        .addr = window->gpa,
        .size_bytes = size_bytes,
        .target = board->bios_region,
        .target_offset = bios_offset(board, window->gpa),
    };

    return board_add_region(board, board->pci, &options, NULL);
}

static int window_init(struct pam_window *window, struct board *board, unsigned index)
{
    uint64_t gpa = PAM_FIRST_GPA + (uint64_t)index * PAM_WINDOW_BYTES;
    uint32_t size_bytes = window_bytes(index);
    bool on_bios = gpa >= BIOS_ALIAS_GPA && gm_ram_size(board->bios) >= ONE_MIB - gpa;
    const struct gm_region_options ram = {
        .size = sizeof(ram),
        .kind = GM_REGION_ALIAS,
        .name = "pam-ram",
        .addr = gpa,
        .size_bytes = size_bytes,
        .priority = 1,
        .disabled = true,
        .target = board->ram_region,
        .target_offset = gpa,
    };
    int err;

    window->board = board;
    window->gpa = gpa;
    err = board_add_region(board, board->memory, &ram, &window->ram);
    if (err == 0) {
        err = write_only_init(window, size_bytes, on_bios);
    }
    if (err == 0 && on_bios) {
        err = bios_alias_init(window, size_bytes);
    }
    return err;
}

static int window_edit(struct gm_txn *txn, const struct pam_window *window, unsigned mode)
{
    int err = gm_txn_set_enabled(txn, window->ram, (mode & PAM_READ) != 0);

    if (err == 0) {
        err = gm_txn_set_readonly(txn, window->ram, mode == PAM_READ);
    }
    if (err == 0) {
        err = gm_txn_set_enabled(txn, window->write_only, mode == PAM_WRITE);
    }
    return err;
}

static bool smram_wanted(const struct i440fx *bridge)
{
    const uint8_t open = SMRAM_ENABLE | SMRAM_OPEN;

    return (bridge->pci.config[SMRAM] & open) == open;
}

static bool bridge_is_current(const struct i440fx *bridge)
{
    unsigned i;

    for (i = 0; i < PAM_WINDOW_COUNT; i++) {
        if (window_mode(&bridge->pci, i) != bridge->windows[i].mode) {
            return false;
        }
    }
    return smram_wanted(bridge) == bridge->smram_shown;
}

/* Record in the transaction what the registers say now. */
static int bridge_edit(struct i440fx *bridge, struct gm_txn *txn)
{
    unsigned i;
    int err = 0;

    for (i = 0; i < PAM_WINDOW_COUNT && err == 0; i++) {
        struct pam_window *window = &bridge->windows[i];
        unsigned mode = window_mode(&bridge->pci, i);

        if (mode != window->mode) {
            err = window_edit(txn, window, mode);
            window->mode = mode;
        }
    }
    if (err == 0 && smram_wanted(bridge) != bridge->smram_shown) {
        bridge->smram_shown = !bridge->smram_shown;
        err = gm_txn_set_enabled(txn, bridge->smram, bridge->smram_shown);
    }
    return err;
}

static void bridge_written(void *opaque)
{
    struct i440fx *bridge = opaque;
    uint8_t *smram = &bridge->pci.config[SMRAM];
    struct gm_txn *txn = NULL;
    int err;

    /* The lock closes the window and stays until a reset. */
    if ((*smram & SMRAM_LOCK) != 0) {
        *smram &= (uint8_t)~SMRAM_OPEN;
        bridge->pci.writable[SMRAM] = 0;
    }
    if (bridge_is_current(bridge)) {
        return;
    }
    err = gm_txn_begin(bridge->board->map, &txn);
    if (err == 0) {
        err = bridge_edit(bridge, txn);
    }
    board_commit(bridge->board, txn, err);
}

static int smram_init(struct i440fx *bridge)
{
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_ALIAS,
        .name = "smram",
        .addr = SMRAM_GPA,
        .size_bytes = SMRAM_BYTES,
        .priority = 1,
        .disabled = true,
        .target = bridge->board->ram_region,
        .target_offset = SMRAM_GPA,
    };

    return board_add_region(bridge->board, bridge->board->memory, &options, &bridge->smram);
}

int i440fx_init(struct i440fx *bridge, struct pci_bus *bus)
{
    /* The subsystem is how SeaBIOS knows an emulated i440fx from a real one. */
    static const struct pci_identity identity = {
        .vendor = 0x8086,
        .device = 0x1237,
        .class_code = 0x060000,
        .revision = 2,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
    };
    unsigned i;
    int err = 0;

    bridge->board = bus->board;
    bridge->pci.written = bridge_written;
    bridge->pci.opaque = bridge;
    pci_device_identify(&bridge->pci, &identity);
    bridge->pci.writable[PAM0] = PAM_MODES << 4;
    for (i = 1; i < 7; i++) {
        bridge->pci.writable[PAM0 + i] = PAM_MODES << 4 | PAM_MODES;
    }
    bridge->pci.config[SMRAM] = SMRAM_BASE_A0000;
    bridge->pci.writable[SMRAM] = 0x78;
    for (i = 0; i < PAM_WINDOW_COUNT && err == 0; i++) {
        err = window_init(&bridge->windows[i], bridge->board, i);
    }
    if (err == 0) {
        err = smram_init(bridge);
    }
    return err != 0 ? err : pci_bus_plug(bus, PCI_DEVFN(0, 0), &bridge->pci);
}
