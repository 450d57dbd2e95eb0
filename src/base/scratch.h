/*
 * base/scratch.h - memory for what lives no longer than a commit: handed out of a fixed piece, one behind the other, and
 * all of it is there again when the last that was handed out has come back. What does not fit comes from the allocator below.
 *
 * It saves malloc() and free(), and, which counts for more where the kernel has just been, keeps what a commit writes in few
 * cache lines that are the same each time. With -Daudit=true everything comes from below, so that tests fail each allocation,
 * and sanitizers see each use after its end.
 *
 * Not locked: whoever uses it holds the lock that its owner says.
 */
#ifndef BASE_SCRATCH_H
#define BASE_SCRATCH_H

#include "base/alloc.h"

#include <stdint.h>

#define SCRATCH_BYTES 8192u

struct scratch {
    struct gm_allocator allocator; /* to be used as any other */
    struct gm_allocator below;
    size_t used_bytes;
    size_t live; /* pieces of `bytes` that are handed out */
    _Alignas(max_align_t) uint8_t bytes[SCRATCH_BYTES];
};

/* It stays where it is from here on. */
void scratch_init(struct scratch *scratch, const struct gm_allocator *below);

/* Nothing may be handed out any more. */
void scratch_fini(struct scratch *scratch);

#endif
