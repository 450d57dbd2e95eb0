/* ram/make.h - the ends of a block's life, and the checks that several files make. */
#ifndef RAM_MAKE_H
#define RAM_MAKE_H

#include "ram/ram.h"

/* The locks and the dirty record of a zeroed block. 0 or -ENOMEM, and then nothing is left. */
int ram_init_locks(struct gm_ram *ram);

/* Free a block that nobody has a reference on, with what it has so far. */
void ram_free(struct gm_ram *ram);

/* Is this advice at all? 0 or -EINVAL. */
int advice_check(uint32_t advice, struct gm_diag *diag);

#endif
