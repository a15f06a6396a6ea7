// SPDX-License-Identifier: Apache-2.0
// Chat Completions: the dialect most programs speak. docs/api-openai.md says what is honoured,
// ignored and refused.
#include <string.h>

#include "base/error.h"
#include "server/fields.h"
#include "server/logprobs.h"
#include "server/openai.h"
#include "server/server.h"

struct chat_state {
    bool is_legacy; // functions were declared, not tools
};

// ------------------------------------------------------------------------------ parse

static int read_logprobs(struct call *call, const struct json_value *root, struct carat_error *err)
{
    size_t n_top = 0;
    int rc = ask_bool(root, "logprobs", &call->ask.wants_logprobs, err);
    rc = rc ? rc : ask_size(root, "top_logprobs", 0, OPENAI_TOP_LOGPROBS_MAX, &n_top, err);
    if (rc == 0 && n_top > 0 && !call->ask.wants_logprobs) {
        rc = fail(err, CARAT_E_ARGUMENT, "top_logprobs: expected logprobs to be true with it");
    }
    call->ask.sampling.n_top = n_top;
    return rc;
}

static int read_modalities(const struct json_value *root, struct carat_error *err)
{
    for (struct json_iter it = json_iter(json_get(root, "modalities")); json_next(&it);) {
        if (!slice_is(json_string(it.value), "text")) {
            return fail(err, CARAT_E_UNSUPPORTED,
                        "modalities: the model answers in text only: expected [\"text\"]");
        }
    }
    return 0;
}

// How the prompt ends, as other engines let clients say it.
static int read_ending(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct carat_chat *chat = &call->ask.chat;
    bool begins_answer = true;
    int rc = ask_bool(root, "continue_final_message", &chat->continues_final, err);
    rc = rc ? rc : ask_bool(root, "add_generation_prompt", &begins_answer, err);
    if (rc) {
        return rc;
    }
    const struct carat_message *last = &chat->messages[chat->n_messages - 1];
    if (chat->continues_final && strcmp(last->role, "assistant") != 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "continue_final_message: expected the last message to be the assistant's, "
                    "found role '%s'",
                    last->role);
    }
    chat->is_complete = !begins_answer && !chat->continues_final;
    return 0;
}

static int read_image_tokens(const struct json_value *root, uint32_t *out, struct carat_error *err)
{
    static const size_t allowed[] = {70, 140, 280, 560, 1120};
    const struct json_value *options = json_get(root, "mm_processor_kwargs");
    size_t n = 0;
    if (field_is_given(options) && json_kind(options) != JSON_OBJECT) {
        return field_refuse("mm_processor_kwargs", "an object", options, err);
    }
    int rc = ask_size(options, "max_soft_tokens", 1, 1120, &n, err);
    bool is_allowed = !field_is_given(json_get(options, "max_soft_tokens"));
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        is_allowed = is_allowed || n == allowed[i];
    }
    if (rc == 0 && !is_allowed) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "max_soft_tokens: expected 70, 140, 280, 560 or 1120, found %zu", n);
    }
    *out = (uint32_t)n;
    return openai_in(rc, err, "mm_processor_kwargs");
}

static int parse(struct call *call, struct carat_error *err)
{
    const struct json_value *root = NULL;
    uint32_t image_tokens = 0;
    struct chat_state *state = call_take(call, sizeof(*state), err);
    if (!state) {
        return CARAT_E_MEMORY;
    }
    call->state = state;
    call->ask.kind = ASK_CHAT;
    int rc = call_parse_body(call, &root, err);
    rc = rc ? rc : openai_read_common(call, root, err);
    rc = rc ? rc : openai_read_limit(root, "max_tokens", &call->ask.tokens_max, err);
    rc = rc ? rc : openai_read_limit(root, "max_completion_tokens", &call->ask.tokens_max, err);
    rc = rc ? rc : openai_read_format(call, root, err);
    rc = rc ? rc : openai_read_reasoning(call, root, err);
    rc = rc ? rc : openai_read_tools(call, root, &state->is_legacy, err);
    rc = rc ? rc : read_logprobs(call, root, err);
    rc = rc ? rc : read_modalities(root, err);
    rc = rc ? rc : read_image_tokens(root, &image_tokens, err);
    // Last: media are decoded here, which costs most.
    rc = rc ? rc : openai_read_messages(call, json_get(root, "messages"), image_tokens, err);
    return rc ? rc : read_ending(call, root, err);
}

