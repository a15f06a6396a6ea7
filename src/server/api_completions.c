// SPDX-License-Identifier: Apache-2.0
// Completions: prompts as they are, without the form of a conversation. docs/api-openai.md
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "server/fields.h"
#include "server/openai.h"
#include "server/server.h"

#define TOKENS_NORMAL  16 // answered when nothing is said, as OpenAI has it
#define LOGPROB_LOWEST (-9999.0)

struct text_state {
    size_t n;             // answers to show for each prompt: the best of ask.n_choices
    size_t n_top;         // alternatives to list
    bool shows_top;       // logprobs were asked for
    struct slice *echoes; // [n_texts], where the prompt is part of the answer
    size_t *offsets;      // [n_answers] of a stream: characters of the text so far
};

// ------------------------------------------------------------------------------ parse

static int refuse_fields(const struct json_value *root, struct carat_error *err)
{
    struct slice suffix = json_string(json_get(root, "suffix"));
    if (suffix.size > 0) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "suffix: the model does not fill in the middle of a text: expected none");
    }
    return 0;
}

static int read_counts(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct text_state *state = call->state;
    struct ask *ask = &call->ask;
    size_t best_of = ask->n_choices;
    ask->tokens_max = TOKENS_NORMAL;
    int64_t limit = 0;
    if (json_i64(json_get(root, "max_tokens"), &limit) && limit == -1) {
        ask->tokens_max = 0; // to the context's end
    }
    int rc = openai_read_limit(root, "max_tokens", &ask->tokens_max, err);
    rc = rc ? rc : ask_size(root, "best_of", 1, CALL_CHOICES_MAX, &best_of, err);
    if (rc) {
        return rc;
    }
    if (best_of < ask->n_choices) {
        return fail(err, CARAT_E_ARGUMENT, "best_of: expected at least n, %zu, found %zu",
                    ask->n_choices, best_of);
    }
    if (best_of > ask->n_choices && ask->streams) {
        return fail(err, CARAT_E_ARGUMENT,
                    "best_of: the best are known only at the end: expected n, or stream to be "
                    "false");
    }
    state->n = ask->n_choices;
    ask->n_choices = best_of;
    ask->wants_logprobs = best_of > state->n;
    return 0;
}

static int read_logprobs(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct text_state *state = call->state;
    const struct json_value *v = json_get(root, "logprobs");
    if (!field_is_given(v) || (json_kind(v) == JSON_BOOL && !json_bool(v))) {
        return 0;
    }
    if (json_kind(v) != JSON_BOOL) {
        int rc = ask_size(root, "logprobs", 0, OPENAI_TOP_LOGPROBS_MAX, &state->n_top, err);
        if (rc) {
            return rc;
        }
    }
    if (call->ask.echoes) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "logprobs: those of the prompt's tokens are not given: expected none with "
                    "echo");
    }
    state->shows_top = true;
    call->ask.wants_logprobs = true;
    call->ask.sampling.n_top = state->n_top;
    return 0;
}

// The text of a prompt that came as tokens.
static int spell(struct call *call, size_t i, struct slice *out, struct carat_error *err)
{
    struct buf text = {0};
    for (size_t t = 0; t < call->ask.n_text_tokens[i]; t++) {
        size_t size = 0;
        const char *bytes =
            carat_token_text(call->server->engine, call->ask.text_tokens[i][t], &size);
        buf_add(&text, bytes ? bytes : "", bytes ? size : 0);
    }
    int rc = buf_status(&text, err);
    const char *copy = rc ? NULL : call_text(call, slice_make(buf_text(&text), text.size), err);
    *out = slice_make(copy, text.size);
    buf_release(&text);
    return rc ? rc : copy ? 0 : CARAT_E_MEMORY;
}

static int read_echoes(struct call *call, struct carat_error *err)
{
    struct text_state *state = call->state;
    const struct ask *ask = &call->ask;
    if (!ask->echoes) {
        return 0;
    }
    state->echoes = call_take(call, ask->n_texts * sizeof(*state->echoes), err);
    int rc = state->echoes ? 0 : CARAT_E_MEMORY;
    for (size_t i = 0; rc == 0 && i < ask->n_texts; i++) {
        if (ask->text_tokens) {
            rc = spell(call, i, &state->echoes[i], err);
        } else {
            state->echoes[i] = ask->texts[i];
        }
    }
    return rc;
}

