/* model/softmodel_access.c - random accesses by a vCPU, each compared with the model. */
#include "model/softmodel_run.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define BYTES_MAX 16u
#define PIECES_MAX 2u

enum verdict { MEMORY, MMIO, DENIED, NO_HOST };

/* The part of an access that lies within one page. */
struct piece {
    uint64_t gpa;
    unsigned offset;
    unsigned size_bytes;
    struct softmodel_page page;
    enum verdict verdict;
};

enum kind { LOAD, STORE, FETCH, CMPXCHG };

/* One access, and what the model says of it. */
struct access_case {
    enum kind kind;
    struct softcheck_vcpu *vcpu;
    uint64_t gpa;
    unsigned size_bytes;
    unsigned piece_count;
    struct piece pieces[PIECES_MAX];
    bool is_write;
    bool has_mmio;
    bool has_failure;           /* a piece is denied, or has no host memory */
    uint8_t before[BYTES_MAX];  /* what memory held; of MMIO, 0 */
    uint8_t value[BYTES_MAX];   /* what is stored */
    uint64_t expected;          /* cmpxchg: what it compares with */
    uint8_t answers[BYTES_MAX]; /* what MMIO is answered with */
};

static const char *const kind_names[] = {"load", "store", "fetch", "cmpxchg"};

#define WHAT "%s of %u at %#" PRIx64 " in space %u"
#define WHAT_ARGS(c) kind_names[(c)->kind], (c)->size_bytes, (c)->gpa, (c)->vcpu->space

/* ---- what to access ---- */

static uint64_t random_slot_gpa(struct softrun *run, const struct softmodel_slot *slot)
{
    uint64_t page = rnd_below(&run->rnd, slot->page_count);
    uint64_t hva = slot->hva + page * SOFTMODEL_PAGE;
    uint64_t hot = softhost_hot_page(run->host, hva, (unsigned)rnd_below(&run->rnd, 4));

    if (rnd_one_in(&run->rnd, 4)) {
        page = rnd_one_in(&run->rnd, 2) ? 0 : slot->page_count - 1;
    } else if (hot >= slot->hva && hot - slot->hva < slot->page_count * SOFTMODEL_PAGE) {
        page = (hot - slot->hva) / SOFTMODEL_PAGE;
    }
    return (slot->first + page) * SOFTMODEL_PAGE;
}

uint64_t softrun_random_gpa(struct softrun *run, unsigned space)
{
    const struct softmodel_slot *slot;

    for (unsigned i = 0; i < 6; i++) {
        slot = &run->model.slots[rnd_below(&run->rnd, SOFTRUN_IDS * 2 + 3)];
        if (slot->is_used && slot->space == space && !slot->is_private) {
            return random_slot_gpa(run, slot);
        }
    }
    if (rnd_one_in(&run->rnd, 40)) {
        return rnd_next(&run->rnd) & ~(uint64_t)(SOFTMODEL_PAGE - 1);
    }
    return run->clusters[rnd_below(&run->rnd, SOFTRUN_CLUSTERS)] +
           rnd_below(&run->rnd, 40) * SOFTMODEL_PAGE;
}

static enum verdict judge(struct softrun *run, const struct piece *piece, enum gm_mmu_access access)
{
    enum softhost_protection held;

    switch (softmodel_judge(&piece->page, access)) {
    case SOFTMODEL_MMIO:
        return MMIO;
    case SOFTMODEL_DENIED:
        return DENIED;
    default:
        held = softhost_protection(run->host, piece->page.hva);
        return held >= (access == GM_MMU_WRITE ? HOST_WRITE : HOST_READ) ? MEMORY : NO_HOST;
    }
}

static enum gm_mmu_access access_of(enum kind kind)
{
    return kind == LOAD ? GM_MMU_READ : kind == FETCH ? GM_MMU_FETCH : GM_MMU_WRITE;
}

