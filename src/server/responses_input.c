// SPDX-License-Identifier: Apache-2.0
// The conversation of a Responses request: items, which are smaller than messages. What the model
// wrote in one turn (reasoning, a message, calls) comes as several items and becomes one message
// again; instructions and the system messages at the beginning become one system message.
#include <string.h>

#include "base/base64.h"
#include "base/error.h"
#include "server/content.h"
#include "server/note.h"
#include "server/openai.h"
#include "server/responses.h"
#include "server/server.h"

#define TYPE_SHOWN       40                // bytes of a type or id in a message
#define CONVERSATION_MAX ((size_t)1 << 28) // bytes of a stored conversation
#define SEALED_PREFIX    "carat1."         // of encrypted_content that is ours

enum open_message { OPEN_NONE, OPEN_OTHER, OPEN_ASSISTANT };

struct input {
    struct call *call;
    struct responses *r;
    struct content content;
    struct buf system; // gathered at the beginning
    bool has_begun;    // the system message is written
    enum open_message open;
    bool has_text, has_calls;         // of the open assistant message
    const struct json_value *thought; // a reasoning item that waits for what it belongs to
    bool is_reference;                // inside an item that a reference named
    size_t n_items;
};

static int add_item(struct input *in, const struct json_value *v, struct carat_error *err);

static bool is_system(struct slice role)
{
    return slice_is(role, "system") || slice_is(role, "developer");
}

static struct slice shown(struct slice text)
{
    return slice_make(text.data, text.size < TYPE_SHOWN ? text.size : TYPE_SHOWN);
}

static struct slice member(const struct json_value *v, const char *key)
{
    return json_string(json_get(v, key));
}

// ------------------------------------------------------------------------------ beginning

static void add_system(struct input *in, struct slice text)
{
    if (text.size > 0) {
        buf_adds(&in->system, in->system.size > 0 ? "\n\n" : "");
        buf_add_slice(&in->system, text);
    }
}

// The system message, before anything else.
static int begin(struct input *in, struct carat_error *err)
{
    if (in->has_begun) {
        return 0;
    }
    in->has_begun = true;
    int rc = buf_status(&in->system, err);
    if (rc || in->system.size == 0) {
        return rc;
    }
    rc = content_begin(&in->content, slice_of("system"), err);
    return rc ? rc : content_text(&in->content, slice_make(in->system.data, in->system.size), err);
}

static int open_message(struct input *in, struct slice role, struct carat_error *err)
{
    int rc = begin(in, err);
    rc = rc ? rc : content_begin(&in->content, role, err);
    in->open = slice_is(role, "assistant") ? OPEN_ASSISTANT : OPEN_OTHER;
    in->has_text = false;
    in->has_calls = false;
    return rc;
}

// ------------------------------------------------------------------------------ reasoning

// Texts of a list of parts, a line each.
static bool join_texts(const struct json_value *parts, struct buf *out)
{
    for (struct json_iter it = json_iter(parts); json_next(&it);) {
        struct slice text = member(it.value, "text");
        if (text.size > 0) {
            buf_adds(out, out->size > 0 ? "\n" : "");
            buf_add_slice(out, text);
        }
    }
    return out->size > 0;
}

// What was thought: in clear, else as we handed it over, else the summary.
static int read_thought(const struct json_value *v, struct buf *out, struct carat_error *err)
{
    static const size_t prefix = sizeof(SEALED_PREFIX) - 1;
    struct slice sealed = member(v, "encrypted_content");
    if (join_texts(json_get(v, "content"), out)) {
        return buf_status(out, err);
    }
    if (slice_starts(sealed, SEALED_PREFIX)) {
        return base64_decode(out, slice_make(sealed.data + prefix, sealed.size - prefix), err);
    }
    join_texts(json_get(v, "summary"), out);
    return buf_status(out, err);
}

// Puts the thought that waits before the text or call of the open message.
static int add_thought(struct input *in, struct carat_error *err)
{
    struct buf text = {0};
    const struct json_value *v = in->thought;
    in->thought = NULL;
    int rc = v ? read_thought(v, &text, err) : 0;
    if (!rc && text.size > 0) {
        rc = content_reasoning(&in->content, slice_make(text.data, text.size), err);
    }
    buf_release(&text);
    return rc;
}

