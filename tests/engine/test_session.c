// SPDX-License-Identifier: Apache-2.0
// The timeline's promises on a tiny model of the 12B's architecture: the same numbers whatever the
// chunks, threads, batch or rewinding; errors that leave it as it was; memory as planned.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "carat.h"

#define MODEL TEST_DATA "/fixtures/unified-text/model" // window 16, vocabulary 384
#define N     61

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

static struct carat_session *open_session(struct carat_engine *engine,
                                          struct carat_session_options options)
{
    struct carat_session *session = NULL;
    struct carat_error err = {0};
    if (options.context_max == 0) {
        options.context_max = 128;
    }
    if (carat_session_new(&session, engine, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return session;
}

// A fixed walk through the vocabulary, control tokens left out.
static void fill_tokens(carat_token *tokens, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        tokens[i] = (carat_token)(30 + (seed >> 16) % 350);
    }
    tokens[0] = 2;
}

static size_t sync_tokens(struct carat_session *s, const struct carat_engine *e,
                          const carat_token *tokens, size_t n)
{
    struct carat_prompt *prompt = NULL;
    struct carat_error err = {0};
    size_t reused = 0;
    assert_int_equal(carat_prompt_from_tokens(&prompt, e, tokens, n, &err), 0);
    if (carat_session_sync(s, prompt, &reused, &err)) {
        fail_msg("%s", err.text);
    }
    carat_prompt_free(prompt);
    return reused;
}

static void copy_logits(float out[384], const struct carat_session *s)
{
    const float *logits = carat_session_logits(s);
    assert_non_null(logits);
    memcpy(out, logits, 384 * sizeof(float));
}

static void reference_logits(float out[384], const carat_token *tokens, size_t n)
{
    struct carat_engine *e = open_engine(1);
    struct carat_session *s = open_session(e, (struct carat_session_options){0});
    sync_tokens(s, e, tokens, n);
    copy_logits(out, s);
    carat_session_free(s);
    carat_engine_close(e);
}

static void test_chunks_and_threads_do_not_change_a_bit(void **state)
{
    (void)state;
    static const size_t chunks[] = {1, 2, 7, 16, 17, 60, 61, 100};
    carat_token tokens[N];
    float want[384];
    float got[384];
    fill_tokens(tokens, N, 1);
    reference_logits(want, tokens, N);
    for (size_t threads = 1; threads <= 3; threads++) {
        struct carat_engine *e = open_engine(threads);
        for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
            struct carat_session *s =
                open_session(e, (struct carat_session_options){.prefill_chunk = chunks[i]});
            sync_tokens(s, e, tokens, N);
            copy_logits(got, s);
            assert_memory_equal(got, want, sizeof(want));
            carat_session_free(s);
        }
        carat_engine_close(e);
    }
}

