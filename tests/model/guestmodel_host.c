/* model/guestmodel_host.c - what the host does while the random guest runs: none of it is the guest's to see. */
#include "model/guestmodel_run.h"
#include "model/require.h"

#include <guestmem/soft_ioctl.h>

#include <inttypes.h>
#include <string.h>

static uint64_t first_page(unsigned slot)
{
    return slot == 0 ? 0 : GUEST_LOW_PAGES;
}

static uint64_t page_count(unsigned slot)
{
    return slot == 0 ? GUEST_LOW_PAGES : GUEST_PAGES - GUEST_LOW_PAGES;
}

static void put_slot(struct guestrun *run, unsigned slot, uint64_t size_bytes)
{
    const struct gm_soft_slot change = {
        .slot = slot,
        .flags = run->is_logged[slot] && size_bytes != 0 ? KVM_MEM_LOG_DIRTY_PAGES : 0,
        .gpa = guest_memory_gpa(first_page(slot) * GUEST_PAGE),
        .size_bytes = size_bytes,
        .hva = (uintptr_t)run->host[slot][run->in_use[slot]],
    };

    REQUIRE(gm_soft_set_slots(run->soft, &change, 1, NULL) == 0, "slot %u", slot);
}

static void forget_pages(struct guestrun *run, unsigned slot)
{
    for (uint64_t page = first_page(slot); page < first_page(slot) + page_count(slot); page++) {
        run->must_be_dirty[page] = false;
        run->may_be_dirty[page] = false;
    }
}

/* A slot goes, with its tracking; or comes, somewhere else in host memory, with the same contents. */
void guestrun_set_slot(struct guestrun *run, unsigned slot, bool is_there)
{
    uint64_t first = first_page(slot);
    uint64_t size_bytes = page_count(slot) * GUEST_PAGE;

    guestrun_note(run, "host: slot %u %s", slot, is_there ? "comes" : "goes");
    if (is_there) {
        uint8_t *old = run->host[slot][run->in_use[slot]];

        run->in_use[slot] ^= 1;
        memcpy(run->host[slot][run->in_use[slot]], run->model.memory.bytes + first * GUEST_PAGE,
               size_bytes);
        memset(old, 0xee, size_bytes);
    }
    forget_pages(run, slot);
    put_slot(run, slot, is_there ? size_bytes : 0);
    run->model.memory.is_there[slot] = is_there;
    for (uint64_t page = first; page < first + page_count(slot); page++) {
        run->is_tracked[page] = false;
    }
}

static void toggle_log(struct guestrun *run, unsigned slot)
{
    if (!run->model.memory.is_there[slot]) {
        return;
    }
    run->is_logged[slot] = !run->is_logged[slot];
    guestrun_note(run, "host: slot %u, logging %d", slot, run->is_logged[slot]);
    forget_pages(run, slot);
    put_slot(run, slot, page_count(slot) * GUEST_PAGE);
}

static void harvest(struct guestrun *run, unsigned slot)
{
    uint64_t bitmap[GUEST_PAGES / 64 + 1] = {0};
    const struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};
    uint64_t first = first_page(slot);

    if (!run->model.memory.is_there[slot] || !run->is_logged[slot]) {
        return;
    }
    guestrun_note(run, "host: harvest of slot %u", slot);
    REQUIRE(gm_soft_vm_ioctl(run->soft, KVM_GET_DIRTY_LOG, (uintptr_t)&log) == 0, "no log");
    for (uint64_t page = 0; page < page_count(slot); page++) {
        bool is_dirty = (bitmap[page / 64] >> (page % 64) & 1) != 0;

        REQUIRE(is_dirty || !run->must_be_dirty[first + page],
                "page %#" PRIx64 " was written, and is not in the log", first + page);
        REQUIRE(!is_dirty || run->must_be_dirty[first + page] || run->may_be_dirty[first + page],
                "page %#" PRIx64 " was not written, and is in the log", first + page);
    }
    forget_pages(run, slot);
    run->counts->harvests++;
}