// The model's message that takes what comes next: a new one after another's message, after an
// answer when a thought or an answer follows, and after calls when it is not another call.
static int open_assistant(struct input *in, bool is_call, struct carat_error *err)
{
    bool goes_on = in->open == OPEN_ASSISTANT &&
                   !(in->thought && (in->has_text || in->has_calls)) &&
                   (is_call || !(in->has_text || in->has_calls));
    int rc = goes_on ? 0 : open_message(in, slice_of("assistant"), err);
    return rc ? rc : add_thought(in, err);
}

// ------------------------------------------------------------------------------ parts

static int image_tokens(const struct json_value *part, uint32_t *out, struct carat_error *err)
{
    struct slice detail = member(part, "detail");
    size_t tokens = 0;
    if (slice_is(detail, "low")) {
        tokens = 70;
    } else if (slice_is(detail, "high") || slice_is(detail, "original")) {
        tokens = 1120;
    }
    int rc = ask_size(part, "image_tokens", 1, 1120, &tokens, err); // our own
    *out = (uint32_t)tokens;
    return rc;
}

static int fail_no_source(const struct json_value *part, const char *key, struct carat_error *err)
{
    if (member(part, "file_id").size > 0) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "file_id: files are not kept here: send the content in %s", key);
    }
    return fail(err, CARAT_E_ARGUMENT, "%s: expected a string", key);
}

// An address as a string, or, as in Chat Completions, an object with one.
static struct slice url_of(const struct json_value *v)
{
    return json_kind(v) == JSON_OBJECT ? member(v, "url") : json_string(v);
}

static int add_picture(struct input *in, const struct json_value *part, struct carat_error *err)
{
    uint32_t tokens = 0;
    struct slice url = url_of(json_get(part, "image_url"));
    if (url.size == 0) {
        return fail_no_source(part, "image_url", err);
    }
    int rc = image_tokens(part, &tokens, err);
    rc = rc ? rc : content_media_url(&in->content, CARAT_MEDIA_IMAGE, url, tokens, err);
    return openai_in(rc, err, "image_url");
}

static int add_sound(struct input *in, const struct json_value *part, struct carat_error *err)
{
    const struct json_value *sound = json_get(part, "input_audio");
    struct slice data = member(json_kind(sound) == JSON_OBJECT ? sound : part, "data");
    if (data.size == 0) {
        return fail_no_source(part, "input_audio.data", err);
    }
    int rc = call_is_url(in->content.call, data)
                 ? content_media_url(&in->content, CARAT_MEDIA_AUDIO, data, 0, err)
                 : content_media_base64(&in->content, CARAT_MEDIA_AUDIO, data, 0, err);
    return openai_in(rc, err, "input_audio.data");
}

static int add_film(struct input *in, const struct json_value *part, struct carat_error *err)
{
    struct slice url = url_of(json_get(part, "video_url"));
    if (url.size == 0) {
        return fail_no_source(part, "video_url", err);
    }
    return openai_in(content_media_url(&in->content, CARAT_MEDIA_VIDEO, url, 0, err), err,
                     "video_url");
}

static int add_file(struct input *in, const struct json_value *part, struct carat_error *err)
{
    struct slice name = member(part, "filename");
    struct slice data = member(part, "file_data");
    struct slice url = member(part, "file_url");
    const struct slice none = {0};
    if (call_is_url(in->content.call, data)) {
        url = data;
        data = none;
    }
    if (data.size > 0) {
        return openai_in(content_file_base64(&in->content, data, none, name, 0, err), err,
                         "file_data");
    }
    if (url.size == 0) {
        return fail_no_source(part, "file_data", err);
    }
    return openai_in(content_file_url(&in->content, url, none, name, 0, err), err, "file_data");
}

static int add_part(struct input *in, const struct json_value *part, struct carat_error *err)
{
    struct slice type = member(part, "type");
    if (slice_is(type, "input_text") || slice_is(type, "output_text") || slice_is(type, "text")) {
        const struct json_value *text = json_get(part, "text");
        return json_kind(text) == JSON_STRING
                   ? content_text(&in->content, json_string(text), err)
                   : fail(err, CARAT_E_ARGUMENT, "text: expected a string, found %s",
                          json_kind_name(json_kind(text)));
    }
    if (slice_is(type, "refusal")) {
        return content_text(&in->content, member(part, "refusal"), err);
    }
    if (slice_is(type, "input_image") || slice_is(type, "image_url")) {
        return add_picture(in, part, err);
    }
    if (slice_is(type, "input_audio")) {
        return add_sound(in, part, err);
    }
    if (slice_is(type, "input_video") || slice_is(type, "video_url")) {
        return add_film(in, part, err);
    }
    if (slice_is(type, "input_file")) {
        return add_file(in, part, err);
    }
    return fail(err, CARAT_E_ARGUMENT,
                "type: expected input_text, input_image, input_audio, input_video, input_file or "
                "output_text, found '%.*s'",
                (int)shown(type).size, shown(type).data);
}

