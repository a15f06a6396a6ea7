// SPDX-License-Identifier: Apache-2.0
// Anthropic Messages, the way in: POST /v1/messages and /v1/messages/count_tokens to an ask.
// docs/api-anthropic.md lists what is honoured, ignored and refused.
#include "server/api_anthropic.h"

#include <string.h>

#include "base/error.h"
#include "server/content.h"
#include "server/fields.h"
#include "server/note.h"

// What comes between blocks of text, and between the turns of one role.
#define PARAGRAPH "\n\n"

// ---------------------------------------------------------------------------------- blocks

static int read_text_block(struct content *c, const struct json_value *block,
                           struct carat_error *err)
{
    struct slice text;
    int rc = field_string(block, "text", &text, err);
    return rc ? rc : content_joined_text(c, text, PARAGRAPH, err);
}

static int read_image(struct content *c, const struct json_value *block, struct carat_error *err)
{
    const struct json_value *source;
    struct slice type, data;
    int rc = field_object(block, "source", &source, err);
    rc = rc ? rc : field_string(source, "type", &type, err);
    if (rc) {
        return rc;
    }
    if (slice_is(type, "base64")) {
        rc = field_string(source, "data", &data, err);
        rc = rc ? rc
                : content_at(content_media_base64(c, CARAT_MEDIA_IMAGE, data, 0, err), err, "data");
    } else if (slice_is(type, "url")) {
        rc = field_string(source, "url", &data, err);
        rc =
            rc ? rc : content_at(content_media_url(c, CARAT_MEDIA_IMAGE, data, 0, err), err, "url");
    } else {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "source.type: expected \"base64\" or \"url\", found \"%.*s\": files are not "
                    "kept here, send the picture in the request",
                    (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data);
    }
    return field_in(rc, err, "source");
}

// What a document or search result says of itself, as lines before its text.
static int add_lines(struct content *c, const struct json_value *block, const char *const *keys,
                     struct carat_error *err)
{
    int rc = 0;
    for (; !rc && *keys; keys++) {
        struct slice text = {0};
        rc = ask_string(block, *keys, &text, err);
        if (!rc && text.size) {
            rc = content_joined_text(c, text, "\n", err);
        }
    }
    return rc;
}

// A list of text and image blocks, or a string.
static int read_simple_content(struct content *c, const struct json_value *v,
                               struct carat_error *err)
{
    if (json_kind(v) == JSON_STRING) {
        return content_joined_text(c, json_string(v), PARAGRAPH, err);
    }
    if (json_kind(v) != JSON_ARRAY) {
        return field_refuse("content", "a string or a list of blocks", v, err);
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(v); json_next(&it); i++) {
        struct slice type = json_string(json_get(it.value, "type"));
        int rc = slice_is(type, "image") ? read_image(c, it.value, err)
                                         : read_text_block(c, it.value, err);
        if (rc) {
            return field_in(rc, err, "content[%zu]", i);
        }
    }
    return 0;
}

static int read_document(struct content *c, const struct json_value *block, struct carat_error *err)
{
    static const char *const lines[] = {"title", "context", NULL};
    const struct json_value *source;
    struct slice type, data, media_type = {0};
    int rc = field_object(block, "source", &source, err);
    rc = rc ? rc : field_string(source, "type", &type, err);
    rc = rc ? rc : ask_string(source, "media_type", &media_type, err);
    rc = rc ? rc : add_lines(c, block, lines, err);
    if (rc) {
        return rc;
    }
    if (slice_is(type, "text")) {
        rc = field_string(source, "data", &data, err);
        rc = rc ? rc : content_joined_text(c, data, PARAGRAPH, err);
    } else if (slice_is(type, "base64")) {
        rc = field_string(source, "data", &data, err);
        rc = rc ? rc
                : content_at(content_file_base64(c, data, media_type, (struct slice){0}, 0, err),
                             err, "data");
    } else if (slice_is(type, "url")) {
        rc = field_string(source, "url", &data, err);
        rc = rc ? rc
                : content_at(content_file_url(c, data, media_type, (struct slice){0}, 0, err), err,
                             "url");
    } else if (slice_is(type, "content")) {
        rc = read_simple_content(c, json_get(source, "content"), err);
    } else {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "source.type: expected \"text\", \"base64\", \"url\" or \"content\", found "
                    "\"%.*s\": files are not kept here, send the document in the request",
                    (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data);
    }
    return field_in(rc, err, "source");
}

