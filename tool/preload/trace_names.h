/* preload/trace_names.h - KVM's names for its numbers. */
#ifndef PRELOAD_TRACE_NAMES_H
#define PRELOAD_TRACE_NAMES_H

#include <stdint.h>

/* "KVM_RUN". Return: NULL there is none. */
const char *trace_request_name(unsigned request);
/* Without KVM_CAP_. Return: NULL there is none. */
const char *trace_capability_name(uint64_t number);
/* Without KVM_EXIT_. Return: NULL there is none. */
const char *trace_exit_name(uint32_t reason);

#endif
