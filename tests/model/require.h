/*
 * model/require.h - stop the test program where it finds something wrong, with the place that random
 * tests need for a second run. Not by longjmp: the library's locks may be held.
 */
#ifndef MODEL_REQUIRE_H
#define MODEL_REQUIRE_H

#include "inject/inject.h"

#include <stdio.h>
#include <stdlib.h>

/* Printed with every failure: the seed and the step that the test is at. */
extern char require_place[160];

#define REQUIRE(condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fflush(stdout);                                                                        \
            fprintf(stderr, "%s:%d: [%s] %s: ", __FILE__, __LINE__, require_place, #condition);    \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            inject_test_failed();                                                                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* For threads, which cannot longjmp as cmocka's assertions do. */
#define REQUIRE_TRUE(...) REQUIRE((__VA_ARGS__), "it is not")

#endif
