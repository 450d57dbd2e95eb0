/* unit/test_iommu_notify.c - an IOMMU's notifiers: who is told what, in which order, and what is refused. */
#include "model/faults.h"
#include "unit/machine.h"

#include <errno.h>
#include <string.h>

#define PAGE 0x1000u
#define PAGES 16u
#define TABLES 3u
#define ALL (GM_IOMMU_MAP | GM_IOMMU_UNMAP)

/* An IOMMU of flat tables: pages[table][page] is a page number + 1 of the machine's space; 0: none. */
struct owner {
    struct gm_space *target;
    uint64_t pages[TABLES][PAGES];
    struct gm_region *region;
    struct gm_iommu_request last;
    unsigned asked;
    unsigned hole_pages;    /* what a refusal holds for; 0: does not say */
    unsigned kinds[TABLES]; /* as notifiers_changed said */
    unsigned kinds_calls;
    int refusal;
    int deadlock; /* what registering inside notifiers_changed gave */
    unsigned replays;
};

static void translate(void *opaque, const struct gm_iommu_request *request,
                      struct gm_iommu_entry *entry)
{
    struct owner *owner = opaque;
    uint64_t page = owner->pages[request->index][request->offset / PAGE % PAGES];

    owner->asked++;
    owner->last = *request;
    if (page == 0) {
        entry->page_mask = owner->hole_pages != 0 ? (uint64_t)owner->hole_pages * PAGE - 1 : 0;
        return;
    }
    *entry = (struct gm_iommu_entry){.space = owner->target,
                                     .translated = (page - 1) * PAGE,
                                     .page_mask = PAGE - 1,
                                     .can_read = true,
                                     .can_write = page % 2 != 0};
}

static unsigned to_index(void *opaque, struct gm_attrs attrs)
{
    (void)opaque;
    return attrs.requester_id;
}

static void never(void *opaque, const struct gm_iommu_event *event)
{
    (void)opaque;
    (void)event;
    fail();
}

static int changed(void *opaque, unsigned index, unsigned old_kinds, unsigned new_kinds)
{
    struct owner *owner = opaque;
    struct gm_iommu_notifier_options options = {
        .size = sizeof(options), .kinds = ALL, .last = 1, .notify = never};
    struct gm_iommu_notifier *notifier = NULL;

    owner->kinds_calls++;
    assert_int_equal(old_kinds, owner->kinds[index]);
    owner->deadlock = gm_iommu_register(owner->region, &options, &notifier, NULL);
    if ((new_kinds & ~old_kinds) != 0 && owner->refusal != 0) {
        return owner->refusal;
    }
    owner->kinds[index] = new_kinds;
    return 0;
}

static const struct gm_iommu_ops owner_ops = {
    .size = sizeof(owner_ops),
    .translate = translate,
    .attrs_to_index = to_index,
    .index_count = TABLES,
    .notifiers_changed = changed,
};

static struct machine owner_machine(struct owner *owner, const struct gm_iommu_ops *ops)
{
    struct machine machine = machine_new();

    owner->target = machine.space;
    owner->region = add_region(&machine, 0x100000,
                               (struct gm_region_options){.kind = GM_REGION_IOMMU,
                                                          .size_bytes = (gm_size_t)PAGES * PAGE,
                                                          .iommu = ops,
                                                          .opaque = owner});
    return machine;
}

/* ---- a notifier that keeps what it was told ---- */

struct heard {
    struct gm_iommu_notifier *notifier;
    struct gm_iommu_event events[64];
    unsigned count;
    struct heard *also;          /* hears of everything after us */
    void (*act)(struct heard *); /* from inside the callback */
    struct machine *machine;
    struct owner *owner;
    unsigned order; /* when it was told last, by a count of all */
    int result;
};

static unsigned order_now;

static void hear(void *opaque, const struct gm_iommu_event *event)
{
    struct heard *heard = opaque;

    assert_true(heard->count < 64);
    heard->events[heard->count] = *event;
    heard->count++;
    order_now++;
    heard->order = order_now;
    if (heard->act != NULL) {
        void (*act)(struct heard *) = heard->act;

        heard->act = NULL;
        act(heard);
    }
}

