/* unit/test_cache.c - cached translations, readers' views, and finding a guest address for a host address. */
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

static struct gm_cache cache_of(struct machine *machine, uint64_t gpa, uint64_t size, bool is_write)
{
    struct gm_cache cache;

    assert_int_equal(gm_cache_init(&cache, machine->space, gpa, size, is_write, no_attrs), 0);
    return cache;
}

/* ---- caches ---- */

static void cache_of_ram_loads_stores_reads_and_writes_it(void **state)
{
    /* All orders and sizes, at its offset, and what is stored is dirty. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(4 * PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    struct gm_cache cache;
    uint64_t value;
    uint8_t data[8];

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0x10000, 3 * PAGE, ram, PAGE);
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    cache = cache_of(&machine, 0x10000 + PAGE - 8, 16, true);
    memcpy(memory + 2 * PAGE - 8, "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20", 16);
    assert_int_equal(gm_cache_load(&cache, 1, 4, GM_ORDER_LITTLE, &value), 0);
    assert_int_equal(value, 0x05040302);
    assert_int_equal(gm_cache_load(&cache, 8, 8, GM_ORDER_BIG, &value), 0);
    assert_int_equal(value, 0x090a0b0c0d0e0f10);
    assert_int_equal(gm_cache_read(&cache, 6, data, 4), 0);
    assert_memory_equal(data, "\7\10\11\12", 4);
    assert_false(is_dirty(ram, 1));
    assert_int_equal(gm_cache_store(&cache, 0, 2, GM_ORDER_BIG, 0xa1a2), 0);
    assert_memory_equal(memory + 2 * PAGE - 8, "\xa1\xa2\3", 3);
    assert_true(is_dirty(ram, 1));
    assert_false(is_dirty(ram, 2));
    assert_int_equal(gm_cache_write(&cache, 7, "\xf1\xf2", 2), 0);
    assert_memory_equal(memory + 2 * PAGE - 2, "\7\xf1\xf2\12", 4);
    assert_true(is_dirty(ram, 1));
    assert_true(is_dirty(ram, 2));
    gm_cache_fini(&cache);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void cache_offsets_past_its_size_are_decode_errors(void **state)
{
    /* And change nothing; sizes that are none are too. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct gm_cache cache;
    uint64_t value = 5;
    uint8_t data[8] = {1, 1, 1, 1, 1, 1, 1, 1};

    (void)state;
    memset(gm_ram_hva(ram), 0xff, PAGE);
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    cache = cache_of(&machine, 0, 16, true);
    assert_int_equal(gm_cache_read(&cache, 9, data, 8), GM_ACCESS_DECODE);
    assert_int_equal(data[0], 0);
    assert_int_equal(gm_cache_read(&cache, UINT64_MAX, data, 8), GM_ACCESS_DECODE);
    assert_int_equal(gm_cache_write(&cache, 16, data, 1), GM_ACCESS_DECODE);
    assert_int_equal(gm_cache_load(&cache, 13, 4, GM_ORDER_LITTLE, &value), GM_ACCESS_DECODE);
    assert_int_equal(value, 0);
    assert_int_equal(gm_cache_load(&cache, 0, 3, GM_ORDER_LITTLE, &value), GM_ACCESS_DECODE);
    assert_int_equal(gm_cache_store(&cache, UINT64_MAX - 1, 4, GM_ORDER_LITTLE, 0),
                     GM_ACCESS_DECODE);
    assert_int_equal(gm_cache_store(&cache, 0, 5, GM_ORDER_LITTLE, 0), GM_ACCESS_DECODE);
    assert_int_equal(((uint8_t *)gm_ram_hva(ram))[0], 0xff);
    assert_int_equal(gm_cache_load(&cache, 12, 4, GM_ORDER_LITTLE, &value), 0);
    assert_int_equal(value, 0xffffffff);
    assert_int_equal(gm_cache_read(&cache, 16, data, 0), 0);
    gm_cache_fini(&cache);
    assert_int_equal(gm_cache_init(&cache, machine.space, 0, 0, true, no_attrs), -EINVAL);
    assert_int_equal(gm_cache_init(&cache, machine.space, UINT64_MAX, 2, true, no_attrs), -EINVAL);
    assert_int_equal(gm_cache_init(&cache, machine.space, UINT64_MAX, 1, true, no_attrs), 0);
    gm_cache_fini(&cache);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void cache_follows_what_is_committed(void **state)
{
    /*
     * RAM gives way to other RAM, to ROM, to nothing, and comes back; the cache's old view does not
     * stay.
     */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct gm_ram *other = new_ram(PAGE);
    struct gm_region *region;
    struct gm_cache cache;
    uint64_t value;

    (void)state;
    memset(gm_ram_hva(ram), 0x11, PAGE);
    memset(gm_ram_hva(other), 0x22, PAGE);
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    cache = cache_of(&machine, 0x100, 0x100, true);
    assert_int_equal(gm_cache_load(&cache, 0, 1, GM_ORDER_LITTLE, &value), 0);
    assert_int_equal(value, 0x11);
    region = add_memory(&machine, GM_REGION_RAM, 0, PAGE, other, 0);
    assert_int_equal(gm_cache_load(&cache, 0, 1, GM_ORDER_LITTLE, &value), 0);
    assert_int_equal(value, 0x22);
    assert_int_equal(gm_region_del(machine.root, region, NULL), 0);
    assert_int_equal(gm_cache_store(&cache, 4, 4, GM_ORDER_LITTLE, 0x33), 0);
    assert_int_equal(((uint8_t *)gm_ram_hva(ram))[0x104], 0x33);
    region = add_memory(&machine, GM_REGION_ROM, 0, PAGE, other, 0);
    assert_int_equal(gm_cache_store(&cache, 0, 1, GM_ORDER_LITTLE, 1), GM_ACCESS_DENIED);
    assert_int_equal(gm_cache_load(&cache, 0, 1, GM_ORDER_LITTLE, &value), 0);
    assert_int_equal(value, 0x22);
    assert_int_equal(gm_region_del(machine.root, region, NULL), 0);
    add_region(&machine, 0x180,
               (struct gm_region_options){.kind = GM_REGION_RESERVATION, .size_bytes = 1});
    assert_int_equal(gm_cache_load(&cache, 0x80, 1, GM_ORDER_LITTLE, &value), GM_ACCESS_DECODE);
    assert_int_equal(gm_cache_load(&cache, 0, 1, GM_ORDER_LITTLE, &value), 0);
    assert_int_equal(value, 0x11);
    gm_cache_fini(&cache);
    machine_free(&machine);
    gm_ram_put(ram);
    gm_ram_put(other);
}

