/*
 * unit/hypervisor.h - a backend for tests: a hypervisor of a few lines. A table of slots that
 * refuses what Linux would refuse, with dirty logs and eventfds; it writes down what it is told,
 * its calls can be made to fail, and it stops the test where the library breaks a promise of
 * guestmem/backend.h.
 */
#ifndef UNIT_HYPERVISOR_H
#define UNIT_HYPERVISOR_H

#include <guestmem/guestmem.h>

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PAGE 4096ull
#define SLOTS 32u
#define LOG_WORDS 4u /* of 64 pages: slots that log have no more */

struct hypervisor {
    struct gm_slot slots[SLOTS];
    bool used[SLOTS];
    uint64_t log[SLOTS][LOG_WORDS];
    bool log_fails;
    struct gm_eventfd eventfds[8];
    unsigned eventfd_count;
    bool held;
    unsigned calls;     /* those that may fail: all but log_fetch */
    unsigned fail_at;   /* the call with this number fails, from 1 on; 0: none */
    unsigned fail_also; /* ... and the call with this number */
    unsigned fail_from; /* ... and all from this one on */
    bool has_lost;      /* something that could not be taken back: unknown slots are an error */
    bool guest_writes;  /* the guest writes page 1 of each slot as soon as it can */
    void (*guest)(struct hypervisor *hypervisor); /* runs before each call, unless held */
    char text[4096];
};

__attribute__((format(printf, 2, 3))) static void note(struct hypervisor *hypervisor,
                                                       const char *format, ...)
{
    size_t used = strlen(hypervisor->text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(hypervisor->text + used, sizeof(hypervisor->text) - used, format, arguments);
    va_end(arguments);
}

static bool fails(struct hypervisor *hypervisor)
{
    if (hypervisor->guest != NULL && !hypervisor->held) {
        hypervisor->guest(hypervisor);
    }
    hypervisor->calls++;
    return hypervisor->calls == hypervisor->fail_at || hypervisor->calls == hypervisor->fail_also ||
           (hypervisor->fail_from != 0 && hypervisor->calls >= hypervisor->fail_from);
}

static bool is_lost(const struct hypervisor *hypervisor, const struct gm_slot *slot)
{
    return hypervisor->has_lost && !hypervisor->used[slot->number];
}

static const char *flag_text(uint32_t flags)
{
    static const char *const TEXTS[] = {"-", "l", "o", "lo", "g"}; /* GUEST_MEMFD comes alone */

    assert_true(flags < sizeof(TEXTS) / sizeof(TEXTS[0]));
    return TEXTS[flags];
}

static bool log_is_empty(const struct hypervisor *hypervisor, uint32_t number)
{
    const uint64_t *log = hypervisor->log[number];

    return (log[0] | log[1] | log[2] | log[3]) == 0;
}

/* By its number, or some of its addresses by another. */
static bool is_taken(const struct hypervisor *hypervisor, const struct gm_slot *slot)
{
    bool is_taken = hypervisor->used[slot->number];

    for (unsigned i = 0; i < SLOTS; i++) {
        const struct gm_slot *other = &hypervisor->slots[i];

        is_taken |= hypervisor->used[i] && slot->gpa <= other->gpa + (other->size_bytes - 1) &&
                    other->gpa <= slot->gpa + (slot->size_bytes - 1);
    }
    return is_taken;
}

static int on_create(void *opaque, const struct gm_slot *slot)
{
    struct hypervisor *hypervisor = opaque;

    if (fails(hypervisor)) {
        return -ENOMEM;
    }
    assert_true(slot->number < SLOTS);
    assert_true(slot->size_bytes != 0 && (slot->gpa | slot->size_bytes) % PAGE == 0);
    assert_int_equal((uintptr_t)slot->hva % PAGE, 0);
    if (is_taken(hypervisor, slot)) {
        assert_true(hypervisor->fail_also != 0); /* what was to go has stayed */
        return -EEXIST;
    }
    hypervisor->slots[slot->number] = *slot;
    hypervisor->used[slot->number] = true;
    memset(hypervisor->log[slot->number], 0, sizeof(hypervisor->log[0]));
    if (hypervisor->guest_writes && (slot->flags & GM_SLOT_LOG) != 0) {
        hypervisor->log[slot->number][0] = 2;
    }
    note(hypervisor, "create %" PRIu32 " %" PRIx64 "+%" PRIx64 " %s; ", slot->number, slot->gpa,
         slot->size_bytes, flag_text(slot->flags));
    return 0;
}

static void check_known(const struct hypervisor *hypervisor, const struct gm_slot *slot)
{
    const struct gm_slot *known = &hypervisor->slots[slot->number];

    assert_true(slot->number < SLOTS && hypervisor->used[slot->number]);
    if (hypervisor->has_lost) {
        return; /* what the library believes to have, and KVM has, may differ */
    }
    assert_int_equal(slot->flags, known->flags);
    assert_int_equal(slot->gpa, known->gpa);
    assert_int_equal(slot->size_bytes, known->size_bytes);
    assert_ptr_equal(slot->hva, known->hva);
}

static int on_destroy(void *opaque, const struct gm_slot *slot)
{
    struct hypervisor *hypervisor = opaque;

    if (fails(hypervisor) || is_lost(hypervisor, slot)) {
        return -EBUSY;
    }
    check_known(hypervisor, slot);
    assert_true((slot->flags & GM_SLOT_LOG) == 0 || hypervisor->held);
    assert_true(log_is_empty(hypervisor, slot->number)); /* drained */
    hypervisor->used[slot->number] = false;
    note(hypervisor, "delete %" PRIu32 "; ", slot->number);
    return 0;
}

static int on_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    struct hypervisor *hypervisor = opaque;

    if (fails(hypervisor)) {
        return -EPERM;
    }
    check_known(hypervisor, slot);
    assert_int_equal((slot->flags ^ new_flags) & ~GM_SLOT_LOG, 0);
    assert_int_equal(slot->flags & GM_SLOT_GUEST_MEMFD, 0);
    assert_true((new_flags & GM_SLOT_LOG) != 0 || log_is_empty(hypervisor, slot->number));
    hypervisor->slots[slot->number].flags = new_flags;
    note(hypervisor, "flags %" PRIu32 " %s; ", slot->number, flag_text(new_flags));
    return 0;
}

