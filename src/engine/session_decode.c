// SPDX-License-Identifier: Apache-2.0
// Rounds: tokens of some sessions and pieces of prompts of others go through the model together, so
// that the weights are read once for all of them.
#include "engine/session.h"

#include "base/error.h"

// Timelines that one pass evaluates together: rows of answers, and as many pieces of prompts.
#define ROUND_SEGMENTS_MAX (2 * ENGINE_STEPS_MAX)

static int check_step(const struct carat_step *step, size_t i, struct carat_error *err)
{
    const struct carat_session *s = step->session;
    if (step->token != CARAT_TOKEN_NONE) {
        int rc = session_check_tokens(s, &step->token, 1, s->n_tokens, err);
        return rc ? rc : session_check_can_append(s, err);
    }
    if (carat_session_pending(s) == 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "step %zu: it has no token, and nothing of a prompt is left to be evaluated: "
                    "prepare the session with one first",
                    i);
    }
    return session_check_can_append(s, err); // a round before this one may have failed
}

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
        int rc = check_step(&steps[i], i, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

// Tokens of the prepared prompt that a step evaluates; 0 when the round has no room for them.
static size_t piece_size(const struct carat_step *step, size_t room)
{
    const struct carat_session *s = step->session;
    size_t n_max = step->n_tokens_max && step->n_tokens_max < s->rule.chunk ? step->n_tokens_max
                                                                            : s->rule.chunk;
    n_max = n_max < room ? n_max : room;
    if (n_max == 0) {
        return 0;
    }
    size_t stop = session_stop(s, s->rest_end);
    size_t n = span_chunk_end(&s->rule, s->rest, s->n_tokens, stop, n_max) - s->n_tokens;
    return n <= room ? n : 0;
}

// What one pass evaluates.
struct round {
    struct carat_engine *engine;
    struct decoder_segment segments[ROUND_SEGMENTS_MAX];
    size_t n;
};

static void add_segment(struct round *r, struct carat_session *s,
                        const struct decoder_segment *segment)
{
    s->n_running = segment->n;
    s->has_logits = false; // those of the last token go when new ones come
    session_note_written(s, segment->n);
    r->segments[r->n++] = *segment;
}

static int run_round(struct round *r, struct carat_error *err)
{
    decoder_run(&r->engine->decoder, r->segments, r->n);
    r->n = 0;
    return device_wait(r->engine->device, err);
}

static int add_tokens(struct round *r, const struct carat_step *steps, size_t n,
                      struct carat_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct carat_session *s = steps[i].session;
        if (steps[i].token == CARAT_TOKEN_NONE) {
            continue;
        }
        if (r->n == ENGINE_STEPS_MAX) {
            rc = run_round(r, err);
        }
        if (rc == 0) {
            struct decoder_segment segment = session_segment(s, &steps[i].token, 1);
            add_segment(r, s, &segment);
        }
    }
    return rc;
}

// As many pieces as find room beside the tokens. The first always does: engine_rows_max.
static void add_pieces(struct round *r, const struct carat_step *steps, size_t n)
{
    size_t room = r->engine->decoder.rows_max - r->n;
    for (size_t i = 0; i < n && r->n < ROUND_SEGMENTS_MAX; i++) {
        struct carat_session *s = steps[i].session;
        size_t n_rows = steps[i].token == CARAT_TOKEN_NONE ? piece_size(&steps[i], room) : 0;
        if (n_rows > 0) {
            struct decoder_segment segment = session_piece(s, s->rest, n_rows, s->rest_end);
            add_segment(r, s, &segment);
            room -= n_rows;
        }
    }
}

// The timeline gets what was evaluated.
static void finish_step(const struct carat_step *step)
{
    struct carat_session *s = step->session;
    if (step->token != CARAT_TOKEN_NONE) {
        session_forget_rest(s);
        session_append(s, &step->token, 1, NULL);
        s->has_logits = true;
    } else if (s->n_running > 0) {
        session_append(s, s->rest->tokens + s->n_tokens, s->n_running, s->rest);
        s->has_logits = s->n_tokens == s->rest_end || s->options.has_all_logits;
        if (s->n_tokens == s->rest_end) {
            session_forget_rest(s);
        }
    }
}

int carat_decode(const struct carat_step *steps, size_t n, struct carat_error *err)
{
    int rc = check_steps(steps, n, err);
    if (rc || n == 0) {
        return rc;
    }
    struct round r = {.engine = steps[0].session->engine};
    pthread_mutex_lock(&r.engine->lock);
    for (size_t i = 0; i < n; i++) {
        steps[i].session->n_running = 0;
    }
    rc = add_tokens(&r, steps, n, err);
    if (rc == 0) {
        add_pieces(&r, steps, n);
        rc = run_round(&r, err);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        finish_step(&steps[i]);
    }
    pthread_mutex_unlock(&r.engine->lock);
    return rc;
}
