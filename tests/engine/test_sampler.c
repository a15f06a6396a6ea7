// SPDX-License-Identifier: Apache-2.0
// The sampler: exact distributions of each stage on tiny vocabularies, computed by hand, against
// the frequencies of many draws with a fixed seed; arguments; numbers that are none.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/sampler.h"

#define DEMO_GGUF TEST_DATA "/../../demo/carat-demo.gguf"
#define N_DRAWS   40000
#define N_MAX     8

static float l(double p)
{
    return (float)log(p);
}

// Only temperature 1: every stage off.
static struct carat_sampling plain(void)
{
    return (struct carat_sampling){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 12345};
}

static struct carat_sampler *make(size_t n_vocab, struct carat_sampling p)
{
    struct carat_sampler *s = NULL;
    struct carat_error err = {0};
    assert_int_equal(sampler_new(&s, n_vocab, &p, NULL, 0, &err), 0);
    return s;
}

// Draws often and compares with the probabilities expected[n]; 0 means never. Five standard
// deviations of a fixed seed: no luck is involved once it passes.
static void expect_distribution(struct carat_sampler *s, const float *logits, size_t n,
                                const double *expected)
{
    size_t counts[N_MAX] = {0};
    for (size_t i = 0; i < N_DRAWS; i++) {
        const carat_token token = carat_sampler_pick(s, logits);
        assert_in_range(token, 0, n - 1);
        counts[token]++;
    }
    for (size_t i = 0; i < n; i++) {
        const double deviation = sqrt(expected[i] * (1 - expected[i]) / N_DRAWS);
        const double difference = fabs((double)counts[i] / N_DRAWS - expected[i]);
        if (difference > 5 * deviation) {
            fail_msg("token %zu: expected %g, found %g", i, expected[i],
                     (double)counts[i] / N_DRAWS);
        }
    }
}

struct stage_case {
    const char *name;
    struct carat_sampling sampling; // on top of plain()
    double p[N_MAX];                // the model's
    double expected[N_MAX];
};

// The model's probabilities are .4 .1 .3 .2 in most cases.
static const struct stage_case stage_cases[] = {
    // clang-format off
    {"nothing", {.temperature = 1}, {.4, .1, .3, .2}, {.4, .1, .3, .2}},
    // p^(1/T): squares are .16 .01 .09 .04, their sum .3
    {"temperature 0.5", {.temperature = .5F}, {.4, .1, .3, .2}, {.16 / .3, .01 / .3, .09 / .3, .04 / .3}},
    // roots of 16 1 9 4 are 4 1 3 2
    {"temperature 2", {.temperature = 2}, {16, 1, 9, 4}, {.4, .1, .3, .2}},
    {"temperature next to zero", {.temperature = 1e-38F}, {.4, .1, .3, .2}, {1, 0, 0, 0}},
    {"top-k 1", {.top_k = 1}, {.4, .1, .3, .2}, {1, 0, 0, 0}},
    {"top-k 3", {.top_k = 3}, {.4, .1, .3, .2}, {.4 / .9, 0, .3 / .9, .2 / .9}},
    {"top-k beyond the vocabulary", {.top_k = 1000}, {.4, .1, .3, .2}, {.4, .1, .3, .2}},
    {"top-k with ties keeps the lower id", {.top_k = 2}, {.2, .3, .2, .3}, {0, .5, 0, .5}},
    {"top-k in the middle of a tie", {.top_k = 3}, {.25, .25, .25, .25}, {1. / 3, 1. / 3, 1. / 3, 0}},
    {"top-p below the best", {.top_p = .05F}, {.4, .1, .3, .2}, {1, 0, 0, 0}},
    {"top-p crosses at the second", {.top_p = .5F}, {.4, .1, .3, .2}, {.4 / .7, 0, .3 / .7, 0}},
    {"top-p crosses at the third", {.top_p = .75F}, {.4, .1, .3, .2}, {.4 / .9, 0, .3 / .9, .2 / .9}},
    {"top-p nearly all", {.top_p = .99F}, {.4, .1, .3, .2}, {.4, .1, .3, .2}},
    // .4 * .3 = .12 > .1
    {"min-p 0.3", {.min_p = .3F}, {.4, .1, .3, .2}, {.4 / .9, 0, .3 / .9, .2 / .9}},
    {"min-p 1", {.min_p = 1}, {.4, .1, .3, .2}, {1, 0, 0, 0}},
    {"min-p keeps ties with the best", {.min_p = 1}, {.3, .3, .2, .2}, {.5, .5, 0, 0}},
    // The order: temperature makes .16 .01 .09 .04 of .3; the best then has .53 and top-p .5 takes it
    // alone. At temperature 1 two would have stayed.
    {"temperature comes before top-p", {.temperature = .5F, .top_p = .5F}, {.4, .1, .3, .2}, {1, 0, 0, 0}},
    // Of the best three, renormalized, .4/.9 and .3/.9 make .78.
    {"top-k comes before top-p", {.top_k = 3, .top_p = .75F}, {.4, .1, .3, .2}, {.4 / .7, 0, .3 / .7, 0}},
    // .04 / .16 = .25 after squaring, .5 before.
    {"temperature comes before min-p", {.temperature = .5F, .min_p = .3F}, {.4, .1, .3, .2}, {.16 / .25, 0, .09 / .25, 0}},
    {"all stages", {.temperature = .5F, .top_k = 3, .top_p = .9F, .min_p = .1F}, {.4, .1, .3, .2}, {.16 / .29, 0, .09 / .29, .04 / .29}},
    // clang-format on
};

