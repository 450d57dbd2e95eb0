/* unit/test_iommu.c - accesses through IOMMUs: page by page, permissions, chains and loops. */
#include "unit/echo.h"
#include "unit/machine.h"

#include <errno.h>
#include <string.h>

#define PAGE 0x1000u

struct iommu {
    struct gm_space *target;
    uint64_t pages[8]; /* page number there of each page here; 0: not mapped */
    uint64_t page_mask;
    bool no_read;
    bool no_write;
    unsigned asked;
};

static void iommu_translate(void *opaque, const struct gm_iommu_request *request,
                            struct gm_iommu_entry *entry)
{
    struct iommu *iommu = opaque;
    uint64_t page = request->offset / (iommu->page_mask + 1) % 8;

    iommu->asked++;
    entry->space = iommu->pages[page] != 0 ? iommu->target : NULL;
    entry->translated = iommu->pages[page] * (iommu->page_mask + 1);
    entry->page_mask = iommu->page_mask;
    entry->can_read = !iommu->no_read;
    entry->can_write = !iommu->no_write;
}

static const struct gm_iommu_ops iommu_ops = {.size = sizeof(struct gm_iommu_ops),
                                              .translate = iommu_translate};

static void add_iommu(struct machine *machine, uint64_t gpa, struct iommu *iommu)
{
    add_region(machine, gpa,
               (struct gm_region_options){.kind = GM_REGION_IOMMU,
                                          .size_bytes = 8 * (iommu->page_mask + 1),
                                          .iommu = &iommu_ops,
                                          .opaque = iommu});
}

/* A machine whose memory [16, 24) pages lead through an IOMMU to its first 8 pages. */
static struct machine iommu_machine(struct gm_ram **ram, struct iommu *iommu)
{
    struct machine machine = machine_new();

    *ram = new_ram(8 * PAGE);
    add_memory(&machine, GM_REGION_RAM, 0, 8 * PAGE, *ram, 0);
    iommu->target = machine.space;
    iommu->page_mask = PAGE - 1;
    add_iommu(&machine, 16 * PAGE, iommu);
    return machine;
}

