// SPDX-License-Identifier: Apache-2.0
// Answers of the Responses API: the response object, its items, and the events of a stream in the
// order that clients wait for. Items are ranges of what the call gathers anyway, so a stream and a
// whole answer are written by the same functions.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "server/logprobs.h"
#include "server/openai.h"
#include "server/responses.h"
#include "server/server.h"

#define SEALED_PREFIX "carat1." // as responses_input.c reads it back

// ------------------------------------------------------------------------------ pieces

static void add_string(struct buf *out, const char *text)
{
    buf_add_json(out, text, strlen(text));
}

static struct slice range(const struct buf *b, size_t start, size_t end)
{
    end = end < b->size ? end : b->size;
    return start < end ? slice_make(b->data + start, end - start) : (struct slice){0};
}

static struct slice thought_of(const struct call *call, const struct responses_item *item)
{
    return range(&call->answers[0].thought, item->start, item->end);
}

static struct slice text_of(const struct call *call, const struct responses_item *item)
{
    return range(&call->answers[0].text, item->start, item->end);
}

static void add_text_part(const char *type, struct slice text, struct buf *out)
{
    buf_addf(out, "{\"type\":\"%s\",\"text\":", type);
    buf_add_json(out, text.data, text.size);
    buf_addc(out, '}');
}

static void add_base64(struct slice bytes, struct buf *out)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t n = bytes.size - i < 3 ? bytes.size - i : 3;
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++) {
            bits = bits << 8 | (k < n ? (unsigned char)bytes.data[i + k] : 0U);
        }
        for (size_t k = 0; k <= n; k++) {
            buf_addc(out, letters[bits >> (18 - 6 * k) & 63]);
        }
    }
}

// ------------------------------------------------------------------------------ items

static void add_reasoning(const struct call *call, const struct responses *r,
                          const struct responses_item *item, bool is_done, struct buf *out)
{
    struct slice text = is_done ? thought_of(call, item) : (struct slice){0};
    buf_adds(out, ",\"summary\":[");
    if (text.size > 0 && r->has_summary) {
        add_text_part("summary_text", text, out);
    }
    buf_addc(out, ']');
    if (!r->has_summary) {
        buf_adds(out, ",\"content\":[");
        if (text.size > 0) {
            add_text_part("reasoning_text", text, out);
        }
        buf_addc(out, ']');
    }
    if (r->has_encrypted) {
        buf_adds(out, ",\"encrypted_content\":\"" SEALED_PREFIX);
        add_base64(text, out);
        buf_addc(out, '"');
    }
}

static void add_output_text(const struct call *call, const struct responses_item *item,
                            struct buf *out)
{
    const struct answer *a = &call->answers[0];
    struct slice text = text_of(call, item);
    buf_adds(out, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":");
    size_t end = item->logprob_end < a->n_logprobs ? item->logprob_end : a->n_logprobs;
    size_t start = item->logprob_start < end ? item->logprob_start : end;
    logprobs_write(call, a->logprobs + start, call->ask.wants_logprobs ? end - start : 0, out);
    buf_adds(out, ",\"text\":");
    buf_add_json(out, text.data, text.size);
    buf_addc(out, '}');
}

// The input of a custom tool: the one string among the arguments.
static void add_custom_input(const char *arguments, struct buf *out)
{
    struct json_doc *doc = NULL;
    struct slice text = slice_of(arguments);
    if (json_parse(&doc, arguments, strlen(arguments), "arguments", NULL) == 0) {
        const struct json_value *v = json_get(json_root(doc), "input");
        text = json_kind(v) == JSON_STRING ? json_string(v) : text;
    }
    buf_add_json(out, text.data ? text.data : "", text.size);
    json_free(doc);
}

static bool is_custom(const struct responses_item *item)
{
    return item->tool && item->tool->is_custom;
}