/* Is the next load, or store, done without a call? */
static bool is_inline(const struct gm_cache *cache)
{
    return cache->load_offsets != 0 && cache->changes_seen == *cache->changes;
}

static void cache_inline_does_what_it_does_out_of_line(void **state)
{
    /* At each offset, in each size, order and kind of guest: values, outcomes, bytes, and what is dirty. */
    static const enum gm_order orders[] = {GM_ORDER_LITTLE, GM_ORDER_BIG, GM_ORDER_GUEST};
    const uint64_t number = 0x8899aabbccddeeff;
    uint8_t before[PAGE];

    (void)state;
    for (size_t i = 0; i < PAGE; i++) {
        before[i] = (uint8_t)(i * 7);
    }
    for (unsigned variant = 0; variant < 6; variant++) {
        struct gm_map_options options = {.size = sizeof(options), .guest_big_endian = variant > 2};
        enum gm_order order = orders[variant % 3];
        struct machine machine = machine_new_with(&options);
        struct gm_ram *ram = new_ram(PAGE);
        uint8_t *memory = gm_ram_hva(ram);
        struct gm_cache cache;
        struct gm_cache slow;

        add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
        cache = cache_of(&machine, 0x101, 21, true);
        slow = cache_of(&machine, 0x101, 21, true);
        assert_int_equal(gm_cache_store(&cache, 0, 1, order, 0), 0);
        assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
        for (unsigned size = 1; size <= 8; size *= 2) {
            for (uint64_t offset = 0; offset < 23; offset++) {
                uint64_t fast_value = 1;
                uint64_t value = 2;
                uint8_t stored[PAGE];
                enum gm_access fast;
                bool was_dirty;

                memcpy(memory, before, PAGE);
                assert_true(is_inline(&cache));
                fast = gm_cache_load(&cache, offset, size, order, &fast_value);
                assert_int_equal(fast, gm_cache_load_slow(&slow, offset, size, order, &value));
                assert_int_equal(fast, offset + size <= 21 ? GM_ACCESS_OK : GM_ACCESS_DECODE);
                assert_int_equal(fast_value, value);
                (void)is_dirty(ram, 0);
                fast = gm_cache_store(&cache, offset, size, order, number);
                was_dirty = is_dirty(ram, 0);
                memcpy(stored, memory, PAGE);
                memcpy(memory, before, PAGE);
                assert_int_equal(fast, gm_cache_store_slow(&slow, offset, size, order, number));
                assert_memory_equal(stored, memory, PAGE);
                assert_int_equal(was_dirty, is_dirty(ram, 0));
                assert_int_equal(was_dirty, fast == GM_ACCESS_OK);
            }
        }
        /* By hand, in the same steps. */
        assert_true(gm_cache_enter(&cache, 8, 4, cache.store_offsets));
        gm_host_store(cache.memory + 8, 7, 4);
        gm_cache_mark(&cache, 8, 4);
        gm_cache_leave(cache.inside);
        assert_int_equal(memory[0x109], 7);
        assert_true(is_dirty(ram, 0));
        gm_cache_fini(&cache);
        gm_cache_fini(&slow);
        machine_free(&machine);
        gm_ram_put(ram);
    }
}

