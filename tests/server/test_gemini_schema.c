// SPDX-License-Identifier: Apache-2.0
// Schemas as the Gemini API writes them, to JSON Schema.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/api_gemini.h"

static int convert(const char *text, struct buf *out, struct carat_error *err)
{
    struct json_doc *doc = NULL, *converted = NULL;
    assert_int_equal(json_parse(&doc, text, strlen(text), "test", err), 0);
    int rc = gemini_schema(json_root(doc), &converted, err);
    if (rc == 0) {
        json_write(json_root(converted), out);
    }
    json_free(converted);
    json_free(doc);
    return rc;
}

static void test_schema_becomes_json_schema(void **state)
{
    static const struct {
        const char *from, *to;
    } rows[] = {
        {"{\"type\":\"STRING\"}", "{\"type\":\"string\"}"},
        {"{\"type\":\"integer\"}", "{\"type\":\"integer\"}"},
        {"{\"type\":\"TYPE_UNSPECIFIED\"}", "{}"},
        {"{\"type\":[\"STRING\",\"NULL\"]}", "{\"type\":[\"string\",\"null\"]}"},
        {"{\"type\":\"NUMBER\",\"nullable\":true}", "{\"type\":[\"number\",\"null\"]}"},
        {"{\"type\":\"STRING\",\"enum\":[\"a\",\"b\"],\"nullable\":true,\"format\":\"enum\"}",
         "{\"type\":[\"string\",\"null\"],\"enum\":[\"a\",\"b\",null]}"},
        {"{\"type\":\"INTEGER\",\"enum\":[\"1\",\"-2\",\"x\"]}",
         "{\"type\":\"integer\",\"enum\":[1,-2,\"x\"]}"},
        {"{\"type\":\"INTEGER\",\"format\":\"int64\",\"minimum\":\"3\"}",
         "{\"type\":\"integer\",\"minimum\":3}"},
        {"{\"type\":\"STRING\",\"format\":\"date-time\"}",
         "{\"type\":\"string\",\"format\":\"date-time\"}"},
        {"{\"type\":\"ARRAY\",\"min_items\":\"1\",\"maxItems\":2,\"items\":{\"type\":\"BOOLEAN\"}}",
         "{\"type\":\"array\",\"minItems\":1,\"maxItems\":2,\"items\":{\"type\":\"boolean\"}}"},
        {"{\"any_of\":[{\"type\":\"STRING\"}],\"nullable\":true}",
         "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}"},
        // Names of properties are no keywords, and what is said of them is.
        {"{\"type\":\"OBJECT\",\"propertyOrdering\":[\"type\"],\"properties\":{\"type\":{\"type\":"
         "\"STRING\",\"example\":1},\"nullable\":{\"nullable\":true,\"type\":\"NUMBER\"}}}",
         "{\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\"},\"nullable\":{"
         "\"type\":"
         "[\"number\",\"null\"]}}}"},
        {"{\"ref\":\"#/defs/T\",\"defs\":{\"T\":{\"type\":\"OBJECT\",\"properties\":{\"next\":{"
         "\"ref\":\"#/defs/T\"}}}}}",
         "{\"$ref\":\"#/$defs/T\",\"$defs\":{\"T\":{\"type\":\"object\",\"properties\":{\"next\":{"
         "\"$ref\":\"#/$defs/T\"}}}}}"},
        {"{\"type\":\"OBJECT\",\"additionalProperties\":false,\"default\":{\"type\":\"STRING\"}}",
         "{\"type\":\"object\",\"additionalProperties\":false,\"default\":{\"type\":\"STRING\"}}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = {0};
        struct carat_error err = {0};
        assert_int_equal(convert(rows[i].from, &out, &err), 0);
        assert_string_equal(buf_text(&out), rows[i].to);
        buf_release(&out);
    }
}

static void test_schema_of_odd_shape_is_kept_or_refused(void **state)
{
    static const char *const kept[] = {
        "{\"properties\":[1,2]}", "{\"items\":true}", "{\"anyOf\":5}", "{\"enum\":{}}", "{}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        struct buf out = {0};
        assert_int_equal(convert(kept[i], &out, NULL), 0);
        buf_release(&out);
    }
    struct carat_error err = {0};
    struct buf out = {0};
    assert_int_equal(convert("[]", &out, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "expected an object"));
    // Deeper than any schema that somebody means.
    struct buf deep = {0};
    for (size_t i = 0; i < 200; i++) {
        buf_adds(&deep, "{\"items\":");
    }
    buf_adds(&deep, "{}");
    for (size_t i = 0; i < 200; i++) {
        buf_adds(&deep, "}");
    }
    assert_int_equal(convert(buf_text(&deep), &out, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "nested deeper"));
    buf_release(&deep);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema_becomes_json_schema),
        cmocka_unit_test(test_schema_of_odd_shape_is_kept_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
