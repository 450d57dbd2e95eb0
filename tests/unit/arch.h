/*
 * unit/arch.h - a virtual machine of the software KVM whose mmu only writes down what it is asked to do,
 * as words in a line of text, and checks the context that it is promised.
 *
 * | word                 | call                                                                 |
 * | -------------------- | -------------------------------------------------------------------- |
 * | prepare:S.ID         | slot_prepare of a slot with this address space and id                |
 * | flush:S.ID           | slot_flush, of a slot that lookups say is invalid                    |
 * | commit:S.ID:B>A      | slot_commit with these flags before and after, - for no slot         |
 * | wrapped, drain, tlb  | generation_wrapped, log_drain, tlb_flush                             |
 * | protect:S.ID:P:MASK  | log_protect of a first page and a hexadecimal mask                   |
 * | words:S.ID:P:W,W     | log_protect_words of a first page and hexadecimal words              |
 * | unmap:S.ID:F+N       | unmap of frames, hexadecimal                                         |
 * | attributes:S:F+N     | attributes_changed                                                   |
 * | cN:S.ID rN:S.ID fN:S.ID | follower N: created, removing, flags_changed                      |
 */
#ifndef UNIT_ARCH_H
#define UNIT_ARCH_H

#include "base/check.h"
#include "base/rcu.h"
#include "kcore/attributes.h"
#include "kcore/dirtylog.h"
#include "kcore/kcore.h"
#include "kcore/vcpu.h"
#include "model/faults.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ARCH_TEXT_BYTES 16384

struct arch {
    struct kcore core;
    struct faults faults;
    struct gm_allocator allocator;
    char text[ARCH_TEXT_BYTES];
    size_t length;
    bool is_silent;     /* write nothing down */
    int prepare_result; /* other than 0: slot_prepare fails so */
    bool is_mapped;     /* what unmap says */
    atomic_int live;    /* what slot_prepare has made */
    atomic_int privates_gone;
    void *last_private;
    /* Called by slot_flush: a test's look at the invalid step. */
    void (*on_flush)(struct arch *arch, const struct memslot *slot);
    bool is_in_harvest; /* between log_begin and log_end */
    /* Called by log_drain and unmap. */
    void (*on_drain)(struct arch *arch);
    void (*on_unmap)(struct arch *arch);
};

__attribute__((format(printf, 2, 3))) static inline void arch_say(struct arch *arch,
                                                                  const char *format, ...)
{
    va_list arguments;

    if (arch->is_silent) {
        return;
    }
    va_start(arguments, format);
    arch->length += (size_t)vsnprintf(arch->text + arch->length, ARCH_TEXT_BYTES - arch->length,
                                      format, arguments);
    va_end(arguments);
    GM_ASSERT(arch->length < ARCH_TEXT_BYTES);
}

/* What was said since the last time, without the space at its end. Borrowed until the next call. */
static inline const char *arch_said(struct arch *arch)
{
    static char said[ARCH_TEXT_BYTES];

    memcpy(said, arch->text, arch->length);
    said[arch->length > 0 ? arch->length - 1 : 0] = '\0';
    arch->length = 0;
    arch->text[0] = '\0';
    return said;
}

static inline void arch_check_held(const struct arch *arch)
{
    GM_ASSERT(lock_is_mine(&arch->core.slots_lock));
    GM_ASSERT(arch->core.hold_count > 0);
}

static inline int arch_slot_prepare(void *opaque, struct memslot *slot)
{
    struct arch *arch = opaque;

    GM_ASSERT(slot->arch == NULL && lock_is_mine(&arch->core.slots_lock));
    GM_ASSERT(arch->core.hold_count == 0); /* what can fail comes before the hold */
    if (arch->prepare_result != 0) {
        return arch->prepare_result;
    }
    slot->arch = arch->allocator.alloc(arch->allocator.opaque, sizeof(int));
    if (slot->arch == NULL) {
        return -ENOMEM;
    }
    *(int *)slot->arch = slot->id; /* so that a use after a free, or a second free, is found */
    atomic_fetch_add(&arch->live, 1);
    arch_say(arch, "prepare:%u.%u ", slot->space, slot->id);
    return 0;
}