static int on_hold(void *opaque)
{
    struct hypervisor *hypervisor = opaque;

    if (fails(hypervisor)) {
        return -EINTR;
    }
    assert_false(hypervisor->held);
    hypervisor->held = true;
    note(hypervisor, "hold; ");
    return 0;
}

static void on_release(void *opaque)
{
    struct hypervisor *hypervisor = opaque;

    assert_true(hypervisor->held);
    hypervisor->held = false;
    note(hypervisor, "release; ");
}

static int on_log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                        uint64_t page_count, uint64_t *bitmap)
{
    struct hypervisor *hypervisor = opaque;

    if (is_lost(hypervisor, slot)) {
        return -ENOENT;
    }
    check_known(hypervisor, slot);
    assert_true((slot->flags & GM_SLOT_LOG) != 0);
    assert_non_null(slot->hva);
    assert_true(page_count > 0 && first_page + page_count <= slot->size_bytes / PAGE);
    for (uint64_t i = 0; !hypervisor->log_fails && i < (slot->size_bytes / PAGE + 63) / 64; i++) {
        bitmap[i] |= hypervisor->log[slot->number][i];
    }
    memset(hypervisor->log[slot->number], 0, sizeof(hypervisor->log[0]));
    return hypervisor->log_fails ? -EFAULT : 0;
}

static int on_eventfd_add(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                          uint64_t value, int fd)
{
    struct hypervisor *hypervisor = opaque;

    if (fails(hypervisor)) {
        return -ENOSPC;
    }
    hypervisor->eventfds[hypervisor->eventfd_count] =
        (struct gm_eventfd){address, size_bytes, match, value, fd};
    hypervisor->eventfd_count++;
    note(hypervisor, "eventfd+ %" PRIx64 "; ", address);
    return 0;
}

static bool is_eventfd(const struct gm_eventfd *eventfd, uint64_t address, uint32_t size_bytes,
                       bool match, uint64_t value, int fd)
{
    return eventfd->offset == address && eventfd->size_bytes == size_bytes &&
           eventfd->match == match && eventfd->value == value && eventfd->fd == fd;
}

static int on_eventfd_del(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                          uint64_t value, int fd)
{
    struct hypervisor *hypervisor = opaque;
    unsigned i = 0;

    if (fails(hypervisor) || (hypervisor->has_lost && hypervisor->eventfd_count == 0)) {
        return -ENOENT;
    }
    while (!is_eventfd(&hypervisor->eventfds[i], address, size_bytes, match, value, fd)) {
        i++;
        assert_true(i < hypervisor->eventfd_count);
    }
    hypervisor->eventfd_count--;
    hypervisor->eventfds[i] = hypervisor->eventfds[hypervisor->eventfd_count];
    note(hypervisor, "eventfd- %" PRIx64 "; ", address);
    return 0;
}

static int on_coalesced_add(void *opaque, uint64_t address, uint64_t last)
{
    struct hypervisor *hypervisor = opaque;

    if (fails(hypervisor)) {
        return -ENOSPC;
    }
    note(hypervisor, "coalesced+ %" PRIx64 "-%" PRIx64 "; ", address, last);
    return 0;
}

static int on_coalesced_del(void *opaque, uint64_t address, uint64_t last)
{
    struct hypervisor *hypervisor = opaque;

    if (fails(hypervisor)) {
        return -EIO;
    }
    note(hypervisor, "coalesced- %" PRIx64 "-%" PRIx64 "; ", address, last);
    return 0;
}

static const struct gm_backend_ops hypervisor_ops = {
    .size = sizeof(hypervisor_ops),
    .create = on_create,
    .destroy = on_destroy,
    .set_flags = on_set_flags,
    .hold = on_hold,
    .release = on_release,
    .log_fetch = on_log_fetch,
    .eventfd_add = on_eventfd_add,
    .eventfd_del = on_eventfd_del,
    .coalesced_add = on_coalesced_add,
    .coalesced_del = on_coalesced_del,
};

#endif
