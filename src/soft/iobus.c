/*
 * soft/iobus.c - ioeventfds and coalesced zones.
 *
 * Source: Linux api.rst, KVM_IOEVENTFD, KVM_REGISTER_COALESCED_MMIO; what it leaves open was asked of /dev/kvm
 * (tests/unit/test_soft_iobus.c).
 */
#include "soft/iobus.h"

#include "base/addr.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_ENTRIES                                                                               \
    ((uint32_t)((PAGE_BYTES_4K - sizeof(struct kvm_coalesced_mmio_ring)) /                         \
                sizeof(struct kvm_coalesced_mmio)))
/* Linux's own flag of eventfds that need no length is taken from users as well, and means nothing. */
#define FLAG_FAST (1u << 4)
#define FLAGS_KNOWN                                                                                \
    (KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN |         \
     KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY | FLAG_FAST)

static void drop_ring(const struct iobuses *buses)
{
    munmap(buses->ring, PAGE_BYTES_4K);
    if (buses->ring_fd != -1) {
        close(buses->ring_fd);
    }
}

/* mremap(2): of no bytes, a shared mapping stays where it is, and is at another place as well. Linux does so; valgrind refuses. */
static void *show_again(void *ring, void *page)
{
    return page != NULL ? mremap(ring, 0, PAGE_BYTES_4K, MREMAP_MAYMOVE | MREMAP_FIXED, page)
                        : mremap(ring, 0, PAGE_BYTES_4K, MREMAP_MAYMOVE);
}

