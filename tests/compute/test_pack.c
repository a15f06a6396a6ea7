// SPDX-License-Identifier: Apache-2.0
// Packed strips: where each byte of a matrix stands in the device's copy (kern.h tells the order),
// and that every row can be read back from it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "compute/cpu/kern.h"
#include "compute_util.h"

// The byte at offset `at` of block b of row `lane`, by the rule: loose bytes of all rows first,
// then each word of all rows.
static uint8_t packed_byte(const uint8_t *strip, size_t lane, size_t b, size_t at, size_t size,
                           size_t loose_at, size_t loose_size)
{
    const uint8_t *block = strip + b * size * 16;
    if (at >= loose_at && at < loose_at + loose_size) {
        return block[lane * loose_size + at - loose_at];
    }
    const size_t rest = at < loose_at ? at : at - loose_size;
    return block[16 * loose_size + rest / 4 * 64 + lane * 4 + rest % 4];
}

static void check_order(enum dtype type, size_t columns, size_t size, size_t loose_at,
                        size_t loose_size)
{
    struct rng rng = {.state = type};
    struct matrix m = matrix_new(&rng, type, 16, columns, true);
    assert_int_equal(m.w.strip_size, 16 * m.w.row_size);
    for (size_t lane = 0; lane < 16; lane++) {
        for (size_t i = 0; i < m.w.row_size; i++) {
            const uint8_t want = m.w.data[lane * m.w.row_size + i];
            const uint8_t found =
                packed_byte(m.w.packed, lane, i / size, i % size, size, loose_at, loose_size);
            assert_int_equal(found, want);
        }
    }
    matrix_release(&m);
}

static void test_order_is_the_documented_one(void **state)
{
    (void)state;
    check_order(DTYPE_Q4_0, 96, 18, 0, 2);
    check_order(DTYPE_Q8_0, 64, 34, 0, 2);
    check_order(DTYPE_MXFP4, 96, 17, 0, 1);
    check_order(DTYPE_Q6_K, 512, 210, 208, 2);
    check_order(DTYPE_Q3_K, 512, 110, 108, 2);
    check_order(DTYPE_Q4_K, 512, 144, 144, 0);
    check_order(DTYPE_BF16, 24, 4, 4, 0);
    check_order(DTYPE_F32, 5, 4, 4, 0);
}

// Rows and columns of every kind of number: short last strips, half-filled words.
static void test_rows_come_back(void **state)
{
    (void)state;
    for (size_t type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
        const size_t block = dtypes[type].block_values;
        const size_t columns = block == 1 ? 37 : 3 * block;
        struct rng rng = {.state = type};
        struct matrix m = matrix_new(&rng, type, 19, columns, false);
        uint8_t *row = test_alloc(m.w.row_size);
        for (size_t r = 0; r < 19; r++) {
            kern_packed_row(row, m.w.packed + r / 16 * m.w.strip_size, r % 16, 0, columns, type);
            assert_memory_equal(row, m.w.data + r * m.w.row_size, m.w.row_size);
        }
        // The lanes past the last row repeat it.
        kern_packed_row(row, m.w.packed + m.w.strip_size, 15, 0, columns, type);
        assert_memory_equal(row, m.w.data + 18 * m.w.row_size, m.w.row_size);
        // From the middle on.
        const size_t first = block == 1 ? 10 : block;
        const size_t before = first / block * dtypes[type].block_size;
        kern_packed_row(row, m.w.packed, 7, first, columns - first, type);
        assert_memory_equal(row, m.w.data + 7 * m.w.row_size + before, m.w.row_size - before);
        mem_free(row);
        matrix_release(&m);
    }
}

static void test_size_does_not_overflow(void **state)
{
    (void)state;
    size_t size = 1;
    assert_true(kern_strip_size(&size, DTYPE_F16, 3));
    assert_int_equal(size, 16 * 8);
    assert_false(kern_strip_size(&size, DTYPE_F32, SIZE_MAX / 8));
    const struct weight huge = {.type = DTYPE_F32, .rows = SIZE_MAX / 2, .columns = 1 << 20};
    assert_true(device_weight_size(&huge) == UINT64_MAX);
}

// The device's copy is filled in pieces, and read by rows.
static void test_device_fills_in_pieces(void **state)
{
    (void)state;
    struct rng rng = {.state = 9};
    struct matrix m = matrix_new(&rng, DTYPE_Q5_0, 70, 96, true);
    struct device *dev = NULL;
    const struct device_options options = {.n_threads = 3};
    assert_int_equal(device_new_cpu(&dev, &options, NULL), 0);
    struct weight w = m.w;
    w.packed = NULL;
    assert_int_equal(device_new_weight(dev, &w, NULL), 0);
    assert_int_equal(device_weight_size(&w), 5 * w.strip_size);
    device_fill_weight(dev, &w, 32, 38);
    device_fill_weight(dev, &w, 0, 32);
    assert_memory_equal(w.packed, m.w.packed, 5 * w.strip_size);
    float row[96];
    float want[96];
    const int32_t token = 69;
    op_embed(dev, tensor_make(row, 1, 96), &w, &token, 1.0f);
    matrix_row(want, &m, 69);
    assert_memory_equal(row, want, sizeof(row));
    device_free_weight(dev, &w);
    assert_null(w.packed);
    device_free_weight(dev, &w);
    device_free(dev);
    matrix_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_the_documented_one),
        cmocka_unit_test(test_rows_come_back),
        cmocka_unit_test(test_size_does_not_overflow),
        cmocka_unit_test(test_device_fills_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
