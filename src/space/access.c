/*
 * space/access.c - reading, writing and filling any length of an address space.
 *
 * An access goes through one view from its start to its end. RAM is copied inside the read section,
 * in which the view cannot go. Callbacks run outside of it: their region is referenced meanwhile,
 * and if the access goes on behind it, so is the view.
 */
#include "space/access.h"

#include "space/dispatch.h"
#include "space/route.h"
#include "space/space.h"
#include "space/translate.h"

#include <string.h>

enum transfer_kind {
    TRANSFER_READ,
    TRANSFER_WRITE,
    TRANSFER_FILL,
};

/* What is left to do of an access. */
struct transfer {
    enum transfer_kind kind;
    uint8_t fill;
    unsigned depth;      /* IOMMUs that were followed */
    uint8_t *to;         /* READ */
    const uint8_t *from; /* WRITE */
    uint64_t size_bytes;
    struct gm_attrs attrs;
};

/* Take the next @bytes off the front: a transfer of their own. */
static struct transfer transfer_take(struct transfer *transfer, uint64_t bytes)
{
    struct transfer piece = *transfer;

    piece.size_bytes = bytes;
    transfer->size_bytes -= bytes;
    if (transfer->kind == TRANSFER_READ) {
        transfer->to += bytes;
    } else if (transfer->kind == TRANSFER_WRITE) {
        transfer->from += bytes;
    }
    return piece;
}

/* Bytes that cannot be read are zero. */
static void transfer_nothing(const struct transfer *piece)
{
    if (piece->kind == TRANSFER_READ) {
        memset(piece->to, 0, piece->size_bytes);
    }
}

static void transfer_memory(const struct transfer *piece, const struct range *range, uint64_t gpa)
{
    uint8_t *memory = range_pointer(range, gpa);

    switch (piece->kind) {
    case TRANSFER_READ:
        memcpy(piece->to, memory, piece->size_bytes);
        return;
    case TRANSFER_WRITE:
        memcpy(memory, piece->from, piece->size_bytes);
        break;
    case TRANSFER_FILL:
        memset(memory, piece->fill, piece->size_bytes);
        break;
    }
    range_mark(range, gpa, piece->size_bytes);
}

static void fill_registers(uint8_t *registers, uint8_t fill, uint64_t size_bytes)
{
    uint8_t bytes[8];

    memset(bytes, fill, sizeof(bytes));
    while (size_bytes > 0) {
        /* To the next multiple of 8, so that all but the ends are stores of 8. */
        uint64_t count = bytes_until((uintptr_t)registers & 7, 7, size_bytes);

        registers_write(registers, bytes, count);
        registers += count;
        size_bytes -= count;
    }
}

static void transfer_registers(const struct transfer *piece, const struct range *range,
                               uint64_t gpa)
{
    uint8_t *registers = range_pointer(range, gpa);

    switch (piece->kind) {
    case TRANSFER_READ:
        registers_read(piece->to, registers, piece->size_bytes);
        return;
    case TRANSFER_WRITE:
        registers_write(registers, piece->from, piece->size_bytes);
        break;
    case TRANSFER_FILL:
        fill_registers(registers, piece->fill, piece->size_bytes);
        break;
    }
    range_mark(range, gpa, piece->size_bytes);
}

/* A piece that is settled inside the read section. */
static enum gm_access transfer_inside(const struct transfer *piece, const struct range *range,
                                      uint64_t gpa, enum route route)
{
    switch (route) {
    case ROUTE_MEMORY:
        transfer_memory(piece, range, gpa);
        return GM_ACCESS_OK;
    case ROUTE_REGISTERS:
        transfer_registers(piece, range, gpa);
        return GM_ACCESS_OK;
    case ROUTE_ABSENT:
        transfer_nothing(piece);
        if (piece->kind != TRANSFER_READ) {
            range_mark(range, gpa, piece->size_bytes);
        }
        return GM_ACCESS_OK;
    default:
        transfer_nothing(piece);
        return route == ROUTE_DENIED ? GM_ACCESS_DENIED : GM_ACCESS_DECODE;
    }
}

static enum gm_access fill_device(struct dispatch *at, uint8_t fill, uint64_t size_bytes)
{
    unsigned outcome = GM_ACCESS_OK;
    uint8_t bytes[256];

    memset(bytes, fill, sizeof(bytes));
    while (size_bytes > 0) {
        /* Ends at a multiple of the buffer's size, so that no access is cut in two by it. */
        uint64_t count =
            bytes_until(at->offset & (sizeof(bytes) - 1), sizeof(bytes) - 1, size_bytes);

        outcome |= dispatch_write(at, bytes, count);
        at->offset += count;
        size_bytes -= count;
    }
    return (enum gm_access)outcome;
}

