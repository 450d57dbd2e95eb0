/*
 * kcore/attributes.h - memory attributes of guest frames: private to the guest, and which kinds of
 * access it may make. Ranges with equal attributes are one node; frames without any have none.
 *
 * Source: Linux api.rst, KVM_SET_MEMORY_ATTRIBUTES (6.8); the three NO_ bits are guestmem's own.
 */
#ifndef KCORE_ATTRIBUTES_H
#define KCORE_ATTRIBUTES_H

#include "kcore/kcore.h"

#define ATTRIBUTE_NO_READ (UINT64_C(1) << 0)
#define ATTRIBUTE_NO_WRITE (UINT64_C(1) << 1)
#define ATTRIBUTE_NO_EXECUTE (UINT64_C(1) << 2)
#define ATTRIBUTE_PRIVATE (UINT64_C(1) << 3) /* KVM_MEMORY_ATTRIBUTE_PRIVATE */
#define ATTRIBUTES_ALL UINT64_C(0xf)

struct index_node;

struct attributes {
    const struct index_node *ranges; /* their values are the attributes */
    /* What goes with this version; the slots lock's. */
    struct rcu_item reclaim;
    struct kcore *core;
    struct index_node *dead_nodes;
};

/*
 * Set the attributes of a range. NO_READ needs NO_WRITE: EPT has no writable page that cannot be read.
 * Context: takes the slots lock; waits for vCPUs to flush.
 * Return: 0; -EINVAL range not page-aligned, empty, or past 2^gpa_bits; attributes unknown or as
 * above; -ENOMEM: nothing has changed.
 */
int kcore_set_attributes(struct kcore *core, uint64_t gpa, uint64_t size_bytes,
                         uint64_t attributes);

/* Context: a read section or the slots lock; lock-free. */
uint64_t kcore_attributes(const struct kcore *core, struct gfn gfn);

/* Do all @page_count frames from @first on have the same? Context: as above. */
bool kcore_attributes_same(const struct kcore *core, struct gfn first, uint64_t page_count);

/* After what was deferred. */
void kcore_attributes_fini(struct kcore *core);

#ifdef GM_AUDIT_ON
/* Ranges do not overlap, have some attributes, and differ from those they touch (I-17). */
void attributes_audit(const struct kcore *core);
void attributes_audit_sometimes(const struct kcore *core);
#endif

#endif
