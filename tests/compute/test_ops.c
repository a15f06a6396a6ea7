// SPDX-License-Identifier: Apache-2.0
// The operations that go element by element, against the formulas of the model in double.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/mem.h"
#include "compute/device.h"
#include "compute_util.h"

static int open_device(void **state)
{
    struct device *dev = NULL;
    const struct device_options options = {.n_threads = 2};
    assert_int_equal(device_new_cpu(&dev, &options, NULL), 0);
    *state = dev;
    return 0;
}

static int close_device(void **state)
{
    device_free(*state);
    return 0;
}

static void assert_close(double expected, float found, double tolerance, size_t at)
{
    if (!(fabs(expected - (double)found) <= tolerance)) {
        fail_msg("element %zu: expected %.9g, found %.9g, tolerance %g", at, expected,
                 (double)found, tolerance);
    }
}

static struct tensor random_tensor(struct rng *rng, size_t rows, size_t columns, float size)
{
    struct tensor t = {test_alloc(rows * (columns + 3) * 4), rows, columns, columns + 3};
    for (size_t i = 0; i < rows * t.stride; i++) {
        t.data[i] = size * rng_f32(rng);
    }
    return t;
}

static float element(struct tensor t, size_t row, size_t column)
{
    return t.data[row * t.stride + column];
}

static void check_norm(struct device *dev, size_t rows, size_t columns, size_t group, bool has_w,
                       float size)
{
    struct rng rng = {.state = columns + group};
    struct tensor x = random_tensor(&rng, rows, columns, size);
    struct tensor out = random_tensor(&rng, rows, columns, 1);
    float *w = test_alloc(group * 4);
    rng_fill(&rng, w, group);
    const float eps = 1e-6f;
    op_norm(dev, out, x, has_w ? w : NULL, group, eps);
    for (size_t r = 0; r < rows; r++) {
        for (size_t g = 0; g < columns; g += group) {
            double sum = 0;
            for (size_t i = 0; i < group; i++) {
                sum += pow((double)element(x, r, g + i), 2);
            }
            const double factor = 1 / sqrt(sum / (double)group + (double)eps);
            for (size_t i = 0; i < group; i++) {
                const double y = (double)element(x, r, g + i) * factor * (has_w ? (double)w[i] : 1);
                // Half of the error of a sum of group / 16 + 4 terms, and five roundings.
                const double relative = ((double)group / 32 + 8) * ldexp(1, -24);
                assert_close(y, element(out, r, g + i), fabs(y) * relative + 1e-30, g + i);
            }
        }
    }
    op_norm(dev, x, x, has_w ? w : NULL, group, eps); // in place
    for (size_t r = 0; r < rows; r++) {
        assert_memory_equal(x.data + r * x.stride, out.data + r * out.stride, columns * 4);
    }
    mem_free(x.data);
    mem_free(out.data);
    mem_free(w);
}

static void test_norm_matches_formula(void **state)
{
    check_norm(*state, 3, 48, 48, true, 1);
    check_norm(*state, 2, 5, 5, true, 100);
    check_norm(*state, 40, 3840, 3840, true, 0.001f);
    check_norm(*state, 7, 8 * 24, 24, true, 1);
    check_norm(*state, 1, 16 * 256, 256, false, 5);
}

