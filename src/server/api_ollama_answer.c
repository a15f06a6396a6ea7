// SPDX-License-Identifier: Apache-2.0
// Ollama, the way out: one object, or one object a line. docs/api-ollama.md
#include "server/api_ollama.h"

#include <math.h>
#include <string.h>

#include "server/fields.h"
#include "server/idless.h"

static void add_text(struct buf *out, const char *text)
{
    buf_add_json(out, text, strlen(text));
}

static void add_head(const struct call *call, struct buf *out)
{
    buf_adds(out, "{\"model\":");
    add_text(out, call->model);
    buf_adds(out, ",\"created_at\":");
    field_write_time(call_now(), out);
}

static unsigned long long nanoseconds(double seconds)
{
    return seconds > 0 ? (unsigned long long)(seconds * 1e9) : 0;
}

static const char *done_reason(const struct answer *a)
{
    switch (a->stop) {
    case CARAT_STOP_LENGTH:
        return "length";
    case CARAT_STOP_LOOP:
        return "loop"; // a word of ours: what it is read for is whether the answer was cut
    default:
        return "stop";
    }
}

static void add_end(const struct call *call, const char *reason, struct buf *out)
{
    const struct usage *u = &call->usage;
    buf_addf(out,
             ",\"done\":true,\"done_reason\":\"%s\",\"total_duration\":%llu,\"load_duration\":0,"
             "\"prompt_eval_count\":%zu,\"prompt_eval_duration\":%llu,\"eval_count\":%zu,"
             "\"eval_duration\":%llu,\"prompt_cached_count\":%zu}",
             reason, nanoseconds(u->queue_s + u->prefill_s + u->decode_s), u->prompt_tokens,
             nanoseconds(u->prefill_s), u->answer_tokens, nanoseconds(u->decode_s),
             u->cached_tokens);
}

static void add_calls(struct call *call, const struct answer_call *calls, size_t first, size_t n,
                      struct buf *out)
{
    if (!n) {
        return;
    }
    buf_adds(out, ",\"tool_calls\":[");
    for (size_t i = 0; i < n; i++) {
        idless_remember(call, &calls[i]);
        buf_addf(out, "%s{\"id\":\"%s\",\"function\":{\"index\":%zu,\"name\":", i ? "," : "",
                 calls[i].id, first + i);
        add_text(out, calls[i].name);
        buf_addf(out, ",\"arguments\":%s}}", calls[i].arguments ? calls[i].arguments : "{}");
    }
    buf_adds(out, "]");
}

struct piece {
    struct slice text, thought;
    const struct answer_call *calls;
    size_t first_call, n_calls;
    const struct answer_logprob *logprobs;
    size_t n_logprobs;
};

static void add_logprob(const struct call *call, carat_token token, float logprob, struct buf *out)
{
    buf_adds(out, "{\"token\":");
    field_write_token(call, token, out);
    buf_addf(out, ",\"logprob\":%.6g", isfinite(logprob) ? (double)logprob : -9999.0);
}

static void add_logprobs(const struct call *call, const struct piece *p, struct buf *out)
{
    if (!p->n_logprobs) {
        return;
    }
    buf_adds(out, ",\"logprobs\":[");
    for (size_t i = 0; i < p->n_logprobs; i++) {
        const struct answer_logprob *l = &p->logprobs[i];
        buf_adds(out, i ? "," : "");
        add_logprob(call, l->token, l->logprob, out);
        for (size_t j = 0; j < l->n_top; j++) {
            buf_adds(out, j ? "," : ",\"top_logprobs\":[");
            add_logprob(call, l->top[j].token, l->top[j].logprob, out);
            buf_adds(out, "}");
        }
        buf_adds(out, l->n_top ? "]}" : "}");
    }
    buf_adds(out, "]");
}

// The part of an object that has something of the answer in it.
static void add_piece(struct call *call, const struct piece *p, struct buf *out)
{
    const struct ollama *state = call->state;
    buf_adds(out, state->is_generate ? ",\"response\":"
                                     : ",\"message\":{\"role\":\"assistant\",\"content\":");
    buf_add_json(out, p->text.data ? p->text.data : "", p->text.size);
    if (p->thought.size) {
        buf_adds(out, ",\"thinking\":");
        buf_add_json(out, p->thought.data, p->thought.size);
    }
    add_calls(call, p->calls, p->first_call, p->n_calls, out);
    buf_adds(out, state->is_generate ? "" : "}");
    add_logprobs(call, p, out);
}