static int parse(struct call *call, struct carat_error *err)
{
    const struct json_value *root = NULL;
    struct text_state *state = call_take(call, sizeof(*state), err);
    if (!state) {
        return CARAT_E_MEMORY;
    }
    call->state = state;
    call->ask.kind = ASK_TEXT;
    int rc = call_parse_body(call, &root, err);
    rc = rc ? rc : openai_read_common(call, root, err);
    rc = rc ? rc : openai_read_format(call, root, err);
    rc = rc ? rc : refuse_fields(root, err);
    rc = rc ? rc : read_counts(call, root, err);
    rc = rc ? rc : ask_bool(root, "echo", &call->ask.echoes, err);
    rc = rc ? rc : read_logprobs(call, root, err);
    rc = rc ? rc : openai_read_prompts(call, json_get(root, "prompt"), "prompt", err);
    rc = rc ? rc : read_echoes(call, err);
    if (rc == 0) {
        size_t n = call->ask.n_texts * call->ask.n_choices;
        state->offsets = call_take(call, n * sizeof(*state->offsets), err);
        rc = state->offsets ? 0 : CARAT_E_MEMORY;
    }
    return rc;
}

// ------------------------------------------------------------------------------ render

static double finite(float logprob)
{
    return isfinite(logprob) ? (double)logprob : LOGPROB_LOWEST;
}

static size_t count_characters(const char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return n;
}

// The old form: lists side by side. *offset: characters of the text before, moved on.
static void write_logprobs(const struct call *call, const struct answer_logprob *list, size_t n,
                           size_t *offset, struct buf *out)
{
    const struct text_state *state = call->state;
    buf_adds(out, "\"logprobs\":");
    if (!state->shows_top) {
        buf_adds(out, "null");
        return;
    }
    buf_adds(out, "{\"tokens\":[");
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, i > 0 ? "," : "");
        field_write_token(call, list[i].token, out);
    }
    buf_adds(out, "],\"token_logprobs\":[");
    for (size_t i = 0; i < n; i++) {
        buf_addf(out, i > 0 ? ",%.9g" : "%.9g", finite(list[i].logprob));
    }
    buf_adds(out, "],\"top_logprobs\":[");
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, i > 0 ? ",{" : "{");
        for (size_t t = 0; t < list[i].n_top && t < state->n_top; t++) {
            buf_adds(out, t > 0 ? "," : "");
            field_write_token(call, list[i].top[t].token, out);
            buf_addf(out, ":%.9g", finite(list[i].top[t].logprob));
        }
        buf_addc(out, '}');
    }
    buf_adds(out, "],\"text_offset\":[");
    for (size_t i = 0; i < n; i++) {
        size_t size = 0;
        const char *text = carat_token_text(call->server->engine, list[i].token, &size);
        buf_addf(out, i > 0 ? ",%zu" : "%zu", *offset);
        *offset += text ? count_characters(text, size) : 0;
    }
    buf_adds(out, "]}");
}

static double mean_logprob(const struct answer *a)
{
    double sum = 0;
    for (size_t i = 0; i < a->n_logprobs; i++) {
        sum += finite(a->logprobs[i].logprob);
    }
    return a->n_logprobs > 0 ? sum / (double)a->n_logprobs : LOGPROB_LOWEST;
}

// Answer number `rank` of a prompt, by likelihood where more were made than are shown. Among equals
// the earlier one is better.
static const struct answer *pick_answer(const struct call *call, size_t prompt, size_t rank)
{
    const struct text_state *state = call->state;
    size_t n = call->ask.n_choices;
    const struct answer *answers = call->answers + prompt * n;
    if (n == state->n) {
        return &answers[rank];
    }
    for (size_t i = 0; i < n; i++) {
        size_t n_better = 0;
        double own = mean_logprob(&answers[i]);
        for (size_t j = 0; j < n; j++) {
            double other = mean_logprob(&answers[j]);
            n_better += other > own || (!(other < own) && j < i);
        }
        if (n_better == rank) {
            return &answers[i];
        }
    }
    return &answers[rank];
}

