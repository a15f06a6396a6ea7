// SPDX-License-Identifier: Apache-2.0
// Gemini's contents and parts to a conversation.
#include "server/api_gemini.h"

#include <string.h>

#include "base/error.h"
#include "server/content.h"
#include "server/fields.h"
#include "server/idless.h"
#include "server/note.h"

struct reader {
    struct content content;
    struct idless calls;
    bool has_calls; // the open message has calls of its own
};

const char *gemini_key(const struct json_value *object, const char *camel, char snake[64])
{
    size_t n = 0;
    for (const char *c = camel; *c && n + 3 < 64; c++) {
        if (*c >= 'A' && *c <= 'Z') {
            snake[n++] = '_';
            snake[n++] = (char)(*c + 32);
        } else {
            snake[n++] = *c;
        }
    }
    snake[n] = '\0';
    bool has_snake = !json_get(object, camel) && json_get(object, snake);
    return has_snake ? snake : camel;
}

const struct json_value *gemini_get(const struct json_value *object, const char *camel)
{
    char snake[64];
    return json_get(object, gemini_key(object, camel, snake));
}

// ---------------------------------------------------------------------------------- parts

static int read_string(const struct json_value *object, const char *camel, struct slice *out,
                       struct carat_error *err)
{
    char snake[64];
    return ask_string(object, gemini_key(object, camel, snake), out, err);
}

static uint32_t image_tokens(const struct reader *r)
{
    return ((const struct gemini *)r->content.call->state)->image_tokens;
}

static int read_inline_data(struct reader *r, const struct json_value *blob,
                            struct carat_error *err)
{
    struct slice data, mime = {0}, name = {0};
    int rc = field_string(blob, "data", &data, err);
    rc = rc ? rc : read_string(blob, "mimeType", &mime, err);
    rc = rc ? rc : read_string(blob, "displayName", &name, err);
    rc = rc ? rc
            : content_at(content_file_base64(&r->content, data, mime, name, image_tokens(r), err),
                         err, "data");
    return field_in(rc, err, "inlineData");
}

static int read_file_data(struct reader *r, const struct json_value *file, struct carat_error *err)
{
    struct slice uri = {0}, mime = {0}, none = {0};
    int rc = read_string(file, "fileUri", &uri, err);
    if (!rc && !uri.size) {
        rc = fail(err, CARAT_E_ARGUMENT, "fileUri: expected an address, found none");
    }
    rc = rc ? rc : read_string(file, "mimeType", &mime, err);
    rc = rc ? rc
            : content_at(content_file_url(&r->content, uri, mime, none, image_tokens(r), err), err,
                         "fileUri");
    return field_in(rc, err, "fileData");
}

static int read_call(struct reader *r, const struct json_value *v, struct carat_error *err)
{
    struct slice id = {0}, name;
    int rc = ask_string(v, "id", &id, err);
    rc = rc ? rc : field_string(v, "name", &name, err);
    if (!rc && !r->has_calls) {
        idless_begin(&r->calls);
        r->has_calls = true;
    }
    rc = rc ? rc : idless_call(&r->calls, &r->content, id, name, json_get(v, "args"), err);
    return field_in(rc, err, "functionCall");
}

// Media of a result come behind it, which is then a text: a value stands alone.
static int read_result_parts(struct reader *r, const struct json_value *response,
                             const struct json_value *parts, struct carat_error *err)
{
    const char *text = call_json(r->content.call, response, err);
    int rc = text ? content_text(&r->content, slice_of(text), err) : CARAT_E_MEMORY;
    for (struct json_iter it = json_iter(parts); !rc && json_next(&it);) {
        const struct json_value *blob = gemini_get(it.value, "inlineData");
        const struct json_value *file = gemini_get(it.value, "fileData");
        rc = blob   ? read_inline_data(r, blob, err)
             : file ? read_file_data(r, file, err)
                    : fail(err, CARAT_E_ARGUMENT, "parts: expected inlineData or fileData");
    }
    return rc;
}

