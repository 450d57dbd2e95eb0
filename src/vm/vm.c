/*
 * vm/vm.c - a VM: opening or attaching to it, wiring a map to it, closing it. What is under the map
 * is behind struct vm_accel.
 */
#include "vm/vm.h"

#include "base/alloc.h"
#include "base/diag.h"

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

static int check_options(const struct gm_vm_options *options, struct gm_diag *diag)
{
    int signal_number;

    if (options == NULL) {
        return 0;
    }
    if (options->size != sizeof(*options) ||
        (options->map != NULL && options->map->size != sizeof(*options->map))) {
        return diag_set(diag, -EINVAL, "the size in gm_vm_options, or in its map, is not ours");
    }
    if ((unsigned)options->accel > GM_ACCEL_AUTO) {
        return diag_set(diag, -EINVAL, "%d is no kind of accel", (int)options->accel);
    }
    signal_number = options->kick_signal;
    if (signal_number != 0 && !is_usable_signal(signal_number)) {
        return diag_set(diag, -EINVAL, "signal %d cannot be used as kick_signal", signal_number);
    }
    return 0;
}

static struct gm_vm *vm_alloc(const struct gm_vm_options *options, const struct vm_accel *accel)
{
    const struct gm_map_options *map = options != NULL ? options->map : NULL;
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
    vm->allocator = *allocator;
    vm->accel = accel;
    vm->system_fd = -1;
    vm->vm_fd = -1;
    vm->kick_signal =
        options != NULL && options->kick_signal != 0 ? options->kick_signal : SIGRTMIN;
    return vm;
}

/* A map with two spaces, each with an empty container as root. What was made stays in @vm. */
static int make_spaces(struct gm_vm *vm, const struct gm_map_options *options, struct gm_diag *diag)
{
    int rc = gm_map_new(options, &vm->map, diag);

    if (rc != 0) {
        return rc;
    }
    rc = gm_region_new_container(vm->map, "memory", GM_SIZE_2_64, &vm->memory_root);
    if (rc == 0) {
        rc = gm_region_new_container(vm->map, "ports", PORT_SPACE_BYTES, &vm->ports_root);
    }
    if (rc != 0) {
        return diag_set(diag, rc, "no memory for the spaces' roots");
    }
    rc = gm_space_new(vm->map, "memory", vm->memory_root, &vm->memory, diag);
    if (rc != 0) {
        return rc;
    }
    return gm_space_new(vm->map, "ports", vm->ports_root, &vm->ports, diag);
}

/* All but the slots and what is under the map; of a VM that is made in part, too. */
static void free_parts(struct gm_vm *vm)
{
    while (vm->vcpus != NULL) {
        gm_vcpu_free(vm->vcpus);
    }
    gm_region_put(vm->memory_root);
    gm_region_put(vm->ports_root);
    if (vm->map != NULL) {
        gm_map_free(vm->map);
    }
}

/* Wire a map to what is under it. */
static int make_vm(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    const struct gm_vm_options defaults = {.size = sizeof(defaults)};
    int rc;

    if (options == NULL) {
        options = &defaults;
    }
    rc = vm->accel->begin(vm, options, diag);
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

    lock_fini(&vm->lock);
    mem_free(&allocator, vm);
}

static enum gm_accel accel_of(const struct gm_vm_options *options)
{
    return options != NULL ? options->accel : GM_ACCEL_KVM;
}

int gm_vm_attach(int system_fd, int vm_fd, const struct gm_vm_options *options, struct gm_vm **out,
                 struct gm_diag *diag)
{
    struct gm_vm *vm;
    int rc = check_options(options, diag);

    if (rc != 0) {
        return rc;
    }
    if (accel_of(options) == GM_ACCEL_SOFT) {
        return diag_set(diag, -EINVAL,
                        "descriptors are of a VM on /dev/kvm, which is not what accel says");
    }
    vm = vm_alloc(options, &vm_accel_kvm);
    if (vm == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for a VM");
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

static int open_soft(const struct gm_vm_options *options, struct gm_vm **out, struct gm_diag *diag)
{
    struct gm_vm *vm = vm_alloc(options, &vm_accel_soft);
    int rc;

    if (vm == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for a VM");
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
    rc = gm_vm_attach(system_fd, vm_fd, options, out, diag);
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
    const char *device =
        options != NULL && options->device != NULL ? options->device : KVM_DEVICE_PATH;
    struct gm_diag why;
    int system_fd;
    int rc = check_options(options, diag);

    if (rc != 0) {
        return rc;
    }
    if (accel_of(options) == GM_ACCEL_SOFT) {
        return open_soft(options, out, diag);
    }
    rc = kvm_open(device, &system_fd, &why);
    if (rc == 0) {
        return open_kvm(system_fd, options, out, diag);
    }
    if (accel_of(options) == GM_ACCEL_AUTO && (rc == -ENOENT || rc == -EACCES || rc == -ENODEV)) {
        return open_soft(options, out, diag);
    }
    if (diag != NULL) {
        *diag = why;
    }
    return rc;
}

int gm_vm_close(struct gm_vm *vm, struct gm_diag *diag)
{
    int rc;

    if (vm == NULL) {
        return 0;
    }
    rc = vm->accel->check_idle(vm, diag);
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

struct gm_soft *gm_vm_soft(struct gm_vm *vm)
{
    return vm->soft;
}
