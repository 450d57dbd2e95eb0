/*
 * counts/paths.c - the hot paths, each in a function of its own that makes TIMES calls: for instructions.py, which has
 * callgrind count them. Through public headers and the shared library, as users have them.
 */
#include <guestmem/guestmem.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define TIMES 1000u
#define RANGES 64u
#define STRIDE 0x200000ull
#define RANGE_BYTES 0x10000ull
#define DEVICE_GPA (RANGES * STRIDE) /* where a device's registers are */
#define SLOT_BYTES 0x100000u
#define MIB_BYTES 0x100000ull /* of the first block, for marks of so much */
#define BARS 30u
#define HOLE_START 0xc0000000ull

static const struct gm_attrs nobody;

struct board {
    struct gm_map *map;
    struct gm_space *space;
    struct gm_view *view;
    struct gm_ram *rams[RANGES];
    struct gm_reader reader;
    struct gm_cache cache;
    struct gm_mmu *mmu;
};

/* A PC, of which one BAR is toggled: all BARs are of RAM, or all of registers. */
struct pc {
    struct gm_map *map;
    struct gm_region *root;
    struct gm_region *hole;
    struct gm_region *first_bar;
    struct gm_space *space;
    struct gm_slots *slots;
};

static void need(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "paths: %s\n", what);
        exit(1);
    }
}

/* Ranges in an order that is fixed, and no range twice in a row. */
static uint64_t address(unsigned i)
{
    return i * 37 % RANGES * STRIDE + i % 64 * 8;
}

#define PATH __attribute__((noinline, used)) void

PATH path_find(struct board *board, unsigned times);
PATH path_load(struct board *board, unsigned times);
PATH path_store(struct board *board, unsigned times);
PATH path_logged_store(struct board *board, unsigned times);
PATH path_mark(struct board *board, unsigned times);
PATH path_mark_mib(struct board *board, unsigned times);
PATH path_cache_load(struct board *board, unsigned times);
PATH path_view(struct board *board, unsigned times);
PATH path_reader(struct board *board, unsigned times);
PATH path_read64(struct board *board, unsigned times);
PATH path_write64(struct board *board, unsigned times);
PATH path_callback(struct board *board, unsigned times);
PATH path_map(struct board *board, unsigned times);
PATH path_tlb_hit(struct board *board, unsigned times);
PATH path_toggle_ram(struct pc *pc, unsigned times);
PATH path_toggle_mmio(struct pc *pc, unsigned times);

PATH path_find(struct board *board, unsigned times)
{
    struct gm_section section;

    for (unsigned i = 0; i < times; i++) {
        need(gm_view_find(board->view, address(i), &section), "find");
    }
}

PATH path_load(struct board *board, unsigned times)
{
    uint64_t value;

    for (unsigned i = 0; i < times; i++) {
        need(gm_load(board->space, address(i), 8, GM_ORDER_LITTLE, &value, nobody) == GM_ACCESS_OK,
             "load");
    }
}

PATH path_store(struct board *board, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        need(gm_store(board->space, address(i), 8, GM_ORDER_LITTLE, i, nobody) == GM_ACCESS_OK,
             "store");
    }
}

PATH path_logged_store(struct board *board, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        need(gm_store(board->space, address(i), 8, GM_ORDER_LITTLE, i, nobody) == GM_ACCESS_OK,
             "store");
    }
}

PATH path_mark(struct board *board, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        gm_ram_dirty_mark(board->rams[i % RANGES], 0x1000, 8, 1);
    }
}

PATH path_mark_mib(struct board *board, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        gm_ram_dirty_mark(board->rams[0], 0, 0x100000, 1);
    }
}

PATH path_cache_load(struct board *board, unsigned times)
{
    uint64_t value;

    for (unsigned i = 0; i < times; i++) {
        need(gm_cache_load(&board->cache, i % 512 * 8, 8, GM_ORDER_LITTLE, &value) == GM_ACCESS_OK,
             "load");
    }
}

PATH path_view(struct board *board, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        gm_view_put(gm_view_get(board->space));
    }
}

PATH path_reader(struct board *board, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        need(gm_reader_view(&board->reader) != NULL, "reader");
    }
}

PATH path_read64(struct board *board, unsigned times)
{
    uint8_t data[64];

    for (unsigned i = 0; i < times; i++) {
        need(gm_read(board->space, address(i), data, 64, nobody) == GM_ACCESS_OK, "read");
    }
}

PATH path_write64(struct board *board, unsigned times)
{
    const uint8_t data[64] = {0};

    for (unsigned i = 0; i < times; i++) {
        need(gm_write(board->space, address(i), data, 64, nobody) == GM_ACCESS_OK, "write");
    }
}

