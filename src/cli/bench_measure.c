// SPDX-License-Identifier: Apache-2.0
#include "cli/bench.h"

#include "base/error.h"
#include "base/os.h"

// A run that does not count is cut short: it wakes the machine up, no more.
#define WARM_PREFILL 512
#define WARM_DECODE  8

const char *const measure_names[] = {"prefill", "decode", "batch"};

// Prompts are the same in every run of the program: what they say does not matter, but ordinary
// tokens all over the vocabulary must be looked up. A linear congruential generator (Knuth, MMIX).
static carat_token make_token(const struct bench *b, uint64_t *state)
{
    size_t n_vocab = carat_engine_info(b->loaded.engine)->n_vocab;
    carat_token token = 0;
    for (int tries = 0; tries < 100; tries++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        token = (carat_token)((*state >> 33) % n_vocab);
        if (!carat_token_is_special(b->loaded.engine, token)) {
            break;
        }
    }
    return token;
}

static void watch_memory(struct bench *b)
{
    uint64_t now = os_memory_private();
    b->private_peak = now > b->private_peak ? now : b->private_peak;
    b->resident_peak = os_memory_resident_peak();
}

// Makes the timeline n new tokens, none of them reused: the first one differs from run to run.
static int prefill(struct bench *b, size_t n, uint64_t run, double *seconds,
                   struct carat_error *err)
{
    struct carat_prompt *prompt = NULL;
    uint64_t state = run * 7919 + 1;
    b->tokens[0] = (carat_token)(run % carat_engine_info(b->loaded.engine)->n_vocab);
    for (size_t i = 1; i < n; i++) {
        b->tokens[i] = make_token(b, &state);
    }
    int rc = carat_prompt_from_tokens(&prompt, b->loaded.engine, b->tokens, n, err);
    if (rc) {
        return rc;
    }
    double started = os_seconds();
    rc = carat_session_sync(b->loaded.session, prompt, NULL, err);
    *seconds = os_seconds() - started;
    carat_prompt_free(prompt);
    progress_end(&b->loaded.prefill_progress);
    return rc;
}

// Makes the session's timeline as long as it shall be before decoding begins. Depth 0 has to begin
// with something, too.
static int reach(struct bench *b, size_t depth, uint64_t run, struct carat_error *err)
{
    double ignored = 0;
    if (depth == 0 || b->options->evaluates) {
        return prefill(b, depth ? depth : 1, run, &ignored, err);
    }
    return carat_session_fill(b->loaded.session, depth, err);
}

// n tokens in each of the sessions of b->steps.
static int decode_steps(struct bench *b, size_t n_rows, size_t n, uint64_t run, double *seconds,
                        struct carat_error *err)
{
    uint64_t state = run + 99;
    double started = os_seconds();
    for (size_t i = 0; i < n; i++) {
        for (size_t row = 0; row < n_rows; row++) {
            b->steps[row].token = make_token(b, &state);
        }
        int rc = carat_decode(b->steps, n_rows, err);
        if (rc) {
            return rc;
        }
        if (os_interrupted()) {
            return fail(err, CARAT_E_STOPPED, "interrupted");
        }
    }
    *seconds = os_seconds() - started;
    return 0;
}

static int decode(struct bench *b, size_t depth, size_t n, uint64_t run, double *seconds,
                  struct carat_error *err)
{
    int rc = reach(b, depth, run, err);
    b->steps[0].session = b->loaded.session;
    return rc ? rc : decode_steps(b, 1, n, run, seconds, err);
}

// Timelines of one position each.
static int decode_batch(struct bench *b, size_t n_rows, size_t n, uint64_t run, double *seconds,
                        struct carat_error *err)
{
    for (size_t i = 0; i < n_rows; i++) {
        int rc = carat_session_fill(b->sessions[i], 1, err);
        if (rc) {
            return rc;
        }
        b->steps[i].session = b->sessions[i];
    }
    return decode_steps(b, n_rows, n, run, seconds, err);
}

static void say_step(const struct bench *b, const struct measure *m, size_t run)
{
    if (!b->is_visible) {
        return;
    }
    struct buf line = {.max = 200};
    buf_addf(&line, "%s %zu", measure_names[m->kind], m->tokens);
    if (m->kind == MEASURE_DECODE) {
        buf_addf(&line, " at depth %zu", m->depth);
    } else if (m->kind == MEASURE_BATCH) {
        buf_addf(&line, " in each of %zu", m->n_rows);
    }
    if (run == 0) {
        say_plain("[%s: warming up]", buf_text(&line));
    } else {
        say_plain("[%s: run %zu of %zu]", buf_text(&line), run, b->n_runs);
    }
    buf_release(&line);
}

// Run 0 is the one that does not count. number differs for each run of the program.
static int measure_run(struct bench *b, const struct measure *m, size_t run, uint64_t number,
                       double *seconds, struct carat_error *err)
{
    size_t most = run > 0 ? m->tokens : m->kind == MEASURE_PREFILL ? WARM_PREFILL : WARM_DECODE;
    size_t n = m->tokens < most ? m->tokens : most;
    say_step(b, m, run);
    switch (m->kind) {
    case MEASURE_PREFILL:
        return prefill(b, n, number, seconds, err);
    case MEASURE_DECODE:
        return decode(b, m->depth, n, number, seconds, err);
    case MEASURE_BATCH:
        break;
    }
    return decode_batch(b, m->n_rows, n, number, seconds, err);
}

