// SPDX-License-Identifier: Apache-2.0
// Logits in, a token out: a table of stages over one list of candidates (docs/sampling.md has the
// formulas). Deterministic for a seed: probabilities are doubles summed in a fixed order, and among
// equal logits the lower id comes first.
#include "engine/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "engine/grammar.h"
#include "engine/internal.h"

struct candidate {
    carat_token id;
    float logit;
};

// A token that penalties may look at.
struct seen {
    carat_token token;
    bool was_picked;
};

// How often a token is among the seen ones.
struct count {
    uint32_t seen;
    uint32_t picked;
};

struct carat_sampler {
    struct carat_sampling sampling; // biases are our copy
    size_t n_vocab;
    carat_token *suppressed;
    size_t n_suppressed;

    struct candidate *candidates; // [n_vocab]
    size_t n;                     // candidates left
    size_t n_ordered;             // the first so many are the best, best first
    float max;                    // highest logit among them

    struct grammar_run *run; // NULL: no grammar
    const uint64_t *allowed; // by the grammar, for this pick; NULL: all

    bool has_penalties;
    struct count *counts; // [n_vocab], where penalties are on
    struct seen *window;  // [penalty_window], a ring; NULL: everything counts
    size_t n_window;      // tokens in the ring
    size_t window_at;     // where the next goes

    uint64_t seed;
    uint64_t state;                 // of the generator
    struct carat_logprob *logprobs; // [n_top + 1]
    size_t n_logprobs;
    double log_total; // of the model's own distribution: log of the sum of e^logit
};

// ------------------------------------------------------------------------------------ numbers

// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
static uint64_t next_random(struct carat_sampler *s)
{
    s->state += 0x9E3779B97F4A7C15u;
    uint64_t x = s->state;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

// In [0, 1), a multiple of 2^-53.
static double next_uniform(struct carat_sampler *s)
{
    return (double)(next_random(s) >> 11) * 0x1p-53;
}

// What is not a number is as unlikely as can be; the rest can be subtracted from each other.
static float clean(float logit)
{
    if (isnan(logit)) {
        return -INFINITY;
    }
    return logit > FLT_MAX ? FLT_MAX : logit;
}

// e^(logit - max): the probability but for a common factor. The best have 1.
static double weight(const struct carat_sampler *s, size_t i)
{
    const double distance = (double)s->candidates[i].logit - (double)s->max;
    // Further off, it is lost in a sum of doubles whose largest term is 1.
    return distance >= -100 ? exp(distance) : 0;
}

// ------------------------------------------------------------------------------------ ordering

static bool is_better(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void swap_candidates(struct candidate *c, size_t i, size_t k)
{
    const struct candidate t = c[i];
    c[i] = c[k];
    c[k] = t;
}

// c[0..n) is a heap with the worst on top, but for c[i], which may be too good for its place.
static void heap_sink(struct candidate *c, size_t n, size_t i)
{
    for (;;) {
        size_t worst = i;
        for (size_t child = 2 * i + 1; child < n && child <= 2 * i + 2; child++) {
            if (is_better(c[worst], c[child])) {
                worst = child;
            }
        }
        if (worst == i) {
            return;
        }
        swap_candidates(c, i, worst);
        i = worst;
    }
}

// Puts the k best candidates first, best first: a heap of the best so far, then heap sort. The list
// stays a permutation of what it was.
static void order_best(struct carat_sampler *s, size_t k)
{
    struct candidate *c = s->candidates;
    if (k > s->n) {
        k = s->n;
    }
    if (k <= s->n_ordered) {
        return;
    }
    for (size_t i = k / 2; i-- > 0;) {
        heap_sink(c, k, i);
    }
    for (size_t i = k; i < s->n; i++) {
        if (is_better(c[i], c[0])) {
            swap_candidates(c, i, 0);
            heap_sink(c, k, 0);
        }
    }
    for (size_t i = k; i-- > 1;) {
        swap_candidates(c, 0, i);
        heap_sink(c, i, 0);
    }
    s->n_ordered = k;
}

static void keep_first(struct carat_sampler *s, size_t n)
{
    s->n = n;
    if (s->n_ordered > n) {
        s->n_ordered = n;
    }
}

// ------------------------------------------------------------------------------------ stages

// All tokens, by id.
static void load(struct carat_sampler *s, const float *logits)
{
    s->n = s->n_vocab;
    s->n_ordered = 0;
    s->max = -INFINITY;
    for (size_t i = 0; i < s->n_vocab; i++) {
        const float logit = clean(logits[i]);
        s->candidates[i].id = (carat_token)i;
        s->candidates[i].logit = logit;
        if (logit > s->max) {
            s->max = logit;
        }
    }
}

static void apply_bias(struct carat_sampler *s)
{
    for (size_t i = 0; i < s->sampling.n_biases; i++) {
        const struct carat_logit_bias b = s->sampling.biases[i];
        s->candidates[b.token].logit = clean(s->candidates[b.token].logit + b.bias);
    }
}

static void suppress(struct carat_sampler *s)
{
    for (size_t i = 0; i < s->n_suppressed; i++) {
        s->candidates[s->suppressed[i]].logit = -INFINITY;
    }
}

// Repetition: Keskar et al., CTRL, 2019, with the fix for negative logits that everybody uses.
// Frequency and presence: OpenAI's, over picked tokens.
static void penalize(struct carat_sampler *s)
{
    const float repetition = s->sampling.repetition_penalty;
    for (size_t i = 0; i < s->n_vocab; i++) {
        const struct count count = s->counts[i];
        if (count.seen == 0) {
            continue;
        }
        float l = s->candidates[i].logit;
        l = l > 0 ? l / repetition : l * repetition;
        if (count.picked > 0) {
            l -= (float)count.picked * s->sampling.frequency_penalty + s->sampling.presence_penalty;
        }
        s->candidates[i].logit = clean(l);
    }
}

static void keep_candidate(struct carat_sampler *s, size_t i, size_t *n)
{
    const struct candidate c = s->candidates[i];
    if (c.logit > -INFINITY) {
        s->candidates[(*n)++] = c;
        s->max = c.logit > s->max ? c.logit : s->max;
    }
}

// Drops what cannot be picked, keeps the order, finds the highest logit. What the grammar forbids
// is dropped here, whatever was added to it before.
static void drop_forbidden(struct carat_sampler *s)
{
    size_t n = 0;
    s->max = -INFINITY;
    for (size_t i = 0; !s->allowed && i < s->n_vocab; i++) {
        keep_candidate(s, i, &n);
    }
    for (size_t i = 0; s->allowed && i < s->n_vocab; i += 64) {
        for (uint64_t word = s->allowed[i / 64]; word; word &= word - 1) {
            keep_candidate(s, i + (size_t)__builtin_ctzll(word), &n);
        }
    }
    keep_first(s, n);
}

// Relative to the highest, so that a temperature next to zero overflows to minus infinity only.
static void heat(struct carat_sampler *s)
{
    const double temperature = (double)s->sampling.temperature;
    for (size_t i = 0; i < s->n; i++) {
        const double distance = (double)s->candidates[i].logit - (double)s->max;
        const double heated = distance / temperature;
        s->candidates[i].logit = heated < -(double)FLT_MAX ? -INFINITY : (float)heated;
    }
    s->max = 0;
}

static void keep_top_k(struct carat_sampler *s)
{
    if (s->sampling.top_k < s->n) {
        order_best(s, s->sampling.top_k);
        keep_first(s, s->sampling.top_k);
    }
}

// How many of the best, of which `ordered` are in order, it takes to reach this mass; ordered + 1
// when they are not enough.
static size_t count_to_mass(const struct carat_sampler *s, size_t ordered, double mass)
{
    double sum = 0;
    for (size_t i = 0; i < ordered; i++) {
        sum += weight(s, i);
        if (sum >= mass) {
            return i + 1;
        }
    }
    return ordered + 1;
}

// The fewest candidates with the mass top_p (Holtzman et al., 2019). They are put in order by and
// by, because the nucleus is small as a rule.
static void keep_top_p(struct carat_sampler *s)
{
    double total = 0;
    for (size_t i = 0; i < s->n; i++) {
        total += weight(s, i);
    }
    for (size_t k = 256;; k *= 16) {
        order_best(s, k);
        const size_t ordered = k < s->n ? k : s->n;
        const size_t kept = count_to_mass(s, ordered, (double)s->sampling.top_p * total);
        if (kept <= ordered) {
            keep_first(s, kept);
            return;
        }
        if (ordered == s->n) {
            return; // rounding: all of them
        }
    }
}

// Those at least min_p times as likely as the best.
static void keep_min_p(struct carat_sampler *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (weight(s, i) >= (double)s->sampling.min_p) {
            s->candidates[n++] = s->candidates[i];
        }
    }
    keep_first(s, n);
}

static bool has_bias(const struct carat_sampler *s)
{
    return s->sampling.n_biases > 0;
}

static bool has_suppressed(const struct carat_sampler *s)
{
    return s->n_suppressed > 0;
}

static bool has_penalties(const struct carat_sampler *s)
{
    return s->has_penalties;
}

static bool is_always(const struct carat_sampler *s)
{
    (void)s;
    return true;
}

static bool is_random(const struct carat_sampler *s)
{
    return s->sampling.temperature > 0;
}

static bool has_temperature(const struct carat_sampler *s)
{
    return is_random(s) && s->sampling.temperature != 1.0F;
}

static bool has_top_k(const struct carat_sampler *s)
{
    return is_random(s) && s->sampling.top_k > 0;
}

static bool has_top_p(const struct carat_sampler *s)
{
    return is_random(s) && s->sampling.top_p < 1.0F;
}

static bool has_min_p(const struct carat_sampler *s)
{
    return is_random(s) && s->sampling.min_p > 0;
}

// The stages in their order. Up to drop_forbidden, candidate i is token i.
static const struct stage {
    bool (*is_on)(const struct carat_sampler *);
    void (*run)(struct carat_sampler *);
} stages[] = {
    // clang-format off
    {has_bias,        apply_bias},
    {has_suppressed,  suppress},
    {has_penalties,   penalize},
    {is_always,       drop_forbidden},
    {has_temperature, heat},
    {has_top_k,       keep_top_k},
    {has_top_p,       keep_top_p},
    {has_min_p,       keep_min_p},
    // clang-format on
};

// ------------------------------------------------------------------------------------ picking

static carat_token pick_best(const struct carat_sampler *s)
{
    struct candidate best = s->candidates[0];
    for (size_t i = 1; i < s->n; i++) {
        if (is_better(s->candidates[i], best)) {
            best = s->candidates[i];
        }
    }
    return best.id;
}

static carat_token draw(struct carat_sampler *s)
{
    double total = 0;
    for (size_t i = 0; i < s->n; i++) {
        total += weight(s, i);
    }
    const double point = next_uniform(s) * total;
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        sum += weight(s, i);
        if (point < sum) { // never a candidate of weight 0
            return s->candidates[i].id;
        }
    }
    return pick_best(s); // point was rounded up to total: once in 2^53 draws
}

