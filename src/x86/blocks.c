/*
 * x86/blocks.c - the cache of decoded blocks: a table by host address over an arena that is emptied when full.
 */
#include "x86/blocks.h"

#include "x86/decode.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdalign.h>

#define TABLE_SIZE 8192u
#define ARENA_BYTES (12u << 20)
#define BLOCK_PAGE_BYTES 4096u
/* Blocks of one place that are kept. A full arena of the smallest has 10 at a place; a guest can have its code lie so that
 * thousands would be searched at each jump. */
#define CHAIN_MAX 32u

struct x86_blocks {
    struct block *table[TABLE_SIZE];
    size_t used_bytes;
    alignas(16) uint8_t single[sizeof(struct block) + sizeof(struct insn)];
    alignas(16) uint8_t arena[ARENA_BYTES];
};

struct x86_blocks *blocks_new(const struct gm_allocator *allocator)
{
    struct x86_blocks *blocks = allocator->alloc(allocator->opaque, sizeof(*blocks));

    if (blocks != NULL) {
        memset(blocks->table, 0, sizeof(blocks->table));
        blocks->used_bytes = 0;
    }
    return blocks;
}

void blocks_free(struct x86_blocks *blocks, const struct gm_allocator *allocator)
{
    allocator->free(allocator->opaque, blocks);
}

/*
 * Code is read while other threads may write it, as on hardware: old bytes or new ones come out. Whoever reads a mix
 * decodes an instruction that the next entry finds changed.
 */
#define READS_RACING_CODE __attribute__((no_sanitize("thread")))

/* Are the bytes that a block was made of still there? */
READS_RACING_CODE static bool is_current(const struct block *block)
{
    const uint8_t *host = block->host;
    unsigned count = block->byte_count;
    unsigned i = 0;
    uint64_t now, then;

    for (; i + 8 <= count; i += 8) {
        memcpy(&now, host + i, 8);
        memcpy(&then, block->bytes + i, 8);
        if (now != then) {
            return false;
        }
    }
    for (; i < count; i++) {
        if (host[i] != block->bytes[i]) {
            return false;
        }
    }
    return true;
}

READS_RACING_CODE static void copy_code(uint8_t *to, const uint8_t *host, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        to[i] = ((const volatile uint8_t *)host)[i];
    }
}

static struct block **place_of(struct x86_blocks *blocks, const uint8_t *host, enum x86_mode mode)
{
    uint64_t key = (uintptr_t)host ^ ((uint64_t)mode << 60);

    return &blocks->table[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 51];
}

static_assert(TABLE_SIZE == 1u << 13, "place_of() takes 13 bits");

/* Decode up to an instruction that ends a block, or what fits. */
static void fill_block(struct block *block, unsigned byte_max, unsigned insn_max)
{
    unsigned offset = 0;
    unsigned count = 0;

    while (count < insn_max && offset < byte_max) {
        struct insn *insn = &block->insns[count];

        memset(insn, 0, sizeof(*insn));
        insn->offset = (uint8_t)offset;
        if (decode(block->bytes + offset, byte_max - offset, block->mode, insn) == DECODED_SHORT) {
            break;
        }
        offset = insn->next < byte_max ? insn->next : byte_max;
        count++;
        if (insn->ends) {
            break;
        }
    }
    block->insn_count = (uint8_t)count;
    block->byte_count = (uint8_t)offset;
}

static struct block *arena_begin(struct x86_blocks *blocks)
{
    size_t most = sizeof(struct block) + BLOCK_INSNS_MAX * sizeof(struct insn);

    if (ARENA_BYTES - blocks->used_bytes < most) {
        memset(blocks->table, 0, sizeof(blocks->table));
        blocks->used_bytes = 0;
    }
    return (struct block *)(void *)(blocks->arena + blocks->used_bytes);
}

static void arena_end(struct x86_blocks *blocks, const struct block *block)
{
    size_t size = sizeof(*block) + block->insn_count * sizeof(struct insn);

    blocks->used_bytes += (size + 15) & ~(size_t)15;
}

static const struct block *make_block(struct x86_blocks *blocks, const uint8_t *host,
                                      enum x86_mode mode)
{
    unsigned byte_max = BLOCK_PAGE_BYTES - ((uintptr_t)host & (BLOCK_PAGE_BYTES - 1));
    struct block *block = arena_begin(blocks);
    struct block **place;

    byte_max = byte_max < BLOCK_BYTES_MAX ? byte_max : BLOCK_BYTES_MAX;
    block->host = host;
    block->mode = (uint8_t)mode;
    copy_code(block->bytes, host, byte_max);
    fill_block(block, byte_max, BLOCK_INSNS_MAX);
    if (block->insn_count == 0) {
        return NULL;
    }
    arena_end(blocks, block);
    place = place_of(blocks, host, mode);
    block->next = *place;
    *place = block;
    return block;
}

const struct block *blocks_find(struct x86_blocks *blocks, const uint8_t *host, enum x86_mode mode)
{
    struct block **place = place_of(blocks, host, mode);
    unsigned passed = 0;

    for (struct block *block = *place; block != NULL; block = *place) {
        if (block->host == host && block->mode == mode) {
            if (__builtin_expect(is_current(block), 1)) {
                return block;
            }
            *place = block->next; /* its memory comes back with the arena */
            break;
        }
        place = &block->next;
        passed++;
        if (passed == CHAIN_MAX) {
            *place = NULL; /* the oldest */
        }
    }
    return make_block(blocks, host, mode);
}

const struct block *blocks_single(struct x86_blocks *blocks, const uint8_t *bytes,
                                  unsigned byte_count, enum x86_mode mode)
{
    struct block *block = (struct block *)(void *)blocks->single;

    block->host = NULL;
    block->mode = (uint8_t)mode;
    memcpy(block->bytes, bytes, byte_count);
    fill_block(block, byte_count, 1);
    return block->insn_count == 1 ? block : NULL;
}
