// SPDX-License-Identifier: Apache-2.0
// Gemini, the way out: whole answers, and streams of the same objects in pieces, as server-sent
// events or as one array. docs/api-gemini.md
#include "server/api_gemini.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "server/fields.h"
#include "server/idless.h"

static void add_text(struct buf *out, const char *text)
{
    buf_add_json(out, text, strlen(text));
}

static void add_usage(const struct call *call, struct buf *out)
{
    const struct usage *u = &call->usage;
    size_t thoughts = u->thought_tokens < u->answer_tokens ? u->thought_tokens : u->answer_tokens;
    buf_addf(out,
             "\"usageMetadata\":{\"promptTokenCount\":%zu,\"candidatesTokenCount\":%zu,"
             "\"totalTokenCount\":%zu,\"cachedContentTokenCount\":%zu",
             u->prompt_tokens, u->answer_tokens - thoughts, u->prompt_tokens + u->answer_tokens,
             u->cached_tokens);
    if (thoughts) {
        buf_addf(out, ",\"thoughtsTokenCount\":%zu", thoughts);
    }
    buf_adds(out, "}");
}

static void add_tail(const struct call *call, struct buf *out)
{
    buf_adds(out, ",\"modelVersion\":");
    add_text(out, call->model);
    buf_addf(out, ",\"responseId\":\"%s\"}", call->id);
}

static void add_finish(const struct answer *a, struct buf *out)
{
    if (a->stop == CARAT_STOP_LENGTH) {
        buf_adds(out, ",\"finishReason\":\"MAX_TOKENS\"");
    } else if (a->stop == CARAT_STOP_LOOP) {
        buf_adds(out, ",\"finishReason\":\"OTHER\",\"finishMessage\":\"The answer repeated itself "
                      "and was ended by the loop guard.\"");
    } else {
        buf_adds(out, ",\"finishReason\":\"STOP\"");
    }
}

static void add_text_part(struct buf *out, struct slice text, bool is_thought)
{
    buf_adds(out, "{\"text\":");
    buf_add_json(out, text.data ? text.data : "", text.size);
    buf_adds(out, is_thought ? ",\"thought\":true}" : "}");
}

static void add_call_part(struct call *call, const struct answer_call *c, struct buf *out)
{
    idless_remember(call, c);
    buf_addf(out, "{\"functionCall\":{\"id\":\"%s\",\"name\":", c->id);
    add_text(out, c->name);
    buf_addf(out, ",\"args\":%s}}", c->arguments ? c->arguments : "{}");
}

static double finite(float logprob)
{
    return isfinite(logprob) ? (double)logprob : -9999.0;
}

static void add_logprob(const struct call *call, carat_token token, float logprob, struct buf *out)
{
    buf_adds(out, "{\"token\":");
    field_write_token(call, token, out);
    buf_addf(out, ",\"tokenId\":%d,\"logProbability\":%.6g}", (int)token, finite(logprob));
}

static void add_logprobs(const struct call *call, const struct answer_logprob *list, size_t n,
                         struct buf *out)
{
    double sum = 0;
    if (!n) {
        return;
    }
    buf_adds(out, ",\"logprobsResult\":{\"chosenCandidates\":[");
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, i ? "," : "");
        add_logprob(call, list[i].token, list[i].logprob, out);
        sum += finite(list[i].logprob);
    }
    buf_adds(out, "]");
    if (call->ask.sampling.n_top) {
        buf_adds(out, ",\"topCandidates\":[");
        for (size_t i = 0; i < n; i++) {
            buf_adds(out, i ? ",{\"candidates\":[" : "{\"candidates\":[");
            for (size_t j = 0; j < list[i].n_top; j++) {
                buf_adds(out, j ? "," : "");
                add_logprob(call, list[i].top[j].token, list[i].top[j].logprob, out);
            }
            buf_adds(out, "]}");
        }
        buf_adds(out, "]");
    }
    buf_addf(out, ",\"logProbabilitySum\":%.6g},\"avgLogprobs\":%.6g", sum, sum / (double)n);
}

