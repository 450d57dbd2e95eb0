/* model/guestmodel_access.c - one access of the random guest, and whether what came out is permitted. */
#include "model/guestmodel_run.h"
#include "model/require.h"

#include <inttypes.h>
#include <string.h>

#define MMIO_BYTE 0xab

static const char *const kind_names[] = {"load", "store", "fetch"};
static const char *const view_names[] = {"supervisor", "supervisor-ac", "user"};

/* A place that a part may have reached. */
struct option {
    uint64_t gpa;
    bool is_fresh; /* only by a walk of the present tables, which has set its flags */
    bool is_stale; /* only by something cached */
};

struct part {
    uint64_t address;
    unsigned offset;
    unsigned size_bytes;
    struct guest_walk walk;
    unsigned option_count;
    struct option options[GUEST_CANDIDATES + 1];
};

struct trial {
    struct guestrun *run;
    struct guestrun_vcpu *vcpu;
    const struct guestrun_access *access;
    unsigned part_count;
    struct part parts[GUESTRUN_PARTS];
    /* What came out. */
    enum gm_mmu_outcome outcome;
    struct gm_mmu_exit exit;
    unsigned mmio_count;
    struct gm_mmu_exit mmio[GUESTRUN_PARTS];
    uint8_t value[16];
    uint64_t seen; /* by an exchange */
};

/* ---- before: what is permitted ---- */

static void add_option(struct part *part, uint64_t gpa, bool is_fresh)
{
    for (unsigned i = 0; i < part->option_count; i++) {
        if (part->options[i].gpa == gpa) {
            part->options[i].is_stale = false; /* the walk leads there, too */
            return;
        }
    }
    part->options[part->option_count++] = (struct option){gpa, is_fresh, !is_fresh};
}

static void find_options(struct trial *trial, struct part *part)
{
    static struct guest_candidates cached;
    const struct guestrun_access *access = trial->access;
    const struct guestmodel *model = &trial->run->model;

    part->option_count = 0;
    if (!access->is_linear) {
        part->walk = (struct guest_walk){.outcome = GM_MMU_OK, .gpa = part->address};
        part->options[part->option_count++] = (struct option){part->address, false, false};
        return;
    }
    guest_walk_now(model, trial->vcpu->model, access->kind, access->view, part->address,
                   &part->walk);
    guest_walk_cached(model, trial->vcpu->model, access->kind, access->view, part->address,
                      &cached);
    for (unsigned i = 0; i < cached.count; i++) {
        add_option(part, cached.gpas[i], false);
    }
    if (part->walk.outcome == GM_MMU_OK) {
        add_option(part, part->walk.gpa, true);
    }
}

static void cut(struct trial *trial)
{
    const struct guestrun_access *access = trial->access;
    unsigned offset = 0;

    while (offset < access->size_bytes) {
        struct part *part = &trial->parts[trial->part_count++];
        unsigned room = (unsigned)(GUEST_PAGE - (access->address + offset) % GUEST_PAGE);

        part->address = access->address + offset;
        part->offset = offset;
        part->size_bytes = access->size_bytes - offset < room ? access->size_bytes - offset : room;
        find_options(trial, part);
        offset += part->size_bytes;
    }
}

/* ---- the access ---- */

static enum gm_mmu_outcome call(struct trial *trial)
{
    const struct guestrun_access *access = trial->access;
    struct gm_mmu *mmu = trial->vcpu->mmu;
    enum gm_mmu_outcome outcome;
    uint64_t word;

    memcpy(&word, access->bytes, sizeof(word));
    trial->seen = access->expected;
    if (access->is_exchange) {
        return access->is_linear
                   ? gm_mmu_cmpxchg_linear(mmu, access->address, access->size_bytes, access->view,
                                           &trial->seen, word)
                   : gm_mmu_cmpxchg(mmu, access->address, access->size_bytes, &trial->seen, word);
    }
    switch (access->kind) {
    case GM_MMU_READ:
        word = 0;
        outcome = access->is_linear ? gm_mmu_load_linear(mmu, access->address, access->size_bytes,
                                                         access->view, &word)
                                    : gm_mmu_load(mmu, access->address, access->size_bytes, &word);
        memcpy(trial->value, &word, sizeof(word));
        return outcome;
    case GM_MMU_WRITE:
        return access->is_linear ? gm_mmu_store_linear(mmu, access->address, access->size_bytes,
                                                       access->view, word)
                                 : gm_mmu_store(mmu, access->address, access->size_bytes, word);
    default:
        return access->is_linear
                   ? gm_mmu_fetch_linear(mmu, access->address, access->size_bytes, access->view,
                                         trial->value)
                   : gm_mmu_fetch(mmu, access->address, access->size_bytes, trial->value);
    }
}

