/*
 * model/softmodel_memory.c - what happens to memory and to the tables as a whole: invalidations with host
 * memory changed in between, attributes, tracking, ageing, pre-faults, the limit of table pages.
 */
#include "model/softmodel_run.h"

#include <errno.h>
#include <inttypes.h>

/* ---- invalidation ---- */

enum effect { NOTHING, DISCARD, PROTECT, EXCHANGE, EFFECTS };

static void begin(struct softrun *run, uint64_t hva, uint64_t size_bytes)
{
    TRACE(run, "invalidate %#" PRIx64 "+%#" PRIx64 "\n", hva, size_bytes);
    gm_soft_invalidate_begin(run->soft, hva, size_bytes);
    run->check.forbidden[run->check.forbidden_count++] = (struct softcheck_range){hva, size_bytes};
}

/* From the begins on nothing leads to that memory: neither tables nor TLBs. */
static void check_unreachable(struct softrun *run)
{
    softcheck_tables(&run->check);
    for (unsigned i = 0; i < SOFTCHECK_VCPUS; i++) {
        softcheck_tlb(&run->check, &run->check.vcpus[i]);
    }
}

static void end_all(struct softrun *run)
{
    for (unsigned i = 0; i < run->check.forbidden_count; i++) {
        gm_soft_invalidate_end(run->soft, run->check.forbidden[i].hva,
                               run->check.forbidden[i].size_bytes);
    }
    run->check.forbidden_count = 0;
}

static void exchange(struct softrun *run)
{
    uint64_t pages = run->host->areas[HOST_AREA_4K].size_bytes / HOST_4K;
    uint64_t one = rnd_below(&run->rnd, pages);
    uint64_t other = rnd_below(&run->rnd, pages);

    begin(run, run->host->areas[HOST_AREA_4K].start + one * HOST_4K, HOST_4K);
    begin(run, run->host->areas[HOST_AREA_4K].start + other * HOST_4K, HOST_4K);
    softhost_exchange(run->host, one, other);
    check_unreachable(run);
    end_all(run);
}

/* The host splits its large pages, or joins them: also of a part of the memory of slots that span two areas. */
static void resize(struct softrun *run)
{
    const struct softhost_area *area = &run->host->areas[HOST_AREA_2M];

    begin(run, area->start, area->size_bytes);
    softhost_resize(run->host);
    check_unreachable(run);
    end_all(run);
}

void softrun_invalidate(struct softrun *run)
{
    struct softhost_stretch stretch = softhost_random_stretch(run->host, &run->rnd);
    uint64_t hva = softhost_stretch_start(run->host, stretch);
    uint64_t size_bytes = softhost_stretch_bytes(run->host, stretch);
    enum effect effect = (enum effect)rnd_below(&run->rnd, EFFECTS);
    struct softhost_stretch overlap = {stretch.kind, stretch.first, 1};

    run->counts->invalidations++;
    if (rnd_one_in(&run->rnd, 20)) {
        resize(run);
        return;
    }
    if (effect == EXCHANGE) {
        exchange(run);
        return;
    }
    if (effect == NOTHING && rnd_one_in(&run->rnd, 2)) {
        hva += rnd_below(&run->rnd, HOST_4K);
        size_bytes = 1 + rnd_below(&run->rnd, size_bytes - HOST_4K / 2);
    }
    begin(run, hva, size_bytes);
    if (rnd_one_in(&run->rnd, 3)) {
        begin(run, softhost_stretch_start(run->host, overlap),
              softhost_stretch_bytes(run->host, overlap));
    }
    check_unreachable(run);
    if (effect == DISCARD) {
        softhost_discard(run->host, stretch);
    } else if (effect == PROTECT) {
        softhost_protect(run->host, stretch,
                         (enum softhost_protection)(
                             rnd_one_in(&run->rnd, 3) ? rnd_below(&run->rnd, 2) : HOST_WRITE));
    }
    end_all(run);
    if (effect == DISCARD) {
        softhost_stamp(run->host, stretch);
    }
}

/* ---- attributes and tracking ---- */

