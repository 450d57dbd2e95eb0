/*
 * fuzz/mmio.c - devices whose callbacks do to the map whatever a callback may: edit it, move and remove their own region, give up
 * the last reference to it, make others, end the address space that the access came by, access memory and each other, to
 * any depth. Nothing is used after its end, each region is released once, RAM is what was stored in it, and a device with
 * a guard is not re-entered.
 *
 * The input is a list of commands. The host takes them from its beginning; a callback goes on where it has come to.
 */
#include "fuzz.h"

#include "model/random.h"
#include "model/require.h"

#include <guestmem/guestmem.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define DEVICES 6u
#define SPACES 3u
#define MAPPINGS 3u
#define WINDOW 0x100u     /* of a device */
#define PITCH 0x80u       /* where regions begin: they overlap */
#define PLACES 16u        /* in the root */
#define RAM_GPA 0x4000u   /* behind them: nothing covers it */
#define RAM_BYTES 0x2000u /* of which the second half is visible where nothing else is, */
#define RAM_SHOWN_GPA 0u  /* from here on */
#define ACCESS_MAX 0x300u /* over several devices */
#define DEPTH_MAX 24u     /* of callbacks in callbacks */
#define COMMANDS_MAX 400u

struct machine;

struct device {
    struct machine *machine;
    struct gm_region *region; /* NULL: none, or only the tree's and views' is left */
    unsigned number;
    bool is_guarded;
    unsigned running; /* callbacks under way */
    bool is_alive;    /* until the release */
    uint64_t registers[2];
};

struct machine {
    struct gm_map *map;
    struct gm_ram *ram;
    struct gm_region *root;
    struct gm_region *memory, *shown; /* of the same block */
    struct gm_space *spaces[SPACES];
    struct gm_listener *listener;
    /* Each device gets a record of its own, which is not used again: a late callback would be seen. */
    struct device *devices[DEVICES];
    struct gm_mapping mappings[MAPPINGS];
    bool is_mapped[MAPPINGS];
    bool mapping_is_write[MAPPINGS];
    struct gm_cache cache;
    bool has_cache;
    uint8_t stored[RAM_BYTES / 2]; /* what the covered half of the block holds */
    unsigned depth, command_count;
    unsigned made, released;
    unsigned told;
};

static const struct gm_attrs no_attrs;

static void command(struct machine *machine);

static unsigned below(unsigned end)
{
    struct rnd rnd = {0};

    return (unsigned)rnd_below(&rnd, end);
}

static bool has_more(const struct machine *machine)
{
    return rnd_input.at != rnd_input.end && machine->command_count < COMMANDS_MAX;
}

/* ---- devices ---- */

/* What the device does when it is touched: from none to a few commands. */
static enum gm_access act(struct device *device)
{
    struct machine *machine = device->machine;
    unsigned count;

    REQUIRE(device->is_alive, "device %u is called after its release", device->number);
    REQUIRE(!device->is_guarded || device->running == 0, "device %u is re-entered", device->number);
    if (!has_more(machine)) {
        return GM_ACCESS_OK;
    }
    count = below(8);
    device->running++;
    machine->depth++;
    for (unsigned i = 0; i < count % 4 && machine->depth < DEPTH_MAX && has_more(machine); i++) {
        command(machine);
        REQUIRE(device->is_alive, "device %u is released in its callback", device->number);
    }
    machine->depth--;
    device->running--;
    return count == 7 ? GM_ACCESS_DEVICE : GM_ACCESS_OK;
}

static enum gm_access on_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                              struct gm_attrs attrs)
{
    struct device *device = opaque;
    enum gm_access result = act(device);

    (void)attrs;
    REQUIRE(offset < WINDOW && size_bytes <= 8, "offset %#" PRIx64, offset);
    *value = device->registers[offset / 8 % 2];
    return result;
}

static enum gm_access on_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                               struct gm_attrs attrs)
{
    struct device *device = opaque;
    enum gm_access result = act(device);

    (void)attrs;
    REQUIRE(offset < WINDOW && size_bytes <= 8, "offset %#" PRIx64, offset);
    device->registers[offset / 8 % 2] = value;
    return result;
}