static void cache_is_used_out_of_line_once_after_a_commit(void **state)
{
    /* Whatever the commit was about; and always, if it is short, of no RAM, or may not be written. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct gm_cache cache;
    struct gm_cache reader;
    struct gm_cache shorter;
    uint64_t value;

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    cache = cache_of(&machine, 0, 8, true);
    reader = cache_of(&machine, 0, 8, false);
    shorter = cache_of(&machine, 0, 7, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(is_inline(&cache));
        assert_int_equal(gm_cache_load(&cache, 0, 8, GM_ORDER_LITTLE, &value), 0);
        assert_true(is_inline(&cache));
        assert_int_equal(gm_cache_load(&reader, 0, 8, GM_ORDER_LITTLE, &value), 0);
        assert_true(is_inline(&reader));
        assert_int_equal(reader.store_offsets, 0);
        assert_int_equal(gm_cache_load(&shorter, 5, 2, GM_ORDER_LITTLE, &value), 0);
        assert_false(is_inline(&shorter));
        add_region(&machine, 0x10000 * (i + 1),
                   (struct gm_region_options){.kind = GM_REGION_RESERVATION, .size_bytes = 1});
    }
    add_region(&machine, 4,
               (struct gm_region_options){.kind = GM_REGION_RESERVATION, .size_bytes = 1});
    assert_int_equal(gm_cache_load(&cache, 0, 8, GM_ORDER_LITTLE, &value), GM_ACCESS_DECODE);
    assert_int_equal(gm_cache_load(&cache, 0, 8, GM_ORDER_LITTLE, &value), GM_ACCESS_DECODE);
    assert_false(is_inline(&cache));
    gm_cache_fini(&cache);
    gm_cache_fini(&reader);
    gm_cache_fini(&shorter);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void cache_slots_are_each_readers_own(void **state)
{
    /* More than fit in one piece of memory; and when they were given back once. */
    enum { CACHES = 100 };
    static struct gm_cache caches[CACHES];
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < CACHES; i++) {
            caches[i] = cache_of(&machine, 8 * i, 8, true);
            for (unsigned j = 0; j < i; j++) {
                assert_ptr_not_equal(caches[i].inside, caches[j].inside);
            }
        }
        for (unsigned i = 0; i < CACHES; i++) {
            gm_cache_fini(&caches[i]);
        }
    }
    machine_free(&machine);
    gm_ram_put(ram);
}

static enum gm_access count_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                 uint64_t *value, struct gm_attrs attrs)
{
    (void)size_bytes;
    (void)attrs;
    (*(unsigned *)opaque)++;
    *value = offset;
    return GM_ACCESS_OK;
}

