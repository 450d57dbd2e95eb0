/*
 * conformance/paging/cases.h - random cases: entries, control registers, one access.
 */
#ifndef CONFORMANCE_PAGING_CASES_H
#define CONFORMANCE_PAGING_CASES_H

#include "machine.h"

#include "model/random.h"

/* What the cases of one boot have in common. */
struct cases {
    enum paging_mode mode;
    unsigned physical_bits;
    struct rnd *rnd;
};

/* Fill the tables that no case writes, and each root's way to the guest program. */
void cases_put_tables(const struct cases *cases, struct machine *machine);

/* One case. Whether it is safe to run, cases_are_safe_at() and the caller find out. */
void cases_make(const struct cases *cases, struct paging_case *test);

/* What our walker is told of it. */
void cases_state(const struct cases *cases, const struct paging_case *test,
                 struct paging_state *state);
unsigned cases_access(const struct paging_case *test);

/* May an access of this kind really happen there? Its byte is at @gpa, which is a multiple of 8. */
bool cases_allow_access(const struct cases *cases, uint64_t gpa, enum paging_kind kind);

/* May a walk read an entry there? */
bool cases_allow_entry(uint64_t gpa);

/* Is the word one that says its address? Otherwise it is an entry, or was written. */
bool cases_can_put_word(const struct cases *cases, uint64_t gpa);

#endif
