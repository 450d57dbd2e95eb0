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

/* What backs a block. docs/ram.md compares them. */
enum gm_ram_kind {
    GM_RAM_ANON = 1, /* private anonymous memory */
    GM_RAM_SHARED,   /* shared anonymous memory: children of fork() see the same bytes */
    GM_RAM_MEMFD, /* a memfd, close-on-exec, which can be passed to other processes (vhost-user) */
    GM_RAM_HUGETLB,  /* a memfd of the host's huge pages, all of them reserved at the making */
    GM_RAM_FILE,     /* a part of a file or block device, shared or copied on write */
    GM_RAM_CALLER,   /* memory that the caller has mapped */
    GM_RAM_UNBACKED, /* a size and a dirty record, but no host memory */
};

/* FILE: writes stay in memory (copy on write), and the file is never changed. */
#define GM_RAM_PRIVATE (1u << 0)
/*
 * Beside the memory that guest and host share, which `kind` says, the guest has private memory in a
 * guest memfd: gm_ram_options.guest_memfd. Which of the two a guest's access reaches is decided by
 * the address's attributes (gm_vm_set_attributes()); the host's own accesses reach the shared one.
 * Not of UNBACKED.
 */
#define GM_RAM_GUEST_MEMFD (1u << 1)

/*
 * Advice to the kernel, for all of a block. Of each pair one at most. What the second of a pair
 * says is the default, but for huge pages: without either, the host's settings decide (and huge
 * pages, once advised for or against, can only be advised about again).
 */
#define GM_RAM_ADVICE_HUGE (1u << 0)    /* transparent huge pages: ANON, SHARED, MEMFD, CALLER */
#define GM_RAM_ADVICE_NO_HUGE (1u << 1) /* never; the same kinds */
#define GM_RAM_ADVICE_MERGE (1u << 2)   /* merge equal pages (KSM): ANON, CALLER */
#define GM_RAM_ADVICE_NO_MERGE (1u << 3)
#define GM_RAM_ADVICE_NO_DUMP (1u << 4) /* leave it out of core dumps */
#define GM_RAM_ADVICE_DUMP (1u << 5)
#define GM_RAM_ADVICE_NO_FORK (1u << 6) /* children of fork() do not have it */
#define GM_RAM_ADVICE_FORK (1u << 7)
#define GM_RAM_ADVICE_WIPE_ON_FORK (1u << 8) /* children find it zeroed: ANON, CALLER */
#define GM_RAM_ADVICE_KEEP_ON_FORK (1u << 9)

/* On which NUMA nodes of the host pages are made, as mbind(2) has it. */
enum gm_numa_policy {
    GM_NUMA_DEFAULT = 0, /* that of the thread which touches them */
    GM_NUMA_BIND,        /* on these nodes only */
    GM_NUMA_INTERLEAVE,  /* on these in turn */
    GM_NUMA_PREFERRED,   /* on the lowest of these; elsewhere if it is full */
};
#define GM_NUMA_NODES_MAX 1024

struct gm_ram_options {
    size_t size;                          /* sizeof(struct gm_ram_options) */
    const struct gm_allocator *allocator; /* for the block's records, copied; NULL for malloc */
    enum gm_ram_kind kind;
    uint32_t flags;      /* GM_RAM_PRIVATE, GM_RAM_GUEST_MEMFD */
    uint32_t advice;     /* GM_RAM_ADVICE_* */
    uint64_t size_bytes; /* 1 to 2^63, rounded up to whole pages of the backing */
    /* gm_ram_resize() may go up to here; addresses are reserved for it. 0: never resized. Not of
     * FILE and CALLER. */
    uint64_t max_size_bytes;
    /* HUGETLB: 2 MiB or 1 GiB, or what else the host has; 0: 2 MiB. CALLER: what the memory was
     * mapped with; 0: host pages. Others: 0. */
    uint64_t page_bytes;
    const char *name; /* MEMFD, HUGETLB: for /proc/PID/maps, at most 200 bytes */
    /*
     * FILE: open for reading, and unless GM_RAM_PRIVATE for writing, too. Duplicated. The part
     * begins at file_offset, a multiple of the page size. Who truncates the file below the part's
     * end makes accesses there fail by SIGBUS: seal or lock what others can write to.
     */
    int fd;
    uint64_t file_offset;
    /*
     * CALLER: readable, writable and page-aligned, and stays mapped until @release; all of it
     * mapped alike (private anonymous, shared, or a private file), which is looked up at the
     * making. There are no guard pages but the caller's.
     */
    void *memory;
    enum gm_numa_policy numa_policy;
    uint64_t numa_nodes[GM_NUMA_NODES_MAX / 64]; /* bit N of word N / 64 is node N */
    /* CALLER: nothing uses the memory any more. Called once, on the thread that drops the last
     * reference, one of the library's own maybe; not if the making failed. NULL for none. */
    void (*release)(void *opaque, void *memory, uint64_t size_bytes);
    /* The block has another size. On the thread that resizes, no lock held. NULL for none. */
    void (*resized)(void *opaque, struct gm_ram *ram, uint64_t old_size_bytes, uint64_t size_bytes);
    void *opaque;
    /*
     * GM_RAM_GUEST_MEMFD: made by gm_vm_guest_memfd(), or KVM_CREATE_GUEST_MEMFD, on the one VM
     * whose map will show the block. Duplicated: KVM's VM lives as long as the block does. The
     * block's private memory begins at the offset, a multiple of the host's page size, and has the
     * block's (largest) size. Blocks may have parts of one file, but no part twice.
     * A guest memfd that the host may map can be the block's memory, too: GM_RAM_FILE, of the same
     * descriptor and offset.
     */
    int guest_memfd;
    uint64_t guest_memfd_offset;
};