static inline void arch_slot_free(void *opaque, struct memslot *slot)
{
    struct arch *arch = opaque;

    GM_ASSERT(*(int *)slot->arch == slot->id);
    atomic_fetch_sub(&arch->live, 1);
    arch->allocator.free(arch->allocator.opaque, slot->arch);
}

static inline void arch_slot_flush(void *opaque, const struct memslot *slot)
{
    struct arch *arch = opaque;
    const struct memslots *slots = kcore_slots(&arch->core, slot->space);

    arch_check_held(arch);
    GM_ASSERT((slot->flags & MEMSLOT_INVALID) != 0 && *(int *)slot->arch == slot->id);
    GM_ASSERT(memslots_find(slots, slot->base) == slot);
    GM_ASSERT(memslots_next(slots, slot->base) == slot);
    arch_say(arch, "flush:%u.%u ", slot->space, slot->id);
    if (arch->on_flush != NULL) {
        arch->on_flush(arch, slot);
    }
}

static inline void arch_slot_commit(void *opaque, const struct memslot *before,
                                    const struct memslot *after)
{
    struct arch *arch = opaque;
    const struct memslot *either = after != NULL ? after : before;

    arch_check_held(arch);
    GM_ASSERT(after == NULL ||
              memslots_find(kcore_slots(&arch->core, after->space), after->base) == after);
    arch_say(arch, "commit:%u.%u:", either->space, either->id);
    if (before != NULL) {
        arch_say(arch, "%x", before->flags);
    } else {
        arch_say(arch, "-");
    }
    if (after != NULL) {
        arch_say(arch, ">%x ", after->flags);
    } else {
        arch_say(arch, ">- ");
    }
}

static inline void arch_generation_wrapped(void *opaque)
{
    arch_check_held(opaque);
    arch_say(opaque, "wrapped ");
}

static inline void arch_log_drain(void *opaque)
{
    struct arch *arch = opaque;

    arch_check_held(arch);
    arch_say(arch, "drain ");
    if (arch->on_drain != NULL) {
        arch->on_drain(arch);
    }
}

static inline void arch_log_begin(void *opaque)
{
    struct arch *arch = opaque;

    GM_ASSERT(lock_is_mine(&arch->core.slots_lock) && !arch->is_in_harvest);
    arch->is_in_harvest = true;
}

static inline void arch_log_end(void *opaque)
{
    struct arch *arch = opaque;

    GM_ASSERT(arch->is_in_harvest);
    arch->is_in_harvest = false;
}

static inline void arch_log_protect(void *opaque, const struct memslot *slot, uint64_t first_page,
                                    uint64_t mask)
{
    struct arch *arch = opaque;

    GM_ASSERT(lock_is_mine(&arch->core.slots_lock) && arch->is_in_harvest && mask != 0);
    GM_ASSERT(first_page + (63 - (unsigned)__builtin_clzll(mask)) < slot->page_count);
    arch_say(arch, "protect:%u.%u:%" PRIu64 ":%" PRIx64 " ", slot->space, slot->id, first_page,
             mask);
}

static inline void arch_log_protect_words(void *opaque, const struct memslot *slot,
                                          uint64_t first_page, const uint64_t *words,
                                          uint64_t word_count)
{
    struct arch *arch = opaque;

    arch_check_held(arch); /* bits are taken without atomic operations */
    GM_ASSERT(arch->is_in_harvest && word_count > 0);
    GM_ASSERT(first_page + (word_count - 1) * 64 < slot->page_count);
    arch_say(arch, "words:%u.%u:%" PRIu64, slot->space, slot->id, first_page);
    for (uint64_t i = 0; i < word_count; i++) {
        arch_say(arch, "%c%" PRIx64, i == 0 ? ':' : ',', words[i]);
    }
    arch_say(arch, " ");
}