// Means far from zero, too: the deviations must not be taken from rounded squares.
static void check_layer_norm(struct device *dev, size_t rows, size_t columns, float size,
                             float offset)
{
    struct rng rng = {.state = columns + rows};
    struct tensor x = random_tensor(&rng, rows, columns, size);
    struct tensor out = random_tensor(&rng, rows, columns, 1);
    float *w = test_alloc(columns * 4);
    float *b = test_alloc(columns * 4);
    rng_fill(&rng, w, columns);
    rng_fill(&rng, b, columns);
    const float eps = 1e-5f;
    for (size_t i = 0; i < rows * x.stride; i++) {
        x.data[i] += offset;
    }
    op_layer_norm(dev, out, x, w, b, eps);
    for (size_t r = 0; r < rows; r++) {
        double mean = 0;
        double variance = 0;
        double largest = 0;
        for (size_t i = 0; i < columns; i++) {
            mean += (double)element(x, r, i) / (double)columns;
            largest = fmax(largest, fabs((double)element(x, r, i)));
        }
        for (size_t i = 0; i < columns; i++) {
            variance += pow((double)element(x, r, i) - mean, 2) / (double)columns;
        }
        const double factor = 1 / sqrt(variance + (double)eps);
        // The mean errs by a sum of columns / 16 + 4 terms, the factor as that of a norm.
        const double terms = ((double)columns / 16 + 16) * ldexp(1, -24);
        for (size_t i = 0; i < columns; i++) {
            const double y = ((double)element(x, r, i) - mean) * factor;
            const double tolerance = (largest * factor + fabs(y)) * fabs((double)w[i]) * terms;
            assert_close(y * (double)w[i] + (double)b[i], element(out, r, i), tolerance + 1e-6, i);
        }
    }
    op_layer_norm(dev, x, x, w, b, eps); // in place
    for (size_t r = 0; r < rows; r++) {
        assert_memory_equal(x.data + r * x.stride, out.data + r * out.stride, columns * 4);
    }
    mem_free(x.data);
    mem_free(out.data);
    mem_free(w);
    mem_free(b);
}

static void test_layer_norm_matches_formula(void **state)
{
    check_layer_norm(*state, 1, 1, 1, 0);
    check_layer_norm(*state, 2, 5, 100, 1);
    check_layer_norm(*state, 3, 48, 1, 0);
    check_layer_norm(*state, 40, 3840, 0.001f, 0);
    check_layer_norm(*state, 9, 6912, 0.5f, 0.5f);
    check_layer_norm(*state, 7, 1111, 0.01f, 30);
    check_layer_norm(*state, 3, 67, 0, 0.5f); // a picture of one colour
}

static void test_add_row_adds_it_to_every_row(void **state)
{
    static const size_t columns[] = {1, 15, 16, 77, 5000};
    for (size_t k = 0; k < 5; k++) {
        struct rng rng = {.state = 9 + k};
        struct tensor x = random_tensor(&rng, 6, columns[k], 1);
        struct tensor before = random_tensor(&rng, 6, columns[k], 1);
        memcpy(before.data, x.data, x.rows * x.stride * 4);
        float *row = test_alloc(columns[k] * 4);
        rng_fill(&rng, row, columns[k]);
        op_add_row(*state, x, row);
        for (size_t r = 0; r < x.rows; r++) {
            for (size_t i = 0; i < x.stride; i++) {
                const float old = before.data[r * x.stride + i];
                const float expected = i < columns[k] ? old + row[i] : old; // gaps stay
                assert_true(x.data[r * x.stride + i] == expected);
            }
        }
        mem_free(x.data);
        mem_free(before.data);
        mem_free(row);
    }
}

// x * 0.5 (1 + tanh(y)), written so that it does not cancel in double either.
static double gelu(double x)
{
    const double y = sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x);
    return x / (1 + exp(-2 * y));
}

static void test_geglu_matches_formula(void **state)
{
    struct rng rng = {.state = 2};
    struct tensor gate = random_tensor(&rng, 9, 2051, 8);
    struct tensor up = random_tensor(&rng, 9, 2051, 2);
    struct tensor out = random_tensor(&rng, 9, 2051, 2);
    gate.data[0] = 0.0f;
    gate.data[1] = 1e-20f;
    gate.data[2] = -60.0f;
    gate.data[3] = 1e20f;
    gate.data[4] = -1e20f;
    op_geglu(*state, out, gate, up);
    for (size_t r = 0; r < out.rows; r++) {
        for (size_t c = 0; c < out.columns; c++) {
            const double x = (double)element(gate, r, c);
            const double y = gelu(x) * (double)element(up, r, c);
            // exp's argument is 1.6 |x| + 0.07 |x|^3; each of its few roundings counts in the
            // result as often as it is large. Far below, gelu only has to stay small.
            const double relative = (8 + 8 * fabs(x) + pow(fabs(x), 3) / 4) * ldexp(1, -24);
            assert_close(y, element(out, r, c), fabs(y) * relative + 1e-18, c);
        }
    }
    op_geglu(*state, gate, gate, up);
    assert_memory_equal(gate.data, out.data, gate.columns * 4);
    mem_free(gate.data);
    mem_free(up.data);
    mem_free(out.data);
}

