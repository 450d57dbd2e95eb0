/*
 * ram/resize.c - another size for a block.
 *
 * To grow: memory, then the size. To shrink: the size, so that nobody can claim more; a grace
 * period, after which no reader is in a view that showed more; then the memory. `is_resizing` keeps
 * others out meanwhile, since no lock can be held while a grace period is waited for.
 */
#include "base/addr.h"
#include "base/diag.h"
#include "base/point.h"
#include "base/rcu.h"
#include "ram/backing.h"
#include "ram/claim.h"
#include "ram/discard.h"
#include "ram/memory.h"

#include <errno.h>
#include <inttypes.h>

#define ALL_CLIENTS ((1u << GM_DIRTY_CLIENTS) - 1)

static bool has_file(const struct gm_ram *ram)
{
    return ram->fd >= 0;
}

/* Release: pairs with the acquire in ram_size(). */
static void set_size(struct gm_ram *ram, uint64_t size_bytes)
{
    atomic_store_explicit(&ram->size, size_bytes, memory_order_release);
}

/* Under the memory's lock. */
static int give_memory(struct gm_ram *ram, uint64_t from, uint64_t to, struct gm_diag *diag)
{
    int rc;

    if (ram->hva == NULL) {
        return 0;
    }
    if (has_file(ram) && backing_resize_file(ram, to) != 0) {
        return diag_set(diag, GM_DIAG_RAM_MEMFD, -ENOMEM,
                        "a memfd cannot have 0x%" PRIx64 " bytes (see also ulimit -f)", to);
    }
    rc = memory_map(ram, from, to, diag);
    if (rc != 0 && has_file(ram)) {
        (void)backing_resize_file(ram, from); /* a file that is too long does no harm */
    }
    return rc;
}

/* The new pages' contents are news to every client. */
static int grow(struct gm_ram *ram, uint64_t from, uint64_t to, struct gm_diag *diag)
{
    int rc;

    lock_take(&ram->memory_lock);
    rc = give_memory(ram, from, to, diag);
    GM_POINT("ram-growing");
    if (rc == 0) {
        set_size(ram, to);
        gm_ram_dirty_mark(ram, from, to - from, ALL_CLIENTS);
    }
    lock_drop(&ram->memory_lock);
    return rc;
}

/* What cannot be freed in parts is freed with its mapping, or its file's end. */
static void take_memory(struct gm_ram *ram, uint64_t from, uint64_t to)
{
    if (ram->hva == NULL) {
        return;
    }
    lock_take(&ram->memory_lock);
    (void)discard_part(ram, to, from - to, GM_RAM_HALF_SHARED | GM_RAM_HALF_PRIVATE);
    memory_unmap(ram, to, from);
    if (has_file(ram)) {
        (void)backing_resize_file(ram, to);
    }
    lock_drop(&ram->memory_lock);
}

/* Under the size's lock. */
static int may_resize(const struct gm_ram *ram, uint64_t size_bytes, struct gm_diag *diag)
{
    if (ram->is_resizing || ram->prealloc_count != 0) {
        return diag_set(diag, GM_DIAG_RAM_BUSY, -EBUSY, "the RAM block is being %s",
                        ram->is_resizing ? "resized" : "preallocated");
    }
    if (ram_claimed(ram) > size_bytes) {
        return diag_set(diag, GM_DIAG_RAM_IN_USE, -EBUSY,
                        "a region shows 0x%" PRIx64
                        " bytes of the RAM block: make it smaller first",
                        ram_claimed(ram));
    }
    return 0;
}

/* Nobody else resizes from here on. To shrink: the size is the new one. */
static int begin(struct gm_ram *ram, uint64_t size_bytes, uint64_t *before, struct gm_diag *diag)
{
    int rc;

    lock_take(&ram->memory_lock);
    lock_take(&ram->size_lock);
    *before = ram_size(ram);
    rc = may_resize(ram, size_bytes, diag);
    if (rc == 0 && size_bytes < *before && ram->discard_disables != 0) {
        rc = diag_set(diag, GM_DIAG_RAM_PINNED, -EBUSY,
                      "somebody who uses the RAM block's pages forbids to free them");
    }
    if (rc == 0) {
        ram->is_resizing = true;
        if (size_bytes < *before) {
            set_size(ram, size_bytes);
        }
    }
    lock_drop(&ram->size_lock);
    lock_drop(&ram->memory_lock);
    return rc;
}

static void end(struct gm_ram *ram)
{
    lock_take(&ram->size_lock);
    ram->is_resizing = false;
    lock_drop(&ram->size_lock);
}

int gm_ram_resize(struct gm_ram *ram, uint64_t size_bytes, struct gm_diag *diag)
{
    uint64_t before;
    uint64_t after;
    int rc;

    if (!ram->is_resizable) {
        return diag_set(diag, GM_DIAG_RAM_RESIZE, -EOPNOTSUPP,
                        "a RAM block without max_size_bytes keeps its size");
    }
    if (size_bytes == 0 || size_bytes > ram->max_size) {
        return diag_set(diag, GM_DIAG_RAM_RESIZE, -EINVAL,
                        "the RAM block can have 1 to 0x%" PRIx64 " bytes", ram->max_size);
    }
    after = align_down(size_bytes + (ram->page_bytes - 1), ram->page_bytes);
    rc = begin(ram, after, &before, diag);
    if (rc != 0) {
        return rc;
    }
    if (after > before) {
        rc = grow(ram, before, after, diag);
    } else if (after < before) {
        GM_POINT("ram-shrinking");
        rcu_wait();
        take_memory(ram, before, after);
    }
    end(ram);
    if (rc == 0 && after != before && ram->resized != NULL) {
        ram->resized(ram->opaque, ram, before, after);
    }
    return rc;
}
