// SPDX-License-Identifier: Apache-2.0
// The parser against the recorded goldens under every cut, and what they do not reach: stop
// strings, raw mode, limits, broken UTF-8, tokens.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "chat/call.h"
#include "chat/parser.h"
#include "chat_row.h"

// All events of a message, joined.
struct message {
    struct buf text;
    struct buf thought;
    struct buf calls; // a JSON array of {"name":...,"arguments":...}
    struct buf sampled;
    struct buf stop_text;
    size_t n_calls;
    size_t n_events;
    size_t n_stops;
    enum carat_stop stop;
};

static void release_message(struct message *m)
{
    buf_release(&m->text);
    buf_release(&m->thought);
    buf_release(&m->calls);
    buf_release(&m->sampled);
    buf_release(&m->stop_text);
}

static void take_event(struct message *m, const struct carat_event *e)
{
    m->n_events++;
    assert_int_equal(m->n_stops, 0); // nothing follows the end
    assert_int_equal(e->text[e->size], '\0');
    assert_true(utf8_is_valid(e->text, e->size));
    switch (e->type) {
    case CARAT_EVENT_TEXT:
        assert_true(e->size > 0);
        buf_add(&m->text, e->text, e->size);
        break;
    case CARAT_EVENT_THOUGHT:
        assert_true(e->size > 0);
        buf_add(&m->thought, e->text, e->size);
        break;
    case CARAT_EVENT_CALL:
        buf_adds(&m->calls, m->n_calls++ ? ",{\"name\":" : "{\"name\":");
        buf_add_json(&m->calls, e->text, e->size);
        buf_adds(&m->calls, ",\"arguments\":");
        break;
    case CARAT_EVENT_CALL_ARGS:
        buf_add(&m->calls, e->text, e->size);
        break;
    case CARAT_EVENT_CALL_END:
        buf_addc(&m->calls, '}');
        buf_add(&m->sampled, e->text, e->size);
        break;
    case CARAT_EVENT_STOP:
        m->n_stops++;
        m->stop = e->stop;
        buf_add(&m->stop_text, e->text, e->size);
        break;
    }
}

static void drain(struct carat_parser *p, struct message *m)
{
    struct carat_event e;
    while (carat_parser_next(p, &e)) {
        take_event(m, &e);
    }
}

static void feed(struct carat_parser *p, struct message *m, const char *text, size_t size)
{
    assert_int_equal(carat_parser_feed_text(p, text, size, NULL), 0);
    drain(p, m);
}

static struct carat_parser *new_parser(const struct carat_parser_options *options)
{
    struct carat_parser *p = NULL;
    struct parser_setup setup = {0};
    assert_int_equal(parser_new(&p, &setup, options, NULL), 0);
    return p;
}

// In three pieces, cut at a and b.
static void parse_cut(struct message *m, struct slice text, size_t a, size_t b,
                      const struct carat_parser_options *options, enum carat_stop end)
{
    *m = (struct message){0};
    struct carat_parser *p = new_parser(options);
    feed(p, m, text.data, a);
    feed(p, m, text.data + a, b - a);
    feed(p, m, text.data + b, text.size - b);
    assert_int_equal(carat_parser_finish(p, end, NULL), 0);
    drain(p, m);
    assert_int_equal(m->n_stops, 1);
    carat_parser_free(p);
}

static void parse_bytes(struct message *m, struct slice text,
                        const struct carat_parser_options *options, enum carat_stop end)
{
    *m = (struct message){0};
    struct carat_parser *p = new_parser(options);
    for (size_t i = 0; i < text.size; i++) {
        feed(p, m, text.data + i, 1);
    }
    assert_int_equal(carat_parser_finish(p, end, NULL), 0);
    drain(p, m);
    carat_parser_free(p);
}

static void parse(struct message *m, const char *text, const struct carat_parser_options *options)
{
    parse_cut(m, slice_of(text), 0, 0, options, CARAT_STOP_TURN);
}

// ------------------------------------------------------------------------------ goldens

static const char *finish_reason(enum carat_stop stop)
{
    return stop == CARAT_STOP_TURN     ? "stop"
           : stop == CARAT_STOP_TOOL   ? "tool_calls"
           : stop == CARAT_STOP_LENGTH ? "length"
                                       : "none";
}