static void listen_to(struct heard *heard, const struct owner *owner, unsigned kinds,
                      unsigned index, uint64_t first, uint64_t last)
{
    struct gm_iommu_notifier_options options = {.size = sizeof(options),
                                                .kinds = kinds,
                                                .index = index,
                                                .first = first,
                                                .last = last,
                                                .notify = hear,
                                                .opaque = heard};

    assert_int_equal(gm_iommu_register(owner->region, &options, &heard->notifier, NULL), 0);
}

static void notify(const struct owner *owner, unsigned kind, unsigned index, uint64_t first,
                   uint64_t last)
{
    struct gm_iommu_event event = {.kind = kind,
                                   .index = index,
                                   .first = first,
                                   .last = last,
                                   .space = owner->target,
                                   .translated = first + 0x40000};

    assert_int_equal(gm_iommu_notify(owner->region, &event), 0);
}

static void assert_heard(const struct heard *heard, unsigned at, unsigned kind, uint64_t first,
                         uint64_t last)
{
    assert_true(at < heard->count);
    assert_int_equal(heard->events[at].kind, kind);
    assert_int_equal(heard->events[at].first, first);
    assert_int_equal(heard->events[at].last, last);
}

/* ---- who is told what ---- */

static void notify_reaches_those_of_its_table_kind_and_range_clipped(void **state)
{
    /* Events that meet a range in part, at one byte, or not; of any size. */
    struct owner owner = {0};
    struct machine machine = owner_machine(&owner, &owner_ops);
    struct heard all = {0};
    struct heard part = {0};
    struct heard device = {0};
    struct heard other = {0};

    (void)state;
    listen_to(&all, &owner, ALL, 1, 0, UINT64_MAX);
    listen_to(&part, &owner, GM_IOMMU_UNMAP | GM_IOMMU_MAP, 1, 0x1800, 0x37ff);
    listen_to(&device, &owner, GM_IOMMU_DEVICE_UNMAP, 1, 0, UINT64_MAX);
    listen_to(&other, &owner, ALL, 0, 0, UINT64_MAX);
    notify(&owner, GM_IOMMU_MAP, 1, 0x1000, 0x1fff);
    notify(&owner, GM_IOMMU_UNMAP, 1, 0, UINT64_MAX);
    notify(&owner, GM_IOMMU_UNMAP, 1, 0, 0x17ff);
    notify(&owner, GM_IOMMU_UNMAP, 1, 0x37ff, 0x37ff);
    notify(&owner, GM_IOMMU_DEVICE_UNMAP, 1, 7, 7);
    assert_int_equal(all.count, 4);
    assert_heard(&all, 1, GM_IOMMU_UNMAP, 0, UINT64_MAX);
    assert_int_equal(part.count, 3);
    assert_heard(&part, 0, GM_IOMMU_MAP, 0x1800, 0x1fff);
    assert_int_equal(part.events[0].translated, 0x41800);
    assert_heard(&part, 1, GM_IOMMU_UNMAP, 0x1800, 0x37ff);
    assert_heard(&part, 2, GM_IOMMU_UNMAP, 0x37ff, 0x37ff);
    assert_int_equal(device.count, 1);
    assert_heard(&device, 0, GM_IOMMU_DEVICE_UNMAP, 7, 7);
    assert_int_equal(other.count, 0);
    assert_true(all.order < device.order);
    gm_iommu_unregister(part.notifier);
    notify(&owner, GM_IOMMU_MAP, 1, 0x1000, 0x1fff);
    assert_int_equal(part.count, 3);
    assert_int_equal(all.count, 5);
    gm_iommu_unregister(all.notifier);
    gm_iommu_unregister(device.notifier);
    gm_iommu_unregister(other.notifier);
    gm_iommu_unregister(NULL);
    machine_free(&machine);
}