/* Split at the page's end, and ask the model. False: a place whose memory we do not know. */
static bool look_up(struct softrun *run, struct access_case *c)
{
    unsigned done = 0;

    while (done < c->size_bytes) {
        struct piece *piece = &c->pieces[c->piece_count++];
        uint64_t gpa = c->gpa + done;
        uint64_t left = SOFTMODEL_PAGE - gpa % SOFTMODEL_PAGE;

        *piece = (struct piece){.gpa = gpa, .offset = done};
        piece->size_bytes = left < c->size_bytes - done ? (unsigned)left : c->size_bytes - done;
        piece->page = softmodel_look(&run->model, c->vcpu->space, gpa / SOFTMODEL_PAGE, 1);
        if (piece->page.slot != NULL && piece->page.slot->is_private) {
            return false;
        }
        piece->verdict = judge(run, piece, access_of(c->kind));
        if (piece->verdict == NO_HOST && c->has_mmio) {
            /* KVM's emulator goes on after the first page, and to it this is no memory either. */
            piece->verdict = MMIO;
        }
        c->has_mmio = c->has_mmio || piece->verdict == MMIO;
        c->has_failure = c->has_failure || piece->verdict == DENIED || piece->verdict == NO_HOST;
        done += piece->size_bytes;
    }
    return true;
}

static uint8_t *host_of(const struct piece *piece)
{
    return (uint8_t *)(uintptr_t)(piece->page.hva + piece->gpa % SOFTMODEL_PAGE);
}

/* What is in memory where it can be read. */
static void read_memory(const struct softrun *run, const struct access_case *c, uint8_t *bytes)
{
    for (unsigned i = 0; i < c->piece_count; i++) {
        const struct piece *piece = &c->pieces[i];

        if (piece->page.slot != NULL &&
            softhost_protection(run->host, piece->page.hva) >= HOST_READ) {
            memcpy(bytes + piece->offset, host_of(piece), piece->size_bytes);
        }
    }
}

static void choose(struct softrun *run, struct access_case *c)
{
    static const enum kind kinds[] = {LOAD, LOAD, LOAD, STORE, STORE, STORE, FETCH, CMPXCHG};
    uint64_t page;

    *c = (struct access_case){.kind = kinds[rnd_below(&run->rnd, 8)]};
    c->vcpu = softrun_vcpu(run);
    c->is_write = access_of(c->kind) == GM_MMU_WRITE;
    c->size_bytes = c->kind == FETCH ? 1 + (unsigned)rnd_below(&run->rnd, BYTES_MAX)
                                     : 1u << rnd_below(&run->rnd, 4);
    page = softrun_random_gpa(run, c->vcpu->space);
    if (run->aim != NULL) {
        c->kind = STORE;
        c->is_write = true;
        c->size_bytes = 8;
        c->vcpu = &run->check.vcpus[0];
        page = (run->aim->first + rnd_below(&run->rnd, run->aim->page_count)) * SOFTMODEL_PAGE;
    }
    c->gpa = page + rnd_below(&run->rnd, SOFTMODEL_PAGE);
    if (rnd_one_in(&run->rnd, 6)) {
        c->gpa = page + SOFTMODEL_PAGE - rnd_below(&run->rnd, c->size_bytes + 1);
    }
    for (unsigned i = 0; i < BYTES_MAX; i++) {
        c->value[i] = (uint8_t)rnd_next(&run->rnd);
        c->answers[i] = (uint8_t)rnd_next(&run->rnd);
    }
}

/* ---- exits ---- */

/* The next piece that has to come out as MMIO, from *at on. */
static const struct piece *next_mmio(const struct access_case *c, unsigned *at)
{
    while (*at < c->piece_count) {
        const struct piece *piece = &c->pieces[(*at)++];

        if (piece->verdict == MMIO) {
            return piece;
        }
    }
    return NULL;
}

static void check_mmio_exit(const struct access_case *c, const struct piece *piece)
{
    struct gm_mmu_exit *exit = gm_mmu_exit(c->vcpu->mmu);

    REQUIRE(piece != NULL, WHAT ": an MMIO exit at %#" PRIx64 " too many", WHAT_ARGS(c), exit->gpa);
    REQUIRE(exit->outcome == GM_MMU_MMIO && exit->access == access_of(c->kind) &&
                exit->gpa == piece->gpa && exit->size_bytes == piece->size_bytes,
            WHAT ": an MMIO exit of %u at %#" PRIx64 ", access %d", WHAT_ARGS(c), exit->size_bytes,
            exit->gpa, (int)exit->access);
    if (c->is_write) {
        REQUIRE(memcmp(exit->data, c->value + piece->offset, piece->size_bytes) == 0,
                WHAT ": other bytes are written", WHAT_ARGS(c));
    } else {
        memcpy(exit->data, c->answers + piece->offset, piece->size_bytes);
    }
}

