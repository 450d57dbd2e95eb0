/* ram/ram.c - a block's references and its end; what it is. */
#include "ram/ram.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ram/make.h"
#include "ram/memory.h"

#include <errno.h>
#include <unistd.h>

int ram_init_locks(struct gm_ram *ram)
{
    if (lock_init(&ram->memory_lock, LOCK_RANK_RAM) != 0) {
        return -ENOMEM;
    }
    if (lock_init(&ram->size_lock, LOCK_RANK_LEAF) != 0) {
        goto out_memory_lock;
    }
    if (ram_dirty_init(&ram->dirty) != 0) {
        goto out_size_lock;
    }
    return 0;

out_size_lock:
    lock_fini(&ram->size_lock);
out_memory_lock:
    lock_fini(&ram->memory_lock);
    return -ENOMEM;
}

void ram_free(struct gm_ram *ram)
{
    struct gm_allocator allocator = ram->allocator;

    GM_ASSERT(ram->watches == NULL && ram->claims == NULL);
    if (ram->kind == GM_RAM_CALLER) {
        if (ram->release != NULL) {
            ram->release(ram->opaque, ram->hva, ram_size(ram));
        }
    } else if (ram->hva != NULL) {
        memory_unreserve(ram);
    }
    if (ram->fd >= 0) {
        close(ram->fd);
    }
    if (ram->guest_memfd >= 0) {
        close(ram->guest_memfd);
    }
    ram_dirty_fini(&ram->dirty);
    lock_fini(&ram->size_lock);
    lock_fini(&ram->memory_lock);
    mem_free(&allocator, ram);
}

void gm_ram_get(struct gm_ram *ram)
{
    ref_get(&ram->refs);
}

void gm_ram_put(struct gm_ram *ram)
{
    if (ram != NULL && ref_put(&ram->refs)) {
        ram_free(ram);
    }
}

uint64_t gm_ram_size(const struct gm_ram *ram)
{
    return ram_size(ram);
}

void *gm_ram_hva(const struct gm_ram *ram)
{
    return ram->hva;
}

int gm_ram_fd(const struct gm_ram *ram)
{
    return ram->fd;
}

int gm_ram_guest_memfd(const struct gm_ram *ram, uint64_t *offset_bytes)
{
    if (offset_bytes != NULL) {
        *offset_bytes = ram->guest_memfd_offset;
    }
    return ram->guest_memfd;
}

uint64_t gm_ram_page_bytes(const struct gm_ram *ram)
{
    return ram->page_bytes;
}
