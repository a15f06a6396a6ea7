// SPDX-License-Identifier: Apache-2.0
// Messages of Chat Completions to a conversation. Content parts are taken in the forms of OpenAI's
// API and in those that other engines added for sound and film.
#include <string.h>

#include "base/error.h"
#include "server/content.h"
#include "server/fields.h"
#include "server/openai.h"

struct reader {
    struct content content;
    uint32_t image_tokens; // of pictures that do not say
};

static int expect_kind(const struct json_value *v, enum json_kind kind, const char *what,
                       struct carat_error *err)
{
    return json_kind(v) == kind ? 0
                                : fail(err, CARAT_E_ARGUMENT, "expected %s, found %s", what,
                                       json_kind_name(json_kind(v)));
}

// ------------------------------------------------------------------------------ parts

// detail: how much of a picture the model gets to see. Beside OpenAI's names, a number of tokens.
static int read_detail(const struct json_value *object, uint32_t *tokens, struct carat_error *err)
{
    static const struct {
        const char *name;
        uint32_t tokens;
    } rows[] = {
        {"auto", 0},  {"low", 70},  {"high", 1120}, {"original", 1120}, {"70", 70},
        {"140", 140}, {"280", 280}, {"560", 560},   {"1120", 1120},
    };
    const struct json_value *v = json_get(object, "detail");
    if (!field_is_given(v)) {
        return 0;
    }
    struct slice name = json_kind(v) == JSON_NUMBER ? json_number_text(v) : json_string(v);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_is(name, rows[i].name)) {
            // "auto" leaves it to what was said for the whole request.
            *tokens = rows[i].tokens > 0 ? rows[i].tokens : *tokens;
            return 0;
        }
    }
    return fail(err, CARAT_E_ARGUMENT,
                "detail: expected auto, low, high, original, 70, 140, 280, 560 or 1120, found "
                "'%.*s'",
                (int)(name.size < 40 ? name.size : 40), name.data ? name.data : "");
}

// A medium by its address: {"url": ...} or the address itself.
static int add_url(struct reader *r, enum carat_media_type type, const struct json_value *v,
                   struct carat_error *err)
{
    uint32_t tokens = r->image_tokens;
    struct slice url = json_string(v);
    if (json_kind(v) == JSON_OBJECT) {
        int rc = ask_string(v, "url", &url, err);
        rc = rc ? rc : read_detail(v, &tokens, err);
        if (rc) {
            return rc;
        }
    }
    if (url.size == 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "url: expected an address, data:TYPE;base64,..., found %s",
                    json_kind(v) == JSON_OBJECT ? "none" : json_kind_name(json_kind(v)));
    }
    return content_at(content_media_url(&r->content, type, url, tokens, err), err, "url");
}

// A medium whose bytes are there: {"data": Base64, "format": ...}; the format is seen from the
// bytes. Some clients put an address there.
static int add_data(struct reader *r, enum carat_media_type type, const struct json_value *v,
                    struct carat_error *err)
{
    struct slice data = {0};
    if (json_kind(v) != JSON_OBJECT || field_is_given(json_get(v, "url"))) {
        return add_url(r, type, v, err);
    }
    int rc = ask_string(v, "data", &data, err);
    if (rc) {
        return rc;
    }
    if (data.size == 0) {
        return fail(err, CARAT_E_ARGUMENT, "data: expected a file in Base64, found nothing");
    }
    rc = call_is_url(r->content.call, data)
             ? content_media_url(&r->content, type, data, r->image_tokens, err)
             : content_media_base64(&r->content, type, data, r->image_tokens, err);
    return content_at(rc, err, "data");
}

static int add_file(struct reader *r, const struct json_value *v, struct carat_error *err)
{
    struct slice data = {0};
    struct slice name = {0};
    int rc = ask_string(v, "file_data", &data, err);
    rc = rc ? rc : ask_string(v, "filename", &name, err);
    if (rc) {
        return rc;
    }
    if (data.size == 0) {
        return field_is_given(json_get(v, "file_id"))
                   ? fail(err, CARAT_E_UNSUPPORTED,
                          "file_id: files are not kept here: send the file itself, as file_data")
                   : fail(err, CARAT_E_ARGUMENT,
                          "file_data: expected data:TYPE;base64,..., found nothing");
    }
    struct slice none = {0};
    rc = call_is_url(r->content.call, data)
             ? content_file_url(&r->content, data, none, name, r->image_tokens, err)
             : content_file_base64(&r->content, data, none, name, r->image_tokens, err);
    return content_at(rc, err, "file_data");
}

