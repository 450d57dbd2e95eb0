/* preload/trace_call.c - the fields of an ioctl's line. Arguments are the program's, and read as the kernel would. */
#include "preload/trace_call.h"

#include "preload/kernel.h"
#include "preload/trace_names.h"

#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- which calls ---- */

static bool is_about_memory(unsigned request)
{
    switch (request) {
    case KVM_CREATE_VM:
    case KVM_CREATE_VCPU:
    case KVM_SET_USER_MEMORY_REGION:
    case KVM_SET_USER_MEMORY_REGION2:
    case KVM_GET_DIRTY_LOG:
    case KVM_CLEAR_DIRTY_LOG:
    case KVM_RESET_DIRTY_RINGS:
    case KVM_ENABLE_CAP:
    case KVM_SET_MEMORY_ATTRIBUTES:
    case KVM_CREATE_GUEST_MEMFD:
    case KVM_PRE_FAULT_MEMORY:
    case KVM_SET_TSS_ADDR:
    case KVM_SET_IDENTITY_MAP_ADDR:
    case KVM_SET_NR_MMU_PAGES:
        return true;
    default:
        return false;
    }
}

bool trace_call_is_told(const struct trace_call *call)
{
    return call->result < 0 || is_about_memory(call->request) ||
           call->request == KVM_CHECK_EXTENSION;
}

/*
 * VMs say so. The other two say -EINVAL to what they do not have, as to much else; but a request with a structure that they have
 * is -EFAULT where that cannot be read, and has done nothing.
 */
bool trace_call_is_unsupported(const struct trace_call *call)
{
    if (call->result == -ENOTTY) {
        return true;
    }
    if (call->result != -EINVAL) {
        return false;
    }
    if (call->object == NULL) {
        return call->request != KVM_CREATE_VM && gm_soft_system_ioctl(call->request, 0) == -EINVAL;
    }
    return call->object->kind == OBJECT_VCPU && _IOC_SIZE(call->request) != 0 &&
           gm_soft_vcpu_ioctl(call->object->vcpu, call->request, 1) == -EINVAL;
}

/* ---- reading arguments ---- */

static bool fetch(void *to, uint64_t from, size_t size_bytes)
{
    struct iovec local = {.iov_base = to, .iov_len = size_bytes};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): never dereferenced here
    struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = size_bytes};

    return kernel_call(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0) ==
           (long)size_bytes;
}

/* Bits set in a bitmap of the program's. Return: false it cannot be read. */
static bool count_bits(uint64_t bitmap, uint64_t pages, uint64_t *count)
{
    uint64_t words[256];
    uint64_t word_count = (pages + 63) / 64;

    *count = 0;
    while (word_count != 0) {
        uint64_t chunk = word_count < 256 ? word_count : 256;

        if (!fetch(words, bitmap, chunk * sizeof(words[0]))) {
            return false;
        }
        for (uint64_t i = 0; i < chunk; i++) {
            *count += (uint64_t)__builtin_popcountll(words[i]);
        }
        bitmap += chunk * sizeof(words[0]);
        word_count -= chunk;
    }
    return true;
}

/* ---- the sizes of slots ---- */

#define SPACES 2u
#define IDS 65536u

struct trace_slots {
    struct gm_soft_follower *follower;
    uint64_t pages[SPACES][IDS];
};

static uint64_t *pages_of(struct trace_slots *slots, uint32_t slot)
{
    static uint64_t nowhere;

    return slot >> 16 < SPACES ? &slots->pages[slot >> 16][slot & 0xffff] : &nowhere;
}

static void on_created(void *opaque, const struct gm_soft_slot *slot)
{
    *pages_of(opaque, slot->slot) = slot->size_bytes / 4096;
}

static void on_removing(void *opaque, const struct gm_soft_slot *slot)
{
    *pages_of(opaque, slot->slot) = 0;
}

void trace_slots_begin(struct object *vm)
{
    const struct gm_soft_follower_ops ops = {
        .size = sizeof(ops),
        .created = on_created,
        .removing = on_removing,
    };
    /* Only what is touched takes memory. */
    struct trace_slots *slots = mmap(NULL, sizeof(*slots), PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (slots == MAP_FAILED) {
        return;
    }
    if (gm_soft_follow(vm->soft, &ops, slots, &slots->follower) != 0) {
        munmap(slots, sizeof(*slots));
        return;
    }
    vm->trace_slots = slots;
}

void trace_slots_end(struct object *vm)
{
    if (vm->trace_slots != NULL) {
        gm_soft_unfollow(vm->trace_slots->follower);
        munmap(vm->trace_slots, sizeof(*vm->trace_slots));
        vm->trace_slots = NULL;
    }
}

/* ---- fields ---- */

static void slot_fields(struct trace_line *line, uint32_t slot)
{
    line_key_decimal(line, "as", slot >> 16);
    line_key_decimal(line, "slot", slot & 0xffff);
}

static void flags_field(struct trace_line *line, uint32_t flags)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {
        {KVM_MEM_LOG_DIRTY_PAGES, "LOG_DIRTY_PAGES"},
        {KVM_MEM_READONLY, "READONLY"},
        {KVM_MEM_GUEST_MEMFD, "GUEST_MEMFD"},
    };
    const char *between = "";

    line_text(line, " flags=");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if ((flags & names[i].bit) != 0) {
            line_text(line, between);
            line_text(line, names[i].name);
            between = "|";
            flags &= ~names[i].bit;
        }
    }
    if (flags != 0) {
        line_text(line, between);
        line_hex(line, flags);
    } else if (*between == '\0') {
        line_text(line, "0");
    }
}

