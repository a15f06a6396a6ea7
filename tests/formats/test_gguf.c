// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "maker.h"

static struct buf small; // the valid file that tests start from

static int make_small(void **state)
{
    (void)state;
    maker_small(&small);
    return 0;
}

static int release_small(void **state)
{
    (void)state;
    buf_release(&small);
    return 0;
}

static struct gguf *open_small(void)
{
    struct gguf *g = NULL;
    struct carat_error err = {0};
    if (gguf_open_memory(&g, small.data, small.size, "small", &err)) {
        fail_msg("%s", err.text);
    }
    return g;
}

// Opens bytes that must be refused, in a block of their exact size; the message must contain part.
static void refuse(const void *data, size_t size, const char *part)
{
    uint8_t *exact = mem_new(size, NULL);
    assert_non_null(exact);
    if (size > 0) {
        memcpy(exact, data, size);
    }
    struct gguf *g = NULL;
    struct carat_error err = {0};
    int rc = gguf_open_memory(&g, exact, size, "bad.gguf", &err);
    if (rc >= 0) {
        fail_msg("was not refused (%s)", part);
    }
    assert_null(g);
    assert_int_equal(err.status, rc);
    if (!strstr(err.text, part) || strncmp(err.text, "bad.gguf: ", 10) != 0) {
        fail_msg("expected '%s' in: %s", part, err.text);
    }
    mem_free(exact);
}

static void refuse_made(struct maker *m, const char *part)
{
    struct buf file = {0};
    maker_finish(m, &file);
    refuse(file.data, file.size, part);
    buf_release(&file);
}

static void test_tensors_are_listed_and_found(void **state)
{
    (void)state;
    struct gguf *g = open_small();
    assert_string_equal(gguf_path(g), "small");
    assert_int_equal(gguf_n_tensors(g), 2);
    const struct gguf_tensor *a = gguf_find(g, "a");
    assert_ptr_equal(a, gguf_tensor_at(g, 0));
    assert_true(slice_is(a->name, "a"));
    assert_int_equal(a->type, DTYPE_F32);
    assert_int_equal(a->n_dims, 2);
    const uint64_t dims[] = {4, 2, 1, 1};
    assert_memory_equal(a->dims, dims, sizeof(dims));
    assert_int_equal(a->size, 32);
    float values[3];
    memcpy(values, a->data, sizeof(values));
    assert_true(values[0] == 1 && values[1] == 2);
    const struct gguf_tensor *b = gguf_find(g, "b");
    assert_int_equal(b->n_dims, 1);
    assert_int_equal(b->offset % 32, 0);
    assert_ptr_equal(b->data, small.data + b->offset);
    memcpy(values, b->data, sizeof(values));
    assert_true(values[2] == 102);
    assert_null(gguf_find(g, "c"));
    assert_null(gguf_find(g, ""));
    gguf_close(g);
    gguf_close(NULL);
}

static void test_integers_of_every_type_are_read(void **state)
{
    (void)state;
    struct gguf *g = open_small();
    struct {
        const char *key;
        uint64_t value;
    } cases[] = {{"n.u8", 200},
                 {"n.u16", 60000},
                 {"n.i16", 300},
                 {"n.u32", 4000000000},
                 {"n.u64", UINT64_MAX}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value = 0;
        assert_int_equal(gguf_get_u64(g, cases[i].key, &value, NULL), 0);
        assert_true(value == cases[i].value);
    }
    double x;
    assert_int_equal(gguf_get_f64(g, "x.f32", &x, NULL), 0);
    assert_true(x == 0.5);
    assert_int_equal(gguf_get_f64(g, "x.f64", &x, NULL), 0);
    assert_true(x == 0.25);
    assert_int_equal(gguf_get_f64(g, "n.i32", &x, NULL), 0);
    assert_true(x == -7);
    assert_int_equal(gguf_get_f64(g, "n.i64", &x, NULL), 0);
    assert_true(x == -0x1p63);
    bool yes = false;
    assert_int_equal(gguf_get_bool(g, "yes", &yes, NULL), 0);
    assert_true(yes);
    struct slice text;
    assert_int_equal(gguf_get_string(g, "general.architecture", &text, NULL), 0);
    assert_true(slice_is(text, "gemma4"));
    assert_true(gguf_has(g, "yes"));
    assert_false(gguf_has(g, "no"));
    gguf_close(g);
}