static int add_part_text(struct reader *r, const struct json_value *part, const char *key,
                         struct carat_error *err)
{
    struct slice text = {0};
    const struct json_value *v = json_get(part, key);
    if (json_kind(v) != JSON_STRING) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a string, found %s", key,
                    json_kind_name(json_kind(v)));
    }
    text = json_string(v);
    return content_joined_text(&r->content, text, "\n", err);
}

static int add_part(struct reader *r, const struct json_value *part, struct carat_error *err)
{
    static const struct {
        const char *type;
        const char *key; // the member that holds it
        enum carat_media_type media;
        int (*add)(struct reader *, enum carat_media_type, const struct json_value *,
                   struct carat_error *);
    } rows[] = {
        {"image_url", "image_url", CARAT_MEDIA_IMAGE, add_url},
        {"input_audio", "input_audio", CARAT_MEDIA_AUDIO, add_data},
        {"audio_url", "audio_url", CARAT_MEDIA_AUDIO, add_url},
        {"video_url", "video_url", CARAT_MEDIA_VIDEO, add_url},
        {"input_video", "input_video", CARAT_MEDIA_VIDEO, add_data},
        {"image", "image", CARAT_MEDIA_IMAGE, add_data},
        {"audio", "audio", CARAT_MEDIA_AUDIO, add_data},
        {"video", "video", CARAT_MEDIA_VIDEO, add_data},
    };
    struct slice type = {0};
    int rc = expect_kind(part, JSON_OBJECT, "an object", err);
    rc = rc ? rc : ask_string(part, "type", &type, err);
    if (rc) {
        return rc;
    }
    if (slice_is(type, "text") || slice_is(type, "input_text") || slice_is(type, "output_text")) {
        return add_part_text(r, part, "text", err);
    }
    if (slice_is(type, "refusal")) {
        return add_part_text(r, part, "refusal", err);
    }
    if (slice_is(type, "file")) {
        return openai_in(add_file(r, json_get(part, "file"), err), err, "file");
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_is(type, rows[i].type)) {
            rc = rows[i].add(r, rows[i].media, json_get(part, rows[i].key), err);
            return openai_in(rc, err, "%s", rows[i].key);
        }
    }
    return fail(err, CARAT_E_UNSUPPORTED,
                "type: expected text, image_url, input_audio, video_url or file, found '%.*s'",
                (int)(type.size < 40 ? type.size : 40), type.data ? type.data : "");
}

// A string, a list of parts, or nothing.
static int read_content(struct reader *r, const struct json_value *v, struct carat_error *err)
{
    if (!field_is_given(v)) {
        return 0;
    }
    if (json_kind(v) == JSON_STRING) {
        return content_text(&r->content, json_string(v), err);
    }
    int rc = expect_kind(v, JSON_ARRAY, "a string or a list of parts", err);
    if (rc) {
        return openai_in(rc, err, "content");
    }
    content_is_list(&r->content);
    size_t i = 0;
    for (struct json_iter it = json_iter(v); json_next(&it); i++) {
        rc = add_part(r, it.value, err);
        if (rc) {
            return openai_in(rc, err, "content[%zu]", i);
        }
    }
    return 0;
}

// ------------------------------------------------------------------------------ messages

// {name, arguments}: arguments as text, as OpenAI has it, or as the object itself.
static int add_call(struct reader *r, struct slice id, const struct json_value *function,
                    struct carat_error *err)
{
    struct slice name = {0};
    int rc = expect_kind(function, JSON_OBJECT, "an object", err);
    rc = rc ? rc : ask_string(function, "name", &name, err);
    if (rc) {
        return rc;
    }
    const struct json_value *v = json_get(function, "arguments");
    const char *arguments = NULL;
    if (json_kind(v) == JSON_STRING) {
        arguments = call_text(r->content.call, json_string(v), err);
    } else if (field_is_given(v)) {
        arguments = call_json(r->content.call, v, err);
    }
    if (field_is_given(v) && !arguments) {
        return CARAT_E_MEMORY;
    }
    return content_call(&r->content, id, name, arguments, err);
}

