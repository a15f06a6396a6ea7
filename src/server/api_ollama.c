// SPDX-License-Identifier: Apache-2.0
// Ollama, the way in: /api/chat, /api/generate, /api/embed and /api/embeddings to an ask.
// docs/api-ollama.md lists what is honoured, ignored and refused.
#include "server/api_ollama.h"

#include <string.h>

#include "base/error.h"
#include "server/content.h"
#include "server/fields.h"
#include "server/idless.h"
#include "server/note.h"

#define TOP_LOGPROBS_MAX 20
#define INPUTS_MAX       CALL_PROMPTS_MAX

// ---------------------------------------------------------------------------------- options

// What would change the answer and is not there; what only tunes another engine is passed over in
// silence.
static void note_options(struct call *call, const struct json_value *options)
{
    static const char *const keys[] = {"num_ctx",      "mirostat", "mirostat_tau",
                                       "mirostat_eta", "tfs_z",    "typical_p"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (!field_is_given(json_get(options, keys[i]))) {
            continue;
        }
        if (strcmp(keys[i], "num_ctx") == 0) {
            ask_note(call, "num_ctx: the server's context is used");
        } else {
            ask_note(call, "ignored options.%s", keys[i]);
        }
    }
}

// repeat_last_n: -1 is the whole context, 0 switches the penalty off.
static int read_repeat_window(struct call *call, const struct json_value *options,
                              struct carat_error *err)
{
    struct carat_sampling *s = &call->ask.sampling;
    double n = -1;
    int rc = ask_number(options, "repeat_last_n", -1, (double)FIELDS_TOKENS_MAX, &n, err);
    if (rc || !field_is_given(json_get(options, "repeat_last_n"))) {
        return rc;
    }
    s->penalty_window = n >= 1 ? (size_t)n : 0;
    s->repetition_penalty = n < 0 || n >= 1 ? s->repetition_penalty : 1;
    return 0;
}

static int read_options(struct call *call, const struct json_value *options,
                        struct carat_error *err)
{
    struct carat_sampling *s = &call->ask.sampling;
    struct {
        const char *key;
        double min, max;
        float *out;
    } rows[] = {
        {"temperature", 0, 10, &s->temperature},
        {"top_p", 0, 1, &s->top_p},
        {"min_p", 0, 1, &s->min_p},
        {"repeat_penalty", 0.01, 10, &s->repetition_penalty},
        {"presence_penalty", -2, 2, &s->presence_penalty},
        {"frequency_penalty", -2, 2, &s->frequency_penalty},
    };
    if (!field_is_given(options)) {
        return 0;
    }
    if (json_kind(options) != JSON_OBJECT) {
        return field_refuse("options", "an object", options, err);
    }
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof(rows) / sizeof(rows[0]); i++) {
        rc = ask_float(options, rows[i].key, rows[i].min, rows[i].max, rows[i].out, err);
    }
    rc = rc ? rc : ask_size(options, "top_k", 0, FIELDS_TOKENS_MAX, &s->top_k, err);
    rc = rc ? rc : read_repeat_window(call, options, err);
    rc = rc ? rc : field_limit(options, "num_predict", &call->ask.tokens_max, err);
    rc = rc ? rc : field_seed(call, options, "seed", err);
    rc = rc ? rc : ask_bool(options, "loop_guard", &call->ask.has_loop_guard, err);
    rc = rc ? rc : field_stops(call, json_get(options, "stop"), "stop", err);
    note_options(call, options);
    return field_in(rc, err, "options");
}

// "json", or a schema; "" is none.
static int read_format(struct call *call, const struct json_value *format, struct carat_error *err)
{
    if (!field_is_given(format)) {
        return 0;
    }
    if (json_kind(format) == JSON_OBJECT) {
        return field_schema(call, format, err);
    }
    struct slice text = json_string(format);
    if (json_kind(format) != JSON_STRING || (text.size && !slice_is(text, "json"))) {
        return fail(err, CARAT_E_ARGUMENT, "format: expected \"json\" or a JSON Schema, found %s",
                    json_kind(format) == JSON_STRING ? "another string"
                                                     : json_kind_name(json_kind(format)));
    }
    if (text.size) {
        call->ask.grammar.json_schema = "{\"type\":\"object\"}";
        call->ask.has_grammar = true;
    }
    return 0;
}