static void choose_range(struct softrun *run, uint64_t *gpa, uint64_t *size_bytes)
{
    static const uint64_t sizes[] = {HOST_4K, HOST_4K,     HOST_4K, 3 * HOST_4K,
                                     HOST_2M, 9 * HOST_2M, HOST_1G, 2 * HOST_4K};

    *gpa = softrun_random_gpa(run, (unsigned)rnd_below(&run->rnd, 2)) & ~(HOST_4K - 1);
    *size_bytes = sizes[rnd_below(&run->rnd, 8)];
    if (*size_bytes >= HOST_2M && rnd_one_in(&run->rnd, 2)) {
        *gpa &= ~(*size_bytes - 1) & ~(HOST_2M - 1);
    }
    if (rnd_one_in(&run->rnd, 20)) {
        *gpa += rnd_below(&run->rnd, 2);
        *size_bytes = rnd_below(&run->rnd, 2) * 8192;
    }
}

void softrun_set_attributes(struct softrun *run)
{
    static const uint64_t values[] = {0, 0, 0, 0, 0, 0, 0, 0, 2,  2,  3, 4,
                                      4, 6, 7, 8, 8, 8, 8, 8, 10, 12, 1, 16};
    struct kvm_memory_attributes set = {.attributes = values[rnd_below(&run->rnd, 24)]};
    uint64_t gpa;
    uint64_t size_bytes;
    long result;
    int wanted;

    if (set.attributes >= SOFTMODEL_PRIVATE && run->memfd < 0 && !rnd_one_in(&run->rnd, 6)) {
        set.attributes = 0; /* private pages without memory only deny */
    }
    choose_range(run, &gpa, &size_bytes);
    if (run->model.paint_count + 1 >= SOFTMODEL_PAINTS) {
        gpa = 0;
        size_bytes = UINT64_C(1) << run->model.gpa_bits;
        set.attributes = 0;
    }
    set.address = gpa;
    set.size = size_bytes;
    result = gm_soft_vm_ioctl(run->soft, KVM_SET_MEMORY_ATTRIBUTES, (unsigned long)&set);
    if (result == -ENOMEM && run->faults.has_failed) {
        run->counts->no_memory++;
        return;
    }
    TRACE(run, "attributes %#" PRIx64 " of %#" PRIx64 "+%#" PRIx64 "\n", (uint64_t)set.attributes,
          gpa, size_bytes);
    wanted = softmodel_set_attributes(&run->model, gpa, size_bytes, set.attributes);
    REQUIRE(result == wanted, "attributes %#" PRIx64 " of %#" PRIx64 "+%#" PRIx64 ": %ld, not %d",
            (uint64_t)set.attributes, gpa, size_bytes, result, wanted);
}

void softrun_track(struct softrun *run)
{
    unsigned space = (unsigned)rnd_below(&run->rnd, rnd_one_in(&run->rnd, 20) ? 4 : 2);
    uint64_t gpa = softrun_random_gpa(run, space % 2) & ~(HOST_4K - 1);
    const struct softmodel_tracked *tracked =
        &run->model.tracked[rnd_below(&run->rnd, SOFTMODEL_TRACKED)];
    bool is_end = rnd_one_in(&run->rnd, 2);
    int result;
    int wanted;

    if (is_end && tracked->count != 0) {
        space = tracked->space;
        gpa = tracked->frame * SOFTMODEL_PAGE;
    }
    wanted = is_end ? softmodel_untrack(&run->model, space, gpa)
                    : softmodel_track(&run->model, space, gpa);
    TRACE(run, "%strack %#" PRIx64 " in space %u: %d\n", is_end ? "un" : "", gpa, space, wanted);
    if (wanted == -ENOSPC) {
        return;
    }
    result = is_end ? gm_soft_untrack(run->soft, space, gpa) : gm_soft_track(run->soft, space, gpa);
    if (result == -ENOMEM && run->faults.has_failed && wanted == 0 && !is_end) {
        run->counts->no_memory++;
        REQUIRE(softmodel_untrack(&run->model, space, gpa) == 0, "the model");
        return;
    }
    REQUIRE(result == wanted, "%s of %#" PRIx64 " in space %u: %d, not %d",
            is_end ? "untracking" : "tracking", gpa, space, result, wanted);
}

/* ---- the rest ---- */

