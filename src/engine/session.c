// SPDX-License-Identifier: Apache-2.0
// One timeline: the tokens seen so far, their kv cache, and the logits of the last one. Here are
// its life and the step that all ways of evaluating share; how it becomes a prompt is in
// session_prompt.c, rounds over several in session_decode.c, what is only looked at in
// session_score.c.
#include "engine/prefix_cache.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

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
    rc = prefix_cache_check(options, engine, err);
    if (rc) {
        goto out;
    }
    rc = engine_session_options(&s->options, &engine->config, options, err);
    if (rc) {
        goto out;
    }
    s->on_tensor = s->options.on_tensor;
    s->tensor_user = s->options.user;
    s->rule = engine_span_rule(&s->options, &engine->config, engine->decoder.projector);
    rc = make_timeline(s, err);
    if (rc) {
        goto out;
    }
    struct kv_options kv = engine_kv_options(&s->options, s->rule.rows_max);
    pthread_mutex_lock(&engine->lock);
    rc = kv_cache_init(&s->kv, engine->device, &engine->config, &engine->weights, &kv, err);
    if (rc == 0 && s->options.returns_to_prompt) {
        rc = kv_mark_init(&s->mark, &s->kv, err);
    }
    if (rc == 0) {
        rc = decoder_reserve(&engine->decoder, engine_rows_max(&s->rule), s->options.context_max,
                             err);
    }
    if (rc == 0) {
        prefix_cache_join(s);
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
        prefix_cache_leave(s);
        session_forget_rest(s);
        kv_mark_release(&s->mark, &s->kv);
        kv_cache_release(&s->kv);
        span_scratch_release(&s->scratch);
        mem_free(s->tokens);
        mem_free(s->keys);
        mem_free(s->logits);
        mem_free(s->pool);
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

int session_check_tokens(const struct carat_session *s, const carat_token *tokens, size_t n,
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

int session_check_can_append(const struct carat_session *s, struct carat_error *err)
{
    if (kv_cache_can_rewind(&s->kv, s->n_written, s->n_tokens)) {
        return 0;
    }
    return fail(err, CARAT_E_ARGUMENT,
                "the reading of a prompt was stopped midway: sync the session before anything is "
                "appended to its %zu tokens",
                s->n_tokens);
}

void session_keep_logits(void *user, size_t position, const float *logits)
{
    struct carat_session *s = user;
    (void)position;
    memcpy(s->logits, logits, s->engine->config.n_vocab * sizeof(float));
}

struct decoder_segment session_segment(struct carat_session *s, const carat_token *tokens, size_t n)
{
    return (struct decoder_segment){
        .kv = &s->kv,
        .tokens = tokens,
        .n = n,
        .first = s->n_tokens,
        .logits = LOGITS_LAST,
        .on_logits = session_keep_logits,
        .on_tensor = s->on_tensor,
        .user = s,
        .tensor_user = s->tensor_user,
    };
}

struct decoder_segment session_piece(struct carat_session *s, const struct carat_prompt *p,
                                     size_t n, size_t to)
{
    struct decoder_segment segment = session_segment(s, p->tokens + s->n_tokens, n);
    segment.logits = s->options.has_all_logits ? LOGITS_ALL
                     : s->n_tokens + n == to   ? LOGITS_LAST
                                               : LOGITS_NONE;
    if (s->keys) {
        span_fill(&segment, &s->rule, p, &s->scratch);
    }
    return segment;
}

// Before the rings let go of the window before the anchor, it is put aside: at once, because that
// is a copy of memory, and most answers are too short to need it.
static void save_anchor(struct carat_session *s, size_t n_written)
{
    bool is_due = s->mark.memory && s->anchor > 0 && s->anchor <= s->n_tokens;
    if (!is_due || s->mark.held.end == s->anchor) {
        return;
    }
    size_t first = s->anchor > s->mark.capacity ? s->anchor - s->mark.capacity : 0;
    if (kv_cache_held(&s->kv, 0, n_written).first <= first) {
        return;
    }
    if (kv_cache_held(&s->kv, 0, s->n_written).first <= first) {
        kv_mark_take(&s->mark, &s->kv, s->anchor);
    } else {
        s->anchor = 0; // it is too late
    }
}

void session_note_written(struct carat_session *s, size_t n)
{
    size_t end = s->n_tokens + n;
    save_anchor(s, end > s->n_written ? end : s->n_written);
    s->n_written = end > s->n_written ? end : s->n_written;
}

void session_append(struct carat_session *s, const carat_token *tokens, size_t n,
                    const struct carat_prompt *p)
{
    size_t i_span = 0;
    for (size_t i = 0; s->keys && i < n; i++) {
        s->keys[s->n_tokens + i] = p ? span_key_at(&s->rule, p, s->n_tokens + i, &i_span) : 0;
    }
    memcpy(s->tokens + s->n_tokens, tokens, n * sizeof(carat_token));
    s->n_tokens += n;
}

int session_run(struct carat_session *s, const struct decoder_segment *segment,
                const struct carat_prompt *p, struct carat_error *err)
{
    struct carat_engine *engine = s->engine;
    pthread_mutex_lock(&engine->lock);
    session_note_written(s, segment->n);
    s->has_logits = false;
    bool is_done = decoder_run(&engine->decoder, segment, 1);
    int rc = device_wait(engine->device, err);
    if (rc == 0 && !is_done) {
        rc = fail(err, CARAT_E_STOPPED, "reading the prompt was stopped after %zu tokens",
                  s->n_tokens);
    }
    if (rc == 0) {
        session_append(s, segment->tokens, segment->n, p);
        s->has_logits = segment->logits != LOGITS_NONE;
    }
    pthread_mutex_unlock(&engine->lock);
    return rc;
}