static enum gm_access transfer_device(const struct transfer *piece, struct dispatch *at)
{
    switch (piece->kind) {
    case TRANSFER_READ:
        return dispatch_read(at, piece->to, piece->size_bytes);
    case TRANSFER_WRITE:
        return dispatch_write(at, piece->from, piece->size_bytes);
    default:
        return fill_device(at, piece->fill, piece->size_bytes);
    }
}

static enum gm_access transfer_run(const struct gm_view *view, uint64_t gpa,
                                   struct transfer *transfer);

/* A piece that an IOMMU translates, page by page. */
static enum gm_access transfer_translated(struct transfer *piece, struct gm_region *region,
                                          uint64_t offset)
{
    unsigned outcome = GM_ACCESS_OK;

    while (piece->size_bytes > 0) {
        struct iommu_access access = {
            .region = region,
            .offset = offset,
            .need = piece->kind == TRANSFER_READ ? NEED_READ : NEED_WRITE,
            .attrs = piece->attrs,
            .size_bytes = piece->size_bytes,
        };
        enum gm_access result =
            piece->depth < IOMMU_DEPTH_MAX ? iommu_ask(&access) : GM_ACCESS_DENIED;
        struct transfer in_page = transfer_take(piece, access.size_bytes);

        in_page.depth++;
        if (result == GM_ACCESS_OK) {
            rcu_enter();
            result = transfer_run(space_view(access.space), access.gpa, &in_page);
        } else {
            transfer_nothing(&in_page);
        }
        outcome |= result;
        offset += access.size_bytes;
    }
    return (enum gm_access)outcome;
}

/* A piece that calls out. Leaves the read section; the caller enters again. */
static enum gm_access transfer_outside(struct transfer *piece, const struct range *range,
                                       uint64_t gpa, enum route route)
{
    struct eventfd_list *eventfds = piece->kind == TRANSFER_READ ? NULL : range->eventfds;
    struct dispatch at = {
        .region = range->region,
        .eventfds = eventfds,
        .offset = range_offset(range, gpa),
        .attrs = piece->attrs,
    };
    enum gm_access result;

    gm_region_get(at.region);
    eventfd_list_get(eventfds);
    rcu_leave();
    if (route == ROUTE_TRANSLATE) {
        result = transfer_translated(piece, at.region, at.offset);
    } else {
        result = transfer_device(piece, &at);
    }
    eventfd_list_put(eventfds);
    gm_region_put(at.region);
    return result;
}

/* Begins at a place that was looked up, in the section of its view, which is left. */
static enum gm_access transfer_from(struct place *place, struct transfer *transfer)
{
    bool is_write = transfer->kind != TRANSFER_READ;
    struct gm_view *held = NULL;
    unsigned outcome = GM_ACCESS_OK;

    for (;;) {
        const struct range *range = place->range;
        enum route route =
            range != NULL ? route_of(range, is_write, transfer->attrs) : ROUTE_DECODE;
        struct transfer piece = transfer_take(transfer, place->run_bytes);

        if (route == ROUTE_CALL || route == ROUTE_TRANSLATE) {
            if (held == NULL && transfer->size_bytes > 0) {
                held = (struct gm_view *)place->view; /* alive: the section is still open */
                view_get(held);
            }
            outcome |= transfer_outside(&piece, range, place->gpa, route);
            if (transfer->size_bytes == 0) {
                break;
            }
            rcu_enter();
        } else {
            outcome |= transfer_inside(&piece, range, place->gpa, route);
            if (transfer->size_bytes == 0) {
                rcu_leave();
                break;
            }
        }
        place->gpa += place->run_bytes; /* wraps at 2^64, as bus addresses do */
        place->size_bytes = transfer->size_bytes;
        place_look(place);
    }
    if (held != NULL) {
        view_put(held);
    }
    return (enum gm_access)outcome;
}

/* Begins inside the section that @view was loaded in, and leaves it. Not of size 0. */
static enum gm_access transfer_run(const struct gm_view *view, uint64_t gpa,
                                   struct transfer *transfer)
{
    struct place place = {.view = view, .gpa = gpa, .size_bytes = transfer->size_bytes};

    place_look(&place);
    return transfer_from(&place, transfer);
}

enum gm_access access_read(const struct gm_view *view, uint64_t gpa, void *data,
                           uint64_t size_bytes, struct gm_attrs attrs)
{
    struct transfer transfer = {
        .kind = TRANSFER_READ, .to = data, .size_bytes = size_bytes, .attrs = attrs};

    return transfer_run(view, gpa, &transfer);
}