/* Answer what is no memory. */
static void answer(struct trial *trial)
{
    struct gm_mmu *mmu = trial->vcpu->mmu;
    uint64_t word = 0;

    while (trial->outcome == GM_MMU_MMIO) {
        struct gm_mmu_exit *exit = gm_mmu_exit(mmu);

        REQUIRE(trial->mmio_count < GUESTRUN_PARTS, "more MMIO than parts");
        trial->mmio[trial->mmio_count++] = *exit;
        if (trial->access->kind == GM_MMU_FETCH) {
            return;
        }
        if (trial->access->kind == GM_MMU_READ) {
            memset(exit->data, MMIO_BYTE, sizeof(exit->data));
        }
        trial->outcome = gm_mmu_resume(mmu, &word);
        memcpy(trial->value, &word, sizeof(word));
    }
}

static void make(struct trial *trial)
{
    struct gm_mmu *mmu = trial->vcpu->mmu;

    do {
        REQUIRE(gm_mmu_enter(mmu) == GM_MMU_OK, "cannot enter");
        trial->outcome = call(trial);
    } while (trial->outcome == GM_MMU_RESTART);
    answer(trial);
    if (trial->outcome == GM_MMU_OK) {
        gm_mmu_leave(mmu);
    } else {
        trial->exit = *gm_mmu_exit(mmu);
    }
}

/* ---- after ---- */

static void add_all_flags(struct trial *trial, struct guestrun_effect *effect)
{
    for (unsigned i = 0; i < trial->part_count; i++) {
        guestrun_add_flags(effect, &trial->parts[i].walk, trial->vcpu->model, false);
    }
}

/* It did not come to its end: the present tables say so, of one of its parts. */
static void judge_failure(struct trial *trial)
{
    struct guestrun *run = trial->run;
    struct guestrun_effect effect = {0};
    const struct gm_mmu_exit *exit = &trial->exit;
    unsigned i = 0;

    while (i < trial->part_count && !(trial->outcome == GM_MMU_TABLE_LOST
                                          ? trial->parts[i].walk.outcome == GM_MMU_TABLE_LOST &&
                                                trial->parts[i].walk.gpa == exit->gpa
                                          : trial->parts[i].address == exit->linear)) {
        REQUIRE(trial->parts[i].option_count != 0, "an earlier part should have ended it");
        i++;
    }
    REQUIRE(i < trial->part_count, "none of its parts: linear %#" PRIx64 " gpa %#" PRIx64,
            (uint64_t)exit->linear, (uint64_t)exit->gpa);
    REQUIRE(trial->parts[i].walk.outcome == trial->outcome,
            "outcome %d, but the tables say %d (gpa %#" PRIx64 ")", (int)trial->outcome,
            (int)trial->parts[i].walk.outcome, trial->parts[i].walk.gpa);
    if (trial->outcome == GM_MMU_PAGE_FAULT) {
        REQUIRE(exit->error_code == trial->parts[i].walk.error_code, "error code %#x, not %#x",
                exit->error_code, trial->parts[i].walk.error_code);
        run->counts->faults++;
    }
    run->counts->lost += trial->outcome == GM_MMU_TABLE_LOST;
    add_all_flags(trial, &effect);
    guestrun_add_flags(&effect, &trial->parts[i].walk, trial->vcpu->model, true);
    if (!guestrun_is_effect(run, &effect)) {
        guestrun_print_difference(run);
        REQUIRE(false, "an access that failed changed memory, or did not set accessed flags");
    }
    guestrun_adopt(run, &effect);
    if (trial->outcome == GM_MMU_PAGE_FAULT && (run->model.promises & GUEST_PROMISE_FAULT) != 0) {
        guest_vcpu_flush(&run->model, trial->vcpu->model, exit->linear, true);
    }
}

/* Do the MMIO exits belong to these places? */
static bool is_mmio_right(const struct trial *trial, const struct option *const *places)
{
    unsigned count = 0;

    for (unsigned i = 0; i < trial->part_count; i++) {
        if (guest_memory_offset(&trial->run->model.memory, places[i]->gpa) != GUEST_NOWHERE) {
            continue;
        }
        if (count == trial->mmio_count) {
            return trial->access->kind == GM_MMU_FETCH && count != 0;
        }
        if (trial->mmio[count].gpa != places[i]->gpa ||
            trial->mmio[count].size_bytes != trial->parts[i].size_bytes ||
            (trial->access->kind == GM_MMU_WRITE &&
             memcmp(trial->mmio[count].data, trial->access->bytes + trial->parts[i].offset,
                    trial->parts[i].size_bytes) != 0)) {
            return false;
        }
        count++;
    }
    return count == trial->mmio_count;
}

