/* model/softmodel_run.c - lives of software VMs under random operations: see softmodel_run.h. */
#include "model/softmodel_run.h"

#include "base/rcu.h"
#include "mmu/tlb.h"
#include "soft/soft.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define OPERATIONS_OF_A_LIFE 1500u

/* ---- the follower ---- */

static void on_created(void *opaque, const struct gm_soft_slot *slot)
{
    struct softrun *run = opaque;

    REQUIRE(run->followed_count < SOFTMODEL_SLOTS, "a follower told of too many slots");
    run->followed[run->followed_count++] = *slot;
}

static struct gm_soft_slot *find_followed(struct softrun *run, const struct gm_soft_slot *slot)
{
    for (unsigned i = 0; i < run->followed_count; i++) {
        if (run->followed[i].slot == slot->slot) {
            return &run->followed[i];
        }
    }
    REQUIRE(false, "the follower does not know slot %#x", slot->slot);
    return NULL;
}

static void on_removing(void *opaque, const struct gm_soft_slot *slot)
{
    struct softrun *run = opaque;
    struct gm_soft_slot *known = find_followed(run, slot);

    REQUIRE(known->gpa == slot->gpa && known->hva == slot->hva, "slot %#x is removed as another",
            slot->slot);
    *known = run->followed[--run->followed_count];
}

static void on_flags_changed(void *opaque, const struct gm_soft_slot *slot)
{
    find_followed(opaque, slot)->flags = slot->flags;
}

static const struct gm_soft_follower_ops follower_ops = {
    .size = sizeof(follower_ops),
    .created = on_created,
    .removing = on_removing,
    .flags_changed = on_flags_changed,
};

/* ---- a life begins ---- */

static void choose_options(struct softrun *run, const struct gm_allocator *allocator)
{
    static const unsigned bits[] = {0, 40, 48, 52};
    struct gm_soft_options *options = &run->options;

    *options = (struct gm_soft_options){
        .size = sizeof(*options),
        .allocator = allocator,
        .gpa_bits = bits[rnd_below(&run->rnd, 4)],
        .log = rnd_one_in(&run->rnd, 2) ? GM_SOFT_LOG_BUFFER : GM_SOFT_LOG_PROTECT,
        .eager_split = rnd_one_in(&run->rnd, 2),
        .intel_private_slots = rnd_one_in(&run->rnd, 4),
        /* Without, the host is asked: all its pages here are small. */
        .page_bytes = rnd_one_in(&run->rnd, 12) ? NULL : softhost_page_bytes,
        .opaque = run->host,
    };
    if (options->gpa_bits == 40 || options->gpa_bits == 48) {
        options->ept_levels = 4 + (unsigned)rnd_below(&run->rnd, 2);
    }
}

static void choose_clusters(struct softrun *run)
{
    uint64_t end = UINT64_C(1) << run->model.gpa_bits;

    run->clusters[0] = 0;
    run->clusters[1] = HOST_2M - 8 * HOST_4K;
    run->clusters[2] = HOST_1G - 8 * HOST_4K;
    run->clusters[3] = end - 24 * HOST_4K;
    run->clusters[4] = end / 2 - 8 * HOST_4K;
    run->clusters[5] = (UINT64_C(1) << 39) - 8 * HOST_4K;
    run->clusters[6] = 0xfed00000;
    run->clusters[7] = rnd_below(&run->rnd, end / 2) & ~(HOST_4K - 1);
}

static void enable(struct softrun *run, unsigned cap, uint64_t argument)
{
    struct kvm_enable_cap enable_cap = {.cap = cap, .args = {argument}};
    long result = gm_soft_vm_ioctl(run->soft, KVM_ENABLE_CAP, (unsigned long)&enable_cap);

    REQUIRE(result == 0, "KVM_ENABLE_CAP %u: %ld", cap, result);
}

/* Before there are vCPUs. */
static void choose_rings(struct softrun *run)
{
    if (!rnd_one_in(&run->rnd, 3)) {
        return;
    }
    run->model.has_rings = true;
    enable(run, rnd_one_in(&run->rnd, 2) ? KVM_CAP_DIRTY_LOG_RING : KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
           1024 * sizeof(struct kvm_dirty_gfn));
    if (rnd_one_in(&run->rnd, 2)) {
        run->model.has_ring_bitmap = true;
        enable(run, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0);
    }
}

