/* soft/guest_memfd.c - files for memory that a guest keeps private, and what is bound to them. */
#include "soft/guest_memfd.h"

#include "base/addr.h"
#include "base/alloc.h"
#include "base/check.h"
#include "soft/soft.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* It is a memfd, which may be mapped with any flags. */
#define FLAGS (GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

struct guest_memfd_binding {
    struct guest_memfd *file; /* NULL: not bound any more; under the lock */
    uint64_t offset_bytes;
    uint64_t size_bytes;
    void *memory;
    struct guest_memfd_binding *next; /* of the file's, under the lock */
};

struct guest_memfd {
    dev_t device;
    ino_t inode;
    uint64_t size_bytes;
    struct guest_memfd_binding *bindings;
    struct guest_memfd *next;
};

/* ---- records of files; under the lock ---- */

static struct guest_memfd *find_file(const struct guest_memfds *memfds, const struct stat *status)
{
    struct guest_memfd *file = memfds->files;

    while (file != NULL && (file->device != status->st_dev || file->inode != status->st_ino)) {
        file = file->next;
    }
    return file;
}

static bool is_free(const struct guest_memfd *file, uint64_t offset_bytes, uint64_t size_bytes)
{
    struct span wanted = span_of((pos_t)offset_bytes, (pos_t)size_bytes);
    const struct guest_memfd_binding *binding = file->bindings;

    while (binding != NULL) {
        if (span_meets(wanted, span_of((pos_t)binding->offset_bytes, (pos_t)binding->size_bytes))) {
            return false;
        }
        binding = binding->next;
    }
    return true;
}

static void give_back_range(struct guest_memfd_binding *binding)
{
    struct guest_memfd_binding **link;

    if (binding->file == NULL) {
        return;
    }
    for (link = &binding->file->bindings; *link != binding;) {
        link = &(*link)->next;
    }
    *link = binding->next;
    binding->file = NULL;
}

/* ---- the two ends of a slot ---- */

/* From here on another slot may be bound to that part of the file, though readers may still see
 * this one's memory. */
static void on_removing(void *opaque, const struct memslot *slot)
{
    struct guest_memfds *memfds = opaque;

    if (slot->private_owner != NULL) {
        lock_take(&memfds->lock);
        give_back_range(slot->private_owner);
        lock_drop(&memfds->lock);
    }
}

void guest_memfd_gone(void *private_opaque, void *private_owner)
{
    guest_memfd_unbind(private_opaque, private_owner);
}

int guest_memfds_init(struct guest_memfds *memfds)
{
    memfds->files = NULL;
    memfds->follower = (struct kcore_follower){.removing = on_removing, .opaque = memfds};
    return lock_init(&memfds->lock, LOCK_RANK_LEAF);
}

void guest_memfds_fini(struct guest_memfds *memfds, const struct gm_allocator *allocator)
{
    while (memfds->files != NULL) {
        struct guest_memfd *file = memfds->files;

        GM_ASSERT(file->bindings == NULL);
        memfds->files = file->next;
        mem_free(allocator, file);
    }
    lock_fini(&memfds->lock);
}

/* ---- making a file ---- */

/* Return: a descriptor, or -errno. */
static int make_file(uint64_t size_bytes, struct stat *status)
{
    int fd = memfd_create("guest_memfd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int error;

    if (fd == -1) {
        return -errno;
    }
    /* Its size is what slots are checked against, once. */
    if (ftruncate(fd, (off_t)size_bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0 &&
        fstat(fd, status) == 0) {
        return fd;
    }
    error = errno;
    close(fd);
    return -error;
}

int guest_memfd_create(struct gm_soft *soft, uint64_t size_bytes, uint64_t flags)
{
    struct guest_memfds *memfds = &soft->memfds;
    struct guest_memfd *made;
    struct guest_memfd *known;
    struct stat status;
    int fd;

    if ((flags & ~FLAGS) != 0 || size_bytes == 0 || size_bytes > INT64_MAX ||
        size_bytes % PAGE_BYTES_4K != 0) {
        return -EINVAL;
    }
    made = mem_zalloc(&soft->allocator, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    fd = make_file(size_bytes, &status);
    if (fd < 0) {
        mem_free(&soft->allocator, made);
        return fd;
    }
    *made = (struct guest_memfd){
        .device = status.st_dev,
        .inode = status.st_ino,
        .size_bytes = size_bytes,
    };
    lock_take(&memfds->lock);
    known = find_file(memfds, &status);
    if (known != NULL) {
        /* The kernel gave the number of a file of ours again: that one has gone, so nothing is
         * bound to it, and its record will do. */
        GM_ASSERT(known->bindings == NULL);
        known->size_bytes = size_bytes;
    } else {
        made->next = memfds->files;
        memfds->files = made;
        made = NULL;
    }
    lock_drop(&memfds->lock);
    mem_free(&soft->allocator, made);
    return fd;
}

/* ---- binding ---- */

/* Take the range, so that nobody else does. */
static int take_range(struct guest_memfds *memfds, const struct stat *status,
                      struct guest_memfd_binding *binding)
{
    struct guest_memfd *file;
    int rc = 0;

    lock_take(&memfds->lock);
    file = find_file(memfds, status);
    if (file == NULL ||
        !range_holds(0, file->size_bytes, binding->offset_bytes, binding->size_bytes)) {
        rc = -EINVAL;
    } else if (!is_free(file, binding->offset_bytes, binding->size_bytes)) {
        rc = -EEXIST;
    } else {
        binding->file = file;
        binding->next = file->bindings;
        file->bindings = binding;
    }
    lock_drop(&memfds->lock);
    return rc;
}

int guest_memfd_bind(struct gm_soft *soft, uint32_t fd, uint64_t offset_bytes, uint64_t size_bytes,
                     struct guest_memfd_binding **out)
{
    struct guest_memfd_binding *binding;
    struct stat status;
    int rc;

    if (fd > INT_MAX || fstat((int)fd, &status) != 0) {
        return -EBADF;
    }
    binding = mem_zalloc(&soft->allocator, sizeof(*binding));
    if (binding == NULL) {
        return -ENOMEM;
    }
    binding->offset_bytes = offset_bytes;
    binding->size_bytes = size_bytes;
    rc = take_range(&soft->memfds, &status, binding);
    if (rc != 0) {
        mem_free(&soft->allocator, binding);
        return rc;
    }
    binding->memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                           (int)fd, (off_t)offset_bytes);
    if (binding->memory == MAP_FAILED) {
        binding->memory = NULL;
        guest_memfd_unbind(soft, binding);
        return -ENOMEM;
    }
    *out = binding;
    return 0;
}

struct hva guest_memfd_hva(const struct guest_memfd_binding *binding)
{
    return hva_of(binding->memory);
}

void guest_memfd_unbind(struct gm_soft *soft, struct guest_memfd_binding *binding)
{
    lock_take(&soft->memfds.lock);
    give_back_range(binding);
    lock_drop(&soft->memfds.lock);
    if (binding->memory != NULL) {
        munmap(binding->memory, binding->size_bytes);
    }
    mem_free(&soft->allocator, binding);
}
