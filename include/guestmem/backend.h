/*
 * guestmem/backend.h - memory slots: what a hypervisor is given, and the table of operations through
 * which it is given it. gm_vm_open() attaches /dev/kvm by itself; this header is for VMMs with a
 * hypervisor of their own, and for tests that record.
 *
 * Slots are planned from a space's sections: page-aligned RAM, and read-only slots for ROM and for
 * ROM devices in romd mode. A plan has the fewest operations that lead from the slots that are there
 * to the new map without touching memory that did not change: once a slot had to be split, its
 * pieces stay apart, so that toggling a window again moves only the window. Only when slots run out
 * are such pieces joined again, if the hypervisor can.
 */
#ifndef GUESTMEM_BACKEND_H
#define GUESTMEM_BACKEND_H

#include <guestmem/space.h>
#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_SLOT_LOG (1u << 0)
#define GM_SLOT_READONLY (1u << 1)
/* The guest's private memory is a part of a guest memfd. Of a block with GM_RAM_GUEST_MEMFD, and never
 * together with GM_SLOT_READONLY, since no hypervisor has private memory that is read-only: where such
 * a block is shown read-only, only its shared memory is. */
#define GM_SLOT_GUEST_MEMFD (1u << 2)

#define GM_SLOT_NUMBERS_MAX (1u << 20)

/* A slot: @size_bytes of a region's memory, mapped at @gpa. All page-aligned. */
struct gm_slot {
    uint32_t number;
    uint32_t flags; /* GM_SLOT_* */
    gm_gpa_t gpa;
    uint64_t size_bytes;
    void *hva;                /* NULL for unbacked RAM */
    struct gm_region *region; /* alive while the slot is */
    uint64_t offset;          /* of gpa's byte in the region */
};

/*
 * The file of a slot with GM_SLOT_GUEST_MEMFD: the block's descriptor, borrowed. @offset_bytes: out: where in it gpa's byte is.
 * Context: any, while the slot's region is alive. Return: -1 and 0 of other slots.
 */
int gm_slot_guest_memfd(const struct gm_slot *slot, uint64_t *offset_bytes);

/*
 * What a commit calls, on its thread and under the map's commit lock, in this order: eventfd_del and coalesced_del, by
 * ascending address; hold if memory that stays visible has to be unmapped or a log ends; destroy, set_flags and create,
 * each by ascending address; eventfd_add and coalesced_add; and release once the new view is published. Before a
 * logged slot is destroyed or its log ends, the log is fetched. An eventfd, or a coalesced range of one region, that
 * the commit removes and adds again just the same is not mentioned.
 * Of slots with a guest memfd no hypervisor keeps a log. They come without GM_SLOT_LOG and are neither given new flags
 * nor asked for a log: while their region logs, all of them counts as written.
 * A call that fails is followed by the inverses of those before it, last first, and by release.
 * Should an inverse fail too, this commit and all later ones are -EIO.
 * No function may call gm_slots_list() or _stats(), edit the map or register a listener.
 *
 * invalidate_begin and _end are apart from commits: gm_ram_discard() and gm_ram_resize() call them
 * on whichever thread, beside a commit or in one of a listener's callbacks.
 */
struct gm_backend_ops {
    size_t size; /* sizeof(struct gm_backend_ops) */
    /* Each 0 or -errno, and then nothing has changed. @slot is borrowed for the call. */
    int (*create)(void *opaque, const struct gm_slot *slot);
    int (*destroy)(void *opaque, const struct gm_slot *slot);
    int (*set_flags)(void *opaque, const struct gm_slot *slot, uint32_t new_flags);
    /* Keep all vCPUs out of guest mode, until release. Does not wait for callbacks. Does not nest.
     * Both NULL: there are no vCPUs to keep out. */
    int (*hold)(void *opaque);
    void (*release)(void *opaque);
    /* The dirty pages of a logged slot since the last call, into @bitmap (bit N of word N/64 is the
     * slot's page N); cleared in the hypervisor for pages of [first_page, first_page + page_count),
     * others may be reported again. If it fails, what it did clear is in @bitmap, and the rest is
     * reported by the next call. NULL: the hypervisor keeps no logs, so that all of a logged slot
     * counts as written. Not called for unbacked RAM. */
    int (*log_fetch)(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                     uint64_t page_count, uint64_t *bitmap);
    /* NULL: the region's callback does the eventfd's work. @address is absolute. */
    int (*eventfd_add)(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                       uint64_t value, int fd);
    int (*eventfd_del)(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                       uint64_t value, int fd);
    /* Host memory of slots, or of what may become one, goes away and comes anew: from begin's
     * return to end's call no vCPU reaches it, nor keeps a way to it. A range may meet many slots,
     * or none. Both NULL: the hypervisor hears of it by itself, as Linux's KVM does from the
     * kernel. */
    void (*invalidate_begin)(void *opaque, void *hva, uint64_t size_bytes);
    void (*invalidate_end)(void *opaque, void *hva, uint64_t size_bytes);
    /* Writes to [@address, @last] may be collected, and not exit. NULL: they all exit. Who collects hands them to
     * the region that they were for: once coalesced_del has returned, it must be known which that is. */
    int (*coalesced_add)(void *opaque, uint64_t address, uint64_t last);
    int (*coalesced_del)(void *opaque, uint64_t address, uint64_t last);
};