// true, false or how hard: the model thinks or does not.
static int read_think(struct call *call, const struct json_value *think, struct carat_error *err)
{
    static const char *const levels[] = {"low", "medium", "high", "max"};
    bool thinks = json_bool(think);
    if (json_kind(think) == JSON_STRING) {
        for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
            thinks = thinks || slice_is(json_string(think), levels[i]);
        }
    }
    bool is_known = json_kind(think) == JSON_BOOL || thinks;
    if (field_is_given(think) && !is_known) {
        return field_refuse("think", "true, false, \"low\", \"medium\", \"high\" or \"max\"", think,
                            err);
    }
    call->ask.chat.thinks = thinks;
    call->ask.hides_thoughts = !thinks;
    return 0;
}

static int read_logprobs(struct call *call, const struct json_value *root, struct carat_error *err)
{
    int rc = ask_bool(root, "logprobs", &call->ask.wants_logprobs, err);
    return rc ? rc
              : ask_size(root, "top_logprobs", 0, TOP_LOGPROBS_MAX, &call->ask.sampling.n_top, err);
}

// What chat and generate have in common.
static int read_common(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct slice model = {0};
    call->ask.streams = true;
    int rc = ask_string(root, "model", &model, err);
    if (!rc && !model.size) {
        rc = fail(err, CARAT_E_ARGUMENT, "model: expected a name, found none");
    }
    rc = rc ? rc : field_model(call, model, err);
    rc = rc ? rc : ask_bool(root, "stream", &call->ask.streams, err);
    rc = rc ? rc : read_options(call, json_get(root, "options"), err);
    rc = rc ? rc : read_format(call, json_get(root, "format"), err);
    rc = rc ? rc : read_think(call, json_get(root, "think"), err);
    return rc ? rc : read_logprobs(call, root, err);
}

// Nothing is asked: clients load a model so, or with keep_alive 0 unload it. Ours is always there.
static int answer_nothing(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct ollama *state = call->state;
    const struct json_value *keep = json_get(root, "keep_alive");
    bool unloads =
        json_kind(keep) == JSON_NUMBER ? json_double(keep) == 0 : slice_is(json_string(keep), "0");
    state->done_reason = unloads ? "unload" : "load";
    call->ask.kind = ASK_COUNT;
    call->ask.streams = false;
    call->ask.texts = call_take(call, sizeof(struct slice), err);
    if (!call->ask.texts) {
        return CARAT_E_MEMORY;
    }
    call->ask.texts[0] = slice_of("");
    call->ask.n_texts = 1;
    return 0;
}

// ---------------------------------------------------------------------------------- chat

// Pictures, before the text as Ollama has them; files of other kinds are taken for what they are.
static int read_images(struct content *c, const struct json_value *images, struct carat_error *err)
{
    if (!field_is_given(images)) {
        return 0;
    }
    if (json_kind(images) != JSON_ARRAY) {
        return field_refuse("images", "a list of Base64 strings", images, err);
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(images); json_next(&it); i++) {
        struct slice none = {0};
        int rc = json_kind(it.value) == JSON_STRING
                     ? content_file_base64(c, json_string(it.value), none, none, 0, err)
                     : field_refuse("picture", "Base64", it.value, err);
        if (rc) {
            return content_at(rc, err, "images[%zu]", i);
        }
    }
    return 0;
}

static int read_calls(struct content *c, struct idless *calls, const struct json_value *list,
                      struct carat_error *err)
{
    if (!field_is_given(list) || !json_count(list)) {
        return 0;
    }
    idless_begin(calls);
    size_t i = 0;
    for (struct json_iter it = json_iter(list); json_next(&it); i++) {
        const struct json_value *function;
        struct slice id = {0}, name;
        int rc = field_object(it.value, "function", &function, err);
        rc = rc ? rc : ask_string(it.value, "id", &id, err);
        rc = rc ? rc : field_string(function, "name", &name, err);
        rc = rc ? rc : idless_call(calls, c, id, name, json_get(function, "arguments"), err);
        if (rc) {
            return field_in(rc, err, "tool_calls[%zu]", i);
        }
    }
    return 0;
}

static int read_message(struct content *c, struct idless *calls, const struct json_value *message,
                        struct carat_error *err)
{
    struct slice role, text = {0}, thinking = {0}, id = {0}, name = {0};
    int rc = field_string(message, "role", &role, err);
    rc = rc ? rc : ask_string(message, "content", &text, err);
    rc = rc ? rc : ask_string(message, "thinking", &thinking, err);
    rc = rc ? rc : ask_string(message, "tool_call_id", &id, err);
    rc = rc ? rc : ask_string(message, "tool_name", &name, err);
    rc = !rc && !name.size ? ask_string(message, "name", &name, err) : rc;
    rc = rc ? rc : content_begin(c, role, err);
    if (!rc && slice_is(role, "tool")) {
        rc = idless_answers(calls, c, id, name, err);
    }
    if (!rc && thinking.size && slice_is(role, "assistant")) {
        rc = content_reasoning(c, thinking, err);
    }
    rc = rc ? rc : read_images(c, json_get(message, "images"), err);
    rc = rc ? rc : content_text(c, text, err);
    return rc ? rc : read_calls(c, calls, json_get(message, "tool_calls"), err);
}