static void add_call(const struct responses_item *item, bool is_done, struct buf *out)
{
    const char *arguments = is_done && item->call->arguments ? item->call->arguments : "";
    buf_addf(out, ",\"call_id\":\"%s\",\"name\":", item->call->id);
    if (item->tool) {
        buf_add_json(out, item->tool->name.data, item->tool->name.size);
    } else {
        add_string(out, item->call->name ? item->call->name : "");
    }
    if (item->tool && item->tool->space.size > 0) {
        buf_adds(out, ",\"namespace\":");
        buf_add_json(out, item->tool->space.data, item->tool->space.size);
    }
    if (!is_custom(item)) {
        buf_adds(out, ",\"arguments\":");
        add_string(out, arguments);
    } else if (is_done) {
        buf_adds(out, ",\"input\":");
        add_custom_input(arguments, out);
    } else {
        buf_adds(out, ",\"input\":\"\"");
    }
}

static bool is_cut(const struct call *call)
{
    enum carat_stop stop = call->answers[0].stop;
    return stop == CARAT_STOP_LENGTH || stop == CARAT_STOP_LOOP || stop == CARAT_STOP_USER;
}

static const char *const item_types[] = {"reasoning", "message", "function_call"};

static void add_item(const struct call *call, const struct responses *r,
                     const struct responses_item *item, bool is_done, struct buf *out)
{
    const char *status = !is_done                      ? "in_progress"
                         : is_cut(call) && !item->next ? "incomplete"
                                                       : "completed";
    buf_addf(out, "{\"id\":\"%s\",\"type\":\"%s\",\"status\":\"%s\"", item->id,
             is_custom(item) ? "custom_tool_call" : item_types[item->type], status);
    if (item->type == RESPONSES_REASONING) {
        add_reasoning(call, r, item, is_done, out);
    } else if (item->type == RESPONSES_CALL) {
        add_call(item, is_done, out);
    } else {
        buf_adds(out, ",\"role\":\"assistant\",\"content\":[");
        if (is_done) {
            add_output_text(call, item, out);
        }
        buf_addc(out, ']');
    }
    buf_addc(out, '}');
}

static void add_items(const struct call *call, const struct responses *r, struct buf *out)
{
    for (const struct responses_item *item = r->first; item; item = item->next) {
        buf_adds(out, item == r->first ? "" : ",");
        add_item(call, r, item, true, out);
    }
}

// NULL without memory: the item is left out then.
static struct responses_item *new_item(struct call *call, struct responses *r,
                                       enum responses_item_type type)
{
    static const char *const prefixes[] = {"rs", "msg", "fc"};
    struct responses_item *item = call_take(call, sizeof(*item), NULL);
    if (!item) {
        return NULL;
    }
    item->type = type;
    item->index = r->n_items++;
    snprintf(item->id, sizeof(item->id), "%s_%s_%zu", prefixes[type], call->id, item->index);
    *(r->last ? &r->last->next : &r->first) = item;
    r->last = item;
    return item;
}

// ------------------------------------------------------------------------------ the response

// A member of the request as it came, else what stands for it.
static void echo(const struct responses *r, const char *key, const char *otherwise, struct buf *out)
{
    const struct json_value *v = json_get(r->root, key);
    buf_addf(out, ",\"%s\":", key);
    if (json_kind(v) == JSON_ABSENT || json_kind(v) == JSON_NULL) {
        buf_adds(out, otherwise);
    } else {
        json_write(v, out);
    }
}

static void echo_inside(const struct responses *r, const char *object, const char *key,
                        struct buf *out)
{
    const struct json_value *v = json_get(json_get(r->root, object), key);
    buf_addf(out, "\"%s\":", key);
    if (v) {
        json_write(v, out);
    } else {
        buf_adds(out, "null");
    }
}

static void add_usage(const struct usage *u, struct buf *out)
{
    buf_addf(out,
             "{\"input_tokens\":%zu,\"input_tokens_details\":{\"cached_tokens\":%zu,"
             "\"cache_write_tokens\":0},\"output_tokens\":%zu,\"output_tokens_details\":"
             "{\"reasoning_tokens\":%zu},\"total_tokens\":%zu}",
             u->prompt_tokens, u->cached_tokens, u->answer_tokens, u->thought_tokens,
             u->prompt_tokens + u->answer_tokens);
}