static int read_search_result(struct content *c, const struct json_value *block,
                              struct carat_error *err)
{
    static const char *const lines[] = {"title", "source", NULL};
    int rc = add_lines(c, block, lines, err);
    return rc ? rc : read_simple_content(c, json_get(block, "content"), err);
}

static int read_thinking(struct content *c, const struct json_value *block, struct carat_error *err)
{
    struct slice text = {0}, signature = {0};
    int rc = field_string(block, "thinking", &text, err);
    rc = rc ? rc : ask_string(block, "signature", &signature, err);
    if (rc || text.size) {
        return rc ? rc : content_reasoning(c, text, err);
    }
    struct buf thought = {0};
    if (anthropic_thought_of(signature, &thought)) {
        rc = content_reasoning(c, slice_make(buf_text(&thought), thought.size), err);
    }
    buf_release(&thought);
    return rc;
}

// Clients know our calls as "toolu_...".
static int read_tool_id(struct content *c, const struct json_value *block, const char *key,
                        struct slice *out, struct carat_error *err)
{
    struct slice id;
    int rc = field_string(block, key, &id, err);
    if (rc || !slice_starts(id, "toolu_")) {
        *out = id;
        return rc;
    }
    struct buf ours = {0};
    buf_adds(&ours, "call_");
    buf_add(&ours, id.data + 6, id.size - 6);
    const char *copy = call_text(c->call, slice_make(buf_text(&ours), ours.size), err);
    rc = buf_status(&ours, err);
    buf_release(&ours);
    *out = slice_of(copy);
    return copy ? rc : CARAT_E_MEMORY;
}

static int read_tool_use(struct content *c, const struct json_value *block, struct carat_error *err)
{
    struct slice id, name;
    const struct json_value *input = json_get(block, "input");
    int rc = read_tool_id(c, block, "id", &id, err);
    rc = rc ? rc : field_string(block, "name", &name, err);
    if (rc) {
        return rc;
    }
    if (json_kind(input) != JSON_OBJECT) {
        return field_refuse("input", "an object", input, err);
    }
    const char *arguments = call_json(c->call, input, err);
    return arguments ? content_call(c, id, name, arguments, err) : CARAT_E_MEMORY;
}

// Traces of tools that ran on another server, as they stand in a history that began there.
static bool is_server_block(struct slice type)
{
    static const char *const types[] = {
        "server_tool_use", "container_upload", "tool_reference",    "browser_state",
        "mcp_tool_use",    "mcp_tool_result",  "redacted_thinking", "compaction",
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (slice_is(type, types[i])) {
            return true;
        }
    }
    return slice_ends(type, "_tool_result");
}

