// SPDX-License-Identifier: Apache-2.0
// A timeline that is filled for measuring: steps behind it work with normal numbers, the same each
// time; nothing can be read from it; a sync leaves nothing of it.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "carat.h"

#define MODEL   TEST_DATA "/fixtures/unified-text/model" // window 16, vocabulary 384
#define CONTEXT 128
#define N_VOCAB 384

// What a session's observer saw.
struct seen {
    float logits[N_VOCAB]; // of the newest row
    size_t position;
    size_t n_rows;
    size_t n_odd; // values that are no normal numbers
};

static void look(void *user, const char *name, int layer, size_t first, size_t n_rows,
                 size_t n_columns, const float *rows)
{
    struct seen *seen = user;
    (void)layer;
    for (size_t i = 0; i < n_rows * n_columns; i++) {
        seen->n_odd += !isnormal(rows[i]) && rows[i] != 0;
    }
    if (strcmp(name, "logits") == 0) {
        memcpy(seen->logits, rows + (n_rows - 1) * n_columns, sizeof(seen->logits));
        seen->position = first + n_rows - 1;
        seen->n_rows += n_rows;
    }
}

static struct carat_engine *open_engine(size_t n_threads)
{
    struct carat_engine_options options = {.model = MODEL, .n_threads = n_threads};
    struct carat_engine *engine = NULL;
    struct carat_error err = {0};
    if (carat_engine_open(&engine, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return engine;
}

static struct carat_session *open_session(struct carat_engine *engine, enum carat_dtype_kv type,
                                          struct seen *seen)
{
    struct carat_session_options options = {
        .context_max = CONTEXT, .kv_type = type, .user = seen, .on_tensor = seen ? look : NULL};
    struct carat_session *session = NULL;
    struct carat_error err = {0};
    if (carat_session_new(&session, engine, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return session;
}

static size_t length(const struct carat_session *session)
{
    size_t n = 0;
    carat_session_tokens(session, &n);
    return n;
}

static void step(struct carat_session *session, carat_token token)
{
    struct carat_step step = {.session = session, .token = token};
    struct carat_error err = {0};
    if (carat_decode(&step, 1, &err)) {
        fail_msg("%s", err.text);
    }
}

static void test_steps_behind_it_are_normal_and_the_same(void **state)
{
    (void)state;
    static const size_t depths[] = {1, 15, 16, 17, 100, CONTEXT - 3};
    static const enum carat_dtype_kv types[] = {CARAT_KV_F16, CARAT_KV_F32, CARAT_KV_Q8_0};
    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        for (size_t type = 0; type < 3; type++) {
            float want[N_VOCAB];
            for (size_t threads = 1; threads <= 2; threads++) {
                struct seen seen = {.n_odd = 0};
                struct carat_engine *e = open_engine(threads);
                struct carat_session *s = open_session(e, types[type], &seen);
                step(s, 7); // something that was there before
                assert_int_equal(carat_session_fill(s, depths[i], NULL), 0);
                assert_int_equal(length(s), depths[i]);
                step(s, 40);
                step(s, 41);
                step(s, 42);
                assert_int_equal(length(s), depths[i] + 3);
                assert_int_equal(seen.position, depths[i] + 2);
                assert_int_equal(seen.n_odd, 0);
                if (threads == 1) {
                    memcpy(want, seen.logits, sizeof(want));
                }
                assert_memory_equal(seen.logits, want, sizeof(want));
                carat_session_free(s);
                carat_engine_close(e);
            }
        }
    }
}

static bool drop_event(void *user, const struct carat_event *event)
{
    (void)user;
    (void)event;
    return true;
}

static void test_nothing_can_be_read_from_it(void **state)
{
    (void)state;
    struct carat_engine *e = open_engine(1);
    struct carat_session *s = open_session(e, CARAT_KV_F16, NULL);
    struct carat_sampler *sampler = NULL;
    struct carat_parser *parser = NULL;
    struct carat_parser_options raw = {.is_raw = true};
    struct carat_error err;
    const carat_token token = 40;
    float logprob = 1;
    assert_int_equal(carat_sampler_new(&sampler, e, NULL, NULL), 0);
    assert_int_equal(carat_parser_new(&parser, e, &raw, NULL), 0);
    step(s, 7);
    assert_non_null(carat_session_logits(s));
    assert_int_equal(carat_session_fill(s, 50, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_null(carat_session_logits(s));
        assert_int_equal(carat_session_score(s, &token, 1, &logprob, &err), CARAT_E_ARGUMENT);
        assert_int_equal(carat_generate(s, sampler, parser, 1, drop_event, NULL, NULL, &err),
                         CARAT_E_ARGUMENT);
        step(s, 40);
    }
    assert_true(logprob == 1);
    carat_parser_free(parser);
    carat_sampler_free(sampler);
    carat_session_free(s);
    carat_engine_close(e);
}

static void test_a_sync_begins_anew(void **state)
{
    (void)state;
    static const carat_token zeros[40] = {0}; // the very tokens that a filled timeline shows
    struct carat_engine *e = open_engine(1);
    struct carat_session *filled = open_session(e, CARAT_KV_F16, NULL);
    struct carat_session *fresh = open_session(e, CARAT_KV_F16, NULL);
    struct carat_prompt *prompt = NULL;
    size_t reused = 1;
    assert_int_equal(carat_prompt_from_tokens(&prompt, e, zeros, 40, NULL), 0);
    assert_int_equal(carat_session_fill(filled, 60, NULL), 0);
    assert_int_equal(carat_session_sync(filled, prompt, &reused, NULL), 0);
    assert_int_equal(carat_session_sync(fresh, prompt, NULL, NULL), 0);
    assert_int_equal(reused, 0);
    step(filled, 40);
    step(fresh, 40);
    assert_memory_equal(carat_session_logits(filled), carat_session_logits(fresh),
                        N_VOCAB * sizeof(float));
    carat_prompt_free(prompt);
    carat_session_free(filled);
    carat_session_free(fresh);
    carat_engine_close(e);
}

static void test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct carat_engine *e = open_engine(1);
    struct carat_session *s = open_session(e, CARAT_KV_F16, NULL);
    struct carat_error err;
    step(s, 7);
    assert_int_equal(carat_session_fill(s, 0, &err), CARAT_E_ARGUMENT);
    assert_int_equal(carat_session_fill(s, CONTEXT + 1, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "128"));
    assert_int_equal(length(s), 1);
    assert_non_null(carat_session_logits(s));
    assert_int_equal(carat_session_fill(s, CONTEXT, &err), 0);
    struct carat_step one = {.session = s, .token = 40};
    assert_int_equal(carat_decode(&one, 1, &err), CARAT_E_FULL);
    carat_session_free(s);
    carat_engine_close(e);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct carat_engine *e = open_engine(1);
    struct carat_session *s = open_session(e, CARAT_KV_F16, NULL);
    step(s, 7);
    mem_fail_nth(1);
    int rc = carat_session_fill(s, 50, NULL);
    mem_fail_nth(0);
    assert_int_equal(rc, CARAT_E_MEMORY);
    assert_int_equal(length(s), 0);
    assert_null(carat_session_logits(s));
    assert_int_equal(carat_session_fill(s, 50, NULL), 0);
    carat_session_free(s);
    carat_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_behind_it_are_normal_and_the_same),
        cmocka_unit_test(test_nothing_can_be_read_from_it),
        cmocka_unit_test(test_a_sync_begins_anew),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