static const char *final_status(const struct call *call)
{
    return is_cut(call) ? "incomplete" : "completed";
}

static void add_reason(const struct call *call, const char *status, struct buf *out)
{
    enum carat_stop stop = call->answers ? call->answers[0].stop : CARAT_STOP_NONE;
    buf_adds(out, ",\"incomplete_details\":");
    if (strcmp(status, "incomplete") != 0) {
        buf_adds(out, "null");
    } else {
        // The API knows no other reason that fits: ours stands beside it.
        buf_addf(out, "{\"reason\":\"max_output_tokens\"%s}",
                 stop == CARAT_STOP_LOOP   ? ",\"carat_finish\":\"loop\""
                 : stop == CARAT_STOP_USER ? ",\"carat_finish\":\"time\""
                                           : "");
    }
}

static void add_echoes(const struct call *call, const struct responses *r, struct buf *out)
{
    const struct carat_sampling *s = &call->ask.sampling;
    echo(r, "instructions", "null", out);
    echo(r, "max_output_tokens", "null", out);
    echo(r, "max_tool_calls", "null", out);
    echo(r, "metadata", "{}", out);
    echo(r, "parallel_tool_calls", "true", out);
    echo(r, "previous_response_id", "null", out);
    echo(r, "prompt_cache_key", "null", out);
    echo(r, "safety_identifier", "null", out);
    echo(r, "tool_choice", "\"auto\"", out);
    echo(r, "tools", "[]", out);
    echo(r, "top_logprobs", "0", out);
    echo(r, "user", "null", out);
    buf_adds(out, ",\"reasoning\":{");
    echo_inside(r, "reasoning", "effort", out);
    buf_addc(out, ',');
    echo_inside(r, "reasoning", "summary", out);
    buf_addc(out, '}');
    buf_addf(out,
             ",\"background\":false,\"service_tier\":\"default\",\"store\":%s,"
             "\"temperature\":%g,\"top_p\":%g,\"truncation\":\"disabled\"",
             r->is_kept ? "true" : "false", (double)s->temperature, (double)s->top_p);
    echo(r, "text", "{\"format\":{\"type\":\"text\"}}", out);
}

// error: of a failed response, with its code; else NULL.
static void add_response(const struct call *call, const struct responses *r, const char *status,
                         const struct carat_error *error, struct buf *out)
{
    bool is_over = strcmp(status, "in_progress") != 0;
    buf_addf(out, "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\"",
             r->id, (long long)call->created, status);
    buf_adds(out, ",\"model\":");
    add_string(out, call->model);
    if (is_over) {
        buf_addf(out, ",\"completed_at\":%lld", (long long)call_now());
    } else {
        buf_adds(out, ",\"completed_at\":null");
    }
    buf_adds(out, ",\"error\":");
    if (error) {
        buf_addf(out, "{\"code\":\"%s\",\"message\":",
                 error->status == CARAT_E_FULL && strstr(error->text, "context")
                     ? "context_length_exceeded"
                     : "server_error");
        add_string(out, error->text);
        buf_addc(out, '}');
    } else {
        buf_adds(out, "null");
    }
    add_reason(call, status, out);
    buf_adds(out, ",\"output\":[");
    if (is_over && call->answers) {
        add_items(call, r, out);
    }
    buf_addc(out, ']');
    add_echoes(call, r, out);
    buf_adds(out, ",\"usage\":");
    if (is_over && !error) {
        add_usage(&call->usage, out);
    } else {
        buf_adds(out, "null");
    }
    buf_addc(out, '}');
}