static void notify_refuses_what_makes_no_sense(void **state)
{
    /* And tells nobody; no_wait is the owner's business alone. */
    struct owner owner = {0};
    struct machine machine = owner_machine(&owner, &owner_ops);
    struct gm_region *ram_less =
        add_region(&machine, 0, (struct gm_region_options){.kind = GM_REGION_RESERVATION});
    const struct gm_iommu_event good = {
        .kind = GM_IOMMU_UNMAP, .index = 2, .last = 0xfff, .no_wait = true};
    struct gm_iommu_event bad[5] = {good, good, good, good, good};
    struct heard heard = {0};

    (void)state;
    listen_to(&heard, &owner, ALL, 2, 0, 0xfff);
    bad[0].kind = 0;
    bad[1].kind = ALL;
    bad[2].index = TABLES;
    bad[3].first = 0x1000;
    bad[4].kind = GM_IOMMU_MAP; /* without a space */
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(gm_iommu_notify(owner.region, &bad[i]), -EINVAL);
        assert_int_equal(gm_iommu_notify_one(heard.notifier, &bad[i]), -EINVAL);
    }
    assert_int_equal(gm_iommu_notify(ram_less, &good), -EINVAL);
    assert_int_equal(heard.count, 0);
    assert_int_equal(gm_iommu_notify(owner.region, &good), 0);
    gm_iommu_wait(owner.region);
    assert_int_equal(heard.count, 1);
    assert_false(heard.events[0].no_wait);
    gm_iommu_unregister(heard.notifier);
    machine_free(&machine);
}

static void register_refuses_bad_options_and_what_the_owner_refuses(void **state)
{
    /* The owner hears of kinds by table, when their union changes; less cannot be refused. */
    struct owner owner = {0};
    struct machine machine = owner_machine(&owner, &owner_ops);
    struct gm_region *other =
        add_region(&machine, 0, (struct gm_region_options){.kind = GM_REGION_RESERVATION});
    const struct gm_iommu_notifier_options good = {
        .size = sizeof(good), .kinds = ALL, .index = 1, .last = 1, .notify = never};
    struct gm_iommu_notifier_options bad[6] = {good, good, good, good, good, good};
    struct gm_iommu_notifier *notifier = NULL;
    struct heard unmaps = {0};
    struct heard both = {0};
    struct gm_diag diag;

    (void)state;
    bad[0].size = 0;
    bad[1].kinds = 0;
    bad[2].kinds = 8;
    bad[3].index = TABLES;
    bad[4].first = 2;
    bad[5].notify = NULL;
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(gm_iommu_register(owner.region, &bad[i], &notifier, &diag), -EINVAL);
        assert_int_equal(diag.code, -EINVAL);
    }
    assert_int_equal(gm_iommu_register(other, &good, &notifier, &diag), -EINVAL);
    assert_int_equal(owner.kinds_calls, 0);
    listen_to(&unmaps, &owner, GM_IOMMU_UNMAP, 1, 0, 1);
    assert_int_equal(owner.kinds[1], GM_IOMMU_UNMAP);
    assert_int_equal(owner.deadlock, -EDEADLK);
    owner.refusal = -EOPNOTSUPP;
    assert_int_equal(gm_iommu_register(owner.region, &good, &notifier, &diag), -EOPNOTSUPP);
    assert_int_equal(owner.kinds_calls, 2);
    notify(&owner, GM_IOMMU_MAP, 1, 0, 1); /* the refused one is not told: it would fail */
    owner.refusal = 0;
    listen_to(&both, &owner, ALL, 1, 0, 1);
    assert_int_equal(owner.kinds[1], ALL);
    owner.refusal = -EOPNOTSUPP;
    gm_iommu_unregister(unmaps.notifier);
    assert_int_equal(owner.kinds_calls, 3); /* the union is the same */
    gm_iommu_unregister(both.notifier);
    assert_int_equal(owner.kinds_calls, 4);
    assert_int_equal(owner.kinds[1], 0);
    machine_free(&machine);
}

/* ---- from inside callbacks ---- */

static void remove_both(struct heard *heard)
{
    gm_iommu_unregister(heard->also->notifier);
    gm_iommu_unregister(heard->notifier);
}

