/*
 * race/test_iommu_race.c - accesses through an IOMMU while pages are unmapped and handed to another owner, who finds any
 * store by an old translation. First the orders of docs/locking.md by force, at named points, then at random.
 *
 *   iommu-translated   translate has answered, nothing of it has been used
 *   iommu-entering     in the section in which it would be used; the ticket was not looked at
 *   iommu-entered      ... and holds
 *   iommu-counted      an unmap is counted, and will wait for sections
 *   replay-translated  a replay has asked, and told nothing
 */
#include "model/radix.h"
#include "model/random.h"
#include "model/shadowmap.h"

#include "base/check.h"
#include "base/point.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define RAM_PAGES 128u
#define WINDOW UINT64_C(0x1000000) /* where the IOMMU is, in the device's space */
#define PAGE RADIX_PAGE_BYTES

static const struct gm_attrs no_attrs;

/* Memory, and a space of devices with nothing but the IOMMU, which leads to the memory. */
struct rig {
    struct gm_map *map;
    struct gm_region *root;
    struct gm_region *bus;
    struct gm_region *iommu;
    struct gm_space *memory;
    struct gm_space *device;
    struct gm_ram *ram;
    uint8_t *bytes;
    struct radix radix;
    struct shadowmap shadow;
};

static void rig_open(struct rig *rig)
{
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_IOMMU,
                                        .size_bytes = RADIX_BYTES,
                                        .addr = WINDOW,
                                        .iommu = &radix_ops,
                                        .opaque = &rig->radix};
    struct gm_region *region;

    GM_ASSERT(gm_map_new(NULL, &rig->map, NULL) == 0);
    GM_ASSERT(gm_region_new_container(rig->map, "memory", GM_SIZE_2_64, &rig->root) == 0);
    GM_ASSERT(gm_region_new_container(rig->map, "bus", GM_SIZE_2_64, &rig->bus) == 0);
    GM_ASSERT(gm_ram_new_anon(RAM_PAGES * PAGE, NULL, &rig->ram, NULL) == 0);
    GM_ASSERT(gm_region_new_ram(rig->map, "ram", rig->ram, &region) == 0);
    GM_ASSERT(gm_region_add(rig->root, region, NULL) == 0);
    gm_region_put(region);
    GM_ASSERT(gm_space_new(rig->map, "memory", rig->root, &rig->memory, NULL) == 0);
    GM_ASSERT(gm_space_new(rig->map, "device", rig->bus, &rig->device, NULL) == 0);
    radix_init(&rig->radix, rig->memory);
    GM_ASSERT(gm_region_new(rig->map, &options, &rig->iommu, NULL) == 0);
    rig->radix.region = rig->iommu;
    GM_ASSERT(gm_region_add(rig->bus, rig->iommu, NULL) == 0);
    rig->bytes = gm_ram_hva(rig->ram);
    shadowmap_init(&rig->shadow, rig->device);
}

static void rig_close(struct rig *rig)
{
    shadowmap_fini(&rig->shadow);
    GM_ASSERT(gm_space_free(rig->device, NULL) == 0);
    GM_ASSERT(gm_space_free(rig->memory, NULL) == 0);
    gm_region_put(rig->iommu);
    gm_region_put(rig->bus);
    gm_region_put(rig->root);
    gm_map_free(rig->map);
    gm_map_quiesce(NULL);
    gm_ram_put(rig->ram);
    radix_fini(&rig->radix);
}

/* ---- forced orders ---- */

#ifdef GM_AUDIT_ON

/* One thread stops at a point, once, until it is let go. */
static const char *_Atomic stop_at;
static atomic_bool has_stopped;
static atomic_bool may_go;
static atomic_bool has_counted;
static atomic_uint stop_after; /* times that it goes past before */
static _Thread_local bool is_stopper;

static void on_point(const char *name)
{
    const char *at = atomic_load(&stop_at);

    if (strcmp(name, "iommu-counted") == 0) {
        atomic_store(&has_counted, true);
    }
    if (is_stopper && at != NULL && strcmp(name, at) == 0) {
        if (atomic_load(&stop_after) > 0) {
            atomic_fetch_sub(&stop_after, 1);
            return;
        }
        atomic_store(&stop_at, NULL);
        atomic_store(&has_stopped, true);
        while (!atomic_load(&may_go)) {
            sched_yield();
        }
    }
}

