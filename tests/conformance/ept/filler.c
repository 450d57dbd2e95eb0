/* conformance/ept/filler.c - a software VM whose tables a random guest has filled. */
#include "filler.h"

#include "kcore/attributes.h"
#include "kcore/dirtylog.h"
#include "soft/soft.h"

#include "model/require.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>

#define GIB ((uint64_t)1 << 30)
#define MIB2 ((uint64_t)1 << 21)

/* The host memory, and in pages of which size it says that it is. Little of it is ever touched. */
#define AREA_2M GIB
#define AREA_1G (2 * GIB)
#define MEMORY_BYTES (4 * GIB)

#define SLOT_TRIES 200u
#define ATTRIBUTE_RANGES 24u

static uint64_t page_bytes(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    const struct filler *filler = opaque;
    uint64_t offset = hva - (uintptr_t)filler->memory;

    (void)size_bytes; /* no slot is in two areas */
    return offset < AREA_2M ? PAGE_BYTES_4K : offset < AREA_1G ? MIB2 : GIB;
}

static void open_vm(struct filler *filler)
{
    static const uint8_t types[] = {0, 1, 4, 5, 6};
    const struct gm_soft_options options = {
        .size = sizeof(options),
        .gpa_bits = filler->options.gpa_bits,
        .ept_levels = filler->options.levels,
        .log = rnd_one_in(filler->rnd, 2) ? GM_SOFT_LOG_BUFFER : GM_SOFT_LOG_PROTECT,
        .eager_split = rnd_one_in(filler->rnd, 2),
        .memory_type = types[rnd_below(filler->rnd, sizeof(types))],
        .page_bytes = page_bytes,
        .opaque = filler,
    };

    REQUIRE(gm_soft_open(&options, &filler->soft, NULL) == 0, "a software VM");
    REQUIRE(gm_soft_vcpu_new(filler->soft, 0, &filler->vcpu) == 0, "its vCPU");
}

