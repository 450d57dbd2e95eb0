/*
 * guestmem/listener.h - being told what a commit changes.
 *
 * One commit, for the listeners of the address spaces whose views it changes (others hear nothing):
 *
 *   prepare      ascending priority; may fail: then abort, in reverse, for those that had prepared
 *   begin        ascending priority
 *   first pass   eventfd_del, coalesced_del and region_del, of one space after the other, by ascending address
 *   second pass  region_nop, region_add, coalesced_add, eventfd_add, log_start, log_stop, likewise, as
 *                the addresses come
 *   apply        ascending priority; may fail, also half-way: then undo, in reverse, for that one and
 *                those that had applied, and abort, in reverse, for all that had begun
 *   (the new views are published here)
 *   settle       descending priority: what apply had to hold back vCPUs for is over
 *   commit       ascending priority
 *
 * Within a pass each range is told to all listeners before the next one: to those of higher priority
 * first for region_del, eventfd_del, coalesced_del and log_stop, to those of lower priority first for all else.
 * Among equals the one registered first comes first (last, where the order descends).
 *
 * What is told between begin and abort has not happened: a listener acts in apply or commit, or puts
 * back in abort. region_nop means: rendered again, came out the same, beside others that did not. Ranges that the edits cannot
 * have touched are not mentioned. A range that is added with log clients has a log_start after its
 * add; deletion has no log_stop.
 *
 * A prepare or apply that fails may write the diag that it is given; if not, the caller of the commit is told that a
 * listener refused.
 *
 * Callbacks run under the map's commit lock. They may access memory, and see the old views until
 * settle. A commit, or registering, from inside one is -EDEADLK.
 */
#ifndef GUESTMEM_LISTENER_H
#define GUESTMEM_LISTENER_H

#include <guestmem/space.h>
#include <guestmem/txn.h>
#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum gm_change_kind {
    GM_CHANGE_DEL = 1,
    GM_CHANGE_NOP,
    GM_CHANGE_ADD,
    GM_CHANGE_LOG_START,
    GM_CHANGE_LOG_STOP,
    GM_CHANGE_EVENTFD_DEL,
    GM_CHANGE_EVENTFD_ADD,
    GM_CHANGE_COALESCED_DEL,
    GM_CHANGE_COALESCED_ADD,
};

/* What shows of a coalesced range in one section, as addresses of the space. */
struct gm_coalesced {
    gm_gpa_t gpa;
    gm_gpa_t last; /* inclusive */
};

/* One thing that a commit is about to tell. */
struct gm_change {
    enum gm_change_kind kind;
    struct gm_section section;
    uint32_t old_mask; /* LOG_START, LOG_STOP: clients before and after */
    uint32_t new_mask;
    struct gm_eventfd eventfd;     /* EVENTFD_*; offset is absolute: a GPA or port */
    struct gm_coalesced coalesced; /* COALESCED_* */
};

struct gm_listener_ops {
    size_t size; /* sizeof(struct gm_listener_ops); any callback may be NULL */

    /* Check, and reserve all memory that the rest will need. Called once for each space changed,
     * with what it will be told, in order. 0 or -errno. @changes are borrowed for the call. */
    int (*prepare)(void *opaque, struct gm_space *space, const struct gm_change *changes,
                   size_t count, struct gm_diag *diag);
    void (*begin)(void *opaque);
    void (*commit)(void *opaque);
    void (*abort)(void *opaque);

    void (*region_del)(void *opaque, const struct gm_section *section);
    void (*region_nop)(void *opaque, const struct gm_section *section);
    void (*region_add)(void *opaque, const struct gm_section *section);
    void (*log_start)(void *opaque, const struct gm_section *section, uint32_t old_mask,
                      uint32_t new_mask);
    void (*log_stop)(void *opaque, const struct gm_section *section, uint32_t old_mask,
                     uint32_t new_mask);
    void (*eventfd_del)(void *opaque, const struct gm_section *section,
                        const struct gm_eventfd *eventfd);
    void (*eventfd_add)(void *opaque, const struct gm_section *section,
                        const struct gm_eventfd *eventfd);

    void (*coalesced_del)(void *opaque, const struct gm_section *section,
                          const struct gm_coalesced *coalesced);
    void (*coalesced_add)(void *opaque, const struct gm_section *section,
                          const struct gm_coalesced *coalesced);

    /* Side effects that can fail and be taken back, once for the whole commit. What a failing apply had
     * done by then is undo's to take back. A failing undo (-errno) breaks the map. */
    int (*apply)(void *opaque, struct gm_diag *diag);
    int (*undo)(void *opaque);
    void (*settle)(void *opaque); /* of a listener that has apply */

    /* On demand: bring what the hypervisor or device logged for [section] into its block's record. */
    int (*log_sync)(void *opaque, const struct gm_section *section);
    /* The first client of the whole map begins, the last one ends, logging (gm_txn_set_log_all). */
    void (*log_global_start)(void *opaque);
    void (*log_global_stop)(void *opaque);
};

/*
 * Register a listener and replay to it the present view of its spaces: prepare, begin, adds (with
 * eventfds and log_start), apply, settle, commit.
 * @space:    the address space; NULL for all, also later ones.
 * @priority: see above.
 * @ops:      copied.
 * Context: as gm_txn_commit(); callbacks run on this thread.
 * Return: 0; -EINVAL, -E2BIG ops->size, or -EINVAL a space of another map; -EDEADLK from a listener's callback; -ENOMEM; -EIO broken map; or
 * what its prepare or apply returned: then it has been told abort, and is not registered.
 */
GM_MUST_CHECK int gm_listener_register(struct gm_map *map, struct gm_space *space, int32_t priority,
                                       const struct gm_listener_ops *ops, void *opaque,
                                       struct gm_listener **listener, struct gm_diag *diag);

/*
 * Replay dels of all it was told, and unregister. The handle is gone after 0.
 * Return: 0; -EDEADLK from a listener's callback; -ENOMEM; what its prepare or apply returned.
 */
GM_MUST_CHECK int gm_listener_unregister(struct gm_listener *listener, struct gm_diag *diag);

/*
 * Bring the dirty pages that hypervisors and devices hold for [offset, offset + size) of a region, in
 * every space that shows it, into its block's record. Call it before a harvest. What counts is the memory: also where another
 * region of the same block shows it, as after a commit that put that one in this one's place.
 * Context: any thread but a listener's callback; takes the commit lock.
 * Return: 0; -EDEADLK; -EINVAL region without RAM; -EIO a log could not be read: call again before
 * relying on the record; or in a child of fork(). (A log that ends unread marks all of its pages.) There is no diag, as there may be
 * several reasons: the log hook is told which slot's log failed, and with which errno, for each.
 */
GM_MUST_CHECK int gm_region_log_sync(struct gm_region *region, uint64_t offset_bytes,
                                     gm_size_t size_bytes);

#ifdef __cplusplus
}
#endif

#endif
