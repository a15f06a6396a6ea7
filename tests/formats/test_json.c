// SPDX-License-Identifier: Apache-2.0
#include "formats/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "maker.h"

static struct json_doc *parse(const char *text)
{
    struct json_doc *doc = NULL;
    struct carat_error err = {0};
    if (json_parse(&doc, text, strlen(text), "t.json", &err)) {
        fail_msg("%s: %s", text, err.text);
    }
    return doc;
}

struct bad_text {
    const char *text, *part;
};

static void test_what_is_not_json_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct bad_text cases[] = {
        {"", "t.json: expected JSON, found nothing: it is empty"},
        {"{\"a\": 1,}", "line 1, column 8: not JSON: trailing comma is not allowed"},
        {"{\"a\": 1}\n// no", "line 2, column 1"},
        {"{\"\u00e9\u20ac\": x}", "line 1, column 8"},
        {"{\n\n \"a\": tru}", "line 3, column 7"},
        {"[1, 2", "found the end"},
        {"{\"a\": \"b", "t.json: line"},
        {"nul", ""},
        {"[NaN]", ""},
        {"[Infinity]", ""},
        {"[1e]", ""},
        {"[.5]", ""},
        {"[01]", ""},
        {"[+1]", ""},
        {"[0x10]", ""},
        {"['a']", "found '''"},
        {"\xEF\xBB\xBF{}", ""},
        {"[\"\xFF\"]", ""},
        {"[\"\xC0\x80\"]", ""},
        {"[\"\\ud800\"]", ""},
        {"[\"a\nb\"]", ""},
        {"[\"\\x\"]", ""},
        {"{} {}", "column 4"},
        {"\x01", "found the byte 0x01"},
        {"{1: 2}", ""},
        {"]", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct json_doc *doc = NULL;
        struct carat_error err = {0};
        int rc = json_parse(&doc, cases[i].text, strlen(cases[i].text), "t.json", &err);
        assert_int_equal(rc, CARAT_E_FORMAT);
        assert_null(doc);
        if (!strstr(err.text, cases[i].part)) {
            fail_msg("expected '%s' in: %s", cases[i].part, err.text);
        }
    }
    json_free(NULL);
}

static void test_kinds_and_values(void **state)
{
    (void)state;
    struct json_doc *doc =
        parse("{\"n\":null,\"t\":true,\"f\":false,\"i\":-12,\"s\":\"a\\u0000\\n\\ud83d\\ude00\","
              "\"a\":[1,2,3],\"o\":{\"x\":1}}");
    const struct json_value *root = json_root(doc);
    assert_int_equal(json_kind(root), JSON_OBJECT);
    assert_int_equal(json_count(root), 7);
    assert_int_equal(json_kind(json_get(root, "n")), JSON_NULL);
    assert_true(json_bool(json_get(root, "t")));
    assert_false(json_bool(json_get(root, "f")));
    assert_false(json_bool(json_get(root, "i")));
    assert_int_equal(json_kind(json_get(root, "i")), JSON_NUMBER);
    struct slice s = json_string(json_get(root, "s"));
    assert_true(slice_equal(s, slice_make("a\0\n\xF0\x9F\x98\x80", 7)));
    assert_int_equal(json_count(json_get(root, "a")), 3);
    assert_int_equal(json_kind(json_get(root, "o")), JSON_OBJECT);
    assert_null(json_get(root, "absent"));
    assert_null(json_get(json_get(root, "a"), "x"));
    assert_int_equal(json_count(json_get(root, "s")), 0);
    assert_int_equal(json_string(json_get(root, "i")).size, 0);
    assert_int_equal(json_number_text(json_get(root, "s")).size, 0);
    // Absent values are accepted everywhere.
    uint64_t u = 7;
    int64_t i = 7;
    assert_int_equal(json_kind(NULL), JSON_ABSENT);
    assert_int_equal(json_count(NULL), 0);
    assert_int_equal(json_string(NULL).size, 0);
    assert_true(json_double(NULL) == 0);
    assert_false(json_u64(NULL, &u) || json_i64(NULL, &i) || json_bool(NULL));
    assert_null(json_get(NULL, "a"));
    struct json_iter it = json_iter(NULL);
    assert_false(json_next(&it));
    json_free(doc);
}

struct number {
    const char *text;
    bool fits_u64;
    uint64_t u64;
    bool fits_i64;
    int64_t i64;
    double f64;
};

