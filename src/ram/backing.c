/* ram/backing.c - descriptors: memfds of small and huge pages, files. */
#include "ram/backing.h"

#include "base/addr.h"
#include "base/diag.h"
#include "base/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* Linux 6.3 */
#endif
#define MFD_HUGE_PAGE_SHIFT 26u /* linux/memfd.h: the page's logarithm from this bit on */

/* ---- memfds ---- */

/* A memfd that may be sealed, or -errno. */
static int memfd_open(const char *name, unsigned huge_flags)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | huge_flags;
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) { /* older kernels do not know the flag */
        fd = memfd_create(name, flags);
    }
    return fd >= 0 ? fd : -errno;
}

static int explain_memfd(const char *name, int code, struct gm_diag *diag)
{
    switch (code) {
    case -EMFILE:
        return diag_set(diag, GM_DIAG_RAM_MEMFD, code,
                        "no memfd for the RAM block \"%s\": this process has too many open files "
                        "(see ulimit -n)",
                        name);
    case -ENFILE:
        return diag_set(diag, GM_DIAG_RAM_MEMFD, code,
                        "no memfd for the RAM block \"%s\": the system has too many open files "
                        "(see fs.file-max)",
                        name);
    case -ENOSYS:
        return diag_set(diag, GM_DIAG_RAM_MEMFD, code,
                        "no memfd for the RAM block \"%s\": this kernel has no memfd_create", name);
    default:
        return diag_set(diag, GM_DIAG_RAM_MEMFD, -ENOMEM, "no memfd for the RAM block \"%s\": %s",
                        name, strerror(-code));
    }
}

static int explain_huge(const struct gm_ram *ram, const char *name, int code, struct gm_diag *diag)
{
    if (code == -EINVAL || code == -ENODEV || code == -EOPNOTSUPP) {
        return diag_set(diag, GM_DIAG_RAM_HUGE_PAGES, -EOPNOTSUPP,
                        "this host has no huge pages of %" PRIu64
                        " KiB: /sys/kernel/mm/hugepages shows which sizes it has",
                        ram->page_bytes >> 10);
    }
    return explain_memfd(name, code, diag);
}

int backing_resize_file(const struct gm_ram *ram, uint64_t size_bytes)
{
    struct rlimit limit;

    if (size_bytes > INT64_MAX || getrlimit(RLIMIT_FSIZE, &limit) != 0 ||
        limit.rlim_cur < size_bytes) {
        return -EFBIG;
    }
    return ftruncate(ram->fd, (off_t)size_bytes) == 0 ? 0 : -errno;
}

static int open_memfd(struct gm_ram *ram, const char *name, struct gm_diag *diag)
{
    bool is_huge = ram->kind == GM_RAM_HUGETLB;
    unsigned shift = (unsigned)__builtin_ctzll(ram->page_bytes);
    int seals = ram->is_resizable ? F_SEAL_SEAL : F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    int fd = memfd_open(name, is_huge ? MFD_HUGETLB | shift << MFD_HUGE_PAGE_SHIFT : 0);

    if (fd < 0) {
        return is_huge ? explain_huge(ram, name, fd, diag) : explain_memfd(name, fd, diag);
    }
    ram->fd = fd;
    if (backing_resize_file(ram, ram_size(ram)) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0) {
        return diag_set(diag, GM_DIAG_RAM_MEMFD, -ENOMEM,
                        "a memfd cannot have 0x%" PRIx64 " bytes (see also ulimit -f)",
                        ram_size(ram));
    }
    return 0;
}

uint64_t backing_free_huge_pages(uint64_t page_bytes)
{
    struct lines lines;
    char path[96];
    char line[32];
    uint64_t count = 0;

    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/free_hugepages",
             page_bytes >> 10);
    lines_open(&lines, path);
    if (lines_next(&lines, line, sizeof(line))) {
        count = strtoull(line, NULL, 10);
    }
    lines_close(&lines);
    return count;
}

/* ---- files ---- */

/* How many bytes a file or block device has; -EINVAL it is neither. */
static int file_size(int fd, uint64_t *size_bytes, struct gm_diag *diag)
{
    struct stat status;

    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        *size_bytes = (uint64_t)status.st_size;
        return 0;
    }
    if (S_ISBLK(status.st_mode) && ioctl(fd, BLKGETSIZE64, size_bytes) == 0) {
        return 0;
    }
    return diag_set(diag, GM_DIAG_RAM_FILE, -EINVAL,
                    "descriptor %d is neither a file nor a block device", fd);
}

/* A file of huge pages is mapped by these. */
static uint64_t file_page_bytes(int fd)
{
    struct statfs status;

    return fstatfs(fd, &status) == 0 && status.f_type == HUGETLBFS_MAGIC ? (uint64_t)status.f_bsize
                                                                         : ram_host_page_bytes();
}

static int check_access(const struct gm_ram *ram, int mode, struct gm_diag *diag)
{
    if (mode == O_WRONLY || (mode == O_RDONLY && (ram->flags & GM_RAM_PRIVATE) == 0)) {
        return diag_set(diag, GM_DIAG_RAM_FILE, -EACCES,
                        "the file behind a RAM block must be open for reading and writing, or for "
                        "reading with GM_RAM_PRIVATE");
    }
    return 0;
}

static int check_extent(const struct gm_ram *ram, uint64_t wanted_bytes, struct gm_diag *diag)
{
    uint64_t size_bytes;
    int rc = file_size(ram->fd, &size_bytes, diag);

    if (rc != 0) {
        return rc;
    }
    if ((ram->file_offset & (ram->page_bytes - 1)) != 0) {
        return diag_set(diag, GM_DIAG_RAM_FILE, -EINVAL,
                        "a RAM block cannot begin at 0x%" PRIx64
                        " of its file: it is no multiple of the page size 0x%" PRIx64,
                        ram->file_offset, ram->page_bytes);
    }
    if (!range_holds(0, size_bytes, ram->file_offset, wanted_bytes)) {
        return diag_set(diag, GM_DIAG_RAM_FILE, -EINVAL,
                        "the file has 0x%" PRIx64 " bytes: too few for a RAM block of 0x%" PRIx64
                        " at 0x%" PRIx64,
                        size_bytes, wanted_bytes, ram->file_offset);
    }
    return 0;
}

static int open_file(struct gm_ram *ram, const struct gm_ram_options *options, struct gm_diag *diag)
{
    int mode = fcntl(options->fd, F_GETFL);
    int rc;

    if (mode < 0) {
        return diag_set(diag, GM_DIAG_RAM_FILE, -EBADF, "%d is no open descriptor", options->fd);
    }
    rc = check_access(ram, mode & O_ACCMODE, diag);
    if (rc != 0) {
        return rc;
    }
    ram->fd = fcntl(options->fd, F_DUPFD_CLOEXEC, 0);
    if (ram->fd < 0) {
        return diag_set(diag, GM_DIAG_RAM_FILE, -EMFILE,
                        "this process has too many open files (see ulimit -n)");
    }
    ram->page_bytes = file_page_bytes(ram->fd);
    return check_extent(ram, options->size_bytes, diag);
}

int backing_open(struct gm_ram *ram, const struct gm_ram_options *options, struct gm_diag *diag)
{
    switch (ram->kind) {
    case GM_RAM_MEMFD:
    case GM_RAM_HUGETLB:
        return open_memfd(ram, options->name, diag);
    case GM_RAM_FILE:
        return open_file(ram, options, diag);
    case GM_RAM_CALLER:
        ram->hva = options->memory;
        return backing_look_up(ram, diag);
    default:
        return 0;
    }
}
