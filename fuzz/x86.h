/*
 * fuzz/x86.h - a fuzzer of the software vCPU: an input is a machine, its program, and what the host does between its
 * runs.
 *
 * The first byte is the mode that the vCPU begins in (tests/conformance/system/arena.h has its tables). Operations
 * follow, each a byte and what it takes; a run ends the input. Whatever the bytes are, they mean something.
 */
#ifndef FUZZ_X86_H
#define FUZZ_X86_H

#include <stddef.h>
#include <stdint.h>

enum x86_fuzz_op {
    FUZZ_CODE,    /* count, bytes: behind the code that is there */
    FUZZ_PUT,     /* page, offset (2), count, bytes: into memory, tables included */
    FUZZ_GPR,     /* number, value (8) */
    FUZZ_CONTROL, /* number, value (8): CR0, 2, 3, 4, 8, EFER, RFLAGS, RIP, DR0 to 7, XCR0, PKRU */
    FUZZ_SEGMENT, /* number, selector (2), attributes (2), limit (4), base (8) */
    FUZZ_TABLE,   /* number, limit (2), base (8): GDTR, IDTR */
    FUZZ_MSR,     /* number, value (8) */
    FUZZ_XMM,     /* number, value (8) in both halves; or MXCSR */
    FUZZ_EVENT,   /* kind, vector, error code (2) */
    FUZZ_ANSWERS, /* value (8): of MMIO and ports from here on */
    FUZZ_HOST,    /* what, argument: slots, logs, invalidation, tracking */
    FUZZ_RUN,     /* budget (2) */
    FUZZ_OPS,
};

/* Bytes of the operation at *data, 0 if it is cut off. */
size_t fuzz_x86_op_bytes(const uint8_t *data, size_t size);

/* Make operations out of a seed. Return: bytes, @max at most. */
size_t fuzz_x86_make_ops(uint8_t *data, size_t max, uint64_t seed, unsigned op_count);

#endif
