// SPDX-License-Identifier: Apache-2.0
// Grammars as a program uses them: text, thoughts and calls in their order, the sampler, errors,
// the loop guard.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/engine.h"
#include "grammar_walk.h"

#define DEMO_GGUF TEST_DATA "/../../demo/carat-demo.gguf"

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"unit\":{\"type\":\"string\",\"enum\":[\"c\",\"f\"]},\"city\":"
    "{\"type\":\"string\"},\"Days\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":7}},"
    "\"required\":[\"city\"]}}},{\"type\":\"function\",\"function\":{\"name\":\"stop\"}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"any.thing\",\"parameters\":{\"type\":"
    "\"object\"}}}]";

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

struct expected {
    const char *answer;
    bool is_right;
};

static void check_answers(const struct carat_engine *e, const struct carat_grammar_options *options,
                          const struct expected *cases, size_t n)
{
    struct carat_grammar *g = grammar_of(e, options);
    for (size_t i = 0; i < n; i++) {
        if (walk_text(e, g, cases[i].answer) != cases[i].is_right) {
            fail_msg("%s: expected it to be %s", cases[i].answer,
                     cases[i].is_right ? "taken" : "refused");
        }
    }
    carat_grammar_free(g);
}
#define CHECK_ANSWERS(e, options, cases)                                                           \
    check_answers(e, options, cases, sizeof(cases) / sizeof((cases)[0]))

// ------------------------------------------------------------------------------ orders

static void test_calls(void **state)
{
    static const struct expected cases[] = {
        {"<|tool_call>call:get_weather{city:<|\"|>Berlin<|\"|>}<tool_call|>", true},
        {"<|tool_call>call:get_weather{city:<|\"|>a {b}, \"c\": <x>\n<|\"|>,Days:7,unit:<|\"|>c"
         "<|\"|>}<tool_call|>",
         true},
        {"<|tool_call>call:stop{}<tool_call|>", true},
        {"<|tool_call>call:any.thing{}<tool_call|>", true},
        {"<|tool_call>call:any.thing{a:1,b-2:[true,{c:<|\"|>x<|\"|>}],<|\"|>k: 1<|\"|>:null}"
         "<tool_call|>",
         true},
        {"<|tool_call>call:stop{}<tool_call|><|tool_call>call:stop{}<tool_call|>", true},
        {"<|channel>thought\nhm {}\n<channel|><|tool_call>call:stop{}<tool_call|>", true},
        {"", false},
        {"text", false},
        {"<|channel>thought\nhm\n<channel|>", false},
        {"<|tool_call>call:stop{}<tool_call|>text", false},
        {"<|tool_call>call:none{}<tool_call|>", false},
        {"<|tool_call>call:stop{a:1}<tool_call|>", false},
        {"<|tool_call>call:get_weather{}<tool_call|>", false},
        {"<|tool_call>call:get_weather{city:<|\"|>x<|\"|>,Days:8}<tool_call|>", false},
        {"<|tool_call>call:get_weather{city:<|\"|>x<|\"|>,unit:<|\"|>k<|\"|>}<tool_call|>", false},
        {"<|tool_call>call:get_weather{city:3}<tool_call|>", false},
        {"<|tool_call>call:get_weather{city:<|\"|>x<tool_call|>", false},
        {"<|tool_call>call:get_weather{city:<|\"|>x<turn|><|\"|>}<tool_call|>", false},
    };
    CHECK_ANSWERS(
        *state,
        (&(struct carat_grammar_options){.tools = tools, .tool_choice = CARAT_TOOLS_REQUIRED}),
        cases);
}

// Names come sorted without regard to case, as the template writes them: city, Days, unit.
static void test_names_come_in_order(void **state)
{
    static const struct expected cases[] = {
        {"<|tool_call>call:get_weather{city:<|\"|>x<|\"|>,Days:1,unit:<|\"|>f<|\"|>}<tool_call|>",
         true},
        {"<|tool_call>call:get_weather{Days:1,city:<|\"|>x<|\"|>}<tool_call|>", false},
        {"<|tool_call>call:get_weather{unit:<|\"|>f<|\"|>,city:<|\"|>x<|\"|>}<tool_call|>", false},
    };
    CHECK_ANSWERS(*state,
                  (&(struct carat_grammar_options){.tools = tools,
                                                   .tool_choice = CARAT_TOOLS_REQUIRED,
                                                   .tool_name = "get_weather"}),
                  cases);
}

