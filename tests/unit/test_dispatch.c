/*
 * unit/test_dispatch.c - accesses to callbacks: what is valid, what is split, what is widened.
 * First a table of single cases, then all combinations against a device that is modelled byte by
 * byte.
 */
#include "unit/machine.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEVICE_GPA 0x1000u
#define DEVICE_BYTES 0x20u

/* One call of a callback. */
struct call {
    bool is_write;
    uint64_t offset;
    unsigned size_bytes;
    uint64_t value; /* of writes */
};

/* A device that is a few bytes of memory, and that writes down how it was called. */
struct device {
    enum gm_order order;
    uint8_t bytes[DEVICE_BYTES + 16]; /* widened calls may reach past the region */
    unsigned call_count;
    struct call calls[16];
    enum gm_access fail_at_offset[DEVICE_BYTES + 16];
    bool refuse_writes;
};

static bool device_is_big(const struct device *device)
{
    return device->order == GM_ORDER_BIG;
}

/*
 * The bytes in the order of their addresses, as the number that a bus of that order makes of them.
 */
static uint64_t number_of(const uint8_t *bytes, unsigned size_bytes, bool big)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size_bytes; i++) {
        value = big ? value << 8 | bytes[i] : value | (uint64_t)bytes[i] << 8 * i;
    }
    return value;
}

static void write_down(struct device *device, struct call call)
{
    device->calls[device->call_count % 16] = call;
    device->call_count++;
}

static enum gm_access device_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t *value, struct gm_attrs attrs)
{
    struct device *device = opaque;

    (void)attrs;
    assert_true(offset + size_bytes <= sizeof(device->bytes));
    write_down(device, (struct call){false, offset, size_bytes, 0});
    /* Rubbish above the size: it must not get through. */
    *value = number_of(device->bytes + offset, size_bytes, device_is_big(device));
    if (size_bytes < 8) {
        *value |= UINT64_MAX << 8 * size_bytes;
    }
    return device->fail_at_offset[offset];
}

static enum gm_access device_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                   uint64_t value, struct gm_attrs attrs)
{
    struct device *device = opaque;

    (void)attrs;
    assert_true(offset + size_bytes <= sizeof(device->bytes));
    assert_true(size_bytes == 8 || value >> 8 * size_bytes == 0);
    write_down(device, (struct call){true, offset, size_bytes, value});
    for (unsigned i = 0; i < size_bytes; i++) {
        unsigned at = device_is_big(device) ? size_bytes - 1 - i : i;

        device->bytes[offset + at] = (uint8_t)(value >> 8 * i);
    }
    return device->fail_at_offset[offset];
}

static bool device_accepts(void *opaque, uint64_t offset, unsigned size_bytes, bool is_write,
                           struct gm_attrs attrs)
{
    const struct device *device = opaque;

    (void)offset;
    (void)size_bytes;
    (void)attrs;
    return !is_write || !device->refuse_writes;
}

static void device_fill(struct device *device)
{
    for (unsigned i = 0; i < sizeof(device->bytes); i++) {
        device->bytes[i] = (uint8_t)(0x11 * (i % 13) + i + 1);
    }
    device->call_count = 0;
}

static struct gm_io_ops device_ops(const struct device *device, struct gm_io_sizes valid,
                                   struct gm_io_sizes implemented)
{
    return (struct gm_io_ops){.size = sizeof(struct gm_io_ops),
                              .read = device_read,
                              .write = device_write,
                              .order = device->order,
                              .valid = valid,
                              .implemented = implemented};
}

/* ---- single cases ---- */

struct split_case {
    struct gm_io_sizes valid;
    struct gm_io_sizes implemented;
    enum gm_order order;
    bool is_write;
    uint64_t offset;
    unsigned size_bytes;
    uint64_t value; /* written, or what a read of bytes 00 01 02 ... gives */
    enum gm_access outcome;
    unsigned call_count;
    struct call calls[4];
};

/*
 * By hand from docs/devel/memory.rst and the rules of space/dispatch.h. The device holds 0x00 0x01
 * 0x02 ...
 */
