/*
 * guestmem/region.h - regions: the nodes of the tree that describes a machine's memory.
 *
 * A region is made once, with its kind, and lives until nobody holds it: the owner, a parent, an alias
 * of it, an address space, or a view that a reader may still be using. What can change later (where
 * it is, how large, whether it shows) changes in transactions: guestmem/txn.h.
 *
 * What shows. Among the children of a region the higher priority wins; among equals the one added
 * last. A region's own content shows where no child covers it, if its kind has content; a container
 * has none, and what lies below it shows through. A child is clipped to its parent. An alias shows
 * its target's subtree from an offset on, clipped to its own size, even where the target is attached
 * nowhere; a disabled target shows nothing. Read-only and nonvolatile go down the tree, through
 * aliases too.
 */
#ifndef GUESTMEM_REGION_H
#define GUESTMEM_REGION_H

#include <guestmem/iommu.h>
#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum gm_region_kind {
    GM_REGION_CONTAINER = 1, /* children only */
    GM_REGION_RAM,           /* a piece of a RAM block */
    GM_REGION_ROM,           /* the same, read-only for the guest from the start */
    GM_REGION_ROM_DEVICE,    /* reads as memory in romd mode, else calls back; writes call back */
    GM_REGION_RAM_DEVICE,    /* host memory that is a device's registers: no bulk copies */
    GM_REGION_MMIO,          /* callbacks */
    GM_REGION_RESERVATION,   /* takes addresses, answers with GM_ACCESS_DECODE */
    GM_REGION_ALIAS,         /* another region's subtree, seen from an offset on */
    GM_REGION_IOMMU,         /* translates each access to another address space */
};

/* Byte order of a device's registers, or of a value that the caller loads or stores. */
enum gm_order {
    GM_ORDER_LITTLE = 0,
    GM_ORDER_BIG,
    GM_ORDER_GUEST, /* what gm_map_options.guest_big_endian says */
};

/* Sizes of accesses, in bytes; @unaligned: also at offsets that are no multiples of the size. */
struct gm_io_sizes {
    uint8_t min_bytes;
    uint8_t max_bytes;
    bool unaligned;
};

/*
 * An MMIO region's callbacks. @offset is from the region's start. @value holds the access's bytes as
 * a number in the region's `order`; read has to set it. No lock is held and no read section is open:
 * a callback may take its time, edit the map, move or remove its own region.
 * Return GM_ACCESS_OK, or GM_ACCESS_DEVICE / _DECODE / _DENIED, which reaches who made the access.
 */
struct gm_io_ops {
    size_t size; /* sizeof(struct gm_io_ops) */
    enum gm_access (*read)(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                           struct gm_attrs attrs);
    enum gm_access (*write)(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                            struct gm_attrs attrs);
    /* May refuse an access before it happens: false gives GM_ACCESS_DECODE. NULL: all are taken. */
    bool (*accepts)(void *opaque, uint64_t offset, unsigned size_bytes, bool is_write,
                    struct gm_attrs attrs);
    enum gm_order order;
    /* What the guest may do: others are GM_ACCESS_DECODE. Powers of two; 0: from 1, to 8 bytes. */
    struct gm_io_sizes valid;
    /* What the callbacks take: others are split, or widened, into these. 0: from 1, to 4. */
    struct gm_io_sizes implemented;
    /*
     * Set: an access that a callback of this region makes to the same region (a device programmed
     * to DMA onto itself) is GM_ACCESS_DENIED. Callbacks of several threads run at once all the
     * same: the guard is per thread.
     */
    bool guard_reentry;
};

/*
 * So many accesses may be under way on one thread, each made by a callback of the one before: devices that a guest has programmed to
 * access each other. One more that needs a callback is GM_ACCESS_DENIED, whatever its region. Threads need the stack for so many of
 * their callbacks; and a callback has to return (no longjmp() out of it).
 */
#define GM_IO_DEPTH_MAX 16u