static void test_getters_name_what_is_wrong(void **state)
{
    (void)state;
    struct gguf *g = open_small();
    struct carat_error err = {0};
    uint64_t u = 77;
    double x = 77;
    bool b = true;
    struct slice s = slice_of("77");
    struct gguf_array a = {.count = 77};
    assert_int_equal(gguf_get_u64(g, "absent", &u, &err), 1);
    assert_int_equal(gguf_get_f64(g, "absent", &x, &err), 1);
    assert_int_equal(gguf_get_bool(g, "absent", &b, &err), 1);
    assert_int_equal(gguf_get_string(g, "absent", &s, &err), 1);
    assert_int_equal(gguf_get_array(g, "absent", &a, &err), 1);
    assert_int_equal(err.status, 0);
    assert_int_equal(gguf_get_u64(g, "n.i32", &u, &err), CARAT_E_FORMAT);
    assert_string_equal(err.text,
                        "small: key 'n.i32': expected a whole number, 0 or more, found -7");
    assert_int_equal(gguf_get_u64(g, "x.f32", &u, &err), CARAT_E_FORMAT);
    assert_int_equal(gguf_get_u64(g, "yes", &u, &err), CARAT_E_FORMAT);
    assert_int_equal(gguf_get_u64(g, "words", &u, &err), CARAT_E_FORMAT);
    assert_string_equal(err.text, "small: key 'words': expected a whole number, 0 or more, found "
                                  "array of 3 strings");
    assert_int_equal(gguf_get_f64(g, "yes", &x, &err), CARAT_E_FORMAT);
    assert_int_equal(gguf_get_f64(g, "general.architecture", &x, &err), CARAT_E_FORMAT);
    assert_string_equal(err.text,
                        "small: key 'general.architecture': expected a number, found \"gemma4\"");
    assert_int_equal(gguf_get_bool(g, "n.u8", &b, &err), CARAT_E_FORMAT);
    assert_int_equal(gguf_get_string(g, "n.u8", &s, &err), CARAT_E_FORMAT);
    assert_int_equal(gguf_get_string(g, "words", &s, &err), CARAT_E_FORMAT);
    assert_int_equal(gguf_get_array(g, "n.u8", &a, &err), CARAT_E_FORMAT);
    assert_string_equal(err.text, "small: key 'n.u8': expected an array, found 200");
    assert_true(u == 77 && x == 77 && b && slice_is(s, "77") && a.count == 77);
    gguf_close(g);
}

static void test_arrays_are_walked(void **state)
{
    (void)state;
    struct gguf *g = open_small();
    struct gguf_array a;
    assert_int_equal(gguf_get_array(g, "words", &a, NULL), 0);
    assert_int_equal(a.type, GGUF_STRING);
    assert_int_equal(a.count, 3);
    assert_true(slice_is(gguf_array_next_string(&a), "one"));
    assert_true(slice_is(gguf_array_next_string(&a), ""));
    assert_true(slice_is(gguf_array_next_string(&a), "\xFF\xFE"));
    assert_int_equal(gguf_array_next_string(&a).size, 0); // past the end
    assert_int_equal(gguf_get_array(g, "numbers", &a, NULL), 0);
    assert_int_equal(gguf_array_next_string(&a).size, 0); // of another type
    assert_true(gguf_array_next_i64(&a) == 11);
    assert_true(gguf_array_next_f64(&a) == -12);
    assert_true(gguf_array_next_i64(&a) == 0);
    assert_int_equal(gguf_get_array(g, "nothing", &a, NULL), 0);
    assert_int_equal(a.count, 0);
    gguf_close(g);
}