static const struct split_case split_cases[] = {
    /* As it is. */
    {{0}, {0}, 0, false, 4, 4, 0x07060504, 0, 1, {{false, 4, 4, 0}}},
    {{0}, {0}, 0, true, 4, 4, 0xa1a2a3a4, 0, 1, {{true, 4, 4, 0xa1a2a3a4}}},
    {{0}, {0}, 1, false, 4, 4, 0x04050607, 0, 1, {{false, 4, 4, 0}}},
    /* Too large for the callbacks: split, ascending, each part in its order. */
    {{0}, {0}, 0, false, 8, 8, 0x0f0e0d0c0b0a0908, 0, 2, {{false, 8, 4, 0}, {false, 12, 4, 0}}},
    {{0},
     {0},
     0,
     true,
     8,
     8,
     0x1122334455667788,
     0,
     2,
     {{true, 8, 4, 0x55667788}, {true, 12, 4, 0x11223344}}},
    {{0},
     {0},
     1,
     true,
     8,
     8,
     0x1122334455667788,
     0,
     2,
     {{true, 8, 4, 0x11223344}, {true, 12, 4, 0x55667788}}},
    {{0},
     {1, 1, false},
     0,
     true,
     0,
     4,
     0xa1a2a3a4,
     0,
     4,
     {{true, 0, 1, 0xa4}, {true, 1, 1, 0xa3}, {true, 2, 1, 0xa2}, {true, 3, 1, 0xa1}}},
    {{0},
     {1, 1, false},
     1,
     true,
     0,
     4,
     0xa1a2a3a4,
     0,
     4,
     {{true, 0, 1, 0xa1}, {true, 1, 1, 0xa2}, {true, 2, 1, 0xa3}, {true, 3, 1, 0xa4}}},
    /* Too small for the callbacks: widened. */
    {{0}, {4, 4, false}, 0, false, 5, 1, 0x05, 0, 1, {{false, 4, 4, 0}}},
    {{0}, {4, 4, false}, 1, false, 5, 1, 0x05, 0, 1, {{false, 4, 4, 0}}},
    {{0}, {4, 4, false}, 0, true, 5, 1, 0xcc, 0, 1, {{true, 4, 4, 0x0000cc00}}},
    {{0}, {4, 4, false}, 1, true, 5, 1, 0xcc, 0, 1, {{true, 4, 4, 0x00cc0000}}},
    {{0}, {4, 4, false}, 0, true, 4, 2, 0xccdd, 0, 1, {{true, 4, 4, 0x0000ccdd}}},
    {{0}, {4, 4, false}, 1, true, 4, 2, 0xccdd, 0, 1, {{true, 4, 4, 0xccdd0000}}},
    {{0}, {4, 8, true}, 0, false, 5, 1, 0x05, 0, 1, {{false, 5, 4, 0}}},
    {{0}, {4, 8, true}, 1, true, 5, 1, 0xcc, 0, 1, {{true, 5, 4, 0xcc000000}}},
    /* Unaligned, and the callbacks do not know that: aligned parts. */
    {{0, 0, true},
     {0},
     0,
     false,
     1,
     4,
     0x04030201,
     0,
     3,
     {{false, 1, 1, 0}, {false, 2, 2, 0}, {false, 4, 1, 0}}},
    {{0, 0, true},
     {4, 4, false},
     0,
     false,
     1,
     4,
     0x04030201,
     0,
     2,
     {{false, 0, 4, 0}, {false, 4, 4, 0}}},
    {{0, 0, true},
     {4, 4, false},
     1,
     false,
     1,
     4,
     0x01020304,
     0,
     2,
     {{false, 0, 4, 0}, {false, 4, 4, 0}}},
    {{0, 0, true},
     {4, 4, false},
     0,
     true,
     1,
     4,
     0xa1a2a3a4,
     0,
     2,
     {{true, 0, 4, 0xa2a3a400}, {true, 4, 4, 0x000000a1}}},
    {{0, 0, true}, {0, 0, true}, 0, false, 1, 4, 0x04030201, 0, 1, {{false, 1, 4, 0}}},
    {{0, 0, true},
     {0, 2, true},
     0,
     false,
     1,
     4,
     0x04030201,
     0,
     2,
     {{false, 1, 2, 0}, {false, 3, 2, 0}}},
    /* Not valid: no call. */
    {{0}, {0}, 0, false, 1, 4, 0, GM_ACCESS_DECODE, 0, {{0}}},
    {{4, 4, false}, {0}, 0, false, 0, 1, 0, GM_ACCESS_DECODE, 0, {{0}}},
    {{1, 4, false}, {0}, 0, false, 0, 8, 0, GM_ACCESS_DECODE, 0, {{0}}},
    {{1, 4, false}, {0}, 0, true, 0, 8, 1, GM_ACCESS_DECODE, 0, {{0}}},
    {{0}, {0}, 0, false, 0, 3, 0, GM_ACCESS_DECODE, 0, {{0}}},
    {{0}, {0}, 0, true, 0, 0, 0, GM_ACCESS_DECODE, 0, {{0}}},
};

