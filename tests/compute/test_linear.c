// SPDX-License-Identifier: Apache-2.0
// Products on the device against sums in double, for every element type; and that a row's result
// depends on that row alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/mem.h"
#include "compute/device.h"
#include "compute_util.h"

static struct device *open_device(size_t n_threads, enum carat_activations activations)
{
    struct carat_error err = {0};
    struct device *dev = NULL;
    const struct device_options options = {.n_threads = n_threads, .activations = activations};
    assert_int_equal(device_new_cpu(&dev, &options, &err), 0);
    const struct device_limits limits = {.rows_max = 40, .columns_max = 5120};
    assert_int_equal(device_reserve(dev, &limits, &err), 0);
    return dev;
}

// The int8 rule of docs/kernels.md: 32 values share scale = largest / 127; codes round to the
// nearest.
static void round_to_int8(float *x, size_t n)
{
    for (size_t b = 0; b < n; b += 32) {
        float top = 0;
        for (size_t i = 0; i < 32; i++) {
            top = fabsf(x[b + i]) > top ? fabsf(x[b + i]) : top;
        }
        const float scale = top / 127.0f;
        for (size_t i = 0; i < 32 && top > 0; i++) {
            x[b + i] = scale * nearbyintf(x[b + i] * (127.0f / top));
        }
    }
}

// Every addition of n terms in f32 errs by at most 2^-24 of the partial sum, which the sum of
// absolute values bounds. A type with minima adds two terms that may cancel, each at most as large
// as the row's largest weight times two.
static void check_row(const struct matrix *m, size_t row, const float *x, float found)
{
    const size_t n = m->w.columns;
    float *w = test_alloc(n * sizeof(float));
    matrix_row(w, m, row);
    float top = 0;
    for (size_t k = 0; k < n; k++) {
        top = fabsf(w[k]) > top ? fabsf(w[k]) : top;
    }
    double sum = 0;
    double size = 0;
    for (size_t k = 0; k < n; k++) {
        sum += (double)w[k] * (double)x[k];
        size += (fabs((double)w[k]) + 2 * (double)top) * fabs((double)x[k]);
    }
    const double tolerance = ((double)n + 8) * ldexp(1, -24) * size + 1e-30;
    if (!(fabs(sum - (double)found) <= tolerance)) {
        fail_msg("%s, %zu columns, row %zu: expected %g, found %g, tolerance %g",
                 dtypes[m->w.type].name, n, row, sum, (double)found, tolerance);
    }
    mem_free(w);
}

static void check_product(struct device *dev, enum dtype type, size_t n_rows, size_t outputs,
                          size_t columns, bool is_int8)
{
    struct rng rng = {.state = type * 1000 + outputs + columns + n_rows};
    struct matrix m = matrix_new(&rng, type, outputs, columns, outputs % 2);
    const size_t x_stride = columns + 3;
    const size_t y_stride = outputs + 5;
    float *x = test_alloc(n_rows * x_stride * sizeof(float));
    float *y = test_alloc(n_rows * y_stride * sizeof(float));
    rng_fill(&rng, x, n_rows * x_stride);
    for (size_t i = 0; i < n_rows * y_stride; i++) {
        y[i] = 77.0f;
    }
    const struct tensor tx = {x, n_rows, columns, x_stride};
    const struct tensor ty = {y, n_rows, outputs, y_stride};
    const struct weight *w = &m.w;
    op_linear(dev, &ty, tx, &w, 1);
    for (size_t r = 0; r < n_rows; r++) {
        float *row = x + r * x_stride;
        if (is_int8 && type != DTYPE_F32 && type != DTYPE_F16 && type != DTYPE_BF16) {
            round_to_int8(row, columns);
        }
        for (size_t o = 0; o < outputs; o++) {
            check_row(&m, o, row, y[r * y_stride + o]);
        }
        for (size_t o = outputs; o < y_stride; o++) {
            assert_true(y[r * y_stride + o] == 77.0f); // between the rows nothing is written
        }
    }
    mem_free(x);
    mem_free(y);
    matrix_release(&m);
}

