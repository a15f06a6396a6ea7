// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"

static void test_size_arithmetic_refuses_overflow(void **state)
{
    (void)state;
    const struct {
        size_t a, b;
        bool adds, multiplies;
    } cases[] = {
        {0, 0, true, true},
        {SIZE_MAX, 0, true, true},
        {0, SIZE_MAX, true, true},
        {SIZE_MAX, 1, false, true},
        {1, SIZE_MAX, false, true},
        {SIZE_MAX / 2, 2, true, true},
        {SIZE_MAX / 2 + 1, 2, true, false},
        {2, SIZE_MAX / 2 + 1, true, false},
        {(size_t)1 << 32, (size_t)1 << 32, true, false},
        {((size_t)1 << 32) - 1, ((size_t)1 << 32) + 1, true, true},
        {SIZE_MAX, SIZE_MAX, false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t out = 12345;
        assert_int_equal(size_add(&out, cases[i].a, cases[i].b), cases[i].adds);
        assert_true(out == (cases[i].adds ? cases[i].a + cases[i].b : 12345));
        out = 12345;
        assert_int_equal(size_mul(&out, cases[i].a, cases[i].b), cases[i].multiplies);
        assert_true(out == (cases[i].multiplies ? cases[i].a * cases[i].b : 12345));
    }
}

static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 262143, 262144, 262145, 3000000};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void test_mem_is_zero_aligned_and_counted(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        size_t before = mem_bytes_now();
        uint8_t *block = mem_new(sizes[i], NULL);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % MEM_ALIGN, 0);
        assert_int_equal(mem_bytes_now() - before, sizes[i]);
        assert_true(mem_bytes_peak() >= mem_bytes_now());
        for (size_t k = 0; k < sizes[i]; k++) {
            assert_int_equal(block[k], 0);
        }
        memset(block, 0xA5, sizes[i]);
        mem_free(block);
        assert_int_equal(mem_bytes_now(), before);
    }
    mem_free(NULL);
}

static void test_mem_resize_keeps_content_and_zeroes_the_rest(void **state)
{
    (void)state;
    for (size_t from = 0; from < N_SIZES; from++) {
        for (size_t to = 0; to < N_SIZES; to++) {
            size_t before = mem_bytes_now();
            uint8_t *block = mem_new(sizes[from], NULL);
            assert_non_null(block);
            memset(block, 0x5A, sizes[from]);
            block = mem_resize(block, sizes[to], NULL);
            assert_non_null(block);
            assert_int_equal(mem_bytes_now() - before, sizes[to]);
            size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
            size_t n_wrong = 0;
            for (size_t k = 0; k < sizes[to]; k++) {
                n_wrong += block[k] != (k < kept ? 0x5A : 0);
            }
            assert_int_equal(n_wrong, 0);
            mem_free(block);
        }
    }
}

static void test_mem_resize_of_null_is_new(void **state)
{
    (void)state;
    char *block = mem_resize(NULL, 10, NULL);
    assert_non_null(block);
    assert_int_equal(block[9], 0);
    mem_free(block);
}

static void test_mem_reports_what_does_not_fit(void **state)
{
    (void)state;
    const size_t impossible[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, (size_t)1 << 62};
    for (size_t i = 0; i < sizeof(impossible) / sizeof(impossible[0]); i++) {
        struct carat_error err = {0};
        assert_null(mem_new(impossible[i], &err));
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_true(strlen(err.text) > 0);
    }
    struct carat_error err = {0};
    assert_null(mem_new_array((size_t)1 << 40, (size_t)1 << 40, &err));
    assert_int_equal(err.status, CARAT_E_MEMORY);
    assert_null(mem_strndup("x", SIZE_MAX, &err));
}

static void test_mem_resize_failure_keeps_the_block(void **state)
{
    (void)state;
    char *block = mem_strdup("kept", NULL);
    struct carat_error err = {0};
    assert_null(mem_resize(block, SIZE_MAX, &err));
    assert_int_equal(err.status, CARAT_E_MEMORY);
    mem_fail_nth(1);
    assert_null(mem_resize(block, 100, &err));
    assert_string_equal(block, "kept");
    mem_free(block);
}