// Keeps the answer for those who refer to it. response: as it was sent.
static void keep(const struct call *call, const struct responses *r, struct slice response)
{
    struct stored *stored = call->server->stored;
    if (!r->is_kept || !stored) {
        return;
    }
    struct buf output = {0};
    add_items(call, r, &output);
    if (!output.has_failed) {
        const struct stored_answer answer = {
            .id = r->id,
            .previous = r->previous,
            .response = response,
            .input = slice_of(r->input),
            .output = slice_make(output.data, output.size),
        };
        stored_put(stored, &answer);
    }
    buf_release(&output);
}

// The finished response, into out and into the table.
static void finish(const struct call *call, const struct responses *r, struct buf *out)
{
    size_t start = out->size;
    add_response(call, r, final_status(call), NULL, out);
    if (!out->has_failed) {
        keep(call, r, slice_make(out->data + start, out->size - start));
    }
}

void responses_answer(struct call *call, struct buf *out)
{
    struct responses *r = call->state;
    const struct answer *a = &call->answers[0];
    struct responses_item *item =
        a->thought.size > 0 ? new_item(call, r, RESPONSES_REASONING) : NULL;
    if (item) {
        item->end = a->thought.size;
    }
    item = a->text.size > 0 ? new_item(call, r, RESPONSES_MESSAGE) : NULL;
    if (item) {
        item->end = a->text.size;
        item->logprob_end = a->n_logprobs;
    }
    for (size_t i = 0; i < a->n_calls; i++) {
        item = new_item(call, r, RESPONSES_CALL);
        if (item) {
            item->call = &a->calls[i];
            item->tool = responses_tool_of(r, item->call->name);
        }
    }
    finish(call, r, out);
}

// ------------------------------------------------------------------------------ events

// "event: TYPE", and the members that all events have; close_event ends it.
static void open_event(struct responses *r, const char *type, struct buf *out)
{
    sse_begin(out, type);
    buf_addf(out, "{\"type\":\"%s\",\"sequence_number\":%zu", type, r->sequence++);
}

static void close_event(struct buf *out)
{
    buf_addc(out, '}');
    sse_end(out);
}

static void open_item_event(struct responses *r, const char *type,
                            const struct responses_item *item, struct buf *out)
{
    open_event(r, type, out);
    buf_addf(out, ",\"item_id\":\"%s\",\"output_index\":%zu", item->id, item->index);
}

static void add_item_event(struct call *call, struct responses *r,
                           const struct responses_item *item, bool is_done, struct buf *out)
{
    open_event(r, is_done ? "response.output_item.done" : "response.output_item.added", out);
    buf_addf(out, ",\"output_index\":%zu,\"item\":", item->index);
    add_item(call, r, item, is_done, out);
    close_event(out);
}

// A part of a message or of a thought begins or ends.
static void add_part_event(struct call *call, struct responses *r,
                           const struct responses_item *item, bool is_done, struct buf *out)
{
    bool is_summary = item->type == RESPONSES_REASONING && r->has_summary;
    struct slice none = {0};
    if (is_summary) {
        open_item_event(r,
                        is_done ? "response.reasoning_summary_part.done"
                                : "response.reasoning_summary_part.added",
                        item, out);
    } else {
        open_item_event(r, is_done ? "response.content_part.done" : "response.content_part.added",
                        item, out);
    }
    buf_addf(out, ",\"%s\":0,\"part\":", is_summary ? "summary_index" : "content_index");
    if (item->type == RESPONSES_REASONING) {
        add_text_part(is_summary ? "summary_text" : "reasoning_text",
                      is_done ? thought_of(call, item) : none, out);
    } else if (is_done) {
        add_output_text(call, item, out);
    } else {
        buf_adds(out,
                 "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"\"}");
    }
    close_event(out);
}

