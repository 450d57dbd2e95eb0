/* ram/discard.c - giving pages back to the host, by what backs them. */
#include "ram/discard.h"

#include "base/addr.h"
#include "base/check.h"
#include "base/diag.h"
#include "base/point.h"
#include "ram/private.h"
#include "ram/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define BOTH_HALVES (GM_RAM_HALF_SHARED | GM_RAM_HALF_PRIVATE)
#define ALL_CLIENTS ((1u << GM_DIRTY_CLIENTS) - 1)

static int punch_hole(const struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes)
{
    int rc;

    do {
        rc = fallocate(ram->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       (off_t)(ram->file_offset + offset_bytes), (off_t)size_bytes);
    } while (rc != 0 && errno == EINTR);
    return rc;
}

/* 0, or -1 and errno. */
static int free_pages(const struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes)
{
    switch (ram->freeing) {
    case RAM_FREE_DONTNEED:
        return madvise(ram->hva + offset_bytes, size_bytes, MADV_DONTNEED);
    case RAM_FREE_REMOVE:
        return madvise(ram->hva + offset_bytes, size_bytes, MADV_REMOVE);
    case RAM_FREE_PUNCH:
        return punch_hole(ram, offset_bytes, size_bytes);
    default:
        errno = EOPNOTSUPP;
        return -1;
    }
}

/* One of the documented list. */
static int as_error(int code)
{
    switch (code) {
    case EIO:
    case ENOSPC:
    case ENOMEM:
        return -code;
    default:
        return -EOPNOTSUPP;
    }
}

/*
 * The watches are of those who map memory by its addresses. A guest memfd has none for them: whoever
 * maps it hears of holes from the kernel, or maps the file.
 */
int discard_part(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes, uint32_t halves)
{
    uint8_t *hva = ram->hva + offset_bytes;
    int rc = 0;

    if ((halves & GM_RAM_HALF_SHARED) != 0) {
        ram_watch_begin(ram, hva, size_bytes);
        rc = free_pages(ram, offset_bytes, size_bytes) == 0 ? 0 : as_error(errno);
        GM_POINT("discard-freed");
        ram_watch_end(ram, hva, size_bytes);
    }
    if ((halves & GM_RAM_HALF_PRIVATE) != 0 && ram_has_guest_memfd(ram) &&
        private_free_pages(ram, offset_bytes, size_bytes) != 0) {
        rc = rc != 0 ? rc : as_error(errno);
    }
    return rc;
}

static int explain(const struct gm_ram *ram, uint32_t halves, int rc, struct gm_diag *diag)
{
    const char *what = halves == GM_RAM_HALF_PRIVATE ? "the guest memfd of the RAM block"
                       : ram->kind == GM_RAM_FILE    ? "the file behind the RAM block"
                       : ram->kind == GM_RAM_CALLER  ? "this memory of the caller's"
                                                     : "this memory";

    return rc == -EOPNOTSUPP ? diag_set(diag, GM_DIAG_RAM_DISCARD, rc,
                                        "%s cannot be given back in parts, or is locked", what)
                             : diag_set(diag, GM_DIAG_RAM_DISCARD, rc,
                                        "%s could not be given back: %s", what, strerror(-rc));
}

static int discard_locked(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes,
                          uint32_t halves, struct gm_diag *diag)
{
    uint64_t page_bytes = halves == GM_RAM_HALF_PRIVATE ? ram_host_page_bytes() : ram->page_bytes;
    int rc;

    if (!range_holds(0, ram_size(ram), offset_bytes, size_bytes) ||
        ((offset_bytes | size_bytes) & (page_bytes - 1)) != 0) {
        return diag_set(diag, GM_DIAG_RAM_RANGE, -EINVAL,
                        "0x%" PRIx64 "+0x%" PRIx64 " is no range of whole pages of the RAM block",
                        offset_bytes, size_bytes);
    }
    if (ram->discard_disables != 0) {
        return diag_set(diag, GM_DIAG_RAM_PINNED, -EBUSY,
                        "somebody who uses the RAM block's pages forbids discards");
    }
    if (size_bytes == 0 || ram->freeing == RAM_FREE_NOTHING) {
        return 0;
    }
    rc = discard_part(ram, offset_bytes, size_bytes, halves);
    /* Also after a failure, which may have come late. */
    gm_ram_dirty_mark(ram, offset_bytes, size_bytes, ALL_CLIENTS);
    return rc == 0 ? 0 : explain(ram, halves, rc, diag);
}

static int discard(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes, uint32_t halves,
                   struct gm_diag *diag)
{
    int rc;

    lock_take(&ram->memory_lock);
    rc = discard_locked(ram, offset_bytes, size_bytes, halves, diag);
    lock_drop(&ram->memory_lock);
    return rc;
}

int gm_ram_discard(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes,
                   struct gm_diag *diag)
{
    return discard(ram, offset_bytes, size_bytes, BOTH_HALVES, diag);
}

int gm_ram_discard_half(struct gm_ram *ram, uint32_t half, uint64_t offset_bytes,
                        uint64_t size_bytes, struct gm_diag *diag)
{
    if (half != GM_RAM_HALF_SHARED && half != GM_RAM_HALF_PRIVATE) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "0x%" PRIx32 " is no half of a RAM block", half);
    }
    if (!ram_has_guest_memfd(ram)) {
        return diag_set(diag, GM_DIAG_RAM_GUEST_MEMFD, -EOPNOTSUPP,
                        "the RAM block has no guest memfd, and so no halves");
    }
    return discard(ram, offset_bytes, size_bytes, half, diag);
}

void gm_ram_discard_disable(struct gm_ram *ram)
{
    lock_take(&ram->memory_lock);
    ram->discard_disables++;
    lock_drop(&ram->memory_lock);
}

int gm_ram_discard_enable(struct gm_ram *ram)
{
    int rc = -ENOENT;

    lock_take(&ram->memory_lock);
    if (ram->discard_disables != 0) {
        ram->discard_disables--;
        rc = 0;
    }
    lock_drop(&ram->memory_lock);
    return rc;
}