struct gm_region_options {
    size_t size; /* sizeof(struct gm_region_options) */
    enum gm_region_kind kind;
    const char *name;     /* copied; any bytes, need not be unique; NULL for "" */
    gm_size_t size_bytes; /* 0 to 2^64 */
    uint64_t addr;        /* within the parent once it has one */
    int32_t priority;
    bool disabled;
    bool readonly;
    bool nonvolatile;
    bool unmergeable; /* its ranges never join their neighbours */
    bool no_romd;     /* begins outside romd mode */
    /* MMIO, ROM_DEVICE: its callbacks see what coalesced writes did that came before (gm_txn_add_coalesced()). */
    bool flush_coalesced;

    struct gm_ram *ram;  /* RAM, ROM, ROM_DEVICE, RAM_DEVICE: a reference is taken */
    uint64_t ram_offset; /* where the region begins in it; region and block end apart: -EINVAL */
    struct gm_region *target;         /* ALIAS: a reference is taken */
    uint64_t target_offset;           /* ALIAS */
    const struct gm_io_ops *io;       /* MMIO, ROM_DEVICE: copied */
    const struct gm_iommu_ops *iommu; /* IOMMU: copied */
    void *opaque; /* handed to all callbacks; gm_region_opaque() gives it back */
    /* Called once, when nobody can reach the region any more, from whichever thread found that
     * out (one of the library's own among them). No lock is held. NULL for none. */
    void (*release)(void *opaque);
};

/*
 * Make a region. It is attached nowhere.
 * @region: out; the caller owns one reference.
 * Context: any thread; takes the map's lock for a moment.
 * Return: 0; -E2BIG as types.h says; -EINVAL an option that the kind does not have or lacks, size above 2^64, region beyond
 * its block's end, target of another map, or the map was given up; -EIO in a child of fork(); -EDEADLK from a listener's callback; -ENOMEM.
 */
GM_MUST_CHECK int gm_region_new(struct gm_map *map, const struct gm_region_options *options,
                                struct gm_region **region, struct gm_diag *diag);

/*
 * The common kinds in one line each, with an errno alone; otherwise as gm_region_new(), which says by its diag what is wrong, as does
 * gm_region_new_child() (guestmem/txn.h). A RAM region has its block's size.
 */
GM_MUST_CHECK int gm_region_new_container(struct gm_map *map, const char *name, gm_size_t size,
                                          struct gm_region **region);
GM_MUST_CHECK int gm_region_new_ram(struct gm_map *map, const char *name, struct gm_ram *ram,
                                    struct gm_region **region);
GM_MUST_CHECK int gm_region_new_mmio(struct gm_map *map, const char *name, gm_size_t size,
                                     const struct gm_io_ops *io, void *opaque,
                                     struct gm_region **region);
GM_MUST_CHECK int gm_region_new_alias(struct gm_map *map, const char *name,
                                      struct gm_region *target, uint64_t target_offset,
                                      gm_size_t size, struct gm_region **region);

/*
 * Take, drop a reference. A region that its owner has dropped and that is still somebody's child or
 * target lives on. Drop NULL is allowed.
 * Context: any thread; put may call release callbacks.
 */
void gm_region_get(struct gm_region *region);
void gm_region_put(struct gm_region *region);

/* What was given at the making. Any thread. The name is borrowed until the region goes. */
enum gm_region_kind gm_region_kind(const struct gm_region *region);
const char *gm_region_name(const struct gm_region *region);
void *gm_region_opaque(const struct gm_region *region);
struct gm_ram *gm_region_ram(const struct gm_region *region); /* borrowed; NULL if none */
uint64_t gm_region_ram_offset(const struct gm_region *region);

/*
 * What it is now, as of the last commit.
 * Context: any thread; takes the map's lock for a moment, unless called from a listener's callback.
 */
struct gm_region_state {
    gm_size_t size;
    uint64_t addr;
    int32_t priority;
    bool enabled;
    bool readonly;
    bool nonvolatile;
    bool romd;
    uint32_t log_mask;
    const struct gm_region *parent; /* for comparing only: no reference */
};
void gm_region_state(const struct gm_region *region, struct gm_region_state *state);

#ifdef __cplusplus
}
#endif

#endif