static void add_candidate(struct call *call, size_t i, struct buf *out)
{
    const struct answer *a = &call->answers[i];
    size_t n = 0;
    buf_adds(out, "{\"content\":{\"parts\":[");
    if (a->thought.size && !call->ask.hides_thoughts) {
        add_text_part(out, slice_make(a->thought.data, a->thought.size), true);
        n++;
    }
    if (a->text.size || (!a->n_calls && !n)) {
        buf_adds(out, n++ ? "," : "");
        add_text_part(out, slice_make(a->text.data, a->text.size), false);
    }
    for (size_t j = 0; j < a->n_calls; j++) {
        buf_adds(out, n++ ? "," : "");
        add_call_part(call, &a->calls[j], out);
    }
    buf_adds(out, "],\"role\":\"model\"}");
    add_finish(a, out);
    buf_addf(out, ",\"index\":%zu", i);
    add_logprobs(call, a->logprobs, a->n_logprobs, out);
    buf_adds(out, "}");
}

void gemini_answer(struct call *call, struct buf *out)
{
    buf_adds(out, "{\"candidates\":[");
    for (size_t i = 0; i < call->n_answers; i++) {
        buf_adds(out, i ? "," : "");
        add_candidate(call, i, out);
    }
    buf_adds(out, "],");
    add_usage(call, out);
    add_tail(call, out);
}

// ---------------------------------------------------------------------------------- streams

static void begin_chunk(struct call *call, struct buf *out)
{
    struct gemini *state = call->state;
    if (!state->is_array) {
        sse_begin(out, NULL);
        return;
    }
    buf_adds(out, state->has_chunk ? ",\n" : "");
    state->has_chunk = true;
}

static void end_chunk(struct call *call, struct buf *out)
{
    const struct gemini *state = call->state;
    if (!state->is_array) {
        sse_end(out);
    }
}

void gemini_begin(struct call *call, struct buf *out)
{
    const struct gemini *state = call->state;
    buf_adds(out, state->is_array ? "[" : "");
}

void gemini_event(struct call *call, const struct call_event *e, struct buf *out)
{
    struct slice text = slice_make(e->event->text, e->event->size);
    bool is_call = e->event->type == CARAT_EVENT_CALL_END && e->tool_call;
    bool is_thought = e->event->type == CARAT_EVENT_THOUGHT;
    if (!is_call && e->event->type != CARAT_EVENT_TEXT &&
        !(is_thought && !call->ask.hides_thoughts)) {
        return;
    }
    begin_chunk(call, out);
    buf_adds(out, "{\"candidates\":[{\"content\":{\"parts\":[");
    if (is_call) {
        add_call_part(call, e->tool_call, out);
    } else {
        add_text_part(out, text, is_thought);
    }
    buf_addf(out, "],\"role\":\"model\"},\"index\":%zu", e->choice);
    add_logprobs(call, e->logprobs, e->n_logprobs, out);
    buf_adds(out, "}]");
    add_tail(call, out);
    end_chunk(call, out);
}

void gemini_end_choice(struct call *call, size_t choice, struct buf *out)
{
    (void)call; // gemini_end says how all of them ended
    (void)choice;
    (void)out;
}

void gemini_end(struct call *call, struct buf *out)
{
    const struct gemini *state = call->state;
    begin_chunk(call, out);
    buf_adds(out, "{\"candidates\":[");
    for (size_t i = 0; i < call->n_answers; i++) {
        buf_addf(out, "%s{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"}",
                 i ? "," : "");
        add_finish(&call->answers[i], out);
        buf_addf(out, ",\"index\":%zu}", i);
    }
    buf_adds(out, "],");
    add_usage(call, out);
    add_tail(call, out);
    end_chunk(call, out);
    buf_adds(out, state->is_array ? "]" : "");
}

// ---------------------------------------------------------------------------------- the rest

void gemini_answer_count(struct call *call, struct buf *out)
{
    buf_addf(out, "{\"totalTokens\":%zu}", call->usage.prompt_tokens);
}

// The first numbers of a vector, scaled to length 1 when these are not all.
static void add_embedding(const struct call *call, size_t i, struct buf *out)
{
    const struct gemini *state = call->state;
    const float *v = call->answers[i].embedding;
    size_t n_all = carat_engine_info(call->server->engine)->hidden_size;
    size_t n = state->dimensions ? state->dimensions : n_all;
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        sum += (double)v[j] * (double)v[j];
    }
    double scale = n < n_all && sum > 0 ? 1 / sqrt(sum) : 1;
    buf_adds(out, "{\"values\":[");
    for (size_t j = 0; j < n; j++) {
        buf_addf(out, "%s%.9g", j ? "," : "", (double)v[j] * scale);
    }
    buf_adds(out, "]}");
}

