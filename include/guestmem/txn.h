/*
 * guestmem/txn.h - transactions: every change of the tree.
 *
 * A transaction is a private list of edits. Recording an edit checks its arguments and takes no lock;
 * nothing happens before the outermost gm_txn_commit(), which applies all of them as one step, or
 * none. One transaction is used by one thread at a time.
 *
 * Nesting: gm_txn_nest() opens a level; commit and abort end the innermost one. Ending an inner level
 * by commit leaves its edits to the outer one; by abort it drops just those edits.
 */
#ifndef GUESTMEM_TXN_H
#define GUESTMEM_TXN_H

#include <guestmem/region.h>
#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Begin a transaction on a map.
 * Return: 0; -ENOMEM.
 */
GM_MUST_CHECK int gm_txn_begin(struct gm_map *map, struct gm_txn **txn);

/* Open an inner level. Return: 0; -ENOMEM. */
GM_MUST_CHECK int gm_txn_nest(struct gm_txn *txn);

/*
 * End the innermost level. At the outermost: apply the edits, render what they can have touched, let
 * every listener prepare, tell them, run slot backends, publish the new views. The transaction is
 * gone afterwards, whatever is returned.
 *
 * Context: any thread, but not from a listener's callback; waits for other commits, and for vCPUs to
 * leave guest mode where memory that stays visible has to be unmapped for a moment. Never waits for
 * readers or callbacks of regions.
 * Return: 0 (also for an inner level). On error nothing has changed:
 *  -EDEADLK  called from inside a listener's callback of the same map
 *  -EINVAL   an edit that its region does not take
 *  -EBUSY    a child that has a parent already
 *  -ENOENT   a child to remove that is not there
 *  -ELOOP    the tree contains itself: a child that is its own ancestor, or an alias cycle that
 *            comes back to the same addresses
 *  -E2BIG    a view past the map's limit of ranges or steps, or a tree more than 512 levels deep, aliases counted
 *  -ENOMEM   no memory
 *  -ENOSPC   a hypervisor has not enough slots (or ioeventfds) for the new map
 *  -EIO      an earlier undo failed: the map is broken and takes no commits; or the process is a child of
 *            the map's (fork)
 *  or what a listener's prepare or apply returned
 */
GM_MUST_CHECK int gm_txn_commit(struct gm_txn *txn, struct gm_diag *diag);

/* End the innermost level and drop its edits; the transaction goes with the outermost. NULL is allowed. */
void gm_txn_abort(struct gm_txn *txn);

/*
 * Why an edit was refused, or a level could not be opened: what the last call on @txn that failed had to say. Such a call has
 * recorded nothing, and the transaction goes on: the caller may commit the rest, or abort. (What fails at the commit is in its own diag.)
 * Return: never NULL; its code and id are 0 while all have succeeded. Borrowed until the outermost end of the transaction.
 */
const struct gm_diag *gm_txn_diag(const struct gm_txn *txn);

/*
 * The edits. Regions are referenced until the transaction ends. gm_txn_diag() says what is wrong with one that is refused.
 * Return: 0 recorded; -EINVAL another map's region, an alias as @parent, a kind without the attribute
 * (romd: only ROM_DEVICE), or a size above 2^64; -ENOMEM.
 */
GM_MUST_CHECK int gm_txn_add(struct gm_txn *txn, struct gm_region *parent, struct gm_region *child);
GM_MUST_CHECK int gm_txn_del(struct gm_txn *txn, struct gm_region *parent, struct gm_region *child);
GM_MUST_CHECK int gm_txn_set_addr(struct gm_txn *txn, struct gm_region *region, uint64_t addr);
GM_MUST_CHECK int gm_txn_set_size(struct gm_txn *txn, struct gm_region *region, gm_size_t size);
GM_MUST_CHECK int gm_txn_set_priority(struct gm_txn *txn, struct gm_region *region,
                                      int32_t priority);
GM_MUST_CHECK int gm_txn_set_enabled(struct gm_txn *txn, struct gm_region *region, bool enabled);
GM_MUST_CHECK int gm_txn_set_readonly(struct gm_txn *txn, struct gm_region *region, bool readonly);
GM_MUST_CHECK int gm_txn_set_nonvolatile(struct gm_txn *txn, struct gm_region *region,
                                         bool nonvolatile);
GM_MUST_CHECK int gm_txn_set_romd(struct gm_txn *txn, struct gm_region *region, bool romd);
GM_MUST_CHECK int gm_txn_set_alias_offset(struct gm_txn *txn, struct gm_region *alias,
                                          uint64_t target_offset);

