/*
 * ram/ram.h - a block of host memory. What stands above the first line is fixed when it is made.
 *
 * make.c     from options to a block          advice.c, numa.c   what the kernel is told of it
 * backing.c  descriptors, caller's memory     prealloc.c         making pages present memory.c
 * addresses: reserving, mapping    discard.c          giving pages back; watch.c: who is told ram.c
 * its references and answers       resize.c           its size; claim.c: who needs how much
 * private.c  the guest memfd beside it
 * dirty.c, pageset.c, pagelist.c, harvest.c   its dirty record
 */
#ifndef RAM_RAM_H
#define RAM_RAM_H

#include "base/lock.h"
#include "base/ref.h"
#include "ram/dirty.h"

#include <guestmem/ram.h>

#include <stdatomic.h>
#include <stdint.h>

struct ram_claim;
struct ram_watch;

/* How a part of the memory is given back. */
enum ram_freeing {
    RAM_FREE_NOTHING = 1, /* there is none */
    RAM_FREE_DONTNEED,    /* private: drop the pages */
    RAM_FREE_REMOVE, /* shared, without a descriptor of ours: punch a hole through the mapping */
    RAM_FREE_PUNCH,  /* punch a hole in the file */
    RAM_FREE_NEVER,  /* no way is right for all of it */
};

struct gm_ram {
    struct ref refs;
    enum gm_ram_kind kind;
    uint32_t flags; /* GM_RAM_PRIVATE, GM_RAM_GUEST_MEMFD */
    enum ram_freeing freeing;
    int fd; /* -1 without */
    uint64_t file_offset;
    int guest_memfd; /* -1 without */
    uint64_t guest_memfd_offset;
    uint64_t page_bytes;
    uint64_t max_size; /* in bytes, whole pages; addresses are reserved for it */
    bool is_resizable;
    uint8_t *hva; /* NULL for GM_RAM_UNBACKED */
    enum gm_numa_policy numa_policy;
    uint64_t numa_nodes[GM_NUMA_NODES_MAX / 64];
    void (*release)(void *opaque, void *memory, uint64_t size_bytes);
    void (*resized)(void *opaque, struct gm_ram *ram, uint64_t old_size_bytes, uint64_t size_bytes);
    void *opaque;
    struct gm_allocator allocator;
    /* ---- has its own rules ---- */
    struct ram_dirty dirty;
    /* ---- under `memory_lock`, rank RAM: held while memory comes and goes ---- */
    struct lock memory_lock;
    uint32_t advice; /* what new memory is advised with */
    uint64_t discard_disables;
    struct ram_watch *watches;
    /* ---- under `size_lock`, rank LEAF ---- */
    struct lock size_lock;
    atomic_uint_fast64_t size; /* in bytes, whole pages; read without the lock, see ram_size() */
    struct ram_claim *claims;
    unsigned prealloc_count;
    bool is_resizing;
};

/*
 * In bytes. Acquire: pairs with the release in resize.c; who sees a larger size may use the
 * memory.
 */
static inline uint64_t ram_size(const struct gm_ram *ram)
{
    return atomic_load_explicit(&ram->size, memory_order_acquire);
}

/* What the kernel maps at least. */
uint64_t ram_host_page_bytes(void);

/* Is its memory, as far as it was written, this process's alone? */
static inline bool ram_is_private(const struct gm_ram *ram)
{
    return ram->freeing == RAM_FREE_DONTNEED;
}

#endif
