// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "maker.h"

// Two tensors whose order in the header is not that of the data, and padding.
static const char small_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
    "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
    "\"none\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[8,8]},"
    "\"one\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[20,21]}}   ";
#define SMALL_DATA 21

// Opens a file that must be refused; the message must contain part.
static void refuse_bytes(const void *data, size_t size, const char *part)
{
    uint8_t *exact = mem_new(size, NULL);
    assert_non_null(exact);
    if (size > 0) {
        memcpy(exact, data, size);
    }
    struct safetensors *s = NULL;
    struct carat_error err = {0};
    int rc = safetensors_open_memory(&s, exact, size, "bad", &err);
    if (rc >= 0) {
        fail_msg("was not refused (%s)", part);
    }
    assert_null(s);
    assert_int_equal(err.status, rc);
    if (!strstr(err.text, part) || strncmp(err.text, "bad: ", 5) != 0) {
        fail_msg("expected '%s' in: %s", part, err.text);
    }
    mem_free(exact);
}

static void refuse(const char *header, size_t n_data, const char *part)
{
    struct buf file = {0};
    make_safetensors(&file, header, n_data);
    refuse_bytes(file.data, file.size, part);
    buf_release(&file);
}

static void test_tensors_are_listed_and_found(void **state)
{
    (void)state;
    struct buf file = {0};
    make_safetensors(&file, small_header, SMALL_DATA);
    struct safetensors *s = NULL;
    assert_int_equal(safetensors_open_memory(&s, file.data, file.size, "small", NULL), 0);
    assert_int_equal(safetensors_n_tensors(s), 4);
    assert_string_equal(safetensors_path(s), "small");
    assert_string_equal(safetensors_tensor_at(s, 0)->name, "b");
    const struct safetensors_tensor *b = safetensors_find(s, "b");
    assert_int_equal(b->type, DTYPE_BF16);
    assert_int_equal(b->n_dims, 2);
    assert_true(b->dims[0] == 2 && b->dims[1] == 3);
    assert_int_equal(b->values, 6);
    assert_int_equal(b->size, 12);
    assert_int_equal(b->data[0], 8);
    assert_int_equal(safetensors_find(s, "a")->data[0], 0);
    assert_int_equal(safetensors_find(s, "none")->size, 0);
    assert_int_equal(safetensors_find(s, "one")->values, 1);
    assert_int_equal(safetensors_find(s, "one")->n_dims, 0);
    assert_null(safetensors_find(s, "__metadata__"));
    assert_null(safetensors_find(s, "c"));
    safetensors_close(s);
    safetensors_close(NULL);
    buf_release(&file);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    struct buf file = {0};
    make_safetensors(&file, small_header, SMALL_DATA);
    for (size_t size = 0; size < file.size; size++) {
        refuse_bytes(file.data, size, "");
    }
    refuse_bytes(file.data, 0, "found an empty file");
    refuse_bytes(file.data, 30, "but the file ends after 30: it is truncated");
    refuse_bytes(file.data, file.size - 1,
                 "tensor 'one': expected 21 bytes of data in the file, found 20: it is truncated");
    buf_addc(&file, 'x');
    refuse_bytes(file.data, file.size, "expected the data to end with the last tensor, after 21");
    buf_release(&file);
}

static void test_no_flipped_bit_does_harm(void **state)
{
    (void)state;
    struct buf file = {0};
    make_safetensors(&file, small_header, SMALL_DATA);
    size_t n_refused = 0;
    uint8_t *copy = mem_new(file.size, NULL);
    assert_non_null(copy);
    for (size_t i = 0; i < (file.size - SMALL_DATA) * 8; i++) {
        memcpy(copy, file.data, file.size);
        copy[i / 8] = (uint8_t)(copy[i / 8] ^ 1u << i % 8);
        struct safetensors *s = NULL;
        if (safetensors_open_memory(&s, copy, file.size, "flipped", NULL)) {
            n_refused++;
            continue;
        }
        for (size_t k = 0; k < safetensors_n_tensors(s); k++) {
            const struct safetensors_tensor *t = safetensors_tensor_at(s, k);
            assert_true(t->data >= copy && t->data + t->size <= copy + file.size);
        }
        safetensors_close(s);
    }
    assert_true(n_refused > 1000);
    mem_free(copy);
    buf_release(&file);
}

struct bad_header {
    const char *header;
    size_t n_data;
    const char *part;
};