/* One of the pieces that fail has to be the reason. */
static void check_failure(struct softrun *run, const struct access_case *c,
                          enum gm_mmu_outcome outcome)
{
    const struct gm_mmu_exit *exit = gm_mmu_exit(c->vcpu->mmu);
    enum verdict verdict = outcome == GM_MMU_DENIED ? DENIED : NO_HOST;
    bool is_explained = false;

    for (unsigned i = 0; i < c->piece_count; i++) {
        const struct piece *piece = &c->pieces[i];

        if (piece->verdict != verdict ||
            exit->gpa / SOFTMODEL_PAGE != piece->gpa / SOFTMODEL_PAGE) {
            continue;
        }
        is_explained = outcome == GM_MMU_DENIED ? (exit->attributes & 15) == piece->page.attributes
                                                : exit->error == -EFAULT;
    }
    REQUIRE(outcome == GM_MMU_DENIED || outcome == GM_MMU_ERROR, WHAT ": outcome %d", WHAT_ARGS(c),
            (int)outcome);
    REQUIRE(is_explained && exit->access == access_of(c->kind),
            WHAT ": outcome %d, error %d, at %#" PRIx64, WHAT_ARGS(c), (int)outcome, exit->error,
            exit->gpa);
    run->counts->denied += outcome == GM_MMU_DENIED;
    run->counts->errors += outcome == GM_MMU_ERROR;
}

/* ---- what was stored ---- */

static bool is_exchanged(const struct access_case *c)
{
    return c->kind != CMPXCHG || c->has_mmio || memcmp(c->before, &c->expected, c->size_bytes) == 0;
}

/* Memory is what it has to be: stored where it could be, or all as it was. */
static void check_memory(struct softrun *run, const struct access_case *c, bool is_stored)
{
    uint8_t now[BYTES_MAX] = {0};

    read_memory(run, c, now);
    for (unsigned i = 0; i < c->piece_count; i++) {
        const struct piece *piece = &c->pieces[i];
        const uint8_t *wanted = is_stored && piece->verdict == MEMORY ? c->value : c->before;

        REQUIRE(memcmp(now + piece->offset, wanted + piece->offset, piece->size_bytes) == 0,
                WHAT ": memory of piece %u", WHAT_ARGS(c), i);
    }
}

/* The tracker was told of just the bytes of tracked pages; of a cmpxchg that failed, perhaps. */
static void check_tracker(struct softrun *run, struct access_case *c, bool is_stored)
{
    unsigned told = 0;

    for (unsigned i = 0; i < c->piece_count; i++) {
        const struct piece *piece = &c->pieces[i];
        bool was_told = false;

        for (unsigned k = 0; k < run->written_count; k++) {
            if (run->written[k].gpa == piece->gpa &&
                run->written[k].size_bytes == piece->size_bytes) {
                was_told = true;
                told++;
            }
        }
        if (!is_stored || !piece->page.is_tracked || piece->verdict != MEMORY) {
            REQUIRE(!was_told || (c->kind == CMPXCHG && piece->page.is_tracked),
                    WHAT ": the tracker was told of piece %u", WHAT_ARGS(c), i);
        } else {
            REQUIRE(was_told, WHAT ": the tracker was not told of piece %u", WHAT_ARGS(c), i);
            run->counts->tracked_writes++;
        }
    }
    REQUIRE(told == run->written_count, WHAT ": the tracker was told of other bytes", WHAT_ARGS(c));
}

void softrun_on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes)
{
    struct softrun *run = opaque;

    REQUIRE(run->written_count < 8, "written %#" PRIx64, gpa);
    run->written[run->written_count++] = (struct softrun_written){gpa, size_bytes};
    if (rnd_one_in(&run->rnd, 16)) {
        gm_soft_zap_all(run->soft); /* would wait for ever, were the vCPU still in guest mode */
    }
}