static int open_sessions(struct bench *b, size_t n_tokens, struct carat_error *err)
{
    struct carat_session_options options;
    settings_session(&options, &b->settings, NULL);
    options.context_max = 1 + n_tokens;
    options.prefill_chunk = b->n_rows_max; // room for as many rows in one pass
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < b->n_rows_max; i++) {
        rc = carat_session_new(&b->sessions[i], b->loaded.engine, &options, err);
    }
    return rc;
}

// Of the prompt that follows opening.
static size_t start_tokens(const struct bench *b)
{
    size_t room = carat_session_context_max(b->loaded.session);
    return room < BENCH_START_TOKENS ? room : BENCH_START_TOKENS;
}

int bench_start(struct bench *b, double started, struct carat_error *err)
{
    struct carat_sampler *sampler = NULL;
    double ignored = 0;
    int rc = prefill(b, start_tokens(b), 0, &ignored, err);
    rc = rc ? rc : carat_sampler_new(&sampler, b->loaded.engine, NULL, err);
    if (rc == 0) {
        carat_sampler_pick(sampler, carat_session_logits(b->loaded.session));
        b->first_token_s = os_seconds() - started;
    }
    carat_sampler_free(sampler);
    watch_memory(b);
    return rc;
}

int bench_measure(struct bench *b, struct carat_error *err)
{
    uint64_t number = 1;
    for (size_t i = 0; i < b->n_measures; i++) {
        struct measure *m = &b->measures[i];
        if (m->kind == MEASURE_BATCH && !b->sessions[0]) {
            int rc = open_sessions(b, m->tokens, err);
            if (rc) {
                return rc;
            }
        }
        for (size_t run = 0; run <= b->n_runs; run++, number++) {
            double seconds = 0;
            int rc = measure_run(b, m, run, number, &seconds, err);
            if (rc) {
                return rc;
            }
            // The plan is that of one session.
            if (m->kind != MEASURE_BATCH) {
                watch_memory(b);
            }
            if (run > 0) {
                m->seconds[run - 1] = seconds;
            }
        }
    }
    return 0;
}

// ------------------------------------------------------------------------------- what it amounts
// to

struct speeds bench_speeds(const struct bench *b, const struct measure *m)
{
    double sorted[BENCH_RUNS_MAX];
    struct speeds s;
    size_t n = b->n_runs;
    for (size_t i = 0; i < n; i++) {
        double tokens = (double)(m->tokens * m->n_rows);
        double speed = m->seconds[i] > 0 ? tokens / m->seconds[i] : 0;
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > speed; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = speed;
    }
    s.min = sorted[0];
    s.max = sorted[n - 1];
    s.median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    return s;
}

double bench_ratio(const struct bench *b, const struct measure *m)
{
    for (size_t i = 0; i < b->n_measures; i++) {
        const struct measure *one = &b->measures[i];
        if (one->kind == MEASURE_BATCH && one->n_rows == 1) {
            double base = bench_speeds(b, one).median;
            return base > 0 ? bench_speeds(b, m).median / base : 0;
        }
    }
    return 0;
}

// What a measured run costs: of decoding one step, in the middle, which stands for all steps.
static int cost_of(struct carat_cost *cost, const struct bench *b, const struct measure *m)
{
    struct carat_session_options session;
    settings_session(&session, &b->settings, NULL);
    bool is_prefill = m->kind == MEASURE_PREFILL;
    size_t first = is_prefill ? 0 : (m->depth ? m->depth : 1) + m->tokens / 2;
    int rc = carat_engine_cost(cost, b->loaded.engine, &session, first, is_prefill ? m->tokens : 1,
                               NULL);
    if (rc == 0 && m->n_rows > 1) {
        // Weights are read once for all rows; what each sees of its own is not.
        double n = (double)m->n_rows;
        cost->bytes = cost->weight_bytes + n * (cost->bytes - cost->weight_bytes);
        cost->int8_products *= n;
        cost->float_products *= n;
    }
    return rc;
}

struct share bench_share(const struct bench *b, const struct measure *m, double tokens_per_s)
{
    struct share share = {.of_limit = 0};
    struct carat_cost cost;
    if (b->limits.n_threads == 0 || cost_of(&cost, b, m)) {
        return share;
    }
    const char *level = carat_engine_info(b->loaded.engine)->cpu_level;
    double least = limits_seconds(&b->limits, level, &cost, &share.by);
    double tokens = m->kind == MEASURE_PREFILL ? (double)m->tokens : (double)m->n_rows;
    share.of_limit = least * tokens_per_s / tokens;
    return share;
}

struct share bench_load_share(const struct bench *b)
{
    struct share share = {.of_limit = 0};
    if (b->limits.n_threads > 0 && b->loaded.load_s > 0) {
        double least = limits_load_seconds(&b->limits, b->memory.weights, &share.by);
        share.of_limit = least / b->loaded.load_s;
    }
    return share;
}

// One after the other: the model is opened, then the prompt is evaluated.
struct share bench_first_token_share(const struct bench *b)
{
    const struct measure prompt = {.kind = MEASURE_PREFILL, .tokens = start_tokens(b), .n_rows = 1};
    struct share share = {.of_limit = 0};
    struct carat_cost cost;
    if (b->limits.n_threads > 0 && b->first_token_s > 0 && cost_of(&cost, b, &prompt) == 0) {
        enum bound prompt_by;
        const char *level = carat_engine_info(b->loaded.engine)->cpu_level;
        double opening = limits_load_seconds(&b->limits, b->memory.weights, &share.by);
        double reading = limits_seconds(&b->limits, level, &cost, &prompt_by);
        share.by = opening >= reading ? share.by : prompt_by;
        share.of_limit = (opening + reading) / b->first_token_s;
    }
    return share;
}