static void test_batch_does_not_change_a_bit(void **state)
{
    (void)state;
    carat_token tokens[3][N];
    float want[3][384];
    float got[384];
    struct carat_session *sessions[3];
    struct carat_engine *e = open_engine(2);
    for (size_t i = 0; i < 3; i++) {
        fill_tokens(tokens[i], N, (unsigned)i + 5);
        reference_logits(want[i], tokens[i], 20 + 10 * i);
        sessions[i] = open_session(e, (struct carat_session_options){0});
        sync_tokens(sessions[i], e, tokens[i], 10 + 10 * i);
    }
    for (size_t step = 0; step < 10; step++) {
        struct carat_step steps[3];
        for (size_t i = 0; i < 3; i++) {
            steps[i] =
                (struct carat_step){.session = sessions[i], .token = tokens[i][10 + 10 * i + step]};
        }
        assert_int_equal(carat_decode(steps, 3, NULL), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        copy_logits(got, sessions[i]);
        assert_memory_equal(got, want[i], sizeof(got));
        carat_session_free(sessions[i]);
    }
    carat_engine_close(e);
}

static size_t prepare_tokens(struct carat_session *s, const struct carat_engine *e,
                             const carat_token *tokens, size_t n)
{
    struct carat_prompt *prompt = NULL;
    size_t reused = 0;
    assert_int_equal(carat_prompt_from_tokens(&prompt, e, tokens, n, NULL), 0);
    assert_int_equal(carat_session_prepare(s, prompt, &reused, NULL), 0);
    assert_int_equal(carat_prompt_add_media(prompt, e, NULL, 0, NULL),
                     carat_session_pending(s) > 0 ? CARAT_E_ARGUMENT : 0);
    carat_prompt_free(prompt); // the session keeps what it needs
    return reused;
}

static void test_a_prompt_is_read_in_steps(void **state)
{
    (void)state;
    carat_token tokens[N];
    float want[384];
    float got[384];
    fill_tokens(tokens, N, 1);
    reference_logits(want, tokens, N);
    struct carat_engine *e = open_engine(1);
    struct carat_session *s = open_session(e, (struct carat_session_options){.prefill_chunk = 25});
    struct carat_step step = {.session = s, .token = CARAT_TOKEN_NONE, .n_tokens_max = 10};
    assert_int_equal(prepare_tokens(s, e, tokens, N), 0);
    assert_int_equal(carat_session_pending(s), N);
    assert_int_equal(carat_decode(&step, 1, NULL), 0);
    assert_int_equal(carat_session_pending(s), N - 10);
    assert_null(carat_session_logits(s));
    step.n_tokens_max = 1000; // no more than a chunk
    assert_int_equal(carat_decode(&step, 1, NULL), 0);
    assert_int_equal(carat_session_pending(s), N - 35);
    step.n_tokens_max = 0;
    assert_int_equal(carat_decode(&step, 1, NULL), 0);
    assert_int_equal(carat_decode(&step, 1, NULL), 0);
    assert_int_equal(carat_session_pending(s), 0);
    copy_logits(got, s);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(carat_decode(&step, 1, NULL), CARAT_E_ARGUMENT);
    assert_int_equal(prepare_tokens(s, e, tokens, N), N); // nothing is left to do
    assert_non_null(carat_session_logits(s));

    // A token ends the reading; so does a sync.
    assert_int_equal(prepare_tokens(s, e, tokens + 1, N - 1), 0);
    assert_int_equal(carat_decode(&step, 1, NULL), 0);
    struct carat_step token = {.session = s, .token = 40};
    assert_int_equal(carat_decode(&token, 1, NULL), 0);
    assert_int_equal(carat_session_pending(s), 0);
    assert_non_null(carat_session_logits(s));
    prepare_tokens(s, e, tokens, N);
    assert_true(carat_session_pending(s) > 0);
    sync_tokens(s, e, tokens, N);
    assert_int_equal(carat_session_pending(s), 0);
    copy_logits(got, s);
    assert_memory_equal(got, want, sizeof(want));
    carat_session_free(s);
    carat_engine_close(e);
}

// A round has room for what one session reads together, here a picture as long as the context, and
// for 64 tokens. What does not fit waits, in the order of the steps.
static void test_a_full_round_leaves_pieces_for_later(void **state)
{
    (void)state;
    enum { N_READING = 6 };
    carat_token tokens[120];
    struct carat_session *sessions[N_READING];
    struct carat_step steps[N_READING];
    struct carat_engine *e = open_engine(1);
    fill_tokens(tokens, 120, 1);
    for (size_t i = 0; i < N_READING; i++) {
        sessions[i] = open_session(e, (struct carat_session_options){.prefill_chunk = 40});
        prepare_tokens(sessions[i], e, tokens, 120);
        steps[i] = (struct carat_step){.session = sessions[i], .token = CARAT_TOKEN_NONE};
    }
    static const size_t want[] = {40, 40, 40, 40, 128 + 64 - 160, 0};
    assert_int_equal(carat_decode(steps, N_READING, NULL), 0);
    for (size_t i = 0; i < N_READING; i++) {
        assert_int_equal(carat_session_pending(sessions[i]), 120 - want[i]);
    }
    for (size_t i = 0; i < N_READING; i++) {
        while (carat_session_pending(sessions[i]) > 0) {
            assert_int_equal(carat_decode(&steps[i], 1, NULL), 0);
        }
        assert_memory_equal(carat_session_logits(sessions[i]), carat_session_logits(sessions[0]),
                            384 * sizeof(float));
    }
    for (size_t i = 0; i < N_READING; i++) {
        carat_session_free(sessions[i]);
    }
    carat_engine_close(e);
}

static void test_sync_reuses_and_rewinds(void **state)
{
    (void)state;
    carat_token a[N];
    carat_token b[N];
    float want[384];
    float got[384];
    fill_tokens(a, N, 1);
    memcpy(b, a, sizeof(b));
    b[50] = b[50] == 40 ? 41 : 40;
    struct carat_engine *e = open_engine(1);
    struct carat_session *s =
        open_session(e, (struct carat_session_options){.rewind_max = 12, .prefill_chunk = 9});
    assert_int_equal(sync_tokens(s, e, a, 30), 0);
    assert_int_equal(sync_tokens(s, e, a, N), 30);
    assert_int_equal(sync_tokens(s, e, a, N), N);  // nothing to do, the logits are there
    assert_int_equal(sync_tokens(s, e, b, N), 50); // eleven back, within rewind_max
    reference_logits(want, b, N);
    copy_logits(got, s);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(sync_tokens(s, e, b, 20), 0); // too far back: starts over, and is right
    reference_logits(want, b, 20);
    copy_logits(got, s);
    assert_memory_equal(got, want, sizeof(want));
    carat_session_free(s);
    carat_engine_close(e);
}

static void test_short_timeline_rewinds_freely(void **state)
{
    (void)state;
    carat_token a[N];
    float want[384];
    float got[384];
    fill_tokens(a, N, 3);
    struct carat_engine *e = open_engine(1);
    struct carat_session *s = open_session(e, (struct carat_session_options){0});
    sync_tokens(s, e, a, 15);                     // the ring of 16 has not turned yet
    assert_int_equal(sync_tokens(s, e, a, 5), 4); // one token again, for its logits
    reference_logits(want, a, 5);
    copy_logits(got, s);
    assert_memory_equal(got, want, sizeof(want));
    carat_session_free(s);
    carat_engine_close(e);
}

static double rms_difference(const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < 384; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sqrt(sum / 384);
}

static void test_kv_types_agree(void **state)
{
    (void)state;
    carat_token tokens[N];
    float f32[384];
    float f16[384];
    float q8[384];
    fill_tokens(tokens, N, 4);
    struct carat_engine *e = open_engine(2);
    float *out[] = {f16, f32, q8}; // in the order of the enum
    for (int type = CARAT_KV_F16; type <= CARAT_KV_Q8_0; type++) {
        struct carat_session *s =
            open_session(e, (struct carat_session_options){.kv_type = (enum carat_dtype_kv)type});
        sync_tokens(s, e, tokens, N);
        copy_logits(out[type], s);
        carat_session_free(s);
    }
    // The logits' spread is 4.5. A half keeps 11 bits; a Q8_0 value 7 below its block's largest,
    // some 30 times less: this small random model makes a hundred of that.
    double f16_error = rms_difference(f16, f32);
    double q8_error = rms_difference(q8, f32);
    assert_true(f16_error > 0);
    assert_true(f16_error < 0.03);
    assert_true(q8_error > f16_error);
    assert_true(q8_error < 0.9);
    carat_engine_close(e);
}

static void test_score_equals_the_logits(void **state)
{
    (void)state;
    carat_token tokens[N];
    float logprobs[N];
    fill_tokens(tokens, N, 6);
    struct carat_engine *e = open_engine(2);
    struct carat_session *s = open_session(e, (struct carat_session_options){.prefill_chunk = 8});
    assert_int_equal(carat_session_score(s, tokens, N, logprobs, NULL), 0);
    assert_true(logprobs[0] == 0);
    struct carat_session *t = open_session(e, (struct carat_session_options){0});
    sync_tokens(t, e, tokens, 1);
    for (size_t i = 1; i < N; i++) {
        const float *logits = carat_session_logits(t);
        double sum = 0;
        for (size_t j = 0; j < 384; j++) {
            sum += exp((double)logits[j]);
        }
        assert_true(fabs((double)logits[tokens[i]] - log(sum) - (double)logprobs[i]) < 1e-5);
        struct carat_step step = {.session = t, .token = tokens[i]};
        assert_int_equal(carat_decode(&step, 1, NULL), 0);
    }
    assert_memory_equal(carat_session_logits(s), carat_session_logits(t), 384 * sizeof(float));
    carat_session_free(s);
    carat_session_free(t);
    carat_engine_close(e);
}

static void test_full_context_is_an_error_and_loses_nothing(void **state)
{
    (void)state;
    carat_token tokens[N];
    struct carat_error err = {0};
    size_t n = 0;
    fill_tokens(tokens, N, 7);
    struct carat_engine *e = open_engine(1);
    struct carat_session *s = open_session(e, (struct carat_session_options){.context_max = 20});
    sync_tokens(s, e, tokens, 20);
    struct carat_step step = {.session = s, .token = 40};
    assert_int_equal(carat_decode(&step, 1, &err), CARAT_E_FULL);
    assert_non_null(strstr(err.text, "20 tokens"));
    carat_session_tokens(s, &n);
    assert_int_equal(n, 20);
    assert_non_null(carat_session_logits(s));
    carat_session_free(s);
    carat_engine_close(e);
}

static void test_wrong_arguments_are_refused(void **state)
{
    (void)state;
    struct carat_error err = {0};
    struct carat_engine *e = open_engine(1);
    struct carat_session *s = NULL;
    struct carat_session_options too_long = {.context_max = 1u << 20};
    assert_int_equal(carat_session_new(&s, e, &too_long, &err), CARAT_E_ARGUMENT);
    assert_null(s);
    carat_token bad = 384;
    struct carat_prompt *prompt = NULL;
    assert_int_equal(carat_prompt_from_tokens(&prompt, e, &bad, 1, &err), CARAT_E_ARGUMENT);
    s = open_session(e, (struct carat_session_options){0});
    struct carat_step steps[] = {{.session = s, .token = 40}, {.session = s, .token = 41}};
    assert_int_equal(carat_decode(steps, 2, &err), CARAT_E_ARGUMENT);
    struct carat_step nothing = {.session = s, .token = CARAT_TOKEN_NONE};
    assert_int_equal(carat_decode(&nothing, 1, &err), CARAT_E_ARGUMENT);
    struct carat_step negative = {.session = s, .token = -2};
    assert_int_equal(carat_decode(&negative, 1, &err), CARAT_E_ARGUMENT);
    assert_null(carat_session_logits(s));
    carat_session_free(s);
    carat_engine_close(e);
}

// Stops at the first report of at least `limit` tokens.
struct stopper {
    uint64_t limit, done;
    size_t n_reports;
};

static bool stop_at(void *user, const char *what, uint64_t done, uint64_t total)
{
    struct stopper *stopper = user;
    assert_string_equal(what, "reading");
    assert_true(done >= stopper->done);
    assert_true(done <= total);
    stopper->done = done;
    stopper->n_reports++;
    return done < stopper->limit;
}

// Whether it was stopped between chunks or inside one: whole chunks stay, and going on is right.
static void test_stopped_prefill_keeps_what_is_done(void **state)
{
    (void)state;
    carat_token tokens[N];
    float want[384];
    float got[384];
    fill_tokens(tokens, N, 8);
    reference_logits(want, tokens, N);
    struct carat_engine *e = open_engine(1);
    static const uint64_t limits[] = {0, 3, 10, 17, 20, 47};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct stopper stopper = {.limit = limits[i]};
        size_t n = 0;
        struct carat_session *s =
            open_session(e, (struct carat_session_options){
                                .prefill_chunk = 10, .on_progress = stop_at, .user = &stopper});
        struct carat_prompt *prompt = NULL;
        assert_int_equal(carat_prompt_from_tokens(&prompt, e, tokens, N, NULL), 0);
        assert_int_equal(carat_session_sync(s, prompt, NULL, NULL), CARAT_E_STOPPED);
        carat_session_tokens(s, &n);
        assert_int_equal(n, limits[i] / 10 * 10);
        assert_null(carat_session_logits(s));
        // Inside a chunk the ring of 16 has lost what the next token would look at.
        if (limits[i] == 17 || limits[i] == 47) {
            struct carat_step step = {.session = s, .token = 40};
            assert_int_equal(carat_decode(&step, 1, NULL), CARAT_E_ARGUMENT);
            assert_int_equal(carat_session_score(s, tokens, 2, NULL, NULL), CARAT_E_ARGUMENT);
        }
        stopper = (struct stopper){.limit = UINT64_MAX};
        assert_int_equal(carat_session_sync(s, prompt, NULL, NULL), 0);
        assert_true(stopper.n_reports > N / 10);
        copy_logits(got, s);
        assert_memory_equal(got, want, sizeof(want));
        carat_prompt_free(prompt);
        carat_session_free(s);
    }
    carat_engine_close(e);
}

