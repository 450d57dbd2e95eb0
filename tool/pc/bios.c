/*
 * pc/bios.c - reading a firmware image.
 */
#include "pc/bios.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_on_file(struct gm_diag *diag, const char *path, int err, const char *what)
{
    diag->code = err;
    snprintf(diag->text, sizeof(diag->text), "%.120s: %s", path, what);
    return err;
}

static int read_fully(int fd, void *data, uint64_t size_bytes)
{
    uint8_t *next = data;

    while (size_bytes > 0) {
        ssize_t got = read(fd, next, size_bytes);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? -errno : -EIO;
        }
        next += got;
        size_bytes -= (uint64_t)got;
    }
    return 0;
}

int bios_load(const char *path, struct gm_ram **bios, struct gm_diag *diag)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int err;

    if (fd < 0) {
        return fail_on_file(diag, path, -errno, strerror(errno));
    }
    if (fstat(fd, &status) != 0) {
        err = fail_on_file(diag, path, -errno, strerror(errno));
    } else if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size < BIOS_BYTES_MIN ||
               (uint64_t)status.st_size > BIOS_BYTES_MAX ||
               (uint64_t)status.st_size % BIOS_BYTES_MIN != 0) {
        err = fail_on_file(diag, path, -EINVAL,
                           "no firmware image: it has 64 KiB to 16 MiB, in steps of 64 KiB");
    } else {
        err = gm_ram_new_anon((uint64_t)status.st_size, NULL, bios, diag);
        if (err == 0) {
            err = read_fully(fd, gm_ram_hva(*bios), (uint64_t)status.st_size);
            if (err != 0) {
                gm_ram_put(*bios);
                *bios = NULL;
                err = fail_on_file(diag, path, err, strerror(-err));
            }
        }
    }
    close(fd);
    return err;
}