static void test_values_have_a_short_text(void **state)
{
    (void)state;
    struct gguf *g = open_small();
    struct {
        const char *key, *text;
    } cases[] = {
        {"general.architecture", "\"gemm\"..."},
        {"n.u32", "4000000000"},
        {"n.i8", "-5"},
        {"n.i64", "-9223372036854775808"},
        {"n.u64", "18446744073709551615"},
        {"x.f32", "0.5"},
        {"yes", "true"},
        {"words", "array of 3 strings"},
        {"numbers", "array of 2 i32"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t k = 0; k < gguf_n_keys(g); k++) {
            if (slice_is(gguf_key_at(g, k), cases[i].key)) {
                struct buf text = {0};
                gguf_value_text(g, k, &text, 4);
                assert_string_equal(buf_text(&text), cases[i].text);
                buf_release(&text);
            }
        }
    }
    assert_int_equal(gguf_n_keys(g), 15);
    gguf_close(g);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t size = 0; size < small.size; size++) {
        refuse(small.data, size, "");
    }
    refuse(small.data, 0, "found an empty file");
    refuse(small.data, 20, "the file ends after 20 bytes");
    refuse(small.data, small.size - 1,
           "tensor 'b': expected 12 bytes at offset 32 of the data, but the file ends 43 bytes");
}

static void test_no_flipped_bit_does_harm(void **state)
{
    (void)state;
    size_t n_refused = 0;
    uint8_t *copy = mem_new(small.size, NULL);
    assert_non_null(copy);
    for (size_t i = 0; i < small.size * 8; i++) {
        memcpy(copy, small.data, small.size);
        copy[i / 8] = (uint8_t)(copy[i / 8] ^ 1u << i % 8);
        struct gguf *g = NULL;
        if (gguf_open_memory(&g, copy, small.size, "flipped", NULL)) {
            assert_null(g);
            n_refused++;
            continue;
        }
        // What it does say must be true: everything can be looked at.
        for (size_t k = 0; k < gguf_n_tensors(g); k++) {
            const struct gguf_tensor *t = gguf_tensor_at(g, k);
            assert_true(t->offset + t->size <= small.size);
        }
        for (size_t k = 0; k < gguf_n_keys(g); k++) {
            struct buf text = {0};
            gguf_value_text(g, k, &text, 100);
            buf_release(&text);
        }
        gguf_close(g);
    }
    assert_true(n_refused > 1000);
    mem_free(copy);
}