static void test_stages_give_exact_distributions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(stage_cases) / sizeof(stage_cases[0]); i++) {
        const struct stage_case *c = &stage_cases[i];
        struct carat_sampling p = plain();
        p.temperature = c->sampling.temperature > 0 ? c->sampling.temperature : 1;
        p.top_k = c->sampling.top_k;
        p.top_p = c->sampling.top_p > 0 ? c->sampling.top_p : 1;
        p.min_p = c->sampling.min_p;
        const float logits[4] = {l(c->p[0]), l(c->p[1]), l(c->p[2]), l(c->p[3])};
        struct carat_sampler *s = make(4, p);
        print_message("%s\n", c->name);
        expect_distribution(s, logits, 4, c->expected);
        carat_sampler_free(s);
    }
}

// Many tokens, so that top-p has to order more and more of them: n equal ones, and half the mass.
static void test_top_p_takes_half_of_equal_tokens(void **state)
{
    (void)state;
    enum { n = 10000 };
    float *logits = calloc(n, sizeof(*logits));
    assert_non_null(logits);
    struct carat_sampling p = plain();
    p.top_p = 0.5F;
    struct carat_sampler *s = make(n, p);
    carat_token highest = 0;
    for (size_t i = 0; i < 1500; i++) {
        const carat_token token = carat_sampler_pick(s, logits);
        highest = token > highest ? token : highest;
    }
    // Of equal tokens the lower ids are kept; 1500 draws leave the last hundred untouched with
    // probability (1 - 1/50)^1500.
    assert_in_range(highest, n / 2 - 100, n / 2 - 1);
    carat_sampler_free(s);
    free(logits);
}

static void test_top_k_is_the_sorted_beginning(void **state)
{
    (void)state;
    enum { n = 5000, k = 37 };
    float *logits = calloc(n, sizeof(*logits));
    assert_non_null(logits);
    // Logit i * 1237 mod 5000 / 5000: a permutation, so that rank is known from the value.
    for (size_t i = 0; i < n; i++) {
        logits[i] = (float)(i * 1237 % n) / n;
    }
    struct carat_sampling p = plain();
    p.top_k = k;
    struct carat_sampler *s = make(n, p);
    bool was_seen[k] = {false};
    for (size_t i = 0; i < 2000; i++) {
        const size_t value = (size_t)carat_sampler_pick(s, logits) * 1237 % n;
        assert_in_range(value, n - k, n - 1);
        was_seen[n - 1 - value] = true;
    }
    for (size_t i = 0; i < k; i++) {
        assert_true(was_seen[i]);
    }
    carat_sampler_free(s);
    free(logits);
}

static void test_greedy_takes_the_best_and_the_lower_id(void **state)
{
    (void)state;
    struct carat_sampling p = plain();
    p.temperature = 0;
    struct carat_sampler *s = make(5, p);
    const float logits[5] = {1, 3, 2, 3, -1};
    for (int i = 0; i < 10; i++) {
        assert_int_equal(carat_sampler_pick(s, logits), 1);
    }
    carat_sampler_free(s);
}