/* Asked before each access, and by gm_access_valid(). */
static bool on_accepts(void *opaque, uint64_t offset, unsigned size_bytes, bool is_write,
                       struct gm_attrs attrs)
{
    struct device *device = opaque;

    (void)attrs;
    (void)size_bytes;
    REQUIRE(device->is_alive, "device %u is asked after its release", device->number);
    return offset < WINDOW - 8 || is_write;
}

static void on_release(void *opaque)
{
    struct device *device = opaque;

    REQUIRE(device->is_alive, "device %u is released twice", device->number);
    REQUIRE(device->running == 0, "device %u is released in its callback", device->number);
    device->is_alive = false;
    __atomic_add_fetch(&device->machine->released, 1, __ATOMIC_ACQ_REL);
    free(device);
}

/* In which ways devices differ. */
static struct gm_io_ops random_ops(unsigned way)
{
    static const uint8_t sizes[] = {0, 1, 2, 4, 8};

    return (struct gm_io_ops){
        .size = sizeof(struct gm_io_ops),
        .read = on_read,
        .write = on_write,
        .accepts = (way & 1) != 0 ? on_accepts : NULL,
        .order = (way & 2) != 0 ? GM_ORDER_BIG : GM_ORDER_LITTLE,
        .valid = {.unaligned = (way & 4) != 0},
        .implemented = {.max_bytes = sizes[way / 8 % 5], .unaligned = (way & 4) != 0},
        .guard_reentry = (way & 64) != 0,
    };
}

static void make_device(struct machine *machine, unsigned number)
{
    struct device *device = calloc(1, sizeof(*device));
    unsigned way = below(128);
    const struct gm_io_ops ops = random_ops(way);
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_MMIO,
        .name = "device",
        .size_bytes = WINDOW,
        .addr = (uint64_t)below(PLACES) * PITCH,
        .priority = (int32_t)below(3),
        .io = &ops,
        .opaque = device,
        .release = on_release,
    };

    REQUIRE(device != NULL, "no memory");
    *device = (struct device){
        .machine = machine, .number = number, .is_guarded = (way & 64) != 0, .is_alive = true};
    REQUIRE(gm_region_new(machine->map, &options, &device->region, NULL) == 0, "a device");
    machine->devices[number] = device;
    machine->made++;
}

/* ---- commands ---- */

static struct gm_space *some_space(const struct machine *machine)
{
    unsigned number = below(SPACES);

    return machine->spaces[number] != NULL ? machine->spaces[number] : machine->spaces[0];
}

static uint64_t some_gpa(void)
{
    unsigned at = below(256);

    return at < 250 ? (uint64_t)at * (PLACES * PITCH / 240) : RAM_GPA + at;
}

static struct device *some_device(const struct machine *machine)
{
    return machine->devices[below(DEVICES)];
}

/* The owner's reference goes: the tree and views may have some. Its place gets another device later. */
static void drop_device(struct machine *machine, struct device *device)
{
    struct gm_region *region = device->region;

    machine->devices[device->number] = NULL;
    gm_region_put(region);
}

static void add_or_remove(struct machine *machine, struct device *device)
{
    struct gm_region_state state;
    struct gm_region *parent = below(8) == 7 ? machine->shown : machine->root;
    int result;

    gm_region_state(device->region, &state);
    if (state.parent != NULL) {
        parent = state.parent == machine->root ? machine->root : machine->shown;
        result = gm_region_del(parent, device->region, NULL);
    } else {
        result = gm_region_add(parent, device->region, NULL);
    }
    REQUIRE(result == 0, "adding or removing: %d", result);
}

/* Several edits, and accesses before they are committed. */
static void transact(struct machine *machine)
{
    struct gm_txn *txn;
    unsigned count = 1 + below(4);
    int result;

    REQUIRE(gm_txn_begin(machine->map, &txn) == 0, "beginning");
    for (unsigned i = 0; i < count; i++) {
        struct device *device = some_device(machine);

        if (device == NULL) {
            continue;
        }
        switch (below(4)) {
        case 0:
            result = gm_txn_set_addr(txn, device->region, (uint64_t)below(PLACES) * PITCH);
            break;
        case 1:
            result = gm_txn_set_priority(txn, device->region, (int32_t)below(3));
            break;
        case 2:
            result = gm_txn_set_enabled(txn, device->region, below(2) == 1);
            break;
        default:
            result = 0;
            command(machine);
            break;
        }
        REQUIRE(result == 0, "recording: %d", result);
    }
    if (below(8) == 7) {
        gm_txn_abort(txn);
        return;
    }
    result = gm_txn_commit(txn, NULL);
    REQUIRE(result == 0, "committing: %d", result);
}

