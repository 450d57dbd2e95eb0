/* model/guestmodel_run.c - the random guest: which operations it makes, in which VMs. */
#include "model/guestmodel_run.h"
#include "model/require.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#define OPERATIONS_PER_VM 3000u

/* What the handler prints, and who has to hear of the end besides: libFuzzer. */
static struct guestrun *present_run;
static struct sigaction handler_before;

void guestrun_note(struct guestrun *run, const char *format, ...)
{
    char *line = run->lines[run->line_count++ % GUESTRUN_LINES];
    int length = snprintf(line, GUESTRUN_LINE_BYTES, "%" PRIu64 " ", run->operation);
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(line + length, GUESTRUN_LINE_BYTES - (size_t)length, format, arguments);
    va_end(arguments);
}

/* The program is at its end, by REQUIRE or an assertion of the library's: what led there. */
static void on_abort(int number)
{
    const struct guestrun *run = present_run;
    uint64_t count = run->line_count < GUESTRUN_LINES ? run->line_count : GUESTRUN_LINES;

    fprintf(stderr, "[%s] the last operations:\n", require_place);
    for (uint64_t i = run->line_count - count; i < run->line_count; i++) {
        fprintf(stderr, "  %s\n", run->lines[i % GUESTRUN_LINES]);
    }
    if (handler_before.sa_handler != SIG_DFL && handler_before.sa_handler != SIG_IGN) {
        handler_before.sa_sigaction(number, NULL, NULL);
    }
}

/* ---- single operations ---- */

/* What is stored: in tables mostly entries, else every time something else. */
static void random_bytes(struct guestrun *run, const struct guest_vcpu *vcpu,
                         struct guestrun_access *access)
{
    uint64_t word = ++run->stamps * UINT64_C(0x100000001000010);
    uint64_t place = guest_memory_place(access->address);
    struct guest_walk walk;
    unsigned home = 0;

    if (access->is_linear) {
        guest_walk_now(&run->model, vcpu, access->kind, access->view, access->address, &walk);
        place = walk.outcome == GM_MMU_OK ? guest_memory_place(walk.gpa) : GUEST_NOWHERE;
    }
    if (place != GUEST_NOWHERE) {
        home = guestrun_home(vcpu, (unsigned)(place / GUEST_PAGE));
        access->expected =
            place > GUEST_BYTES - 8 ? 0 : guest_memory_load(&run->model.memory, place, 8);
    }
    if (home != 0 && !rnd_one_in(&run->rnd, 8)) {
        word = guestrun_entry(run, vcpu, home);
        access->address &= ~(uint64_t)(vcpu->entry_bytes - 1);
        access->size_bytes = vcpu->entry_bytes;
    }
    memcpy(access->bytes, &word, sizeof(word));
}

static uint64_t random_offset(struct guestrun *run, const struct guest_vcpu *vcpu)
{
    uint64_t kind = rnd_below(&run->rnd, 100);

    if (kind < 70) {
        return rnd_below(&run->rnd, GUEST_PAGE) & ~UINT64_C(7);
    }
    if (kind < 85) {
        return rnd_below(&run->rnd, GUEST_PAGE);
    }
    if (kind < 90) {
        return rnd_below(&run->rnd, 8) * vcpu->entry_bytes;
    }
    return GUEST_PAGE - 1 - rnd_below(&run->rnd, 15);
}

void guestrun_access(struct guestrun *run, struct guestrun_vcpu *vcpu, uint64_t linear)
{
    uint64_t kind = rnd_below(&run->rnd, 100);
    struct guestrun_access access = {
        .kind = kind < 45   ? GM_MMU_READ
                : kind < 85 ? GM_MMU_WRITE
                            : GM_MMU_FETCH,
        .is_exchange = kind >= 75 && kind < 85,
        .is_linear = !rnd_one_in(&run->rnd, 12),
        .view = (enum gm_mmu_view)rnd_below(&run->rnd, GUEST_VIEWS),
        .size_bytes = 1u << rnd_below(&run->rnd, 4),
    };

    if (rnd_one_in(&run->rnd, 2)) {
        access.size_bytes = 8;
    }
    if (access.kind == GM_MMU_FETCH) {
        access.size_bytes = 1 + (unsigned)rnd_below(&run->rnd, 15);
    }
    access.address = guest_memory_gpa(rnd_below(&run->rnd, GUEST_PAGES) * GUEST_PAGE);
    if (access.is_linear) {
        access.address = linear / GUEST_PAGE * GUEST_PAGE;
    }
    access.address += random_offset(run, vcpu->model);
    if (access.kind == GM_MMU_WRITE) {
        random_bytes(run, vcpu->model, &access);
    }
    guestrun_make(run, vcpu, &access);
}

