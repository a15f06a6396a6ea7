// SPDX-License-Identifier: Apache-2.0
// Schemas: recorded verdicts of another validator on documents, and answers sampled at random.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "grammar_walk.h"
#include "schema_check.h"

#define DEMO_GGUF TEST_DATA "/../../demo/carat-demo.gguf"

static int open_demo(void **state)
{
    const struct carat_engine_options options = {.model = DEMO_GGUF, .is_vocab_only = true};
    struct carat_engine *engine = NULL;
    struct carat_error err = {0};
    if (carat_engine_open(&engine, &options, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = engine;
    return 0;
}

static int close_demo(void **state)
{
    carat_engine_close(*state);
    return 0;
}

static struct carat_grammar *grammar_of(const struct carat_engine *e,
                                        const struct carat_grammar_options *options)
{
    struct carat_grammar *grammar = NULL;
    struct carat_error err = {0};
    if (carat_grammar_new(&grammar, e, options, &err)) {
        fail_msg("%s", err.text);
    }
    return grammar;
}

// Calls see(engine, row) for each line of a file.
static void each_row(const struct carat_engine *e, const char *path,
                     void (*see)(const struct carat_engine *, const struct json_value *))
{
    struct buf file = {0};
    struct carat_error err = {0};
    assert_int_equal(os_read_file(&file, path, 1 << 20, &err), 0);
    size_t n = 0;
    for (char *line = file.data; line && *line; n++) {
        char *end = strchr(line, '\n');
        const size_t size = end ? (size_t)(end - line) : strlen(line);
        struct json_doc *doc = NULL;
        assert_int_equal(json_parse(&doc, line, size, path, &err), 0);
        see(e, json_root(doc));
        json_free(doc);
        line += size + (end != NULL);
    }
    assert_true(n > 10);
    buf_release(&file);
}

static void check_documents(const struct carat_engine *e, const struct carat_grammar *g,
                            const struct json_value *list, bool is_right, const char *schema)
{
    uint64_t random = 7;
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        char *text = mem_strndup(json_string(it.value).data, json_string(it.value).size, NULL);
        assert_non_null(text);
        const bool by_tokens = walk_text(e, g, text);
        bool by_pieces = walk_pieces(e, g, text, &random);
        by_pieces = by_pieces && (!is_right || walk_pieces(e, g, text, &random));
        if (by_tokens != is_right || by_pieces != is_right) {
            fail_msg("%s: %s: %s, but expected %s", schema, text,
                     by_tokens == by_pieces ? "the opposite" : "tokens and pieces differ",
                     is_right ? "accepted" : "refused");
        }
        mem_free(text);
    }
}

static void see_schema(const struct carat_engine *e, const struct json_value *row)
{
    struct buf schema = {0};
    json_write(json_get(row, "schema"), &schema);
    struct carat_grammar *g =
        grammar_of(e, &(struct carat_grammar_options){.json_schema = buf_text(&schema)});
    check_documents(e, g, json_get(row, "valid"), true, buf_text(&schema));
    check_documents(e, g, json_get(row, "invalid"), false, buf_text(&schema));
    carat_grammar_free(g);
    buf_release(&schema);
}

static void test_recorded_documents(void **state)
{
    each_row(*state, TEST_DATA "/grammar/schemas.jsonl", see_schema);
}

static void see_expression(const struct carat_engine *e, const struct json_value *row)
{
    struct buf expression = {0};
    buf_add_slice(&expression, json_string(json_get(row, "regex")));
    struct carat_grammar *g =
        grammar_of(e, &(struct carat_grammar_options){.regex = buf_text(&expression)});
    check_documents(e, g, json_get(row, "yes"), true, buf_text(&expression));
    check_documents(e, g, json_get(row, "no"), false, buf_text(&expression));
    carat_grammar_free(g);
    buf_release(&expression);
}

static void test_recorded_expressions(void **state)
{
    each_row(*state, TEST_DATA "/grammar/regex.jsonl", see_expression);
}

// ------------------------------------------------------------------------------ at random

static uint64_t dice;

static size_t roll(size_t n)
{
    return (size_t)(walk_random(&dice) % n);
}

static void add_schema(struct buf *b, unsigned depth);

static void add_object(struct buf *b, unsigned depth)
{
    static const char *const names[] = {"a", "ab", "Name", "name", "x y", "\\u00e9", "z\\\"q"};
    const size_t n = roll(4);
    const size_t first = roll(4);
    buf_adds(b, "{\"type\":\"object\",\"properties\":{");
    for (size_t i = 0; i < n; i++) {
        buf_addf(b, "%s\"%s\":", i ? "," : "", names[first + i]);
        add_schema(b, depth);
    }
    buf_adds(b, "},\"required\":[");
    for (size_t i = 0, listed = 0; i < n; i++) {
        if (roll(2)) {
            buf_addf(b, "%s\"%s\"", listed++ ? "," : "", names[first + i]);
        }
    }
    buf_adds(b, "]");
    if (roll(3) == 0) {
        buf_adds(b, ",\"additionalProperties\":");
        add_schema(b, depth);
    }
    buf_adds(b, "}");
}

static void add_schema(struct buf *b, unsigned depth)
{
    const int lo = (int)roll(400) - 200;
    const size_t kind = roll(depth ? 12 : 8);
    switch (kind) {
    case 0:
        buf_adds(b, "{\"type\":\"string\"}");
        break;
    case 1:
        buf_addf(b, "{\"type\":\"string\",\"minLength\":%d,\"maxLength\":%d}", (int)roll(3),
                 3 + (int)roll(9));
        break;
    case 2:
        buf_addf(b, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}", lo,
                 lo + (int)roll(300));
        break;
    case 3:
        buf_addf(b, "{\"type\":\"number\",\"exclusiveMinimum\":%d.5,\"maximum\":%d.25}", lo,
                 abs(lo) + 1 + (int)roll(300));
        break;
    case 4:
        buf_adds(b, "{\"enum\":[\"red\",\"re\",12,null,[1,\"x\"],{\"j\":[],\"k\":1}]}");
        break;
    case 5:
        buf_adds(b, "{\"type\":[\"boolean\",\"null\",\"integer\"],\"multipleOf\":3}");
        break;
    case 6:
        buf_adds(b, "{\"$ref\":\"#/$defs/list\"}");
        break;
    case 7:
        buf_adds(b, roll(2) ? "{}" : "{\"type\":\"number\"}");
        break;
    case 8:
    case 9:
        add_object(b, depth - 1);
        break;
    case 10:
        buf_addf(b, "{\"type\":\"array\",\"minItems\":%d,\"maxItems\":%d,\"items\":", (int)roll(2),
                 1 + (int)roll(3));
        add_schema(b, depth - 1);
        buf_adds(b, "}");
        break;
    default:
        buf_adds(b, "{\"anyOf\":[");
        add_schema(b, depth - 1);
        buf_adds(b, ",");
        add_schema(b, depth - 1);
        buf_adds(b, "]}");
        break;
    }
}

