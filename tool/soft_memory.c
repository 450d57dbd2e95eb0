/* soft_memory.c - the host memory of a script, and the host's own accesses to it. */
#include "soft_memory.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define RESERVED_BYTES                                                                             \
    (16ull << 30) /* what a guest of 5 GiB can reach from a slot that begins here */
#define PATTERN_STEP 0x9E3779B97F4A7C15ull
#define SUM_PRIME 0x100000001b3ull
#define WORDS (SCRIPT_MEMORY_BYTES / sizeof(uint64_t))

int script_memory_init(struct script_memory *memory)
{
    uint8_t *reserved;

    *memory = (struct script_memory){0};
    reserved =
        mmap(NULL, RESERVED_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) {
        return -ENOMEM;
    }
    memory->base = reserved + RESERVED_BYTES / 2;
    /* Small pages everywhere: when the kernel makes large ones is none of a script's business. */
    madvise(memory->base, SCRIPT_MEMORY_BYTES, MADV_NOHUGEPAGE);
    return 0;
}

void script_memory_fini(struct script_memory *memory)
{
    if (memory->base != NULL) {
        munmap(memory->base - RESERVED_BYTES / 2, RESERVED_BYTES);
    }
}

int script_memory_reset(struct script_memory *memory)
{
    int result = script_memory_protect(memory, 0, SCRIPT_MEMORY_BYTES, PROT_READ | PROT_WRITE);
    uint64_t *words = (uint64_t *)memory->base;
    size_t i;

    for (i = 0; i < WORDS && result == 0; i++) {
        words[i] = (i + 1) * PATTERN_STEP;
    }
    return result;
}

/* May the host access @size_bytes at @offset so? */
static bool is_allowed(const struct script_memory *memory, size_t offset, size_t size_bytes,
                       int protection)
{
    size_t page;

    for (page = offset / SCRIPT_PAGE_BYTES; page <= (offset + size_bytes - 1) / SCRIPT_PAGE_BYTES;
         page++) {
        if ((memory->protection[page] & protection) == 0) {
            return false;
        }
    }
    return true;
}

int script_memory_load(const struct script_memory *memory, size_t offset, uint64_t *value)
{
    if (!is_allowed(memory, offset, sizeof(*value), PROT_READ)) {
        return -EFAULT;
    }
    memcpy(value, memory->base + offset, sizeof(*value));
    return 0;
}

int script_memory_store(struct script_memory *memory, size_t offset, uint64_t value)
{
    if (!is_allowed(memory, offset, sizeof(value), PROT_WRITE)) {
        return -EFAULT;
    }
    memcpy(memory->base + offset, &value, sizeof(value));
    return 0;
}

int script_memory_sum(const struct script_memory *memory, uint64_t *sum)
{
    const uint64_t *words = (const uint64_t *)memory->base;
    uint64_t hash = 0;
    size_t i;

    if (!is_allowed(memory, 0, SCRIPT_MEMORY_BYTES, PROT_READ)) {
        return -EFAULT;
    }
    for (i = 0; i < WORDS; i++) {
        hash = (hash ^ words[i]) * SUM_PRIME + i;
    }
    *sum = hash;
    return 0;
}

int script_memory_discard(struct script_memory *memory, size_t offset, size_t size_bytes)
{
    return madvise(memory->base + offset, size_bytes, MADV_DONTNEED) == 0 ? 0 : -errno;
}

int script_memory_protect(struct script_memory *memory, size_t offset, size_t size_bytes,
                          int protection)
{
    if (mprotect(memory->base + offset, size_bytes, protection) != 0) {
        return -errno;
    }
    if (size_bytes != 0) { /* the kernel takes whole pages, and has refused an unaligned offset */
        memset(memory->protection + offset / SCRIPT_PAGE_BYTES, protection,
               (size_bytes - 1) / SCRIPT_PAGE_BYTES + 1);
    }
    return 0;
}