/* The VM's own slots, where the processor is Intel's. */
static void choose_private(struct softrun *run)
{
    uint64_t tss = UINT64_C(0xfed00000) + rnd_below(&run->rnd, 16) * HOST_4K;

    if (run->options.intel_private_slots) {
        softmodel_add_private(&run->model, 0xfee00000, 1); /* the page of the local APIC */
    }
    if (rnd_one_in(&run->rnd, 2)) {
        REQUIRE(gm_soft_vm_ioctl(run->soft, KVM_SET_TSS_ADDR, tss) == 0, "KVM_SET_TSS_ADDR");
        if (run->options.intel_private_slots) {
            softmodel_add_private(&run->model, tss, 3);
        }
    }
}

/* Memory for pages that the guest keeps private. */
static void choose_memfd(struct softrun *run)
{
    struct kvm_create_guest_memfd create = {.size = HOST_MEMFD_BYTES};

    run->memfd = -1;
    if (rnd_one_in(&run->rnd, 2)) {
        run->memfd =
            (int)gm_soft_vm_ioctl(run->soft, KVM_CREATE_GUEST_MEMFD, (unsigned long)&create);
        REQUIRE(run->memfd >= 0, "KVM_CREATE_GUEST_MEMFD: %d", run->memfd);
        softhost_map_memfd(run->host, run->memfd);
    }
}

static void make_vcpus(struct softrun *run)
{
    for (unsigned i = 0; i < SOFTCHECK_VCPUS; i++) {
        struct softcheck_vcpu *vcpu = &run->check.vcpus[i];

        REQUIRE(gm_soft_vcpu_new(run->soft, i * 7, &vcpu->vcpu) == 0, "a vCPU");
        vcpu->mmu = gm_soft_vcpu_mmu(vcpu->vcpu);
        run->rings[i].entries = gm_soft_vcpu_ring(vcpu->vcpu, &run->rings[i].entry_count);
        REQUIRE((run->rings[i].entries != NULL) == run->model.has_rings, "a ring");
    }
}

static void begin_life(struct softrun *run, const struct gm_allocator *allocator)
{
    choose_options(run, allocator);
    REQUIRE(gm_soft_open(&run->options, &run->soft, NULL) == 0, "opening a VM");
    /* So that generations come round: tests alone may do that, and only now. */
    run->generation_bits = rnd_one_in(&run->rnd, 2) ? 2 + (unsigned)rnd_below(&run->rnd, 3) : 0;
    if (run->generation_bits != 0) {
        run->soft->core.generation_bits = run->generation_bits;
    }
    softmodel_init(&run->model, run->options.gpa_bits != 0 ? run->options.gpa_bits : 52, 2);
    choose_clusters(run);
    run->check = (struct softcheck){
        .soft = run->soft,
        .model = &run->model,
        .host = run->host,
        .log_buffer = run->options.log == GM_SOFT_LOG_BUFFER,
    };
    gm_soft_set_tracker(run->soft, softrun_on_written, run);
    choose_rings(run);
    make_vcpus(run);
    choose_private(run);
    choose_memfd(run);
    REQUIRE(gm_soft_follow(run->soft, &follower_ops, run, &run->follower) == 0, "a follower");
    TRACE(run, "%u bits, %u levels, log %d, eager %d, generations of %u bits, rings %d, %d\n",
          run->options.gpa_bits, run->options.ept_levels, (int)run->options.log,
          run->options.eager_split, run->generation_bits, run->model.has_rings,
          run->model.has_ring_bitmap);
    if (rnd_one_in(&run->rnd, 2)) {
        REQUIRE(gm_soft_vm_ioctl(run->soft, KVM_SET_NR_MMU_PAGES, 64) == 0, "a limit");
    }
}

/* ---- and ends ---- */

