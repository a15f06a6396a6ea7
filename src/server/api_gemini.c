// SPDX-License-Identifier: Apache-2.0
// Gemini, the way in: POST /v1beta/models/NAME:generateContent, :streamGenerateContent,
// :countTokens, :embedContent and :batchEmbedContents. The path says which: the parse puts the
// dialect's form for it into the call. docs/api-gemini.md lists what is honoured, ignored and
// refused.
#include "server/api_gemini.h"

#include <string.h>

#include "base/error.h"
#include "server/content.h"
#include "server/fields.h"
#include "server/note.h"

#define TOP_LOGPROBS_MAX 20
#define ALLOWED_MAX      256

// ----------------------------------------------------------------------------------
// generationConfig

static int read_float(const struct json_value *object, const char *camel, double min, double max,
                      float *out, struct carat_error *err)
{
    char snake[64];
    return ask_float(object, gemini_key(object, camel, snake), min, max, out, err);
}

static int read_size(const struct json_value *object, const char *camel, size_t min, size_t max,
                     size_t *out, struct carat_error *err)
{
    char snake[64];
    return ask_size(object, gemini_key(object, camel, snake), min, max, out, err);
}

static int read_bool(const struct json_value *object, const char *camel, bool *out,
                     struct carat_error *err)
{
    char snake[64];
    return ask_bool(object, gemini_key(object, camel, snake), out, err);
}

static int read_string(const struct json_value *object, const char *camel, struct slice *out,
                       struct carat_error *err)
{
    char snake[64];
    return ask_string(object, gemini_key(object, camel, snake), out, err);
}

static int read_sampling(struct call *call, const struct json_value *config,
                         struct carat_error *err)
{
    struct ask *ask = &call->ask;
    struct carat_sampling *s = &ask->sampling;
    char snake[64];
    int rc = read_float(config, "temperature", 0, 2, &s->temperature, err);
    rc = rc ? rc : read_float(config, "topP", 0, 1, &s->top_p, err);
    rc = rc ? rc : read_size(config, "topK", 0, FIELDS_TOKENS_MAX, &s->top_k, err);
    rc = rc ? rc : read_float(config, "presencePenalty", -2, 2, &s->presence_penalty, err);
    rc = rc ? rc : read_float(config, "frequencyPenalty", -2, 2, &s->frequency_penalty, err);
    rc = rc ? rc : read_size(config, "candidateCount", 1, CALL_CHOICES_MAX, &ask->n_choices, err);
    rc = rc ? rc
            : field_limit(config, gemini_key(config, "maxOutputTokens", snake), &ask->tokens_max,
                          err);
    rc = rc ? rc : field_seed(call, config, "seed", err);
    rc = rc ? rc : field_stops(call, gemini_get(config, "stopSequences"), "stopSequences", err);
    rc = rc ? rc : read_bool(config, "responseLogprobs", &ask->wants_logprobs, err);
    rc = rc ? rc : read_bool(config, "loopGuard", &ask->has_loop_guard, err);
    return rc ? rc : read_size(config, "logprobs", 0, TOP_LOGPROBS_MAX, &s->n_top, err);
}

// thinkingBudget: 0 is off, -1 as long as it takes.
static int read_thinks(struct call *call, const struct json_value *config, struct carat_error *err)
{
    struct ask *ask = &call->ask;
    double budget = 0;
    bool shows = false;
    struct slice level = {0};
    char snake[64];
    int rc = read_bool(config, "includeThoughts", &shows, err);
    rc = rc ? rc : read_string(config, "thinkingLevel", &level, err);
    const char *key = gemini_key(config, "thinkingBudget", snake);
    rc = rc ? rc : ask_number(config, key, -1, (double)FIELDS_TOKENS_MAX, &budget, err);
    if (rc) {
        return field_in(rc, err, "thinkingConfig");
    }
    bool has_level = level.size && !slice_is(level, "MINIMAL") && !slice_is(level, "minimal") &&
                     !slice_is(level, "THINKING_LEVEL_UNSPECIFIED");
    bool has_budget = field_is_given(json_get(config, key));
    ask->chat.thinks = has_budget ? budget != 0 : shows || has_level;
    ask->thought_tokens_max = budget >= 1 ? (size_t)budget : 0;
    ask->hides_thoughts = !shows;
    return 0;
}