// A block of any message but a tool_result.
static int read_block(struct content *c, const struct json_value *block, struct slice role,
                      struct carat_error *err)
{
    struct slice type;
    int rc = field_string(block, "type", &type, err);
    if (rc) {
        return rc;
    }
    bool is_assistant = slice_is(role, "assistant");
    if (slice_is(type, "text")) {
        return read_text_block(c, block, err);
    }
    if (slice_is(type, "image")) {
        return read_image(c, block, err);
    }
    if (slice_is(type, "document")) {
        return read_document(c, block, err);
    }
    if (slice_is(type, "search_result")) {
        return read_search_result(c, block, err);
    }
    if (slice_is(type, "thinking") && is_assistant) {
        return read_thinking(c, block, err);
    }
    if (slice_is(type, "tool_use") && is_assistant) {
        return read_tool_use(c, block, err);
    }
    if (is_server_block(type)) {
        ask_note(c->call, "ignored a block of type %.*s",
                 (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data);
        return 0;
    }
    return fail(err, CARAT_E_ARGUMENT, "type: \"%.*s\" is no block that a message of role %.*s has",
                (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data,
                (int)(role.size < FIELDS_SHOWN ? role.size : FIELDS_SHOWN), role.data);
}

// ---------------------------------------------------------------------------------- messages

// The content of a tool's result: a text, for the template's sake one part of it when it is a
// string, with what went wrong said in words.
static int read_result_content(struct content *c, const struct json_value *v, bool is_error,
                               struct carat_error *err)
{
    if (is_error) {
        int rc = content_text(c, slice_of("Error: "), err);
        if (rc) {
            return rc;
        }
    }
    if (!field_is_given(v)) {
        return content_text(c, slice_of(""), err);
    }
    if (json_kind(v) == JSON_STRING) {
        return content_joined_text(c, json_string(v), PARAGRAPH, err);
    }
    if (json_kind(v) != JSON_ARRAY) {
        return field_refuse("content", "a string or a list of blocks", v, err);
    }
    content_is_list(c);
    size_t i = 0;
    for (struct json_iter it = json_iter(v); json_next(&it); i++) {
        int rc = read_block(c, it.value, slice_of("tool"), err);
        if (rc) {
            return field_in(rc, err, "content[%zu]", i);
        }
    }
    return 0;
}

static int read_tool_result(struct content *c, const struct json_value *block,
                            struct carat_error *err)
{
    struct slice id;
    bool is_error = false;
    int rc = read_tool_id(c, block, "tool_use_id", &id, err);
    rc = rc ? rc : ask_bool(block, "is_error", &is_error, err);
    rc = rc ? rc : content_begin(c, slice_of("tool"), err);
    rc = rc ? rc : content_answers(c, id, (struct slice){0}, err);
    return rc ? rc : read_result_content(c, json_get(block, "content"), is_error, err);
}

static bool is_tool_result(const struct json_value *block)
{
    return slice_is(json_string(json_get(block, "type")), "tool_result");
}

// Results become messages of their own, and stand before what else the user says.
static int read_results(struct content *c, const struct json_value *blocks, size_t *n_others,
                        size_t i_message, struct carat_error *err)
{
    size_t i = 0;
    for (struct json_iter it = json_iter(blocks); json_next(&it); i++) {
        if (!is_tool_result(it.value)) {
            ++*n_others;
            continue;
        }
        int rc = read_tool_result(c, it.value, err);
        if (rc) {
            return field_in(rc, err, "messages[%zu].content[%zu]", i_message, i);
        }
    }
    return 0;
}

// Messages of one role in a row are one turn, as this API has it; not so after calls, whose results
// may have come between.
struct turn {
    struct slice role; // of the message that is open for more
};

static int open_message(struct content *c, struct turn *turn, struct slice role,
                        struct carat_error *err)
{
    if (slice_is(role, "user") && slice_equal(role, turn->role)) {
        return 0;
    }
    turn->role = role;
    return content_begin(c, role, err);
}

static int read_blocks(struct content *c, struct turn *turn, const struct json_value *blocks,
                       struct slice role, size_t i_message, struct carat_error *err)
{
    size_t n_others = 0;
    size_t n_before = c->n;
    int rc = slice_is(role, "user") ? read_results(c, blocks, &n_others, i_message, err) : 0;
    if (c->n > n_before) {
        turn->role = slice_of("tool");
        if (!rc && !n_others) {
            return 0;
        }
    }
    rc = rc ? rc : open_message(c, turn, role, err);
    if (rc) {
        return rc;
    }
    content_is_list(c);
    size_t i = 0;
    for (struct json_iter it = json_iter(blocks); json_next(&it); i++) {
        rc = is_tool_result(it.value) && slice_is(role, "user")
                 ? 0
                 : read_block(c, it.value, role, err);
        if (rc) {
            return field_in(rc, err, "messages[%zu].content[%zu]", i_message, i);
        }
    }
    return 0;
}

static int read_message(struct content *c, struct turn *turn, const struct json_value *message,
                        size_t i, struct carat_error *err)
{
    struct slice role;
    if (json_kind(message) != JSON_OBJECT) {
        return field_in(field_refuse("message", "an object", message, err), err, "messages[%zu]",
                        i);
    }
    int rc = field_string(message, "role", &role, err);
    if (!rc && !slice_is(role, "user") && !slice_is(role, "assistant") &&
        !slice_is(role, "system")) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "role: expected \"user\", \"assistant\" or \"system\", found \"%.*s\"",
                  (int)(role.size < FIELDS_SHOWN ? role.size : FIELDS_SHOWN), role.data);
    }
    if (rc) {
        return field_in(rc, err, "messages[%zu]", i);
    }
    const struct json_value *v = json_get(message, "content");
    if (json_kind(v) == JSON_ARRAY) {
        return read_blocks(c, turn, v, role, i, err);
    }
    if (json_kind(v) != JSON_STRING) {
        return field_in(field_refuse("content", "a string or a list of blocks", v, err), err,
                        "messages[%zu]", i);
    }
    rc = open_message(c, turn, role, err);
    rc = rc ? rc : content_joined_text(c, json_string(v), PARAGRAPH, err);
    return field_in(rc, err, "messages[%zu]", i);
}