// The whole text of an item, when it ends.
static void add_text_done(struct call *call, struct responses *r, const struct responses_item *item,
                          struct buf *out)
{
    bool is_thought = item->type == RESPONSES_REASONING;
    struct slice text = is_thought ? thought_of(call, item) : text_of(call, item);
    open_item_event(r,
                    !is_thought      ? "response.output_text.done"
                    : r->has_summary ? "response.reasoning_summary_text.done"
                                     : "response.reasoning_text.done",
                    item, out);
    buf_addf(out, ",\"%s\":0,\"text\":",
             is_thought && r->has_summary ? "summary_index" : "content_index");
    buf_add_json(out, text.data ? text.data : "", text.size);
    if (!is_thought) {
        buf_adds(out, ",\"logprobs\":[]");
    }
    close_event(out);
}

static void add_arguments_done(struct responses *r, const struct responses_item *item,
                               struct buf *out)
{
    const char *arguments = item->call->arguments ? item->call->arguments : "";
    open_item_event(r,
                    is_custom(item) ? "response.custom_tool_call_input.done"
                                    : "response.function_call_arguments.done",
                    item, out);
    if (is_custom(item)) {
        buf_adds(out, ",\"input\":");
        add_custom_input(arguments, out);
    } else {
        buf_adds(out, ",\"name\":");
        add_string(out, item->call->name ? item->call->name : "");
        buf_adds(out, ",\"arguments\":");
        add_string(out, arguments);
    }
    close_event(out);
}

static void close_item(struct call *call, struct responses *r, struct buf *out)
{
    const struct responses_item *item = r->open;
    r->open = NULL;
    if (!item) {
        return;
    }
    if (item->type == RESPONSES_CALL) {
        add_arguments_done(r, item, out);
    } else {
        add_text_done(call, r, item, out);
        add_part_event(call, r, item, true, out);
    }
    add_item_event(call, r, item, true, out);
}

// The open item when it is of that type, else a new one; NULL without memory.
static struct responses_item *item_for(struct call *call, struct responses *r,
                                       enum responses_item_type type, struct buf *out)
{
    if (r->open && r->open->type == type) {
        return r->open;
    }
    close_item(call, r, out);
    struct responses_item *item = new_item(call, r, type);
    if (item) {
        item->start = type == RESPONSES_REASONING ? r->thought_size : r->text_size;
        item->end = item->start;
        item->logprob_start = r->n_logprobs;
        item->logprob_end = r->n_logprobs;
        r->open = item;
        add_item_event(call, r, item, false, out);
        add_part_event(call, r, item, false, out);
    }
    return item;
}

static void on_text(struct call *call, struct responses *r, const struct call_event *e,
                    struct buf *out)
{
    const struct carat_event *event = e->event;
    bool is_thought = event->type == CARAT_EVENT_THOUGHT;
    if (event->size == 0 && e->n_logprobs == 0) {
        return;
    }
    struct responses_item *item =
        item_for(call, r, is_thought ? RESPONSES_REASONING : RESPONSES_MESSAGE, out);
    size_t *at = is_thought ? &r->thought_size : &r->text_size;
    *at += event->size;
    r->n_logprobs += e->n_logprobs;
    if (!item) {
        return;
    }
    item->end = *at;
    item->logprob_end = r->n_logprobs;
    open_item_event(r,
                    !is_thought      ? "response.output_text.delta"
                    : r->has_summary ? "response.reasoning_summary_text.delta"
                                     : "response.reasoning_text.delta",
                    item, out);
    buf_addf(out, ",\"%s\":0,\"delta\":",
             is_thought && r->has_summary ? "summary_index" : "content_index");
    buf_add_json(out, event->text, event->size);
    if (!is_thought) {
        buf_adds(out, ",\"logprobs\":");
        logprobs_write(call, e->logprobs, call->ask.wants_logprobs ? e->n_logprobs : 0, out);
    }
    close_event(out);
}

static void on_call(struct call *call, struct responses *r, const struct call_event *e,
                    struct buf *out)
{
    close_item(call, r, out);
    struct responses_item *item = e->tool_call ? new_item(call, r, RESPONSES_CALL) : NULL;
    if (item) {
        item->call = e->tool_call;
        item->tool = responses_tool_of(r, e->event->text);
        r->open = item;
        add_item_event(call, r, item, false, out);
    }
}

