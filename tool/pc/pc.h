/*
 * pc/pc.h - the small PC of `guestmem run`: an i440fx memory map, one vCPU on a KVM, and the few
 * devices that Debian's SeaBIOS needs to reach the end of its boot search.
 *
 * A pc is made, run once and freed, all on one thread; it starts one more thread for the clock and
 * for signals. This header is what the command sees; the devices see pc/board.h.
 */
#ifndef TOOL_PC_PC_H
#define TOOL_PC_PC_H

#include <guestmem/types.h>
#include <guestmem/vm.h>

#include <stdint.h>
#include <stdio.h>

#define PC_MIB ((uint64_t)1 << 20)
#define PC_GIB ((uint64_t)1 << 30)

/*
 * RAM that would reach beyond 3.5 GiB leaves the last GiB below 4 GiB to the PCI hole; what does
 * not fit below 3 GiB is then found from 4 GiB on. This is what the firmware expects of an i440fx.
 */
#define PC_LOW_MEMORY_MAX (7 * PC_GIB / 2)
#define PC_LOW_MEMORY_SPLIT (3 * PC_GIB)
#define PC_MEMORY_MIN (2 * PC_MIB)

/*
 * Pages that KVM wants for itself in the guest's address space, to run real mode on processors that
 * cannot: one for the identity map and three for the TSS. Below the largest firmware image.
 */
#define PC_KVM_PAGES_GPA UINT64_C(0xfeffc000)
#define PC_KVM_PAGES_BYTES UINT64_C(0x4000)

/* Why a run ended. */
enum pc_end {
    PC_RUNNING = 0,
    PC_POWER_OFF,   /* ACPI: soft-off written to PM1a_CNT */
    PC_EXIT_PORT,   /* a byte written to port 0xf4; it is the end's value */
    PC_RESET,       /* the guest asked for a reset; this machine does not start again */
    PC_IDLE,        /* halted for a second whenever we looked, having said nothing */
    PC_HALTED,      /* halted with interrupts disabled: nothing can wake it */
    PC_TIME_UP,     /* the limit given by the caller */
    PC_INTERRUPTED, /* SIGINT or SIGTERM */
    PC_CRASHED,     /* triple fault, or an instruction that KVM gave up on; see the diag */
    PC_FAILED,      /* the machine itself could not go on; the diag says why */
};

struct pc_options {
    uint64_t memory_bytes;
    struct gm_ram *bios; /* see pc/bios.h; a reference is taken */
    uint64_t limit_ns;   /* 0: none */
    FILE *console;       /* where the firmware's messages go; borrowed */
};

struct pc;

/*
 * Build the machine on a VM that is still empty. The VM is the caller's, and has to outlive the pc.
 * Return: 0, or -errno and a diag: -ENOMEM, or errno of KVM's ioctls.
 */
int pc_new(struct gm_vm *vm, const struct pc_options *options, struct pc **pc,
           struct gm_diag *diag);
void pc_free(struct pc *pc);

/* Run until one of the ends. Return: which one; for PC_FAILED and PC_CRASHED the diag says why. */
enum pc_end pc_run(struct pc *pc, struct gm_diag *diag);

/* What the run came to. */
struct pc_result {
    enum pc_end end;
    uint32_t value; /* PC_EXIT_PORT: what was written */
    uint64_t run_ns;
    uint64_t memory_bytes;
    struct gm_map_stats built; /* the map's and the slots' counts when the machine stood ready */
    struct gm_slots_stats built_slots;
    struct gm_vcpu_stats exits;
};
void pc_result(const struct pc *pc, struct pc_result *result);

/*
 * Pages of RAM that the guest and the devices have written since the machine was made.
 * Return: 0, or -errno of gm_region_log_sync() or gm_harvest_begin().
 */
int pc_dirty_pages(struct pc *pc, uint64_t *page_count);

#endif