// ------------------------------------------------------------------------------ render

// "logprobs":{...}, or null when they were not asked for.
static void write_logprobs(const struct call *call, const struct answer_logprob *list, size_t n,
                           struct buf *out)
{
    buf_adds(out, "\"logprobs\":");
    if (!call->ask.wants_logprobs) {
        buf_adds(out, "null");
        return;
    }
    buf_adds(out, "{\"content\":");
    logprobs_write(call, list, n, out);
    buf_adds(out, ",\"refusal\":null}");
}

static void write_calls(const struct chat_state *state, const struct answer *a, struct buf *out)
{
    for (size_t i = 0; i < a->n_calls; i++) {
        const struct answer_call *c = &a->calls[i];
        if (state->is_legacy) {
            buf_adds(out, ",\"function_call\":{\"name\":");
        } else {
            buf_addf(out, "%s{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":",
                     i > 0 ? "," : ",\"tool_calls\":[", c->id);
        }
        buf_add_json(out, c->name, strlen(c->name));
        buf_adds(out, ",\"arguments\":");
        buf_add_json(out, c->arguments, strlen(c->arguments));
        if (state->is_legacy) {
            buf_addc(out, '}');
            return; // the old form has room for one
        }
        buf_adds(out, "}}");
    }
    buf_adds(out, a->n_calls > 0 ? "]" : "");
}

static void write_message(const struct call *call, const struct answer *a, struct buf *out)
{
    buf_adds(out, "\"message\":{\"role\":\"assistant\",\"content\":");
    if (a->text.size == 0 && a->n_calls > 0) {
        buf_adds(out, "null");
    } else {
        buf_add_json(out, buf_text(&a->text), a->text.size);
    }
    buf_adds(out, ",\"refusal\":null");
    if (a->thought.size > 0 && !call->ask.hides_thoughts) {
        buf_adds(out, ",\"reasoning_content\":");
        buf_add_json(out, buf_text(&a->thought), a->thought.size);
        buf_adds(out, ",\"reasoning\":");
        buf_add_json(out, buf_text(&a->thought), a->thought.size);
    }
    write_calls(call->state, a, out);
    buf_addc(out, '}');
}

static void answer(struct call *call, struct buf *out)
{
    const struct chat_state *state = call->state;
    openai_write_head(call, "chatcmpl-", "chat.completion", out);
    buf_adds(out, ",\"choices\":[");
    for (size_t i = 0; i < call->n_answers; i++) {
        const struct answer *a = &call->answers[i];
        buf_addf(out, "%s{\"index\":%zu,", i > 0 ? "," : "", i);
        write_message(call, a, out);
        buf_addc(out, ',');
        write_logprobs(call, a->logprobs, a->n_logprobs, out);
        buf_addc(out, ',');
        openai_write_finish(a, state->is_legacy, out);
        buf_addc(out, '}');
    }
    buf_adds(out, "],");
    openai_write_usage(call, out);
    buf_addc(out, ',');
    openai_write_timings(call, out);
    buf_addc(out, '}');
}

// ------------------------------------------------------------------------------ stream

// A chunk up to what is in its delta, and the rest of it.
static void begin_chunk(const struct call *call, size_t choice, struct buf *out)
{
    sse_begin(out, NULL);
    openai_write_head(call, "chatcmpl-", "chat.completion.chunk", out);
    buf_addf(out, ",\"choices\":[{\"index\":%zu,\"delta\":{", choice);
}

