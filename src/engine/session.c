// SPDX-License-Identifier: Apache-2.0
// One timeline: the tokens seen so far, their kv cache, and the logits of the last one.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/span.h"

// Most sessions that one pass of carat_decode evaluates together.
#define DECODE_BATCH_MAX 64

struct carat_session {
    struct carat_engine *engine;
    struct carat_session_options options;
    struct span_rule rule;
    struct span_scratch scratch;
    struct kv_cache kv;
    carat_token *tokens; // [context_max]
    uint64_t *keys;      // [context_max] as in struct carat_prompt; NULL: the model only reads
    size_t n_tokens;
    // One past the newest position that was put into the cache's rings and may have pushed out an
    // older one: at least n_tokens, more after a rewind or a chunk that was not finished.
    size_t n_written;
    float *logits; // [n_vocab], of the last token when has_logits
    bool has_logits;
    bool is_filled; // the timeline was made up, for measuring: nothing may be read from it
};

static int make_timeline(struct carat_session *s, struct carat_error *err)
{
    size_t n = s->options.context_max;
    s->tokens = mem_new_array(n, sizeof(s->tokens[0]), err);
    s->logits = mem_new_array(s->engine->config.n_vocab, sizeof(s->logits[0]), err);
    if (!s->tokens || !s->logits) {
        return CARAT_E_MEMORY;
    }
    if (!s->rule.projector) {
        return 0;
    }
    s->keys = mem_new_array(n, sizeof(s->keys[0]), err);
    return s->keys ? span_scratch_init(&s->scratch, s->rule.rows_max, err) : CARAT_E_MEMORY;
}

int carat_session_new(struct carat_session **out, struct carat_engine *engine,
                      const struct carat_session_options *options, struct carat_error *err)
{
    if (engine->info.is_vocab_only) {
        return fail(err, CARAT_E_ARGUMENT, "the model was opened for its vocabulary only");
    }
    int rc = CARAT_E_MEMORY;
    struct carat_session *s = mem_new(sizeof(*s), err);
    if (!s) {
        goto out;
    }
    s->engine = engine;
    rc = engine_session_options(&s->options, &engine->config, options, err);
    if (rc) {
        goto out;
    }
    s->rule = engine_span_rule(&s->options, &engine->config, engine->decoder.projector);
    rc = make_timeline(s, err);
    if (rc) {
        goto out;
    }
    struct kv_options kv = engine_kv_options(&s->options, s->rule.rows_max);
    pthread_mutex_lock(&engine->lock);
    rc = kv_cache_init(&s->kv, engine->device, &engine->config, &engine->weights, &kv, err);
    if (rc == 0) {
        rc = decoder_reserve(&engine->decoder, s->rule.rows_max, s->options.context_max, err);
    }
    pthread_mutex_unlock(&engine->lock);
    if (rc) {
        goto out;
    }
    *out = s;
    s = NULL;
out:
    carat_session_free(s);
    return rc;
}

void carat_session_free(struct carat_session *s)
{
    if (s) {
        kv_cache_release(&s->kv);
        span_scratch_release(&s->scratch);
        mem_free(s->tokens);
        mem_free(s->keys);
        mem_free(s->logits);
        mem_free(s);
    }
}

const float *carat_session_logits(const struct carat_session *s)
{
    return s->has_logits && !s->is_filled ? s->logits : NULL;
}

const carat_token *carat_session_tokens(const struct carat_session *s, size_t *n)
{
    *n = s->n_tokens;
    return s->tokens;
}

size_t carat_session_context_max(const struct carat_session *s)
{
    return s->options.context_max;
}

// -------------------------------------------------------------------------------------- evaluating

static int check_tokens(const struct carat_session *s, const carat_token *tokens, size_t n,
                        size_t first, struct carat_error *err)
{
    uint32_t n_vocab = s->engine->config.n_vocab;
    if (n > s->options.context_max - first) {
        return fail(err, CARAT_E_FULL,
                    "the context holds %zu tokens, %zu are needed; open the session with a longer "
                    "context or shorten the conversation",
                    s->options.context_max, first + n);
    }
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= n_vocab) {
            return fail(err, CARAT_E_ARGUMENT, "token %zu: expected an id below %u, found %d", i,
                        n_vocab, tokens[i]);
        }
    }
    return 0;
}