static void add_another(struct heard *heard)
{
    listen_to(heard->also, heard->owner, ALL, 0, 0, UINT64_MAX);
}

static void notify_again(struct heard *heard)
{
    notify(heard->owner, GM_IOMMU_UNMAP, 0, 5, 5);
}

static void commit_inside(struct heard *heard)
{
    struct gm_region *region = NULL;

    heard->result = gm_region_del(heard->machine->root, heard->owner->region, NULL);
    assert_int_equal(gm_region_new_container(heard->machine->map, "", 1, &region), -EDEADLK);
}

static void notifier_callback_may_unregister_register_and_notify(void **state)
{
    /* Itself and others; what it notifies inside is told inside; a commit is refused. */
    struct owner owner = {0};
    struct machine machine = owner_machine(&owner, &owner_ops);
    struct heard later = {0};
    struct heard first = {.machine = &machine, .owner = &owner, .also = &later};

    (void)state;
    listen_to(&first, &owner, ALL, 0, 0, UINT64_MAX);
    first.act = add_another;
    notify(&owner, GM_IOMMU_UNMAP, 0, 0, 1);
    assert_int_equal(later.count, 1); /* it stands behind, and so is reached */
    first.act = notify_again;
    notify(&owner, GM_IOMMU_UNMAP, 0, 0, 9);
    assert_int_equal(first.count, 3);
    assert_heard(&first, 1, GM_IOMMU_UNMAP, 0, 9);
    assert_heard(&first, 2, GM_IOMMU_UNMAP, 5, 5);
    first.act = commit_inside;
    notify(&owner, GM_IOMMU_UNMAP, 0, 0, 1);
    assert_int_equal(first.result, -EDEADLK);
    later.count = 0;
    first.act = remove_both;
    notify(&owner, GM_IOMMU_UNMAP, 0, 0, 1);
    assert_int_equal(later.count, 0);
    first.count = 0;
    notify(&owner, GM_IOMMU_UNMAP, 0, 0, 1);
    assert_int_equal(first.count, 0);
    assert_int_equal(owner.kinds[0], 0);
    machine_free(&machine);
}

static enum gm_access unmap_on_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                     uint64_t value, struct gm_attrs attrs)
{
    struct owner *owner = opaque;

    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    memset(owner->pages, 0, sizeof(owner->pages));
    notify(owner, GM_IOMMU_UNMAP, 0, 0, UINT64_MAX);
    return GM_ACCESS_OK;
}