// An answer that was begun is gone on with.
static bool continues(const struct carat_chat *chat)
{
    const struct carat_message *last =
        chat->n_messages ? &chat->messages[chat->n_messages - 1] : NULL;
    return last && strcmp(last->role, "assistant") == 0 && !last->n_calls;
}

// Blocks of the system prompt are paragraphs. One kind is no text for the model but a line of
// bookkeeping that a client puts first, with a number that changes each time: kept, it would make
// every request new from its first words on.
static int read_system(struct content *c, const struct json_value *v, struct carat_error *err)
{
    if (!field_is_given(v)) {
        return 0;
    }
    if (json_kind(v) != JSON_STRING && json_kind(v) != JSON_ARRAY) {
        return field_refuse("system", "a string or a list of text blocks", v, err);
    }
    struct buf text = {0};
    int rc = 0;
    size_t i = 0;
    if (json_kind(v) == JSON_STRING) {
        buf_add_slice(&text, json_string(v));
    }
    for (struct json_iter it = json_iter(json_kind(v) == JSON_ARRAY ? v : NULL);
         !rc && json_next(&it); i++) {
        struct slice block;
        rc = field_in(field_string(it.value, "text", &block, err), err, "system[%zu]", i);
        if (!rc && block.size && !slice_starts(block, "x-anthropic-billing-header:")) {
            buf_adds(&text, text.size ? "\n\n" : "");
            buf_add_slice(&text, block);
        }
    }
    rc = rc ? rc : buf_status(&text, err);
    if (!rc && text.size) {
        rc = content_begin(c, slice_of("system"), err);
        rc = rc ? rc : content_text(c, slice_make(text.data, text.size), err);
    }
    buf_release(&text);
    return rc;
}

static int read_chat(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct content c = {.call = call};
    struct turn turn = {0};
    const struct json_value *messages = json_get(root, "messages");
    if (json_kind(messages) != JSON_ARRAY || !json_count(messages)) {
        return field_refuse("messages", "a list with at least one message", messages, err);
    }
    int rc = read_system(&c, json_get(root, "system"), err);
    size_t i = 0;
    for (struct json_iter it = json_iter(messages); !rc && json_next(&it); i++) {
        rc = read_message(&c, &turn, it.value, i, err);
    }
    rc = rc ? rc : content_finish(&c, err);
    call->ask.chat.continues_final = !rc && continues(&call->ask.chat);
    return rc;
}

// ---------------------------------------------------------------------------------- tools

