// SPDX-License-Identifier: Apache-2.0
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void test_slices_compare(void **state)
{
    (void)state;
    struct slice s = slice_of("model.safetensors");
    assert_int_equal(s.size, 17);
    assert_true(slice_is(s, "model.safetensors"));
    assert_false(slice_is(s, "model.safetensor"));
    assert_true(slice_starts(s, "model"));
    assert_true(slice_starts(s, ""));
    assert_false(slice_starts(s, "model.safetensors and more"));
    assert_true(slice_ends(s, ".safetensors"));
    assert_true(slice_ends(s, ""));
    assert_false(slice_ends(s, "a longer text .safetensors"));
    assert_int_equal(slice_of(NULL).size, 0);
    assert_true(slice_equal(slice_of(NULL), slice_of("")));
    assert_true(slice_ends(slice_of(NULL), ""));
    assert_true(slice_equal(slice_make("a\0b", 3), slice_make("a\0b", 3)));
    assert_false(slice_equal(slice_make("a\0b", 3), slice_make("a\0c", 3)));
}

static void test_buf_grows_and_stays_terminated(void **state)
{
    (void)state;
    size_t before = mem_bytes_now();
    struct buf b = {0};
    assert_string_equal(buf_text(&b), "");
    for (size_t i = 0; i < 1000; i++) {
        buf_addc(&b, (char)('a' + i % 26));
        buf_adds(&b, "--");
        assert_int_equal(b.data[b.size], 0);
    }
    assert_int_equal(b.size, 3000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(b.data[3 * i], 'a' + i % 26);
        assert_memory_equal(b.data + 3 * i + 1, "--", 2);
    }
    buf_clear(&b);
    assert_string_equal(buf_text(&b), "");
    buf_addf(&b, "%d/%s", 42, "x");
    buf_add_slice(&b, slice_make("yz", 1));
    buf_add_utf8(&b, 0x20AC);
    assert_string_equal(buf_text(&b), "42/xy\xE2\x82\xAC");
    assert_int_equal(buf_status(&b, NULL), 0);
    buf_release(&b);
    buf_release(&b);
    buf_release(NULL);
    assert_int_equal(mem_bytes_now(), before);
}

static void test_buf_formats_long_text(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'q', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct buf b = {0};
    buf_addf(&b, "<%s>", text);
    assert_int_equal(b.size, 5001);
    assert_int_equal(b.data[0], '<');
    assert_int_equal(b.data[5000], '>');
    buf_release(&b);
}

static void test_buf_holds_its_maximum_and_not_more(void **state)
{
    (void)state;
    struct buf b = {.max = 100};
    for (size_t i = 0; i < 100; i++) {
        buf_addc(&b, 'x');
    }
    assert_int_equal(buf_status(&b, NULL), 0);
    assert_int_equal(b.size, 100);
    buf_addc(&b, 'y');
    struct carat_error err = {0};
    assert_int_equal(buf_status(&b, &err), CARAT_E_FULL);
    assert_int_equal(err.status, CARAT_E_FULL);
    buf_adds(&b, "");
    buf_addf(&b, "%d", 1);
    assert_int_equal(b.size, 100); // stays failed
    assert_null(buf_take(&b));
    buf_clear(&b);
    assert_int_equal(buf_status(&b, NULL), 0);
    buf_addf(&b, "%0101d", 1);
    assert_int_equal(buf_status(&b, NULL), CARAT_E_FULL);
    buf_release(&b);
    struct buf huge = {.max = SIZE_MAX};
    buf_adds(&huge, "fits");
    assert_string_equal(buf_text(&huge), "fits");
    buf_add(&huge, NULL, SIZE_MAX);
    assert_int_equal(buf_status(&huge, NULL), CARAT_E_FULL);
    buf_release(&huge);
}

static void test_buf_reports_no_memory(void **state)
{
    (void)state;
    struct buf b = {0};
    mem_fail_nth(1);
    buf_adds(&b, "x");
    buf_adds(&b, "y");
    struct carat_error err = {0};
    assert_int_equal(buf_status(&b, &err), CARAT_E_MEMORY);
    assert_int_equal(err.status, CARAT_E_MEMORY);
    assert_string_equal(buf_text(&b), "");
    buf_release(&b);
    mem_fail_nth(1);
    assert_null(buf_take(&b));
    buf_release(&b);
}

static void test_buf_take_gives_the_content_away(void **state)
{
    (void)state;
    struct buf b = {.max = 50};
    buf_adds(&b, "mine");
    char *text = buf_take(&b);
    assert_string_equal(text, "mine");
    assert_null(b.data);
    assert_int_equal(b.size, 0);
    mem_free(text);
    text = buf_take(&b);
    assert_string_equal(text, "");
    mem_free(text);
}