static void change_space(struct machine *machine)
{
    unsigned number = 1 + below(SPACES - 1);
    struct gm_space *space = machine->spaces[number];
    int result;

    if (space != NULL) { /* an access that came by it ends as it began */
        machine->spaces[number] = NULL;
        result = gm_space_free(space, NULL);
    } else {
        result = gm_space_new(machine->map, "space", machine->root, &space, NULL);
        machine->spaces[number] = result == 0 ? space : NULL;
    }
    REQUIRE(result == 0, "a space: %d", result);
}

/* Within the half of RAM that nothing ever covers. */
static void use_memory(struct machine *machine)
{
    unsigned offset = below(RAM_BYTES / 2 - 8);
    uint64_t value = (uint64_t)below(256) * UINT64_C(0x0101010101010101);
    uint64_t found = ~value;
    struct gm_space *space = some_space(machine);

    REQUIRE(gm_load(space, RAM_GPA + offset, 8, GM_ORDER_LITTLE, &found, no_attrs) == GM_ACCESS_OK,
            "RAM at %#x", offset);
    REQUIRE(memcmp(&found, machine->stored + offset, 8) == 0,
            "RAM at %#x is %#" PRIx64 ", and something else was stored", offset, found);
    REQUIRE(gm_store(space, RAM_GPA + offset, 8, GM_ORDER_LITTLE, value, no_attrs) == GM_ACCESS_OK,
            "RAM at %#x", offset);
    memcpy(machine->stored + offset, &value, 8);
}

static void access_number(struct machine *machine, bool is_store)
{
    struct gm_space *space = some_space(machine);
    uint64_t gpa = some_gpa() & ~UINT64_C(7);
    unsigned size_bytes = 1u << below(4);
    uint64_t value = gpa;

    if (gpa >= RAM_GPA) {
        return; /* use_memory() has that */
    }
    if (is_store) {
        (void)gm_store(space, gpa, size_bytes, GM_ORDER_BIG, value, no_attrs);
    } else {
        (void)gm_load(space, gpa, size_bytes, GM_ORDER_BIG, &value, no_attrs);
        REQUIRE(size_bytes == 8 || value >> (8 * size_bytes) == 0, "more than was loaded");
    }
}

static void access_bytes(struct machine *machine, bool is_write)
{
    struct gm_space *space = some_space(machine);
    uint8_t data[ACCESS_MAX] = {0};
    uint64_t gpa = some_gpa();
    size_t size_bytes = 1 + below(ACCESS_MAX);

    if (gpa >= RAM_GPA || gpa + size_bytes > RAM_GPA) {
        gpa = 0;
    }
    if (is_write) {
        (void)gm_write(space, gpa, data, size_bytes, no_attrs);
    } else {
        (void)gm_read(space, gpa, data, size_bytes, no_attrs);
    }
}

/* A mapping, a bounce buffer mostly, begins or ends: the device is called then. */
static void map_or_unmap(struct machine *machine)
{
    unsigned number = below(MAPPINGS);
    struct gm_mapping mapping = machine->mappings[number];
    uint64_t size_bytes = 1 + below(ACCESS_MAX);
    bool is_write = below(2) == 1;

    if (machine->is_mapped[number]) {
        machine->is_mapped[number] = false;
        if (machine->mapping_is_write[number]) {
            memset(mapping.data, 0x5a, mapping.size_bytes);
        }
        (void)gm_unmap(&mapping, mapping.size_bytes);
        return;
    }
    if (gm_map_range(some_space(machine), below(PLACES) * PITCH, &size_bytes, is_write, no_attrs,
                     &mapping) != 0) {
        return;
    }
    REQUIRE(mapping.size_bytes == size_bytes && size_bytes >= 1 && size_bytes <= ACCESS_MAX,
            "mapped %" PRIu64 " bytes", size_bytes);
    if (machine->is_mapped[number]) { /* a callback was quicker */
        (void)gm_unmap(&mapping, 0);
        return;
    }
    machine->mappings[number] = mapping;
    machine->is_mapped[number] = true;
    machine->mapping_is_write[number] = is_write;
}

