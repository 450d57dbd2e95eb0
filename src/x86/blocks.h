/*
 * x86/blocks.h - decoded blocks of code, by the host address that they were decoded from.
 *
 * A block remembers the bytes that it was made of. Whoever enters it compares them with what is there now, so a
 * write from anywhere (through another guest address, by another vCPU, a device, the VMM) is seen without a hook.
 * What this vCPU itself writes into the page that it is executing ends the block under way: mem_note_store().
 */
#ifndef X86_BLOCKS_H
#define X86_BLOCKS_H

#include "x86/insn.h"

#define BLOCK_BYTES_MAX 64u
#define BLOCK_INSNS_MAX 24u

struct block {
    struct block *next; /* of the same place in the table */
    const uint8_t *host;
    uint8_t mode;
    uint8_t byte_count;
    uint8_t insn_count;
    uint8_t bytes[BLOCK_BYTES_MAX];
    struct insn insns[];
};

struct x86_blocks;

struct x86_blocks *blocks_new(const struct gm_allocator *allocator);
void blocks_free(struct x86_blocks *blocks, const struct gm_allocator *allocator);

/*
 * The block at a host address, decoded now if need be. It may read up to the page's end.
 * Return: NULL: the first instruction goes past the page's end (blocks_decode_single()).
 */
const struct block *blocks_find(struct x86_blocks *blocks, const uint8_t *host, enum x86_mode mode);

/* A block of the one instruction that begins with @bytes; valid until the next call. NULL: it is longer than that. */
const struct block *blocks_single(struct x86_blocks *blocks, const uint8_t *bytes,
                                  unsigned byte_count, enum x86_mode mode);

#endif
