/*
 * vm/vm.c - a VM: opening or attaching to it, wiring a map to it, closing it. What is under the map
 * is behind struct vm_accel.
 */
#include "vm/vm.h"

#include "base/addr.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/diag.h"
#include "base/options.h"
#include "region/map.h"
#include "space/hub.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define PORT_SPACE_BYTES 0x10000u

/* Can it be blocked and sent? Sets take no number that does not exist or is the C library's own. */
static bool is_usable_signal(int number)
{
    sigset_t set;

    sigemptyset(&set);
    return sigaddset(&set, number) == 0 && number != SIGKILL && number != SIGSTOP;
}

static const struct options_kind OPTIONS = OPTIONS_KIND(gm_vm_options, soft);

/* What a caller has said, in our version of it. */
struct settings {
    struct gm_vm_options options; /* its map is the one below, or NULL */
    struct gm_map_options map;
};

/* Checked but for what gm_map_new() and gm_soft_open() check. */
static int take_settings(struct settings *taken, const struct gm_vm_options *theirs,
                         struct gm_diag *diag)
{
    struct gm_vm_options *options = &taken->options;
    int signal_number;
    int rc = options_take(&OPTIONS, options, theirs, diag);

    if (rc == 0 && options->map != NULL) {
        rc = options_take(&map_options_kind, &taken->map, options->map, diag);
        options->map = &taken->map;
    }
    if (rc != 0) {
        return rc;
    }
    if ((unsigned)options->accel > GM_ACCEL_AUTO) {
        return diag_set(diag, GM_DIAG_VM_ACCEL, -EINVAL, "%d is no kind of accel",
                        (int)options->accel);
    }
    if (options->dirty_ring_entries != 0 && (!is_power_of_two(options->dirty_ring_entries) ||
                                             options->dirty_ring_entries < RINGS_ENTRIES_MIN)) {
        return diag_set(diag, GM_DIAG_VM_RINGS, -EINVAL,
                        "a dirty ring has a power of two of entries, %u or more",
                        RINGS_ENTRIES_MIN);
    }
    signal_number = options->kick_signal;
    if (signal_number != 0 && !is_usable_signal(signal_number)) {
        return diag_set(diag, GM_DIAG_VM_SIGNAL, -EINVAL, "signal %d cannot be used as kick_signal",
                        signal_number);
    }
    return 0;
}

static struct gm_vm *vm_alloc(const struct gm_vm_options *options, const struct vm_accel *accel)
{
    const struct gm_map_options *map = options->map;
    const struct gm_allocator *allocator =
        mem_allocator_or_default(map != NULL ? map->allocator : NULL);
    struct gm_vm *vm = mem_zalloc(allocator, sizeof(*vm));

    if (vm == NULL) {
        return NULL;
    }
    if (lock_init(&vm->lock, LOCK_RANK_LEAF) != 0) {
        mem_free(allocator, vm);
        return NULL;
    }
    if (coalesced_init(&vm->coalesced, allocator) != 0) {
        lock_fini(&vm->lock);
        mem_free(allocator, vm);
        return NULL;
    }
    vm->allocator = *allocator;
    vm->accel = accel;
    vm->system_fd = -1;
    vm->vm_fd = -1;
    vm->max_slots = options->max_slots;
    vm->kick_signal = options->kick_signal != 0 ? options->kick_signal : SIGRTMIN;
    return vm;
}

static void flush(void *opaque)
{
    coalesced_flush(opaque);
}

/* A map with two spaces, each with an empty container as root. What was made stays in @vm. */
static int make_spaces(struct gm_vm *vm, const struct gm_map_options *options, struct gm_diag *diag)
{
    int rc = gm_map_new(options, &vm->map, diag);

    if (rc != 0) {
        return rc;
    }
    vm->coalesced.map = vm->map;
    vm->map->flush = flush;
    vm->map->flush_opaque = &vm->coalesced;
    rc = gm_region_new_container(vm->map, "memory", GM_SIZE_2_64, &vm->memory_root);
    if (rc == 0) {
        rc = gm_region_new_container(vm->map, "ports", PORT_SPACE_BYTES, &vm->ports_root);
    }
    if (rc != 0) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, rc, "no memory for the spaces' roots");
    }
    rc = gm_space_new(vm->map, "memory", vm->memory_root, &vm->memory, diag);
    if (rc != 0) {
        return rc;
    }
    rc = gm_space_new(vm->map, "ports", vm->ports_root, &vm->ports, diag);
    vm->coalesced.memory = vm->memory;
    vm->coalesced.ports = vm->ports;
    return rc;
}