static bool call_equals(const struct call *a, const struct call *b)
{
    return a->is_write == b->is_write && a->offset == b->offset && a->size_bytes == b->size_bytes &&
           a->value == b->value;
}

static bool split_case_holds(const struct split_case *the)
{
    struct machine machine = machine_new();
    struct device device = {.order = the->order};
    struct gm_io_ops ops = device_ops(&device, the->valid, the->implemented);
    uint64_t value = the->value;
    enum gm_access outcome;
    bool same;

    for (unsigned i = 0; i < sizeof(device.bytes); i++) {
        device.bytes[i] = (uint8_t)i;
    }
    add_mmio(&machine, DEVICE_GPA, DEVICE_BYTES, &ops, &device);
    if (the->is_write) {
        outcome = gm_store(machine.space, DEVICE_GPA + the->offset, the->size_bytes, the->order,
                           value, no_attrs);
    } else {
        outcome = gm_load(machine.space, DEVICE_GPA + the->offset, the->size_bytes, the->order,
                          &value, no_attrs);
    }
    same = outcome == the->outcome && value == the->value && device.call_count == the->call_count;
    for (unsigned i = 0; same && i < the->call_count; i++) {
        same = call_equals(&device.calls[i], &the->calls[i]);
    }
    machine_free(&machine);
    return same;
}

static void dispatch_number_is_split_and_widened_as_documented(void **state)
{
    /* Each case of the table makes exactly its calls. */
    (void)state;
    for (size_t i = 0; i < sizeof(split_cases) / sizeof(split_cases[0]); i++) {
        if (!split_case_holds(&split_cases[i])) {
            fail_msg("case %zu", i);
        }
    }
}

static void dispatch_long_access_is_cut_at_alignment_and_largest_valid_size(void **state)
{
    /* 11 bytes from 3 on, at most 4 valid, are 1, 4, 4, 2. */
    static const struct call expected[] = {
        {false, 3, 1, 0}, {false, 4, 4, 0}, {false, 8, 4, 0}, {false, 12, 2, 0}};
    struct machine machine = machine_new();
    struct device device = {0};
    struct gm_io_ops ops =
        device_ops(&device, (struct gm_io_sizes){1, 4, false}, (struct gm_io_sizes){1, 8, false});
    uint8_t data[11];

    (void)state;
    device_fill(&device);
    add_mmio(&machine, DEVICE_GPA, DEVICE_BYTES, &ops, &device);
    assert_int_equal(gm_read(machine.space, DEVICE_GPA + 3, data, sizeof(data), no_attrs), 0);
    assert_memory_equal(data, device.bytes + 3, sizeof(data));
    assert_int_equal(device.call_count, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(call_equals(&device.calls[i], &expected[i]));
    }
    machine_free(&machine);
}

/* ---- every combination, against bytes ---- */

struct combination {
    struct gm_io_sizes valid;
    struct gm_io_sizes implemented;
    enum gm_order order;
};

/* The slow model: the sizes that a piece of a long access has, found by trying. */
static unsigned model_piece(const struct combination *the, uint64_t offset, uint64_t left)
{
    unsigned best = 1;

    for (unsigned size = 1; size <= 8; size *= 2) {
        bool fits = size <= left && size <= the->valid.max_bytes;
        bool aligned = the->valid.unaligned || offset % size == 0;

        if (fits && aligned) {
            best = size;
        }
    }
    return best;
}

static bool model_is_valid(const struct combination *the, uint64_t offset, unsigned size)
{
    return size >= the->valid.min_bytes && size <= the->valid.max_bytes &&
           (the->valid.unaligned || offset % size == 0);
}

