/*
 * pc/pc.c - the small PC: its memory map, and what is plugged into it.
 *
 *   memory space (root)                       priority
 *     ram-low      [0, 640 KiB)                  0      alias of ram
 *     ram-extended [1 MiB, low end)              0      alias of ram
 *     ram-high     [4 GiB, ...)                  0      alias of ram, what is left of it
 *     smram        [0xa0000, 0xc0000)            1      alias of ram, see i440fx.c
 *     pam-ram, pam-write-only: 13 windows        1      from 0xc0000 to 1 MiB, see i440fx.c
 *     apics        [0xfec00000, 0xfef00000)      1      reserved: KVM's APICs answer there
 *     kvm-pages    four pages below 0xff000000   1      reserved, see PC_KVM_PAGES_GPA
 *     pci          everything                   -1      so it shows where no RAM is
 *       bios       [4 GiB - size, 4 GiB)         1      ROM
 *       isa-bios   the same in 13 windows        0      aliases of bios
 *       BARs       where the guest puts them     0
 *
 * Nothing shows at 0xa0000 but the PCI bus, which is empty there: this machine has no display.
 */
#include "pc/pc.h"

#include "pc/board.h"
#include "pc/clock.h"
#include "pc/clockwork.h"
#include "pc/cpu.h"
#include "pc/devices.h"
#include "pc/i440fx.h"
#include "pc/pci.h"
#include "pc/piix4.h"

#include <guestmem/listener.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RAM_LOW_END 0xa0000u
#define APICS_GPA 0xfec00000u
#define APICS_BYTES 0x300000u
#define DIRTY_CLIENT 0

struct pc {
    struct gm_vm *vm; /* borrowed */
    struct board board;
    struct console console;
    struct pci_bus pci;
    struct i440fx bridge;
    struct piix4 piix;
    struct testdev testdev;
    struct debug_ports debug;
    struct serial serial;
    struct cmos cmos;
    struct fwcfg fwcfg;
    struct i8042 keyboard;
    uint64_t limit_ns;
    struct pc_result result;
};

/*
 * All of RAM as one region, which is shown by aliases. Unmergeable, so that the aliases stay
 * apart.
 */
static int ram_init(struct board *board)
{
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = "ram",
        .size_bytes = gm_ram_size(board->ram),
        .ram = board->ram,
        .unmergeable = true,
    };
    int err = board_add_region(board, NULL, &options, &board->ram_region);

    return err != 0 ? err : gm_txn_set_log(board->building, board->ram_region, DIRTY_CLIENT, true);
}

static int ram_alias_init(struct board *board, const char *name, uint64_t gpa, uint64_t offset,
                          uint64_t end)
{
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_ALIAS,
        .name = name,
        .addr = gpa,
        .size_bytes = end - offset,
        .target = board->ram_region,
        .target_offset = offset,
    };

    return board_add_region(board, board->memory, &options, NULL);
}

/*
 * Addresses that a BAR cannot have, whatever the guest programs: those of the APICs, which the host
 * bridge decodes itself, and KVM's own pages, over which some kernels refuse a slot.
 */
static int reservation_init(struct board *board, const char *name, uint64_t gpa,
                            uint64_t size_bytes)
{
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RESERVATION,
        .name = name,
        .addr = gpa,
        .size_bytes = size_bytes,
        .priority = 1,
    };

    return board_add_region(board, board->memory, &options, NULL);
}

static int pci_memory_init(struct board *board)
{
    const struct gm_region_options pci = {
        .size = sizeof(pci),
        .kind = GM_REGION_CONTAINER,
        .name = "pci",
        .size_bytes = GM_SIZE_2_64,
        .priority = -1,
    };
    const struct gm_region_options bios = {
        .size = sizeof(bios),
        .kind = GM_REGION_ROM,
        .name = "bios",
        .addr = 4 * PC_GIB - gm_ram_size(board->bios),
        .size_bytes = gm_ram_size(board->bios),
        .priority = 1,
        .ram = board->bios,
        .unmergeable = true,
    };
    int err = board_add_region(board, board->memory, &pci, &board->pci);

    return err != 0 ? err : board_add_region(board, board->pci, &bios, &board->bios_region);
}

static int memory_init(struct board *board)
{
    uint64_t ram_bytes = gm_ram_size(board->ram);
    int err = ram_init(board);

    if (err == 0) {
        err = ram_alias_init(board, "ram-low", 0, 0, RAM_LOW_END);
    }
    if (err == 0) {
        err = ram_alias_init(board, "ram-extended", PC_MIB, PC_MIB, board->low_bytes);
    }
    if (err == 0 && ram_bytes > board->low_bytes) {
        err = ram_alias_init(board, "ram-high", 4 * PC_GIB, board->low_bytes, ram_bytes);
    }
    if (err == 0) {
        err = reservation_init(board, "apics", APICS_GPA, APICS_BYTES);
    }
    if (err == 0) {
        err = reservation_init(board, "kvm-pages", PC_KVM_PAGES_GPA, PC_KVM_PAGES_BYTES);
    }
    return err != 0 ? err : pci_memory_init(board);
}

