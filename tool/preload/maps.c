/* preload/maps.c - the C library's functions on memory: each change of what is there already is told to the VMs. */
#include "preload/exports.h"
#include "preload/kernel.h"
#include "preload/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

/* liburcu's own, which the software KVM may be waiting for. */
#define IS_LIBURCU() memory_is_liburcu(__builtin_return_address(0))

/* ---- mmap ---- */

struct mapping {
    void *at;
    size_t size_bytes;
    int protection;
    int flags;
    int fd;
    off_t offset;
    void *result;
};

static void map(void *opaque)
{
    struct mapping *mapping = opaque;

    mapping->result = next.mmap(mapping->at, mapping->size_bytes, mapping->protection,
                                mapping->flags, mapping->fd, mapping->offset);
}

void *preload_mmap(void *at, size_t size_bytes, int protection, int flags, int fd, off_t offset)
{
    struct mapping mapping = {at, size_bytes, protection, flags, fd, offset, MAP_FAILED};

    if ((flags & MAP_ANONYMOUS) == 0) {
        int error = memory_map_errno(fd, protection, flags, size_bytes, (uint64_t)offset);

        if (error != 0) {
            errno = error;
            return MAP_FAILED;
        }
    }
    /* It takes the place of what is there. */
    if ((flags & MAP_FIXED) != 0 && !IS_LIBURCU()) {
        memory_change("mmap", (uintptr_t)at, size_bytes, map, &mapping);
    } else {
        map(&mapping);
    }
    if ((flags & MAP_ANONYMOUS) == 0 && mapping.result != MAP_FAILED) {
        int error = memory_map_ring(fd, mapping.result, size_bytes, (uint64_t)offset);

        if (error != 0) {
            next.munmap(mapping.result, size_bytes);
            errno = error;
            return MAP_FAILED;
        }
    }
    return mapping.result;
}

void *mmap64(void *at, size_t size_bytes, int protection, int flags, int fd, off_t offset)
    __attribute__((alias("preload_mmap")));

/* ---- munmap, mprotect, madvise: an address, a size, and perhaps a number ---- */

struct call {
    void *at;
    size_t size_bytes;
    int number;
    int key;
    int result;
};

static void unmap(void *opaque)
{
    struct call *call = opaque;

    call->result = next.munmap(call->at, call->size_bytes);
}

static void protect(void *opaque)
{
    struct call *call = opaque;

    call->result = next.mprotect(call->at, call->size_bytes, call->number);
}

static void protect_with_key(void *opaque)
{
    struct call *call = opaque;

    call->result = next.pkey_mprotect(call->at, call->size_bytes, call->number, call->key);
}

static void advise(void *opaque)
{
    struct call *call = opaque;

    call->result = next.madvise(call->at, call->size_bytes, call->number);
}

static int change(const char *by, memory_change_fn *run, struct call call)
{
    memory_change(by, (uintptr_t)call.at, call.size_bytes, run, &call);
    return call.result;
}

int preload_munmap(void *at, size_t size_bytes)
{
    return IS_LIBURCU() ? next.munmap(at, size_bytes)
                        : change("munmap", unmap, (struct call){at, size_bytes, 0, 0, -1});
}

int preload_mprotect(void *at, size_t size_bytes, int protection)
{
    return IS_LIBURCU()
               ? next.mprotect(at, size_bytes, protection)
               : change("mprotect", protect, (struct call){at, size_bytes, protection, 0, -1});
}

int preload_pkey_mprotect(void *at, size_t size_bytes, int protection, int key)
{
    return change("mprotect", protect_with_key, (struct call){at, size_bytes, protection, key, -1});
}

/* Advice that takes pages away. The rest leaves what is there. */
static bool discards(int advice)
{
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_PAGEOUT:
    case MADV_HWPOISON:
#ifdef MADV_DONTNEED_LOCKED
    case MADV_DONTNEED_LOCKED:
#endif
        return true;
    default:
        return false;
    }
}

int preload_madvise(void *at, size_t size_bytes, int advice)
{
    return !discards(advice) || IS_LIBURCU()
               ? next.madvise(at, size_bytes, advice)
               : change("madvise", advise, (struct call){at, size_bytes, advice, 0, -1});
}

/* ---- mremap: from one place, and perhaps onto another ---- */

struct remapping {
    void *at;
    size_t old_bytes;
    size_t new_bytes;
    int flags;
    void *to;
    void *result;
};

static void remap(void *opaque)
{
    struct remapping *remapping = opaque;

    remapping->result = next.mremap(remapping->at, remapping->old_bytes, remapping->new_bytes,
                                    remapping->flags, remapping->to);
}

static void remap_onto(void *opaque)
{
    struct remapping *remapping = opaque;

    memory_change("mremap", (uintptr_t)remapping->to, remapping->new_bytes, remap, remapping);
}

void *preload_mremap(void *at, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    struct remapping remapping = {at, old_bytes, new_bytes, flags, NULL, MAP_FAILED};
    va_list list;

    va_start(list, flags);
    remapping.to = va_arg(list, void *);
    va_end(list);
    if (IS_LIBURCU()) {
        remap(&remapping);
    } else {
        memory_change("mremap", (uintptr_t)at, old_bytes,
                      (flags & MREMAP_FIXED) != 0 ? remap_onto : remap, &remapping);
    }
    return remapping.result;
}

/* ---- what shrinks a file that may be mapped, and what unmaps without saying how much ---- */

struct truncation {
    int fd;
    off_t size_bytes;
    int result;
};

static void truncate_file(void *opaque)
{
    struct truncation *truncation = opaque;

    truncation->result = next.ftruncate(truncation->fd, truncation->size_bytes);
}

int preload_ftruncate(int fd, off_t size_bytes)
{
    struct truncation truncation = {fd, size_bytes, -1};

    memory_change("ftruncate", 0, SIZE_MAX, truncate_file, &truncation);
    return truncation.result;
}

int ftruncate64(int fd, off_t size_bytes) __attribute__((alias("preload_ftruncate")));

struct detachment {
    const void *at;
    int result;
};

static void detach(void *opaque)
{
    struct detachment *detachment = opaque;

    detachment->result = next.shmdt(detachment->at);
}

int preload_shmdt(const void *at)
{
    struct detachment detachment = {at, -1};

    memory_change("shmdt", 0, SIZE_MAX, detach, &detachment);
    return detachment.result;
}

EXPORT(mmap);
EXPORT(munmap);
EXPORT(mprotect);
EXPORT(pkey_mprotect);
EXPORT(madvise);
EXPORT(mremap);
EXPORT(ftruncate);
EXPORT(shmdt);
