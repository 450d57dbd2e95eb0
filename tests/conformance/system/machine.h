/* conformance/system/machine.h - QEMU's machine: its RAM, and its boots. */
#ifndef CONFORMANCE_SYSTEM_MACHINE_H
#define CONFORMANCE_SYSTEM_MACHINE_H

#include "image.h"

#include <stdbool.h>

struct machine {
    int ram_file; /* QEMU opens it again */
    int rom_file;
    uint8_t *ram;
};

/* Return: false: no emulator, or no compiler; it was said. */
bool machine_open(struct machine *machine);
void machine_close(struct machine *machine);

/* Run the first cases. */
void machine_boot(struct machine *machine, const uint8_t plain[SYSTEM_ARENA_BYTES],
                  uint32_t case_count);

static inline struct system_case *machine_cases(const struct machine *machine)
{
    return (struct system_case *)(machine->ram + SYSTEM_CASES);
}

static inline const struct system_answer *machine_answers(const struct machine *machine)
{
    return (const struct system_answer *)(machine->ram + SYSTEM_ANSWERS);
}

#endif