// Every schema is a property, so that it can be a tool's parameters as well.
static void make_schema(struct buf *b)
{
    buf_adds(b, "{\"type\":\"object\",\"properties\":{\"v\":");
    add_schema(b, 3);
    buf_adds(
        b, "},\"required\":[\"v\"],\"additionalProperties\":false,\"$defs\":{\"list\":{\"anyOf\":["
           "{\"type\":\"null\"},{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"},"
           "\"next\":{\"$ref\":\"#/$defs/list\"}},\"required\":[\"n\",\"next\"]}]}}}");
}

static void check_value(const char *schema, const struct buf *text)
{
    struct json_doc *rules = NULL;
    struct json_doc *value = NULL;
    struct carat_error err = {0};
    assert_int_equal(json_parse(&rules, schema, strlen(schema), "schema", &err), 0);
    if (json_parse(&value, buf_text(text), text->size, "answer", &err)) {
        fail_msg("%s: %s: %s", schema, buf_text(text), err.text);
    }
    if (!schema_accepts(json_root(rules), json_root(rules), json_root(value))) {
        fail_msg("%s does not allow %s", schema, buf_text(text));
    }
    json_free(rules);
    json_free(value);
}

#define ROUNDS 150

static void test_sampled_text_fits(void **state)
{
    size_t n_ended = 0;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct buf schema = {0};
        struct walk_answer answer;
        dice = round;
        make_schema(&schema);
        struct carat_grammar *g =
            grammar_of(*state, &(struct carat_grammar_options){.json_schema = buf_text(&schema)});
        if (walk_sample(*state, g, round, 300, &answer)) {
            n_ended++;
            check_value(buf_text(&schema), &answer.text);
        }
        walk_answer_release(&answer);
        carat_grammar_free(g);
        buf_release(&schema);
    }
    assert_true(n_ended > ROUNDS / 2);
}