/* Which bytes around a write become zero, because no callback writes less. */
static bool model_is_widened_over(const struct combination *the, uint64_t offset, unsigned size,
                                  uint64_t byte)
{
    unsigned least = the->implemented.min_bytes;

    if (byte >= offset && byte < offset + size) {
        return false;
    }
    if (the->implemented.unaligned) {
        return size < least && byte >= offset + size && byte < offset + least;
    }
    /* The byte's aligned window of the least size holds a byte of the access. */
    return byte / least * least < offset + size && byte / least * least + least > offset;
}

static void model_write(const struct combination *the, uint8_t *bytes, uint64_t offset,
                        const uint8_t *data, unsigned size)
{
    for (uint64_t i = 0; i < DEVICE_BYTES + 16; i++) {
        if (i >= offset && i < offset + size) {
            bytes[i] = data[i - offset];
        } else if (model_is_widened_over(the, offset, size, i)) {
            bytes[i] = 0;
        }
    }
}

/* Every call that was made is one that the callbacks take. */
static void check_calls_are_implemented(const struct combination *the, const struct device *device)
{
    for (unsigned i = 0; i < device->call_count && i < 16; i++) {
        const struct call *call = &device->calls[i];

        assert_in_range(call->size_bytes, the->implemented.min_bytes, the->implemented.max_bytes);
        assert_true(the->implemented.unaligned || call->offset % call->size_bytes == 0);
    }
}

static void check_long_access(struct machine *machine, const struct combination *the,
                              struct device *device, uint64_t offset, unsigned size)
{
    uint8_t expected_read[16] = {0};
    uint8_t expected_bytes[DEVICE_BYTES + 16];
    uint8_t data[16];
    unsigned expected = 0;

    device_fill(device);
    memcpy(expected_bytes, device->bytes, sizeof(expected_bytes));
    for (unsigned i = 0; i < size; i++) {
        data[i] = (uint8_t)(0xf0 - i);
    }
    for (unsigned done = 0; done < size;) {
        unsigned piece = model_piece(the, offset + done, size - done);

        if (model_is_valid(the, offset + done, piece)) {
            memcpy(expected_read + done, device->bytes + offset + done, piece);
            model_write(the, expected_bytes, offset + done, data + done, piece);
        } else {
            expected = GM_ACCESS_DECODE;
        }
        done += piece;
    }
    assert_int_equal(gm_write(machine->space, DEVICE_GPA + offset, data, size, no_attrs), expected);
    check_calls_are_implemented(the, device);
    assert_memory_equal(device->bytes, expected_bytes, sizeof(expected_bytes));
    device_fill(device);
    assert_int_equal(gm_read(machine->space, DEVICE_GPA + offset, data, size, no_attrs), expected);
    check_calls_are_implemented(the, device);
    assert_memory_equal(data, expected_read, size);
    assert_int_equal(gm_access_valid(machine->space, DEVICE_GPA + offset, size, false, no_attrs),
                     expected == 0);
}

static void check_number(struct machine *machine, const struct combination *the,
                         struct device *device, uint64_t offset, unsigned size)
{
    bool valid = model_is_valid(the, offset, size);
    unsigned outcome = valid ? GM_ACCESS_OK : GM_ACCESS_DECODE;
    uint8_t expected_bytes[DEVICE_BYTES + 16];
    uint8_t data[8] = {0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8};

    for (int big = 0; big < 2; big++) {
        enum gm_order order = big ? GM_ORDER_BIG : GM_ORDER_LITTLE;
        uint64_t value = 1;

        device_fill(device);
        assert_int_equal(
            gm_load(machine->space, DEVICE_GPA + offset, size, order, &value, no_attrs), outcome);
        assert_int_equal(value, valid ? number_of(device->bytes + offset, size, big) : 0);
        memcpy(expected_bytes, device->bytes, sizeof(expected_bytes));
        if (valid) {
            model_write(the, expected_bytes, offset, data, size);
        }
        value = number_of(data, size, big);
        assert_int_equal(
            gm_store(machine->space, DEVICE_GPA + offset, size, order, value, no_attrs), outcome);
        assert_memory_equal(device->bytes, expected_bytes, sizeof(expected_bytes));
        check_calls_are_implemented(the, device);
    }
}

