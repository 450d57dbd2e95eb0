/*
 * guestmem/ram.h - blocks of host memory that back guest RAM and ROM, and the record of which of
 * their pages were written.
 *
 * A block belongs to no map: one block may be shown by several regions, in several maps. It is
 * reference-counted; every region that shows it holds a reference.
 */
#ifndef GUESTMEM_RAM_H
#define GUESTMEM_RAM_H

#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Make a block of zeroed anonymous memory, with an inaccessible guard page on both sides.
 * @size_bytes: 1 to 2^63, rounded up to whole host pages.
 * @allocator:  for the block's records, copied; NULL for malloc. The memory itself is mmap'ed.
 * @ram:        out; the caller owns one reference.
 * Context: any thread; may block in mmap.
 * Return: 0; -EINVAL size 0 or too large; -ENOMEM.
 */
GM_MUST_CHECK int gm_ram_new_anon(uint64_t size_bytes, const struct gm_allocator *allocator,
                                  struct gm_ram **ram, struct gm_diag *diag);

/*
 * Make a block of shared memory in a memfd (close-on-exec, sealed against resizing), guarded as
 * above; the descriptor can be passed to other processes (vhost-user).
 * @name: for /proc/PID/maps, at most 200 bytes.
 * Context: any thread; may block.
 * Return: 0; -EINVAL size or name; -ENOMEM; -EMFILE; -ENFILE; -ENOSYS no memfd on this kernel.
 */
GM_MUST_CHECK int gm_ram_new_memfd(const char *name, uint64_t size_bytes,
                                   const struct gm_allocator *allocator, struct gm_ram **ram,
                                   struct gm_diag *diag);

/*
 * Make a block that has a size and a dirty record but no host memory: for planning and inspecting
 * maps that this machine could not hold. Loads give zero, stores are dropped but recorded as dirty;
 * gm_ram_hva() is NULL and no hypervisor maps it. A region that begins at its start may be larger than the block:
 * what lies past the block's end is memory, too, but has no dirty record.
 * Return: 0; -EINVAL size 0 or above 2^63; -ENOMEM.
 */
GM_MUST_CHECK int gm_ram_new_unbacked(uint64_t size_bytes, const struct gm_allocator *allocator,
                                      struct gm_ram **ram, struct gm_diag *diag);

/*
 * Take, drop a reference. The last drop unmaps the memory; drop NULL is allowed.
 * Context: any thread, no locks needed.
 */
void gm_ram_get(struct gm_ram *ram);
void gm_ram_put(struct gm_ram *ram);

/* Size in bytes, a multiple of the host page size. */
uint64_t gm_ram_size(const struct gm_ram *ram);

/* First byte, page-aligned; NULL for an unbacked block. Borrowed until the last reference goes. */
void *gm_ram_hva(const struct gm_ram *ram);

/* The memfd, borrowed; -1 for other kinds. */
int gm_ram_fd(const struct gm_ram *ram);

/*
 * The dirty record. Up to GM_DIRTY_CLIENTS independent consumers (display, migration, snapshot, your
 * own), numbered; each sees every page that was written since its last committed harvest. Pages are
 * 4 KiB whatever the host's page size is.
 */
#define GM_DIRTY_CLIENTS 8
#define GM_DIRTY_PAGE_BYTES 4096u

/*
 * Begin, end recording for one client. A client that is begun twice must be ended twice. At the
 * first begin all its pages are clean. Logging that a region asks for (gm_txn_set_log) begins and
 * ends by itself; an end without a begin of one's own ends it early.
 * Context: any thread; begin may block in an allocation.
 * Return: 0; -EINVAL client; -ENOMEM; end: -ENOENT not begun.
 */
GM_MUST_CHECK int gm_ram_dirty_begin(struct gm_ram *ram, unsigned client);
int gm_ram_dirty_end(struct gm_ram *ram, unsigned client);

/*
 * Mark pages as written, for each begun client in @client_mask (bit N is client N). Bytes past the
 * end of the block are ignored. Marking costs by words of 64 pages, not by pages.
 * Context: any thread, wait-free, concurrently with harvests. Store the data first: a consumer that
 * harvests the mark is then sure to read it.
 */
void gm_ram_dirty_mark(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes,
                       uint32_t client_mask);

/*
 * A harvest: the pages of [offset, offset + size) that were dirty for @client are taken out of the
 * record into the harvest. Read them with gm_harvest_next(), then commit (they are yours), or abort
 * (they are dirty again, beside what was marked meanwhile). The range is widened to whole pages.
 * Harvests of one client over disjoint or the same range may be open at once: each page is in one.
 * Context: any thread; begin may block in an allocation.
 * Return: 0; -EINVAL client or range outside the block; -ENOENT client not begun; -ENOMEM.
 */
struct gm_harvest;
GM_MUST_CHECK int gm_harvest_begin(struct gm_ram *ram, unsigned client, uint64_t offset_bytes,
                                   uint64_t size_bytes, struct gm_harvest **harvest);

/*
 * The next run of dirty pages, ascending, as page numbers of the block.
 * Return: true and the run, or false when there is none left.
 */
bool gm_harvest_next(struct gm_harvest *harvest, uint64_t *first_page, uint64_t *last_page);

/* Pages in the harvest. */
uint64_t gm_harvest_page_count(const struct gm_harvest *harvest);

/* End the harvest, keeping or giving back its pages. Frees it. Cannot fail. */
void gm_harvest_commit(struct gm_harvest *harvest);
void gm_harvest_abort(struct gm_harvest *harvest);

#ifdef __cplusplus
}
#endif

#endif
