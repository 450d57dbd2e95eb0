/*
 * unit/test_access.c - accesses of any length and kind across ranges: what each kind of region
 * answers, outcomes, dirty pages, compare and swap.
 */
#include "unit/echo.h"
#include "unit/machine.h"

#include <string.h>

#define PAGE 0x1000u

static bool is_dirty(struct gm_ram *ram, unsigned client, uint64_t page)
{
    struct gm_harvest *harvest;
    uint64_t count;

    assert_int_equal(gm_harvest_begin(ram, client, page * PAGE, PAGE, &harvest), 0);
    count = gm_harvest_page_count(harvest);
    gm_harvest_commit(harvest);
    return count != 0;
}

/* ---- what each kind answers ---- */

static void access_rom_takes_reads_and_a_debuggers_writes(void **state)
{
    /* A guest's write is denied and changes nothing; a debugger's changes it and is dirty. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    uint32_t word = 0x12345678;
    uint64_t value = 0x12345678;

    (void)state;
    add_memory(&machine, GM_REGION_ROM, 0, PAGE, ram, 0);
    assert_int_equal(gm_ram_dirty_begin(ram, 3), 0);
    assert_int_equal(gm_write(machine.space, 8, &word, 4, no_attrs), GM_ACCESS_DENIED);
    assert_int_equal(gm_store(machine.space, 8, 4, GM_ORDER_LITTLE, word, no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(gm_cmpxchg(machine.space, 8, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(gm_load(machine.space, 8, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0);
    assert_false(is_dirty(ram, 3, 0));
    assert_true(gm_access_valid(machine.space, 0, PAGE, false, no_attrs));
    assert_false(gm_access_valid(machine.space, 0, 1, true, no_attrs));
    assert_true(gm_access_valid(machine.space, 0, 1, true, debug_attrs));
    assert_int_equal(gm_write(machine.space, 8, &word, 4, debug_attrs), 0);
    assert_int_equal(gm_store(machine.space, 16, 2, GM_ORDER_BIG, 0x1122, debug_attrs), 0);
    assert_int_equal(gm_load(machine.space, 8, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0x12345678);
    assert_int_equal(gm_load(machine.space, 16, 2, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0x2211);
    assert_true(is_dirty(ram, 3, 0));
    machine_free(&machine);
    gm_ram_put(ram);
}

static void set_romd(struct machine *machine, struct gm_region *region, bool romd)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(machine->map, &txn), 0);
    assert_int_equal(gm_txn_set_romd(txn, region, romd), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

static void access_rom_device_reads_memory_in_romd_mode_only(void **state)
{
    /* Writes call back in both modes; a debugger writes the memory. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct echo echo = {0};
    struct gm_region *region = add_region(&machine, 0,
                                          (struct gm_region_options){.kind = GM_REGION_ROM_DEVICE,
                                                                     .size_bytes = PAGE,
                                                                     .ram = ram,
                                                                     .io = &echo_ops,
                                                                     .opaque = &echo});
    uint64_t value;

    (void)state;
    memset(gm_ram_hva(ram), 0xee, PAGE);
    assert_int_equal(gm_load(machine.space, 4, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0xeeeeeeee);
    assert_int_equal(gm_store(machine.space, 4, 4, GM_ORDER_LITTLE, 5, no_attrs), 0);
    assert_int_equal(echo.writes, 1);
    set_romd(&machine, region, false);
    assert_int_equal(gm_load(machine.space, 4, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0x07060504);
    assert_int_equal(gm_store(machine.space, 4, 4, GM_ORDER_LITTLE, 5, no_attrs), 0);
    assert_int_equal(echo.writes, 2);
    assert_int_equal(gm_store(machine.space, 4, 4, GM_ORDER_LITTLE, 6, debug_attrs), 0);
    assert_int_equal(echo.writes, 2);
    assert_int_equal(((uint8_t *)gm_ram_hva(ram))[4], 6);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_ram_device_is_read_and_written_at_any_alignment(void **state)
{
    /* Host loads and stores are aligned; what arrives is the same as with copies. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    uint8_t expected[64] = {0};
    uint8_t data[64];

    (void)state;
    add_memory(&machine, GM_REGION_RAM_DEVICE, 0, PAGE, ram, 0);
    for (unsigned i = 0; i < 64; i++) {
        data[i] = (uint8_t)(i + 1);
    }
    for (unsigned offset = 0; offset < 9; offset++) {
        for (unsigned size = 0; size < 40; size++) {
            uint8_t read[64] = {0};

            memset(memory, 0, 64);
            memset(expected, 0, 64);
            memcpy(expected + offset, data, size);
            assert_int_equal(gm_write(machine.space, offset, data, size, no_attrs), 0);
            assert_memory_equal(memory, expected, 64);
            assert_int_equal(gm_read(machine.space, offset, read, size, no_attrs), 0);
            assert_memory_equal(read, data, size);
            memset(expected + offset, 0x77, size);
            assert_int_equal(gm_fill(machine.space, offset, 0x77, size, no_attrs), 0);
            assert_memory_equal(memory, expected, 64);
        }
    }
    assert_int_equal(gm_store(machine.space, 9, 4, GM_ORDER_BIG, 0x01020304, no_attrs), 0);
    assert_memory_equal(memory + 9, "\1\2\3\4", 4);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_holes_and_reservations_are_decode_errors_that_read_zero(void **state)
{
    /* The parts that are there are read and written all the same. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(2 * PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    uint8_t data[3 * PAGE];

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    add_region(&machine, PAGE,
               (struct gm_region_options){.kind = GM_REGION_RESERVATION, .size_bytes = 8});
    add_memory(&machine, GM_REGION_RAM, 2 * PAGE, PAGE, ram, PAGE);
    memset(memory, 0x5a, 2 * PAGE);
    memset(data, 0xff, sizeof(data));
    assert_int_equal(gm_read(machine.space, 0, data, sizeof(data), no_attrs), GM_ACCESS_DECODE);
    for (unsigned i = 0; i < sizeof(data); i++) {
        assert_int_equal(data[i], i / PAGE == 1 ? 0 : 0x5a);
    }
    memset(data, 0x33, sizeof(data));
    assert_int_equal(gm_write(machine.space, 0, data, sizeof(data), no_attrs), GM_ACCESS_DECODE);
    assert_int_equal(memory[0], 0x33);
    assert_int_equal(memory[2 * PAGE - 1], 0x33);
    assert_int_equal(gm_read(machine.space, PAGE, data, 8, no_attrs), GM_ACCESS_DECODE);
    assert_false(gm_access_valid(machine.space, 0, sizeof(data), false, no_attrs));
    assert_true(gm_access_valid(machine.space, 2 * PAGE, PAGE, true, no_attrs));
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_unbacked_ram_reads_zero_and_drops_writes_but_records_them(void **state)
{
    /* Petabytes that this host does not have. */
    struct machine machine = machine_new();
    struct gm_ram *ram;
    uint64_t value = 0;
    uint8_t data[64] = {1};

    (void)state;
    assert_int_equal(gm_ram_new_unbacked(64 * PAGE, NULL, &ram, NULL), 0);
    add_memory(&machine, GM_REGION_RAM, 0, 64 * PAGE, ram, 0);
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    assert_int_equal(gm_write(machine.space, PAGE, data, 64, no_attrs), 0);
    assert_int_equal(gm_store(machine.space, 2 * PAGE, 8, GM_ORDER_LITTLE, 5, no_attrs), 0);
    assert_int_equal(gm_fill(machine.space, 3 * PAGE, 1, 8, no_attrs), 0);
    assert_int_equal(gm_cmpxchg(machine.space, 4 * PAGE, 8, GM_ORDER_LITTLE, &value, 5, no_attrs),
                     0);
    assert_int_equal(gm_read(machine.space, PAGE, data, 64, no_attrs), 0);
    assert_int_equal(data[0], 0);
    assert_int_equal(gm_load(machine.space, 2 * PAGE, 8, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0);
    for (uint64_t page = 0; page < 6; page++) {
        assert_int_equal(is_dirty(ram, 0, page), page >= 1 && page <= 4);
    }
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_wraps_at_2_to_the_64(void **state)
{
    /* The last byte of the space is followed by its first. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(2 * PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    uint64_t value;
    uint8_t data[32];

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    add_memory(&machine, GM_REGION_RAM, UINT64_MAX - PAGE + 1, PAGE, ram, PAGE);
    for (unsigned i = 0; i < 16; i++) {
        memory[2 * PAGE - 16 + i] = (uint8_t)i;
        memory[i] = (uint8_t)(16 + i);
    }
    assert_int_equal(gm_read(machine.space, UINT64_MAX - 15, data, 32, no_attrs), 0);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(data[i], i);
    }
    assert_int_equal(gm_load(machine.space, UINT64_MAX - 1, 4, GM_ORDER_BIG, &value, no_attrs), 0);
    assert_int_equal(value, 0x0e0f1011);
    assert_int_equal(gm_store(machine.space, UINT64_MAX, 2, GM_ORDER_LITTLE, 0xaabb, no_attrs), 0);
    assert_int_equal(memory[2 * PAGE - 1], 0xbb);
    assert_int_equal(memory[0], 0xaa);
    assert_true(gm_access_valid(machine.space, UINT64_MAX, 2, true, no_attrs));
    assert_int_equal(gm_fill(machine.space, UINT64_MAX, 0x11, 2, no_attrs), 0);
    assert_int_equal(memory[2 * PAGE - 1], 0x11);
    assert_int_equal(memory[0], 0x11);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_numbers_of_all_sizes_orders_and_alignments_are_the_bytes(void **state)
{
    /* Against bytes, in RAM of one range and across two, in both kinds of guests. */
    (void)state;
    for (int guest_big = 0; guest_big < 2; guest_big++) {
        struct gm_map_options options = {.size = sizeof(options), .guest_big_endian = guest_big};
        struct machine machine = machine_new_with(&options);
        struct gm_ram *ram = new_ram(4 * PAGE);
        uint8_t *memory = gm_ram_hva(ram);

        add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
        add_memory(&machine, GM_REGION_RAM, PAGE, PAGE, ram,
                   2 * PAGE); /* not contiguous in host memory */
        for (unsigned gpa = PAGE - 17; gpa < PAGE + 9; gpa++) {
            for (unsigned code = 0; code < 12; code++) {
                enum gm_order order = (enum gm_order)(code / 4);
                unsigned size = 1u << code % 4;
                bool big = order == GM_ORDER_BIG || (order == GM_ORDER_GUEST && guest_big);
                uint64_t expected = 0;
                uint64_t value;

                for (unsigned i = 0; i < size; i++) {
                    unsigned at = gpa + i;
                    uint8_t byte = (uint8_t)(0x80 + gpa * 7 + i * 3);

                    memory[at < PAGE ? at : at + PAGE] = byte;
                    expected |= (uint64_t)byte << 8 * (big ? size - 1 - i : i);
                }
                assert_int_equal(gm_load(machine.space, gpa, size, order, &value, no_attrs), 0);
                assert_int_equal(value, expected);
                assert_int_equal(gm_store(machine.space, gpa, size, order, ~expected, no_attrs), 0);
                for (unsigned i = 0; i < size; i++) {
                    unsigned at = gpa + i;

                    assert_int_equal(memory[at < PAGE ? at : at + PAGE],
                                     (uint8_t) ~(0x80 + gpa * 7 + i * 3));
                }
            }
        }
        assert_int_equal(gm_load(machine.space, 0, 3, GM_ORDER_LITTLE, &(uint64_t){0}, no_attrs),
                         GM_ACCESS_DECODE);
        assert_int_equal(gm_store(machine.space, 0, 16, GM_ORDER_LITTLE, 0, no_attrs),
                         GM_ACCESS_DECODE);
        machine_free(&machine);
        gm_ram_put(ram);
    }
}

static void access_number_across_ram_and_device_is_bytes_of_both(void **state)
{
    /* Two bytes each. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    struct echo echo = {0};
    uint64_t value;

    (void)state;
    memset(gm_ram_hva(ram), 0xcc, PAGE);
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    add_mmio(&machine, PAGE, 0x100, &echo_ops, &echo);
    assert_int_equal(gm_load(machine.space, PAGE - 2, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0x0100cccc);
    assert_int_equal(gm_store(machine.space, PAGE - 2, 4, GM_ORDER_LITTLE, 0x44332211, no_attrs),
                     0);
    assert_int_equal(echo.last_value, 0x4433);
    assert_int_equal(echo.last_offset, 0);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_attributes_reach_the_callback(void **state)
{
    /* Flags and requester, for reads and writes. */
    struct gm_attrs attrs = {.flags = GM_ATTR_SECURE | GM_ATTR_USER, .requester_id = 0x1f8};
    struct machine machine = machine_new();
    struct echo echo = {0};
    uint32_t word;

    (void)state;
    add_mmio(&machine, 0, 0x100, &echo_ops, &echo);
    assert_int_equal(gm_read(machine.space, 0, &word, 4, attrs), 0);
    assert_memory_equal(&echo.last_attrs, &attrs, sizeof(attrs));
    echo = (struct echo){0};
    assert_int_equal(gm_write(machine.space, 0, &word, 4, attrs), 0);
    assert_memory_equal(&echo.last_attrs, &attrs, sizeof(attrs));
    machine_free(&machine);
}

static void access_fill_reaches_ram_and_devices(void **state)
{
    /* A device is filled by whole accesses, although its offset is odd. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    struct echo echo = {0};

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    add_mmio(&machine, PAGE, 0x1000, &echo_ops, &echo);
    assert_int_equal(gm_fill(machine.space, PAGE - 4, 0xab, 4 + 0x1000, no_attrs), 0);
    assert_int_equal(memory[PAGE - 5], 0);
    assert_int_equal(memory[PAGE - 4], 0xab);
    assert_int_equal(memory[PAGE - 1], 0xab);
    assert_int_equal(echo.writes, 0x1000 / 4);
    assert_int_equal(echo.last_value, 0xabababab);
    assert_int_equal(echo.last_offset, 0xffc);
    echo.writes = 0;
    assert_int_equal(gm_fill(machine.space, PAGE + 1, 0xab, 0x3ff, no_attrs), 0);
    assert_int_equal(echo.writes, 2 + 0xff); /* 1, 2, then words */
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_stores_mark_their_pages_dirty(void **state)
{
    /* All ways to store, at an offset of the block; loads do not. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(16 * PAGE);
    uint8_t data[PAGE + 2] = {0};
    uint64_t value = 0;

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0x100000, 8 * PAGE, ram, 4 * PAGE);
    assert_int_equal(gm_ram_dirty_begin(ram, 1), 0);
    assert_int_equal(gm_write(machine.space, 0x100000 + PAGE - 1, data, sizeof(data), no_attrs), 0);
    assert_int_equal(gm_store(machine.space, 0x104ff8, 8, GM_ORDER_LITTLE, 1, no_attrs), 0);
    assert_int_equal(gm_cmpxchg(machine.space, 0x106000, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     0);
    value = 7;
    assert_int_equal(gm_cmpxchg(machine.space, 0x107000, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     0);
    assert_int_equal(gm_read(machine.space, 0x103000, data, sizeof(data), no_attrs), 0);
    for (uint64_t page = 0; page < 16; page++) {
        bool stored = (page >= 4 && page <= 6) || page == 8 || page == 10;

        assert_int_equal(is_dirty(ram, 1, page), stored);
    }
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_cmpxchg_swaps_only_what_is_equal(void **state)
{
    /* All sizes and orders; and where it cannot be done at all. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    struct echo echo = {0};
    uint64_t value;

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    add_memory(&machine, GM_REGION_RAM_DEVICE, 2 * PAGE, PAGE, ram, 0);
    add_mmio(&machine, PAGE, 0x100, &echo_ops, &echo);
    for (unsigned size = 1; size <= 8; size *= 2) {
        uint64_t mask = UINT64_MAX >> (64 - 8 * size);

        assert_int_equal(
            gm_store(machine.space, 16, size, GM_ORDER_BIG, 0x8877665544332211, no_attrs), 0);
        value = 1;
        assert_int_equal(gm_cmpxchg(machine.space, 16, size, GM_ORDER_BIG, &value, 5, no_attrs), 0);
        assert_int_equal(value, 0x8877665544332211 & mask);
        assert_int_equal(
            gm_cmpxchg(machine.space, 16, size, GM_ORDER_BIG, &value, 0xfeddccbbaa998877, no_attrs),
            0);
        assert_int_equal(value, 0x8877665544332211 & mask);
        assert_int_equal(gm_load(machine.space, 16, size, GM_ORDER_BIG, &value, no_attrs), 0);
        assert_int_equal(value, 0xfeddccbbaa998877 & mask);
    }
    memcpy(memory, "\1\2\3\4", 4);
    value = 0x04030201;
    assert_int_equal(gm_cmpxchg(machine.space, 0, 4, GM_ORDER_LITTLE, &value, 0, no_attrs), 0);
    assert_int_equal(memory[0], 0);
    assert_int_equal(gm_cmpxchg(machine.space, 1, 2, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DECODE);
    assert_int_equal(gm_cmpxchg(machine.space, 0, 3, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DECODE);
    assert_int_equal(gm_cmpxchg(machine.space, PAGE, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DECODE);
    assert_int_equal(gm_cmpxchg(machine.space, 2 * PAGE, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DECODE);
    assert_int_equal(gm_cmpxchg(machine.space, 9 * PAGE, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DECODE);
    assert_int_equal(echo.reads + echo.writes, 0);
    /* Aligned for the host, not for the guest; and the other way round. */
    add_memory(&machine, GM_REGION_RAM, 3 * PAGE + 1, 64, ram, 0);
    assert_int_equal(
        gm_cmpxchg(machine.space, 3 * PAGE + 1, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
        GM_ACCESS_DECODE);
    assert_int_equal(
        gm_cmpxchg(machine.space, 3 * PAGE + 4, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
        GM_ACCESS_DECODE);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_valid_of_a_vast_device_is_answered_at_once(void **state)
{
    /* 2^62 bytes without accepts(): not one question for each of its accesses. */
    struct machine machine = machine_new();
    struct echo echo = {0};
    struct gm_io_ops words = echo_ops;

    (void)state;
    words.valid = (struct gm_io_sizes){4, 4, false};
    add_mmio(&machine, 0, (uint64_t)1 << 62, &words, &echo);
    assert_true(gm_access_valid(machine.space, 0, (uint64_t)1 << 62, true, no_attrs));
    assert_false(gm_access_valid(machine.space, 0, ((uint64_t)1 << 62) - 1, true, no_attrs));
    assert_false(gm_access_valid(machine.space, 1, (uint64_t)1 << 61, true, no_attrs));
    assert_true(gm_access_valid(machine.space, 4, (uint64_t)1 << 61, true, no_attrs));
    assert_true(gm_access_valid(machine.space, 0, 0, true, no_attrs));
    machine_free(&machine);
}

/* ---- against a model: random pieces of everything, byte by byte ---- */

#define MODEL_BYTES 0x400u

struct model_byte {
    enum { BYTE_HOLE, BYTE_RAM, BYTE_ROM, BYTE_ECHO } kind;
    uint8_t *ram;
    uint8_t echo;
};

static void model_lay(struct machine *machine, struct gm_ram *ram, struct echo *echo,
                      struct model_byte *model)
{
    for (unsigned piece = 0; piece < 12; piece++) {
        unsigned first = (unsigned)random_below(MODEL_BYTES - 1);
        unsigned size = 1 + (unsigned)random_below(MODEL_BYTES - first);
        unsigned ram_offset = (unsigned)random_below(2 * MODEL_BYTES);
        unsigned kind = (unsigned)random_below(4);
        enum gm_region_kind kinds[] = {GM_REGION_RESERVATION, GM_REGION_RAM, GM_REGION_ROM,
                                       GM_REGION_MMIO};
        struct gm_region_options options = {.kind = kinds[kind], .size_bytes = size};

        size = size > 100 ? 100 : size;
        options.size_bytes = size;
        if (kind == 1 || kind == 2) {
            options.ram = ram;
            options.ram_offset = ram_offset;
        } else if (kind == 3) {
            options.io = &echo_ops;
            options.opaque = echo;
        }
        add_region(machine, first, options); /* the one added last wins */
        for (unsigned i = 0; i < size; i++) {
            model[first + i].kind = kind;
            model[first + i].ram = (uint8_t *)gm_ram_hva(ram) + ram_offset + i;
            model[first + i].echo = (uint8_t)i;
        }
    }
}

static unsigned model_read(const struct model_byte *model, unsigned gpa, unsigned size,
                           uint8_t *data)
{
    unsigned outcome = 0;

    for (unsigned i = 0; i < size; i++) {
        const struct model_byte *byte = &model[gpa + i];

        data[i] = byte->kind == BYTE_HOLE ? 0 : byte->kind == BYTE_ECHO ? byte->echo : *byte->ram;
        outcome |= byte->kind == BYTE_HOLE ? GM_ACCESS_DECODE : 0;
    }
    return outcome;
}

static unsigned model_write(const struct model_byte *model, unsigned gpa, unsigned size,
                            const uint8_t *data)
{
    static const unsigned outcomes[] = {GM_ACCESS_DECODE, 0, GM_ACCESS_DENIED, 0};
    unsigned outcome = 0;

    for (unsigned i = 0; i < size; i++) {
        const struct model_byte *byte = &model[gpa + i];

        if (byte->kind == BYTE_RAM) {
            *byte->ram = data[i];
        }
        outcome |= outcomes[byte->kind];
    }
    return outcome;
}

static void check_random_map(void)
{
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(4 * PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    struct model_byte model[MODEL_BYTES + 128] = {{0}};
    static uint8_t before[4 * PAGE];
    static uint8_t after[4 * PAGE];
    struct echo echo = {0};

    model_lay(&machine, ram, &echo, model);
    for (unsigned round = 0; round < 200; round++) {
        unsigned gpa = (unsigned)random_below(MODEL_BYTES);
        unsigned size = (unsigned)random_below(128);
        uint8_t expected[128];
        uint8_t data[128];
        unsigned outcome;

        for (unsigned i = 0; i < 128; i++) {
            data[i] = (uint8_t)random_below(256);
        }
        memcpy(before, memory, sizeof(before));
        outcome = model_write(model, gpa, size, data);
        memcpy(after, memory, sizeof(after));
        memcpy(memory, before, sizeof(before));
        assert_int_equal(gm_write(machine.space, gpa, data, size, no_attrs), outcome);
        assert_memory_equal(memory, after, sizeof(after));
        outcome = model_read(model, gpa, size, expected);
        assert_int_equal(gm_read(machine.space, gpa, data, size, no_attrs), outcome);
        assert_memory_equal(data, expected, size);
        assert_int_equal(gm_access_valid(machine.space, gpa, size, false, no_attrs), outcome == 0);
    }
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_random_accesses_to_random_maps_equal_byte_model(void **state)
{
    /* RAM that shows the same bytes twice, ROM, devices, reservations, at byte granularity. */
    (void)state;
    random_begin("access");
    for (unsigned i = 0; i < 100; i++) {
        check_random_map();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(access_rom_takes_reads_and_a_debuggers_writes),
        cmocka_unit_test(access_rom_device_reads_memory_in_romd_mode_only),
        cmocka_unit_test(access_ram_device_is_read_and_written_at_any_alignment),
        cmocka_unit_test(access_holes_and_reservations_are_decode_errors_that_read_zero),
        cmocka_unit_test(access_unbacked_ram_reads_zero_and_drops_writes_but_records_them),
        cmocka_unit_test(access_wraps_at_2_to_the_64),
        cmocka_unit_test(access_numbers_of_all_sizes_orders_and_alignments_are_the_bytes),
        cmocka_unit_test(access_number_across_ram_and_device_is_bytes_of_both),
        cmocka_unit_test(access_attributes_reach_the_callback),
        cmocka_unit_test(access_fill_reaches_ram_and_devices),
        cmocka_unit_test(access_stores_mark_their_pages_dirty),
        cmocka_unit_test(access_cmpxchg_swaps_only_what_is_equal),
        cmocka_unit_test(access_valid_of_a_vast_device_is_answered_at_once),
        cmocka_unit_test(access_random_accesses_to_random_maps_equal_byte_model),
    };

    return cmocka_run_group_tests_name("access", tests, NULL, NULL);
}