static void toggle_tracking(struct guestrun *run)
{
    unsigned page = (unsigned)rnd_below(&run->rnd, GUEST_PAGES);
    unsigned slot = page < GUEST_LOW_PAGES ? 0 : 1;
    uint64_t gpa = guest_memory_gpa((uint64_t)page * GUEST_PAGE);

    if (rnd_one_in(&run->rnd, 2)) {
        page = 1 + (unsigned)rnd_below(&run->rnd, GUESTRUN_TABLES - 1);
        slot = 0;
        gpa = (uint64_t)page * GUEST_PAGE;
    }
    if (!run->model.memory.is_there[slot]) {
        return;
    }
    guestrun_note(run, "host: %s %#" PRIx64, run->is_tracked[page] ? "untrack" : "track", gpa);
    REQUIRE((run->is_tracked[page] ? gm_soft_untrack(run->soft, 0, gpa)
                                   : gm_soft_track(run->soft, 0, gpa)) == 0,
            "tracking");
    run->is_tracked[page] = !run->is_tracked[page];
}

void guestrun_on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes)
{
    struct guestrun *run = opaque;
    uint64_t place = guest_memory_place(gpa);

    REQUIRE(place != GUEST_NOWHERE && size_bytes != 0 && size_bytes <= 16, "told of %#" PRIx64,
            gpa);
    run->is_told[place / GUEST_PAGE] = true;
    run->counts->told++;
}

static void invalidate(struct guestrun *run)
{
    unsigned slot = (unsigned)rnd_below(&run->rnd, GUEST_SLOTS);
    uint64_t page = rnd_below(&run->rnd, page_count(slot));
    uint64_t count = 1 + rnd_below(&run->rnd, page_count(slot) - page);
    uintptr_t hva = (uintptr_t)run->host[slot][run->in_use[slot]] + page * GUEST_PAGE;

    guestrun_note(run, "host: invalidation, slot %u, %" PRIu64 " pages from %" PRIu64, slot, count,
                  page);
    gm_soft_invalidate_begin(run->soft, hva, count * GUEST_PAGE);
    gm_soft_invalidate_end(run->soft, hva, count * GUEST_PAGE);
}

static void limit_pages(struct guestrun *run)
{
    uint64_t limit = rnd_one_in(&run->rnd, 3) ? 100000 : 64 + rnd_below(&run->rnd, 80);

    guestrun_note(run, "host: at most %" PRIu64 " table pages", limit);
    REQUIRE(gm_soft_vm_ioctl(run->soft, KVM_SET_NR_MMU_PAGES, limit) == 0, "limit");
}

void guestrun_host_operation(struct guestrun *run)
{
    unsigned slot = rnd_one_in(&run->rnd, 4) ? 0 : 1;

    switch (rnd_below(&run->rnd, 16)) {
    case 0:
        guestrun_set_slot(run, slot, !run->model.memory.is_there[slot]);
        break;
    case 1:
        toggle_log(run, slot);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        harvest(run, (unsigned)rnd_below(&run->rnd, GUEST_SLOTS));
        break;
    case 6:
    case 7:
        toggle_tracking(run);
        break;
    case 8:
    case 9:
        invalidate(run);
        break;
    case 10:
        guestrun_note(run, "host: zap");
        gm_soft_zap_all(run->soft);
        break;
    case 11:
        limit_pages(run);
        break;
    case 12:
        guestrun_note(run, "host: age");
        (void)gm_soft_age(run->soft, (uintptr_t)run->host[0][run->in_use[0]],
                          (uint64_t)GUEST_LOW_PAGES * GUEST_PAGE);
        break;
    default:
        break;
    }
    for (slot = 0; slot < GUEST_SLOTS; slot++) {
        if (!run->model.memory.is_there[slot] && rnd_one_in(&run->rnd, 2)) {
            guestrun_set_slot(run, slot, true);
        }
    }
}
