// SPDX-License-Identifier: Apache-2.0
// OpenAI's Responses: the options of a request, and what is answered about stored answers.
// docs/api-responses.md says what is honoured, ignored and refused.
#include "server/api_responses.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "server/content.h"
#include "server/fields.h"
#include "server/note.h"
#include "server/openai.h"
#include "server/responses.h"
#include "server/server.h"

#define LIST_DEFAULT 20
#define LIST_MAX     100

// ------------------------------------------------------------------------------ parse

// What would change the answer if it were passed over.
static int refuse(const struct json_value *root, struct carat_error *err)
{
    static const struct {
        const char *key, *why;
    } rows[] = {
        {"background", "answers are not made in the background: leave it out, or stream"},
        {"conversation", "conversations are not kept by name: use previous_response_id"},
        {"prompt", "prompts are not kept by name: send instructions and input"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct json_value *v = json_get(root, rows[i].key);
        if (field_is_given(v) && !(json_kind(v) == JSON_BOOL && !json_bool(v))) {
            return fail(err, CARAT_E_UNSUPPORTED, "%s: %s", rows[i].key, rows[i].why);
        }
    }
    return 0;
}

// include: more to be in the answer.
static int read_include(struct call *call, struct responses *r, struct carat_error *err)
{
    for (struct json_iter it = json_iter(json_get(r->root, "include")); json_next(&it);) {
        struct slice what = json_string(it.value);
        if (slice_is(what, "reasoning.encrypted_content")) {
            r->has_encrypted = true;
        } else if (slice_is(what, "message.output_text.logprobs")) {
            call->ask.wants_logprobs = true;
        } else {
            ask_note(call, "include '%.*s' ignored",
                     (int)(what.size < FIELDS_SHOWN ? what.size : FIELDS_SHOWN),
                     what.data ? what.data : "");
        }
    }
    size_t n_top = 0;
    int rc = ask_size(r->root, "top_logprobs", 0, OPENAI_TOP_LOGPROBS_MAX, &n_top, err);
    call->ask.wants_logprobs = call->ask.wants_logprobs || n_top > 0;
    call->ask.sampling.n_top = n_top;
    return rc;
}

// Thinking is on when an effort asks for it, or when its summary is wanted.
static int read_reasoning(struct call *call, struct responses *r, struct carat_error *err)
{
    const struct json_value *v = json_get(r->root, "reasoning");
    if (field_is_given(v) && json_kind(v) != JSON_OBJECT) {
        return field_refuse("reasoning", "an object", v, err);
    }
    struct slice summary = {0};
    int rc = ask_string(v, "summary", &summary, err);
    rc = rc ? rc : ask_string(v, "generate_summary", &summary, err);
    rc = openai_in(rc, err, "reasoning");
    r->has_summary = summary.size > 0 && !slice_is(summary, "none");
    if (r->has_summary && !field_is_given(json_get(v, "effort"))) {
        call->ask.chat.thinks = true;
    }
    return rc ? rc : openai_read_reasoning(call, r->root, err);
}

// text.format
static int read_format(struct call *call, struct responses *r, struct carat_error *err)
{
    const struct json_value *text = json_get(r->root, "text");
    const struct json_value *format = json_get(text, "format");
    if (field_is_given(text) && json_kind(text) != JSON_OBJECT) {
        return field_refuse("text", "an object", text, err);
    }
    if (!field_is_given(format)) {
        return 0;
    }
    struct slice type = json_string(json_get(format, "type"));
    if (slice_is(type, "text")) {
        return 0;
    }
    if (slice_is(type, "json_schema")) {
        // As Chat Completions nests it, too.
        const struct json_value *named = json_get(format, "json_schema");
        const struct json_value *schema = json_get(named ? named : format, "schema");
        if (json_kind(schema) != JSON_OBJECT) {
            return field_refuse("text.format.schema", "a JSON Schema object", schema, err);
        }
        return openai_in(field_schema(call, schema, err), err, "text.format.schema");
    }
    if (slice_is(type, "json_object")) {
        call->ask.grammar.json_schema = "{\"type\":\"object\"}";
        call->ask.has_grammar = true;
        return 0;
    }
    return fail(err, CARAT_E_ARGUMENT,
                "text.format.type: expected text, json_schema or json_object, found '%.*s'",
                (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN),
                type.data ? type.data : "");
}

static void note_ignored(struct call *call, const struct responses *r)
{
    static const char *const keys[] = {"max_tool_calls", "context_management", "moderation"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (field_is_given(json_get(r->root, keys[i]))) {
            ask_note(call, "%s ignored", keys[i]);
        }
    }
    if (slice_is(json_string(json_get(r->root, "truncation")), "auto")) {
        ask_note(call, "truncation auto ignored");
    }
}

static int parse_as(struct call *call, enum ask_kind kind, struct carat_error *err)
{
    struct responses *r = call_take(call, sizeof(*r), err);
    if (!r) {
        return CARAT_E_MEMORY;
    }
    call->state = r;
    call->ask.kind = kind;
    r->is_kept = true;
    memcpy(r->id, "resp_", 5);
    memcpy(r->id + 5, call->id, strlen(call->id) + 1);
    int rc = call_parse_body(call, &r->root, err);
    rc = rc ? rc : refuse(r->root, err);
    rc = rc ? rc : openai_read_common(call, r->root, err);
    call->ask.n_choices = 1;
    rc = rc ? rc : openai_read_limit(r->root, "max_output_tokens", &call->ask.tokens_max, err);
    rc = rc ? rc : ask_bool(r->root, "store", &r->is_kept, err);
    rc = rc ? rc : read_include(call, r, err);
    rc = rc ? rc : read_reasoning(call, r, err);
    rc = rc ? rc : read_format(call, r, err);
    rc = rc ? rc : responses_read_tools(call, r, err);
    if (rc) {
        return rc;
    }
    note_ignored(call, r);
    // Last: media are decoded here, which costs most.
    return responses_read_input(call, r, err);
}

static int parse(struct call *call, struct carat_error *err)
{
    return parse_as(call, ASK_CHAT, err);
}

// How long the prompt of such a request is; nothing is made or kept.
static int parse_count(struct call *call, struct carat_error *err)
{
    int rc = parse_as(call, ASK_COUNT, err);
    call->ask.streams = false;
    return rc;
}

static void answer_count(struct call *call, struct buf *out)
{
    buf_addf(out, "{\"object\":\"response.input_tokens\",\"input_tokens\":%zu}",
             call->usage.prompt_tokens);
}

const struct dialect dialect_openai_responses = {
    .name = "openai-responses",
    .stream_content_type = "text/event-stream",
    .parse = parse,
    .answer = responses_answer,
    .begin = responses_begin,
    .event = responses_event,
    .end_choice = responses_end_choice,
    .end = responses_end,
    .error = responses_error,
    .stream_error = responses_stream_error,
};

const struct dialect dialect_openai_responses_count = {
    .name = "openai-responses-count",
    .stream_content_type = "text/event-stream",
    .parse = parse_count,
    .answer = answer_count,
    .begin = responses_begin,
    .event = responses_event,
    .end_choice = responses_end_choice,
    .end = responses_end,
    .error = responses_error,
};

// ------------------------------------------------------------------------------ stored answers

static void reply(struct http_reply *reply, int status, struct buf *out)
{
    if (out->has_failed) {
        static const char text[] = "{\"error\":{\"message\":\"no memory for the answer\"}}";
        http_reply_all(reply, 503, "application/json", NULL, text, sizeof(text) - 1);
    } else {
        http_reply_all(reply, status, "application/json", NULL, buf_text(out), out->size);
    }
    buf_release(out);
}

static void reply_error(struct http_reply *to, int status, const char *before, struct slice id,
                        const char *after)
{
    struct buf out = {0};
    struct carat_error error = {0};
    fail(&error, CARAT_E_ARGUMENT, "%s%.*s%s", before,
         (int)(id.size < STORED_ID_SIZE ? id.size : STORED_ID_SIZE), id.data, after);
    openai_error(status, &error, false, &out);
    reply(to, status, &out);
}

static void reply_unknown(struct http_reply *to, struct slice id)
{
    reply_error(to, 404, "Response with id '", id, "' not found.");
}

// "/v1/responses/ID[/rest]"
static struct slice id_of(const struct http_request *request, struct slice *rest)
{
    static const char folder[] = "/responses/";
    const char *at = strstr(request->path, folder);
    at = at ? at + sizeof(folder) - 1 : request->path;
    size_t size = strcspn(at, "/");
    *rest = slice_of(at + size + (at[size] == '/'));
    return slice_make(at, size);
}

static size_t list_limit(const struct http_request *request)
{
    const char *text = http_query(request, "limit");
    long n = text ? strtol(text, NULL, 10) : LIST_DEFAULT;
    return n < 1 ? 1 : n > LIST_MAX ? LIST_MAX : (size_t)n;
}

// A page of the items: {"object":"list","data":[...],"first_id","last_id","has_more"}.
struct page {
    const struct json_value **items;
    size_t n;
    bool has_more;
};

static void write_page(const struct page *page, struct buf *out)
{
    buf_adds(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < page->n; i++) {
        buf_adds(out, i > 0 ? "," : "");
        json_write(page->items[i], out);
    }
    buf_adds(out, "]");
    static const char *const names[] = {"first_id", "last_id"};
    for (size_t i = 0; i < 2; i++) {
        buf_addf(out, ",\"%s\":", names[i]);
        const struct json_value *item = page->n > 0 ? page->items[i == 0 ? 0 : page->n - 1] : NULL;
        const struct json_value *id = json_get(item, "id");
        if (id) {
            json_write(id, out);
        } else {
            buf_adds(out, "null");
        }
    }
    buf_addf(out, ",\"has_more\":%s}", page->has_more ? "true" : "false");
}

static void list_items(const struct json_value *list, const struct http_request *request,
                       struct buf *out)
{
    size_t n = json_count(list), n_all = 0;
    size_t limit = list_limit(request);
    const char *order = http_query(request, "order");
    const char *after = http_query(request, "after");
    bool rises = order && strcmp(order, "asc") == 0;
    const struct json_value **all = mem_new_array(n + 1, sizeof(*all), NULL);
    if (!all) {
        out->has_failed = true;
        return;
    }
    for (struct json_iter it = json_iter(list); json_next(&it) && n_all < n; n_all++) {
        all[rises ? n_all : n - 1 - n_all] = it.value;
    }
    size_t start = 0;
    for (size_t i = 0; after && i < n; i++) {
        start = slice_is(json_string(json_get(all[i], "id")), after) ? i + 1 : start;
    }
    size_t left = n - start;
    const struct page page = {all + start, left < limit ? left : limit, left > limit};
    write_page(&page, out);
    mem_free(all);
}

static void get_items(struct server *server, struct slice id, struct http_request *request,
                      struct http_reply *to)
{
    struct buf text = {0}, out = {0};
    struct json_doc *doc = NULL;
    if (!stored_get(server->stored, id, STORED_INPUT, &text)) {
        buf_release(&text);
        reply_unknown(to, id);
        return;
    }
    if (text.has_failed || json_parse(&doc, text.data, text.size, "stored input", NULL)) {
        out.has_failed = true;
    } else {
        list_items(json_root(doc), request, &out);
    }
    json_free(doc);
    buf_release(&text);
    reply(to, 200, &out);
}

void responses_get(struct server *server, struct http_request *request, struct http_reply *to)
{
    struct slice rest;
    struct slice id = id_of(request, &rest);
    struct buf out = {0};
    const char *stream = http_query(request, "stream");
    if (slice_is(rest, "input_items")) {
        get_items(server, id, request, to);
    } else if (rest.size > 0) {
        reply_error(to, 404, "A response has no '", rest, "'.");
    } else if (!stored_get(server->stored, id, STORED_RESPONSE, &out)) {
        reply_unknown(to, id);
    } else if (stream && strcmp(stream, "true") == 0) {
        buf_release(&out);
        reply_error(to, 400, "stream: '", id, "' is over: only its result can be read");
    } else {
        reply(to, 200, &out);
    }
}

void responses_delete(struct server *server, struct http_request *request, struct http_reply *to)
{
    struct slice rest;
    struct slice id = id_of(request, &rest);
    if (rest.size > 0 || !stored_delete(server->stored, id)) {
        reply_unknown(to, id);
        return;
    }
    struct buf out = {0};
    buf_adds(&out, "{\"id\":");
    buf_add_json(&out, id.data, id.size);
    buf_adds(&out, ",\"object\":\"response\",\"deleted\":true}");
    reply(to, 200, &out);
}

void responses_post(struct server *server, struct http_request *request, struct http_reply *to)
{
    struct slice rest;
    struct slice id = id_of(request, &rest);
    struct buf out = {0};
    if (!slice_is(rest, "cancel")) {
        reply_error(to, 404, "Nothing can be sent to '", rest, "' of a response.");
    } else if (!stored_get(server->stored, id, STORED_RESPONSE, &out)) {
        reply_unknown(to, id);
    } else {
        buf_release(&out);
        reply_error(to, 400, "'", id,
                    "' is over: only answers made in the background can be cancelled");
    }
}