/* What the thread that stops does. */
struct victim {
    struct rig *rig;
    struct gm_space *space; /* NULL: the rig's device's */
    enum {
        VICTIM_WRITE,
        VICTIM_STORE,
        VICTIM_CMPXCHG,
        VICTIM_CACHE,
        VICTIM_MAP,
        VICTIM_REPLAY
    } how;
    struct gm_cache cache;
    enum gm_access result;
    pthread_t thread;
};

static void *victim_thread(void *argument)
{
    struct victim *victim = argument;
    struct gm_space *device = victim->space != NULL ? victim->space : victim->rig->device;
    struct gm_mapping mapping;
    uint64_t size_bytes = 8;
    uint64_t expected = 0;

    is_stopper = true;
    switch (victim->how) {
    case VICTIM_WRITE:
        victim->result = gm_write(device, WINDOW + 0x10, "stale", 6, no_attrs);
        break;
    case VICTIM_STORE:
        victim->result = gm_store(device, WINDOW + 0x10, 4, GM_ORDER_LITTLE, 0x5a5a5a5a, no_attrs);
        break;
    case VICTIM_CMPXCHG:
        victim->result =
            gm_cmpxchg(device, WINDOW + 0x10, 8, GM_ORDER_LITTLE, &expected, 1, no_attrs);
        break;
    case VICTIM_CACHE:
        victim->result = gm_cache_store(&victim->cache, 0x10, 8, GM_ORDER_LITTLE, 1);
        break;
    case VICTIM_MAP:
        victim->result = GM_ACCESS_DENIED;
        if (gm_map_range(device, WINDOW + 0x10, &size_bytes, true, no_attrs, &mapping) == 0) {
            *(uint8_t *)mapping.data = 1;
            victim->result = gm_unmap(&mapping, 1);
        }
        break;
    case VICTIM_REPLAY:
        GM_ASSERT(gm_iommu_replay(victim->rig->shadow.sections[0].notifier) == 0);
        break;
    }
    return NULL;
}

static void victim_begin(struct victim *victim, const char *point)
{
    atomic_store(&has_stopped, false);
    atomic_store(&may_go, false);
    atomic_store(&has_counted, false);
    atomic_store(&stop_at, point);
    GM_ASSERT(pthread_create(&victim->thread, NULL, victim_thread, victim) == 0);
    while (!atomic_load(&has_stopped)) {
        sched_yield();
    }
}

static void victim_end(struct victim *victim)
{
    atomic_store(&may_go, true);
    GM_ASSERT(pthread_join(victim->thread, NULL) == 0);
}

static bool page_is(const struct rig *rig, uint64_t page, uint8_t byte)
{
    const uint8_t *bytes = rig->bytes + page * PAGE;

    for (uint64_t i = 0; i < PAGE; i++) {
        if (bytes[i] != byte) {
            return false;
        }
    }
    return true;
}

static void *let_go_thread(void *argument)
{
    (void)argument;
    while (!atomic_load(&has_counted)) {
        sched_yield();
    }
    for (int i = 0; i < 100; i++) { /* time for an unmap that does not wait to go wrong */
        sched_yield();
    }
    atomic_store(&may_go, true);
    return NULL;
}

static const int all_ways[] = {VICTIM_WRITE, VICTIM_STORE, VICTIM_CMPXCHG, VICTIM_CACHE,
                               VICTIM_MAP};

static void iommu_unmap_after_translate_is_seen_before_the_access(void **state)
{
    /* M1: what translate said is old when it would be used. The page is another's by then. */
    static struct rig rig;

    (void)state;
    point_hook = on_point;
    for (unsigned i = 0; i < sizeof(all_ways) / sizeof(all_ways[0]); i++) {
        struct victim victim = {.rig = &rig, .how = all_ways[i]};

        rig_open(&rig);
        GM_ASSERT(gm_cache_init(&victim.cache, rig.device, WINDOW, PAGE, true, no_attrs) == 0);
        radix_map(&rig.radix, 0, PAGE, 3 * PAGE, GM_IOMMU_READ | GM_IOMMU_WRITE);
        victim_begin(&victim, "iommu-translated");
        radix_unmap(&rig.radix, 0, PAGE);
        memset(rig.bytes + 3 * PAGE, 0x99, PAGE);
        victim_end(&victim);
        assert_int_equal(victim.result, GM_ACCESS_DENIED);
        assert_true(page_is(&rig, 3, 0x99));
        assert_null(shadowmap_at(&rig.shadow, WINDOW / PAGE));
        gm_cache_fini(&victim.cache);
        rig_close(&rig);
    }
    point_hook = NULL;
}

