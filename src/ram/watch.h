/*
 * ram/watch.h - who maps a block's memory, and has to be told when some of it goes.
 *
 * A watch stands in the block's list while it is used. It is told from under ram->memory_lock, so
 * that it is told of an end if and only if it was told of the beginning, and is told nothing after
 * its last put:
 *
 *   | # | discard                                   | watch                             | outcome                  |
 *   | - | ----------------------------------------- | --------------------------------- | ------------------------ |
 *   | 1 |                                           | get; memory gets mapped           |                          |
 *   |   | lock; begin: all unmap; freed; end; drop  |                                   | Told.                    |
 *   | 2 | lock; begin (not to us); freed            |                                   |                          |
 *   |   |                                           | get: waits for the lock           |                          |
 *   |   | end; drop                                 |                                   |                          |
 *   |   |                                           | goes on; memory gets mapped       | The new pages, at once.  |
 *   | 3 | lock; begin                               |                                   |                          |
 *   |   |                                           | memory is unmapped; put: waits    |                          |
 *   |   | freed; end; drop                          |                                   |                          |
 *   |   |                                           | goes on                           | Told in vain, twice.     |
 *
 * tests/race/test_ram_points.c forces them.
 */
#ifndef RAM_WATCH_H
#define RAM_WATCH_H

#include "ram/ram.h"

/*
 * Called on any thread, with the map's lock or without. Begin waits until nobody uses the host
 * range.
 */
struct ram_watch_ops {
    void (*begin)(void *opaque, void *hva, uint64_t size_bytes);
    void (*end)(void *opaque, void *hva, uint64_t size_bytes);
};

/*
 * The watch of @opaque on the block with one more use; made if there is none. Before the memory is
 * mapped.
 * Context: takes ram->memory_lock, and so waits for a discard.
 * Return: NULL no memory.
 */
struct ram_watch *ram_watch_get(struct gm_ram *ram, const struct ram_watch_ops *ops, void *opaque);

/* One use less, after the memory is unmapped. The block is alive. NULL is allowed. */
void ram_watch_put(struct ram_watch *watch);

/* Tell all watches of a mapped range. ram->memory_lock is held from before begin to after end. */
void ram_watch_begin(struct gm_ram *ram, void *hva, uint64_t size_bytes);
void ram_watch_end(struct gm_ram *ram, void *hva, uint64_t size_bytes);

#endif