static void check_all_types(enum carat_activations activations)
{
    struct device *dev = open_device(2, activations);
    const bool is_int8 = activations == CARAT_ACTIVATIONS_AUTO;
    for (size_t type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
        const size_t block = dtypes[type].block_values;
        const size_t columns[] = {block == 1 ? 5 : block, block == 1 ? 120 : 3 * block,
                                  block == 1 ? 527 : 2304};
        for (size_t i = 0; i < 3; i++) {
            check_product(dev, type, 1, 37, columns[i], is_int8);
            check_product(dev, type, 15, 16, columns[i], is_int8);
            check_product(dev, type, 3, 3, columns[i], is_int8);
        }
    }
    device_free(dev);
}

static void test_linear_float_matches_double(void **state)
{
    (void)state;
    check_all_types(CARAT_ACTIVATIONS_FLOAT);
}

static void test_linear_int8_matches_rounded_input(void **state)
{
    (void)state;
    check_all_types(CARAT_ACTIVATIONS_AUTO);
}

// One call with several weights of different types, on 1 and 3 threads, all rows together and one
// by one: the same bits.
static void check_invariance(enum carat_activations activations)
{
    enum { ROWS = 23, COLUMNS = 2560, N = 3 };
    static const enum dtype types[N] = {DTYPE_Q4_K, DTYPE_Q8_0, DTYPE_BF16};
    static const size_t outputs[N] = {96, 33, 50};
    struct rng rng = {.state = 5};
    struct matrix m[N];
    const struct weight *weights[N];
    struct tensor together[N];
    struct tensor alone[N];
    for (size_t i = 0; i < N; i++) {
        m[i] = matrix_new(&rng, types[i], outputs[i], COLUMNS, false);
        weights[i] = &m[i].w;
        together[i] = tensor_make(test_alloc(ROWS * outputs[i] * 4), ROWS, outputs[i]);
        alone[i] = tensor_make(test_alloc(ROWS * outputs[i] * 4), ROWS, outputs[i]);
    }
    struct tensor x = tensor_make(test_alloc(ROWS * COLUMNS * 4), ROWS, COLUMNS);
    rng_fill(&rng, x.data, ROWS * COLUMNS);

    struct device *one = open_device(1, activations);
    struct device *three = open_device(3, activations);
    op_linear(one, together, x, weights, N);
    for (size_t first = 0, step = 1; first < ROWS; first += step, step = 1 + step % 5) {
        const size_t n = ROWS - first < step ? ROWS - first : step;
        for (size_t i = 0; i < N; i++) {
            const struct tensor out = tensor_rows(alone[i], first, n);
            op_linear(three, &out, tensor_rows(x, first, n), &weights[i], 1);
        }
    }
    for (size_t i = 0; i < N; i++) {
        assert_memory_equal(together[i].data, alone[i].data, ROWS * outputs[i] * 4);
    }
    op_linear(three, alone, x, weights, N);
    for (size_t i = 0; i < N; i++) {
        assert_memory_equal(together[i].data, alone[i].data, ROWS * outputs[i] * 4);
        matrix_release(&m[i]);
        mem_free(together[i].data);
        mem_free(alone[i].data);
    }
    mem_free(x.data);
    device_free(one);
    device_free(three);
}

static void test_linear_row_depends_on_itself_alone(void **state)
{
    (void)state;
    check_invariance(CARAT_ACTIVATIONS_FLOAT);
    check_invariance(CARAT_ACTIVATIONS_AUTO);
}

// A value that is no number must not vanish in the int8 rounding.
static void test_linear_int8_shows_nan(void **state)
{
    (void)state;
    struct rng rng = {.state = 6};
    struct matrix m = matrix_new(&rng, DTYPE_Q4_0, 16, 64, false);
    const struct weight *w = &m.w;
    float x[64] = {0};
    float y[16];
    x[40] = NAN;
    struct device *dev = open_device(1, CARAT_ACTIVATIONS_AUTO);
    const struct tensor out = tensor_make(y, 1, 16);
    op_linear(dev, &out, tensor_make(x, 1, 64), &w, 1);
    assert_true(isnan(y[0]));
    x[40] = INFINITY;
    op_linear(dev, &out, tensor_make(x, 1, 64), &w, 1);
    assert_true(isnan(y[0]));
    x[40] = 1e-44f; // too small for a normal scale: counts as zero
    op_linear(dev, &out, tensor_make(x, 1, 64), &w, 1);
    assert_true(y[0] == 0.0f);
    device_free(dev);
    matrix_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_float_matches_double),
        cmocka_unit_test(test_linear_int8_matches_rounded_input),
        cmocka_unit_test(test_linear_row_depends_on_itself_alone),
        cmocka_unit_test(test_linear_int8_shows_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