static struct slice slice_of_buf(const struct buf *b)
{
    return slice_make(buf_text(b), b->size);
}

void ollama_answer(struct call *call, struct buf *out)
{
    const struct ollama *state = call->state;
    add_head(call, out);
    if (state->done_reason) {
        add_piece(call, &(struct piece){0}, out);
        buf_addf(out, ",\"done\":true,\"done_reason\":\"%s\"}", state->done_reason);
        return;
    }
    const struct answer *a = &call->answers[0];
    struct piece whole = {
        .text = slice_of_buf(&a->text),
        .thought = slice_of_buf(&a->thought),
        .calls = a->calls,
        .n_calls = a->n_calls,
        .logprobs = a->logprobs,
        .n_logprobs = a->n_logprobs,
    };
    add_piece(call, &whole, out);
    add_end(call, done_reason(a), out);
}

// ---------------------------------------------------------------------------------- streams

void ollama_begin(struct call *call, struct buf *out)
{
    (void)call; // the first piece is the beginning
    (void)out;
}

void ollama_event(struct call *call, const struct call_event *e, struct buf *out)
{
    struct slice text = slice_make(e->event->text, e->event->size);
    struct piece piece = {.logprobs = e->logprobs, .n_logprobs = e->n_logprobs};
    if (e->event->type == CARAT_EVENT_TEXT) {
        piece.text = text;
    } else if (e->event->type == CARAT_EVENT_THOUGHT) {
        piece.thought = text;
    } else if (e->event->type == CARAT_EVENT_CALL_END && e->tool_call) {
        piece.calls = e->tool_call;
        piece.first_call = e->call_index;
        piece.n_calls = 1;
    } else {
        return;
    }
    add_head(call, out);
    add_piece(call, &piece, out);
    buf_adds(out, ",\"done\":false}\n");
}

void ollama_end_choice(struct call *call, size_t choice, struct buf *out)
{
    (void)call; // there is one, and ollama_end says how it ended
    (void)choice;
    (void)out;
}

void ollama_end(struct call *call, struct buf *out)
{
    add_head(call, out);
    add_piece(call, &(struct piece){0}, out);
    add_end(call, done_reason(&call->answers[0]), out);
    buf_adds(out, "\n");
}

// ---------------------------------------------------------------------------------- embeddings

// The first n numbers, scaled to length 1 when that is not all of them.
static void add_vector(const float *v, size_t n, size_t n_all, struct buf *out)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)v[i] * (double)v[i];
    }
    double scale = n < n_all && sum > 0 ? 1 / sqrt(sum) : 1;
    for (size_t i = 0; i < n; i++) {
        buf_addf(out, "%s%.9g", i ? "," : "[", (double)v[i] * scale);
    }
    buf_adds(out, "]");
}

void ollama_answer_embed(struct call *call, struct buf *out)
{
    const struct ollama *state = call->state;
    const struct usage *u = &call->usage;
    size_t n_all = carat_engine_info(call->server->engine)->hidden_size;
    buf_adds(out, "{\"model\":");
    add_text(out, call->model);
    buf_adds(out, ",\"embeddings\":[");
    for (size_t i = 0; i < call->n_answers; i++) {
        buf_adds(out, i ? "," : "");
        add_vector(call->answers[i].embedding, state->dimensions ? state->dimensions : n_all, n_all,
                   out);
    }
    buf_addf(out, "],\"total_duration\":%llu,\"load_duration\":0,\"prompt_eval_count\":%zu}",
             nanoseconds(u->queue_s + u->prefill_s + u->decode_s), u->prompt_tokens);
}

void ollama_answer_embeddings(struct call *call, struct buf *out)
{
    size_t n = carat_engine_info(call->server->engine)->hidden_size;
    buf_adds(out, "{\"embedding\":");
    add_vector(call->answers[0].embedding, n, n, out);
    buf_adds(out, "}");
}

void ollama_error(int status, const struct carat_error *error, bool in_stream, struct buf *out)
{
    (void)status;
    buf_adds(out, "{\"error\":");
    add_text(out, error->text);
    buf_adds(out, in_stream ? "}\n" : "}");
}
