/* guest/native.h - what the guest's workloads come to, by the host's own processor. */
#ifndef GUEST_NATIVE_H
#define GUEST_NATIVE_H

#include <stdint.h>

/* RESULT_SINGLE and RESULT_PAIR of @results. */
void native_results(uint64_t rounds, uint64_t *results);

#endif