/* One user at a time: no callback of an access through it uses it. */
static void use_cache(struct machine *machine)
{
    uint8_t data[32] = {0};
    uint64_t value;
    unsigned way = below(4);
    unsigned offset = below(WINDOW);
    bool has_cache = machine->has_cache;

    machine->has_cache = false;
    if (!has_cache) {
        return;
    }
    if (way == 0) {
        (void)gm_cache_read(&machine->cache, offset, data, sizeof(data));
    } else if (way == 1) {
        (void)gm_cache_write(&machine->cache, offset, data, sizeof(data));
    } else if (way == 2) {
        (void)gm_cache_load(&machine->cache, offset, 4, GM_ORDER_GUEST, &value);
    } else {
        (void)gm_cache_store(&machine->cache, offset, 4, GM_ORDER_GUEST, offset);
    }
    machine->has_cache = true;
}

static void other_access(struct machine *machine)
{
    struct gm_space *space = some_space(machine);
    uint64_t value = 0;
    struct gm_section section;
    struct gm_view *view;

    switch (below(4)) {
    case 0:
        (void)gm_fill(space, (uint64_t)below(PLACES) * PITCH, 0x77, 1 + below(ACCESS_MAX),
                      no_attrs);
        break;
    case 1:
        (void)gm_cmpxchg(space, some_gpa() % RAM_GPA & ~UINT64_C(7), 8, GM_ORDER_LITTLE, &value, 1,
                         no_attrs);
        break;
    case 2:
        (void)gm_access_valid(space, some_gpa(), 1 + below(ACCESS_MAX), below(2) == 1, no_attrs);
        break;
    default:
        view = gm_view_get(space);
        REQUIRE(gm_view_find(view, RAM_GPA, &section) && section.region == machine->memory,
                "RAM is not to be found");
        gm_view_put(view);
        break;
    }
}

/* ... of the device, if there is one; else it comes. */
static void change_device(struct machine *machine)
{
    unsigned number = below(DEVICES);
    struct device *device = machine->devices[number];

    if (device == NULL) {
        make_device(machine, number);
        device = machine->devices[number];
    }
    switch (below(4)) {
    case 0:
        REQUIRE(gm_region_set_addr(device->region, (uint64_t)below(PLACES) * PITCH, NULL) == 0,
                "moving");
        break;
    case 1:
        drop_device(machine, device);
        break;
    default:
        add_or_remove(machine, device);
        break;
    }
}

/* What nobody reaches any more goes now. Not for callbacks. */
static void quiesce(struct machine *machine)
{
    if (machine->depth == 0) {
        gm_map_quiesce(machine->map);
    }
}

static void command(struct machine *machine)
{
    machine->command_count++;
    switch (below(16)) {
    case 0:
    case 1:
    case 2:
        change_device(machine);
        break;
    case 3:
        transact(machine);
        break;
    case 4:
        change_space(machine);
        break;
    case 5:
        use_memory(machine);
        break;
    case 6:
        map_or_unmap(machine);
        break;
    case 7:
        use_cache(machine);
        break;
    case 8:
        other_access(machine);
        break;
    case 9:
        quiesce(machine);
        break;
    case 10:
    case 11:
        access_bytes(machine, true);
        break;
    case 12:
        access_bytes(machine, false);
        break;
    case 13:
        access_number(machine, true);
        break;
    default:
        access_number(machine, false);
        break;
    }
}

/* ---- machines ---- */

