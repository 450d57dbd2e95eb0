/* conformance/system/show.h - what a person needs to see of a case that differs. */
#ifndef CONFORMANCE_SYSTEM_SHOW_H
#define CONFORMANCE_SYSTEM_SHOW_H

#include "image.h"

void show_case(const uint8_t plain[SYSTEM_ARENA_BYTES], const struct system_case *test,
               const struct system_answer *expected, const struct system_answer *got);

#endif