// A string or a list of parts, into the open message.
static int add_content(struct input *in, const struct json_value *v, const char *name,
                       struct carat_error *err)
{
    if (json_kind(v) == JSON_STRING) {
        return content_text(&in->content, json_string(v), err);
    }
    if (json_kind(v) != JSON_ARRAY) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a string or a list of parts, found %s",
                    name, json_kind_name(json_kind(v)));
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(v); json_next(&it); i++) {
        int rc = add_part(in, it.value, err);
        if (rc) {
            return openai_in(rc, err, "%s[%zu]", name, i);
        }
    }
    return json_count(v) > 0 ? 0 : content_text(&in->content, (struct slice){0}, err);
}

// ------------------------------------------------------------------------------ items

static bool is_all_text(const struct json_value *content)
{
    for (struct json_iter it = json_iter(content); json_next(&it);) {
        if (json_kind(json_get(it.value, "text")) != JSON_STRING) {
            return false;
        }
    }
    return json_kind(content) == JSON_STRING || json_kind(content) == JSON_ARRAY;
}

static int add_message(struct input *in, const struct json_value *v, struct carat_error *err)
{
    struct slice role = member(v, "role");
    const struct json_value *content = json_get(v, "content");
    if (is_system(role) && !in->has_begun && is_all_text(content)) {
        struct buf text = {0};
        join_texts(content, &text);
        add_system(in, json_kind(content) == JSON_STRING ? json_string(content)
                                                         : slice_make(text.data, text.size));
        int rc = buf_status(&text, err);
        buf_release(&text);
        return rc;
    }
    if (!is_system(role) && !slice_is(role, "user") && !slice_is(role, "assistant")) {
        return fail(err, CARAT_E_ARGUMENT,
                    "role: expected user, assistant, system or developer, found '%.*s'",
                    (int)shown(role).size, shown(role).data);
    }
    int rc = 0;
    if (slice_is(role, "assistant")) {
        rc = open_assistant(in, false, err);
        in->has_text = true;
    } else {
        in->thought = NULL; // of a turn that was never finished
        rc = open_message(in, is_system(role) ? slice_of("system") : role, err);
    }
    return rc ? rc : add_content(in, content, "content", err);
}

static int add_call(struct input *in, const struct json_value *v, bool is_custom,
                    struct carat_error *err)
{
    struct slice id = member(v, "call_id");
    struct buf custom = {0};
    const char *arguments = NULL;
    const char *name =
        responses_tool_name(in->call, member(v, "namespace"), member(v, "name"), err);
    int rc = name ? open_assistant(in, true, err) : CARAT_E_MEMORY;
    if (!rc && is_custom) {
        struct slice text = member(v, "input");
        buf_adds(&custom, "{\"input\":");
        buf_add_json(&custom, text.data, text.size);
        buf_adds(&custom, "}");
        rc = buf_status(&custom, err);
        arguments = buf_text(&custom);
    } else if (!rc) {
        const struct json_value *given = json_get(v, "arguments");
        arguments = json_kind(given) == JSON_OBJECT ? call_json(in->call, given, err)
                                                    : call_text(in->call, json_string(given), err);
        rc = arguments ? 0 : CARAT_E_MEMORY;
    }
    rc = rc ? rc : content_call(&in->content, id, slice_of(name), arguments, err);
    in->has_calls = true;
    buf_release(&custom);
    return rc;
}

static int add_output(struct input *in, const struct json_value *v, struct carat_error *err)
{
    const struct json_value *output = json_get(v, "output");
    in->thought = NULL;
    int rc = open_message(in, slice_of("tool"), err);
    rc = rc ? rc : content_answers(&in->content, member(v, "call_id"), (struct slice){0}, err);
    if (!rc && json_kind(output) == JSON_OBJECT) {
        return content_result(&in->content, output, err);
    }
    return rc ? rc : add_content(in, output, "output", err);
}

