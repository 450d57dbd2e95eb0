/* model/guestmodel_registers.c - the random guest's control registers: roots, rights, modes. */
#include "model/guestmodel_run.h"
#include "model/require.h"

#include <inttypes.h>
#include <string.h>

#define CR0_PE 1u

void guestrun_set(struct guestrun *run, struct guestrun_vcpu *vcpu,
                  const struct gm_mmu_paging *registers)
{
    enum gm_mmu_outcome expected = guest_judge_registers(&run->model, registers);
    enum gm_mmu_outcome outcome;

    guestrun_note(run,
                  "vcpu %u: CR0 %#" PRIx64 " CR3 %#" PRIx64 " CR4 %#" PRIx64 " EFER %#" PRIx64
                  " PKRU %#x M %u; %d",
                  vcpu->id, registers->cr0, registers->cr3, registers->cr4, registers->efer,
                  registers->pkru, registers->maxphyaddr, (int)expected);
    do {
        REQUIRE(gm_mmu_enter(vcpu->mmu) == GM_MMU_OK, "cannot enter");
        outcome = gm_mmu_set_paging(vcpu->mmu, registers);
    } while (outcome == GM_MMU_RESTART);
    REQUIRE(outcome == expected, "outcome %d of registers, not %d", (int)outcome, (int)expected);
    if (outcome == GM_MMU_OK) {
        gm_mmu_leave(vcpu->mmu);
        guest_vcpu_set(&run->model, vcpu->model, registers);
    }
}

/* A table of the top level, with a PCID that mostly is always the same. */
static uint64_t random_cr3(struct guestrun *run, const struct gm_mmu_paging *registers)
{
    bool has_pcids = (registers->cr4 & GUEST_CR4_PCIDE) != 0;
    bool is_long = (registers->efer & GUEST_EFER_LMA) != 0;
    unsigned levels = !is_long ? ((registers->cr4 & GUEST_CR4_PAE) != 0 ? 3 : 2)
                      : (registers->cr4 & GUEST_CR4_LA57) != 0 ? 5
                                                               : 4;
    unsigned page = (unsigned)(levels + levels * rnd_below(&run->rnd, 4));
    uint64_t cr3;

    if (rnd_one_in(&run->rnd, 20)) {
        page = 1 + (unsigned)rnd_below(&run->rnd, GUESTRUN_TABLES - 1);
    } else if (rnd_one_in(&run->rnd, 40)) {
        page = GUEST_LOW_PAGES + (unsigned)rnd_below(&run->rnd, 4);
    }
    cr3 = guest_memory_gpa((uint64_t)page * GUEST_PAGE);
    if (has_pcids) {
        cr3 |= (run->model.promises & GUEST_PROMISE_PCID) == 0 ? page
               : rnd_one_in(&run->rnd, 6)                      ? rnd_below(&run->rnd, 4)
                                                               : page % 4;
        cr3 |= rnd_one_in(&run->rnd, 3) ? 0 : GUEST_CR3_KEEP;
    }
    return cr3;
}

void guestrun_random_mode(struct guestrun *run, struct gm_mmu_paging *registers)
{
    static const uint8_t widths[] = {0, 52, 46, 40, 36};
    uint64_t random = rnd_next(&run->rnd);
    unsigned mode = (unsigned)rnd_below(&run->rnd, 40);
    uint64_t optional = GUEST_CR4_PGE | GUEST_CR4_SMEP | GUEST_CR4_SMAP | GUEST_CR4_PSE;

    *registers = (struct gm_mmu_paging){
        .cr0 = CR0_PE | (mode != 0 ? GUEST_CR0_PG : 0) | (random & 1 ? GUEST_CR0_WP : 0),
        .cr4 = random & optional & (rnd_next(&run->rnd) | GUEST_CR4_PGE | GUEST_CR4_PSE),
        .efer = random & GUEST_EFER_NXE,
        .pkru =
            rnd_one_in(&run->rnd, 2) ? (uint32_t)(rnd_next(&run->rnd) & rnd_next(&run->rnd)) : 0,
        .maxphyaddr = widths[rnd_below(&run->rnd, 5)],
        .has_1g_pages = (random & 2) != 0,
        .has_pse36 = (random & 4) != 0,
    };
    if (mode >= 10) {
        registers->cr4 |= GUEST_CR4_PAE;
    }
    if (mode >= 20) {
        registers->efer |= GUEST_EFER_LMA;
        registers->cr4 |= mode >= 30 ? GUEST_CR4_LA57 : 0;
        registers->cr4 |= random & (GUEST_CR4_PKE | GUEST_CR4_PCIDE);
    }
    registers->cr3 = random_cr3(run, registers);
}

void guestrun_switch_root(struct guestrun *run, struct guestrun_vcpu *vcpu)
{
    struct gm_mmu_paging registers = vcpu->model->registers;

    if (vcpu->model->root_count >= GUEST_ROOTS - 1) {
        guestrun_change_mode(run, vcpu);
        return;
    }
    if (!rnd_one_in(&run->rnd, 4)) {
        registers.cr3 = random_cr3(run, &registers);
    } else if ((registers.cr4 & GUEST_CR4_PCIDE) != 0) {
        registers.cr3 ^= GUEST_CR3_KEEP;
    }
    guestrun_set(run, vcpu, &registers);
}

void guestrun_change_rights(struct guestrun *run, struct guestrun_vcpu *vcpu)
{
    struct gm_mmu_paging registers = vcpu->model->registers;
    uint64_t linear = guestrun_some_linear(run, vcpu->model);

    if (vcpu->model->root_count >= GUEST_ROOTS - 1) {
        guestrun_change_mode(run, vcpu);
        return;
    }
    guestrun_access(run, vcpu, linear);
    guestrun_access(run, vcpu, linear);
    switch (rnd_below(&run->rnd, 5)) {
    case 0:
        registers.cr0 ^= GUEST_CR0_WP;
        break;
    case 1:
        registers.cr4 ^= GUEST_CR4_SMEP;
        break;
    case 2:
        registers.cr4 ^= GUEST_CR4_SMAP;
        break;
    case 3:
        registers.cr4 ^= (registers.efer & GUEST_EFER_LMA) != 0 ? GUEST_CR4_PKE : 0;
        break;
    default:
        registers.pkru = (uint32_t)(rnd_next(&run->rnd) & rnd_next(&run->rnd));
        break;
    }
    guestrun_set(run, vcpu, &registers);
    guestrun_access(run, vcpu, linear);
    guestrun_access(run, vcpu, linear);
}

void guestrun_change_mode(struct guestrun *run, struct guestrun_vcpu *vcpu)
{
    struct gm_mmu_paging registers = vcpu->model->registers;

    if (rnd_one_in(&run->rnd, 8)) {
        guestrun_random_mode(run, &registers); /* tables are those of another mode then */
        guestrun_set(run, vcpu, &registers);
        return;
    }
    switch (rnd_below(&run->rnd, 4)) {
    case 0:
        registers.cr4 ^= GUEST_CR4_PSE;
        break;
    case 1:
        registers.efer ^= GUEST_EFER_NXE;
        break;
    case 2:
        registers.has_1g_pages = !registers.has_1g_pages;
        break;
    default:
        registers.cr4 ^= GUEST_CR4_PGE;
        break;
    }
    guestrun_set(run, vcpu, &registers);
}
