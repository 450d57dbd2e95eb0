/*
 * conformance/x86/values.h - random operands among which those are frequent that go wrong: bounds, single bits, NaNs.
 */
#ifndef CONFORMANCE_X86_VALUES_H
#define CONFORMANCE_X86_VALUES_H

#include "model/random.h"

uint64_t value_random(struct rnd *rnd);
/* Floating point of either precision, or integers. */
void value_random_16_bytes(struct rnd *rnd, void *bytes);

/* A number of x87's, of any kind: 10 bytes. */
void value_random_80_bits(struct rnd *rnd, uint8_t bytes[10]);

#endif