void guestrun_explain(struct guestrun *run, struct guestrun_vcpu *vcpu)
{
    uint64_t linear = guestrun_some_linear(run, vcpu->model) + rnd_below(&run->rnd, GUEST_PAGE);
    enum gm_mmu_access kind = (enum gm_mmu_access)rnd_below(&run->rnd, GUEST_KINDS);
    enum gm_mmu_view view = (enum gm_mmu_view)rnd_below(&run->rnd, GUEST_VIEWS);
    struct gm_mmu_translation translation;
    struct guest_walk walk;

    guestrun_note(run, "vcpu %u: explain %#" PRIx64 ", access %d by %d", vcpu->id, linear,
                  (int)kind, (int)view);
    guest_walk_now(&run->model, vcpu->model, kind, view, linear, &walk);
    REQUIRE(gm_mmu_enter(vcpu->mmu) == GM_MMU_OK, "cannot enter");
    (void)gm_mmu_explain(vcpu->mmu, linear, kind, view, &translation);
    gm_mmu_leave(vcpu->mmu);
    REQUIRE(translation.outcome == walk.outcome, "explained as %d, not %d",
            (int)translation.outcome, (int)walk.outcome);
    REQUIRE(walk.outcome != GM_MMU_OK || translation.gpa == walk.gpa,
            "explained as %#" PRIx64 ", not %#" PRIx64, (uint64_t)translation.gpa, walk.gpa);
    REQUIRE(walk.outcome != GM_MMU_PAGE_FAULT || translation.error_code == walk.error_code,
            "error code explained as %#x, not %#x", translation.error_code, walk.error_code);
}

void guestrun_operate(struct guestrun *run)
{
    struct guestrun_vcpu *vcpu = &run->vcpus[rnd_below(&run->rnd, GUEST_VCPUS)];
    uint64_t kind = rnd_below(&run->rnd, 1000);

    if (kind < 30) {
        guestrun_visit(run, vcpu);
    } else if (kind < 620) {
        guestrun_access(run, vcpu, guestrun_some_linear(run, vcpu->model));
    } else if (kind < 840) {
        guestrun_edit(run, vcpu);
    } else if (kind < 880) {
        guestrun_invlpg(run, vcpu, guestrun_some_linear(run, vcpu->model));
    } else if (kind < 925) {
        guestrun_switch_root(run, vcpu);
    } else if (kind < 935) {
        guestrun_change_rights(run, vcpu);
    } else if (kind < 937) {
        guestrun_change_mode(run, vcpu);
    } else if (kind < 960) {
        guestrun_explain(run, vcpu);
    } else {
        guestrun_host_operation(run);
    }
    guestrun_check(run);
}

/* ---- VMs ---- */

static void map_host(struct guestrun *run, bool is_made)
{
    for (unsigned slot = 0; slot < GUEST_SLOTS; slot++) {
        for (unsigned i = 0; i < 2; i++) {
            if (is_made) {
                run->host[slot][i] = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                REQUIRE(run->host[slot][i] != MAP_FAILED, "no memory");
            } else {
                munmap(run->host[slot][i], GUEST_BYTES);
            }
        }
    }
}

/* Each word of data says where it is, and leads nowhere as an entry. */
static void fill_data(struct guestrun *run)
{
    for (uint64_t offset = 0; offset < GUEST_BYTES; offset += 8) {
        uint64_t gpa = guest_memory_gpa(offset);

        memcpy(run->model.memory.bytes + offset, &gpa, sizeof(gpa));
    }
}

