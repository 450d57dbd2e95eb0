/* model/edits.h - the property test of random edits, for a number of edits: a sample, or a million. */
#ifndef MODEL_EDITS_H
#define MODEL_EDITS_H

#include <stdint.h>

void edits_run(uint64_t seed, uint64_t edit_count);

#endif