static void check_message(struct message *m, const struct json_value *row, const char *how)
{
    struct buf calls = {0};
    struct json_doc *doc = NULL;
    buf_addf(&calls, "[%s]", buf_text(&m->calls));
    assert_int_equal(json_parse(&doc, buf_text(&calls), calls.size, "calls", NULL), 0);
    bool is_right = slice_is(json_string(json_get(row, "content")), buf_text(&m->text)) &&
                    slice_is(json_string(json_get(row, "reasoning")), buf_text(&m->thought)) &&
                    slice_is(json_string(json_get(row, "finish_reason")), finish_reason(m->stop)) &&
                    json_equal(json_root(doc), json_get(row, "tool_calls"));
    if (!is_right) {
        struct slice id = json_string(json_get(row, "id"));
        fail_msg("%.*s (%s): text [%s], thought [%s], calls %s, %s", (int)id.size, id.data, how,
                 buf_text(&m->text), buf_text(&m->thought), buf_text(&calls),
                 finish_reason(m->stop));
    }
    json_free(doc);
    buf_release(&calls);
    release_message(m);
}

static void check_row(const struct json_value *row)
{
    struct carat_parser_options options = {
        .starts_in_thought = slice_is(json_string(json_get(row, "start")), "reasoning")};
    bool is_cut_off = slice_is(json_string(json_get(row, "end")), "length");
    enum carat_stop end = is_cut_off ? CARAT_STOP_LENGTH : CARAT_STOP_TURN;
    struct slice raw = json_string(json_get(row, "raw"));
    struct message m;
    if (json_bool(json_get(row, "token_level_only"))) {
        return;
    }
    parse_bytes(&m, raw, &options, end);
    check_message(&m, row, "byte by byte");
    for (size_t a = 0; a <= raw.size; a++) {
        for (size_t b = a; b <= raw.size; b += 7) {
            parse_cut(&m, raw, a, b, &options, end);
            check_message(&m, row, "in three pieces");
        }
    }
}

static void test_parses_every_golden_under_every_cut(void **state)
{
    (void)state;
    assert_int_equal(chat_rows_each(TEST_DATA "/io/parse.jsonl", check_row), 56);
}

// ------------------------------------------------------------------------------ events

static void test_keeps_the_call_as_sampled(void **state)
{
    struct message m;
    (void)state;
    parse(&m, "x<|tool_call>call: f{}<tool_call|><|tool_call>call:g{ a:<|\"|>1<|\"|>}<tool_call|>",
          NULL);
    assert_string_equal(buf_text(&m.text), "x<|tool_call>call: f{}<tool_call|>");
    assert_string_equal(buf_text(&m.sampled), "<|tool_call>call:g{ a:<|\"|>1<|\"|>}<tool_call|>");
    assert_string_equal(buf_text(&m.calls), "{\"name\":\"g\",\"arguments\":{\"a\":\"1\"}}");
    assert_int_equal(m.stop, CARAT_STOP_TOOL);
    release_message(&m);
}

// One feed: one event per stretch of text, and events that were not asked for wait.
static void test_joins_pieces_and_keeps_events(void **state)
{
    static const char first[] = "a b <channel|>c<|channel>thought\nx y\n<channel|>d";
    struct carat_parser *p = new_parser(NULL);
    struct message m = {0};
    (void)state;
    assert_int_equal(carat_parser_feed_text(p, first, strlen(first), NULL), 0);
    assert_int_equal(carat_parser_feed_text(p, " e<turn|>ignored", 16, NULL), 0);
    assert_int_equal(carat_parser_finish(p, CARAT_STOP_LENGTH, NULL), 0);
    drain(p, &m);
    assert_int_equal(m.n_events, 5); // "a b c", "x y", "d", " e", the end
    assert_string_equal(buf_text(&m.text), "a b cd e");
    assert_string_equal(buf_text(&m.thought), "x y");
    assert_int_equal(m.stop, CARAT_STOP_TURN);
    feed(p, &m, "more", 4);
    assert_int_equal(m.n_events, 5);
    release_message(&m);
    carat_parser_free(p);
}