// A sync that was stopped inside a chunk may have pushed keys out of the rings that the next token
// would need; only another sync can tell, and start over.
static int check_can_append(const struct carat_session *s, struct carat_error *err)
{
    if (kv_cache_can_rewind(&s->kv, s->n_written, s->n_tokens)) {
        return 0;
    }
    return fail(err, CARAT_E_ARGUMENT,
                "the reading of a prompt was stopped midway: sync the session before anything is "
                "appended to its %zu tokens",
                s->n_tokens);
}

static void keep_logits(void *user, size_t position, const float *logits)
{
    struct carat_session *s = user;
    (void)position;
    memcpy(s->logits, logits, s->engine->config.n_vocab * sizeof(float));
}

static struct decoder_segment segment_for(struct carat_session *s, const carat_token *tokens,
                                          size_t n)
{
    return (struct decoder_segment){
        .kv = &s->kv,
        .tokens = tokens,
        .n = n,
        .first = s->n_tokens,
        .logits = LOGITS_LAST,
        .on_logits = keep_logits,
        .on_tensor = s->options.on_tensor,
        .user = s,
        .tensor_user = s->options.user,
    };
}

static void note_written(struct carat_session *s, size_t n)
{
    size_t end = s->n_tokens + n;
    s->n_written = end > s->n_written ? end : s->n_written;
}

static int fail_stopped(const struct carat_session *s, struct carat_error *err)
{
    return fail(err, CARAT_E_STOPPED, "reading the prompt was stopped after %zu tokens",
                s->n_tokens);
}

static void append(struct carat_session *s, const carat_token *tokens, size_t n,
                   const struct carat_prompt *p)
{
    size_t i_span = 0;
    for (size_t i = 0; s->keys && i < n; i++) {
        s->keys[s->n_tokens + i] = p ? span_key_at(&s->rule, p, s->n_tokens + i, &i_span) : 0;
    }
    memcpy(s->tokens + s->n_tokens, tokens, n * sizeof(carat_token));
    s->n_tokens += n;
}

// Evaluates one chunk, of a prompt or (NULL) of tokens that are all text; the timeline grows only
// when all went well.
static int run_chunk(struct carat_session *s, const struct decoder_segment *segment,
                     const struct carat_prompt *p, struct carat_error *err)
{
    note_written(s, segment->n);
    pthread_mutex_lock(&s->engine->lock);
    bool is_done = decoder_run(&s->engine->decoder, segment, 1);
    int rc = device_wait(s->engine->device, err);
    pthread_mutex_unlock(&s->engine->lock);
    s->has_logits = false;
    if (rc == 0 && !is_done) {
        rc = fail_stopped(s, err);
    }
    if (rc == 0) {
        append(s, segment->tokens, segment->n, p);
        s->has_logits = segment->logits != LOGITS_NONE;
    }
    return rc;
}

static size_t common_beginning(const struct carat_session *s, const struct carat_prompt *p)
{
    size_t n = s->n_tokens < p->n_tokens ? s->n_tokens : p->n_tokens;
    size_t i_span = 0;
    size_t i = 0;
    while (i < n && s->tokens[i] == p->tokens[i] &&
           (!s->keys || s->keys[i] == span_key_at(&s->rule, p, i, &i_span))) {
        i++;
    }
    return i;
}

// How much of the timeline stays when it is to become the prompt's first `to` tokens: the common
// beginning up to there, less one token where its logits are needed and gone, never a part of a
// block; nothing when the window can no longer be brought back to that point.
static size_t reusable(const struct carat_session *s, const struct carat_prompt *p, size_t to)
{
    size_t keep = s->is_filled ? 0 : common_beginning(s, p);
    keep = span_block_begin(&s->rule, p, keep < to ? keep : to);
    bool has_answer = keep == s->n_tokens && s->has_logits && !s->options.has_all_logits;
    if (keep > 0 && keep == to && !has_answer) {
        keep = span_block_begin(&s->rule, p, keep - 1);
    }
    return kv_cache_can_rewind(&s->kv, s->n_written, keep) ? keep : 0;
}

