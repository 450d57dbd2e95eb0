/*
 * ram/ram.c - blocks of host memory: making, guarding and unmapping them.
 *
 * A block is mapped in the middle of a reservation that nobody may access: the page before and the page
 * after it stop a stray pointer. Blocks of 2 MiB and more begin at a multiple of 2 MiB, so that host
 * and second-level page tables can use large pages.
 */
#include "ram/ram.h"

#include "base/addr.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/diag.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define SIZE_BYTES_MAX ((uint64_t)1 << 63)
#define LARGE_PAGE_BYTES ((uint64_t)2 << 20)
#define NAME_BYTES_MAX 200u

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* Linux 6.3 */
#endif

static uint64_t host_page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Check and round the size, and make a block without memory. */
static int block_new(enum ram_kind kind, uint64_t size_bytes, const struct gm_allocator *allocator,
                     struct gm_ram **ram, struct gm_diag *diag)
{
    const struct gm_allocator *from = mem_allocator_or_default(allocator);
    uint64_t page_bytes = host_page_bytes();
    struct gm_ram *made;

    if (size_bytes == 0 || size_bytes > SIZE_BYTES_MAX) {
        return diag_set(diag, -EINVAL, "a RAM block of 0x%llx bytes: it must be 1 to 2^63 bytes",
                        (unsigned long long)size_bytes);
    }
    made = mem_zalloc(from, sizeof(*made));
    if (made == NULL || ram_dirty_init(&made->dirty) != 0) {
        mem_free(from, made);
        return diag_set(diag, -ENOMEM, "no memory for the record of a RAM block");
    }
    ref_init(&made->refs);
    made->kind = kind;
    made->fd = -1;
    made->size = align_down(size_bytes + (page_bytes - 1), page_bytes);
    made->allocator = *from;
    *ram = made;
    return 0;
}

static void unmap(void *start, uint64_t size_bytes)
{
    if (size_bytes > 0) {
        int result = munmap(start, size_bytes);

        GM_ASSERT(result == 0);
    }
}

static void block_free(struct gm_ram *ram)
{
    struct gm_allocator allocator = ram->allocator;
    uint64_t page_bytes = host_page_bytes();

    if (ram->hva != NULL) {
        unmap(ram->hva - page_bytes, ram->size + 2 * page_bytes);
    }
    if (ram->fd >= 0) {
        close(ram->fd);
    }
    ram_dirty_fini(&ram->dirty);
    mem_free(&allocator, ram);
}

/* Reserve addresses for @size_bytes and a guard page on both sides; returns the start between them. */
static uint8_t *reserve(uint64_t size_bytes)
{
    uint64_t page_bytes = host_page_bytes();
    uint64_t align_bytes = size_bytes >= LARGE_PAGE_BYTES ? LARGE_PAGE_BYTES : page_bytes;
    uint64_t slack_bytes = align_bytes - page_bytes;
    uint64_t guarded_bytes = size_bytes + 2 * page_bytes;
    uint64_t head_bytes;
    uint8_t *start;

    if (guarded_bytes + slack_bytes > SIZE_MAX) {
        return NULL;
    }
    start = mmap(NULL, guarded_bytes + slack_bytes, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        return NULL;
    }
    /* The first guard ends where the block begins: at the first aligned address that leaves it room. */
    head_bytes = -(hva_of(start).value + page_bytes) & (align_bytes - 1);
    unmap(start, head_bytes);
    unmap(start + head_bytes + guarded_bytes, slack_bytes - head_bytes);
    return start + head_bytes + page_bytes;
}