static void cache_of_a_device_makes_ordinary_accesses(void **state)
{
    /* One callback each, with its offset. */
    struct machine machine = machine_new();
    struct gm_io_ops ops = {.size = sizeof(ops), .read = count_read};
    unsigned reads = 0;
    struct gm_cache cache;
    uint64_t value;

    (void)state;
    add_mmio(&machine, 0x1000, 0x100, &ops, &reads);
    cache = cache_of(&machine, 0x1010, 0x10, false);
    assert_int_equal(gm_cache_load(&cache, 4, 4, GM_ORDER_LITTLE, &value), 0);
    assert_int_equal(value, 0x14);
    assert_int_equal(reads, 1);
    assert_int_equal(gm_cache_store(&cache, 4, 4, GM_ORDER_LITTLE, 1), GM_ACCESS_DECODE);
    gm_cache_fini(&cache);
    machine_free(&machine);
}

static void released_by(void *opaque)
{
    *(bool *)opaque = true;
}

static void cache_keeps_its_view_until_it_is_used_again_or_ended(void **state)
{
    /* A region that only the cache's old view shows lives until then. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    bool released = false;
    struct gm_region *region = add_region(&machine, 0,
                                          (struct gm_region_options){.kind = GM_REGION_RAM,
                                                                     .size_bytes = PAGE,
                                                                     .ram = ram,
                                                                     .opaque = &released,
                                                                     .release = released_by});
    struct gm_cache cache = cache_of(&machine, 0, 0x100, true);
    uint64_t value;

    (void)state;
    assert_int_equal(gm_region_del(machine.root, region, NULL), 0);
    gm_map_quiesce(machine.map);
    assert_false(released);
    assert_int_equal(gm_cache_load(&cache, 0, 4, GM_ORDER_LITTLE, &value), GM_ACCESS_DECODE);
    gm_map_quiesce(machine.map);
    assert_true(released);
    gm_cache_fini(&cache);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void cache_over_two_ranges_of_one_block_is_one_piece(void **state)
{
    /* And over two blocks it is ordinary accesses with the same result. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(2 * PAGE);
    struct gm_ram *other = new_ram(PAGE);
    struct gm_cache cache;
    uint64_t value;
    uint8_t data[16];

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    add_memory(&machine, GM_REGION_RAM, PAGE, PAGE, ram, PAGE);
    add_memory(&machine, GM_REGION_RAM, 2 * PAGE, PAGE, other, 0);
    cache = cache_of(&machine, PAGE - 8, 16, true);
    assert_int_equal(gm_cache_store(&cache, 8, 8, GM_ORDER_LITTLE, 0x1234), 0);
    assert_int_equal(gm_load(machine.space, PAGE, 8, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0x1234);
    assert_false(is_dirty(ram, 0));
    assert_true(is_dirty(ram, 1));
    gm_cache_fini(&cache);
    cache = cache_of(&machine, 2 * PAGE - 8, 16, true);
    assert_int_equal(gm_cache_write(&cache, 4, "abcdefgh", 8), 0);
    assert_int_equal(gm_cache_read(&cache, 0, data, 16), 0);
    assert_memory_equal(data + 4, "abcdefgh", 8);
    assert_memory_equal(gm_ram_hva(other), "efgh", 4);
    gm_cache_fini(&cache);
    machine_free(&machine);
    gm_ram_put(ram);
    gm_ram_put(other);
}

/* ---- readers ---- */

static void reader_has_the_newest_view_and_keeps_one_alive(void **state)
{
    /* The same view as gm_view_get() gives, before and after commits; what only its last view shows lives until it is asked again. */
    struct machine machine = machine_new();
    bool released = false;
    struct gm_region *region = add_region(&machine, 0x1000,
                                          (struct gm_region_options){.kind = GM_REGION_RESERVATION,
                                                                     .size_bytes = PAGE,
                                                                     .opaque = &released,
                                                                     .release = released_by});
    struct gm_section section;
    struct gm_reader reader;
    struct gm_view *view;

    (void)state;
    gm_reader_init(&reader, machine.space);
    for (unsigned i = 0; i < 4; i++) {
        view = gm_view_get(machine.space);
        assert_ptr_equal(gm_reader_view(&reader), view);
        assert_ptr_equal(gm_reader_view(&reader), view);
        assert_ptr_equal(gm_reader_view_slow(&reader), view);
        assert_int_equal(gm_view_find(gm_reader_view(&reader), 0x1000, &section), i % 2 == 0);
        gm_view_put(view);
        assert_int_equal(gm_region_set_enabled(region, i % 2 == 1, NULL), 0);
    }
    assert_true(gm_view_find(gm_reader_view(&reader), 0x1000, &section));
    assert_int_equal(gm_region_del(machine.root, region, NULL), 0);
    gm_map_quiesce(machine.map);
    assert_false(released);
    assert_false(gm_view_find(gm_reader_view(&reader), 0x1000, &section));
    gm_map_quiesce(machine.map);
    assert_true(released);
    gm_reader_fini(&reader);
    machine_free(&machine);
}

/* ---- host address to guest address ---- */

static void hva_of_ram_is_found_and_of_nothing_is_not(void **state)
{
    /* First and last byte, both sides of it; the region has a reference. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(4 * PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    struct gm_region *region = add_memory(&machine, GM_REGION_RAM, 0x100000, 2 * PAGE, ram, PAGE);
    struct gm_section section;
    gm_gpa_t gpa;
    int local;

    (void)state;
    assert_int_equal(gm_hva_find(machine.space, &local, &gpa, &section), -ENOENT);
    assert_int_equal(gm_hva_find(machine.space, memory + PAGE - 1, &gpa, &section), -ENOENT);
    assert_int_equal(gm_hva_find(machine.space, memory + 3 * PAGE, &gpa, &section), -ENOENT);
    assert_int_equal(gm_hva_find(machine.space, memory + 3 * PAGE - 1, &gpa, &section), 0);
    assert_int_equal(gpa, 0x100000 + 2 * PAGE - 1);
    assert_ptr_equal(section.region, region);
    assert_ptr_equal(section.space, machine.space);
    assert_int_equal(section.gpa, 0x100000);
    assert_ptr_equal(section.hva, memory + PAGE);
    assert_int_equal(gm_region_del(machine.root, region, NULL), 0);
    assert_int_equal(gm_region_kind(section.region), GM_REGION_RAM);
    gm_region_put(section.region);
    assert_int_equal(gm_hva_find(machine.space, memory + PAGE, &gpa, &section), -ENOENT);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void hva_of_rom_device_is_found_in_romd_mode_only(void **state)
{
    /* Outside of it the memory is not shown. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct gm_io_ops ops = {.size = sizeof(ops)};
    struct gm_region *region =
        add_region(&machine, 0,
                   (struct gm_region_options){
                       .kind = GM_REGION_ROM_DEVICE, .size_bytes = PAGE, .ram = ram, .io = &ops});
    struct gm_section section;
    struct gm_txn *txn;
    gm_gpa_t gpa;

    (void)state;
    assert_int_equal(gm_hva_find(machine.space, gm_ram_hva(ram), &gpa, &section), 0);
    gm_region_put(section.region);
    assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_romd(txn, region, false), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(gm_hva_find(machine.space, gm_ram_hva(ram), &gpa, &section), -ENOENT);
    machine_free(&machine);
    gm_ram_put(ram);
}

/* The slow model: the first section, going upwards, that shows the byte. */
static bool model_find(struct gm_space *space, const uint8_t *hva, gm_gpa_t *gpa)
{
    struct gm_view *view = gm_view_get(space);
    struct gm_section section;
    bool found = false;

    for (size_t i = 0; !found && gm_view_at(view, i, &section); i++) {
        const uint8_t *first = section.hva;

        if (first != NULL && hva >= first && hva <= first + (section.last - section.gpa)) {
            *gpa = section.gpa + (uint64_t)(hva - first);
            found = true;
        }
    }
    gm_view_put(view);
    return found;
}

static void check_random_hvas(void)
{
    struct machine machine = machine_new();
    struct gm_ram *blocks[2] = {new_ram(2 * PAGE), new_ram(PAGE)};
    unsigned regions = 1 + (unsigned)random_below(60);

    for (unsigned i = 0; i < regions; i++) {
        unsigned block = (unsigned)random_below(2);
        uint64_t offset = random_below(PAGE);
        uint64_t size = 1 + random_below(random_below(4) == 0 ? 2000 : 100);

        size = offset + size > PAGE ? PAGE - offset : size;
        add_memory(&machine, GM_REGION_RAM, random_below(3000), size, blocks[block], offset);
    }
    for (unsigned i = 0; i < 500; i++) {
        const uint8_t *hva = (uint8_t *)gm_ram_hva(blocks[random_below(2)]) + random_below(PAGE);
        gm_gpa_t expected = 0;
        gm_gpa_t gpa;
        struct gm_section section;
        bool found = model_find(machine.space, hva, &expected);

        assert_int_equal(gm_hva_find(machine.space, hva, &gpa, &section), found ? 0 : -ENOENT);
        if (found) {
            assert_int_equal(gpa, expected);
            assert_ptr_equal((uint8_t *)section.hva + (gpa - section.gpa), hva);
            gm_region_put(section.region);
        }
    }
    machine_free(&machine);
    gm_ram_put(blocks[0]);
    gm_ram_put(blocks[1]);
}

static void hva_of_overlapping_pieces_is_found_as_by_a_scan(void **state)
{
    /* Random regions that show pieces of the same memory, long and short, many times. */
    (void)state;
    random_begin("cache");
    for (unsigned i = 0; i < 60; i++) {
        check_random_hvas();
    }
}

static void *failing_alloc(void *opaque, size_t size_bytes)
{
    return *(bool *)opaque ? NULL : malloc(size_bytes);
}

static void failing_free(void *opaque, void *memory)
{
    (void)opaque;
    free(memory);
}

static void hva_is_found_without_memory_for_an_index(void **state)
{
    /* Slower, but the same answer; once there is memory, with an index. */
    static bool fails;
    struct gm_allocator allocator = {failing_alloc, failing_free, &fails};
    struct gm_map_options options = {.size = sizeof(options), .allocator = &allocator};
    struct machine machine = machine_new_with(&options);
    struct gm_ram *ram = new_ram(PAGE);
    const struct gm_io_ops ops = {.size = sizeof(ops)};
    struct gm_section section;
    gm_gpa_t gpa;

    (void)state;
    add_mmio(&machine, 0x1000, PAGE, &ops, NULL);
    add_memory(&machine, GM_REGION_RAM, 0x5000, PAGE, ram, 0);
    for (unsigned i = 0; i < 2; i++) {
        fails = i == 0;
        /* A device has no memory, not even at the host's address 0. */
        assert_int_equal(gm_hva_find(machine.space, NULL, &gpa, &section), -ENOENT);
        assert_int_equal(gm_hva_find(machine.space, (uint8_t *)gm_ram_hva(ram) + 5, &gpa, &section),
                         0);
        assert_int_equal(gpa, 0x5005);
        gm_region_put(section.region);
    }
    machine_free(&machine);
    gm_ram_put(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache_of_ram_loads_stores_reads_and_writes_it),
        cmocka_unit_test(cache_offsets_past_its_size_are_decode_errors),
        cmocka_unit_test(cache_follows_what_is_committed),
        cmocka_unit_test(cache_inline_does_what_it_does_out_of_line),
        cmocka_unit_test(cache_is_used_out_of_line_once_after_a_commit),
        cmocka_unit_test(cache_slots_are_each_readers_own),
        cmocka_unit_test(cache_of_a_device_makes_ordinary_accesses),
        cmocka_unit_test(cache_keeps_its_view_until_it_is_used_again_or_ended),
        cmocka_unit_test(cache_over_two_ranges_of_one_block_is_one_piece),
        cmocka_unit_test(reader_has_the_newest_view_and_keeps_one_alive),
        cmocka_unit_test(hva_of_ram_is_found_and_of_nothing_is_not),
        cmocka_unit_test(hva_of_rom_device_is_found_in_romd_mode_only),
        cmocka_unit_test(hva_of_overlapping_pieces_is_found_as_by_a_scan),
        cmocka_unit_test(hva_is_found_without_memory_for_an_index),
    };

    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
