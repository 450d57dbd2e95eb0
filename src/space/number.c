/*
 * space/number.c - loads, stores and compare-and-swap of numbers: 1, 2, 4 or 8 bytes.
 *
 * What lies in one range of RAM is done in a few instructions. A number in a region with callbacks
 * is one access, never cut. Numbers across ranges are bytes, by gm_read() and gm_write().
 */
#include "space/access.h"
#include "space/dispatch.h"
#include "space/order.h"
#include "space/route.h"
#include "space/space.h"
#include "space/translate.h"

/* A number as the caller sees it. */
struct number {
    unsigned size_bytes;
    bool big;
    struct gm_attrs attrs;
};

/* Between the caller's order and another. */
static uint64_t number_reorder(const struct number *number, uint64_t value, bool other_big)
{
    return number->big == other_big ? value & number_mask(number->size_bytes)
                                    : number_swap(value, number->size_bytes);
}

/* In the section of place_follow(). The bytes of a number that a RAM device, or no memory, has. */
static uint64_t load_inside(const struct number *number, const struct place *place,
                            enum route route)
{
    uint8_t bytes[8] = {0};

    if (route == ROUTE_MEMORY) {
        return number_reorder(
            number, gm_host_load(range_pointer(place->range, place->gpa), number->size_bytes),
            HOST_IS_BIG);
    }
    if (route == ROUTE_REGISTERS) {
        registers_read(bytes, range_pointer(place->range, place->gpa), number->size_bytes);
    }
    return number_from_bytes(bytes, number->size_bytes, number->big);
}

static void store_inside(const struct number *number, const struct place *place, enum route route,
                         uint64_t value)
{
    uint8_t bytes[8];

    if (route == ROUTE_MEMORY) {
        gm_host_store(range_pointer(place->range, place->gpa),
                      number_reorder(number, value, HOST_IS_BIG), number->size_bytes);
    } else if (route == ROUTE_REGISTERS) {
        number_to_bytes(bytes, value, number->size_bytes, number->big);
        registers_write(range_pointer(place->range, place->gpa), bytes, number->size_bytes);
    }
    range_mark(place->range, place->gpa, number->size_bytes);
}

/* Leave the section of place_follow() with what a call of the range's region needs. */
static struct dispatch leave_for_call(const struct place *place, struct eventfd_list *eventfds)
{
    struct dispatch at = {
        .region = place->range->region,
        .eventfds = eventfds,
        .offset = range_offset(place->range, place->gpa),
        .attrs = place->attrs,
    };

    gm_region_get(at.region);
    eventfd_list_get(eventfds);
    rcu_leave();
    return at;
}

/* The same for what has no callback to call. */
static enum gm_access leave_without_memory(enum route route)
{
    rcu_leave();
    return route == ROUTE_DENIED ? GM_ACCESS_DENIED : GM_ACCESS_DECODE;
}

/*
 * Across ranges, or pages of an IOMMU: by bytes. @view is the one that the access began in, in the
 * open section or held.
 */
static enum gm_access load_bytes(const struct gm_view *view, gm_gpa_t gpa,
                                 const struct number *number, uint64_t *value)
{
    uint8_t bytes[8];
    enum gm_access result = access_read(view, gpa, bytes, number->size_bytes, number->attrs);

    *value = number_from_bytes(bytes, number->size_bytes, number->big);
    return result;
}

static enum gm_access store_bytes(const struct gm_view *view, gm_gpa_t gpa,
                                  const struct number *number, uint64_t value)
{
    uint8_t bytes[8];

    number_to_bytes(bytes, value, number->size_bytes, number->big);
    return access_write(view, gpa, bytes, number->size_bytes, number->attrs);
}

/* In the section of place_follow(), at one range or hole that has all of the number. Leaves it. */
static enum gm_access load_at(const struct place *place, const struct number *number,
                              uint64_t *value)
{
    enum route route =
        place->range != NULL ? route_of(place->range, false, place->attrs) : ROUTE_DECODE;
    enum gm_access result;
    struct dispatch at;

    if (route == ROUTE_MEMORY || route == ROUTE_REGISTERS || route == ROUTE_ABSENT) {
        *value = load_inside(number, place, route);
        rcu_leave();
        return GM_ACCESS_OK;
    }
    if (route != ROUTE_CALL) {
        return leave_without_memory(route);
    }
    at = leave_for_call(place, NULL);
    result = dispatch_load(&at, number->size_bytes, value);
    *value = number_reorder(number, *value, dispatch_is_big(at.region));
    gm_region_put(at.region);
    return result;
}

