// SPDX-License-Identifier: Apache-2.0
// Anthropic Messages, the way out: whole messages, and streams of content blocks in the order that
// clients rely on: message_start, for each block start, deltas and stop, message_delta,
// message_stop. docs/api-anthropic.md
#include "server/api_anthropic.h"

#include <string.h>

#include "base/base64.h"
#include "base/hash.h"

// A signature is opaque to clients, which hand it back. Ours names the thought, or, where the
// client asked not to see it, carries it, so that the next turn still has it.
#define SIGNATURE_NAMES   "carat-1-"
#define SIGNATURE_CARRIES "carat-2-"

static void add_base64(struct buf *out, struct slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t n = bytes.size - i < 3 ? bytes.size - i : 3;
        uint32_t group = 0;
        for (size_t j = 0; j < 3; j++) {
            group = group << 8 | (j < n ? (uint8_t)bytes.data[i + j] : 0);
        }
        for (size_t j = 0; j <= n; j++) {
            buf_addc(out, digits[group >> (18 - 6 * j) & 63]);
        }
    }
}

static void add_signature(struct buf *out, struct slice thought, bool carries)
{
    if (carries) {
        buf_adds(out, SIGNATURE_CARRIES);
        add_base64(out, thought);
        return;
    }
    struct hash h;
    uint8_t digest[HASH_SIZE];
    hash_init(&h, NULL);
    hash_add(&h, thought.data, thought.size);
    hash_digest(&h, digest);
    buf_adds(out, SIGNATURE_NAMES);
    add_base64(out, slice_make((const char *)digest, sizeof(digest)));
}

bool anthropic_thought_of(struct slice signature, struct buf *out)
{
    size_t prefix = strlen(SIGNATURE_CARRIES);
    if (!slice_starts(signature, SIGNATURE_CARRIES)) {
        return false;
    }
    size_t before = out->size;
    struct slice rest = slice_make(signature.data + prefix, signature.size - prefix);
    return !base64_decode(out, rest, NULL) && utf8_is_valid(out->data + before, out->size - before);
}

static void add_text(struct buf *out, const char *text)
{
    buf_add_json(out, text, strlen(text));
}

// Ours begin with "call_", those of this dialect with "toolu_".
static void add_tool_id(struct buf *out, const struct answer_call *c)
{
    const char *id = strncmp(c->id, "call_", 5) == 0 ? c->id + 5 : c->id;
    buf_addf(out, "\"toolu_%s\"", id);
}

// Why it ended; what else there is to say about it in *details, or NULL.
static const char *stop_reason(const struct call *call, const struct answer *a,
                               const char **details)
{
    *details = NULL;
    switch (a->stop) {
    case CARAT_STOP_TOOL:
        return "tool_use";
    case CARAT_STOP_STRING:
        return "stop_sequence";
    case CARAT_STOP_LENGTH:
        return call->ask.tokens_max && a->n_tokens >= call->ask.tokens_max
                   ? "max_tokens"
                   : "model_context_window_exceeded";
    case CARAT_STOP_LOOP:
        // Clients know a fixed list of reasons: the nearest is that the answer was cut.
        *details = "{\"type\":\"loop\",\"explanation\":\"The answer repeated itself and was ended "
                   "by the loop guard.\"}";
        return "max_tokens";
    default:
        return a->n_calls ? "tool_use" : "end_turn";
    }
}

static void add_stop(const struct call *call, const struct answer *a, struct buf *out)
{
    const char *details;
    buf_addf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", stop_reason(call, a, &details));
    if (a->stop == CARAT_STOP_STRING) {
        add_text(out, a->stop_string);
    } else {
        buf_adds(out, "null");
    }
    if (details) {
        buf_addf(out, ",\"stop_details\":%s", details);
    }
}

// input_tokens are those that were evaluated; with those from the cache they make the prompt.
static void add_usage(const struct call *call, bool is_start, struct buf *out)
{
    const struct anthropic *state = call->state;
    const struct usage *u = &call->usage;
    size_t cached = u->cached_tokens < u->prompt_tokens ? u->cached_tokens : u->prompt_tokens;
    buf_addf(out,
             "\"usage\":{\"input_tokens\":%zu,\"cache_creation_input_tokens\":0,"
             "\"cache_read_input_tokens\":%zu,\"output_tokens\":%zu",
             u->prompt_tokens - cached, cached,
             is_start || state->is_warming ? (size_t)0 : u->answer_tokens);
    if (!is_start && u->thought_tokens) {
        buf_addf(out, ",\"output_tokens_details\":{\"thinking_tokens\":%zu}", u->thought_tokens);
    }
    buf_adds(out, "}");
}

