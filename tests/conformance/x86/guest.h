/*
 * conformance/x86/guest.h - the interpreter runs one instruction of a case, in ring 3 of a small guest whose linear
 * addresses are the host's.
 */
#ifndef CONFORMANCE_X86_GUEST_H
#define CONFORMANCE_X86_GUEST_H

#include "case.h"

#include "unit/x86_rig.h"

struct guest {
    struct x86_rig rig;
    struct x86_segment user_segments[X86_SEGMENTS];
};

void guest_init(struct guest *guest, const uint8_t data[CASE_DATA_BYTES]);
void guest_free(struct guest *guest);
uint8_t *guest_data(const struct guest *guest);
void guest_run(struct guest *guest, const struct test_case *test, struct case_outcome *outcome);

#endif
