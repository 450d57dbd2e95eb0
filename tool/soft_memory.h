/*
 * soft_memory.h - the 2 MiB of host memory that the slots of a script show to its guest.
 *
 * It lies in a reservation that nothing else is in, so that a slot which reaches past its ends
 * shows memory that cannot be accessed, and not some other memory of this process.
 */
#ifndef TOOL_SOFT_MEMORY_H
#define TOOL_SOFT_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define SCRIPT_MEMORY_BYTES (2u << 20)
#define SCRIPT_PAGE_BYTES 4096u
#define SCRIPT_MEMORY_PAGES (SCRIPT_MEMORY_BYTES / SCRIPT_PAGE_BYTES)

struct script_memory {
    uint8_t *base;
    uint8_t protection[SCRIPT_MEMORY_PAGES]; /* PROT_* of each page now */
};

/* Return: 0 or -ENOMEM. script_memory_fini() after both. */
int script_memory_init(struct script_memory *memory);
void script_memory_fini(struct script_memory *memory);

/* All of it readable and writable, and as at first. Return: 0 or -errno. */
int script_memory_reset(struct script_memory *memory);

/* The host's own accesses. Return: 0; -EFAULT the page's protection does not allow it. */
int script_memory_load(const struct script_memory *memory, size_t offset, uint64_t *value);
int script_memory_store(struct script_memory *memory, size_t offset, uint64_t value);
int script_memory_sum(const struct script_memory *memory, uint64_t *sum);

/* madvise(MADV_DONTNEED) and mprotect() of a range within it. Return: 0 or -errno. */
int script_memory_discard(struct script_memory *memory, size_t offset, size_t size_bytes);
int script_memory_protect(struct script_memory *memory, size_t offset, size_t size_bytes,
                          int protection);

#endif