static void open_vm(struct guestrun *run)
{
    const struct gm_soft_options options = {
        .size = sizeof(options),
        .log = rnd_one_in(&run->rnd, 2) ? GM_SOFT_LOG_BUFFER : GM_SOFT_LOG_PROTECT,
        .shadow_paging = run->is_shadowed,
    };

    REQUIRE(gm_soft_open(&options, &run->soft, NULL) == 0, "no VM");
    map_host(run, true);
    gm_soft_set_tracker(run->soft, guestrun_on_written, run);
    for (unsigned i = 0; i < GUEST_VCPUS; i++) {
        struct guestrun_vcpu *vcpu = &run->vcpus[i];

        REQUIRE(gm_soft_vcpu_new(run->soft, i, &vcpu->vcpu) == 0, "no vCPU");
        vcpu->mmu = gm_soft_vcpu_mmu(vcpu->vcpu);
        vcpu->model = &run->model.vcpus[i];
        vcpu->id = i;
    }
}

/* The first registers; the second vCPU's mostly are as the first one's. */
static void start_vcpus(struct guestrun *run, struct gm_mmu_paging registers[GUEST_VCPUS])
{
    for (unsigned i = 0; i < GUEST_VCPUS; i++) {
        const struct gm_mmu_paging off = {0};

        guest_vcpu_set(&run->model, run->vcpus[i].model, &off);
        while (guest_judge_registers(&run->model, &registers[i]) != GM_MMU_OK) {
            guestrun_random_mode(run, &registers[i]);
        }
        guestrun_set(run, &run->vcpus[i], &registers[i]);
    }
}

void guestrun_begin(struct guestrun *run)
{
    struct gm_mmu_paging registers[GUEST_VCPUS];
    static struct guest_vcpu shape;

    const struct sigaction handler = {.sa_handler = on_abort};

    present_run = run;
    REQUIRE(sigaction(SIGABRT, &handler, &handler_before) == 0, "no handler");
    guestrun_random_mode(run, &registers[0]);
    registers[1] = registers[0];
    if (rnd_one_in(&run->rnd, 6)) {
        guestrun_random_mode(run, &registers[1]);
    }
    fill_data(run);
    run->model.memory.is_there[0] = run->model.memory.is_there[1] = true;
    memset(&shape, 0, sizeof(shape));
    guest_vcpu_set(&run->model, &shape, &registers[0]);
    (run->fill != NULL ? run->fill : guestrun_fill)(run, &shape);
    open_vm(run);
    for (unsigned slot = 0; slot < GUEST_SLOTS; slot++) {
        guestrun_set_slot(run, slot, true);
    }
    start_vcpus(run, registers);
    for (unsigned i = 0; i < GUESTRUN_LINEARS; i++) {
        run->linears[i] = guestrun_linear(run, run->vcpus[0].model);
    }
}

void guestrun_end(struct guestrun *run)
{
    for (unsigned i = 0; i < GUEST_VCPUS; i++) {
        gm_soft_vcpu_free(run->vcpus[i].vcpu);
    }
    REQUIRE(gm_soft_close(run->soft) == 0, "busy");
    map_host(run, false);
    guest_memory_fini(&run->model.memory);
    (void)sigaction(SIGABRT, &handler_before, NULL);
}

static void print_counts(const struct guestrun_counts *counts)
{
    printf("accesses %" PRIu64 ": %" PRIu64 " by the cache alone, %" PRIu64
           " by a walk alone, %" PRIu64 " page faults, %" PRIu64 " tables lost, %" PRIu64
           " MMIO\nedits %" PRIu64 ": %" PRIu64 " by linear address; flags set %" PRIu64
           "; harvests %" PRIu64 ", told %" PRIu64 "\n",
           counts->accesses, counts->stale, counts->fresh, counts->faults, counts->lost,
           counts->mmio, counts->edits, counts->linear_edits, counts->flags, counts->harvests,
           counts->told);
}

void guestrun_all(uint64_t seed, uint64_t operation_count, bool is_shadowed, unsigned promises)
{
    static struct guestrun run;
    struct guestrun_counts counts = {0};
    uint64_t done = 0;

    while (done < operation_count) {
        memset(&run, 0, sizeof(run));
        run.rnd.state = seed + done;
        run.is_shadowed = is_shadowed;
        run.model.promises = promises;
        run.counts = &counts;
        run.operation = done;
        guestrun_begin(&run);
        for (unsigned i = 0; i < OPERATIONS_PER_VM && done < operation_count; i++) {
            run.operation = done++;
            snprintf(require_place, sizeof(require_place),
                     "GM_SEED=%" PRIu64 " operation %" PRIu64 " %s", seed, run.operation,
                     is_shadowed ? "shadow" : "nested");
            guestrun_operate(&run);
        }
        guestrun_end(&run);
    }
    print_counts(&counts);
}