/* All but the slots and what is under the map; of a VM that is made in part, too. */
static void free_parts(struct gm_vm *vm)
{
    while (vm->vcpus != NULL) {
        gm_vcpu_free(vm->vcpus);
    }
    coalesced_drop(&vm->coalesced);
    gm_region_put(vm->memory_root);
    gm_region_put(vm->ports_root);
    if (vm->map != NULL) {
        gm_map_free(vm->map);
    }
}

/* Wire a map to what is under it. */
static int make_vm(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    int rc = vm->accel->begin(vm, options, diag);

    if (rc != 0) {
        return rc;
    }
    rc = make_spaces(vm, options->map, diag);
    if (rc == 0) {
        rc = vm->accel->attach(vm, options, diag);
    }
    if (rc != 0) {
        free_parts(vm);
        vm->accel->end(vm);
    }
    return rc;
}

static void free_handle(struct gm_vm *vm)
{
    struct gm_allocator allocator = vm->allocator;

    coalesced_fini(&vm->coalesced);
    lock_fini(&vm->lock);
    mem_free(&allocator, vm);
}

static int attach(int system_fd, int vm_fd, const struct gm_vm_options *options, struct gm_vm **out,
                  struct gm_diag *diag)
{
    struct gm_vm *vm = vm_alloc(options, &vm_accel_kvm);
    int rc;

