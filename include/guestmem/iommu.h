/*
 * guestmem/iommu.h - IOMMU regions: what translates the accesses of devices, and who is told when a
 * translation comes or goes.
 *
 * An access that meets an IOMMU region asks its translate callback, page by page, and goes on in the
 * space that the answer names; there another IOMMU may be met, eight in a row at most. An IOMMU may have several
 * tables: the attributes of an access choose one, by its index (a requester's context, a security state).
 *
 * The IOMMU's owner, who keeps the tables, tells of each change with gm_iommu_notify(), after having
 * changed them:
 *  - a translation that goes, or becomes another, as an unmap. When the call returns, no access of the
 *    library uses the old translation any more, nor does a gm_cache. What was mapped with gm_map_range() stays
 *    mapped: its user registers a notifier, and unmaps when told to.
 *  - a translation that comes as a map: needed by notifiers that want maps; else it may be left out.
 * Another translation of the same address is an unmap and then a map.
 *
 * Order. A notifier's callbacks never run at once, and it is told what one thread notifies in that
 * thread's order. What two threads notify about the same addresses is in order if the owner lets them change and
 * notify one after the other. The lock for this may be held across gm_iommu_notify(); it must not be one
 * that translate takes if a notifier accesses memory through this IOMMU, or replays it.
 */
#ifndef GUESTMEM_IOMMU_H
#define GUESTMEM_IOMMU_H

#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_IOMMU_READ (1u << 0)
#define GM_IOMMU_WRITE (1u << 1)

/* What a translation is asked for. */
struct gm_iommu_request {
    uint64_t offset; /* from the region's start */
    unsigned index;  /* the table */
    /* GM_IOMMU_*: what the access does; a compare-and-swap does both. 0: a replay wants to know,
     * nobody accesses. */
    unsigned rights;
    /* With GM_ATTR_DEBUG the owner shall record no fault; a replay asks so. */
    struct gm_attrs attrs;
};

/* What an IOMMU region answers for one access. */
struct gm_iommu_entry {
    /* Where the access goes on, in a space of the same map; NULL denies it. It must not end before
     * gm_iommu_notify() has told the unmap of what leads there, or gm_map_quiesce() has returned
     * after translate named it for the last time: an access may be on its way there. */
    struct gm_space *space;
    uint64_t translated; /* address there of the first byte of the translated page */
    /* Page size - 1: the entry holds for addr & ~page_mask. Also of a refusal, which holds for 4 KiB at
     * least: a replay passes over a large hole in one step. */
    uint64_t page_mask;
    bool can_read;
    bool can_write;
};

struct gm_iommu_notifier;

struct gm_iommu_ops {
    size_t size; /* sizeof(struct gm_iommu_ops) */
    /* Translate. Any thread, no locks, no read section. @entry is zeroed: a refusal. */
    void (*translate)(void *opaque, const struct gm_iommu_request *request,
                      struct gm_iommu_entry *entry);
    /* Which table has an access of these attributes? One that is not there denies it. NULL: 0. */
    unsigned (*attrs_to_index)(void *opaque, struct gm_attrs attrs);
    unsigned index_count;    /* tables; 0: one */
    uint64_t min_page_bytes; /* of the smallest page; a power of two; 0: 4096 */
    /*
     * The kinds (GM_IOMMU_MAP and so on) that the notifiers of table @index want are about to
     * change from @old_kinds to @new_kinds, or have changed if there are fewer. One call at a time. May refuse more
     * kinds by -errno, which gm_iommu_register() returns. It must not register or unregister a notifier of this
     * region, nor commit, nor take the lock that is held across gm_iommu_notify(). NULL: all are taken.
     */
    int (*notifiers_changed)(void *opaque, unsigned index, unsigned old_kinds, unsigned new_kinds);
    /*
     * Tell @notifier the present translations of [first, last] in table @index, as maps by
     * gm_iommu_notify_one(), under the lock under which the owner notifies. NULL: the library asks
     * translate page by page. 0 or -errno.
     */
    int (*replay)(void *opaque, struct gm_iommu_notifier *notifier, unsigned index, uint64_t first,
                  uint64_t last);
};

/* Kinds of events; a notifier wants one or more. */
#define GM_IOMMU_MAP (1u << 0)
#define GM_IOMMU_UNMAP (1u << 1)
/* What a device's own cache of translations (ATS) has to forget. Sent beside UNMAP, by owners who
 * model the guest's invalidations of such caches. */
#define GM_IOMMU_DEVICE_UNMAP (1u << 2)