// The answer is one of the values of an enumeration, without quotes.
static int read_choices(struct call *call, const struct json_value *schema, struct carat_error *err)
{
    struct carat_grammar_options *g = &call->ask.grammar;
    const char **choices = NULL;
    int rc = ask_strings(call, json_get(schema, "enum"), "responseSchema.enum", 10000, &choices,
                         &g->n_choices, err);
    if (!rc && !g->n_choices) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "responseSchema: expected an enum for text/x.enum, found none");
    }
    g->choices = choices;
    call->ask.has_grammar = true;
    return rc;
}

static int read_schema(struct call *call, const struct json_value *schema, bool is_json_schema,
                       struct carat_error *err)
{
    struct json_doc *doc = NULL;
    if (is_json_schema) {
        return field_schema(call, schema, err);
    }
    int rc = gemini_schema(schema, &doc, err);
    rc = rc ? rc : field_schema(call, json_root(doc), err);
    json_free(doc);
    return rc;
}

static int read_format(struct call *call, const struct json_value *config, struct carat_error *err)
{
    struct slice type = {0};
    const struct json_value *schema = gemini_get(config, "responseSchema");
    const struct json_value *json_schema = gemini_get(config, "responseJsonSchema");
    json_schema = json_schema ? json_schema : json_get(config, "_responseJsonSchema");
    int rc = read_string(config, "responseMimeType", &type, err);
    if (rc) {
        return rc;
    }
    if (slice_is(type, "text/x.enum")) {
        return read_choices(call, field_is_given(schema) ? schema : json_schema, err);
    }
    if (type.size && !slice_is(type, "text/plain") && !slice_is(type, "application/json")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "responseMimeType: expected \"text/plain\", \"application/json\" or "
                    "\"text/x.enum\", found \"%.*s\"",
                    (int)(type.size < FIELDS_SHOWN ? type.size : FIELDS_SHOWN), type.data);
    }
    if (field_is_given(json_schema)) {
        return field_in(read_schema(call, json_schema, true, err), err, "responseJsonSchema");
    }
    if (field_is_given(schema)) {
        return field_in(read_schema(call, schema, false, err), err, "responseSchema");
    }
    if (slice_is(type, "application/json")) {
        call->ask.grammar.json_schema = "{\"type\":[\"object\",\"array\"]}";
        call->ask.has_grammar = true;
    }
    return 0;
}

static int read_resolution(struct call *call, const struct json_value *config,
                           struct carat_error *err)
{
    static const struct {
        const char *name;
        uint32_t tokens;
    } rows[] = {
        {"MEDIA_RESOLUTION_UNSPECIFIED", 0},   {"MEDIA_RESOLUTION_LOW", 70},
        {"MEDIA_RESOLUTION_MEDIUM", 280},      {"MEDIA_RESOLUTION_HIGH", 1120},
        {"MEDIA_RESOLUTION_ULTRA_HIGH", 1120},
    };
    struct slice name = {0};
    int rc = read_string(config, "mediaResolution", &name, err);
    if (rc || !name.size) {
        return rc;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_is(name, rows[i].name)) {
            ((struct gemini *)call->state)->image_tokens = rows[i].tokens;
            return 0;
        }
    }
    return fail(err, CARAT_E_ARGUMENT, "mediaResolution: expected MEDIA_RESOLUTION_..., found %.*s",
                (int)(name.size < FIELDS_SHOWN ? name.size : FIELDS_SHOWN), name.data);
}

// Only text comes out of the model.
static int check_modalities(const struct json_value *config, struct carat_error *err)
{
    const struct json_value *list = gemini_get(config, "responseModalities");
    bool has_text = !json_count(list);
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        has_text = has_text || slice_is(json_string(it.value), "TEXT") ||
                   slice_is(json_string(it.value), "text");
    }
    return has_text ? 0
                    : fail(err, CARAT_E_UNSUPPORTED,
                           "responseModalities: expected TEXT, which is all the model makes");
}

