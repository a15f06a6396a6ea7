// SPDX-License-Identifier: Apache-2.0
// f32 to the quantized types: how much is lost, against llama.cpp's recorded errors and against
// what the number of codes allows, and what becomes of values that no block can hold.
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/dtype.h"
#include "formats/safetensors.h"

enum {
    N = 2048,            // values of a row
    SIZE_MAX_ROW = 4 * N // bytes of its blocks, at most
};

// Codes on each side of a block's range, and whether they are spaced evenly.
struct packed_type {
    enum dtype type;
    int n_codes;
    bool has_min;
};
static const struct packed_type packed_types[] = {
    {DTYPE_Q4_0, 16, false}, {DTYPE_Q4_1, 16, true},    {DTYPE_Q5_0, 32, false},
    {DTYPE_Q5_1, 32, true},  {DTYPE_Q8_0, 255, false},  {DTYPE_Q2_K, 4, true},
    {DTYPE_Q3_K, 8, false},  {DTYPE_Q4_K, 16, true},    {DTYPE_Q5_K, 32, true},
    {DTYPE_Q6_K, 64, false}, {DTYPE_IQ4_NL, 16, false}, {DTYPE_IQ4_XS, 16, false},
};
#define N_TYPES (sizeof(packed_types) / sizeof(packed_types[0]))

static struct safetensors *recorded;

static int open_recorded(void **state)
{
    (void)state;
    struct carat_error err = {0};
    int rc = safetensors_open(&recorded, TEST_DATA "/quant/rows.safetensors", &err);
    if (rc) {
        print_error("%s\n", err.text);
    }
    return rc;
}

static int close_recorded(void **state)
{
    (void)state;
    safetensors_close(recorded);
    return 0;
}

static void read_floats(float *out, const struct safetensors_tensor *t, size_t first, size_t n)
{
    assert_non_null(t);
    assert_int_equal(t->type, DTYPE_F32);
    assert_true(first + n <= t->values);
    memcpy(out, t->data + first * sizeof(float), n * sizeof(float));
}

// Evenly spread in -1..1; the same on every machine.
static void fill(float *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u; // Numerical Recipes, section 7.1
        x[i] = (float)(seed >> 8) * 0x1p-23f - 1;
    }
}

// There and back. The bytes after the blocks must stay as they were.
static void round_trip(float *back, enum dtype type, const float *x, const float *importance,
                       size_t n)
{
    uint8_t blocks[SIZE_MAX_ROW + 1];
    size_t size;
    assert_true(dtype_row_size(&size, type, n));
    assert_true(size < sizeof(blocks));
    memset(blocks, 0xA5, sizeof(blocks));
    dtypes[type].pack(blocks, x, importance, n);
    assert_int_equal(blocks[size], 0xA5);
    dtypes[type].unpack(back, blocks, n);
}

static double squared_error(const float *a, const float *b, const float *weights, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)a[i] - (double)b[i];
        sum += (weights ? (double)weights[i] : 1) * difference * difference;
    }
    return sum;
}

// Q8_0 follows the same rule as llama.cpp and differs where a tie is rounded.
static double allowed(enum dtype type, float llama)
{
    return (type == DTYPE_Q8_0 ? 1.0001 : 1.0) * (double)llama;
}

static void test_errors_are_at_most_those_of_llama_cpp(void **state)
{
    (void)state;
    const struct safetensors_tensor *values = safetensors_find(recorded, "values");
    assert_non_null(values);
    assert_int_equal(values->dims[1], N);
    static float x[N], importance[N], back[N];
    read_floats(importance, safetensors_find(recorded, "importance"), 0, N);
    for (size_t t = 0; t < N_TYPES; t++) {
        enum dtype type = packed_types[t].type;
        char name[32] = "llama.";
        strncat(name, dtypes[type].name, 20);
        const struct safetensors_tensor *errors = safetensors_find(recorded, name);
        for (size_t row = 0; row < values->dims[0]; row++) {
            float llama[2];
            read_floats(llama, errors, 2 * row, 2);
            read_floats(x, values, row * N, N);
            round_trip(back, type, x, NULL, N);
            double plain = squared_error(x, back, NULL, N);
            round_trip(back, type, x, importance, N);
            double weighted = squared_error(x, back, importance, N);
            if (!(plain <= allowed(type, llama[0]) && weighted <= allowed(type, llama[1]))) {
                fail_msg("%s, row %zu: errors %g and, weighted, %g; llama.cpp has %g and %g",
                         dtypes[type].name, row, plain, weighted, (double)llama[0],
                         (double)llama[1]);
            }
        }
    }
}