static void map_memory(struct filler *filler)
{
    filler->reserved_bytes = MEMORY_BYTES + GIB;
    filler->reserved = mmap(NULL, filler->reserved_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(filler->reserved != MAP_FAILED, "host memory");
    filler->memory = (uint8_t *)(((uintptr_t)filler->reserved + GIB - 1) & ~(GIB - 1));
    /* Touched pages are few and far between. */
    (void)madvise(filler->memory, MEMORY_BYTES, MADV_NOHUGEPAGE);
}

/* A GPA below the VM's end and out of the window, for so many bytes. */
static gm_gpa_t random_gpa(struct filler *filler, uint64_t size_bytes)
{
    uint64_t end = (uint64_t)1 << filler->options.gpa_bits;
    gm_gpa_t gpa;

    do {
        /* Near the start, near a few other places, anywhere. */
        switch (rnd_below(filler->rnd, 3)) {
        case 0:
            gpa = rnd_below(filler->rnd, 4 * GIB);
            break;
        case 1:
            gpa = rnd_below(filler->rnd, 8) * (end / 8) + rnd_below(filler->rnd, 3 * GIB);
            break;
        default:
            gpa = rnd_below(filler->rnd, end);
        }
    } while (gpa >= end - size_bytes - GIB || gpa + size_bytes > filler->window_gpa);
    return gpa;
}

/* A slot of the 4 KiB, 2 MiB or 1 GiB area; mostly so that it may have leaves of that size. */
static void random_slot(struct filler *filler, struct gm_soft_slot *slot)
{
    struct rnd *rnd = filler->rnd;
    unsigned area = (unsigned)rnd_below(rnd, filler->options.large_1g ? 3 : 2);
    uint64_t start = area == 0 ? 0 : area == 1 ? AREA_2M : AREA_1G;
    uint64_t leaf = area == 0 ? PAGE_BYTES_4K : area == 1 ? MIB2 : GIB;
    uint64_t offset;

    if (area == 2 && rnd_one_in(rnd, 2)) {
        slot->size_bytes = GIB;
        offset = rnd_below(rnd, 2) * GIB;
    } else if (area == 2) { /* with something behind it */
        slot->size_bytes = GIB + rnd_below(rnd, 600) * PAGE_BYTES_4K;
        offset = 0;
    } else {
        slot->size_bytes = (1 + rnd_below(rnd, area == 0 ? 600 : 8192)) * PAGE_BYTES_4K;
        offset = align_down(rnd_below(rnd, GIB - slot->size_bytes), PAGE_BYTES_4K);
    }
    slot->hva = (uintptr_t)filler->memory + start + offset;
    slot->gpa = align_down(random_gpa(filler, slot->size_bytes + GIB), leaf);
    if (rnd_one_in(rnd, 6)) {
        slot->gpa += PAGE_BYTES_4K; /* not alike: small leaves only */
    } else {
        slot->gpa += slot->hva & (leaf - 1);
    }
    slot->flags = rnd_one_in(rnd, 5) ? KVM_MEM_READONLY : 0;
    slot->flags |= rnd_one_in(rnd, 4) ? KVM_MEM_LOG_DIRTY_PAGES : 0;
}

static void add_slots(struct filler *filler)
{
    for (unsigned i = 0; i < SLOT_TRIES && filler->slot_count < FILLER_SLOTS; i++) {
        struct gm_soft_slot *slot = &filler->slots[filler->slot_count];
        int rc;

        slot->slot = filler->slot_count;
        random_slot(filler, slot);
        rc = gm_soft_set_slots(filler->soft, slot, 1, NULL);
        REQUIRE(rc == 0 || rc == -EEXIST, "slot: %d", rc);
        filler->slot_count += rc == 0 ? 1 : 0;
    }
    REQUIRE(filler->slot_count > 0, "no slot");
}

static const struct gm_soft_slot *random_of_slots(struct filler *filler)
{
    return &filler->slots[rnd_below(filler->rnd, filler->slot_count)];
}

/* A page of a slot; few of them are much used, so that things happen to the same ones. */
static gm_gpa_t random_page(struct filler *filler)
{
    const struct gm_soft_slot *slot = random_of_slots(filler);
    uint64_t page_count = slot->size_bytes / PAGE_BYTES_4K;
    uint64_t page = rnd_below(filler->rnd, page_count);

    if (rnd_one_in(filler->rnd, 2)) {
        page = page % 16 * (page_count / 16 + 1) % page_count;
    }
    return slot->gpa + page * PAGE_BYTES_4K;
}

/* One to be made special, which costs the large leaf around it: seldom in a slot of 1 GiB. */
static gm_gpa_t special_page(struct filler *filler)
{
    for (;;) {
        gm_gpa_t gpa = random_page(filler);
        struct gm_soft_slot slot;

        REQUIRE(gm_soft_find(filler->soft, 0, gpa, &slot), "no slot");
        if (slot.size_bytes < GIB || rnd_one_in(filler->rnd, 20)) {
            return gpa;
        }
    }
}

static void set_attributes(struct filler *filler)
{
    static const uint64_t kinds[] = {
        ATTRIBUTE_NO_WRITE,
        ATTRIBUTE_NO_EXECUTE,
        ATTRIBUTE_NO_WRITE | ATTRIBUTE_NO_EXECUTE,
        ATTRIBUTE_NO_READ | ATTRIBUTE_NO_WRITE,
        ATTRIBUTE_NO_READ | ATTRIBUTE_NO_WRITE,
        ATTRIBUTE_NO_READ | ATTRIBUTE_NO_WRITE | ATTRIBUTE_NO_EXECUTE,
    };
    unsigned kind_count = filler->options.execute_only ? 6 : 3;

    for (unsigned i = 0; i < ATTRIBUTE_RANGES; i++) {
        uint64_t gpa = special_page(filler);
        uint64_t size = PAGE_BYTES_4K * (1 + rnd_below(filler->rnd, 16));

        if (rnd_one_in(filler->rnd, 2)) { /* so that large leaves stay possible */
            gpa = align_down(gpa, MIB2);
            size = MIB2 * (1 + rnd_below(filler->rnd, 3));
        }
        REQUIRE(kcore_set_attributes(&filler->soft->core, gpa, size,
                                     kinds[rnd_below(filler->rnd, kind_count)]) == 0,
                "attributes of %#llx", (unsigned long long)gpa);
    }
}

static void track_frames(struct filler *filler)
{
    for (unsigned i = 0; i < FILLER_TRACKED; i++) {
        filler->tracked[i] = special_page(filler);
        REQUIRE(gm_soft_track(filler->soft, 0, filler->tracked[i]) == 0, "tracking");
    }
}

/* A page and what is around it: other pages of the slot, or what lies next to it. */
static gm_gpa_t touch_gpa(struct filler *filler)
{
    gm_gpa_t gpa;

    do {
        switch (rnd_below(filler->rnd, 16)) {
        case 0:
            gpa = random_gpa(filler, PAGE_BYTES_4K);
            break;
        case 1:
            gpa = random_of_slots(filler)->gpa - PAGE_BYTES_4K;
            break;
        case 2: {
            const struct gm_soft_slot *slot = random_of_slots(filler);

            gpa = slot->gpa + slot->size_bytes;
            break;
        }
        case 3:
            gpa = filler->tracked[rnd_below(filler->rnd, FILLER_TRACKED)];
            break;
        default:
            gpa = random_page(filler);
        }
    } while (gpa >= filler->window_gpa);
    return gpa + 8 * rnd_below(filler->rnd, PAGE_BYTES_4K / 8);
}

/* One access; whatever ends it, the next begins in guest mode. */
static void touch(struct gm_mmu *mmu, gm_gpa_t gpa, uint64_t kind)
{
    enum gm_mmu_outcome outcome;
    uint64_t value = 0;

    if (kind == GM_MMU_FETCH) {
        outcome = gm_mmu_fetch(mmu, gpa, sizeof(value), &value);
    } else if (kind == GM_MMU_WRITE) {
        outcome = gm_mmu_store(mmu, gpa, sizeof(value), gpa);
    } else {
        outcome = gm_mmu_load(mmu, gpa, sizeof(value), &value);
    }
    if (outcome != GM_MMU_OK) {
        REQUIRE(outcome == GM_MMU_MMIO || outcome == GM_MMU_DENIED, "outcome %d at %#llx",
                (int)outcome, (unsigned long long)gpa);
        REQUIRE(gm_mmu_enter(mmu) == GM_MMU_OK, "entering");
    }
}

static void touch_all(struct filler *filler, unsigned from, unsigned end)
{
    struct gm_mmu *mmu = gm_soft_vcpu_mmu(filler->vcpu);

    REQUIRE(gm_mmu_enter(mmu) == GM_MMU_OK, "entering");
    for (unsigned i = from; i < end; i++) {
        filler->touched[i] = touch_gpa(filler);
        touch(mmu, filler->touched[i], rnd_below(filler->rnd, 3));
    }
    gm_mmu_leave(mmu);
}

/* Take flags and rights away again: ageing, harvests of logs. */
static void take_back(struct filler *filler)
{
    static uint64_t bitmap[(MEMORY_BYTES / PAGE_BYTES_4K + 63) / 64];

    (void)gm_soft_age(filler->soft, (uintptr_t)filler->memory, MEMORY_BYTES / 2);
    for (unsigned i = 0; i < filler->slot_count; i++) {
        const struct gm_soft_slot *slot = &filler->slots[i];

        if ((slot->flags & KVM_MEM_LOG_DIRTY_PAGES) != 0 && rnd_one_in(filler->rnd, 2)) {
            REQUIRE(kcore_log_get(&filler->soft->core, slot->slot, bitmap,
                                  sizeof(bitmap) / sizeof(bitmap[0])) == 0,
                    "the log of slot %u", slot->slot);
        }
    }
}

/* Logging on or off: large leaves are split or may come back, and slots have a new generation. */
static void flip_log(struct filler *filler)
{
    struct gm_soft_slot *slot = &filler->slots[rnd_below(filler->rnd, filler->slot_count)];

    slot->flags ^= KVM_MEM_LOG_DIRTY_PAGES;
    REQUIRE(gm_soft_set_slots(filler->soft, slot, 1, NULL) == 0, "flags of slot %u", slot->slot);
}

void filler_init(struct filler *filler, struct rnd *rnd, const struct filler_options *options)
{
    memset(filler, 0, sizeof(*filler));
    filler->options = *options;
    filler->rnd = rnd;
    filler->window_gpa = ((uint64_t)1 << options->gpa_bits) - GIB;
    map_memory(filler);
    open_vm(filler);
    add_slots(filler);
    set_attributes(filler);
    track_frames(filler);
    touch_all(filler, 0, FILLER_TOUCHES / 2);
    take_back(filler);
    flip_log(filler);
    flip_log(filler);
    touch_all(filler, FILLER_TOUCHES / 2, FILLER_TOUCHES);
    if (options->stale_mmio) {
        flip_log(filler);
    }
}

void filler_fini(struct filler *filler)
{
    gm_soft_vcpu_free(filler->vcpu);
    REQUIRE(gm_soft_close(filler->soft) == 0, "closing");
    munmap(filler->reserved, filler->reserved_bytes);
}

struct mmu *filler_mmu(struct filler *filler)
{
    return &filler->soft->mmu;
}

struct mmu_vcpu *filler_vcpu(struct filler *filler)
{
    return &filler->vcpu->mmu;
}

gm_gpa_t filler_pick(struct filler *filler)
{
    struct rnd *rnd = filler->rnd;
    gm_gpa_t gpa;

    do {
        gpa = filler->touched[rnd_below(rnd, FILLER_TOUCHES)];
        switch (rnd_below(rnd, 10)) {
        case 0:
            gpa = touch_gpa(filler);
            break;
        case 1:
            gpa = rnd_below(rnd, filler->window_gpa);
            break;
        case 2:
            gpa += PAGE_BYTES_4K * (rnd_below(rnd, 9) - 4); /* may go below 0, and is out then */
            break;
        case 3:
            gpa = align_down(gpa, MIB2) + rnd_below(rnd, MIB2);
            break;
        default:
            gpa = align_down(gpa, PAGE_BYTES_4K) + rnd_below(rnd, PAGE_BYTES_4K);
        }
    } while (gpa >= filler->window_gpa);
    return align_down(gpa, 8);
}