/* A page that takes no descriptor, if it can be shown at other places too; else one of a file. */
static int make_ring(struct iobuses *buses)
{
    void *again;

    buses->ring_fd = -1;
    buses->ring =
        mmap(NULL, PAGE_BYTES_4K, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (buses->ring == MAP_FAILED) {
        return -ENOMEM;
    }
    again = show_again(buses->ring, NULL);
    if (again != MAP_FAILED) {
        munmap(again, PAGE_BYTES_4K);
        return 0;
    }
    buses->ring_fd = memfd_create("guestmem-coalesced", MFD_CLOEXEC);
    if (buses->ring_fd != -1 && ftruncate(buses->ring_fd, PAGE_BYTES_4K) == 0 &&
        mmap(buses->ring, PAGE_BYTES_4K, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             buses->ring_fd, 0) != MAP_FAILED) {
        return 0;
    }
    drop_ring(buses);
    return -ENOMEM;
}

int iobuses_init(struct iobuses *buses, const struct gm_allocator *allocator)
{
    int rc = lock_init(&buses->lock, LOCK_RANK_LEAF);

    if (rc != 0) {
        return rc;
    }
    rc = make_ring(buses);
    if (rc != 0) {
        lock_fini(&buses->lock);
        return rc;
    }
    buses->allocator = *allocator;
    atomic_init(&buses->is_used, false);
    return 0;
}

void iobuses_fini(struct iobuses *buses)
{
    for (unsigned kind = 0; kind < IOBUS_KINDS; kind++) {
        struct iobus *bus = &buses->buses[kind];

        for (size_t i = 0; i < bus->event_count; i++) {
            hostevent_drop(&bus->events[i].event);
        }
        mem_free(&buses->allocator, bus->events);
        mem_free(&buses->allocator, bus->zones);
    }
    drop_ring(buses);
    lock_fini(&buses->lock);
}

int iobuses_show_ring(const struct iobuses *buses, void *page)
{
    void *shown = buses->ring_fd == -1 ? show_again(buses->ring, page)
                                       : mmap(page, PAGE_BYTES_4K, PROT_READ | PROT_WRITE,
                                              MAP_SHARED | MAP_FIXED, buses->ring_fd, 0);

    return shown == MAP_FAILED ? -ENOMEM : 0;
}

/* ---- eventfds ---- */

static enum iobus_kind kind_of(uint32_t flags)
{
    return (flags & KVM_IOEVENTFD_FLAG_PIO) != 0                 ? IOBUS_PORTS
           : (flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY) != 0 ? IOBUS_CCW
                                                                 : IOBUS_MMIO;
}

static int check_eventfd(const struct kvm_ioeventfd *request)
{
    bool is_size = request->len == 0 || (is_power_of_two(request->len) && request->len <= 8);
    bool wraps = request->len != 0 && request->addr > UINT64_MAX - request->len;

    if (!is_size || wraps || (request->flags & ~(uint32_t)FLAGS_KNOWN) != 0) {
        return -EINVAL;
    }
    return request->len == 0 && (request->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) != 0 ? -EINVAL : 0;
}

static struct ioevent event_of(const struct kvm_ioeventfd *request)
{
    bool match = (request->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) != 0;

    return (struct ioevent){
        .address = request->addr,
        .value = match ? request->datamatch : 0,
        .size_bytes = request->len,
        .match = match,
    };
}

/* The first at @address, or where it would be. */
static size_t find_address(const struct iobus *bus, uint64_t address)
{
    size_t low = 0;
    size_t high = bus->event_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (bus->events[middle].address < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Is there a write that both take? They have one address. */
static bool collides(const struct ioevent *a, const struct ioevent *b)
{
    if (a->size_bytes == 0 || b->size_bytes == 0) {
        return true;
    }
    return a->size_bytes == b->size_bytes && (!a->match || !b->match || a->value == b->value);
}

/* Under the lock. */
static int insert(struct iobuses *buses, struct iobus *bus, const struct ioevent *event)
{
    size_t at = find_address(bus, event->address);
    struct ioevent *events;

    for (size_t i = at; i < bus->event_count && bus->events[i].address == event->address; i++) {
        if (collides(&bus->events[i], event)) {
            return -EEXIST;
        }
    }
    if (bus->zone_count >= IOBUS_ZONES_MAX) {
        return -ENOSPC;
    }
    events = mem_reserve(&buses->allocator, bus->events, &bus->event_capacity, bus->event_count + 1,
                         sizeof(*events));
    if (events == NULL) {
        return -ENOMEM;
    }
    bus->events = events;
    memmove(&events[at + 1], &events[at], (bus->event_count - at) * sizeof(*events));
    events[at] = *event;
    bus->event_count++;
    /* Release; pairs with the acquire in iobus_write(). */
    atomic_store_explicit(&buses->is_used, true, memory_order_release);
    return 0;
}

static int assign(struct iobuses *buses, const struct kvm_ioeventfd *request)
{
    struct ioevent event = event_of(request);
    int rc = check_eventfd(request);

    if (rc == 0) {
        rc = hostevent_take(&event.event, request->fd);
    }
    if (rc != 0) {
        return rc;
    }
    lock_take(&buses->lock);
    rc = insert(buses, &buses->buses[kind_of(request->flags)], &event);
    lock_drop(&buses->lock);
    if (rc != 0) {
        hostevent_drop(&event.event);
    }
    return rc;
}

/* Under the lock. Return: 0, and *removed has what is to be dropped; -ENOENT. */
static int take_out(struct iobus *bus, const struct ioevent *wanted, struct ioevent *removed)
{
    size_t at = find_address(bus, wanted->address);

    for (; at < bus->event_count && bus->events[at].address == wanted->address; at++) {
        const struct ioevent *event = &bus->events[at];

        if (event->event.id == wanted->event.id && event->size_bytes == wanted->size_bytes &&
            event->match == wanted->match && event->value == wanted->value) {
            *removed = *event;
            bus->event_count--;
            memmove(&bus->events[at], &bus->events[at + 1],
                    (bus->event_count - at) * sizeof(*event));
            return 0;
        }
    }
    return -ENOENT;
}

static int deassign(struct iobuses *buses, const struct kvm_ioeventfd *request)
{
    struct ioevent wanted = event_of(request);
    struct ioevent removed;
    int rc = hostevent_identify(request->fd, &wanted.event.id);

    if (rc != 0) {
        return rc;
    }
    lock_take(&buses->lock);
    rc = take_out(&buses->buses[kind_of(request->flags)], &wanted, &removed);
    lock_drop(&buses->lock);
    if (rc == 0) {
        hostevent_drop(&removed.event);
    }
    return rc;
}

int iobus_eventfd(struct iobuses *buses, const struct kvm_ioeventfd *request)
{
    return (request->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) != 0 ? deassign(buses, request)
                                                               : assign(buses, request);
}

/* ---- zones ---- */

int iobus_add_zone(struct iobuses *buses, const struct kvm_coalesced_mmio_zone *zone)
{
    struct kvm_coalesced_mmio_zone *zones;
    struct iobus *bus;
    int rc = 0;

    if (zone->pio > 1) {
        return -EINVAL;
    }
    bus = &buses->buses[zone->pio != 0 ? IOBUS_PORTS : IOBUS_MMIO];
    lock_take(&buses->lock);
    if (bus->zone_count >= IOBUS_ZONES_MAX) {
        rc = -ENOSPC;
    } else {
        zones = mem_reserve(&buses->allocator, bus->zones, &bus->zone_capacity, bus->zone_count + 1,
                            sizeof(*zones));
        rc = zones != NULL ? 0 : -ENOMEM;
    }
    if (rc == 0) {
        bus->zones = zones;
        zones[bus->zone_count] = *zone;
        bus->zone_count++;
        /* Release; pairs with the acquire in iobus_write(). */
        atomic_store_explicit(&buses->is_used, true, memory_order_release);
    }
    lock_drop(&buses->lock);
    return rc;
}

int iobus_remove_zones(struct iobuses *buses, const struct kvm_coalesced_mmio_zone *zone)
{
    struct iobus *bus;
    size_t kept = 0;

    if (zone->pio > 1) {
        return -EINVAL;
    }
    bus = &buses->buses[zone->pio != 0 ? IOBUS_PORTS : IOBUS_MMIO];
    lock_take(&buses->lock);
    for (size_t i = 0; i < bus->zone_count; i++) {
        const struct kvm_coalesced_mmio_zone *there = &bus->zones[i];

        if (!range_holds(there->addr, there->size, zone->addr, zone->size)) {
            bus->zones[kept] = *there;
            kept++;
        }
    }
    bus->zone_count = kept;
    lock_drop(&buses->lock);
    return 0;
}

/* ---- a guest's write; under the lock ---- */

static bool signal(const struct iobus *bus, uint64_t address, unsigned size_bytes, const void *data)
{
    uint64_t value = 0;

    memcpy(&value, data, size_bytes);
    for (size_t i = find_address(bus, address);
         i < bus->event_count && bus->events[i].address == address; i++) {
        const struct ioevent *event = &bus->events[i];

        if ((event->size_bytes == 0 || event->size_bytes == size_bytes) &&
            (!event->match || event->value == value)) {
            hostevent_signal(&event->event);
            return true;
        }
    }
    return false;
}

static bool is_in_zone(const struct iobus *bus, uint64_t address, unsigned size_bytes)
{
    for (size_t i = 0; i < bus->zone_count; i++) {
        if (range_holds(bus->zones[i].addr, bus->zones[i].size, address, size_bytes)) {
            return true;
        }
    }
    return false;
}

static bool put(struct kvm_coalesced_mmio_ring *ring, const struct kvm_coalesced_mmio *entry)
{
    /* Acquire; pairs with the user's release: the entry before `first` has been read. */
    uint32_t first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
    uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);

    if (first >= RING_ENTRIES || last >= RING_ENTRIES || (last + 1) % RING_ENTRIES == first) {
        return false;
    }
    ring->coalesced_mmio[last] = *entry;
    /* Release; pairs with the acquire of whoever drains (vm/coalesced.c). */
    __atomic_store_n(&ring->last, (last + 1) % RING_ENTRIES, __ATOMIC_RELEASE);
    return true;
}

bool iobus_write(struct iobuses *buses, enum iobus_kind kind, uint64_t address, unsigned size_bytes,
                 const void *data)
{
    struct kvm_coalesced_mmio entry = {
        .phys_addr = address, .len = size_bytes, .pio = kind == IOBUS_PORTS ? 1 : 0};
    const struct iobus *bus = &buses->buses[kind];
    bool is_answered;

    /* Acquire; pairs with the release of whoever was the first to put something there. */
    if (!atomic_load_explicit(&buses->is_used, memory_order_acquire) ||
        size_bytes > sizeof(entry.data)) {
        return false;
    }
    memcpy(entry.data, data, size_bytes);
    lock_take(&buses->lock);
    is_answered = signal(bus, address, size_bytes, data) ||
                  (is_in_zone(bus, address, size_bytes) && put(buses->ring, &entry));
    lock_drop(&buses->lock);
    return is_answered;
}