// Each result is a message of its own.
static int read_response(struct reader *r, const struct json_value *v, struct carat_error *err)
{
    struct slice id = {0}, name = {0};
    const struct json_value *response = json_get(v, "response");
    const struct json_value *parts = json_get(v, "parts");
    int rc = ask_string(v, "id", &id, err);
    rc = rc ? rc : ask_string(v, "name", &name, err);
    rc = rc ? rc : content_begin(&r->content, slice_of("tool"), err);
    rc = rc ? rc : idless_answers(&r->calls, &r->content, id, name, err);
    if (!rc && json_count(parts)) {
        rc = read_result_parts(r, response, parts, err);
    } else if (!rc && response) {
        rc = content_result(&r->content, response, err);
    } else if (!rc) {
        rc = content_text(&r->content, slice_of(""), err);
    }
    return field_in(rc, err, "functionResponse");
}

static int read_text(struct reader *r, const struct json_value *part, struct slice role,
                     struct carat_error *err)
{
    struct slice text = {0};
    int rc = ask_string(part, "text", &text, err);
    if (rc || !json_bool(json_get(part, "thought"))) {
        return rc ? rc : content_joined_text(&r->content, text, "\n", err);
    }
    return slice_is(role, "assistant") ? content_reasoning(&r->content, text, err) : 0;
}

static int read_part(struct reader *r, const struct json_value *part, struct slice role,
                     struct carat_error *err)
{
    static const char *const passed_over[] = {"executableCode", "codeExecutionResult", "toolCall",
                                              "toolResponse"};
    const struct json_value *v;
    if (json_kind(part) != JSON_OBJECT) {
        return fail(err, CARAT_E_ARGUMENT, "expected an object, found %s",
                    json_kind_name(json_kind(part)));
    }
    if (gemini_get(part, "videoMetadata")) {
        ask_note(r->content.call, "ignored videoMetadata");
    }
    if (field_is_given(json_get(part, "text"))) {
        return read_text(r, part, role, err);
    }
    if (field_is_given(v = gemini_get(part, "inlineData"))) {
        return read_inline_data(r, v, err);
    }
    if (field_is_given(v = gemini_get(part, "fileData"))) {
        return read_file_data(r, v, err);
    }
    if (field_is_given(v = gemini_get(part, "functionCall"))) {
        return read_call(r, v, err);
    }
    for (size_t i = 0; i < sizeof(passed_over) / sizeof(passed_over[0]); i++) {
        if (gemini_get(part, passed_over[i])) {
            ask_note(r->content.call, "ignored a part with %s", passed_over[i]);
            return 0;
        }
    }
    if (gemini_get(part, "thoughtSignature") || json_get(part, "thought") || !json_count(part)) {
        return 0;
    }
    return fail(err, CARAT_E_UNSUPPORTED,
                "a part: expected text, inlineData, fileData, functionCall or functionResponse");
}

// ---------------------------------------------------------------------------------- contents

static int read_role(const struct json_value *content, struct slice *role, struct carat_error *err)
{
    struct slice text = {0};
    int rc = ask_string(content, "role", &text, err);
    if (rc) {
        return rc;
    }
    if (slice_is(text, "model")) {
        *role = slice_of("assistant");
    } else if (!text.size || slice_is(text, "user") || slice_is(text, "function") ||
               slice_is(text, "tool")) {
        *role = slice_of("user");
    } else if (slice_is(text, "system")) {
        *role = text;
    } else {
        return fail(err, CARAT_E_ARGUMENT, "role: expected \"user\" or \"model\", found \"%.*s\"",
                    (int)(text.size < FIELDS_SHOWN ? text.size : FIELDS_SHOWN), text.data);
    }
    return 0;
}

// Results first: they belong to the calls before them.
static int read_responses(struct reader *r, const struct json_value *parts, size_t *n_others,
                          struct carat_error *err)
{
    size_t i = 0;
    for (struct json_iter it = json_iter(parts); json_next(&it); i++) {
        const struct json_value *v = gemini_get(it.value, "functionResponse");
        if (!field_is_given(v)) {
            ++*n_others;
            continue;
        }
        int rc = read_response(r, v, err);
        if (rc) {
            return field_in(rc, err, "parts[%zu]", i);
        }
    }
    return 0;
}