static void test_emits_text_as_soon_as_it_is_sure(void **state)
{
    static const char *const steps[][2] = {
        {" \n", ""},
        {"Hi", "Hi"},
        {"  ", ""},
        {"you", "  you"},
        {"<", ""},
        {"|to", ""},
        {"ken>", "<|token>"},
        {"\xC3", ""},
        {"\xA9", "é"},
        {"\xC3", ""},
        {"x", "\xEF\xBF\xBDx"},
    };
    struct carat_parser *p = new_parser(NULL);
    (void)state;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct message m = {0};
        feed(p, &m, steps[i][0], strlen(steps[i][0]));
        assert_string_equal(buf_text(&m.text), steps[i][1]);
        release_message(&m);
    }
    carat_parser_free(p);
}

// ------------------------------------------------------------------------------ stop strings

static void test_stops_at_strings(void **state)
{
    static const struct {
        const char *text;
        const char *stops[3];
        const char *expected;
        const char *met; // NULL: none
    } cases[] = {
        {"one END two", {"END"}, "one", "END"},
        {"one EN", {"END"}, "one EN", NULL},
        {"aaab", {"aab"}, "a", "aab"},
        {"ababac", {"abac"}, "ab", "abac"},
        {"xabcy", {"bc", "abc"}, "x", "abc"},
        {"xabcy", {"b", "abc"}, "xa", "b"},
        {"xabd", {"abc", "bd"}, "xa", "bd"},
        {"line\n\nnext", {"\n\n"}, "line", "\n\n"},
        {"\n\nstart\n", {"\n"}, "start", "\n"}, // space in front is no text yet
        {"é è", {"è"}, "é", "è"},
        {"a<|channel>thought\nEND<channel|>bEND", {"END"}, "ab", "END"}, // not in thoughts
        {"E<|channel>thought\nx<channel|>ND", {"END"}, "END", NULL},     // not across them
        {"<|tool_call>call:f{a:END}<tool_call|>", {"END"}, "", NULL},    // not in calls
        {"<|tool_call>call:f{END<tool_call|>x", {"END"}, "<|tool_call>call:f{", "END"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct carat_parser_options options = {.stops = cases[i].stops};
        while (options.n_stops < 3 && cases[i].stops[options.n_stops]) {
            options.n_stops++;
        }
        struct slice text = slice_of(cases[i].text);
        for (size_t a = 0; a <= text.size; a++) {
            struct message m;
            parse_cut(&m, text, a, a, &options, CARAT_STOP_LENGTH);
            assert_string_equal(buf_text(&m.text), cases[i].expected);
            assert_int_equal(m.stop, cases[i].met ? CARAT_STOP_STRING : CARAT_STOP_LENGTH);
            assert_string_equal(buf_text(&m.stop_text), cases[i].met ? cases[i].met : "");
            release_message(&m);
        }
    }
}

static void test_refuses_bad_stop_strings(void **state)
{
    static char long_string[PARSER_STOP_SIZE_MAX + 2];
    static const char *const bad[] = {"", "\xC3", NULL, long_string};
    const char *many[PARSER_STOPS_MAX + 1];
    struct parser_setup setup = {0};
    struct carat_parser *p = NULL;
    (void)state;
    memset(long_string, 'x', PARSER_STOP_SIZE_MAX + 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct carat_parser_options options = {.stops = &bad[i], .n_stops = 1};
        assert_int_equal(parser_new(&p, &setup, &options, NULL), CARAT_E_ARGUMENT);
    }
    for (size_t i = 0; i < PARSER_STOPS_MAX + 1; i++) {
        many[i] = "x";
    }
    struct carat_parser_options options = {.stops = many, .n_stops = PARSER_STOPS_MAX + 1};
    assert_int_equal(parser_new(&p, &setup, &options, NULL), CARAT_E_ARGUMENT);
    assert_null(p);
}

// ------------------------------------------------------------------------------ other modes,
// limits

static void test_raw_mode_passes_everything(void **state)
{
    static const char *const stops[] = {"END"};
    struct carat_parser_options options = {.is_raw = true, .stops = stops, .n_stops = 1};
    struct message m;
    (void)state;
    parse(&m, " \na <|channel>b<channel|> <|tool_call>c \n", &options);
    assert_string_equal(buf_text(&m.text), " \na b c \n");
    assert_int_equal(m.stop, CARAT_STOP_TURN);
    release_message(&m);
    parse(&m, " x ENDy", &options);
    assert_string_equal(buf_text(&m.text), " x ");
    assert_int_equal(m.stop, CARAT_STOP_STRING);
    release_message(&m);
    parse(&m, "x <eos>y", &options);
    assert_string_equal(buf_text(&m.text), "x ");
    release_message(&m);
}

static void test_takes_an_endless_call_for_text(void **state)
{
    static const char text[] = "<|tool_call>call:f{a:<|\"|>12345\xC3\xA9<tool_call|>67 <turn|>";
    struct parser_setup setup = {.call_max = 22};
    (void)state;
    for (size_t a = 0; a <= strlen(text); a++) {
        struct carat_parser *p = NULL;
        struct message m = {0};
        assert_int_equal(parser_new(&p, &setup, NULL, NULL), 0);
        feed(p, &m, text, a);
        feed(p, &m, text + a, strlen(text) - a);
        assert_string_equal(buf_text(&m.text),
                            "<|tool_call>call:f{a:<|\"|>12345\xC3\xA9<tool_call|>67");
        assert_int_equal(m.stop, CARAT_STOP_TURN);
        release_message(&m);
        carat_parser_free(p);
    }
    // A call that is one byte shorter than the limit is a call.
    struct carat_parser *p = NULL;
    struct message m = {0};
    setup.call_max = strlen("call:f{a:1}");
    assert_int_equal(parser_new(&p, &setup, NULL, NULL), 0);
    feed(p, &m, "<|tool_call>call:f{a:1}<turn|>", 30);
    assert_int_equal(m.n_calls, 1);
    release_message(&m);
    carat_parser_free(p);
}

static void test_reports_why_it_ended(void **state)
{
    struct message m;
    (void)state;
    parse_cut(&m, slice_of("a"), 0, 0, NULL, CARAT_STOP_USER);
    assert_int_equal(m.stop, CARAT_STOP_USER);
    release_message(&m);
    parse_cut(&m, slice_of("<|tool_call>call:f{}<tool_call|>"), 0, 0, NULL, CARAT_STOP_LENGTH);
    assert_int_equal(m.stop, CARAT_STOP_LENGTH);
    assert_int_equal(m.n_calls, 1);
    release_message(&m);
    parse(&m, "<|tool_response>", NULL); // it waits, but for nothing
    assert_int_equal(m.stop, CARAT_STOP_TURN);
    release_message(&m);
}

static void test_survives_failing_allocations(void **state)
{
    static const char text[] = " a <|channel>thoughts x\n <channel|> b EN <|tool_call>call:f{a:[1],"
                               "b:<|\"|>x<|\"|>,b:2}<tool_call|>\n<|tool_call>call:f{<turn|>";
    static const char *const stops[] = {"END"};
    struct carat_parser_options options = {.stops = stops, .n_stops = 1};
    struct parser_setup setup = {0};
    size_t before = mem_bytes_now();
    (void)state;
    for (size_t n = 1;; n++) {
        struct carat_parser *p = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = parser_new(&p, &setup, &options, &err);
        if (!rc) {
            rc = carat_parser_feed_text(p, text, strlen(text), &err);
        }
        mem_fail_nth(0);
        carat_parser_free(p);
        assert_int_equal(mem_bytes_now(), before);
        if (!rc) {
            assert_true(n > 10);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
    }
}

// ------------------------------------------------------------------------------ calls

static void test_reads_the_call_grammar(void **state)
{
    static const struct {
        const char *body;
        const char *json; // NULL: no call
    } cases[] = {
        {"call:f{}", "{}"},
        {" \n call:f {} \n", "{}"},
        {"call:f{a:{}}", "{\"a\":{}}"},
        {"call:f{a:[]}", "{\"a\":[]}"},
        {"call:f{a:[{},[],{b:1}],c:2}", "{\"a\":[{},[],{\"b\":1}],\"c\":2}"},
        {"call:f{a:1,b:{a:1,a:[2]},a:{c:3}}", "{\"b\":{\"a\":[2]},\"a\":{\"c\":3}}"},
        {"call:f{a:{x:1},a:2}", "{\"a\":2}"},
        {"call:f{a:-0.5e+3,b:-,c:01,d:1.,e:.5,f:1e,g:-1}",
         "{\"a\":-0.5e+3,\"b\":\"-\",\"c\":\"01\",\"d\":\"1.\",\"e\":\".5\",\"f\":\"1e\",\"g\":-"
         "1}"},
        {"call:f{a:True,b:nullx,c:NaN}", "{\"a\":\"True\",\"b\":\"nullx\",\"c\":\"NaN\"}"},
        {"call:f{a b:c d }", "{\"a b\":\"c d\"}"},
        {"call:f{\"\\u0041\\ud83d\\ude00\\n\":\"\\ud83d\"}", "{\"A😀\\n\":\"\xEF\xBF\xBD\"}"},
        {"call:f{a:\"x\ny\"}", "{\"a\":\"x\\ny\"}"},
        {"call:f{a:<|\"|>\"{[,]}:\\<|\"|>}", "{\"a\":\"\\\"{[,]}:\\\\\"}"},
        {"call:f", NULL},
        {"call:{}", NULL},
        {"call: f{}", NULL},
        {"call:f g{}", NULL},
        {"call:f\xE3\x80\x80g{}", NULL}, // an ideographic space
        {"f{}", NULL},
        {"call:f{", NULL},
        {"call:f{a:1", NULL},
        {"call:f{a:1]", NULL},
        {"call:f{a:[1}", NULL},
        {"call:f{a:1}x", NULL},
        {"call:f{a:1,}", NULL},
        {"call:f{,a:1}", NULL},
        {"call:f{a}", NULL},
        {"call:f{:1}", NULL},
        {"call:f{<|\"|><|\"|>:1}", NULL},
        {"call:f{a:<|\"|>x}", NULL},
        {"call:f{a:\"x}", NULL},
        {"call:f{a:\"\\x\"}", NULL},
        {"call:f{a:\"\\u12g4\"}", NULL},
        {"call:f{a:\"\\ud83d\\u12\"}", NULL},
        {"call:f{a:x\"y\"}", NULL},
        {"call:f{a:b:c}", NULL},
        {"call:f{a:<b}", NULL},
        {"call:f[1]", NULL},
        {"", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf name = {0};
        struct buf json = {0};
        int rc = call_parse(&name, &json, slice_of(cases[i].body), NULL);
        if (rc != (cases[i].json ? 0 : 1) ||
            (cases[i].json && strcmp(buf_text(&json), cases[i].json) != 0)) {
            fail_msg("%s: rc %d, %s", cases[i].body, rc, buf_text(&json));
        }
        assert_string_equal(buf_text(&name), cases[i].json ? "f" : "");
        buf_release(&name);
        buf_release(&json);
    }
}

static int parse_nested(size_t depth)
{
    struct buf body = {0};
    struct buf name = {0};
    struct buf json = {0};
    buf_adds(&body, "call:f{a:");
    for (size_t i = 0; i + 1 < depth; i++) {
        buf_addc(&body, '[');
    }
    for (size_t i = 0; i + 1 < depth; i++) {
        buf_addc(&body, ']');
    }
    buf_adds(&body, depth == 1 ? "1}" : "}");
    int rc = call_parse(&name, &json, slice_make(buf_text(&body), body.size), NULL);
    if (rc == 0) { // what we accept, we can read
        struct json_doc *doc = NULL;
        assert_int_equal(json_parse(&doc, buf_text(&json), json.size, "json", NULL), 0);
        json_free(doc);
    }
    buf_release(&body);
    buf_release(&name);
    buf_release(&json);
    return rc;
}

static void test_limits_the_depth_of_arguments(void **state)
{
    (void)state;
    assert_int_equal(parse_nested(1), 0);
    assert_int_equal(parse_nested(CALL_DEPTH_MAX), 0);
    assert_int_equal(parse_nested(CALL_DEPTH_MAX + 1), 1);
    assert_int_equal(parse_nested(100000), 1);
}

// ------------------------------------------------------------------------------ tokens

static const struct tokenizer *row_tokenizer;

static void check_row_by_token(const struct json_value *row)
{
    struct carat_parser_options options = {
        .starts_in_thought = slice_is(json_string(json_get(row, "start")), "reasoning")};
    bool is_cut_off = slice_is(json_string(json_get(row, "end")), "length");
    struct parser_setup setup = {.tokenizer = row_tokenizer};
    struct carat_parser *p = NULL;
    struct token_list tokens = {0};
    struct message m = {0};
    if (json_bool(json_get(row, "token_level_only"))) {
        return;
    }
    struct slice raw = json_string(json_get(row, "raw"));
    assert_int_equal(tokenizer_encode(row_tokenizer, raw, true, &tokens, NULL), 0);
    assert_int_equal(parser_new(&p, &setup, &options, NULL), 0);
    for (size_t i = 0; i < tokens.count; i++) {
        assert_int_equal(carat_parser_feed(p, tokens.tokens[i], NULL), 0);
        struct carat_event e;
        while (carat_parser_next(p, &e)) {
            assert_int_equal(e.token, tokens.tokens[i]);
            take_event(&m, &e);
        }
    }
    assert_int_equal(carat_parser_finish(p, is_cut_off ? CARAT_STOP_LENGTH : CARAT_STOP_TURN, NULL),
                     0);
    drain(p, &m);
    check_message(&m, row, "token by token");
    carat_parser_free(p);
    token_list_release(&tokens);
}

static void feed_plain(struct carat_parser *p, struct message *m, const char *text)
{
    struct token_list tokens = {0};
    assert_int_equal(tokenizer_encode(row_tokenizer, slice_of(text), false, &tokens, NULL), 0);
    for (size_t i = 0; i < tokens.count; i++) {
        assert_int_equal(carat_parser_feed(p, tokens.tokens[i], NULL), 0);
        drain(p, m);
    }
    token_list_release(&tokens);
}

static bool is_token_x(const void *context, carat_token token)
{
    return token == *(const carat_token *)context;
}

static void test_reads_tokens(void **state)
{
    struct source *source = NULL;
    struct tokenizer *tokenizer = NULL;
    struct carat_parser *p = NULL;
    struct message m = {0};
    (void)state;
    assert_int_equal(source_open(&source, TEST_DATA "/fixtures/unified-text/model", false, NULL),
                     0);
    assert_int_equal(tokenizer_new(&tokenizer, source, NULL), 0);
    row_tokenizer = tokenizer;
    assert_int_equal(chat_rows_each(TEST_DATA "/io/parse.jsonl", check_row_by_token), 56);

    // Markers spelled with ordinary tokens are text.
    carat_token x = tokenizer_find(tokenizer, slice_of("x"));
    struct parser_setup setup = {.tokenizer = tokenizer, .is_stop = is_token_x, .context = &x};
    assert_int_equal(parser_new(&p, &setup, NULL, NULL), 0);
    feed_plain(p, &m, "<|channel>a<channel|> <|tool_call>call:f{}<tool_call|><turn|>");
    assert_int_equal(m.n_stops, 0);
    assert_int_equal(carat_parser_feed(p, x, NULL), 0); // the model's own stop token
    drain(p, &m);
    assert_string_equal(buf_text(&m.text),
                        "<|channel>a<channel|> <|tool_call>call:f{}<tool_call|><turn|>");
    assert_int_equal(m.n_stops, 1);
    release_message(&m);
    carat_parser_free(p);
    tokenizer_free(tokenizer);
    source_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses_every_golden_under_every_cut),
        cmocka_unit_test(test_keeps_the_call_as_sampled),
        cmocka_unit_test(test_joins_pieces_and_keeps_events),
        cmocka_unit_test(test_emits_text_as_soon_as_it_is_sure),
        cmocka_unit_test(test_stops_at_strings),
        cmocka_unit_test(test_refuses_bad_stop_strings),
        cmocka_unit_test(test_raw_mode_passes_everything),
        cmocka_unit_test(test_takes_an_endless_call_for_text),
        cmocka_unit_test(test_reports_why_it_ended),
        cmocka_unit_test(test_survives_failing_allocations),
        cmocka_unit_test(test_reads_the_call_grammar),
        cmocka_unit_test(test_limits_the_depth_of_arguments),
        cmocka_unit_test(test_reads_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
