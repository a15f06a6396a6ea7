// SPDX-License-Identifier: Apache-2.0
#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

static void test_map_empty_has_nothing(void **state)
{
    (void)state;
    struct map m = {0};
    assert_int_equal(map_get(&m, slice_of("x")), MAP_NONE);
    map_release(&m);
    map_release(NULL);
}

static void test_map_finds_what_was_put(void **state)
{
    (void)state;
    enum { n_keys = 100000, key_size = 12 };
    char *keys = mem_new_array(n_keys, key_size, NULL);
    assert_non_null(keys);
    size_t before = mem_bytes_now();
    struct map m = {0};
    for (uint32_t i = 0; i < n_keys; i++) {
        snprintf(keys + (size_t)i * key_size, key_size, "key%u", (unsigned)i);
        uint32_t existing = 0;
        struct slice key = slice_of(keys + (size_t)i * key_size);
        assert_int_equal(map_put(&m, key, i, &existing, NULL), 0);
        assert_int_equal(existing, MAP_NONE);
    }
    assert_int_equal(m.count, n_keys);
    size_t n_wrong = 0;
    for (uint32_t i = 0; i < n_keys; i++) {
        char other[16];
        n_wrong += map_get(&m, slice_of(keys + (size_t)i * key_size)) != i;
        snprintf(other, sizeof(other), "kex%u", (unsigned)i);
        n_wrong += map_get(&m, slice_of(other)) != MAP_NONE;
    }
    assert_int_equal(n_wrong, 0);
    map_release(&m);
    assert_int_equal(mem_bytes_now(), before);
    mem_free(keys);
}

static void test_map_keeps_the_first_value(void **state)
{
    (void)state;
    struct map m = {0};
    uint32_t existing = 77;
    assert_int_equal(map_put(&m, slice_of("a"), 5, NULL, NULL), 0);
    assert_int_equal(map_put(&m, slice_of("a"), 6, &existing, NULL), 0);
    assert_int_equal(existing, 5);
    assert_int_equal(map_get(&m, slice_of("a")), 5);
    assert_int_equal(m.count, 1);
    map_release(&m);
}

// Lengths around the hash's word size, zero bytes, the empty key, the values 0 and the largest.
static void test_map_tells_similar_keys_apart(void **state)
{
    (void)state;
    static const char zeros[40];
    struct map m = {0};
    for (uint32_t size = 0; size <= 40; size++) {
        assert_int_equal(map_put(&m, slice_make(zeros, size), size, NULL, NULL), 0);
    }
    for (uint32_t size = 0; size <= 40; size++) {
        assert_int_equal(map_get(&m, slice_make(zeros, size)), size);
    }
    assert_int_equal(map_get(&m, slice_of(NULL)), 0);
    assert_int_equal(map_put(&m, slice_of("max"), UINT32_MAX - 1, NULL, NULL), 0);
    assert_int_equal(map_get(&m, slice_of("max")), UINT32_MAX - 1);
    map_release(&m);
}

static void test_map_reserved_does_not_grow(void **state)
{
    (void)state;
    struct map m = {0};
    assert_int_equal(map_reserve(&m, 1000, NULL), 0);
    size_t capacity = m.capacity;
    char keys[1000][8];
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%u", (unsigned)i);
        assert_int_equal(map_put(&m, slice_of(keys[i]), i, NULL, NULL), 0);
    }
    assert_int_equal(m.capacity, capacity);
    map_release(&m);
}

static void test_map_refuses_absurd_sizes(void **state)
{
    (void)state;
    struct map m = {0};
    struct carat_error err = {0};
    assert_true(map_reserve(&m, SIZE_MAX, &err) < 0);
    assert_true(err.status < 0);
    assert_null(m.entries);
    map_release(&m);
}

static void test_map_survives_no_memory(void **state)
{
    (void)state;
    struct map m = {0};
    char keys[40][8];
    for (uint32_t i = 0; i < 40; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%u", (unsigned)i);
        struct carat_error err = {0};
        mem_fail_nth(1);
        int rc = map_put(&m, slice_of(keys[i]), i, NULL, &err);
        mem_fail_nth(0);
        if (rc) {
            assert_int_equal(rc, CARAT_E_MEMORY);
            assert_int_equal(err.status, CARAT_E_MEMORY);
            assert_int_equal(map_get(&m, slice_of(keys[i])), MAP_NONE);
            assert_int_equal(map_put(&m, slice_of(keys[i]), i, NULL, NULL), 0);
        }
    }
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(map_get(&m, slice_of(keys[i])), i);
    }
    map_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_empty_has_nothing),
        cmocka_unit_test(test_map_finds_what_was_put),
        cmocka_unit_test(test_map_keeps_the_first_value),
        cmocka_unit_test(test_map_tells_similar_keys_apart),
        cmocka_unit_test(test_map_reserved_does_not_grow),
        cmocka_unit_test(test_map_refuses_absurd_sizes),
        cmocka_unit_test(test_map_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