static inline void arch_tlb_flush(void *opaque)
{
    arch_say(opaque, "tlb ");
}

static inline bool arch_unmap(void *opaque, const struct memslot *slot, struct gfn first,
                              uint64_t page_count)
{
    struct arch *arch = opaque;

    GM_ASSERT(lock_is_mine(&arch->core.slots_lock));
    GM_ASSERT(range_holds(slot->base.value, slot->page_count, first.value, page_count));
    arch_say(arch, "unmap:%u.%u:%" PRIx64 "+%" PRIx64 " ", slot->space, slot->id, first.value,
             page_count);
    if (arch->on_unmap != NULL) {
        arch->on_unmap(arch);
    }
    return arch->is_mapped;
}

static inline void arch_attributes_changed(void *opaque, unsigned space, struct gfn first,
                                           uint64_t page_count)
{
    arch_check_held(opaque);
    arch_say(opaque, "attributes:%u:%" PRIx64 "+%" PRIx64 " ", space, first.value, page_count);
}

static inline void arch_private_gone(void *opaque, void *owner)
{
    struct arch *arch = opaque;

    arch->last_private = owner;
    atomic_fetch_add(&arch->privates_gone, 1);
}

static const struct kcore_arch_ops arch_ops = {
    .slot_prepare = arch_slot_prepare,
    .slot_free = arch_slot_free,
    .slot_flush = arch_slot_flush,
    .slot_commit = arch_slot_commit,
    .generation_wrapped = arch_generation_wrapped,
    .log_drain = arch_log_drain,
    .log_begin = arch_log_begin,
    .log_end = arch_log_end,
    .log_protect = arch_log_protect,
    .log_protect_words = arch_log_protect_words,
    .tlb_flush = arch_tlb_flush,
    .unmap = arch_unmap,
    .attributes_changed = arch_attributes_changed,
    .private_gone = arch_private_gone,
};

static inline struct kcore_options arch_options(struct arch *arch)
{
    *arch = (struct arch){.is_mapped = true};
    arch->allocator = faults_allocator(&arch->faults);
    return (struct kcore_options){
        .allocator = &arch->allocator,
        .spaces = 2,
        .gpa_bits = 52,
        .generation_bits = 19,
        .arch_ops = &arch_ops,
        .arch = arch,
        .private_opaque = arch,
        .log_is_immediate = true,
    };
}

/* A VM with two address spaces, 52 bits, and no buffers to drain. */
static inline struct arch *arch_open(void)
{
    static struct arch arch;
    struct kcore_options options = arch_options(&arch);

    assert_int_equal(kcore_init(&arch.core, &options), 0);
    return &arch;
}

/* The end; nothing may be left. */
static inline void arch_close(struct arch *arch)
{
#ifdef GM_AUDIT_ON
    kcore_audit(&arch->core);
#endif
    kcore_fini(&arch->core);
    assert_int_equal(atomic_load(&arch->live), 0);
    assert_int_equal(faults_live(&arch->faults), 0);
}

/* One change. Return: as kcore_apply(). */
static inline int arch_set(struct arch *arch, uint32_t slot, uint32_t flags, uint64_t gpa,
                           uint64_t size_bytes, uint64_t hva)
{
    struct memslot_change change = {
        .slot = slot, .flags = flags, .gpa = gpa, .size_bytes = size_bytes, .hva = hva};

    return kcore_apply(&arch->core, &change, 1, NULL);
}

/* The slot at a frame, outside of any race. */
static inline const struct memslot *arch_find(struct arch *arch, unsigned space, uint64_t frame)
{
    return memslots_find(kcore_slots(&arch->core, space), (struct gfn){frame});
}

static inline uint64_t arch_generation(struct arch *arch, unsigned space)
{
    return kcore_slots(&arch->core, space)->generation;
}

#endif