enum gm_access access_write(const struct gm_view *view, uint64_t gpa, const void *data,
                            uint64_t size_bytes, struct gm_attrs attrs)
{
    struct transfer transfer = {
        .kind = TRANSFER_WRITE, .from = data, .size_bytes = size_bytes, .attrs = attrs};

    return transfer_run(view, gpa, &transfer);
}

/* ---- the public face: first what nearly all accesses are, one range of RAM ---- */

static __attribute__((noinline)) enum gm_access read_slow(struct place *place, void *data,
                                                          struct gm_attrs attrs)
{
    struct transfer transfer = {
        .kind = TRANSFER_READ, .to = data, .size_bytes = place->size_bytes, .attrs = attrs};

    return transfer_from(place, &transfer);
}

static __attribute__((noinline)) enum gm_access write_slow(struct place *place, const void *data,
                                                           struct gm_attrs attrs)
{
    struct transfer transfer = {
        .kind = TRANSFER_WRITE, .from = data, .size_bytes = place->size_bytes, .attrs = attrs};

    return transfer_from(place, &transfer);
}

enum gm_access gm_read(struct gm_space *space, gm_gpa_t gpa, void *data, size_t size_bytes,
                       struct gm_attrs attrs)
{
    uint64_t hole_last = 0;
    const struct gm_view *view;
    const struct range *range;

    if (size_bytes == 0) {
        return GM_ACCESS_OK;
    }
    rcu_enter();
    view = space_view(space);
    range = view_lookup(view, gpa, &hole_last);
    if (!range_is_direct(range, RANGE_DIRECT_READ, gpa, size_bytes)) {
        struct place place = place_found(view, gpa, size_bytes, range, hole_last);

        return read_slow(&place, data, attrs);
    }
    memcpy(data, range_pointer(range, gpa), size_bytes);
    rcu_leave();
    return GM_ACCESS_OK;
}

enum gm_access gm_write(struct gm_space *space, gm_gpa_t gpa, const void *data, size_t size_bytes,
                        struct gm_attrs attrs)
{
    uint64_t hole_last = 0;
    const struct gm_view *view;
    const struct range *range;

    if (size_bytes == 0) {
        return GM_ACCESS_OK;
    }
    rcu_enter();
    view = space_view(space);
    range = view_lookup(view, gpa, &hole_last);
    if (!range_is_direct(range, RANGE_DIRECT_WRITE, gpa, size_bytes)) {
        struct place place = place_found(view, gpa, size_bytes, range, hole_last);

        return write_slow(&place, data, attrs);
    }
    memcpy(range_pointer(range, gpa), data, size_bytes);
    range_mark(range, gpa, size_bytes);
    rcu_leave();
    return GM_ACCESS_OK;
}

enum gm_access gm_fill(struct gm_space *space, gm_gpa_t gpa, uint8_t byte, uint64_t size_bytes,
                       struct gm_attrs attrs)
{
    struct transfer transfer = {
        .kind = TRANSFER_FILL, .fill = byte, .size_bytes = size_bytes, .attrs = attrs};

    if (size_bytes == 0) {
        return GM_ACCESS_OK;
    }
    rcu_enter();
    return transfer_run(space_view(space), gpa, &transfer);
}

/* ---- asking beforehand ---- */

/* Is the place's run taken? Leaves the section that the place is in. */
static bool place_is_valid(const struct place *place)
{
    bool is_write = place->need == NEED_WRITE;
    const struct range *range = place->range;
    enum route route = range != NULL ? route_of(range, is_write, place->attrs) : ROUTE_DECODE;
    struct dispatch at;
    bool result;

    if (route != ROUTE_CALL) {
        rcu_leave();
        return route != ROUTE_DENIED && route != ROUTE_DECODE;
    }
    at = (struct dispatch){
        .region = range->region,
        .offset = range_offset(range, place->gpa),
        .attrs = place->attrs,
    };
    gm_region_get(at.region);
    rcu_leave();
    result = dispatch_is_valid(&at, place->run_bytes, is_write);
    gm_region_put(at.region);
    return result;
}

bool gm_access_valid(struct gm_space *space, gm_gpa_t gpa, uint64_t size_bytes, bool is_write,
                     struct gm_attrs attrs)
{
    struct gm_view *view = gm_view_get(space);
    bool result = true;

    while (result && size_bytes > 0) {
        struct place place = {
            .view = view,
            .gpa = gpa,
            .size_bytes = size_bytes,
            .need = is_write ? NEED_WRITE : NEED_READ,
            .attrs = attrs,
        };

        rcu_enter();
        result = place_follow(&place) == GM_ACCESS_OK && place_is_valid(&place);
        gpa += place.run_bytes;
        size_bytes -= place.run_bytes;
    }
    view_put(view);
    return result;
}
