/*
 * conformance/paging/tcg.h - where QEMU's processor (7.2, TCG) does otherwise than the manuals say.
 *
 * Each difference is applied to what our walker said, or to what it is asked, and is counted where it
 * matters. Whatever else differs fails the test.
 */
#ifndef CONFORMANCE_PAGING_TCG_H
#define CONFORMANCE_PAGING_TCG_H

#include "cases.h"

enum tcg_difference {
    TCG_IMPLICIT_AC,
    TCG_PSE36_WIDTH,
    TCG_RESERVED_ABSENT, /* counted by who compares */
    TCG_ACCESSED_1G,
    TCG_ACCESSED_PDPTE,
    TCG_DIFFERENCE_COUNT,
};

extern const char *const tcg_reasons[TCG_DIFFERENCE_COUNT];

/* What our walker is asked for a case. */
struct tcg_question {
    struct paging paging;
    struct guestwalk_request request;
};

/* Ask what TCG answers. *asked is the manual's question; its walk sets no flags. */
void tcg_ask(const struct cases *cases, const struct paging_case *test, struct machine *machine,
             struct tcg_question *question, unsigned counts[TCG_DIFFERENCE_COUNT]);

/* After the walk: flags in the model's memory. */
void tcg_answer(const struct tcg_question *question, struct machine *machine,
                const struct guestwalk *walk, unsigned counts[TCG_DIFFERENCE_COUNT]);

#endif