/*
 * Make a block of zeroed memory, or of the file's or caller's bytes. What the library maps has an
 * inaccessible guard page on both sides. MEMFD and HUGETLB are sealed against resizing by others,
 * unless they may be resized.
 * @ram: out; the caller owns one reference.
 * Context: any thread; may block in mmap. Reads /proc/self/maps for CALLER.
 * Return: 0; -EINVAL an option that is wrong or that the kind lacks, a file that ends before the
 * block does, or neither file nor block device, or memory that is not mapped throughout; -EACCES
 * the file is not open, or the memory not mapped, for what is needed; -EBADF no such descriptor;
 * -ENODEV it cannot be mapped, or with GM_RAM_PRIVATE not; -ENOMEM, for HUGETLB also: not enough huge pages are free; -EMFILE;
 * -ENFILE; -ENOSYS no memfd on this kernel; -EOPNOTSUPP advice that kind or kernel do not take,
 * NUMA without libnuma or in a kernel without it, or a huge page size that the host does not have.
 */
GM_MUST_CHECK int gm_ram_new(const struct gm_ram_options *options, struct gm_ram **ram,
                             struct gm_diag *diag);

/*
 * The common kinds in one line each, errors as there: private anonymous memory; shared memory in a
 * memfd; and no memory at all, for planning and inspecting maps that this machine could not hold.
 * Loads of the last give zero, stores are dropped but recorded as dirty; gm_ram_hva() is NULL and
 * no hypervisor maps it. A region that begins at its start may be larger than the block: what lies
 * past the block's end is memory, too, but has no dirty record.
 * @allocator: for the block's records, copied; NULL for malloc. The memory itself is mmap'ed.
 * @name:      for /proc/PID/maps, at most 200 bytes.
 */
GM_MUST_CHECK int gm_ram_new_anon(uint64_t size_bytes, const struct gm_allocator *allocator,
                                  struct gm_ram **ram, struct gm_diag *diag);
GM_MUST_CHECK int gm_ram_new_memfd(const char *name, uint64_t size_bytes,
                                   const struct gm_allocator *allocator, struct gm_ram **ram,
                                   struct gm_diag *diag);
GM_MUST_CHECK int gm_ram_new_unbacked(uint64_t size_bytes, const struct gm_allocator *allocator,
                                      struct gm_ram **ram, struct gm_diag *diag);

/*
 * Take, drop a reference. The last drop unmaps the memory; drop NULL is allowed.
 * Context: any thread, no locks needed.
 */
void gm_ram_get(struct gm_ram *ram);
void gm_ram_put(struct gm_ram *ram);

/* Size in bytes, a multiple of gm_ram_page_bytes(). Any thread; a block that is being resized has
 * the old or the new. */
uint64_t gm_ram_size(const struct gm_ram *ram);

/* First byte, page-aligned; NULL for an unbacked block. Borrowed until the last reference goes. */
void *gm_ram_hva(const struct gm_ram *ram);

/* The descriptor of MEMFD, HUGETLB and FILE, borrowed; -1 for other kinds. */
int gm_ram_fd(const struct gm_ram *ram);

/*
 * The guest memfd with the block's private memory, borrowed; -1 without.
 * @offset_bytes: out, may be NULL: where in it the block's first byte is; 0 without.
 */
int gm_ram_guest_memfd(const struct gm_ram *ram, uint64_t *offset_bytes);

/* The pages that the backing consists of: those of the host, or huge ones. Ranges of discards
 * and sizes are multiples of it, and no second-level leaf may be larger. Transparent huge pages
 * are the kernel's to split, so they do not count. */
uint64_t gm_ram_page_bytes(const struct gm_ram *ram);

/*
 * Advise the kernel about all of a block, as gm_ram_options.advice does. What a block may grow by
 * later is advised alike.
 * Context: any thread; may block.
 * Return: 0; -EINVAL unknown advice, or both of a pair; -EOPNOTSUPP that kind, or this kernel, does
 * not take it; -ENOMEM.
 */
GM_MUST_CHECK int gm_ram_advise(struct gm_ram *ram, uint32_t advice, struct gm_diag *diag);

