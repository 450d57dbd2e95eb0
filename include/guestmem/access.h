/*
 * guestmem/access.h - a device's or VMM's access to an address space.
 *
 * Every function may be called from any thread, at any time, from inside any callback. None takes a
 * lock; each sees one consistent view of the space, which a commit in another thread does not disturb;
 * MMIO callbacks run outside the read section, with their region held alive. Stores to RAM mark the dirty record
 * of the clients that log it.
 *
 * A piece of an access that meets a region with callbacks is cut to what the region takes: valid
 * sizes are checked first (else GM_ACCESS_DECODE), then the piece is split into, or widened to, the
 * implemented sizes. Bytes that could not be read are zero.
 */
#ifndef GUESTMEM_ACCESS_H
#define GUESTMEM_ACCESS_H

#include <guestmem/region.h>
#include <guestmem/space.h>
#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Read, write @size_bytes from, at @gpa. Crossing 2^64 wraps to 0, as bus addresses do.
 * Return: the pieces' outcomes or-ed.
 */
enum gm_access gm_read(struct gm_space *space, gm_gpa_t gpa, void *data, size_t size_bytes,
                       struct gm_attrs attrs);
enum gm_access gm_write(struct gm_space *space, gm_gpa_t gpa, const void *data, size_t size_bytes,
                        struct gm_attrs attrs);

/* Fill with one byte value. */
enum gm_access gm_fill(struct gm_space *space, gm_gpa_t gpa, uint8_t byte, uint64_t size_bytes,
                       struct gm_attrs attrs);

/*
 * Load, store a number of 1, 2, 4 or 8 bytes in the given order. An aligned access to RAM is one
 * host access (not torn); others may be in pieces. A region with callbacks sees one access of this
 * size, which its valid sizes have to allow: unlike in gm_read(), it is not cut to what is valid. Other
 * sizes: GM_ACCESS_DECODE.
 */
enum gm_access gm_load(struct gm_space *space, gm_gpa_t gpa, unsigned size_bytes,
                       enum gm_order order, uint64_t *value, struct gm_attrs attrs);
enum gm_access gm_store(struct gm_space *space, gm_gpa_t gpa, unsigned size_bytes,
                        enum gm_order order, uint64_t value, struct gm_attrs attrs);

/*
 * Compare and swap a naturally aligned number of 1, 2, 4 or 8 bytes in RAM, sequentially consistent.
 * @expected: in: what must be there; out: what was there. Swapped if the two are equal.
 * Return: OK also if not equal; DECODE not RAM, or unaligned, or another size; DENIED read-only.
 */
enum gm_access gm_cmpxchg(struct gm_space *space, gm_gpa_t gpa, unsigned size_bytes,
                          enum gm_order order, uint64_t *expected, uint64_t desired,
                          struct gm_attrs attrs);

/* Would an access of this size be taken? No side effects. */
bool gm_access_valid(struct gm_space *space, gm_gpa_t gpa, uint64_t size_bytes, bool is_write,
                     struct gm_attrs attrs);

/*
 * Map guest memory for direct use by the host (DMA): a pointer to as much of [gpa, gpa + *size) as is
 * contiguous. RAM gives its host memory, kept alive until unmapped; anything else a bounce buffer,
 * filled by reading if @is_write is false and written back on unmap if it is true, of which a space has at most
 * GM_BOUNCE_BYTES at a time.
 * @size_bytes: in: wanted; out: mapped, 1 or more.
 * @mapping:    out: for gm_unmap().
 * Return: 0; -EINVAL *size 0; -EFAULT nothing is mapped there or it cannot be written; -EAGAIN all
 * bounce buffers are in use (try again after an unmap); -ENOMEM.
 */
#define GM_BOUNCE_BYTES 65536u
struct gm_mapping {
    void *data;
    uint64_t size_bytes;
    void *internal[4];
};
GM_MUST_CHECK int gm_map_range(struct gm_space *space, gm_gpa_t gpa, uint64_t *size_bytes,
                               bool is_write, struct gm_attrs attrs, struct gm_mapping *mapping);

/*
 * End a mapping. @accessed_bytes, from its start, were really written; they become dirty, or are
 * written back. Return: OK, or the outcome of writing back.
 */
enum gm_access gm_unmap(struct gm_mapping *mapping, uint64_t accessed_bytes);

/*
 * A cached translation, for rings that are used again and again: the lookup is made once, and again
 * after a commit that changed the space's view. Not RAM: each use is an ordinary access. Behind one IOMMU
 * region it is kept too, until anything is unmapped there (gm_iommu_notify), if its pages lie one after the other
 * in RAM of the space that they lead to, and may be read, and written if @is_write.
 * One thread at a time may use one cache. Offsets past the size: GM_ACCESS_DECODE.
 * gm_cache_init: 0; -EINVAL size 0 or wrapping. It references the space's view: fini gives it up.
 *
 * gm_cache_load() and gm_cache_store(), as gm_load() and gm_store() at an offset, are inlined (guestmem/inline.h): they use RAM that is
 * not behind an IOMMU without a call, as long as no commit of the map has published anything since the cache was used out of
 * line. All else, and all where the kernel has no membarrier, is out of line.
 */
struct gm_cache {
    /* What the inlined halves go by; the library writes it. Its layout and meaning are part of the library's ABI. */
    const uint64_t *changes; /* atomic: how often the map has changed; odd while it does */
    uint64_t changes_seen;   /* ... as of which the rest is true; 0: never */
    uint64_t *inside;        /* atomic: not 0 while the thread uses `memory`, which then stays */
    uint8_t *memory;         /* of offset 0 */
    uint64_t load_offsets;   /* 8 bytes may be loaded inline at offsets below; 0: nothing may */
    uint64_t store_offsets;  /* ... stored. Where both are 0, the pointers may be NULL */
    const uint32_t *dirty_clients; /* atomic: not 0: stores are to be recorded */
    bool is_guest_big;             /* what GM_ORDER_GUEST means */

    /* As given. */
    bool is_write;
    struct gm_attrs attrs;
    struct gm_space *space;
    gm_gpa_t gpa;
    uint64_t size_bytes;

    /* The library's. */
    uint64_t range_gpa;
    void *internal[6];
};
GM_MUST_CHECK int gm_cache_init(struct gm_cache *cache, struct gm_space *space, gm_gpa_t gpa,
                                uint64_t size_bytes, bool is_write, struct gm_attrs attrs);
void gm_cache_fini(struct gm_cache *cache);
enum gm_access gm_cache_read(struct gm_cache *cache, uint64_t offset, void *data,
                             size_t size_bytes);
enum gm_access gm_cache_write(struct gm_cache *cache, uint64_t offset, const void *data,
                              size_t size_bytes);

/*
 * Record @size_bytes at @offset, which were stored inline, as dirty. Only between gm_cache_enter() and gm_cache_leave()
 * (guestmem/inline.h), which gm_cache_store() does by itself.
 */
void gm_cache_mark(const struct gm_cache *cache, uint64_t offset, uint64_t size_bytes);

/*
 * Which region and GPA is a host address? Looks in the space's view, logarithmic.
 * @section: out: the section that shows it, of several the one with the lowest GPA; its region has a reference, put it.
 * Return: 0; -ENOENT the address is not in RAM that this space shows.
 */
GM_MUST_CHECK int gm_hva_find(struct gm_space *space, const void *hva, gm_gpa_t *gpa,
                              struct gm_section *section);

#ifdef __cplusplus
}
#endif

#include <guestmem/inline.h>

#endif