/* Which pages are dirty by that, which may be. */
static void note_dirty(struct access_case *c, bool is_done)
{
    for (unsigned i = 0; i < c->piece_count && c->is_write; i++) {
        struct piece *piece = &c->pieces[i];

        if (piece->verdict != MEMORY) {
            continue;
        }
        if (is_done) {
            softmodel_wrote(&piece->page, piece->gpa / SOFTMODEL_PAGE);
        } else {
            softmodel_nearly_wrote(&piece->page, piece->gpa / SOFTMODEL_PAGE);
        }
    }
}

/* ---- the access ---- */

static uint64_t number_of(const uint8_t *bytes, unsigned size_bytes)
{
    uint64_t number = 0;

    memcpy(&number, bytes, size_bytes);
    return number;
}

/* The access itself. What was read, and for cmpxchg what was there, is in @seen. */
static enum gm_mmu_outcome make(const struct access_case *c, uint8_t *seen, uint64_t *loaded)
{
    struct gm_mmu *mmu = c->vcpu->mmu;
    uint64_t value = number_of(c->value, c->size_bytes < 8 ? c->size_bytes : 8);

    switch (c->kind) {
    case LOAD:
        return gm_mmu_load(mmu, c->gpa, c->size_bytes, loaded);
    case STORE:
        return gm_mmu_store(mmu, c->gpa, c->size_bytes, value);
    case FETCH:
        return gm_mmu_fetch(mmu, c->gpa, c->size_bytes, seen);
    default:
        *loaded = c->expected;
        return gm_mmu_cmpxchg(mmu, c->gpa, c->size_bytes, loaded, value);
    }
}

/* Answer MMIO until the access is over. */
static enum gm_mmu_outcome answer(struct softrun *run, const struct access_case *c,
                                  enum gm_mmu_outcome outcome, uint64_t *loaded)
{
    unsigned at = 0;

    while (outcome == GM_MMU_MMIO) {
        check_mmio_exit(c, next_mmio(c, &at));
        check_memory(run, c, c->is_write); /* what is memory is stored before */
        run->counts->mmio++;
        if (c->kind == FETCH) {
            REQUIRE(!rnd_one_in(&run->rnd, 4) || gm_mmu_resume(c->vcpu->mmu, NULL) == GM_MMU_ERROR,
                    WHAT ": a fetch was resumed", WHAT_ARGS(c));
            return outcome;
        }
        outcome = gm_mmu_resume(c->vcpu->mmu, c->kind == LOAD ? loaded : NULL);
    }
    REQUIRE(next_mmio(c, &at) == NULL, WHAT ": an MMIO exit is missing", WHAT_ARGS(c));
    return outcome;
}

static void check_loaded(const struct access_case *c, const uint8_t *seen, uint64_t loaded)
{
    uint8_t wanted[BYTES_MAX] = {0};

    if (c->kind == STORE || (c->kind == CMPXCHG && c->has_mmio)) {
        return;
    }
    for (unsigned i = 0; i < c->piece_count; i++) {
        const struct piece *piece = &c->pieces[i];

        memcpy(wanted + piece->offset,
               (piece->verdict == MMIO ? c->answers : c->before) + piece->offset,
               piece->size_bytes);
    }
    if (c->kind == FETCH) {
        REQUIRE(memcmp(seen, wanted, c->size_bytes) == 0, WHAT ": other bytes", WHAT_ARGS(c));
    } else {
        REQUIRE(loaded == number_of(wanted, c->size_bytes), WHAT ": %#" PRIx64 " and not %#" PRIx64,
                WHAT_ARGS(c), loaded, number_of(wanted, c->size_bytes));
    }
}

/* Its pages' leaves are flagged: look at one of them. */
static void expect_flags(struct softrun *run, const struct access_case *c)
{
    const struct piece *piece = &c->pieces[rnd_below(&run->rnd, c->piece_count)];

    if (piece->verdict == MEMORY) {
        run->check.has_touched = true;
        run->check.has_written = c->is_write && !piece->page.is_tracked;
        run->check.touched_space = c->vcpu->space;
        run->check.touched_frame = piece->gpa / SOFTMODEL_PAGE;
    }
}