static void test_bias_is_added_and_can_forbid_or_force(void **state)
{
    (void)state;
    const float logits[4] = {l(.4), l(.1), l(.3), l(.2)};
    struct carat_sampling p = plain();
    // .4 -> .8 of 1.0 + .3 removed: .8 .1 0 .2, sum 1.1
    const struct carat_logit_bias biases[] = {{0, (float)log(2)}, {2, -INFINITY}};
    p.biases = biases;
    p.n_biases = 2;
    struct carat_sampler *s = make(4, p);
    expect_distribution(s, logits, 4, (double[]){.8 / 1.1, .1 / 1.1, 0, .2 / 1.1});
    carat_sampler_free(s);

    const struct carat_logit_bias force[] = {{1, INFINITY}};
    p.biases = force;
    p.n_biases = 1;
    s = make(4, p);
    expect_distribution(s, logits, 4, (double[]){0, 1, 0, 0});
    carat_sampler_free(s);
}

static void test_suppressed_tokens_never_come_even_when_biased(void **state)
{
    (void)state;
    const float logits[4] = {l(.4), l(.1), l(.3), l(.2)};
    const carat_token suppressed[] = {0, 3, 77, -1}; // two of them are not in the vocabulary
    const struct carat_logit_bias biases[] = {{3, INFINITY}};
    struct carat_sampling p = plain();
    p.biases = biases;
    p.n_biases = 1;
    struct carat_sampler *s = NULL;
    assert_int_equal(sampler_new(&s, 4, &p, suppressed, 4, NULL), 0);
    expect_distribution(s, logits, 4, (double[]){0, .25, .75, 0});
    carat_sampler_free(s);
}

// One pick after some history, by the best token of temperature 0: penalties in numbers.
static carat_token pick_once(struct carat_sampling p, const float *logits, size_t n,
                             const carat_token *accepted, size_t n_accepted)
{
    p.temperature = 0;
    struct carat_sampler *s = make(n, p);
    for (size_t i = 0; i < n_accepted; i++) {
        carat_sampler_accept(s, accepted[i]);
    }
    const carat_token token = carat_sampler_pick(s, logits);
    carat_sampler_free(s);
    return token;
}

static void test_repetition_divides_positive_and_multiplies_negative(void **state)
{
    (void)state;
    struct carat_sampling p = plain();
    p.repetition_penalty = 2;
    const carat_token zero[] = {0};
    // 4 / 2 = 2: below 2.1, above 1.9
    assert_int_equal(pick_once(p, (float[]){4, 2.1F}, 2, zero, 1), 1);
    assert_int_equal(pick_once(p, (float[]){4, 1.9F}, 2, zero, 1), 0);
    // -1 * 2 = -2
    assert_int_equal(pick_once(p, (float[]){-1, -1.9F}, 2, zero, 1), 1);
    assert_int_equal(pick_once(p, (float[]){-1, -2.1F}, 2, zero, 1), 0);
    // However often: once.
    const carat_token often[] = {0, 0, 0, 0};
    assert_int_equal(pick_once(p, (float[]){4, 1.9F}, 2, often, 4), 0);
    // Tokens outside the vocabulary are nobody's.
    const carat_token outside[] = {-1, 2, 1000};
    assert_int_equal(pick_once(p, (float[]){4, 2.1F}, 2, outside, 3), 0);
}

static void test_frequency_and_presence_count_picks_only(void **state)
{
    (void)state;
    struct carat_sampling p = plain();
    p.presence_penalty = 100;
    const carat_token prompt[] = {0, 0, 0};
    assert_int_equal(pick_once(p, (float[]){4, 3}, 2, prompt, 3), 0);

    // Logits 4 3; each pick costs a token 0.4: 4.0 3.0 -> 0; 3.6 -> 0; 3.2 -> 0; 2.8 against 3.0 ->
    // 1; 2.8 against 2.6 -> 0.
    p = plain();
    p.temperature = 0;
    p.frequency_penalty = 0.4F;
    struct carat_sampler *s = make(2, p);
    const carat_token expected[] = {0, 0, 0, 1, 0};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(carat_sampler_pick(s, (float[]){4, 3}), expected[i]);
    }
    carat_sampler_free(s);

    // Presence takes 1.5 once: 4 -> 2.5 below 3; then 1.5 for the other as well: 2.5 against 1.5.
    p.frequency_penalty = 0;
    p.presence_penalty = 1.5F;
    s = make(2, p);
    const carat_token expected_presence[] = {0, 1, 0, 0, 0};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(carat_sampler_pick(s, (float[]){4, 3}), expected_presence[i]);
    }
    carat_sampler_free(s);
}