static int devices_init(struct pc *pc)
{
    struct board *board = &pc->board;
    int err = pci_bus_init(&pc->pci, board);

    if (err == 0) {
        err = i440fx_init(&pc->bridge, &pc->pci);
    }
    if (err == 0) {
        err = piix4_init(&pc->piix, &pc->pci);
    }
    if (err == 0) {
        err = testdev_init(&pc->testdev, &pc->pci);
    }
    if (err == 0) {
        err = debug_ports_init(&pc->debug, board);
    }
    if (err == 0) {
        err = serial_init(&pc->serial, board);
    }
    if (err == 0) {
        err = cmos_init(&pc->cmos, board);
    }
    if (err == 0) {
        err = fwcfg_init(&pc->fwcfg, board);
    }
    return err != 0 ? err : i8042_init(&pc->keyboard, board);
}

/* Everything that is memory or a port, in one transaction. */
static int board_build(struct pc *pc)
{
    struct board *board = &pc->board;
    int err = gm_txn_begin(board->map, &board->building);

    if (err != 0) {
        return err;
    }
    err = memory_init(board);
    if (err == 0) {
        err = devices_init(pc);
    }
    if (err == 0) {
        err = gm_txn_commit(board->building, &board->diag);
    } else {
        gm_txn_abort(board->building);
    }
    board->building = NULL;
    return err;
}

static int board_open(struct pc *pc, const struct pc_options *options)
{
    struct board *board = &pc->board;
    int err;

    pc->console.out = options->console;
    board->console = &pc->console;
    board->map = gm_vm_map(pc->vm);
    board->memory = gm_vm_memory_root(pc->vm);
    board->ports = gm_vm_ports_root(pc->vm);
    board->low_bytes =
        options->memory_bytes > PC_LOW_MEMORY_MAX ? PC_LOW_MEMORY_SPLIT : options->memory_bytes;
    gm_ram_get(options->bios);
    board->bios = options->bios;
    err = gm_ram_new_anon(options->memory_bytes, NULL, &board->ram, &board->diag);
    if (err == 0) {
        err = cpu_chips_new(pc->vm, &board->diag);
    }
    if (err == 0) {
        err = board_build(pc);
    }
    return err != 0 ? err : cpu_new(pc->vm, &board->vcpu, &board->diag);
}

int pc_new(struct gm_vm *vm, const struct pc_options *options, struct pc **out,
           struct gm_diag *diag)
{
    struct pc *pc = calloc(1, sizeof(*pc));
    int err = -ENOMEM;

    if (pc != NULL) {
        pc->vm = vm;
        pc->limit_ns = options->limit_ns;
        err = board_open(pc, options);
        *diag = pc->board.diag;
    }
    if (err == 0) {
        pc->result.memory_bytes = options->memory_bytes;
        gm_map_stats(pc->board.map, &pc->result.built);
        gm_slots_stats(gm_vm_slots(vm), &pc->result.built_slots);
        *out = pc;
        return 0;
    }
    if (diag->text[0] == '\0') {
        snprintf(diag->text, sizeof(diag->text), "the machine cannot be built: %s", strerror(-err));
    }
    diag->code = err;
    pc_free(pc);
    return err;
}

void pc_free(struct pc *pc)
{
    if (pc == NULL) {
        return;
    }
    gm_vcpu_free(pc->board.vcpu);
    board_put_regions(&pc->board);
    fwcfg_fini(&pc->fwcfg);
    testdev_fini(&pc->testdev);
    gm_ram_put(pc->board.ram);
    gm_ram_put(pc->board.bios);
    free(pc);
}

enum pc_end pc_run(struct pc *pc, struct gm_diag *diag)
{
    struct clockwork clockwork;
    uint64_t start_ns = clock_now_ns();
    int err = clockwork_start(&clockwork, &pc->board, pc->limit_ns);

    if (err != 0) {
        pc->board.diag.code = err;
        snprintf(pc->board.diag.text, sizeof(pc->board.diag.text), "no thread for the clock: %s",
                 strerror(-err));
        board_end(&pc->board, PC_FAILED, 0);
    } else {
        cpu_run(&pc->board);
        clockwork_stop(&clockwork);
    }
    console_finish(&pc->console);
    pc->result.end = board_ended(&pc->board, &pc->result.value);
    pc->result.run_ns = clock_now_ns() - start_ns;
    gm_vcpu_stats(pc->board.vcpu, &pc->result.exits);
    *diag = pc->board.diag;
    return pc->result.end;
}

void pc_result(const struct pc *pc, struct pc_result *result)
{
    *result = pc->result;
}

int pc_dirty_pages(struct pc *pc, uint64_t *page_count)
{
    struct board *board = &pc->board;
    uint64_t size_bytes = gm_ram_size(board->ram);
    struct gm_harvest *harvest;
    int err = gm_region_log_sync(board->ram_region, 0, size_bytes);

    if (err == 0) {
        err = gm_harvest_begin(board->ram, DIRTY_CLIENT, 0, size_bytes, &harvest);
    }
    if (err == 0) {
        *page_count = gm_harvest_page_count(harvest);
        gm_harvest_commit(harvest);
    }
    return err;
}