// Evenly spread values between codes at a distance of `step` have a mean square error of step^2/12.
static void test_errors_are_what_the_number_of_codes_allows(void **state)
{
    (void)state;
    static float x[N], back[N];
    fill(x, N, 1);
    for (size_t t = 0; t < N_TYPES; t++) {
        const struct packed_type *p = &packed_types[t];
        double step = 2.0 / (p->n_codes - 1);
        bool is_iq4 = p->type == DTYPE_IQ4_NL || p->type == DTYPE_IQ4_XS;
        // The widest gap of IQ4 is 24 of 240.
        step = is_iq4 ? 2.0 * 24 / 240 : step;
        round_trip(back, p->type, x, NULL, N);
        double mean = squared_error(x, back, NULL, N) / N;
        if (!(mean <= step * step / 12 && mean >= step * step / 60)) {
            fail_msg("%s: mean square error %g, expected about %g", dtypes[p->type].name, mean,
                     step * step / 12);
        }
    }
}

static void test_packing_again_changes_little(void **state)
{
    (void)state;
    static float x[N], once[N], twice[N];
    fill(x, N, 2);
    for (size_t t = 0; t < N_TYPES; t++) {
        enum dtype type = packed_types[t].type;
        round_trip(once, type, x, NULL, N);
        round_trip(twice, type, once, NULL, N);
        double first = squared_error(x, once, NULL, N),
               second = squared_error(once, twice, NULL, N);
        if (!(second <= 0.2 * first)) {
            fail_msg("%s: error %g, then %g", dtypes[type].name, first, second);
        }
    }
}

static void test_a_minimum_takes_up_an_offset(void **state)
{
    (void)state;
    static float x[256], back[256];
    fill(x, 256, 3);
    for (size_t i = 0; i < 256; i++) {
        x[i] = 0.1f * x[i] - 1;
    }
    for (size_t t = 0; t < N_TYPES; t++) {
        const struct packed_type *p = &packed_types[t];
        double step = 0.2 / (p->n_codes - 1);
        round_trip(back, p->type, x, NULL, 256);
        double mean = squared_error(x, back, NULL, 256) / 256;
        // Of the K types the minimum itself is one of 64 or 16 numbers; half of such a step at
        // most.
        double unit = p->type == DTYPE_Q2_K ? 1.1 / 15 : 1.1 / 63;
        if (p->has_min && !(mean <= step * step / 12 + unit * unit / 12)) {
            fail_msg("%s: mean square error %g", dtypes[p->type].name, mean);
        }
    }
}

static void test_zeros_stay_zeros(void **state)
{
    (void)state;
    static float x[N], back[N], importance[N];
    fill(x, N, 4);
    memset(x + 256, 0, 512 * sizeof(float)); // whole blocks
    x[300] = -0.0f;
    for (size_t t = 0; t < N_TYPES; t++) {
        for (int weighted = 0; weighted < 2; weighted++) {
            round_trip(back, packed_types[t].type, x, weighted ? importance : NULL, N);
            for (size_t i = 256; i < 768; i++) {
                assert_true(back[i] == 0);
            }
            assert_true(fabsf(back[0] - x[0]) < 0.5f);
        }
    }
}

static void test_what_is_no_number_spoils_its_block_alone(void **state)
{
    (void)state;
    static float x[768], clean[768], back[768];
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t t = 0; t < N_TYPES; t++) {
        enum dtype type = packed_types[t].type;
        size_t block = dtypes[type].block_values;
        fill(x, 768, 5);
        round_trip(clean, type, x, NULL, 768);
        for (size_t k = 0; k < 3; k++) {
            size_t first = block * (300 / block);
            fill(x, 768, 5);
            x[300] = bad[k];
            round_trip(back, type, x, NULL, 768);
            for (size_t i = 0; i < 768; i++) {
                bool is_hit = i >= first && i < first + block;
                assert_true(is_hit ? isnan(back[i]) : back[i] == clean[i]);
            }
        }
    }
}

// Q8_0 is left out: its scale overflows to an infinity, by the rule that the cache shares.
static void test_values_too_large_for_any_scale_become_the_largest(void **state)
{
    (void)state;
    static float x[256], back[256];
    const float sizes[] = {1e6f, 1e10f, 1e20f, FLT_MAX};
    for (size_t t = 0; t < N_TYPES; t++) {
        enum dtype type = packed_types[t].type;
        for (size_t k = 0; k < 4 && type != DTYPE_Q8_0; k++) {
            fill(x, 256, 6);
            for (size_t i = 0; i < 256; i++) {
                x[i] = x[i] < 0 ? -sizes[k] : sizes[k];
            }
            round_trip(back, type, x, NULL, 256);
            for (size_t i = 0; i < 256; i++) {
                assert_true(isfinite(back[i]));
                assert_true(fabsf(back[i]) <= 1.1f * sizes[k]);
                assert_true(x[i] < 0 ? back[i] < 0 || packed_types[t].has_min : back[i] > 0);
                assert_true(fabsf(back[i]) >= 60000.0f || packed_types[t].has_min);
            }
        }
    }
}

