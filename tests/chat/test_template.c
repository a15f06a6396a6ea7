// SPDX-License-Identifier: Apache-2.0
// The renderer against the recorded goldens, and what they do not reach: names of versions, errors,
// odd values, tokens of safe and trusted text.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "chat/template.h"
#include "chat_row.h"

static const char *const version_names[] = {"canonical", "canonical-edge", "revision-2026-04",
                                            "interleaved", "launch"};
#define N_VERSIONS 5

static void check_row(const struct json_value *row)
{
    struct arena arena = {0};
    struct carat_chat chat;
    struct chat_result result = {0};
    struct carat_error err = {0};
    assert_int_equal(chat_row_read(&chat, row, &arena), 0);
    assert_int_not_equal(chat.chat_template, CARAT_TEMPLATE_AUTO);
    struct slice id = json_string(json_get(row, "id"));
    struct slice expected = json_string(json_get(row, "rendered"));
    int rc = chat_render(&result, &chat, chat.chat_template, NULL, &err);
    if (slice_is(id, "call-args-json-string") && json_get(row, "error")) {
        assert_int_equal(rc, CARAT_E_FORMAT);
        assert_non_null(strstr(err.text, "get_weather"));
    } else if (slice_is(id, "call-tool-object")) { // the templates fail here, though they need not
        assert_int_equal(rc, 0);
        assert_non_null(
            strstr(buf_text(&result.text),
                   "<|tool_response>response:get_weather{alerts:[],sky:<|\"|>rain"
                   "<|\"|>,temp:12,wind:{dir:<|\"|>NW<|\"|>,kmh:7.5}}<tool_response|>"));
    } else {
        if (rc) {
            fail_msg("%.*s: %s", (int)id.size, id.data, err.text);
        }
        if (!slice_equal(expected, slice_make(buf_text(&result.text), result.text.size))) {
            fail_msg("%.*s with %s:\nexpected %.*s\nfound    %s", (int)id.size, id.data,
                     chat_template_name(chat.chat_template), (int)expected.size, expected.data,
                     buf_text(&result.text));
        }
        bool opens = slice_ends(expected, "<|channel>thought\n");
        assert_int_equal(result.opens_thought, opens);
    }
    chat_result_release(&result);
    arena_release(&arena);
}

static void test_renders_every_golden(void **state)
{
    (void)state;
    assert_int_equal(chat_rows_each(TEST_DATA "/io/chat.jsonl", check_row), 305);
}

// Conversations and schemas made at random, rendered by the published templates.
static void test_renders_random_chats(void **state)
{
    (void)state;
    assert_int_equal(chat_rows_each(TEST_DATA "/chat/random.jsonl", check_row), 100);
}

// Renders a row that is written here.
static int render(struct chat_result *result, const char *row, const struct tokenizer *tokenizer,
                  bool trusts, struct carat_error *err)
{
    struct arena arena = {0};
    struct carat_chat chat;
    struct json_doc *doc = NULL;
    *result = (struct chat_result){0};
    assert_int_equal(json_parse(&doc, row, strlen(row), "row", err), 0);
    assert_int_equal(chat_row_read(&chat, json_root(doc), &arena), 0);
    chat.trusts_markers = trusts;
    enum carat_template which = chat.chat_template ? chat.chat_template : CARAT_TEMPLATE_CANONICAL;
    int rc = chat_render(result, &chat, which, tokenizer, err);
    json_free(doc);
    arena_release(&arena);
    return rc;
}