// "msg_NAME_2" is an item of the answer "resp_NAME".
static int find_referenced(struct input *in, struct slice id, struct buf *out,
                           struct carat_error *err)
{
    struct stored *stored = in->call->server->stored;
    char response[STORED_ID_SIZE];
    size_t start = 0, end = id.size;
    while (start < id.size && id.data[start] != '_') {
        start++;
    }
    while (end > start && id.data[end - 1] != '_') {
        end--;
    }
    if (end > start + 2 && end - start < sizeof(response) - 8) {
        size_t size = end - 1 - start;
        memcpy(response, "resp", 4);
        memcpy(response + 4, id.data + start, size);
        if (stored && stored_get(stored, slice_make(response, size + 4), STORED_OUTPUT, out)) {
            return buf_status(out, err);
        }
    }
    return fail(err, CARAT_E_ARGUMENT, "Item with id '%.*s' not found.", (int)shown(id).size,
                shown(id).data);
}

static int add_reference(struct input *in, const struct json_value *v, struct carat_error *err)
{
    struct slice id = member(v, "id");
    struct buf text = {.max = CONVERSATION_MAX};
    struct json_doc *doc = NULL;
    int rc = in->is_reference ? fail(err, CARAT_E_ARGUMENT, "a reference to a reference")
                              : find_referenced(in, id, &text, err);
    rc = rc ? rc : json_parse(&doc, text.data, text.size, "stored answer", err);
    const struct json_value *found = NULL;
    for (struct json_iter it = json_iter(rc ? NULL : json_root(doc)); json_next(&it);) {
        found = slice_equal(member(it.value, "id"), id) ? it.value : found;
    }
    if (!rc && !found) {
        rc = fail(err, CARAT_E_ARGUMENT, "Item with id '%.*s' not found.", (int)shown(id).size,
                  shown(id).data);
    }
    if (!rc) {
        in->is_reference = true;
        rc = add_item(in, found, err);
        in->is_reference = false;
    }
    // A thought waits for what follows it, and the document goes: the call keeps a copy.
    if (!rc && in->thought == found) {
        rc =
            fail(err, CARAT_E_UNSUPPORTED, "item_reference: a reasoning item has to be sent whole");
    }
    json_free(doc);
    buf_release(&text);
    return rc;
}

static int add_item(struct input *in, const struct json_value *v, struct carat_error *err)
{
    struct slice type = member(v, "type");
    if (json_kind(v) != JSON_OBJECT) {
        return fail(err, CARAT_E_ARGUMENT, "expected an item, an object, found %s",
                    json_kind_name(json_kind(v)));
    }
    if (++in->n_items > RESPONSES_ITEMS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "expected at most %d items", RESPONSES_ITEMS_MAX);
    }
    if (slice_is(type, "message") || (type.size == 0 && member(v, "role").size > 0)) {
        return add_message(in, v, err);
    }
    if (slice_is(type, "reasoning")) {
        in->thought = v;
        return 0;
    }
    bool is_custom = slice_is(type, "custom_tool_call");
    if (is_custom || slice_is(type, "function_call")) {
        return add_call(in, v, is_custom, err);
    }
    if (slice_is(type, "function_call_output") || slice_is(type, "custom_tool_call_output")) {
        return add_output(in, v, err);
    }
    if (slice_is(type, "item_reference") || (type.size == 0 && member(v, "id").size > 0)) {
        return add_reference(in, v, err);
    }
    if (type.size == 0) {
        return fail(err, CARAT_E_ARGUMENT, "type: expected the type of an item, found none");
    }
    ask_note(in->call, "item '%.*s' ignored", (int)shown(type).size, shown(type).data);
    return 0;
}

// ------------------------------------------------------------------------------ the whole

static int add_items(struct input *in, const struct json_value *list, const char *name,
                     struct carat_error *err)
{
    size_t i = 0;
    for (struct json_iter it = json_iter(list); json_next(&it); i++) {
        int rc = add_item(in, it.value, err);
        if (rc) {
            return openai_in(rc, err, "%s[%zu]", name, i);
        }
    }
    return 0;
}

