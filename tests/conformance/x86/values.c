/* conformance/x86/values.c - random integers and floating-point numbers. */
#include "values.h"

#include "x86/x86.h"

#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

uint64_t value_random(struct rnd *rnd)
{
    static const uint64_t some[] = {
        0,          1,          2,          0x7f,      0x80,
        0xff,       0x7fff,     0x8000,     0xffff,    0x7fffffff,
        0x80000000, 0xffffffff, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN,
    };

    switch (rnd_below(rnd, 8)) {
    case 0:
        return some[rnd_below(rnd, COUNT_OF(some))];
    case 1:
        return some[rnd_below(rnd, COUNT_OF(some))] + rnd_below(rnd, 5) - 2;
    case 2:
        return rnd_below(rnd, 130);
    case 3:
        return UINT64_C(1) << rnd_below(rnd, 64);
    case 4:
        return (uint64_t)(int64_t)(int32_t)rnd_next(rnd);
    case 5:
        return rnd_next(rnd) >> rnd_below(rnd, 64);
    default:
        return rnd_next(rnd);
    }
}

static uint32_t random_float(struct rnd *rnd)
{
    static const uint32_t some[] = {
        0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
        0xffc00001, 0x7f800001, 0xffa00000, 1,          0x80000001, 0x007fffff, 0x00800000,
        0x7f7fffff, 0x4f000000, 0xcf000000, 0x4effffff, 0x3f000000, 0x3fc00000, 0x5f000000,
    };

    switch (rnd_below(rnd, 4)) {
    case 0:
        return some[rnd_below(rnd, COUNT_OF(some))];
    case 1: /* about 1: sums and products stay in range */
        return (0x3a000000u + (uint32_t)rnd_below(rnd, 0x0b000000)) ^
               (uint32_t)(rnd_next(rnd) & 0x80000000);
    default:
        return (uint32_t)rnd_next(rnd);
    }
}

static uint64_t random_double(struct rnd *rnd)
{
    static const uint64_t some[] = {
        0,
        UINT64_C(0x8000000000000000),
        UINT64_C(0x3ff0000000000000),
        UINT64_C(0xbff0000000000000),
        UINT64_C(0x7ff0000000000000),
        UINT64_C(0xfff0000000000000),
        UINT64_C(0x7ff8000000000000),
        UINT64_C(0xfff8000000000001),
        UINT64_C(0x7ff0000000000001),
        1,
        UINT64_C(0x800fffffffffffff),
        UINT64_C(0x0010000000000000),
        UINT64_C(0x7fefffffffffffff),
        UINT64_C(0x41dfffffffe00000), /* 2^31 - 0.5 */
        UINT64_C(0xc1e0000000000000),
        UINT64_C(0x43e0000000000000), /* 2^63 */
        UINT64_C(0x380fffffe0000000), /* about where single precision gets denormal */
        UINT64_C(0x47efffffe8000000), /* ... and ends */
        UINT64_C(0x3fe0000000000000),
        UINT64_C(0x3ff8000000000000),
    };

    switch (rnd_below(rnd, 4)) {
    case 0:
        return some[rnd_below(rnd, COUNT_OF(some))];
    case 1:
        return (UINT64_C(0x3f00000000000000) + rnd_below(rnd, UINT64_C(0x0180000000000000))) ^
               (rnd_next(rnd) & UINT64_C(0x8000000000000000));
    default:
        return rnd_next(rnd);
    }
}

void value_random_16_bytes(struct rnd *rnd, void *bytes)
{
    union x86_xmm value;

    switch (rnd_below(rnd, 3)) {
    case 0:
        for (unsigned i = 0; i < 4; i++) {
            value.u32[i] = random_float(rnd);
        }
        break;
    case 1:
        for (unsigned i = 0; i < 2; i++) {
            value.u64[i] = random_double(rnd);
        }
        break;
    default:
        for (unsigned i = 0; i < 2; i++) {
            value.u64[i] = value_random(rnd);
        }
        break;
    }
    memcpy(bytes, &value, sizeof(value));
}

void value_random_80_bits(struct rnd *rnd, uint8_t bytes[10])
{
    static const uint64_t fractions[] = {0, UINT64_C(1) << 63, UINT64_C(3) << 62,    UINT64_MAX,
                                         1, UINT64_MAX >> 1,   UINT64_C(1) << 63 | 1};
    static const uint16_t exponents[] = {0, 0, 1, 0x3fff, 0x3ffe, 0x403e, 0x401e, 0x7ffe, 0x7fff};
    uint64_t fraction = rnd_next(rnd);
    uint16_t exponent = (uint16_t)(0x3fff - 80 + rnd_below(rnd, 160));

    switch (rnd_below(rnd, 6)) {
    case 0:
        fraction = fractions[rnd_below(rnd, COUNT_OF(fractions))];
        exponent = exponents[rnd_below(rnd, COUNT_OF(exponents))];
        break;
    case 1: /* an integer */
        exponent = (uint16_t)(0x3fff + rnd_below(rnd, 40));
        fraction = (fraction | UINT64_C(1) << 63) >> 24 << 24;
        break;
    case 2:
        exponent = (uint16_t)(rnd_next(rnd) & 0x7fff);
        break;
    default:
        fraction |= UINT64_C(1) << 63;
        break;
    }
    exponent |= (uint16_t)(rnd_next(rnd) & 0x8000);
    memcpy(bytes, &fraction, 8);
    memcpy(bytes + 8, &exponent, 2);
}
