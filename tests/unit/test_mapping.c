/* unit/test_mapping.c - guest memory mapped for the host: direct, through IOMMUs, and bounced. */
#include "unit/machine.h"

#include <errno.h>
#include <string.h>

#define PAGE 0x1000u

static bool is_dirty(struct gm_ram *ram, uint64_t page)
{
    struct gm_harvest *harvest;
    uint64_t count;

    assert_int_equal(gm_harvest_begin(ram, 0, page * PAGE, PAGE, &harvest), 0);
    count = gm_harvest_page_count(harvest);
    gm_harvest_commit(harvest);
    return count != 0;
}

/* Map and check how much that gave. */
static struct gm_mapping map_of(struct machine *machine, uint64_t gpa, uint64_t wanted,
                                bool is_write, uint64_t expected)
{
    struct gm_mapping mapping;
    uint64_t size = wanted;

    assert_int_equal(gm_map_range(machine->space, gpa, &size, is_write, no_attrs, &mapping), 0);
    assert_int_equal(size, expected);
    assert_int_equal(mapping.size_bytes, expected);
    return mapping;
}

static void assert_refused(struct machine *machine, uint64_t gpa, bool is_write, int error)
{
    struct gm_mapping mapping;
    uint64_t size = 16;

    assert_int_equal(gm_map_range(machine->space, gpa, &size, is_write, no_attrs, &mapping), error);
    assert_int_equal(size, 16);
    assert_int_equal(gm_unmap(&mapping, 16), 0); /* harmless */
}

static void mapping_of_ram_is_its_host_memory(void **state)
{
    /*
     * As far as it is contiguous; what was written becomes dirty when it ends, what was read does
     * not.
     */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(16 * PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    struct gm_mapping mapping;

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0x10000, 8 * PAGE, ram, 4 * PAGE);
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    mapping = map_of(&machine, 0x10010, 2 * PAGE, true, 2 * PAGE);
    assert_ptr_equal(mapping.data, memory + 4 * PAGE + 0x10);
    memset(mapping.data, 0x61, PAGE);
    assert_false(is_dirty(ram, 4));
    assert_int_equal(gm_unmap(&mapping, PAGE), 0);
    assert_true(is_dirty(ram, 4));
    assert_true(is_dirty(ram, 5));
    assert_false(is_dirty(ram, 6));
    mapping = map_of(&machine, 0x10000 + 7 * PAGE, 100 * PAGE, false, PAGE);
    assert_ptr_equal(mapping.data, memory + 11 * PAGE);
    assert_int_equal(gm_unmap(&mapping, PAGE), 0);
    assert_false(is_dirty(ram, 11));
    mapping = map_of(&machine, 0x10000, PAGE, true, PAGE);
    assert_int_equal(gm_unmap(&mapping, 0), 0);
    assert_false(is_dirty(ram, 4));
    mapping = map_of(&machine, 0x10000, 8, true, 8);
    assert_int_equal(gm_unmap(&mapping, UINT64_MAX), 0); /* no more than was mapped */
    assert_true(is_dirty(ram, 4));
    assert_false(is_dirty(ram, 5));
    machine_free(&machine);
    gm_ram_put(ram);
}

static void mapping_goes_on_into_ranges_that_follow_in_the_same_block(void **state)
{
    /*
     * Over a region's end into the next one, but not into another block, or a gap in host memory.
     */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(8 * PAGE);
    struct gm_ram *other = new_ram(PAGE);
    struct gm_mapping mapping;

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    add_memory(&machine, GM_REGION_RAM, PAGE, PAGE, ram, PAGE);
    add_memory(&machine, GM_REGION_ROM, 2 * PAGE, PAGE, ram, 2 * PAGE);
    add_memory(&machine, GM_REGION_RAM, 3 * PAGE, PAGE, ram, 4 * PAGE);
    add_memory(&machine, GM_REGION_RAM, 4 * PAGE, PAGE, other, 0);
    mapping = map_of(&machine, 0, 8 * PAGE, true, 2 * PAGE);
    assert_int_equal(gm_unmap(&mapping, 0), 0);
    mapping = map_of(&machine, 0, 8 * PAGE, false, 3 * PAGE);
    assert_int_equal(gm_unmap(&mapping, 0), 0);
    mapping = map_of(&machine, 3 * PAGE, 8 * PAGE, false, PAGE);
    assert_int_equal(gm_unmap(&mapping, 0), 0);
    machine_free(&machine);
    gm_ram_put(ram);
    gm_ram_put(other);
}