PATH path_callback(struct board *board, unsigned times)
{
    uint64_t value;

    for (unsigned i = 0; i < times; i++) {
        need(gm_load(board->space, DEVICE_GPA, 4, GM_ORDER_LITTLE, &value, nobody) == GM_ACCESS_OK,
             "callback");
    }
}

PATH path_map(struct board *board, unsigned times)
{
    struct gm_mapping mapping;

    for (unsigned i = 0; i < times; i++) {
        uint64_t size_bytes = 4096;

        need(gm_map_range(board->space, i % RANGES * STRIDE, &size_bytes, false, nobody,
                          &mapping) == 0,
             "map");
        need(gm_unmap(&mapping, 0) == GM_ACCESS_OK, "unmap");
    }
}

PATH path_tlb_hit(struct board *board, unsigned times)
{
    uint64_t value;

    for (unsigned i = 0; i < times; i++) {
        need(gm_mmu_load(board->mmu, i % 64 * 4096 + 8, 8, &value) == GM_MMU_OK, "load");
    }
}

static void toggle(struct gm_region *bar, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        need(gm_region_set_enabled(bar, i % 2 != 0, NULL) == 0, "toggle");
    }
}

/* All that a commit takes but for the hypervisor's call, which is one that returns at once. */
PATH path_toggle_ram(struct pc *pc, unsigned times)
{
    toggle(pc->first_bar, times);
}

PATH path_toggle_mmio(struct pc *pc, unsigned times)
{
    toggle(pc->first_bar, times);
}

static int take_slot(void *opaque, const struct gm_slot *slot)
{
    (void)opaque;
    return slot->size_bytes != 0 ? 0 : -1;
}

static int take_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    (void)new_flags;
    return take_slot(opaque, slot);
}

static struct gm_region *add(struct pc *pc, struct gm_region *parent,
                             struct gm_region_options options)
{
    struct gm_region *region;

    options.size = sizeof(options);
    need(gm_region_new(pc->map, &options, &region, NULL) == 0, "region");
    need(parent == NULL || gm_region_add(parent, region, NULL) == 0, "add");
    return region;
}

static enum gm_access read_register(void *opaque, uint64_t offset, unsigned size_bytes,
                                    uint64_t *value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)size_bytes;
    (void)attrs;
    *value = offset;
    return GM_ACCESS_OK;
}

static void add_device(struct board *board, struct gm_region *root)
{
    struct gm_io_ops io = {.size = sizeof(io), .read = read_register};
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_MMIO,
                                        .size_bytes = 0x1000,
                                        .addr = DEVICE_GPA,
                                        .io = &io};
    struct gm_region *region;

    need(gm_region_new(board->map, &options, &region, NULL) == 0 &&
             gm_region_add(root, region, NULL) == 0,
         "device");
}

static enum gm_access write_register(void *opaque, uint64_t offset, unsigned size_bytes,
                                     uint64_t value, struct gm_attrs attrs)
{
    return read_register(opaque, offset, size_bytes, &value, attrs);
}

static struct gm_region_options bar_options(unsigned i, bool is_ram)
{
    static const struct gm_io_ops REGISTERS = {
        .size = sizeof(REGISTERS), .read = read_register, .write = write_register};
    struct gm_region_options options = {.kind = is_ram ? GM_REGION_RAM : GM_REGION_MMIO,
                                        .size_bytes = RANGE_BYTES,
                                        .addr = i * STRIDE};

    options.io = is_ram ? NULL : &REGISTERS;
    if (is_ram) {
        need(gm_ram_new_unbacked(RANGE_BYTES, NULL, &options.ram, NULL) == 0, "RAM");
    }
    return options;
}

/* Each device is a bus master as well. With RAM BARs there are slots, of a hypervisor that does nothing. */
static void set_up_pc(struct pc *pc, bool has_ram)
{
    static const struct gm_backend_ops NOTHING = {.size = sizeof(NOTHING),
                                                  .create = take_slot,
                                                  .destroy = take_slot,
                                                  .set_flags = take_flags};
    const struct gm_backend_options backend = {.size = sizeof(backend)};
    const struct gm_region_options whole = {.kind = GM_REGION_CONTAINER,
                                            .size_bytes = GM_SIZE_2_64};

    need(gm_map_new(NULL, &pc->map, NULL) == 0, "map");
    pc->root = add(pc, NULL, whole);
    pc->hole = add(pc, pc->root,
                   (struct gm_region_options){
                       .kind = GM_REGION_CONTAINER, .size_bytes = 0x20000000, .addr = HOLE_START});
    need(gm_space_new(pc->map, "memory", pc->root, &pc->space, NULL) == 0, "space");
    for (unsigned i = 0; i < BARS; i++) {
        struct gm_region *bar = add(pc, pc->hole, bar_options(i, has_ram));
        struct gm_region *master = add(pc, NULL, whole);
        struct gm_space *space;

        pc->first_bar = i == 0 ? bar : pc->first_bar;
        add(pc, master,
            (struct gm_region_options){
                .kind = GM_REGION_ALIAS, .size_bytes = GM_SIZE_2_64, .target = pc->root});
        need(gm_space_new(pc->map, "device", master, &space, NULL) == 0, "space");
    }
    if (has_ram) {
        need(gm_slots_attach(pc->space, &backend, &NOTHING, NULL, &pc->slots, NULL) == 0, "slots");
    }
    toggle(pc->first_bar, 4);
}

