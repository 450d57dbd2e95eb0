/* ram/private.c - the memory that a guest keeps private. */
#include "ram/private.h"

#include "base/addr.h"
#include "base/diag.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

int private_check(const struct gm_ram_options *options, struct gm_diag *diag)
{
    if ((options->flags & GM_RAM_GUEST_MEMFD) == 0) {
        /* Who forgets the flag must not believe that the guest's secrets are kept. */
        return options->guest_memfd <= 0 && options->guest_memfd_offset == 0
                   ? 0
                   : diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                              "a guest memfd is given, but not GM_RAM_GUEST_MEMFD");
    }
    if (options->kind == GM_RAM_UNBACKED) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "a guest memfd stands beside memory that guest and host share, which "
                        "GM_RAM_UNBACKED lacks");
    }
    return 0;
}

static int check_extent(const struct gm_ram *ram, struct gm_diag *diag)
{
    struct stat status;

    if ((ram->guest_memfd_offset & (ram_host_page_bytes() - 1)) != 0) {
        return diag_set(diag, GM_DIAG_RAM_GUEST_MEMFD, -EINVAL,
                        "private memory cannot begin at 0x%" PRIx64
                        " of its guest memfd: it is no multiple of the page size",
                        ram->guest_memfd_offset);
    }
    if (fstat(ram->guest_memfd, &status) != 0 || !S_ISREG(status.st_mode)) {
        return diag_set(diag, GM_DIAG_RAM_GUEST_MEMFD, -EINVAL,
                        "the descriptor for private memory is no guest memfd");
    }
    if (!range_holds(0, (uint64_t)status.st_size, ram->guest_memfd_offset, ram->max_size)) {
        return diag_set(diag, GM_DIAG_RAM_GUEST_MEMFD, -EINVAL,
                        "the guest memfd has 0x%" PRIx64
                        " bytes: too few for a RAM block of 0x%" PRIx64 " at 0x%" PRIx64,
                        (uint64_t)status.st_size, ram->max_size, ram->guest_memfd_offset);
    }
    return 0;
}

int private_open(struct gm_ram *ram, const struct gm_ram_options *options, struct gm_diag *diag)
{
    int rc;

    if ((options->flags & GM_RAM_GUEST_MEMFD) == 0) {
        return 0;
    }
    ram->guest_memfd = fcntl(options->guest_memfd, F_DUPFD_CLOEXEC, 0);
    if (ram->guest_memfd < 0) {
        rc = errno == EBADF ? -EBADF : -EMFILE;
        return diag_set(diag, GM_DIAG_RAM_GUEST_MEMFD, rc,
                        rc == -EBADF ? "%d, for private memory, is no open descriptor"
                                     : "guest memfd %d cannot be duplicated: this process has too "
                                       "many open files (see ulimit -n)",
                        options->guest_memfd);
    }
    ram->guest_memfd_offset = options->guest_memfd_offset;
    return check_extent(ram, diag);
}

int private_free_pages(const struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes)
{
    int rc;

    do {
        rc = fallocate(ram->guest_memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       (off_t)(ram->guest_memfd_offset + offset_bytes), (off_t)size_bytes);
    } while (rc != 0 && errno == EINTR);
    return rc;
}
