/* guest/expect.h - what the probes of the guest's kernel have to come to. */
#ifndef GUEST_EXPECT_H
#define GUEST_EXPECT_H

#include <stdint.h>

/* RESULT_PROBE of @results. */
void expect_probes(uint64_t *results);

#endif
