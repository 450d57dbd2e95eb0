/*
 * pc/fwcfg.c - fw_cfg: what the machine tells its firmware, by keys and by names.
 *
 * The guest writes a key to port 0x510 and then reads the item's bytes from port 0x511, one by one.
 * Key 0x19 is the directory of named files.
 * Source: the interface's public specification, "QEMU Firmware Configuration (fw_cfg) Device".
 */
#include "pc/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FWCFG_PORTS 0x510
#define DATA 1 /* offset of the data register */

#define KEY_SIGNATURE 0x00
#define KEY_FEATURES 0x01
#define KEY_CPU_COUNT 0x05
#define KEY_CPU_MAX 0x0f
#define KEY_DIRECTORY 0x19
#define KEY_FILES 0x20

/* A directory entry: size and key in big-endian order, two bytes of nothing, the name. */
#define ENTRY_BYTES 64
#define DIRECTORY_HEAD_BYTES 4

/* SeaBIOS: the kinds of memory in etc/e820. */
#define E820_RAM 1
#define E820_RESERVED 2
struct e820_entry {
    uint64_t gpa;
    uint64_t size_bytes;
    uint32_t kind;
} __attribute__((packed));
_Static_assert(sizeof(struct e820_entry) == 20, "the firmware reads entries of 20 bytes");

static enum gm_access fwcfg_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                 uint64_t *value, struct gm_attrs attrs)
{
    struct fwcfg *fwcfg = opaque;
    unsigned i;

    (void)size_bytes;
    (void)attrs;
    *value = 0; /* also past an item's end, and for keys that are not there */
    if (offset != DATA) {
        return GM_ACCESS_OK;
    }
    for (i = 0; i < fwcfg->item_count; i++) {
        const struct fwcfg_item *item = &fwcfg->items[i];

        if (item->key == fwcfg->selected && fwcfg->offset < item->size_bytes) {
            *value = ((const uint8_t *)item->data)[fwcfg->offset++];
        }
    }
    return GM_ACCESS_OK;
}

static enum gm_access fwcfg_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t value, struct gm_attrs attrs)
{
    struct fwcfg *fwcfg = opaque;

    (void)attrs;
    if (offset == 0 && size_bytes == 2) {
        fwcfg->selected = (uint16_t)value;
        fwcfg->offset = 0;
    }
    return GM_ACCESS_OK;
}

/* The selector takes a word; the data port, one further, bytes. */
static const struct gm_io_ops fwcfg_io = {
    .size = sizeof(fwcfg_io),
    .read = fwcfg_read,
    .write = fwcfg_write,
    .order = GM_ORDER_LITTLE,
    .valid = {.min_bytes = 1, .max_bytes = 2},
    .implemented = {.min_bytes = 1, .max_bytes = 2},
};

/* Add an item; its data are copied. */
static int add_item(struct fwcfg *fwcfg, uint16_t key, const void *data, uint32_t size_bytes)
{
    struct fwcfg_item *item = &fwcfg->items[fwcfg->item_count];

    if (fwcfg->item_count == FWCFG_ITEMS_MAX) {
        return -E2BIG;
    }
    item->data = malloc(size_bytes);
    if (item->data == NULL) {
        return -ENOMEM;
    }
    memcpy(item->data, data, size_bytes);
    item->key = key;
    item->size_bytes = size_bytes;
    fwcfg->item_count++;
    return 0;
}

static void put_big_endian(uint8_t *out, unsigned size_bytes, uint32_t value)
{
    while (size_bytes > 0) {
        out[--size_bytes] = (uint8_t)value;
        value >>= 8;
    }
}

/* Add a file under the next key, and its entry to the directory at @directory. */
static int add_file(struct fwcfg *fwcfg, uint8_t *directory, const char *name, const void *data,
                    uint32_t size_bytes)
{
    uint16_t key = (uint16_t)(KEY_FILES + fwcfg->file_count);
    uint8_t *entry = directory + DIRECTORY_HEAD_BYTES + ENTRY_BYTES * fwcfg->file_count;
    int err = add_item(fwcfg, key, data, size_bytes);

    if (err != 0) {
        return err;
    }
    fwcfg->file_count++;
    put_big_endian(entry, 4, size_bytes);
    put_big_endian(entry + 4, 2, key);
    strncpy((char *)entry + 8, name, FWCFG_NAME_BYTES - 1);
    put_big_endian(directory, 4, fwcfg->file_count);
    return 0;
}

static int add_memory_file(struct fwcfg *fwcfg, uint8_t *directory, const struct board *board)
{
    uint64_t high_bytes = gm_ram_size(board->ram) - board->low_bytes;
    const struct e820_entry entries[] = {
        {0, board->low_bytes, E820_RAM},
        {PC_KVM_PAGES_GPA, PC_KVM_PAGES_BYTES, E820_RESERVED},
        {4 * PC_GIB, high_bytes, E820_RAM},
    };
    uint32_t size_bytes = sizeof(entries);

    if (high_bytes == 0) {
        size_bytes -= (uint32_t)sizeof(entries[0]);
    }
    return add_file(fwcfg, directory, "etc/e820", entries, size_bytes);
}

/*
 * The files: the map of RAM; and two settings that make the boot search end. Nobody is there to
 * press a key for the boot menu, and a search that found nothing is not to be repeated.
 */
static int add_files(struct fwcfg *fwcfg, const struct board *board)
{
    static const uint32_t never_retry = UINT32_MAX;
    static const uint16_t no_menu = 0;
    uint8_t directory[DIRECTORY_HEAD_BYTES + 3 * ENTRY_BYTES] = {0};
    int err = add_memory_file(fwcfg, directory, board);

    if (err == 0) {
        err = add_file(fwcfg, directory, "etc/boot-fail-wait", &never_retry, sizeof(never_retry));
    }
    if (err == 0) {
        err = add_file(fwcfg, directory, "etc/show-boot-menu", &no_menu, sizeof(no_menu));
    }
    return err != 0 ? err : add_item(fwcfg, KEY_DIRECTORY, directory, sizeof(directory));
}

int fwcfg_init(struct fwcfg *fwcfg, struct board *board)
{
    static const uint32_t features = 1; /* the ports; no DMA */
    static const uint16_t one_cpu = 1;
    int err = add_item(fwcfg, KEY_SIGNATURE, "QEMU", 4);

    if (err == 0) {
        err = add_item(fwcfg, KEY_FEATURES, &features, sizeof(features));
    }
    if (err == 0) {
        err = add_item(fwcfg, KEY_CPU_COUNT, &one_cpu, sizeof(one_cpu));
    }
    if (err == 0) {
        err = add_item(fwcfg, KEY_CPU_MAX, &one_cpu, sizeof(one_cpu));
    }
    if (err == 0) {
        err = add_files(fwcfg, board);
    }
    return err != 0 ? err
                    : board_add_ports(board, &(struct board_ports){
                                                 .name = "fw-cfg",
                                                 .port = FWCFG_PORTS,
                                                 .count = 2,
                                                 .io = &fwcfg_io,
                                                 .opaque = fwcfg,
                                             });
}

void fwcfg_fini(struct fwcfg *fwcfg)
{
    while (fwcfg->item_count > 0) {
        free(fwcfg->items[--fwcfg->item_count].data);
    }
}