/*
 * Dirty logging of one client, for a region with RAM (any terminating region with a block), or for
 * every such region of the map. Each is on or off, not counted; a client logs a region while either
 * is on. The blocks' records begin and end with it.
 */
GM_MUST_CHECK int gm_txn_set_log(struct gm_txn *txn, struct gm_region *region, unsigned client,
                                 bool on);
GM_MUST_CHECK int gm_txn_set_log_all(struct gm_txn *txn, unsigned client, bool on);

/*
 * An eventfd that a guest's write signals in place of the region's callback. Make it with EFD_NONBLOCK, or whoever else can write to it
 * can fill its counter and have a vCPU's thread wait. @size_bytes is 0 (any),
 * 1, 2, 4 or 8; with @match only writes of @value do. The descriptor is duplicated: a
 * write that began before its removal may signal it still.
 * Removing names the same five values. Return also: -EINVAL size, or @match without a size.
 * At commit: -EBADF, -EMFILE no such descriptor, or no other; -EINVAL range outside the region; -EEXIST added twice; -ENOENT removed but not there.
 */
struct gm_eventfd {
    uint64_t offset;
    uint32_t size_bytes;
    bool match;
    uint64_t value;
    int fd;
};
GM_MUST_CHECK int gm_txn_add_eventfd(struct gm_txn *txn, struct gm_region *region,
                                     const struct gm_eventfd *eventfd);
GM_MUST_CHECK int gm_txn_del_eventfd(struct gm_txn *txn, struct gm_region *region,
                                     const struct gm_eventfd *eventfd);

/*
 * A stretch of a region whose writes a hypervisor may collect: the guest goes on at once, and the callbacks come
 * later, in the order of the writes, before anything that the same VM's regions could notice it by: docs/kvm-eventfds.md.
 * For registers that are written often and whose writes do nothing at once (a frame buffer's ports, an index).
 * Where there is no hypervisor that can, it means nothing.
 * @size_bytes: GM_COALESCED_WHOLE, with offset 0: all of the region, whatever size it will have.
 * Removing names the same two values. Return also: -EINVAL no region of callbacks, or no size.
 * At commit: -EINVAL range outside the region; -EEXIST it overlaps another one of the region; -ENOENT removed but not there.
 */
#define GM_COALESCED_WHOLE GM_SIZE_2_64
GM_MUST_CHECK int gm_txn_add_coalesced(struct gm_txn *txn, struct gm_region *region,
                                       uint64_t offset_bytes, gm_size_t size_bytes);
GM_MUST_CHECK int gm_txn_del_coalesced(struct gm_txn *txn, struct gm_region *region,
                                       uint64_t offset_bytes, gm_size_t size_bytes);

/*
 * Give an address space another root (NULL: none). Part of the transaction like any other edit.
 * At commit: -ENOENT the space has ended.
 */
GM_MUST_CHECK int gm_txn_set_root(struct gm_txn *txn, struct gm_space *space,
                                  struct gm_region *root);

/*
 * One edit as a transaction of its own: gm_txn_begin(), the edit, gm_txn_commit(). Same errors.
 */
GM_MUST_CHECK int gm_region_add(struct gm_region *parent, struct gm_region *child,
                                struct gm_diag *diag);
GM_MUST_CHECK int gm_region_del(struct gm_region *parent, struct gm_region *child,
                                struct gm_diag *diag);
GM_MUST_CHECK int gm_region_set_enabled(struct gm_region *region, bool enabled,
                                        struct gm_diag *diag);
GM_MUST_CHECK int gm_region_set_addr(struct gm_region *region, uint64_t addr, struct gm_diag *diag);
GM_MUST_CHECK int gm_region_set_log(struct gm_region *region, unsigned client, bool on,
                                    struct gm_diag *diag);

/*
 * Make a region and add it to @parent: gm_region_new() on the parent's map, then gm_region_add().
 * @options: its addr is where it comes to lie in @parent.
 * @region:  out: one reference, the caller's. NULL: the parent's is the only one, and the region goes with it.
 * Context: as gm_txn_commit().
 * Return: 0, or what these two return. On error nothing has changed; options->release is not called.
 */
GM_MUST_CHECK int gm_region_new_child(struct gm_region *parent,
                                      const struct gm_region_options *options,
                                      struct gm_region **region, struct gm_diag *diag);

#ifdef __cplusplus
}
#endif

#endif
