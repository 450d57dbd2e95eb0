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
    unsigned depth;       /* IOMMUs that were followed */
    struct ticket ticket; /* of their translations; depth is not 0 */
    uint8_t *to;          /* READ */
    const uint8_t *from;  /* WRITE */
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

/* Put back what is left of a piece that was taken. */
static void transfer_give_back(struct transfer *transfer, const struct transfer *piece)
{
    transfer->to = piece->to;
    transfer->from = piece->from;
    transfer->size_bytes += piece->size_bytes;
}

/* Inside a section. May the access go on where translations have led it? */
static bool transfer_may_go_on(const struct transfer *transfer)
{
    return transfer->depth == 0 || ticket_holds(&transfer->ticket);
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

/*
 * The front of a piece, to the end of an IOMMU's page or until something is unmapped: what it did is taken off the
 * piece.
 */
static enum gm_access transfer_page(struct transfer *piece, struct iommu_access *access)
{
    enum gm_access result = piece->depth < IOMMU_DEPTH_MAX ? iommu_ask(access) : GM_ACCESS_DENIED;
    struct transfer in_page = transfer_take(piece, access->size_bytes);
    const struct gm_view *view;

    if (result != GM_ACCESS_OK) {
        transfer_nothing(&in_page);
        return result;
    }
    in_page.depth++;
    if (iommu_enter(&in_page.ticket, access, &view)) {
        result = transfer_run(view, access->gpa, &in_page);
    }
    if (in_page.size_bytes > 0) {
        transfer_give_back(piece, &in_page);
    }
    return result;
}

/*
 * A piece that an IOMMU translates. The first IOMMU of a row begins again where something was unmapped, with
 * what is left; those behind it leave that to the first.
 */
static enum gm_access transfer_translated(struct transfer *piece, struct gm_region *region,
                                          uint64_t offset)
{
    unsigned outcome = GM_ACCESS_OK;
    unsigned tries = 0;

    while (piece->size_bytes > 0 && tries < IOMMU_TRIES_MAX) {
        uint64_t before = piece->size_bytes;
        struct iommu_access access = {
            .region = region,
            .offset = offset,
            .need = piece->kind == TRANSFER_READ ? NEED_READ : NEED_WRITE,
            .attrs = piece->attrs,
            .size_bytes = before,
        };

        if (piece->depth == 0) {
            piece->ticket = ticket_now(region->map);
        } else if (!ticket_holds(&piece->ticket)) {
            return (enum gm_access)outcome;
        }
        outcome |= transfer_page(piece, &access);
        offset += before - piece->size_bytes;
        tries = before == piece->size_bytes ? tries + 1 : 0;
    }
    if (piece->size_bytes > 0) {
        transfer_nothing(piece);
        piece->size_bytes = 0;
        outcome |= GM_ACCESS_DENIED;
    }
    return (enum gm_access)outcome;
}

/* A piece that calls out. Leaves the read section; the caller enters again, if nothing is left of the piece. */
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
        piece->size_bytes = 0;
    }
    eventfd_list_put(eventfds);
    gm_region_put(at.region);
    return result;
}

/*
 * Begins at a place that was looked up, in the section of its view, which is left. Behind an IOMMU, what is left of
 * the transfer has to be translated again.
 */
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
            if (piece.size_bytes > 0) {
                transfer_give_back(transfer, &piece);
                break;
            }
            if (transfer->size_bytes == 0) {
                break;
            }
            rcu_enter();
            if (!transfer_may_go_on(transfer)) {
                rcu_leave();
                break;
            }
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

/* In a section, in which the space still is, and which is left. */
static __attribute__((noinline)) enum gm_access slow(struct gm_space *space, uint64_t gpa,
                                                     unsigned need, struct transfer *transfer)
{
    const struct gm_view *view = space_view(space);
    struct place place =
        place_found(view, gpa, transfer->size_bytes, view_find(view, gpa), need, transfer->attrs);
    struct gm_view *cold = place_look_again(&place);
    enum gm_access result = transfer_from(&place, transfer);

    view_warm(cold);
    return result;
}

static __attribute__((noinline)) enum gm_access read_slow(struct gm_space *space, gm_gpa_t gpa,
                                                          void *data, size_t size_bytes,
                                                          struct gm_attrs attrs)
{
    struct transfer transfer = {
        .kind = TRANSFER_READ, .to = data, .size_bytes = size_bytes, .attrs = attrs};

    return slow(space, gpa, NEED_READ, &transfer);
}

static __attribute__((noinline)) enum gm_access write_slow(struct gm_space *space, gm_gpa_t gpa,
                                                           const void *data, size_t size_bytes,
                                                           struct gm_attrs attrs)
{
    struct transfer transfer = {
        .kind = TRANSFER_WRITE, .from = data, .size_bytes = size_bytes, .attrs = attrs};