static int read_calls(struct reader *r, const struct json_value *v, struct carat_error *err)
{
    if (!field_is_given(v)) {
        return 0;
    }
    int rc = expect_kind(v, JSON_ARRAY, "a list of calls", err);
    if (rc) {
        return openai_in(rc, err, "tool_calls");
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(v); json_next(&it); i++) {
        struct slice id = {0};
        rc = expect_kind(it.value, JSON_OBJECT, "an object", err);
        rc = rc ? rc : ask_string(it.value, "id", &id, err);
        if (rc == 0) {
            rc = add_call(r, id, json_get(it.value, "function"), err);
            rc = openai_in(rc, err, "function");
        }
        if (rc) {
            return openai_in(rc, err, "tool_calls[%zu]", i);
        }
    }
    return 0;
}

static int read_assistant(struct reader *r, const struct json_value *message,
                          struct carat_error *err)
{
    struct slice reasoning = {0};
    int rc = ask_string(message, "reasoning", &reasoning, err);
    rc = rc ? rc : ask_string(message, "reasoning_content", &reasoning, err);
    if (rc == 0 && reasoning.size > 0) {
        rc = content_reasoning(&r->content, reasoning, err);
    }
    rc = rc ? rc : read_content(r, json_get(message, "content"), err);
    rc = rc ? rc : read_calls(r, json_get(message, "tool_calls"), err);
    const struct json_value *legacy = json_get(message, "function_call");
    if (rc == 0 && field_is_given(legacy)) {
        rc = openai_in(add_call(r, (struct slice){0}, legacy, err), err, "function_call");
    }
    return rc;
}

// Role "tool", and "function" as it was called before.
static int read_result(struct reader *r, const struct json_value *message, struct carat_error *err)
{
    struct slice id = {0};
    struct slice name = {0};
    int rc = ask_string(message, "tool_call_id", &id, err);
    rc = rc ? rc : ask_string(message, "name", &name, err);
    rc = rc ? rc : content_answers(&r->content, id, name, err);
    return rc ? rc : read_content(r, json_get(message, "content"), err);
}

static int read_message(struct reader *r, const struct json_value *message, struct carat_error *err)
{
    struct slice role = {0};
    int rc = expect_kind(message, JSON_OBJECT, "an object", err);
    rc = rc ? rc : ask_string(message, "role", &role, err);
    if (rc) {
        return rc;
    }
    bool is_result = slice_is(role, "tool") || slice_is(role, "function");
    bool is_assistant = slice_is(role, "assistant");
    if (!is_result && !is_assistant && !slice_is(role, "system") && !slice_is(role, "developer") &&
        !slice_is(role, "user")) {
        return fail(err, CARAT_E_ARGUMENT,
                    "role: expected system, developer, user, assistant or tool, found '%.*s'",
                    (int)(role.size < 40 ? role.size : 40), role.data ? role.data : "");
    }
    rc = content_begin(&r->content, is_result ? slice_of("tool") : role, err);
    if (rc) {
        return rc;
    }
    if (is_assistant) {
        return read_assistant(r, message, err);
    }
    return is_result ? read_result(r, message, err)
                     : read_content(r, json_get(message, "content"), err);
}

int openai_read_messages(struct call *call, const struct json_value *messages,
                         uint32_t image_tokens, struct carat_error *err)
{
    struct reader r = {.content = {.call = call}, .image_tokens = image_tokens};
    if (json_kind(messages) != JSON_ARRAY || json_count(messages) == 0) {
        return fail(err, CARAT_E_ARGUMENT, "messages: expected a list of messages, found %s",
                    json_kind(messages) == JSON_ARRAY ? "an empty one"
                                                      : json_kind_name(json_kind(messages)));
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(messages); json_next(&it); i++) {
        int rc = read_message(&r, it.value, err);
        if (rc) {
            return openai_in(rc, err, "messages[%zu]", i);
        }
    }
    return content_finish(&r.content, err);
}