static void write_choice(const struct call *call, size_t prompt, size_t rank, struct buf *out)
{
    const struct text_state *state = call->state;
    const struct answer *a = pick_answer(call, prompt, rank);
    struct buf text = {0};
    size_t offset = 0;
    if (state->echoes) {
        buf_add_slice(&text, state->echoes[prompt]);
    }
    buf_add(&text, buf_text(&a->text), a->text.size);
    buf_adds(out, "\"text\":");
    buf_add_json(out, buf_text(&text), text.size);
    out->has_failed = out->has_failed || text.has_failed;
    buf_release(&text);
    buf_addc(out, ',');
    write_logprobs(call, a->logprobs, a->n_logprobs, &offset, out);
    buf_addc(out, ',');
    openai_write_finish(a, false, out);
}

static void answer(struct call *call, struct buf *out)
{
    const struct text_state *state = call->state;
    openai_write_head(call, "cmpl-", "text_completion", out);
    buf_adds(out, ",\"choices\":[");
    for (size_t i = 0; i < call->ask.n_texts * state->n; i++) {
        buf_addf(out, "%s{\"index\":%zu,", i > 0 ? "," : "", i);
        write_choice(call, i / state->n, i % state->n, out);
        buf_addc(out, '}');
    }
    buf_adds(out, "],");
    openai_write_usage(call, out);
    buf_addc(out, ',');
    openai_write_timings(call, out);
    buf_addc(out, '}');
}

// ------------------------------------------------------------------------------ stream

static void begin_chunk(const struct call *call, size_t choice, struct buf *out)
{
    sse_begin(out, NULL);
    openai_write_head(call, "cmpl-", "text_completion", out);
    buf_addf(out, ",\"choices\":[{\"index\":%zu,\"text\":", choice);
}

static void end_chunk(const struct call *call, struct buf *out)
{
    buf_adds(out, call->ask.includes_usage ? "}],\"usage\":null}" : "}]}");
    sse_end(out);
}

static void begin(struct call *call, struct buf *out)
{
    const struct text_state *state = call->state;
    for (size_t i = 0; state->echoes && i < call->ask.n_texts * state->n; i++) {
        struct slice echo = state->echoes[i / state->n];
        begin_chunk(call, i, out);
        buf_add_json(out, echo.data, echo.size);
        buf_adds(out, ",\"logprobs\":null,\"finish_reason\":null");
        end_chunk(call, out);
    }
}

static void event(struct call *call, const struct call_event *e, struct buf *out)
{
    const struct text_state *state = call->state;
    if (e->event->type != CARAT_EVENT_TEXT) {
        return;
    }
    begin_chunk(call, e->choice, out);
    buf_add_json(out, e->event->text, e->event->size);
    buf_addc(out, ',');
    write_logprobs(call, e->logprobs, e->n_logprobs, &state->offsets[e->choice], out);
    buf_adds(out, ",\"finish_reason\":null");
    end_chunk(call, out);
}

static void end_choice(struct call *call, size_t choice, struct buf *out)
{
    begin_chunk(call, choice, out);
    buf_adds(out, "\"\",\"logprobs\":null,");
    openai_write_finish(&call->answers[choice], false, out);
    end_chunk(call, out);
}

static void end(struct call *call, struct buf *out)
{
    if (call->ask.includes_usage) {
        sse_begin(out, NULL);
        openai_write_head(call, "cmpl-", "text_completion", out);
        buf_adds(out, ",\"choices\":[],");
        openai_write_usage(call, out);
        buf_addc(out, ',');
        openai_write_timings(call, out);
        buf_addc(out, '}');
        sse_end(out);
    }
    sse_begin(out, NULL);
    buf_adds(out, "[DONE]");
    sse_end(out);
}

const struct dialect dialect_openai_text = {
    .name = "openai-text",
    .stream_content_type = "text/event-stream",
    .parse = parse,
    .answer = answer,
    .begin = begin,
    .event = event,
    .end_choice = end_choice,
    .end = end,
    .error = openai_error,
};