static int read_messages(struct call *call, const struct json_value *messages,
                         struct carat_error *err)
{
    struct content c = {.call = call};
    struct idless *calls = call_take(call, sizeof(*calls), err);
    if (!calls) {
        return CARAT_E_MEMORY;
    }
    if (json_kind(messages) != JSON_ARRAY) {
        return field_refuse("messages", "a list", messages, err);
    }
    int rc = 0;
    size_t i = 0;
    for (struct json_iter it = json_iter(messages); !rc && json_next(&it); i++) {
        rc = field_in(read_message(&c, calls, it.value, err), err, "messages[%zu]", i);
    }
    rc = rc ? rc : content_finish(&c, err);
    const struct carat_chat *chat = &call->ask.chat;
    const struct carat_message *last =
        !rc && chat->n_messages ? &chat->messages[chat->n_messages - 1] : NULL;
    call->ask.chat.continues_final = last && strcmp(last->role, "assistant") == 0 && !last->n_calls;
    return rc;
}

static int read_tools(struct call *call, const struct json_value *tools, struct carat_error *err)
{
    struct tool_list list = {0};
    if (field_is_given(tools) && json_kind(tools) != JSON_ARRAY) {
        return field_refuse("tools", "a list", tools, err);
    }
    int rc = 0;
    size_t i = 0;
    for (struct json_iter it = json_iter(tools); !rc && json_next(&it); i++) {
        const struct json_value *function;
        struct slice name, description = {0};
        rc = field_object(it.value, "function", &function, err);
        rc = rc ? rc : field_string(function, "name", &name, err);
        rc = rc ? rc : ask_string(function, "description", &description, err);
        rc = rc ? rc
                : tool_list_add(&list, name, description, json_get(function, "parameters"),
                                json_bool(json_get(function, "strict")), err);
        rc = field_in(rc, err, "tools[%zu]", i);
    }
    rc = rc ? rc : tool_list_finish(&list, call, CARAT_TOOLS_AUTO, (struct slice){0}, false, err);
    tool_list_release(&list);
    return rc;
}

static int begin_parse(struct call *call, const struct json_value **root, struct carat_error *err)
{
    call->state = call_take(call, sizeof(struct ollama), err);
    return call->state ? call_parse_body(call, root, err) : CARAT_E_MEMORY;
}

static int parse_chat(struct call *call, struct carat_error *err)
{
    const struct json_value *root;
    call->ask.kind = ASK_CHAT;
    int rc = begin_parse(call, &root, err);
    rc = rc ? rc : read_common(call, root, err);
    if (!rc && !json_count(json_get(root, "messages"))) {
        return answer_nothing(call, root, err);
    }
    rc = rc ? rc : read_messages(call, json_get(root, "messages"), err);
    return rc ? rc : read_tools(call, json_get(root, "tools"), err);
}

// ---------------------------------------------------------------------------------- generate

static int refuse_given(const struct json_value *root, const char *key, const char *why,
                        struct carat_error *err)
{
    const struct json_value *v = json_get(root, key);
    bool is_empty = json_kind(v) == JSON_STRING && !json_string(v).size;
    return field_is_given(v) && !is_empty ? fail(err, CARAT_E_UNSUPPORTED, "%s: %s", key, why) : 0;
}

static int ask_raw(struct call *call, const struct json_value *root, struct slice prompt,
                   struct carat_error *err)
{
    if (json_count(json_get(root, "images"))) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "images: pictures have no place in a raw prompt; leave raw away");
    }
    call->ask.kind = ASK_TEXT;
    call->ask.texts = call_take(call, sizeof(struct slice), err);
    if (!call->ask.texts) {
        return CARAT_E_MEMORY;
    }
    call->ask.texts[0] = prompt;
    call->ask.n_texts = 1;
    call->ask.chat.trusts_markers = true; // the client writes the turns itself
    return 0;
}