// The model's own distribution: log p(i) = logit(i) - log(sum of e^logit). Place 0 is for the token
// itself, which is not known yet.
static void note_logprobs(struct carat_sampler *s, const float *logits)
{
    load(s, logits);
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        sum += weight(s, i);
    }
    s->log_total = sum > 0 ? (double)s->max + log(sum) : 0;
    order_best(s, s->sampling.n_top);
    s->n_logprobs = 1;
    for (size_t i = 0; i < s->sampling.n_top && i < s->n; i++) {
        const struct candidate c = s->candidates[i];
        s->logprobs[s->n_logprobs].token = c.id;
        s->logprobs[s->n_logprobs++].logprob = (float)((double)c.logit - s->log_total);
    }
}

// When bias, suppression and logits leave nothing that the grammar allows: of what it allows, the
// token that the model likes best, among equals the lowest id.
static carat_token pick_allowed(const struct carat_sampler *s, const float *logits)
{
    struct candidate best = {.id = CARAT_TOKEN_NONE};
    for (size_t i = 0; s->allowed && i < s->n_vocab; i++) {
        if (bit_get(s->allowed, (carat_token)i)) {
            const struct candidate c = {.id = (carat_token)i, .logit = clean(logits[i])};
            best = best.id == CARAT_TOKEN_NONE || is_better(c, best) ? c : best;
        }
    }
    return best.id == CARAT_TOKEN_NONE ? 0 : best.id; // nothing: the lowest id
}

static void remember(struct carat_sampler *s, carat_token token, bool was_picked)
{
    if (!s->has_penalties || token < 0 || (size_t)token >= s->n_vocab) {
        return;
    }
    if (s->window) {
        struct seen *place = &s->window[s->window_at];
        if (s->n_window == s->sampling.penalty_window) {
            s->counts[place->token].seen--;
            s->counts[place->token].picked -= place->was_picked;
        } else {
            s->n_window++;
        }
        place->token = token;
        place->was_picked = was_picked;
        s->window_at = (s->window_at + 1) % s->sampling.penalty_window;
    }
    s->counts[token].seen++;
    s->counts[token].picked += was_picked;
}