struct gm_backend_options {
    size_t size;                          /* sizeof(struct gm_backend_options) */
    const struct gm_allocator *allocator; /* for slots and plans, copied; NULL for malloc */
    uint32_t max_slots;                   /* at most GM_SLOT_NUMBERS_MAX; 0: 32764 */
    uint64_t slot_span_bytes; /* no slot crosses a multiple of it; a power of two; 0: 2^63 */
    uint32_t page_bytes;      /* a power of two, 4096 or more; 0: 4096 */
    bool no_readonly;         /* no read-only slots: ROM is served by access */
    bool no_join;             /* a memory that was split must not be joined again */
    bool no_destroy; /* slots cannot be deleted: a map that needs it is refused (-EOPNOTSUPP) */
    bool needs_hva;  /* unbacked RAM cannot be mapped: a map with it is refused (-EINVAL) */
    struct gm_log_hook log;
    bool
        takes_guest_memfd; /* GM_SLOT_GUEST_MEMFD: else a map with such a slot is refused (-EOPNOTSUPP) */
};

/*
 * Attach a backend to a space: the present map is planned and applied.
 * Context: as gm_txn_commit().
 * @options: NULL for all defaults.
 * @ops:     copied. create, destroy and set_flags are needed, the pairs both or neither.
 * @slots:   out: detach it before the space or the map is freed.
 * Return: 0; -E2BIG (types.h); -EINVAL an option or a missing operation, or unbacked RAM where the hypervisor needs
 * memory; -ENOSPC not enough slots; -ENOMEM; -EDEADLK; -EIO; or what an operation returned. Later
 * commits have these as well, and -EOPNOTSUPP: a slot has to be deleted and cannot be, or has a guest memfd.
 */
struct gm_slots;
GM_MUST_CHECK int gm_slots_attach(struct gm_space *space, const struct gm_backend_options *options,
                                  const struct gm_backend_ops *ops, void *opaque,
                                  struct gm_slots **slots, struct gm_diag *diag);

/*
 * Delete all slots and detach. The handle is gone after 0.
 * After an inverse has failed, errors of the backend are passed over: its slots are deleted as far
 * as it takes that.
 * Return: as above; a backend with no_destroy and slots in use stays attached (-EOPNOTSUPP).
 */
GM_MUST_CHECK int gm_slots_detach(struct gm_slots *slots, struct gm_diag *diag);

/*
 * The slots in use, by number. Return: how many there are; at most @max are written to @out.
 * They are those of the last commit that succeeded; their regions are borrowed until the next one.
 * Context: any thread; does not wait for a commit under way.
 */
size_t gm_slots_list(struct gm_slots *slots, struct gm_slot *out, size_t max);

struct gm_slots_stats {
    uint64_t creates;
    uint64_t destroys;
    uint64_t flag_changes;
    uint64_t untouched_destroys; /* of memory that the edit left as it was (pieces of a slot that
                                    had to be split or joined) */
    uint64_t holds;              /* those of failed commits among them */
    uint64_t hold_ns;            /* total time, from the call of hold to the return of release */
    uint64_t max_hold_ns;        /* the longest */
    uint64_t joins;              /* slots made of pieces because numbers ran out */
};
/* Counts since attaching, without operations of failed commits. Context: as gm_slots_list(). */
void gm_slots_stats(struct gm_slots *slots, struct gm_slots_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