static void end_chunk(const struct call *call, struct buf *out)
{
    buf_adds(out, call->ask.includes_usage ? "}],\"usage\":null}" : "}]}");
    sse_end(out);
}

static void end_delta(const struct call *call, const struct call_event *e, struct buf *out)
{
    buf_adds(out, "},");
    write_logprobs(call, e ? e->logprobs : NULL, e ? e->n_logprobs : 0, out);
    buf_adds(out, ",\"finish_reason\":null");
    end_chunk(call, out);
}

static void begin(struct call *call, struct buf *out)
{
    for (size_t i = 0; i < call->ask.n_choices; i++) {
        begin_chunk(call, i, out);
        buf_adds(out, "\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                      "\"finish_reason\":null");
        end_chunk(call, out);
    }
}

static void write_call_delta(const struct call *call, const struct call_event *e, struct buf *out)
{
    const struct chat_state *state = call->state;
    const struct carat_event *event = e->event;
    bool is_begin = event->type == CARAT_EVENT_CALL;
    buf_adds(out, state->is_legacy ? "\"function_call\":{" : "\"tool_calls\":[{");
    if (!state->is_legacy) {
        buf_addf(out, "\"index\":%zu,", e->call_index);
        if (is_begin) {
            buf_addf(out, "\"id\":\"%s\",\"type\":\"function\",", e->tool_call->id);
        }
        buf_adds(out, "\"function\":{");
    }
    if (is_begin) {
        buf_adds(out, "\"name\":");
        buf_add_json(out, event->text, event->size);
        buf_adds(out, ",\"arguments\":\"\"");
    } else {
        buf_adds(out, "\"arguments\":");
        buf_add_json(out, event->text, event->size);
    }
    buf_adds(out, state->is_legacy ? "}" : "}}]");
}

static void event(struct call *call, const struct call_event *e, struct buf *out)
{
    const struct chat_state *state = call->state;
    const struct carat_event *event = e->event;
    switch (event->type) {
    case CARAT_EVENT_TEXT:
        begin_chunk(call, e->choice, out);
        buf_adds(out, "\"content\":");
        buf_add_json(out, event->text, event->size);
        end_delta(call, e, out);
        return;
    case CARAT_EVENT_THOUGHT:
        if (call->ask.hides_thoughts) {
            return;
        }
        begin_chunk(call, e->choice, out);
        buf_adds(out, "\"reasoning_content\":");
        buf_add_json(out, event->text, event->size);
        buf_adds(out, ",\"reasoning\":");
        buf_add_json(out, event->text, event->size);
        end_delta(call, NULL, out);
        return;
    case CARAT_EVENT_CALL:
    case CARAT_EVENT_CALL_ARGS:
        if (state->is_legacy && e->call_index > 0) {
            return;
        }
        begin_chunk(call, e->choice, out);
        write_call_delta(call, e, out);
        end_delta(call, NULL, out);
        return;
    default:
        return;
    }
}

static void end_choice(struct call *call, size_t choice, struct buf *out)
{
    const struct chat_state *state = call->state;
    begin_chunk(call, choice, out);
    buf_adds(out, "},\"logprobs\":null,");
    openai_write_finish(&call->answers[choice], state->is_legacy, out);
    end_chunk(call, out);
}

static void end(struct call *call, struct buf *out)
{
    if (call->ask.includes_usage) {
        sse_begin(out, NULL);
        openai_write_head(call, "chatcmpl-", "chat.completion.chunk", out);
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

const struct dialect dialect_openai_chat = {
    .name = "openai-chat",
    .stream_content_type = "text/event-stream",
    .parse = parse,
    .answer = answer,
    .begin = begin,
    .event = event,
    .end_choice = end_choice,
    .end = end,
    .error = openai_error,
};