// What a rewind leaves in the ring's place is gone, however short the timeline is by then.
static void test_rewinding_twice_does_not_use_what_was_overwritten(void **state)
{
    (void)state;
    carat_token tokens[N];
    float want[384];
    float got[384];
    fill_tokens(tokens, N, 9);
    struct carat_engine *e = open_engine(1);
    for (size_t back = 1; back <= 24; back++) {
        struct carat_session *s =
            open_session(e, (struct carat_session_options){.rewind_max = 12, .prefill_chunk = 4});
        sync_tokens(s, e, tokens, N);
        sync_tokens(s, e, tokens, N - 10);
        sync_tokens(s, e, tokens, N - 10 - back);
        reference_logits(want, tokens, N - 10 - back);
        copy_logits(got, s);
        assert_memory_equal(got, want, sizeof(want));
        carat_session_free(s);
    }
    carat_engine_close(e);
}

static void test_decoding_allocates_nothing_and_estimate_holds(void **state)
{
    (void)state;
    carat_token tokens[N];
    struct carat_memory plan;
    struct carat_session_options options = {.context_max = 128, .prefill_chunk = 16};
    struct carat_engine_options engine_options = {.model = MODEL, .n_threads = 2};
    fill_tokens(tokens, N, 9);
    assert_int_equal(carat_estimate(&plan, &engine_options, &options, NULL), 0);
    struct carat_engine *e = open_engine(2);
    size_t before = mem_bytes_now();
    struct carat_session *s = open_session(e, options);
    size_t opened = mem_bytes_now();
    assert_true(opened - before <= plan.kv_sliding + plan.kv_full + plan.scratch);
    sync_tokens(s, e, tokens, N);
    for (size_t i = 0; i < 20; i++) {
        struct carat_step step = {.session = s, .token = tokens[i]};
        assert_int_equal(carat_decode(&step, 1, NULL), 0);
    }
    assert_int_equal(mem_bytes_now(), opened);
    // window 16, 10 sliding layers, 2 heads of 32 halves, keys and values; 2 full layers keep one
    // head of 64 halves: docs/model.md.
    assert_true(plan.kv_sliding >= 16 * 10 * 2 * 32 * 2 * 2);
    assert_int_equal(plan.kv_full, 128 * (2 * 64 * 2 + 8 * 2 * 4));
    carat_session_free(s);
    carat_engine_close(e);
}

