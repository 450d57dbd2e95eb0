/* model/softmodel_check.c - the library's tables, TLBs and look-ups against the model's dictionary. */
#include "model/softmodel_check.h"
#include "model/require.h"

#include "base/check.h"
#include "kcore/kcore.h"
#include "mmu/mmu.h"
#include "soft/soft.h"

#include <inttypes.h>
#include <string.h>

/* Intel SDM 3C, "Format of an EPT Page-Table Entry". */
#define INTEL_READ (UINT64_C(1) << 0)
#define INTEL_WRITE (UINT64_C(1) << 1)
#define INTEL_EXECUTE (UINT64_C(1) << 2)
#define INTEL_RIGHTS UINT64_C(7)
#define INTEL_TYPE(entry) ((entry) >> 3 & 7)
#define INTEL_LARGE (UINT64_C(1) << 7)
#define INTEL_ACCESSED (UINT64_C(1) << 8)
#define INTEL_DIRTY (UINT64_C(1) << 9)
#define INTEL_ADDRESS UINT64_C(0x000ffffffffff000)
#define WRITE_BACK 6u

/* Where in the tables something is wrong, for the message. */
#define AT "space %u level %u frame %#" PRIx64 " entry %#" PRIx64
#define AT_ARGS(check, level, frame, entry) (check)->space, (level), (frame), (entry)

static bool meets(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a - b < b_bytes || b - a < a_bytes;
}

/* Pages that two ranges share. */
static uint64_t common_pages(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    uint64_t start = a > b ? a : b;
    uint64_t end = a + a_bytes < b + b_bytes ? a + a_bytes : b + b_bytes;

    return end > start ? (end - start + SOFTMODEL_PAGE - 1) / SOFTMODEL_PAGE : 0;
}

static void check_not_forbidden(const struct softcheck *check, uint64_t hva, uint64_t size_bytes)
{
    for (unsigned i = 0; i < check->forbidden_count; i++) {
        REQUIRE(!meets(hva, size_bytes, check->forbidden[i].hva, check->forbidden[i].size_bytes),
                "%#" PRIx64 "+%#" PRIx64 " can be reached, but is being invalidated", hva,
                size_bytes);
    }
}

/* ---- tables ---- */

/* What was accessed just now has its flags; what is asked for by age is counted. */
static void check_flags(struct softcheck *check, const struct softmodel_page *page, unsigned level,
                        uint64_t frame, uint64_t entry)
{
    uint64_t page_count = UINT64_C(1) << (9 * (level - 1));
    uint64_t hva = entry & INTEL_ADDRESS;

    if (check->has_touched && check->touched_space == check->space &&
        check->touched_frame - frame < page_count) {
        REQUIRE((entry & INTEL_ACCESSED) != 0, AT ": accessed, but not flagged so",
                AT_ARGS(check, level, frame, entry));
        REQUIRE(!check->has_written || (entry & INTEL_DIRTY) != 0,
                AT ": written, but not flagged so", AT_ARGS(check, level, frame, entry));
    }
    if ((entry & INTEL_ACCESSED) != 0 && !page->is_private) {
        check->aged_pages +=
            common_pages(hva, page_count * SOFTMODEL_PAGE, check->aged.hva, check->aged.size_bytes);
    }
}

/* A write through this leaf would not be seen: then its pages have to be dirty already. */
static void check_log(struct softcheck *check, unsigned level, uint64_t frame, uint64_t page_count,
                      uint64_t entry)
{
    struct softmodel_page page = softmodel_look(check->model, check->space, frame, page_count);
    bool is_unseen =
        (entry & INTEL_WRITE) != 0 && (!check->log_buffer || (entry & INTEL_DIRTY) != 0);

    if (is_unseen && (page.slot->flags & SOFTMODEL_LOG) != 0) {
        REQUIRE(softmodel_all_dirty(page.slot, frame, page_count),
                AT ": a write would not be noticed", AT_ARGS(check, level, frame, entry));
    }
}

/* Private pages are mapped by the library for itself: their contents tell which they are. */
static bool is_page(const struct softmodel_page *page, uint64_t hva)
{
    return page->is_private ? memcmp((const void *)(uintptr_t)hva,
                                     (const void *)(uintptr_t)page->hva, SOFTMODEL_PAGE) == 0
                            : hva == page->hva;
}