/* A second IOMMU in front of the rig's: its space leads to the rig's device's, where the first one is. */
struct outer {
    struct gm_region *bus;
    struct gm_region *iommu;
    struct gm_space *space;
    struct radix radix;
};

static void outer_open(struct outer *outer, struct rig *rig)
{
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_IOMMU,
                                        .size_bytes = RADIX_BYTES,
                                        .addr = WINDOW,
                                        .iommu = &radix_ops,
                                        .opaque = &outer->radix};

    radix_init(&outer->radix, rig->device);
    GM_ASSERT(gm_region_new_container(rig->map, "outer bus", GM_SIZE_2_64, &outer->bus) == 0);
    GM_ASSERT(gm_region_new_child(outer->bus, &options, &outer->iommu, NULL) == 0);
    outer->radix.region = outer->iommu;
    GM_ASSERT(gm_space_new(rig->map, "outer device", outer->bus, &outer->space, NULL) == 0);
    radix_map(&outer->radix, 0, PAGE, WINDOW, GM_IOMMU_READ | GM_IOMMU_WRITE);
}

static void outer_close(struct outer *outer)
{
    GM_ASSERT(gm_space_free(outer->space, NULL) == 0);
    gm_region_put(outer->iommu);
    gm_region_put(outer->bus);
}

static void iommu_unmap_of_either_in_a_chain_is_seen_before_the_access(void **state)
{
    /* M1 of two in a row: the outer one unmaps when it has translated, then in the section that reads the inner one's view, then
     * when both have; then the inner one does. */
    static const struct {
        const char *point;
        unsigned stop_after;
        bool is_inner;
    } ORDERS[] = {{"iommu-translated", 0, false},
                  {"iommu-entered", 0, false},
                  {"iommu-translated", 1, false},
                  {"iommu-translated", 1, true}};
    static struct outer outer;
    static struct rig rig;

    (void)state;
    point_hook = on_point;
    for (unsigned i = 0; i < 4 * sizeof(all_ways) / sizeof(all_ways[0]); i++) {
        struct victim victim = {.rig = &rig, .how = all_ways[i / 4]};
        pthread_t helper;

        rig_open(&rig);
        outer_open(&outer, &rig);
        victim.space = outer.space;
        radix_map(&rig.radix, 0, PAGE, 3 * PAGE, GM_IOMMU_READ | GM_IOMMU_WRITE);
        GM_ASSERT(gm_cache_init(&victim.cache, outer.space, WINDOW, PAGE, true, no_attrs) == 0);
        atomic_store(&stop_after, ORDERS[i % 4].stop_after);
        victim_begin(&victim, ORDERS[i % 4].point);
        if (i % 4 == 1) { /* this unmap waits for it */
            GM_ASSERT(pthread_create(&helper, NULL, let_go_thread, NULL) == 0);
        }
        radix_unmap(ORDERS[i % 4].is_inner ? &rig.radix : &outer.radix, 0, PAGE);
        memset(rig.bytes + 3 * PAGE, 0x99, PAGE);
        if (i % 4 == 1) {
            GM_ASSERT(pthread_join(helper, NULL) == 0);
        }
        victim_end(&victim);
        assert_int_equal(victim.result, GM_ACCESS_DENIED);
        assert_true(page_is(&rig, 3, 0x99));
        gm_cache_fini(&victim.cache);
        outer_close(&outer);
        rig_close(&rig);
        radix_fini(&outer.radix);
    }
    point_hook = NULL;
}