static enum gm_access store_at(const struct place *place, const struct number *number,
                               uint64_t value)
{
    enum route route =
        place->range != NULL ? route_of(place->range, true, place->attrs) : ROUTE_DECODE;
    struct eventfd_list *eventfds;
    enum gm_access result;
    struct dispatch at;

    if (route == ROUTE_MEMORY || route == ROUTE_REGISTERS || route == ROUTE_ABSENT) {
        store_inside(number, place, route, value);
        rcu_leave();
        return GM_ACCESS_OK;
    }
    if (route != ROUTE_CALL) {
        return leave_without_memory(route);
    }
    eventfds = place->range->eventfds;
    at = leave_for_call(place, eventfds);
    result = dispatch_store(&at, number->size_bytes,
                            number_reorder(number, value, dispatch_is_big(at.region)));
    eventfd_list_put(eventfds);
    gm_region_put(at.region);
    return result;
}

/*
 * Through IOMMUs. In the section that the place's view was loaded in, which is left. The view is
 * held meanwhile, in case that the number turns out to cross pages.
 */
static enum gm_access load_translated(struct place *place, const struct number *number,
                                      uint64_t *value)
{
    struct gm_view *held = (struct gm_view *)place->view;
    uint64_t gpa = place->gpa;
    enum gm_access result;

    view_get(held);
    result = place_follow(place);
    if (place->run_bytes != number->size_bytes) {
        if (result != GM_ACCESS_OK) {
            rcu_enter();
        }
        result = load_bytes(held, gpa, number, value);
    } else if (result == GM_ACCESS_OK) {
        result = load_at(place, number, value);
    }
    view_put(held);
    return result;
}

static enum gm_access store_translated(struct place *place, const struct number *number,
                                       uint64_t value)
{
    struct gm_view *held = (struct gm_view *)place->view;
    uint64_t gpa = place->gpa;
    enum gm_access result;

    view_get(held);
    result = place_follow(place);
    if (place->run_bytes != number->size_bytes) {
        if (result != GM_ACCESS_OK) {
            rcu_enter();
        }
        result = store_bytes(held, gpa, number, value);
    } else if (result == GM_ACCESS_OK) {
        result = store_at(place, number, value);
    }
    view_put(held);
    return result;
}

/* Inside a section: where the number lies, for place_look_again(). */
static struct place place_of_number(struct gm_space *space, uint64_t gpa,
                                    const struct number *number, unsigned need)
{
    const struct gm_view *view = space_view(space);

    return place_found(view, gpa, number->size_bytes, view_find(view, gpa), need, number->attrs);
}

/* Inside a section, in which the space still is: @order as the caller gave it. */
static inline struct number number_of(const struct gm_space *space, unsigned size_bytes,
                                      enum gm_order order, struct gm_attrs attrs)
{
    return (struct number){size_bytes, order_is_big(order, space->map), attrs};
}

/*
 * All but RAM and MMIO in one range, and these in a view without an index. In a section, which is left; looks again, and counts
 * a lookup in a cold view.
 */
static __attribute__((noinline)) enum gm_access
load_slow(struct gm_space *space, uint64_t gpa, const struct number *number, uint64_t *value)
{
    struct place place = place_of_number(space, gpa, number, NEED_READ);
    struct gm_view *cold = place_look_again(&place);
    enum gm_access result;

    *value = 0;
    if (place.run_bytes != number->size_bytes) {
        result = load_bytes(place.view, place.gpa, number, value);
    } else {
        result = place_is_iommu(&place) ? load_translated(&place, number, value)
                                        : load_at(&place, number, value);
    }
    view_warm(cold);
    return result;
}

static __attribute__((noinline)) enum gm_access
store_slow(struct gm_space *space, uint64_t gpa, const struct number *number, uint64_t value)
{
    struct place place = place_of_number(space, gpa, number, NEED_WRITE);
    struct gm_view *cold = place_look_again(&place);
    enum gm_access result;

    if (place.run_bytes != number->size_bytes) {
        result = store_bytes(place.view, place.gpa, number, value);
    } else {
        result = place_is_iommu(&place) ? store_translated(&place, number, value)
                                        : store_at(&place, number, value);
    }
    view_warm(cold);
    return result;
}

