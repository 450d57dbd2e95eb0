/*
 * bench/commit.c - what a commit costs that toggles one device's BAR, by the number of devices.
 *
 *     bridges/N   devices with registers, 25 behind a bridge
 *     ports/N     ... each behind a port of its own
 *     kvm/N       devices with RAM, on /dev/kvm: a slot ioctl is among it
 *     ioctl/N     that slot ioctl by itself, with as many slots beside it
 */
#include "board.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#define RAM_BAR_BYTES 0x10000ull

static const uint64_t device_counts[] = {1, 8, 30, 100, 200, 500};
#define DEVICE_COUNTS (sizeof(device_counts) / sizeof(device_counts[0]))

/* One round is off and on again: twice. */
static void toggle(void *context, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += 2) {
        errno = -gm_region_set_enabled(context, false, NULL);
        need(errno == 0, "commit");
        errno = -gm_region_set_enabled(context, true, NULL);
        need(errno == 0, "commit");
    }
}

/* The PC's RAM, 3 GiB below the hole and 1 above; no host memory is needed. */
static void add_ram(struct gm_map *map, struct gm_region *root, bool backed)
{
    static const uint64_t starts[] = {0, PC_HOLE_END};
    static const uint64_t sizes[] = {PC_HOLE_START, 1024 * PC_MIB};

    for (int i = 0; i < 2; i++) {
        struct gm_ram *ram;

        errno = backed ? -gm_ram_new_anon(sizes[i] / 64, NULL, &ram, NULL)
                       : -gm_ram_new_unbacked(sizes[i], NULL, &ram, NULL);
        need(errno == 0, "RAM");
        add_region(root, new_region(map, (struct gm_region_options){.kind = GM_REGION_RAM,
                                                                    .size_bytes = gm_ram_size(ram),
                                                                    .addr = starts[i],
                                                                    .ram = ram}));
    }
}

static struct gm_region *registers_board(uint64_t devices, uint64_t per_bridge)
{
    struct pc_options options = {.devices = devices, .per_bridge = per_bridge};
    struct gm_space *space;

    need(gm_map_new(NULL, &options.map, NULL) == 0, "map");
    options.root = new_region(options.map, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                      .size_bytes = GM_SIZE_2_64});
    add_ram(options.map, options.root, false);
    need(gm_space_new(options.map, "memory", options.root, &space, NULL) == 0, "space");
    return pc_build(&options);
}

static int index_of(uint64_t devices)
{
    for (size_t i = 0; i < DEVICE_COUNTS; i++) {
        if (device_counts[i] == devices) {
            return (int)i;
        }
    }
    return 0;
}

static double time_registers(uint64_t devices, uint64_t per_bridge)
{
    static struct gm_region *boards[2][DEVICE_COUNTS];
    struct gm_region **bar = &boards[per_bridge == 1][index_of(devices)];

    if (*bar == NULL) {
        *bar = registers_board(devices, per_bridge);
    }
    return time_loop(toggle, *bar, 200);
}

static double time_kvm(uint64_t devices, uint64_t per_bridge)
{
    static struct gm_region *boards[DEVICE_COUNTS];
    struct gm_region **bar = &boards[index_of(devices)];
    const struct gm_vm_options kvm = {.size = sizeof(kvm), .accel = GM_ACCEL_KVM};
    struct pc_options options = {.devices = devices, .per_bridge = per_bridge};
    struct gm_vm *vm;

    if (*bar == NULL) {
        if (gm_vm_open(&kvm, &vm, NULL) != 0) {
            return BENCH_ABSENT;
        }
        options.map = gm_vm_map(vm);
        options.root = gm_vm_memory_root(vm);
        add_ram(options.map, options.root, true);
        need(gm_ram_new_memfd("bar", RAM_BAR_BYTES, NULL, &options.bar, NULL) == 0, "BAR");
        *bar = pc_build(&options);
    }
    return time_loop(toggle, *bar, 20);
}

struct bare {
    int vm_fd;
    void *memory;
};

static void set_slot(struct bare *bare, uint32_t slot, uint64_t gpa, uint64_t size_bytes)
{
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .guest_phys_addr = gpa,
                                                 .memory_size = size_bytes,
                                                 .userspace_addr = (uintptr_t)bare->memory};

    need(ioctl(bare->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0, "slot of /dev/kvm");
}

static void toggle_bare(void *context, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += 2) {
        set_slot(context, 0, PC_HOLE_START, 0);
        set_slot(context, 0, PC_HOLE_START, RAM_BAR_BYTES);
    }
}

static double time_ioctl(uint64_t devices, uint64_t unused)
{
    static struct bare bares[DEVICE_COUNTS];
    struct bare *bare = &bares[index_of(devices)];
    int kvm_fd;

    (void)unused;
    if (bare->memory == NULL) {
        kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        bare->vm_fd = kvm_fd < 0 ? -1 : ioctl(kvm_fd, KVM_CREATE_VM, 0);
        if (bare->vm_fd < 0) {
            return BENCH_ABSENT;
        }
        close(kvm_fd);
        bare->memory = host_memory(RAM_BAR_BYTES);
        for (uint32_t i = 0; i < devices; i++) {
            set_slot(bare, i, PC_HOLE_START + i * PC_BAR_STRIDE, RAM_BAR_BYTES);
        }
        set_slot(bare, (uint32_t)devices, 0, RAM_BAR_BYTES);
        set_slot(bare, (uint32_t)devices + 1, PC_HOLE_END, RAM_BAR_BYTES);
    }
    return time_loop(toggle_bare, bare, 20);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < DEVICE_COUNTS; i++) {
        add_case("bridges/%u", time_registers, device_counts[i], 25);
        add_case("ports/%u", time_registers, device_counts[i], 1);
        add_case("kvm/%u", time_kvm, device_counts[i], 1);
        add_case("ioctl/%u", time_ioctl, device_counts[i], 0);
    }
    return serve_cases(argc, argv);
}