static void iommu_unmap_waits_for_the_section_that_uses_it(void **state)
{
    /* M2: the access has its ticket checked, so the unmap returns after its store. */
    static struct rig rig;

    (void)state;
    point_hook = on_point;
    for (unsigned i = 0; i < sizeof(all_ways) / sizeof(all_ways[0]); i++) {
        struct victim victim = {.rig = &rig, .how = all_ways[i]};
        pthread_t helper;

        if (victim.how == VICTIM_MAP) {
            continue; /* the mapping is made in the section, and used after it */
        }
        rig_open(&rig);
        GM_ASSERT(gm_cache_init(&victim.cache, rig.device, WINDOW, PAGE, true, no_attrs) == 0);
        radix_map(&rig.radix, 0, PAGE, 3 * PAGE, GM_IOMMU_READ | GM_IOMMU_WRITE);
        victim_begin(&victim, "iommu-entered");
        GM_ASSERT(pthread_create(&helper, NULL, let_go_thread, NULL) == 0);
        radix_unmap(&rig.radix, 0, PAGE);
        if (victim.how !=
            VICTIM_CACHE) { /* which was being made: its use comes later, and is denied */
            assert_true(rig.bytes[3 * PAGE + 0x10] != 0);
        }
        memset(rig.bytes + 3 * PAGE, 0x99, PAGE);
        GM_ASSERT(pthread_join(helper, NULL) == 0);
        victim_end(&victim);
        assert_true(page_is(&rig, 3, 0x99));
        gm_cache_fini(&victim.cache);
        rig_close(&rig);
    }
    point_hook = NULL;
}

static void iommu_section_from_before_the_unmap_sees_its_count(void **state)
{
    /* M3: the unmap waits for a section that was entered before, and that looks at the ticket only now. */
    static struct rig rig;

    (void)state;
    point_hook = on_point;
    for (unsigned i = 0; i < sizeof(all_ways) / sizeof(all_ways[0]); i++) {
        struct victim victim = {.rig = &rig, .how = all_ways[i]};
        pthread_t helper;

        rig_open(&rig);
        GM_ASSERT(gm_cache_init(&victim.cache, rig.device, WINDOW, PAGE, true, no_attrs) == 0);
        radix_map(&rig.radix, 0, PAGE, 3 * PAGE, GM_IOMMU_READ | GM_IOMMU_WRITE);
        victim_begin(&victim, "iommu-entering");
        GM_ASSERT(pthread_create(&helper, NULL, let_go_thread, NULL) == 0);
        radix_unmap(&rig.radix, 0, PAGE);
        assert_true(atomic_load(&may_go)); /* it has waited */
        memset(rig.bytes + 3 * PAGE, 0x99, PAGE);
        GM_ASSERT(pthread_join(helper, NULL) == 0);
        victim_end(&victim);
        assert_int_equal(victim.result, GM_ACCESS_DENIED);
        assert_true(page_is(&rig, 3, 0x99));
        gm_cache_fini(&victim.cache);
        rig_close(&rig);
    }
    point_hook = NULL;
}

static void iommu_replay_tells_no_map_after_its_unmap(void **state)
{
    /* M4: a replay has read a translation that goes, or becomes another, before it tells it. */
    static struct rig rig;
    struct victim victim = {.rig = &rig, .how = VICTIM_REPLAY};

    (void)state;
    point_hook = on_point;
    rig_open(&rig);
    radix_map(&rig.radix, 0, PAGE, 3 * PAGE, GM_IOMMU_READ);
    victim_begin(&victim, "replay-translated");
    radix_unmap(&rig.radix, 0, PAGE);
    victim_end(&victim);
    assert_null(shadowmap_at(&rig.shadow, WINDOW / PAGE));
    radix_map(&rig.radix, 0, PAGE, 3 * PAGE, GM_IOMMU_READ);
    victim_begin(&victim, "replay-translated");
    radix_unmap(&rig.radix, 0, PAGE);
    radix_map(&rig.radix, 0, PAGE, 4 * PAGE, GM_IOMMU_READ);
    victim_end(&victim);
    assert_ptr_equal(shadowmap_at(&rig.shadow, WINDOW / PAGE), rig.bytes + 4 * PAGE);
    rig_close(&rig);
    point_hook = NULL;
}

#endif

/* ---- registering ---- */

#define REGISTRARS 2u
#define REGISTRATIONS 400u

/* An owner that keeps, without a lock of its own, what notifiers want: it is told by one thread at a time. */
struct quiet_owner {
    unsigned kinds;
    unsigned calls;
};