static void test_softcap_matches_formula(void **state)
{
    struct rng rng = {.state = 3};
    struct tensor x = random_tensor(&rng, 1, 40001, 90);
    for (size_t i = 0; i < 1000; i++) {
        x.data[i] *= 1e-3f;
    }
    float *before = test_alloc(x.columns * 4);
    memcpy(before, x.data, x.columns * 4);
    op_softcap(*state, x, 30.0f);
    for (size_t i = 0; i < x.columns; i++) {
        const double y = 30 * tanh((double)before[i] / 30);
        assert_close(y, x.data[i], fabs(y) * 4e-7, i);
        assert_true(fabsf(x.data[i]) <= 30.0f);
    }
    mem_free(before);
    mem_free(x.data);
}

static void test_add_scales_the_sum(void **state)
{
    struct rng rng = {.state = 4};
    struct tensor a = random_tensor(&rng, 5, 77, 1);
    struct tensor b = random_tensor(&rng, 5, 77, 1);
    struct tensor out = random_tensor(&rng, 5, 77, 1);
    op_add(*state, out, a, b, 0.75f);
    for (size_t i = 0; i < 77; i++) {
        assert_true(element(out, 4, i) == (element(a, 4, i) + element(b, 4, i)) * 0.75f);
    }
    op_add(*state, a, a, b, 0.75f);
    assert_memory_equal(a.data, out.data, 77 * 4);
    mem_free(a.data);
    mem_free(b.data);
    mem_free(out.data);
}

static void test_rope_turns_the_first_pairs_alone(void **state)
{
    enum { HEAD = 24, PAIRS = 5, ROWS = 4, HEADS = 3, FIRST = 100000 };
    struct rng rng = {.state = 5};
    float inv_freq[PAIRS];
    for (size_t i = 0; i < PAIRS; i++) {
        inv_freq[i] = powf(1e6f, -2.0f * (float)i / HEAD);
    }
    float table[ROWS * PAIRS * 2];
    op_rope_table(*state, table, inv_freq, PAIRS, FIRST, ROWS);
    struct tensor x = random_tensor(&rng, ROWS, HEADS * HEAD, 1);
    float *old = test_alloc(x.rows * x.stride * 4);
    memcpy(old, x.data, x.rows * x.stride * 4);
    op_rope(*state, x, HEAD, table, PAIRS);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < HEADS * HEAD; i++) {
            const size_t e = i % HEAD;
            const size_t pair = e % (HEAD / 2);
            const float *row = old + r * x.stride + i - e;
            double expected = (double)row[e];
            if (pair < PAIRS) {
                const float angle = (float)(FIRST + r) * inv_freq[pair]; // in f32, as is the model
                const double c = cos((double)angle);
                const double s = sin((double)angle);
                const double a = (double)row[pair];
                const double b = (double)row[pair + HEAD / 2];
                expected = e < HEAD / 2 ? a * c - b * s : b * c + a * s;
            }
            assert_close(expected, element(x, r, i), pair < PAIRS ? 4 * ldexp(1, -24) : 0, i);
        }
    }
    mem_free(old);
    mem_free(x.data);
}

static void test_embed_scales_rows(void **state)
{
    struct rng rng = {.state = 6};
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_Q6_K, DTYPE_Q8_0};
    for (size_t t = 0; t < 4; t++) {
        struct matrix m = matrix_new(&rng, types[t], 9, 512, true);
        struct tensor out = random_tensor(&rng, 4, 512, 1);
        const int32_t tokens[4] = {8, 0, 3, 3};
        float row[512];
        op_embed(*state, out, &m.w, tokens, 62.0f);
        for (size_t r = 0; r < 4; r++) {
            matrix_row(row, &m, (size_t)tokens[r]);
            for (size_t i = 0; i < 512; i++) {
                assert_true(element(out, r, i) == row[i] * 62.0f);
            }
        }
        mem_free(out.data);
        matrix_release(&m);
    }
}