static void test_sampled_calls_fit(void **state)
{
    size_t n_ended = 0;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct buf schema = {0};
        struct buf tools = {0};
        struct walk_answer answer;
        dice = 1000 + round;
        make_schema(&schema);
        buf_addf(&tools,
                 "[{\"type\":\"function\",\"function\":{\"name\":\"do-it\",\"strict\":true,"
                 "\"parameters\":%s}}]",
                 buf_text(&schema));
        struct carat_grammar *g = grammar_of(
            *state, &(struct carat_grammar_options){.tools = buf_text(&tools),
                                                    .tool_choice = CARAT_TOOLS_REQUIRED,
                                                    .is_single_call = round % 2 == 0,
                                                    .starts_in_thought = round % 3 == 0});
        if (walk_sample(*state, g, round, 300, &answer)) {
            n_ended++;
            assert_int_equal(answer.stop, CARAT_STOP_TOOL);
            assert_int_equal(answer.text.size, 0);
            assert_string_equal(buf_text(&answer.name), "do-it");
            assert_true(answer.n_calls == 1 || round % 2);
            check_value(buf_text(&schema), &answer.arguments);
        }
        walk_answer_release(&answer);
        carat_grammar_free(g);
        buf_release(&tools);
        buf_release(&schema);
    }
    assert_true(n_ended > ROUNDS / 2);
}

// ------------------------------------------------------------------------------ refusals

static void test_refuses_by_name(void **state)
{
    static const struct {
        const char *schema;
        int status;
        const char *where;
    } cases[] = {
        {"{\"not\": {}}", CARAT_E_UNSUPPORTED, "#/not"},
        {"{\"properties\": {\"a\": {\"type\": \"array\", \"uniqueItems\": true}}}",
         CARAT_E_UNSUPPORTED, "#/properties/a/uniqueItems"},
        {"{\"type\": \"array\", \"items\": {\"contains\": {}}}", CARAT_E_UNSUPPORTED,
         "#/items/contains"},
        {"{\"$ref\": \"http://example.org/x\"}", CARAT_E_UNSUPPORTED, "$ref"},
        {"{\"$ref\": \"#/$defs/none\"}", CARAT_E_UNSUPPORTED, "$ref"},
        {"{\"type\": \"strin\"}", CARAT_E_FORMAT, "#/type"},
        {"{\"type\": \"string\", \"minLength\": -1}", CARAT_E_FORMAT, "#/minLength"},
        {"{\"type\": \"string\", \"pattern\": \"(?=a)\"}", CARAT_E_UNSUPPORTED, "#/pattern"},
        {"{\"type\": \"string\", \"pattern\": \"(\"}", CARAT_E_FORMAT, "#/pattern"},
        {"{\"type\": \"array\", \"minItems\": 5000}", CARAT_E_FULL, "#/items"},
        {"{\"type\": \"object\", \"minProperties\": 2}", CARAT_E_UNSUPPORTED, "#/minProperties"},
        {"{\"allOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}", CARAT_E_ARGUMENT, "schema"},
        {"{\"type\": \"integer\", \"minimum\": 5, \"maximum\": 4}", CARAT_E_ARGUMENT, "schema"},
        {"{\"anyOf\": [{\"$ref\": \"#\"}]}", CARAT_E_ARGUMENT, "schema"},
        {"{\"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"], \"type\": "
         "\"object\"}",
         CARAT_E_ARGUMENT, "schema"},
        {"{", CARAT_E_FORMAT, "json_schema"},
        {"3", CARAT_E_FORMAT, "#"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct carat_grammar *g = NULL;
        struct carat_error err = {0};
        const int rc = carat_grammar_new(
            &g, *state, &(struct carat_grammar_options){.json_schema = cases[i].schema}, &err);
        if (rc != cases[i].status || err.status != rc || !strstr(err.text, cases[i].where)) {
            fail_msg("%s: %d, %s", cases[i].schema, rc, err.text);
        }
        assert_null(g);
    }
}

