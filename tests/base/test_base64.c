// SPDX-License-Identifier: Apache-2.0
#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void check(const char *text, const char *expected)
{
    struct carat_error err;
    struct buf out = {.max = 1 << 20};
    assert_int_equal(base64_decode(&out, slice_of(text), &err), 0);
    assert_int_equal(out.size, strlen(expected));
    assert_string_equal(buf_text(&out), expected);
    buf_release(&out);
}

static void test_vectors_of_the_standard(void **state)
{
    (void)state;
    check("", "");
    check("Zg==", "f");
    check("Zm8=", "fo");
    check("Zm9v", "foo");
    check("Zm9vYg==", "foob");
    check("Zm9vYmE=", "fooba");
    check("Zm9vYmFy", "foobar");
}

static void test_both_alphabets_and_loose_forms(void **state)
{
    (void)state;
    check("fn5+fz8_", "~~~\x7f??");
    check("fn5-fz8/", "~~~\x7f??");
    check("Zg", "f");
    check("Zm8", "fo");
    check("Zm9v\r\nYm Fy\t\n", "foobar");
    check("Zg=\n=\n", "f");
}

static void test_other_text_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "Z", "Zm9vY", "Zg=", "Zg===", "=", "====", "Zm9v=", "Zm=v", "Zg==Z", "Zm9v!m9v", "Zm\x80"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct carat_error err = {.status = 0};
        struct buf out = {.max = 1 << 20};
        assert_int_equal(base64_decode(&out, slice_of(wrong[i]), &err), CARAT_E_FORMAT);
        assert_non_null(strstr(err.text, "base64"));
        buf_release(&out);
    }
}

static void test_all_bytes_and_long_texts(void **state)
{
    (void)state;
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buf text = {.max = 1 << 20}, out = {.max = 1 << 20};
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t bytes = (i * 7 % 256) << 16 | (i * 13 % 256) << 8 | i * 29 % 256;
        for (int shift = 18; shift >= 0; shift -= 6) {
            buf_addc(&text, alphabet[bytes >> shift & 63]);
        }
    }
    assert_int_equal(base64_decode(&out, slice_make(text.data, text.size), NULL), 0);
    assert_int_equal(out.size, 60000);
    for (uint32_t i = 0; i < 20000; i++) {
        assert_int_equal((unsigned char)out.data[i * 3], i * 7 % 256);
        assert_int_equal((unsigned char)out.data[i * 3 + 1], i * 13 % 256);
        assert_int_equal((unsigned char)out.data[i * 3 + 2], i * 29 % 256);
    }
    buf_release(&out);
    out = (struct buf){.max = 59999};
    assert_int_equal(base64_decode(&out, slice_make(text.data, text.size), NULL), CARAT_E_FULL);
    buf_release(&out);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_of_the_standard),
        cmocka_unit_test(test_both_alphabets_and_loose_forms),
        cmocka_unit_test(test_other_text_is_refused),
        cmocka_unit_test(test_all_bytes_and_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