static void test_bad_headers_are_refused(void **state)
{
    (void)state;
    static const struct bad_header cases[] = {
        {"[]", 0, "expected a safetensors file"},
        {" {}", 0, "expected a safetensors file"},
        {"{", 0, "line 1, column 2: not JSON"},
        {"{\"a\":1}", 0, "tensor 'a': expected an object, found 1"},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         "expected names of 1 to"},
        {"{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         "expected names"},
        {"{\"\\u001b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         "expected names"},
        {"{\"a\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         "tensor 'a': expected a known 'dtype', found nothing"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "found \"F4\""},
        {"{\"a\":{\"dtype\":\"F32\\u0000\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'dtype'"},
        {"{\"a\":{\"dtype\":\"U8 and more than sixteen "
         "bytes\",\"shape\":[],\"data_offsets\":[0,1]}}",
         1, "'dtype'"},
        {"{\"a\":{\"dtype\":7,\"shape\":[],\"data_offsets\":[0,1]}}", 1, "found 7"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "'shape' of at most 8"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":{},\"data_offsets\":[0,1]}}", 1, "'shape'"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         "'shape' of at most 8 dimensions, found [1,1,1,1,1,1,1,1,1]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "whole numbers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "whole numbers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967297],\"data_offsets\":[0,1]}}", 1,
         "whole numbers that fit a file"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
         "2305843009213693952 values of F64"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[18446744073709551616],\"data_offsets\":[0,1]}}", 1,
         "whole numbers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, "two 'data_offsets', found nothing"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0]}}", 1, "two 'data_offsets'"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1,2]}}", 1,
         "two 'data_offsets'"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[-1,0]}}", 1, "0 or more"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[1,0]}}", 1, "from 1 to 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1,
         "tensor 'a': its shape has 2 values of U8, expected 1 bytes for each"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 1,
         "expected 2 bytes of data in the file, found 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
         "\"data_offsets\":[18446744073709551614,18446744073709551615]}}",
         1, "it is truncated"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, "tensor 'a' is there twice"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "tensor 'b': expected its data at offset 2"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
         3,
         "tensor 'b': expected its data at offset 1, where the one before it ends, found offset 2"},
        {"{}", 1, "expected the data to end with the last tensor, after 0 bytes, found 1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        refuse(cases[i].header, cases[i].n_data, cases[i].part);
    }
}

static void test_header_sizes_are_limited(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {
        0, 3, SAFETENSORS_HEADER_MAX, SAFETENSORS_HEADER_MAX + 1, UINT64_C(1) << 60, UINT64_MAX};
    size_t before = mem_bytes_peak();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf file = {0};
        put_u64(&file, sizes[i]);
        buf_adds(&file, "{}");
        refuse_bytes(file.data, file.size, "safetensors file");
        buf_release(&file);
    }
    assert_true(mem_bytes_peak() - before < 100000);
    refuse_bytes("GGUF\3\0\0\0\0\0", 10, "expected a safetensors file, found a GGUF file");
}

static void test_names_are_limited(void **state)
{
    (void)state;
    for (size_t size = SAFETENSORS_NAME_SIZE_MAX; size <= SAFETENSORS_NAME_SIZE_MAX + 1; size++) {
        struct buf header = {0};
        buf_adds(&header, "{\"");
        for (size_t i = 0; i < size; i++) {
            buf_addc(&header, 'n');
        }
        buf_adds(&header, "\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}");
        struct buf file = {0};
        make_safetensors(&file, buf_text(&header), 1);
        struct safetensors *s = NULL;
        int rc = safetensors_open_memory(&s, file.data, file.size, "named", NULL);
        assert_int_equal(rc, size == SAFETENSORS_NAME_SIZE_MAX ? 0 : CARAT_E_FORMAT);
        safetensors_close(s);
        buf_release(&file);
        buf_release(&header);
    }
}

static void test_every_listed_type_can_be_opened(void **state)
{
    (void)state;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (dtypes[i].safetensors) {
            char header[200];
            snprintf(header, sizeof(header),
                     "{\"t\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%u]}}",
                     dtypes[i].safetensors, 3 * dtypes[i].block_size);
            struct buf file = {0};
            make_safetensors(&file, header, 3 * dtypes[i].block_size);
            struct safetensors *s = NULL;
            assert_int_equal(safetensors_open_memory(&s, file.data, file.size, "typed", NULL), 0);
            assert_int_equal(safetensors_find(s, "t")->type, i);
            safetensors_close(s);
            buf_release(&file);
        }
    }
}

static void test_files_are_mapped(void **state)
{
    struct place *p = *state;
    struct safetensors *s = NULL;
    assert_int_equal(safetensors_open(&s, place_path(p, "absent"), NULL), CARAT_E_IO);
    struct buf file = {0};
    make_safetensors(&file, small_header, SMALL_DATA);
    size_t size = file.size;
    place_write_buf(p, "small.safetensors", &file);
    assert_int_equal(safetensors_open(&s, p->path, NULL), 0);
    assert_int_equal(safetensors_map(s)->size, size);
    assert_non_null(safetensors_find(s, "a"));
    safetensors_close(s);
}

static void test_each_failing_allocation_is_reported(void **state)
{
    (void)state;
    struct buf file = {0};
    make_safetensors(&file, small_header, SMALL_DATA);
    size_t before = mem_bytes_now();
    size_t n = 1;
    for (;; n++) {
        struct safetensors *s = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = safetensors_open_memory(&s, file.data, file.size, "small", &err);
        mem_fail_nth(0);
        if (rc == 0) {
            safetensors_close(s);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_int_equal(mem_bytes_now(), before);
    }
    assert_true(n > 6);
    assert_int_equal(mem_bytes_now(), before);
    buf_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_are_listed_and_found),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_no_flipped_bit_does_harm),
        cmocka_unit_test(test_bad_headers_are_refused),
        cmocka_unit_test(test_header_sizes_are_limited),
        cmocka_unit_test(test_names_are_limited),
        cmocka_unit_test(test_every_listed_type_can_be_opened),
        cmocka_unit_test_setup_teardown(test_files_are_mapped, place_make, place_remove),
        cmocka_unit_test(test_each_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