// A chunk of a prompt that somebody watches.
struct reading {
    struct carat_session *session;
    uint64_t done, n, total; // before the chunk, in it, in all
};

static bool report_layer(void *user, size_t layer)
{
    const struct reading *r = user;
    const struct carat_session_options *o = &r->session->options;
    uint64_t part = r->n * (layer + 1) / r->session->engine->config.n_layers;
    return o->on_progress(o->user, "reading", r->done + part, r->total);
}

// Reads the prompt's next chunk. keep and to: what did not have to be read, and where it ends.
static int read_chunk(struct carat_session *s, const struct carat_prompt *p, size_t keep, size_t to,
                      struct carat_error *err)
{
    size_t n = span_chunk_end(&s->rule, p, s->n_tokens, to) - s->n_tokens;
    struct decoder_segment segment = segment_for(s, p->tokens + s->n_tokens, n);
    segment.logits = s->options.has_all_logits ? LOGITS_ALL
                     : s->n_tokens + n == to   ? LOGITS_LAST
                                               : LOGITS_NONE;
    if (s->keys) {
        span_fill(&segment, &s->rule, p, &s->scratch);
    }
    struct reading reading = {s, s->n_tokens - keep, n, to - keep};
    segment.on_layer = s->options.on_progress ? report_layer : NULL;
    segment.layer_user = &reading;
    int rc = run_chunk(s, &segment, p, err);
    if (rc) {
        return rc;
    }
    bool goes_on = !s->options.on_progress || s->options.on_progress(s->options.user, "reading",
                                                                     s->n_tokens - keep, to - keep);
    return goes_on || s->n_tokens == to ? 0 : fail_stopped(s, err);
}

int carat_session_sync(struct carat_session *s, const struct carat_prompt *p, size_t *reused,
                       struct carat_error *err)
{
    if (p->n_tokens == 0) {
        return fail(err, CARAT_E_ARGUMENT, "the prompt is empty");
    }
    int rc = check_tokens(s, p->tokens, p->n_tokens, 0, err);
    if (rc == 0) {
        rc = span_check_prompt(&s->rule, p, tokenizer_specials(s->engine->tokenizer), err);
    }
    if (rc) {
        return rc;
    }
    size_t to = span_ready(&s->rule, p);
    size_t keep = reusable(s, p, to);
    if (keep < s->n_tokens) {
        s->n_tokens = keep;
        s->has_logits = false;
    }
    s->n_written = keep ? s->n_written : 0; // nothing that was there is needed again
    s->is_filled = false;
    while (rc == 0 && s->n_tokens < to) {
        rc = read_chunk(s, p, keep, to, err);
    }
    if (rc == 0 && reused) {
        *reused = keep;
    }
    return rc;
}

// ----------------------------------------------------------------------------------------- scoring

static float log_probability(const float *logits, size_t n, carat_token token)
{
    float max = logits[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)logits[i] - (double)max);
    }
    return (float)((double)logits[token] - (double)max - log(sum));
}

struct score {
    struct carat_session *session;
    const carat_token *tokens; // of the whole call
    size_t n;
    size_t first;    // position of tokens[0]
    float *logprobs; // may be NULL
};

static void score_row(void *user, size_t position, const float *logits)
{
    struct score *score = user;
    struct carat_session *s = score->session;
    size_t next = position + 1 - score->first; // the token that these logits foretell
    if (score->logprobs && next < score->n) {
        score->logprobs[next] =
            log_probability(logits, s->engine->config.n_vocab, score->tokens[next]);
    }
    if (next == score->n) {
        keep_logits(s, position, logits);
    }
}