static void translate_nothing(void *opaque, const struct gm_iommu_request *request,
                              struct gm_iommu_entry *entry)
{
    (void)opaque;
    (void)request;
    (void)entry;
}

static int keep_kinds(void *opaque, unsigned index, unsigned old_kinds, unsigned new_kinds)
{
    struct quiet_owner *owner = opaque;

    GM_ASSERT(index == 0 && owner->kinds == old_kinds && old_kinds != new_kinds);
    owner->kinds = new_kinds;
    owner->calls++;
    return 0;
}

/* Registers and unregisters; while it is registered it hears what it tells. */
struct registrar {
    struct gm_region *iommu;
    unsigned kinds;
    atomic_bool is_alive; /* its notifier is registered */
    atomic_uint own;      /* events of its own that it heard, by their address */
    uint64_t address;
    pthread_t thread;
};

static void hear(void *opaque, const struct gm_iommu_event *event)
{
    struct registrar *registrar = opaque;

    GM_ASSERT(atomic_load(&registrar->is_alive));
    if (event->first == registrar->address) {
        atomic_fetch_add(&registrar->own, 1);
    }
}

static void *registrar_thread(void *argument)
{
    struct registrar *registrar = argument;
    const struct gm_iommu_notifier_options options = {.size = sizeof(options),
                                                      .kinds = registrar->kinds,
                                                      .last = RADIX_BYTES - 1,
                                                      .notify = hear,
                                                      .opaque = registrar};
    const struct gm_iommu_event event = {
        .kind = GM_IOMMU_UNMAP, .first = registrar->address, .last = registrar->address + PAGE - 1};

    for (unsigned i = 0; i < REGISTRATIONS; i++) {
        struct gm_iommu_notifier *notifier;

        atomic_store(&registrar->is_alive, true);
        GM_ASSERT(gm_iommu_register(registrar->iommu, &options, &notifier, NULL) == 0);
        GM_ASSERT(gm_iommu_notify(registrar->iommu, &event) == 0);
        GM_ASSERT(atomic_load(&registrar->own) == i + 1);
        gm_iommu_unregister(notifier);
        atomic_store(&registrar->is_alive, false);
        GM_ASSERT(gm_iommu_notify(registrar->iommu, &event) == 0);
    }
    return NULL;
}

static void iommu_notifiers_that_two_threads_register_are_told_and_gone(void **state)
{
    /* The owner hears of the kinds in their order; who has registered hears all, who has unregistered nothing. */
    struct registrar registrars[REGISTRARS];
    struct quiet_owner owner = {0};
    const struct gm_iommu_ops ops = {
        .size = sizeof(ops), .translate = translate_nothing, .notifiers_changed = keep_kinds};
    const struct gm_region_options options = {.size = sizeof(options),
                                              .kind = GM_REGION_IOMMU,
                                              .size_bytes = RADIX_BYTES,
                                              .addr = 2 * WINDOW,
                                              .iommu = &ops,
                                              .opaque = &owner};
    static struct rig rig;
    struct gm_region *iommu;

    (void)state;
    rig_open(&rig);
    GM_ASSERT(gm_region_new_child(rig.root, &options, &iommu, NULL) == 0);
    for (unsigned i = 0; i < REGISTRARS; i++) {
        registrars[i] =
            (struct registrar){.iommu = iommu,
                               .kinds = GM_IOMMU_UNMAP | (i % 2 == 0 ? GM_IOMMU_MAP : 0),
                               .address = i * PAGE};
        GM_ASSERT(pthread_create(&registrars[i].thread, NULL, registrar_thread, &registrars[i]) ==
                  0);
    }
    for (unsigned i = 0; i < REGISTRARS; i++) {
        GM_ASSERT(pthread_join(registrars[i].thread, NULL) == 0);
    }
    assert_int_equal(owner.kinds, 0);
    assert_true(owner.calls >= 2 * REGISTRATIONS); /* the first alone: MAP comes and goes */
    gm_region_put(iommu);
    rig_close(&rig);
}

/* ---- at random ---- */

#define ROUNDS 3000u
#define DEVICES 2u
#define SLOTS 32u /* pages of IOVA that are mapped and unmapped */
#define ACCESS_BYTES_MAX 64u
#define STRIPE_BYTES 96u

