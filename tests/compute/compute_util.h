// SPDX-License-Identifier: Apache-2.0
// What the tests of this room share: a repeatable source of numbers, weights of every type, errors.
#ifndef CARAT_TESTS_COMPUTE_UTIL_H
#define CARAT_TESTS_COMPUTE_UTIL_H

#include <stddef.h>
#include <stdint.h>

#include "compute/device.h"

struct rng {
    uint64_t state;
};
uint32_t rng_u32(struct rng *rng);
size_t rng_below(struct rng *rng, size_t n);
float rng_f32(struct rng *rng); // uniform in [-1, 1)
void rng_fill(struct rng *rng, float *x, size_t n);

// Rows of random blocks of this type with scales of ordinary size, at a byte offset from the
// allocation's start that is odd when is_odd. Ends the program without memory.
struct matrix {
    void *block;
    struct weight w;
};
struct matrix matrix_new(struct rng *rng, enum dtype type, size_t rows, size_t columns,
                         bool is_odd);
void matrix_release(struct matrix *m);
// One row of it as f32, by the table of types.
void matrix_row(float *out, const struct matrix *m, size_t row);

void *test_alloc(size_t size); // zeroed; ends the program without memory

#endif