static void test_prints_values_as_python_does(void **state)
{
    static const char *const values[][2] = {
        {"0", "0"},
        {"-0", "0"},
        {"123456789012345678901234567890", "123456789012345678901234567890"},
        {"1.0", "1.0"},
        {"-0.0", "-0.0"},
        {"0.1", "0.1"},
        {"1e15", "1000000000000000.0"},
        {"1e16", "1e+16"},
        {"1.5E+300", "1.5e+300"},
        {"0.0001", "0.0001"},
        {"0.00001", "1e-05"},
        {"123e-7", "1.23e-05"},
        {"1e-07", "1e-07"},
        {"5e-324", "5e-324"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"5.684341886080802e-14", "5.684341886080802e-14"}, // 2**-44: 16 digits, not the nearest
        {"0.30000000000000004", "0.30000000000000004"},
        {"100.0", "100.0"},
        {"1234.5678", "1234.5678"},
        {"true", "true"},
        {"null", "null"},
        {"[]", "[]"},
        {"{}", "{}"},
        {"[[],{\"b\":1,\"A\":[2]}]", "[[],{A:[2],b:1}]"},
        {"{\"a\":1,\"A\":2,\"a\":3}", "{a:3,A:2}"}, // a repeated key keeps its place
        {"{\"Ö\":1,\"ä\":2,\"Ä\":3,\"z\":4}", "{z:4,ä:2,Ä:3,Ö:1}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct buf row = {0};
        struct buf expected = {0};
        struct chat_result result;
        buf_addf(&row,
                 "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":"
                 "\"f\",\"arguments\":{\"k\":%s}}}]}],\"add_generation_prompt\":false}",
                 values[i][0]);
        buf_addf(&expected,
                 "<bos><|turn>model\n<|tool_call>call:f{k:%s}<tool_call|><|tool_response>",
                 values[i][1]);
        assert_int_equal(render(&result, buf_text(&row), NULL, false, NULL), 0);
        assert_string_equal(buf_text(&result.text), buf_text(&expected));
        chat_result_release(&result);
        buf_release(&row);
        buf_release(&expected);
    }
}

static void test_refuses_what_makes_no_sense(void **state)
{
    static const char *const rows[][2] = {
        {"{\"messages\":[{\"content\":\"x\"}]}", "message 0 has no role"},
        {"{\"messages\":[],\"template\":\"launch\"}", "at least one message"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":{\"a\":1}}]}", "JSON value"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"continue_final_message\":true}",
         "only an assistant message"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]}",
         "has no name"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
         "\"arguments\":[1]}}]}]}",
         "found an array"},
        {"{\"messages\":[{\"role\":\"tool\",\"content\":3}],\"template\":\"interleaved\"}",
         "takes a JSON value as content nowhere"},
        {"{\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}],"
         "\"template\":\"revision-2026-04\"}",
         "join the parts"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct carat_error err = {0};
        struct chat_result result;
        int rc = render(&result, rows[i][0], NULL, false, &err);
        assert_true(rc < 0);
        assert_int_equal(err.status, rc);
        if (!strstr(err.text, rows[i][1])) {
            fail_msg("expected '%s' in '%s'", rows[i][1], err.text);
        }
        assert_null(result.text.data);
    }
    struct carat_chat chat = {0};
    struct chat_result result;
    assert_int_equal(chat_render(&result, &chat, CARAT_TEMPLATE_AUTO, NULL, NULL),
                     CARAT_E_ARGUMENT);
    assert_int_equal(chat_render(&result, &chat, (enum carat_template)77, NULL, NULL),
                     CARAT_E_ARGUMENT);
}

// Results named by the last call of an id, by the message, or not at all.
static void test_names_results(void **state)
{
    static const char row[] =
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":["
        "{\"id\":\"1\",\"function\":{\"name\":\"a\"}},{\"id\":\"1\",\"function\":{\"name\":\"b\"}},"
        "{\"function\":{\"name\":\"c\"}},{\"id\":\"\",\"function\":{\"name\":\"d\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"x\"},"
        "{\"role\":\"tool\",\"name\":\"z\",\"content\":\"x\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"\",\"content\":\"x\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"9\",\"name\":\"y\",\"content\":\"x\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"9\",\"content\":null}]}";
    static const char *const names[] = {"response:b{", "response:c{", "response:d{", "response:y{",
                                        "response:unknown{value:null}"};
    struct chat_result result;
    (void)state;
    assert_int_equal(render(&result, row, NULL, false, NULL), 0);
    const char *at = buf_text(&result.text);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        at = strstr(at, names[i]);
        assert_non_null(at);
    }
    chat_result_release(&result);
}

static void test_renders_deep_arguments(void **state)
{
    struct buf row = {0};
    struct chat_result result;
    (void)state;
    buf_adds(&row, "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":"
                   "\"f\",\"arguments\":{\"k\":");
    for (int i = 0; i < 250; i++) {
        buf_adds(&row, "[{\"k\":");
    }
    buf_adds(&row, "1");
    for (int i = 0; i < 250; i++) {
        buf_adds(&row, "}]");
    }
    buf_adds(&row, "}}}]}]}");
    assert_int_equal(render(&result, buf_text(&row), NULL, false, NULL), 0);
    assert_non_null(strstr(buf_text(&result.text), "[{k:[{k:1}]}]"));
    chat_result_release(&result);
    buf_release(&row);
}