    return slow(space, gpa, NEED_WRITE, &transfer);
}

/* Not in a section, since rcu_try() would not. */
static __attribute__((noinline)) enum gm_access read_outside(struct gm_space *space, gm_gpa_t gpa,
                                                             void *data, size_t size_bytes,
                                                             struct gm_attrs attrs)
{
    rcu_enter();
    return read_slow(space, gpa, data, size_bytes, attrs);
}

static __attribute__((noinline)) enum gm_access write_outside(struct gm_space *space, gm_gpa_t gpa,
                                                              const void *data, size_t size_bytes,
                                                              struct gm_attrs attrs)
{
    rcu_enter();
    return write_slow(space, gpa, data, size_bytes, attrs);
}

/* What descriptors and headers are: 16 to 64 bytes, which are copied without a call. */
static inline bool is_short(size_t size_bytes)
{
    return size_bytes - 16 <= 48;
}

/* All are loaded before any is stored. */
static inline void copy_short(void *to, const void *from, size_t size_bytes)
{
    typedef uint64_t block __attribute__((vector_size(16), aligned(1), may_alias));
    uint8_t *out = to;
    const uint8_t *in = from;
    block first = *(const block *)in;
    block last = *(const block *)(in + size_bytes - 16);

    if (size_bytes > 32) {
        block second = *(const block *)(in + 16);
        block third = *(const block *)(in + size_bytes - 32);

        *(block *)(out + 16) = second;
        *(block *)(out + size_bytes - 32) = third;
    }
    *(block *)out = first;
    *(block *)(out + size_bytes - 16) = last;
}

/* The rest of a read and a write of RAM, in its section, which is left. */
static __attribute__((noinline)) enum gm_access
read_by_call(void *data, const void *memory, size_t size_bytes, struct rcu_section section)
{
    memcpy(data, memory, size_bytes);
    rcu_end(section);
    return GM_ACCESS_OK;
}

static __attribute__((noinline)) enum gm_access
write_mark(struct gm_ram *ram, uint64_t ram_offset, size_t size_bytes, struct rcu_section section)
{
    ram_dirty_mark_inside(ram, ram_offset, size_bytes);
    rcu_end(section);
    return GM_ACCESS_OK;
}

static __attribute__((noinline)) enum gm_access write_by_call(const struct gpa_entry *entry,
                                                              uint64_t gpa, const void *data,
                                                              size_t size_bytes,
                                                              struct rcu_section section)
{
    memcpy(gpa_entry_pointer(entry, gpa), data, size_bytes);
    if (ram_recorders(entry->ram) != 0) {
        ram_dirty_mark_inside(entry->ram, entry->ram_offset + (gpa - entry->gpa), size_bytes);
    }
    rcu_end(section);
    return GM_ACCESS_OK;
}

enum gm_access gm_read(struct gm_space *space, gm_gpa_t gpa, void *data, size_t size_bytes,
                       struct gm_attrs attrs)
{
    struct rcu_section section;
    const struct gpa_entry *entry;

    if (__builtin_expect(size_bytes == 0, 0)) {
        return GM_ACCESS_OK;
    }
    if (!rcu_try(&section)) {
        return read_outside(space, gpa, data, size_bytes, attrs);
    }
    entry = view_guess(space_view(space), gpa);
    if (__builtin_expect(!offsets_allow(entry->load_offsets, gpa - entry->gpa, size_bytes), 0)) {
        return read_slow(space, gpa, data, size_bytes, attrs);
    }
    if (!is_short(size_bytes)) {
        return read_by_call(data, gpa_entry_pointer(entry, gpa), size_bytes, section);
    }
    copy_short(data, gpa_entry_pointer(entry, gpa), size_bytes);
    rcu_end(section);
    return GM_ACCESS_OK;
}

enum gm_access gm_write(struct gm_space *space, gm_gpa_t gpa, const void *data, size_t size_bytes,
                        struct gm_attrs attrs)
{
    struct rcu_section section;
    const struct gpa_entry *entry;

    if (__builtin_expect(size_bytes == 0, 0)) {
        return GM_ACCESS_OK;
    }
    if (!rcu_try(&section)) {
        return write_outside(space, gpa, data, size_bytes, attrs);
    }
    entry = view_guess(space_view(space), gpa);
    if (__builtin_expect(!offsets_allow(entry->store_offsets, gpa - entry->gpa, size_bytes), 0)) {
        return write_slow(space, gpa, data, size_bytes, attrs);
    }
    if (!is_short(size_bytes)) {
        return write_by_call(entry, gpa, data, size_bytes, section);
    }
    copy_short(gpa_entry_pointer(entry, gpa), data, size_bytes);
    if (__builtin_expect(ram_recorders(entry->ram) != 0, 0)) {
        return write_mark(entry->ram, entry->ram_offset + (gpa - entry->gpa), size_bytes, section);
    }
    rcu_end(section);
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