static void test_one_call_of_one_tool(void **state)
{
    static const struct expected cases[] = {
        {"<|tool_call>call:stop{}<tool_call|>", true},
        {"<|tool_call>call:any.thing{}<tool_call|>", false},
        {"<|tool_call>call:stop{}<tool_call|><|tool_call>call:stop{}<tool_call|>", false},
    };
    CHECK_ANSWERS(*state,
                  (&(struct carat_grammar_options){.tools = tools,
                                                   .tool_choice = CARAT_TOOLS_REQUIRED,
                                                   .tool_name = "stop",
                                                   .is_single_call = true}),
                  cases);
}

static void test_text_until_a_call_begins(void **state)
{
    static const struct expected cases[] = {
        {"", true},
        {"any text {", true},
        {"Well.<|tool_call>call:stop{}<tool_call|>", true},
        {"<|channel>thought\n<|tool_call>x\n<channel|>text", true}, // no call inside a thought
        {"Well.<|tool_call>call:stop{1}<tool_call|>", false},
        {"Well.<|tool_call>stop", false},
        {"<|tool_call>call:stop{}<tool_call|>more", false},
    };
    CHECK_ANSWERS(*state, (&(struct carat_grammar_options){.tools = tools}), cases);
}

static void test_no_calls(void **state)
{
    static const struct expected cases[] = {
        {"text", true},
        {"<|channel>thought\nx\n<channel|>text", true},
        {"Well.<|tool_call>call:stop{}<tool_call|>", false},
    };
    CHECK_ANSWERS(
        *state, (&(struct carat_grammar_options){.tools = tools, .tool_choice = CARAT_TOOLS_NONE}),
        cases);
    CHECK_ANSWERS(*state, (&(struct carat_grammar_options){0}), cases);
}

static void test_text_or_calls(void **state)
{
    static const struct expected cases[] = {
        {"12", true},
        {"<|channel>thought\nx 1\n<channel|>12", true},
        {"<|channel>thought\nx\n<channel|><|channel>thought\ny\n<channel|>12", true},
        {"<|tool_call>call:stop{}<tool_call|>", true},
        {"twelve", false},
        {"12<|tool_call>call:stop{}<tool_call|>", false},
        {"<|tool_call>call:stop{}<tool_call|>12", false},
        {"12<|channel>thought\nx\n<channel|>", false},
        {"\n12", false},
        {"12 ", false},
    };
    CHECK_ANSWERS(
        *state,
        (&(struct carat_grammar_options){.tools = tools, .json_schema = "{\"type\":\"integer\"}"}),
        cases);
}

static void test_starts_in_thought(void **state)
{
    static const struct expected cases[] = {
        {"still thinking\n<channel|>yes", true},
        {"<channel|>no", true},
        {"yes", false},
        {"still <|channel>", false},
    };
    static const char *const choices[] = {"yes", "no"};
    CHECK_ANSWERS(*state,
                  (&(struct carat_grammar_options){
                      .choices = choices, .n_choices = 2, .starts_in_thought = true}),
                  cases);
}

static void test_choices(void **state)
{
    static const char *const choices[] = {"red", "reddish", " blue ", "", "\xc3\xa9\xe4\xb8\xad"};
    static const struct expected cases[] = {
        {"red", true},
        {"reddish", true},
        {"blue", true},
        {"", true},
        {"\xc3\xa9\xe4\xb8\xad", true},
        {"redd", false},
        {"re", false},
        {"red ", false},
        {" blue", false},
    };
    CHECK_ANSWERS(*state, (&(struct carat_grammar_options){.choices = choices, .n_choices = 5}),
                  cases);
}

// White space around an answer is not shown, so it does not count, and an expression that wants it
// loses those texts.
static void test_expressions_are_trimmed(void **state)
{
    static const struct expected cases[] = {{"ab", true}, {" ab", false}, {"ab ", false}};
    struct carat_grammar *g = NULL;
    CHECK_ANSWERS(*state, (&(struct carat_grammar_options){.regex = "\\s*ab\\s*"}), cases);
    assert_int_equal(
        carat_grammar_new(&g, *state, &(struct carat_grammar_options){.regex = "ab "}, NULL),
        CARAT_E_ARGUMENT);
}