static void check_combination(struct machine *machine, const struct combination *the)
{
    struct device device = {.order = the->order};
    struct gm_io_ops ops = device_ops(&device, the->valid, the->implemented);
    struct gm_region *region = add_mmio(machine, DEVICE_GPA, DEVICE_BYTES, &ops, &device);

    for (uint64_t offset = 0; offset <= 8; offset++) {
        for (unsigned size = 1; size <= 16; size++) {
            check_long_access(machine, the, &device, offset, size);
        }
        for (unsigned size = 1; size <= 8; size *= 2) {
            check_number(machine, the, &device, offset, size);
        }
    }
    assert_int_equal(gm_region_del(machine->root, region, NULL), 0);
}

static void dispatch_every_combination_of_sizes_equals_byte_model(void **state)
{
    /* All valid and implemented sizes, alignments and orders, all accesses up to 16 bytes. */
    struct machine machine = machine_new();

    (void)state;
    for (unsigned code = 0; code < 4 * 4 * 4 * 4 * 8; code++) {
        uint8_t sizes[4];
        struct combination the;

        for (unsigned i = 0; i < 4; i++) {
            sizes[i] = (uint8_t)(1u << (code >> 2 * i & 3));
        }
        if (sizes[0] > sizes[1] || sizes[2] > sizes[3]) {
            continue;
        }
        the.valid = (struct gm_io_sizes){sizes[0], sizes[1], (code >> 8 & 1) != 0};
        the.implemented = (struct gm_io_sizes){sizes[2], sizes[3], (code >> 9 & 1) != 0};
        the.order = (code >> 10 & 1) != 0 ? GM_ORDER_BIG : GM_ORDER_LITTLE;
        check_combination(&machine, &the);
    }
    machine_free(&machine);
}

/* ---- outcomes ---- */

static void dispatch_failing_part_zeroes_its_bytes_and_goes_on(void **state)
{
    /* The second of two calls fails: its half reads as zero, the other half is there. */
    struct machine machine = machine_new();
    struct device device = {0};
    struct gm_io_ops ops = device_ops(&device, (struct gm_io_sizes){0}, (struct gm_io_sizes){0});
    uint64_t value;

    (void)state;
    device_fill(&device);
    device.fail_at_offset[4] = GM_ACCESS_DEVICE;
    add_mmio(&machine, DEVICE_GPA, DEVICE_BYTES, &ops, &device);
    assert_int_equal(gm_load(machine.space, DEVICE_GPA, 8, GM_ORDER_LITTLE, &value, no_attrs),
                     GM_ACCESS_DEVICE);
    assert_int_equal(value, number_of(device.bytes, 4, false));
    device.fail_at_offset[0] = GM_ACCESS_DENIED;
    assert_int_equal(gm_store(machine.space, DEVICE_GPA, 8, GM_ORDER_LITTLE, 0, no_attrs),
                     GM_ACCESS_DEVICE | GM_ACCESS_DENIED);
    assert_int_equal(device.call_count, 4);
    machine_free(&machine);
}