/* Of any range, not of pages alone: @first's byte is at @translated, and the rest follows. */
struct gm_iommu_event {
    unsigned kind;  /* one of the above */
    unsigned index; /* the table */
    uint64_t first; /* offsets from the region's start */
    uint64_t last;  /* inclusive */
    /* Of a map only. */
    struct gm_space *space;
    uint64_t translated;
    bool can_read;
    bool can_write;
    /* Of an unmap: do not wait for accesses. The old translation may be in use until gm_iommu_wait()
     * has returned: one wait for a list of unmaps. Not told to notifiers. */
    bool no_wait;
};

struct gm_iommu_notifier_options {
    size_t size; /* sizeof(struct gm_iommu_notifier_options) */
    unsigned kinds;
    unsigned index; /* the table that it is about */
    uint64_t
        first;     /* offsets from the region's start: of a section, its offset and what it shows */
    uint64_t last; /* inclusive */
    /*
     * An event that meets [first, last], clipped to it. Calls for one notifier never run at once. No
     * lock of the library's is held, but a thread that would tell this notifier waits: so a commit from inside, or
     * making a region, is -EDEADLK, and gm_region_state() must not be called. It may access memory, and
     * register, unregister (itself too) and notify. When an unmap is told, the library's accesses no longer use the
     * old translation, but for those of an event with no_wait.
     */
    void (*notify)(void *opaque, const struct gm_iommu_event *event);
    void *opaque;
};

/*
 * Register a notifier with an IOMMU region, of which it takes a reference. It is told what is notified from
 * now on; gm_iommu_replay() tells what is there already.
 * @options:  copied.
 * @notifier: out: for gm_iommu_unregister().
 * Context: any thread, also from a listener's callback or a notifier's; calls notifiers_changed.
 * Return: 0; -EINVAL not an IOMMU region, options->size, no or unknown kinds, no such table, last
 * below first, or no callback; -EDEADLK from this region's notifiers_changed; -ENOMEM; or what
 * notifiers_changed returned.
 */
GM_MUST_CHECK int gm_iommu_register(struct gm_region *region,
                                    const struct gm_iommu_notifier_options *options,
                                    struct gm_iommu_notifier **notifier, struct gm_diag *diag);

/*
 * Unregister: its callback is not running any more, and never runs again, when this returns. From inside
 * its own callback: never again after that.
 * Context: as gm_iommu_register(), but not from this region's notifiers_changed. Waits for the callback in another
 * thread: hold no lock that this takes. NULL is allowed.
 */
void gm_iommu_unregister(struct gm_iommu_notifier *notifier);

/*
 * Tell of a change, which the owner has made in the table: first, if it is an unmap, wait for the accesses that may
 * use the old translation; then call the notifiers of that table, kind and range.
 * @event: borrowed.
 * Context: any thread, also from inside an MMIO, translate, listener's or notifier's callback. An unmap
 * waits for read sections, never for callbacks: a device's callback that was reached through the old translation may
 * still be running.
 * Return: 0; -EINVAL not an IOMMU region, not one kind, no such table, last below first, or a map
 * without a space.
 */
GM_MUST_CHECK int gm_iommu_notify(struct gm_region *region, const struct gm_iommu_event *event);

/* The same to one notifier, and nothing is waited for: of present translations, from the owner's replay. */
GM_MUST_CHECK int gm_iommu_notify_one(struct gm_iommu_notifier *notifier,
                                      const struct gm_iommu_event *event);

/*
 * Wait until no access uses a translation whose unmap was notified before, with no_wait or without.
 * Context: as gm_iommu_notify().
 */
void gm_iommu_wait(struct gm_region *region);

/*
 * Tell a notifier the present translations of its range as maps, by the owner's replay or page by page. A
 * map that was told since may be told again; one that went is never told after its unmap.
 * Page by page costs a call of translate for each page, and for each hole.
 * Context: as gm_iommu_notify(); the callback runs on this thread.
 * Return: 0; -EINVAL it does not want maps; -EAGAIN a thousand changes came while one page was looked at;
 * or what the owner's replay returned.
 */
GM_MUST_CHECK int gm_iommu_replay(struct gm_iommu_notifier *notifier);

/* Tell a notifier an unmap of its whole range: what it holds is to go. Context: as gm_iommu_replay().
 * Return: 0; -EINVAL it wants no unmaps. */
GM_MUST_CHECK int gm_iommu_unmap_all(struct gm_iommu_notifier *notifier);

/* The table that an access of @attrs uses, how many there are, and the smallest page. Any thread; 0
 * for a region of another kind. */
unsigned gm_iommu_index(const struct gm_region *region, struct gm_attrs attrs);
unsigned gm_iommu_index_count(const struct gm_region *region);
uint64_t gm_iommu_min_page(const struct gm_region *region);

#ifdef __cplusplus
}
#endif

#endif
