/* conformance/system/cases.h - random cases. */
#ifndef CONFORMANCE_SYSTEM_CASES_H
#define CONFORMANCE_SYSTEM_CASES_H

#include "maker.h"

/*
 * Make one. maker->rnd and maker->test are set. @plain: the arena without a case.
 * Return: false: it has more patches than fit.
 */
bool case_make(struct maker *maker, const uint8_t plain[SYSTEM_ARENA_BYTES]);

extern const char *const case_mode_names[MODE_COUNT];

#endif