static void check_leaf(struct softcheck *check, unsigned level, uint64_t frame, uint64_t entry)
{
    uint64_t page_count = UINT64_C(1) << (9 * (level - 1));
    uint64_t hva = entry & INTEL_ADDRESS;
    struct softmodel_page page = softmodel_look(check->model, check->space, frame, page_count);
    enum softhost_protection held = softhost_protection(check->host, page.hva);

    check->leaves[level]++;
    check->leaves_seen[level]++;
    REQUIRE(page.slot != NULL, AT ": no slot has it all", AT_ARGS(check, level, frame, entry));
    if (page.slot->is_private) {
        return;
    }
    REQUIRE(is_page(&page, hva), AT ": should lead to %#" PRIx64,
            AT_ARGS(check, level, frame, entry), page.hva);
    REQUIRE(hva % (page_count * SOFTMODEL_PAGE) == 0, AT ": not aligned",
            AT_ARGS(check, level, frame, entry));
    REQUIRE(level == 1 || softhost_page_bytes(check->host, hva, page_count * SOFTMODEL_PAGE) >=
                              page_count * SOFTMODEL_PAGE,
            AT ": larger than the host's pages", AT_ARGS(check, level, frame, entry));
    REQUIRE(page.is_uniform, AT ": attributes differ", AT_ARGS(check, level, frame, entry));
    REQUIRE((entry & INTEL_READ) == 0 || (page.can_read && held >= HOST_READ), AT ": may be read",
            AT_ARGS(check, level, frame, entry));
    REQUIRE((entry & INTEL_WRITE) == 0 || (page.can_write && held >= HOST_WRITE),
            AT ": may be written", AT_ARGS(check, level, frame, entry));
    REQUIRE((entry & INTEL_EXECUTE) == 0 || (page.can_execute && held >= HOST_READ),
            AT ": may be executed", AT_ARGS(check, level, frame, entry));
    REQUIRE(INTEL_TYPE(entry) == WRITE_BACK, AT ": memory type",
            AT_ARGS(check, level, frame, entry));
    check_not_forbidden(check, hva, page_count * SOFTMODEL_PAGE);
    check_log(check, level, frame, page_count, entry);
    check_flags(check, &page, level, frame, entry);
}

/* An entry that says "no slot is here": is it one that a vCPU in this space would believe? */
static void check_mmio(struct softcheck *check, unsigned level, uint64_t frame, uint64_t entry)
{
    struct softmodel_page page = softmodel_look(check->model, check->space, frame, 1);

    check->mmio_seen++;
    REQUIRE(level == 1, AT ": MMIO above the last level", AT_ARGS(check, level, frame, entry));
    REQUIRE(page.slot == NULL || entry != entry_of_mmio(mmu_generation(&check->soft->mmu)),
            AT ": MMIO, but a slot is there", AT_ARGS(check, level, frame, entry));
}

static void on_entry(void *opaque, unsigned level, struct gfn first, const uint64_t *table,
                     uint64_t entry)
{
    struct softcheck *check = opaque;
    uint64_t rights = entry & INTEL_RIGHTS;

    (void)table;
    if (rights == (INTEL_WRITE | INTEL_EXECUTE)) {
        check_mmio(check, level, first.value, entry);
    } else if (level == 1 || (entry & INTEL_LARGE) != 0) {
        REQUIRE(level <= 3, AT ": a leaf so large", AT_ARGS(check, level, first.value, entry));
        REQUIRE(rights == INTEL_EXECUTE || (rights & INTEL_READ) != 0,
                AT ": a right that hardware refuses", AT_ARGS(check, level, first.value, entry));
        check_leaf(check, level, first.value, entry);
    } else {
        /* What lies below a table without it was write-protected as a whole. */
        REQUIRE((rights | INTEL_WRITE) == INTEL_RIGHTS, AT ": a table without a right",
                AT_ARGS(check, level, first.value, entry));
    }
}

static void check_counts(struct softcheck *check)
{
    struct gm_soft_stats stats;

    gm_soft_stats(check->soft, &stats);
    REQUIRE(stats.pages_4k == check->leaves[1] && stats.pages_2m == check->leaves[2] &&
                stats.pages_1g == check->leaves[3],
            "leaves %" PRIu64 " %" PRIu64 " %" PRIu64 ", counted as %" PRIu64 " %" PRIu64
            " %" PRIu64,
            check->leaves[1], check->leaves[2], check->leaves[3], stats.pages_4k, stats.pages_2m,
            stats.pages_1g);
    REQUIRE(stats.slots == softmodel_count(check->model), "%" PRIu64 " slots, not %u", stats.slots,
            softmodel_count(check->model));
}

void softcheck_tables(struct softcheck *check)
{
    struct kcore *core = &check->soft->core;

    for (unsigned level = 1; level <= 3; level++) {
        check->leaves[level] = 0;
    }
    check->aged_pages = 0;
    kcore_hold(core);
    lock_take(&core->slots_lock);
    for (check->space = 0; check->space < check->model->spaces; check->space++) {
        mmu_visit(&check->soft->mmu, check->space, on_entry, check);
    }
    if (check->is_audited) {
        GM_AUDIT(kcore_audit(core));
        GM_AUDIT(mmu_audit(&check->soft->mmu));
    }
    lock_drop(&core->slots_lock);
    kcore_release(core);
    check_counts(check);
}