static void region_fields(struct trace_line *line, const struct trace_call *call)
{
    struct kvm_userspace_memory_region2 region = {0};
    bool is_newer = call->request == KVM_SET_USER_MEMORY_REGION2;

    if (!fetch(&region, call->argument,
               is_newer ? sizeof(region) : sizeof(struct kvm_userspace_memory_region))) {
        line_key_hex(line, "arg", call->argument);
        return;
    }
    slot_fields(line, region.slot);
    flags_field(line, region.flags);
    line_key_hex(line, "gpa", region.guest_phys_addr);
    line_key_hex(line, "size", region.memory_size);
    line_key_hex(line, "hva", region.userspace_addr);
    if (is_newer && (region.flags & KVM_MEM_GUEST_MEMFD) != 0) {
        line_key_decimal(line, "memfd", region.guest_memfd);
        line_key_hex(line, "memfd_offset", region.guest_memfd_offset);
    }
}

static void get_log_fields(struct trace_line *line, const struct trace_call *call)
{
    struct kvm_dirty_log log;
    uint64_t pages = 0;
    uint64_t dirty;

    if (!fetch(&log, call->argument, sizeof(log))) {
        line_key_hex(line, "arg", call->argument);
        return;
    }
    slot_fields(line, log.slot);
    if (call->object != NULL && call->object->trace_slots != NULL) {
        pages = *pages_of(call->object->trace_slots, log.slot);
    }
    if (call->result == 0 && pages != 0 && count_bits((uintptr_t)log.dirty_bitmap, pages, &dirty)) {
        line_key_decimal(line, "pages", pages);
        line_key_decimal(line, "dirty", dirty);
    }
}

static void clear_log_fields(struct trace_line *line, const struct trace_call *call)
{
    struct kvm_clear_dirty_log log;
    uint64_t dirty;

    if (!fetch(&log, call->argument, sizeof(log))) {
        line_key_hex(line, "arg", call->argument);
        return;
    }
    slot_fields(line, log.slot);
    line_key_decimal(line, "first", log.first_page);
    line_key_decimal(line, "pages", log.num_pages);
    if (call->result == 0 && count_bits((uintptr_t)log.dirty_bitmap, log.num_pages, &dirty)) {
        line_key_decimal(line, "dirty", dirty);
    }
}

static void capability_field(struct trace_line *line, uint64_t number)
{
    const char *name = trace_capability_name(number);

    if (name != NULL) {
        line_key_text(line, "cap", name);
    } else {
        line_key_decimal(line, "cap", number);
    }
}

static void enable_fields(struct trace_line *line, const struct trace_call *call)
{
    struct kvm_enable_cap enable;

    if (!fetch(&enable, call->argument, sizeof(enable))) {
        line_key_hex(line, "arg", call->argument);
        return;
    }
    capability_field(line, enable.cap);
    line_key_hex(line, "flags", enable.flags);
    line_key_hex(line, "args", enable.args[0]);
    for (unsigned i = 1; i < 4; i++) {
        line_text(line, ",");
        line_hex(line, enable.args[i]);
    }
}

/* Attributes, guest memfds, faults in advance: numbers one after the other. */
static void range_fields(struct trace_line *line, const struct trace_call *call)
{
    uint64_t words[4];

    if (!fetch(words, call->argument, sizeof(words))) {
        line_key_hex(line, "arg", call->argument);
        return;
    }
    if (call->request == KVM_CREATE_GUEST_MEMFD) {
        line_key_hex(line, "size", words[0]);
        line_key_hex(line, "flags", words[1]);
        if (call->result >= 0) {
            line_key_decimal(line, "fd", (uint64_t)call->result);
        }
        return;
    }
    line_key_hex(line, "gpa", words[0]);
    line_key_hex(line, "size", words[1]);
    if (call->request == KVM_SET_MEMORY_ATTRIBUTES) {
        line_key_hex(line, "attributes", words[2]);
        line_key_hex(line, "flags", words[3]);
    } else {
        line_key_hex(line, "flags", words[2]);
    }
}

static void new_vm_fields(struct trace_line *line, const struct trace_call *call)
{
    struct object *vm = call->result >= 0 ? object_of((int)call->result) : NULL;

    line_key_decimal(line, "type", call->argument);
    if (vm != NULL) {
        line_text(line, " vm=vm");
        line_decimal(line, vm->number);
        line_key_decimal(line, "fd", (uint64_t)call->result);
        object_put(vm);
    }
}

static void new_vcpu_fields(struct trace_line *line, const struct trace_call *call)
{
    line_key_decimal(line, "vcpu", call->argument);
    if (call->result >= 0) {
        line_key_decimal(line, "fd", (uint64_t)call->result);
    }
}

void trace_call_fields(struct trace_line *line, const struct trace_call *call)
{
    switch (call->request) {
    case KVM_CREATE_VM:
        new_vm_fields(line, call);
        return;
    case KVM_CREATE_VCPU:
        new_vcpu_fields(line, call);
        return;
    case KVM_SET_USER_MEMORY_REGION:
    case KVM_SET_USER_MEMORY_REGION2:
        region_fields(line, call);
        return;
    case KVM_GET_DIRTY_LOG:
        get_log_fields(line, call);
        return;
    case KVM_CLEAR_DIRTY_LOG:
        clear_log_fields(line, call);
        return;
    case KVM_ENABLE_CAP:
        enable_fields(line, call);
        return;
    case KVM_CHECK_EXTENSION:
        capability_field(line, call->argument);
        return;
    case KVM_SET_MEMORY_ATTRIBUTES:
    case KVM_CREATE_GUEST_MEMFD:
    case KVM_PRE_FAULT_MEMORY:
        range_fields(line, call);
        return;
    case KVM_RESET_DIRTY_RINGS:
        return;
    default:
        line_key_hex(line, "arg", call->argument);
    }
}
