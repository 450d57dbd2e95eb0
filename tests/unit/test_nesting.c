/*
 * unit/test_nesting.c - devices whose callbacks access each other, or themselves, without end: what a guest can program
 * unguarded DMA to.
 */
#include "unit/machine.h"

#define DEVICE_GPA 0x1000u

struct endless {
    struct machine *machine;
    bool reads;
    unsigned size_bytes;
    unsigned calls;
    unsigned denied;
};

static enum gm_access access_number(struct endless *endless)
{
    uint64_t value = 0;

    return endless->reads ? gm_load(endless->machine->space, DEVICE_GPA, endless->size_bytes,
                                    GM_ORDER_LITTLE, &value, no_attrs)
                          : gm_store(endless->machine->space, DEVICE_GPA, endless->size_bytes,
                                     GM_ORDER_LITTLE, 1, no_attrs);
}

static enum gm_access access_bytes(struct endless *endless)
{
    uint8_t bytes[8] = {0};

    return endless->reads
               ? gm_read(endless->machine->space, DEVICE_GPA, bytes, endless->size_bytes, no_attrs)
               : gm_write(endless->machine->space, DEVICE_GPA, bytes, endless->size_bytes,
                          no_attrs);
}

/* One more access to the same device, by number or as DMA in turns. */
static void go_deeper(struct endless *endless)
{
    enum gm_access result;

    endless->calls++;
    result = endless->calls % 2 != 0 ? access_number(endless) : access_bytes(endless);
    endless->denied += result == GM_ACCESS_DENIED;
}

static enum gm_access endless_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                   uint64_t *value, struct gm_attrs attrs)
{
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    go_deeper(opaque);
    return GM_ACCESS_OK;
}

static enum gm_access endless_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                    uint64_t value, struct gm_attrs attrs)
{
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    go_deeper(opaque);
    return GM_ACCESS_OK;
}

static bool endless_accepts(void *opaque, uint64_t offset, unsigned size_bytes, bool is_write,
                            struct gm_attrs attrs)
{
    struct endless *endless = opaque;

    (void)offset;
    endless->calls++;
    return gm_access_valid(endless->machine->space, DEVICE_GPA, size_bytes, is_write, attrs);
}

static void nesting_ends_at_its_limit(void **state)
{
    /* Loads and stores of one call each; and the same again, so all that was counted is counted back. */
    struct machine machine = machine_new();
    struct endless endless;
    struct gm_io_ops ops = {.size = sizeof(ops), .read = endless_read, .write = endless_write};

    (void)state;
    add_mmio(&machine, DEVICE_GPA, 0x10, &ops, &endless);
    for (unsigned i = 0; i < 8; i++) {
        endless = (struct endless){.machine = &machine, .reads = i % 2 != 0, .size_bytes = 4};
        go_deeper(&endless);
        assert_int_equal(endless.calls, GM_IO_DEPTH_MAX + 1); /* the first is the test's own */
        assert_int_equal(endless.denied, 1);
    }
    machine_free(&machine);
}

static void nesting_of_accesses_that_are_two_calls_ends(void **state)
{
    /* Each doubles what the one before does: the limit is low enough for that to end. */
    struct machine machine = machine_new();
    struct endless endless;
    struct gm_io_ops ops = {.size = sizeof(ops), .read = endless_read, .write = endless_write};

    (void)state;
    add_mmio(&machine, DEVICE_GPA, 0x10, &ops, &endless);
    for (unsigned i = 0; i < 2; i++) {
        endless = (struct endless){.machine = &machine, .reads = i != 0, .size_bytes = 8};
        go_deeper(&endless);
        assert_int_equal(endless.calls, (2u << GM_IO_DEPTH_MAX) - 1);
        assert_int_equal(endless.denied, 1u << GM_IO_DEPTH_MAX);
    }
    machine_free(&machine);
}

static void nesting_of_accepts_is_counted_too(void **state)
{
    /* It asks whether its own region would take what it is asked about. */
    struct machine machine = machine_new();
    struct endless endless;
    struct gm_io_ops ops = {
        .size = sizeof(ops), .write = endless_write, .accepts = endless_accepts};

    (void)state;
    add_mmio(&machine, DEVICE_GPA, 0x10, &ops, &endless);
    for (unsigned i = 0; i < 2; i++) {
        endless = (struct endless){.machine = &machine};
        assert_false(gm_access_valid(machine.space, DEVICE_GPA, 4, true, no_attrs));
        assert_int_equal(endless.calls, GM_IO_DEPTH_MAX);
    }
    machine_free(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nesting_ends_at_its_limit),
        cmocka_unit_test(nesting_of_accesses_that_are_two_calls_ends),
        cmocka_unit_test(nesting_of_accepts_is_counted_too),
    };

    return cmocka_run_group_tests_name("nesting", tests, NULL, NULL);
}