static void iommu_access_across_pages_goes_where_each_page_leads(void **state)
{
    /* Pages in another order, one that is not mapped, a number that crosses two. */
    struct iommu iommu = {.pages = {3, 1, 0, 2}};
    struct gm_ram *ram;
    struct machine machine = iommu_machine(&ram, &iommu);
    uint8_t *memory = gm_ram_hva(ram);
    uint8_t data[4 * PAGE];
    uint64_t value;

    (void)state;
    for (unsigned page = 0; page < 8; page++) {
        memset(memory + page * PAGE, (int)(0x10 + page), PAGE);
    }
    memset(data, 0xff, sizeof(data));
    assert_int_equal(gm_read(machine.space, 16 * PAGE, data, sizeof(data), no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(iommu.asked, 4);
    assert_int_equal(data[0], 0x13);
    assert_int_equal(data[PAGE], 0x11);
    assert_int_equal(data[2 * PAGE], 0);
    assert_int_equal(data[3 * PAGE - 1], 0);
    assert_int_equal(data[3 * PAGE], 0x12);
    assert_int_equal(gm_load(machine.space, 17 * PAGE - 2, 4, GM_ORDER_LITTLE, &value, no_attrs),
                     0);
    assert_int_equal(value, 0x11111313);
    assert_int_equal(gm_load(machine.space, 17 * PAGE, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0x11111111);
    assert_int_equal(
        gm_store(machine.space, 17 * PAGE - 2, 4, GM_ORDER_LITTLE, 0x44332211, no_attrs), 0);
    assert_int_equal(memory[4 * PAGE - 1], 0x22);
    assert_int_equal(memory[PAGE], 0x33);
    assert_int_equal(gm_load(machine.space, 18 * PAGE - 2, 4, GM_ORDER_LITTLE, &value, no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(value, 0x00001111);
    value = 0x12121212;
    assert_int_equal(gm_cmpxchg(machine.space, 19 * PAGE, 4, GM_ORDER_LITTLE, &value, 9, no_attrs),
                     0);
    assert_int_equal(memory[2 * PAGE], 9);
    assert_true(gm_access_valid(machine.space, 16 * PAGE, 2 * PAGE, true, no_attrs));
    assert_false(gm_access_valid(machine.space, 16 * PAGE, 2 * PAGE + 1, true, no_attrs));
    machine_free(&machine);
    gm_ram_put(ram);
}

static void iommu_permissions_are_checked_by_direction(void **state)
{
    /* Only reading, only writing; compare and swap needs both. */
    struct iommu iommu = {.pages = {1}, .no_write = true};
    struct gm_ram *ram;
    struct machine machine = iommu_machine(&ram, &iommu);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(gm_load(machine.space, 16 * PAGE, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(gm_store(machine.space, 16 * PAGE, 4, GM_ORDER_LITTLE, 1, no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(gm_fill(machine.space, 16 * PAGE, 1, 4, no_attrs), GM_ACCESS_DENIED);
    assert_int_equal(gm_cmpxchg(machine.space, 16 * PAGE, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DENIED);
    iommu.no_write = false;
    iommu.no_read = true;
    assert_int_equal(gm_store(machine.space, 16 * PAGE, 4, GM_ORDER_LITTLE, 1, no_attrs), 0);
    assert_int_equal(gm_load(machine.space, 16 * PAGE, 4, GM_ORDER_LITTLE, &value, no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(gm_cmpxchg(machine.space, 16 * PAGE, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DENIED);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void iommu_that_leads_to_itself_is_denied_in_the_end(void **state)
{
    /*
     * 16 pages on is 16 pages on: denied after a bounded number of questions, whatever the access.
     */
    struct iommu iommu = {.pages = {16, 17, 18, 19, 20, 21, 22, 23}};
    struct gm_ram *ram;
    struct machine machine = iommu_machine(&ram, &iommu);
    uint64_t value = 1;
    uint64_t size = 8;
    struct gm_mapping mapping;
    uint8_t data[2 * PAGE];

    (void)state;
    assert_int_equal(gm_load(machine.space, 16 * PAGE, 4, GM_ORDER_LITTLE, &value, no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(value, 0);
    assert_int_equal(iommu.asked, 8);
    assert_int_equal(gm_read(machine.space, 16 * PAGE, data, sizeof(data), no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(gm_cmpxchg(machine.space, 16 * PAGE, 4, GM_ORDER_LITTLE, &value, 1, no_attrs),
                     GM_ACCESS_DENIED);
    assert_false(gm_access_valid(machine.space, 16 * PAGE, 4, true, no_attrs));
    assert_int_equal(gm_map_range(machine.space, 16 * PAGE, &size, true, no_attrs, &mapping),
                     -EFAULT);
    assert_true(iommu.asked < 100);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void iommu_chain_is_followed_to_a_device(void **state)
{
    /* Two IOMMUs, of pages of different sizes, then a callback; a number stays one access. */
    struct iommu outer = {.pages = {8}};
    struct iommu inner = {.pages = {0, 0, 0, 3}, .page_mask = 0xff};
    struct gm_ram *ram;
    struct machine machine = iommu_machine(&ram, &outer);
    struct echo echo = {0};
    uint64_t value;

    (void)state;
    inner.target = machine.space;
    add_iommu(&machine, 8 * PAGE, &inner);
    add_region(&machine, 0x300,
               (struct gm_region_options){.kind = GM_REGION_MMIO,
                                          .size_bytes = 0x100,
                                          .priority = 1,
                                          .io = &echo_ops,
                                          .opaque = &echo});
    assert_int_equal(
        gm_load(machine.space, 16 * PAGE + 0x344, 4, GM_ORDER_LITTLE, &value, no_attrs), 0);
    assert_int_equal(value, 0x47464544);
    assert_int_equal(echo.reads, 1);
    assert_int_equal(gm_store(machine.space, 16 * PAGE + 0x348, 4, GM_ORDER_LITTLE, 77, no_attrs),
                     0);
    assert_int_equal(echo.last_offset, 0x48);
    assert_int_equal(echo.last_value, 77);
    machine_free(&machine);
    gm_ram_put(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(iommu_access_across_pages_goes_where_each_page_leads),
        cmocka_unit_test(iommu_permissions_are_checked_by_direction),
        cmocka_unit_test(iommu_that_leads_to_itself_is_denied_in_the_end),
        cmocka_unit_test(iommu_chain_is_followed_to_a_device),
    };

    return cmocka_run_group_tests_name("iommu", tests, NULL, NULL);
}
