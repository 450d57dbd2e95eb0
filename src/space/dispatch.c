/* space/dispatch.c - cutting, checking and composing accesses to a region's callbacks. */
#include "space/dispatch.h"

#include "base/addr.h"
#include "region/io_sizes.h"
#include "space/order.h"

#include <errno.h>
#include <unistd.h>

/* ---- sizes ---- */

/* The largest power of two, of at most @max, that @left has room for. */
static unsigned fitting(unsigned max, uint64_t left)
{
    while (max > left) {
        max /= 2;
    }
    return max;
}

/* The same, of which @offset is a multiple too. */
static unsigned fitting_aligned(unsigned max, uint64_t offset, uint64_t left)
{
    unsigned size = fitting(max, left);

    while ((offset & (size - 1)) != 0) {
        size /= 2;
    }
    return size;
}

static unsigned cut(const struct io_sizes *valid, uint64_t offset, uint64_t left)
{
    return valid->unaligned ? fitting(valid->max, left) : fitting_aligned(valid->max, offset, left);
}

/* ---- nesting, and the guard against re-entry ---- */

_Thread_local unsigned dispatch_depth;

/*
 * The regions that guard themselves and whose callbacks are running on this thread, innermost
 * first.
 */
struct call_frame {
    const struct gm_region *region;
    const struct call_frame *outer;
};

static _Thread_local const struct call_frame *running_calls;

static bool is_running(const struct gm_region *region)
{
    const struct call_frame *frame;

    for (frame = running_calls; frame != NULL; frame = frame->outer) {
        if (frame->region == region) {
            return true;
        }
    }
    return false;
}

/* ---- composing from implemented sizes ---- */

/* One call: @size_bytes at @offset, of which the bytes [skip, skip + take) belong to the access. */
struct call {
    uint64_t offset;
    unsigned size_bytes;
    unsigned skip;
    unsigned take;
};

static struct call next_call(const struct io_sizes *implemented, uint64_t offset, unsigned left)
{
    struct call call;

    if (implemented->unaligned) {
        call.size_bytes = fitting(implemented->max, left);
    } else {
        call.size_bytes = fitting_aligned(implemented->max, offset, left);
    }
    if (call.size_bytes < implemented->min) {
        call.size_bytes = implemented->min;
    }
    call.offset = implemented->unaligned ? offset : align_down(offset, call.size_bytes);
    call.skip = (unsigned)(offset - call.offset);
    call.take = (unsigned)bytes_until(call.skip, call.size_bytes - 1, left);
    return call;
}

/*
 * How far the bytes [first, first + count) of a number of @size_bytes are from its low end, in
 * bits.
 */
static unsigned shift_of(unsigned size_bytes, unsigned first, unsigned count, bool big)
{
    return 8 * (big ? size_bytes - first - count : first);
}

static enum gm_access composed_load(const struct dispatch *at, const struct io_sizes *implemented,
                                    unsigned size_bytes, uint64_t *value)
{
    const struct gm_region *region = at->region;
    bool big = dispatch_is_big(region);
    unsigned outcome = GM_ACCESS_OK;
    unsigned done = 0;

    *value = 0;
    while (done < size_bytes) {
        struct call call = next_call(implemented, at->offset + done, size_bytes - done);
        uint64_t part = 0;
        enum gm_access result =
            region->io.read(region->opaque, call.offset, call.size_bytes, &part, at->attrs);

        if (result == GM_ACCESS_OK) {
            part >>= shift_of(call.size_bytes, call.skip, call.take, big);
            part &= number_mask(call.take);
            *value |= part << shift_of(size_bytes, done, call.take, big);
        }
        outcome |= result;
        done += call.take;
    }
    return (enum gm_access)outcome;
}

static enum gm_access composed_store(const struct dispatch *at, const struct io_sizes *implemented,
                                     unsigned size_bytes, uint64_t value)
{
    const struct gm_region *region = at->region;
    bool big = dispatch_is_big(region);
    unsigned outcome = GM_ACCESS_OK;
    unsigned done = 0;

    while (done < size_bytes) {
        struct call call = next_call(implemented, at->offset + done, size_bytes - done);
        uint64_t part = value >> shift_of(size_bytes, done, call.take, big);

        part &= number_mask(call.take);
        part <<= shift_of(call.size_bytes, call.skip, call.take, big);
        outcome |= region->io.write(region->opaque, call.offset, call.size_bytes, part, at->attrs);
        done += call.take;
    }
    return (enum gm_access)outcome;
}