static int read_config(struct call *call, const struct json_value *root, struct carat_error *err)
{
    const struct json_value *config = gemini_get(root, "generationConfig");
    if (field_is_given(config) && json_kind(config) != JSON_OBJECT) {
        return field_refuse("generationConfig", "an object", config, err);
    }
    int rc = read_sampling(call, config, err);
    rc = rc ? rc : read_thinks(call, gemini_get(config, "thinkingConfig"), err);
    rc = rc ? rc : read_format(call, config, err);
    rc = rc ? rc : read_resolution(call, config, err);
    rc = rc ? rc : check_modalities(config, err);
    return field_in(rc, err, "generationConfig");
}

// ---------------------------------------------------------------------------------- tools

struct allowed {
    const char **names; // [n]; none: all
    size_t n;
};

static bool is_allowed(const struct allowed *a, struct slice name)
{
    for (size_t i = 0; i < a->n; i++) {
        if (slice_is(name, a->names[i])) {
            return true;
        }
    }
    return a->n == 0;
}

static int read_declaration(struct tool_list *list, const struct json_value *d,
                            struct carat_error *err)
{
    struct slice name, description = {0};
    struct json_doc *doc = NULL;
    const struct json_value *parameters = gemini_get(d, "parametersJsonSchema");
    int rc = field_string(d, "name", &name, err);
    rc = rc ? rc : ask_string(d, "description", &description, err);
    if (!rc && !field_is_given(parameters) && field_is_given(json_get(d, "parameters"))) {
        rc = field_in(gemini_schema(json_get(d, "parameters"), &doc, err), err, "parameters");
        parameters = rc ? NULL : json_root(doc);
    }
    rc = rc ? rc : tool_list_add(list, name, description, parameters, false, err);
    json_free(doc);
    return rc;
}

// The declarations of all tools that are allowed; what is no declaration of functions is a tool of
// the service this API comes from.
static int read_declarations(struct call *call, const struct json_value *tools,
                             const struct allowed *allowed, struct tool_list *list,
                             struct carat_error *err)
{
    int rc = 0;
    size_t i = 0;
    for (struct json_iter tool = json_iter(tools); !rc && json_next(&tool); i++) {
        const struct json_value *declarations = gemini_get(tool.value, "functionDeclarations");
        for (struct json_iter it = json_iter(tool.value); json_next(&it);) {
            if (it.value != declarations) {
                ask_note(call, "ignored the tool %.*s",
                         (int)(it.key.size < FIELDS_SHOWN ? it.key.size : FIELDS_SHOWN),
                         it.key.data);
            }
        }
        size_t j = 0;
        for (struct json_iter it = json_iter(declarations); !rc && json_next(&it); j++) {
            if (is_allowed(allowed, json_string(json_get(it.value, "name")))) {
                rc = field_in(read_declaration(list, it.value, err), err,
                              "tools[%zu].functionDeclarations[%zu]", i, j);
            }
        }
    }
    return rc;
}

static int read_mode(const struct json_value *config, enum carat_tool_choice *choice,
                     struct carat_error *err)
{
    struct slice mode = {0};
    int rc = read_string(config, "mode", &mode, err);
    if (rc) {
        return rc;
    }
    if (!mode.size || slice_is(mode, "AUTO") || slice_is(mode, "VALIDATED") ||
        slice_is(mode, "MODE_UNSPECIFIED")) {
        *choice = CARAT_TOOLS_AUTO;
    } else if (slice_is(mode, "ANY")) {
        *choice = CARAT_TOOLS_REQUIRED;
    } else if (slice_is(mode, "NONE")) {
        *choice = CARAT_TOOLS_NONE;
    } else {
        return fail(err, CARAT_E_ARGUMENT,
                    "mode: expected AUTO, ANY, NONE or VALIDATED, found %.*s",
                    (int)(mode.size < FIELDS_SHOWN ? mode.size : FIELDS_SHOWN), mode.data);
    }
    return 0;
}