static void test_buf_writes_json_strings(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t size;
        const char *json;
    } cases[] = {
        {"", 0, "\"\""},
        {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
        {"\b\t\n\f\r", 5, "\"\\b\\t\\n\\f\\r\""},
        {"\0\x01\x1F\x7F", 4, "\"\\u0000\\u0001\\u001f\x7F\""},
        {"\xE2\x82\xAC", 3, "\"\xE2\x82\xAC\""},
        {"\xE2\x82", 2, "\"\xEF\xBF\xBD\""},
        {"\xFFz", 2, "\"\xEF\xBF\xBDz\""},
        {"\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = {0};
        buf_add_json(&b, cases[i].text, cases[i].size);
        assert_string_equal(buf_text(&b), cases[i].json);
        buf_release(&b);
    }
}

static void test_utf8_reads_one_sequence(void **state)
{
    (void)state;
    // The expected lengths are those of Unicode 15, table 3-7, and of its examples for maximal
    // subparts (tables 3-8 to 3-11).
    const struct {
        const char *bytes;
        size_t size;
        int result;
        uint32_t code_point;
    } cases[] = {
        {"", 0, 0, 0},
        {"\0", 1, 1, 0},
        {"A", 1, 1, 'A'},
        {"\x7F", 1, 1, 0x7F},
        {"\xC2\x80", 2, 2, 0x80},
        {"\xDF\xBF", 2, 2, 0x7FF},
        {"\xE0\xA0\x80", 3, 3, 0x800},
        {"\xED\x9F\xBF", 3, 3, 0xD7FF},
        {"\xEE\x80\x80", 3, 3, 0xE000},
        {"\xEF\xBF\xBF", 3, 3, 0xFFFF},
        {"\xF0\x90\x80\x80", 4, 4, 0x10000},
        {"\xF4\x8F\xBF\xBF", 4, 4, 0x10FFFF},
        // beginnings that need more
        {"\xC2", 1, 0, 0},
        {"\xE1", 1, 0, 0},
        {"\xE1\x80", 2, 0, 0},
        {"\xE0\xA0", 2, 0, 0},
        {"\xF1\x80\x80", 3, 0, 0},
        {"\xF4\x8F", 2, 0, 0},
        // never a first byte
        {"\x80", 1, -1, 0},
        {"\xBF", 1, -1, 0},
        {"\xC0\x80", 2, -1, 0},
        {"\xC1\xBF", 2, -1, 0},
        {"\xF5\x80\x80\x80", 4, -1, 0},
        {"\xFF", 1, -1, 0},
        // overlong, surrogate, too large: the first byte alone is the maximal part
        {"\xE0\x9F\xBF", 3, -1, 0},
        {"\xED\xA0\x80", 3, -1, 0},
        {"\xF0\x8F\xBF\xBF", 4, -1, 0},
        {"\xF4\x90\x80\x80", 4, -1, 0},
        // good beginnings that go wrong
        {"\xC3(", 2, -1, 0},
        {"\xE1\x80(", 3, -2, 0},
        {"\xF1\x80\x80(", 4, -3, 0},
        {"\xF1\x80\xE1\x80", 4, -2, 0},
        {"\xE1\xC3\xA9", 3, -1, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t code_point = 0;
        assert_int_equal(utf8_next(cases[i].bytes, cases[i].size, &code_point), cases[i].result);
        assert_int_equal(code_point, cases[i].code_point);
    }
}

static void test_utf8_round_trips_every_code_point(void **state)
{
    (void)state;
    size_t n_wrong = 0;
    for (uint32_t c = 0; c <= 0x110010; c++) {
        char bytes[4];
        uint32_t back = 0;
        size_t size = utf8_put(bytes, c);
        bool is_scalar = c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);
        n_wrong += utf8_next(bytes, size, &back) != (int)size;
        n_wrong += back != (is_scalar ? c : 0xFFFD);
        for (size_t cut = 1; cut < size; cut++) {
            n_wrong += utf8_next(bytes, cut, &back) != 0;
        }
    }
    assert_int_equal(n_wrong, 0);
}

static void test_utf8_validity(void **state)
{
    (void)state;
    assert_true(utf8_is_valid("", 0));
    assert_true(utf8_is_valid("na\xC3\xAFve \xF0\x9F\x99\x82", 11));
    assert_false(utf8_is_valid("na\xC3", 3));
    assert_false(utf8_is_valid("\xC3\x28", 2));
}

// str.isspace of Python 3.11 over all code points gives exactly these.
static void test_unicode_spaces_are_pythons(void **state)
{
    (void)state;
    const uint32_t spaces[] = {0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x1C,   0x1D,   0x1E,
                               0x1F,   0x20,   0x85,   0xA0,   0x1680, 0x2000, 0x2001, 0x2002,
                               0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A,
                               0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
    size_t next = 0;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        bool expected = next < sizeof(spaces) / sizeof(spaces[0]) && spaces[next] == c;
        next += expected;
        assert_int_equal(unicode_is_space(c), expected);
    }
    assert_int_equal(next, sizeof(spaces) / sizeof(spaces[0]));
}

static void test_utf8_trim(void **state)
{
    (void)state;
    const char *cases[][2] = {
        {"", ""},
        {" ", ""},
        {" \n\t\r ", ""},
        {"a", "a"},
        {"  a b  ", "a b"},
        {"\xE3\x80\x80\xC2\xA0 x \xE2\x80\xA8\xC2\x85", "x"},
        {"\xE2\x80\x8B x", "\xE2\x80\x8B x"}, // a zero width space is none
        {"x\xE1\x9A\x80", "x"},
        {"x\x80 ", "x\x80"}, // broken bytes stay
        {" \xFFx\xFF ", "\xFFx\xFF"},
        {"x\xE2\x80", "x\xE2\x80"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(slice_is(utf8_trim(slice_of(cases[i][0])), cases[i][1]));
    }
    assert_int_equal(utf8_trim(slice_of(NULL)).size, 0);
}

static void test_cursor_reads_little_endian(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x08, 0x09, 0x0A,
                             0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0,    0,    0xC0, 0x3F, 0,
                             0,    0,    0,    0,    0,    0x04, 0xC0, 'e',  'n',  'd'};
    struct cursor c = cursor_make(bytes, sizeof(bytes));
    assert_int_equal(cursor_u8(&c), 0x01);
    assert_int_equal(cursor_u16(&c), 0x0203);
    assert_int_equal(cursor_u32(&c), 0x04050607);
    assert_true(cursor_u64(&c) == UINT64_C(0x0F0E0D0C0B0A0908));
    assert_true(cursor_f32(&c) == 1.5F);
    assert_true(cursor_f64(&c) == -2.5);
    assert_int_equal(cursor_left(&c), 3);
    assert_memory_equal(cursor_bytes(&c, 3), "end", 3);
    assert_false(c.has_failed);
    assert_non_null(cursor_bytes(&c, 0)); // nothing is there, and nothing was asked for
    assert_int_equal(cursor_u8(&c), 0);
    assert_true(c.has_failed);
}

static void test_cursor_stays_failed_past_the_end(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    const uint64_t too_many[] = {8, UINT32_MAX, UINT64_MAX, UINT64_MAX - 6};
    for (size_t i = 0; i < sizeof(too_many) / sizeof(too_many[0]); i++) {
        struct cursor c = cursor_make(bytes, sizeof(bytes));
        assert_null(cursor_bytes(&c, too_many[i]));
        assert_true(c.has_failed);
        assert_int_equal(cursor_u8(&c), 0); // though a byte would be there
        assert_null(cursor_bytes(&c, 0));
        assert_int_equal(cursor_left(&c), 0);
    }
    struct cursor c = cursor_make(bytes, sizeof(bytes));
    assert_true(cursor_u64(&c) == 0); // one byte short: zero, not seven bytes of it
    assert_true(c.has_failed);
    c = cursor_make(bytes, sizeof(bytes));
    cursor_skip(&c, 7);
    assert_false(c.has_failed);
    cursor_skip(&c, 1);
    assert_true(c.has_failed);
    assert_true(cursor_f32(&c) == 0.0F);
}

static void test_cursor_over_nothing(void **state)
{
    (void)state;
    struct cursor c = cursor_make(NULL, 0);
    assert_int_equal(cursor_left(&c), 0);
    assert_non_null(cursor_bytes(&c, 0));
    assert_int_equal(cursor_u32(&c), 0);
    assert_true(c.has_failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices_compare),
        cmocka_unit_test(test_buf_grows_and_stays_terminated),
        cmocka_unit_test(test_buf_formats_long_text),
        cmocka_unit_test(test_buf_holds_its_maximum_and_not_more),
        cmocka_unit_test(test_buf_reports_no_memory),
        cmocka_unit_test(test_buf_take_gives_the_content_away),
        cmocka_unit_test(test_buf_writes_json_strings),
        cmocka_unit_test(test_utf8_reads_one_sequence),
        cmocka_unit_test(test_utf8_round_trips_every_code_point),
        cmocka_unit_test(test_utf8_validity),
        cmocka_unit_test(test_unicode_spaces_are_pythons),
        cmocka_unit_test(test_utf8_trim),
        cmocka_unit_test(test_cursor_reads_little_endian),
        cmocka_unit_test(test_cursor_stays_failed_past_the_end),
        cmocka_unit_test(test_cursor_over_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
