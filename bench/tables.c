/*
 * bench/tables.c - memory that the library takes, in bytes.
 *
 *     leaf-2m/GIB, leaf-4k/GIB   of tables, for each leaf, GIB of guest memory being mapped
 *     region, range, slot        for each of 4,096: a region of RAM in a tree; a range of RAM in a view; a slot of the planner
 */
#include "board.h"

#include <guestmem/soft_ioctl.h>

#include <linux/kvm.h>
#include <malloc.h>

#define PAGE 4096ull
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define MANY 4096ull

/* ---- tables ---- */

static uint64_t claim_2m(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return 2 * MIB;
}

/* A slot for each GiB, over the same GiB of the host's. */
static double count_leaf(uint64_t gib, uint64_t large)
{
    const struct gm_soft_options options = {.size = sizeof(options),
                                            .page_bytes = large ? claim_2m : NULL};
    uint8_t *memory = mmap(NULL, 2 * GIB, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct gm_soft *soft = open_vm(&options);
    struct kvm_pre_fault_memory prefault = {.size = gib * GIB};
    struct gm_soft_vcpu *vcpu;
    struct gm_soft_stats stats;
    uint64_t leaves;

    need(memory != MAP_FAILED, "mmap");
    for (uint32_t i = 0; i < gib; i++) {
        struct gm_soft_slot slot = {.slot = i,
                                    .gpa = i * GIB,
                                    .size_bytes = GIB,
                                    .hva = ((uintptr_t)memory + GIB - 1) & ~(GIB - 1)};

        need(gm_soft_set_slots(soft, &slot, 1, NULL) == 0, "slot");
    }
    need(gm_soft_vcpu_new(soft, 0, &vcpu) == 0, "vCPU");
    errno = -(int)gm_soft_vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, (uintptr_t)&prefault);
    need(errno == 0, "KVM_PRE_FAULT_MEMORY");
    gm_soft_stats(soft, &stats);
    leaves = large ? stats.pages_2m : stats.pages_4k;
    need(leaves == gib * (large ? 512 : 512 * 512), "leaves");
    gm_soft_vcpu_free(vcpu);
    need(gm_soft_close(soft) == 0, "close");
    munmap(memory, 2 * GIB);
    return (double)stats.table_pages * PAGE / (double)leaves;
}

/* ---- what an allocator sees ---- */

static void *counted_alloc(void *opaque, size_t size_bytes)
{
    void *memory = malloc(size_bytes);

    __atomic_fetch_add((uint64_t *)opaque, malloc_usable_size(memory), __ATOMIC_RELAXED);
    return memory;
}

static void counted_free(void *opaque, void *memory)
{
    __atomic_fetch_sub((uint64_t *)opaque, malloc_usable_size(memory), __ATOMIC_RELAXED);
    free(memory);
}

static uint64_t counted_bytes;
static const struct gm_allocator counted = {
    .alloc = counted_alloc, .free = counted_free, .opaque = &counted_bytes};

static uint64_t counted_now(void)
{
    gm_map_quiesce(NULL);
    return __atomic_load_n(&counted_bytes, __ATOMIC_RELAXED);
}

static int slot_call(void *opaque, const struct gm_slot *slot)
{
    (void)opaque;
    (void)slot;
    return 0;
}

static int slot_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    (void)opaque;
    (void)slot;
    (void)new_flags;
    return 0;
}

enum what { REGION, RANGE, SLOT };

/* Read-only every other one, so that neighbours do not merge. */
static double count_map(uint64_t what, uint64_t unused)
{
    static const struct gm_backend_ops ops = {
        .size = sizeof(ops), .create = slot_call, .destroy = slot_call, .set_flags = slot_flags};
    const struct gm_map_options options = {.size = sizeof(options), .allocator = &counted};
    const struct gm_backend_options backend = {.size = sizeof(backend), .allocator = &counted};
    struct gm_map *map;
    struct gm_ram *ram;
    struct gm_region *root;
    struct gm_space *space;
    struct gm_slots *slots;
    struct gm_txn *txn;
    uint64_t before, end;

    (void)unused;
    need(gm_map_new(&options, &map, NULL) == 0, "map");
    need(gm_ram_new_unbacked(MANY * PAGE, NULL, &ram, NULL) == 0, "RAM");
    root = new_region(
        map, (struct gm_region_options){.kind = GM_REGION_CONTAINER, .size_bytes = GM_SIZE_2_64});
    need(gm_txn_begin(map, &txn) == 0, "transaction");
    before = counted_now();
    for (uint64_t i = 0; i < MANY; i++) {
        struct gm_region *region =
            new_region(map, (struct gm_region_options){.kind = GM_REGION_RAM,
                                                       .size_bytes = PAGE,
                                                       .addr = i * PAGE,
                                                       .ram = ram,
                                                       .ram_offset = i * PAGE,
                                                       .readonly = i % 2 != 0});

        need(gm_txn_add(txn, root, region) == 0, "add");
        gm_region_put(region);
    }
    need(gm_txn_commit(txn, NULL) == 0, "commit");
    end = counted_now(); /* the transaction is gone: what is left are the regions, in the tree */
    if (what != REGION) {
        before = end;
    }
    need(gm_space_new(map, "memory", root, &space, NULL) == 0, "space");
    if (what == RANGE) {
        end = counted_now();
    }
    if (what == SLOT) {
        before = counted_now();
        need(gm_slots_attach(space, &backend, &ops, NULL, &slots, NULL) == 0, "slots");
        end = counted_now();
        need(gm_slots_detach(slots, NULL) == 0, "detach");
    }
    gm_region_put(root);
    gm_ram_put(ram);
    gm_map_free(map);
    return (double)(end - before) / MANY;
}

int main(int argc, char **argv)
{
    add_case("leaf-2m/%u", count_leaf, 1024, true);
    add_case("leaf-4k/%u", count_leaf, 16, false);
    add_case("leaf-4k/%u", count_leaf, 1024, false);
    add_case("region", count_map, REGION, 0);
    add_case("range", count_map, RANGE, 0);
    add_case("slot", count_map, SLOT, 0);
    return serve_cases(argc, argv);
}