static void access_that_unmaps_itself_in_a_device_is_translated_again(void **state)
{
    /* One page of RAM, device, RAM: the device's callback takes the page away, so the rest of the write is denied. */
    static const struct gm_io_ops device = {.size = sizeof(device), .write = unmap_on_write};
    struct owner owner = {.pages = {{1}}};
    struct machine machine = owner_machine(&owner, &owner_ops);
    struct gm_ram *ram = new_ram(PAGE);
    const uint8_t *memory = gm_ram_hva(ram);
    uint8_t data[0x60];

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
    add_region(&machine, 0x20,
               (struct gm_region_options){.kind = GM_REGION_MMIO,
                                          .size_bytes = 4,
                                          .priority = 1,
                                          .io = &device,
                                          .opaque = &owner});
    memset(data, 0x77, sizeof(data));
    assert_int_equal(gm_write(machine.space, 0x100000, data, sizeof(data), no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(memory[0x1f], 0x77);
    assert_int_equal(memory[0x24], 0);
    assert_int_equal(owner.asked, 2);
    machine_free(&machine);
    gm_ram_put(ram);
}

/* ---- tables and requests ---- */

static void access_uses_the_table_of_its_requester_and_says_its_rights(void **state)
{
    /* Three requesters, of whom one has no table; debug attributes reach the owner. */
    struct owner owner = {.pages = {{1}, {3}}};
    struct machine machine = owner_machine(&owner, &owner_ops);
    struct gm_ram *ram = new_ram(4 * PAGE);
    uint8_t *memory = gm_ram_hva(ram);
    struct gm_attrs attrs = {.flags = GM_ATTR_DEBUG};
    uint64_t value;

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, 4 * PAGE, ram, 0);
    memory[0] = 10;
    memory[2 * PAGE] = 12;
    assert_int_equal(gm_load(machine.space, 0x100000, 1, GM_ORDER_LITTLE, &value, attrs), 0);
    assert_int_equal(value, 10);
    assert_int_equal(owner.last.rights, GM_IOMMU_READ);
    assert_int_equal(owner.last.attrs.flags, GM_ATTR_DEBUG);
    attrs.requester_id = 1;
    assert_int_equal(gm_load(machine.space, 0x100000, 1, GM_ORDER_LITTLE, &value, attrs), 0);
    assert_int_equal(value, 12);
    assert_int_equal(owner.last.index, 1);
    assert_int_equal(gm_store(machine.space, 0x100000, 1, GM_ORDER_LITTLE, 13, attrs), 0);
    assert_int_equal(owner.last.rights, GM_IOMMU_WRITE);
    value = 13;
    assert_int_equal(gm_cmpxchg(machine.space, 0x100000, 1, GM_ORDER_LITTLE, &value, 14, attrs), 0);
    assert_int_equal(owner.last.rights, GM_IOMMU_READ | GM_IOMMU_WRITE);
    assert_int_equal(memory[2 * PAGE], 14);
    attrs.requester_id = TABLES;
    owner.asked = 0;
    assert_int_equal(gm_load(machine.space, 0x100000, 1, GM_ORDER_LITTLE, &value, attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(owner.asked, 0);
    attrs.requester_id = 2;
    assert_int_equal(gm_iommu_index(owner.region, attrs), 2);
    assert_int_equal(gm_iommu_index_count(owner.region), TABLES);
    assert_int_equal(gm_iommu_min_page(owner.region), PAGE);
    assert_int_equal(gm_iommu_index(machine.root, attrs), 0);
    assert_int_equal(gm_iommu_index_count(machine.root), 0);
    assert_int_equal(gm_iommu_min_page(machine.root), 0);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void region_with_odd_smallest_page_is_refused(void **state)
{
    /* A page size that is no power of two. */
    struct gm_iommu_ops ops = {
        .size = sizeof(ops), .translate = translate, .min_page_bytes = 3 * PAGE};
    struct machine machine = machine_new();
    struct gm_region_options options = {
        .size = sizeof(options), .kind = GM_REGION_IOMMU, .size_bytes = PAGE, .iommu = &ops};
    struct gm_region *region;

    (void)state;
    assert_int_equal(gm_region_new(machine.map, &options, &region, NULL), -EINVAL);
    ops.min_page_bytes = 0x10000;
    assert_int_equal(gm_region_new(machine.map, &options, &region, NULL), 0);
    assert_int_equal(gm_iommu_min_page(region), 0x10000);
    gm_region_put(region);
    machine_free(&machine);
}

/* ---- replaying ---- */

static void replay_tells_what_is_there_within_the_range(void **state)
{
    /* Pages with and without write, holes passed over in large steps, a range that ends within a page. */
    struct owner owner = {.pages = {{0}, {[1] = 5, [2] = 8, [12] = 3}}, .hole_pages = 4};
    struct machine machine = owner_machine(&owner, &owner_ops);
    struct heard maps = {0};
    struct heard unmaps = {0};

    (void)state;
    listen_to(&maps, &owner, ALL, 1, 0x1800, 0xc7ff);
    assert_int_equal(gm_iommu_replay(maps.notifier), 0);
    assert_int_equal(maps.count, 3);
    assert_heard(&maps, 0, GM_IOMMU_MAP, 0x1800, 0x1fff);
    assert_int_equal(maps.events[0].translated, 4 * PAGE + 0x800);
    assert_true(maps.events[0].can_write);
    assert_heard(&maps, 1, GM_IOMMU_MAP, 0x2000, 0x2fff);
    assert_false(maps.events[1].can_write);
    assert_true(maps.events[1].can_read);
    assert_heard(&maps, 2, GM_IOMMU_MAP, 0xc000, 0xc7ff);
    assert_ptr_equal(maps.events[2].space, machine.space);
    assert_int_equal(owner.asked, 6);
    assert_int_equal(owner.last.rights, 0);
    assert_int_equal(owner.last.attrs.flags, GM_ATTR_DEBUG);
    assert_int_equal(gm_iommu_unmap_all(maps.notifier), 0);
    assert_heard(&maps, 3, GM_IOMMU_UNMAP, 0x1800, 0xc7ff);
    listen_to(&unmaps, &owner, GM_IOMMU_UNMAP, 1, 0, 1);
    assert_int_equal(gm_iommu_replay(unmaps.notifier), -EINVAL);
    gm_iommu_unregister(unmaps.notifier);
    listen_to(&unmaps, &owner, GM_IOMMU_MAP, 1, 0, 1);
    assert_int_equal(gm_iommu_unmap_all(unmaps.notifier), -EINVAL);
    gm_iommu_unregister(unmaps.notifier);
    gm_iommu_unregister(maps.notifier);
    machine_free(&machine);
}

static void remove_self(struct heard *heard)
{
    gm_iommu_unregister(heard->notifier);
}

static void replay_ends_where_its_notifier_unregisters(void **state)
{
    /* From inside the first map that it is told. */
    struct owner owner = {.pages = {{5, 6, 7}}};
    struct machine machine = owner_machine(&owner, &owner_ops);
    struct heard heard = {.act = remove_self};

    (void)state;
    listen_to(&heard, &owner, ALL, 0, 0, UINT64_MAX);
    assert_int_equal(gm_iommu_replay(heard.notifier), 0);
    assert_int_equal(heard.count, 1);
    machine_free(&machine);
}

static void translate_and_unmap(void *opaque, const struct gm_iommu_request *request,
                                struct gm_iommu_entry *entry)
{
    struct owner *owner = opaque;

    translate(opaque, request, entry);
    notify(owner, GM_IOMMU_UNMAP, 0, 0x8000, 0x8fff);
}

static void translation_that_is_always_taken_away_ends_in_the_end(void **state)
{
    /* An IOMMU that unmaps something each time it is asked: a bounded number of questions, then a refusal. */
    struct gm_iommu_ops ops = {.size = sizeof(ops), .translate = translate_and_unmap};
    struct owner owner = {.pages = {{5, 6, 7}}};
    struct machine machine = owner_machine(&owner, &ops);
    struct gm_ram *ram = new_ram(8 * PAGE);
    struct heard heard = {0};
    uint64_t value = 1;
    uint8_t data[16];

    (void)state;
    add_memory(&machine, GM_REGION_RAM, 0, 8 * PAGE, ram, 0);
    assert_int_equal(gm_load(machine.space, 0x100000, 4, GM_ORDER_LITTLE, &value, no_attrs),
                     GM_ACCESS_DENIED);
    assert_int_equal(gm_read(machine.space, 0x100000, data, sizeof(data), no_attrs),
                     GM_ACCESS_DENIED);
    listen_to(&heard, &owner, GM_IOMMU_MAP, 0, 0, 0xfff);
    assert_int_equal(gm_iommu_replay(heard.notifier), -EAGAIN);
    assert_int_equal(heard.count, 0);
    gm_iommu_unregister(heard.notifier);
    assert_int_equal(owner.asked, 3000);
    machine_free(&machine);
    gm_ram_put(ram);
}

static int replay(void *opaque, struct gm_iommu_notifier *notifier, unsigned index, uint64_t first,
                  uint64_t last)
{
    struct owner *owner = opaque;
    struct gm_iommu_event event = {.kind = GM_IOMMU_MAP,
                                   .index = index,
                                   .first = first & ~(uint64_t)(PAGE - 1),
                                   .last = last | (PAGE - 1),
                                   .space = owner->target,
                                   .translated = 0x70000};

    owner->replays++;
    assert_int_equal(gm_iommu_notify_one(notifier, &event), 0);
    event.index++; /* of another table: passed over */
    assert_int_equal(gm_iommu_notify_one(notifier, &event), 0);
    return -ETIMEDOUT;
}

static void replay_of_the_owner_is_used_and_reaches_one_notifier(void **state)
{
    /* Its result comes out. */
    struct gm_iommu_ops ops = {
        .size = sizeof(ops), .translate = translate, .index_count = 2, .replay = replay};
    struct owner owner = {0};
    struct machine machine = owner_machine(&owner, &ops);
    struct heard asks = {0};
    struct heard other = {0};

    (void)state;
    listen_to(&asks, &owner, ALL, 0, 0x800, 0x8ff);
    listen_to(&other, &owner, ALL, 0, 0, UINT64_MAX);
    assert_int_equal(gm_iommu_replay(asks.notifier), -ETIMEDOUT);
    assert_int_equal(owner.replays, 1);
    assert_int_equal(owner.asked, 0);
    assert_int_equal(other.count, 0);
    assert_int_equal(asks.count, 1);
    assert_heard(&asks, 0, GM_IOMMU_MAP, 0x800, 0x8ff);
    assert_int_equal(asks.events[0].translated, 0x70800);
    gm_iommu_unregister(asks.notifier);
    gm_iommu_unregister(other.notifier);
    machine_free(&machine);
}

/* ---- failures ---- */

static void register_without_memory_fails_and_changes_nothing(void **state)
{
    /* Each allocation of making an IOMMU and a notifier fails once. */
    struct faults faults = {0};
    struct gm_allocator allocator = faults_allocator(&faults);
    struct gm_map_options map_options = {.size = sizeof(map_options), .allocator = &allocator};
    struct machine machine = machine_new_with(&map_options);
    struct gm_iommu_ops ops = {.size = sizeof(ops), .translate = translate};
    struct gm_region_options options = {
        .size = sizeof(options), .kind = GM_REGION_IOMMU, .size_bytes = PAGE, .iommu = &ops};
    struct gm_iommu_notifier_options wanted = {
        .size = sizeof(wanted), .kinds = ALL, .last = 1, .notify = never};
    int64_t live = faults_live(&faults);
    unsigned failures = 0;

    (void)state;
    for (uint64_t nth = 1;; nth++) {
        struct gm_iommu_notifier *notifier = NULL;
        struct gm_region *region = NULL;
        int result;

        faults_arm(&faults, nth);
        result = gm_region_new(machine.map, &options, &region, NULL);
        if (result == 0) {
            result = gm_iommu_register(region, &wanted, &notifier, NULL);
        }
        gm_iommu_unregister(notifier);
        gm_region_put(region);
        assert_int_equal(faults_live(&faults), live);
        if (!faults_disarm(&faults)) {
            assert_int_equal(result, 0);
            break;
        }
        assert_int_equal(result, -ENOMEM);
        failures++;
    }
    assert_int_equal(failures, 4); /* region, name, its IOMMU's part, notifier */
    machine_free(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notify_reaches_those_of_its_table_kind_and_range_clipped),
        cmocka_unit_test(notify_refuses_what_makes_no_sense),
        cmocka_unit_test(register_refuses_bad_options_and_what_the_owner_refuses),
        cmocka_unit_test(notifier_callback_may_unregister_register_and_notify),
        cmocka_unit_test(access_that_unmaps_itself_in_a_device_is_translated_again),
        cmocka_unit_test(access_uses_the_table_of_its_requester_and_says_its_rights),
        cmocka_unit_test(region_with_odd_smallest_page_is_refused),
        cmocka_unit_test(replay_tells_what_is_there_within_the_range),
        cmocka_unit_test(replay_ends_where_its_notifier_unregisters),
        cmocka_unit_test(translation_that_is_always_taken_away_ends_in_the_end),
        cmocka_unit_test(replay_of_the_owner_is_used_and_reaches_one_notifier),
        cmocka_unit_test(register_without_memory_fails_and_changes_nothing),
    };

    return cmocka_run_group_tests_name("iommu_notify", tests, NULL, NULL);
}