    if (vm == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a VM");
    }
    vm->system_fd = system_fd;
    vm->vm_fd = vm_fd;
    rc = make_vm(vm, options, diag);
    if (rc != 0) {
        free_handle(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

int gm_vm_attach(int system_fd, int vm_fd, const struct gm_vm_options *options, struct gm_vm **out,
                 struct gm_diag *diag)
{
    struct settings taken;
    int rc = take_settings(&taken, options, diag);

    if (rc != 0) {
        return rc;
    }
    if (taken.options.accel == GM_ACCEL_SOFT) {
        return diag_set(diag, GM_DIAG_VM_ACCEL, -EINVAL,
                        "descriptors are of a VM on /dev/kvm, which is not what accel says");
    }
    return attach(system_fd, vm_fd, &taken.options, out, diag);
}

static int open_soft(const struct gm_vm_options *options, struct gm_vm **out, struct gm_diag *diag)
{
    struct gm_vm *vm = vm_alloc(options, &vm_accel_soft);
    int rc;

    if (vm == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a VM");
    }
    rc = make_vm(vm, options, diag);
    if (rc != 0) {
        free_handle(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

/* A VM of our own on an open device, which is closed if this fails. */
static int open_kvm(int system_fd, const struct gm_vm_options *options, struct gm_vm **out,
                    struct gm_diag *diag)
{
    int vm_fd;
    int rc = kvm_make_vm(system_fd, &vm_fd, diag);

    if (rc != 0) {
        goto out_close_system;
    }
    rc = attach(system_fd, vm_fd, options, out, diag);
    if (rc != 0) {
        goto out_close_vm;
    }
    (*out)->owns_fds = true;
    return 0;

out_close_vm:
    close(vm_fd);
out_close_system:
    close(system_fd);
    return rc;
}

int gm_vm_open(const struct gm_vm_options *options, struct gm_vm **out, struct gm_diag *diag)
{
    const struct gm_vm_options *chosen;
    struct settings taken;
    struct gm_diag why;
    int system_fd;
    int rc = take_settings(&taken, options, diag);

    if (rc != 0) {
        return rc;
    }
    chosen = &taken.options;
    if (chosen->accel == GM_ACCEL_SOFT) {
        return open_soft(chosen, out, diag);
    }
    rc = kvm_open(chosen->device != NULL ? chosen->device : KVM_DEVICE_PATH, &system_fd, &why);
    if (rc == 0) {
        return open_kvm(system_fd, chosen, out, diag);
    }
    if (chosen->accel == GM_ACCEL_AUTO && (rc == -ENOENT || rc == -EACCES || rc == -ENODEV)) {
        return open_soft(chosen, out, diag);
    }
    if (diag != NULL) {
        *diag = why;
    }
    return rc;
}

int vm_in_parent(const struct gm_vm *vm, struct gm_diag *diag)
{
    return vm_is_copy(vm) ? diag_set(diag, GM_DIAG_FORKED, -EIO,
                                     "this process is a child of the one that made the VM")
                          : 0;
}

/* No slots use it. If there is no memory for ending it, it ends with the map. */
static void drop_smm_space(struct gm_vm *vm)
{
    int rc = gm_space_free(vm->smm, NULL);

    (void)rc;
    vm->smm = NULL;
}

static int detach_smm(struct gm_vm *vm, struct gm_diag *diag)
{
    int rc;

    if (vm->smm_slots == NULL) {
        return 0;
    }
    rc = gm_slots_detach(vm->smm_slots, diag);
    if (rc == 0) {
        vm->smm_slots = NULL;
        drop_smm_space(vm);
    }
    return rc;
}

int gm_vm_add_smm(struct gm_vm *vm, struct gm_region *root, struct gm_diag *diag)
{
    int rc;

    rc = vm_in_parent(vm, diag);
    if (rc != 0) {
        return rc;
    }
    if (vm->smm_slots != NULL) {
        return diag_set(diag, GM_DIAG_VM_SMM, -EEXIST, "this VM has a space for SMM already");
    }
    rc = gm_space_new(vm->map, "smm", root, &vm->smm, diag);
    if (rc != 0) {
        return rc;
    }
    rc = vm->accel->attach_smm(vm, diag);
    if (rc != 0) {
        drop_smm_space(vm);
    }
    return rc;
}

/*
 * In a child of fork(): free the copy. Only what nobody was changing as it was made is sure to be whole; else its
 * descriptors are closed, and the memory lies there until the process ends or becomes another program.
 */
static int close_copy(struct gm_vm *vm)
{
    int rc;

    if (vm->is_torn || vcpu_any_runs(vm) || !map_was_at_rest(vm->map) ||
        !coalesced_was_at_rest(&vm->coalesced)) {
        vm->accel->drop(vm);
        return 0;
    }
    vm->accel->forget(vm);
    rc = detach_smm(vm, NULL);
    if (rc == 0) {
        rc = gm_slots_detach(vm->slots, NULL);
    }
    GM_ASSERT(rc == 0 || rc == -ENOMEM);
    if (rc != 0) {
        vm->accel->drop(vm);
        return 0;
    }
    free_parts(vm);
    vm->accel->end(vm);
    free_handle(vm);
    return 0;
}

int gm_vm_close(struct gm_vm *vm, struct gm_diag *diag)
{
    int rc;

    if (vm == NULL) {
        return 0;
    }
    if (vm_is_copy(vm)) {
        alone_begin();
        rc = close_copy(vm);
        alone_end();
        return rc;
    }
    rc = vm->accel->check_idle(vm, diag);
    if (rc != 0) {
        return rc;
    }
    coalesced_flush(&vm->coalesced);
    rc = detach_smm(vm, diag);
    if (rc != 0) {
        return rc;
    }
    rc = gm_slots_detach(vm->slots, diag);
    if (rc != 0) {
        return rc;
    }
    free_parts(vm);
    vm->accel->end(vm);
    free_handle(vm);
    return 0;
}

struct gm_map *gm_vm_map(struct gm_vm *vm)
{
    return vm->map;
}

struct gm_space *gm_vm_memory(struct gm_vm *vm)
{
    return vm->memory;
}

struct gm_space *gm_vm_ports(struct gm_vm *vm)
{
    return vm->ports;
}

struct gm_space *gm_vm_smm(struct gm_vm *vm)
{
    return vm->smm;
}

struct gm_slots *gm_vm_smm_slots(struct gm_vm *vm)
{
    return vm->smm_slots;
}

struct gm_region *gm_vm_memory_root(struct gm_vm *vm)
{
    return vm->memory_root;
}

struct gm_region *gm_vm_ports_root(struct gm_vm *vm)
{
    return vm->ports_root;
}

struct gm_slots *gm_vm_slots(struct gm_vm *vm)
{
    return vm->slots;
}

int gm_vm_fd(const struct gm_vm *vm)
{
    return vm->vm_fd;
}

int gm_vm_system_fd(const struct gm_vm *vm)
{
    return vm->system_fd;
}

long gm_vm_system_ioctl(struct gm_vm *vm, unsigned long request, unsigned long argument)
{
    return vm_is_copy(vm) ? -EIO : vm->accel->system_ioctl(vm, request, argument);
}

long gm_vm_ioctl(struct gm_vm *vm, unsigned long request, unsigned long argument)
{
    return vm_is_copy(vm) ? -EIO : vm->accel->vm_ioctl(vm, request, argument);
}

void gm_vm_flush_coalesced(struct gm_vm *vm)
{
    coalesced_flush(&vm->coalesced);
}

struct gm_soft *gm_vm_soft(struct gm_vm *vm)
{
    return vm->soft;
}
