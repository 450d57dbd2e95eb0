/* ram/memory.c - a block's addresses. */
#include "ram/memory.h"

#include "base/addr.h"
#include "base/diag.h"
#include "base/unmap.h"
#include "ram/backing.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE_PAGE_BYTES ((uint64_t)2 << 20)

uint64_t ram_host_page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

int memory_reserve(struct gm_ram *ram)
{
    uint64_t guard_bytes = ram_host_page_bytes();
    uint64_t large_bytes = ram->max_size >= LARGE_PAGE_BYTES ? LARGE_PAGE_BYTES : guard_bytes;
    uint64_t align_bytes = ram->page_bytes > large_bytes ? ram->page_bytes : large_bytes;
    uint64_t slack_bytes = align_bytes - guard_bytes;
    uint64_t guarded_bytes = ram->max_size + 2 * guard_bytes;
    uint64_t head_bytes;
    uint8_t *start;

    start = mmap(NULL, guarded_bytes + slack_bytes, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        return -ENOMEM;
    }
    /* The first guard ends where the block begins: at the first aligned address that leaves it
     * room. */
    head_bytes = -(hva_of(start).value + guard_bytes) & (align_bytes - 1);
    host_unmap(start, head_bytes);
    host_unmap(start + head_bytes + guarded_bytes, slack_bytes - head_bytes);
    ram->hva = start + head_bytes + guard_bytes;
    return 0;
}

void memory_unreserve(struct gm_ram *ram)
{
    uint64_t guard_bytes = ram_host_page_bytes();

    host_unmap(ram->hva - guard_bytes, ram->max_size + 2 * guard_bytes);
    ram->hva = NULL;
}

/* What mmap() makes of a part of the block. */
static int map_flags(const struct gm_ram *ram)
{
    switch (ram->kind) {
    case GM_RAM_ANON:
        return MAP_PRIVATE | MAP_ANONYMOUS;
    case GM_RAM_SHARED:
        return MAP_SHARED | MAP_ANONYMOUS;
    default:
        return ram_is_private(ram) ? MAP_PRIVATE : MAP_SHARED;
    }
}

static int explain(const struct gm_ram *ram, int code, uint64_t size_bytes, struct gm_diag *diag)
{
    if (ram->kind == GM_RAM_HUGETLB && code == ENOMEM) {
        return diag_set(diag, GM_DIAG_RAM_HUGE_PAGES, -ENOMEM,
                        "the host has %" PRIu64 " free pages of %" PRIu64 " KiB, not the %" PRIu64
                        " for a RAM block of 0x%" PRIx64
                        " bytes (see nr_hugepages in /sys/kernel/mm/hugepages/hugepages-%" PRIu64
                        "kB)",
                        backing_free_huge_pages(ram->page_bytes), ram->page_bytes >> 10,
                        size_bytes / ram->page_bytes, size_bytes, ram->page_bytes >> 10);
    }
    if (ram->kind == GM_RAM_FILE &&
        (code == EACCES || code == ENODEV || code == EPERM || code == EINVAL)) {
        return diag_set(diag, GM_DIAG_RAM_FILE,
                        code == ENODEV || code == EINVAL ? -ENODEV : -EACCES,
                        "the file behind a RAM block cannot be mapped as memory");
    }
    return diag_set(diag, GM_DIAG_RAM_HOST_FULL, -ENOMEM,
                    "the host has no room for a RAM block of 0x%" PRIx64 " bytes", size_bytes);
}

/*
 * A mmap() over the reservation that fails may leave a hole there, into which another thread may
 * map. So the part is first mapped elsewhere, and taken away again: that tells the same, and
 * reserves huge pages for the file.
 */
static int try_map(const struct gm_ram *ram, uint64_t size_bytes, off_t offset)
{
    void *start = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, map_flags(ram), ram->fd, offset);

    if (start == MAP_FAILED) {
        return errno;
    }
    host_unmap(start, size_bytes);
    return 0;
}

static bool reserve_again(uint8_t *start, uint64_t size_bytes, int fixed)
{
    return mmap(start, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed,
                -1, 0) != MAP_FAILED;
}

int memory_map(struct gm_ram *ram, uint64_t from, uint64_t to, struct gm_diag *diag)
{
    uint8_t *start = ram->hva + from;
    off_t offset = ram->fd >= 0 ? (off_t)(ram->file_offset + from) : 0;
    int rc = try_map(ram, to - from, offset);

    if (rc != 0) {
        return explain(ram, rc, to - from, diag);
    }
    if (mmap(start, to - from, PROT_READ | PROT_WRITE, map_flags(ram) | MAP_FIXED, ram->fd,
             offset) == MAP_FAILED) {
        rc = errno;
        (void)reserve_again(start, to - from, MAP_FIXED_NOREPLACE);
        return explain(ram, rc, to - from, diag);
    }
    rc = ram_bind(ram, start, to - from, diag);
    if (rc == 0) {
        rc = ram_advise_part(ram, start, to - from, ram->advice, diag);
    }
    if (rc != 0) {
        memory_unmap(ram, from, to);
    }
    return rc;
}

void memory_unmap(struct gm_ram *ram, uint64_t from, uint64_t to)
{
    (void)reserve_again(ram->hva + from, to - from, MAP_FIXED);
}
