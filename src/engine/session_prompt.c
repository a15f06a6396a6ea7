// SPDX-License-Identifier: Apache-2.0
// A timeline becomes a prompt: what of it can stay, and reading what is missing, at once (sync) or
// left for rounds with others (prepare).
#include "engine/session.h"

#include "base/error.h"

// ---------------------------------------------------------------------------------- what can stay

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

size_t carat_session_common(const struct carat_session *s, const struct carat_prompt *p)
{
    return reusable(s, p, span_ready(&s->rule, p));
}

void session_forget_rest(struct carat_session *s)
{
    prompt_let_go(s->rest);
    s->rest = NULL;
    s->rest_end = 0;
}

static void rewind_to(struct carat_session *s, size_t keep)
{
    pthread_mutex_lock(&s->engine->lock);
    if (keep < s->n_tokens) {
        s->n_tokens = keep;
        s->has_logits = false;
    }
    s->n_written = keep ? s->n_written : 0; // nothing that was there is needed again
    s->is_filled = false;
    pthread_mutex_unlock(&s->engine->lock);
}

// Cuts the timeline to what the prompt can use of it. *to: where it is to end.
static int begin(struct carat_session *s, const struct carat_prompt *p, size_t *keep, size_t *to,
                 struct carat_error *err)
{
    if (p->n_tokens == 0) {
        return fail(err, CARAT_E_ARGUMENT, "the prompt is empty");
    }
    int rc = session_check_tokens(s, p->tokens, p->n_tokens, 0, err);
    if (rc == 0) {
        rc = span_check_prompt(&s->rule, p, tokenizer_specials(s->engine->tokenizer), err);
    }
    if (rc) {
        return rc;
    }
    session_forget_rest(s);
    *to = span_ready(&s->rule, p);
    *keep = reusable(s, p, *to);
    rewind_to(s, *keep);
    return 0;
}

// ---------------------------------------------------------------------------------------- reading

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
    const struct carat_session_options *o = &s->options;
    size_t n = span_chunk_end(&s->rule, p, s->n_tokens, to, s->rule.chunk) - s->n_tokens;
    struct decoder_segment segment = session_piece(s, p, n, to);
    struct reading reading = {s, s->n_tokens - keep, n, to - keep};
    segment.on_layer = o->on_progress ? report_layer : NULL;
    segment.layer_user = &reading;
    int rc = session_run(s, &segment, p, err);
    if (rc) {
        return rc;
    }
    bool goes_on = !o->on_progress || s->n_tokens == to ||
                   o->on_progress(o->user, "reading", s->n_tokens - keep, to - keep);
    return goes_on ? 0
                   : fail(err, CARAT_E_STOPPED, "reading the prompt was stopped after %zu tokens",
                          s->n_tokens);
}

int carat_session_sync(struct carat_session *s, const struct carat_prompt *p, size_t *reused,
                       struct carat_error *err)
{
    size_t keep = 0;
    size_t to = 0;
    int rc = begin(s, p, &keep, &to, err);
    while (rc == 0 && s->n_tokens < to) {
        rc = read_chunk(s, p, keep, to, err);
    }
    if (rc == 0 && reused) {
        *reused = keep;
    }
    return rc;
}

int carat_session_prepare(struct carat_session *s, const struct carat_prompt *p, size_t *reused,
                          struct carat_error *err)
{
    size_t keep = 0;
    size_t to = 0;
    int rc = begin(s, p, &keep, &to, err);
    if (rc) {
        return rc;
    }
    if (s->n_tokens < to) {
        s->rest = prompt_hold(p);
        s->rest_end = to;
    }
    if (reused) {
        *reused = keep;
    }
    return 0;
}

size_t carat_session_pending(const struct carat_session *s)
{
    return s->rest ? s->rest_end - s->n_tokens : 0;
}