static void add_head(const struct call *call, struct buf *out)
{
    buf_addf(out,
             "{\"id\":\"msg_%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", call->id);
    add_text(out, call->model);
    buf_adds(out, ",\"content\":[");
}

static void add_thinking(const struct anthropic *state, struct slice thought, struct buf *out)
{
    buf_adds(out, "{\"type\":\"thinking\",\"thinking\":");
    if (state->omits_thoughts) {
        buf_adds(out, "\"\"");
    } else {
        buf_add_json(out, thought.data, thought.size);
    }
    buf_adds(out, ",\"signature\":\"");
    add_signature(out, thought, state->omits_thoughts);
    buf_adds(out, "\"}");
}

static void add_blocks(const struct call *call, const struct answer *a, struct buf *out)
{
    size_t n = 0;
    if (a->thought.size) {
        add_thinking(call->state, slice_make(a->thought.data, a->thought.size), out);
        n++;
    }
    if (a->text.size) {
        buf_adds(out, n++ ? "," : "");
        buf_adds(out, "{\"type\":\"text\",\"text\":");
        buf_add_json(out, a->text.data, a->text.size);
        buf_adds(out, "}");
    }
    for (size_t i = 0; i < a->n_calls; i++) {
        buf_adds(out, n++ ? "," : "");
        buf_adds(out, "{\"type\":\"tool_use\",\"id\":");
        add_tool_id(out, &a->calls[i]);
        buf_adds(out, ",\"name\":");
        add_text(out, a->calls[i].name);
        buf_addf(out, ",\"input\":%s}", a->calls[i].arguments ? a->calls[i].arguments : "{}");
    }
}

void anthropic_answer(struct call *call, struct buf *out)
{
    const struct anthropic *state = call->state;
    const struct answer *a = &call->answers[0];
    add_head(call, out);
    if (!state->is_warming) {
        add_blocks(call, a, out);
    }
    buf_adds(out, "],");
    add_stop(call, a, out);
    buf_adds(out, ",");
    add_usage(call, false, out);
    buf_adds(out, "}");
}

void anthropic_answer_count(struct call *call, struct buf *out)
{
    buf_addf(out, "{\"input_tokens\":%zu}", call->usage.prompt_tokens);
}

// ---------------------------------------------------------------------------------- streams

void anthropic_begin(struct call *call, struct buf *out)
{
    sse_begin(out, "message_start");
    buf_adds(out, "{\"type\":\"message_start\",\"message\":");
    add_head(call, out);
    buf_adds(out, "],\"stop_reason\":null,\"stop_sequence\":null,");
    add_usage(call, true, out);
    buf_adds(out, "}}");
    sse_end(out);
    sse_begin(out, "ping");
    buf_adds(out, "{\"type\":\"ping\"}");
    sse_end(out);
}

static void begin_delta(const struct anthropic *state, const char *type, struct buf *out)
{
    sse_begin(out, "content_block_delta");
    buf_addf(out,
             "{\"type\":\"content_block_delta\",\"index\":%zu,\"delta\":{\"type\":\"%s_delta\",",
             state->i_block, type);
}

static void end_delta(struct buf *out)
{
    buf_adds(out, "}}");
    sse_end(out);
}

static void close_block(const struct call *call, struct buf *out)
{
    struct anthropic *state = call->state;
    if (state->open == BLOCK_NONE) {
        return;
    }
    if (state->open == BLOCK_THINKING) {
        const struct buf *thought = &call->answers[0].thought;
        size_t at = state->thought_at < thought->size ? state->thought_at : thought->size;
        begin_delta(state, "signature", out);
        buf_adds(out, "\"signature\":\"");
        add_signature(out, slice_make(buf_text(thought) + at, thought->size - at),
                      state->omits_thoughts);
        buf_adds(out, "\"");
        end_delta(out);
    }
    if (state->open == BLOCK_TOOL && !state->has_input) {
        // Clients parse what the pieces add up to: nothing would be no JSON.
        begin_delta(state, "input_json", out);
        buf_adds(out, "\"partial_json\":\"{}\"");
        end_delta(out);
    }
    sse_begin(out, "content_block_stop");
    buf_addf(out, "{\"type\":\"content_block_stop\",\"index\":%zu}", state->i_block);
    sse_end(out);
    state->open = BLOCK_NONE;
    state->i_block++;
}