static void test_penalty_window_forgets(void **state)
{
    (void)state;
    struct carat_sampling p = plain();
    p.repetition_penalty = 2;
    p.penalty_window = 2;
    assert_int_equal(pick_once(p, (float[]){4, 3, 0}, 3, (carat_token[]){0, 2}, 2), 1);
    assert_int_equal(pick_once(p, (float[]){4, 3, 0}, 3, (carat_token[]){0, 2, 2}, 3), 0);
    // The same token twice in the window, once left.
    assert_int_equal(pick_once(p, (float[]){4, 3, 0}, 3, (carat_token[]){0, 0, 2}, 3), 1);
    assert_int_equal(pick_once(p, (float[]){4, 3, 0}, 3, (carat_token[]){0, 0, 2, 2}, 4), 0);

    // Picks leave the window as well: 0 is penalized while it is in it, and comes back.
    p.repetition_penalty = 1;
    p.presence_penalty = 10;
    p.penalty_window = 1;
    p.temperature = 0;
    struct carat_sampler *s = make(3, p);
    const carat_token expected[] = {0, 1, 0, 1};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(carat_sampler_pick(s, (float[]){4, 3, 0}), expected[i]);
    }
    carat_sampler_free(s);
}

static void test_same_seed_same_tokens(void **state)
{
    (void)state;
    float logits[64];
    for (size_t i = 0; i < 64; i++) {
        logits[i] = (float)(i % 7) * 0.5F;
    }
    struct carat_sampling p = plain();
    p.seed = 0;
    struct carat_sampler *a = make(64, p);
    assert_int_not_equal(carat_sampler_seed(a), 0);
    p.seed = carat_sampler_seed(a);
    struct carat_sampler *b = make(64, p);
    p.seed++;
    struct carat_sampler *c = make(64, p);
    size_t n_different = 0;
    for (size_t i = 0; i < 1000; i++) {
        const carat_token token = carat_sampler_pick(a, logits);
        assert_int_equal(carat_sampler_pick(b, logits), token);
        n_different += carat_sampler_pick(c, logits) != token;
    }
    assert_true(n_different > 500);
    carat_sampler_free(a);
    carat_sampler_free(b);
    carat_sampler_free(c);
}

// splitmix64 from seed 1234567 begins 6457827717110365317, 3203168211198807973 (the reference
// implementation's test vector): uniform numbers .35008, .17365. With p = .36 .64 the first two
// draws are 0 and 0, with p = .3 .7 they are 1 and 0.
static void test_generator_is_splitmix64(void **state)
{
    (void)state;
    struct carat_sampling p = plain();
    p.seed = 1234567;
    struct carat_sampler *s = make(2, p);
    assert_int_equal(carat_sampler_pick(s, (float[]){l(.351), l(.649)}), 0);
    assert_int_equal(carat_sampler_pick(s, (float[]){l(.174), l(.826)}), 0);
    carat_sampler_free(s);
    s = make(2, p);
    assert_int_equal(carat_sampler_pick(s, (float[]){l(.349), l(.651)}), 1);
    assert_int_equal(carat_sampler_pick(s, (float[]){l(.173), l(.827)}), 1);
    carat_sampler_free(s);
}

