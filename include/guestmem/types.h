/*
 * guestmem/types.h - the words that every other header uses: addresses, sizes, results, diagnostics.
 *
 * Conventions of the whole interface:
 *  - A function that can fail returns 0 or a negative errno from the list in its comment; on error
 *    nothing has changed. Access functions return an enum gm_access instead: an outcome, no error.
 *  - "end" is exclusive, "last" is inclusive. Sizes are bytes unless the name says otherwise.
 *  - The library never prints, never exits, keeps no process-wide state of its own and installs no
 *    signal handler.
 */
#ifndef GUESTMEM_TYPES_H
#define GUESTMEM_TYPES_H

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
 * A sentence that a person can act on, for calls that configure. Give the address of one, or NULL.
 * The callee writes it on failure only; `code` is the negative errno that was returned.
 */
#define GM_DIAG_TEXT_BYTES 240
struct gm_diag {
    int code;
    char text[GM_DIAG_TEXT_BYTES];
};

/*
 * Where the library's own memory comes from. `alloc` returns memory for any type, or NULL; `free` is
 * given what `alloc` returned. Both are called from any thread. Tests make them fail.
 */
struct gm_allocator {
    void *(*alloc)(void *opaque, size_t size_bytes);
    void (*free)(void *opaque, void *memory);
    void *opaque;
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