void gemini_answer_embedding(struct call *call, struct buf *out)
{
    buf_adds(out, "{\"embedding\":");
    add_embedding(call, 0, out);
    buf_adds(out, "}");
}

void gemini_answer_embeddings(struct call *call, struct buf *out)
{
    buf_adds(out, "{\"embeddings\":[");
    for (size_t i = 0; i < call->n_answers; i++) {
        buf_adds(out, i ? "," : "");
        add_embedding(call, i, out);
    }
    buf_adds(out, "]}");
}

static const char *status_name(int status)
{
    static const struct {
        int status;
        const char *name;
    } names[] = {
        {400, "INVALID_ARGUMENT"},  {401, "UNAUTHENTICATED"},    {403, "PERMISSION_DENIED"},
        {404, "NOT_FOUND"},         {429, "RESOURCE_EXHAUSTED"}, {503, "UNAVAILABLE"},
        {504, "DEADLINE_EXCEEDED"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].status == status) {
            return names[i].name;
        }
    }
    return status < 500 ? "INVALID_ARGUMENT" : "INTERNAL";
}

static void add_error(int status, const struct carat_error *error, struct buf *out)
{
    buf_addf(out, "{\"error\":{\"code\":%d,\"message\":", status);
    add_text(out, error->text);
    buf_addf(out, ",\"status\":\"%s\"}}", status_name(status));
}

void gemini_error(int status, const struct carat_error *error, bool in_stream, struct buf *out)
{
    (void)in_stream; // gemini_stream_error
    add_error(status, error, out);
}

void gemini_stream_error(struct call *call, int status, const struct carat_error *error,
                         struct buf *out)
{
    const struct gemini *state = call->state;
    begin_chunk(call, out);
    add_error(status, error, out);
    end_chunk(call, out);
    buf_adds(out, state->is_array ? "]" : "");
}

// ---------------------------------------------------------------------------------- models

static void add_model(const struct server *server, struct buf *out)
{
    const struct carat_sampling *s = &server->options->sampling;
    const struct carat_model_info *info = carat_engine_info(server->engine);
    size_t context = server->options->session.context_max;
    context = context ? context : info->context_max;
    struct buf name = {0};
    buf_addf(&name, "models/%s", server->model_id);
    buf_adds(out, "{\"name\":");
    buf_add_json(out, buf_text(&name), name.size);
    buf_release(&name);
    buf_adds(out, ",\"displayName\":");
    add_text(out, info->name);
    buf_addf(out,
             ",\"version\":\"%s\",\"inputTokenLimit\":%zu,\"outputTokenLimit\":%zu,"
             "\"supportedGenerationMethods\":[\"generateContent\",\"countTokens\",\"embedContent\","
             "\"batchEmbedContents\"],\"temperature\":%g,\"maxTemperature\":2,\"topP\":%g,"
             "\"topK\":%zu,\"thinking\":true}",
             carat_version(), context, context, (double)s->temperature, (double)s->top_p, s->top_k);
}

static void reply_json(struct http_reply *reply, int status, struct buf *out)
{
    http_reply_all(reply, out->has_failed ? 503 : status, "application/json", NULL, buf_text(out),
                   out->size);
    buf_release(out);
}

bool gemini_is_client(const struct http_request *request)
{
    return http_header(request, "x-goog-api-client") || http_header(request, "x-goog-api-key") ||
           http_query(request, "key");
}

void gemini_models(struct server *server, struct http_request *request, struct http_reply *reply)
{
    struct buf out = {0};
    (void)request;
    buf_adds(&out, "{\"models\":[");
    add_model(server, &out);
    buf_adds(&out, "]}");
    reply_json(reply, 200, &out);
}

void gemini_model(struct server *server, struct http_request *request, struct http_reply *reply)
{
    struct buf out = {0};
    const char *name = strstr(request->path, "/models/");
    if (name && strcmp(name + strlen("/models/"), server->model_id) == 0) {
        add_model(server, &out);
        reply_json(reply, 200, &out);
        return;
    }
    struct carat_error error = {0};
    (void)fail(&error, CARAT_E_ARGUMENT, "%.200s is not found: this server has models/%.200s",
               request->path, server->model_id);
    add_error(404, &error, &out);
    reply_json(reply, 404, &out);
}
