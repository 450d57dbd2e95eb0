/* fuzz/libfuzzer.c - the targets under clang's libFuzzer (LLVM, FuzzerInterface.h). FUZZ_ONE is the target. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return FUZZ_ONE(data, size);
}