int carat_session_score(struct carat_session *s, const carat_token *tokens, size_t n,
                        float *logprobs, struct carat_error *err)
{
    int rc = check_tokens(s, tokens, n, s->n_tokens, err);
    rc = rc ? rc : check_can_append(s, err);
    if (rc == 0 && s->is_filled) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "the timeline was filled for measuring and foretells nothing: sync the session "
                  "with a prompt first");
    }
    if (rc || n == 0) {
        return rc;
    }
    struct score score = {s, tokens, n, s->n_tokens, logprobs};
    if (logprobs) {
        logprobs[0] =
            s->has_logits ? log_probability(s->logits, s->engine->config.n_vocab, tokens[0]) : 0;
    }
    for (size_t done = 0; done < n;) {
        size_t left = n - done;
        size_t part = left < s->options.prefill_chunk ? left : s->options.prefill_chunk;
        struct decoder_segment segment = segment_for(s, tokens + done, part);
        segment.logits = LOGITS_ALL;
        segment.on_logits = score_row;
        segment.user = &score;
        rc = run_chunk(s, &segment, NULL, err);
        if (rc) {
            return rc;
        }
        done += part;
    }
    return 0;
}

// --------------------------------------------------------------------------------------- measuring

int carat_session_fill(struct carat_session *s, size_t n, struct carat_error *err)
{
    struct carat_engine *engine = s->engine;
    if (n == 0 || n > s->options.context_max) {
        return fail(err, CARAT_E_ARGUMENT, "expected 1 to %zu positions to fill, found %zu",
                    s->options.context_max, n);
    }
    // What was there is gone even when this fails.
    s->n_tokens = s->n_written = 0;
    s->has_logits = s->is_filled = false;
    pthread_mutex_lock(&engine->lock);
    int rc = kv_cache_fill(&s->kv, &engine->config, &engine->weights, n, err);
    pthread_mutex_unlock(&engine->lock);
    if (rc) {
        return rc;
    }
    memset(s->tokens, 0, n * sizeof(s->tokens[0]));
    if (s->keys) {
        memset(s->keys, 0, n * sizeof(s->keys[0]));
    }
    s->n_tokens = s->n_written = n;
    s->is_filled = true;
    return 0;
}

// ---------------------------------------------------------------------------------------- decoding

static int check_steps(const struct carat_step *steps, size_t n, struct carat_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (steps[i].session->engine != steps[0].session->engine) {
            return fail(err, CARAT_E_ARGUMENT, "step %zu: its session belongs to another engine",
                        i);
        }
        for (size_t j = 0; j < i; j++) {
            if (steps[j].session == steps[i].session) {
                return fail(err, CARAT_E_ARGUMENT, "steps %zu and %zu: the same session twice", j,
                            i);
            }
        }
        int rc =
            check_tokens(steps[i].session, &steps[i].token, 1, steps[i].session->n_tokens, err);
        rc = rc ? rc : check_can_append(steps[i].session, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int decode_batch(struct carat_engine *engine, const struct carat_step *steps, size_t n,
                        struct carat_error *err)
{
    struct decoder_segment segments[DECODE_BATCH_MAX];
    for (size_t i = 0; i < n; i++) {
        note_written(steps[i].session, 1);
        segments[i] = segment_for(steps[i].session, &steps[i].token, 1);
    }
    decoder_run(&engine->decoder, segments, n);
    return device_wait(engine->device, err);
}

int carat_decode(const struct carat_step *steps, size_t n, struct carat_error *err)
{
    int rc = check_steps(steps, n, err);
    if (rc || n == 0) {
        return rc;
    }
    struct carat_engine *engine = steps[0].session->engine;
    pthread_mutex_lock(&engine->lock);
    size_t batch_max =
        engine->decoder.rows_max < DECODE_BATCH_MAX ? engine->decoder.rows_max : DECODE_BATCH_MAX;
    for (size_t done = 0; rc == 0 && done < n; done += batch_max) {
        size_t part = n - done < batch_max ? n - done : batch_max;
        rc = decode_batch(engine, steps + done, part, err);
    }
    pthread_mutex_unlock(&engine->lock);
    for (size_t i = 0; i < n; i++) {
        struct carat_session *s = steps[i].session;
        if (rc == 0) {
            append(s, &steps[i].token, 1, NULL);
        }
        // After a failure the logits may be of the token that did not enter the timeline.
        s->has_logits = rc == 0;
    }
    return rc;
}