static void end_life(struct softrun *run)
{
    struct softrun_counts *counts = run->counts;
    struct gm_soft_stats stats;

    gm_soft_stats(run->soft, &stats);
    counts->splits += stats.splits;
    counts->collapses += stats.collapses;
    counts->reclaimed += stats.reclaimed;
    if (run->generation_bits != 0) {
        counts->wraps += stats.generation >> run->generation_bits;
    }
    for (unsigned level = 1; level <= 3; level++) {
        counts->leaves[level] += run->check.leaves_seen[level];
    }
    counts->tlb_entries += run->check.tlb_seen;
    gm_soft_unfollow(run->follower);
    REQUIRE(run->followed_count == 0, "the follower is left with %u slots", run->followed_count);
    for (unsigned i = 0; i < SOFTCHECK_VCPUS; i++) {
        gm_soft_vcpu_free(run->check.vcpus[i].vcpu);
    }
    REQUIRE(gm_soft_close(run->soft) == 0, "closing");
    rcu_drain();
    REQUIRE(faults_live(&run->faults) == 0, "%" PRId64 " allocations are left",
            faults_live(&run->faults));
    softmodel_fini(&run->model);
    softhost_restore(run->host);
    softhost_unmap_memfd(run->host);
    if (run->memfd >= 0) {
        close(run->memfd);
    }
}

/* ---- what happens in between ---- */

struct softcheck_vcpu *softrun_vcpu(struct softrun *run)
{
    bool one_rests = run->counts->operations < run->rest_until;

    return &run->check.vcpus[rnd_below(&run->rnd, one_rests ? 1 : SOFTCHECK_VCPUS)];
}

static void rest(struct softrun *run)
{
    run->rest_until = run->counts->operations + rnd_below(&run->rnd, 300);
}

static void set_space(struct softrun *run)
{
    struct softcheck_vcpu *vcpu = softrun_vcpu(run);
    unsigned space = (unsigned)rnd_below(&run->rnd, 2);

    REQUIRE(gm_soft_vcpu_set_space(vcpu->vcpu, space) == 0, "space %u", space);
    REQUIRE(gm_soft_vcpu_set_space(vcpu->vcpu, 2) == -22, "space 2");
    vcpu->space = space;
}

static void flush(struct softrun *run)
{
    struct softcheck_vcpu *vcpu = softrun_vcpu(run);

    if (rnd_one_in(&run->rnd, 2)) {
        gm_mmu_flush_all(vcpu->mmu);
    } else {
        gm_mmu_flush_page(vcpu->mmu, softrun_random_gpa(run, vcpu->space));
    }
}

/* A vCPU's tags are about to run out: no entry has one of those that are passed over. */
static void pass_over_tags(struct softrun *run)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(softrun_vcpu(run)->mmu);
    unsigned next = TLB_TAGS - (unsigned)rnd_below(&run->rnd, 30);

    vcpu->tag_count = vcpu->tag_count < next ? next : vcpu->tag_count;
}

static void zap_all(struct softrun *run)
{
    gm_soft_zap_all(run->soft);
}

static const struct {
    unsigned weight;
    const char *name;
    void (*operation)(struct softrun *run);
} operations[] = {
    {600, "access", softrun_access},
    {110, "change_slots", softrun_change_slots},
    {10, "set_memfd_slot", softrun_set_memfd_slot},
    {90, "harvest", softrun_harvest},
    {10, "set_log_cap", softrun_set_log_cap},
    {50, "invalidate", softrun_invalidate},
    {40, "set_attributes", softrun_set_attributes},
    {40, "track", softrun_track},
    {20, "age", softrun_age},
    {20, "prefault", softrun_prefault},
    {8, "limit_pages", softrun_limit_pages},
    {8, "set_space", set_space},
    {8, "flush", flush},
    {5, "zap_all", zap_all},
    {12, "pass_over_tags", pass_over_tags},
    {3, "rest", rest},
    {3, "burst", softrun_burst},
};

#define OPERATION_KINDS (sizeof(operations) / sizeof(operations[0]))

static void operate(struct softrun *run)
{
    unsigned sum = 0;
    unsigned at;
    size_t kind;

    for (kind = 0; kind < OPERATION_KINDS; kind++) {
        sum += operations[kind].weight;
    }
    at = (unsigned)rnd_below(&run->rnd, sum);
    for (kind = 0; at >= operations[kind].weight; kind++) {
        at -= operations[kind].weight;
    }
    if (rnd_one_in(&run->rnd, 12)) {
        faults_arm(&run->faults, 1 + rnd_below(&run->rnd, 8));
    }
    TRACE(run, "%" PRIu64 " %s\n", run->counts->operations, operations[kind].name);
    operations[kind].operation(run);
    (void)faults_disarm(&run->faults);
    run->counts->operations++;
}

