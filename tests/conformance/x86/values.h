/*
 * conformance/x86/values.h - random operands among which those are frequent that go wrong: bounds, single bits, NaNs.
 */
#ifndef CONFORMANCE_X86_VALUES_H
#define CONFORMANCE_X86_VALUES_H

#include "model/random.h"

uint64_t value_random(struct rnd *rnd);
/* Floating point of either precision, or integers. */
void value_random_16_bytes(struct rnd *rnd, void *bytes);

#endif
