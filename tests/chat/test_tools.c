// SPDX-License-Identifier: Apache-2.0
// Tool declarations against what the published templates write (tests/data/chat/tools.jsonl), and
// schemas that are wrong or very deep.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "chat/tools.h"
#include "chat_row.h"

static const struct {
    const char *name;
    struct tools_style style;
} versions[] = {
    {"canonical", {.has_null = true}},
    {"canonical-edge", {.has_null = true}},
    {"revision-2026-04", {.drops_keyword_names = true}},
    {"interleaved", {.drops_keyword_names = true, .has_early_nullable = true}},
    {"launch", {.drops_keyword_names = true, .has_early_nullable = true}},
};
#define N_VERSIONS (sizeof(versions) / sizeof(versions[0]))

static void check_row(const struct json_value *row)
{
    for (size_t i = 0; i < N_VERSIONS; i++) {
        struct pieces out = {0};
        assert_int_equal(tools_write(&out, json_get(row, "tools"), versions[i].style, NULL), 0);
        struct slice expected = json_string(json_get(row, versions[i].name));
        assert_true(expected.size > 0);
        if (!slice_is(expected, buf_text(&out.text))) {
            fail_msg("%s:\nexpected %.*s\nfound    %s", versions[i].name, (int)expected.size,
                     expected.data, buf_text(&out.text));
        }
        pieces_release(&out);
    }
}

static void test_declares_as_the_templates_do(void **state)
{
    (void)state;
    assert_int_equal(chat_rows_each(TEST_DATA "/chat/tools.jsonl", check_row), 6);
}

static int write(struct pieces *out, const char *tools, struct carat_error *err)
{
    struct json_doc *doc = NULL;
    *out = (struct pieces){0};
    assert_int_equal(json_parse(&doc, tools, strlen(tools), "tools", err), 0);
    int rc = tools_write(out, json_root(doc), versions[0].style, err);
    json_free(doc);
    return rc;
}

static void test_writes_nothing_for_no_tools(void **state)
{
    static const char *const nothing[] = {"[]", "null"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pieces out;
        assert_int_equal(write(&out, nothing[i], NULL), 0);
        assert_int_equal(out.text.size, 0);
        pieces_release(&out);
    }
}

static void test_refuses_wrong_schemas(void **state)
{
    static const char *const wrong[][2] = {
        {"{}", "expected an array"},
        {"[3]", "tools[0]"},
        {"[{\"name\":\"f\"}]", "no object \"function\""},
        {"[{\"function\":{\"name\":3}}]", "no string \"function.name\""},
        {"[{\"function\":{\"name\":\"f\",\"parameters\":{\"required\":true}}}]",
         "tool 'f': required"},
        {"[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":[1]}}}]",
         "tool 'f': properties: expected an object"},
        {"[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"array\","
         "\"items\":{\"type\":3}}}}}}]",
         "tool 'f': items: type"},
        {"[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"array\","
         "\"items\":{\"properties\":{\"b\":{\"type\":\"object\",\"required\":7}}}}}}}}]",
         "tool 'f': required"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct pieces out;
        struct carat_error err = {0};
        assert_int_equal(write(&out, wrong[i][0], &err), CARAT_E_FORMAT);
        if (!strstr(err.text, wrong[i][1])) {
            fail_msg("expected '%s' in '%s'", wrong[i][1], err.text);
        }
        pieces_release(&out);
    }
}

// As deep as the JSON reader lets a schema be, objects in objects and arrays in arrays.
static void write_nested(const char *open, const char *close, size_t depth)
{
    struct buf tools = {0};
    struct pieces out;
    buf_adds(&tools, "[{\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
                     "\"properties\":{\"a\":");
    for (size_t i = 0; i < depth; i++) {
        buf_adds(&tools, open);
    }
    buf_adds(&tools, "{\"type\":\"string\"}");
    for (size_t i = 0; i < depth; i++) {
        buf_adds(&tools, close);
    }
    buf_adds(&tools, "}}}}]");
    assert_int_equal(write(&out, buf_text(&tools), NULL), 0);
    assert_true(slice_ends(slice_make(buf_text(&out.text), out.text.size),
                           "type:<|\"|>OBJECT<|\"|>}}<tool|>"));
    pieces_release(&out);
    buf_release(&tools);
}

static void test_writes_deep_schemas(void **state)
{
    (void)state;
    write_nested("{\"type\":\"object\",\"properties\":{\"a\":", "}}", 250);
    write_nested("{\"type\":\"object\",\"a\":", "}", 500);
    write_nested("{\"type\":\"array\",\"items\":", "}", 500);
    write_nested("{\"type\":\"array\",\"items\":{\"properties\":{\"a\":", "}}}", 160);
}

// Names and descriptions come from outside, all else is the template's: that decides which control
// strings count.
static void test_marks_what_comes_from_outside(void **state)
{
    struct pieces out;
    struct buf user = {0};
    (void)state;
    assert_int_equal(
        write(&out,
              "[{\"function\":{\"name\":\"NAME\",\"description\":\"<|tool>\","
              "\"parameters\":{\"type\":\"x\",\"properties\":{\"KEY\":{\"enum\":[\"E\"],"
              "\"type\":\"string\"}},\"required\":[\"R\"]}}}]",
              NULL),
        0);
    assert_true(out.n_borders % 2 == 0);
    for (size_t i = 0; i < out.n_borders; i += 2) {
        buf_add(&user, out.text.data + out.borders[i], out.borders[i + 1] - out.borders[i]);
        buf_addc(&user, ' ');
    }
    assert_string_equal(buf_text(&user), "NAME <|tool> KEY E STRING R X ");
    buf_release(&user);
    pieces_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_declares_as_the_templates_do),
        cmocka_unit_test(test_writes_nothing_for_no_tools),
        cmocka_unit_test(test_refuses_wrong_schemas),
        cmocka_unit_test(test_writes_deep_schemas),
        cmocka_unit_test(test_marks_what_comes_from_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
