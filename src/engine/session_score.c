// SPDX-License-Identifier: Apache-2.0
// What is asked of a timeline besides an answer: how likely tokens are, what text is like, and how
// fast a deep one would be.
#include "engine/session.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

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
        session_keep_logits(s, position, logits);
    }
}

int carat_session_score(struct carat_session *s, const carat_token *tokens, size_t n,
                        float *logprobs, struct carat_error *err)
{
    int rc = session_check_tokens(s, tokens, n, s->n_tokens, err);
    rc = rc ? rc : session_check_can_append(s, err);
    if (rc == 0 && s->is_filled) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "the timeline was filled for measuring and foretells nothing: sync the session "
                  "with a prompt first");
    }
    if (rc || n == 0) {
        return rc;
    }
    session_forget_rest(s);
    struct score score = {s, tokens, n, s->n_tokens, logprobs};
    if (logprobs) {
        logprobs[0] =
            s->has_logits ? log_probability(s->logits, s->engine->config.n_vocab, tokens[0]) : 0;
    }
    for (size_t done = 0; done < n;) {
        size_t left = n - done;
        size_t part = left < s->options.prefill_chunk ? left : s->options.prefill_chunk;
        struct decoder_segment segment = session_segment(s, tokens + done, part);
        segment.logits = LOGITS_ALL;
        segment.on_logits = score_row;
        segment.user = &score;
        rc = session_run(s, &segment, NULL, err);
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
    session_forget_rest(s);
    pthread_mutex_lock(&engine->lock);
    // What was there is gone even when this fails.
    session_set_length(s, 0, 0);
    int rc = kv_cache_fill(&s->kv, &engine->config, &engine->weights, n, err);
    if (rc == 0) {
        memset(s->tokens, 0, n * sizeof(s->tokens[0]));
        if (s->keys) {
            memset(s->keys, 0, n * sizeof(s->keys[0]));
        }
        s->n_tokens = s->n_written = n;
        s->is_filled = true;
    }
    pthread_mutex_unlock(&engine->lock);
    return rc;
}