void softrun_age(struct softrun *run)
{
    struct softhost_stretch stretch = softhost_random_stretch(run->host, &run->rnd);
    uint64_t pages;
    uint64_t flagged;

    run->check.aged = (struct softcheck_range){softhost_stretch_start(run->host, stretch),
                                               softhost_stretch_bytes(run->host, stretch)};
    softcheck_tables(&run->check);
    flagged = run->check.aged_pages;
    pages = gm_soft_age(run->soft, run->check.aged.hva, run->check.aged.size_bytes);
    softcheck_tables(&run->check);
    REQUIRE(pages == flagged, "age: %" PRIu64 " pages, and %" PRIu64 " have the flag", pages,
            flagged);
    REQUIRE(run->check.aged_pages == 0, "%" PRIu64 " pages have the accessed flag after age",
            run->check.aged_pages);
    run->check.aged = (struct softcheck_range){0};
}

/* What a read of a page comes to, as an errno. */
static int prefault_errno(struct softrun *run, unsigned space, uint64_t gpa)
{
    struct softmodel_page page = softmodel_look(&run->model, space, gpa / SOFTMODEL_PAGE, 1);

    if (page.slot == NULL) {
        return -ENOENT;
    }
    if (softmodel_judge(&page, GM_MMU_READ) == SOFTMODEL_DENIED) {
        return -EFAULT;
    }
    return softhost_protection(run->host, page.hva) >= HOST_READ ? 0 : -EFAULT;
}

/* Of the VM's own memory we know no addresses. */
static bool has_private(struct softrun *run, unsigned space, uint64_t gpa, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        struct softmodel_page page =
            softmodel_look(&run->model, space, gpa / SOFTMODEL_PAGE + i, 1);

        if (page.slot != NULL && page.slot->is_private) {
            return true;
        }
    }
    return false;
}

void softrun_prefault(struct softrun *run)
{
    struct softcheck_vcpu *vcpu = softrun_vcpu(run);
    uint64_t gpa = softrun_random_gpa(run, vcpu->space) & ~(HOST_4K - 1);
    uint64_t pages = 1 + rnd_below(&run->rnd, 6);
    struct kvm_pre_fault_memory range = {.gpa = gpa, .size = pages * SOFTMODEL_PAGE};
    uint64_t done = 0;
    int wanted = 0;
    long result;

    if (gpa + range.size < gpa || (gpa + range.size - 1) >> run->model.gpa_bits != 0 ||
        has_private(run, vcpu->space, gpa, pages)) {
        return;
    }
    while (done < pages && wanted == 0) {
        wanted = prefault_errno(run, vcpu->space, gpa + done * SOFTMODEL_PAGE);
        done += wanted == 0;
    }
    wanted = done > 0 ? 0 : wanted; /* as a short read */
    TRACE(run, "pre-fault %" PRIu64 " pages from %#" PRIx64 "\n", pages, gpa);
    result = gm_soft_vcpu_ioctl(vcpu->vcpu, KVM_PRE_FAULT_MEMORY, (unsigned long)&range);
    if (run->faults.has_failed) {
        run->counts->no_memory++;
        return;
    }
    REQUIRE(result == wanted, "pre-fault of %#" PRIx64 ": %ld, not %d", gpa, result, wanted);
    REQUIRE(range.gpa == gpa + done * SOFTMODEL_PAGE || done == 0,
            "pre-fault of %#" PRIx64 ": up to %#" PRIx64 ", not %" PRIu64 " pages", gpa,
            (uint64_t)range.gpa, done);
}

void softrun_limit_pages(struct softrun *run)
{
    static const uint64_t limits[] = {0, 63, 64, 64, 80, 128, 1000, 100000};
    uint64_t limit = limits[rnd_below(&run->rnd, 8)];
    struct gm_soft_stats stats;
    long result = gm_soft_vm_ioctl(run->soft, KVM_SET_NR_MMU_PAGES, limit);

    REQUIRE(result == (limit < 64 ? -EINVAL : 0), "KVM_SET_NR_MMU_PAGES %" PRIu64 ": %ld", limit,
            result);
    if (result == 0) {
        gm_soft_stats(run->soft, &stats);
        REQUIRE(stats.table_pages <= limit && stats.table_pages_max == limit,
                "%" PRIu64 " table pages, at most %" PRIu64, stats.table_pages,
                stats.table_pages_max);
        result = gm_soft_vm_ioctl(run->soft, KVM_GET_NR_MMU_PAGES, 0);
        REQUIRE(result == (long)limit, "KVM_GET_NR_MMU_PAGES: %ld", result);
    }
}