carat_token carat_sampler_pick(struct carat_sampler *s, const float *logits)
{
    s->n_logprobs = 0;
    if (s->sampling.n_top > 0) {
        note_logprobs(s, logits);
    }
    s->allowed = s->run ? grammar_run_allowed(s->run) : NULL;
    load(s, logits);
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        if (stages[i].is_on(s)) {
            stages[i].run(s);
        }
    }
    const carat_token token = s->n == 0      ? pick_allowed(s, logits)
                              : is_random(s) ? draw(s)
                                             : pick_best(s);
    if (s->run) {
        grammar_run_accept(s->run, token);
    }
    if (s->n_logprobs > 0) {
        s->logprobs[0].token = token;
        s->logprobs[0].logprob = (float)((double)clean(logits[token]) - s->log_total);
    }
    remember(s, token, true);
    return token;
}

void carat_sampler_accept(struct carat_sampler *s, carat_token token)
{
    remember(s, token, false);
}

const struct carat_logprob *carat_sampler_logprobs(const struct carat_sampler *s, size_t *n)
{
    *n = s->n_logprobs;
    return s->logprobs;
}

uint64_t carat_sampler_seed(const struct carat_sampler *s)
{
    return s->seed;
}

// ------------------------------------------------------------------------------------ making one

void sampling_init(struct carat_sampling *out)
{
    *out = (struct carat_sampling){
        .temperature = 1.0F, .top_k = 64, .top_p = 0.95F, .repetition_penalty = 1.0F};
}

void carat_sampling_init(struct carat_sampling *out, const struct carat_engine *engine)
{
    sampling_init(out);
    if (engine) {
        engine_sampling_defaults(engine, out);
    }
}

static int check_number(const char *field, float value, bool is_right, const char *expected,
                        struct carat_error *err)
{
    if (is_right && isfinite(value)) {
        return 0;
    }
    return fail(err, CARAT_E_ARGUMENT, "sampling: %s: expected %s, found %g", field, expected,
                (double)value);
}

static int check_size(const char *field, size_t value, size_t max, struct carat_error *err)
{
    if (value <= max) {
        return 0;
    }
    return fail(err, CARAT_E_ARGUMENT, "sampling: %s: expected at most %zu, found %zu", field, max,
                value);
}

static int check_biases(const struct carat_sampling *p, size_t n_vocab, struct carat_error *err)
{
    int rc = check_size("n_biases", p->n_biases, SAMPLER_BIASES_MAX, err);
    if (rc) {
        return rc;
    }
    if (p->n_biases > 0 && !p->biases) {
        return fail(err, CARAT_E_ARGUMENT, "sampling: biases: expected %zu of them, found NULL",
                    p->n_biases);
    }
    for (size_t i = 0; i < p->n_biases; i++) {
        const struct carat_logit_bias b = p->biases[i];
        if (b.token < 0 || (size_t)b.token >= n_vocab) {
            return fail(err, CARAT_E_ARGUMENT,
                        "sampling: biases[%zu].token: expected 0 to %zu, found %d", i, n_vocab - 1,
                        (int)b.token);
        }
        if (isnan(b.bias)) {
            return fail(err, CARAT_E_ARGUMENT,
                        "sampling: biases[%zu].bias: expected a number, found NaN", i);
        }
    }
    return 0;
}

static int check_sampling(const struct carat_sampling *p, size_t n_vocab, struct carat_error *err)
{
    const struct {
        const char *field;
        float value;
        bool is_right;
        const char *expected;
    } numbers[] = {
        {"temperature", p->temperature, p->temperature >= 0, "0 or more"},
        {"top_p", p->top_p, p->top_p > 0 && p->top_p <= 1, "more than 0 and at most 1"},
        {"min_p", p->min_p, p->min_p >= 0 && p->min_p <= 1, "0 to 1"},
        {"repetition_penalty", p->repetition_penalty, p->repetition_penalty > 0, "more than 0"},
        {"frequency_penalty", p->frequency_penalty, true, "a finite number"},
        {"presence_penalty", p->presence_penalty, true, "a finite number"},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && rc == 0; i++) {
        rc = check_number(numbers[i].field, numbers[i].value, numbers[i].is_right,
                          numbers[i].expected, err);
    }
    if (rc == 0) {
        rc = check_size("n_top", p->n_top, SAMPLER_TOP_MAX, err);
    }
    if (rc == 0) {
        rc = check_size("penalty_window", p->penalty_window, SAMPLER_WINDOW_MAX, err);
    }
    return rc ? rc : check_biases(p, n_vocab, err);
}