static void test_mem_fails_the_nth_once(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 4; n++) {
        mem_fail_nth(n);
        for (size_t i = 1; i <= 6; i++) {
            struct carat_error err = {0};
            void *block = mem_new(8, &err);
            assert_int_equal(block == NULL, i == n);
            assert_int_equal(err.status, i == n ? CARAT_E_MEMORY : 0);
            mem_free(block);
        }
    }
    mem_fail_nth(1);
    mem_fail_nth(0);
    void *block = mem_new(8, NULL);
    assert_non_null(block);
    mem_free(block);
}

static void test_mem_strndup_terminates(void **state)
{
    (void)state;
    char *copy = mem_strndup("abcdef", 3, NULL);
    assert_string_equal(copy, "abc");
    mem_free(copy);
    copy = mem_strndup(NULL, 0, NULL);
    assert_string_equal(copy, "");
    mem_free(copy);
}

// The plan for a long context may be far larger than what is used of it.
static void test_mem_large_blocks_cost_what_is_touched(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip();
#endif
    uint64_t before = os_memory_private();
    if (before == 0) {
        skip();
    }
    size_t size = (size_t)512 << 20;
    uint8_t *block = mem_new(size, NULL);
    assert_non_null(block);
    block[0] = 1;
    block[size - 1] = 1;
    uint64_t after = os_memory_private();
    assert_true(after < before + (16 << 20));
    mem_free(block);
}

static void test_arena_gives_zeroed_aligned_separate_memory(void **state)
{
    (void)state;
    size_t before = mem_bytes_now();
    struct arena arena = {0};
    uint8_t *taken[2000];
    for (size_t i = 0; i < 2000; i++) {
        size_t size = i % 97;
        taken[i] = arena_take(&arena, size, NULL);
        assert_non_null(taken[i]);
        assert_int_equal((uintptr_t)taken[i] % 16, 0);
        for (size_t k = 0; k < size; k++) {
            assert_int_equal(taken[i][k], 0);
        }
        memset(taken[i], (int)(i & 0xFF), size);
    }
    for (size_t i = 0; i < 2000; i++) {
        for (size_t k = 0; k < i % 97; k++) {
            assert_int_equal(taken[i][k], i & 0xFF);
        }
    }
    uint8_t *large = arena_take(&arena, 5000000, NULL);
    assert_non_null(large);
    large[4999999] = 1;
    char *text = arena_strndup(&arena, "hello, world", 5, NULL);
    assert_string_equal(text, "hello");
    arena_release(&arena);
    assert_int_equal(mem_bytes_now(), before);
    assert_non_null(arena_take(&arena, 1, NULL)); // may be used again
    arena_release(&arena);
    arena_release(NULL);
    assert_int_equal(mem_bytes_now(), before);
}

static void test_arena_keeps_its_limit(void **state)
{
    (void)state;
    struct arena arena = {.max = 1000};
    size_t total = 0;
    struct carat_error err = {0};
    while (arena_take(&arena, 32, &err)) {
        total += 32;
    }
    assert_int_equal(err.status, CARAT_E_FULL);
    assert_in_range(total, 1000 - 32, 1000);
    assert_null(arena_take(&arena, SIZE_MAX, &err));
    assert_null(arena_take(&arena, SIZE_MAX - 32, &err));
    arena_release(&arena);
    assert_non_null(arena_take(&arena, 900, &err)); // the limit counts from anew
    arena_release(&arena);
}

static void test_arena_reports_no_memory(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct carat_error err = {0};
    mem_fail_nth(1);
    assert_null(arena_take(&arena, 10, &err));
    assert_int_equal(err.status, CARAT_E_MEMORY);
    assert_non_null(arena_take(&arena, 10, &err));
    assert_null(arena_strndup(&arena, "x", SIZE_MAX, &err));
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_arithmetic_refuses_overflow),
        cmocka_unit_test(test_mem_is_zero_aligned_and_counted),
        cmocka_unit_test(test_mem_resize_keeps_content_and_zeroes_the_rest),
        cmocka_unit_test(test_mem_resize_of_null_is_new),
        cmocka_unit_test(test_mem_reports_what_does_not_fit),
        cmocka_unit_test(test_mem_resize_failure_keeps_the_block),
        cmocka_unit_test(test_mem_fails_the_nth_once),
        cmocka_unit_test(test_mem_strndup_terminates),
        cmocka_unit_test(test_mem_large_blocks_cost_what_is_touched),
        cmocka_unit_test(test_arena_gives_zeroed_aligned_separate_memory),
        cmocka_unit_test(test_arena_keeps_its_limit),
        cmocka_unit_test(test_arena_reports_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
