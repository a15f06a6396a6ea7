// SPDX-License-Identifier: Apache-2.0
#include "formats/dtype.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/safetensors.h"

// The list of GGUF: number, name, values and bytes of a block.
struct known_type {
    uint32_t id;
    const char *name;
    uint32_t values, size;
};
static const struct known_type known_types[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},
    {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},   {14, "Q6_K", 256, 210},
    {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},
    {25, "I16", 1, 2},        {26, "I32", 1, 4},        {27, "I64", 1, 8},
    {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},
    {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},    {41, "Q1_0", 128, 18},    {42, "Q2_0", 64, 18},
};
#define N_KNOWN (sizeof(known_types) / sizeof(known_types[0]))

static struct safetensors *rows;

static int open_rows(void **state)
{
    (void)state;
    struct carat_error err = {0};
    int rc = safetensors_open(&rows, TEST_DATA "/quant_rows.safetensors", &err);
    if (rc) {
        print_error("%s\n", err.text);
    }
    return rc;
}

static int close_rows(void **state)
{
    (void)state;
    safetensors_close(rows);
    return 0;
}

static void test_dtypes_have_the_numbers_and_sizes_of_gguf(void **state)
{
    (void)state;
    size_t n_listed = 0;
    for (size_t i = 0; i < N_KNOWN; i++) {
        enum dtype type = dtype_from_gguf(known_types[i].id);
        assert_int_not_equal(type, DTYPE_NONE);
        assert_string_equal(dtypes[type].name, known_types[i].name);
        assert_int_equal(dtypes[type].block_values, known_types[i].values);
        assert_int_equal(dtypes[type].block_size, known_types[i].size);
    }
    for (int i = 0; i < DTYPE_COUNT; i++) {
        assert_non_null(dtypes[i].name);
        assert_true(dtypes[i].block_size > 0);
        n_listed += dtypes[i].gguf_id >= 0;
        // A weight is what can be unpacked.
        assert_int_equal(dtypes[i].unpack != NULL, i < DTYPE_COUNT_COMPUTE);
    }
    assert_int_equal(n_listed, N_KNOWN);
    const uint32_t unknown[] = {4, 5, 9, 15, 31, 36, 43, UINT32_MAX};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_int_equal(dtype_from_gguf(unknown[i]), DTYPE_NONE);
    }
}

static void test_dtypes_have_the_names_of_safetensors(void **state)
{
    (void)state;
    static const char *const names[] = {"F64", "F32", "F16",     "BF16",    "I64",
                                        "I32", "I16", "I8",      "U64",     "U32",
                                        "U16", "U8",  "F8_E4M3", "F8_E5M2", "BOOL"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        enum dtype type = dtype_from_safetensors(names[i]);
        assert_int_not_equal(type, DTYPE_NONE);
        assert_string_equal(dtypes[type].safetensors, names[i]);
    }
    assert_int_equal(dtype_from_safetensors("Q4_0"), DTYPE_NONE);
    assert_int_equal(dtype_from_safetensors("f32"), DTYPE_NONE);
    assert_int_equal(dtype_from_safetensors(""), DTYPE_NONE);
}

static void test_row_size_counts_whole_blocks(void **state)
{
    (void)state;
    size_t size = 7;
    assert_true(dtype_row_size(&size, DTYPE_Q4_0, 64));
    assert_int_equal(size, 36);
    assert_true(dtype_row_size(&size, DTYPE_BF16, 3));
    assert_int_equal(size, 6);
    assert_true(dtype_row_size(&size, DTYPE_Q6_K, 0));
    assert_int_equal(size, 0);
    size = 7;
    assert_false(dtype_row_size(&size, DTYPE_Q4_0, 63));
    assert_false(dtype_row_size(&size, DTYPE_Q4_K, 128));
    assert_false(dtype_row_size(&size, DTYPE_F32, UINT64_MAX / 2));
    assert_false(dtype_row_size(&size, DTYPE_NONE, 32));
    assert_int_equal(size, 7);
}