/* ---- one access ---- */

static bool is_accepted(const struct dispatch *at, unsigned size_bytes, bool is_write)
{
    const struct gm_region *region = at->region;

    return region->io.accepts == NULL ||
           region->io.accepts(region->opaque, at->offset, size_bytes, is_write, at->attrs);
}

static bool has_callback(const struct gm_region *region, bool is_write)
{
    return is_write ? region->io.write != NULL : region->io.read != NULL;
}

static enum gm_access accepted_load(const struct dispatch *at, unsigned size_bytes, uint64_t *value)
{
    const struct gm_region *region = at->region;
    struct io_sizes implemented = io_implemented_sizes(&region->io);
    uint64_t whole = 0;
    enum gm_access result;

    if (!io_sizes_take(&implemented, at->offset, size_bytes)) {
        return composed_load(at, &implemented, size_bytes, value);
    }
    result = region->io.read(region->opaque, at->offset, size_bytes, &whole, at->attrs);
    *value = result == GM_ACCESS_OK ? whole & number_mask(size_bytes) : 0;
    return result;
}

static enum gm_access sized_load(const struct dispatch *at, unsigned size_bytes, uint64_t *value)
{
    return is_accepted(at, size_bytes, false) ? accepted_load(at, size_bytes, value)
                                              : GM_ACCESS_DECODE;
}

static enum gm_access guarded_load(const struct dispatch *at, unsigned size_bytes, uint64_t *value)
{
    struct call_frame frame = {at->region, running_calls};
    enum gm_access result;

    if (is_running(at->region)) {
        return GM_ACCESS_DENIED;
    }
    running_calls = &frame;
    result = sized_load(at, size_bytes, value);
    running_calls = frame.outer;
    return result;
}

/* Let writes that a hypervisor has collected come first. */
static void flush_coalesced(const struct gm_region *region)
{
    const struct gm_map *map = region->map;

    if (atomic_load_explicit(&region->flushes, memory_order_relaxed) && map->flush != NULL) {
        map->flush(map->flush_opaque);
    }
}

enum gm_access dispatch_load(const struct dispatch *at, unsigned size_bytes, uint64_t *value)
{
    struct io_sizes valid = io_valid_sizes(&at->region->io);
    enum gm_access result;

    *value = 0;
    if (!has_callback(at->region, false) || !io_sizes_take(&valid, at->offset, size_bytes)) {
        return GM_ACCESS_DECODE;
    }
    if (!dispatch_enter()) {
        return GM_ACCESS_DENIED;
    }
    flush_coalesced(at->region);
    result = at->region->io.guard_reentry ? guarded_load(at, size_bytes, value)
                                          : sized_load(at, size_bytes, value);
    dispatch_leave();
    return result;
}

/* Signal the first eventfd that the write matches. */
static bool signal_eventfd(const struct dispatch *at, unsigned size_bytes, uint64_t value)
{
    const uint64_t one = 1;
    ssize_t written;
    uint32_t i;

    for (i = 0; at->eventfds != NULL && i < at->eventfds->count; i++) {
        const struct gm_eventfd *item = &at->eventfds->items[i].given;

        if (item->offset != at->offset ||
            (item->size_bytes != 0 && item->size_bytes != size_bytes) ||
            (item->match && item->value != value)) {
            continue;
        }
        do {
            written = write(at->eventfds->items[i].handle->fd, &one, sizeof(one));
        } while (written < 0 && errno == EINTR);
        return true; /* a full counter (EAGAIN) has been signalled before and not been read since */
    }
    return false;
}

static enum gm_access accepted_store(const struct dispatch *at, unsigned size_bytes, uint64_t value)
{
    const struct gm_region *region = at->region;
    struct io_sizes implemented;

    if (at->eventfds != NULL && signal_eventfd(at, size_bytes, value)) {
        return GM_ACCESS_OK;
    }
    if (region->io.write == NULL) {
        return GM_ACCESS_DECODE;
    }
    implemented = io_implemented_sizes(&region->io);
    if (!io_sizes_take(&implemented, at->offset, size_bytes)) {
        return composed_store(at, &implemented, size_bytes, value);
    }
    return region->io.write(region->opaque, at->offset, size_bytes, value, at->attrs);
}