// ------------------------------------------------------------------------------ the sampler

static carat_token token_of(const struct carat_engine *e, const char *text)
{
    carat_token token = CARAT_TOKEN_NONE;
    assert_int_equal(carat_tokenize(e, text, strlen(text), CARAT_TOKENIZE_SPECIAL, &token, 1, NULL),
                     1);
    return token;
}

// However little the model likes it, and whatever is added to something else.
static void test_sampler_obeys(void **state)
{
    struct carat_engine *e = *state;
    const size_t n = carat_engine_info(e)->n_vocab;
    static const char *const choices[] = {"yes", "no"};
    struct carat_grammar *g =
        grammar_of(e, &(struct carat_grammar_options){.choices = choices, .n_choices = 2});
    float *logits = mem_new_array(n, sizeof(*logits), NULL);
    const carat_token text = token_of(e, "the");
    const struct carat_logit_bias biases[] = {{.token = text, .bias = INFINITY}};
    logits[token_of(e, "<|channel>")] = -9; // no thoughts: those are free
    for (int is_random = 0; is_random < 2; is_random++) {
        struct carat_sampler *s = NULL;
        const struct carat_sampling sampling = {.temperature = (float)is_random,
                                                .top_k = 1,
                                                .top_p = 0.5F,
                                                .repetition_penalty = 1,
                                                .biases = biases,
                                                .n_biases = 1,
                                                .seed = 3,
                                                .grammar = g};
        assert_int_equal(carat_sampler_new(&s, e, &sampling, NULL), 0);
        struct buf answer = {0};
        for (size_t i = 0; i < 8; i++) {
            logits[text] = 50;
            const carat_token token = carat_sampler_pick(s, logits);
            if (carat_token_is_stop(e, token)) {
                break;
            }
            size_t size = 0;
            const char *piece = carat_token_text(e, token, &size);
            if (!carat_token_is_special(e, token)) {
                buf_add(&answer, piece, size);
            }
        }
        assert_true(!strcmp(buf_text(&answer), "yes") || !strcmp(buf_text(&answer), "no"));
        buf_release(&answer);
        carat_sampler_free(s);
    }
    mem_free(logits);
    carat_grammar_free(g);
}

// All that is allowed has minus infinity: the one that the model likes best is taken all the same.
static void test_nothing_left_but_what_is_allowed(void **state)
{
    struct carat_engine *e = *state;
    const size_t n = carat_engine_info(e)->n_vocab;
    struct carat_grammar *g = grammar_of(
        e, &(struct carat_grammar_options){.json_schema = "{\"type\":\"object\",\"properties\":{},"
                                                          "\"additionalProperties\":false}"});
    float *logits = mem_new_array(n, sizeof(*logits), NULL);
    struct carat_logit_bias *biases = mem_new_array(n, sizeof(*biases), NULL);
    for (size_t i = 0; i < n; i++) {
        biases[i] = (struct carat_logit_bias){.token = (carat_token)i, .bias = -INFINITY};
    }
    const carat_token brace = token_of(e, "{");
    logits[brace] = 1;
    struct carat_sampler *s = NULL;
    const struct carat_sampling sampling = {.temperature = 1,
                                            .top_p = 1,
                                            .repetition_penalty = 1,
                                            .biases = biases,
                                            .n_biases = n,
                                            .grammar = g};
    assert_int_equal(carat_sampler_new(&s, e, &sampling, NULL), 0);
    assert_int_equal(carat_sampler_pick(s, logits), brace);
    for (size_t i = 0; i < n; i++) {
        logits[i] = -INFINITY;
    }
    size_t size = 0;
    const char *text = carat_token_text(e, carat_sampler_pick(s, logits), &size);
    assert_int_equal(size, 1);
    assert_memory_equal(text, "}", 1);
    assert_true(carat_token_is_stop(e, carat_sampler_pick(s, logits)));
    assert_true(carat_token_is_stop(e, carat_sampler_pick(s, logits))); // and remains so
    carat_sampler_free(s);
    mem_free(biases);
    mem_free(logits);
    carat_grammar_free(g);
}