static void test_every_half_survives_the_way_there_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h <= UINT16_MAX; h++) {
        float f = f16_to_f32((uint16_t)h);
        float b = bf16_to_f32((uint16_t)h);
        bool is_nan = (h & 0x7C00) == 0x7C00 && (h & 0x3FF) != 0;
        assert_int_equal(isnan(f) != 0, is_nan);
        if (!is_nan) {
            assert_int_equal(f16_from_f32(f), h);
        }
        if (!isnan(b)) {
            assert_int_equal(bf16_from_f32(b), h);
        }
    }
    // Landmarks of IEEE 754 binary16.
    assert_true(f16_to_f32(0x3C00) == 1.0f);
    assert_true(f16_to_f32(0xC000) == -2.0f);
    assert_true(f16_to_f32(0x7BFF) == 65504.0f);
    assert_true(f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(f16_to_f32(0x0400) == 0x1p-14f);
    assert_true(f16_to_f32(0xFC00) == -INFINITY);
    assert_true(bf16_to_f32(0x3F80) == 1.0f);
}

struct rounding {
    float value;
    uint16_t half;
};

static void test_rounding_to_half_is_to_nearest_even(void **state)
{
    (void)state;
    static const struct rounding cases[] = {
        {1.0f + 0x1p-11f, 0x3C00},            // a tie goes to the even one below
        {1.0f + 0x3p-11f, 0x3C02},            // a tie goes to the even one above
        {1.0f + 0x1p-11f + 0x1p-20f, 0x3C01}, // just above a tie
        {65519.0f, 0x7BFF},                   // the last that rounds down to the largest
        {65520.0f, 0x7C00},                   // a tie with infinity
        {1e9f, 0x7C00},
        {-65536.0f, 0xFC00},  //
        {0x1p-25f, 0x0000},   // half the smallest: the tie goes to zero
        {0x3p-25f, 0x0002},   //
        {0x1.8p-25f, 0x0001}, //
        {-0x1p-26f, 0x8000},
        {0x1.ff8p-15f, 0x03FF}, // the largest below the normal ones
        {0x1.fffp-15f, 0x0400}, // a tie with the smallest normal one
        {0.0f, 0x0000},
        {-0.0f, 0x8000}, //
        {INFINITY, 0x7C00},
        {-INFINITY, 0xFC00}, //
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(f16_from_f32(cases[i].value), cases[i].half);
    }
    assert_true(isnan(f16_to_f32(f16_from_f32(NAN))));
    assert_true(isnan(bf16_to_f32(bf16_from_f32(NAN))));
    assert_int_equal(bf16_from_f32(1.0f + 0x1p-8f), 0x3F80);
    assert_int_equal(bf16_from_f32(1.0f + 0x3p-8f), 0x3F82);
    assert_int_equal(bf16_from_f32(FLT_MAX), 0x7F80);
}

static const struct safetensors_tensor *row(enum dtype type, const char *what)
{
    char name[64];
    snprintf(name, sizeof(name), "%s.%s", dtypes[type].name, what);
    return safetensors_find(rows, name);
}

// Compares what a row unpacks to with the recorded values. The blocks are put at an odd address in
// a block of their exact size, so that a sanitizer sees reads past the end.
static void compare_row(enum dtype type, const struct safetensors_tensor *blocks,
                        const struct safetensors_tensor *values)
{
    size_t n = (size_t)values->values;
    uint8_t *odd = mem_new(blocks->size + 1, NULL);
    float *expected = mem_new_array(n, sizeof(*expected), NULL);
    float *out = mem_new_array(n + 1, sizeof(*out), NULL);
    assert_true(odd && expected && out);
    memcpy(odd + 1, blocks->data, blocks->size);
    memcpy(expected, values->data, values->size);
    out[n] = 12345;
    dtypes[type].unpack(out, odd + 1, n);
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmaxf(largest, fabsf(expected[i]));
    }
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(out[i] - expected[i]) <= 1e-6f * largest)) {
            fail_msg("%s: value %zu: expected %g, found %g", dtypes[type].name, i,
                     (double)expected[i], (double)out[i]);
        }
    }
    assert_true(out[n] == 12345);
    mem_free(out);
    mem_free(expected);
    mem_free(odd);
}