static void set_up(struct board *board)
{
    struct gm_soft_slot slot = {.size_bytes = SLOT_BYTES};
    struct gm_region *root;
    struct gm_soft *soft = NULL;
    struct gm_soft_vcpu *vcpu = NULL;

    need(gm_map_new(NULL, &board->map, NULL) == 0, "map");
    need(gm_region_new_container(board->map, "root", GM_SIZE_2_64, &root) == 0, "root");
    for (unsigned i = 0; i < RANGES; i++) {
        struct gm_region *region;

        need(gm_ram_new_anon(i == 0 ? MIB_BYTES : RANGE_BYTES, NULL, &board->rams[i], NULL) == 0,
             "RAM");
        need(gm_region_new_ram(board->map, "ram", board->rams[i], &region) == 0, "region");
        need(gm_region_add(root, region, NULL) == 0 &&
                 gm_region_set_addr(region, i * STRIDE, NULL) == 0,
             "add");
    }
    add_device(board, root);
    need(gm_space_new(board->map, "memory", root, &board->space, NULL) == 0, "space");
    board->view = gm_view_get(board->space);
    gm_reader_init(&board->reader, board->space);
    need(gm_cache_init(&board->cache, board->space, 0, 4096, false, nobody) == 0, "cache");
    slot.hva = (uintptr_t)mmap(NULL, SLOT_BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    need(gm_soft_open(NULL, &soft, NULL) == 0 && gm_soft_set_slots(soft, &slot, 1, NULL) == 0 &&
             gm_soft_vcpu_new(soft, 0, &vcpu) == 0,
         "software VM");
    board->mmu = gm_soft_vcpu_mmu(vcpu);
    need(gm_mmu_enter(board->mmu) == GM_MMU_OK, "enter");
}

/* What callgrind counts starts after one turn of each: with symbols bound, records and TLB there. */
static void warm_up(struct board *board)
{
    uint64_t value;
    struct gm_section section;
    struct gm_mapping mapping;
    uint64_t size_bytes = 4096;

    need(gm_view_find(board->view, 0, &section), "find");
    need(gm_load(board->space, 0, 8, GM_ORDER_LITTLE, &value, nobody) == GM_ACCESS_OK, "load");
    need(gm_store(board->space, 0, 8, GM_ORDER_LITTLE, 0, nobody) == GM_ACCESS_OK, "store");
    need(gm_cache_load(&board->cache, 0, 8, GM_ORDER_LITTLE, &value) == GM_ACCESS_OK, "cache");
    need(gm_map_range(board->space, 0, &size_bytes, false, nobody, &mapping) == 0 &&
             gm_unmap(&mapping, 0) == GM_ACCESS_OK,
         "map");
    gm_view_put(gm_view_get(board->space));
    for (unsigned page = 0; page < 64; page++) {
        need(gm_mmu_load(board->mmu, page * 4096, 8, &value) == GM_MMU_OK, "TLB");
    }
}

int main(void)
{
    static struct board board;
    static struct pc ram_pc;
    static struct pc mmio_pc;

    set_up(&board);
    warm_up(&board);
    set_up_pc(&ram_pc, true);
    set_up_pc(&mmio_pc, false);
    path_find(&board, TIMES);
    path_load(&board, TIMES);
    path_store(&board, TIMES);
    path_cache_load(&board, TIMES);
    path_read64(&board, TIMES);
    path_write64(&board, TIMES);
    path_callback(&board, TIMES);
    path_view(&board, TIMES);
    path_reader(&board, TIMES);
    path_map(&board, TIMES);
    path_tlb_hit(&board, TIMES);
    path_toggle_ram(&ram_pc, TIMES);
    path_toggle_mmio(&mmio_pc, TIMES);
    for (unsigned i = 0; i < RANGES; i++) {
        need(gm_ram_dirty_begin(board.rams[i], 0) == 0, "begin");
        gm_ram_dirty_mark(board.rams[i], 0, 0x100000, 1);
    }
    path_logged_store(&board, TIMES);
    path_mark(&board, TIMES);
    path_mark_mib(&board, TIMES);
    return 0;
}