static void test_numbers_keep_their_text_and_fit_or_not(void **state)
{
    (void)state;
    static const struct number cases[] = {
        {"0", true, 0, true, 0, 0},
        {"-0", true, 0, true, 0, 0},
        {"262144", true, 262144, true, 262144, 262144},
        {"-1", false, 0, true, -1, -1},
        {"9223372036854775807", true, INT64_MAX, true, INT64_MAX, 0x1p63},
        {"9223372036854775808", true, UINT64_C(1) << 63, false, 0, 0x1p63},
        {"-9223372036854775808", false, 0, true, INT64_MIN, -0x1p63},
        {"-9223372036854775809", false, 0, false, 0, -0x1p63},
        {"18446744073709551615", true, UINT64_MAX, false, 0, 0x1p64},
        {"18446744073709551616", false, 0, false, 0, 0x1p64},
        {"1e3", false, 0, false, 0, 1000},
        {"1.0", false, 0, false, 0, 1},
        {"-2.5E-1", false, 0, false, 0, -0.25},
        {"1e-06", false, 0, false, 0, 1e-06},
        {"4.9406564584124654e-324", false, 0, false, 0, 4.9406564584124654e-324},
        {"1e999", false, 0, false, 0, 0}, // no double: 0
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf text = {0};
        buf_addf(&text, "[%s,%s]", cases[i].text, cases[i].text);
        struct json_doc *doc = parse(buf_text(&text));
        buf_release(&text);
        for (struct json_iter it = json_iter(json_root(doc)); json_next(&it);) {
            uint64_t u = 77;
            int64_t n = 77;
            assert_true(slice_is(json_number_text(it.value), cases[i].text));
            assert_int_equal(json_u64(it.value, &u), cases[i].fits_u64);
            assert_true(u == (cases[i].fits_u64 ? cases[i].u64 : 77));
            assert_int_equal(json_i64(it.value, &n), cases[i].fits_i64);
            assert_true(n == (cases[i].fits_i64 ? cases[i].i64 : 77));
            assert_true(json_double(it.value) == cases[i].f64);
        }
        json_free(doc);
    }
}

static void test_walking_keeps_the_order(void **state)
{
    (void)state;
    struct json_doc *doc = parse("{\"b\":[1,[2,3],{}],\"a\":{\"x\":[]},\"b\":4,\"c\":[]}");
    const char *const keys[] = {"b", "a", "b", "c"};
    size_t n = 0;
    for (struct json_iter it = json_iter(json_root(doc)); json_next(&it); n++) {
        assert_true(slice_is(it.key, keys[n]));
        assert_int_equal(it.left, 3 - n);
    }
    assert_int_equal(n, 4);
    // Of a name that is there twice the last counts.
    uint64_t u;
    assert_int_equal(json_get_u64(doc, "b", &u, NULL), 0);
    assert_int_equal(u, 4);
    json_free(doc);
}

static void test_paths_reach_inner_values(void **state)
{
    (void)state;
    struct json_doc *doc =
        parse("{\"text_config\":{\"hidden_size\":3840,\"eps\":1e-6,\"tied\":true,"
              "\"kind\":\"gemma\",\"none\":null,\"in\":{\"deep\":1}},"
              "\"void\":null}");
    uint64_t u = 0;
    double x = 0;
    bool b = false;
    struct slice s = {0};
    assert_int_equal(json_get_u64(doc, "text_config.hidden_size", &u, NULL), 0);
    assert_int_equal(u, 3840);
    assert_int_equal(json_get_u64(doc, "text_config.in.deep", &u, NULL), 0);
    assert_int_equal(json_get_f64(doc, "text_config.eps", &x, NULL), 0);
    assert_true(x == 1e-6);
    assert_int_equal(json_get_f64(doc, "text_config.hidden_size", &x, NULL), 0);
    assert_true(x == 3840);
    assert_int_equal(json_get_bool(doc, "text_config.tied", &b, NULL), 0);
    assert_true(b);
    assert_int_equal(json_get_string(doc, "text_config.kind", &s, NULL), 0);
    assert_true(slice_is(s, "gemma"));
    u = 77;
    static const char *const absent[] = {"x",    "text_config.x", "text_config.none",
                                         "void", "void.x",        "text_config.in.x.y"};
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        assert_int_equal(json_get_u64(doc, absent[i], &u, NULL), 1);
        assert_int_equal(json_get_f64(doc, absent[i], &x, NULL), 1);
        assert_int_equal(json_get_bool(doc, absent[i], &b, NULL), 1);
        assert_int_equal(json_get_string(doc, absent[i], &s, NULL), 1);
    }
    assert_int_equal(u, 77);
    assert_int_equal(json_kind(json_at(doc, "text_config.in")), JSON_OBJECT);
    assert_int_equal(json_kind(json_at(doc, "void")), JSON_NULL);
    assert_null(json_at(doc, "text_config.kind.x"));
    json_free(doc);
}