static int read_tool(struct call *call, struct tool_list *list, const struct json_value *tool,
                     struct carat_error *err)
{
    struct slice type = {0}, name = {0}, description = {0};
    int rc = ask_string(tool, "type", &type, err);
    rc = rc ? rc : ask_string(tool, "description", &description, err);
    if (rc) {
        return rc;
    }
    if (type.size && !slice_is(type, "custom")) {
        ask_note(call, "ignored a tool of type %.*s",
                 (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data);
        return 0;
    }
    const struct json_value *schema;
    rc = field_string(tool, "name", &name, err);
    rc = rc ? rc : field_object(tool, "input_schema", &schema, err);
    return rc ? rc
              : tool_list_add(list, name, description, schema, json_bool(json_get(tool, "strict")),
                              err);
}

static int read_tool_choice(struct call *call, struct tool_list *list, const struct json_value *v,
                            struct carat_error *err)
{
    enum carat_tool_choice choice = CARAT_TOOLS_AUTO;
    struct slice type = slice_of("auto"), name = {0};
    bool is_single = false;
    if (field_is_given(v)) {
        int rc = field_string(v, "type", &type, err);
        rc = rc ? rc : ask_bool(v, "disable_parallel_tool_use", &is_single, err);
        rc = !rc && slice_is(type, "tool") ? field_string(v, "name", &name, err) : rc;
        if (rc) {
            return field_in(rc, err, "tool_choice");
        }
    }
    if (slice_is(type, "any") || slice_is(type, "tool")) {
        choice = CARAT_TOOLS_REQUIRED;
    } else if (slice_is(type, "none")) {
        choice = CARAT_TOOLS_NONE;
    } else if (!slice_is(type, "auto")) {
        return fail(err, CARAT_E_ARGUMENT,
                    "tool_choice.type: expected \"auto\", \"any\", \"tool\" or \"none\", found "
                    "\"%.*s\"",
                    (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data);
    }
    return tool_list_finish(list, call, choice, name, is_single, err);
}

static int read_tools(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct tool_list list = {0};
    const struct json_value *tools = json_get(root, "tools");
    enum json_kind kind = json_kind(tools);
    if (kind != JSON_ABSENT && kind != JSON_NULL && kind != JSON_ARRAY) {
        return field_refuse("tools", "a list", tools, err);
    }
    int rc = 0;
    size_t i = 0;
    for (struct json_iter it = json_iter(tools); !rc && json_next(&it); i++) {
        rc = field_in(read_tool(call, &list, it.value, err), err, "tools[%zu]", i);
    }
    rc = rc ? rc : read_tool_choice(call, &list, json_get(root, "tool_choice"), err);
    tool_list_release(&list);
    return rc;
}

// ---------------------------------------------------------------------------------- the rest

static int read_thinks(struct call *call, const struct json_value *v, struct carat_error *err)
{
    struct anthropic *state = call->state;
    struct slice type, display = {0};
    if (!field_is_given(v)) {
        return 0;
    }
    int rc = field_string(v, "type", &type, err);
    rc = rc ? rc : ask_string(v, "display", &display, err);
    if (rc) {
        return rc;
    }
    state->omits_thoughts = slice_is(display, "omitted");
    if (slice_is(type, "disabled") || slice_is(type, "between_tools")) {
        return 0;
    }
    if (!slice_is(type, "enabled") && !slice_is(type, "adaptive")) {
        return fail(err, CARAT_E_ARGUMENT,
                    "type: expected \"enabled\", \"adaptive\" or \"disabled\", found \"%.*s\"",
                    (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data);
    }
    call->ask.chat.thinks = true;
    return ask_size(v, "budget_tokens", 1, FIELDS_TOKENS_MAX, &call->ask.thought_tokens_max, err);
}

// What the answer must be: output_config.format, or output_format as it was called before.
static int read_format(struct call *call, const struct json_value *v, struct carat_error *err)
{
    struct slice type;
    const struct json_value *schema;
    if (!field_is_given(v)) {
        return 0;
    }
    int rc = field_string(v, "type", &type, err);
    if (!rc && !slice_is(type, "json_schema")) {
        rc = fail(err, CARAT_E_UNSUPPORTED, "type: expected \"json_schema\", found \"%.*s\"",
                  (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data);
    }
    rc = rc ? rc : field_object(v, "schema", &schema, err);
    return rc ? rc : field_schema(call, schema, err);
}

static int read_sampling(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct ask *ask = &call->ask;
    struct anthropic *state = call->state;
    size_t tokens_max = FIELDS_TOKENS_MAX;
    int rc = ask_size(root, "max_tokens", 0, FIELDS_TOKENS_MAX, &tokens_max, err);
    rc = rc ? rc : ask_float(root, "temperature", 0, 2, &ask->sampling.temperature, err);
    rc = rc ? rc : ask_float(root, "top_p", 0, 1, &ask->sampling.top_p, err);
    rc = rc ? rc : ask_size(root, "top_k", 0, FIELDS_TOKENS_MAX, &ask->sampling.top_k, err);
    rc = rc ? rc : ask_bool(root, "stream", &ask->streams, err);
    rc = rc ? rc : ask_bool(root, "loop_guard", &ask->has_loop_guard, err);
    rc = rc ? rc : field_stops(call, json_get(root, "stop_sequences"), "stop_sequences", err);
    state->is_warming = tokens_max == 0;
    ask->tokens_max = tokens_max == FIELDS_TOKENS_MAX ? 0 : tokens_max + (tokens_max == 0);
    return rc;
}

static int parse(struct call *call, enum ask_kind kind, struct carat_error *err)
{
    const struct json_value *root;
    struct slice model = {0};
    call->ask.kind = kind;
    call->state = call_take(call, sizeof(struct anthropic), err);
    if (!call->state) {
        return CARAT_E_MEMORY;
    }
    int rc = call_parse_body(call, &root, err);
    if (!rc && json_kind(json_get(root, "thread")) == JSON_OBJECT) {
        rc = fail(err, CARAT_E_UNSUPPORTED, ANTHROPIC_NO_THREADS);
    }
    rc = rc ? rc : ask_string(root, "model", &model, err);
    rc = rc ? rc : read_sampling(call, root, err);
    rc = rc ? rc : field_in(read_thinks(call, json_get(root, "thinking"), err), err, "thinking");
    call->ask.hides_thoughts = !call->ask.chat.thinks;
    rc = rc ? rc : read_chat(call, root, err);
    rc = rc ? rc : read_tools(call, root, err);
    if (rc) {
        return rc;
    }
    const struct json_value *config = json_get(root, "output_config");
    rc = field_in(read_format(call, json_get(config, "format"), err), err, "output_config.format");
    if (!rc && !call->ask.grammar.json_schema) {
        rc =
            field_in(read_format(call, json_get(root, "output_format"), err), err, "output_format");
    }
    return rc ? rc : field_model(call, model, err);
}

static int parse_message(struct call *call, struct carat_error *err)
{
    return parse(call, ASK_CHAT, err);
}

static int parse_count(struct call *call, struct carat_error *err)
{
    int rc = parse(call, ASK_COUNT, err);
    call->ask.streams = false;
    return rc;
}

const struct dialect dialect_anthropic = {
    .name = "anthropic",
    .stream_content_type = "text/event-stream",
    .id_header = "request-id",
    .parse = parse_message,
    .answer = anthropic_answer,
    .begin = anthropic_begin,
    .event = anthropic_event,
    .end_choice = anthropic_end_choice,
    .end = anthropic_end,
    .error = anthropic_error,
};

const struct dialect dialect_anthropic_count = {
    .name = "anthropic_count",
    .stream_content_type = "text/event-stream",
    .id_header = "request-id",
    .parse = parse_count,
    .answer = anthropic_answer_count,
    .error = anthropic_error,
};