static void run_case(struct softrun *run, struct access_case *c)
{
    uint8_t seen[BYTES_MAX] = {0};
    uint64_t loaded = 0;
    enum gm_mmu_outcome outcome = make(c, seen, &loaded);
    bool ran_out = outcome == GM_MMU_ERROR && gm_mmu_exit(c->vcpu->mmu)->error == -ENOMEM &&
                   run->faults.has_failed;
    bool is_stored = false;

    if (ran_out) {
        run->counts->no_memory++;
        note_dirty(c, false);
    } else if (c->has_failure) {
        check_failure(run, c, outcome);
        note_dirty(c, false);
    } else {
        note_dirty(c, true);
        outcome = answer(run, c, outcome, &loaded);
        REQUIRE(outcome == GM_MMU_OK || (c->kind == FETCH && c->has_mmio), WHAT ": outcome %d",
                WHAT_ARGS(c), (int)outcome);
        is_stored = c->is_write && is_exchanged(c);
        if (outcome == GM_MMU_OK) {
            check_loaded(c, seen, loaded);
            expect_flags(run, c);
        }
        run->counts->memory += !c->has_mmio;
        run->counts->private_accesses += !c->has_mmio && c->pieces[0].page.is_private;
    }
    gm_mmu_leave(c->vcpu->mmu);
    check_memory(run, c, is_stored);
    check_tracker(run, c, is_stored);
}

void softrun_access(struct softrun *run)
{
    struct access_case c;
    enum gm_mmu_outcome outcome;

    choose(run, &c);
    if (!look_up(run, &c)) {
        return;
    }
    read_memory(run, &c, c.before);
    if (c.kind == CMPXCHG) {
        c.expected = rnd_one_in(&run->rnd, 2) ? number_of(c.before, c.size_bytes)
                                              : rnd_next(&run->rnd) >> (64 - 8 * c.size_bytes);
    }
    run->written_count = 0;
    run->check.has_touched = false;
    if (rnd_one_in(&run->rnd, 100)) {
        gm_mmu_kick(c.vcpu->mmu);
        REQUIRE(gm_mmu_enter(c.vcpu->mmu) == GM_MMU_KICKED, "a kick was missed");
    }
    outcome = gm_mmu_enter(c.vcpu->mmu);
    if (outcome == GM_MMU_RING_FULL) {
        run->counts->ring_full++;
        softrun_empty_rings(run);
        outcome = gm_mmu_enter(c.vcpu->mmu);
    }
    REQUIRE(outcome == GM_MMU_OK, "entering: outcome %d", (int)outcome);
    run->counts->accesses++;
    TRACE(run, WHAT "\n", WHAT_ARGS(&c));
    run_case(run, &c);
}

/* Stores to one logged slot, from which the tables are taken away again and again: each is a new
 * entry in a ring, until it is full. */
static void fill_ring(struct softrun *run)
{
    unsigned space = run->check.vcpus[0].space;

    for (unsigned i = 0; i < SOFTMODEL_SLOTS && run->aim == NULL; i++) {
        const struct softmodel_slot *slot = &run->model.slots[i];

        if (slot->dirty != NULL && slot->space == space && slot->page_count <= 32 &&
            (slot->flags & SOFTMODEL_READONLY) == 0) {
            run->aim = slot;
        }
    }
    for (unsigned i = 0; i < 1500 && run->aim != NULL; i++) {
        if (i % 16 == 0) {
            gm_soft_zap_all(run->soft);
        }
        softrun_access(run);
    }
    run->aim = NULL;
}

void softrun_burst(struct softrun *run)
{
    uint64_t count = rnd_below(&run->rnd, 500);

    (void)faults_disarm(&run->faults);
    if (run->model.has_rings && rnd_one_in(&run->rnd, 2)) {
        fill_ring(run);
    }
    for (uint64_t i = 0; i < count; i++) {
        softrun_access(run);
    }
}