/* The bytes that were there for an exchange, but for flags of its own walk. */
static bool is_seen_right(const struct trial *trial, const struct option *const *places,
                          const struct guestrun_effect *effect)
{
    for (unsigned i = 0; i < trial->part_count; i++) {
        const struct part *part = &trial->parts[i];
        uint64_t offset = guest_memory_offset(&trial->run->model.memory, places[i]->gpa);

        for (unsigned byte = 0; byte < part->size_bytes; byte++) {
            uint64_t at = offset + byte;
            uint8_t was = trial->run->model.memory.bytes[at];
            uint8_t seen = (uint8_t)(trial->seen >> ((part->offset + byte) * 8));
            uint8_t may = 0;

            for (unsigned flag = 0; flag < effect->flag_count; flag++) {
                if (effect->flags[flag].word == at / 8 * 8) {
                    may |= (uint8_t)(effect->flags[flag].mask >> (at % 8 * 8));
                }
            }
            if (((was ^ seen) & ~may) != 0 || (was & ~seen) != 0) {
                return false;
            }
        }
    }
    return true;
}

/* The bytes that were read, from memory as it is now. */
static bool is_value_right(const struct trial *trial, const struct option *const *places)
{
    for (unsigned i = 0; i < trial->part_count; i++) {
        const struct part *part = &trial->parts[i];
        uint64_t offset = guest_memory_offset(&trial->run->model.memory, places[i]->gpa);

        for (unsigned byte = 0; byte < part->size_bytes; byte++) {
            uint8_t expected =
                offset == GUEST_NOWHERE ? MMIO_BYTE : *guestrun_host(trial->run, offset + byte);

            if (trial->value[part->offset + byte] != expected) {
                return false;
            }
        }
    }
    return true;
}

static void add_writes(const struct trial *trial, const struct option *const *places,
                       struct guestrun_effect *effect)
{
    for (unsigned i = 0; i < trial->part_count; i++) {
        uint64_t offset = guest_memory_offset(&trial->run->model.memory, places[i]->gpa);

        if (offset != GUEST_NOWHERE) {
            struct guestrun_write *write = &effect->writes[effect->write_count++];
            const uint8_t *bytes = trial->access->bytes + trial->parts[i].offset;
            unsigned size_bytes = trial->parts[i].size_bytes;
            bool is_change =
                memcmp(trial->run->model.memory.bytes + offset, bytes, size_bytes) != 0;

            *write = (struct guestrun_write){offset, size_bytes, bytes,
                                             is_change || trial->parts[i].option_count == 1};
        }
    }
}

/* Did the access reach these places, one for each part? If so it is over. */
static bool try(struct trial *trial, const struct option *const *places)
{
    const struct guestrun_access *access = trial->access;
    uint64_t mask =
        access->size_bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (access->size_bytes * 8)) - 1;
    struct guestrun_effect effect = {0};

    add_all_flags(trial, &effect);
    for (unsigned i = 0; i < trial->part_count; i++) {
        if (places[i]->is_fresh) {
            guestrun_add_flags(&effect, &trial->parts[i].walk, trial->vcpu->model, true);
        }
    }
    if (!is_mmio_right(trial, places)) {
        return false;
    }
    if (access->is_exchange && trial->mmio_count == 0) {
        if (!is_seen_right(trial, places, &effect)) {
            return false;
        }
        if (((trial->seen ^ access->expected) & mask) == 0) {
            add_writes(trial, places, &effect);
        }
    } else if (access->kind == GM_MMU_WRITE) {
        add_writes(trial, places, &effect);
    }
    if (!guestrun_is_effect(trial->run, &effect)) {
        return false;
    }
    if (access->kind != GM_MMU_WRITE && !(access->kind == GM_MMU_FETCH && trial->mmio_count != 0) &&
        !is_value_right(trial, places)) {
        return false;
    }
    guestrun_adopt(trial->run, &effect);
    for (unsigned i = 0; i < trial->part_count; i++) {
        trial->run->counts->stale += places[i]->is_stale;
        trial->run->counts->fresh += places[i]->is_fresh;
    }
    return true;
}

