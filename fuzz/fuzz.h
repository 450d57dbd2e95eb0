/*
 * fuzz/fuzz.h - the fuzzers' targets. Each runs one input, whatever its bytes are: they all mean something. What is wrong
 * aborts, or the sanitizers speak.
 *
 * A target that is driven by random numbers has them out of the input, byte by byte (fuzz_begin()), and ends with it: so
 * the models of tests/model that work at random work here as they are.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Return: 0. */
int fuzz_formats(const uint8_t *data, size_t size);
int fuzz_map(const uint8_t *data, size_t size);
int fuzz_mmio(const uint8_t *data, size_t size);
int fuzz_paging(const uint8_t *data, size_t size);
int fuzz_soft_ioctl(const uint8_t *data, size_t size);
int fuzz_x86(const uint8_t *data, size_t size);

/* All random numbers are the input's bytes from here on, and again those of their seeds. One thread uses them. */
void fuzz_begin(const uint8_t *data, size_t size);
void fuzz_end(void);

/* Make an input out of a seed. Return: bytes, @max at most. */
size_t fuzz_x86_make(uint8_t *data, size_t max, uint64_t seed);
/* For targets to which all inputs are alike: random bytes, often small numbers. */
size_t fuzz_make(uint8_t *data, size_t max, uint64_t seed);

#endif