static void test_open_survives_every_failing_allocation(void **state)
{
    (void)state;
    struct carat_engine_options options = {.model = MODEL, .n_threads = 2};
    struct carat_session_options session_options = {.context_max = 64};
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        struct carat_engine *e = NULL;
        struct carat_session *s = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = carat_engine_open(&e, &options, &err);
        if (rc == 0) {
            rc = carat_session_new(&s, e, &session_options, &err);
        }
        mem_fail_nth(0);
        carat_session_free(s);
        carat_engine_close(e);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_true(n < 100000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_and_threads_do_not_change_a_bit),
        cmocka_unit_test(test_batch_does_not_change_a_bit),
        cmocka_unit_test(test_a_prompt_is_read_in_steps),
        cmocka_unit_test(test_a_full_round_leaves_pieces_for_later),
        cmocka_unit_test(test_sync_reuses_and_rewinds),
        cmocka_unit_test(test_short_timeline_rewinds_freely),
        cmocka_unit_test(test_kv_types_agree),
        cmocka_unit_test(test_score_equals_the_logits),
        cmocka_unit_test(test_full_context_is_an_error_and_loses_nothing),
        cmocka_unit_test(test_wrong_arguments_are_refused),
        cmocka_unit_test(test_stopped_prefill_keeps_what_is_done),
        cmocka_unit_test(test_rewinding_twice_does_not_use_what_was_overwritten),
        cmocka_unit_test(test_decoding_allocates_nothing_and_estimate_holds),
        cmocka_unit_test(test_open_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
