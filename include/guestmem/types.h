/*
 * guestmem/types.h - the words that every other header uses: addresses, sizes, results, diagnostics.
 *
 * Conventions of the whole interface:
 *  - A function that can fail returns 0 or a negative errno from the list in its comment; on error
 *    nothing has changed. Access functions return an enum gm_access instead: an outcome, no error.
 *  - Options, and tables of callbacks, begin with `size`, their own sizeof, and grow at the end. A library that knows more
 *    than the caller takes zeroes for the rest; one that knows less refuses what it does not know, unless it is all
 *    zero: -E2BIG. A size below that of the first version is -EINVAL. So a structure is zeroed before it is filled in.
 *  - "end" is exclusive, "last" is inclusive. Sizes are bytes unless the name says otherwise.
 *  - The library never prints, never exits, keeps no process-wide state of its own and installs no
 *    signal handler.
 */
#ifndef GUESTMEM_TYPES_H
#define GUESTMEM_TYPES_H

#include <guestmem/diag.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_MUST_CHECK __attribute__((warn_unused_result))

/* Guest physical address; guest frame number (GPA / 4096); host virtual address. */
typedef uint64_t gm_gpa_t;
typedef uint64_t gm_gfn_t;
typedef uint64_t gm_hva_t;

/*
 * A size in bytes from 0 to 2^64 inclusive. An address space is 2^64 bytes, one more than a uint64_t
 * can say; any unsigned integer converts to it. For callers without a 128-bit type it is two 64-bit
 * words, low word first, aligned to 16 bytes.
 */
__extension__ typedef unsigned __int128 gm_size_t;
#define GM_SIZE_2_64 ((gm_size_t)1 << 64)

/*
 * What a device's or VMM's access came to. A long access that crosses several ranges goes on after a
 * failed piece, and returns its pieces' outcomes or-ed together.
 */
enum gm_access {
    GM_ACCESS_OK = 0,
    GM_ACCESS_DECODE = 1, /* nothing is mapped there, or what is there takes no such access */
    GM_ACCESS_DEVICE = 2, /* the region's callback reported a failure */
    GM_ACCESS_DENIED = 4, /* read-only memory written, an IOMMU refused, or re-entered device */
};

/* Who makes an access. All zero: an unprivileged, non-secure access by nobody in particular. */
struct gm_attrs {
    uint32_t flags;        /* GM_ATTR_* */
    uint32_t requester_id; /* PCI requester id or whatever the VMM's bus uses */
};
#define GM_ATTR_SECURE (1u << 0)
#define GM_ATTR_USER (1u << 1)
#define GM_ATTR_DEBUG                                                                              \
    (1u << 2) /* a debugger's access: ROM may be written, no side effects wanted */

/*
 * Where the library's own memory comes from. `alloc` returns memory for any type, or NULL; `free` is
 * given what `alloc` returned. Both are called from any thread. Tests make them fail.
 */
struct gm_allocator {
    void *(*alloc)(void *opaque, size_t size_bytes);
    void (*free)(void *opaque, void *memory);
    void *opaque;
};

/*
 * What a person who debugs wants to see and no call can return: an undo that failed, slots that were joined because numbers ran
 * out, a log that could not be read, vCPUs held out for long, a dirty ring that lost entries, a region that was released late, a ring of
 * coalesced writes that somebody has overwritten. The library prints nothing itself; give a hook, per map (gm_map_options) or per slot
 * backend of one's own (gm_backend_options).
 * Called rarely, on the thread that found out: inside a commit, a sync or the last gm_region_put(), under the map's commit lock, as a
 * listener's callback is, or on a vCPU's thread after an exit; under no other lock; vCPUs may be held out meanwhile. So it must not edit the
 * map (-EDEADLK), nor wait for a thread that does; it may print, and access memory. Not after gm_map_free().
 */
enum gm_log_level {
    GM_LOG_ERROR = 1, /* something is lost, or works no more */
    GM_LOG_WARNING,   /* all is right, but it should not stay so */
};
struct gm_log_hook {
    void (*log)(void *opaque, enum gm_log_level level,
                const char *text); /* text is borrowed; NULL: none */
    void *opaque;
    uint32_t slow_hold_ms; /* vCPUs held out for this long are worth a warning; 0: 100 */
    /* So is a region that nobody reached for this long before its release callback was due: commits of other threads were under way, or
     * one long one. 0: 1000. Of a map's hook. */
    uint32_t slow_release_ms;
};

struct gm_map;
struct gm_ram;
struct gm_region;
struct gm_space;
struct gm_txn;
struct gm_view;
struct gm_listener;

#ifdef __cplusplus
}
#endif

#endif
