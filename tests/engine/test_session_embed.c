// SPDX-License-Identifier: Apache-2.0
// The pooled state is the mean of the "norm" rows, whatever the chunks and whatever was there.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "timelines.h"

#define N 45

struct seen {
    double sums[1024];
    size_t n_rows;
    size_t n_columns;
};

static void look(void *user, const char *name, int layer, size_t first, size_t n_rows,
                 size_t n_columns, const float *rows)
{
    struct seen *seen = user;
    (void)layer;
    if (strcmp(name, "norm") != 0) {
        return;
    }
    assert_int_equal(first, seen->n_rows);
    assert_true(n_columns <= 1024);
    seen->n_rows += n_rows;
    seen->n_columns = n_columns;
    for (size_t i = 0; i < n_rows * n_columns; i++) {
        seen->sums[i % n_columns] += (double)rows[i];
    }
}

static void embed(struct carat_session *s, const struct carat_engine *e, const carat_token *tokens,
                  size_t n, float *out)
{
    struct carat_prompt *p = make_prompt(e, tokens, n);
    struct carat_error err = {0};
    if (carat_session_embed(s, p, out, &err)) {
        fail_msg("%s", err.text);
    }
    carat_prompt_free(p);
}

static void test_it_is_the_mean_of_all_states(void **state)
{
    (void)state;
    static struct seen seen;
    static float out[1024];
    static float again[1024];
    carat_token tokens[N];
    struct carat_engine *e = open_engine(TIMELINES_MODEL);
    struct carat_session *a =
        open_session(e, (struct carat_session_options){.on_tensor = look, .user = &seen});
    struct carat_session *b = open_session(e, (struct carat_session_options){.prefill_chunk = 7});
    fill_tokens(tokens, N, 3);
    embed(a, e, tokens, N, out);
    assert_int_equal(seen.n_rows, N);
    assert_int_equal(seen.n_columns, carat_engine_info(e)->hidden_size);
    double length = 0;
    double dot = 0;
    double square = 0;
    for (size_t i = 0; i < seen.n_columns; i++) {
        dot += seen.sums[i] * (double)out[i];
        square += seen.sums[i] * seen.sums[i];
        length += (double)out[i] * (double)out[i];
    }
    assert_true(fabs(length - 1) < 1e-5);
    assert_true(fabs(dot / sqrt(square) - 1) < 1e-5);

    sync_tokens(b, tokens, N - 5); // what is in the cache already makes no difference
    embed(b, e, tokens, N, again);
    assert_memory_equal(out, again, seen.n_columns * sizeof(float));
    check_logits(b, tokens, N);
    check_goes_on(b, tokens, N);
    assert_int_equal(seen.n_rows, N);
    carat_session_free(a);
    carat_session_free(b);
    carat_engine_close(e);
}

// Read in rounds with others, by pieces of any size, it is the same to the bit.
static void test_it_can_be_read_in_rounds(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 5, 8, 13, 64};
    static float want[1024];
    static float out[1024];
    carat_token tokens[N];
    struct carat_error err = {0};
    struct carat_engine *e = open_engine(TIMELINES_MODEL);
    struct carat_session *s = open_session(e, (struct carat_session_options){0});
    struct carat_session *beside = open_session(e, (struct carat_session_options){0});
    const size_t n_columns = carat_engine_info(e)->hidden_size;
    fill_tokens(tokens, N, 3);
    embed(s, e, tokens, N, want);
    struct carat_prompt *p = make_prompt(e, tokens, N);
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        sync_tokens(beside, tokens, 10 + k);
        assert_int_equal(carat_session_prepare_embedding(s, p, NULL), 0);
        assert_int_equal(carat_session_embedding(s, out, NULL), CARAT_E_ARGUMENT);
        assert_int_equal(carat_session_pending(s), N);
        for (size_t i = 0; carat_session_pending(s) > 0; i++) {
            struct carat_step steps[] = {{beside, tokens[i % N], 0},
                                         {s, CARAT_TOKEN_NONE, sizes[(k + i) % 7]}};
            size_t n_steps = i % 3 == 2 ? 1 : 2; // sometimes it is not in the round
            if (carat_decode(steps, n_steps, &err)) {
                fail_msg("%s", err.text);
            }
        }
        assert_int_equal(carat_session_embedding(s, out, NULL), 0);
        assert_memory_equal(out, want, n_columns * sizeof(float));
        check_logits(s, tokens, N);
        sync_tokens(s, tokens, N - 1 - k);
        assert_int_equal(carat_session_embedding(s, out, NULL), CARAT_E_ARGUMENT);
    }
    carat_prompt_free(p);
    carat_session_free(s);
    carat_session_free(beside);
    carat_engine_close(e);
}

// A conversation in between ends it.
static void test_what_comes_between_ends_it(void **state)
{
    (void)state;
    static float out[1024];
    carat_token tokens[N];
    struct carat_engine *e = open_engine(TIMELINES_MODEL);
    struct carat_session *s = open_session(e, (struct carat_session_options){0});
    fill_tokens(tokens, N, 3);
    struct carat_prompt *p = make_prompt(e, tokens, N);
    assert_int_equal(carat_session_prepare_embedding(s, p, NULL), 0);
    struct carat_step step = {s, CARAT_TOKEN_NONE, 20};
    assert_int_equal(carat_decode(&step, 1, NULL), 0);
    assert_int_equal(sync_tokens(s, tokens, N), 20);
    assert_int_equal(carat_session_embedding(s, out, NULL), CARAT_E_ARGUMENT);
    check_logits(s, tokens, N);
    carat_prompt_free(p);
    carat_session_free(s);
    carat_engine_close(e);
}

static void test_failures_leave_out_alone(void **state)
{
    (void)state;
    float out[1024] = {5};
    carat_token tokens[N];
    struct carat_engine *e = open_engine(TIMELINES_MODEL);
    struct carat_session *s = open_session(e, (struct carat_session_options){.context_max = 20});
    fill_tokens(tokens, N, 3);
    struct carat_prompt *p = make_prompt(e, tokens, N);
    struct carat_prompt *q = make_prompt(e, tokens, 20);
    mem_fail_nth(1);
    assert_int_equal(carat_session_embed(s, q, out, NULL), CARAT_E_MEMORY);
    mem_fail_nth(0);
    assert_int_equal(carat_session_embed(s, p, out, NULL), CARAT_E_FULL);
    assert_true(out[0] == 5);
    assert_int_equal(carat_session_embed(s, q, out, NULL), 0);
    assert_true(out[0] != 5);
    carat_prompt_free(p);
    carat_prompt_free(q);
    carat_session_free(s);
    carat_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_the_mean_of_all_states),
        cmocka_unit_test(test_it_can_be_read_in_rounds),
        cmocka_unit_test(test_what_comes_between_ends_it),
        cmocka_unit_test(test_failures_leave_out_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