static void dispatch_refused_access_is_decode_without_a_call(void **state)
{
    /* accepts() is asked before any callback, and by gm_access_valid() too. */
    struct machine machine = machine_new();
    struct device device = {.refuse_writes = true};
    struct gm_io_ops ops = device_ops(&device, (struct gm_io_sizes){0}, (struct gm_io_sizes){0});
    uint64_t value;

    (void)state;
    ops.accepts = device_accepts;
    add_mmio(&machine, DEVICE_GPA, DEVICE_BYTES, &ops, &device);
    assert_int_equal(gm_store(machine.space, DEVICE_GPA, 4, GM_ORDER_LITTLE, 1, no_attrs),
                     GM_ACCESS_DECODE);
    assert_int_equal(device.call_count, 0);
    assert_int_equal(gm_load(machine.space, DEVICE_GPA, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_true(gm_access_valid(machine.space, DEVICE_GPA, 16, false, no_attrs));
    assert_false(gm_access_valid(machine.space, DEVICE_GPA, 16, true, no_attrs));
    machine_free(&machine);
}

static void dispatch_missing_callback_is_decode(void **state)
{
    /* A region that can only be written, and one that can only be read. */
    struct machine machine = machine_new();
    struct device device = {0};
    struct gm_io_ops writes = device_ops(&device, (struct gm_io_sizes){0}, (struct gm_io_sizes){0});
    struct gm_io_ops reads = writes;
    uint64_t value = 9;

    (void)state;
    writes.read = NULL;
    reads.write = NULL;
    add_mmio(&machine, 0, DEVICE_BYTES, &writes, &device);
    add_mmio(&machine, DEVICE_GPA, DEVICE_BYTES, &reads, &device);
    assert_int_equal(gm_load(machine.space, 0, 4, GM_ORDER_LITTLE, &value, no_attrs),
                     GM_ACCESS_DECODE);
    assert_int_equal(value, 0);
    assert_int_equal(gm_store(machine.space, 0, 4, GM_ORDER_LITTLE, 1, no_attrs), 0);
    assert_int_equal(gm_store(machine.space, DEVICE_GPA, 4, GM_ORDER_LITTLE, 1, no_attrs),
                     GM_ACCESS_DECODE);
    assert_false(gm_access_valid(machine.space, 0, 4, false, no_attrs));
    assert_false(gm_access_valid(machine.space, DEVICE_GPA, 4, true, no_attrs));
    machine_free(&machine);
}

static void dispatch_guest_order_is_the_maps(void **state)
{
    /*
     * A region and a load in guest order agree, whichever it is; other orders see the difference.
     */
    (void)state;
    for (int big = 0; big < 2; big++) {
        struct gm_map_options options = {.size = sizeof(options), .guest_big_endian = big};
        struct machine machine = machine_new_with(&options);
        struct device device = {.order = big ? GM_ORDER_BIG : GM_ORDER_LITTLE};
        struct gm_io_ops ops =
            device_ops(&device, (struct gm_io_sizes){0}, (struct gm_io_sizes){0});
        uint64_t value;

        ops.order = GM_ORDER_GUEST;
        device_fill(&device);
        add_mmio(&machine, DEVICE_GPA, DEVICE_BYTES, &ops, &device);
        assert_int_equal(gm_load(machine.space, DEVICE_GPA, 4, GM_ORDER_GUEST, &value, no_attrs),
                         0);
        assert_int_equal(value, number_of(device.bytes, 4, big));
        assert_int_equal(gm_load(machine.space, DEVICE_GPA, 4, GM_ORDER_LITTLE, &value, no_attrs),
                         0);
        assert_int_equal(value, number_of(device.bytes, 4, false));
        machine_free(&machine);
    }
}

/* ---- re-entry ---- */

struct looping {
    struct machine *machine;
    uint64_t other_gpa; /* 0: none */
    unsigned depth;
    enum gm_access inner;
};

static enum gm_access looping_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                    uint64_t value, struct gm_attrs attrs)
{
    struct looping *looping = opaque;
    uint64_t gpa = looping->other_gpa != 0 ? looping->other_gpa : DEVICE_GPA;

    (void)offset;
    looping->depth++;
    if (looping->depth < 4) {
        looping->inner =
            gm_store(looping->machine->space, gpa, size_bytes, GM_ORDER_LITTLE, value, attrs);
    }
    return GM_ACCESS_OK;
}

static void dispatch_guarded_region_denies_access_from_its_own_callback(void **state)
{
    /* Directly, and through another device; and the guard is off again afterwards. */
    struct machine machine = machine_new();
    struct looping looping = {.machine = &machine};
    struct looping between = {.machine = &machine, .other_gpa = DEVICE_GPA};
    struct gm_io_ops ops = {.size = sizeof(ops), .write = looping_write, .guard_reentry = true};
    struct gm_io_ops open_ops = {.size = sizeof(ops), .write = looping_write};

    (void)state;
    add_mmio(&machine, DEVICE_GPA, 0x10, &ops, &looping);
    add_mmio(&machine, 0x2000, 0x10, &open_ops, &between);
    for (unsigned i = 0; i < 2; i++) {
        looping = (struct looping){.machine = &machine};
        assert_int_equal(gm_store(machine.space, DEVICE_GPA, 4, GM_ORDER_LITTLE, 1, no_attrs), 0);
        assert_int_equal(looping.inner, GM_ACCESS_DENIED);
        assert_int_equal(looping.depth, 1);
    }
    looping = (struct looping){.machine = &machine, .other_gpa = 0x2000};
    assert_int_equal(gm_store(machine.space, DEVICE_GPA, 4, GM_ORDER_LITTLE, 1, no_attrs), 0);
    assert_int_equal(looping.inner, GM_ACCESS_OK);
    assert_int_equal(between.inner, GM_ACCESS_DENIED);
    machine_free(&machine);
}

static void dispatch_unguarded_region_may_be_reentered(void **state)
{
    /* Without the guard a callback's access reaches its own region. */
    struct machine machine = machine_new();
    struct looping looping = {.machine = &machine};
    struct gm_io_ops ops = {.size = sizeof(ops), .write = looping_write};

    (void)state;
    add_mmio(&machine, DEVICE_GPA, 0x10, &ops, &looping);
    assert_int_equal(gm_store(machine.space, DEVICE_GPA, 4, GM_ORDER_LITTLE, 1, no_attrs), 0);
    assert_int_equal(looping.inner, GM_ACCESS_OK);
    assert_int_equal(looping.depth, 4);
    machine_free(&machine);
}

/* ---- eventfds ---- */

static uint64_t signals_of(int fd)
{
    uint64_t count = 0;

    return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void add_eventfd(struct machine *machine, struct gm_region *region,
                        struct gm_eventfd eventfd)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(machine->map, &txn), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, region, &eventfd), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

static void dispatch_matching_write_signals_eventfd_instead_of_callback(void **state)
{
    /* By size, by value, in the region's order; other writes reach the callback. */
    struct machine machine = machine_new();
    struct device device = {.order = GM_ORDER_BIG};
    struct gm_io_ops ops = device_ops(&device, (struct gm_io_sizes){0}, (struct gm_io_sizes){0});
    struct gm_region *region = add_mmio(&machine, DEVICE_GPA, DEVICE_BYTES, &ops, &device);
    int any = eventfd(0, EFD_NONBLOCK);
    int exact = eventfd(0, EFD_NONBLOCK);
    uint8_t bytes[2] = {0x12, 0x34};

    (void)state;
    add_eventfd(&machine, region, (struct gm_eventfd){.offset = 8, .fd = any});
    add_eventfd(&machine, region,
                (struct gm_eventfd){
                    .offset = 16, .size_bytes = 2, .match = true, .value = 0x1234, .fd = exact});
    assert_int_equal(gm_store(machine.space, DEVICE_GPA + 8, 4, GM_ORDER_LITTLE, 7, no_attrs), 0);
    assert_int_equal(gm_store(machine.space, DEVICE_GPA + 8, 1, GM_ORDER_LITTLE, 9, no_attrs), 0);
    assert_int_equal(signals_of(any), 2);
    assert_int_equal(gm_write(machine.space, DEVICE_GPA + 16, bytes, 2, no_attrs), 0);
    assert_int_equal(gm_store(machine.space, DEVICE_GPA + 16, 2, GM_ORDER_LITTLE, 0x3412, no_attrs),
                     0);
    assert_int_equal(signals_of(exact), 2);
    assert_int_equal(device.call_count, 0);
    assert_int_equal(gm_store(machine.space, DEVICE_GPA + 16, 2, GM_ORDER_BIG, 0x1235, no_attrs),
                     0);
    assert_int_equal(gm_store(machine.space, DEVICE_GPA + 16, 4, GM_ORDER_BIG, 0x1234, no_attrs),
                     0);
    assert_int_equal(gm_store(machine.space, DEVICE_GPA + 17, 1, GM_ORDER_BIG, 0x34, no_attrs), 0);
    assert_int_equal(device.call_count, 3);
    assert_int_equal(signals_of(exact), 0);
    machine_free(&machine);
    close(any);
    close(exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatch_number_is_split_and_widened_as_documented),
        cmocka_unit_test(dispatch_long_access_is_cut_at_alignment_and_largest_valid_size),
        cmocka_unit_test(dispatch_every_combination_of_sizes_equals_byte_model),
        cmocka_unit_test(dispatch_failing_part_zeroes_its_bytes_and_goes_on),
        cmocka_unit_test(dispatch_refused_access_is_decode_without_a_call),
        cmocka_unit_test(dispatch_missing_callback_is_decode),
        cmocka_unit_test(dispatch_guest_order_is_the_maps),
        cmocka_unit_test(dispatch_guarded_region_denies_access_from_its_own_callback),
        cmocka_unit_test(dispatch_unguarded_region_may_be_reentered),
        cmocka_unit_test(dispatch_matching_write_signals_eventfd_instead_of_callback),
    };

    return cmocka_run_group_tests_name("dispatch", tests, NULL, NULL);
}
