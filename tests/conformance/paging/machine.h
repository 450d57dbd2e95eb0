/*
 * conformance/paging/machine.h - the emulated machine's RAM, and a model of it on which our walker runs.
 *
 * Both begin equal. The emulated processor changes the one, our walker and the test's own accesses the
 * other; in the end they are equal again, or one of them is wrong.
 */
#ifndef CONFORMANCE_PAGING_MACHINE_H
#define CONFORMANCE_PAGING_MACHINE_H

#include "image.h"

#include "mmu/guestwalk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_PAGE_BYTES 4096u

/* As run.py has it: RAM, a hole with devices, RAM. */
#define MACHINE_LOW_END UINT64_C(0x80000000)
#define MACHINE_HIGH UINT64_C(0x100000000)
#define MACHINE_HIGH_END UINT64_C(0x200000000)
#define MACHINE_RAM_BYTES (MACHINE_LOW_END + MACHINE_HIGH_END - MACHINE_HIGH)

struct machine {
    int ram_file; /* QEMU opens it again */
    int rom_file;
    int monitor_files[2]; /* of 32 and 64 bits */
    uint8_t *ram;
    uint8_t *model;
    uint64_t *touched;      /* a bit for each page of the model that may not be 0 */
    struct guestmem memory; /* the model, for our walker */
};

enum machine_result {
    MACHINE_OK,
    MACHINE_MISSING, /* no emulator, or no compiler; it was said */
};

enum machine_result machine_open(struct machine *machine);
void machine_close(struct machine *machine);

/* All zero again, but for the guest program of this entry size and its tables. */
void machine_reset(struct machine *machine, struct paging_image *image);

bool machine_has(uint64_t gpa); /* RAM, not the hole */

/* Of the model. Where there is no RAM, loads give 0, and stores are lost. */
uint64_t machine_load(const struct machine *machine, uint64_t gpa, unsigned size_bytes);
void machine_store(struct machine *machine, uint64_t gpa, unsigned size_bytes, uint64_t value);

/* Of both, before the machine starts. */
void machine_put(struct machine *machine, uint64_t gpa, uint64_t value);

/* The entry that maps the guest program, for index 0 of a root with these entries. */
uint64_t machine_monitor_entry(enum paging_mode mode);

/* Run the guest program to its end. The cases are in RAM. */
void machine_boot(struct machine *machine, unsigned physical_bits);

/* Pages that differ, but for those that are the guest program's. */
void machine_compare(const struct machine *machine);

static inline struct paging_image *machine_image(const struct machine *machine)
{
    return (struct paging_image *)(machine->ram + PAGING_IMAGE);
}

static inline struct paging_case *machine_cases(const struct machine *machine)
{
    return (struct paging_case *)(machine->ram + PAGING_CASES);
}

static inline struct paging_answer *machine_answers(const struct machine *machine)
{
    return (struct paging_answer *)(machine->ram + PAGING_ANSWERS);
}

#define MACHINE_CASES_MAX ((PAGING_ANSWERS - PAGING_CASES) / (unsigned)sizeof(struct paging_case))

_Static_assert(MACHINE_CASES_MAX <=
                   (PAGING_IMAGE_END - PAGING_ANSWERS) / sizeof(struct paging_answer),
               "each case has room for its answer");

#endif
