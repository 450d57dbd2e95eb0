/* fuzz/x86_mutate.c - under clang's libFuzzer: operations are exchanged as a whole, beside what it does by itself. */
#include "fuzz.h"
#include "x86.h"

#include "model/random.h"

#include <string.h>

/* libFuzzer's interface (LLVM, FuzzerInterface.h). */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* Where an operation begins. */
static size_t boundary(const uint8_t *data, size_t size, struct rnd *rnd)
{
    size_t at = 1;

    for (size_t left = rnd_below(rnd, 64); left > 0; left--) {
        size_t count = fuzz_x86_op_bytes(data + at, size - at);

        if (count == 0) {
            break;
        }
        at += count;
    }
    return at;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    struct rnd rnd = {seed};
    uint8_t made[256];
    size_t at, gone, count;

    if (size < 2) {
        return fuzz_x86_make(data, max_size, rnd_next(&rnd));
    }
    if (rnd_below(&rnd, 2) == 0) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    at = boundary(data, size, &rnd);
    gone = rnd_below(&rnd, 3) == 0 ? fuzz_x86_op_bytes(data + at, size - at) : 0;
    count = fuzz_x86_make_ops(made, sizeof(made), rnd_next(&rnd), (unsigned)rnd_below(&rnd, 4));
    if (size - gone + count > max_size) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    memmove(data + at + count, data + at + gone, size - at - gone);
    memcpy(data + at, made, count);
    return size - gone + count;
}