static void mapping_keeps_memory_alive_that_is_removed_meanwhile(void **state)
{
    /*
     * The region goes, its owner drops the block, the space ends: the memory is there until the
     * unmap.
     */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct gm_region *region = add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    struct gm_mapping mapping = map_of(&machine, 0, PAGE, true, PAGE);

    (void)state;
    gm_ram_put(ram);
    assert_int_equal(gm_region_del(machine.root, region, NULL), 0);
    gm_map_quiesce(machine.map);
    memset(mapping.data, 0x12, PAGE);
    machine_free(&machine);
    memset(mapping.data, 0x13, PAGE);
    assert_int_equal(gm_unmap(&mapping, PAGE), 0);
}

/* ---- bouncing ---- */

struct port {
    uint8_t bytes[0x100];
    enum gm_access answer;
    unsigned writes;
};

static enum gm_access port_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                                struct gm_attrs attrs)
{
    struct port *port = opaque;

    (void)attrs;
    *value = 0;
    for (unsigned i = 0; i < size_bytes; i++) {
        *value |= (uint64_t)port->bytes[(offset + i) % 0x100] << 8 * i;
    }
    return port->answer;
}

static enum gm_access port_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                                 struct gm_attrs attrs)
{
    struct port *port = opaque;

    (void)attrs;
    port->writes++;
    for (unsigned i = 0; i < size_bytes; i++) {
        port->bytes[(offset + i) % 0x100] = (uint8_t)(value >> 8 * i);
    }
    return port->answer;
}

static const struct gm_io_ops port_ops = {
    .size = sizeof(struct gm_io_ops), .read = port_read, .write = port_write};

static void mapping_of_device_is_read_first_or_written_back(void **state)
{
    /* Only the bytes that were accessed are written back; a device's failure is reported. */
    struct machine machine = machine_new();
    struct port port = {.bytes = {1, 2, 3, 4, 5, 6, 7, 8}};
    struct gm_mapping mapping;

    (void)state;
    add_mmio(&machine, 0x1000, 0x100, &port_ops, &port);
    mapping = map_of(&machine, 0x1002, 4, false, 4);
    assert_memory_equal(mapping.data, "\3\4\5\6", 4);
    assert_int_equal(gm_unmap(&mapping, 4), 0);
    assert_int_equal(port.writes, 0);
    mapping = map_of(&machine, 0x1000, 0x1000, true, 0x100);
    assert_memory_equal(mapping.data, "\0\0\0\0", 4); /* not what our memory held before */
    memset(mapping.data, 0x99, 0x100);
    assert_int_equal(port.bytes[0], 1);
    assert_int_equal(gm_unmap(&mapping, 6), 0);
    assert_memory_equal(port.bytes, "\x99\x99\x99\x99\x99\x99\7\10", 8);
    mapping = map_of(&machine, 0x1000, 8, true, 8);
    port.answer = GM_ACCESS_DEVICE;
    assert_int_equal(gm_unmap(&mapping, 8), GM_ACCESS_DEVICE);
    machine_free(&machine);
}

static void mapping_bounces_at_most_64_kib_of_a_space_at_a_time(void **state)
{
    /* The last one gets less, then there is nothing until one ends; another space has its own. */
    struct machine machine = machine_new();
    struct gm_space *other;
    struct port port = {0};
    struct gm_mapping mappings[3];
    struct gm_mapping elsewhere;
    uint64_t size = 0x10000;

    (void)state;
    add_mmio(&machine, 0, 0x100000, &port_ops, &port);
    assert_int_equal(gm_space_new(machine.map, "dma", machine.root, &other, NULL), 0);
    mappings[0] = map_of(&machine, 0, 0x6000, true, 0x6000);
    mappings[1] = map_of(&machine, 0, 0x6000, true, 0x6000);
    mappings[2] = map_of(&machine, 0, 0x6000, true, 0x4000);
    assert_refused(&machine, 0, true, -EAGAIN);
    assert_int_equal(gm_map_range(other, 0, &size, true, no_attrs, &elsewhere), 0);
    assert_int_equal(size, GM_BOUNCE_BYTES);
    assert_int_equal(gm_unmap(&mappings[1], 0), 0);
    mappings[1] = map_of(&machine, 0, 0x100000, false, 0x6000);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(gm_unmap(&mappings[i], 0), 0);
    }
    assert_int_equal(gm_unmap(&elsewhere, 0), 0);
    mappings[0] = map_of(&machine, 0, 0x100000, true, GM_BOUNCE_BYTES);
    assert_int_equal(gm_unmap(&mappings[0], 0), 0);
    assert_int_equal(gm_space_free(other, NULL), 0);
    machine_free(&machine);
}