static void test_files_of_other_kinds_are_named(void **state)
{
    (void)state;
    struct {
        const char *bytes;
        size_t size;
        const char *part;
    } cases[] = {
        {"PK\003\004........", 12, "zip archive, as PyTorch"},
        {"\200\002}q\000", 5, "Python pickle"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS pointer"},
        {"<!DOCTYPE html>", 15, "web page"},
        {"<HTML>", 6, "web page"},
        {"{\"a\": 1}", 8, "JSON text"},
        {"\002\0\0\0\0\0\0\0{}", 10, "safetensors"},
        {"tjgg\001\0\0\0", 8, "old GGML file"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0", 13, "begins with zeros"},
        {"hello", 5, "something else"},
        {"GG", 2, "something else"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        refuse(cases[i].bytes, cases[i].size, cases[i].part);
    }
}

static void test_other_versions_are_refused(void **state)
{
    (void)state;
    uint8_t head[24] = "GGUF";
    head[4] = 1;
    refuse(head, sizeof(head), "expected GGUF version 3, found version 1; convert the model again");
    head[4] = 2;
    refuse(head, sizeof(head), "found version 2");
    head[4] = 4;
    refuse(head, sizeof(head), "found version 4");
    memcpy(head + 4, "\0\0\0\3", 4);
    refuse(head, sizeof(head), "found a big-endian one");
}

static void test_huge_counts_are_refused_at_once(void **state)
{
    (void)state;
    static const uint64_t counts[] = {100, GGUF_KEYS_MAX, GGUF_KEYS_MAX + 1, UINT64_C(1) << 60,
                                      UINT64_MAX};
    size_t before = mem_bytes_peak();
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct maker m = {.n_keys = counts[i]};
        refuse_made(&m, "metadata keys");
        m.n_tensors = counts[i];
        refuse_made(&m, "tensors");
        maker_array(&m, "list", GGUF_U64, counts[i]);
        refuse_made(&m, "key 'list': an array of");
        maker_array(&m, "list", GGUF_STRING, counts[i]);
        refuse_made(&m, "key 'list': an array of");
    }
    assert_true(mem_bytes_peak() - before < 100000);
}

static void test_limits_are_kept(void **state)
{
    (void)state;
    struct maker m = {.n_keys = GGUF_KEYS_MAX + 1};
    buf_add(&m.keys, NULL, 0);
    for (size_t i = 0; i < 13 * (GGUF_KEYS_MAX + 2); i++) {
        buf_addc(&m.keys, 'x'); // enough bytes, so that it is the limit that speaks
    }
    refuse_made(&m, "expected at most 65536 metadata keys, found 65537");
    maker_array(&m, "list", GGUF_U8, GGUF_ARRAY_MAX + 1);
    m.keys.max = (size_t)1 << 26;
    char zeros[4096] = {0};
    for (size_t i = 0; i <= GGUF_ARRAY_MAX / sizeof(zeros); i++) {
        buf_add(&m.keys, zeros, sizeof(zeros));
    }
    refuse_made(&m, "key 'list': an array of 16777217 elements is too large");
    char name[GGUF_NAME_SIZE_MAX + 2];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    maker_tensor(&m, name, 4, 1, 0);
    refuse_made(&m, "expected 1 to 255 bytes of UTF-8");
    maker_tensor(&m, name + 1, 4, 1, 0);
    struct buf file = {0};
    maker_finish(&m, &file);
    struct gguf *g = NULL;
    assert_int_equal(gguf_open_memory(&g, file.data, file.size, "long name", NULL), 0);
    assert_non_null(gguf_find(g, name + 1));
    gguf_close(g);
    buf_release(&file);
}

static void test_names_must_be_text_and_unique(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a\xFF", "a\nb", "\x1b[31m", "\xED\xA0\x80", "a\x7F"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct maker m = {0};
        maker_u32(&m, bad[i], 1);
        refuse_made(&m, "the key at byte 24: expected 1 to");
        maker_tensor(&m, bad[i], 4, 1, 0);
        refuse_made(&m, "the tensor's name at byte 24: expected 1 to");
    }
    struct maker m = {0};
    maker_u32(&m, "k", 1);
    maker_string(&m, "k", "v");
    refuse_made(&m, "key 'k' is there twice");
    maker_tensor(&m, "t", 4, 1, 0);
    maker_tensor(&m, "t", 4, 1, 0);
    refuse_made(&m, "tensor 't' is there twice");
}

static void test_unknown_types_are_refused(void **state)
{
    (void)state;
    struct maker m = {0};
    maker_key(&m, "k", 13);
    put_u64(&m.keys, 0);
    refuse_made(&m, "key 'k': expected a value type below 13, found 13");
    maker_array(&m, "k", 99, 0);
    refuse_made(&m, "key 'k': expected an element type below 13, found 99");
    maker_array(&m, "k", GGUF_ARRAY, 1);
    put_u32(&m.keys, GGUF_U8);
    put_u64(&m.keys, 0);
    refuse_made(&m, "key 'k': arrays of arrays cannot be read");
    static const uint32_t types[] = {4, 5, 9, 15, 31, 43, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        maker_info(&m, "t", 1, (const uint64_t[]){256}, types[i], 0);
        refuse_made(&m, "tensor 't': element type");
    }
}

struct bad_tensor {
    uint32_t n_dims;
    uint64_t dims[5];
    uint32_t type;
    uint64_t offset;
    const char *part;
};

static void test_shapes_and_offsets_must_fit_the_file(void **state)
{
    (void)state;
    const uint64_t big = UINT64_C(1) << 40;
    const struct bad_tensor cases[] = {
        {5, {1, 1, 1, 1, 1}, 0, 0, "expected at most 4 dimensions, found 5"},
        {UINT32_MAX, {1}, 0, 0, ""},
        {2, {4, 0}, 0, 0, "dimension 1 is 0"},
        {1, {31}, 2, 0, "rows of 31 values cannot be Q4_0, which has blocks of 32"},
        {2, {big, big}, 0, 0, "no file is that large"},
        {4, {65536, 65536, 65536, 65536}, 0, 0, "no file is that large"},
        {4, {UINT64_MAX, 1, 1, 1}, 0, 0, "no file is that large"},
        {1, {UINT64_MAX / 4 + 1}, 0, 0, "no file is that large"},
        {2, {32, UINT64_MAX / 18 + 2}, 2, 0, "no file is that large"},
        {1, {big}, 0, 0, "it is truncated; download it again"},
        {1, {17}, 0, 0, "expected 68 bytes at offset 0 of the data, but the file ends 64 bytes"},
        {1, {8}, 0, 64, "expected 32 bytes at offset 64 of the data, but the file ends 64 bytes"},
        {1, {8}, 0, 96, "offset 96 of the data"},
        {1, {8}, 0, UINT64_MAX - 31, "of the data, but the file ends"},
        {1, {8}, 0, 8, "expected an offset that is a multiple of 32, found 8"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct maker m = {0};
        const struct bad_tensor *c = &cases[i];
        maker_info(&m, "t", c->n_dims <= 5 ? c->n_dims : 0, c->dims, c->type, c->offset);
        if (c->n_dims > 5) {
            memset(m.tensors.data + 9, 0xFF, 4); // after the name
        }
        for (int k = 0; k < 8; k++) {
            put_u64(&m.data, 0);
        }
        refuse_made(&m, c->part);
    }
}

static void test_overlapping_tensors_are_refused(void **state)
{
    (void)state;
    struct maker m = {0};
    const uint64_t dims[] = {16};
    maker_info(&m, "first", 1, dims, 0, 0);
    maker_info(&m, "second", 1, dims, 0, 32);
    for (int i = 0; i < 16; i++) {
        put_u64(&m.data, 0);
    }
    refuse_made(&m, "tensor 'second': starts at byte");
}

static void test_alignment_is_a_power_of_two_within_limits(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 3, 33, 48, (uint32_t)GGUF_ALIGNMENT_MAX * 2, UINT32_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct maker m = {0};
        maker_u32(&m, "general.alignment", bad[i]);
        maker_tensor(&m, "t", 4, 1, 0);
        refuse_made(&m, "key 'general.alignment': expected a power of two");
    }
    struct maker m = {0};
    maker_string(&m, "general.alignment", "32");
    refuse_made(&m, "key 'general.alignment': expected a whole number");
    static const uint32_t good[] = {1, 8, 64, 4096, (uint32_t)GGUF_ALIGNMENT_MAX};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        m.alignment = good[i];
        maker_u32(&m, "general.alignment", good[i]);
        maker_tensor(&m, "t", 4, 1, 7);
        struct buf file = {0};
        maker_finish(&m, &file);
        struct gguf *g = NULL;
        assert_int_equal(gguf_open_memory(&g, file.data, file.size, "aligned", NULL), 0);
        float value;
        memcpy(&value, gguf_find(g, "t")->data, sizeof(value));
        assert_true(value == 7);
        gguf_close(g);
        buf_release(&file);
    }
}

static void test_every_listed_type_can_be_opened(void **state)
{
    (void)state;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (dtypes[i].gguf_id < 0) {
            continue;
        }
        struct maker m = {0};
        const uint64_t dims[] = {256, 1};
        size_t size;
        assert_true(dtype_row_size(&size, (enum dtype)i, 256));
        maker_info(&m, "t", 2, dims, (uint32_t)dtypes[i].gguf_id, 0);
        for (size_t k = 0; k < size; k++) {
            buf_addc(&m.data, 0);
        }
        struct buf file = {0};
        maker_finish(&m, &file);
        struct gguf *g = NULL;
        assert_int_equal(gguf_open_memory(&g, file.data, file.size, "typed", NULL), 0);
        assert_int_equal(gguf_find(g, "t")->size, size);
        gguf_close(g);
        refuse(file.data, file.size - 1, "tensor 't'"); // and not one byte less
        buf_release(&file);
    }
}