/* In a section, which is left, at an MMIO region's range that has all of the number. */
static enum gm_access load_call(const struct range *range, uint64_t gpa, struct number number,
                                uint64_t *value)
{
    struct gm_region *region = range->region;
    uint64_t offset = range_offset(range, gpa);
    enum gm_access result;

    region_get(region);
    rcu_leave();
    result = dispatch_load_at(region, offset, number.size_bytes, value, number.attrs);
    *value = number_reorder(&number, *value, dispatch_is_big(region));
    region_put(region);
    return result;
}

static enum gm_access store_call(const struct range *range, uint64_t gpa, struct number number,
                                 uint64_t value)
{
    struct gm_region *region = range->region;
    struct eventfd_list *eventfds = range->eventfds;
    uint64_t offset = range_offset(range, gpa);
    enum gm_access result;

    region_get(region);
    if (eventfds != NULL) {
        eventfd_list_get(eventfds);
    }
    rcu_leave();
    value = number_reorder(&number, value, dispatch_is_big(region));
    if (eventfds != NULL) {
        result = dispatch_store(&(struct dispatch){region, eventfds, offset, number.attrs},
                                number.size_bytes, value);
        eventfd_list_put(eventfds);
    } else {
        result = dispatch_store_at(region, offset, number.size_bytes, value, number.attrs);
    }
    region_put(region);
    return result;
}

/* What is not RAM in one range of the view. In a section, which is left. */
static __attribute__((noinline)) enum gm_access load_other(struct gm_space *space, gm_gpa_t gpa,
                                                           unsigned size_bytes, enum gm_order order,
                                                           uint64_t *value, struct gm_attrs attrs)
{
    struct number number = number_of(space, size_bytes, order, attrs);
    const struct range *range = view_find(space_view(space), gpa);

    return range != NULL && (range->flags & RANGE_CALLS) != 0 && range->last - gpa >= size_bytes - 1
               ? load_call(range, gpa, number, value)
               : load_slow(space, gpa, &number, value);
}

static __attribute__((noinline)) enum gm_access store_other(struct gm_space *space, gm_gpa_t gpa,
                                                            unsigned size_bytes,
                                                            enum gm_order order, uint64_t value,
                                                            struct gm_attrs attrs)
{
    struct number number = number_of(space, size_bytes, order, attrs);
    const struct range *range = view_find(space_view(space), gpa);

    return range != NULL && (range->flags & RANGE_CALLS) != 0 && range->last - gpa >= size_bytes - 1
               ? store_call(range, gpa, number, value)
               : store_slow(space, gpa, &number, value);
}

/* Likewise; not in a section, since rcu_try() would not. */
static __attribute__((noinline)) enum gm_access load_outside(struct gm_space *space, gm_gpa_t gpa,
                                                             unsigned size_bytes,
                                                             enum gm_order order, uint64_t *value,
                                                             struct gm_attrs attrs)
{
    rcu_enter();
    return load_other(space, gpa, size_bytes, order, value, attrs);
}

static __attribute__((noinline)) enum gm_access store_outside(struct gm_space *space, gm_gpa_t gpa,
                                                              unsigned size_bytes,
                                                              enum gm_order order, uint64_t value,
                                                              struct gm_attrs attrs)
{
    rcu_enter();
    return store_other(space, gpa, size_bytes, order, value, attrs);
}

/* After a store that crosses pages, or the end of its block: in its section, which is left. */
static __attribute__((noinline)) enum gm_access
store_mark_slow(struct gm_ram *ram, uint64_t ram_offset, uint64_t size_bytes)
{
    ram_dirty_mark_inside(ram, ram_offset, size_bytes);
    rcu_leave();
    return GM_ACCESS_OK;
}

/* After a store, in its section, which is left: @clients record. */
static __attribute__((noinline)) enum gm_access store_mark(struct gm_ram *ram, uint64_t ram_offset,
                                                           uint64_t size_bytes, uint32_t clients,
                                                           struct rcu_section section)
{
    uint64_t page = ram_offset >> PAGE_SHIFT_4K;