static void on_arguments(struct responses *r, const struct call_event *e, struct buf *out)
{
    const struct responses_item *item = r->open;
    if (!item || item->type != RESPONSES_CALL || is_custom(item)) {
        return; // of a custom tool the input comes in one piece, when it is known
    }
    open_item_event(r, "response.function_call_arguments.delta", item, out);
    buf_adds(out, ",\"delta\":");
    buf_add_json(out, e->event->text, e->event->size);
    close_event(out);
}

static void on_call_end(struct call *call, struct responses *r, const struct call_event *e,
                        struct buf *out)
{
    struct responses_item *item = r->open;
    if (!item || item->type != RESPONSES_CALL) {
        return;
    }
    item->call = e->tool_call ? e->tool_call : item->call;
    if (is_custom(item)) {
        open_item_event(r, "response.custom_tool_call_input.delta", item, out);
        buf_adds(out, ",\"delta\":");
        add_custom_input(item->call->arguments ? item->call->arguments : "", out);
        close_event(out);
    }
    close_item(call, r, out);
}

static void add_response_event(struct call *call, struct responses *r, const char *type,
                               const char *status, const struct carat_error *error, struct buf *out)
{
    open_event(r, type, out);
    buf_adds(out, ",\"response\":");
    add_response(call, r, status, error, out);
    close_event(out);
}

void responses_begin(struct call *call, struct buf *out)
{
    struct responses *r = call->state;
    add_response_event(call, r, "response.created", "in_progress", NULL, out);
    add_response_event(call, r, "response.in_progress", "in_progress", NULL, out);
}

void responses_event(struct call *call, const struct call_event *e, struct buf *out)
{
    struct responses *r = call->state;
    switch (e->event->type) {
    case CARAT_EVENT_TEXT:
    case CARAT_EVENT_THOUGHT:
        on_text(call, r, e, out);
        break;
    case CARAT_EVENT_CALL:
        on_call(call, r, e, out);
        break;
    case CARAT_EVENT_CALL_ARGS:
        on_arguments(r, e, out);
        break;
    case CARAT_EVENT_CALL_END:
        on_call_end(call, r, e, out);
        break;
    case CARAT_EVENT_STOP:
        break;
    }
}

void responses_end_choice(struct call *call, size_t choice, struct buf *out)
{
    (void)choice;
    close_item(call, call->state, out);
}

void responses_end(struct call *call, struct buf *out)
{
    struct responses *r = call->state;
    open_event(r, is_cut(call) ? "response.incomplete" : "response.completed", out);
    buf_adds(out, ",\"response\":");
    finish(call, r, out);
    close_event(out);
}

// ------------------------------------------------------------------------------ errors

void responses_error(int status, const struct carat_error *error, bool in_stream, struct buf *out)
{
    static const char previous[] = "previous_response_id: ";
    static const size_t size = sizeof(previous) - 1;
    if (in_stream) { // before there is a response that could fail
        sse_begin(out, "error");
        buf_adds(out, "{\"type\":\"error\",\"code\":\"server_error\",\"message\":");
        add_string(out, error->text);
        buf_adds(out, ",\"param\":null,\"sequence_number\":0}");
        sse_end(out);
    } else if (strncmp(error->text, previous, size) == 0 && strstr(error->text, "not found")) {
        buf_adds(out, "{\"error\":{\"message\":");
        add_string(out, error->text + size);
        buf_adds(out, ",\"type\":\"invalid_request_error\",\"param\":\"previous_response_id\","
                      "\"code\":\"previous_response_not_found\"}}");
    } else {
        openai_error(status, error, false, out);
    }
}

void responses_stream_error(struct call *call, int status, const struct carat_error *error,
                            struct buf *out)
{
    struct responses *r = call->state;
    (void)status;
    add_response_event(call, r, "response.failed", "failed", error, out);
}