/* Give the block its memory: @fd's, or anonymous for -1. On error the block is as before. */
static int block_map(struct gm_ram *ram, int fd, struct gm_diag *diag)
{
    uint64_t page_bytes = host_page_bytes();
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    uint8_t *start = reserve(ram->size);

    if (start != NULL &&
        mmap(start, ram->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
        unmap(start - page_bytes, ram->size + 2 * page_bytes);
        start = NULL;
    }
    if (start == NULL) {
        return diag_set(diag, -ENOMEM, "the host has no room for a RAM block of 0x%llx bytes",
                        (unsigned long long)ram->size);
    }
    ram->hva = start;
    return 0;
}

int gm_ram_new_anon(uint64_t size_bytes, const struct gm_allocator *allocator, struct gm_ram **ram,
                    struct gm_diag *diag)
{
    struct gm_ram *made;
    int result = block_new(RAM_ANON, size_bytes, allocator, &made, diag);

    if (result != 0) {
        return result;
    }
    result = block_map(made, -1, diag);
    if (result != 0) {
        block_free(made);
        return result;
    }
    *ram = made;
    return 0;
}

/* A memfd that may be sealed, or -errno of the documented list. */
static int memfd_open(const char *name)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) { /* older kernels do not know the flag */
        fd = memfd_create(name, flags);
    }
    if (fd >= 0) {
        return fd;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOSYS:
        return -errno;
    default:
        return -ENOMEM;
    }
}

static const char *memfd_reason(int code)
{
    switch (code) {
    case -EMFILE:
        return "this process has too many open files (see ulimit -n)";
    case -ENFILE:
        return "the system has too many open files (see fs.file-max)";
    case -ENOSYS:
        return "this kernel has no memfd_create";
    default:
        return "the kernel refused it";
    }
}

/* Give the memfd its size for good. Where a limit on file sizes forbids it, asking would raise SIGXFSZ. */
static bool memfd_resize(int fd, uint64_t size_bytes)
{
    struct rlimit limit;

    if (size_bytes > INT64_MAX || getrlimit(RLIMIT_FSIZE, &limit) != 0 ||
        limit.rlim_cur < size_bytes) {
        return false;
    }
    return ftruncate(fd, (off_t)size_bytes) == 0 &&
           fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
}

/* Give a new block its file and its memory; what was done stays with the block when it fails. */
static int memfd_fill(struct gm_ram *ram, const char *name, struct gm_diag *diag)
{
    int fd = memfd_open(name);

    if (fd < 0) {
        return diag_set(diag, fd, "no memfd for the RAM block \"%s\": %s", name, memfd_reason(fd));
    }
    ram->fd = fd;
    if (!memfd_resize(ram->fd, ram->size)) {
        return diag_set(diag, -ENOMEM, "a memfd cannot have 0x%llx bytes (see also ulimit -f)",
                        (unsigned long long)ram->size);
    }
    return block_map(ram, ram->fd, diag);
}

int gm_ram_new_memfd(const char *name, uint64_t size_bytes, const struct gm_allocator *allocator,
                     struct gm_ram **ram, struct gm_diag *diag)
{
    struct gm_ram *made;
    int result;

    if (name == NULL || strnlen(name, NAME_BYTES_MAX + 1) > NAME_BYTES_MAX) {
        return diag_set(diag, -EINVAL, "a memfd needs a name of at most %u bytes", NAME_BYTES_MAX);
    }
    result = block_new(RAM_MEMFD, size_bytes, allocator, &made, diag);
    if (result != 0) {
        return result;
    }
    result = memfd_fill(made, name, diag);
    if (result != 0) {
        block_free(made);
        return result;
    }
    *ram = made;
    return 0;
}

int gm_ram_new_unbacked(uint64_t size_bytes, const struct gm_allocator *allocator,
                        struct gm_ram **ram, struct gm_diag *diag)
{
    return block_new(RAM_UNBACKED, size_bytes, allocator, ram, diag);
}

void gm_ram_get(struct gm_ram *ram)
{
    ref_get(&ram->refs);
}

void gm_ram_put(struct gm_ram *ram)
{
    if (ram != NULL && ref_put(&ram->refs)) {
        block_free(ram);
    }
}

uint64_t gm_ram_size(const struct gm_ram *ram)
{
    return ram->size;
}

void *gm_ram_hva(const struct gm_ram *ram)
{
    return ram->hva;
}

int gm_ram_fd(const struct gm_ram *ram)
{
    return ram->fd;
}