/* ---- TLBs ---- */

/* One of the words of a TLB entry. */
static void check_translation(struct softcheck *check, const struct softcheck_vcpu *vcpu,
                              const struct gm_tlb_entry *entry, enum gm_mmu_access access)
{
    uint64_t word = access == GM_MMU_READ    ? entry->load
                    : access == GM_MMU_WRITE ? entry->store
                                             : entry->fetch;
    uint64_t gpa = word & ~(uint64_t)(SOFTMODEL_PAGE - 1);
    uint64_t hva = gpa + entry->addend;
    struct softmodel_page page;
    enum softhost_protection needed = access == GM_MMU_WRITE ? HOST_WRITE : HOST_READ;
    bool can;

    if (word == GM_TLB_NONE || (word & (SOFTMODEL_PAGE - 1)) != vcpu->mmu->tag) {
        return;
    }
    check->tlb_seen++;
    page = softmodel_look(check->model, vcpu->space, gpa / SOFTMODEL_PAGE, 1);
    REQUIRE(page.slot != NULL, "the TLB has %#" PRIx64 ", where no slot is", gpa);
    if (page.slot->is_private) {
        return;
    }
    REQUIRE(is_page(&page, hva), "the TLB has %#" PRIx64 " at %#" PRIx64 ", not %#" PRIx64, gpa,
            hva, page.hva);
    can = access == GM_MMU_READ    ? page.can_read
          : access == GM_MMU_WRITE ? page.can_write
                                   : page.can_execute;
    REQUIRE(can && softhost_protection(check->host, page.hva) >= needed,
            "the TLB allows access %d of %#" PRIx64, (int)access, gpa);
    check_not_forbidden(check, hva, SOFTMODEL_PAGE);
    if (access == GM_MMU_WRITE && (page.slot->flags & SOFTMODEL_LOG) != 0) {
        REQUIRE(softmodel_all_dirty(page.slot, gpa / SOFTMODEL_PAGE, 1),
                "by the TLB a write of %#" PRIx64 " would not be noticed", gpa);
    }
}

void softcheck_tlb(struct softcheck *check, const struct softcheck_vcpu *vcpu)
{
    if (gm_mmu_enter(vcpu->mmu) != GM_MMU_OK) {
        return; /* kicked, or its ring is full: it has left again */
    }
    for (unsigned i = 0; i < GM_TLB_ENTRIES; i++) {
        const struct gm_tlb_entry *entry = &vcpu->mmu->tlb[i];

        if ((entry->load & entry->store & entry->fetch) == GM_TLB_NONE) {
            continue;
        }
        check_translation(check, vcpu, entry, GM_MMU_READ);
        check_translation(check, vcpu, entry, GM_MMU_WRITE);
        check_translation(check, vcpu, entry, GM_MMU_FETCH);
    }
    gm_mmu_leave(vcpu->mmu);
}

/* ---- look-ups ---- */

void softcheck_find(struct softcheck *check, unsigned space, uint64_t gpa)
{
    struct softmodel_page page = softmodel_look(check->model, space, gpa / SOFTMODEL_PAGE, 1);
    struct softmodel_page there;
    struct gm_soft_slot slot;
    gm_gpa_t back;

    REQUIRE(gm_soft_find(check->soft, space, gpa, &slot) == (page.slot != NULL),
            "finding the slot of %#" PRIx64, gpa);
    if (page.slot == NULL || page.slot->is_private) {
        return;
    }
    REQUIRE(slot.slot == (page.slot->id | (uint32_t)space << 16) &&
                slot.flags == page.slot->flags && slot.gpa == page.slot->first * SOFTMODEL_PAGE &&
                slot.size_bytes == page.slot->page_count * SOFTMODEL_PAGE &&
                slot.hva == page.slot->hva,
            "slot %#x was found for %#" PRIx64, slot.slot, gpa);
    REQUIRE(gm_soft_find_hva(check->soft, space, page.shared_hva + gpa % SOFTMODEL_PAGE, &back),
            "finding %#" PRIx64, page.shared_hva);
    there = softmodel_look(check->model, space, back / SOFTMODEL_PAGE, 1);
    REQUIRE(there.slot != NULL && there.shared_hva == page.shared_hva &&
                back % SOFTMODEL_PAGE == gpa % SOFTMODEL_PAGE,
            "%#" PRIx64 " is not at %#" PRIx64, page.shared_hva, (uint64_t)back);
}
