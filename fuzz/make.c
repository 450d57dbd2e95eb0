/* fuzz/make.c - inputs of no form. */
#include "fuzz.h"

#include "model/random.h"

size_t fuzz_make(uint8_t *data, size_t max, uint64_t seed)
{
    struct rnd rnd = {seed};
    size_t size = rnd_below(&rnd, rnd_one_in(&rnd, 4) ? max + 1 : max / 8 + 1);
    unsigned wild = (unsigned)rnd_below(&rnd, 5); /* of four bytes, how many are any number */

    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(rnd_below(&rnd, 4) < wild ? rnd_next(&rnd) : rnd_below(&rnd, 16));
    }
    return size;
}