/* From a listener's callback the map cannot be edited: that is said, and nothing hangs. */
static int on_prepare(void *opaque, struct gm_space *changed, const struct gm_change *changes,
                      size_t count, struct gm_diag *diag)
{
    struct machine *machine = opaque;
    struct gm_space *space = NULL;
    struct gm_txn *txn;

    (void)changed;
    (void)changes;
    (void)count;
    (void)diag;
    if (machine->told++ % 8 == 0) {
        REQUIRE(gm_txn_begin(machine->map, &txn) == 0, "beginning");
        REQUIRE(gm_txn_commit(txn, NULL) == -EDEADLK, "a commit in a commit");
        REQUIRE(gm_space_new(machine->map, "never", machine->root, &space, NULL) == -EDEADLK,
                "a space in a commit");
    }
    return 0;
}

static const struct gm_listener_ops listener_ops = {
    .size = sizeof(struct gm_listener_ops),
    .prepare = on_prepare,
};

static struct gm_region *add_memory(struct machine *machine, uint64_t gpa, uint64_t offset)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = "memory",
        .size_bytes = RAM_BYTES / 2,
        .addr = gpa,
        .priority = -1,
        .ram = machine->ram,
        .ram_offset = offset,
    };
    struct gm_region *region;

    REQUIRE(gm_region_new(machine->map, &options, &region, NULL) == 0, "memory");
    REQUIRE(gm_region_add(machine->root, region, NULL) == 0, "adding memory");
    return region;
}

static void begin(struct machine *machine)
{
    struct gm_map_options options = {.size = sizeof(options)};

    *machine = (struct machine){.map = NULL};
    REQUIRE(gm_map_new(&options, &machine->map, NULL) == 0, "a map");
    REQUIRE(gm_ram_new_anon(RAM_BYTES, NULL, &machine->ram, NULL) == 0, "a block");
    REQUIRE(gm_region_new_container(machine->map, "root", GM_SIZE_2_64, &machine->root) == 0,
            "a root");
    machine->memory = add_memory(machine, RAM_GPA, 0);
    machine->shown = add_memory(machine, RAM_SHOWN_GPA, RAM_BYTES / 2);
    for (unsigned i = 0; i < SPACES; i++) {
        REQUIRE(gm_space_new(machine->map, "space", machine->root, &machine->spaces[i], NULL) == 0,
                "a space");
    }
    REQUIRE(gm_listener_register(machine->map, NULL, 0, &listener_ops, machine, &machine->listener,
                                 NULL) == 0,
            "a listener");
    for (unsigned i = 0; i < DEVICES; i++) {
        make_device(machine, i);
        if (i < DEVICES / 2) {
            REQUIRE(gm_region_add(machine->root, machine->devices[i]->region, NULL) == 0, "adding");
        }
    }
    machine->has_cache =
        gm_cache_init(&machine->cache, machine->spaces[0], (uint64_t)below(PLACES) * PITCH, WINDOW,
                      true, no_attrs) == 0;
}

static void end(struct machine *machine)
{
    if (machine->has_cache) {
        gm_cache_fini(&machine->cache);
    }
    for (unsigned i = 0; i < MAPPINGS; i++) {
        if (machine->is_mapped[i]) {
            (void)gm_unmap(&machine->mappings[i], 0);
        }
    }
    REQUIRE(gm_listener_unregister(machine->listener, NULL) == 0, "the listener");
    for (unsigned i = 0; i < SPACES; i++) {
        REQUIRE(machine->spaces[i] == NULL || gm_space_free(machine->spaces[i], NULL) == 0,
                "a space's end");
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        if (machine->devices[i] != NULL) {
            drop_device(machine, machine->devices[i]);
        }
    }
    gm_region_put(machine->memory);
    gm_region_put(machine->shown);
    gm_region_put(machine->root);
    gm_map_quiesce(machine->map);
    gm_map_free(machine->map);
    for (unsigned i = 0;
         i < 2000 && __atomic_load_n(&machine->released, __ATOMIC_ACQUIRE) < machine->made; i++) {
        gm_map_quiesce(NULL);
    }
    REQUIRE(machine->released == machine->made, "%u of %u devices are released", machine->released,
            machine->made);
    gm_ram_put(machine->ram);
}

int fuzz_mmio(const uint8_t *data, size_t size)
{
    static struct machine machine;

    fuzz_begin(data, size);
    begin(&machine);
    while (has_more(&machine)) {
        command(&machine);
    }
    fuzz_end();
    end(&machine);
    return 0;
}