static void test_identifies_versions(void **state)
{
    (void)state;
    for (int i = 0; i < N_VERSIONS; i++) {
        assert_string_equal(chat_template_name((enum carat_template)(i + 1)), version_names[i]);
    }
    assert_string_equal(chat_template_name(CARAT_TEMPLATE_AUTO), "unknown");
    assert_int_equal(chat_template_identify(slice_of("{{ messages }}")), CARAT_TEMPLATE_AUTO);
    assert_int_equal(chat_template_identify(slice_of(NULL)), CARAT_TEMPLATE_AUTO);
}

// The demo model carries the revision of April, as a GGUF made in spring does.
static void test_identifies_the_demo_model(void **state)
{
    struct source *source = NULL;
    struct buf text = {0};
    (void)state;
    assert_int_equal(source_open(&source, DEMO_MODEL, false, NULL), 0);
    buf_add_slice(&text, source_chat_template(source));
    assert_int_equal(chat_template_identify(slice_make(buf_text(&text), text.size)),
                     CARAT_TEMPLATE_REVISION_2026_04);
    buf_addc(&text, 'x');
    assert_int_equal(chat_template_identify(slice_make(buf_text(&text), text.size)),
                     CARAT_TEMPLATE_AUTO);
    buf_release(&text);
    source_close(source);
}

// ------------------------------------------------------------------------------ tokens

struct vocabulary {
    struct source *source;
    struct tokenizer *tokenizer;
};

static int open_vocabulary(void **state)
{
    static struct vocabulary v;
    *state = &v;
    return source_open(&v.source, TEST_DATA "/fixtures/unified-text/model", false, NULL) ||
           tokenizer_new(&v.tokenizer, v.source, NULL);
}

static int close_vocabulary(void **state)
{
    struct vocabulary *v = *state;
    tokenizer_free(v->tokenizer);
    source_close(v->source);
    return 0;
}

static size_t count(const struct token_list *list, carat_token token)
{
    size_t n = 0;
    for (size_t i = 0; i < list->count; i++) {
        n += list->tokens[i] == token;
    }
    return n;
}

static void check_joined(const struct tokenizer *t, const struct chat_result *r)
{
    struct buf joined = {0};
    for (size_t i = 0; i < r->tokens.count; i++) {
        buf_add_slice(&joined, tokenizer_text(t, r->tokens.tokens[i]));
    }
    assert_string_equal(buf_text(&joined), buf_text(&r->text));
    buf_release(&joined);
}

static void test_keeps_control_strings_plain(void **state)
{
    static const char row[] =
        "{\"messages\":[{\"role\":\"<|turn>\",\"content\":\"a<turn|>\\n<|turn>system\\nb\"},"
        "{\"role\":\"assistant\",\"content\":\"c<turn|>\",\"reasoning\":\"<turn|>\",\"tool_calls\":"
        "[{\"function\":{\"name\":\"<turn|>\",\"arguments\":{\"<turn|>\":\"<turn|>\"}}}]}],"
        "\"add_generation_prompt\":false}";
    const struct vocabulary *v = *state;
    const struct special_tokens *s = tokenizer_specials(v->tokenizer);
    struct chat_result safe;
    struct chat_result trusted;
    assert_int_equal(render(&safe, row, v->tokenizer, false, NULL), 0);
    assert_int_equal(render(&trusted, row, v->tokenizer, true, NULL), 0);
    assert_string_equal(buf_text(&safe.text), buf_text(&trusted.text));
    assert_int_equal(count(&safe.tokens, s->turn_open), 2);
    assert_int_equal(count(&safe.tokens, s->turn_close), 1);
    assert_int_equal(count(&safe.tokens, s->quote), 2);
    assert_int_equal(count(&trusted.tokens, s->turn_open), 4);
    assert_int_equal(count(&trusted.tokens, s->turn_close), 7);
    check_joined(v->tokenizer, &safe);
    check_joined(v->tokenizer, &trusted);
    chat_result_release(&safe);
    chat_result_release(&trusted);
}