// What the answer that this one continues was an answer to, and itself. *doc holds the items.
static int add_previous(struct input *in, struct json_doc **doc, struct carat_error *err)
{
    struct slice id = {0};
    int rc = ask_string(in->r->root, "previous_response_id", &id, err);
    if (rc || id.size == 0) {
        return rc;
    }
    struct buf text = {.max = CONVERSATION_MAX};
    struct stored *stored = in->call->server->stored;
    if (!stored || !stored_conversation(stored, id, &text)) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "previous_response_id: Previous response with id '%.*s' not found.",
                  (int)shown(id).size, shown(id).data);
    }
    rc = rc ? rc : buf_status(&text, err);
    rc = rc ? rc : json_parse(doc, text.data, text.size, "stored conversation", err);
    rc = rc ? rc : add_items(in, json_root(*doc), "stored", err);
    in->r->previous = rc ? NULL : call_text(in->call, id, err);
    buf_release(&text);
    return rc ? rc : in->r->previous ? 0 : CARAT_E_MEMORY;
}

// An item as it is listed later: with an id and a type.
static void keep_item(const struct responses *r, const struct json_value *v, size_t i,
                      struct buf *out)
{
    const struct json_value *content = json_get(v, "content");
    bool is_plain = json_kind(content) == JSON_STRING;
    buf_adds(out, i > 0 ? ",{" : "{");
    if (member(v, "id").size == 0) {
        buf_addf(out, "\"id\":\"item%s_%zu\",", r->id + 4, i); // resp_... without its "resp"
    }
    if (member(v, "type").size == 0) {
        buf_adds(out, "\"type\":\"message\",");
    }
    bool is_first = true;
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        if (is_plain && slice_is(it.key, "content")) {
            continue;
        }
        buf_adds(out, is_first ? "" : ",");
        buf_add_json(out, it.key.data, it.key.size);
        buf_addc(out, ':');
        json_write(it.value, out);
        is_first = false;
    }
    if (is_plain) {
        buf_addf(out, "%s\"content\":[{\"type\":\"%s\",\"text\":", is_first ? "" : ",",
                 slice_is(member(v, "role"), "assistant") ? "output_text" : "input_text");
        json_write(content, out);
        buf_adds(out, "}]");
    }
    buf_adds(out, "}");
}

static int keep_input(struct call *call, struct responses *r, const struct json_value *v,
                      struct carat_error *err)
{
    struct buf out = {.max = CONVERSATION_MAX};
    if (json_kind(v) == JSON_STRING) {
        buf_addf(&out,
                 "{\"id\":\"item%s_0\",\"type\":\"message\",\"role\":\"user\",\"content\":"
                 "[{\"type\":\"input_text\",\"text\":",
                 r->id + 4);
        json_write(v, &out);
        buf_adds(&out, "}]}");
    }
    size_t i = 0;
    if (json_kind(v) == JSON_ARRAY) {
        for (struct json_iter it = json_iter(v); json_next(&it); i++) {
            keep_item(r, it.value, i, &out);
        }
    }
    int rc = buf_status(&out, err);
    r->input = rc ? NULL : call_text(call, slice_make(buf_text(&out), out.size), err);
    buf_release(&out);
    return rc ? rc : r->input ? 0 : CARAT_E_MEMORY;
}

static int add_request(struct input *in, struct carat_error *err)
{
    const struct json_value *v = json_get(in->r->root, "input");
    if (json_kind(v) == JSON_ARRAY) {
        return add_items(in, v, "input", err);
    }
    if (json_kind(v) != JSON_STRING) {
        return fail(err, CARAT_E_ARGUMENT, "input: expected a string or a list of items, found %s",
                    json_kind_name(json_kind(v)));
    }
    in->thought = NULL;
    int rc = open_message(in, slice_of("user"), err);
    return rc ? rc : content_text(&in->content, json_string(v), err);
}

int responses_read_input(struct call *call, struct responses *r, struct carat_error *err)
{
    struct input in = {.call = call, .r = r, .content = {.call = call}};
    struct json_doc *doc = NULL;
    struct slice instructions = {0};
    int rc = ask_string(r->root, "instructions", &instructions, err);
    add_system(&in, instructions);
    rc = rc ? rc : add_previous(&in, &doc, err);
    rc = rc ? rc : add_request(&in, err);
    rc = rc ? rc : begin(&in, err);
    rc = rc ? rc : content_finish(&in.content, err);
    if (!rc && call->ask.chat.n_messages == 0) {
        rc = fail(err, CARAT_E_ARGUMENT, "input: expected at least one item");
    }
    if (!rc && r->is_kept) {
        rc = keep_input(call, r, json_get(r->root, "input"), err);
    }
    buf_release(&in.system);
    json_free(doc);
    return rc;
}
