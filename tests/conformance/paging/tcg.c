/* conformance/paging/tcg.c - where QEMU's processor does otherwise than the manuals say. */
#include "tcg.h"

const char *const tcg_reasons[] = {
    [TCG_IMPLICIT_AC] =
        "an implicit access at CPL 0 to 2 heeds EFLAGS.AC: TCG asks whether CPL is 3, not for what "
        "the access is made (SDM 4.6.1: SMAP then applies whatever AC is)",
    [TCG_PSE36_WIDTH] = "bits 20:(M-19) of a 4 MiB page's entry may be set: TCG takes M for 40, "
                        "whatever MAXPHYADDR is (SDM 4.3: the smaller of both)",
    [TCG_RESERVED_ABSENT] = "P is 0 in the error code of a reserved bit: a slip of QEMU 7.2 (SDM "
                            "4.7: RSVD only comes with P)",
    [TCG_ACCESSED_1G] =
        "an access that a 1 GiB page's rights or low reserved bits forbid sets its accessed flag: "
        "TCG sets it before it knows that this is a leaf (SDM 6.15: model-specific)",
    [TCG_ACCESSED_PDPTE] = "PDPTEs of PAE get an accessed flag in memory: TCG has no PDPTE "
                           "registers, and reads them as it reads tables (SDM 4.4.1)",
};

static uint64_t bits(unsigned high, unsigned low)
{
    return UINT64_MAX >> (63 - high) & UINT64_MAX << low;
}

static void heed_ac(const struct paging_case *test, struct tcg_question *question)
{
    if (test->kind == PAGING_KIND_IMPLICIT && test->ring < 3 && test->ac != 0) {
        question->request.access |= PAGING_AC;
    }
}

static void ignore_pse36_width(const struct cases *cases, struct tcg_question *question)
{
    if (cases->mode == PAGING_32) {
        question->paging.levels[2].reserved_leaf &= bits(21, 21);
    }
}

static bool is_same_walk(const struct machine *machine, const struct tcg_question *a,
                         const struct tcg_question *b)
{
    struct guestwalk first;
    struct guestwalk second;

    return guest_walk(&a->paging, &machine->memory, &a->request, &first) ==
               guest_walk(&b->paging, &machine->memory, &b->request, &second) &&
           first.gpa == second.gpa && first.error_code == second.error_code;
}

void tcg_ask(const struct cases *cases, const struct paging_case *test, struct machine *machine,
             struct tcg_question *question, unsigned counts[TCG_DIFFERENCE_COUNT])
{
    for (enum tcg_difference i = TCG_IMPLICIT_AC; i <= TCG_PSE36_WIDTH; i++) {
        struct tcg_question before = *question;

        if (i == TCG_IMPLICIT_AC) {
            heed_ac(test, question);
        } else {
            ignore_pse36_width(cases, question);
        }
        counts[i] += !is_same_walk(machine, &before, question);
    }
}

/* Set an entry's accessed flag, as the model's processor. Whether it was clear. */
static bool set_accessed(struct machine *machine, uint64_t gpa)
{
    uint64_t entry = machine_load(machine, gpa, 8);

    machine_store(machine, gpa, 8, entry | PAGING_ACCESSED);
    return (entry & PAGING_ACCESSED) == 0;
}

/* Did the walk end at a 1 GiB page, for another reason than an address beyond MAXPHYADDR or XD? */
static bool ended_at_1g(const struct paging *paging, const struct guestwalk *walk)
{
    uint64_t entry = walk->entries[walk->depth];

    return walk->depth == 3 && paging->mode >= PAGING_4 &&
           (walk->error_code & PAGING_ERROR_PRESENT) != 0 && (entry & PAGING_LARGE) != 0 &&
           (entry & paging->levels[3].reserved) == 0;
}

void tcg_answer(const struct tcg_question *question, struct machine *machine,
                const struct guestwalk *walk, unsigned counts[TCG_DIFFERENCE_COUNT])
{
    const struct paging *paging = &question->paging;

    if (paging->mode == PAGING_PAE) {
        (void)set_accessed(machine, paging->root); /* on the way to the guest program */
    }
    if (paging->mode == PAGING_PAE && (walk->entries[3] & PAGING_PRESENT) != 0) {
        counts[TCG_ACCESSED_PDPTE] += set_accessed(machine, walk->entry_gpas[3]);
    }
    if (ended_at_1g(paging, walk)) {
        counts[TCG_ACCESSED_1G] += set_accessed(machine, walk->entry_gpas[3]);
    }
}
