/* preload/memory.c - telling VMs of changes of host memory, and what of KVM's descriptors may be mapped. */
#include "preload/memory.h"

#include "preload/object.h"
#include "preload/trace.h"

#include <errno.h>
#include <link.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096u

struct change {
    const char *by;
    uintptr_t hva;
    size_t size_bytes;
    memory_change_fn *run;
    void *opaque;
};

/* From this VM on, one inside the other. */
static void change_with(struct object *vm, const struct change *change)
{
    bool met;

    if (vm == NULL) {
        change->run(change->opaque);
        return;
    }
    met = gm_soft_invalidate_begin(vm->soft, change->hva, change->size_bytes);
    change_with(object_after(vm), change);
    gm_soft_invalidate_end(vm->soft, change->hva, change->size_bytes);
    if (met) {
        trace_notify(vm, change->by, change->hva, change->size_bytes);
    }
    object_put(vm);
}

void memory_change(const char *by, uintptr_t hva, size_t size_bytes, memory_change_fn *change,
                   void *opaque)
{
    const struct change wanted = {by, hva, size_bytes, change, opaque};
    uint64_t mask;
    int error;

    if (!object_any()) {
        change(opaque);
        return;
    }
    mask = signals_block();
    change_with(object_first(OBJECT_VM), &wanted);
    error = errno;
    closing_look_again();
    signals_restore(mask);
    errno = error;
}

/* ---- liburcu ---- */

#define LIBRARIES_MAX 8
static struct {
    uintptr_t begin;
    uintptr_t end;
} liburcu[LIBRARIES_MAX];
static unsigned liburcu_count;

static int note_library(struct dl_phdr_info *info, size_t size_bytes, void *opaque)
{
    (void)size_bytes;
    (void)opaque;
    if (info->dlpi_name == NULL || strstr(info->dlpi_name, "/liburcu") == NULL) {
        return 0;
    }
    for (unsigned i = 0; i < info->dlpi_phnum && liburcu_count < LIBRARIES_MAX; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];

        if (header->p_type == PT_LOAD && (header->p_flags & PF_X) != 0) {
            liburcu[liburcu_count].begin = info->dlpi_addr + header->p_vaddr;
            liburcu[liburcu_count].end = info->dlpi_addr + header->p_vaddr + header->p_memsz;
            liburcu_count++;
        }
    }
    return 0;
}

void memory_find_liburcu(void)
{
    dl_iterate_phdr(note_library, NULL);
}

bool memory_is_liburcu(const void *caller)
{
    for (unsigned i = 0; i < liburcu_count; i++) {
        if ((uintptr_t)caller >= liburcu[i].begin && (uintptr_t)caller < liburcu[i].end) {
            return true;
        }
    }
    return false;
}

/* ---- mapping KVM's descriptors ---- */

static bool is_in_ring(const struct object *vcpu, uint64_t page)
{
    uint32_t entry_count = 0;
    uint64_t pages;

    (void)gm_soft_vcpu_ring(vcpu->vcpu, &entry_count);
    pages = entry_count * sizeof(struct kvm_dirty_gfn) / PAGE_BYTES;
    return page >= KVM_DIRTY_LOG_PAGE_OFFSET && page - KVM_DIRTY_LOG_PAGE_OFFSET < pages;
}

/* In Linux's order: its files are on a file system without programs; most have nothing to map. */
int memory_map_errno(int fd, int protection, int flags, size_t size_bytes, uint64_t offset)
{
    uint64_t last = offset / PAGE_BYTES + (size_bytes - 1) / PAGE_BYTES;
    struct object *object;
    int error = 0;

    if (size_bytes == 0 || !descriptor_may_be(fd)) {
        return 0;
    }
    object = object_of(fd);
    if (object == NULL && descriptor_kind(fd) == DESCRIPTOR_OTHER) {
        return 0;
    }
    if ((protection & PROT_EXEC) != 0) {
        error = EPERM;
    } else if (object == NULL || object->kind != OBJECT_VCPU) {
        error = ENODEV;
    } else if ((flags & MAP_TYPE) == MAP_PRIVATE &&
               (is_in_ring(object, offset / PAGE_BYTES) || is_in_ring(object, last))) {
        error = EINVAL;
    }
    if (object != NULL) {
        object_put(object);
    }
    return error;
}

int memory_map_ring(int fd, void *at, size_t size_bytes, uint64_t offset)
{
    const uint64_t ring = (uint64_t)KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_BYTES;
    struct object *object;
    int error = 0;

    if (offset > ring || size_bytes <= ring - offset || !descriptor_may_be(fd)) {
        return 0;
    }
    object = object_of(fd);
    if (object == NULL) {
        return 0;
    }
    if (object->kind == OBJECT_VCPU && object_is_ours(object)) {
        error = -gm_soft_show_coalesced(object->vm->soft, (uint8_t *)at + (ring - offset));
    }
    object_put(object);
    return error;
}