/* After each operation: all tables, and what one or the other vCPU would do by its TLB. */
static void compare(struct softrun *run)
{
    unsigned space = (unsigned)rnd_below(&run->rnd, 2);

    run->faults.has_failed = false;
    run->check.is_audited = rnd_one_in(&run->rnd, 4);
    softcheck_tables(&run->check);
    run->check.has_touched = false;
    softcheck_tlb(&run->check, softrun_vcpu(run));
    softcheck_find(&run->check, space,
                   softrun_random_gpa(run, space) + rnd_below(&run->rnd, HOST_4K));
}

static void live(struct softrun *run, uint64_t seed, uint64_t operation_count)
{
    const struct gm_allocator allocator = faults_allocator(&run->faults);

    run->rnd.state = seed;
    run->seed = seed;
    run->is_traced = rnd_setting("GM_SOFT_TRACE", 0) != 0;
    begin_life(run, &allocator);
    for (uint64_t i = 0; i < operation_count; i++) {
        snprintf(require_place, sizeof(require_place),
                 "life GM_SEED=%" PRIu64 ", operation %" PRIu64, seed, i);
        operate(run);
        compare(run);
    }
    end_life(run);
}

/* ---- the whole ---- */

static void print_counts(const struct softrun_counts *counts, double seconds)
{
    printf("%" PRIu64 " operations in %.1f s of processor time, %.0f a second\n",
           counts->operations, seconds, (double)counts->operations / seconds);
    printf("accesses: %" PRIu64 ", %" PRIu64 " of memory, %" PRIu64 " MMIO pieces, %" PRIu64
           " denied, %" PRIu64 " without host memory, %" PRIu64 " tracked writes, %" PRIu64
           " private\n",
           counts->accesses, counts->memory, counts->mmio, counts->denied, counts->errors,
           counts->tracked_writes, counts->private_accesses);
    printf("slots: %" PRIu64 " calls, %" PRIu64 " refused; %" PRIu64 " wraps; %" PRIu64
           " calls out of memory\n",
           counts->slot_changes, counts->slot_errors, counts->wraps, counts->no_memory);
    printf("logs: %" PRIu64 " harvests of %" PRIu64 " pages, %" PRIu64 " times a full ring\n",
           counts->harvests, counts->dirty_pages, counts->ring_full);
    printf("tables: leaves seen %" PRIu64 ", %" PRIu64 ", %" PRIu64 "; %" PRIu64 " splits, %" PRIu64
           " collapses, %" PRIu64 " reclaimed; %" PRIu64 " TLB entries; %" PRIu64
           " invalidations\n",
           counts->leaves[1], counts->leaves[2], counts->leaves[3], counts->splits,
           counts->collapses, counts->reclaimed, counts->tlb_entries, counts->invalidations);
}

/* A test that did not do these did not test them. */
static void require_all_happened(const struct softrun_counts *counts)
{
    REQUIRE(counts->memory != 0 && counts->mmio != 0 && counts->denied != 0 &&
                counts->errors != 0 && counts->tracked_writes != 0 && counts->private_accesses != 0,
            "a kind of access is missing");
    REQUIRE(counts->slot_errors != 0 && counts->dirty_pages != 0 && counts->no_memory != 0 &&
                counts->wraps != 0,
            "a kind of call is missing");
    REQUIRE(counts->ring_full != 0, "no ring was full");
    REQUIRE(counts->splits != 0 && counts->collapses != 0 && counts->reclaimed != 0 &&
                counts->leaves[1] != 0 && counts->leaves[2] != 0 && counts->leaves[3] != 0,
            "a kind of table is missing");
}

static double processor_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void softrun_all(uint64_t seed, uint64_t operation_count)
{
    static struct softhost host;
    struct softrun_counts counts = {0};
    struct rnd rnd = {seed};
    uint64_t life_seed = seed; /* so that a life that fails can be run as the first */
    double start = processor_seconds();

    softhost_init(&host);
    while (counts.operations < operation_count) {
        uint64_t left = operation_count - counts.operations;
        struct softrun *run = calloc(1, sizeof(*run));

        REQUIRE(run != NULL, "no memory");
        run->host = &host;
        run->counts = &counts;
        live(run, life_seed, left < OPERATIONS_OF_A_LIFE ? left : OPERATIONS_OF_A_LIFE);
        free(run);
        life_seed = rnd_next(&rnd);
    }
    softhost_fini(&host);
    print_counts(&counts, processor_seconds() - start);
    if (operation_count >= 20 * OPERATIONS_OF_A_LIFE) {
        require_all_happened(&counts);
    }
}