static void test_tensor_rows_is_a_view(void **state)
{
    (void)state;
    float data[12];
    const struct tensor t = tensor_rows(tensor_make(data, 4, 3), 1, 2);
    assert_ptr_equal(t.data, data + 3);
    assert_int_equal(t.rows, 2);
    assert_int_equal(t.stride, 3);
}

static void test_device_new_survives_lack_of_memory(void **state)
{
    (void)state;
    const struct device_options options = {.n_threads = 2};
    const struct device_limits limits = {10, 320, 64, 4, 4096};
    const size_t before = mem_bytes_now();
    for (size_t nth = 1; nth < 100; nth++) {
        struct carat_error err = {0};
        struct device *dev = NULL;
        mem_fail_nth(nth);
        int rc = device_new_cpu(&dev, &options, &err);
        if (!rc) {
            rc = device_reserve(dev, &limits, &err);
        }
        mem_fail_nth(0);
        device_free(dev);
        assert_int_equal(mem_bytes_now(), before);
        if (!rc) {
            assert_true(nth > 5);
            return;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
    }
    fail_msg("it never succeeded");
}

static void test_device_keeps_within_its_scratch_size(void **state)
{
    (void)state;
    const struct device_options options = {.n_threads = 3};
    const struct device_limits limits = {512, 15360, 512, 16, 32768};
    struct device *dev = NULL;
    assert_int_equal(device_new_cpu(&dev, &options, NULL), 0);
    const size_t before = mem_bytes_now();
    assert_int_equal(device_reserve(dev, &limits, NULL), 0);
    const size_t taken = mem_bytes_now() - before;
    assert_true(taken <= device_scratch_size(&limits, 3));
    assert_int_equal(device_reserve(dev, &limits, NULL), 0);
    assert_int_equal(mem_bytes_now() - before, taken);
    device_free(dev);
    const struct device_limits absurd = {SIZE_MAX / 2, SIZE_MAX / 2, 512, 16, 32768};
    assert_true(device_scratch_size(&absurd, 3) == SIZE_MAX);
}

static void test_device_refuses_a_level_that_is_not_there(void **state)
{
    (void)state;
    const char *set = getenv("CARAT_CPU");
    char *before = set ? mem_strdup(set, NULL) : NULL;
    const struct device_options options = {.n_threads = 1};
    struct carat_error err = {0};
    struct device *dev = NULL;
    setenv("CARAT_CPU", "abacus", 1);
    assert_int_equal(device_new_cpu(&dev, &options, &err), CARAT_E_UNSUPPORTED);
    assert_null(dev);
    assert_non_null(strstr(err.text, "abacus"));
    assert_non_null(strstr(err.text, "generic")); // what there is
    setenv("CARAT_CPU", "generic", 1);
    assert_int_equal(device_new_cpu(&dev, &options, &err), 0);
    assert_string_equal(device_level(dev), "generic");
    device_free(dev);
    if (before) {
        setenv("CARAT_CPU", before, 1);
    } else {
        unsetenv("CARAT_CPU");
    }
    mem_free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm_matches_formula),
        cmocka_unit_test(test_layer_norm_matches_formula),
        cmocka_unit_test(test_add_row_adds_it_to_every_row),
        cmocka_unit_test(test_geglu_matches_formula),
        cmocka_unit_test(test_softcap_matches_formula),
        cmocka_unit_test(test_add_scales_the_sum),
        cmocka_unit_test(test_rope_turns_the_first_pairs_alone),
        cmocka_unit_test(test_embed_scales_rows),
        cmocka_unit_test(test_tensor_rows_is_a_view),
        cmocka_unit_test(test_device_new_survives_lack_of_memory),
        cmocka_unit_test(test_device_refuses_a_level_that_is_not_there),
        cmocka_unit_test(test_device_keeps_within_its_scratch_size),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