    if (__builtin_expect((ram_offset + size_bytes - 1) >> PAGE_SHIFT_4K != page, 0) ||
        __builtin_expect(ram_offset >= ram_size(ram), 0)) {
        return store_mark_slow(ram, ram_offset, size_bytes);
    }
    ram_dirty_mark_page(&ram->dirty, page, clients);
    rcu_end(section);
    return GM_ACCESS_OK;
}

/* @order as the caller gave it. Inside a section, in which the space still is. */
static inline uint64_t to_or_from_host(const struct gm_space *space, uint64_t value,
                                       unsigned size_bytes, enum gm_order order)
{
    return __builtin_expect(order == HOST_ORDER, 1) ||
                   order_is_big(order, space->map) == HOST_IS_BIG
               ? value
               : number_swap(value, size_bytes);
}

/* Inlined for each size, which is worth ten instructions. */
static inline __attribute__((always_inline)) enum gm_access
load_number(struct gm_space *space, gm_gpa_t gpa, unsigned size_bytes, enum gm_order order,
            uint64_t *value, struct gm_attrs attrs)
{
    const struct gpa_entry *entry;
    struct rcu_section section;
    uint64_t raw;

    if (!rcu_try(&section)) {
        return load_outside(space, gpa, size_bytes, order, value, attrs);
    }
    entry = view_guess(space_view(space), gpa);
    if (__builtin_expect(!offsets_allow_number(entry->load_offsets, gpa - entry->gpa, size_bytes),
                         0)) {
        return load_other(space, gpa, size_bytes, order, value, attrs);
    }
    raw = to_or_from_host(space, gm_host_load(gpa_entry_pointer(entry, gpa), size_bytes),
                          size_bytes, order);
    rcu_end(section);
    *value = raw;
    return GM_ACCESS_OK;
}

static inline __attribute__((always_inline)) enum gm_access
store_number(struct gm_space *space, gm_gpa_t gpa, unsigned size_bytes, enum gm_order order,
             uint64_t value, struct gm_attrs attrs)
{
    const struct gpa_entry *entry;
    struct rcu_section section;
    uint64_t offset;
    uint32_t clients;

    if (!rcu_try(&section)) {
        return store_outside(space, gpa, size_bytes, order, value, attrs);
    }
    entry = view_guess(space_view(space), gpa);
    if (__builtin_expect(!offsets_allow_number(entry->store_offsets, gpa - entry->gpa, size_bytes),
                         0)) {
        return store_other(space, gpa, size_bytes, order, value, attrs);
    }
    offset = gpa - entry->gpa;
    gm_host_store(gpa_entry_pointer(entry, gpa), to_or_from_host(space, value, size_bytes, order),
                  size_bytes);
    clients = ram_recorders(entry->ram);
    if (__builtin_expect(clients != 0, 0)) {
        return store_mark(entry->ram, entry->ram_offset + offset, size_bytes, clients, section);
    }
    rcu_end(section);
    return GM_ACCESS_OK;
}

enum gm_access gm_load(struct gm_space *space, gm_gpa_t gpa, unsigned size_bytes,
                       enum gm_order order, uint64_t *value, struct gm_attrs attrs)
{
    if (__builtin_expect(size_bytes == 8, 1)) {
        return load_number(space, gpa, 8, order, value, attrs);
    }
    switch (size_bytes) {
    case 4:
        return load_number(space, gpa, 4, order, value, attrs);
    case 2:
        return load_number(space, gpa, 2, order, value, attrs);
    case 1:
        return load_number(space, gpa, 1, order, value, attrs);
    default:
        *value = 0;
        return GM_ACCESS_DECODE;
    }
}

enum gm_access gm_store(struct gm_space *space, gm_gpa_t gpa, unsigned size_bytes,
                        enum gm_order order, uint64_t value, struct gm_attrs attrs)
{
    if (__builtin_expect(size_bytes == 8, 1)) {
        return store_number(space, gpa, 8, order, value, attrs);
    }
    switch (size_bytes) {
    case 4:
        return store_number(space, gpa, 4, order, value, attrs);
    case 2:
        return store_number(space, gpa, 2, order, value, attrs);
    case 1:
        return store_number(space, gpa, 1, order, value, attrs);
    default:
        return GM_ACCESS_DECODE;
    }
}