static void open_block(const struct call *call, enum anthropic_block block,
                       const struct call_event *e, struct buf *out)
{
    struct anthropic *state = call->state;
    if (state->open == block && block != BLOCK_TOOL) {
        return;
    }
    close_block(call, out);
    state->open = block;
    state->has_input = false;
    sse_begin(out, "content_block_start");
    buf_addf(out,
             "{\"type\":\"content_block_start\",\"index\":%zu,\"content_block\":", state->i_block);
    if (block == BLOCK_THINKING) {
        // The answer has grown by this event's piece already.
        size_t size = call->answers[0].thought.size;
        state->thought_at = size > e->event->size ? size - e->event->size : 0;
        buf_adds(out, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
    } else if (block == BLOCK_TEXT) {
        buf_adds(out, "{\"type\":\"text\",\"text\":\"\"}");
    } else {
        buf_adds(out, "{\"type\":\"tool_use\",\"id\":");
        add_tool_id(out, e->tool_call);
        buf_adds(out, ",\"name\":");
        add_text(out, e->tool_call->name);
        buf_adds(out, ",\"input\":{}}");
    }
    buf_adds(out, "}");
    sse_end(out);
}

static void add_piece(const struct anthropic *state, const char *type, const char *field,
                      const struct carat_event *e, struct buf *out)
{
    begin_delta(state, type, out);
    buf_addf(out, "\"%s\":", field);
    buf_add_json(out, e->text, e->size);
    end_delta(out);
}

void anthropic_event(struct call *call, const struct call_event *e, struct buf *out)
{
    struct anthropic *state = call->state;
    if (state->is_warming) {
        return;
    }
    switch (e->event->type) {
    case CARAT_EVENT_THOUGHT:
        open_block(call, BLOCK_THINKING, e, out);
        if (!state->omits_thoughts) {
            add_piece(state, "thinking", "thinking", e->event, out);
        }
        break;
    case CARAT_EVENT_TEXT:
        open_block(call, BLOCK_TEXT, e, out);
        add_piece(state, "text", "text", e->event, out);
        break;
    case CARAT_EVENT_CALL:
        open_block(call, BLOCK_TOOL, e, out);
        break;
    case CARAT_EVENT_CALL_ARGS:
        add_piece(state, "input_json", "partial_json", e->event, out);
        state->has_input = true;
        break;
    case CARAT_EVENT_CALL_END:
        close_block(call, out);
        break;
    case CARAT_EVENT_STOP:
        break;
    }
}

void anthropic_end_choice(struct call *call, size_t choice, struct buf *out)
{
    (void)choice; // there is one
    close_block(call, out);
}

void anthropic_end(struct call *call, struct buf *out)
{
    sse_begin(out, "message_delta");
    buf_adds(out, "{\"type\":\"message_delta\",\"delta\":{");
    add_stop(call, &call->answers[0], out);
    buf_adds(out, "},");
    add_usage(call, false, out);
    buf_adds(out, "}");
    sse_end(out);
    sse_begin(out, "message_stop");
    buf_adds(out, "{\"type\":\"message_stop\"}");
    sse_end(out);
}

// ---------------------------------------------------------------------------------- errors

static const char *error_type(int status)
{
    static const struct {
        int status;
        const char *type;
    } types[] = {
        {400, "invalid_request_error"}, {401, "authentication_error"}, {403, "permission_error"},
        {404, "not_found_error"},       {413, "request_too_large"},    {429, "rate_limit_error"},
        {503, "overloaded_error"},      {504, "timeout_error"},        {529, "overloaded_error"},
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].status == status) {
            return types[i].type;
        }
    }
    return status < 500 ? "invalid_request_error" : "api_error";
}

void anthropic_error(int status, const struct carat_error *error, bool in_stream, struct buf *out)
{
    if (in_stream) {
        sse_begin(out, "error");
    }
    buf_addf(out,
             "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", error_type(status));
    add_text(out, error->text);
    if (strcmp(error->text, ANTHROPIC_NO_THREADS) == 0) {
        buf_adds(out, ",\"details\":{\"error_code\":\"thread_unsupported_request\"}");
    }
    buf_adds(out, "}}");
    if (in_stream) {
        sse_end(out);
    }
}
