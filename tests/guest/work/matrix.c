/* guest/work/matrix.c - doubles and floats: matrices are multiplied, inverted, and a series is summed. */
#include "guest/work/work.h"

#include <string.h>

#ifdef GUEST_HAS_SSE

#define SIZE 36

typedef double matrix[SIZE][SIZE];

static void multiply(matrix product, matrix a, matrix b)
{
    for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < SIZE; j++) {
            double sum = 0;

            for (int k = 0; k < SIZE; k++) {
                sum += a[i][k] * b[k][j];
            }
            product[i][j] = sum;
        }
    }
}

static void swap_rows(matrix a, matrix b, int i, int j)
{
    for (int k = 0; k < SIZE; k++) {
        double left = a[i][k], right = b[i][k];

        a[i][k] = a[j][k];
        b[i][k] = b[j][k];
        a[j][k] = left;
        b[j][k] = right;
    }
}

/* Gauss and Jordan; @a becomes the unit matrix. */
static void invert(matrix a, matrix inverse)
{
    memset(inverse, 0, sizeof(matrix));
    for (int i = 0; i < SIZE; i++) {
        inverse[i][i] = 1;
    }
    for (int i = 0; i < SIZE; i++) {
        int pivot = i;
        double factor;

        for (int j = i + 1; j < SIZE; j++) {
            pivot = __builtin_fabs(a[j][i]) > __builtin_fabs(a[pivot][i]) ? j : pivot;
        }
        swap_rows(a, inverse, i, pivot);
        factor = 1 / a[i][i];
        for (int k = 0; k < SIZE; k++) {
            a[i][k] *= factor;
            inverse[i][k] *= factor;
        }
        for (int j = 0; j < SIZE; j++) {
            factor = j != i ? a[j][i] : 0;
            for (int k = 0; k < SIZE; k++) {
                a[j][k] -= factor * a[i][k];
                inverse[j][k] -= factor * inverse[i][k];
            }
        }
    }
}

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static uint64_t sum_matrix(uint64_t sum, matrix a)
{
    for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < SIZE; j++) {
            sum = fold(sum, bits_of(a[i][j]));
        }
    }
    return sum;
}

/* Conversions, square roots, floats. */
static uint64_t series(uint64_t *state)
{
    double total = 0;
    float product = 1;
    int64_t whole = 0;

    for (int i = 1; i < 500; i++) {
        int32_t number = (int32_t)random_next(state);
        double root;

        __asm__("sqrtsd %1, %0" : "=x"(root) : "x"((double)(uint32_t)number));
        total += root / i;
        product = product * (1 + (float)number / 4e9f);
        product = product < 1e-10f || product > 1e10f ? 1 : product;
        whole += (int64_t)(root * 1e3) + (int32_t)product;
    }
    return fold(bits_of(total + (double)product), (uint64_t)whole);
}

uint64_t work_matrix(uint64_t rounds)
{
    matrix *m = heap_new(4 * sizeof(matrix));
    uint64_t state = 12345, sum = 0;

    while (rounds-- > 0) {
        for (int i = 0; i < SIZE; i++) {
            for (int j = 0; j < SIZE; j++) {
                m[0][i][j] = (double)(int64_t)random_next(&state) / 1e17;
            }
        }
        memcpy(m[1], m[0], sizeof(matrix));
        invert(m[1], m[2]);
        multiply(m[3], m[0], m[2]);
        for (int i = 0; i < SIZE; i++) {
            double error = m[3][i][i] - 1;

            work_require(error < 1e-6 && error > -1e-6, "the inverse is none");
        }
        sum = sum_matrix(sum_matrix(sum, m[2]), m[3]);
        sum = fold(sum, series(&state));
    }
    heap_free(m);
    return sum;
}

#endif