static void test_small_values_use_the_smallest_halves(void **state)
{
    (void)state;
    static float x[256], back[256];
    for (size_t t = 0; t < N_TYPES; t++) {
        enum dtype type = packed_types[t].type;
        for (int exponent = -149; exponent <= -1; exponent++) {
            fill(x, 256, 7);
            double square = 0;
            for (size_t i = 0; i < 256; i++) {
                x[i] = ldexpf(x[i], exponent);
                square += (double)x[i] * (double)x[i];
            }
            round_trip(back, type, x, NULL, 256);
            double error = squared_error(x, back, NULL, 256);
            if (!(error <= square * 1.000001)) {
                fail_msg("%s, 2^%d: error %g of %g", dtypes[type].name, exponent, error, square);
            }
            // From here on a block of 256 has codes to spare, if its half is the smallest there is.
            if (dtypes[type].block_values == 256 && exponent >= -16) {
                assert_true(error <= 0.2 * square);
            }
        }
    }
}

static void test_importance_moves_the_error_elsewhere(void **state)
{
    (void)state;
    static float x[N], back[N], importance[N], only[N];
    fill(x, N, 8);
    for (size_t i = 0; i < N; i++) {
        importance[i] = i % 8 == 0 ? 100 : 1;
        only[i] = i % 8 == 0;
    }
    for (size_t t = 0; t < N_TYPES; t++) {
        enum dtype type = packed_types[t].type;
        round_trip(back, type, x, NULL, N);
        double before = squared_error(x, back, only, N);
        round_trip(back, type, x, importance, N);
        double after = squared_error(x, back, only, N);
        assert_true(after < 0.9 * before || type == DTYPE_Q8_0);
    }
}

static void test_importance_that_makes_no_sense_does_no_harm(void **state)
{
    (void)state;
    static float x[256], plain[256], back[256], zeros[256], odd[256], large[256];
    fill(x, 256, 9);
    for (size_t i = 0; i < 256; i++) {
        zeros[i] = 0;
        odd[i] = i % 5 == 0   ? 1.0f
                 : i % 5 == 1 ? NAN
                 : i % 5 == 2 ? INFINITY
                 : i % 5 == 3 ? -1.0f
                              : 0;
        large[i] = i % 2 ? FLT_MAX : FLT_TRUE_MIN;
    }
    for (size_t t = 0; t < N_TYPES; t++) {
        enum dtype type = packed_types[t].type;
        round_trip(plain, type, x, NULL, 256);
        round_trip(back, type, x, zeros, 256);
        assert_memory_equal(back, plain,
                            sizeof(back)); // nothing counts: everything counts the same
        double size = squared_error(x, zeros, NULL, 256);
        round_trip(back, type, x, odd, 256);
        assert_true(squared_error(x, back, NULL, 256) < 0.5 * size);
        round_trip(back, type, x, large, 256);
        assert_true(squared_error(x, back, NULL, 256) < 0.5 * size);
    }
}

static void test_a_block_does_not_depend_on_its_place(void **state)
{
    (void)state;
    static float x[N], importance[N], whole[N], part[N];
    fill(x, N, 10);
    fill(importance, N, 11);
    for (size_t i = 0; i < N; i++) {
        importance[i] = fabsf(importance[i]);
    }
    for (size_t t = 0; t < N_TYPES; t++) {
        enum dtype type = packed_types[t].type;
        size_t block = dtypes[type].block_values;
        for (int weighted = 0; weighted < 2; weighted++) {
            round_trip(whole, type, x, weighted ? importance : NULL, N);
            for (size_t i = 0; i < N; i += block) {
                round_trip(part, type, x + i, weighted ? importance + i : NULL, block);
                assert_memory_equal(part, whole + i, block * sizeof(float));
            }
        }
    }
}

static void test_packing_takes_no_memory(void **state)
{
    (void)state;
    static float x[N], back[N];
    fill(x, N, 12);
    for (size_t t = 0; t < N_TYPES; t++) {
        mem_fail_nth(1);
        round_trip(back, packed_types[t].type, x, x, N);
        void *next = mem_new(1, NULL);
        mem_fail_nth(0);
        assert_null(next); // so this was the first one
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_are_at_most_those_of_llama_cpp),
        cmocka_unit_test(test_errors_are_what_the_number_of_codes_allows),
        cmocka_unit_test(test_packing_again_changes_little),
        cmocka_unit_test(test_a_minimum_takes_up_an_offset),
        cmocka_unit_test(test_zeros_stay_zeros),
        cmocka_unit_test(test_what_is_no_number_spoils_its_block_alone),
        cmocka_unit_test(test_values_too_large_for_any_scale_become_the_largest),
        cmocka_unit_test(test_small_values_use_the_smallest_halves),
        cmocka_unit_test(test_importance_moves_the_error_elsewhere),
        cmocka_unit_test(test_importance_that_makes_no_sense_does_no_harm),
        cmocka_unit_test(test_a_block_does_not_depend_on_its_place),
        cmocka_unit_test(test_packing_takes_no_memory),
    };
    return cmocka_run_group_tests(tests, open_recorded, close_recorded);
}
