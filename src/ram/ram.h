/*
 * ram/ram.h - a block of host memory. All fields but the reference count and the dirty record are fixed
 * when it is made.
 */
#ifndef RAM_RAM_H
#define RAM_RAM_H

#include "base/ref.h"
#include "ram/dirty.h"

#include <guestmem/ram.h>

#include <stdint.h>

enum ram_kind {
    RAM_ANON,
    RAM_MEMFD,
    RAM_UNBACKED,
};

struct gm_ram {
    struct ref refs;
    enum ram_kind kind;
    int fd;        /* -1 but for RAM_MEMFD */
    uint64_t size; /* in bytes; whole host pages */
    uint8_t *hva;  /* NULL for RAM_UNBACKED */
    struct gm_allocator allocator;
    struct ram_dirty dirty;
};

#endif