static void test_unpacking_gives_the_recorded_values(void **state)
{
    (void)state;
    size_t n_golden = 0;
    for (int i = 0; i < DTYPE_COUNT_COMPUTE; i++) {
        const struct safetensors_tensor *blocks = row((enum dtype)i, "golden.blocks");
        if (blocks) {
            compare_row((enum dtype)i, blocks, row((enum dtype)i, "golden.values"));
            n_golden++;
        }
    }
    assert_int_equal(n_golden, 12);
}

static void test_unpacking_agrees_with_the_reference_on_random_blocks(void **state)
{
    (void)state;
    for (int i = 0; i < DTYPE_COUNT_COMPUTE; i++) {
        if (i != DTYPE_F32) {
            const struct safetensors_tensor *blocks = row((enum dtype)i, "random.blocks");
            assert_non_null(blocks);
            compare_row((enum dtype)i, blocks, row((enum dtype)i, "random.values"));
        }
    }
}

static void test_packing_q8_0_gives_the_reference_s_blocks(void **state)
{
    (void)state;
    const struct safetensors_tensor *values = row(DTYPE_Q8_0, "pack.values");
    const struct safetensors_tensor *blocks = row(DTYPE_Q8_0, "pack.blocks");
    float x[512];
    uint8_t packed[512 / 32 * 34];
    assert_int_equal(values->size, sizeof(x));
    assert_int_equal(blocks->size, sizeof(packed));
    memcpy(x, values->data, sizeof(x));
    dtypes[DTYPE_Q8_0].pack(packed, x, NULL, 512);
    assert_memory_equal(packed, blocks->data, sizeof(packed));
}

static void test_packing_q8_0_of_odd_values(void **state)
{
    (void)state;
    float x[32] = {0}, back[32];
    uint8_t packed[34];
    x[3] = 0x1p-140f; // a scale too small for a half, and an inverse too large for a float
    dtypes[DTYPE_Q8_0].pack(packed, x, NULL, 32);
    dtypes[DTYPE_Q8_0].unpack(back, packed, 32);
    for (size_t i = 0; i < 32; i++) {
        assert_true(back[i] == 0);
    }
    const float not_numbers[] = {NAN, INFINITY, -INFINITY};
    for (size_t k = 0; k < 3; k++) {
        x[3] = not_numbers[k];
        x[4] = 5;
        dtypes[DTYPE_Q8_0].pack(packed, x, NULL, 32);
        dtypes[DTYPE_Q8_0].unpack(back, packed, 32);
        assert_true(isnan(back[0]));
        assert_true(isnan(back[31]));
    }
}

static void test_packing_keeps_what_the_type_can_hold(void **state)
{
    (void)state;
    // Whole numbers up to 127 are exact in these.
    const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};
    float x[256], back[256];
    for (int i = 0; i < 256; i++) {
        x[i] = (float)(i % 255 - 127);
    }
    x[31] = x[63] = x[95] = x[127] = x[159] = x[191] = x[223] = x[255] = 127;
    uint8_t packed[sizeof(x) + 1];
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        size_t size;
        assert_true(dtype_row_size(&size, types[i], 256));
        packed[size] = 0xA5;
        dtypes[types[i]].pack(packed, x, NULL, 256);
        assert_int_equal(packed[size], 0xA5);
        dtypes[types[i]].unpack(back, packed, 256);
        assert_memory_equal(back, x, sizeof(x));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtypes_have_the_numbers_and_sizes_of_gguf),
        cmocka_unit_test(test_dtypes_have_the_names_of_safetensors),
        cmocka_unit_test(test_row_size_counts_whole_blocks),
        cmocka_unit_test(test_every_half_survives_the_way_there_and_back),
        cmocka_unit_test(test_rounding_to_half_is_to_nearest_even),
        cmocka_unit_test(test_unpacking_gives_the_recorded_values),
        cmocka_unit_test(test_unpacking_agrees_with_the_reference_on_random_blocks),
        cmocka_unit_test(test_packing_q8_0_gives_the_reference_s_blocks),
        cmocka_unit_test(test_packing_q8_0_of_odd_values),
        cmocka_unit_test(test_packing_keeps_what_the_type_can_hold),
    };
    return cmocka_run_group_tests(tests, open_rows, close_rows);
}