static void test_ignores_annotations(void **state)
{
    static const char schema[] =
        "{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\", \"title\": \"T\", "
        "\"description\": \"D\", \"default\": 3, \"examples\": [1], \"x-mine\": {\"not\": 1}, "
        "\"type\": \"integer\", \"format\": \"int32\", \"deprecated\": true}";
    struct carat_grammar *g =
        grammar_of(*state, &(struct carat_grammar_options){.json_schema = schema});
    assert_true(walk_text(*state, g, "7"));
    assert_false(walk_text(*state, g, "\"7\""));
    carat_grammar_free(g);
}

// Sizes just above what is allowed; all of these end quickly.
static void test_limits(void **state)
{
    struct buf b = {0};
    struct carat_grammar *g = NULL;
    struct carat_error err = {0};
    // Choices in choices.
    for (size_t i = 0; i < 60; i++) {
        buf_adds(&b, "{\"anyOf\":[");
    }
    buf_adds(&b, "{\"type\":\"null\"}");
    for (size_t i = 0; i < 60; i++) {
        buf_adds(&b, "]}");
    }
    struct carat_grammar_options options = {.json_schema = buf_text(&b)};
    assert_int_equal(carat_grammar_new(&g, *state, &options, &err), CARAT_E_FULL);
    // Ways to choose: 2^20.
    buf_clear(&b);
    buf_adds(&b, "{\"allOf\":[");
    for (size_t i = 0; i < 20; i++) {
        buf_addf(&b, "%s{\"anyOf\":[{\"title\":\"%zu\"},{\"type\":\"null\"}]}", i ? "," : "", i);
    }
    buf_adds(&b, "]}");
    options.json_schema = buf_text(&b);
    assert_int_equal(carat_grammar_new(&g, *state, &options, &err), CARAT_E_FULL);
    // States.
    options.json_schema = "{\"type\":\"string\",\"pattern\":\"(a|b)*a(a|b){30}\"}";
    assert_int_equal(carat_grammar_new(&g, *state, &options, &err), CARAT_E_FULL);
    options.json_schema = "{\"type\":\"string\",\"pattern\":\"((a{100}){100}){100}\"}";
    assert_int_equal(carat_grammar_new(&g, *state, &options, &err), CARAT_E_FULL);
    // A text that is too long.
    buf_clear(&b);
    buf_adds(&b, "{\"title\":\"");
    for (size_t i = 0; i < ((size_t)1 << 20); i++) {
        buf_addc(&b, 'a');
    }
    buf_adds(&b, "\"}");
    options.json_schema = buf_text(&b);
    assert_int_equal(carat_grammar_new(&g, *state, &options, &err), CARAT_E_FULL);
    assert_null(g);
    buf_release(&b);
}

// Nested as deeply as an answer may be, it can still be closed.
static void test_depth_leaves_a_way_out(void **state)
{
    struct carat_grammar *g =
        grammar_of(*state, &(struct carat_grammar_options){.json_schema = "{}"});
    struct grammar_run *run = NULL;
    assert_int_equal(grammar_run_new(&run, g, NULL), 0);
    carat_token open = CARAT_TOKEN_NONE;
    carat_token close = CARAT_TOKEN_NONE;
    assert_int_equal(carat_tokenize(*state, "[", 1, 0, &open, 1, NULL), 1);
    assert_int_equal(carat_tokenize(*state, "]", 1, 0, &close, 1, NULL), 1);
    size_t depth = 0;
    while (bit_get(grammar_run_allowed(run), open)) {
        grammar_run_accept(run, open);
        depth++;
        assert_true(depth < 1000);
    }
    assert_true(depth > 200);
    for (; depth > 0; depth--) {
        assert_true(bit_get(grammar_run_allowed(run), close));
        grammar_run_accept(run, close);
    }
    assert_false(bit_get(grammar_run_allowed(run), close));
    grammar_run_free(run);
    carat_grammar_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_documents),
        cmocka_unit_test(test_recorded_expressions),
        cmocka_unit_test(test_sampled_text_fits),
        cmocka_unit_test(test_sampled_calls_fit),
        cmocka_unit_test(test_refuses_by_name),
        cmocka_unit_test(test_ignores_annotations),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_depth_leaves_a_way_out),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