// ------------------------------------------------------------------------------ errors

static void test_refuses_options(void **state)
{
    static const char *const choices[] = {"a"};
    static const struct {
        struct carat_grammar_options options;
        int status;
        const char *word;
    } cases[] = {
        {{.json_schema = "{}", .regex = "a"}, CARAT_E_ARGUMENT, "one of"},
        {{.choices = choices}, CARAT_E_ARGUMENT, "choices"},
        {{.tool_choice = CARAT_TOOLS_REQUIRED}, CARAT_E_ARGUMENT, "no tools"},
        {{.tool_choice = (enum carat_tool_choice)9}, CARAT_E_ARGUMENT, "tool_choice"},
        {{.tools = tools, .tool_choice = CARAT_TOOLS_REQUIRED, .tool_name = "x"},
         CARAT_E_ARGUMENT,
         "tool_name"},
        {{.tools = "{}"}, CARAT_E_FORMAT, "array"},
        {{.tools = "[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]"},
         CARAT_E_FORMAT,
         "tools[0]"},
        {{.tools = "[{\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{\"not\":{}}}}]"},
         CARAT_E_UNSUPPORTED,
         "tools: f: #/not"},
        {{.regex = "a{2,1}"}, CARAT_E_FORMAT, "byte 6"},
        {{.regex = "(a"}, CARAT_E_FORMAT, "expected )"},
        {{.regex = "a)"}, CARAT_E_FORMAT, "byte 1"},
        {{.regex = "[a"}, CARAT_E_FORMAT, "expected ]"},
        {{.regex = "*"}, CARAT_E_FORMAT, "nothing to repeat"},
        {{.regex = "\\1"}, CARAT_E_UNSUPPORTED, "back references"},
        {{.regex = "(?<!a)"}, CARAT_E_UNSUPPORTED, "behind"},
        {{.regex = "\xff"}, CARAT_E_FORMAT, "UTF-8"},
        {{.regex = "a{5000}"}, CARAT_E_FULL, "4096"},
        {{.regex = "[]"}, CARAT_E_ARGUMENT, "no text fits"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct carat_grammar *g = NULL;
        struct carat_error err = {0};
        const int rc = carat_grammar_new(&g, *state, &cases[i].options, &err);
        if (rc != cases[i].status || err.status != rc || !strstr(err.text, cases[i].word)) {
            fail_msg("case %zu: %d, %s", i, rc, err.text);
        }
        assert_null(g);
    }
}

// A tool whose author said more than can be held is looser, not lost.
static void test_tools_are_lenient(void **state)
{
    static const char loose[] =
        "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
        "\"properties\":{\"a\":{\"type\":\"array\",\"items\":{\"type\":\"INTEGER\"},\"uniqueItems\""
        ":true},\"b\":{\"type\":\"string\",\"pattern\":\"(?=x)y\"},\"c\":{\"not\":{}}},"
        "\"minProperties\":2}}}]";
    static const struct expected cases[] = {
        {"<|tool_call>call:f{a:[1,1],b:<|\"|>z<|\"|>,c:true}<tool_call|>", true},
        {"<|tool_call>call:f{a:[true]}<tool_call|>", false},
    };
    CHECK_ANSWERS(
        *state,
        (&(struct carat_grammar_options){.tools = loose, .tool_choice = CARAT_TOOLS_REQUIRED}),
        cases);
}

// Every allocation of all of it fails once. Masks are found while sampling, where running out only
// costs time, so what is asked for here is the making.
static void test_runs_out_of_memory(void **state)
{
    (void)state;
    const struct carat_engine_options options = {.model = DEMO_GGUF, .is_vocab_only = true};
    struct carat_error err = {0};
    struct carat_engine *e = NULL;
    assert_int_equal(carat_engine_open(&e, &options, &err), 0);
    const size_t before = mem_bytes_now();
    int rc = CARAT_E_MEMORY;
    size_t n_failed = 0;
    for (size_t n = 1; rc == CARAT_E_MEMORY && n < 4000; n++) {
        struct carat_grammar *g = NULL;
        const struct carat_grammar_options o = {
            .json_schema = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\","
                           "\"pattern\":\"^x+$\"},\"n\":{\"type\":\"integer\",\"minimum\":3}},"
                           "\"additionalProperties\":{\"$ref\":\"#\"}}",
            .tools = tools};
        struct carat_sampler *s = NULL;
        mem_fail_nth(n);
        rc = carat_grammar_new(&g, e, &o, &err);
        if (rc == 0) {
            struct carat_sampling sampling = {
                .temperature = 1, .top_p = 1, .repetition_penalty = 1, .grammar = g};
            rc = carat_sampler_new(&s, e, &sampling, &err);
        }
        mem_fail_nth(0);
        carat_sampler_free(s);
        carat_grammar_free(g);
        n_failed += rc == CARAT_E_MEMORY;
        if (rc == CARAT_E_MEMORY && !e->lexicon->is_ready) {
            assert_int_equal(mem_bytes_now(), before);
        }
    }
    assert_int_equal(rc, 0);
    assert_true(n_failed > 100);
    carat_engine_close(e);
}

// ------------------------------------------------------------------------------ loops

static size_t feed_block(struct carat_loop_guard *g, const carat_token *block, size_t n,
                         size_t n_max)
{
    for (size_t i = 0; i < n_max; i++) {
        if (carat_loop_guard_feed(g, block[i % n])) {
            return i + 1;
        }
    }
    return 0;
}

static void test_loop_guard(void **state)
{
    (void)state;
    // A block of n tokens is a loop once 256 tokens, or four whole blocks, only repeated.
    static const size_t periods[][2] = {{1, 257},  {2, 258},  {7, 263},
                                        {64, 320}, {65, 325}, {512, 2560}};
    carat_token block[600];
    for (size_t i = 0; i < 600; i++) {
        block[i] = (carat_token)(1000 + i);
    }
    for (size_t i = 0; i < sizeof(periods) / sizeof(periods[0]); i++) {
        struct carat_loop_guard *g = NULL;
        assert_int_equal(carat_loop_guard_new(&g, NULL), 0);
        uint64_t random = i;
        for (size_t k = 0; k < 5000; k++) { // other text first
            assert_false(carat_loop_guard_feed(g, (carat_token)(walk_random(&random) % 900)));
        }
        assert_int_equal(feed_block(g, block, periods[i][0], 4000), periods[i][1]);
        carat_loop_guard_free(g);
    }
}

// What good answers repeat: rows of zeros, separators of tables, a line a few times, long runs with
// something new in each piece.
static void test_loop_guard_lets_pass(void **state)
{
    (void)state;
    struct carat_loop_guard *g = NULL;
    static const carat_token zeros[] = {5, 6, 7};
    carat_token line[100];
    assert_int_equal(carat_loop_guard_new(&g, NULL), 0);
    assert_int_equal(feed_block(g, zeros, 3, 3 * 80), 0);
    for (size_t i = 0; i < 100; i++) {
        line[i] = (carat_token)(50 + i);
    }
    assert_int_equal(feed_block(g, line, 100, 450), 0);
    for (size_t i = 0; i < 2000; i++) { // a counter in each row
        assert_false(carat_loop_guard_feed(g, i % 20 ? (carat_token)(i % 20) : (carat_token)i));
    }
    // A block that is too long to be noticed.
    carat_token block[600];
    for (size_t i = 0; i < 600; i++) {
        block[i] = (carat_token)(1000 + i);
    }
    assert_int_equal(feed_block(g, block, 600, 6000), 0);
    carat_loop_guard_free(g);
    carat_loop_guard_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_names_come_in_order),
        cmocka_unit_test(test_one_call_of_one_tool),
        cmocka_unit_test(test_text_until_a_call_begins),
        cmocka_unit_test(test_no_calls),
        cmocka_unit_test(test_text_or_calls),
        cmocka_unit_test(test_starts_in_thought),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_expressions_are_trimmed),
        cmocka_unit_test(test_sampler_obeys),
        cmocka_unit_test(test_nothing_left_but_what_is_allowed),
        cmocka_unit_test(test_refuses_options),
        cmocka_unit_test(test_tools_are_lenient),
        cmocka_unit_test(test_runs_out_of_memory),
        cmocka_unit_test(test_loop_guard),
        cmocka_unit_test(test_loop_guard_lets_pass),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