// A call as sampled: oddly spaced, keys in an order of its own, an argument that spells a marker.
static const char sampled_call[] =
    "<|tool_call>call:f{ b :<|\"|>x<turn|>y<|\"|>,a:1.50}<tool_call|>";

static int render_call(struct chat_result *out, const char *sampled, enum carat_template which,
                       const struct tokenizer *tokenizer)
{
    struct carat_part question = {.type = CARAT_PART_TEXT, .text = "q"};
    struct carat_part result = {.type = CARAT_PART_TEXT, .text = "r"};
    struct carat_tool_call call = {
        .id = "1", .name = "f", .arguments = "{\"a\":2}", .sampled = sampled};
    struct carat_message messages[] = {
        {.role = "user", .parts = &question, .n_parts = 1},
        {.role = "assistant", .reasoning = "why", .calls = &call, .n_calls = 1},
        {.role = "tool", .tool_call_id = "1", .parts = &result, .n_parts = 1},
    };
    struct carat_chat chat = {.messages = messages, .n_messages = 3};
    *out = (struct chat_result){0};
    return chat_render(out, &chat, which, tokenizer, NULL);
}

// Byte for byte in every version, and all around it as for a call that is written anew.
static void test_replays_sampled_calls(void **state)
{
    static const char anew[] = "<|tool_call>call:f{a:2}<tool_call|>";
    const struct vocabulary *v = *state;
    const struct special_tokens *s = tokenizer_specials(v->tokenizer);
    for (int which = CARAT_TEMPLATE_CANONICAL; which <= CARAT_TEMPLATE_LAUNCH; which++) {
        struct chat_result plain;
        struct chat_result replayed;
        struct buf expected = {0};
        assert_int_equal(render_call(&plain, NULL, which, v->tokenizer), 0);
        assert_int_equal(render_call(&replayed, sampled_call, which, v->tokenizer), 0);
        const char *at = strstr(buf_text(&plain.text), anew);
        assert_non_null(at);
        buf_add(&expected, plain.text.data, (size_t)(at - plain.text.data));
        buf_adds(&expected, sampled_call);
        buf_adds(&expected, at + strlen(anew));
        assert_string_equal(buf_text(&replayed.text), buf_text(&expected));
        check_joined(v->tokenizer, &replayed);
        // The call's own markers are control tokens, the one inside the argument is not.
        assert_int_equal(count(&replayed.tokens, s->quote), count(&plain.tokens, s->quote) + 2);
        assert_int_equal(count(&replayed.tokens, s->turn_close),
                         count(&plain.tokens, s->turn_close));
        buf_release(&expected);
        chat_result_release(&plain);
        chat_result_release(&replayed);
    }
}

// A call that the end of the message closed comes back without its marker, odd texts as text.
static void test_replays_whatever_was_sampled(void **state)
{
    static const char *const texts[] = {
        "<|tool_call>call:f{a:1}", "<|tool_call>", "", "<tool_call|>", "<|\"|><|\"|>",
        "<|tool_call><tool_call|>"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct chat_result r;
        struct buf expected = {0};
        assert_int_equal(render_call(&r, texts[i], CARAT_TEMPLATE_CANONICAL, NULL), 0);
        buf_addf(&expected, "\n<channel|>%s<|tool_response>", texts[i]);
        assert_non_null(strstr(buf_text(&r.text), buf_text(&expected)));
        buf_release(&expected);
        chat_result_release(&r);
    }
}

// The reference encodes what is before a control string, the string, and what is behind, each by
// itself.
static void test_takes_control_strings_apart(void **state)
{
    static const char row[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a <turn|>  b\"}],"
                              "\"add_generation_prompt\":false}";
    static const char *const runs[] = {"user\na ", "<turn|>", "  b"};
    const struct vocabulary *v = *state;
    const struct special_tokens *s = tokenizer_specials(v->tokenizer);
    struct token_list expected = {0};
    struct chat_result r;
    assert_int_equal(render(&r, row, v->tokenizer, false, NULL), 0);
    token_list_add(&expected, s->bos, NULL);
    token_list_add(&expected, s->turn_open, NULL);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(tokenizer_encode(v->tokenizer, slice_of(runs[i]), false, &expected, NULL),
                         0);
    }
    token_list_add(&expected, s->turn_close, NULL);
    assert_int_equal(tokenizer_encode(v->tokenizer, slice_of("\n"), false, &expected, NULL), 0);
    assert_int_equal(r.tokens.count, expected.count);
    assert_memory_equal(r.tokens.tokens, expected.tokens,
                        expected.count * sizeof(*expected.tokens));
    token_list_release(&expected);
    chat_result_release(&r);
}