static void test_a_file_without_tensors_is_a_vocabulary(void **state)
{
    (void)state;
    struct maker m = {0};
    maker_string(&m, "general.architecture", "gemma4");
    struct buf file = {0};
    maker_finish(&m, &file);
    struct gguf *g = NULL;
    assert_int_equal(gguf_open_memory(&g, file.data, file.size, "vocab", NULL), 0);
    assert_int_equal(gguf_n_tensors(g), 0);
    assert_null(gguf_find(g, "t"));
    gguf_close(g);
    buf_release(&file);
}

static void test_files_are_mapped(void **state)
{
    struct place *p = *state;
    struct gguf *g = NULL;
    struct carat_error err = {0};
    assert_int_equal(gguf_open(&g, place_path(p, "absent"), &err), CARAT_E_IO);
    assert_non_null(strstr(err.text, "absent: cannot be opened"));
    assert_int_equal(gguf_open(&g, p->dir, &err), CARAT_E_IO);
    assert_null(g);
    place_write(p, "small.gguf", small.data, small.size);
    assert_int_equal(gguf_open(&g, p->path, &err), 0);
    assert_int_equal(gguf_map(g)->size, small.size);
    assert_string_equal(gguf_path(g), p->path);
    assert_non_null(gguf_find(g, "b"));
    gguf_close(g);
}