static void test_logprobs_are_the_models_own(void **state)
{
    (void)state;
    const double probabilities[4] = {.4, .1, .3, .2};
    const float logits[4] = {5 + l(.4), 5 + l(.1), 5 + l(.3), 5 + l(.2)};
    const struct carat_logit_bias biases[] = {{1, INFINITY}};
    struct carat_sampling p = plain();
    p.temperature = 0.1F;
    p.top_k = 1;
    p.biases = biases;
    p.n_biases = 1;
    p.n_top = 2;
    struct carat_sampler *s = make(4, p);
    size_t n = 9;
    carat_sampler_logprobs(s, &n);
    assert_int_equal(n, 0); // nothing picked yet
    assert_int_equal(carat_sampler_pick(s, logits), 1);
    const struct carat_logprob *found = carat_sampler_logprobs(s, &n);
    assert_int_equal(n, 3);
    const carat_token expected[] = {1, 0, 2};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(found[i].token, expected[i]);
        assert_true(fabs((double)found[i].logprob - log(probabilities[expected[i]])) < 1e-6);
    }
    carat_sampler_free(s);

    p.n_top = 100; // more than there are tokens
    s = make(4, p);
    carat_sampler_pick(s, logits);
    carat_sampler_logprobs(s, &n);
    assert_int_equal(n, 5);
    carat_sampler_free(s);

    p.n_top = 0;
    s = make(4, p);
    carat_sampler_pick(s, logits);
    carat_sampler_logprobs(s, &n);
    assert_int_equal(n, 0);
    carat_sampler_free(s);
}

static void test_logits_that_are_no_numbers(void **state)
{
    (void)state;
    const float none[3] = {-INFINITY, -INFINITY, -INFINITY};
    const float nans[3] = {NAN, NAN, NAN};
    const float one_nan[3] = {NAN, 1, NAN};
    const float infinite[3] = {1, INFINITY, NAN};
    const float huge[3] = {-3e38F, 3e38F, -3e38F};
    for (int variant = 0; variant < 4; variant++) {
        struct carat_sampling p = plain();
        p.n_top = 3;
        p.temperature = variant == 0 ? 0 : variant == 1 ? 1e-30F : 1;
        p.top_k = variant == 2 ? 2 : 0;
        p.top_p = variant == 3 ? 0.5F : 1;
        p.min_p = variant == 3 ? 0.5F : 0;
        p.repetition_penalty = 1.5F;
        struct carat_sampler *s = make(3, p);
        assert_int_equal(carat_sampler_pick(s, none), 0);
        assert_int_equal(carat_sampler_pick(s, nans), 0);
        size_t n = 0;
        const struct carat_logprob *found = carat_sampler_logprobs(s, &n);
        assert_false(isnan(found[0].logprob));
        assert_int_equal(carat_sampler_pick(s, one_nan), 1);
        assert_int_equal(carat_sampler_pick(s, infinite), 1);
        assert_int_equal(carat_sampler_pick(s, huge), 1);
        carat_sampler_free(s);
    }
}

