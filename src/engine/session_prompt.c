// SPDX-License-Identifier: Apache-2.0
// A timeline becomes a prompt: what of it can stay, and reading what is missing, at once (sync) or
// left for rounds with others (prepare).
#include "engine/prefix_cache.h"

#include "base/error.h"

// ---------------------------------------------------------------------------------- what can stay

size_t session_common_tokens(const struct carat_session *s, const struct carat_prompt *p,
                             const carat_token *tokens, const uint64_t *keys, size_t n)
{
    size_t i_span = 0;
    size_t i = 0;
    n = n < p->n_tokens ? n : p->n_tokens;
    while (i < n && tokens[i] == p->tokens[i] &&
           (keys ? keys[i] : 0) == span_key_at(&s->rule, p, i, &i_span)) {
        i++;
    }
    return i;
}

size_t session_wanted(const struct carat_session *s, const struct carat_prompt *p, size_t common,
                      size_t to, bool has_logits)
{
    size_t n = span_block_begin(&s->rule, p, common < to ? common : to);
    if (n > 0 && n == to && (!has_logits || s->options.has_all_logits)) {
        n = span_block_begin(&s->rule, p, n - 1);
    }
    return n;
}

size_t session_longest(const struct carat_session *s, const struct carat_prompt *p,
                       struct kv_held held, size_t wanted)
{
    size_t n = kv_held_longest(held, s->kv.window, wanted);
    return kv_held_longest(held, s->kv.window, span_block_begin(&s->rule, p, n));
}

static struct session_beginning own_beginning(const struct carat_session *s,
                                              const struct carat_prompt *p, size_t to)
{
    struct session_beginning own = {0};
    if (s->is_filled) {
        return own;
    }
    own.common = session_common_tokens(s, p, s->tokens, s->keys, s->n_tokens);
    size_t wanted = session_wanted(s, p, own.common, to, s->n_tokens == to && s->has_logits);
    own.n = session_longest(s, p, kv_cache_held(&s->kv, s->n_tokens, s->n_written), wanted);
    size_t marked = session_longest(s, p, s->mark.held, wanted);
    if (marked > own.n) {
        own.n = marked;
        own.from_mark = true;
    }
    return own;
}

size_t carat_session_common(const struct carat_session *s, const struct carat_prompt *p)
{
    return own_beginning(s, p, span_ready(&s->rule, p)).n;
}

void session_forget_rest(struct carat_session *s)
{
    prompt_let_go(s->rest);
    s->rest = NULL;
    s->rest_end = 0;
    s->branch = 0;
    s->on_tensor = s->options.on_tensor;
    s->tensor_user = s->options.user;
}

// The engine's lock is held: others may be looking at the mark.
static void forget_anchor(struct carat_session *s)
{
    s->anchor = 0;
    s->mark.held = (struct kv_held){0};
}

void session_set_length(struct carat_session *s, size_t n, size_t n_written)
{
    if (n != s->n_tokens || n == 0) {
        s->has_logits = false;
    }
    s->n_tokens = n;
    s->n_written = n ? n_written : 0; // nothing that was there is needed again
    s->is_filled = false;
    s->n_pooled = 0;
    if (s->anchor > n) {
        forget_anchor(s);
    }
}

void session_set_tokens(struct carat_session *s, const struct carat_prompt *p, size_t n)
{
    forget_anchor(s);
    session_set_length(s, 0, 0);
    session_append(s, p->tokens, n, p);
}

static void rewind_to(struct carat_session *s, const struct session_beginning *own)
{
    pthread_mutex_lock(&s->engine->lock);
    size_t n_written = s->n_written;
    if (own->from_mark) {
        n_written = kv_mark_put(&s->mark, &s->kv, own->n);
    }
    session_set_length(s, own->n, n_written);
    pthread_mutex_unlock(&s->engine->lock);
}

// Whether a turn begins in the prompt behind the first n tokens. Where it does not, a model that
// called tools goes on with their results, and its thoughts are still there.
static bool opens_turn(const struct carat_session *s, const struct carat_prompt *p, size_t n)
{
    carat_token turn_open = tokenizer_specials(s->engine->tokenizer)->turn_open;
    while (n < p->n_tokens && p->tokens[n] != turn_open) {
        n++;
    }
    return n < p->n_tokens;
}

static int check_prompt(const struct carat_session *s, const struct carat_prompt *p,
                        struct carat_error *err)
{
    if (p->n_tokens == 0) {
        return fail(err, CARAT_E_ARGUMENT, "the prompt is empty");
    }
    int rc = session_check_tokens(s, p->tokens, p->n_tokens, 0, err);
    return rc ? rc : span_check_prompt(&s->rule, p, tokenizer_specials(s->engine->tokenizer), err);
}