static void mapping_bounce_outlives_the_space(void **state)
{
    /*
     * Freed while mapped: the write back is an error of decoding, or ends normally, but no crash.
     */
    struct machine machine = machine_new();
    struct port port = {0};
    struct gm_space *space;
    struct gm_mapping mapping;
    uint64_t size = 8;

    (void)state;
    add_mmio(&machine, 0, 0x100, &port_ops, &port);
    assert_int_equal(gm_space_new(machine.map, "dma", machine.root, &space, NULL), 0);
    assert_int_equal(gm_map_range(space, 0, &size, true, no_attrs, &mapping), 0);
    assert_int_equal(gm_space_free(space, NULL), 0);
    gm_map_quiesce(machine.map);
    assert_int_equal(gm_unmap(&mapping, 8), GM_ACCESS_DECODE);
    assert_int_equal(port.writes, 0);
    machine_free(&machine);
}

static void mapping_of_ram_device_and_unbacked_ram_is_bounced(void **state)
{
    /* Neither may be copied at will, or is there at all. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct gm_ram *unbacked;
    struct gm_mapping mapping;

    (void)state;
    assert_int_equal(gm_ram_new_unbacked(PAGE, NULL, &unbacked, NULL), 0);
    assert_int_equal(gm_ram_dirty_begin(unbacked, 0), 0);
    add_memory(&machine, GM_REGION_RAM_DEVICE, 0, PAGE, ram, 0);
    add_memory(&machine, GM_REGION_RAM, PAGE, PAGE, unbacked, 0);
    mapping = map_of(&machine, 8, 2 * PAGE, true, PAGE - 8);
    assert_ptr_not_equal(mapping.data, (uint8_t *)gm_ram_hva(ram) + 8);
    memset(mapping.data, 0x42, 16);
    assert_int_equal(gm_unmap(&mapping, 16), 0);
    assert_int_equal(((uint8_t *)gm_ram_hva(ram))[8], 0x42);
    assert_int_equal(((uint8_t *)gm_ram_hva(ram))[24], 0);
    mapping = map_of(&machine, PAGE, 8, false, 8);
    assert_memory_equal(mapping.data, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(gm_unmap(&mapping, 8), 0);
    assert_false(is_dirty(unbacked, 0));
    mapping = map_of(&machine, PAGE, 8, true, 8);
    assert_int_equal(gm_unmap(&mapping, 8), 0);
    assert_true(is_dirty(unbacked, 0));
    machine_free(&machine);
    gm_ram_put(ram);
    gm_ram_put(unbacked);
}

static void mapping_of_nothing_or_of_rom_for_writing_is_refused(void **state)
{
    /* Holes, reservations, read-only memory, a device that fails to be read, no size. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct port port = {.answer = GM_ACCESS_DEVICE};
    struct gm_mapping mapping;
    uint64_t size = 0;

    (void)state;
    add_memory(&machine, GM_REGION_ROM, 0, PAGE, ram, 0);
    add_region(&machine, PAGE,
               (struct gm_region_options){.kind = GM_REGION_RESERVATION, .size_bytes = PAGE});
    add_mmio(&machine, 2 * PAGE, 0x100, &port_ops, &port);
    assert_refused(&machine, 0, true, -EFAULT);
    assert_refused(&machine, PAGE, false, -EFAULT);
    assert_refused(&machine, PAGE, true, -EFAULT);
    assert_refused(&machine, 2 * PAGE, false, -EFAULT);
    assert_refused(&machine, 3 * PAGE, false, -EFAULT);
    mapping = map_of(&machine, 0, PAGE, false, PAGE);
    assert_ptr_equal(mapping.data, gm_ram_hva(ram));
    assert_int_equal(gm_unmap(&mapping, PAGE), 0);
    assert_int_equal(gm_map_range(machine.space, 0, &size, false, no_attrs, &mapping), -EINVAL);
    machine_free(&machine);
    gm_ram_put(ram);
}

/* ---- without memory ---- */

static void *failing_alloc(void *opaque, size_t size_bytes)
{
    return *(bool *)opaque ? NULL : malloc(size_bytes);
}

static void failing_free(void *opaque, void *memory)
{
    (void)opaque;
    free(memory);
}

static void mapping_without_memory_for_a_bounce_buffer_fails_and_takes_no_budget(void **state)
{
    /* Afterwards the whole budget is there; RAM needs no memory to be mapped. */
    static bool fails;
    struct gm_allocator allocator = {failing_alloc, failing_free, &fails};
    struct gm_map_options options = {.size = sizeof(options), .allocator = &allocator};
    struct machine machine = machine_new_with(&options);
    struct gm_ram *ram = new_ram(PAGE);
    struct port port = {0};
    struct gm_mapping mapping;

    (void)state;
    add_mmio(&machine, 0x100000, 0x100000, &port_ops, &port);
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    fails = true;
    assert_refused(&machine, 0x100000, true, -ENOMEM);
    mapping = map_of(&machine, 0, PAGE, true, PAGE);
    assert_int_equal(gm_unmap(&mapping, 0), 0);
    fails = false;
    mapping = map_of(&machine, 0x100000, GM_BOUNCE_BYTES, true, GM_BOUNCE_BYTES);
    assert_int_equal(gm_unmap(&mapping, 0), 0);
    machine_free(&machine);
    gm_ram_put(ram);
}

/* ---- through an IOMMU ---- */

struct iommu {
    struct gm_space *target;
    uint64_t pages[8]; /* page there of each page here; UINT64_MAX: not mapped */
};

static void iommu_translate(void *opaque, const struct gm_iommu_request *request,
                            struct gm_iommu_entry *entry)
{
    struct iommu *iommu = opaque;
    uint64_t page = iommu->pages[request->offset / PAGE % 8];

    entry->space = page != UINT64_MAX ? iommu->target : NULL;
    entry->translated = page * PAGE;
    entry->page_mask = PAGE - 1;
    entry->can_read = true;
    entry->can_write = true;
}

static const struct gm_iommu_ops iommu_ops = {.size = sizeof(struct gm_iommu_ops),
                                              .translate = iommu_translate};

static void mapping_through_iommu_is_host_memory_while_pages_follow_each_other(void **state)
{
    /* Three pages in a row, then one elsewhere, then a device, then none. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(8 * PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    struct port port = {.bytes = {9, 8, 7}};
    struct iommu iommu = {.target = machine.space, .pages = {4, 5, 6, 1, 8, UINT64_MAX, 0, 0}};
    struct gm_mapping mapping;

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, 8 * PAGE, ram, 0);
    add_mmio(&machine, 8 * PAGE, PAGE, &port_ops, &port);
    add_region(&machine, 0x100000,
               (struct gm_region_options){.kind = GM_REGION_IOMMU,
                                          .size_bytes = 8 * PAGE,
                                          .iommu = &iommu_ops,
                                          .opaque = &iommu});
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    mapping = map_of(&machine, 0x100000 + 0x10, 8 * PAGE - 0x10, true, 3 * PAGE - 0x10);
    assert_ptr_equal(mapping.data, memory + 4 * PAGE + 0x10);
    assert_int_equal(gm_unmap(&mapping, PAGE), 0);
    for (uint64_t page = 0; page < 8; page++) {
        assert_int_equal(is_dirty(ram, page), page == 4 || page == 5);
    }
    mapping = map_of(&machine, 0x100000 + 3 * PAGE, 8 * PAGE, false, PAGE);
    assert_ptr_equal(mapping.data, memory + PAGE);
    assert_int_equal(gm_unmap(&mapping, PAGE), 0);
    mapping = map_of(&machine, 0x100000 + 4 * PAGE, 8 * PAGE, false, PAGE);
    assert_memory_equal(mapping.data, "\x9\x8\x7", 3);
    assert_int_equal(gm_unmap(&mapping, PAGE), 0);
    assert_refused(&machine, 0x100000 + 5 * PAGE, true, -EFAULT);
    machine_free(&machine);
    gm_ram_put(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mapping_of_ram_is_its_host_memory),
        cmocka_unit_test(mapping_goes_on_into_ranges_that_follow_in_the_same_block),
        cmocka_unit_test(mapping_keeps_memory_alive_that_is_removed_meanwhile),
        cmocka_unit_test(mapping_of_device_is_read_first_or_written_back),
        cmocka_unit_test(mapping_bounces_at_most_64_kib_of_a_space_at_a_time),
        cmocka_unit_test(mapping_bounce_outlives_the_space),
        cmocka_unit_test(mapping_of_ram_device_and_unbacked_ram_is_bounced),
        cmocka_unit_test(mapping_of_nothing_or_of_rom_for_writing_is_refused),
        cmocka_unit_test(mapping_without_memory_for_a_bounce_buffer_fails_and_takes_no_budget),
        cmocka_unit_test(mapping_through_iommu_is_host_memory_while_pages_follow_each_other),
    };

    return cmocka_run_group_tests_name("mapping", tests, NULL, NULL);
}
