// SPDX-License-Identifier: Apache-2.0
#include "server/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char type[] = "multipart/form-data; boundary=XyZ";

static int first_part(const char *content_type, const char *body, struct multipart_part *part)
{
    struct multipart m;
    int rc = multipart_begin(&m, content_type, slice_of(body), NULL);
    return rc ? rc : multipart_next(&m, part, NULL);
}

static void test_multipart_reads_parts_in_order(void **state)
{
    (void)state;
    static const char body[] =
        "--XyZ\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n"
        "--XyZ\r\ncontent-type:  audio/wav \r\nCONTENT-DISPOSITION: form-data; "
        "filename=x.wav; name=b\r\n\r\n\r\n--Xy\r\n\r\n--XyZ--\r\nafter";
    struct multipart m;
    struct multipart_part part;
    assert_int_equal(multipart_begin(&m, type, slice_of(body), NULL), 0);
    assert_int_equal(multipart_next(&m, &part, NULL), 1);
    assert_string_equal(part.name, "a");
    assert_string_equal(part.filename, "");
    assert_true(slice_is(part.data, "one"));
    assert_int_equal(part.content_type.size, 0);
    assert_int_equal(multipart_next(&m, &part, NULL), 1);
    assert_string_equal(part.name, "b");
    assert_string_equal(part.filename, "x.wav");
    assert_true(slice_is(part.content_type, "audio/wav"));
    assert_true(slice_is(part.data, "\r\n--Xy\r\n"));
    assert_int_equal(multipart_next(&m, &part, NULL), 0);
    assert_int_equal(multipart_next(&m, &part, NULL), 0);
}

static void test_multipart_reads_names_as_clients_write_them(void **state)
{
    (void)state;
    static const struct {
        const char *header, *name, *filename;
    } rows[] = {
        {"name=\"a\"; filename=\"b\"", "a", "b"},
        {"filename=\"x; name=y\"; name=\"a\"", "a", "x; name=y"},
        {"name=\"q\\\"u\\\\o\"", "q\"u\\o", ""},
        {"name=\"q%22u%0D%0Ao%zz\"", "q\"u\r\no%zz", ""},
        {"name=a;filename=b", "a", "b"},
        {"NAME=\"a\"", "a", ""},
        {"filename*=UTF-8''x; name=\"a\"; filename=\"b\"", "a", "b"},
        {"name=\"\"", "", ""},
        {"name=\"never ends", "never ends", ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf body = {0};
        struct multipart_part part;
        buf_addf(&body, "--XyZ\r\nContent-Disposition: form-data; %s\r\n\r\nx\r\n--XyZ--",
                 rows[i].header);
        assert_int_equal(first_part(type, buf_text(&body), &part), 1);
        assert_string_equal(part.name, rows[i].name);
        assert_string_equal(part.filename, rows[i].filename);
        buf_release(&body);
    }
}

static void test_multipart_reads_boundaries_as_clients_write_them(void **state)
{
    (void)state;
    struct multipart_part part;
    static const char body[] = "--a b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--a b--";
    assert_int_equal(first_part("Multipart/Form-Data; charset=x; boundary=\"a b\"", body, &part),
                     1);
    assert_int_equal(part.data.size, 0);
    assert_int_equal(first_part("multipart/form-data;boundary=\"a b\"; x=y", body, &part), 1);
    assert_int_equal(first_part("multipart/form-data; boundary=a b", body, &part), CARAT_E_FORMAT);
    assert_int_equal(first_part("multipart/form-data; boundary=", body, &part), CARAT_E_FORMAT);
    assert_int_equal(first_part("multipart/mixed; boundary=\"a b\"", body, &part),
                     CARAT_E_ARGUMENT);
    assert_int_equal(first_part("", body, &part), CARAT_E_ARGUMENT);
}

static void test_multipart_takes_names_of_the_longest_size(void **state)
{
    (void)state;
    for (size_t n = MULTIPART_NAME_MAX - 1; n <= MULTIPART_NAME_MAX + 1; n++) {
        struct buf body = {0};
        struct multipart_part part;
        buf_adds(&body, "--XyZ\r\nContent-Disposition: form-data; name=\"");
        for (size_t i = 0; i < n; i++) {
            buf_addc(&body, 'n');
        }
        buf_adds(&body, "\"\r\n\r\nx\r\n--XyZ--");
        assert_int_equal(first_part(type, buf_text(&body), &part), 1);
        assert_int_equal(strlen(part.name), n <= MULTIPART_NAME_MAX ? n : MULTIPART_NAME_MAX);
        buf_release(&body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multipart_reads_parts_in_order),
        cmocka_unit_test(test_multipart_reads_names_as_clients_write_them),
        cmocka_unit_test(test_multipart_reads_boundaries_as_clients_write_them),
        cmocka_unit_test(test_multipart_takes_names_of_the_longest_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