// Cuts the timeline to what the prompt can use of it, or (anew) to nothing, or fills it with more
// from the cache. Returns what does not have to be read.
static size_t begin(struct carat_session *s, const struct carat_prompt *p, size_t to, bool anew)
{
    struct session_beginning own = {0};
    size_t n_before = s->n_tokens;
    bool is_extended = false;
    size_t keep = 0;
    session_forget_rest(s);
    if (!anew) {
        own = own_beginning(s, p, to);
    }
    prefix_cache_save(s, &own);
    if (!anew) {
        is_extended = prefix_cache_extend(s, p, to, &own, &keep);
    }
    if (!is_extended) {
        keep = s->n_tokens > 0 ? own.n : 0;
        own.n = keep;
        rewind_to(s, &own);
    }
    bool goes_on = !is_extended && keep == n_before && s->anchor > 0 && !opens_turn(s, p, keep);
    if (!goes_on) {
        pthread_mutex_lock(&s->engine->lock);
        forget_anchor(s);
        s->anchor = to;
        pthread_mutex_unlock(&s->engine->lock);
    }
    s->prompt_end = to;
    prefix_cache_count(s, keep, to);
    return keep;
}

size_t session_stop(const struct carat_session *s, size_t to)
{
    return s->branch > s->n_tokens && s->branch < to ? s->branch : to;
}

// When a chunk was evaluated, without the lock: keeps a snapshot where prompts part.
static void keep_where_prompts_part(struct carat_session *s)
{
    struct carat_error err = {0};
    if (carat_session_parts(s) && carat_session_keep(s, &err)) {
        log_line(CARAT_LOG_WARNING, "no snapshot where prompts part: %s", err.text);
    }
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
    size_t stop = session_stop(s, to);
    size_t n = span_chunk_end(&s->rule, p, s->n_tokens, stop, s->rule.chunk) - s->n_tokens;
    struct decoder_segment segment = session_piece(s, p, n, to);
    struct reading reading = {s, s->n_tokens - keep, n, to - keep};
    segment.on_layer = o->on_progress ? report_layer : NULL;
    segment.layer_user = &reading;
    int rc = session_run(s, &segment, p, err);
    if (rc) {
        return rc;
    }
    keep_where_prompts_part(s);
    bool goes_on = !o->on_progress || s->n_tokens == to ||
                   o->on_progress(o->user, "reading", s->n_tokens - keep, to - keep);
    return goes_on ? 0
                   : fail(err, CARAT_E_STOPPED, "reading the prompt was stopped after %zu tokens",
                          s->n_tokens);
}

int carat_session_sync(struct carat_session *s, const struct carat_prompt *p, size_t *reused,
                       struct carat_error *err)
{
    int rc = check_prompt(s, p, err);
    if (rc) {
        return rc;
    }
    size_t to = span_ready(&s->rule, p);
    size_t keep = begin(s, p, to, false);
    while (rc == 0 && s->n_tokens < to) {
        rc = read_chunk(s, p, keep, to, err);
    }
    if (rc == 0 && reused) {
        *reused = keep;
    }
    return rc;
}

int session_prepare(struct carat_session *s, const struct carat_prompt *p, bool anew,
                    size_t *reused, struct carat_error *err)
{
    int rc = check_prompt(s, p, err);
    if (rc) {
        return rc;
    }
    size_t to = span_ready(&s->rule, p);
    size_t keep = begin(s, p, to, anew);
    if (s->n_tokens < to) {
        s->rest = prompt_hold(p);
        s->rest_end = to;
    }
    if (reused) {
        *reused = keep;
    }
    return 0;
}

int carat_session_prepare(struct carat_session *s, const struct carat_prompt *p, size_t *reused,
                          struct carat_error *err)
{
    return session_prepare(s, p, false, reused, err);
}

int session_read_rest(struct carat_session *s, struct carat_error *err)
{
    const struct carat_prompt *p = s->rest;
    size_t keep = s->n_tokens;
    size_t to = s->rest_end;
    int rc = 0;
    while (rc == 0 && p && s->n_tokens < to) {
        rc = read_chunk(s, p, keep, to, err);
    }
    session_forget_rest(s);
    return rc;
}

bool carat_session_needs_disk(const struct carat_session *s, const struct carat_prompt *p)
{
    struct session_beginning none = {0};
    if (!p) {
        return prefix_cache_needs_disk(s, NULL, 0, &none);
    }
    if (check_prompt(s, p, NULL)) {
        return false;
    }
    size_t to = span_ready(&s->rule, p);
    struct session_beginning own = own_beginning(s, p, to);
    return prefix_cache_needs_disk(s, p, to, &own);
}

int carat_session_prepare_disk(struct carat_session *s, const struct carat_prompt *p,
                               struct carat_error *err)
{
    int rc = check_prompt(s, p, err);
    if (rc == 0) {
        size_t to = span_ready(&s->rule, p);
        struct session_beginning own = own_beginning(s, p, to);
        prefix_cache_save(s, &own);
        prefix_cache_fetch(s, p, to, &own);
    }
    return rc;
}

bool carat_session_parts(const struct carat_session *s)
{
    return s->branch > 0 && s->n_tokens == s->branch;
}

size_t carat_session_pending(const struct carat_session *s)
{
    return s->rest ? s->rest_end - s->n_tokens : 0;
}