static void test_arguments_are_checked(void **state)
{
    (void)state;
    const struct carat_logit_bias out_of_range[] = {{0, 0}, {4, 0}};
    const struct carat_logit_bias negative[] = {{-1, 0}};
    const struct carat_logit_bias not_a_number[] = {{0, NAN}};
    struct carat_sampling p[16];
    for (size_t i = 0; i < 16; i++) {
        p[i] = plain();
    }
    p[0].temperature = -0.1F;
    p[1].temperature = NAN;
    p[2].temperature = INFINITY;
    p[3].top_p = 0;
    p[4].top_p = 1.01F;
    p[5].min_p = -0.1F;
    p[6].min_p = 1.1F;
    p[7].repetition_penalty = 0;
    p[8].frequency_penalty = NAN;
    p[9].presence_penalty = INFINITY;
    p[10].n_top = 101;
    p[11].penalty_window = SAMPLER_WINDOW_MAX + 1;
    p[12].biases = out_of_range;
    p[12].n_biases = 2;
    p[13].biases = negative;
    p[13].n_biases = 1;
    p[14].biases = not_a_number;
    p[14].n_biases = 1;
    p[15].n_biases = 1; // biases is NULL
    static const char *const texts[] = {"temperature: expected 0 or more, found -0.1",
                                        "temperature",
                                        "temperature",
                                        "top_p: expected more than 0 and at most 1, found 0",
                                        "top_p",
                                        "min_p",
                                        "min_p: expected 0 to 1, found 1.1",
                                        "repetition_penalty: expected more than 0, found 0",
                                        "frequency_penalty",
                                        "presence_penalty",
                                        "n_top: expected at most 100, found 101",
                                        "penalty_window",
                                        "biases[1].token: expected 0 to 3, found 4",
                                        "biases[0].token: expected 0 to 3, found -1",
                                        "biases[0].bias",
                                        "biases: expected 1 of them, found NULL"};
    for (size_t i = 0; i < 16; i++) {
        struct carat_sampler *s = NULL;
        struct carat_error err = {0};
        assert_int_equal(sampler_new(&s, 4, &p[i], NULL, 0, &err), CARAT_E_ARGUMENT);
        assert_null(s);
        assert_non_null(strstr(err.text, texts[i]));
    }
    struct carat_sampler *s = NULL;
    const struct carat_sampling right = plain();
    assert_int_equal(sampler_new(&s, 0, &right, NULL, 0, NULL), CARAT_E_ARGUMENT);
    carat_sampler_free(NULL);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    const struct carat_logit_bias biases[] = {{1, 1}};
    const carat_token suppressed[] = {2};
    struct carat_sampling p = plain();
    p.biases = biases;
    p.n_biases = 1;
    p.presence_penalty = 1;
    p.penalty_window = 10;
    p.n_top = 5;
    const size_t before = mem_bytes_now();
    for (size_t i = 1;; i++) {
        struct carat_sampler *s = NULL;
        struct carat_error err = {0};
        mem_fail_nth(i);
        const int rc = sampler_new(&s, 100, &p, suppressed, 1, &err);
        mem_fail_nth(0);
        if (rc == 0) {
            assert_true(i > 5);
            carat_sampler_free(s);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_null(s);
        assert_int_equal(mem_bytes_now(), before);
    }
    assert_int_equal(mem_bytes_now(), before);
}

static void test_defaults(void **state)
{
    (void)state;
    struct carat_sampling p;
    memset(&p, 0xFF, sizeof(p));
    carat_sampling_init(&p, NULL);
    assert_true(p.temperature == 1.0F);
    assert_int_equal(p.top_k, 64);
    assert_true(p.top_p == 0.95F);
    assert_true(p.min_p == 0);
    assert_true(p.repetition_penalty == 1);
    assert_true(p.frequency_penalty == 0);
    assert_true(p.presence_penalty == 0);
    assert_int_equal(p.n_biases, 0);
    assert_int_equal(p.n_top, 0);
    assert_int_equal(p.seed, 0);
}

// The demo model must not say its media tokens, 3067, 3068 and 3071.
static void test_an_engine_suppresses_its_tokens(void **state)
{
    (void)state;
    const struct carat_engine_options options = {.model = DEMO_GGUF, .is_vocab_only = true};
    struct carat_engine *engine = NULL;
    assert_int_equal(carat_engine_open(&engine, &options, NULL), 0);
    const size_t n = carat_engine_info(engine)->n_vocab;
    assert_int_equal(n, 3072);
    float *logits = calloc(n, sizeof(*logits));
    assert_non_null(logits);
    logits[3067] = 9;
    logits[3068] = 9;
    logits[3071] = 9;
    logits[1234] = 8;
    struct carat_sampling p = plain();
    p.temperature = 0;
    struct carat_sampler *s = NULL;
    assert_int_equal(carat_sampler_new(&s, engine, &p, NULL), 0);
    assert_int_equal(carat_sampler_pick(s, logits), 1234);
    carat_sampler_free(s);
    assert_int_equal(carat_sampler_new(&s, engine, NULL, NULL), 0); // the model's own settings
    for (int i = 0; i < 100; i++) {
        const carat_token token = carat_sampler_pick(s, logits);
        assert_true(token != 3067 && token != 3068 && token != 3071);
    }
    carat_sampler_free(s);
    free(logits);
    carat_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages_give_exact_distributions),
        cmocka_unit_test(test_top_p_takes_half_of_equal_tokens),
        cmocka_unit_test(test_top_k_is_the_sorted_beginning),
        cmocka_unit_test(test_greedy_takes_the_best_and_the_lower_id),
        cmocka_unit_test(test_bias_is_added_and_can_forbid_or_force),
        cmocka_unit_test(test_suppressed_tokens_never_come_even_when_biased),
        cmocka_unit_test(test_repetition_divides_positive_and_multiplies_negative),
        cmocka_unit_test(test_frequency_and_presence_count_picks_only),
        cmocka_unit_test(test_penalty_window_forgets),
        cmocka_unit_test(test_same_seed_same_tokens),
        cmocka_unit_test(test_generator_is_splitmix64),
        cmocka_unit_test(test_logprobs_are_the_models_own),
        cmocka_unit_test(test_logits_that_are_no_numbers),
        cmocka_unit_test(test_arguments_are_checked),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_an_engine_suppresses_its_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