static void test_each_failing_allocation_is_reported(void **state)
{
    (void)state;
    size_t before = mem_bytes_now();
    size_t n = 1;
    for (;; n++) {
        struct gguf *g = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = gguf_open_memory(&g, small.data, small.size, "small", &err);
        mem_fail_nth(0);
        if (rc == 0) {
            gguf_close(g);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_null(g);
        assert_int_equal(mem_bytes_now(), before);
    }
    assert_true(n > 4);
    assert_int_equal(mem_bytes_now(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_are_listed_and_found),
        cmocka_unit_test(test_integers_of_every_type_are_read),
        cmocka_unit_test(test_getters_name_what_is_wrong),
        cmocka_unit_test(test_arrays_are_walked),
        cmocka_unit_test(test_values_have_a_short_text),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_no_flipped_bit_does_harm),
        cmocka_unit_test(test_files_of_other_kinds_are_named),
        cmocka_unit_test(test_other_versions_are_refused),
        cmocka_unit_test(test_huge_counts_are_refused_at_once),
        cmocka_unit_test(test_limits_are_kept),
        cmocka_unit_test(test_names_must_be_text_and_unique),
        cmocka_unit_test(test_unknown_types_are_refused),
        cmocka_unit_test(test_shapes_and_offsets_must_fit_the_file),
        cmocka_unit_test(test_overlapping_tensors_are_refused),
        cmocka_unit_test(test_alignment_is_a_power_of_two_within_limits),
        cmocka_unit_test(test_every_listed_type_can_be_opened),
        cmocka_unit_test(test_a_file_without_tensors_is_a_vocabulary),
        cmocka_unit_test_setup_teardown(test_files_are_mapped, place_make, place_remove),
        cmocka_unit_test(test_each_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, make_small, release_small);
}