// Where the user's text contains no control string, both ways give the same tokens: those of the
// whole text. So merges reach over the borders between the template's text and the user's.
static void check_row_tokens(const struct json_value *row, const struct tokenizer *t)
{
    struct arena arena = {0};
    struct carat_chat chat;
    struct chat_result r = {0};
    struct token_list whole = {0};
    assert_int_equal(chat_row_read(&chat, row, &arena), 0);
    if (json_get(row, "rendered") && !json_get(row, "safe_ids") &&
        !strstr(json_string(json_get(row, "id")).data, "thought")) {
        assert_int_equal(chat_render(&r, &chat, chat.chat_template, t, NULL), 0);
        struct slice text = slice_make(buf_text(&r.text), r.text.size);
        assert_int_equal(tokenizer_encode(t, text, true, &whole, NULL), 0);
        assert_int_equal(r.tokens.count, whole.count);
        assert_memory_equal(r.tokens.tokens, whole.tokens, whole.count * sizeof(*whole.tokens));
    }
    token_list_release(&whole);
    chat_result_release(&r);
    arena_release(&arena);
}

static const struct tokenizer *row_tokenizer;

static void check_row_with_tokenizer(const struct json_value *row)
{
    check_row_tokens(row, row_tokenizer);
}

static void test_tokenizes_across_borders(void **state)
{
    row_tokenizer = ((const struct vocabulary *)*state)->tokenizer;
    assert_int_equal(chat_rows_each(TEST_DATA "/io/chat.jsonl", check_row_with_tokenizer), 305);
}

static void test_survives_failing_allocations(void **state)
{
    static const char row[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"assistant\","
        "\"content\":"
        "\"a<|channel>b<channel|>c\",\"reasoning\":\"r\",\"tool_calls\":[{\"id\":\"1\","
        "\"function\":"
        "{\"name\":\"f\",\"arguments\":{\"k\":[1.5,{\"x\":null}]}}}]},{\"role\":\"tool\","
        "\"tool_call_id\":\"1\",\"content\":{\"v\":[true]}}],\"tools\":[{\"function\":{\"name\":"
        "\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"k\":{\"type\":[\"a\"]},\"l\":{"
        "\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"m\":{}}}}}}}}]}";
    const struct vocabulary *v = *state;
    struct arena arena = {0};
    struct carat_chat chat;
    struct json_doc *doc = NULL;
    assert_int_equal(json_parse(&doc, row, strlen(row), "row", NULL), 0);
    assert_int_equal(chat_row_read(&chat, json_root(doc), &arena), 0);
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        struct chat_result result = {0};
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = chat_render(&result, &chat, CARAT_TEMPLATE_CANONICAL, v->tokenizer, &err);
        mem_fail_nth(0);
        if (rc == 0) {
            assert_true(n > 10);
            chat_result_release(&result);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_int_equal(mem_bytes_now(), before);
    }
    json_free(doc);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_renders_every_golden),
        cmocka_unit_test(test_renders_random_chats),
        cmocka_unit_test(test_prints_values_as_python_does),
        cmocka_unit_test(test_refuses_what_makes_no_sense),
        cmocka_unit_test(test_names_results),
        cmocka_unit_test(test_renders_deep_arguments),
        cmocka_unit_test(test_identifies_versions),
        cmocka_unit_test(test_identifies_the_demo_model),
        cmocka_unit_test_setup_teardown(test_keeps_control_strings_plain, open_vocabulary,
                                        close_vocabulary),
        cmocka_unit_test(test_replays_whatever_was_sampled),
        cmocka_unit_test_setup_teardown(test_replays_sampled_calls, open_vocabulary,
                                        close_vocabulary),
        cmocka_unit_test_setup_teardown(test_takes_control_strings_apart, open_vocabulary,
                                        close_vocabulary),
        cmocka_unit_test_setup_teardown(test_tokenizes_across_borders, open_vocabulary,
                                        close_vocabulary),
        cmocka_unit_test_setup_teardown(test_survives_failing_allocations, open_vocabulary,
                                        close_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