static int ask_prompt(struct call *call, const struct json_value *root, struct slice prompt,
                      struct carat_error *err)
{
    struct content c = {.call = call};
    struct slice system = {0};
    int rc = ask_string(root, "system", &system, err);
    if (!rc && system.size) {
        rc = content_begin(&c, slice_of("system"), err);
        rc = rc ? rc : content_text(&c, system, err);
    }
    rc = rc ? rc : content_begin(&c, slice_of("user"), err);
    rc = rc ? rc : read_images(&c, json_get(root, "images"), err);
    rc = rc ? rc : content_text(&c, prompt, err);
    return rc ? rc : content_finish(&c, err);
}

static int parse_generate(struct call *call, struct carat_error *err)
{
    const struct json_value *root;
    struct slice prompt = {0};
    bool is_raw = false;
    call->ask.kind = ASK_CHAT;
    int rc = begin_parse(call, &root, err);
    if (rc) {
        return rc;
    }
    ((struct ollama *)call->state)->is_generate = true;
    rc = read_common(call, root, err);
    rc = rc ? rc : ask_string(root, "prompt", &prompt, err);
    rc = rc ? rc : ask_bool(root, "raw", &is_raw, err);
    rc = rc ? rc : refuse_given(root, "suffix", "the model does not fill in before a suffix", err);
    rc = rc ? rc
            : refuse_given(root, "template",
                           "prompts are written in the model's own format; send raw: true and a "
                           "whole prompt to choose another",
                           err);
    if (rc) {
        return rc;
    }
    if (json_count(json_get(root, "context"))) {
        ask_note(call, "ignored context: use /api/chat for conversations");
    }
    if (!prompt.size && !json_count(json_get(root, "images"))) {
        return answer_nothing(call, root, err);
    }
    return is_raw ? ask_raw(call, root, prompt, err) : ask_prompt(call, root, prompt, err);
}

// ---------------------------------------------------------------------------------- embeddings

static int read_input(struct call *call, const struct json_value *v, const char *key,
                      struct carat_error *err)
{
    struct ask *ask = &call->ask;
    const char **texts = NULL;
    int rc = ask_strings(call, v, key, INPUTS_MAX, &texts, &ask->n_texts, err);
    if (!rc && !ask->n_texts) {
        rc = field_refuse(key, "a text or a list of texts", v, err);
    }
    ask->texts = rc ? NULL : call_take(call, ask->n_texts * sizeof(*ask->texts), err);
    if (!ask->texts) {
        return rc ? rc : CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < ask->n_texts; i++) {
        ask->texts[i] = slice_of(texts[i]);
    }
    return 0;
}

static int parse_embedding(struct call *call, const char *key, struct carat_error *err)
{
    const struct json_value *root;
    struct slice model = {0};
    call->ask.kind = ASK_EMBEDDING;
    int rc = begin_parse(call, &root, err);
    rc = rc ? rc : ask_string(root, "model", &model, err);
    rc = rc ? rc : field_model(call, model, err);
    rc = rc ? rc : read_input(call, json_get(root, key), key, err);
    if (rc) {
        return rc;
    }
    struct ollama *state = call->state;
    size_t size = carat_engine_info(call->server->engine)->hidden_size;
    return ask_size(root, "dimensions", 1, size, &state->dimensions, err);
}

static int parse_embed(struct call *call, struct carat_error *err)
{
    return parse_embedding(call, "input", err);
}

static int parse_embeddings(struct call *call, struct carat_error *err)
{
    return parse_embedding(call, "prompt", err);
}

const struct dialect dialect_ollama_chat = {
    .name = "ollama_chat",
    .stream_content_type = "application/x-ndjson",
    .parse = parse_chat,
    .answer = ollama_answer,
    .begin = ollama_begin,
    .event = ollama_event,
    .end_choice = ollama_end_choice,
    .end = ollama_end,
    .error = ollama_error,
};

const struct dialect dialect_ollama_generate = {
    .name = "ollama_generate",
    .stream_content_type = "application/x-ndjson",
    .parse = parse_generate,
    .answer = ollama_answer,
    .begin = ollama_begin,
    .event = ollama_event,
    .end_choice = ollama_end_choice,
    .end = ollama_end,
    .error = ollama_error,
};

const struct dialect dialect_ollama_embed = {
    .name = "ollama_embed",
    .stream_content_type = "application/x-ndjson",
    .parse = parse_embed,
    .answer = ollama_answer_embed,
    .error = ollama_error,
};

const struct dialect dialect_ollama_embeddings = {
    .name = "ollama_embeddings",
    .stream_content_type = "application/x-ndjson",
    .parse = parse_embeddings,
    .answer = ollama_answer_embeddings,
    .error = ollama_error,
};