// The model sees all tools; what it may call is what is allowed.
static int restrict_calls(struct call *call, const struct json_value *tools,
                          const struct allowed *allowed, struct carat_error *err)
{
    struct tool_list list = {0};
    int rc = read_declarations(call, tools, allowed, &list, err);
    buf_adds(&list.json, "]");
    rc = rc ? rc : buf_status(&list.json, err);
    if (!rc && !list.n) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "toolConfig.functionCallingConfig.allowedFunctionNames: no function has such a "
                  "name");
    }
    if (!rc) {
        call->ask.grammar.tools =
            call_text(call, slice_make(buf_text(&list.json), list.json.size), err);
        rc = call->ask.grammar.tools ? 0 : CARAT_E_MEMORY;
    }
    tool_list_release(&list);
    return rc;
}

static int read_tools(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct tool_list list = {0};
    struct allowed all = {0}, allowed = {0};
    enum carat_tool_choice choice = CARAT_TOOLS_AUTO;
    const struct json_value *tools = json_get(root, "tools");
    const struct json_value *config =
        gemini_get(gemini_get(root, "toolConfig"), "functionCallingConfig");
    if (field_is_given(tools) && json_kind(tools) != JSON_ARRAY) {
        return field_refuse("tools", "a list", tools, err);
    }
    int rc = read_mode(config, &choice, err);
    rc = rc ? rc
            : ask_strings(call, gemini_get(config, "allowedFunctionNames"), "allowedFunctionNames",
                          ALLOWED_MAX, &allowed.names, &allowed.n, err);
    rc = field_in(rc, err, "toolConfig.functionCallingConfig");
    rc = rc ? rc : read_declarations(call, tools, &all, &list, err);
    rc = rc ? rc : tool_list_finish(&list, call, choice, (struct slice){0}, false, err);
    if (!rc && allowed.n && list.n) {
        rc = restrict_calls(call, tools, &allowed, err);
    }
    tool_list_release(&list);
    return rc;
}

// ---------------------------------------------------------------------------------- requests

static int read_generation(struct call *call, const struct json_value *root,
                           struct carat_error *err)
{
    call->ask.n_choices = 1;
    if (field_is_given(gemini_get(root, "cachedContent"))) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "cachedContent: what requests have in common is cached by itself; send the "
                    "whole contents");
    }
    int rc = read_config(call, root, err);
    rc = rc ? rc : gemini_read_contents(call, root, err);
    return rc ? rc : read_tools(call, root, err);
}

static int read_count(struct call *call, const struct json_value *root, struct carat_error *err)
{
    const struct json_value *whole = gemini_get(root, "generateContentRequest");
    return read_generation(call, json_kind(whole) == JSON_OBJECT ? whole : root, err);
}

static int read_dimensions(struct call *call, const struct json_value *request,
                           struct carat_error *err)
{
    struct gemini *state = call->state;
    size_t size = carat_engine_info(call->server->engine)->hidden_size;
    size_t n = state->dimensions;
    int rc = read_size(request, "outputDimensionality", 1, size, &n, err);
    state->dimensions = n;
    return rc;
}

static int read_embedding(struct call *call, const struct json_value *root, struct carat_error *err)
{
    call->ask.texts = call_take(call, sizeof(struct slice), err);
    if (!call->ask.texts) {
        return CARAT_E_MEMORY;
    }
    call->ask.n_texts = 1;
    int rc = gemini_read_text(call, json_get(root, "content"), &call->ask.texts[0], err);
    rc = rc ? rc : read_dimensions(call, root, err);
    return field_in(rc, err, "content");
}

static int read_embeddings(struct call *call, const struct json_value *root,
                           struct carat_error *err)
{
    const struct json_value *requests = json_get(root, "requests");
    size_t n = json_count(requests);
    if (json_kind(requests) != JSON_ARRAY || n < 1 || n > CALL_PROMPTS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "requests: expected a list of 1 to %d requests",
                    CALL_PROMPTS_MAX);
    }
    call->ask.texts = call_take(call, n * sizeof(struct slice), err);
    if (!call->ask.texts) {
        return CARAT_E_MEMORY;
    }
    for (struct json_iter it = json_iter(requests); json_next(&it);) {
        struct slice *text = &call->ask.texts[call->ask.n_texts];
        int rc = gemini_read_text(call, json_get(it.value, "content"), text, err);
        rc = rc ? rc : read_dimensions(call, it.value, err);
        if (rc) {
            return field_in(rc, err, "requests[%zu]", call->ask.n_texts);
        }
        call->ask.n_texts++;
    }
    return 0;
}