static void print_options(const struct trial *trial)
{
    for (unsigned i = 0; i < trial->part_count; i++) {
        const struct part *part = &trial->parts[i];

        fprintf(stderr, "  %#" PRIx64 ", %u bytes: the tables say %d, gpa %#" PRIx64 ", code %#x;",
                part->address, part->size_bytes, (int)part->walk.outcome, part->walk.gpa,
                part->walk.error_code);
        for (unsigned n = 0; n < part->option_count; n++) {
            fprintf(stderr, " %#" PRIx64 "%s", part->options[n].gpa,
                    part->options[n].is_fresh ? " (walked)" : "");
        }
        fprintf(stderr, "\n");
        for (unsigned n = 0; n < part->walk.count; n++) {
            fprintf(stderr, "    entry at %#" PRIx64 ": %#" PRIx64 "\n", part->walk.steps[n].gpa,
                    part->walk.steps[n].value);
        }
    }
    fprintf(stderr, "  value %#" PRIx64 ", seen %#" PRIx64 ", %u MMIO, at %#" PRIx64 "\n",
            *(const uint64_t *)(const void *)trial->value, trial->seen, trial->mmio_count,
            (uint64_t)trial->mmio[0].gpa);
}

static void judge_success(struct trial *trial)
{
    static const struct option none = {GUEST_NOWHERE, false, false};
    const struct part *first = &trial->parts[0];
    const struct part *second = trial->part_count == 2 ? &trial->parts[1] : NULL;

    trial->run->counts->mmio += trial->mmio_count;
    for (unsigned i = 0; i < first->option_count; i++) {
        for (unsigned n = 0; n < (second == NULL ? 1 : second->option_count); n++) {
            const struct option *const places[] = {&first->options[i],
                                                   second == NULL ? &none : &second->options[n]};

            if (try(trial, places)) {
                return;
            }
        }
    }
    print_options(trial);
    guestrun_print_difference(trial->run);
    REQUIRE(false, "neither the tables nor anything that may be cached leads to that");
}

/* Pages that the log may name: tables that were read, and what was nearly written. */
static void note_nearly_written(struct trial *trial)
{
    struct guestrun *run = trial->run;

    for (unsigned i = 0; i < trial->part_count; i++) {
        const struct part *part = &trial->parts[i];

        for (unsigned n = 0; n < part->walk.count; n++) {
            uint64_t place = guest_memory_place(part->walk.steps[n].gpa);

            if (place != GUEST_NOWHERE) {
                run->may_be_dirty[place / GUEST_PAGE] = true;
            }
        }
        for (unsigned n = 0; n < part->option_count; n++) {
            uint64_t place = guest_memory_place(part->options[n].gpa);

            if (place != GUEST_NOWHERE && trial->access->kind == GM_MMU_WRITE) {
                run->may_be_dirty[place / GUEST_PAGE] = true;
            }
        }
    }
}

void guestrun_make(struct guestrun *run, struct guestrun_vcpu *vcpu,
                   const struct guestrun_access *access)
{
    static struct trial trial;
    uint64_t word;

    trial = (struct trial){.run = run, .vcpu = vcpu, .access = access};
    memcpy(&word, access->bytes, sizeof(word));
    guestrun_note(run, "vcpu %u: %s%s %#" PRIx64 " %s, %u bytes, %#" PRIx64 " expecting %#" PRIx64,
                  vcpu->id, access->is_exchange ? "exchange/" : "", kind_names[access->kind],
                  access->address, access->is_linear ? view_names[access->view] : "physical",
                  access->size_bytes, word, access->expected);
    cut(&trial);
    make(&trial);
    guestrun_note(
        run, "    outcome %d code %#x value %#" PRIx64 " mmio %u; tables say %d, %#" PRIx64,
        (int)trial.outcome, trial.exit.error_code, *(const uint64_t *)(const void *)trial.value,
        trial.mmio_count, (int)trial.parts[0].walk.outcome, trial.parts[0].walk.gpa);
    run->counts->accesses++;
    note_nearly_written(&trial);
    switch (trial.outcome) {
    case GM_MMU_OK:
    case GM_MMU_MMIO:
        judge_success(&trial);
        break;
    case GM_MMU_PAGE_FAULT:
    case GM_MMU_TABLE_LOST:
    case GM_MMU_PROTECTION:
        judge_failure(&trial);
        break;
    default:
        REQUIRE(false, "outcome %d, error %d", (int)trial.outcome, trial.exit.error);
    }
}
