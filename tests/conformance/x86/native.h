/*
 * conformance/x86/native.h - the host's processor runs one instruction of a case.
 */
#ifndef CONFORMANCE_X86_NATIVE_H
#define CONFORMANCE_X86_NATIVE_H

#include "case.h"

/* Map the window, with the part of @data that is only read, and catch signals. Once a process. */
void native_init(const uint8_t data[CASE_DATA_BYTES]);
struct case_features native_features(void);
/* The window's data, which the instruction finds and changes. */
uint8_t *native_data(void);
void native_run(const struct test_case *test, struct case_outcome *outcome);

#endif