struct gm_ram_prealloc_options {
    size_t size; /* sizeof(struct gm_ram_prealloc_options) */
    uint64_t offset_bytes;
    uint64_t size_bytes;   /* 0: to the block's end. Widened to whole pages */
    unsigned thread_count; /* the calling one among them; 0: one for each processor, at most 16 */
    /* How far it is, on the calling thread, while the others go on; the last call says all.
     * false stops: what was made present by then stays. NULL for none. */
    bool (*progress)(void *opaque, uint64_t done_bytes, uint64_t total_bytes);
    void *opaque;
};

/*
 * Make a range's pages present now, so that no first touch waits, or fails, later. Contents stay,
 * also what others write meanwhile. Unbacked blocks need nothing. Of a guest's private memory nothing
 * is made: fallocate(2) on gm_ram_guest_memfd() does. A part of it may have become
 * present when it fails.
 * @options: NULL for all of the block.
 * Context: any thread that may be blocked for seconds; not while the block is resized.
 * Return: 0; -EINVAL options, or a range outside of the block; -ECANCELED stopped by progress;
 * -ENOMEM the host has no memory, or no huge pages, for it; -EFAULT the file has become shorter, or
 * caller's memory is not mapped; -EHWPOISON; -EBUSY it is being resized; -EOPNOTSUPP this kernel
 * (before 5.14) can do it only by touching, which could raise SIGBUS for this kind.
 */
GM_MUST_CHECK int gm_ram_prealloc(struct gm_ram *ram, const struct gm_ram_prealloc_options *options,
                                  struct gm_diag *diag);

/*
 * Give a range's memory back to the host. It reads as zero afterwards, or as the file for
 * GM_RAM_PRIVATE and for a private file of the caller's. With a guest memfd the guest's private memory
 * goes as well. Every backend that maps it is told before and after (guestmem/backend.h), so no guest goes on using what went. The pages become dirty for
 * all clients. A page that was discarded is made anew by the next touch; of HUGETLB that is SIGBUS
 * if the host's huge pages have run out meanwhile: gm_ram_prealloc() it before.
 * @offset_bytes, @size_bytes: multiples of gm_ram_page_bytes().
 * Context: any thread, beside accesses and commits; waits for vCPUs to flush, so not from a vCPU in
 * guest mode, nor from a callback of gm_soft_follow(). Discards of one block follow each other.
 * Return: 0; -EINVAL range; -EBUSY discards are disabled; -EOPNOTSUPP its backing cannot free a
 * part (a filesystem without holes; caller's memory that is mapped in several ways, locked, or
 * shared and read-only); -EIO, -ENOSPC the filesystem's; -ENOMEM. After a failure some of the range
 * may have been discarded.
 */
GM_MUST_CHECK int gm_ram_discard(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes,
                                 struct gm_diag *diag);

/*
 * The same, of one half of a block with a guest memfd: what a conversion leaves behind. After an
 * address has become private its shared half can go, after it has become shared its private one
 * (gm_vm_set_attributes() before). If the file is the block's memory, too, its halves are one.
 * @half: GM_RAM_HALF_SHARED or GM_RAM_HALF_PRIVATE. Ranges of the latter are multiples of the
 * host's page size.
 * Return: as gm_ram_discard(); -EINVAL @half; -EOPNOTSUPP also: the block has no guest memfd.
 */
#define GM_RAM_HALF_SHARED (1u << 0)
#define GM_RAM_HALF_PRIVATE (1u << 1)
GM_MUST_CHECK int gm_ram_discard_half(struct gm_ram *ram, uint32_t half, uint64_t offset_bytes,
                                      uint64_t size_bytes, struct gm_diag *diag);

/*
 * Forbid discards, and shrinking, while somebody uses the memory behind the kernel's back: a device
 * that was given the pages themselves (VFIO) would keep those that went. Counted: enable as often.
 * After disable has returned no discard is under way.
 * Context: any thread; disable waits for a discard. Return: enable: 0; -ENOENT they are not
 * disabled.
 */
void gm_ram_discard_disable(struct gm_ram *ram);
int gm_ram_discard_enable(struct gm_ram *ram);

/*
 * Change a block's size within its gm_ram_options.max_size_bytes. To grow: the block first, then
 * the regions that show it, in a transaction. To shrink: the regions first, then the block. New
 * memory is zeroed, and dirty for all clients; what lies past a new end is given back to the host.
 * Mappings and pointers into what goes have to be given back before.
 * @size_bytes: rounded up to whole pages of the backing.
 * Context: any thread; to shrink, it waits for a grace period and for vCPUs to flush: neither from
 * a callback of a listener, a release callback, nor a vCPU in guest mode.
 * Return: 0; -EINVAL 0 or above the maximum; -EOPNOTSUPP it was made without a maximum; -EBUSY a
 * region shows more than that, discards are disabled, or another resize or a prealloc is under way;
 * -ENOMEM, for HUGETLB also: not enough huge pages are free.
 */
GM_MUST_CHECK int gm_ram_resize(struct gm_ram *ram, uint64_t size_bytes, struct gm_diag *diag);

/*
 * The dirty record. Up to GM_DIRTY_CLIENTS independent consumers (display, migration, snapshot,
 * your own), numbered; each sees every page that was written since its last committed harvest.
 * Pages are 4 KiB whatever the host's page size is.
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
