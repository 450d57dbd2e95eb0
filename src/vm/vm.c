/* vm/vm.c - a VM: opening or attaching to it, wiring a map to it, closing it. */
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
    signal_number = options->kick_signal;
    if (signal_number != 0 && !is_usable_signal(signal_number)) {
        return diag_set(diag, -EINVAL, "signal %d cannot be used as kick_signal", signal_number);
    }
    return 0;
}

static struct gm_vm *vm_alloc(const struct gm_vm_options *options)
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

/* The slots come last: what fails before or in them leaves nothing behind that has to be detached. */
static int attach_backend(struct gm_vm *vm, uint32_t max_slots, struct gm_diag *diag)
{
    struct gm_backend_options options = kvm_backend_options(&vm->backend, max_slots);
    struct gm_backend_ops ops = kvm_backend_ops(&vm->backend);
    int rc = 0;

    options.allocator = &vm->allocator;
    if (vm->backend.features.eventfds) {
        rc = kvm_ports_attach(vm->map, vm->ports, &vm->backend, &vm->allocator, &vm->ports_listener,
                              diag);
    }
    if (rc == 0) {
        rc = gm_slots_attach(vm->memory, &options, &ops, &vm->backend, &vm->slots, diag);
    }
    return rc;
}

/* All but the slots and the descriptors; of a VM that is made in part, too. */
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
    kvm_ports_free(vm->ports_listener);
}

/* Wire a map to the VM behind the two descriptors. They stay open if this fails. */
static int make_vm(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag)
{
    bool automatic = options == NULL || !options->no_manual_protect;
    struct kvm_features features;
    int rc = kvm_probe(vm->system_fd, vm->vm_fd, &features, diag);

    if (rc != 0) {
        return rc;
    }
    rc = kvm_backend_init(&vm->backend, vm->vm_fd, &features,
                          automatic ? 0 : KVM_BACKEND_NO_MANUAL_PROTECT, diag);
    if (rc != 0) {
        return rc;
    }
    rc = make_spaces(vm, options != NULL ? options->map : NULL, diag);
    if (rc == 0) {
        rc = attach_backend(vm, options != NULL ? options->max_slots : 0, diag);
    }
    if (rc != 0) {
        free_parts(vm);
        kvm_backend_fini(&vm->backend);
    }
    return rc;
}

static void free_handle(struct gm_vm *vm)
{
    struct gm_allocator allocator = vm->allocator;

    lock_fini(&vm->lock);
    mem_free(&allocator, vm);
}

int gm_vm_attach(int system_fd, int vm_fd, const struct gm_vm_options *options, struct gm_vm **out,
                 struct gm_diag *diag)
{
    struct gm_vm *vm;
    int rc = check_options(options, diag);

    if (rc != 0) {
        return rc;
    }
    vm = vm_alloc(options);
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

int gm_vm_open(const struct gm_vm_options *options, struct gm_vm **out, struct gm_diag *diag)
{
    bool is_default = options == NULL || options->device == NULL;
    int system_fd;
    int vm_fd;
    int rc = check_options(options, diag);

    if (rc != 0) {
        return rc;
    }
    rc = kvm_open(is_default ? KVM_DEVICE_PATH : options->device, &system_fd, diag);
    if (rc != 0) {
        return rc;
    }
    rc = kvm_make_vm(system_fd, &vm_fd, diag);
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

static bool vm_is_running(struct gm_vm *vm)
{
    bool running = false;

    lock_take(&vm->lock);
    for (struct gm_vcpu *vcpu = vm->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        /* Acquire; pairs with the release in vcpu_unbind(). */
        running = running || atomic_load_explicit(&vcpu->in_run, memory_order_acquire);
    }
    lock_drop(&vm->lock);
    return running;
}

int gm_vm_close(struct gm_vm *vm, struct gm_diag *diag)
{
    int rc;

    if (vm == NULL) {
        return 0;
    }
    if (vm_is_running(vm)) {
        return diag_set(diag, -EBUSY, "a vCPU of this VM is running");
    }
    rc = gm_slots_detach(vm->slots, diag);
    if (rc != 0) {
        return rc;
    }
    free_parts(vm);
    kvm_backend_fini(&vm->backend);
    if (vm->owns_fds) {
        close(vm->vm_fd);
        close(vm->system_fd);
    }
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