/* ---- compare and swap ---- */

/* Sequentially consistent. @expected and @desired are in the host's order. */
static bool host_cmpxchg(void *at, unsigned size_bytes, uint64_t *expected, uint64_t desired)
{
    uint8_t one = (uint8_t)*expected;
    uint16_t two = (uint16_t)*expected;
    uint32_t four = (uint32_t)*expected;
    bool swapped;

    switch (size_bytes) {
    case 8:
        return __atomic_compare_exchange_n((uint64_t *)at, expected, desired, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    case 4:
        swapped = __atomic_compare_exchange_n((uint32_t *)at, &four, (uint32_t)desired, false,
                                              __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = four;
        return swapped;
    case 2:
        swapped = __atomic_compare_exchange_n((uint16_t *)at, &two, (uint16_t)desired, false,
                                              __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = two;
        return swapped;
    default:
        swapped = __atomic_compare_exchange_n((uint8_t *)at, &one, (uint8_t)desired, false,
                                              __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = one;
        return swapped;
    }
}

/* In the section of place_follow(), at memory that may be written. */
static enum gm_access cmpxchg_inside(const struct number *number, const struct place *place,
                                     uint64_t *expected, uint64_t desired)
{
    uint64_t was = number_reorder(number, *expected, HOST_IS_BIG);
    bool swapped;

    if (place->range->hva == NULL) {
        swapped = was == 0; /* unbacked: always zero, and what is stored is dropped */
        was = 0;
    } else if (!pointer_is_aligned(range_pointer(place->range, place->gpa), number->size_bytes)) {
        return GM_ACCESS_DECODE; /* aligned for the guest, but not in host memory */
    } else {
        swapped = host_cmpxchg(range_pointer(place->range, place->gpa), number->size_bytes, &was,
                               number_reorder(number, desired, HOST_IS_BIG));
    }
    if (swapped) {
        range_mark(place->range, place->gpa, number->size_bytes);
    }
    *expected = number_reorder(number, was, HOST_IS_BIG);
    return GM_ACCESS_OK;
}

/* In the section of place_follow(), which is left. */
static enum gm_access cmpxchg_at(const struct place *place, const struct number *number,
                                 uint64_t *expected, uint64_t desired)
{
    enum route route =
        place->range != NULL ? route_of(place->range, true, place->attrs) : ROUTE_DECODE;
    enum gm_access result;

    if (route == ROUTE_DENIED) {
        result = GM_ACCESS_DENIED;
    } else if ((route != ROUTE_MEMORY && route != ROUTE_ABSENT) ||
               place->run_bytes != number->size_bytes) {
        result = GM_ACCESS_DECODE;
    } else {
        result = cmpxchg_inside(number, place, expected, desired);
    }
    rcu_leave();
    return result;
}

/* Through IOMMUs. In the section that the place's view was loaded in, which is left. */
static enum gm_access cmpxchg_translated(struct place *place, const struct number *number,
                                         uint64_t *expected, uint64_t desired)
{
    struct gm_view *held = (struct gm_view *)place->view;
    enum gm_access result;

    view_get(held);
    result = place_follow(place);
    if (result == GM_ACCESS_OK) {
        result = cmpxchg_at(place, number, expected, desired);
    }
    view_put(held);
    return result;
}

enum gm_access gm_cmpxchg(struct gm_space *space, gm_gpa_t gpa, unsigned size_bytes,
                          enum gm_order order, uint64_t *expected, uint64_t desired,
                          struct gm_attrs attrs)
{
    struct number number = {size_bytes, order_is_big(order, space->map), attrs};
    struct place place = {
        .gpa = gpa, .size_bytes = size_bytes, .need = NEED_READ | NEED_WRITE, .attrs = attrs};

    if (!number_size_is_valid(size_bytes) || (gpa & (size_bytes - 1)) != 0) {
        return GM_ACCESS_DECODE;
    }
    rcu_enter();
    place.view = space_view(space);
    place_look(&place);
    if (place_is_iommu(&place)) {
        return cmpxchg_translated(&place, &number, expected, desired);
    }
    return cmpxchg_at(&place, &number, expected, desired);
}
