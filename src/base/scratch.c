/* base/scratch.c - memory for what lives no longer than a commit. */
#include "base/scratch.h"

#include "base/check.h"

#define ALIGNMENT _Alignof(max_align_t)

#ifdef GM_AUDIT_ON
#define ROOM 0u
#else
#define ROOM SCRATCH_BYTES
#endif

static void *scratch_alloc(void *opaque, size_t size_bytes)
{
    struct scratch *scratch = opaque;
    uint8_t *memory = &scratch->bytes[scratch->used_bytes];

    size_bytes += size_bytes == 0 ? 1 : 0; /* each piece begins within `bytes` */
    if (size_bytes > ROOM - scratch->used_bytes) {
        return mem_alloc(&scratch->below, size_bytes);
    }
    /* The room is a multiple of the alignment, too. */
    scratch->used_bytes += (size_bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    scratch->live++;
    return memory;
}

static void scratch_free(void *opaque, void *memory)
{
    struct scratch *scratch = opaque;

    if ((uintptr_t)memory - (uintptr_t)scratch->bytes >= SCRATCH_BYTES) {
        mem_free(&scratch->below, memory);
        return;
    }
    scratch->live--;
    if (scratch->live == 0) {
        scratch->used_bytes = 0;
    }
}

void scratch_init(struct scratch *scratch, const struct gm_allocator *below)
{
    scratch->allocator = (struct gm_allocator){scratch_alloc, scratch_free, scratch};
    scratch->below = *below;
    scratch->used_bytes = 0;
    scratch->live = 0;
}

void scratch_fini(struct scratch *scratch)
{
    GM_ASSERT(scratch->live == 0 && scratch->used_bytes == 0);
}
