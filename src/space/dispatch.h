/*
 * space/dispatch.h - one access to a region that answers with callbacks.
 *
 * The rules, which follow QEMU's documented ones (docs/devel/memory.rst, "MMIO Operations"):
 *
 *  Cutting (dispatch_read, dispatch_write). An access of any length is cut, from its start on, into
 *  pieces: each the largest power of two that does not exceed what is left nor valid.max_bytes nor,
 *  unless valid.unaligned, what the piece's offset is a multiple of. Each piece is then an access
 *  of its own. dispatch_load and dispatch_store are one access each, and are never cut.
 *
 *  Validity. An access is GM_ACCESS_DECODE if the callback is missing, if its size is not one from
 *  valid.min_bytes to valid.max_bytes, if its offset is not a multiple of its size and
 *  valid.unaligned is not set, or if accepts() refuses it. It is GM_ACCESS_DENIED if the region
 *  guards against re-entry and one of its callbacks is running on this thread, or if so many callbacks are
 *  running there, one called from the other, that the stack might not take more (GM_IO_DEPTH_MAX).
 *
 *  Implemented sizes. An access that the callbacks take as it is becomes one call. Otherwise it is
 *  composed of several calls, at ascending offsets:
 *   - implemented.unaligned: calls of the access's size, but at most implemented.max_bytes, and at
 *     least implemented.min_bytes: then the call covers bytes behind the access too, from the same
 *     offset on.
 *   - else: aligned calls only. Each is the largest power of two that fits what is left,
 *     implemented.max_bytes and the alignment; where that is less than implemented.min_bytes, the
 *     call is the aligned one of min_bytes which holds those bytes, and covers others as well.
 *  So no byte that the access does not name is touched unless the callbacks know no smaller access.
 *  Of a widened read the wanted bytes are taken. A widened write has the value in its place and
 *  zeroes around it, and is not preceded by a read, which could have side effects. A widened call
 *  may reach past the end of the region.
 *
 *  Order. In a little-endian region the byte at the lowest offset is the number's lowest, in a
 *  big-endian one its highest, for the access and for each call it is composed of.
 *
 *  Outcome. The calls' outcomes or-ed; one that fails does not stop the rest. Bytes whose read
 *  failed are zero.
 *
 * Context of all: outside of a read section, with a reference on the region.
 */
#ifndef SPACE_DISPATCH_H
#define SPACE_DISPATCH_H

#include "region/region.h"
#include "space/order.h"

#include <guestmem/access.h>

/* Where in a region, and by whom. */
struct dispatch {
    struct gm_region *region;
    const struct eventfd_list *eventfds; /* of the range that was met; NULL for none */
    uint64_t offset;
    struct gm_attrs attrs;
};

/* Is the number that callbacks are given big-endian? */
static inline bool dispatch_is_big(const struct gm_region *region)
{
    return order_is_big(region->io.order, region->map);
}

/* Accesses that are under way on this thread, one from within another's callback. Of a library that may be loaded late:
 * initial-exec takes these bytes from what glibc keeps for that, and makes them as near as a member. */
extern _Thread_local unsigned dispatch_depth __attribute__((tls_model("initial-exec")));

/* Around callbacks. Return: false: no deeper. */
static inline bool dispatch_enter(void)
{
    if (__builtin_expect(dispatch_depth == GM_IO_DEPTH_MAX, 0)) {
        return false;
    }
    dispatch_depth++;
    return true;
}

static inline void dispatch_leave(void)
{
    dispatch_depth--;
}

/* Around accesses that were taken before, and must not be refused because of what happens to be under way where they are made
 * up for: nesting is counted anew from there. Never one within the other. */
static inline unsigned dispatch_begin_anew(void)
{
    unsigned depth = dispatch_depth;

    dispatch_depth = 0;
    return depth;
}

static inline void dispatch_return_to(unsigned depth)
{
    dispatch_depth = depth;
}

/*
 * An access of 1, 2, 4 or 8 bytes; *value is in the region's order.
 * A store that matches an eventfd signals it in place of the callback, once it was found valid.
 */
enum gm_access dispatch_load(const struct dispatch *at, unsigned size_bytes, uint64_t *value);
enum gm_access dispatch_store(const struct dispatch *at, unsigned size_bytes, uint64_t value);

/* The same, without eventfds; most are one call, which is made here. */
static inline bool dispatch_is_plain(const struct gm_region *region, uint64_t offset,
                                     unsigned size_bytes)
{
    return __builtin_expect((region->plain_sizes & size_bytes) != 0 &&
                                (offset & (size_bytes - 1)) == 0 &&
                                !atomic_load_explicit(&region->flushes, memory_order_relaxed),
                            1);
}

static inline enum gm_access dispatch_load_at(struct gm_region *region, uint64_t offset,
                                              unsigned size_bytes, uint64_t *value,
                                              struct gm_attrs attrs)
{
    uint64_t whole = 0;
    enum gm_access result;

    if (!dispatch_is_plain(region, offset, size_bytes) || region->io.read == NULL) {
        return dispatch_load(&(struct dispatch){region, NULL, offset, attrs}, size_bytes, value);
    }
    if (!dispatch_enter()) {
        *value = 0;
        return GM_ACCESS_DENIED;
    }
    result = region->io.read(region->opaque, offset, size_bytes, &whole, attrs);
    dispatch_leave();
    *value = result == GM_ACCESS_OK ? whole & number_mask(size_bytes) : 0;
    return result;
}

static inline enum gm_access dispatch_store_at(struct gm_region *region, uint64_t offset,
                                               unsigned size_bytes, uint64_t value,
                                               struct gm_attrs attrs)
{
    enum gm_access result;

    if (!dispatch_is_plain(region, offset, size_bytes) || region->io.write == NULL) {
        return dispatch_store(&(struct dispatch){region, NULL, offset, attrs}, size_bytes, value);
    }
    if (!dispatch_enter()) {
        return GM_ACCESS_DENIED;
    }
    result = region->io.write(region->opaque, offset, size_bytes, value & number_mask(size_bytes),
                              attrs);
    dispatch_leave();
    return result;
}

/* An access of any length; the data are in the guest's memory order. */
enum gm_access dispatch_read(const struct dispatch *at, uint8_t *data, uint64_t size_bytes);
enum gm_access dispatch_write(const struct dispatch *at, const uint8_t *data, uint64_t size_bytes);

/* Would all pieces of dispatch_read or dispatch_write be valid? Asks accepts() for each. */
bool dispatch_is_valid(const struct dispatch *at, uint64_t size_bytes, bool is_write);

#endif