static void test_getters_name_the_path_of_what_is_wrong(void **state)
{
    (void)state;
    struct json_doc *doc = parse("{\"a\":{\"n\":\"big\",\"neg\":-1,\"half\":0.5,\"huge\":1e400,"
                                 "\"list\":[],\"long\":\"0123456789012345678901234567890123456789"
                                 "0123456789012345678901234567890123456789\"}}");
    struct carat_error err = {0};
    uint64_t u = 77;
    double x = 77;
    bool b = true;
    struct slice s = {0};
    assert_int_equal(json_get_u64(doc, "a.n", &u, &err), CARAT_E_FORMAT);
    assert_string_equal(err.text, "t.json: a.n: expected a whole number, 0 or more, found \"big\"");
    assert_int_equal(json_get_u64(doc, "a.neg", &u, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "found -1"));
    assert_int_equal(json_get_u64(doc, "a.half", &u, &err), CARAT_E_FORMAT);
    assert_int_equal(json_get_u64(doc, "a.list", &u, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "found an array"));
    assert_int_equal(json_get_u64(doc, "a.n.x", &u, &err), CARAT_E_FORMAT);
    assert_string_equal(err.text, "t.json: a.n: expected an object, found \"big\"");
    assert_int_equal(json_get_f64(doc, "a.huge", &x, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "a.huge: expected a number that a double can hold"));
    assert_int_equal(json_get_f64(doc, "a.n", &x, &err), CARAT_E_FORMAT);
    assert_int_equal(json_get_bool(doc, "a.n", &b, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "a.n: expected true or false, found \"big\""));
    assert_int_equal(json_get_bool(doc, "a.long", &b, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "890123456789\"..."));
    assert_int_equal(json_get_string(doc, "a", &s, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "a: expected a string, found an object"));
    assert_true(u == 77 && x == 77 && b);
    json_free(doc);
    doc = parse("[1]");
    assert_int_equal(json_get_u64(doc, "a", &u, &err), CARAT_E_FORMAT);
    assert_string_equal(err.text, "t.json: expected an object, found an array");
    json_free(doc);
}

static void test_writing_gives_the_same_values(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "null",
        "-1.50e+3",
        "\"a\\\"\\\\\\n\\u0001\"",
        "[]",
        "{}",
        "[[],[[]],{}]",
        "{\"a\":[1,2.0,{\"b\":null,\"c\":[true,false]}],\"d\":\"\\u0000\",\"a\":3}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct json_doc *doc = parse(texts[i]);
        struct buf out = {0};
        json_write(json_root(doc), &out);
        assert_string_equal(buf_text(&out), texts[i]);
        buf_release(&out);
        json_free(doc);
    }
    struct json_doc *doc = parse(" { \"x\" : [ 1 , { \"y\" : 2 } ] } ");
    struct buf out = {0};
    json_write(json_at(doc, "x"), &out);
    assert_string_equal(buf_text(&out), "[1,{\"y\":2}]");
    buf_release(&out);
    json_free(doc);
}

static void nest(struct buf *text, size_t depth)
{
    for (size_t i = 0; i < depth; i++) {
        buf_addc(text, '[');
    }
    for (size_t i = 0; i < depth; i++) {
        buf_addc(text, ']');
    }
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    struct buf text = {0};
    buf_adds(&text, "[[],[[]],"); // what is closed again does not count
    nest(&text, JSON_DEPTH_MAX - 1);
    buf_adds(&text, "]");
    struct json_doc *doc = parse(buf_text(&text));
    struct buf out = {0};
    json_write(json_root(doc), &out);
    assert_string_equal(buf_text(&out), buf_text(&text));
    buf_release(&out);
    json_free(doc);
    static const size_t depths[] = {JSON_DEPTH_MAX + 1, 1000000};
    for (size_t i = 0; i < 2; i++) {
        struct carat_error err = {0};
        buf_clear(&text);
        nest(&text, depths[i]);
        assert_int_equal(json_parse(&doc, text.data, text.size, "deep", &err), CARAT_E_FORMAT);
        assert_string_equal(err.text,
                            "deep: JSON nested deeper than 512 levels, which is the limit");
    }
    buf_release(&text);
}

static void test_files_are_read_up_to_a_limit(void **state)
{
    struct place *p = *state;
    struct json_doc *doc = NULL;
    struct carat_error err = {0};
    assert_int_equal(json_parse_file(&doc, place_path(p, "absent"), 100, &err), CARAT_E_IO);
    place_write_text(p, "a.json", "{\"a\": 12}");
    assert_int_equal(json_parse_file(&doc, p->path, 8, &err), CARAT_E_FULL);
    assert_null(doc);
    assert_int_equal(json_parse_file(&doc, p->path, 9, &err), 0);
    uint64_t u = 0;
    assert_int_equal(json_get_u64(doc, "a", &u, NULL), 0);
    assert_int_equal(u, 12);
    json_free(doc);
}

static void test_each_failing_allocation_is_reported(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1, 2, {\"b\": \"text\"}], \"c\": 1.5}";
    size_t before = mem_bytes_now();
    size_t n = 1;
    for (;; n++) {
        struct json_doc *doc = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = json_parse(&doc, text, sizeof(text) - 1, "t.json", &err);
        mem_fail_nth(0);
        if (rc == 0) {
            json_free(doc);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_null(doc);
        assert_int_equal(mem_bytes_now(), before);
    }
    assert_true(n > 3);
    assert_int_equal(mem_bytes_now(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_json_is_refused_with_its_place),
        cmocka_unit_test(test_kinds_and_values),
        cmocka_unit_test(test_numbers_keep_their_text_and_fit_or_not),
        cmocka_unit_test(test_walking_keeps_the_order),
        cmocka_unit_test(test_paths_reach_inner_values),
        cmocka_unit_test(test_getters_name_the_path_of_what_is_wrong),
        cmocka_unit_test(test_writing_gives_the_same_values),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test_setup_teardown(test_files_are_read_up_to_a_limit, place_make,
                                        place_remove),
        cmocka_unit_test(test_each_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