struct device {
    struct rig *rig;
    struct rnd rnd;
    atomic_bool *is_over;
    unsigned number;
    uint64_t done;
    pthread_t thread;
};

/*
 * Where one access of a device begins, below @end: devices own stripes of bytes in turn, so that the only races there could be
 * are with the owner of what was unmapped. A stripe is no part of a page's size: some lie across two pages.
 */
static uint64_t own_offset(struct device *device, uint64_t end)
{
    uint64_t stripe = rnd_below(&device->rnd, end / (DEVICES * STRIPE_BYTES)) * DEVICES;

    return (stripe + device->number) * STRIPE_BYTES +
           rnd_below(&device->rnd, STRIPE_BYTES - ACCESS_BYTES_MAX + 1);
}

/* Writes only 0x11 and 0x22, which no owner of an unmapped page writes. */
static void *device_thread(void *argument)
{
    struct device *device = argument;
    struct gm_space *space = device->rig->device;
    struct gm_cache cache;
    uint64_t value;

    GM_ASSERT(gm_cache_init(&cache, space, WINDOW, 2 * PAGE, true, no_attrs) == 0);
    while (!atomic_load(device->is_over)) {
        uint64_t gpa = WINDOW + own_offset(device, SLOTS * PAGE);
        uint64_t in_cache = own_offset(device, 2 * PAGE) & ~(uint64_t)7;
        uint8_t bytes[ACCESS_BYTES_MAX];
        enum gm_access result;

        switch (rnd_below(&device->rnd, 5)) {
        case 0:
            memset(bytes, 0x11, sizeof(bytes));
            result = gm_write(space, gpa, bytes, sizeof(bytes), no_attrs);
            break;
        case 1:
            result = gm_store(space, gpa & ~(uint64_t)7, 8, GM_ORDER_LITTLE, 0x2222222222222222,
                              no_attrs);
            break;
        case 2:
            result = gm_cache_store(&cache, in_cache, 8, GM_ORDER_LITTLE, 0x2222222222222222);
            break;
        case 3:
            result = gm_cache_load(&cache, in_cache, 8, GM_ORDER_LITTLE, &value);
            GM_ASSERT((value & 0xff) != 0x99); /* the page would be another's */
            break;
        default:
            result = gm_read(space, gpa, bytes, sizeof(bytes), no_attrs);
            GM_ASSERT(memchr(bytes, 0x99, sizeof(bytes)) == NULL);
            break;
        }
        device->done += result == GM_ACCESS_OK;
    }
    gm_cache_fini(&cache);
    return NULL;
}

/* The owner's dictionary: the page of memory that is mapped at each slot; 0: none. */
struct dictionary {
    uint64_t pages[SLOTS];
    bool is_used[RAM_PAGES];
};

static void map_one(struct rig *rig, struct rnd *rnd, struct dictionary *known, unsigned slot)
{
    uint64_t page = 1 + rnd_below(rnd, RAM_PAGES - 1);

    if (slot < 2) { /* the cache's: often one after the other */
        page = 8 + slot;
    }
    if (known->is_used[page]) {
        return;
    }
    memset(rig->bytes + page * PAGE, 0x33, PAGE);
    known->is_used[page] = true;
    known->pages[slot] = page;
    radix_map(&rig->radix, slot * PAGE, PAGE, page * PAGE, GM_IOMMU_READ | GM_IOMMU_WRITE);
}

/* The page is another's from here on: nobody else may store, or see what is there. */
static void unmap_one(struct rig *rig, struct dictionary *known, unsigned slot)
{
    uint64_t page = known->pages[slot];
    uint8_t *bytes = rig->bytes + page * PAGE;

    radix_unmap(&rig->radix, slot * PAGE, PAGE);
    known->pages[slot] = 0;
    memset(bytes, 0x99, PAGE);
    for (int i = 0; i < 3; i++) {
        sched_yield();
    }
    for (uint64_t i = 0; i < PAGE; i++) {
        GM_ASSERT(bytes[i] == 0x99);
    }
    known->is_used[page] = false;
}