static int read_content(struct reader *r, const struct json_value *content, struct carat_error *err)
{
    struct slice role;
    size_t n_others = 0;
    const struct json_value *parts = json_get(content, "parts");
    int rc = read_role(content, &role, err);
    // One part may stand for a list of one, as in the API's own JSON mapping.
    bool is_single = json_kind(parts) == JSON_OBJECT;
    if (!rc && !is_single && json_kind(parts) != JSON_ARRAY) {
        rc = field_refuse("parts", "a list", parts, err);
    }
    size_t n_before = r->content.n;
    rc = rc || is_single ? rc : read_responses(r, parts, &n_others, err);
    if (rc || (r->content.n > n_before && !n_others)) {
        return rc;
    }
    r->has_calls = false;
    rc = content_begin(&r->content, role, err);
    if (rc || is_single) {
        return rc ? rc : read_part(r, parts, role, err);
    }
    content_is_list(&r->content);
    size_t i = 0;
    for (struct json_iter it = json_iter(parts); json_next(&it); i++) {
        rc = field_is_given(gemini_get(it.value, "functionResponse"))
                 ? 0
                 : read_part(r, it.value, role, err);
        if (rc) {
            return field_in(rc, err, "parts[%zu]", i);
        }
    }
    return 0;
}

int gemini_read_text(struct call *call, const struct json_value *content, struct slice *out,
                     struct carat_error *err)
{
    struct buf text = {0};
    const struct json_value *parts = json_get(content, "parts");
    bool is_list = json_kind(parts) == JSON_ARRAY;
    if (json_kind(content) == JSON_STRING) {
        buf_add_slice(&text, json_string(content));
    } else if (!is_list) {
        buf_add_slice(&text, json_string(json_get(parts, "text")));
    }
    int rc = 0;
    for (struct json_iter it = json_iter(is_list ? parts : NULL); !rc && json_next(&it);) {
        struct slice piece;
        rc = field_string(it.value, "text", &piece, err);
        buf_adds(&text, !rc && text.size && piece.size ? "\n" : "");
        buf_add_slice(&text, rc ? (struct slice){0} : piece);
    }
    rc = rc ? rc : buf_status(&text, err);
    const char *copy = rc ? NULL : call_text(call, slice_make(buf_text(&text), text.size), err);
    *out = slice_make(copy, text.size);
    buf_release(&text);
    return rc ? rc : copy ? 0 : CARAT_E_MEMORY;
}

static int read_system(struct reader *r, const struct json_value *v, struct carat_error *err)
{
    struct slice text;
    if (!field_is_given(v)) {
        return 0;
    }
    int rc = field_in(gemini_read_text(r->content.call, v, &text, err), err, "systemInstruction");
    if (rc || !text.size) {
        return rc;
    }
    rc = content_begin(&r->content, slice_of("system"), err);
    return rc ? rc : content_text(&r->content, text, err);
}

int gemini_read_contents(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct reader *r = call_take(call, sizeof(*r), err);
    const struct json_value *contents = json_get(root, "contents");
    if (!r) {
        return CARAT_E_MEMORY;
    }
    r->content.call = call;
    int rc = read_system(r, gemini_get(root, "systemInstruction"), err);
    if (!rc && json_kind(contents) == JSON_OBJECT) {
        rc = field_in(read_content(r, contents, err), err, "contents");
    } else if (!rc && (json_kind(contents) != JSON_ARRAY || !json_count(contents))) {
        rc = field_refuse("contents", "a list with at least one content", contents, err);
    }
    size_t i = 0;
    const struct json_value *list = json_kind(contents) == JSON_ARRAY ? contents : NULL;
    for (struct json_iter it = json_iter(list); !rc && json_next(&it); i++) {
        rc = field_in(read_content(r, it.value, err), err, "contents[%zu]", i);
    }
    rc = rc ? rc : content_finish(&r->content, err);
    struct carat_chat *chat = &call->ask.chat;
    const struct carat_message *last =
        !rc && chat->n_messages ? &chat->messages[chat->n_messages - 1] : NULL;
    chat->continues_final = last && strcmp(last->role, "assistant") == 0 && !last->n_calls;
    return rc;
}