static enum gm_access sized_store(const struct dispatch *at, unsigned size_bytes, uint64_t value)
{
    return is_accepted(at, size_bytes, true)
               ? accepted_store(at, size_bytes, value & number_mask(size_bytes))
               : GM_ACCESS_DECODE;
}

static enum gm_access guarded_store(const struct dispatch *at, unsigned size_bytes, uint64_t value)
{
    struct call_frame frame = {at->region, running_calls};
    enum gm_access result;

    if (is_running(at->region)) {
        return GM_ACCESS_DENIED;
    }
    running_calls = &frame;
    result = sized_store(at, size_bytes, value);
    running_calls = frame.outer;
    return result;
}

enum gm_access dispatch_store(const struct dispatch *at, unsigned size_bytes, uint64_t value)
{
    struct io_sizes valid = io_valid_sizes(&at->region->io);
    enum gm_access result;

    /* A region without a write callback may still have eventfds. */
    if ((!has_callback(at->region, true) && at->eventfds == NULL) ||
        !io_sizes_take(&valid, at->offset, size_bytes)) {
        return GM_ACCESS_DECODE;
    }
    if (!dispatch_enter()) {
        return GM_ACCESS_DENIED;
    }
    flush_coalesced(at->region);
    result = at->region->io.guard_reentry ? guarded_store(at, size_bytes, value)
                                          : sized_store(at, size_bytes, value);
    dispatch_leave();
    return result;
}

/* ---- an access of any length ---- */

enum gm_access dispatch_read(const struct dispatch *at, uint8_t *data, uint64_t size_bytes)
{
    struct io_sizes valid = io_valid_sizes(&at->region->io);
    bool big = dispatch_is_big(at->region);
    struct dispatch piece = *at;
    unsigned outcome = GM_ACCESS_OK;

    while (size_bytes > 0) {
        unsigned piece_bytes = cut(&valid, piece.offset, size_bytes);
        uint64_t value;

        outcome |= dispatch_load(&piece, piece_bytes, &value);
        number_to_bytes(data, value, piece_bytes, big);
        piece.offset += piece_bytes;
        data += piece_bytes;
        size_bytes -= piece_bytes;
    }
    return (enum gm_access)outcome;
}

enum gm_access dispatch_write(const struct dispatch *at, const uint8_t *data, uint64_t size_bytes)
{
    struct io_sizes valid = io_valid_sizes(&at->region->io);
    bool big = dispatch_is_big(at->region);
    struct dispatch piece = *at;
    unsigned outcome = GM_ACCESS_OK;

    while (size_bytes > 0) {
        unsigned piece_bytes = cut(&valid, piece.offset, size_bytes);

        outcome |= dispatch_store(&piece, piece_bytes, number_from_bytes(data, piece_bytes, big));
        piece.offset += piece_bytes;
        data += piece_bytes;
        size_bytes -= piece_bytes;
    }
    return (enum gm_access)outcome;
}

/*
 * Without accepts() only the sizes matter that an access is cut into. Those at its start and end
 * depend on where in a multiple of the largest size it starts and ends, the others have the largest
 * size, which is valid. So whole multiples may be left out.
 */
static uint64_t bytes_alike(const struct gm_region *region, const struct io_sizes *valid,
                            uint64_t size_bytes)
{
    if (region->io.accepts != NULL || size_bytes < 2 * (uint64_t)valid->max) {
        return 0;
    }
    return align_down(size_bytes - valid->max, valid->max);
}

static bool are_pieces_valid(const struct dispatch *at, uint64_t size_bytes, bool is_write)
{
    struct io_sizes valid = io_valid_sizes(&at->region->io);
    struct dispatch piece = *at;

    while (size_bytes > 0) {
        uint64_t skipped = bytes_alike(at->region, &valid, size_bytes);
        unsigned piece_bytes;

        piece.offset += skipped;
        size_bytes -= skipped;
        piece_bytes = cut(&valid, piece.offset, size_bytes);
        if (!io_sizes_take(&valid, piece.offset, piece_bytes) ||
            !is_accepted(&piece, piece_bytes, is_write)) {
            return false;
        }
        piece.offset += piece_bytes;
        size_bytes -= piece_bytes;
    }
    return true;
}

bool dispatch_is_valid(const struct dispatch *at, uint64_t size_bytes, bool is_write)
{
    bool is_valid;

    if (!has_callback(at->region, is_write) || !dispatch_enter()) {
        return false;
    }
    is_valid = are_pieces_valid(at, size_bytes, is_write);
    dispatch_leave();
    return is_valid;
}