static void iommu_random_unmaps_leave_no_stale_translation(void **state)
{
    /* Against a dictionary, which the shadow of a VFIO-like user equals after every change. */
    static struct rig rig;
    static struct dictionary known;
    static struct device devices[DEVICES];
    struct rnd rnd = {rnd_seed("iommu_race")};
    atomic_bool is_over = false;
    uint64_t rounds = rnd_setting("GM_ROUNDS", ROUNDS);

    (void)state;
    rig_open(&rig);
    known.is_used[8] = known.is_used[9] = false;
    for (unsigned i = 0; i < DEVICES; i++) {
        devices[i] =
            (struct device){.rig = &rig, .rnd = {rnd_next(&rnd)}, .is_over = &is_over, .number = i};
        GM_ASSERT(pthread_create(&devices[i].thread, NULL, device_thread, &devices[i]) == 0);
    }
    for (uint64_t round = 0; round < rounds; round++) {
        unsigned slot = (unsigned)rnd_below(&rnd, rnd_one_in(&rnd, 2) ? 2 : SLOTS);

        if (known.pages[slot] == 0) {
            map_one(&rig, &rnd, &known, slot);
        } else {
            unmap_one(&rig, &known, slot);
        }
        if (rnd_one_in(&rnd, 16)) { /* the whole IOMMU goes and comes: the shadow is replayed */
            GM_ASSERT(gm_region_del(rig.bus, rig.iommu, NULL) == 0);
            assert_null(shadowmap_at(&rig.shadow, WINDOW / PAGE + slot));
            GM_ASSERT(gm_region_add(rig.bus, rig.iommu, NULL) == 0);
        }
        for (unsigned i = 0; i < SLOTS; i++) {
            void *expected = known.pages[i] != 0 ? rig.bytes + known.pages[i] * PAGE : NULL;

            assert_ptr_equal(shadowmap_at(&rig.shadow, WINDOW / PAGE + i), expected);
        }
    }
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < DEVICES; i++) {
        GM_ASSERT(pthread_join(devices[i].thread, NULL) == 0);
        assert_true(devices[i].done > 0);
    }
    rig_close(&rig);
}

static void iommu_large_pages_are_shadowed_and_replayed(void **state)
{
    /* A page of 256 KiB, told as one map, and seen by a shadow that comes later. */
    static struct rig rig;
    static struct shadowmap late;
    uint64_t value;

    (void)state;
    rig_open(&rig);
    radix_map(&rig.radix, RADIX_LARGE_BYTES, RADIX_LARGE_BYTES, RADIX_LARGE_BYTES, GM_IOMMU_READ);
    shadowmap_init(&late, rig.device);
    for (uint64_t page = 0; page < RADIX_PAGES; page++) {
        void *expected = page / RADIX_ENTRIES == 1 ? rig.bytes + page * PAGE : NULL;

        assert_ptr_equal(shadowmap_at(&rig.shadow, WINDOW / PAGE + page), expected);
        assert_ptr_equal(shadowmap_at(&late, WINDOW / PAGE + page), expected);
    }
    rig.bytes[RADIX_LARGE_BYTES + 5 * PAGE] = 42;
    assert_int_equal(gm_load(rig.device, WINDOW + RADIX_LARGE_BYTES + 5 * PAGE, 1, GM_ORDER_LITTLE,
                             &value, no_attrs),
                     0);
    assert_int_equal(value, 42);
    radix_unmap(&rig.radix, RADIX_LARGE_BYTES, RADIX_LARGE_BYTES);
    assert_null(shadowmap_at(&late, WINDOW / PAGE + RADIX_ENTRIES));
    shadowmap_fini(&late);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef GM_AUDIT_ON
        cmocka_unit_test(iommu_unmap_after_translate_is_seen_before_the_access),
        cmocka_unit_test(iommu_unmap_of_either_in_a_chain_is_seen_before_the_access),
        cmocka_unit_test(iommu_unmap_waits_for_the_section_that_uses_it),
        cmocka_unit_test(iommu_section_from_before_the_unmap_sees_its_count),
        cmocka_unit_test(iommu_replay_tells_no_map_after_its_unmap),
#endif
        cmocka_unit_test(iommu_notifiers_that_two_threads_register_are_told_and_gone),
        cmocka_unit_test(iommu_large_pages_are_shadowed_and_replayed),
        cmocka_unit_test(iommu_random_unmaps_leave_no_stale_translation),
    };

    return cmocka_run_group_tests_name("iommu_race", tests, NULL, NULL);
}