// The forms of the dialect: a stream is server-sent events or one array, and a few methods have an
// answer of their own.
static const struct dialect form_events, form_array, form_count, form_embedding, form_embeddings;

static const struct method {
    const char *name;
    const struct dialect *form;
    enum ask_kind kind;
    int (*read)(struct call *call, const struct json_value *root, struct carat_error *err);
} methods[] = {
    {"generateContent", &form_events, ASK_CHAT, read_generation},
    {"streamGenerateContent", &form_events, ASK_CHAT, read_generation},
    {"countTokens", &form_count, ASK_COUNT, read_count},
    {"embedContent", &form_embedding, ASK_EMBEDDING, read_embedding},
    {"batchEmbedContents", &form_embeddings, ASK_EMBEDDING, read_embeddings},
};

static const struct method *find_method(struct slice name)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (slice_is(name, methods[i].name)) {
            return &methods[i];
        }
    }
    return NULL;
}

// ".../models/NAME:METHOD"
static int parse(struct call *call, struct carat_error *err)
{
    const struct http_request *request = http_reply_request(call->reply);
    const char *colon = strrchr(request->path, ':');
    const char *name = strstr(request->path, "/models/");
    const struct method *method = colon ? find_method(slice_of(colon + 1)) : NULL;
    if (!method || !name || name + strlen("/models/") > colon) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "expected models/NAME:generateContent, :streamGenerateContent, :countTokens, "
                    ":embedContent or :batchEmbedContents, found %.100s",
                    request->path);
    }
    name += strlen("/models/");
    struct gemini *state = call_take(call, sizeof(*state), err);
    if (!state) {
        return CARAT_E_MEMORY;
    }
    call->state = state;
    call->ask.kind = method->kind;
    call->dialect = method->form;
    call->ask.streams = slice_is(slice_of(method->name), "streamGenerateContent");
    const char *alt = http_query(request, "alt");
    if (call->ask.streams && !(alt && strcmp(alt, "sse") == 0)) {
        state->is_array = true;
        call->dialect = &form_array;
    }
    const struct json_value *root;
    int rc = field_model(call, slice_make(name, (size_t)(colon - name)), err);
    rc = rc ? rc : call_parse_body(call, &root, err);
    return rc ? rc : method->read(call, root, err);
}

const struct dialect dialect_gemini = {
    .name = "gemini",
    .stream_content_type = "text/event-stream",
    .parse = parse,
    .answer = gemini_answer,
    .error = gemini_error,
};

static const struct dialect form_events = {
    .name = "gemini",
    .stream_content_type = "text/event-stream",
    .parse = parse,
    .answer = gemini_answer,
    .begin = gemini_begin,
    .event = gemini_event,
    .end_choice = gemini_end_choice,
    .end = gemini_end,
    .error = gemini_error,
    .stream_error = gemini_stream_error,
};

static const struct dialect form_array = {
    .name = "gemini",
    .stream_content_type = "application/json",
    .parse = parse,
    .answer = gemini_answer,
    .begin = gemini_begin,
    .event = gemini_event,
    .end_choice = gemini_end_choice,
    .end = gemini_end,
    .error = gemini_error,
    .stream_error = gemini_stream_error,
};

static const struct dialect form_count = {
    .name = "gemini_count",
    .parse = parse,
    .answer = gemini_answer_count,
    .error = gemini_error,
};

static const struct dialect form_embedding = {
    .name = "gemini_embedding",
    .parse = parse,
    .answer = gemini_answer_embedding,
    .error = gemini_error,
};

static const struct dialect form_embeddings = {
    .name = "gemini_embedding",
    .parse = parse,
    .answer = gemini_answer_embeddings,
    .error = gemini_error,
};