static int copy_lists(struct carat_sampler *s, const struct carat_sampling *p,
                      const carat_token *suppressed, size_t n_suppressed, struct carat_error *err)
{
    struct carat_logit_bias *biases = mem_new_array(p->n_biases, sizeof(*biases), err);
    s->sampling.biases = biases;
    s->suppressed = mem_new_array(n_suppressed, sizeof(*s->suppressed), err);
    if (!biases || !s->suppressed) {
        return CARAT_E_MEMORY;
    }
    if (p->n_biases > 0) {
        memcpy(biases, p->biases, p->n_biases * sizeof(*biases));
    }
    for (size_t i = 0; i < n_suppressed; i++) {
        if (suppressed[i] >= 0 && (size_t)suppressed[i] < s->n_vocab) {
            s->suppressed[s->n_suppressed++] = suppressed[i];
        }
    }
    return 0;
}

static int take_memory(struct carat_sampler *s, struct carat_error *err)
{
    s->candidates = mem_new_array(s->n_vocab, sizeof(*s->candidates), err);
    s->logprobs = mem_new_array(s->sampling.n_top + 1, sizeof(*s->logprobs), err);
    if (!s->candidates || !s->logprobs) {
        return CARAT_E_MEMORY;
    }
    s->has_penalties = s->sampling.repetition_penalty != 1.0F ||
                       s->sampling.frequency_penalty != 0 || s->sampling.presence_penalty != 0;
    if (!s->has_penalties) {
        return 0;
    }
    s->counts = mem_new_array(s->n_vocab, sizeof(*s->counts), err);
    if (!s->counts) {
        return CARAT_E_MEMORY;
    }
    if (s->sampling.penalty_window > 0) {
        s->window = mem_new_array(s->sampling.penalty_window, sizeof(*s->window), err);
        if (!s->window) {
            return CARAT_E_MEMORY;
        }
    }
    return 0;
}

int sampler_new(struct carat_sampler **out, size_t n_vocab, const struct carat_sampling *sampling,
                const carat_token *suppressed, size_t n_suppressed, struct carat_error *err)
{
    if (n_vocab == 0 || n_vocab > INT32_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "sampling: n_vocab: expected 1 to %d, found %zu",
                    INT32_MAX, n_vocab);
    }
    int rc = check_sampling(sampling, n_vocab, err);
    if (rc) {
        return rc;
    }
    rc = CARAT_E_MEMORY;
    struct carat_sampler *s = mem_new(sizeof(*s), err);
    if (!s) {
        goto out;
    }
    s->sampling = *sampling;
    s->sampling.biases = NULL;
    s->n_vocab = n_vocab;
    rc = copy_lists(s, sampling, suppressed, n_suppressed, err);
    if (rc) {
        goto out;
    }
    rc = take_memory(s, err);
    if (rc) {
        goto out;
    }
    s->seed = sampling->seed;
    while (s->seed == 0) {
        s->seed = os_random_u64();
    }
    s->state = s->seed;
    if (sampling->grammar) {
        rc = sampling->grammar->lexicon->n_vocab == n_vocab
                 ? grammar_run_new(&s->run, sampling->grammar, err)
                 : fail(err, CARAT_E_ARGUMENT, "sampling: the grammar is another engine's");
        if (rc) {
            goto out;
        }
    }
    *out = s;
    s = NULL;
out:
    carat_sampler_free(s);
    return rc;
}

int carat_sampler_new(struct carat_sampler **out, const struct carat_engine *engine,
                      const struct carat_sampling *sampling, struct carat_error *err)
{
    struct carat_sampling defaults;
    if (!sampling) {
        carat_sampling_init(&defaults, engine);
        sampling = &defaults;
    }
    size_t n_suppressed = 0;
    const carat_token *suppressed = engine_suppressed(engine, &n_suppressed);
    return sampler_new(out, carat_engine_info(engine)->n_vocab, sampling, suppressed, n_suppressed,
                       err);
}

void carat_sampler_free(struct carat_sampler *s)
{
    if (!s) {
        return;
    }
    mem_free((void *)(uintptr_t)s->sampling.biases); // ours, const only for the public struct
    mem_free(s->suppressed);
    mem_free(s->candidates);
    mem_free(s->counts);
    mem_free(s->window);
    mem_free(s->logprobs);
    grammar_run_free(s->run);
    mem_free(s);
}

size_t sampler_memory(size_t n_vocab)
{
    return n_vocab * (sizeof(struct candidate) + sizeof(struct count)) +
           sizeof(struct carat_sampler) + (SAMPLER_TOP_MAX + 1) * sizeof(struct carat_logprob) +
           8 * (size_t)MEM_ALIGN;
}
